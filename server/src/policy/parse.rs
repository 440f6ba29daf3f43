//! From YAML to documents. Everything that is wrong is told at once, with the document, the place and the line.
//! Knows the shape of documents, not what they mean together.

use std::{collections::BTreeSet, fmt, sync::Arc};

use serde::de::{self, Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_saphyr::Spanned;

use super::{
    defaults,
    document::{Binding, Conditions, Documents, Effect, Role, RoleRule, Subject, Verbs},
    pattern::Pattern,
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
/// Most problems told at once: more of them nobody reads.
const PROBLEMS: usize = 100;

/// YAML as it stands there.
enum Node {
    Null,
    Text(String),
    /// A number or a truth value: never what is wanted here, so only its text is kept.
    Plain(String),
    List(Vec<Spanned<Node>>),
    Map(Vec<(String, Spanned<Node>)>),
}

impl Documents {
    /// Reads any number of YAML documents of kind Role or Binding.
    ///
    /// # Errors
    /// All mistakes, up to a hundred.
    pub fn parse(yaml: &str) -> Result<Self, Vec<Invalid>> {
        read(yaml, false)
    }

    /// As [`Documents::parse`], for the default roles, whose names nobody else may take.
    pub(super) fn parse_trusted(yaml: &str) -> Result<Self, Vec<Invalid>> {
        read(yaml, true)
    }
}

fn read(yaml: &str, trusted: bool) -> Result<Documents, Vec<Invalid>> {
    let nodes: Vec<Spanned<Node>> =
        serde_saphyr::from_multiple_with_options(yaml, options(yaml)).map_err(|error| {
            let line =
                error.location().map_or(String::new(), |location| format!(" (line {})", location.line()));
            vec![Invalid::new(format!("yaml{line}"), format!("is not YAML: {}", error.without_snippet()))]
        })?;
    let mut reader =
        Reader { documents: Documents::default(), problems: Vec::new(), trusted, place: String::new() };
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

/// The text bounds everything but what aliases multiply, so those are not allowed at all.
fn options(yaml: &str) -> serde_saphyr::Options {
    let most = yaml.len().saturating_mul(2).saturating_add(64);
    serde_saphyr::options! {
        with_snippet: false,
        // YAML 1.2: a user may be called y or no.
        strict_booleans: true,
        budget: serde_saphyr::budget! {
            max_documents: ROLES + BINDINGS,
            max_events: most,
            max_nodes: most,
            max_depth: 16,
            max_anchors: 0,
            max_aliases: 0,
            max_merge_keys: 0,
            max_total_scalar_bytes: yaml.len(),
        },
    }
}

struct Reader {
    documents: Documents,
    problems: Vec<Invalid>,
    trusted: bool,
    /// Of which document: `Role payments-app`, `document 3`.
    place: String,
}

type Fields<'a> = &'a [(String, Spanned<Node>)];

impl Reader {
    fn problem(&mut self, place: &str, node: &Spanned<Node>, problem: impl Into<String>) {
        if self.problems.len() < PROBLEMS {
            let comma = if place.is_empty() { "" } else { ", " };
            let field = format!("{}{comma}{place} (line {})", self.place, node.referenced.line());
            self.problems.push(Invalid::new(field, problem));
        }
    }

    fn document(&mut self, at: usize, node: &Spanned<Node>) {
        self.place = format!("document {}", at + 1);
        let fields = match &node.value {
            Node::Null => return,
            Node::Map(fields) => fields,
            other => return self.problem("", node, format!("is {other}; expected a Role or a Binding")),
        };
        let Some((_, kind)) = fields.iter().find(|(name, _)| name == "kind") else {
            return self.problem("", node, "has no kind; expected kind: Role or kind: Binding");
        };
        let name = fields.iter().find(|(name, _)| name == "name").map(|(_, name)| &name.value);
        let named = |kind: &str| match name {
            Some(Node::Text(name)) => format!("{kind} {}", name.escape_debug()),
            _ => format!("{kind} in document {}", at + 1),
        };
        match &kind.value {
            Node::Text(word) if word == "Role" => {
                self.place = named("Role");
                self.role(node, fields);
            }
            Node::Text(word) if word == "Binding" => {
                self.place = named("Binding");
                self.binding(node, fields);
            }
            other => self.problem("kind", kind, format!("is {other}; expected Role or Binding")),
        }
    }

    fn role(&mut self, node: &Spanned<Node>, fields: Fields<'_>) {
        self.known("", fields, &["kind", "name", "rules"]);
        let name = self.name(node, fields);
        let rules = self.list(node, fields, "", "rules", RULES);
        let rules =
            rules.iter().enumerate().filter_map(|(at, rule)| self.rule(&format!("rules[{at}]"), rule));
        let rules = rules.collect::<Vec<_>>();
        let Some(name) = name else { return };
        if self.documents.roles.contains_key(&name) {
            return self.problem("name", node, "is there twice");
        }
        self.documents.roles.insert(Arc::clone(&name), Arc::new(Role { name, rules }));
    }

    fn rule(&mut self, place: &str, node: &Spanned<Node>) -> Option<RoleRule> {
        let fields = self.map(place, node)?;
        self.known(place, fields, &["paths", "verbs", "effect"]);
        let mut paths = Vec::new();
        for (at, path) in self.list(node, fields, place, "paths", PATHS).iter().enumerate() {
            let place = format!("{place}.paths[{at}]");
            match self.text(&place, path).map(Pattern::parse) {
                Some(Ok(pattern)) => paths.push(pattern),
                Some(Err(problem)) => self.problem(&place, path, problem),
                None => {}
            }
        }
        let verbs = self.verbs(place, node, fields);
        let effect = match field(fields, "effect") {
            None => Effect::Allow,
            Some(effect) => match &effect.value {
                Node::Text(word) if word == "allow" => Effect::Allow,
                Node::Text(word) if word == "deny" => Effect::Deny,
                other => {
                    let problem = format!("is {other}; expected allow or deny");
                    self.problem(&format!("{place}.effect"), effect, problem);
                    return None;
                }
            },
        };
        Some(RoleRule { paths, verbs, effect })
    }

    fn verbs(&mut self, place: &str, node: &Spanned<Node>, fields: Fields<'_>) -> Verbs {
        if field(fields, "verbs").is_some_and(|verbs| matches!(&verbs.value, Node::Text(all) if all == "*")) {
            return Verbs::ALL;
        }
        let mut verbs = Verbs::default();
        for (at, verb) in self.list(node, fields, place, "verbs", Verb::ALL.len()).iter().enumerate() {
            let place = format!("{place}.verbs[{at}]");
            let Some(word) = self.text(&place, verb) else { continue };
            match Verb::parse(word) {
                Some(verb) => verbs.add(verb),
                None if word == "*" => verbs = Verbs::ALL,
                None => {
                    let all = Verb::ALL.map(Verb::as_str).join(", ");
                    self.problem(
                        &place,
                        verb,
                        format!("is {word:?}; expected one of {all}, or \"*\" for all"),
                    );
                }
            }
        }
        verbs
    }

    fn binding(&mut self, node: &Spanned<Node>, fields: Fields<'_>) {
        self.known("", fields, &["kind", "name", "role", "subjects", "conditions"]);
        let name = self.name(node, fields);
        let role = self.required(node, fields, "", "role").filter(|(text, role)| {
            let sound = is_name(text) && *text != defaults::ROOT;
            if !sound {
                self.problem("role", role, format!("is {text:?}, which is no role that can be bound"));
            }
            sound
        });
        let subjects = self.list(node, fields, "", "subjects", SUBJECTS);
        let subjects = subjects
            .iter()
            .enumerate()
            .filter_map(|(at, subject)| self.subject(&format!("subjects[{at}]"), subject));
        let subjects = subjects.collect::<Vec<_>>();
        let conditions = field(fields, "conditions").map(|conditions| self.conditions(conditions));
        let (Some(name), Some((role, _))) = (name, role) else { return };
        if self.documents.bindings.contains_key(&name) {
            return self.problem("name", node, "is there twice");
        }
        let binding = Binding {
            name: Arc::clone(&name),
            role: role.into(),
            subjects,
            conditions: conditions.unwrap_or_default(),
        };
        self.documents.bindings.insert(name, Arc::new(binding));
    }

    fn subject(&mut self, place: &str, node: &Spanned<Node>) -> Option<Subject> {
        let fields = self.map(place, node)?;
        let [(kind, inner)] = fields else {
            self.problem(place, node, "expected exactly one of serviceAccount, user, group");
            return None;
        };
        let place = format!("{place}.{kind}");
        let fields = self.map(&place, inner)?;
        match kind.as_str() {
            "serviceAccount" => {
                self.known(&place, fields, &["cluster", "namespace", "name"]);
                let cluster = self.word(inner, fields, &place, "cluster");
                let namespace = self.word_or_any(inner, fields, &place, "namespace");
                let name = self.word_or_any(inner, fields, &place, "name");
                let (cluster, namespace, name) = (cluster?, namespace?, name?);
                if namespace.is_none() && name.is_some() {
                    let problem = "has namespace \"*\" with a name of its own: whoever may make a namespace could take it; \
                                   name must then be \"*\" too";
                    self.problem(&place, inner, problem);
                    return None;
                }
                Some(Subject::ServiceAccount { cluster, namespace, name })
            }
            "user" | "group" => {
                self.known(&place, fields, &["method", "name"]);
                let (method, name) =
                    (self.word(inner, fields, &place, "method"), self.word(inner, fields, &place, "name"));
                let (method, name) = (method?, name?);
                Some(if kind == "user" {
                    Subject::User { method, name }
                } else {
                    Subject::Group { method, name }
                })
            }
            _ => {
                self.problem(
                    &place,
                    inner,
                    "is not a kind of subject; expected serviceAccount, user or group",
                );
                None
            }
        }
    }

    fn conditions(&mut self, node: &Spanned<Node>) -> Conditions {
        let Some(fields) = self.map("conditions", node) else { return Conditions::default() };
        self.known("conditions", fields, &["cidrs", "from", "until"]);
        let mut cidrs = Vec::new();
        if field(fields, "cidrs").is_some() {
            for (at, cidr) in self.list(node, fields, "conditions", "cidrs", CIDRS).iter().enumerate() {
                let place = format!("conditions.cidrs[{at}]");
                let Some(text) = self.text(&place, cidr) else { continue };
                match text.parse::<ipnet::IpNet>() {
                    // A mapped network would never match: peers are compared in their IPv4 form.
                    Ok(net) if net.addr().to_canonical() != net.addr() => {
                        self.problem(&place, cidr, format!("is {text:?}; write the IPv4 network itself"));
                    }
                    Ok(net) if net.trunc() != net => {
                        let problem =
                            format!("is {text:?}, an address within a network; expected {}", net.trunc());
                        self.problem(&place, cidr, problem);
                    }
                    Ok(net) => cidrs.push(net),
                    Err(_) => {
                        self.problem(
                            &place,
                            cidr,
                            format!("is {text:?}; expected a network such as 10.0.0.0/8"),
                        );
                    }
                }
            }
        }
        let (from, until) = (self.time(fields, "from"), self.time(fields, "until"));
        if from.zip(until).is_some_and(|(from, until)| until <= from) {
            self.problem("conditions", node, "has an until that is not after its from");
        }
        Conditions { cidrs, from, until }
    }

    fn time(&mut self, fields: Fields<'_>, name: &str) -> Option<Timestamp> {
        let node = field(fields, name)?;
        let place = format!("conditions.{name}");
        let text = self.text(&place, node)?;
        let time = Timestamp::parse_rfc3339(text);
        if time.is_none() {
            self.problem(&place, node, format!("is {text:?}; expected a time such as 2027-01-01T00:00:00Z"));
        }
        time
    }

    fn known(&mut self, place: &str, fields: Fields<'_>, known: &[&str]) {
        for (name, node) in fields.iter().filter(|(name, _)| !known.contains(&name.as_str())) {
            self.problem(
                place,
                node,
                format!("has the unknown field {name:?}; there are {}", known.join(", ")),
            );
        }
    }

    fn name(&mut self, node: &Spanned<Node>, fields: Fields<'_>) -> Option<Arc<str>> {
        let (text, name) = self.required(node, fields, "", "name")?;
        if !is_name(text) {
            let problem =
                format!("is {text:?}; expected 1 to {NAME_BYTES} of a-z 0-9 and -, and not - at the start");
            self.problem("name", name, problem);
            return None;
        }
        if !self.trusted && defaults::RESERVED.contains(&text) {
            self.problem("name", name, format!("is {text:?}, which is the name of a built-in role"));
            return None;
        }
        Some(text.into())
    }

    /// A name of the outside world: nothing is folded, but nothing that cannot be read is taken either.
    fn word(
        &mut self,
        node: &Spanned<Node>,
        fields: Fields<'_>,
        place: &str,
        name: &str,
    ) -> Option<Arc<str>> {
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
        self.problem(&join(place, name), word, problem);
        None
    }

    fn word_or_any(
        &mut self,
        node: &Spanned<Node>,
        fields: Fields<'_>,
        place: &str,
        name: &str,
    ) -> Option<Option<Arc<str>>> {
        if field(fields, name).is_some_and(|word| matches!(&word.value, Node::Text(any) if any == "*")) {
            return Some(None);
        }
        self.word(node, fields, place, name).map(Some)
    }

    fn required<'a>(
        &mut self,
        node: &Spanned<Node>,
        fields: Fields<'a>,
        place: &str,
        name: &str,
    ) -> Option<(&'a str, &'a Spanned<Node>)> {
        let Some(found) = field(fields, name) else {
            self.problem(place, node, format!("has no {name}"));
            return None;
        };
        self.text(&join(place, name), found).map(|text| (text, found))
    }

    fn text<'a>(&mut self, place: &str, node: &'a Spanned<Node>) -> Option<&'a str> {
        match &node.value {
            Node::Text(text) => Some(text),
            other => {
                self.problem(place, node, format!("is {other}; expected text"));
                None
            }
        }
    }

    fn map<'a>(&mut self, place: &str, node: &'a Spanned<Node>) -> Option<Fields<'a>> {
        match &node.value {
            Node::Map(fields) => Some(fields),
            other => {
                self.problem(place, node, format!("is {other}; expected fields"));
                None
            }
        }
    }

    /// A list of at least one and at most `most`.
    fn list<'a>(
        &mut self,
        node: &Spanned<Node>,
        fields: Fields<'a>,
        place: &str,
        name: &str,
        most: usize,
    ) -> &'a [Spanned<Node>] {
        let Some(found) = field(fields, name) else {
            self.problem(place, node, format!("has no {name}"));
            return &[];
        };
        let problem = match &found.value {
            Node::List(items) if items.is_empty() => "is empty; expected at least one".to_owned(),
            Node::List(items) if items.len() > most => {
                format!("has {} entries; at most {most} are allowed", items.len())
            }
            Node::List(items) => return items,
            other => format!("is {other}; expected a list"),
        };
        self.problem(&join(place, name), found, problem);
        &[]
    }
}

fn field<'a>(fields: Fields<'a>, name: &str) -> Option<&'a Spanned<Node>> {
    fields.iter().find(|(field, _)| field == name).map(|(_, node)| node)
}

fn join(place: &str, name: &str) -> String {
    if place.is_empty() { name.to_owned() } else { format!("{place}.{name}") }
}

/// `[a-z0-9][a-z0-9-]{0,62}`: one spelling only, so no two names differ by case or composition (CVE-2025-5999).
fn is_name(text: &str) -> bool {
    (1..=NAME_BYTES).contains(&text.len())
        && !text.starts_with('-')
        && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
}

impl fmt::Display for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Node::Null => f.write_str("empty"),
            Node::Text(text) => write!(f, "{text:?}"),
            Node::Plain(text) => write!(f, "{text} without quotes"),
            Node::List(_) => f.write_str("a list"),
            Node::Map(_) => f.write_str("a map"),
        }
    }
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(NodeVisitor)
    }
}

struct NodeVisitor;

impl<'de> Visitor<'de> for NodeVisitor {
    type Value = Node;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("YAML")
    }

    fn visit_unit<E: de::Error>(self) -> Result<Node, E> {
        Ok(Node::Null)
    }

    fn visit_none<E: de::Error>(self) -> Result<Node, E> {
        Ok(Node::Null)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Node, D::Error> {
        Node::deserialize(deserializer)
    }

    fn visit_bool<E: de::Error>(self, value: bool) -> Result<Node, E> {
        Ok(Node::Plain(value.to_string()))
    }

    fn visit_i64<E: de::Error>(self, value: i64) -> Result<Node, E> {
        Ok(Node::Plain(value.to_string()))
    }

    fn visit_u64<E: de::Error>(self, value: u64) -> Result<Node, E> {
        Ok(Node::Plain(value.to_string()))
    }

    fn visit_i128<E: de::Error>(self, value: i128) -> Result<Node, E> {
        Ok(Node::Plain(value.to_string()))
    }

    fn visit_u128<E: de::Error>(self, value: u128) -> Result<Node, E> {
        Ok(Node::Plain(value.to_string()))
    }

    fn visit_f64<E: de::Error>(self, value: f64) -> Result<Node, E> {
        Ok(Node::Plain(value.to_string()))
    }

    fn visit_str<E: de::Error>(self, value: &str) -> Result<Node, E> {
        Ok(Node::Text(value.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Node, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element()? {
            list.push(item);
        }
        Ok(Node::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<Node, A::Error> {
        let (mut map, mut seen) = (Vec::new(), BTreeSet::new());
        while let Some((name, value)) = fields.next_entry::<String, _>()? {
            if !seen.insert(name.clone()) {
                return Err(de::Error::custom(format!("the field {name:?} is there twice")));
            }
            map.push((name, value));
        }
        Ok(Node::Map(map))
    }
}
