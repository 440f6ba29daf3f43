//! The handle of the task that looks after a mounted volume: what a volume holds of it. It knows neither the task's work nor
//! the volume.

use std::sync::{
    Arc, Mutex, PoisonError,
    atomic::{AtomicBool, Ordering},
};

use strongroom_client::SecretBytes;
use tokio::{
    sync::Notify,
    task::{AbortHandle, JoinHandle},
};
use tokio_util::sync::{CancellationToken, DropGuard};

/// The volume's end of the task: drop it to stop the task.
pub struct Follower {
    inbox: Arc<Inbox>,
    task: AbortHandle,
    _stop: DropGuard,
}

/// The task's end: what it is told.
#[derive(Default)]
pub struct Inbox {
    /// The pod's newest token, until it is taken.
    token: Mutex<Option<SecretBytes>>,
    arrived: Notify,
    /// Whether the session is to be ended with the task.
    log_out: AtomicBool,
}

impl Inbox {
    /// The newest token, once there is one that was not taken yet.
    pub async fn token(&self) -> SecretBytes {
        loop {
            let token = self.token.lock().unwrap_or_else(PoisonError::into_inner).take();
            match token {
                Some(token) => return token,
                None => self.arrived.notified().await,
            }
        }
    }

    /// Whether the session is to be ended with the task.
    pub fn is_to_log_out(&self) -> bool {
        self.log_out.load(Ordering::Relaxed)
    }
}

impl Follower {
    /// Starts a task that listens to its inbox and ends when it is told to stop.
    pub fn start(task: impl FnOnce(Arc<Inbox>, CancellationToken) -> JoinHandle<()>) -> Self {
        let (inbox, stop) = (Arc::new(Inbox::default()), CancellationToken::new());
        let task = task(Arc::clone(&inbox), stop.clone());
        Self { inbox, task: task.abort_handle(), _stop: stop.drop_guard() }
    }

    /// Whether nobody is at work any more: a fault of ours ended the task.
    pub fn has_ended(&self) -> bool {
        self.task.is_finished()
    }

    /// Stops the task because the volume is gone: the task ends the session at the server, on its own time. A session
    /// that is only dropped ends by itself and costs nobody anything, while an end before its time is a write of the
    /// server; so a restart or a replaced session has none.
    pub fn log_out(self) {
        self.inbox.log_out.store(true, Ordering::Relaxed);
    }

    /// The kubelet brought a fresh token. It is used if the session needs it, and forgotten if not.
    pub fn bring(&self, token: SecretBytes) {
        *self.inbox.token.lock().unwrap_or_else(PoisonError::into_inner) = Some(token);
        self.inbox.arrived.notify_one();
    }
}
