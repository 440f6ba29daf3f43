//! What RPCs are called over gRPC: `Secrets.Get` is `/strongroom.v1.Secrets/Get`.

use std::{collections::HashMap, sync::LazyLock};

use crate::admission::access::TABLE;

/// The path of an RPC by its name. What has no package in its name is ours.
pub fn path(name: &str) -> String {
    let (service, method) = name.rsplit_once('.').unwrap_or((name, ""));
    let package = if service.contains('.') { "" } else { "strongroom.v1." };
    format!("/{package}{service}/{method}")
}

/// The name of an RPC by its path.
pub(super) fn name(of: &str) -> Option<&'static str> {
    static NAMES: LazyLock<HashMap<String, &'static str>> =
        LazyLock::new(|| TABLE.iter().map(|access| (path(access.name), access.name)).collect());
    NAMES.get(of).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_and_names_are_found_by_each_other() {
        assert_eq!(path("Secrets.Get"), "/strongroom.v1.Secrets/Get");
        assert_eq!(path("grpc.health.v1.Health.Check"), "/grpc.health.v1.Health/Check");
        for access in TABLE.iter() {
            assert_eq!(name(&path(access.name)), Some(access.name));
        }
        for none in ["", "/", "Secrets.Get", "/Secrets/Get", "/strongroom.v1.Secrets/get"] {
            assert_eq!(name(none), None, "{none:?}");
        }
    }
}
