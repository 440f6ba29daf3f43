//! The eight verbs. Everything a caller may do is one of them on a path.

use std::fmt;

/// What somebody wants to do with a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Verb {
    /// See the content.
    Read,
    List,
    /// Make what is not there.
    Create,
    /// Change what is there.
    Update,
    /// Hide, so that it can be brought back.
    Delete,
    /// Erase for good.
    Destroy,
    /// Issue, encrypt, sign, generate: let the server act with a secret it keeps.
    Use,
    /// Metadata and configuration.
    Manage,
}

impl Verb {
    /// All of them, in the order of the documentation.
    pub const ALL: [Verb; 8] = [
        Verb::Read,
        Verb::List,
        Verb::Create,
        Verb::Update,
        Verb::Delete,
        Verb::Destroy,
        Verb::Use,
        Verb::Manage,
    ];

    /// The word used in policies, on the wire and in the audit log.
    pub const fn as_str(self) -> &'static str {
        match self {
            Verb::Read => "read",
            Verb::List => "list",
            Verb::Create => "create",
            Verb::Update => "update",
            Verb::Delete => "delete",
            Verb::Destroy => "destroy",
            Verb::Use => "use",
            Verb::Manage => "manage",
        }
    }

    pub fn parse(text: &str) -> Option<Verb> {
        Self::ALL.into_iter().find(|verb| verb.as_str() == text)
    }
}

impl fmt::Display for Verb {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
