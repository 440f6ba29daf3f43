//! What an apply would change: the plan and its diff. Pure; the store carries it out.

use std::{collections::BTreeSet, sync::Arc};

use similar::TextDiff;

use super::{
    defaults,
    document::{Documents, ObjectKind, dangling, dangling_of},
    parse::{BINDINGS, ROLES},
    set::PolicySet,
};
use crate::model::{Invalid, Verb};

/// Longest document as it is stored: one sealed record, its name included.
const DOCUMENT_BYTES: usize = 56 << 10;
/// Most canonical text of one plan, so that it can be written at once.
const PLAN_BYTES: usize = 1 << 20;

/// An apply that fits: what it changes, and what will be there after it.
pub struct Plan {
    changes: Vec<Change>,
    /// What is not the same afterwards, by name.
    pub(super) changed: Vec<(ObjectKind, Arc<str>)>,
    pub(super) base: Arc<Documents>,
    pub(super) next: Arc<Documents>,
}

/// What happens to one document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// Role or binding.
    pub kind: ObjectKind,
    pub name: String,
    pub action: Action,
    /// Unified diff of the canonical YAML; empty when unchanged.
    pub diff: String,
}

/// See [`Change`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    Created,
    /// It is there and becomes another.
    Changed,
    /// It is there just so.
    Unchanged,
    Removed,
}

impl Plan {
    /// Whether nobody may change the policy any more after it, where somebody may now.
    pub fn locks_out(&self, current: &PolicySet) -> bool {
        let somebody = |set: &PolicySet| set.anybody_can(Verb::Manage, &defaults::policy());
        // What does not compile is refused by the store, with its reason.
        somebody(current) && self.after(current).is_ok_and(|next| !somebody(&next))
    }

    /// The set after it.
    ///
    /// # Errors
    /// Every binding whose role does not exist.
    pub(super) fn after(&self, current: &PolicySet) -> Result<PolicySet, Vec<Invalid>> {
        match *current.documents() == self.base {
            true => current.with(&self.next, &self.changed),
            false => PolicySet::compile(Arc::clone(&self.next)),
        }
    }

    /// What happens, roles first, sorted by name.
    pub fn changes(&self) -> &[Change] {
        &self.changes
    }
}

/// Plans to put the documents of `apply` in place of those of the same names, and to remove `remove`.
///
/// # Errors
/// All that does not fit: bindings left without their role, names to remove that are not there, too much of something.
pub fn plan(
    current: &Arc<Documents>,
    apply: Documents,
    remove: &[(ObjectKind, String)],
) -> Result<Plan, Vec<Invalid>> {
    let mut problems = Vec::new();
    let mut touched: BTreeSet<(ObjectKind, Arc<str>)> =
        apply.names().map(|(kind, name)| (kind, Arc::clone(name))).collect();
    let mut next = Documents::clone(current);
    for (kind, name) in remove {
        let problem = if *kind == ObjectKind::Role && defaults::RESERVED.contains(&name.as_str()) {
            "is built in and cannot be removed"
        } else if touched.contains(&(*kind, name.as_str().into())) {
            "is to be applied and removed at once, or removed twice"
        } else if !next.remove(*kind, name) {
            "does not exist"
        } else {
            touched.insert((*kind, name.as_str().into()));
            continue;
        };
        problems.push(Invalid::new(format!("remove {kind} {}", name.escape_debug()), problem));
    }
    next.extend(apply);
    // A role that goes concerns bindings that are not named; nothing else does.
    let goes =
        |(kind, name): &(ObjectKind, Arc<str>)| *kind == ObjectKind::Role && !next.roles.contains_key(name);
    problems.extend(match touched.iter().any(goes) {
        true => dangling(&next),
        false => dangling_of(&next, touched.iter().map(|(_, name)| name)),
    });
    for (what, count, most) in
        [("roles", next.roles.len(), ROLES), ("bindings", next.bindings.len(), BINDINGS)]
    {
        if count > most {
            problems.push(Invalid::new("yaml", format!("makes {count} {what}; at most {most} are allowed")));
        }
    }
    let mut total = 0;
    for (kind, name) in &touched {
        let bytes = next.stored(*kind, name).map_or(0, |text| text.len());
        if bytes > DOCUMENT_BYTES {
            let problem = format!("has {bytes} bytes as it is stored; at most {DOCUMENT_BYTES} are allowed");
            problems.push(Invalid::new(format!("{kind} {name}"), problem));
        }
        // A removal is a line with the name; between two documents stands `---`.
        total += next.text(*kind, name).map_or(0, |text| text.len()) + name.len() + 16;
    }
    if total > PLAN_BYTES {
        let problem =
            format!("has {total} bytes as canonical YAML; at most {PLAN_BYTES} at once: apply it in parts");
        problems.push(Invalid::new("yaml", problem));
    }
    if !problems.is_empty() {
        return Err(problems);
    }
    let changes: Vec<Change> =
        touched.iter().map(|(kind, name)| change(current, &next, *kind, name)).collect();
    let named = touched.into_iter().zip(&changes);
    let changed =
        named.filter(|(_, change)| change.action != Action::Unchanged).map(|(name, _)| name).collect();
    Ok(Plan { changes, changed, base: Arc::clone(current), next: Arc::new(next) })
}

fn change(current: &Documents, next: &Documents, kind: ObjectKind, name: &str) -> Change {
    let (old, new) = (current.text(kind, name), next.text(kind, name));
    let action = match (&old, &new) {
        (None, _) => Action::Created,
        (Some(_), None) => Action::Removed,
        (Some(old), Some(new)) if old == new => Action::Unchanged,
        (Some(_), Some(_)) => Action::Changed,
    };
    let (old, new) = (old.unwrap_or_default(), new.unwrap_or_default());
    let diff = match action {
        Action::Unchanged => String::new(),
        _ => TextDiff::from_lines(old.as_str(), new.as_str())
            .unified_diff()
            .header("before", "after")
            .to_string(),
    };
    Change { kind, name: name.to_owned(), action, diff }
}
