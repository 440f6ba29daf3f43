//! From YAML to documents. Everything that is wrong is told at once, with the document, the place and the line.
//! Knows the shape of documents, not what they mean together.

use std::{fmt, sync::Arc};

use strongroom_yaml::{Fields, Limits, Node, NotYaml, Value, field};

use super::{
    defaults,
    document::{Binding, Conditions, Documents, ObjectKind, Subject},
    pattern::Parsed,
    role::{ParsedRule, Role},
    verbs::{Effect, Verbs},
};
use crate::model::{Invalid, Timestamp, Verb};

/// Most roles: what the speed of decisions is measured with, twice over.
pub(super) const ROLES: usize = 20_000;
/// Most bindings, for the same reason.
pub(super) const BINDINGS: usize = 200_000;
/// Most rules of a role: a role is something a person reads.
const RULES: usize = 256;
/// Most paths of a rule.
const PATHS: usize = 64;
/// Most subjects of a binding; more of them are a group.
const SUBJECTS: usize = 1024;
/// Most networks of a condition.
const CIDRS: usize = 64;
/// Longest name of a role or binding: that of a Kubernetes label.
const NAME_BYTES: usize = 63;
/// Longest name of a subject: that of a Kubernetes object.
const SUBJECT_BYTES: usize = 253;
/// Deepest nesting of a document: a field of a subject in the list of a binding is the fourth level.
const DEPTH: usize = 8;
/// Most problems told at once: more of them nobody reads.
const PROBLEMS: usize = 100;

impl Documents {
    /// Reads any number of YAML documents of kind Role or Binding.
    ///
    /// # Errors
    /// All mistakes, up to a hundred.
    pub fn parse(yaml: &str) -> Result<Self, Vec<Invalid>> {
        read(yaml, Author::Person)
    }

    /// As [`Documents::parse`], for the default roles, whose names nobody else may take.
    pub(super) fn parse_trusted(yaml: &str) -> Result<Self, Vec<Invalid>> {
        read(yaml, Author::Server)
    }
}

/// Whose documents they are.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Author {
    Person,
    /// The default roles.
    Server,
    /// What a person wrote, perhaps for an earlier release.
    Store,
}

/// As [`Documents::parse`], for what is stored: JSON, or YAML of an earlier release.
pub(super) fn stored(text: &str) -> Result<Documents, Vec<Invalid>> {
    if !text.starts_with("{\"") {
        return read(text, Author::Store);
    }
    let node = strongroom_yaml::read_json(text).map_err(not_yaml)?;
    take(&[node], Author::Store)
}

fn read(yaml: &str, author: Author) -> Result<Documents, Vec<Invalid>> {
    let limits = Limits { documents: ROLES + BINDINGS, depth: DEPTH };
    take(&strongroom_yaml::read_all(yaml, limits).map_err(not_yaml)?, author)
}

fn not_yaml(error: NotYaml) -> Vec<Invalid> {
    vec![Invalid::new("yaml", error.to_string())]
}

fn take(nodes: &[Node], author: Author) -> Result<Documents, Vec<Invalid>> {
    let mut reader =
        Reader { documents: Documents::default(), problems: Vec::new(), author, reading: Reading::default() };
    for (at, node) in nodes.iter().enumerate() {
        reader.document(at, node);
    }
    let Reader { documents, mut problems, .. } = reader;
    for (what, count, most) in
        [("roles", documents.roles.len(), ROLES), ("bindings", documents.bindings.len(), BINDINGS)]
    {
        if count > most {
            problems.push(Invalid::new("yaml", format!("has {count} {what}; at most {most} are allowed")));
        }
    }
    if problems.is_empty() { Ok(documents) } else { Err(problems) }
}

struct Reader<'a> {
    documents: Documents,
    problems: Vec<Invalid>,
    author: Author,
    reading: Reading<'a>,
}

/// The document that is being read: `Role payments-app`, `document 3`.
#[derive(Clone, Copy, Default)]
struct Reading<'a> {
    kind: Option<ObjectKind>,
    name: Option<&'a str>,
    at: usize,
}

/// A place within it: `rules[2].paths`. It becomes text only if something is wrong there.
#[derive(Clone, Copy)]
enum Place<'a> {
    Document,
    Field(&'a Place<'a>, &'a str),
    Item(&'a Place<'a>, usize),
}

const DOCUMENT: &Place<'static> = &Place::Document;

impl<'a> Reader<'a> {
    fn problem(&mut self, place: &Place<'_>, node: &Node, problem: impl Into<String>) {
        if self.problems.len() < PROBLEMS {
            let comma = if matches!(place, Place::Document) { "" } else { ", " };
            let field = format!("{}{comma}{place} (line {})", self.reading, node.line);
            self.problems.push(Invalid::new(field, problem));
        }
    }

    fn document(&mut self, at: usize, node: &'a Node) {
        self.reading = Reading { at: at + 1, ..Reading::default() };
        let fields = match &node.value {
            Value::Null => return,
            Value::Map(fields) => fields,
            other => {
                return self.problem(DOCUMENT, node, format!("is {other}; expected a Role or a Binding"));
            }
        };
        let Some((_, kind)) = fields.iter().find(|(name, _)| name == "kind") else {
            return self.problem(DOCUMENT, node, "has no kind; expected kind: Role or kind: Binding");
        };
        let name = fields.iter().find(|(name, _)| name == "name").and_then(|(_, name)| name.text().ok());
        match self.text(&Place::Field(DOCUMENT, "kind"), kind) {
            Some("Role") => {
                self.reading = Reading { kind: Some(ObjectKind::Role), name, ..self.reading };
                self.role(node, fields);
            }
            Some("Binding") => {
                self.reading = Reading { kind: Some(ObjectKind::Binding), name, ..self.reading };
                self.binding(node, fields);
            }
            Some(word) => self.problem(
                &Place::Field(DOCUMENT, "kind"),
                kind,
                format!("is {word:?}; expected Role or Binding"),
            ),
            None => {}
        }
    }

    fn role(&mut self, node: &'a Node, fields: Fields<'a>) {
        self.known(DOCUMENT, fields, &["kind", "name", "rules"]);
        let name = self.name(node, fields);
        let rules = self.list(node, fields, DOCUMENT, "rules", RULES);
        let place = Place::Field(DOCUMENT, "rules");
        let rules =
            rules.iter().enumerate().filter_map(|(at, rule)| self.rule(&Place::Item(&place, at), rule));
        let rules = rules.collect::<Vec<_>>();
        let Some(name) = name else { return };
        if self.documents.roles.contains_key(&name) {
            return self.problem(&Place::Field(DOCUMENT, "name"), node, "appears twice");
        }
        self.documents.roles.insert(Arc::clone(&name), Arc::new(Role::new(name, rules)));
    }

    fn rule(&mut self, place: &Place<'_>, node: &'a Node) -> Option<ParsedRule<'a>> {
        let fields = self.map(place, node)?;
        self.known(place, fields, &["paths", "verbs", "effect"]);
        let mut paths = Vec::new();
        for (at, path) in self.list(node, fields, place, "paths", PATHS).iter().enumerate() {
            let place = &Place::Item(&Place::Field(place, "paths"), at);
            match self.text(place, path).map(Parsed::parse) {
                Some(Ok(pattern)) if pattern.is_ambiguous() && self.author != Author::Store => {
                    let problem = "has two templates in one segment, so that nobody can tell where the one ends and the \
                                   other begins; put a / between them";
                    self.problem(place, path, problem);
                }
                Some(Ok(pattern)) => paths.push(pattern),
                Some(Err(problem)) => self.problem(place, path, problem),
                None => {}
            }
        }
        let verbs = self.verbs(place, node, fields);
        let effect = match field(fields, "effect") {
            None => Effect::Allow,
            Some(effect) => {
                let place = &Place::Field(place, "effect");
                match self.text(place, effect)? {
                    "allow" => Effect::Allow,
                    "deny" => Effect::Deny,
                    word => {
                        self.problem(place, effect, format!("is {word:?}; expected allow or deny"));
                        return None;
                    }
                }
            }
        };
        Some(ParsedRule { paths, verbs, effect })
    }

    fn verbs(&mut self, place: &Place<'_>, node: &Node, fields: Fields<'_>) -> Verbs {
        if field(fields, "verbs").is_some_and(|verbs| matches!(&verbs.value, Value::Text(all) if all == "*"))
        {
            return Verbs::ALL;
        }
        let mut verbs = Verbs::default();
        for (at, verb) in self.list(node, fields, place, "verbs", Verb::ALL.len()).iter().enumerate() {
            let place = &Place::Item(&Place::Field(place, "verbs"), at);
            let Some(word) = self.text(place, verb) else { continue };
            match Verb::parse(word) {
                Some(verb) => verbs.add(verb),
                None if word == "*" => verbs = Verbs::ALL,
                None => {
                    let all = Verb::ALL.map(Verb::as_str).join(", ");
                    self.problem(
                        place,
                        verb,
                        format!("is {word:?}; expected one of {all}, or \"*\" for all"),
                    );
                }
            }
        }
        verbs
    }

    fn binding(&mut self, node: &Node, fields: Fields<'_>) {
        self.known(DOCUMENT, fields, &["kind", "name", "role", "subjects", "conditions"]);
        let name = self.name(node, fields);
        let role = self.required(node, fields, DOCUMENT, "role").filter(|(text, role)| {
            let sound = is_name(text) && *text != defaults::ROOT;
            if !sound {
                self.problem(
                    &Place::Field(DOCUMENT, "role"),
                    role,
                    format!("is {text:?}, which is not a role that can be bound"),
                );
            }
            sound
        });
        let subjects = self.list(node, fields, DOCUMENT, "subjects", SUBJECTS);
        let place = Place::Field(DOCUMENT, "subjects");
        let subjects = subjects
            .iter()
            .enumerate()
            .filter_map(|(at, subject)| self.subject(&Place::Item(&place, at), subject));
        let subjects = subjects.collect::<Vec<_>>();
        let conditions = field(fields, "conditions").map(|conditions| self.conditions(conditions));
        let (Some(name), Some((role, _))) = (name, role) else { return };
        if self.documents.bindings.contains_key(&name) {
            return self.problem(&Place::Field(DOCUMENT, "name"), node, "appears twice");
        }
        let binding = Binding {
            name: Arc::clone(&name),
            role: role.into(),
            subjects,
            conditions: conditions.unwrap_or_default(),
        };
        self.documents.bindings.insert(name, Arc::new(binding));
    }

    fn subject(&mut self, place: &Place<'_>, node: &Node) -> Option<Subject> {
        let fields = self.map(place, node)?;
        let [(kind, inner)] = fields else {
            self.problem(place, node, "expected exactly one of serviceAccount, user, group");
            return None;
        };
        let place = &Place::Field(place, kind);
        let fields = self.map(place, inner)?;
        match kind.as_str() {
            "serviceAccount" => {
                self.known(place, fields, &["cluster", "namespace", "name"]);
                let cluster = self.word(inner, fields, place, "cluster");
                let namespace = self.word_or_any(inner, fields, place, "namespace");
                let name = self.word_or_any(inner, fields, place, "name");
                let (cluster, namespace, name) = (cluster?, namespace?, name?);
                if namespace.is_none() && name.is_some() {
                    let problem = "has namespace \"*\" with a name of its own: whoever may make a namespace could take it; \
                                   name must then be \"*\" too";
                    self.problem(place, inner, problem);
                    return None;
                }
                Some(Subject::ServiceAccount { cluster, namespace, name })
            }
            "user" | "group" => {
                self.known(place, fields, &["method", "name"]);
                let (method, name) =
                    (self.word(inner, fields, place, "method"), self.word(inner, fields, place, "name"));
                let (method, name) = (method?, name?);
                Some(if kind == "user" {
                    Subject::User { method, name }
                } else {
                    Subject::Group { method, name }
                })
            }
            _ => {
                self.problem(
                    place,
                    inner,
                    "is not a kind of subject; expected serviceAccount, user or group",
                );
                None
            }
        }
    }

    fn conditions(&mut self, node: &Node) -> Conditions {
        let place = &Place::Field(DOCUMENT, "conditions");
        let Some(fields) = self.map(place, node) else { return Conditions::default() };
        self.known(place, fields, &["cidrs", "from", "until", "pod", "wrapped"]);
        let mut cidrs = Vec::new();
        if field(fields, "cidrs").is_some() {
            for (at, cidr) in self.list(node, fields, place, "cidrs", CIDRS).iter().enumerate() {
                let place = &Place::Item(&Place::Field(place, "cidrs"), at);
                let Some(text) = self.text(place, cidr) else { continue };
                match text.parse::<ipnet::IpNet>() {
                    // A mapped network would never match: peers are compared in their IPv4 form.
                    Ok(net) if net.addr().to_canonical() != net.addr() => {
                        self.problem(place, cidr, format!("is {text:?}; write the IPv4 network itself"));
                    }
                    Ok(net) if net.trunc() != net => {
                        let problem =
                            format!("is {text:?}, an address within a network; expected {}", net.trunc());
                        self.problem(place, cidr, problem);
                    }
                    Ok(net) => cidrs.push(net),
                    Err(_) => {
                        self.problem(
                            place,
                            cidr,
                            format!("is {text:?}; expected a network such as 10.0.0.0/8"),
                        );
                    }
                }
            }
        }
        let (from, until) = (self.time(place, fields, "from"), self.time(place, fields, "until"));
        if from.zip(until).is_some_and(|(from, until)| until <= from) {
            self.problem(place, node, "has an until that is not after its from");
        }
        let (pod, wrapped) = (self.flag(place, fields, "pod"), self.flag(place, fields, "wrapped"));
        Conditions { cidrs, from, until, pod, wrapped }
    }

    /// `true` or nothing: there is no binding for whoever is not in a pod, or wants to see an answer.
    fn flag(&mut self, place: &Place<'_>, fields: Fields<'_>, name: &str) -> bool {
        let Some(node) = field(fields, name) else { return false };
        if node.value != Value::Bool(true) {
            self.problem(
                &Place::Field(place, name),
                node,
                format!("is {}; expected true, or leave it out", node.value),
            );
        }
        true
    }

    fn time(&mut self, place: &Place<'_>, fields: Fields<'_>, name: &str) -> Option<Timestamp> {
        let node = field(fields, name)?;
        let place = &Place::Field(place, name);
        let text = self.text(place, node)?;
        let time = Timestamp::parse_rfc3339(text);
        if time.is_none() {
            self.problem(place, node, format!("is {text:?}; expected a time such as 2027-01-01T00:00:00Z"));
        }
        time
    }

    fn known(&mut self, place: &Place<'_>, fields: Fields<'_>, known: &[&str]) {
        for (name, node) in fields.iter().filter(|(name, _)| !known.contains(&name.as_str())) {
            self.problem(
                place,
                node,
                format!("has the unknown field {name:?}; the known ones are {}", known.join(", ")),
            );
        }
    }

    fn name(&mut self, node: &Node, fields: Fields<'_>) -> Option<Arc<str>> {
        let (text, name) = self.required(node, fields, DOCUMENT, "name")?;
        if !is_name(text) {
            let problem =
                format!("is {text:?}; expected 1 to {NAME_BYTES} of a-z 0-9 and -, and not - at the start");
            self.problem(&Place::Field(DOCUMENT, "name"), name, problem);
            return None;
        }
        if self.author != Author::Server && defaults::RESERVED.contains(&text) {
            self.problem(
                &Place::Field(DOCUMENT, "name"),
                name,
                format!("is {text:?}, which is the name of a built-in role"),
            );
            return None;
        }
        Some(text.into())
    }

    /// A name of the outside world: nothing is folded, but nothing that cannot be read is taken either.
    fn word(&mut self, node: &Node, fields: Fields<'_>, place: &Place<'_>, name: &str) -> Option<Arc<str>> {
        let (text, word) = self.required(node, fields, place, name)?;
        let odd = |c: char| {
            c.is_control()
                || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}')
        };
        let problem = if text.is_empty() || text.len() > SUBJECT_BYTES {
            format!("has {} bytes; expected 1 to {SUBJECT_BYTES}", text.len())
        } else if text.contains(odd) || text.trim() != text {
            format!("is {text:?}, which has spaces at an end or characters that cannot be seen")
        } else if text.contains('*') {
            "holds *; it is only allowed alone, as the name or namespace of a serviceAccount".to_owned()
        } else {
            return Some(text.into());
        };
        self.problem(&Place::Field(place, name), word, problem);
        None
    }

    fn word_or_any(
        &mut self,
        node: &Node,
        fields: Fields<'_>,
        place: &Place<'_>,
        name: &str,
    ) -> Option<Option<Arc<str>>> {
        if field(fields, name).is_some_and(|word| matches!(&word.value, Value::Text(any) if any == "*")) {
            return Some(None);
        }
        self.word(node, fields, place, name).map(Some)
    }

    fn required<'n>(
        &mut self,
        node: &Node,
        fields: Fields<'n>,
        place: &Place<'_>,
        name: &str,
    ) -> Option<(&'n str, &'n Node)> {
        let Some(found) = field(fields, name) else {
            self.problem(place, node, format!("has no {name}"));
            return None;
        };
        self.text(&Place::Field(place, name), found).map(|text| (text, found))
    }

    /// What was found, or its problem on the list.
    fn keep<T>(&mut self, place: &Place<'_>, node: &Node, found: Result<T, String>) -> Option<T> {
        found.map_err(|problem| self.problem(place, node, problem)).ok()
    }

    fn text<'n>(&mut self, place: &Place<'_>, node: &'n Node) -> Option<&'n str> {
        self.keep(place, node, node.text())
    }

    fn map<'n>(&mut self, place: &Place<'_>, node: &'n Node) -> Option<Fields<'n>> {
        self.keep(place, node, node.fields())
    }

    /// A list of at least one and at most `most`.
    fn list<'n>(
        &mut self,
        node: &Node,
        fields: Fields<'n>,
        place: &Place<'_>,
        name: &str,
        most: usize,
    ) -> &'n [Node] {
        let Some(found) = field(fields, name) else {
            self.problem(place, node, format!("has no {name}"));
            return &[];
        };
        self.keep(&Place::Field(place, name), found, found.items(most)).unwrap_or_default()
    }
}

impl fmt::Display for Reading<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.kind, self.name) {
            (None, _) => write!(f, "document {}", self.at),
            (Some(kind), None) => write!(f, "{kind} in document {}", self.at),
            (Some(kind), Some(name)) => write!(f, "{kind} {}", name.escape_debug()),
        }
    }
}

impl fmt::Display for Place<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Place::Document => Ok(()),
            Place::Field(Place::Document, name) => f.write_str(name),
            Place::Field(place, name) => write!(f, "{place}.{name}"),
            Place::Item(place, at) => write!(f, "{place}[{at}]"),
        }
    }
}

/// `[a-z0-9][a-z0-9-]{0,62}`: one spelling only, so no two names differ by case or composition (CVE-2025-5999).
fn is_name(text: &str) -> bool {
    (1..=NAME_BYTES).contains(&text.len())
        && !text.starts_with('-')
        && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
}
