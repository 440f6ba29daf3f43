//! A Kubernetes API server for tests that need no cluster: real HTTPS, real signatures, in this process. It knows token
//! reviews, the public keys, and pods and service accounts to get, list and watch (metadata only); nothing else.
//!
//! It is strict where a real one is: its own callers need a credential, a review asks for an audience, a token is bound to
//! uids. And it can be slow, down, forgetful, forbidding and lying.

mod objects;
mod serve;
mod tokens;

use std::{
    fs, io,
    net::SocketAddr,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use objects::Objects;
pub use objects::Pod;
pub use tokens::{Algorithm, SigningKey, TokenText};
use tokio::{net::TcpListener, sync::watch, task::JoinHandle};

use crate::pki::Pki;

/// Who makes the tokens, unless a test wants another one.
pub const ISSUER: &str = "https://kubernetes.default.svc.cluster.local";
/// What the server under test shows to it.
pub const CREDENTIAL: &str = "credential-of-the-strongroom-server-at-the-fake-api";

/// A running API server; gone when dropped.
pub struct FakeKubernetes {
    /// Holds `ca.pem` and `token`.
    home: tempfile::TempDir,
    address: SocketAddr,
    shared: Arc<Shared>,
    serving: JoinHandle<()>,
}

struct Shared {
    state: Mutex<State>,
    /// Told at each change.
    changes: watch::Sender<()>,
}

struct State {
    objects: Objects,
    key: Arc<SigningKey>,
    /// Keys that are still published beside the current one.
    old_keys: Vec<Arc<SigningKey>>,
    mood: Mood,
    counts: Counts,
    /// Says this to every review instead of the truth.
    lie: Option<serde_json::Value>,
}

/// How it behaves.
#[derive(Clone, Debug, Default)]
pub struct Mood {
    /// It takes no connections, and has cut those it had.
    pub down: bool,
    /// How long it thinks before each answer.
    pub slow: Duration,
    /// It answers 403 to lists, watches and gets.
    pub forbid_watch: bool,
    /// It answers 403 to reviews.
    pub forbid_review: bool,
}

/// How often it was asked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    pub reviews: u64,
    /// Fetches of the public keys.
    pub keys: u64,
    /// First pages of lists.
    pub lists: u64,
    pub watches: u64,
    /// Single objects.
    pub gets: u64,
}

impl FakeKubernetes {
    /// With no pod and no account, and an RS256 key.
    ///
    /// # Errors
    /// No port, or no directory.
    pub async fn start() -> io::Result<FakeKubernetes> {
        let home = tempfile::tempdir()?;
        let pki = Pki::create(home.path())?;
        // With the line break that every editor leaves.
        fs::write(home.path().join("token"), format!("{CREDENTIAL}\n"))?;
        let state = State {
            objects: Objects::default(),
            key: Arc::new(SigningKey::rs256()?),
            old_keys: Vec::new(),
            mood: Mood::default(),
            counts: Counts::default(),
            lie: None,
        };
        let shared = Arc::new(Shared { state: Mutex::new(state), changes: watch::Sender::new(()) });
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let acceptor = serve::acceptor(&pki)?;
        let serving = tokio::spawn(serve::serve(listener, acceptor, Arc::clone(&shared)));
        Ok(FakeKubernetes { home, address, shared, serving })
    }

    /// `https://127.0.0.1:PORT`
    pub fn url(&self) -> String {
        format!("https://{}", self.address)
    }

    /// What its callers trust.
    pub fn ca_file(&self) -> PathBuf {
        self.home.path().join("ca.pem")
    }

    /// The credential of the server under test.
    pub fn token_file(&self) -> PathBuf {
        self.home.path().join("token")
    }

    /// The section of a server's configuration that makes this the cluster of that name, in review mode.
    pub fn config_toml(&self, name: &str) -> String {
        format!(
            "\n[auth.kubernetes.{name}]\napi_server = {:?}\nca_file = {:?}\ntoken_file = {:?}\n",
            self.url(),
            self.ca_file(),
            self.token_file()
        )
    }

    /// The same, in local mode.
    pub fn config_toml_local(&self, name: &str) -> String {
        format!("{}mode = \"local\"\nissuer = {ISSUER:?}\n", self.config_toml(name))
    }

    /// A pod with a service account, which is made if there is none of that name. On `node-1`.
    pub fn create_pod(&self, namespace: &str, account: &str, name: &str) -> Pod {
        let pod = self.state().objects.create_pod(namespace, account, name);
        self.changed();
        pod
    }

    /// Deletes it, as when its termination is over.
    pub fn delete_pod(&self, pod: &Pod) {
        self.state().objects.delete_pod(pod);
        self.changed();
    }

    /// Deletes the account of a pod; the pod goes on. The next pod of an account of that name makes a new one.
    pub fn delete_account(&self, pod: &Pod) {
        self.state().objects.delete_account(pod);
        self.changed();
    }

    /// A token as the kubelet gets it for a pod: good from now for `lifetime`, for one audience.
    pub fn token(&self, pod: &Pod, audience: &str, lifetime: Duration) -> String {
        self.token_text(pod, audience, lifetime).sign(&self.state().key)
    }

    /// The same before it is signed, to be forged.
    pub fn token_text(&self, pod: &Pod, audience: &str, lifetime: Duration) -> TokenText {
        TokenText::new(pod, audience, lifetime, self.state().key.kid())
    }

    /// The key it signs with at the moment.
    pub fn signing_key(&self) -> Arc<SigningKey> {
        Arc::clone(&self.state().key)
    }

    /// Signs with another key from now on; the ones before stay published unless `withdraw`.
    pub fn rotate_key(&self, key: SigningKey, withdraw: bool) {
        let mut state = self.state();
        let old = std::mem::replace(&mut state.key, Arc::new(key));
        match withdraw {
            true => state.old_keys.clear(),
            false => state.old_keys.push(old),
        }
    }

    /// Changes how it behaves.
    pub fn set_mood(&self, mood: Mood) {
        self.state().mood = mood;
        self.changed();
    }

    /// Forgets what happened so far: a watch from before is told 410 Gone, and those that are open end.
    pub fn compact(&self) {
        self.state().objects.compact();
        self.changed();
    }

    /// Says this status to every review from now on; `None`: the truth.
    pub fn lie(&self, status: Option<serde_json::Value>) {
        self.state().lie = status;
    }

    /// How often it was asked so far.
    pub fn counts(&self) -> Counts {
        self.state().counts
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.shared.state()
    }

    fn changed(&self) {
        self.shared.changes.send_replace(());
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn keys(&self) -> impl Iterator<Item = &Arc<SigningKey>> {
        std::iter::once(&self.key).chain(&self.old_keys)
    }
}

impl Drop for FakeKubernetes {
    fn drop(&mut self) {
        self.serving.abort();
    }
}
