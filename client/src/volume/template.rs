//! Texts with values in them, parsed once: what a text may name is known before any secret is read.

use strongroom_proto::limits::KEY_BYTES;

use super::filter::Filter;

/// A text with `{{key}}`, or `{{alias.key}}` where there are several secrets, and filters behind it: `{{key | json}}`.
/// `{{"{{"}}` stands for two braces.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Template {
    parts: Vec<Part>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Part {
    Text(String),
    Value(Placeholder),
}

/// Stands for a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Placeholder {
    /// Which of the entry's secrets.
    pub source: usize,
    /// Which key of it.
    pub key: String,
    /// What is done to the value before it is in the text, in this order.
    pub filters: Vec<Filter>,
}

/// Why a text is not a template.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidTemplate {
    /// `{{` without an end.
    #[error("has a {{{{ without }}}}")]
    Unclosed,
    /// The placeholder is not a key.
    #[error(
        "has the placeholder {0:?}, which is not a key; expected A-Z a-z 0-9 . _ - between {{{{ and }}}}"
    )]
    NoKey(String),
    /// There are several secrets and none is named.
    #[error("has the placeholder {0:?}; expected {{{{alias.key}}}} with an alias of `from`")]
    NoAlias(String),
    /// There is no such filter.
    #[error("has the filter {:?}; expected {known}", .0, known = filters())]
    NoFilter(String),
    /// There is no such alias in `from`.
    #[error("has the placeholder {0:?}, but `from` has no such alias")]
    UnknownAlias(String),
}

impl Template {
    /// Reads a text. Without `aliases` there is one secret and a placeholder is a key of it.
    pub(super) fn parse(text: &str, aliases: Option<&[String]>) -> Result<Self, InvalidTemplate> {
        let (mut parts, mut rest) = (Vec::new(), text);
        while let Some((before, after)) = rest.split_once("{{") {
            push_text(&mut parts, before);
            rest = match after.strip_prefix("\"{{\"}}") {
                Some(after) => {
                    push_text(&mut parts, "{{");
                    after
                }
                None => {
                    let (name, after) = after.split_once("}}").ok_or(InvalidTemplate::Unclosed)?;
                    parts.push(Part::Value(placeholder(name, aliases)?));
                    after
                }
            };
        }
        push_text(&mut parts, rest);
        Ok(Self { parts })
    }

    /// The parts of the text, in order.
    pub fn placeholders(&self) -> impl Iterator<Item = &Placeholder> {
        self.parts.iter().filter_map(|part| match part {
            Part::Value(placeholder) => Some(placeholder),
            Part::Text(_) => None,
        })
    }

    pub(super) fn parts(&self) -> &[Part] {
        &self.parts
    }
}

fn push_text(parts: &mut Vec<Part>, text: &str) {
    match parts.last_mut() {
        _ if text.is_empty() => {}
        Some(Part::Text(last)) => last.push_str(text),
        _ => parts.push(Part::Text(text.to_owned())),
    }
}

/// `json, yaml, ...`
fn filters() -> String {
    Filter::ALL.map(|(name, _)| name).join(", ")
}

fn placeholder(text: &str, aliases: Option<&[String]>) -> Result<Placeholder, InvalidTemplate> {
    let cut = |text: &str| text.chars().take(64).collect::<String>();
    let mut words = text.split('|').map(str::trim);
    let name = words.next().unwrap_or_default();
    let shown = || cut(name);
    let (source, key) = match aliases {
        None => (0, name),
        Some(aliases) => {
            let (alias, key) = name.split_once('.').ok_or_else(|| InvalidTemplate::NoAlias(shown()))?;
            let known = aliases.iter().position(|known| known == alias);
            (known.ok_or_else(|| InvalidTemplate::UnknownAlias(shown()))?, key)
        }
    };
    if !is_key(key) {
        return Err(InvalidTemplate::NoKey(shown()));
    }
    let filter = |word: &str| Filter::parse(word).ok_or_else(|| InvalidTemplate::NoFilter(cut(word)));
    Ok(Placeholder { source, key: key.to_owned(), filters: words.map(filter).collect::<Result<_, _>>()? })
}

/// The server's rule for keys of a secret.
pub(super) fn is_key(text: &str) -> bool {
    (1..=KEY_BYTES).contains(&text.len())
        && !text.starts_with("..")
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(text: &str) -> Part {
        Part::Text(text.into())
    }

    fn value(source: usize, key: &str) -> Part {
        Part::Value(Placeholder { source, key: key.into(), filters: Vec::new() })
    }

    #[test]
    fn a_text_is_parts() {
        let template = Template::parse("postgres://{{user}}:{{ a.b }}@db}}", None).unwrap();
        let expected = [text("postgres://"), value(0, "user"), text(":"), value(0, "a.b"), text("@db}}")];
        assert_eq!(template.parts(), expected);
        assert_eq!(Template::parse("", None).unwrap().parts(), []);
        assert_eq!(Template::parse("a{{\"{{\"}}b}}", None).unwrap().parts(), [text("a{{b}}")]);
    }

    #[test]
    fn an_alias_ends_at_the_first_dot() {
        let aliases = ["db".to_owned(), "stripe".to_owned()];
        let template = Template::parse("{{stripe.api.key}}{{db.user}}", Some(&aliases)).unwrap();
        assert_eq!(template.parts(), [value(1, "api.key"), value(0, "user")]);
        let wrong = |text| Template::parse(text, Some(&aliases)).unwrap_err();
        assert_eq!(wrong("{{user}}"), InvalidTemplate::NoAlias("user".into()));
        assert_eq!(wrong("{{x.user}}"), InvalidTemplate::UnknownAlias("x.user".into()));
        assert_eq!(wrong("{{db.}}"), InvalidTemplate::NoKey("db.".into()));
    }

    #[test]
    fn filters_stand_behind_the_key() {
        let template = Template::parse("{{ key | trim|json }}", None).unwrap();
        let placeholder = template.placeholders().next().unwrap();
        assert_eq!(
            (placeholder.key.as_str(), placeholder.filters.as_slice()),
            ("key", &[Filter::Trim, Filter::Json][..])
        );
        for (text, word) in [("{{key | yml}}", "yml"), ("{{key |}}", ""), ("{{key|json|}}", "")] {
            let problem = Template::parse(text, None).unwrap_err();
            assert_eq!(problem, InvalidTemplate::NoFilter(word.into()));
            assert!(
                problem
                    .to_string()
                    .ends_with("expected json, yaml, urlencode, shell, properties, base64, trim")
            );
        }
    }

    #[test]
    fn what_is_no_placeholder_is_told() {
        assert_eq!(Template::parse("{{user", None), Err(InvalidTemplate::Unclosed));
        for name in ["", "a b", "..a", "{{a", "|json"] {
            let parsed = Template::parse(&format!("{{{{{name}}}}}"), None);
            assert!(matches!(parsed, Err(InvalidTemplate::NoKey(_))), "{name:?}: {parsed:?}");
        }
    }
}
