//! What a rule says of its paths: which verbs, and whether they are allowed or denied.

use std::fmt;

use crate::model::Verb;

/// What a rule does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Effect {
    /// Allows, where nothing denies.
    Allow,
    /// Denies, whatever allows.
    Deny,
}

/// A set of verbs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Verbs(pub(super) u8);

pub(super) const fn bit(verb: Verb) -> u8 {
    1 << verb as u8
}

impl Verbs {
    pub(super) const ALL: Verbs = Verbs(u8::MAX);

    pub(super) fn has(self, verb: Verb) -> bool {
        self.0 & bit(verb) != 0
    }

    pub(super) fn add(&mut self, verb: Verb) {
        self.0 |= bit(verb);
    }
}

impl fmt::Display for Effect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Effect::Allow => "allow",
            Effect::Deny => "deny",
        })
    }
}

impl fmt::Display for Verbs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if *self == Verbs::ALL {
            return f.write_str("[\"*\"]");
        }
        let words =
            Verb::ALL.into_iter().filter(|verb| self.has(*verb)).map(Verb::as_str).collect::<Vec<_>>();
        write!(f, "[{}]", words.join(", "))
    }
}
