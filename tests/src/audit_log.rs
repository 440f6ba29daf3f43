//! What tests, the fault harness and the benchmark need of the audit log: its files, records like those of pods that read
//! secrets, and a key to sign checkpoints with.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use strongroom_server::{
    audit::{Broker, Decision, Effect, Event, EventKind, Status, StoreState},
    crypto::{Key, SigningKey},
    model::{DecisionId, Pod, Principal, RequestId, SessionId},
};

/// The files of a log, oldest first; the last is written to.
///
/// # Errors
/// The folder cannot be read.
pub fn segments(log: &Path) -> io::Result<Vec<PathBuf>> {
    let mut files = fs::read_dir(log)?.map(|entry| Ok(entry?.path())).collect::<io::Result<Vec<_>>>()?;
    files.retain(|file| file.extension().is_some_and(|extension| extension == "jsonl"));
    files.sort_unstable();
    Ok(files)
}

/// The whole lines of one of them. Behind them, zeros may stand, or the beginning of a line that is being written.
///
/// # Errors
/// It cannot be read, or is no text.
pub fn text(segment: &Path) -> io::Result<String> {
    let mut bytes = fs::read(segment)?;
    bytes.truncate(bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1));
    String::from_utf8(bytes).map_err(io::Error::other)
}

/// A pod that reads secrets: who most records are about.
pub fn pod() -> Principal {
    Principal::ServiceAccount {
        cluster: "main".into(),
        namespace: "payments".into(),
        name: "web".into(),
        uid: "0f3a7c52-6a43-4a53-a1b0-1c4f3b6f1d11".into(),
        pod: Some(Pod {
            name: "web-6d5f7c9b8-x2x7q".into(),
            uid: "5b0f8f6e-9f0e-4f7e-8b53-0a4c1f6a2b90".into(),
            node: Some("node-1".into()),
        }),
    }
}

/// Its read of that number.
pub fn read(pod: &Principal, number: u64) -> Event<'_> {
    Event {
        principal: Some(pod),
        session: Some(SessionId([2; 16])),
        peer: Some([10, 0, 0, 7].into()),
        paths: &["secret/apps/payments/db"],
        versions: &[3],
        decision: Some(Decision {
            id: DecisionId(request(number).0),
            effect: Effect::Allow,
            role: Some("payments-app"),
            rule: Some(0),
        }),
        ..Event::new(EventKind::Request, request(number), "Secrets.Get", Status::Ok)
    }
}

fn request(number: u64) -> RequestId {
    let mut bytes = [0; 16];
    bytes.iter_mut().zip(number.to_be_bytes()).for_each(|(to, from)| *to = from);
    RequestId(bytes)
}

/// A key made from `seed`.
///
/// # Errors
/// Never for 32 bytes.
pub fn signing_key(seed: u8) -> io::Result<SigningKey> {
    SigningKey::from_seed(&Key::from_bytes(&[seed; 32])).map_err(io::Error::other)
}

/// From now on checkpoints are signed with that key.
///
/// # Errors
/// As [`signing_key`].
pub async fn unseal(broker: &Broker, seed: u8) -> io::Result<()> {
    let state = || StoreState { batch_seq: 7, set_digest: [9; 32] };
    broker.unsealed(signing_key(seed)?, Box::new(state), "").await;
    Ok(())
}
