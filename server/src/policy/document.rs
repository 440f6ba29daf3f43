//! Roles and bindings as parsed, and their one canonical text. Knows no index and no store.

use std::{collections::BTreeMap, fmt, fmt::Write, sync::Arc};

use ipnet::IpNet;

use super::{defaults, role::Role, verbs::Effect};
use crate::model::{Invalid, Timestamp};

/// Any number of roles and bindings, by name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Documents {
    /// Without the default ones.
    pub(super) roles: BTreeMap<Arc<str>, Arc<Role>>,
    pub(super) bindings: BTreeMap<Arc<str>, Arc<Binding>>,
}

/// The two kinds of documents.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ObjectKind {
    Role,
    /// Who has a role.
    Binding,
}

/// A role for subjects.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Binding {
    pub(super) name: Arc<str>,
    pub(super) role: Arc<str>,
    pub(super) subjects: Vec<Subject>,
    pub(super) conditions: Conditions,
}

/// Who. A missing name is `*`; a missing namespace too, and then the name is missing as well: an account name alone,
/// in whatever namespace, would go to anybody who may make a namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Subject {
    ServiceAccount { cluster: Arc<str>, namespace: Option<Arc<str>>, name: Option<Arc<str>> },
    User { method: Arc<str>, name: Arc<str> },
    Group { method: Arc<str>, name: Arc<str> },
}

/// When a binding counts. All that are given must hold.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Conditions {
    pub(super) cidrs: Vec<IpNet>,
    /// From this moment on.
    pub(super) from: Option<Timestamp>,
    /// Before this moment.
    pub(super) until: Option<Timestamp>,
    /// Only for a token that is bound to a pod: one made for the account itself outlives every pod.
    pub(super) pod: bool,
    /// Only for answers that are wrapped.
    pub(super) wrapped: bool,
}

impl Documents {
    /// Canonical YAML of all, roles first, each sorted by name. Parses to the same.
    pub fn to_yaml(&self) -> String {
        let roles = self.roles.values().map(|role| role.to_string());
        let bindings = self.bindings.values().map(|binding| binding.to_string());
        roles.chain(bindings).collect::<Vec<_>>().join("---\n")
    }

    /// Canonical YAML of one document.
    pub(super) fn text(&self, kind: ObjectKind, name: &str) -> Option<String> {
        match kind {
            ObjectKind::Role => self.roles.get(name).map(|role| role.to_string()),
            ObjectKind::Binding => self.bindings.get(name).map(|binding| binding.to_string()),
        }
    }

    pub(super) fn remove(&mut self, kind: ObjectKind, name: &str) -> bool {
        match kind {
            ObjectKind::Role => self.roles.remove(name).is_some(),
            ObjectKind::Binding => self.bindings.remove(name).is_some(),
        }
    }

    /// Takes over one document of `other`, if it is there.
    pub(super) fn take_over(&mut self, other: &Documents, kind: ObjectKind, name: &Arc<str>) -> bool {
        match kind {
            ObjectKind::Role => {
                let role = other.roles.get(name);
                self.roles.extend(role.map(|role| (Arc::clone(name), Arc::clone(role))));
                role.is_some()
            }
            ObjectKind::Binding => {
                let binding = other.bindings.get(name);
                self.bindings.extend(binding.map(|binding| (Arc::clone(name), Arc::clone(binding))));
                binding.is_some()
            }
        }
    }

    pub(super) fn extend(&mut self, other: Documents) {
        self.roles.extend(other.roles);
        self.bindings.extend(other.bindings);
    }

    pub fn names(&self) -> impl Iterator<Item = (ObjectKind, &Arc<str>)> {
        let roles = self.roles.keys().map(|name| (ObjectKind::Role, name));
        roles.chain(self.bindings.keys().map(|name| (ObjectKind::Binding, name)))
    }
}

/// Bindings whose role does not exist.
pub(super) fn dangling(documents: &Documents) -> Vec<Invalid> {
    dangling_among(documents, documents.bindings.values())
}

/// The same of the bindings with these names.
pub(super) fn dangling_of<'a>(
    documents: &Documents,
    names: impl Iterator<Item = &'a Arc<str>>,
) -> Vec<Invalid> {
    dangling_among(documents, names.filter_map(|name| documents.bindings.get(name)))
}

fn dangling_among<'a>(
    documents: &Documents,
    bindings: impl Iterator<Item = &'a Arc<Binding>>,
) -> Vec<Invalid> {
    let known = |role: &Arc<str>| documents.roles.contains_key(role) || defaults::roles().contains_key(role);
    let lost = bindings.filter(|binding| !known(&binding.role));
    lost.map(|binding| {
        let problem = format!("names the role {:?}, which does not exist", binding.role);
        Invalid::new(format!("Binding {}, role", binding.name), problem)
    })
    .collect()
}

impl ObjectKind {
    /// The word in a document: `Role`, `Binding`.
    pub const fn as_str(self) -> &'static str {
        match self {
            ObjectKind::Role => "Role",
            ObjectKind::Binding => "Binding",
        }
    }

    pub fn parse(text: &str) -> Option<Self> {
        [ObjectKind::Role, ObjectKind::Binding].into_iter().find(|kind| kind.as_str() == text)
    }
}

impl fmt::Display for ObjectKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A YAML string that can be read in one way only: a JSON string is one.
fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "kind: Role\nname: {}\nrules:\n", quoted(&self.name))?;
        for rule in self.rules() {
            f.write_str("- paths:\n")?;
            for path in rule.paths() {
                writeln!(f, "  - {}", quoted(path.as_str()))?;
            }
            writeln!(f, "  verbs: {}", rule.verbs)?;
            if rule.effect == Effect::Deny {
                f.write_str("  effect: deny\n")?;
            }
        }
        Ok(())
    }
}

impl fmt::Display for Binding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "kind: Binding\nname: {}\nrole: {}\nsubjects:\n", quoted(&self.name), quoted(&self.role))?;
        for subject in &self.subjects {
            let any = |text: &Option<Arc<str>>| quoted(text.as_deref().unwrap_or("*"));
            let fields = match subject {
                Subject::ServiceAccount { cluster, namespace, name } => {
                    format!(
                        "cluster: {}, namespace: {}, name: {}",
                        quoted(cluster),
                        any(namespace),
                        any(name)
                    )
                }
                Subject::User { method, name } | Subject::Group { method, name } => {
                    format!("method: {}, name: {}", quoted(method), quoted(name))
                }
            };
            writeln!(f, "- {}: {{{fields}}}", subject.kind())?;
        }
        let conditions = &self.conditions;
        if *conditions == Conditions::default() {
            return Ok(());
        }
        f.write_str("conditions:\n")?;
        if !conditions.cidrs.is_empty() {
            let cidrs = conditions.cidrs.iter().map(|cidr| quoted(&cidr.to_string())).collect::<Vec<_>>();
            writeln!(f, "  cidrs: [{}]", cidrs.join(", "))?;
        }
        for (name, time) in [("from", conditions.from), ("until", conditions.until)] {
            if let Some(time) = time {
                writeln!(f, "  {name}: {}", quoted(&time.to_string()))?;
            }
        }
        for (name, _) in conditions.flags().into_iter().filter(|(_, is_set)| *is_set) {
            writeln!(f, "  {name}: true")?;
        }
        Ok(())
    }
}

impl Conditions {
    /// Those that are set or not, by the names of their fields.
    pub(super) const fn flags(&self) -> [(&'static str, bool); 2] {
        [("pod", self.pod), ("wrapped", self.wrapped)]
    }
}

impl Subject {
    pub(super) const fn kind(&self) -> &'static str {
        match self {
            Subject::ServiceAccount { .. } => "serviceAccount",
            Subject::User { .. } => "user",
            Subject::Group { .. } => "group",
        }
    }
}

impl fmt::Display for Subject {
    /// `user userpass/alice`, `serviceAccount main/payments/*`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ", self.kind())?;
        match self {
            Subject::ServiceAccount { cluster, namespace, name } => {
                let any = |text: &'_ Option<Arc<str>>| text.clone().unwrap_or_else(|| "*".into());
                write!(f, "{cluster}/{}/{}", any(namespace), any(name))
            }
            Subject::User { method, name } | Subject::Group { method, name } => write!(f, "{method}/{name}"),
        }
    }
}

impl fmt::Display for Conditions {
    /// `cidrs 10.0.0.0/8; until 2027-01-01T00:00:00.000Z`; empty where there are none.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = String::new();
        if !self.cidrs.is_empty() {
            let cidrs = self.cidrs.iter().map(ToString::to_string).collect::<Vec<_>>();
            write!(text, "cidrs {}", cidrs.join(", "))?;
        }
        for (name, time) in [("from", self.from), ("until", self.until)] {
            if let Some(time) = time {
                write!(text, "{}{name} {time}", if text.is_empty() { "" } else { "; " })?;
            }
        }
        for (is_set, words) in [(self.pod, "in a pod"), (self.wrapped, "with a wrapped answer")] {
            if is_set {
                write!(text, "{}{words}", if text.is_empty() { "" } else { "; " })?;
            }
        }
        f.write_str(&text)
    }
}
