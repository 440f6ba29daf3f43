//! All auth methods there are, as the core sees them: it asks, the method whose business it is answers. A method is known
//! by its name in a principal or by the credential that was read for it; nobody else names one.

use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use super::{
    AuthMethod, Build, ConnectError, Credential, Gone, KINDS, Login, LoginContext, LoginError, Parts,
    Surroundings, users::Users,
};
use crate::{
    barrier::Barrier,
    config::Config,
    crypto::{CryptoError, Entropy},
    model::{Invalid, Principal},
};

/// Those that keep nothing are there from the start; with [`Methods::open`] come those that keep something in the store.
pub struct Methods(Vec<Arc<dyn AuthMethod>>);

impl Methods {
    /// What the configuration is enough for. Nothing is asked of anybody yet.
    ///
    /// # Errors
    /// The first part of the configuration that does not fit what is there.
    pub fn connect(surroundings: &Surroundings<'_>) -> Result<Self, ConnectError> {
        let configured = KINDS.iter().filter_map(|kind| match kind.build {
            Build::FromConfig(build) => Some(build(surroundings)),
            Build::OnStore(_) => None,
        });
        configured.collect::<Result<_, _>>().map(Self)
    }

    /// Every mistake in the files that the configuration names.
    pub fn inspect(config: &Config) -> Vec<ConnectError> {
        KINDS.iter().flat_map(|kind| (kind.inspect)(config)).collect()
    }

    /// All of them, now that there are keys. Each has the part of the store that bears its name.
    ///
    /// # Errors
    /// No randomness.
    pub fn open(&self, barrier: &Arc<Barrier>, entropy: &Arc<dyn Entropy>) -> Result<Self, CryptoError> {
        let mut methods = self.0.clone();
        for kind in KINDS {
            if let Build::OnStore(build) = kind.build {
                let view = barrier.view(&format!("sys/auth/{}", kind.name));
                methods.push(build(Parts { view, entropy: Arc::clone(entropy) })?);
            }
        }
        Ok(Self(methods))
    }

    /// What they have to do beside being asked, until `stop`.
    pub fn start(&self, stop: &CancellationToken) {
        self.0.iter().for_each(|method| method.start(stop));
    }

    /// Judges a credential.
    ///
    /// # Errors
    /// The method says no, or there is none that could say yes.
    pub async fn login(&self, credential: Credential, context: &LoginContext) -> Result<Login, LoginError> {
        let method = self.find(credential.method());
        let method = method
            .ok_or_else(|| Invalid::new("credential", "is for a method that this server does not have"))?;
        method.login(credential, context).await
    }

    /// Where a login belongs in the audit log, if the name of the RPC does not say it all.
    pub fn place(&self, credential: &Credential) -> Option<String> {
        self.find(credential.method())?.place(credential)
    }

    /// Who somebody says they are, where their method has names.
    pub fn claimed<'a>(&self, credential: &'a Credential) -> Option<&'a str> {
        self.find(credential.method())?.claimed(credential)
    }

    /// Whether what a session depends on is still there.
    ///
    /// # Errors
    /// It is gone.
    pub fn check(&self, principal: &Principal) -> Result<(), Gone> {
        self.find(principal.method()).map_or(Ok(()), |method| method.check(principal))
    }

    /// Whether a session may live longer than it was promised.
    pub fn may_renew(&self, principal: &Principal) -> bool {
        self.find(principal.method()).is_none_or(|method| method.may_renew(principal))
    }

    /// People who are kept here.
    pub fn users(&self) -> Option<&dyn Users> {
        self.0.iter().find_map(|method| method.users())
    }

    fn find(&self, name: &str) -> Option<&dyn AuthMethod> {
        self.0.iter().find(|method| method.name() == name).map(|method| &**method)
    }
}
