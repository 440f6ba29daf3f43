//! What is stored of a mount. The first stores wrote the bare name of its kind; that is read for ever, and written for
//! `secret/` as long as nobody changes it, so that a store which has no other mounts opens with earlier versions as well.

use prost::Message;

use crate::{
    barrier::{Address, RecordKind},
    engines::Settings,
    model::{SecretBytes, Timestamp},
};

pub(super) const MOUNT: RecordKind = RecordKind::new(64, "Mount");

/// Before a record that is more than a name. No kind begins with it.
const FORMAT: u8 = 2;

/// What is known of a mount.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MountRecord {
    pub kind: Box<str>,
    /// Whether it is there.
    pub state: MountState,
    pub description: Box<str>,
    /// For its engine.
    pub settings: Settings,
    /// 0 for the one a store is born with.
    pub created: Timestamp,
}

/// Whether a mount is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, prost::Enumeration)]
#[repr(i32)]
pub enum MountState {
    Mounted = 0,
    /// Taken away; its data is still there.
    Away = 1,
    /// Its data is being destroyed.
    Destroying = 2,
    /// It is not, and its data neither.
    Gone = 3,
}

#[derive(Clone, PartialEq, prost::Message)]
struct EncodedMount {
    #[prost(string, tag = "1")]
    kind: String,
    #[prost(enumeration = "MountState", tag = "2")]
    state: i32,
    #[prost(string, tag = "3")]
    description: String,
    #[prost(btree_map = "string, string", tag = "4")]
    settings: Settings,
    #[prost(int64, tag = "5")]
    created_ms: i64,
}

/// What a store is born with.
pub(super) fn first(kind: &str) -> MountRecord {
    MountRecord {
        kind: kind.into(),
        state: MountState::Mounted,
        description: "".into(),
        settings: Settings::new(),
        created: Timestamp::default(),
    }
}

pub(super) fn address(name: &str) -> Address {
    Address { kind: MOUNT, folder: "".into(), name: name.into(), part: 0 }
}

impl MountRecord {
    pub(super) fn encode(&self) -> SecretBytes {
        if *self == first(&self.kind) {
            return SecretBytes::from(self.kind.as_bytes());
        }
        let stored = EncodedMount {
            kind: self.kind.to_string(),
            state: self.state.into(),
            description: self.description.to_string(),
            settings: self.settings.clone(),
            created_ms: self.created.as_millis(),
        };
        let mut bytes = vec![FORMAT];
        bytes.extend(stored.encode_to_vec());
        SecretBytes::new(bytes)
    }

    /// `None`: it is not what this code writes.
    pub(super) fn decode(content: &SecretBytes) -> Option<Self> {
        let Some(stored) = content.expose().strip_prefix(&[FORMAT]) else {
            return content.expose_str().ok().map(first);
        };
        let stored = EncodedMount::decode(stored).ok()?;
        Some(Self {
            state: MountState::try_from(stored.state).ok()?,
            kind: stored.kind.into(),
            description: stored.description.into(),
            settings: stored.settings,
            created: Timestamp::from_millis(stored.created_ms),
        })
    }
}
