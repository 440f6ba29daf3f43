//! What survives a restart: one small file per volume that says what is mounted where and which leases it has, and never a
//! secret, a token or the name of a secret. It is written before anything else is done for a volume and removed after everything is undone,
//! so that whatever a kill leaves behind is known to the next start.

use std::{
    fs, io,
    io::Write,
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{
    limits,
    volume::{Capability, Pod, VolumeId},
};

const SUFFIX: &str = ".json";
/// The suffix of a file that was not finished.
const UNFINISHED: &str = ".tmp";
const VERSION: u32 = 1;

/// What the file of a volume says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VolumeState {
    version: u32,
    /// The kubelet's id of it.
    pub volume: VolumeId,
    /// Where it is mounted.
    pub target: PathBuf,
    pub pod: Pod,
    /// What was asked for; a second publish that asks for something else is refused.
    pub capability: Capability,
    /// When it was published.
    pub published_at: Timestamp,
    /// The leases of what was issued for it, in the order of its description; empty while others take their place, so that what
    /// is on the disk is never taken for what it is not.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub leases: Vec<Option<String>>,
}

impl VolumeState {
    /// The state of a volume that is about to be mounted.
    pub fn new(
        volume: VolumeId,
        target: PathBuf,
        pod: Pod,
        capability: Capability,
        published_at: Timestamp,
    ) -> Self {
        Self { version: VERSION, volume, target, pod, capability, published_at, leases: Vec::new() }
    }

    /// The same with these leases.
    #[must_use]
    pub fn with_leases(&self, leases: Vec<Option<String>>) -> Self {
        Self { leases, ..self.clone() }
    }
}

/// The folder of the state files.
#[derive(Debug)]
pub struct StateFolder(PathBuf);

impl StateFolder {
    /// Opens the folder, making it if it is not there.
    ///
    /// # Errors
    /// It cannot be made.
    pub fn open(folder: &Path) -> io::Result<Self> {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
        Ok(Self(folder.into()))
    }

    /// Writes the file of a volume, whole or not at all.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn save(&self, state: &VolumeState) -> io::Result<()> {
        let path = self.path(&state.volume);
        let unfinished = path.with_extension(UNFINISHED.trim_start_matches('.'));
        let mut file =
            fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&unfinished)?;
        // Not synced: after a power cut there is no mount either.
        file.write_all(&serde_json::to_vec(state).map_err(io::Error::other)?)?;
        fs::rename(unfinished, path)
    }

    /// Removes the file of a volume, if there is one.
    ///
    /// # Errors
    /// It cannot be removed.
    pub fn remove(&self, volume: &VolumeId) -> io::Result<()> {
        match fs::remove_file(self.path(volume)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    /// All volumes that have a file. A file that cannot be read (a power cut in the middle of writing) is removed and logged.
    ///
    /// # Errors
    /// The folder cannot be read.
    pub fn load(&self) -> io::Result<Vec<VolumeState>> {
        let mut states = Vec::new();
        for entry in fs::read_dir(&self.0)?.take(2 * limits::VOLUMES) {
            let path = entry?.path();
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            if name.ends_with(UNFINISHED) {
                fs::remove_file(&path)?;
            } else if name.ends_with(SUFFIX) {
                match read(&path) {
                    Ok(state) if self.path(&state.volume) == path => states.push(state),
                    Ok(_) => {
                        tracing::warn!(file = %path.display(), "a state file does not have the name of its volume; leaving it alone")
                    }
                    Err(error) => {
                        tracing::warn!(file = %path.display(), %error, "a state file cannot be read; removing it");
                        fs::remove_file(&path)?;
                    }
                }
            }
        }
        Ok(states)
    }

    fn path(&self, volume: &VolumeId) -> PathBuf {
        self.0.join(format!("{}{SUFFIX}", volume.file_name()))
    }
}

fn read(path: &Path) -> io::Result<VolumeState> {
    if fs::metadata(path)?.len() > limits::STATE_BYTES {
        return Err(io::Error::other("it is too large"));
    }
    let state: VolumeState = serde_json::from_slice(&fs::read(path)?)?;
    if state.version != VERSION {
        return Err(io::Error::other(format!("it has version {}; expected {VERSION}", state.version)));
    }
    Ok(state)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state(id: &str) -> VolumeState {
        let pod = Pod {
            namespace: "payments".into(),
            name: "web-1".into(),
            uid: "0b1".into(),
            service_account: "web".into(),
        };
        let capability = Capability { access_mode: 1, group: Some(2000), ..Capability::default() };
        VolumeState::new(
            VolumeId::parse(id).unwrap(),
            "/k/pods/0b1/mount".into(),
            pod,
            capability,
            Timestamp::UNIX_EPOCH,
        )
    }

    #[test]
    fn what_is_saved_is_loaded_until_it_is_removed() {
        let home = tempfile::tempdir().unwrap();
        let states = StateFolder::open(&home.path().join("state")).unwrap();
        let long = "x".repeat(limits::VOLUME_ID_BYTES);
        for id in ["csi-1", "../../etc/passwd", &long] {
            states.save(&state(id)).unwrap();
            states.save(&state(id)).unwrap();
            assert_eq!(states.load().unwrap(), [state(id)]);
            states.remove(&state(id).volume).unwrap();
            states.remove(&state(id).volume).unwrap();
            assert_eq!(states.load().unwrap(), []);
        }
    }

    #[test]
    fn what_a_crash_left_is_cleaned() {
        let home = tempfile::tempdir().unwrap();
        let states = StateFolder::open(home.path()).unwrap();
        states.save(&state("csi-1")).unwrap();
        fs::write(home.path().join("aa.tmp"), "{").unwrap();
        fs::write(home.path().join("bb.json"), "").unwrap();
        fs::write(home.path().join("cc.json"), r#"{"version":1,"surprise":true}"#).unwrap();
        assert_eq!(states.load().unwrap(), [state("csi-1")]);
        assert_eq!(fs::read_dir(home.path()).unwrap().count(), 1);
    }
}
