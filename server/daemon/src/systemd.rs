//! What systemd is told about the process; nothing where there is no systemd.

use sd_notify::NotifyState;

/// Requests are served from now on.
pub fn ready() {
    notify(NotifyState::Ready);
}

/// No new ones are; those at work still end.
pub fn stopping() {
    notify(NotifyState::Stopping);
}

fn notify(state: NotifyState<'_>) {
    if let Err(error) = sd_notify::notify(&[state]) {
        tracing::warn!(%error, "systemd cannot be told what this process is doing");
    }
}
