//! The roles every set has. They cannot be changed or removed, and their names are taken.
//!
//! Nobody can grant what they do not hold without `manage` on `sys/policy`, because every change of roles or bindings
//! needs just that. Of these roles only `admin` has it.

use std::{
    collections::BTreeMap,
    sync::{Arc, OnceLock},
};

use super::{document::Documents, role::Role};
use crate::model::Path;

/// Name of the built-in role of the root token. No binding can name it.
pub(super) const ROOT: &str = "root";

/// Names no document may take.
pub(super) const RESERVED: [&str; 4] = [ROOT, "admin", "operator", "auditor"];

const YAML: &str = r#"
kind: Role
name: admin
rules:
- {paths: ["**"], verbs: ["*"]}
---
kind: Role
name: operator
rules:
- {paths: [sys/seal, sys/rotate, sys/scrub], verbs: [read, update, manage]}
---
kind: Role
name: auditor
rules:
- {paths: [sys/audit], verbs: [read]}
- {paths: [sys/audit/hash], verbs: [use]}
- {paths: [sys/policy], verbs: [read]}
"#;

/// Read once; a test reads them too, so that they do parse.
pub(super) fn roles() -> &'static BTreeMap<Arc<str>, Arc<Role>> {
    static ROLES: OnceLock<BTreeMap<Arc<str>, Arc<Role>>> = OnceLock::new();
    ROLES.get_or_init(|| Documents::parse_trusted(YAML).map(|documents| documents.roles).unwrap_or_default())
}

/// The path of the system itself.
pub(super) fn system() -> Path {
    fixed("sys")
}

/// The path of the policy: who may manage it may give rights.
pub(super) fn policy() -> Path {
    fixed("sys/policy")
}

fn fixed(path: &str) -> Path {
    match Path::parse(path) {
        Ok(path) => path,
        Err(_) => unreachable!("{path} is a path"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_but_root_are_there() {
        assert_eq!(roles().keys().map(|name| &**name).collect::<Vec<_>>(), ["admin", "auditor", "operator"]);
        assert!(RESERVED.iter().skip(1).all(|name| roles().contains_key(*name)));
    }
}
