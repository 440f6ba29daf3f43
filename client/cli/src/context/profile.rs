//! Profiles: which server, known by which CA, with which token. `config.toml` names the servers, one file per profile
//! holds its token and the server that it is for. Only the owner changes them, and only the owner reads the token.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
    path::PathBuf,
};

use etcetera::{BaseStrategy, choose_base_strategy};
use serde::{Deserialize, Serialize};
use strongroom_client::SecretBytes;
use zeroize::Zeroizing;

use crate::{failure::Failure, input::content::trimmed, private_file};

/// The default profile.
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
    /// Whether it was asked for by name.
    named: bool,
    /// Whether it was asked for by name, and is in no file.
    made_up: bool,
    /// None where the user has no home: then nothing is kept.
    folders: Option<Folders>,
}

/// A profile as it is listed.
pub(crate) struct Known {
    pub(crate) name: String,
    pub(crate) address: Option<String>,
    pub(crate) has_token: bool,
}

/// A token as it is kept.
pub(crate) struct Kept {
    pub(crate) token: SecretBytes,
    /// The address of the server that it is for; nothing in files of before.
    pub(crate) server: Option<String>,
}

impl Kept {
    /// The token on the first line, the server on the second.
    pub(crate) fn parse(bytes: SecretBytes) -> Self {
        let mut lines = bytes.expose().split(|byte| *byte == b'\n');
        let token = trimmed(SecretBytes::from(lines.next().unwrap_or_default()));
        let server = lines.next().and_then(|line| std::str::from_utf8(line).ok()).map(str::trim);
        Self { token, server: server.filter(|server| !server.is_empty()).map(str::to_owned) }
    }
}

/// Where the files are.
pub(crate) struct Folders {
    config: PathBuf,
    state: PathBuf,
}

impl Folders {
    /// By the XDG rules.
    fn of_the_user() -> Option<Self> {
        let base = choose_base_strategy().ok()?;
        let state = base.state_dir().unwrap_or_else(|| base.data_dir());
        Some(Self { config: base.config_dir().join("strongroom"), state: state.join("strongroom") })
    }

    fn config_file(&self) -> PathBuf {
        self.config.join("config.toml")
    }

    fn load(&self) -> Result<Config, Failure> {
        let path = self.config_file();
        let Some(bytes) = private_file::read_open(&path)? else { return Ok(Config::default()) };
        let text = String::from_utf8(bytes).map_err(|error| Failure::local(path.display(), error))?;
        toml::from_str(&text).map_err(|error| Failure::local(path.display(), error.message()))
    }

    fn store(&self, config: &Config) -> Result<PathBuf, Failure> {
        let text = toml::to_string_pretty(config).map_err(|error| Failure::local("config.toml", error))?;
        let path = self.config_file();
        private_file::write(&path, text.as_bytes())?;
        Ok(path)
    }

    /// The profiles that have a token.
    fn with_token(&self) -> Result<BTreeSet<String>, Failure> {
        let entries = match fs::read_dir(&self.state) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(BTreeSet::new()),
            entries => entries.map_err(|error| Failure::local(self.state.display(), error))?,
        };
        let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
        Ok(names
            .filter_map(|name| Some(name.strip_suffix(".token")?.to_owned()))
            .filter(|name| check_name(name).is_ok())
            .collect())
    }
}

impl Profile {
    /// The one named, or the default one.
    pub(crate) fn load(name: Option<String>) -> Result<Self, Failure> {
        Self::load_from(Folders::of_the_user(), name)
    }

    fn load_from(folders: Option<Folders>, name: Option<String>) -> Result<Self, Failure> {
        let mut config = folders.as_ref().map_or_else(|| Ok(Config::default()), Folders::load)?;
        let asked = name.filter(|name| !name.is_empty());
        let named = asked.is_some();
        let name = asked.or(config.default).unwrap_or_else(|| DEFAULT.into());
        check_name(&name)?;
        let server = config.profiles.remove(&name);
        let mut profile = Self { name, named, made_up: false, server: Server::default(), folders };
        profile.made_up = named && server.is_none() && profile.name != DEFAULT && profile.kept()?.is_none();
        profile.server = server.unwrap_or_default();
        Ok(profile)
    }

    /// Whether there is such a profile: one that is asked for and was never made is a typing error.
    pub(crate) fn check_known(&self) -> Result<(), Failure> {
        if self.made_up {
            let sentence = format!(
                "there is no profile {:?}; make it with: strongroom --profile {} --address URL login -u NAME --save",
                self.name, self.name
            );
            return Err(Failure::usage(sentence));
        }
        Ok(())
    }

    /// Whether an option or a variable names it.
    pub(crate) fn is_named(&self) -> bool {
        self.named
    }

    /// All profiles that have a server or a token.
    pub(crate) fn known(&self) -> Result<Vec<Known>, Failure> {
        let Some(folders) = &self.folders else { return Ok(Vec::new()) };
        let mut servers = folders.load()?.profiles;
        let with_token = folders.with_token()?;
        let names: BTreeSet<String> = servers.keys().chain(&with_token).cloned().collect();
        let known = |name: String| Known {
            address: servers.remove(&name).and_then(|server| server.address),
            has_token: with_token.contains(&name),
            name,
        };
        Ok(names.into_iter().map(known).collect())
    }

    /// Makes one of them the profile that is used where none is named.
    pub(crate) fn make_default(&self, name: &str) -> Result<(), Failure> {
        check_name(name)?;
        if !self.known()?.iter().any(|known| known.name == name) {
            return Err(Failure::NotThere(format!(
                "there is no profile {name:?}; see strongroom profile list"
            )));
        }
        let folders = self.folders()?;
        let mut config = folders.load()?;
        config.default = Some(name.to_owned());
        folders.store(&config).map(drop)
    }

    fn folders(&self) -> Result<&Folders, Failure> {
        let problem = "set HOME, or STRONGROOM_TOKEN_FILE, STRONGROOM_ADDR and STRONGROOM_CACERT";
        self.folders
            .as_ref()
            .ok_or_else(|| Failure::local("there is no home directory to keep it in", problem))
    }

    /// Remembers the server under this profile.
    pub(crate) fn save_server(&self, server: Server) -> Result<PathBuf, Failure> {
        let folders = self.folders()?;
        let mut config = folders.load()?;
        config.profiles.insert(self.name.clone(), server);
        folders.store(&config)
    }

    /// The token of the last login.
    pub(crate) fn kept(&self) -> Result<Option<Kept>, Failure> {
        let Some(folders) = &self.folders else { return Ok(None) };
        let Some(bytes) = private_file::read(&self.token_file(folders))? else { return Ok(None) };
        Ok(Some(Kept::parse(SecretBytes::new(bytes))))
    }

    /// Keeps it together with the server that it is for.
    pub(crate) fn save_token(&self, token: &SecretBytes, server: &str) -> Result<(), Failure> {
        let mut bytes = Zeroizing::new(Vec::with_capacity(token.len() + server.len() + 2));
        for part in [token.expose(), b"\n", server.as_bytes(), b"\n"] {
            bytes.extend_from_slice(part);
        }
        private_file::write(&self.token_file(self.folders()?), &bytes)
    }

    pub(crate) fn forget_token(&self) -> Result<(), Failure> {
        self.folders.as_ref().map_or(Ok(()), |folders| private_file::remove(&self.token_file(folders)))
    }

    fn token_file(&self, folders: &Folders) -> PathBuf {
        folders.state.join(format!("{}.token", self.name))
    }
}

/// The name becomes a file name.
fn check_name(name: &str) -> Result<(), Failure> {
    let good = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    if name.is_empty() || name.len() > 64 || name.starts_with('.') || !name.chars().all(good) {
        let sentence = format!(
            "profile {name:?}: a name has 1 to 64 characters of A-Z a-z 0-9 - _ . and no leading dot"
        );
        return Err(Failure::usage(sentence));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::{os::unix::fs::MetadataExt, path::Path};

    use super::*;

    fn load(root: &Path, name: Option<&str>) -> Result<Profile, Failure> {
        let folders = Folders { config: root.join("config"), state: root.join("state") };
        Profile::load_from(Some(folders), name.map(str::to_owned))
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
    fn a_token_is_kept_for_the_owner_alone_with_its_server() {
        let root = tempfile::tempdir().unwrap();
        let profile = load(root.path(), None).unwrap();
        assert!(profile.kept().unwrap().is_none());
        profile.save_token(&SecretBytes::from(b"sr1_x".as_slice()), "https://a:1").unwrap();
        let kept = profile.kept().unwrap().unwrap();
        assert_eq!((kept.token.expose(), kept.server.as_deref()), (&b"sr1_x"[..], Some("https://a:1")));
        let file = root.path().join("state/default.token");
        assert_eq!(fs::metadata(&file).unwrap().mode() & 0o777, 0o600);
        private_file::write(&file, b"sr1_of_before").unwrap();
        let kept = profile.kept().unwrap().unwrap();
        assert_eq!((kept.token.expose(), kept.server), (&b"sr1_of_before"[..], None));
        profile.forget_token().unwrap();
        profile.forget_token().unwrap();
        assert!(profile.kept().unwrap().is_none());
    }

    #[test]
    fn a_profile_that_nobody_made_is_a_typing_error() {
        let root = tempfile::tempdir().unwrap();
        let wrok = load(root.path(), Some("wrok")).unwrap();
        let sentence = wrok.check_known().unwrap_err().to_string();
        assert!(sentence.contains("no profile \"wrok\""), "{sentence}");
        wrok.save_token(&SecretBytes::from(b"sr1_x".as_slice()), "https://a:1").unwrap();
        load(root.path(), Some("wrok")).unwrap().check_known().unwrap();
        load(root.path(), None).unwrap().check_known().unwrap();
    }

    #[test]
    fn the_default_is_one_of_those_that_are_known() {
        let root = tempfile::tempdir().unwrap();
        let server = Server { address: Some("https://a:1".into()), ..Server::default() };
        load(root.path(), Some("work")).unwrap().save_server(server).unwrap();
        load(root.path(), None)
            .unwrap()
            .save_token(&SecretBytes::from(b"sr1_x".as_slice()), "https://b:1")
            .unwrap();
        let profile = load(root.path(), None).unwrap();
        let known: Vec<_> =
            profile.known().unwrap().into_iter().map(|one| (one.name, one.has_token)).collect();
        assert_eq!(known, [("default".to_owned(), true), ("work".to_owned(), false)]);
        profile.make_default("work").unwrap();
        assert_eq!(load(root.path(), None).unwrap().name, "work");
        assert!(profile.make_default("wrok").unwrap_err().to_string().contains("no profile \"wrok\""));
    }

    #[test]
    fn without_a_home_nothing_is_kept_and_all_else_works() {
        let homeless = Profile::load_from(None, None).unwrap();
        homeless.check_known().unwrap();
        assert!(homeless.kept().unwrap().is_none());
        let sentence = homeless.save_token(&SecretBytes::from(&b""[..]), "").unwrap_err().to_string();
        assert!(sentence.contains("HOME") && sentence.contains("STRONGROOM_TOKEN_FILE"), "{sentence}");
    }

    #[test]
    fn a_name_cannot_leave_its_folder() {
        let root = tempfile::tempdir().unwrap();
        for name in ["../x", "a/b", ".hidden", "a b"] {
            assert!(load(root.path(), Some(name)).is_err(), "{name:?}");
        }
    }

    #[test]
    fn an_empty_name_is_none_like_an_empty_variable() {
        let root = tempfile::tempdir().unwrap();
        assert_eq!(load(root.path(), Some("")).unwrap().name, DEFAULT);
    }

    #[test]
    fn unknown_fields_are_refused() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("config/config.toml");
        private_file::write(&path, b"[profiles.default]\nadress = \"https://a:1\"\n").unwrap();
        assert!(load(root.path(), None).err().unwrap().to_string().contains("adress"));
    }
}
