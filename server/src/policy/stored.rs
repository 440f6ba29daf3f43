//! A document as it is stored: JSON, which is YAML too, and which is read thirty times as fast. A server that is unsealed reads
//! all of them before it answers. Records of earlier releases hold YAML and are read as well.

use serde_json::{Value, json};

use super::{
    document::{Binding, Conditions, Documents, ObjectKind, Subject},
    parse,
    role::Role,
    verbs::{Effect, Verbs},
};
use crate::model::{Invalid, Verb};

impl Documents {
    /// One of them as it is stored.
    pub(super) fn stored(&self, kind: ObjectKind, name: &str) -> Option<String> {
        match kind {
            ObjectKind::Role => self.roles.get(name).map(|it| role(it).to_string()),
            ObjectKind::Binding => self.bindings.get(name).map(|it| binding(it).to_string()),
        }
    }

    /// Each of them as it is stored.
    pub fn all_stored(&self) -> impl Iterator<Item = String> {
        self.names().filter_map(|(kind, name)| self.stored(kind, name))
    }

    /// Reads what is stored, in as many pieces as there are. Takes what an earlier release has taken and this one does not.
    ///
    /// # Errors
    /// All mistakes of the first piece that has one.
    pub fn from_stored<'a>(pieces: impl IntoIterator<Item = &'a str>) -> Result<Self, Vec<Invalid>> {
        let mut documents = Self::default();
        for piece in pieces {
            documents.extend(parse::stored(piece)?);
        }
        Ok(documents)
    }
}

fn role(role: &Role) -> Value {
    let rules = role.rules().map(|rule| {
        let paths: Vec<_> = rule.paths().map(|path| path.as_str().to_owned()).collect();
        let mut json = json!({"paths": paths, "verbs": words(rule.verbs)});
        if rule.effect == Effect::Deny {
            set(&mut json, "effect", "deny");
        }
        json
    });
    json!({"kind": "Role", "name": &*role.name, "rules": rules.collect::<Vec<_>>()})
}

fn words(verbs: Verbs) -> Vec<&'static str> {
    match verbs == Verbs::ALL {
        true => vec!["*"],
        false => Verb::ALL.into_iter().filter(|verb| verbs.has(*verb)).map(Verb::as_str).collect(),
    }
}

fn binding(binding: &Binding) -> Value {
    let Binding { name, role, subjects, conditions: given } = binding;
    let subjects: Vec<_> = subjects.iter().map(subject).collect();
    let mut json = json!({"kind": "Binding", "name": &**name, "role": &**role, "subjects": subjects});
    if *given != Conditions::default() {
        set(&mut json, "conditions", conditions(given));
    }
    json
}

fn subject(subject: &Subject) -> Value {
    let fields = match subject {
        Subject::ServiceAccount { cluster, namespace, name } => {
            let [namespace, name] = [namespace, name].map(|text| text.as_deref().unwrap_or("*"));
            json!({"cluster": &**cluster, "namespace": namespace, "name": name})
        }
        Subject::User { method, name } | Subject::Group { method, name } => {
            json!({"method": &**method, "name": &**name})
        }
    };
    json!({subject.kind(): fields})
}

fn conditions(conditions: &Conditions) -> Value {
    let Conditions { cidrs, from, until, pod: _, wrapped: _ } = conditions;
    let mut json = json!({});
    if !cidrs.is_empty() {
        set(&mut json, "cidrs", cidrs.iter().map(ToString::to_string).collect::<Vec<_>>());
    }
    for (name, time) in [("from", from), ("until", until)] {
        if let Some(time) = time {
            set(&mut json, name, time.to_string());
        }
    }
    for (name, _) in conditions.flags().into_iter().filter(|(_, is_set)| *is_set) {
        set(&mut json, name, true);
    }
    json
}

fn set(object: &mut Value, field: &str, value: impl Into<Value>) {
    if let Some(fields) = object.as_object_mut() {
        fields.insert(field.to_owned(), value.into());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAIR: &str = "kind: Role\nname: r\nrules: [{paths: [a], verbs: [read]}, {paths: [b], verbs: \"*\", effect: deny}]\n---\n\
                        kind: Binding\nname: b\nrole: r\nsubjects: [{group: {method: oidc, name: \"Team: \\\"X\\\" 9\"}}, \
                        {serviceAccount: {cluster: c, namespace: \"*\", name: \"*\"}}]\n\
                        conditions: {cidrs: [10.0.0.0/8], from: 2026-01-01T00:00:00Z, until: 2027-01-01T00:00:00Z, pod: true, wrapped: true}\n";

    #[test]
    fn what_is_stored_is_read_as_the_same_by_this_release_and_by_one_that_knows_only_yaml() {
        let documents = Documents::parse(PAIR).unwrap();
        let stored: Vec<_> = documents.all_stored().collect();
        assert_eq!(stored.len(), 2);
        assert!(stored.iter().all(|text| serde_json::from_str::<serde_json::Value>(text).is_ok()));
        assert_eq!(Documents::from_stored(stored.iter().map(String::as_str)).unwrap(), documents);
        assert_eq!(Documents::parse(&stored.join("\n---\n")).unwrap(), documents);
        let older = documents.to_yaml();
        assert_eq!(Documents::from_stored(older.split("---\n")).unwrap(), documents);
        for damaged in ["{\"kind\":", "{\"kind\":\"Role\"}", "{\"kind\":7}", "["] {
            assert!(Documents::from_stored([damaged]).is_err(), "{damaged}");
        }
    }
}
