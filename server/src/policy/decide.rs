//! What a policy means: the decision, and the proof of it. Pure: no IO, no clock; the time is in the question.
//!
//! 1. Nothing is allowed unless a rule allows it.
//! 2. Any denying rule that matches wins over every allowing one, whatever the order, for every verb alike.
//! 3. The conditions of a binding hold for all rules of its role. Where it cannot be known whether one holds (the
//!    peer's address is unknown), an allowing rule does not count and a denying one does; the same goes for templates
//!    that cannot be filled in. So hiding an address or choosing an odd name never gains anything.
//! 4. Root may do everything, through the built-in role `root`, which nothing denies.

use std::{fmt, net::IpAddr, sync::Arc};

use arc_swap::ArcSwap;

use super::{
    defaults::ROOT,
    document::{Binding, Conditions},
    index::{Grant, Grants},
    pattern::{Unfilled, Values, heads},
    role::{Role, RoleRule},
    set::PolicySet,
    verbs::Effect,
};
use crate::model::{DecisionId, Path, Principal, RequestId, Timestamp, Verb};

/// From where and when somebody asks.
#[derive(Clone, Copy, Debug)]
pub struct Context {
    /// Address of the peer, where it is known.
    pub peer: Option<IpAddr>,
    /// The time to judge by.
    pub now: Timestamp,
    /// The answer is kept for whoever shows its token, and not told.
    pub wrapped: bool,
}

/// May this principal do this there, now?
#[derive(Clone, Copy, Debug)]
pub struct Question<'a> {
    pub principal: &'a Principal,
    pub verb: Verb,
    pub path: &'a Path,
    /// From where and when.
    pub context: &'a Context,
}

/// The answer and its reason. Displays as a sentence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// A rule allows it and none denies it.
    Allow(Rule),
    /// This rule denies it, or none allows it.
    Deny(Option<Rule>),
}

/// An answer that points into the set: what it names is looked at only by whoever wants to know.
#[derive(Clone, Copy)]
pub enum Verdict<'a> {
    /// Nothing denies root anything.
    Root,
    Allow(Reason<'a>),
    Deny(Option<Reason<'a>>),
}

/// A rule and the binding that made it count.
#[derive(Clone, Copy)]
pub struct Reason<'a> {
    role: &'a Role,
    binding: &'a Binding,
    /// Its place in the role, from 0.
    at: usize,
    effect: Effect,
}

/// The rule that decided.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    pub role: Arc<str>,
    /// The binding that made it count.
    pub binding: Arc<str>,
    /// Its place in the role, from 1.
    pub index: u32,
    pub effect: Effect,
}

/// The proof that a policy allows something: made only by [`authorize`].
pub struct Allowed {
    request_id: RequestId,
    decision_id: DecisionId,
    verbs: Vec<Verb>,
    paths: Vec<Path>,
    first: Path,
    scope: Scope,
    rule: Rule,
}

/// A no. Tells what is missing, never whether the path exists.
#[derive(Clone, Debug)]
pub struct Refused {
    /// Under which the audit log has the reason.
    pub decision_id: DecisionId,
    /// What is missing.
    pub verb: Verb,
    pub path: Path,
    /// The rule that denies; for the audit log, not for the caller.
    pub rule: Option<Rule>,
    /// It would be allowed if the answer were wrapped.
    pub if_wrapped: bool,
}

/// What else the principal may see, from the same place. Clones are judged by the same set, at the same time: those of the
/// request, until it is [reviewed](Scope::review).
#[derive(Clone)]
pub struct Scope {
    judged: Arc<ArcSwap<Judged>>,
    principal: Arc<Principal>,
}

/// By what, and when.
struct Judged {
    set: Arc<PolicySet>,
    context: Context,
}

/// Why a scope is no longer good.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outdated {
    /// Another policy is in force, and not all that it says of these paths is the same.
    Changed,
    /// What was allowed is no more.
    Denied,
}

impl PolicySet {
    /// Answers a question, with the names of whatever decided.
    pub fn decide(&self, question: &Question<'_>) -> Decision {
        match self.judge(question) {
            Verdict::Root => Decision::Allow(Rule::root()),
            Verdict::Allow(reason) => Decision::Allow(reason.into()),
            Verdict::Deny(reason) => Decision::Deny(reason.map(Rule::from)),
        }
    }

    /// Answers a question.
    pub fn judge(&self, question: &Question<'_>) -> Verdict<'_> {
        if *question.principal == Principal::Root {
            return Verdict::Root;
        }
        let values = Values::of(question.principal);
        let heads = heads(question.path.as_str());
        let mut allow = None;
        for grant in self.grants(question.principal).flat_map(|grants| grants.near(heads)) {
            for (at, rule) in grant.role.rules().enumerate() {
                if rule.effect == Effect::Allow && allow.is_some() || !rule.matches(question, &values) {
                    continue;
                }
                if !grant.holds(question.principal, question.context, rule.effect) {
                    continue;
                }
                let reason = Reason::new(grant, at, rule.effect);
                match rule.effect {
                    Effect::Deny => return Verdict::Deny(Some(reason)),
                    Effect::Allow => allow = Some(reason),
                }
            }
        }
        allow.map_or(Verdict::Deny(None), Verdict::Allow)
    }

    /// The roles that count for `principal` here and now, sorted.
    pub fn roles_of(&self, principal: &Principal, context: &Context) -> Vec<String> {
        if *principal == Principal::Root {
            return vec![ROOT.to_owned()];
        }
        let grants = self.grants(principal).flat_map(Grants::all);
        let counting = grants.filter(|grant| grant.holds(principal, context, Effect::Allow));
        let mut roles: Vec<String> = counting.map(|grant| grant.role.name.to_string()).collect();
        roles.sort_unstable();
        roles.dedup();
        roles
    }

    /// Whether something that can be seen may lie at or below `folder`. A yes may be wrong, a no never is.
    fn sees_folder(&self, principal: &Principal, context: &Context, folder: &Path) -> bool {
        if *principal == Principal::Root {
            return true;
        }
        let values = Values::of(principal);
        let (mut seen, mut hidden) = (0_u8, 0_u8);
        for grant in self.grants(principal).flat_map(Grants::all) {
            for rule in grant.role.rules().filter(|rule| rule.verbs.0 & SEEING != 0) {
                let hit = match rule.effect {
                    Effect::Allow => {
                        rule.paths().any(|pattern| pattern.reaches_below(folder, &values, Unfilled::Nothing))
                    }
                    Effect::Deny => rule.paths().any(|pattern| pattern.covers(folder, &values)),
                };
                if hit && grant.holds(principal, context, rule.effect) {
                    match rule.effect {
                        Effect::Allow => seen |= rule.verbs.0,
                        Effect::Deny => hidden |= rule.verbs.0,
                    }
                }
            }
        }
        seen & !hidden & SEEING != 0
    }
}

/// The verbs of which one is enough to be shown a name. Not `create`: who may only make things learns nothing.
const SEEN_BY: [Verb; 7] =
    [Verb::Read, Verb::List, Verb::Update, Verb::Delete, Verb::Destroy, Verb::Manage, Verb::Use];

const SEEING: u8 = {
    use super::verbs::bit;
    bit(Verb::Read)
        | bit(Verb::List)
        | bit(Verb::Update)
        | bit(Verb::Delete)
        | bit(Verb::Destroy)
        | bit(Verb::Manage)
        | bit(Verb::Use)
};

impl RoleRule<'_> {
    fn matches(&self, question: &Question<'_>, values: &Values<'_>) -> bool {
        let unfilled = self.effect.unfilled();
        self.verbs.has(question.verb)
            && self.paths().any(|pattern| pattern.matches(question.path, values, unfilled))
    }
}

impl Context {
    /// Whether what does not hold would, if the answer were wrapped.
    fn may_hide(&self, holds: impl FnOnce(&Self) -> bool) -> bool {
        !self.wrapped && holds(&Self { wrapped: true, ..*self })
    }
}

impl Grant<'_> {
    fn holds(&self, principal: &Principal, context: &Context, effect: Effect) -> bool {
        self.conditions.is_none_or(|conditions| conditions.hold(principal, context, effect))
    }
}

impl Effect {
    pub(super) fn unfilled(self) -> Unfilled {
        match self {
            Effect::Allow => Unfilled::Nothing,
            Effect::Deny => Unfilled::Everything,
        }
    }
}

impl Conditions {
    /// Whether a rule of this effect counts. An unknown peer, or no pod, fails an allow and does not escape a deny.
    pub(super) fn hold(&self, principal: &Principal, context: &Context, effect: Effect) -> bool {
        let started = self.from.is_none_or(|from| from <= context.now);
        let ended = self.until.is_some_and(|until| until <= context.now);
        let near = match context.peer {
            _ if self.cidrs.is_empty() => true,
            None => effect == Effect::Deny,
            // A dual-stack listener shows IPv4 peers as ::ffff:a.b.c.d.
            Some(peer) => self.cidrs.iter().any(|cidr| cidr.contains(&peer.to_canonical())),
        };
        let in_pod = !self.pod || effect == Effect::Deny || principal.pod().is_some();
        let hidden = !self.wrapped || effect == Effect::Deny || context.wrapped;
        started && !ended && near && in_pod && hidden
    }
}

/// Judges a request. `verbs` are alternatives: granted are those allowed on every one of `paths`.
///
/// # Errors
/// None is granted, or nothing was asked: names the first verb and the first path where it is missing.
pub fn authorize(
    set: &Arc<PolicySet>,
    request_id: RequestId,
    decision_id: DecisionId,
    principal: Arc<Principal>,
    verbs: &[Verb],
    paths: Vec<Path>,
    context: Context,
) -> Result<Allowed, Refused> {
    let mut granted = Vec::new();
    let mut reason = None;
    let mut refused = None;
    for &verb in verbs {
        match on_all(set, &principal, verb, &paths, &context) {
            Ok(rule) => {
                granted.push(verb);
                reason = reason.or(rule);
            }
            Err((path, rule)) => {
                let if_wrapped =
                    context.may_hide(|hidden| on_all(set, &principal, verb, &paths, hidden).is_ok());
                refused = refused.or(Some(Refused { decision_id, verb, path, rule, if_wrapped }));
            }
        }
    }
    let rule = match reason {
        Some(Verdict::Root) => Some(Rule::root()),
        Some(Verdict::Allow(reason)) => Some(reason.into()),
        Some(Verdict::Deny(_)) | None => None,
    };
    match (rule, paths.first().cloned(), refused) {
        (Some(rule), Some(first), _) => {
            let scope = Scope::new(Arc::clone(set), principal, context);
            Ok(Allowed { request_id, decision_id, verbs: granted, paths, first, scope, rule })
        }
        (_, _, Some(refused)) => Err(refused),
        // No verb or no path: nothing that could be allowed. Callers always ask for something.
        (_, first, None) => {
            let verb = verbs.first().copied().unwrap_or(Verb::Manage);
            let path = first.unwrap_or_else(super::defaults::system);
            Err(Refused { decision_id, verb, path, rule: None, if_wrapped: false })
        }
    }
}

type Missing = (Path, Option<Rule>);

/// The verdict on the first path if all paths are allowed.
fn on_all<'a>(
    set: &'a PolicySet,
    principal: &Principal,
    verb: Verb,
    paths: &[Path],
    context: &Context,
) -> Result<Option<Verdict<'a>>, Missing> {
    let mut first = None;
    for path in paths {
        match set.judge(&Question { principal, verb, path, context }) {
            Verdict::Deny(reason) => return Err((path.clone(), reason.map(Rule::from))),
            allowed => first = first.or(Some(allowed)),
        }
    }
    Ok(first)
}

impl Allowed {
    pub fn request_id(&self) -> RequestId {
        self.request_id
    }

    /// Under which the audit log has it.
    pub fn decision_id(&self) -> DecisionId {
        self.decision_id
    }

    /// The first path.
    pub fn path(&self) -> &Path {
        &self.first
    }

    pub fn paths(&self) -> &[Path] {
        &self.paths
    }

    /// The verbs granted on all paths; at least one.
    pub fn verbs(&self) -> &[Verb] {
        &self.verbs
    }

    pub fn principal(&self) -> &Principal {
        &self.scope.principal
    }

    /// What else there is to see.
    pub fn scope(&self) -> &Scope {
        &self.scope
    }

    /// The rule that allowed the first granted verb on the first path.
    pub fn rule(&self) -> &Rule {
        &self.rule
    }
}

impl Scope {
    fn new(set: Arc<PolicySet>, principal: Arc<Principal>, context: Context) -> Self {
        Self { judged: Arc::new(ArcSwap::from_pointee(Judged { set, context })), principal }
    }

    /// Whether `verb` is allowed on `path`.
    pub fn may(&self, verb: Verb, path: &Path) -> bool {
        let judged = self.judged.load();
        let question = Question { principal: &self.principal, verb, path, context: &judged.context };
        judged.set.judge(&question).is_allowed()
    }

    /// Judges by the set `in_force` and the time `now` from here on, for whoever still acts on what was allowed long ago:
    /// one of `verbs` on each of `paths`.
    ///
    /// # Errors
    /// It is not allowed any more, or `in_force` says something else of what lies at or below the paths. Nothing of that
    /// may be told then.
    pub fn review(
        &self,
        in_force: &Arc<PolicySet>,
        now: Timestamp,
        verbs: &[Verb],
        paths: &[Path],
    ) -> Result<(), Outdated> {
        let judged = self.judged.load_full();
        let is_other = !Arc::ptr_eq(&judged.set, in_force);
        if is_other && !paths.iter().all(|path| in_force.agrees(&judged.set, &self.principal, path)) {
            return Err(Outdated::Changed);
        }
        if is_other || judged.context.now != now {
            let context = Context { now, ..judged.context };
            self.judged.store(Arc::new(Judged { set: Arc::clone(in_force), context }));
        }
        // The same rules may say something else by now: bindings have a beginning and an end.
        match paths.iter().all(|path| verbs.iter().any(|verb| self.may(*verb, path))) {
            true => Ok(()),
            false => Err(Outdated::Denied),
        }
    }

    /// Whether the name of what is at `path` may be shown: any verb but `create` is allowed on it.
    pub fn sees_leaf(&self, path: &Path) -> bool {
        SEEN_BY.into_iter().any(|verb| self.may(verb, path))
    }

    /// Whether `folder` may be shown: something at or below it may be seen. A no is certain.
    pub fn sees_folder(&self, folder: &Path) -> bool {
        let judged = self.judged.load();
        judged.set.sees_folder(&self.principal, &judged.context, folder)
    }
}

impl Rule {
    fn root() -> Self {
        Self { role: ROOT.into(), binding: ROOT.into(), index: 1, effect: Effect::Allow }
    }
}

impl Verdict<'_> {
    pub fn is_allowed(&self) -> bool {
        matches!(self, Verdict::Root | Verdict::Allow(_))
    }
}

impl<'a> Reason<'a> {
    pub(super) fn new(grant: Grant<'a>, at: usize, effect: Effect) -> Self {
        Self { role: grant.role, binding: grant.binding, at, effect }
    }
}

impl From<Reason<'_>> for Rule {
    fn from(reason: Reason<'_>) -> Self {
        Self {
            role: Arc::clone(&reason.role.name),
            binding: Arc::clone(&reason.binding.name),
            index: u32::try_from(reason.at).unwrap_or(u32::MAX).saturating_add(1),
            effect: reason.effect,
        }
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { role, binding, index, effect } = self;
        write!(f, "role {role}, rule {index} ({effect}) by binding {binding}")
    }
}

impl fmt::Display for Decision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Decision::Allow(rule) | Decision::Deny(Some(rule)) => write!(f, "{rule}"),
            Decision::Deny(None) => f.write_str("no rule allows it"),
        }
    }
}
