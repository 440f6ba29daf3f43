//! What a client logs in with, and keeps to log in again: a name and a password, or the token that the kubelet projects
//! into a pod and replaces while the pod runs.

use std::{
    io,
    path::{Path, PathBuf},
};

use strongroom_proto::{
    SecretBytes, v1,
    v1::login_request::{Credential, Kubernetes, Userpass},
};
use tokio::io::AsyncReadExt;

use crate::error::Error;

/// Where a pod finds its token when nothing else is said. Not the token for the API server: that one is for another
/// audience, and the server refuses it.
pub const KUBERNETES_TOKEN_FILE: &str = "/var/run/secrets/strongroom/token";
/// Longest token, as the server has it.
const TOKEN_BYTES: usize = 8 << 10;

/// Enough to log in without asking anybody.
pub(crate) enum Credentials {
    /// A user of the userpass method.
    Userpass {
        /// Who.
        name: String,
        /// The proof.
        password: SecretBytes,
    },
    /// A pod.
    Kubernetes {
        /// What the server calls the cluster; empty = main.
        cluster: String,
        /// Read anew for each login: the kubelet replaces the token before it ends.
        token_file: PathBuf,
    },
}

impl Credentials {
    /// The request that logs in.
    pub(crate) async fn request(&self) -> Result<v1::LoginRequest, Error> {
        match self {
            Self::Userpass { name, password } => Ok(userpass(name, password)),
            Self::Kubernetes { cluster, token_file } => {
                let token = read_token(token_file).await.map_err(|error| no_token(token_file, &error))?;
                Ok(kubernetes(cluster, &token))
            }
        }
    }
}

pub(crate) fn userpass(name: &str, password: &SecretBytes) -> v1::LoginRequest {
    let userpass = Userpass { name: name.to_owned(), password: Some(password.into()) };
    v1::LoginRequest { credential: Some(Credential::Userpass(userpass)) }
}

pub(crate) fn kubernetes(cluster: &str, token: &SecretBytes) -> v1::LoginRequest {
    let kubernetes = Kubernetes { cluster: cluster.to_owned(), token: Some(token.into()) };
    v1::LoginRequest { credential: Some(Credential::Kubernetes(kubernetes)) }
}

async fn read_token(file: &Path) -> io::Result<SecretBytes> {
    let refused = |problem: &str| io::Error::new(io::ErrorKind::InvalidData, problem.to_owned());
    // With the capacity at hand no half-read copy is left behind by growing.
    let mut bytes = Vec::with_capacity(TOKEN_BYTES + 1);
    let read = tokio::fs::File::open(file).await?.take(TOKEN_BYTES as u64 + 1).read_to_end(&mut bytes).await;
    let content = SecretBytes::new(bytes);
    read?;
    match content.expose().trim_ascii() {
        [] => Err(refused("it is empty")),
        token if token.len() > TOKEN_BYTES => Err(refused("it is too large for a token")),
        token => Ok(SecretBytes::from(token)),
    }
}

fn no_token(file: &Path, error: &io::Error) -> Error {
    let how = match error.kind() {
        io::ErrorKind::NotFound => {
            "; give the pod a projected volume with a serviceAccountToken of the audience strongroom"
        }
        _ => "",
    };
    Error::config(format!("service-account token {}: {error}{how}", file.display()))
}

#[cfg(test)]
mod tests {
    use std::{fs, time::Duration};

    use super::*;
    use crate::{
        ErrorKind,
        fake::{Fake, refusal},
    };
    use strongroom_proto::Reason;

    fn pod(token_file: &Path) -> Option<Credentials> {
        Some(Credentials::Kubernetes { cluster: "main".into(), token_file: token_file.into() })
    }

    #[tokio::test]
    async fn a_replaced_token_file_is_read_at_the_next_login() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("token");
        fs::write(&file, "first\n").unwrap();
        let fake = Fake::start().await;
        let client = fake.client_with(Duration::from_secs(5), pod(&file));
        fake.expire_tokens();
        client.get("secret/a").await.unwrap();
        fs::write(&file, "second").unwrap();
        fake.expire_tokens();
        client.get("secret/a").await.unwrap();
        assert_eq!(fake.credentials(), ["kubernetes main first", "kubernetes main second"]);
    }

    #[tokio::test]
    async fn a_file_without_a_token_says_what_to_do() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("token");
        let fake = Fake::start().await;
        let client = fake.client_with(Duration::from_secs(5), pod(&file));
        let problem = async || {
            fake.expire_tokens();
            let error = client.get("secret/a").await.unwrap_err();
            assert_eq!(error.kind(), &ErrorKind::Config);
            error.to_string()
        };
        let missing = problem().await;
        assert!(missing.contains(&file.display().to_string()), "{missing}");
        assert!(missing.contains("serviceAccountToken of the audience strongroom"), "{missing}");
        fs::write(&file, "\n").unwrap();
        assert!(problem().await.contains("it is empty"));
        fs::write(&file, vec![b'x'; TOKEN_BYTES + 1]).unwrap();
        assert!(problem().await.contains("too large"));
        assert_eq!(fake.logins(), 0);
    }

    #[tokio::test]
    async fn a_pod_has_a_session_of_its_own_over_the_same_connection() {
        let fake = Fake::start().await;
        let driver = fake.client();
        let token = SecretBytes::from(b"of-the-pod".as_slice());
        let pod = driver.log_in_as_pod("main", token).await.unwrap();
        assert_eq!(fake.credentials(), ["kubernetes main of-the-pod"]);
        assert!(!fake.login_had_token());

        // The token of the pod is not kept: when its session has ended, nobody logs in for it.
        pod.stop_renewal();
        fake.expire_tokens();
        let ended = pod.get("secret/a").await.unwrap_err();
        assert_eq!(ended.kind(), &ErrorKind::Unauthenticated(Reason::TokenExpired));
        assert_eq!(driver.get("secret/a").await.unwrap().version, 1);
    }

    #[tokio::test]
    async fn a_refused_pod_is_told_why() {
        let fake = Fake::start().await;
        let client = fake.client();
        fake.refuse_login(refusal(Reason::LoginRejected));
        let token = SecretBytes::from(b"of-another-cluster".as_slice());
        let error = client.log_in_as_pod("main", token).await.err().unwrap();
        assert_eq!(error.kind(), &ErrorKind::Unauthenticated(Reason::LoginRejected));
    }
}
