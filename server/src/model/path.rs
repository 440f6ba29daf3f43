//! Paths and keys, parsed once. Nothing is normalised, decoded or case-folded: what was judged is byte for byte what is
//! used (the traversal CVEs of our peers, for example CVE-2026-3605, all come from judging one form and using another).

use std::{fmt, sync::Arc};

use strongroom_proto::limits::{KEY_BYTES, PATH_BYTES, PATH_SEGMENTS, SEGMENT_BYTES};

use super::Invalid;

/// `mount/segment/segment...`: one to sixteen segments. A path of a single segment is a mount, or a folder to list.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Path(Arc<str>);

/// Why some text is not a path or a key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidPath {
    #[error("is empty; expected mount/segment/...")]
    Empty,
    /// More than 512 bytes.
    #[error("has {0} bytes; at most {PATH_BYTES} are allowed")]
    TooLong(usize),
    /// More than 16 segments.
    #[error("has {0} segments; at most {PATH_SEGMENTS} are allowed")]
    TooDeep(usize),
    /// `a//b`, or a slash at an end.
    #[error("has an empty segment (a slash at the start or end, or two in a row)")]
    EmptySegment,
    /// `.` or `..`.
    #[error("has a segment '.' or '..'; they are not allowed")]
    Dots,
    /// More than 128 bytes.
    #[error("has a segment of {0} bytes; at most {SEGMENT_BYTES} are allowed")]
    SegmentTooLong(usize),
    /// Outside `A-Z a-z 0-9 . _ ~ @ : + = -`.
    #[error("contains {0:?}; allowed characters are A-Z a-z 0-9 . _ ~ @ : + = - and / between segments")]
    Character(char),
    /// A key that is not a plain file name.
    #[error("is not a key; expected 1 to {KEY_BYTES} of A-Z a-z 0-9 . _ - and not '..' at the start")]
    Key,
}

impl Path {
    /// Reads a path.
    ///
    /// # Errors
    /// [`InvalidPath`] with what was found and what is expected.
    pub fn parse(text: &str) -> Result<Self, InvalidPath> {
        if text.is_empty() {
            return Err(InvalidPath::Empty);
        }
        if text.len() > PATH_BYTES {
            return Err(InvalidPath::TooLong(text.len()));
        }
        let mut segments = 0;
        for segment in text.split('/') {
            check_segment(segment)?;
            segments += 1;
        }
        if segments > PATH_SEGMENTS {
            return Err(InvalidPath::TooDeep(segments));
        }
        Ok(Self(Arc::from(text)))
    }

    /// Reads a path from a field of a request.
    ///
    /// # Errors
    /// Says what is wrong with the field.
    pub fn parse_field(field: &str, text: &str) -> Result<Self, Invalid> {
        Self::parse(text).map_err(|error| Invalid::new(field, error.to_string()))
    }

    /// The whole text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    pub fn mount(&self) -> &str {
        self.0.split('/').next().unwrap_or_default()
    }

    /// The path without its mount; empty for the mount itself.
    pub fn within_mount(&self) -> &str {
        self.0.split_once('/').map_or("", |(_, inner)| inner)
    }

    /// All segments, the mount included.
    pub fn segments(&self) -> impl Iterator<Item = &str> {
        self.0.split('/')
    }

    /// Everything but the last segment, and the last: `("secret/apps", "db")`. `None` for a mount.
    pub fn split_last(&self) -> Option<(&str, &str)> {
        self.0.rsplit_once('/')
    }

    /// The folder that holds this; `None` for a mount.
    pub fn parent(&self) -> Option<Path> {
        self.split_last().map(|(parent, _)| Self(Arc::from(parent)))
    }

    /// This path and one more segment.
    ///
    /// # Errors
    /// The segment or the longer path is not allowed.
    pub fn join(&self, segment: &str) -> Result<Path, InvalidPath> {
        Self::parse(&format!("{}/{segment}", self.0))
    }

    /// Whether this is `folder` or lies below it.
    pub fn is_within(&self, folder: &Path) -> bool {
        self.0.strip_prefix(&*folder.0).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    }
}

/// Whether `text` can stand between two slashes.
///
/// # Errors
/// Says which rule it breaks.
pub(crate) fn check_segment(text: &str) -> Result<(), InvalidPath> {
    if text.is_empty() {
        return Err(InvalidPath::EmptySegment);
    }
    if text == "." || text == ".." {
        return Err(InvalidPath::Dots);
    }
    if text.len() > SEGMENT_BYTES {
        return Err(InvalidPath::SegmentTooLong(text.len()));
    }
    match text.chars().find(|c| !(c.is_ascii_alphanumeric() || "._~@:+=-".contains(*c))) {
        Some(c) => Err(InvalidPath::Character(c)),
        None => Ok(()),
    }
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Path({})", self.0)
    }
}

/// One key of a secret: a plain file name, because a volume makes a file of it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyName(Box<str>);

impl KeyName {
    /// Reads a key: `[A-Za-z0-9._-]{1,253}`, not `.` and not starting with `..` (the kubelet's `..data` lives there).
    ///
    /// # Errors
    /// [`InvalidPath::Key`].
    pub fn parse(text: &str) -> Result<Self, InvalidPath> {
        let plain = text.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b));
        if text.is_empty() || text.len() > KEY_BYTES || !plain || text == "." || text.starts_with("..") {
            return Err(InvalidPath::Key);
        }
        Ok(Self(Box::from(text)))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn plain_paths_are_taken_as_they_are() {
        for text in
            ["secret", "secret/a", "secret/apps/payments/db", "secret/...", "secret/a=b@c:d+e~f_g-h.i"]
        {
            assert_eq!(Path::parse(text).unwrap().as_str(), text);
        }
    }

    #[test]
    fn hostile_paths_are_refused() {
        for text in [
            "",
            "/",
            "/a",
            "a/",
            "a//b",
            "a/./b",
            "a/../b",
            "..",
            "a/%2e%2e/b",
            "a\\b",
            "a\0b",
            "a b",
            "a/b\n",
            "ä/b",
            "secret/*",
            "secret/**",
            "a/\u{202e}b",
            "a/b?c",
            "a/b#c",
            "{{namespace}}/b",
        ] {
            assert!(Path::parse(text).is_err(), "{text:?}");
        }
        assert_eq!(Path::parse(&"a/".repeat(16).clone()[..31]).unwrap().segments().count(), 16);
        assert_eq!(Path::parse(&["a"; 17].join("/")), Err(InvalidPath::TooDeep(17)));
        assert_eq!(Path::parse(&"a".repeat(129)), Err(InvalidPath::SegmentTooLong(129)));
        assert_eq!(Path::parse(&"a".repeat(513)), Err(InvalidPath::TooLong(513)));
    }

    #[test]
    fn keys_are_file_names() {
        for good in ["a", "api.key", ".netrc", "A-b_c.9"] {
            assert!(KeyName::parse(good).is_ok(), "{good}");
        }
        for bad in ["", ".", "..", "..data", "a/b", "a b", "ä", "a\0", &"k".repeat(254)] {
            assert!(KeyName::parse(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn within_respects_segments() {
        let folder = Path::parse("secret/a").unwrap();
        assert!(Path::parse("secret/a").unwrap().is_within(&folder));
        assert!(Path::parse("secret/a/b").unwrap().is_within(&folder));
        assert!(!Path::parse("secret/ab").unwrap().is_within(&folder));
    }

    proptest! {
        #[test]
        fn parse_changes_nothing(text in "\\PC{0,40}") {
            if let Ok(path) = Path::parse(&text) {
                prop_assert_eq!(path.as_str(), text.as_str());
                let joined: Vec<&str> = path.segments().collect();
                prop_assert_eq!(joined.join("/"), text);
            }
        }
    }
}
