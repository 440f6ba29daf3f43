//! The server itself: status, init, seal and keys.

use std::collections::BTreeMap;

use jiff::Timestamp;
use strongroom_proto::{
    SecretBytes, v1,
    v1::{list_mounts_response::mount::State, sys_client::SysClient},
};

use crate::{answer::optional_timestamp, client::Client, error::Error, transport::Mode};

/// How the root key is kept while the server is down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SealKind {
    /// By shares that people hold.
    Shamir {
        /// How many shares, 1 to 255.
        shares: u32,
        /// How many of them unseal the store, 1 to 10.
        threshold: u32,
    },
    /// In the key file that the server's configuration names.
    File,
}

/// The result of [`Sys::init`], which the server gives only once.
#[non_exhaustive]
pub struct Initialized {
    /// The shares of the unseal key; none with a file seal.
    pub shares: Vec<SecretBytes>,
    /// The root token, to create the first admin with; it is valid for an hour.
    pub root_token: SecretBytes,
    /// The key that verifies the audit log, as hex digits.
    pub audit_public_key: String,
    /// The id of the store.
    pub store_id: String,
}

impl Initialized {
    /// Makes one as a server would answer it, for tests of what uses it: of no store, and without a key for the audit log.
    pub fn new(shares: Vec<SecretBytes>, root_token: SecretBytes) -> Self {
        Self { shares, root_token, audit_public_key: String::new(), store_id: String::new() }
    }
}

/// The state of the server.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ServerStatus {
    /// Whether there is a store.
    pub initialized: bool,
    /// Whether the server is without its keys.
    pub sealed: bool,
    /// The kind of the seal: `shamir` or `file`.
    pub seal: String,
    /// How many shares there are; 0 if the seal has none.
    pub shares: u32,
    /// How many of them unseal the store.
    pub threshold: u32,
    /// How many were given so far.
    pub progress: u32,
    /// The version of the server.
    pub version: String,
    /// The term of the key for new writes; 0 while the server is sealed.
    pub key_term: u32,
    /// The id of the store, as 32 hex digits; it never changes.
    pub store_id: String,
}

/// What [`Sys::scrub`] found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Scrub {
    /// How many records were read.
    pub records: u64,
    /// The number of the last batch of writes that it saw.
    pub batch_seq: u64,
    /// The first 100 problems, in words; none if all is well.
    pub problems: Vec<String>,
}

/// A mount: an engine under a name.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Mount {
    /// The first segment of all its paths.
    pub name: String,
    /// The kind of its engine, such as `kv`.
    pub kind: String,
    /// What people say of it.
    pub description: String,
    /// The settings of the engine that are not at their defaults.
    pub settings: BTreeMap<String, String>,
    /// Whether it serves.
    pub state: MountState,
    /// When it was mounted first; `None` for the one that a new store begins with.
    pub created_at: Option<Timestamp>,
}

/// Whether a mount serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum MountState {
    /// It does.
    Mounted,
    /// It was unmounted; its data is still there.
    Away,
    /// Its data is being destroyed. [`Sys::destroy_mount`] continues what was interrupted.
    Destroying,
    /// Something that only a later version of this library knows.
    Other,
}

/// Calls about the server itself; see [`Client::sys`].
pub struct Sys<'a>(&'a Client);

impl Client {
    /// Calls about the server itself.
    pub fn sys(&self) -> Sys<'_> {
        Sys(self)
    }
}

impl Sys<'_> {
    /// Returns the state of the server. It works in every state and needs no token.
    ///
    /// # Errors
    /// Only errors of the connection.
    pub async fn status(&self) -> Result<ServerStatus, Error> {
        let message = v1::StatusRequest {};
        self.0
            .anonymous()
            .call(Mode::READ, message, |ch, rq| async move { SysClient::new(ch).status(rq).await })
            .await
            .map(status)
    }

    /// Initialises the store, which is possible only once.
    ///
    /// # Errors
    /// [`ErrorKind::AlreadyInitialized`](crate::ErrorKind::AlreadyInitialized) the second time.
    pub async fn init(&self, seal: SealKind) -> Result<Initialized, Error> {
        let message = v1::InitRequest { seal: Some(config(seal)) };
        let answer = self
            .0
            .anonymous()
            .call(Mode::WRITE, message, |ch, rq| async move { SysClient::new(ch).init(rq).await })
            .await?;
        Ok(Initialized {
            shares: answer.shares.into_iter().map(SecretBytes::from).collect(),
            root_token: answer.root_token.ok_or_else(|| Error::incomplete("root token"))?.into(),
            audit_public_key: answer.audit_public_key,
            store_id: answer.store_id,
        })
    }

    /// Gives one share of the unseal key.
    ///
    /// # Errors
    /// [`ErrorKind::ShareRejected`](crate::ErrorKind::ShareRejected) says what is wrong with it.
    pub async fn unseal(&self, share: &SecretBytes) -> Result<ServerStatus, Error> {
        let message = v1::UnsealRequest { share: Some(share.into()) };
        self.0
            .anonymous()
            .call(Mode::WRITE, message, |ch, rq| async move { SysClient::new(ch).unseal(rq).await })
            .await
            .map(status)
    }

    /// Returns a new root token, valid for an hour, for whoever holds what opens the seal: enough shares, or the content
    /// of the server's key file. It needs no token.
    ///
    /// # Errors
    /// [`ErrorKind::ShareRejected`](crate::ErrorKind::ShareRejected) says what is wrong with the proof.
    pub async fn generate_root(&self, proof: &[SecretBytes]) -> Result<SecretBytes, Error> {
        let message = v1::GenerateRootRequest { proof: proof.iter().map(v1::Sensitive::from).collect() };
        let answer = self
            .0
            .anonymous()
            .call(Mode::WRITE, message, |ch, rq| async move { SysClient::new(ch).generate_root(rq).await })
            .await?;
        Ok(answer.root_token.ok_or_else(|| Error::incomplete("root token"))?.into())
    }

    /// Makes the server forget its keys.
    ///
    /// # Errors
    /// The errors that every call can return.
    pub async fn seal(&self) -> Result<(), Error> {
        let message = v1::SealRequest {};
        self.0
            .session()
            .call(Mode::WRITE, message, |ch, rq| async move { SysClient::new(ch).seal(rq).await })
            .await?;
        Ok(())
    }

    /// Begins a new key term for all new writes; returns its number.
    ///
    /// # Errors
    /// The errors that every call can return.
    pub async fn rotate(&self) -> Result<u32, Error> {
        let message = v1::RotateRequest {};
        let answer = self
            .0
            .session()
            .call(Mode::WRITE, message, |ch, rq| async move { SysClient::new(ch).rotate(rq).await })
            .await?;
        Ok(answer.term)
    }

    /// Creates new shares or moves to another seal. Enough current shares, or the content of the server's
    /// key file, prove the right to do so. New shares count only
    /// after [`Sys::confirm_rekey`]; keep them first.
    ///
    /// # Errors
    /// [`ErrorKind::ShareRejected`](crate::ErrorKind::ShareRejected) says what is wrong with a share.
    pub async fn rekey(&self, seal: SealKind, current: &[SecretBytes]) -> Result<Vec<SecretBytes>, Error> {
        let current_shares = current.iter().map(v1::Sensitive::from).collect();
        let message = v1::RekeyRequest { seal: Some(config(seal)), current_shares };
        let answer = self
            .0
            .session()
            .call(Mode::WRITE, message, |ch, rq| async move { SysClient::new(ch).rekey(rq).await })
            .await?;
        Ok(answer.shares.into_iter().map(SecretBytes::from).collect())
    }

    /// Switches to the shares that [`Sys::rekey`] made; enough of them prove that they have arrived.
    ///
    /// # Errors
    /// [`ErrorKind::ShareRejected`](crate::ErrorKind::ShareRejected); nothing is switched then.
    pub async fn confirm_rekey(&self, new: &[SecretBytes]) -> Result<(), Error> {
        let message = v1::ConfirmRekeyRequest { new_shares: new.iter().map(v1::Sensitive::from).collect() };
        self.0
            .session()
            .call(Mode::WRITE, message, |ch, rq| async move { SysClient::new(ch).confirm_rekey(rq).await })
            .await
            .map(drop)
    }

    /// Reads every record and compares the digest of all of them.
    ///
    /// # Errors
    /// The errors that every call can return; problems found are in the answer.
    pub async fn scrub(&self) -> Result<Scrub, Error> {
        let message = v1::ScrubRequest {};
        let v1::ScrubResponse { records, batch_seq, problems } = self
            .0
            .session()
            .call(Mode::READ, message, |ch, rq| async move { SysClient::new(ch).scrub(rq).await })
            .await?;
        Ok(Scrub { records, batch_seq, problems })
    }

    /// Mounts an engine of a kind under a name, or mounts again what was unmounted there.
    ///
    /// # Errors
    /// The errors that every call can return; [`ErrorKind::InvalidArgument`](crate::ErrorKind::InvalidArgument) if the name
    /// is taken.
    pub async fn mount(
        &self,
        name: &str,
        kind: &str,
        description: &str,
        settings: BTreeMap<String, String>,
    ) -> Result<(), Error> {
        let (name, kind, description) = (name.to_owned(), kind.to_owned(), description.to_owned());
        let message = v1::MountRequest { name, kind, description, settings };
        self.0
            .session()
            .call(Mode::WRITE, message, |ch, rq| async move { SysClient::new(ch).mount(rq).await })
            .await
            .map(drop)
    }

    /// Unmounts an engine. Its data is kept until it is mounted again.
    ///
    /// # Errors
    /// The errors that every call can return.
    pub async fn unmount(&self, name: &str) -> Result<(), Error> {
        self.take_away(v1::UnmountRequest { name: name.to_owned(), ..Default::default() }).await
    }

    /// Unmounts an engine and destroys its data, or destroys the data of one that was unmounted before.
    ///
    /// # Errors
    /// The errors that every call can return; some of the data may be left then, and another call destroys it.
    pub async fn destroy_mount(&self, name: &str) -> Result<(), Error> {
        self.take_away(v1::UnmountRequest { name: name.to_owned(), destroy_data: name.to_owned() }).await
    }

    async fn take_away(&self, message: v1::UnmountRequest) -> Result<(), Error> {
        self.0
            .session()
            .call(Mode::WRITE, message, |ch, rq| async move { SysClient::new(ch).unmount(rq).await })
            .await
            .map(drop)
    }

    /// Changes the description and the settings of a mount, as far as they are given.
    ///
    /// # Errors
    /// The errors that every call can return.
    pub async fn tune(
        &self,
        name: &str,
        description: Option<String>,
        settings: Option<BTreeMap<String, String>>,
    ) -> Result<(), Error> {
        let settings = settings.map(|values| v1::tune_request::Settings { values });
        let message = v1::TuneRequest { name: name.to_owned(), description, settings };
        self.0
            .session()
            .call(Mode::WRITE, message, |ch, rq| async move { SysClient::new(ch).tune(rq).await })
            .await
            .map(drop)
    }

    /// Returns all mounts, including unmounted ones whose data is still there.
    ///
    /// # Errors
    /// The errors that every call can return.
    pub async fn mounts(&self) -> Result<Vec<Mount>, Error> {
        let message = v1::ListMountsRequest {};
        let answer = self
            .0
            .session()
            .call(Mode::READ, message, |ch, rq| async move { SysClient::new(ch).list_mounts(rq).await })
            .await?;
        Ok(answer.mounts.into_iter().map(mount).collect())
    }
}

fn config(seal: SealKind) -> v1::SealConfig {
    use v1::seal_config::{File, Kind, Shamir};
    let kind = match seal {
        SealKind::Shamir { shares, threshold } => Kind::Shamir(Shamir { shares, threshold }),
        SealKind::File => Kind::File(File {}),
    };
    v1::SealConfig { kind: Some(kind) }
}

fn status(answer: v1::StatusResponse) -> ServerStatus {
    ServerStatus {
        initialized: answer.initialized,
        sealed: answer.sealed,
        seal: answer.seal,
        shares: answer.shares,
        threshold: answer.threshold,
        progress: answer.progress,
        version: answer.version,
        key_term: answer.key_term,
        store_id: answer.store_id,
    }
}

fn mount(answer: v1::list_mounts_response::Mount) -> Mount {
    let state = match State::try_from(answer.state) {
        Ok(State::Mounted) => MountState::Mounted,
        Ok(State::Away) => MountState::Away,
        Ok(State::Destroying) => MountState::Destroying,
        Err(_) => MountState::Other,
    };
    Mount {
        name: answer.name,
        kind: answer.kind,
        description: answer.description,
        settings: answer.settings.into_iter().collect(),
        state,
        created_at: optional_timestamp(answer.created_at_ms),
    }
}
