//! Profiles: which server, known by which CA, with which token. `config.toml` names the servers, one file per profile
//! holds its token; both are the owner's alone.

use std::{collections::BTreeMap, path::PathBuf};

use etcetera::{BaseStrategy, choose_base_strategy};
use serde::{Deserialize, Serialize};
use strongroom_client::SecretBytes;

use crate::{failure::Failure, input::content::trimmed, private_file};

/// The profile when nothing else is said.
const DEFAULT: &str = "default";

/// `config.toml`.
#[derive(Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Config {
    /// The profile to use when none is named.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    default: Option<String>,
    #[serde(default)]
    profiles: BTreeMap<String, Server>,
}

/// One server.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Server {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) address: Option<String>,
    /// PEM file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) ca: Option<PathBuf>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) server_name: Option<String>,
}

/// The profile in use.
pub(crate) struct Profile {
    pub(crate) name: String,
    pub(crate) server: Server,
    folders: Folders,
}

/// Where the files are.
pub(crate) struct Folders {
    config: PathBuf,
    state: PathBuf,
}

impl Folders {
    /// By the XDG rules.
    fn of_the_user() -> Result<Self, Failure> {
        let base = choose_base_strategy().map_err(|error| Failure::local("home directory", error))?;
        let state = base.state_dir().unwrap_or_else(|| base.data_dir());
        Ok(Self { config: base.config_dir().join("strongroom"), state: state.join("strongroom") })
    }

    fn config_file(&self) -> PathBuf {
        self.config.join("config.toml")
    }

    fn load(&self) -> Result<Config, Failure> {
        let path = self.config_file();
        let Some(bytes) = private_file::read(&path)? else { return Ok(Config::default()) };
        let text = String::from_utf8(bytes).map_err(|error| Failure::local(path.display(), error))?;
        toml::from_str(&text).map_err(|error| Failure::local(path.display(), error.message()))
    }
}

impl Profile {
    /// The one named, or the default one.
    pub(crate) fn load(name: Option<String>) -> Result<Self, Failure> {
        Self::load_from(Folders::of_the_user()?, name)
    }

    fn load_from(folders: Folders, name: Option<String>) -> Result<Self, Failure> {
        let mut config = folders.load()?;
        let name = name.or(config.default).unwrap_or_else(|| DEFAULT.into());
        check_name(&name)?;
        let server = config.profiles.remove(&name).unwrap_or_default();
        Ok(Self { name, server, folders })
    }

    /// Remembers the server under this profile.
    pub(crate) fn save_server(&self, server: Server) -> Result<PathBuf, Failure> {
        let mut config = self.folders.load()?;
        config.profiles.insert(self.name.clone(), server);
        let text = toml::to_string_pretty(&config).map_err(|error| Failure::local("config.toml", error))?;
        let path = self.folders.config_file();
        private_file::write(&path, text.as_bytes())?;
        Ok(path)
    }

    pub(crate) fn token(&self) -> Result<Option<SecretBytes>, Failure> {
        Ok(private_file::read(&self.token_file())?.map(|bytes| trimmed(SecretBytes::new(bytes))))
    }

    pub(crate) fn save_token(&self, token: &SecretBytes) -> Result<(), Failure> {
        private_file::write(&self.token_file(), token.expose())
    }

    pub(crate) fn forget_token(&self) -> Result<(), Failure> {
        private_file::remove(&self.token_file())
    }

    fn token_file(&self) -> PathBuf {
        self.folders.state.join(format!("{}.token", self.name))
    }
}

/// The name becomes a file name.
fn check_name(name: &str) -> Result<(), Failure> {
    let good = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    if name.is_empty() || name.len() > 64 || name.starts_with('.') || !name.chars().all(good) {
        let sentence = format!("profile {name:?}: a name is 1 to 64 of A-Z a-z 0-9 - _ . and no leading dot");
        return Err(Failure::usage(sentence));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::MetadataExt, path::Path};

    use super::*;

    fn load(root: &Path, name: Option<&str>) -> Result<Profile, Failure> {
        let folders = Folders { config: root.join("config"), state: root.join("state") };
        Profile::load_from(folders, name.map(str::to_owned))
    }

    #[test]
    fn a_server_is_remembered_per_profile() {
        let root = tempfile::tempdir().unwrap();
        let server =
            Server { address: Some("https://a:1".into()), ca: Some("/ca".into()), server_name: None };
        let path = load(root.path(), Some("work")).unwrap().save_server(server.clone()).unwrap();
        assert_eq!(load(root.path(), Some("work")).unwrap().server, server);
        assert_eq!(load(root.path(), None).unwrap().server, Server::default());
        assert_eq!(fs::metadata(path).unwrap().mode() & 0o777, 0o600);
    }

    #[test]
    fn a_token_is_kept_for_the_owner_alone() {
        let root = tempfile::tempdir().unwrap();
        let profile = load(root.path(), None).unwrap();
        assert!(profile.token().unwrap().is_none());
        profile.save_token(&SecretBytes::from(b"sr1_x".as_slice())).unwrap();
        assert_eq!(profile.token().unwrap().unwrap().expose(), b"sr1_x");
        assert_eq!(fs::metadata(profile.token_file()).unwrap().mode() & 0o777, 0o600);
        profile.forget_token().unwrap();
        profile.forget_token().unwrap();
        assert!(profile.token().unwrap().is_none());
    }

    #[test]
    fn a_name_cannot_leave_its_folder() {
        let root = tempfile::tempdir().unwrap();
        for name in ["", "../x", "a/b", ".hidden", "a b"] {
            assert!(load(root.path(), Some(name)).is_err(), "{name:?}");
        }
    }

    #[test]
    fn unknown_fields_are_refused() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("config/config.toml");
        private_file::write(&path, b"[profiles.default]\nadress = \"https://a:1\"\n").unwrap();
        assert!(load(root.path(), None).err().unwrap().to_string().contains("adress"));
    }
}
