//! A policy set: all roles and bindings, checked, indexed and never changed again. Knows no store and no clock.
//!
//! The index goes from a subject to its bindings, so a decision costs what is bound to the asker, not what exists. A set
//! that differs in a few documents is made from the one before, and costs what they concern.

use std::{collections::BTreeSet, sync::Arc};

use super::{
    defaults,
    document::{Binding, Documents, ObjectKind, Subject},
    index::{ALL, Grants, Index, key_of},
    role::Role,
};
use crate::model::{Invalid, Principal};

/// So many bindings are always few.
const FEW: usize = 64;

/// See the module. The default one has no binding, so it allows nobody but root anything.
pub struct PolicySet {
    documents: Arc<Documents>,
    index: Index,
}

impl Default for PolicySet {
    fn default() -> Self {
        Self { documents: Arc::default(), index: Index::for_subjects(0) }
    }
}

impl PolicySet {
    /// Checks that all fits together and builds the index. The default roles are always there.
    ///
    /// # Errors
    /// Every binding whose role does not exist.
    pub fn compile(documents: impl Into<Arc<Documents>>) -> Result<Self, Vec<Invalid>> {
        let documents = documents.into();
        let subjects = documents.bindings.values().map(|binding| binding.subjects.len()).sum();
        let mut index = Index::for_subjects(subjects);
        for binding in documents.bindings.values() {
            match role_of(&documents, binding) {
                Some(role) => index.bind(role, binding),
                None => return Err(super::document::dangling(&documents)),
            }
        }
        Ok(Self { documents, index })
    }

    /// The set of `next`, which differs from this one's documents in no others than `changed`.
    ///
    /// # Errors
    /// Every binding whose role does not exist.
    pub(super) fn with(
        &self,
        next: &Arc<Documents>,
        changed: &[(ObjectKind, Arc<str>)],
    ) -> Result<Self, Vec<Invalid>> {
        let of = |kind| changed.iter().filter(move |change| change.0 == kind).map(|(_, name)| name);
        let roles: BTreeSet<_> = of(ObjectKind::Role).collect();
        let problems = match roles.is_empty() {
            true => super::document::dangling_of(next, of(ObjectKind::Binding)),
            false => super::document::dangling(next),
        };
        if !problems.is_empty() {
            return Err(problems);
        }
        let mut names: Vec<&Arc<str>> = of(ObjectKind::Binding).collect();
        if !roles.is_empty() {
            let concerned = |binding: &&Arc<Binding>| roles.contains(&binding.role);
            let bindings = self.documents.bindings.values().filter(concerned);
            names.extend(bindings.map(|binding| &binding.name));
        }
        // Where that many are concerned, a table of the right size is made as quickly.
        if names.len() > FEW && names.len() > self.documents.bindings.len() / 4 {
            return Self::compile(Arc::clone(next));
        }
        let mut index = self.index.clone();
        for name in names {
            if let Some(binding) = self.documents.bindings.get(name) {
                index.unbind(binding);
            }
            let now = next.bindings.get(name).and_then(|binding| Some((role_of(next, binding)?, binding)));
            if let Some((role, binding)) = now {
                index.bind(role, binding);
            }
        }
        match index.is_crowded() {
            true => Self::compile(Arc::clone(next)),
            false => Ok(Self { documents: Arc::clone(next), index }),
        }
    }

    /// What it was made from, without the default roles.
    pub(super) fn documents(&self) -> &Arc<Documents> {
        &self.documents
    }

    /// All roles, the default ones included.
    pub(super) fn roles(&self) -> impl Iterator<Item = &Arc<Role>> {
        defaults::roles().values().chain(self.documents.roles.values())
    }

    /// All bindings, sorted by name.
    pub(super) fn bindings(&self) -> impl Iterator<Item = &Arc<Binding>> {
        self.documents.bindings.values()
    }

    /// Everything bound to `principal`, directly, by wildcard or by group.
    pub(super) fn grants<'a>(&'a self, principal: &Principal) -> impl Iterator<Item = &'a Grants> {
        let (direct, groups): ([Option<&'a Grants>; 3], _) = match principal {
            Principal::Root => ([None; 3], &[][..]),
            Principal::User { method, name, groups, .. } => {
                ([self.index.get(["user", method, name, ""]), None, None], groups.as_slice())
            }
            Principal::ServiceAccount { cluster, namespace, name, .. } => {
                (self.service_account(cluster, namespace, name), &[][..])
            }
        };
        let group = |group: &crate::model::Group| self.index.get(["group", &group.method, &group.name, ""]);
        direct.into_iter().flatten().chain(groups.iter().filter_map(group))
    }

    /// What is bound to a subject itself, or to a wider one that always holds it.
    pub(super) fn grants_of_subject(&self, subject: &Subject) -> impl Iterator<Item = &Grants> {
        let [kind, first, second, third] = key_of(subject);
        let found = match subject {
            Subject::ServiceAccount { .. } => self.service_account(first, second, third),
            Subject::User { .. } | Subject::Group { .. } => {
                [self.index.get([kind, first, second, third]), None, None]
            }
        };
        found.into_iter().flatten()
    }

    /// What is bound to a name that stands for all, every name has: finding it twice does no harm.
    fn service_account(&self, cluster: &str, namespace: &str, name: &str) -> [Option<&Grants>; 3] {
        [(namespace, name), (namespace, ALL), (ALL, ALL)]
            .map(|(namespace, name)| self.index.get(["account", cluster, namespace, name]))
    }
}

fn role_of<'a>(documents: &'a Documents, binding: &Binding) -> Option<&'a Arc<Role>> {
    defaults::roles().get(&binding.role).or_else(|| documents.roles.get(&binding.role))
}
