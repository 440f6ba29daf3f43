//! What commands are given: by people, from files and from standard input. It knows no command and no server.

pub(crate) mod content;
pub(crate) mod prompt;
pub(crate) mod span;
pub(crate) mod values;
