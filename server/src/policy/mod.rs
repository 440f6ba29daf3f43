//! Who may do what: roles, bindings and the decision. What a policy means stands in [`decide`].

mod agree;
#[cfg(test)]
mod conditions_tests;
pub mod decide;
mod defaults;
mod diff;
mod document;
mod explain;
mod index;
#[doc(hidden)]
pub mod oracle;
mod parse;
mod pattern;
mod role;
mod set;
pub mod store;
#[cfg(test)]
mod store_tests;
mod stored;
#[cfg(test)]
mod tests;
mod verbs;

pub use decide::{Allowed, Context, Decision, Outdated, Question, Refused, Rule, Scope, Verdict, authorize};
pub use diff::{Action, Change, Plan, plan};
pub use document::{Documents, ObjectKind};
pub use explain::WhoCan;
pub use set::PolicySet;
pub use verbs::Effect;
