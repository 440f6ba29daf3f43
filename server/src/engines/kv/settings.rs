//! What the settings of a mount decide: how a new secret begins. Each secret has its own afterwards.

use strongroom_proto::limits::{DEFAULT_VERSIONS, MAX_VERSIONS};

use crate::{engines::Settings, model::Invalid};

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

impl Beginning {
    /// Reads the settings of a mount.
    ///
    /// # Errors
    /// Says which of them is wrong or unknown.
    pub(super) fn of(settings: &Settings) -> Result<Self, Invalid> {
        let mut beginning = Self::default();
        for (name, value) in settings {
            let field = format!("settings.{name}");
            match name.as_str() {
                "max_versions" => {
                    let kept = value.parse().ok().filter(|kept| (1..=MAX_VERSIONS).contains(kept));
                    let problem = || Invalid::new(field, format!("is not a number from 1 to {MAX_VERSIONS}"));
                    beginning.max_versions = kept.ok_or_else(problem)?;
                }
                "cas_required" => {
                    let required = value.parse().ok();
                    let problem = || Invalid::new(field, "is neither true nor false");
                    beginning.cas_required = required.ok_or_else(problem)?;
                }
                _ => {
                    let problem =
                        "has a setting that kv does not have; expected max_versions or cas_required";
                    return Err(Invalid::new("settings", problem));
                }
            }
        }
        Ok(beginning)
    }
}
