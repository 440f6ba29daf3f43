//! What every command needs: the output, the profile, and a client on demand. It knows no command.

pub(crate) mod options;
pub(crate) mod profile;
pub(crate) mod token;

use std::{path::Path, time::Duration};

use strongroom_client::{Builder, Client, SecretBytes};

use self::{
    options::Global,
    profile::{Profile, Server},
    token::Source,
};
use crate::{failure::Failure, output::Output};

/// Where the server listens by default.
const ADDRESS: &str = "https://localhost:7420";
/// The longest that connecting may take: a server that is there answers in much less, and people are waiting.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

pub(crate) struct Context {
    pub(crate) output: Output,
    pub(crate) profile: Profile,
    global: Global,
}

impl Context {
    pub(crate) fn new(global: Global) -> Result<Self, Failure> {
        let profile = Profile::load(global.profile.clone())?;
        Ok(Self { output: Output::new(global.output, global.no_color), profile, global })
    }

    /// The server to talk to: flags and environment first, then the profile.
    pub(crate) fn server(&self) -> Server {
        let profile = &self.profile.server;
        // A variable that is empty is one that is not set.
        let text = |given: &Option<String>| given.clone().filter(|text| !text.is_empty());
        let ca = self.global.ca.clone().filter(|path| !path.as_os_str().is_empty());
        Server {
            address: text(&self.global.address).or_else(|| profile.address.clone()),
            ca: ca.or_else(|| profile.ca.clone()),
            server_name: text(&self.global.server_name).or_else(|| profile.server_name.clone()),
        }
    }

    /// Where the server is.
    pub(crate) fn address(&self) -> String {
        let address = self.server().address.unwrap_or_else(|| ADDRESS.into());
        // One slash at the end is as people copy it; anything else there is a mistake, which the client tells.
        match address.strip_suffix('/') {
            Some(rest) if !rest.ends_with('/') => rest.to_owned(),
            _ => address,
        }
    }

    /// A client with the session token.
    pub(crate) async fn client(&self) -> Result<Client, Failure> {
        Ok(self.builder().token(self.token()?).connect().await?)
    }

    /// A client for what needs no token.
    pub(crate) async fn anonymous(&self) -> Result<Client, Failure> {
        Ok(self.builder().connect().await?)
    }

    /// A client that has logged in as the pod this runs in.
    pub(crate) async fn pod(&self, cluster: &str, token_file: &Path) -> Result<Client, Failure> {
        Ok(self.builder().kubernetes(cluster).kubernetes_token_file(token_file).connect().await?)
    }

    /// Where the token comes from that commands use.
    pub(crate) fn token_source(&self) -> Source {
        Source::current(&self.profile)
    }

    pub(crate) fn token(&self) -> Result<SecretBytes, Failure> {
        self.token_source().read(&self.profile, &self.address())?.ok_or(Failure::NotLoggedIn)
    }

    fn builder(&self) -> Builder {
        let server = self.server();
        let timeout = Duration::from_secs(self.global.timeout);
        // One command is short: nothing has to be renewed behind its back.
        let mut builder = Client::builder(self.address())
            .timeout(timeout)
            .connect_timeout(timeout.min(CONNECT_TIMEOUT))
            .renew_in_background(false);
        if let Some(ca) = server.ca {
            builder = builder.ca_file(ca);
        }
        if let Some(name) = server.server_name {
            builder = builder.server_name(name);
        }
        builder
    }
}
