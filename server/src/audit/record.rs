//! What is written down about a request, and how it becomes a line.
//!
//! A line is `head + body + tail`: the body is made here, in the caller's task; head (`seq`, `time`, `prev`) and tail
//! (`hash`) are the chain's. The JSON is written by hand into one buffer because this is on the way of every request.

use std::{io::Write, net::IpAddr, time::Duration};

use super::Hashed;
use crate::{
    crypto::Digest,
    model::{DecisionId, Principal, RequestId, SessionId},
};

/// Longest text of one field, in bytes: a path has 512, a reason is a sentence. Longer ones are cut, and end with `…`.
const TEXT_BYTES: usize = 1024;
/// Most hashed fields of a record; how many are left out is said. A secret may have four times as many keys, but not in a line
/// that [`LINE_BYTES`](super::recover::LINE_BYTES) allows.
const FIELDS: usize = 256;
/// Most bytes of a list; how many of its elements are left out is said. All paths of the largest watch have room in it.
const LIST_BYTES: usize = strongroom_proto::limits::WATCH_PATHS * (strongroom_proto::limits::PATH_BYTES + 4);

/// What a record is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventKind {
    /// A request and the decision about it. With [`Status::Pending`] it is the intent of a write.
    Request,
    /// How a write ended; carries the request id of its intent.
    Outcome,
    /// What became of an intent that the last run left without an outcome.
    Recovered(Recovery),
    /// An intent without an outcome so far, written again at the start of a new segment.
    Carried,
    /// The server started.
    Start,
    /// The server was stopped.
    Stop,
    /// The server has its keys now.
    Unsealed,
    /// The server gave its keys away.
    Sealed,
    /// So many refusals of unknown callers were counted instead of written one by one.
    Suppressed(u64),
}

/// What became of a write whose outcome was not recorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Recovery {
    /// The store has it.
    Applied,
    /// The store does not have it.
    NotApplied,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// Done, or about to be answered.
    Ok,
    Denied,
    Error,
    /// About to be tried; an outcome follows.
    Pending,
}

/// What the policy said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// A rule allows it and none denies it.
    Allow,
    /// A rule denies it, or none allows it.
    Deny,
}

/// A policy decision.
#[derive(Clone, Copy, Debug)]
pub struct Decision<'a> {
    /// The caller is told this one.
    pub id: DecisionId,
    pub effect: Effect,
    /// Role of the rule that decided; `None` when no rule spoke.
    pub role: Option<&'a str>,
    /// That rule: its number in the role, from 0.
    pub rule: Option<u32>,
}

/// What a request leaves in the log. Absent fields are left out of the line. No field is for the value of a secret.
#[derive(Clone, Copy)]
pub struct Event<'a> {
    /// What the record is about.
    pub kind: EventKind,
    pub request_id: RequestId,
    /// Who; `None` when nobody proved anything.
    pub principal: Option<&'a Principal>,
    /// By which session.
    pub session: Option<SessionId>,
    pub peer: Option<IpAddr>,
    /// RPC: `Secrets.Get`.
    pub operation: &'a str,
    /// Where: each path that had to be granted.
    pub paths: &'a [&'a str],
    /// Whom or what it is about, where the paths do not say: the sessions that end, what a user becomes.
    pub target: Option<&'a str>,
    /// What of it is changed, by name: `Created Role shop`, `max_versions`. Never a value.
    pub objects: &'a [String],
    /// SHA-256 of the text that was applied.
    pub sha256: Option<Digest>,
    /// Which were asked for, written, read.
    pub versions: &'a [u64],
    /// What the policy said.
    pub decision: Option<Decision<'a>>,
    pub status: Status,
    /// Machine-readable reason or a sentence; empty for none.
    pub reason: &'a str,
    /// How long it took.
    pub duration: Option<Duration>,
    /// Values to correlate by, as keyed hashes.
    pub fields: &'a [(&'a str, Hashed)],
}

impl<'a> Event<'a> {
    /// With nothing but these.
    pub const fn new(kind: EventKind, request_id: RequestId, operation: &'a str, status: Status) -> Self {
        Self {
            kind,
            request_id,
            principal: None,
            session: None,
            peer: None,
            operation,
            paths: &[],
            target: None,
            objects: &[],
            sha256: None,
            versions: &[],
            decision: None,
            status,
            reason: "",
            duration: None,
            fields: &[],
        }
    }

    /// An event of the log itself, not of a request.
    pub(super) const fn own(kind: EventKind) -> Self {
        Self::new(kind, RequestId([0; 16]), "", Status::Ok)
    }

    /// The line's body: from `"kind"` to before `,"hash"`.
    pub(super) fn body(&self) -> Vec<u8> {
        let mut line = Line(Vec::with_capacity(768));
        line.raw("\"kind\":\"").raw(self.kind.as_str()).raw("\"");
        match self.kind {
            EventKind::Recovered(recovery) => line.plain("recovered", recovery.as_str()),
            EventKind::Suppressed(count) => line.number("count", count),
            _ => {}
        }
        if !self.kind.is_of_the_log() {
            line.hex("request_id", &self.request_id.0);
        }
        if let Some(principal) = self.principal {
            line.principal(principal);
        }
        if let Some(session) = self.session {
            line.hex("session", &session.0);
        }
        if let Some(peer) = self.peer {
            line.key("peer").raw("\"").address(peer).raw("\"");
        }
        if let Some(Principal::ServiceAccount { namespace, pod: Some(pod), .. }) = self.principal {
            line.key("pod").raw("{\"ns\":").text(namespace).raw(",\"name\":").text(&pod.name);
            line.raw(",\"uid\":").text(&pod.uid);
            if let Some(node) = &pod.node {
                line.raw(",\"node\":").text(node);
            }
            line.raw("}");
        }
        if !self.operation.is_empty() {
            line.key("operation").text(self.operation);
        }
        match self.paths {
            [] => {}
            [path] => _ = line.key("path").text(path),
            paths => line.list("paths", paths, |line, path| _ = line.text(path)),
        }
        if let Some(target) = self.target {
            line.key("target").text(target);
        }
        if !self.objects.is_empty() {
            line.list("objects", self.objects, |line, object| _ = line.text(object));
        }
        if let Some(sha256) = &self.sha256 {
            line.key("sha256").raw("\"");
            push_hex(&mut line.0, sha256);
            line.raw("\"");
        }
        match self.versions {
            [] => {}
            [version] => line.number("version", *version),
            versions => line.list("versions", versions, |line, version| push_decimal(&mut line.0, *version)),
        }
        if let Some(decision) = &self.decision {
            line.decision(decision);
        }
        line.plain("status", self.status.as_str());
        if !self.reason.is_empty() {
            line.key("reason").text(self.reason);
        }
        if let Some(duration) = self.duration {
            line.number("duration_us", u64::try_from(duration.as_micros()).unwrap_or(u64::MAX));
        }
        line.fields(self.fields);
        line.0
    }
}

/// JSON in the making. The keys are ours and need no escaping.
struct Line(Vec<u8>);

impl Line {
    fn raw(&mut self, text: &str) -> &mut Self {
        self.0.extend_from_slice(text.as_bytes());
        self
    }

    fn key(&mut self, key: &str) -> &mut Self {
        self.raw(",\"").raw(key).raw("\":")
    }

    fn address(&mut self, address: IpAddr) -> &mut Self {
        match address {
            // Most peers; without the general formatting.
            IpAddr::V4(address) => {
                for (place, octet) in address.octets().into_iter().enumerate() {
                    if place > 0 {
                        self.raw(".");
                    }
                    push_decimal(&mut self.0, octet.into());
                }
            }
            IpAddr::V6(address) => {
                // A Vec takes everything.
                let _ = write!(self.0, "{address}");
            }
        }
        self
    }

    fn number(&mut self, key: &str, value: u64) {
        push_decimal(&mut self.key(key).0, value);
    }

    /// One of our own words.
    fn plain(&mut self, key: &str, word: &str) {
        self.key(key).raw("\"").raw(word).raw("\"");
    }

    fn hex(&mut self, key: &str, bytes: &[u8; 16]) {
        self.key(key).raw("\"");
        push_hex(&mut self.0, bytes);
        self.raw("\"");
    }

    /// Anybody's words.
    fn text(&mut self, text: &str) -> &mut Self {
        self.raw("\"");
        push_escaped(&mut self.0, text);
        self.raw("\"")
    }

    fn principal(&mut self, principal: &Principal) {
        self.key("principal");
        match principal {
            Principal::Root => self.raw("\"root\""),
            Principal::User { method, name, .. } => self.raw("\"").joined(&[method, name]),
            Principal::ServiceAccount { cluster, namespace, name, .. } => {
                self.raw("\"").joined(&["kubernetes", cluster, namespace, name])
            }
        };
    }

    fn joined(&mut self, parts: &[&str]) -> &mut Self {
        for (place, part) in parts.iter().enumerate() {
            if place > 0 {
                self.raw("/");
            }
            push_escaped(&mut self.0, part);
        }
        self.raw("\"")
    }

    fn decision(&mut self, decision: &Decision<'_>) {
        self.key("decision").raw("{\"id\":\"");
        push_hex(&mut self.0, &decision.id.0);
        self.raw("\",\"effect\":\"").raw(decision.effect.as_str()).raw("\"");
        if let Some(role) = decision.role {
            self.raw(",\"role\":").text(role);
        }
        if let Some(rule) = decision.rule {
            self.number("rule", rule.into());
        }
        self.raw("}");
    }

    fn fields(&mut self, fields: &[(&str, Hashed)]) {
        if fields.is_empty() {
            return;
        }
        self.key("fields").raw("{");
        let left_out = fields.len().saturating_sub(FIELDS);
        for (place, (name, value)) in fields.iter().take(FIELDS).enumerate() {
            if place > 0 {
                self.raw(",");
            }
            self.text(name).raw(":\"").raw(value.as_str()).raw("\"");
        }
        self.raw("}");
        self.left_out("fields", left_out);
    }

    /// As many as there is room for.
    fn list<T>(&mut self, key: &str, elements: &[T], mut write: impl FnMut(&mut Self, &T)) {
        self.key(key).raw("[");
        let (start, mut told) = (self.0.len(), 0);
        for element in elements {
            if self.0.len() - start > LIST_BYTES {
                break;
            }
            if told > 0 {
                self.raw(",");
            }
            write(self, element);
            told += 1;
        }
        self.raw("]");
        self.left_out(key, elements.len() - told);
    }

    /// Says how many are not in the line.
    fn left_out(&mut self, key: &str, count: usize) {
        if count > 0 {
            self.number(&format!("{key}_left_out"), u64::try_from(count).unwrap_or(u64::MAX));
        }
    }
}

/// Appends lower-case hex.
pub(super) fn push_hex(out: &mut Vec<u8>, bytes: &[u8]) {
    let start = out.len();
    out.resize(start + 2 * bytes.len(), 0);
    data_encoding::HEXLOWER.encode_mut(bytes, out.get_mut(start..).unwrap_or_default());
}

/// Appends a number.
pub(super) fn push_decimal(out: &mut Vec<u8>, mut number: u64) {
    let mut digits = [0; 20];
    let mut first = digits.len();
    for digit in digits.iter_mut().rev() {
        *digit = b'0' + u8::try_from(number % 10).unwrap_or(0);
        number /= 10;
        first -= 1;
        if number == 0 {
            break;
        }
    }
    out.extend_from_slice(digits.get(first..).unwrap_or_default());
}

/// Appends `text` as the inside of a JSON string (RFC 8259 section 7), cut to [`TEXT_BYTES`]. Beyond what JSON demands,
/// DEL and the C1 controls are escaped, so that a line shown on a terminal cannot steer it.
fn push_escaped(out: &mut Vec<u8>, text: &str) {
    let (text, cut) = match text.len() {
        0..=TEXT_BYTES => (text, false),
        _ => (text.get(..text.floor_char_boundary(TEXT_BYTES)).unwrap_or_default(), true),
    };
    // Without an early end, so that the compiler looks at many bytes at once.
    let plain = |byte: u8| matches!(byte, b' '..=b'~') & (byte != b'"') & (byte != b'\\');
    if text.bytes().fold(true, |all, byte| all & plain(byte)) {
        out.extend_from_slice(text.as_bytes());
    } else {
        text.chars().for_each(|c| push_char(out, c));
    }
    if cut {
        out.extend_from_slice("…".as_bytes());
    }
}

fn push_char(out: &mut Vec<u8>, c: char) {
    match c {
        '"' => out.extend_from_slice(b"\\\""),
        '\\' => out.extend_from_slice(b"\\\\"),
        '\n' => out.extend_from_slice(b"\\n"),
        c if c.is_control() => {
            let _ = write!(out, "\\u{:04x}", u32::from(c));
        }
        c => out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes()),
    }
}

impl EventKind {
    /// Whether the log writes it by itself; there is no request then.
    const fn is_of_the_log(self) -> bool {
        matches!(
            self,
            EventKind::Start
                | EventKind::Stop
                | EventKind::Unsealed
                | EventKind::Sealed
                | EventKind::Suppressed(_)
        )
    }

    /// The word in the log.
    pub const fn as_str(self) -> &'static str {
        match self {
            EventKind::Request => "request",
            EventKind::Outcome => "outcome",
            EventKind::Recovered(_) => "recovered",
            EventKind::Carried => "carried",
            EventKind::Start => "start",
            EventKind::Stop => "stop",
            EventKind::Unsealed => "unsealed",
            EventKind::Sealed => "sealed",
            EventKind::Suppressed(_) => "suppressed",
        }
    }
}

impl Recovery {
    /// The word in the log.
    pub const fn as_str(self) -> &'static str {
        match self {
            Recovery::Applied => "applied",
            Recovery::NotApplied => "not_applied",
        }
    }
}

impl Status {
    /// The word in the log.
    pub const fn as_str(self) -> &'static str {
        match self {
            Status::Ok => "ok",
            Status::Denied => "denied",
            Status::Error => "error",
            Status::Pending => "pending",
        }
    }
}

impl Effect {
    /// The word in the log.
    pub const fn as_str(self) -> &'static str {
        match self {
            Effect::Allow => "allow",
            Effect::Deny => "deny",
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::Value;

    use super::*;
    use crate::{audit::Redactor, crypto::Key, model::Pod};

    fn parse(event: &Event<'_>) -> Value {
        let body = String::from_utf8(event.body()).unwrap();
        assert!(!body.contains('\n'), "one record is one line");
        serde_json::from_str(&format!("{{{body}}}")).unwrap()
    }

    proptest! {
        #[test]
        fn any_text_survives(texts in proptest::collection::vec("\\PC{0,40}|[\\x00-\\xff\\u{80}-\\u{9f}]{0,40}", 5)) {
            let redactor = Redactor::new(&Key::from_bytes(&[7; 32]));
            let principal =
                Principal::User { method: texts[0].as_str().into(), name: texts[1].as_str().into(), uid: "".into(), groups: vec![] };
            let fields = [(texts[4].as_str(), redactor.hash("a", "b", b"value"))];
            let event = Event {
                principal: Some(&principal),
                paths: &[&texts[2]],
                reason: &texts[3],
                fields: &fields,
                ..Event::new(EventKind::Request, RequestId([1; 16]), &texts[1], Status::Ok)
            };
            let value = parse(&event);
            prop_assert_eq!(value["principal"].as_str().unwrap(), principal.to_string());
            prop_assert_eq!(value["operation"].as_str().unwrap_or_default(), &texts[1]);
            prop_assert_eq!(value["path"].as_str().unwrap(), &texts[2]);
            prop_assert_eq!(value["reason"].as_str().unwrap_or_default(), &texts[3]);
            prop_assert_eq!(value["fields"][&texts[4]].as_str(), Some(fields[0].1.as_str()));
        }
    }

    #[test]
    fn everything_has_its_place() {
        let principal = Principal::ServiceAccount {
            cluster: "main".into(),
            namespace: "payments".into(),
            name: "web".into(),
            uid: "u1".into(),
            pod: Some(Pod { name: "web-0".into(), uid: "p1".into(), node: Some("n1".into()) }),
        };
        let event = Event {
            principal: Some(&principal),
            session: Some(SessionId([2; 16])),
            peer: Some("10.0.0.7".parse().unwrap()),
            paths: &["secret/apps/payments/db"],
            target: Some("principal userpass/alice"),
            objects: &["Created Role shop".to_owned()],
            sha256: Some([0xab; 32]),
            versions: &[3],
            decision: Some(Decision {
                id: DecisionId([3; 16]),
                effect: Effect::Allow,
                role: Some("payments-app"),
                rule: Some(0),
            }),
            reason: "READ",
            duration: Some(Duration::from_micros(84)),
            ..Event::new(EventKind::Request, RequestId([1; 16]), "Secrets.Get", Status::Ok)
        };
        assert_eq!(
            String::from_utf8(event.body()).unwrap(),
            concat!(
                r#""kind":"request","request_id":"01010101010101010101010101010101","#,
                r#""principal":"kubernetes/main/payments/web","session":"02020202020202020202020202020202","#,
                r#""peer":"10.0.0.7","pod":{"ns":"payments","name":"web-0","uid":"p1","node":"n1"},"#,
                r#""operation":"Secrets.Get","path":"secret/apps/payments/db","#,
                r#""target":"principal userpass/alice","objects":["Created Role shop"],"#,
                r#""sha256":"abababababababababababababababababababababababababababababababab","version":3,"#,
                r#""decision":{"id":"03030303030303030303030303030303","effect":"allow","role":"payments-app","rule":0},"#,
                r#""status":"ok","reason":"READ","duration_us":84"#
            )
        );
    }

    #[test]
    fn long_text_is_cut_at_a_character() {
        let path = "ä".repeat(TEXT_BYTES);
        let event =
            Event { paths: &[&path], ..Event::new(EventKind::Request, RequestId([1; 16]), "X", Status::Ok) };
        let value = parse(&event);
        let shown = value["path"].as_str().unwrap();
        assert!(shown.len() <= TEXT_BYTES + "…".len() && shown.ends_with("ä…"));
    }

    #[test]
    fn lists_are_whole_or_say_what_is_missing_and_the_longest_line_can_be_read() {
        use strongroom_proto::limits::{KEY_BYTES, PATH_BYTES, WATCH_PATHS};
        let redactor = Redactor::new(&Key::from_bytes(&[7; 32]));
        let names: Vec<String> = (0..FIELDS + 44).map(|n| format!("data.{n:0>KEY_BYTES$}")).collect();
        let fields: Vec<(&str, Hashed)> =
            names.iter().map(|name| (name.as_str(), redactor.hash("a", name, b"v"))).collect();
        let paths: Vec<String> = (0..WATCH_PATHS).map(|n| format!("{n:0>PATH_BYTES$}")).collect();
        let paths: Vec<&str> = paths.iter().map(String::as_str).collect();
        let versions: Vec<u64> = (1..=1000).collect();
        let event = Event {
            paths: &paths,
            versions: &versions,
            fields: &fields,
            ..Event::new(EventKind::Request, RequestId([1; 16]), "X", Status::Ok)
        };
        let value = parse(&event);
        assert_eq!(value["paths"].as_array().unwrap().len(), WATCH_PATHS, "none is left out");
        assert!(value.get("paths_left_out").is_none() && value.get("path").is_none());
        assert_eq!(value["versions"].as_array().unwrap().len(), 1000);
        assert_eq!(value["fields"].as_object().unwrap().len(), FIELDS);
        assert_eq!(value["fields_left_out"], 44);
        assert!(event.body().len() + 512 < crate::audit::recover::LINE_BYTES);

        let objects: Vec<String> = (0..10_000).map(|n| format!("Created Role {n:0>200}")).collect();
        let value = parse(&Event { paths: &[], fields: &[], objects: &objects, ..event });
        let (told, left) = (value["objects"].as_array().unwrap().len(), &value["objects_left_out"]);
        assert!(told > 500 && left == 10_000 - told);
    }
}
