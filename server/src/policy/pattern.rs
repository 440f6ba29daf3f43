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

use super::role::Step;
use crate::model::{Path, Principal};

/// A pattern as it is read: its text and the parts of that. It is kept in a role, next to the others, and matched there.
pub(super) struct Parsed<'a> {
    text: &'a str,
    segments: Vec<Segment>,
}

/// A pattern of a role.
#[derive(Clone, Copy)]
pub(super) struct Pattern<'a> {
    text: &'a str,
    steps: &'a [Step],
}

/// A part of a pattern's text between two slashes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Segment {
    kind: Kind,
    start: u16,
    end: u16,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Any,
    /// `**`, the last one.
    Rest,
    Literal,
    /// Holds a `*`.
    Glob,
    Template(Variable),
    /// A template and other text, perhaps with a `*`.
    Mixed,
    /// The same with several templates: see the module.
    Ambiguous,
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

impl<'a> Parsed<'a> {
    /// Reads a pattern.
    ///
    /// # Errors
    /// What was found and what is expected, as a sentence without a full stop.
    pub(super) fn parse(text: &'a str) -> Result<Self, String> {
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
        let mut segments = Vec::new();
        let mut end = 0;
        for part in body.into_iter().flat_map(|body| body.split('/')) {
            let kind = Kind::parse(part)?;
            segments.push(Segment::new(kind, end, end + part.len()));
            end += part.len() + 1;
        }
        if segments.len() > PATH_SEGMENTS {
            return Err(format!("has {} segments; at most {PATH_SEGMENTS} are allowed", segments.len()));
        }
        if open {
            segments.push(Segment::new(Kind::Rest, end, text.len()));
        }
        Ok(Self { text, segments })
    }

    /// Whether it has two templates in one segment.
    pub(super) fn is_ambiguous(&self) -> bool {
        self.segments.iter().any(|segment| segment.kind == Kind::Ambiguous)
    }

    pub(super) fn into_parts(self) -> (&'a str, Vec<Segment>) {
        (self.text, self.segments)
    }
}

impl<'a> Pattern<'a> {
    pub(super) fn new(text: &'a str, steps: &'a [Step]) -> Self {
        Self { text, steps }
    }

    /// As it was written.
    pub(super) fn as_str(&self) -> &'a str {
        self.text
    }

    /// The segments and their texts.
    fn segments(&self) -> impl Iterator<Item = (Kind, &'a str)> {
        let text = self.text;
        self.steps.iter().filter_map(move |step| match step {
            Step::Segment(segment) => Some((segment.kind, segment.of(text))),
            Step::Rule { .. } | Step::Path { .. } => None,
        })
    }

    pub(super) fn is_ambiguous(&self) -> bool {
        self.segments().any(|(kind, _)| kind == Kind::Ambiguous)
    }

    pub(super) fn matches(&self, path: &Path, values: &Values<'_>, unfilled: Unfilled) -> bool {
        let mut given = path.segments();
        for (kind, wanted) in self.segments() {
            if kind == Kind::Rest {
                return true;
            }
            match given.next() {
                Some(text) if kind.matches(wanted, text, values, unfilled) => {}
                _ => return false,
            }
        }
        given.next().is_none()
    }

    /// Whether it could match something at or below `folder`. A yes may be wrong, a no never is.
    pub(super) fn reaches_below(&self, folder: &Path, values: &Values<'_>, unfilled: Unfilled) -> bool {
        let mut given = folder.segments();
        for (kind, wanted) in self.segments() {
            if kind == Kind::Rest {
                return true;
            }
            match given.next() {
                Some(text) if kind.matches(wanted, text, values, unfilled) => {}
                Some(_) => return false,
                // Deeper than the folder: what is below may match, unless no path at all can.
                None => return unfilled == Unfilled::Everything || self.fillable(values),
            }
        }
        given.next().is_none()
    }

    /// Whether it matches `folder` and everything below.
    pub(super) fn covers(&self, folder: &Path, values: &Values<'_>) -> bool {
        let open = self.segments().any(|(kind, _)| kind == Kind::Rest);
        open && self.matches(folder, values, Unfilled::Everything)
    }

    /// The one or two literal segments it starts with: the key of the index. `None`: starts with something else.
    pub(super) fn head(&self) -> Option<&'a str> {
        let mut kinds = self.segments().map(|(kind, _)| kind);
        match (kinds.next(), kinds.next()) {
            (Some(Kind::Literal), Some(Kind::Literal)) => Some(heads(self.text).1.unwrap_or(self.text)),
            (Some(Kind::Literal), _) => Some(heads(self.text).0),
            _ => None,
        }
    }

    /// The templates in it, for explanations.
    pub(super) fn variables(&self) -> impl Iterator<Item = Variable> {
        self.segments().flat_map(|(kind, text)| match kind {
            Kind::Template(variable) => vec![variable],
            Kind::Mixed | Kind::Ambiguous => pieces(text).filter_map(Piece::variable).collect(),
            Kind::Any | Kind::Rest | Kind::Literal | Kind::Glob => Vec::new(),
        })
    }

    fn fillable(&self, values: &Values<'_>) -> bool {
        !self.is_ambiguous() && self.variables().all(|variable| values.get(variable).is_some())
    }
}

impl Segment {
    /// A pattern has at most 512 bytes, so the numbers fit.
    fn new(kind: Kind, start: usize, end: usize) -> Self {
        let short = |number| u16::try_from(number).unwrap_or(u16::MAX);
        Self { kind, start: short(start), end: short(end) }
    }

    fn of<'a>(&self, text: &'a str) -> &'a str {
        text.get(self.start.into()..self.end.into()).unwrap_or_default()
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

impl Kind {
    fn parse(text: &str) -> Result<Self, String> {
        match text {
            "" => return Err("has an empty segment (a slash at the start or end, or two in a row)".into()),
            "." | ".." => return Err("has a segment '.' or '..'; they are not allowed".into()),
            "*" => return Ok(Kind::Any),
            "**" => return Err("has ** before its end; ** is only allowed as the last segment".into()),
            _ if text.contains("**") => {
                return Err(format!(
                    "has ** as a part of the segment {text:?}; write * there, or ** alone at the end"
                ));
            }
            _ => {}
        }
        let (mut templates, mut last, mut texts) = (0, None, 0);
        for piece in pieces(text) {
            match piece {
                Piece::Text(text) => {
                    check_text(text)?;
                    texts += 1;
                }
                Piece::Template(name) => {
                    last = Some(Variable::parse(name)?);
                    templates += 1;
                }
                Piece::Unclosed => {
                    return Err(format!("has {{{{ without a closing }}}} in the segment {text:?}"));
                }
            }
        }
        Ok(match (templates, last) {
            (1, Some(variable)) if texts == 0 => Kind::Template(variable),
            (0, _) if text.contains('*') => Kind::Glob,
            (0, _) => {
                crate::model::Path::parse(text).map_err(|error| error.to_string())?;
                Kind::Literal
            }
            (1, _) => Kind::Mixed,
            _ => Kind::Ambiguous,
        })
    }

    fn matches(self, wanted: &str, text: &str, values: &Values<'_>, unfilled: Unfilled) -> bool {
        match self {
            Kind::Any | Kind::Rest => true,
            Kind::Literal => wanted == text,
            Kind::Glob => wildcard(wanted.as_bytes(), text.as_bytes()),
            Kind::Template(variable) => match values.get(variable) {
                Some(value) => value == text,
                None => unfilled == Unfilled::Everything,
            },
            Kind::Ambiguous if unfilled == Unfilled::Nothing => false,
            // No value holds a `*`, so the filled text says what it means.
            Kind::Mixed | Kind::Ambiguous => {
                fill(wanted, values, unfilled).is_some_and(|glob| wildcard(glob.as_bytes(), text.as_bytes()))
            }
        }
    }
}

/// A part of a segment.
enum Piece<'a> {
    Text(&'a str),
    /// The name between the braces.
    Template(&'a str),
    Unclosed,
}

impl Piece<'_> {
    fn variable(self) -> Option<Variable> {
        match self {
            Piece::Template(name) => Variable::parse(name).ok(),
            Piece::Text(_) | Piece::Unclosed => None,
        }
    }
}

fn pieces(segment: &str) -> impl Iterator<Item = Piece<'_>> {
    let mut rest = segment;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let Some(template) = rest.strip_prefix("{{") else {
            let (text, after) = rest.split_at(rest.find("{{").unwrap_or(rest.len()));
            rest = after;
            return Some(Piece::Text(text));
        };
        let (piece, after) = match template.split_once("}}") {
            Some((name, after)) => (Piece::Template(name), after),
            None => (Piece::Unclosed, ""),
        };
        rest = after;
        Some(piece)
    })
}

fn check_text(text: &str) -> Result<(), String> {
    let odd = |c: &char| !(c.is_ascii_alphanumeric() || "._~@:+=-*".contains(*c));
    match text.chars().find(odd) {
        Some(c) => Err(format!(
            "contains {c:?}; allowed characters are A-Z a-z 0-9 . _ ~ @ : + = - and *, ** and {{{{templates}}}}"
        )),
        None => Ok(()),
    }
}

fn fill(segment: &str, values: &Values<'_>, unfilled: Unfilled) -> Option<String> {
    let mut filled = String::new();
    for piece in pieces(segment) {
        match piece {
            Piece::Text(text) => filled.push_str(text),
            other => match (other.variable().and_then(|variable| values.get(variable)), unfilled) {
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
        // As the attributes of volumes write it.
        let name = if name == "serviceAccount" { "serviceaccount" } else { name };
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_service_account_is_written_as_in_policies_or_as_in_volumes() {
        for name in ["serviceaccount", "serviceAccount"] {
            assert_eq!(Variable::parse(name).map(Variable::as_str), Ok("serviceaccount"), "{name}");
        }
        assert!(Variable::parse("ServiceAccount").is_err());
    }
}
