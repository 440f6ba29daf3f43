//! The seal that the server opens by itself, with the seal key in a file.

use super::{
    FileSeal, Seal, SealConfig, SealError, SealKind, SealRecord, Share, ShareRejected, file, new_set, unwrap,
    wrap,
};
use crate::{
    crypto::{Entropy, Key},
    model::{SecretBytes, StoreId},
};

/// The line of `KINDS`.
pub(super) const KIND: SealKind = SealKind {
    name: "file",
    description: "a key file; the server unseals by itself",
    number: 2,
    by_shares: false,
    build: |settings| Box::new(ByFile(settings.key_file.clone().map(FileSeal::new))),
};

/// Where the file is, if the configuration names one.
struct ByFile(Option<FileSeal>);

impl Seal for ByFile {
    fn kind(&self) -> SealKind {
        KIND
    }

    fn wrap(
        &self,
        _: SealConfig,
        root: &Key,
        store: StoreId,
        entropy: &dyn Entropy,
    ) -> Result<(SealRecord, Vec<Share>), SealError> {
        let file = self.0.as_ref().ok_or(SealError::NoKeyFile)?;
        let (key, set) = (file.read_or_create(entropy)?, new_set(entropy)?);
        let wrapped = wrap(&key, root, store, entropy)?;
        Ok((SealRecord { kind: KIND, shares: 0, threshold: 0, set, store, wrapped }, Vec::new()))
    }

    fn open(&self, record: &SealRecord) -> Result<Option<Key>, SealError> {
        let Some(file) = &self.0 else { return Ok(None) };
        unwrap(&file.read()?, record).map(Some).map_err(|_| SealError::WrongKey)
    }

    /// Whoever can read the file, that is, and not whoever has a session on a server that can.
    fn open_with(&self, record: &SealRecord, given: &[SecretBytes]) -> Result<Key, ShareRejected> {
        let [content] = given else { return Err(ShareRejected::NotTheKeyFile) };
        let key = file::parse(content.expose()).ok_or(ShareRejected::NotTheKeyFile)?;
        unwrap(&key, record).map_err(|_| ShareRejected::NotTheKeyFile)
    }
}
