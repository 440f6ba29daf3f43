//! The volume that a pod asks for: which secrets, as which files. It is parsed from the attributes of a CSI volume and
//! rendered from the secrets that were read. The driver and `strongroom explain` share it; it does no IO and knows no clock.
//!
//! ```
//! use std::collections::BTreeMap;
//! use strongroom_client::{SecretBytes, volume::{Fetched, PodRef, Volume}};
//!
//! let secrets = "
//! - path: secret/{{namespace}}/db
//!   dir: db
//! - path: secret/apps/stripe
//!   keys: {api_key: stripe/api-key}
//!   optional: true
//! ";
//! let attributes = BTreeMap::from([("secrets".to_owned(), secrets.to_owned())]);
//! let pod = PodRef { namespace: "shop".into(), pod: "web-0".into(), service_account: "web".into() };
//! let volume = Volume::parse(&attributes, &pod).unwrap();
//! assert_eq!(volume.paths().into_iter().collect::<Vec<_>>(), ["secret/apps/stripe", "secret/shop/db"]);
//!
//! let mut fetched = Fetched::default();
//! for source in volume.sources().into_iter().filter(|source| source.path() == "secret/shop/db") {
//!     fetched.insert(source.clone(), BTreeMap::from([("user".into(), SecretBytes::from(b"shop".as_slice()))]));
//! }
//! let files = volume.render(&fetched).unwrap();
//! assert_eq!((files[0].name.as_str(), files[0].mode.to_string()), ("db/user", "0400".to_owned()));
//! ```

mod filter;
mod mode;
mod name;
mod parse;
mod render;
mod source;
mod template;

#[cfg(test)]
mod tests;

use std::{collections::BTreeSet, fmt};

pub use filter::Filter;
pub use mode::{InvalidMode, Mode};
pub use name::{Conflict, FileName, InvalidFileName};
pub use render::{Fetched, File, RenderError};
pub use source::{PodRef, Source, SourceKind};
pub use template::{InvalidTemplate, Placeholder, Template};

/// The driver's name: in a pod's `volumes[].csi.driver`.
pub const DRIVER: &str = "csi.strongroom.dev";
/// Most entries of a volume: a pod that needs more needs another layout.
pub const ENTRIES: usize = 64;
/// Most that is issued for a volume: each is a user of a database, for example, and every pod has its own.
pub const ISSUES: usize = 8;
/// Most files of a volume.
pub const FILES: usize = 256;
/// Most bytes of a file: those of a secret.
pub const FILE_BYTES: usize = 1 << 20;
/// Most bytes of a volume: it lies in the memory of the node.
pub const VOLUME_BYTES: usize = 4 << 20;
/// Longest text of the attribute `secrets`.
pub const TEXT_BYTES: usize = 64 << 10;

/// The volume that a pod asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Volume {
    /// The entries, in the order in which they are written.
    pub entries: Vec<Entry>,
    /// Owner of the files; the driver's own user if none is named.
    pub uid: Option<u32>,
    /// Group of the files.
    pub gid: Option<u32>,
    /// Mode of the files whose entry has none, if the attributes name one.
    pub mode: Option<Mode>,
}

/// One item of `secrets`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Which files it makes from which secrets.
    pub layout: Layout,
    /// Whether a missing secret or key is not an error; its file is left out then.
    pub optional: bool,
    /// Mode of its files.
    pub mode: Option<Mode>,
}

/// Which files are made from which secrets. All file names are complete: a `dir` is part of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Layout {
    /// Every key becomes a file.
    Whole {
        /// The secret.
        source: Source,
        /// The folder of the files.
        dir: Option<FileName>,
        /// How values become contents.
        decode: Decode,
    },
    /// Some keys become files.
    Keys {
        /// The secret.
        source: Source,
        /// The keys and their files.
        files: Vec<(String, FileName)>,
        /// How values become contents.
        decode: Decode,
    },
    /// Files with values in a text.
    Template {
        /// The secrets a placeholder may name.
        sources: Vec<Source>,
        /// The files and their texts.
        files: Vec<(FileName, Template)>,
    },
}

/// How a value becomes the content of a file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Decode {
    /// The value itself, byte for byte.
    #[default]
    Plain,
    /// The value is base64 text, line breaks allowed; the file gets the bytes.
    Base64,
}

/// A mistake in the attributes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The field, such as `secrets[2].keys.api_key`.
    pub field: String,
    /// What is there, and what is expected.
    pub problem: String,
}

impl Volume {
    /// What to ask for, each once: secrets to read, and what is to be issued.
    pub fn sources(&self) -> BTreeSet<&Source> {
        self.entries.iter().flat_map(Entry::sources).collect()
    }

    /// What is to be issued for the pod, each once, always in the same order.
    pub fn issues(&self) -> BTreeSet<&Source> {
        self.sources().into_iter().filter(|source| source.is_issued()).collect()
    }

    /// The paths of secrets, to be watched, each once.
    pub fn paths(&self) -> BTreeSet<&str> {
        let secrets = self.sources().into_iter().filter(|source| !source.is_issued());
        secrets.map(Source::path).collect()
    }

    /// Sets this group for the files unless the attributes name one. The kubelet sends it as `volume_mount_group`.
    #[must_use]
    pub fn or_group(mut self, gid: u32) -> Self {
        self.gid = self.gid.or(Some(gid));
        self
    }

    /// The mode of an entry's files: its own, the volume's, or readable by the owner, and by the group if there is one.
    pub fn mode_of(&self, entry: &Entry) -> Mode {
        let default = if self.gid.is_some() { Mode::OWNER_AND_GROUP } else { Mode::OWNER };
        entry.mode.or(self.mode).unwrap_or(default)
    }
}

impl Entry {
    /// What it is made of.
    pub fn sources(&self) -> &[Source] {
        match &self.layout {
            Layout::Whole { source, .. } | Layout::Keys { source, .. } => std::slice::from_ref(source),
            Layout::Template { sources, .. } => sources,
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.field, self.problem)
    }
}
