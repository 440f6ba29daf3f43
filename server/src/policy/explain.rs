//! Who can: the question turned around. What it lists is what could be allowed; what it depends on stands beside it.

use std::{collections::HashMap, sync::Arc};

use super::{
    decide::{Reason, Rule},
    document::{Binding, Conditions, Subject},
    index::Grants,
    pattern::{Unfilled, Values},
    role::{Role, RoleRule},
    set::PolicySet,
    verbs::Effect,
};
use crate::model::{Path, Verb};

/// One subject that may, by one binding.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WhoCan {
    /// `user userpass/alice`, `group oidc/platform`, `serviceAccount main/payments/*`.
    pub subject: String,
    /// The binding that gives it.
    pub binding: String,
    pub role: String,
    /// What must hold besides, as text; empty when nothing.
    pub conditions: String,
}

impl PolicySet {
    /// Subjects that may do `verb` on `path`. Somebody of whom a denying rule is certain is left out; what may deny
    /// under conditions, or for some of a group, is named beside the entry.
    pub fn who_can(&self, verb: Verb, path: &Path) -> Vec<WhoCan> {
        self.all_who_can(verb, path).collect()
    }

    /// Whether there is any such subject.
    pub(super) fn anybody_can(&self, verb: Verb, path: &Path) -> bool {
        self.all_who_can(verb, path).next().is_some()
    }

    fn all_who_can(&self, verb: Verb, path: &Path) -> impl Iterator<Item = WhoCan> {
        // Most roles have nothing to do with the path, whoever asks.
        let reaches = |role: &&Arc<Role>| {
            allowing(role, verb)
                .flat_map(RoleRule::paths)
                .any(|pattern| pattern.matches(path, &Values::default(), Unfilled::Everything))
        };
        let roles: HashMap<&str, &Arc<Role>> =
            self.roles().filter(reaches).map(|role| (&*role.name, role)).collect();
        self.bindings()
            .filter_map(move |binding| Some((*roles.get(&*binding.role)?, binding)))
            .flat_map(|(role, binding)| binding.subjects.iter().map(move |subject| (role, binding, subject)))
            .filter_map(move |(role, binding, subject)| self.how_can(role, binding, subject, verb, path))
    }

    fn how_can(
        &self,
        role: &Role,
        binding: &Binding,
        subject: &Subject,
        verb: Verb,
        path: &Path,
    ) -> Option<WhoCan> {
        let patterns = || allowing(role, verb).flat_map(RoleRule::paths);
        let values = values_of(subject);
        let certain = patterns().any(|pattern| pattern.matches(path, &values, Unfilled::Nothing));
        let mut possible = patterns().filter(|pattern| {
            let open = pattern
                .variables()
                .all(|variable| values.get(variable).is_some() || unknown(subject, variable.as_str()));
            open && pattern.matches(path, &values, Unfilled::Everything)
        });
        let pattern = possible.next()?;
        let mut conditions = vec![binding.conditions.to_string()];
        if !certain {
            conditions.push(format!("where {} is this path", pattern.as_str()));
        }
        match self.denial(subject, verb, path, &values) {
            Denial::Certain => return None,
            Denial::Possible(rule) => conditions.push(format!("unless {rule} counts")),
            Denial::None => {}
        }
        conditions.retain(|text| !text.is_empty());
        Some(WhoCan {
            subject: subject.to_string(),
            binding: binding.name.to_string(),
            role: role.name.to_string(),
            conditions: conditions.join("; "),
        })
    }

    fn denial(&self, subject: &Subject, verb: Verb, path: &Path, values: &Values<'_>) -> Denial {
        let mut possible = None;
        for grant in self.grants_of_subject(subject).flat_map(Grants::all) {
            for (at, rule) in grant.role.rules().enumerate() {
                match rule_denial(grant.conditions, rule, subject, verb, path, values) {
                    Some(true) => return Denial::Certain,
                    Some(false) => {
                        possible = possible.or_else(|| Some(Reason::new(grant, at, rule.effect).into()));
                    }
                    None => {}
                }
            }
        }
        possible.map_or(Denial::None, Denial::Possible)
    }
}

fn allowing(role: &Role, verb: Verb) -> impl Iterator<Item = RoleRule<'_>> {
    role.rules().filter(move |rule| rule.effect == Effect::Allow && rule.verbs.has(verb))
}

enum Denial {
    None,
    Possible(Rule),
    Certain,
}

/// `Some(true)`: denies for certain. `Some(false)`: may deny.
fn rule_denial(
    conditions: Option<&Conditions>,
    rule: RoleRule<'_>,
    subject: &Subject,
    verb: Verb,
    path: &Path,
    values: &Values<'_>,
) -> Option<bool> {
    if rule.effect != Effect::Deny || !rule.verbs.has(verb) {
        return None;
    }
    let mut matching =
        rule.paths().filter(|pattern| pattern.matches(path, values, Unfilled::Everything)).peekable();
    matching.peek()?;
    let known = |variable: super::pattern::Variable| !unknown(subject, variable.as_str());
    let sure = matching.any(|pattern| pattern.variables().all(known));
    Some(sure && conditions.is_none_or(|conditions| *conditions == Conditions::default()))
}

/// What is known of everybody who is this subject.
fn values_of(subject: &Subject) -> Values<'_> {
    match subject {
        Subject::User { method, name } => {
            Values { method: Some(method), user: Some(name), ..Values::default() }
        }
        Subject::Group { method, .. } => Values { method: Some(method), ..Values::default() },
        Subject::ServiceAccount { cluster, namespace, name } => Values {
            cluster: Some(cluster),
            namespace: namespace.as_deref(),
            service_account: name.as_deref(),
            method: Some("kubernetes"),
            ..Values::default()
        },
    }
}

/// Whether somebody who is this subject has a value for the template that the subject does not tell.
fn unknown(subject: &Subject, variable: &str) -> bool {
    match subject {
        Subject::User { .. } => false,
        Subject::Group { .. } => variable == "user",
        Subject::ServiceAccount { namespace, name, .. } => match variable {
            "pod" => true,
            "namespace" => namespace.is_none(),
            "serviceaccount" => name.is_none(),
            _ => false,
        },
    }
}
