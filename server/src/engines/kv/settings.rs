//! What the settings of a mount decide: how a new secret begins (each has its own afterwards), and how much may be kept.

use std::collections::BTreeMap;

use strongroom_proto::limits::{DEFAULT_VERSIONS, MAX_VERSIONS};

use crate::{
    engines::Settings,
    model::{Invalid, Path},
};

/// Most quotas of one mount: each write looks at all of them.
const MAX_QUOTAS: usize = 64;
/// Most MiB of a quota: a PiB.
const MAX_QUOTA_MIB: u64 = 1 << 30;

/// The settings of one mount.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct KvSettings {
    pub(super) beginning: Beginning,
    /// Bytes by folder; the empty one is the whole mount.
    pub(super) quotas: BTreeMap<Box<str>, u64>,
}

/// The settings of a secret whose own nobody has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Beginning {
    pub(super) max_versions: u32,
    pub(super) cas_required: bool,
}

impl Default for Beginning {
    fn default() -> Self {
        Self { max_versions: DEFAULT_VERSIONS, cas_required: false }
    }
}

impl KvSettings {
    /// Reads the settings of a mount.
    ///
    /// # Errors
    /// Says which of them is wrong or unknown.
    pub(super) fn of(settings: &Settings) -> Result<Self, Invalid> {
        let mut read = Self::default();
        for (name, value) in settings {
            let wrong = |problem: String| Invalid::new(format!("settings.{name}"), problem);
            match name.split_once('/').map_or((name.as_str(), None), |(name, folder)| (name, Some(folder))) {
                ("max_versions", None) => {
                    let kept = value.parse().ok().filter(|kept| (1..=MAX_VERSIONS).contains(kept));
                    let problem = || wrong(format!("is not a number from 1 to {MAX_VERSIONS}"));
                    read.beginning.max_versions = kept.ok_or_else(problem)?;
                }
                ("cas_required", None) => {
                    let problem = || wrong("is neither true nor false".to_owned());
                    read.beginning.cas_required = value.parse().map_err(|_| problem())?;
                }
                ("quota_mib", folder) => {
                    let mib = value.parse().ok().filter(|mib| (1..=MAX_QUOTA_MIB).contains(mib));
                    let problem = || wrong(format!("is not a number of MiB from 1 to {MAX_QUOTA_MIB}"));
                    let bytes = mib.ok_or_else(problem)? << 20;
                    let folder = folder.unwrap_or_default();
                    if name.contains('/') {
                        // As a path of some mount would be.
                        Path::parse(&format!("mount/{folder}")).map_err(|error| {
                            wrong(format!("does not name a folder of the mount after the slash: {error}"))
                        })?;
                    }
                    read.quotas.insert(folder.into(), bytes);
                }
                _ => {
                    return Err(Invalid::new(
                        "settings",
                        "has a setting that kv does not have; expected max_versions, cas_required, quota_mib or quota_mib/FOLDER",
                    ));
                }
            }
        }
        if read.quotas.len() > MAX_QUOTAS {
            let problem = format!("has {} quotas; at most {MAX_QUOTAS} are allowed", read.quotas.len());
            return Err(Invalid::new("settings", problem));
        }
        Ok(read)
    }
}
