//! Makes files from a [`Volume`] and the secrets that were read. Contents are wiped when dropped, and so is everything on the
//! way to them; errors name paths, keys and files, never a value.

use std::collections::BTreeMap;

use data_encoding::BASE64;
use strongroom_proto::SecretBytes;
use zeroize::Zeroizing;

use super::{
    Decode, Entry, FILE_BYTES, FILES, FileName, Filter, InvalidFileName, Layout, Mode, Source, SourceKind,
    Template, VOLUME_BYTES, Volume,
    name::{Claims, Conflict},
    template::{Part, Placeholder},
};

/// The secrets that were read. One that is not here does not exist.
#[derive(Default)]
pub struct Fetched(BTreeMap<Source, BTreeMap<String, SecretBytes>>);

/// A file of a volume.
#[derive(Debug)]
pub struct File {
    /// The name within the volume.
    pub name: FileName,
    /// The mode.
    pub mode: Mode,
    /// The content.
    pub content: SecretBytes,
}

/// Why no files can be made from what was read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RenderError {
    /// A secret that is not optional does not exist.
    #[error("there is no {}secret {path}", version_of(*version))]
    NoSecret {
        /// The path of the secret.
        path: String,
        /// The version, if one was asked for.
        version: Option<u64>,
    },
    /// A secret does not have a key that is not optional.
    #[error("the secret {path} has no key {key:?}; it has {}", list(has))]
    NoKey {
        /// The secret.
        path: String,
        /// The key.
        key: String,
        /// The keys it has.
        has: Vec<String>,
    },
    /// What is issued at a path does not have a field of that name.
    #[error("what is issued at {path} has no field {key:?}; it has {}", list(has))]
    NoField {
        /// Where it is issued.
        path: String,
        /// The field.
        key: String,
        /// The fields it has.
        has: Vec<String>,
    },
    /// A key cannot be the name of a file.
    #[error("the key {key:?} of {path} cannot be the name of a file: it {problem}")]
    KeyIsNoName {
        /// The secret.
        path: String,
        /// The key.
        key: String,
        /// Why it cannot.
        problem: InvalidFileName,
    },
    /// A value of an entry with `decode: base64` is not base64.
    #[error("the key {key:?} of {path} is not base64")]
    NotBase64 {
        /// The secret.
        path: String,
        /// The key.
        key: String,
    },
    /// A value has no form that a filter of the template could write.
    #[error("the filter {} cannot write the key {key:?} of {path}: {}", filter.name(), why(*filter))]
    NotFilterable {
        /// The secret.
        path: String,
        /// The key.
        key: String,
        /// The filter.
        filter: Filter,
    },
    /// Two entries want the same name.
    #[error("{place} {conflict}")]
    Conflict {
        /// The later of the entries.
        place: String,
        /// The name that both want.
        conflict: Conflict,
    },
    /// A file is too large.
    #[error("the file {file} would have {bytes} bytes; at most {FILE_BYTES} are allowed")]
    FileTooLarge {
        /// Its name.
        file: String,
        /// How large it would be.
        bytes: usize,
    },
    /// All files together are too large.
    #[error("the files would have more than {VOLUME_BYTES} bytes in total")]
    VolumeTooLarge,
    /// There are too many files.
    #[error("there would be more than {FILES} files")]
    TooManyFiles,
}

impl Fetched {
    /// Adds a secret that was read.
    pub fn insert(&mut self, source: Source, values: BTreeMap<String, SecretBytes>) {
        self.0.insert(source, values);
    }

    fn secret(&self, source: &Source) -> Result<&BTreeMap<String, SecretBytes>, RenderError> {
        self.0.get(source).ok_or_else(|| RenderError::NoSecret {
            path: source.path().to_owned(),
            version: source.version(),
        })
    }

    fn value(&self, source: &Source, key: &str) -> Result<&SecretBytes, RenderError> {
        let secret = self.secret(source)?;
        secret.get(key).ok_or_else(|| {
            let (path, key) = (source.path().to_owned(), key.to_owned());
            let has = secret.keys().cloned().collect();
            match source.kind() {
                SourceKind::Secret { .. } => RenderError::NoKey { path, key, has },
                SourceKind::Issue => RenderError::NoField { path, key, has },
            }
        })
    }
}

impl RenderError {
    /// Whether an optional entry tolerates the error.
    fn is_missing(&self) -> bool {
        matches!(self, Self::NoSecret { .. } | Self::NoKey { .. })
    }
}

impl Volume {
    /// Makes the files, in the order of the entries: all of them or none.
    ///
    /// # Errors
    /// The first thing that is missing or does not fit.
    pub fn render(&self, fetched: &Fetched) -> Result<Vec<File>, RenderError> {
        let mut rendering = Rendering { fetched, files: Vec::new(), claims: Claims::default(), bytes: 0 };
        for (at, entry) in self.entries.iter().enumerate() {
            rendering.entry(&format!("secrets[{at}]"), entry, self.mode_of(entry))?;
        }
        Ok(rendering.files)
    }
}

struct Rendering<'a> {
    fetched: &'a Fetched,
    files: Vec<File>,
    claims: Claims,
    bytes: usize,
}

impl Rendering<'_> {
    fn entry(&mut self, place: &str, entry: &Entry, mode: Mode) -> Result<(), RenderError> {
        let fetched = self.fetched;
        let forgiven = |error: &RenderError| entry.optional && error.is_missing();
        match &entry.layout {
            Layout::Whole { source, dir, decode } => {
                let values = match fetched.secret(source) {
                    Err(error) if forgiven(&error) => return Ok(()),
                    values => values?,
                };
                for (key, value) in values {
                    let name = file_name(source, key, dir.as_ref())?;
                    let content = content(value, *decode, &name, source, key)?;
                    self.add(place, name, mode, content)?;
                }
            }
            Layout::Keys { source, files, decode } => {
                for (key, name) in files {
                    match fetched.value(source, key) {
                        Err(error) if forgiven(&error) => {}
                        value => {
                            let content = content(value?, *decode, name, source, key)?;
                            self.add(place, name.clone(), mode, content)?;
                        }
                    }
                }
            }
            Layout::Template { sources, files } => {
                for (name, template) in files {
                    match filled(template, sources, fetched, name) {
                        Err(error) if forgiven(&error) => {}
                        content => self.add(place, name.clone(), mode, content?)?,
                    }
                }
            }
        }
        Ok(())
    }

    fn add(
        &mut self,
        place: &str,
        name: FileName,
        mode: Mode,
        content: SecretBytes,
    ) -> Result<(), RenderError> {
        let claimed = self.claims.file(&name, place);
        claimed.map_err(|conflict| RenderError::Conflict { place: place.to_owned(), conflict })?;
        self.bytes = self.bytes.saturating_add(content.len());
        if self.bytes > VOLUME_BYTES {
            return Err(RenderError::VolumeTooLarge);
        }
        if self.files.len() >= FILES {
            return Err(RenderError::TooManyFiles);
        }
        self.files.push(File { name, mode, content });
        Ok(())
    }
}

fn file_name(source: &Source, key: &str, dir: Option<&FileName>) -> Result<FileName, RenderError> {
    FileName::parse(key).and_then(|name| name.within(dir)).map_err(|problem| RenderError::KeyIsNoName {
        path: source.path().to_owned(),
        key: key.to_owned(),
        problem,
    })
}

fn fits(file: &FileName, bytes: usize) -> Result<(), RenderError> {
    if bytes > FILE_BYTES {
        return Err(RenderError::FileTooLarge { file: file.to_string(), bytes });
    }
    Ok(())
}

fn content(
    value: &SecretBytes,
    decode: Decode,
    file: &FileName,
    source: &Source,
    key: &str,
) -> Result<SecretBytes, RenderError> {
    // Decoding can only make it smaller.
    fits(file, value.len())?;
    match decode {
        Decode::Plain => Ok(SecretBytes::from(value.expose())),
        Decode::Base64 => decoded(value)
            .ok_or_else(|| RenderError::NotBase64 { path: source.path().to_owned(), key: key.to_owned() }),
    }
}

/// Line breaks and blanks are skipped: `base64` breaks lines, and editors end the last one.
fn decoded(value: &SecretBytes) -> Option<SecretBytes> {
    let mut text = Zeroizing::new(Vec::with_capacity(value.len()));
    text.extend(value.expose().iter().filter(|byte| !byte.is_ascii_whitespace()));
    let mut bytes = Zeroizing::new(vec![0; BASE64.decode_len(text.len()).ok()?]);
    let length = BASE64.decode_mut(&text, &mut bytes).ok()?;
    bytes.get(..length).map(SecretBytes::from)
}

/// The length is known before a byte is copied, so that no half-filled buffer is left behind by growing.
fn filled(
    template: &Template,
    sources: &[Source],
    fetched: &Fetched,
    file: &FileName,
) -> Result<SecretBytes, RenderError> {
    let mut pieces: Vec<Piece<'_>> = Vec::with_capacity(template.parts().len());
    let mut length = 0_usize;
    for part in template.parts() {
        let piece = match part {
            Part::Text(text) => Piece::Given(text.as_bytes()),
            Part::Value(placeholder) => match sources.get(placeholder.source) {
                Some(source) => {
                    filtered(placeholder, source, fetched.value(source, &placeholder.key)?.expose())?
                }
                None => Piece::Given(&[]),
            },
        };
        // At once: what filters made lies in memory until the file is written.
        length = length.saturating_add(piece.bytes().len());
        fits(file, length)?;
        pieces.push(piece);
    }
    let mut content = Vec::with_capacity(length);
    for piece in &pieces {
        content.extend_from_slice(piece.bytes());
    }
    Ok(SecretBytes::new(content))
}

/// A part of a file: as it was read, or as a filter made it.
enum Piece<'a> {
    Given(&'a [u8]),
    Made(Zeroizing<Vec<u8>>),
}

impl Piece<'_> {
    fn bytes(&self) -> &[u8] {
        match self {
            Self::Given(bytes) => bytes,
            Self::Made(bytes) => bytes,
        }
    }
}

fn filtered<'a>(
    placeholder: &Placeholder,
    source: &Source,
    value: &'a [u8],
) -> Result<Piece<'a>, RenderError> {
    let mut piece = Piece::Given(value);
    for filter in &placeholder.filters {
        // Between two filters too: each may make six bytes of one.
        let written = filter.apply(piece.bytes()).filter(|written| written.len() <= FILE_BYTES);
        piece = Piece::Made(written.ok_or_else(|| RenderError::NotFilterable {
            path: source.path().to_owned(),
            key: placeholder.key.clone(),
            filter: *filter,
        })?);
    }
    Ok(piece)
}

fn why(filter: Filter) -> &'static str {
    match filter {
        Filter::Json | Filter::Yaml | Filter::Properties => "it is not UTF-8 text, or too long",
        Filter::Shell => "it has a zero byte, or is too long",
        Filter::UrlEncode | Filter::Base64 | Filter::Trim => "it is too long",
    }
}

fn version_of(version: Option<u64>) -> String {
    version.map(|version| format!("version {version} of the ")).unwrap_or_default()
}

/// Keys are names, not secrets, but there may be a thousand.
fn list(keys: &[String]) -> String {
    let first: Vec<_> = keys.iter().take(8).map(String::as_str).collect();
    match keys.len() {
        0 => "none".to_owned(),
        1..=8 => first.join(", "),
        _ => format!("{} and {} more", first.join(", "), keys.len().saturating_sub(8)),
    }
}
