//! The seal that the server opens by itself, with the seal key in a file.

use super::{FileSeal, Kind, Seal, SealConfig, SealError, SealRecord, Share, new_set, unwrap, wrap};
use crate::{
    crypto::{Entropy, Key},
    model::StoreId,
};

/// The line of `KINDS`.
pub(super) const KIND: Kind = Kind {
    name: "file",
    description: "a key file; the server unseals by itself",
    number: 2,
    by_shares: false,
    build: |settings| Box::new(ByFile(settings.key_file.clone().map(FileSeal::new))),
};

/// Where the file is, if the configuration names one.
struct ByFile(Option<FileSeal>);

impl Seal for ByFile {
    fn kind(&self) -> Kind {
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
}
