//! Who may do what.

pub(crate) mod apply;
pub(crate) mod ask;
