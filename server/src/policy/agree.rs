//! Whether two sets say the same of a place: so that a change of the policy concerns only those of whom it changes something.
//! Knows no stream.

use super::{
    document::Conditions,
    index::{Grant, Grants},
    pattern::Values,
    role::RoleRule,
    set::PolicySet,
    verbs::{Effect, Verbs},
};
use crate::model::{Path, Principal};

/// A rule as far as it bears on a place: whatever else its role and binding say makes no difference there.
#[derive(PartialEq, Eq)]
struct Bearing<'a> {
    effect: Effect,
    verbs: Verbs,
    pattern: &'a str,
    conditions: Option<&'a Conditions>,
}

impl PolicySet {
    /// Whether `other` answers every question of `principal` about what is at or below `place` as this set does, whatever
    /// the verb, the time and the address. A yes is certain: the rules that could match are the same, and their order means
    /// nothing.
    pub fn agrees(&self, other: &PolicySet, principal: &Principal, place: &Path) -> bool {
        if *principal == Principal::Root {
            return true;
        }
        let [mine, theirs] = [self, other].map(|set| set.grants(principal).flat_map(Grants::all));
        // Of nearly everybody nothing at all has changed.
        if mine.map(identity).eq(theirs.map(identity)) {
            return true;
        }
        let [mine, theirs] = [self, other].map(|set| set.bearing(principal, place));
        let within = |some: &[Bearing<'_>], all: &[Bearing<'_>]| some.iter().all(|one| all.contains(one));
        within(&mine, &theirs) && within(&theirs, &mine)
    }

    fn bearing(&self, principal: &Principal, place: &Path) -> Vec<Bearing<'_>> {
        let values = Values::of(principal);
        let mut bearing = Vec::new();
        for Grant { role, conditions, .. } in self.grants(principal).flat_map(Grants::all) {
            let conditions = conditions.filter(|conditions| **conditions != Conditions::default());
            for rule in role.rules() {
                let RoleRule { effect, verbs, .. } = rule;
                let unfilled = effect.unfilled();
                let reaching = rule.paths().filter(|path| path.reaches_below(place, &values, unfilled));
                bearing.extend(reaching.map(|path| Bearing {
                    effect,
                    verbs,
                    pattern: path.as_str(),
                    conditions,
                }));
            }
        }
        bearing
    }
}

/// Documents that did not change are shared by the sets before and after.
fn identity(grant: Grant<'_>) -> [*const (); 2] {
    [std::sync::Arc::as_ptr(grant.role).cast(), std::sync::Arc::as_ptr(grant.binding).cast()]
}

#[cfg(test)]
mod tests {
    use std::{fmt::Write, time::Instant};

    use super::*;
    use crate::policy::{Documents, oracle};

    #[test]
    fn whoever_agrees_answers_alike() {
        let [agreed, differed] =
            oracle::compare_changes(11, 500).unwrap_or_else(|difference| panic!("{difference}"));
        assert!(agreed > 20 && differed > 20, "{agreed} {differed}");
    }

    /// What a change costs with as many watches as a large cluster has pods: each is asked once.
    #[test]
    fn ten_thousand_watches_are_asked_quickly() {
        let policy = |more: &str| {
            let mut yaml = format!(
                "{{kind: Role, name: own, rules: [{{paths: [\"secret/apps/{{{{namespace}}}}/**\"], verbs: [read]}}]}}\n---\n\
                 {{kind: Binding, name: own, role: own, subjects: [serviceAccount: {{cluster: main, namespace: \"*\", name: \"*\"}}]}}\n\
                 ---\n{{kind: Role, name: wide, rules: [{{paths: [secret/shared{more}], verbs: [read]}}]}}\n"
            );
            for n in 0..100 {
                let subject = format!("serviceAccount: {{cluster: main, namespace: ns-{n}, name: \"*\"}}");
                let _ =
                    write!(yaml, "---\n{{kind: Binding, name: b-{n}, role: wide, subjects: [{subject}]}}\n");
            }
            PolicySet::compile(Documents::parse(&yaml).unwrap()).unwrap()
        };
        let (old, new) = (policy(""), policy("/more"));
        let began = Instant::now();
        for n in 0..10_000 {
            let principal = Principal::ServiceAccount {
                cluster: "main".into(),
                namespace: format!("ns-{}", n % 100).into(),
                name: "web".into(),
                uid: "u".into(),
                pod: None,
            };
            let path = |text: String| Path::parse(&text).unwrap();
            assert!(new.agrees(&old, &principal, &path(format!("secret/apps/ns-{}/db", n % 100))));
            assert!(!new.agrees(&old, &principal, &path("secret/shared".into())));
        }
        let took = began.elapsed();
        println!("10,000 watches of two secrets each: {} ms", took.as_millis());
        assert!(took.as_secs() < 10, "{took:?}");
    }
}
