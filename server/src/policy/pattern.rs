//! Path patterns of rules: what they may look like and what they match. Knows nothing of roles, bindings or conditions.
//!
//! - a segment is made of the characters of a path segment, and of
//! - `*`: any part of one segment, nothing included; a segment that is only `*` is any one segment;
//! - `**`: any number of whole segments, none included; only as the last segment;
//! - `{{namespace}} {{serviceaccount}} {{cluster}} {{pod}} {{user}} {{method}}`: filled for whoever asks; at most one in a
//!   segment.
//!
//! Of two in one segment nobody could tell where the one ends: `{{namespace}}-{{serviceaccount}}` is the same for db-admin
//! in prod and for admin in prod-db. People may not write them; what an earlier release stored allows nothing and still
//! denies.
//!
//! A value that is not a legal segment by itself (CVE-2021-42135: a `*` or `/` in a name), or that the asker does not
//! have, cannot be filled in. An allowing rule then does not match; a denying one matches whatever could stand there.

use strongroom_proto::limits::{PATH_BYTES, PATH_SEGMENTS};

use crate::model::{Path, Principal};

/// A parsed pattern. Two are equal when their texts are.
#[derive(Clone, Debug)]
pub struct Pattern {
    text: Box<str>,
    segments: Box<[Segment]>,
    /// Ends in `**`.
    open: bool,
}

#[derive(Clone, Debug)]
enum Segment {
    Any,
    Literal(Box<str>),
    /// Holds a `*`.
    Glob(Box<str>),
    Template(Variable),
    /// A template and other text, perhaps with a `*`.
    Mixed(Box<[Piece]>),
    /// The same with several templates: see the module.
    Ambiguous(Box<[Piece]>),
}

#[derive(Clone, Debug)]
enum Piece {
    Text(Box<str>),
    Template(Variable),
}

/// What a template stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Variable {
    Namespace,
    ServiceAccount,
    Cluster,
    Pod,
    User,
    Method,
}

/// What is known of whoever asks. `None`: has no such thing, or it is not known.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Values<'a> {
    pub(super) namespace: Option<&'a str>,
    pub(super) service_account: Option<&'a str>,
    pub(super) cluster: Option<&'a str>,
    pub(super) pod: Option<&'a str>,
    pub(super) user: Option<&'a str>,
    pub(super) method: Option<&'a str>,
}

/// What a template that cannot be filled in matches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unfilled {
    /// Nothing: for rules that allow.
    Nothing,
    /// All that could stand there: for rules that deny.
    Everything,
}

impl PartialEq for Pattern {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Eq for Pattern {}

impl Pattern {
    /// Reads a pattern.
    ///
    /// # Errors
    /// What was found and what is expected, as a sentence without a full stop.
    pub fn parse(text: &str) -> Result<Self, String> {
        if text.is_empty() {
            return Err("is empty; expected a path such as secret/apps/**".into());
        }
        if text.len() > PATH_BYTES {
            return Err(format!("has {} bytes; at most {PATH_BYTES} are allowed", text.len()));
        }
        let (body, open) = match text.strip_suffix("/**") {
            Some(body) => (Some(body), true),
            None if text == "**" => (None, true),
            None => (Some(text), false),
        };
        let segments = body
            .map(|body| body.split('/').map(Segment::parse).collect::<Result<Box<[_]>, _>>())
            .transpose()?
            .unwrap_or_default();
        if segments.len() > PATH_SEGMENTS {
            return Err(format!("has {} segments; at most {PATH_SEGMENTS} are allowed", segments.len()));
        }
        Ok(Self { text: text.into(), segments, open })
    }

    /// As it was written.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Whether it has two templates in one segment.
    pub(super) fn is_ambiguous(&self) -> bool {
        self.segments.iter().any(|segment| matches!(segment, Segment::Ambiguous(_)))
    }

    pub(super) fn matches(&self, path: &Path, values: &Values<'_>, unfilled: Unfilled) -> bool {
        let mut given = path.segments();
        for segment in &self.segments {
            match given.next() {
                Some(text) if segment.matches(text, values, unfilled) => {}
                _ => return false,
            }
        }
        self.open || given.next().is_none()
    }

    /// Whether it could match something at or below `folder`.
    pub(super) fn reaches_below(&self, folder: &Path, values: &Values<'_>) -> bool {
        let mut given = folder.segments();
        for segment in &self.segments {
            match given.next() {
                Some(text) if segment.matches(text, values, Unfilled::Nothing) => {}
                Some(_) => return false,
                // Deeper than the folder: what is below may match, unless no path at all can.
                None => return self.fillable(values),
            }
        }
        self.open || given.next().is_none()
    }

    /// Whether it matches `folder` and everything below.
    pub(super) fn covers(&self, folder: &Path, values: &Values<'_>) -> bool {
        self.open && self.matches(folder, values, Unfilled::Everything)
    }

    /// The one or two literal segments it starts with: the key of the index. `None`: starts with something else.
    pub(super) fn head(&self) -> Option<&str> {
        let literal = |at: usize| matches!(self.segments.get(at), Some(Segment::Literal(_)));
        match (literal(0), literal(1)) {
            (true, true) => Some(heads(&self.text).1.unwrap_or(&self.text)),
            (true, false) => Some(heads(&self.text).0),
            (false, _) => None,
        }
    }

    /// The templates in it, for explanations.
    pub(super) fn variables(&self) -> impl Iterator<Item = Variable> {
        self.segments.iter().flat_map(|segment| {
            let (one, many) = match segment {
                Segment::Template(variable) => (Some(*variable), &[][..]),
                Segment::Mixed(pieces) | Segment::Ambiguous(pieces) => (None, &**pieces),
                _ => (None, &[][..]),
            };
            one.into_iter().chain(many.iter().filter_map(|piece| match piece {
                Piece::Template(variable) => Some(*variable),
                Piece::Text(_) => None,
            }))
        })
    }

    fn fillable(&self, values: &Values<'_>) -> bool {
        !self.is_ambiguous() && self.variables().all(|variable| values.get(variable).is_some())
    }
}

/// The first segment of a text, and the first two where there are two.
pub(super) fn heads(text: &str) -> (&str, Option<&str>) {
    let Some((first, rest)) = text.split_once('/') else { return (text, None) };
    let two = match rest.find('/') {
        Some(end) => text.get(..first.len() + 1 + end),
        None => Some(text),
    };
    (first, two)
}

impl Segment {
    fn parse(text: &str) -> Result<Self, String> {
        match text {
            "" => return Err("has an empty segment (a slash at the start or end, or two in a row)".into()),
            "." | ".." => return Err("has a segment '.' or '..'; they are not allowed".into()),
            "*" => return Ok(Segment::Any),
            "**" => return Err("has ** before its end; ** is only allowed as the last segment".into()),
            _ if text.contains("**") => {
                return Err(format!(
                    "has ** as a part of the segment {text:?}; write * there, or ** alone at the end"
                ));
            }
            _ => {}
        }
        let mut pieces = pieces(text)?;
        Ok(match (pieces.len(), pieces.pop()) {
            (1, Some(Piece::Text(text))) if text.contains('*') => Segment::Glob(text),
            (1, Some(Piece::Text(text))) => {
                crate::model::Path::parse(&text).map_err(|error| error.to_string())?;
                Segment::Literal(text)
            }
            (1, Some(Piece::Template(variable))) => Segment::Template(variable),
            (_, last) => {
                let pieces: Box<[Piece]> = pieces.into_iter().chain(last).collect();
                let templates = pieces.iter().filter(|piece| matches!(piece, Piece::Template(_))).count();
                if templates > 1 { Segment::Ambiguous(pieces) } else { Segment::Mixed(pieces) }
            }
        })
    }

    fn matches(&self, text: &str, values: &Values<'_>, unfilled: Unfilled) -> bool {
        match self {
            Segment::Any => true,
            Segment::Literal(literal) => **literal == *text,
            Segment::Glob(glob) => wildcard(glob.as_bytes(), text.as_bytes()),
            Segment::Template(variable) => match values.get(*variable) {
                Some(value) => value == text,
                None => unfilled == Unfilled::Everything,
            },
            Segment::Ambiguous(pieces) => {
                unfilled == Unfilled::Everything
                    && fill(pieces, values, unfilled)
                        .is_some_and(|glob| wildcard(glob.as_bytes(), text.as_bytes()))
            }
            // No value holds a `*`, so the filled text says what it means.
            Segment::Mixed(pieces) => {
                fill(pieces, values, unfilled).is_some_and(|glob| wildcard(glob.as_bytes(), text.as_bytes()))
            }
        }
    }
}

fn pieces(segment: &str) -> Result<Vec<Piece>, String> {
    let mut pieces = Vec::new();
    let mut rest = segment;
    while let Some((before, after)) = rest.split_once("{{") {
        push_text(&mut pieces, before)?;
        let Some((name, after)) = after.split_once("}}") else {
            return Err(format!("has {{{{ without a closing }}}} in the segment {segment:?}"));
        };
        pieces.push(Piece::Template(Variable::parse(name)?));
        rest = after;
    }
    push_text(&mut pieces, rest)?;
    Ok(pieces)
}

fn push_text(pieces: &mut Vec<Piece>, text: &str) -> Result<(), String> {
    let odd = |c: &char| !(c.is_ascii_alphanumeric() || "._~@:+=-*".contains(*c));
    if let Some(c) = text.chars().find(odd) {
        return Err(format!(
            "contains {c:?}; allowed characters are A-Z a-z 0-9 . _ ~ @ : + = - and *, ** and {{{{templates}}}}"
        ));
    }
    if !text.is_empty() {
        pieces.push(Piece::Text(text.into()));
    }
    Ok(())
}

fn fill(pieces: &[Piece], values: &Values<'_>, unfilled: Unfilled) -> Option<String> {
    let mut filled = String::new();
    for piece in pieces {
        match piece {
            Piece::Text(text) => filled.push_str(text),
            Piece::Template(variable) => match (values.get(*variable), unfilled) {
                (Some(value), _) => filled.push_str(value),
                (None, Unfilled::Everything) => filled.push('*'),
                (None, Unfilled::Nothing) => return None,
            },
        }
    }
    Some(filled)
}

/// Whether `text` fits `glob`, where `*` is any number of bytes. Steps back only to the last `*`: at most the product
/// of the lengths, never exponential.
fn wildcard(glob: &[u8], text: &[u8]) -> bool {
    let (mut g, mut t) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while let Some(byte) = text.get(t) {
        match glob.get(g) {
            Some(b'*') => {
                star = Some((g + 1, t));
                g += 1;
            }
            Some(wanted) if wanted == byte => {
                g += 1;
                t += 1;
            }
            _ => match star {
                Some((after, from)) => {
                    star = Some((after, from + 1));
                    (g, t) = (after, from + 1);
                }
                None => return false,
            },
        }
    }
    glob.get(g..).unwrap_or_default().iter().all(|byte| *byte == b'*')
}

impl Variable {
    const ALL: [Variable; 6] = [
        Variable::Namespace,
        Variable::ServiceAccount,
        Variable::Cluster,
        Variable::Pod,
        Variable::User,
        Variable::Method,
    ];

    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Variable::Namespace => "namespace",
            Variable::ServiceAccount => "serviceaccount",
            Variable::Cluster => "cluster",
            Variable::Pod => "pod",
            Variable::User => "user",
            Variable::Method => "method",
        }
    }

    fn parse(name: &str) -> Result<Self, String> {
        Self::ALL.into_iter().find(|variable| variable.as_str() == name).ok_or_else(|| {
            let all = Self::ALL.map(|variable| format!("{{{{{}}}}}", variable.as_str())).join(", ");
            format!("has the unknown template {{{{{name}}}}}; the known ones are {all}")
        })
    }
}

impl<'a> Values<'a> {
    pub(super) fn of(principal: &'a Principal) -> Self {
        match principal {
            Principal::Root => Self::default(),
            Principal::User { method, name, .. } => {
                Self { user: Some(name), method: Some(method), ..Self::default() }
            }
            Principal::ServiceAccount { cluster, namespace, name, pod, .. } => Self {
                namespace: Some(namespace),
                service_account: Some(name),
                cluster: Some(cluster),
                pod: pod.as_ref().map(|pod| &*pod.name),
                user: None,
                method: Some(principal.method()),
            },
        }
    }

    /// A value fit to stand in a path.
    pub(super) fn get(&self, variable: Variable) -> Option<&'a str> {
        let value = match variable {
            Variable::Namespace => self.namespace,
            Variable::ServiceAccount => self.service_account,
            Variable::Cluster => self.cluster,
            Variable::Pod => self.pod,
            Variable::User => self.user,
            Variable::Method => self.method,
        };
        value.filter(|value| is_segment(value))
    }
}

/// Byte by byte, because it stands on the hot path. The same rule as `Path`, which a test compares.
fn is_segment(text: &str) -> bool {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"._~@:+=-".contains(&b);
    (1..=strongroom_proto::limits::SEGMENT_BYTES).contains(&text.len())
        && text != "."
        && text != ".."
        && text.bytes().all(plain)
}
