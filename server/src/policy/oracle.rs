//! What a policy means, said a second time as naively as possible, and a comparison with [`PolicySet::decide`] over
//! random policies. For tests; shares no code with the matcher, the index or the reader. No clock, no entropy: a seed.

use std::{fmt::Write, net::IpAddr, sync::Arc};

use super::{Context, Decision, Documents, PolicySet, Question, plan};
use crate::model::{Group, Invalid, Path, Pod, Principal, Timestamp, Verb};

#[derive(Clone)]
struct Rule {
    paths: Vec<String>,
    verbs: Vec<&'static str>,
    deny: bool,
}

#[derive(Clone)]
struct Binding {
    role: usize,
    /// `user/userpass/ann`, `group/oidc/x`, `sa/main/ns/name`.
    subjects: Vec<[String; 4]>,
    /// First byte of an IPv4 network of 8 bits.
    network: Option<u8>,
    from: Option<u32>,
    until: Option<u32>,
    pod: bool,
}

#[derive(Clone)]
struct Policy {
    roles: Vec<Vec<Rule>>,
    bindings: Vec<Binding>,
}

/// As `*` within a segment, but two of them are not `**`.
const UNFILLED: char = '\u{1}';

fn segment_fits(glob: &[char], text: &[char]) -> bool {
    match (glob.split_first(), text.split_first()) {
        (None, None) => true,
        (Some((&('*' | UNFILLED), rest)), None) => segment_fits(rest, text),
        (Some((&('*' | UNFILLED), rest)), Some((_, tail))) => {
            segment_fits(rest, text) || segment_fits(glob, tail)
        }
        (Some((wanted, rest)), Some((found, tail))) => wanted == found && segment_fits(rest, tail),
        (None, Some(_)) | (Some(_), None) => false,
    }
}

fn fits(pattern: &[&str], path: &[&str]) -> bool {
    match (pattern.split_first(), path.split_first()) {
        (None, None) => true,
        (Some((&"**", _)), _) => true,
        (Some((glob, rest)), Some((text, tail))) => {
            let chars = |text: &str| text.chars().collect::<Vec<_>>();
            segment_fits(&chars(glob), &chars(text)) && fits(rest, tail)
        }
        (None, Some(_)) | (Some(_), None) => false,
    }
}

fn filled(pattern: &str, who: &Principal, deny: bool) -> Option<String> {
    let account = match who {
        Principal::ServiceAccount { cluster, namespace, name, pod, .. } => {
            [Some(&**cluster), Some(&**namespace), Some(&**name), pod.as_ref().map(|pod| &*pod.name), None]
        }
        Principal::User { name, .. } => [None, None, None, None, Some(&**name)],
        Principal::Root => [None; 5],
    };
    let words = ["{{cluster}}", "{{namespace}}", "{{serviceaccount}}", "{{pod}}", "{{user}}"];
    let mut text = pattern.replace("{{method}}", who.method());
    for (word, value) in words.into_iter().zip(account) {
        let value = value.filter(|value| Path::parse(value).is_ok_and(|path| path.segments().count() == 1));
        match value {
            _ if !text.contains(word) => {}
            Some(value) => text = text.replace(word, value),
            None if deny => text = text.replace(word, &UNFILLED.to_string()),
            None => return None,
        }
    }
    Some(text)
}

fn bound(binding: &Binding, who: &Principal) -> bool {
    let is = |text: &str, wanted: &str| wanted == "*" || text == wanted;
    binding.subjects.iter().any(|[kind, first, second, third]| match who {
        Principal::User { method, name, groups, .. } => match kind.as_str() {
            "user" => **method == **first && **name == **second,
            "group" => groups.iter().any(|group| *group.method == **first && *group.name == **second),
            _ => false,
        },
        Principal::ServiceAccount { cluster, namespace, name, .. } => {
            kind == "sa" && **cluster == **first && is(namespace, second) && is(name, third)
        }
        Principal::Root => false,
    })
}

impl Policy {
    fn allows(&self, question: &Question<'_>) -> bool {
        let mut allowed = *question.principal == Principal::Root;
        for binding in self.bindings.iter().filter(|binding| bound(binding, question.principal)) {
            for rule in self.roles.get(binding.role).into_iter().flatten() {
                let near = match (binding.network, question.context.peer) {
                    (None, _) => true,
                    (Some(_), None) => rule.deny,
                    (Some(byte), Some(peer)) => {
                        peer.to_string().trim_start_matches("::ffff:").starts_with(&format!("{byte}."))
                    }
                };
                let now = question.context.now.as_millis();
                let early = binding.from.is_some_and(|from| now < i64::from(from) * 1000);
                let late = binding.until.is_some_and(|until| now >= i64::from(until) * 1000);
                let path: Vec<&str> = question.path.as_str().split('/').collect();
                let matching = rule.paths.iter().any(|pattern| {
                    filled(pattern, question.principal, rule.deny)
                        .is_some_and(|text| fits(&text.split('/').collect::<Vec<_>>(), &path))
                });
                let verb = rule.verbs.iter().any(|verb| *verb == "*" || *verb == question.verb.as_str());
                let in_pod = !binding.pod || rule.deny || question.principal.pod().is_some();
                if near && !early && !late && in_pod && matching && verb {
                    if rule.deny {
                        return false;
                    }
                    allowed = true;
                }
            }
        }
        allowed
    }

    fn yaml(&self) -> String {
        let mut yaml = String::new();
        for (at, rules) in self.roles.iter().enumerate() {
            let _ = writeln!(yaml, "---\nkind: Role\nname: role-{at}\nrules:");
            for rule in rules {
                let effect = if rule.deny { "deny" } else { "allow" };
                let _ = writeln!(
                    yaml,
                    "- {{paths: {:?}, verbs: {:?}, effect: {effect}}}",
                    rule.paths, rule.verbs
                );
            }
        }
        for (at, binding) in self.bindings.iter().enumerate() {
            let _ = writeln!(
                yaml,
                "---\nkind: Binding\nname: binding-{at}\nrole: role-{}\nsubjects:",
                binding.role
            );
            for [kind, first, second, third] in &binding.subjects {
                let _ = match kind.as_str() {
                    "sa" => writeln!(
                        yaml,
                        "- serviceAccount: {{cluster: {first:?}, namespace: {second:?}, name: {third:?}}}"
                    ),
                    _ => writeln!(yaml, "- {kind}: {{method: {first:?}, name: {second:?}}}"),
                };
            }
            let network = binding.network.map(|byte| format!("cidrs: [{byte}.0.0.0/8]"));
            let time = |name: &str, seconds: Option<u32>| {
                seconds.map(|seconds| {
                    format!("{name}: {:?}", Timestamp::from_millis(i64::from(seconds) * 1000).to_string())
                })
            };
            let pod = binding.pod.then(|| "pod: true".to_owned());
            let conditions = [network, time("from", binding.from), time("until", binding.until), pod];
            let conditions = conditions.into_iter().flatten().collect::<Vec<_>>().join(", ");
            let _ = writeln!(yaml, "conditions: {{{conditions}}}");
        }
        yaml
    }
}

/// SplitMix64: the same cases for the same seed, for ever.
struct Dice(u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.next() % u64::try_from(end.max(1)).unwrap_or(1)).unwrap_or(0)
    }

    fn one<T: Copy + Default>(&mut self, of: &[T]) -> T {
        of.get(self.below(of.len())).copied().unwrap_or_default()
    }

    fn chance(&mut self, of_ten: usize) -> bool {
        self.below(10) < of_ten
    }

    fn pattern(&mut self) -> String {
        const PARTS: [&str; 19] = [
            "secret",
            "secret",
            "secret",
            "a",
            "b",
            "ab",
            "sys",
            "*",
            "a*",
            "*b",
            "a*b",
            "*a*",
            "{{namespace}}",
            "{{user}}",
            "{{pod}}",
            "x-{{serviceaccount}}",
            "{{cluster}}-*",
            "{{method}}",
            "{{pod}}-a",
        ];
        let mut parts: Vec<&str> = (0..self.below(4)).map(|_| self.one(&PARTS)).collect();
        if parts.is_empty() || self.chance(3) {
            parts.push("**");
        }
        parts.join("/")
    }

    fn policy(&mut self) -> Policy {
        const VERBS: [&str; 9] =
            ["read", "list", "create", "update", "delete", "destroy", "use", "manage", "*"];
        let roles = 1 + self.below(4);
        let rule = |dice: &mut Dice| Rule {
            paths: (0..1 + dice.below(3)).map(|_| dice.pattern()).collect(),
            verbs: (0..1 + dice.below(3)).map(|_| dice.one(&VERBS)).collect(),
            deny: dice.chance(3),
        };
        // Sometimes many bindings, so that the second index is used.
        let bindings = if self.chance(2) { 40 } else { 1 + self.below(6) };
        Policy {
            roles: (0..roles).map(|_| (0..1 + self.below(4)).map(|_| rule(self)).collect()).collect(),
            bindings: (0..bindings).map(|_| self.binding(roles)).collect(),
        }
    }

    fn binding(&mut self, roles: usize) -> Binding {
        let from = self.chance(2).then(|| 1000 + u32::try_from(self.below(3)).unwrap_or(0));
        Binding {
            role: self.below(roles),
            subjects: (0..1 + self.below(3)).map(|_| self.subject()).collect(),
            network: self.chance(3).then(|| self.one(&[10, 192])),
            from,
            until: self.chance(2).then(|| 1003 + u32::try_from(self.below(2)).unwrap_or(0)),
            pod: self.chance(2),
        }
    }

    fn subject(&mut self) -> [String; 4] {
        let words = match self.below(4) {
            0 => ["user", self.one(&["userpass", "oidc"]), self.one(&["a", "b", "a/b"]), ""],
            1 => ["group", self.one(&["userpass", "oidc"]), self.one(&["a", "b"]), ""],
            2 => ["sa", self.one(&["main", "a"]), self.one(&["a", "b"]), self.one(&["a", "b", "*"])],
            _ => ["sa", self.one(&["main", "a"]), "*", "*"],
        };
        words.map(str::to_owned)
    }

    fn principal(&mut self) -> Principal {
        const NAMES: [&str; 16] =
            ["a", "a", "a", "b", "b", "ab", "*", "**", "a/b", "..", ".", "", "{{user}}", "A", "a*", "\u{e4}"];
        let mut name = || -> Box<str> { self.one(&NAMES).into() };
        let (first, second, third) = (name(), name(), name());
        match self.below(20) {
            0 => Principal::Root,
            1..9 => Principal::User {
                method: self.one(&["userpass", "oidc"]).into(),
                name: first,
                uid: "u".into(),
                groups: [second, third].map(|name| Group { method: "oidc".into(), name }).into(),
            },
            _ => Principal::ServiceAccount {
                cluster: self.one(&["main", "a", "*"]).into(),
                namespace: first,
                name: second,
                uid: "u".into(),
                pod: self.chance(7).then(|| Pod { name: third, uid: "p".into(), node: None }),
            },
        }
    }

    fn path(&mut self) -> Option<Path> {
        const PARTS: [&str; 12] = [
            "secret",
            "secret",
            "a",
            "b",
            "ab",
            "aab",
            "x-a",
            "x-",
            "main-1",
            "userpass",
            "kubernetes",
            "sys",
        ];
        let mut parts = vec![self.one(&["secret", "secret", "a", "sys"])];
        parts.extend((0..self.below(4)).map(|_| self.one(&PARTS)).collect::<Vec<_>>());
        Path::parse(&parts.join("/")).ok()
    }
}

/// Compares `cases` random questions about random policies, each compiled by itself and made from the one before. Returns how many of them were allowed.
///
/// # Errors
/// The first question answered differently, with its policy.
pub fn compare(seed: u64, cases: u64) -> Result<u64, String> {
    const QUESTIONS: u64 = 64;
    let mut dice = Dice(seed);
    let (mut asked, mut allowed) = (0, 0);
    let mut before = PolicySet::default();
    while asked < cases {
        let policy = dice.policy();
        let yaml = policy.yaml();
        let wrong = |problems: Vec<Invalid>| format!("{problems:?}\n{yaml}");
        let documents = Documents::parse(&yaml).and_then(|documents| Documents::parse(&documents.to_yaml()));
        let documents = Arc::new(documents.map_err(wrong)?);
        let stored: Vec<_> = documents.all_stored().collect();
        if Documents::from_stored(stored.iter().map(String::as_str)).as_ref() != Ok(&*documents) {
            return Err(format!("read otherwise than stored: {stored:?}"));
        }
        let set = PolicySet::compile(Arc::clone(&documents)).map_err(wrong)?;
        let changed = changed_into(&before, &documents).map_err(wrong)?;
        for _ in 0..QUESTIONS.min(cases - asked) {
            asked += 1;
            let Some(path) = dice.path() else { continue };
            let peers = [None, Some([10, 0, 0, 1]), Some([192, 0, 0, 1]), Some([100, 0, 0, 1])];
            let peer = dice.one(&peers).map(IpAddr::from).map(|peer| match peer {
                IpAddr::V4(peer) if dice.chance(3) => IpAddr::V6(peer.to_ipv6_mapped()),
                peer => peer,
            });
            let now = Timestamp::from_millis(999_000 + i64::try_from(dice.below(7)).unwrap_or(0) * 1000);
            let (principal, context) = (dice.principal(), Context { peer, now, wrapped: false });
            let verb = Verb::ALL.get(dice.below(8)).copied().unwrap_or(Verb::Read);
            let question = Question { principal: &principal, verb, path: &path, context: &context };
            let expected = policy.allows(&question);
            let found = [set.decide(&question), changed.decide(&question)];
            if found.iter().any(|found| expected != matches!(found, Decision::Allow(_))) {
                return Err(format!("{question:?}\nexpected {expected}, found {found:?}\n{yaml}"));
            }
            allowed += u64::from(expected);
        }
        before = changed;
    }
    Ok(allowed)
}

/// Compares what `PolicySet::agrees` says of `cases` random changes with the answers before and after. Returns how often it
/// agreed although something of the asker's had changed, and how often it did not.
///
/// # Errors
/// The first question that is answered differently after a change that made no difference.
pub fn compare_changes(seed: u64, cases: u64) -> Result<[u64; 2], String> {
    const QUESTIONS: u64 = 48;
    let mut dice = Dice(seed);
    let mut counts = [0, 0];
    for _ in 0..cases {
        let before = dice.policy();
        let mut after = before.clone();
        if dice.chance(5) {
            let (role, other) = (dice.below(after.roles.len()), dice.policy());
            let rules = after.roles.get_mut(role).zip(other.roles.into_iter().next());
            rules.into_iter().for_each(|(rules, other)| rules.extend(other));
        } else {
            let (at, other) = (dice.below(after.bindings.len()), dice.binding(after.roles.len()));
            after.bindings.get_mut(at).into_iter().for_each(|binding| *binding = other.clone());
        }
        let wrong = |problems: Vec<Invalid>| format!("{problems:?}");
        let old = PolicySet::compile(Documents::parse(&before.yaml()).map_err(wrong)?).map_err(wrong)?;
        let documents = Arc::new(Documents::parse(&after.yaml()).map_err(wrong)?);
        let new = changed_into(&old, &documents).map_err(wrong)?;
        let principal = dice.principal();
        let Some(place) = dice.path() else { continue };
        let agrees = new.agrees(&old, &principal, &place);
        let concerned = new.grants(&principal).count() + old.grants(&principal).count() > 0;
        let [agreed, differed] = &mut counts;
        match agrees {
            true => *agreed += u64::from(concerned),
            false => *differed += 1,
        }
        for _ in 0..QUESTIONS {
            let below = dice.path().map_or(String::new(), |path| format!("/{path}"));
            let Ok(path) = Path::parse(&format!("{place}{below}")) else { continue };
            let path = if dice.chance(2) { place.clone() } else { path };
            let peer = dice.one(&[None, Some([10, 0, 0, 1]), Some([192, 0, 0, 1])]).map(IpAddr::from);
            let now = Timestamp::from_millis(999_000 + i64::try_from(dice.below(7)).unwrap_or(0) * 1000);
            let verb = Verb::ALL.get(dice.below(8)).copied().unwrap_or(Verb::Read);
            let context = Context { peer, now, wrapped: false };
            let question = Question { principal: &principal, verb, path: &path, context: &context };
            if agrees && before.allows(&question) != after.allows(&question) {
                return Err(format!("{question:?}\n{}\nbecame\n{}", before.yaml(), after.yaml()));
            }
        }
    }
    Ok(counts)
}

/// The set of these documents, made from another one as an apply makes it.
fn changed_into(before: &PolicySet, documents: &Arc<Documents>) -> Result<PolicySet, Vec<Invalid>> {
    let gone = before.documents().names().filter(|name| !documents.names().any(|other| other == *name));
    let gone: Vec<_> = gone.map(|(kind, name)| (kind, name.to_string())).collect();
    plan(before.documents(), Documents::clone(documents), &gone)?.after(before)
}
