//! The hash chain and its checkpoints, without any IO.
//!
//! ```text
//! line = {"seq":N,"time":"...","prev":"<hex>",<body>,"hash":"<hex>"}\n
//! hash = SHA-256(prev, 32 bytes || the line's bytes before ,"hash":")
//! ```
//! The first record has seq 1 and a prev of zeros. A checkpoint's body names the size and the head before it and the
//! state of the store; its signature covers the line's bytes before `,"signature":"`, behind a domain string.

use super::record::{push_decimal, push_hex};
use crate::{
    crypto::{Digest, Sha256, SigningKey},
    model::LogPoint,
};

/// Separates these signatures from any other use of the key.
pub(super) const CHECKPOINT_DOMAIN: &[u8] = b"strongroom audit checkpoint v1\n";
/// Most records between two checkpoints.
pub(super) const CHECKPOINT_RECORDS: u64 = 1024;

/// The state of the data that a checkpoint attests, so that a data directory older than the log is found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StoreState {
    /// Number of the last durable batch.
    pub batch_seq: u64,
    /// The keyed digest over all live records after it.
    pub set_digest: [u8; 32],
}

/// Where the chain stands.
pub(super) struct Chain {
    next_seq: u64,
    head: Digest,
    since_checkpoint: u64,
}

impl Chain {
    /// Goes on behind `head`; the next record is `next_seq`.
    pub(super) fn new(next_seq: u64, head: Digest) -> Self {
        Self { next_seq, head, since_checkpoint: 0 }
    }

    /// Number of the record that comes next.
    pub(super) fn next_seq(&self) -> u64 {
        self.next_seq
    }

    /// The last record.
    pub(super) fn point(&self) -> LogPoint {
        LogPoint { seq: self.next_seq - 1, head: self.head }
    }

    /// Records since the last checkpoint.
    pub(super) fn since_checkpoint(&self) -> u64 {
        self.since_checkpoint
    }

    /// Appends the line of `body` to `out`.
    pub(super) fn append(&mut self, time: &str, body: &[u8], out: &mut Vec<u8>) {
        let start = self.begin(time, out);
        out.extend_from_slice(body);
        self.end(start, out);
        self.since_checkpoint += 1;
    }

    /// Appends a signed checkpoint to `out`.
    pub(super) fn checkpoint(&mut self, time: &str, key: &SigningKey, state: StoreState, out: &mut Vec<u8>) {
        let start = self.begin(time, out);
        let size = self.next_seq - 1;
        out.extend_from_slice(format!("\"kind\":\"checkpoint\",\"size\":{size},\"head\":\"").as_bytes());
        push_hex(out, &self.head);
        out.extend_from_slice(format!("\",\"batch_seq\":{},\"set_digest\":\"", state.batch_seq).as_bytes());
        push_hex(out, &state.set_digest);
        out.extend_from_slice(b"\",\"public_key\":\"");
        push_hex(out, &key.public_key().0);
        out.push(b'"');
        let signature = key.sign(&[CHECKPOINT_DOMAIN, out.get(start..).unwrap_or_default()].concat());
        out.extend_from_slice(b",\"signature\":\"");
        push_hex(out, &signature);
        out.push(b'"');
        self.end(start, out);
        self.since_checkpoint = 0;
    }

    fn begin(&self, time: &str, out: &mut Vec<u8>) -> usize {
        let start = out.len();
        out.extend_from_slice(b"{\"seq\":");
        push_decimal(out, self.next_seq);
        out.extend_from_slice(b",\"time\":\"");
        out.extend_from_slice(time.as_bytes());
        out.extend_from_slice(b"\",\"prev\":\"");
        push_hex(out, &self.head);
        out.extend_from_slice(b"\",");
        start
    }

    fn end(&mut self, start: usize, out: &mut Vec<u8>) {
        self.head = link(&self.head, out.get(start..).unwrap_or_default());
        out.extend_from_slice(b",\"hash\":\"");
        push_hex(out, &self.head);
        out.extend_from_slice(b"\"}\n");
        self.next_seq += 1;
    }
}

/// The hash of a line behind `prev`, over the line's bytes before `,"hash":"`.
pub(super) fn link(prev: &Digest, canonical: &[u8]) -> Digest {
    let mut hash = Sha256::new();
    hash.update(prev);
    hash.update(canonical);
    hash.finish()
}

/// A line taken apart by its fixed ends; the middle is not looked at.
pub(super) struct LineParts<'a> {
    pub(super) seq: u64,
    pub(super) time: &'a str,
    pub(super) prev: Digest,
    /// What the hash is over.
    pub(super) canonical: &'a str,
    /// From `"kind"` on.
    pub(super) body: &'a str,
    pub(super) hash: Digest,
}

impl<'a> LineParts<'a> {
    /// Takes a line without its line break apart; `None` if it does not look like one of ours.
    pub(super) fn of(line: &'a str) -> Option<Self> {
        let (canonical, hash) = line.strip_suffix("\"}")?.rsplit_once(",\"hash\":\"")?;
        let (seq, rest) = canonical.strip_prefix("{\"seq\":")?.split_once(",\"time\":\"")?;
        let (time, rest) = rest.split_once("\",\"prev\":\"")?;
        let (prev, body) = rest.split_once("\",")?;
        Some(Self { seq: seq.parse().ok()?, time, prev: digest(prev)?, canonical, body, hash: digest(hash)? })
    }

    pub(super) fn is_checkpoint(&self) -> bool {
        self.body.starts_with("\"kind\":\"checkpoint\"")
    }

    /// Whether the hash is that of the line.
    pub(super) fn fits(&self) -> bool {
        link(&self.prev, self.canonical.as_bytes()) == self.hash
    }
}

fn digest(hex: &str) -> Option<Digest> {
    let mut digest = [0; 32];
    if hex.len() != 64 || data_encoding::HEXLOWER.decode_mut(hex.as_bytes(), &mut digest).is_err() {
        return None;
    }
    Some(digest)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        audit::{Decision, Effect, Event, EventKind, Hashed, Recovery, Status},
        crypto::{Key, PublicKey},
        model::{DecisionId, Principal, RequestId, SessionId, Timestamp},
    };

    /// Checked in: every later version must write and verify exactly these.
    const VECTOR: &str = include_str!("../../../tests/vectors/audit.jsonl");
    const RECOVERED: &str = include_str!("../../../tests/vectors/audit-recovered.jsonl");
    const LISTS: &str = include_str!("../../../tests/vectors/audit-lists.jsonl");
    const VECTOR_KEY: &str = include_str!("../../../tests/vectors/audit.pub");

    fn write_vector() -> (Vec<u8>, PublicKey) {
        let key = SigningKey::from_seed(&Key::from_bytes(&[42; 32])).unwrap();
        let mut chain = Chain::new(1, [0; 32]);
        let mut out = Vec::new();
        let time = |n: i64| Timestamp::from_millis(1_795_000_000_000 + n).to_string();
        let alice = Principal::User {
            method: "userpass".into(),
            name: "alice".into(),
            uid: "1".into(),
            groups: vec![],
        };
        let start = Event::new(EventKind::Start, RequestId([0; 16]), "server", Status::Ok);
        chain.append(&time(0), &start.body(), &mut out);
        chain.checkpoint(&time(1), &key, StoreState { batch_seq: 0, set_digest: [0; 32] }, &mut out);
        let fields = [("operation_id", Hashed::of_a_vector("hmac:5883aa7b3d9c7b1968a06a3d80bc665e"))];
        let intent = Event {
            principal: Some(&alice),
            session: Some(SessionId([5; 16])),
            peer: Some("2001:db8::1".parse().unwrap()),
            paths: &["secret/apps/db"],
            decision: Some(Decision {
                id: DecisionId([6; 16]),
                effect: Effect::Allow,
                role: Some("admin"),
                rule: Some(2),
            }),
            fields: &fields,
            ..Event::new(EventKind::Request, RequestId([1; 16]), "Secrets.Put", Status::Pending)
        };
        chain.append(&time(20), &intent.body(), &mut out);
        let outcome = Event {
            versions: &[4],
            duration: Some(std::time::Duration::from_micros(1234)),
            ..Event::new(EventKind::Outcome, RequestId([1; 16]), "Secrets.Put", Status::Ok)
        };
        chain.append(&time(21), &outcome.body(), &mut out);
        let refused = Event {
            reason: "TOKEN_INVALID",
            paths: &["odd \"path\"\n\u{7f}ä"],
            ..Event::new(EventKind::Request, RequestId([2; 16]), "Secrets.Get", Status::Denied)
        };
        chain.append(&time(900), &refused.body(), &mut out);
        chain.checkpoint(&time(1000), &key, StoreState { batch_seq: 7, set_digest: [9; 32] }, &mut out);
        chain.append(&time(1001), &start.body(), &mut out);
        (out, key.public_key())
    }

    /// Two intents, the end of the process, and what the store says of them after the next start.
    fn write_recovered() -> Vec<u8> {
        let key = SigningKey::from_seed(&Key::from_bytes(&[42; 32])).unwrap();
        let (mut chain, mut out) = (Chain::new(1, [0; 32]), Vec::new());
        let time = |n: i64| Timestamp::from_millis(1_795_000_000_000 + n).to_string();
        let event = |kind, n, status| Event {
            paths: &["secret/apps/db"],
            ..Event::new(kind, RequestId([n; 16]), "Secrets.Put", status)
        };
        chain.append(&time(0), &event(EventKind::Request, 1, Status::Pending).body(), &mut out);
        chain.append(&time(1), &event(EventKind::Request, 2, Status::Pending).body(), &mut out);
        chain.append(&time(9), &Event::own(EventKind::Start).body(), &mut out);
        for (n, recovery, status) in
            [(1, Recovery::Applied, Status::Ok), (2, Recovery::NotApplied, Status::Error)]
        {
            let recovered = Event {
                reason: "the server ended before it recorded the outcome",
                ..event(EventKind::Recovered(recovery), n, status)
            };
            chain.append(&time(10), &recovered.body(), &mut out);
        }
        chain.append(&time(11), &Event::own(EventKind::Unsealed).body(), &mut out);
        chain.checkpoint(&time(11), &key, StoreState { batch_seq: 8, set_digest: [9; 32] }, &mut out);
        out
    }

    /// Lists: of paths, versions and objects.
    fn write_lists() -> Vec<u8> {
        let key = SigningKey::from_seed(&Key::from_bytes(&[42; 32])).unwrap();
        let (mut chain, mut out) = (Chain::new(1, [0; 32]), Vec::new());
        let event = |kind, n, name, status| Event::new(kind, RequestId([n; 16]), name, status);
        let created = ["created Role shop".to_owned(), "removed Binding old".to_owned()];
        let applied = ["apply Role shop".to_owned(), "remove Binding old".to_owned()];
        let (request, outcome) = (EventKind::Request, EventKind::Outcome);
        let events = [
            Event { paths: &["secret/a", "secret/b c"], ..event(request, 1, "Secrets.Watch", Status::Ok) },
            Event {
                paths: &["sys/policy"],
                objects: &applied,
                sha256: Some([0xcd; 32]),
                ..event(request, 2, "Policy.Apply", Status::Pending)
            },
            Event {
                paths: &["sys/policy"],
                objects: &created,
                ..event(outcome, 2, "Policy.Apply", Status::Ok)
            },
            Event { paths: &["secret/a"], versions: &[7], ..event(outcome, 3, "Secrets.Get", Status::Ok) },
            Event {
                paths: &["secret/a"],
                versions: &[1, 2, 3],
                ..event(request, 4, "Secrets.Destroy", Status::Pending)
            },
        ];
        for (n, event) in (0..).zip(events) {
            let time = Timestamp::from_millis(1_795_000_000_000 + n).to_string();
            chain.append(&time, &event.body(), &mut out);
        }
        let time = Timestamp::from_millis(1_795_000_000_009).to_string();
        chain.checkpoint(&time, &key, StoreState { batch_seq: 9, set_digest: [9; 32] }, &mut out);
        out
    }

    #[test]
    fn writes_the_vector_of_lists() {
        assert_eq!(String::from_utf8(write_lists()).unwrap(), LISTS);
    }

    #[test]
    fn writes_the_vector_of_recovered_writes() {
        assert_eq!(String::from_utf8(write_recovered()).unwrap(), RECOVERED);
    }

    #[test]
    fn writes_the_vector() {
        let (lines, key) = write_vector();
        assert_eq!(String::from_utf8(lines).unwrap(), VECTOR);
        assert_eq!(data_encoding::HEXLOWER.encode(&key.0), VECTOR_KEY.trim());
    }

    #[test]
    fn signature_covers_the_line() {
        let key = PublicKey(
            data_encoding::HEXLOWER.decode(VECTOR_KEY.trim().as_bytes()).unwrap().try_into().unwrap(),
        );
        let line = VECTOR.lines().nth(5).unwrap();
        let (signed, rest) = line.split_once(",\"signature\":\"").unwrap();
        let signature = data_encoding::HEXLOWER.decode(&rest.as_bytes()[..128]).unwrap();
        key.verify(&[CHECKPOINT_DOMAIN, signed.as_bytes()].concat(), &signature).unwrap();
        assert!(key.verify(signed.as_bytes(), &signature).is_err());
    }
}
