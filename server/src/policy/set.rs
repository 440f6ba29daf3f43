//! A policy set: all roles and bindings, checked, indexed and never changed again. Knows no store and no clock.
//!
//! The index goes from a subject to its bindings, so a decision costs what is bound to the asker, not what exists. A
//! subject of many bindings has a second index, by the one or two literal segments that paths begin with.

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
};

use super::{
    defaults,
    document::{Binding, Documents, Role, Subject},
};
use crate::model::{Invalid, Principal};

/// Up to this many bindings it is quicker to look at each of them.
const PLAIN_BINDINGS: usize = 8;
/// A role with more different beginnings than this is looked at for every path, so that the index stays small.
const ROLE_HEADS: usize = 64;

/// See the module. The default one has no binding, so it allows nobody but root anything.
#[derive(Default)]
pub struct PolicySet {
    pub(super) bound: Vec<Bound>,
    users: HashMap<Arc<str>, HashMap<Arc<str>, Grants>>,
    groups: HashMap<Arc<str>, HashMap<Arc<str>, Grants>>,
    clusters: HashMap<Arc<str>, Cluster>,
}

/// A binding and its role.
pub(super) struct Bound {
    pub(super) binding: Arc<Binding>,
    pub(super) role: Arc<Role>,
}

#[derive(Default)]
struct Cluster {
    any: Grants,
    namespaces: HashMap<Arc<str>, Namespace>,
}

#[derive(Default)]
struct Namespace {
    any: Grants,
    accounts: HashMap<Arc<str>, Grants>,
}

/// What is bound to one subject: places in `bound`.
#[derive(Default)]
pub(super) struct Grants {
    all: Vec<u32>,
    /// Only where there are many.
    by_head: Option<ByHead>,
}

#[derive(Default)]
struct ByHead {
    heads: HashMap<Box<str>, Vec<u32>>,
    rest: Vec<u32>,
}

impl PolicySet {
    /// Checks that all fits together and builds the index. The default roles are always there.
    ///
    /// # Errors
    /// Every binding whose role does not exist.
    pub fn compile(documents: Documents) -> Result<Self, Vec<Invalid>> {
        let defaults = defaults::roles();
        let problems = super::document::dangling(&documents);
        if !problems.is_empty() {
            return Err(problems);
        }
        let mut set = Self {
            bound: Vec::with_capacity(documents.bindings.len()),
            users: HashMap::new(),
            groups: HashMap::new(),
            clusters: HashMap::new(),
        };
        for binding in documents.bindings.values() {
            let role = defaults.get(&binding.role).or_else(|| documents.roles.get(&binding.role));
            if let Some(role) = role {
                set.add(Bound { binding: Arc::clone(binding), role: Arc::clone(role) });
            }
        }
        set.index_many();
        Ok(set)
    }

    fn add(&mut self, bound: Bound) {
        // At most 200,000 bindings, so the number fits.
        let place = u32::try_from(self.bound.len()).unwrap_or(u32::MAX);
        for subject in &bound.binding.subjects {
            let grants = self.grants_mut(subject);
            if grants.all.last() != Some(&place) {
                grants.all.push(place);
            }
        }
        self.bound.push(bound);
    }

    fn grants_mut(&mut self, subject: &Subject) -> &mut Grants {
        match subject {
            Subject::User { method, name } => {
                named(&mut self.users, method).entry(Arc::clone(name)).or_default()
            }
            Subject::Group { method, name } => {
                named(&mut self.groups, method).entry(Arc::clone(name)).or_default()
            }
            Subject::ServiceAccount { cluster, namespace, name } => {
                let cluster = self.clusters.entry(Arc::clone(cluster)).or_default();
                let Some(namespace) = namespace else { return &mut cluster.any };
                let namespace = cluster.namespaces.entry(Arc::clone(namespace)).or_default();
                match name {
                    Some(name) => namespace.accounts.entry(Arc::clone(name)).or_default(),
                    None => &mut namespace.any,
                }
            }
        }
    }

    fn index_many(&mut self) {
        let bound = &self.bound;
        for grants in self.users.values_mut().chain(self.groups.values_mut()).flat_map(HashMap::values_mut) {
            grants.index(bound);
        }
        for cluster in self.clusters.values_mut() {
            cluster.any.index(bound);
            for namespace in cluster.namespaces.values_mut() {
                namespace.any.index(bound);
                namespace.accounts.values_mut().for_each(|grants| grants.index(bound));
            }
        }
    }

    /// Everything bound to `principal`, directly, by wildcard or by group.
    pub(super) fn grants<'a>(&'a self, principal: &'a Principal) -> impl Iterator<Item = &'a Grants> + 'a {
        let (direct, groups): ([Option<&Grants>; 3], _) = match principal {
            Principal::Root => ([None; 3], &[][..]),
            Principal::User { method, name, groups, .. } => {
                ([self.user(method, name), None, None], groups.as_slice())
            }
            Principal::ServiceAccount { cluster, namespace, name, .. } => {
                (self.service_account(cluster, Some(namespace), Some(name)), &[][..])
            }
        };
        direct
            .into_iter()
            .flatten()
            .chain(groups.iter().filter_map(|group| self.group(&group.method, &group.name)))
    }

    /// What is bound to a subject itself, or to a wider one that always holds it.
    pub(super) fn grants_of_subject(&self, subject: &Subject) -> [Option<&Grants>; 3] {
        match subject {
            Subject::User { method, name } => [self.user(method, name), None, None],
            Subject::Group { method, name } => [self.group(method, name), None, None],
            Subject::ServiceAccount { cluster, namespace, name } => {
                self.service_account(cluster, namespace.as_deref(), name.as_deref())
            }
        }
    }

    fn user(&self, method: &str, name: &str) -> Option<&Grants> {
        self.users.get(method)?.get(name)
    }

    fn group(&self, method: &str, name: &str) -> Option<&Grants> {
        self.groups.get(method)?.get(name)
    }

    fn service_account(
        &self,
        cluster: &str,
        namespace: Option<&str>,
        name: Option<&str>,
    ) -> [Option<&Grants>; 3] {
        let Some(cluster) = self.clusters.get(cluster) else { return [None; 3] };
        let namespace = namespace.and_then(|namespace| cluster.namespaces.get(namespace));
        let exact = namespace.zip(name).and_then(|(namespace, name)| namespace.accounts.get(name));
        [exact, namespace.map(|namespace| &namespace.any), Some(&cluster.any)]
    }

    pub(super) fn bound(&self, place: u32) -> Option<&Bound> {
        self.bound.get(usize::try_from(place).ok()?)
    }
}

fn named<'a>(
    by_method: &'a mut HashMap<Arc<str>, HashMap<Arc<str>, Grants>>,
    method: &Arc<str>,
) -> &'a mut HashMap<Arc<str>, Grants> {
    by_method.entry(Arc::clone(method)).or_default()
}

impl Grants {
    fn index(&mut self, bound: &[Bound]) {
        if self.all.len() <= PLAIN_BINDINGS {
            return;
        }
        let mut by_head = ByHead::default();
        for &place in &self.all {
            let Some(one) = usize::try_from(place).ok().and_then(|place| bound.get(place)) else { continue };
            let patterns = || one.role.rules.iter().flat_map(|rule| &rule.paths);
            let heads: BTreeSet<&str> = patterns().filter_map(|pattern| pattern.head()).collect();
            if heads.len() > ROLE_HEADS || patterns().any(|pattern| pattern.head().is_none()) {
                by_head.rest.push(place);
                continue;
            }
            for head in heads {
                by_head.heads.entry(head.into()).or_default().push(place);
            }
        }
        self.by_head = Some(by_head);
    }

    pub(super) fn all(&self) -> &[u32] {
        &self.all
    }

    /// Those that may have a rule for a path with these beginnings; a binding may come twice.
    pub(super) fn near(&self, heads: (&str, Option<&str>)) -> impl Iterator<Item = u32> {
        let [rest, one, two]: [&[u32]; 3] = match &self.by_head {
            None => [&self.all, &[], &[]],
            Some(index) => {
                let get = |head: &str| index.heads.get(head).map_or(&[][..], Vec::as_slice);
                [&index.rest, get(heads.0), heads.1.map_or(&[][..], get)]
            }
        };
        rest.iter().chain(one).chain(two).copied()
    }
}
