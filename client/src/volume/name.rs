//! Names of files within a volume, parsed once: nothing that was parsed can leave the volume or meet the driver's own
//! `..data`. And which names can stand beside each other.

use std::{collections::BTreeMap, fmt};

/// Longest segment: NAME_MAX is 255, two are left for the driver's temporary names.
const SEGMENT_BYTES: usize = 253;
/// Most segments.
const SEGMENTS: usize = 8;

/// A relative name: one to eight segments of `A-Z a-z 0-9 . _ -`, none of them `.` or beginning with `..`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct FileName(Box<str>);

/// Why a text is not the name of a file.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidFileName {
    /// `""`, `/a`, `a//b`, `a/`.
    #[error("is {0:?}; expected a relative file name without empty parts")]
    EmptySegment(String),
    /// `.`, or `..` at the start of a segment.
    #[error("is {0:?}; a part '.' or one that starts with '..' is not allowed")]
    Dots(String),
    /// Anything else.
    #[error("is {0:?}; allowed characters are A-Z a-z 0-9 . _ - and / between parts")]
    Character(String),
    /// More than 253 bytes in a segment.
    #[error("has a part of {0} bytes; at most {SEGMENT_BYTES} are allowed")]
    SegmentTooLong(usize),
    /// More than eight segments.
    #[error("has {0} parts; at most {SEGMENTS} are allowed")]
    TooDeep(usize),
}

impl FileName {
    /// Reads a name.
    ///
    /// # Errors
    /// Which rule it breaks.
    pub fn parse(text: &str) -> Result<Self, InvalidFileName> {
        let shown = || text.chars().take(64).collect::<String>();
        let mut count = 0_usize;
        for segment in text.split('/') {
            count = count.saturating_add(1);
            if segment.is_empty() {
                return Err(InvalidFileName::EmptySegment(shown()));
            }
            if segment.len() > SEGMENT_BYTES {
                return Err(InvalidFileName::SegmentTooLong(segment.len()));
            }
            if segment == "." || segment.starts_with("..") {
                return Err(InvalidFileName::Dots(shown()));
            }
            if !segment.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-')) {
                return Err(InvalidFileName::Character(shown()));
            }
        }
        if count > SEGMENTS {
            return Err(InvalidFileName::TooDeep(count));
        }
        Ok(Self(text.into()))
    }

    /// This name within a folder.
    ///
    /// # Errors
    /// The name would be too deep.
    pub fn within(self, dir: Option<&FileName>) -> Result<Self, InvalidFileName> {
        match dir {
            Some(dir) => Self::parse(&format!("{dir}/{self}")),
            None => Ok(self),
        }
    }

    /// The whole name.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The folders and the file.
    pub fn segments(&self) -> impl Iterator<Item = &str> {
        self.0.split('/')
    }

    /// `a` and `a/b` of `a/b/c`.
    fn folders(&self) -> impl Iterator<Item = &str> {
        self.0.match_indices('/').filter_map(|(at, _)| self.0.get(..at))
    }
}

impl fmt::Display for FileName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Names that can stand beside each other, and who made each.
#[derive(Default)]
pub(super) struct Claims {
    files: BTreeMap<String, String>,
    folders: BTreeMap<String, String>,
}

/// Two entries want the same name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Conflict {
    /// Both make the same file.
    #[error("makes the file {file}, which {other} makes as well")]
    SameFile {
        /// Its name.
        file: String,
        /// The entry that already has it.
        other: String,
    },
    /// A file and a folder of one name.
    #[error("needs {name} as a file and as a folder, together with {other}")]
    FileAndFolder {
        /// The name.
        name: String,
        /// The entry that already has it.
        other: String,
    },
}

impl Claims {
    pub(super) fn file(&mut self, name: &FileName, by: &str) -> Result<(), Conflict> {
        if let Some(other) = self.files.get(name.as_str()) {
            return Err(Conflict::SameFile { file: name.to_string(), other: other.clone() });
        }
        if let Some(other) = self.folders.get(name.as_str()) {
            return Err(Conflict::FileAndFolder { name: name.to_string(), other: other.clone() });
        }
        for folder in name.folders() {
            self.folder_named(folder, by)?;
        }
        self.files.insert(name.to_string(), by.to_owned());
        Ok(())
    }

    pub(super) fn folder(&mut self, name: &FileName, by: &str) -> Result<(), Conflict> {
        name.folders().chain([name.as_str()]).try_for_each(|folder| self.folder_named(folder, by))
    }

    fn folder_named(&mut self, name: &str, by: &str) -> Result<(), Conflict> {
        if let Some(other) = self.files.get(name) {
            return Err(Conflict::FileAndFolder { name: name.to_owned(), other: other.clone() });
        }
        if !self.folders.contains_key(name) {
            self.folders.insert(name.to_owned(), by.to_owned());
        }
        Ok(())
    }

    pub(super) fn count(&self) -> usize {
        self.files.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> FileName {
        FileName::parse(text).unwrap()
    }

    #[test]
    fn plain_relative_names_are_names() {
        for text in ["a", "a.b", ".env", "tls/key.pem", "a/b/c/d/e/f/g/h", "-", "_", "a..b"] {
            assert_eq!(name(text).as_str(), text);
        }
    }

    #[test]
    fn what_could_leave_the_volume_is_no_name() {
        let long = "x".repeat(254);
        for text in [
            "",
            "/",
            "/etc/passwd",
            "a//b",
            "a/",
            ".",
            "..",
            "../a",
            "a/../b",
            "a/./b",
            "..data",
            "a/..b",
            "a b",
            "a\0b",
            "a\\b",
            "a:b",
            "ä",
            "a\nb",
            "~/x y",
            "a/b/c/d/e/f/g/h/i",
            &long,
        ] {
            assert!(FileName::parse(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn a_file_is_made_once_and_is_no_folder() {
        let mut claims = Claims::default();
        claims.file(&name("db/user"), "one").unwrap();
        claims.file(&name("db/password"), "one").unwrap();
        let taken =
            |name: &str, other: &str| Conflict::FileAndFolder { name: name.into(), other: other.into() };
        assert_eq!(
            claims.file(&name("db/user"), "two"),
            Err(Conflict::SameFile { file: "db/user".into(), other: "one".into() })
        );
        assert_eq!(claims.file(&name("db"), "two"), Err(taken("db", "one")));
        assert_eq!(claims.file(&name("db/user/x"), "two"), Err(taken("db/user", "one")));
        assert_eq!(claims.folder(&name("db/user"), "two"), Err(taken("db/user", "one")));
        claims.folder(&name("db"), "two").unwrap();
        assert_eq!(claims.count(), 2);
    }
}
