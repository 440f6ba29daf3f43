//! A server with an opened store and people in it: where most whole-system tests begin.

use std::{io, path::Path};

use strongroom_client::{Builder, Client, Initialized, SealKind, SecretBytes};
use strongroom_proto::v1::{self, auth_client::AuthClient};
use tempfile::TempDir;
use tonic::{Status, transport::Channel};

use crate::server::{Options, Server};

/// Of every user; a throw-away server on the loopback address.
pub const PASSWORD: &str = "correct horse battery staple";
/// An unsealed server.
pub struct World {
    pub server: Server,
    /// What init gave out.
    pub keys: Initialized,
    /// Removed at the end.
    pub home: TempDir,
}

impl World {
    /// Starts, initialises and unseals.
    ///
    /// # Errors
    /// Any step failed.
    pub async fn open(seal: SealKind) -> io::Result<World> {
        Self::open_with(seal, &Options::default()).await
    }

    /// The same, with other options.
    ///
    /// # Errors
    /// Any step failed.
    pub async fn open_with(seal: SealKind, options: &Options) -> io::Result<World> {
        let home = tempfile::tempdir()?;
        let server = Server::start(home.path(), options)?;
        let keys = anonymous(&server).await?.sys().init(seal).await.map_err(io::Error::other)?;
        unseal(&server, &keys.shares).await?;
        Ok(World { server, keys, home })
    }

    /// With the root token.
    ///
    /// # Errors
    /// It cannot connect.
    pub async fn root(&self) -> io::Result<Client> {
        let token = SecretBytes::from(self.keys.root_token.expose());
        builder(&self.server).token(token).connect().await.map_err(io::Error::other)
    }

    /// Makes a user of these groups, logged in.
    ///
    /// # Errors
    /// Any step failed.
    pub async fn user(&self, name: &str, groups: &[&str]) -> io::Result<Client> {
        let groups: Vec<String> = groups.iter().map(|group| (*group).to_owned()).collect();
        let password = SecretBytes::from(PASSWORD.as_bytes());
        let root = self.root().await?;
        root.auth().put_user(name, Some(&password), groups).await.map_err(io::Error::other)?;
        builder(&self.server).userpass(name, password).connect().await.map_err(io::Error::other)
    }

    /// Applies roles and bindings as root.
    ///
    /// # Errors
    /// They are refused.
    pub async fn apply(&self, yaml: &str) -> io::Result<()> {
        self.root().await?.policy().apply(yaml, Vec::new(), false).await.map(drop).map_err(io::Error::other)
    }
}

/// A client that trusts the server's CA.
pub fn builder(server: &Server) -> Builder {
    Client::builder(&server.url).ca_file(server.ca())
}

/// Without a token.
///
/// # Errors
/// It cannot connect.
pub async fn anonymous(server: &Server) -> io::Result<Client> {
    builder(server).connect().await.map_err(io::Error::other)
}

/// Logs in with a service-account token.
///
/// # Errors
/// The server's refusal.
pub async fn log_in_as_pod(
    channel: &Channel,
    cluster: &str,
    token: &str,
) -> Result<v1::TokenResponse, Status> {
    let token = Some(v1::Sensitive { value: token.as_bytes().to_vec() });
    let given = v1::login_request::Kubernetes { cluster: cluster.to_owned(), token };
    let credential = Some(v1::login_request::Credential::Kubernetes(given));
    Ok(AuthClient::new(channel.clone()).login(v1::LoginRequest { credential }).await?.into_inner())
}

/// Gives shares until the server is open.
///
/// # Errors
/// A share is refused.
pub async fn unseal(server: &Server, shares: &[SecretBytes]) -> io::Result<()> {
    let client = anonymous(server).await?;
    for share in shares {
        if !client.sys().unseal(share).await.map_err(io::Error::other)?.sealed {
            break;
        }
    }
    Ok(())
}

/// A folder and all below it, modes kept.
///
/// # Errors
/// A file cannot be copied.
pub fn copy(from: &Path, to: &Path) -> io::Result<()> {
    std::fs::create_dir_all(to)?;
    std::fs::set_permissions(to, std::fs::metadata(from)?.permissions())?;
    for entry in std::fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy(&entry.path(), &target)?
        } else {
            std::fs::copy(entry.path(), target).map(drop)?
        }
    }
    Ok(())
}
