//! Who can: the question turned around. What it lists is what could be allowed; what it depends on stands beside it.

use super::{
    decide::Rule,
    document::{Effect, RoleRule, Subject},
    pattern::{Unfilled, Values},
    set::{Bound, PolicySet},
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
        let mut found = Vec::new();
        for bound in &self.bound {
            let allows = |rule: &&RoleRule| rule.effect == Effect::Allow && rule.verbs.has(verb);
            let patterns = || bound.role.rules.iter().filter(allows).flat_map(|rule| &rule.paths);
            if patterns().next().is_none() {
                continue;
            }
            for subject in &bound.binding.subjects {
                let values = values_of(subject);
                let certain = patterns().any(|pattern| pattern.matches(path, &values, Unfilled::Nothing));
                let mut possible = patterns().filter(|pattern| {
                    let open = pattern.variables().all(|variable| {
                        values.get(variable).is_some() || unknown(subject, variable.as_str())
                    });
                    open && pattern.matches(path, &values, Unfilled::Everything)
                });
                let Some(pattern) = possible.next() else { continue };
                let mut conditions = vec![bound.binding.conditions.to_string()];
                if !certain {
                    conditions.push(format!("where {} is this path", pattern.as_str()));
                }
                match self.denial(subject, verb, path, &values) {
                    Denial::Certain => continue,
                    Denial::Possible(rule) => conditions.push(format!("unless {rule} counts")),
                    Denial::None => {}
                }
                conditions.retain(|text| !text.is_empty());
                found.push(WhoCan {
                    subject: subject.to_string(),
                    binding: bound.binding.name.to_string(),
                    role: bound.role.name.to_string(),
                    conditions: conditions.join("; "),
                });
            }
        }
        found
    }

    fn denial(&self, subject: &Subject, verb: Verb, path: &Path, values: &Values<'_>) -> Denial {
        let mut possible = None;
        let places = self.grants_of_subject(subject).into_iter().flatten().flat_map(|grants| grants.all());
        for bound in places.filter_map(|place| self.bound(*place)) {
            for (at, rule) in bound.role.rules.iter().enumerate() {
                match rule_denial(bound, rule, subject, verb, path, values) {
                    Some(true) => return Denial::Certain,
                    Some(false) => possible = possible.or_else(|| Some(Rule::of(bound, at))),
                    None => {}
                }
            }
        }
        possible.map_or(Denial::None, Denial::Possible)
    }
}

enum Denial {
    None,
    Possible(Rule),
    Certain,
}

/// `Some(true)`: denies for certain. `Some(false)`: may deny.
fn rule_denial(
    bound: &Bound,
    rule: &RoleRule,
    subject: &Subject,
    verb: Verb,
    path: &Path,
    values: &Values<'_>,
) -> Option<bool> {
    if rule.effect != Effect::Deny || !rule.verbs.has(verb) {
        return None;
    }
    let mut matching =
        rule.paths.iter().filter(|pattern| pattern.matches(path, values, Unfilled::Everything)).peekable();
    matching.peek()?;
    let known = |variable: super::pattern::Variable| !unknown(subject, variable.as_str());
    let sure = matching.any(|pattern| pattern.variables().all(known));
    Some(sure && bound.binding.conditions == Default::default())
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
