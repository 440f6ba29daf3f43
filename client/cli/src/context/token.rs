//! The session token: which one is meant, and where it lives. The environment comes first, then the last login of the
//! profile. What is done to a token is done to the one that was used.

use std::{env, fmt, fs, path::PathBuf};

use strongroom_client::SecretBytes;

use super::profile::{Kept, Profile};
use crate::{failure::Failure, input::content::trimmed, private_file};

const VARIABLE: &str = "STRONGROOM_TOKEN";
const FILE_VARIABLE: &str = "STRONGROOM_TOKEN_FILE";

/// Where a token comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    Variable,
    /// Named by a variable.
    File(PathBuf),
    /// The last login.
    Profile(String),
}

impl Source {
    /// The one that counts now. A variable that is empty is one that is not set.
    pub(crate) fn current(profile: &Profile) -> Self {
        let set = |name| env::var_os(name).filter(|value| !value.is_empty());
        match (set(VARIABLE), set(FILE_VARIABLE)) {
            (Some(_), _) => Self::Variable,
            (None, Some(path)) => Self::File(path.into()),
            (None, None) => Self::Profile(profile.name.clone()),
        }
    }

    /// The token; one that was kept goes only to the server that it is for.
    pub(crate) fn read(&self, profile: &Profile, server: &str) -> Result<Option<SecretBytes>, Failure> {
        let kept = match self {
            Self::Variable => {
                let text =
                    env::var(VARIABLE).map_err(|_| Failure::usage(format!("{VARIABLE} is not text")))?;
                return Ok(Some(trimmed(SecretBytes::from(text))));
            }
            Self::File(path) => {
                let bytes = fs::read(path).map_err(|error| Failure::local(path.display(), error))?;
                Some(Kept::parse(SecretBytes::new(bytes)))
            }
            Self::Profile(_) => profile.kept()?,
        };
        match kept {
            Some(Kept { server: Some(from), .. }) if from != server => {
                Err(Failure::OtherServer { from, to: server.to_owned() })
            }
            kept => Ok(kept.map(|kept| kept.token)),
        }
    }

    /// Whether a new token can take the place of the one that came from here.
    pub(crate) fn check_replaceable(&self) -> Result<(), Failure> {
        match self {
            Self::Variable => Err(Failure::usage(format!(
                "the token is in {VARIABLE}, where a new one cannot be put; use {FILE_VARIABLE}, or log in"
            ))),
            Self::File(_) | Self::Profile(_) => Ok(()),
        }
    }

    /// Puts a new token in the place of the one that came from here.
    pub(crate) fn replace(
        &self,
        profile: &Profile,
        token: &SecretBytes,
        server: &str,
    ) -> Result<(), Failure> {
        match self {
            Self::Variable => self.check_replaceable(),
            Self::File(path) => private_file::write(path, token.expose()),
            Self::Profile(_) => profile.save_token(token, server),
        }
    }

    /// Nobody needs the token any more. A variable and a file that somebody else made are theirs to take away.
    pub(crate) fn forget(&self, profile: &Profile) -> Result<(), Failure> {
        match self {
            Self::Variable | Self::File(_) => Ok(()),
            Self::Profile(_) => profile.forget_token(),
        }
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Variable => f.write_str(VARIABLE),
            Self::File(path) => write!(f, "{FILE_VARIABLE} ({})", path.display()),
            Self::Profile(name) => write!(f, "the login of profile {name}"),
        }
    }
}
