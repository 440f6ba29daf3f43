//! What bindings ask of a request beside whose it is: where it comes from, when, in a pod, with a wrapped answer.

use std::{net::IpAddr, sync::Arc};

use super::{
    tests::{ALICE, HERE, path, set, user},
    *,
};
use crate::model::{DecisionId, Pod, Principal, RequestId, Timestamp, Verb};

fn conditioned(effect: &str, conditions: &str) -> PolicySet {
    set(&format!(
        "{{kind: Role, name: r, rules: [{{paths: [\"**\"], verbs: [read], effect: {effect}}}]}}\n---\n\
         {{kind: Role, name: all, rules: [{{paths: [\"**\"], verbs: [read]}}]}}\n---\n\
         {{kind: Binding, name: b, role: r, subjects: [{ALICE}], conditions: {{{conditions}}}}}\n---\n\
         {{kind: Binding, name: c, role: all, subjects: [{{user: {{method: userpass, name: bob}}}}]}}\n---\n\
         {{kind: Binding, name: d, role: r, subjects: [{{user: {{method: userpass, name: bob}}}}], \
         conditions: {{{conditions}}}}}\n"
    ))
}

#[test]
fn a_binding_can_demand_a_pod() {
    let set = set(r#"
{kind: Role, name: r, rules: [{paths: [a], verbs: [read]}]}
---
{kind: Role, name: no, rules: [{paths: [b], verbs: [read], effect: deny}]}
---
kind: Binding
name: in-pods
role: r
subjects: [{serviceAccount: {cluster: main, namespace: pay, name: web}}]
conditions: {pod: true}
"#);
    let ask = |pod: Option<Pod>| {
        let (cluster, namespace, name, uid) = ("main".into(), "pay".into(), "web".into(), "u".into());
        let principal = Principal::ServiceAccount { cluster, namespace, name, uid, pod };
        let question = Question { principal: &principal, verb: Verb::Read, path: &path("a"), context: &HERE };
        matches!(set.decide(&question), Decision::Allow(_))
    };
    assert!(ask(Some(Pod { name: "web-1".into(), uid: "p".into(), node: None })));
    assert!(!ask(None), "a token made for the account");
    let who = set.who_can(Verb::Read, &path("a"));
    assert_eq!(who[0].conditions, "in a pod");
    let bad =
        "kind: Binding\nname: b\nrole: r\nsubjects: [{user: {method: m, name: n}}]\nconditions: {pod: false}";
    assert!(Documents::parse(bad).err().unwrap()[0].to_string().contains("expected true"));
}

/// What somebody may hand on and not see: no other answer is theirs, and a deny holds whatever becomes of the answer.
#[test]
fn a_binding_may_be_for_wrapped_answers_only() {
    let at = path("a");
    let ask = |set: &PolicySet, name: &str, wrapped| {
        let question = Question {
            principal: &user(name, &[]),
            verb: Verb::Read,
            path: &at,
            context: &Context { wrapped, ..HERE },
        };
        matches!(set.decide(&question), Decision::Allow(_))
    };
    let (allow, deny) = (conditioned("allow", "wrapped: true"), conditioned("deny", "wrapped: true"));
    assert!(ask(&allow, "alice", true) && !ask(&allow, "alice", false));
    assert!(!ask(&deny, "bob", true) && !ask(&deny, "bob", false));
    assert_eq!(allow.who_can(Verb::Read, &at)[0].conditions, "with a wrapped answer");

    let refused = |wrapped| {
        let (context, who) = (Context { wrapped, ..HERE }, Arc::new(user("alice", &[])));
        let set = Arc::new(conditioned("allow", "wrapped: true"));
        authorize(
            &set,
            RequestId([1; 16]),
            DecisionId([1; 16]),
            who,
            &[Verb::Read],
            vec![at.clone()],
            context,
        )
        .err()
        .map(|refused| refused.if_wrapped)
    };
    assert_eq!((refused(false), refused(true)), (Some(true), None));
}

#[test]
fn conditions_hold_or_the_binding_does_not_count() {
    let at = path("a");
    let ask = |set: &PolicySet, name: &str, peer: Option<&str>, now: &str| {
        let context = Context {
            peer: peer.map(|peer| peer.parse::<IpAddr>().unwrap()),
            now: Timestamp::parse_rfc3339(now).unwrap(),
            wrapped: false,
        };
        let question =
            Question { principal: &user(name, &[]), verb: Verb::Read, path: &at, context: &context };
        matches!(set.decide(&question), Decision::Allow(_))
    };
    let now = "2026-06-01T00:00:00Z";
    let cidrs = "cidrs: [10.0.0.0/8, \"2001:db8::/32\"]";
    let (allow, deny) = (conditioned("allow", cidrs), conditioned("deny", cidrs));
    for (peer, inside) in [
        (Some("10.1.2.3"), true),
        (Some("11.1.2.3"), false),
        (Some("::ffff:10.1.2.3"), true),
        (Some("2001:db8::1"), true),
        (Some("2001:db9::1"), false),
    ] {
        assert_eq!(ask(&allow, "alice", peer, now), inside, "{peer:?}");
        assert_eq!(ask(&deny, "bob", peer, now), !inside, "{peer:?}");
    }
    // An unknown address gains nothing: no allow, and no way around a deny.
    assert!(!ask(&allow, "alice", None, now));
    assert!(!ask(&deny, "bob", None, now));

    let times = "from: 2026-01-01T00:00:00Z, until: 2027-01-01T00:00:00Z";
    let (allow, deny) = (conditioned("allow", times), conditioned("deny", times));
    for (now, within) in [
        ("2025-12-31T23:59:59.999Z", false),
        ("2026-01-01T00:00:00Z", true),
        ("2026-12-31T23:59:59.999Z", true),
        ("2027-01-01T00:00:00Z", false),
    ] {
        assert_eq!(ask(&allow, "alice", None, now), within, "{now}");
        assert_eq!(ask(&deny, "bob", None, now), !within, "{now}");
    }
}
