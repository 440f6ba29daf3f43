//! What the kubelet asks for, parsed before anything is done: everything that follows works with these types and never
//! with the request.

use std::{
    collections::BTreeMap,
    fmt,
    path::{Component, Path, PathBuf},
};

use serde::{Deserialize, Serialize};
use strongroom_client::{
    SecretBytes,
    volume::{PodRef, Volume},
};
use zeroize::Zeroize;

use crate::{
    limits,
    wire::csi::{NodePublishVolumeRequest, VolumeCapability, volume_capability::AccessType},
};

const TOKENS: &str = "csi.storage.k8s.io/serviceAccount.tokens";

/// The kubelet's name of a volume.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct VolumeId(String);

/// The pod whose volume it is, as the kubelet says; a user cannot forge it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pod {
    pub namespace: String,
    pub name: String,
    /// Its uid, a part of the target path.
    pub uid: String,
    /// Its service account: who it is to the server.
    pub service_account: String,
}

/// How the volume is to be mounted.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Capability {
    /// The access mode's number. Every mode is the same for a volume that is only read.
    pub access_mode: i32,
    /// The group that may read the files: the pod's fsGroup.
    pub group: Option<u32>,
    /// The SELinux context of the mount.
    pub context: Option<String>,
}

/// A folder below the kubelet's root.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// The whole path.
    pub path: PathBuf,
    /// The folder it is in, from the kubelet's root on.
    pub parent: String,
    pub name: String,
}

/// A publish or republish, parsed.
pub struct Request {
    pub id: VolumeId,
    pub target: Target,
    pub pod: Pod,
    pub capability: Capability,
    /// What the pod asks for. If that is wrong, nothing new is mounted, but a mounted volume is left alone.
    pub wishes: Result<Wishes, Invalid>,
}

/// What a pod asks for, and as whom.
pub struct Wishes {
    /// What is to be in the volume.
    pub volume: Volume,
    /// The pod's credential; the kubelet may have none for a moment.
    pub token: Option<SecretBytes>,
}

/// Everything that is wrong with a request, one sentence each.
#[derive(Debug, PartialEq, Eq)]
pub struct Invalid(pub Vec<String>);

impl Invalid {
    fn one(problem: impl Into<String>) -> Self {
        Self(vec![problem.into()])
    }
}

impl fmt::Display for Invalid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.join("; "))
    }
}

impl VolumeId {
    /// Parses an id from the wire.
    ///
    /// # Errors
    /// It is empty or too long.
    pub fn parse(text: &str) -> Result<Self, Invalid> {
        match text.len() {
            0 => Err(Invalid::one("volume_id is missing")),
            1..=limits::VOLUME_ID_BYTES => Ok(Self(text.to_owned())),
            more => Err(Invalid::one(format!(
                "volume_id has {more} bytes; at most {} are allowed",
                limits::VOLUME_ID_BYTES
            ))),
        }
    }

    /// A name for a file that is the volume's own, whatever characters the id has.
    pub fn file_name(&self) -> String {
        let digest = ring::digest::digest(&ring::digest::SHA256, self.0.as_bytes());
        digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

impl fmt::Display for VolumeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl TryFrom<String> for VolumeId {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        Self::parse(&text).map_err(|invalid| invalid.to_string())
    }
}

impl From<VolumeId> for String {
    fn from(id: VolumeId) -> Self {
        id.0
    }
}

impl fmt::Display for Pod {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

impl Target {
    /// A path below `root`, without anything in it that would lead elsewhere.
    ///
    /// # Errors
    /// It is missing, or not such a path.
    pub fn parse(root: &Path, text: &str) -> Result<Self, Invalid> {
        if text.is_empty() {
            return Err(Invalid::one("target_path is missing"));
        }
        if text.len() > limits::TARGET_BYTES {
            return Err(Invalid::one(format!("target_path has more than {} bytes", limits::TARGET_BYTES)));
        }
        let path = Path::new(text);
        let plain = path.is_absolute()
            && !text.contains('\0')
            && text.split('/').skip(1).all(|segment| !matches!(segment, "" | "." | ".."));
        if !plain {
            return Err(Invalid::one(format!(
                "target_path {text:?} is not a plain absolute path; empty, `.` and `..` segments are not allowed"
            )));
        }
        let below = path.strip_prefix(root).ok().and_then(Path::to_str).filter(|below| below.contains('/'));
        let Some((parent, name)) = below.and_then(|below| below.rsplit_once('/')) else {
            return Err(Invalid::one(format!(
                "target_path {text:?} is not below the kubelet's folder {}: check that --kubelet-root is the kubelet's \
                 --root-dir",
                root.display()
            )));
        };
        Ok(Self { path: path.into(), parent: parent.to_owned(), name: name.to_owned() })
    }

    fn names(&self, uid: &str) -> bool {
        self.path.components().any(|segment| matches!(segment, Component::Normal(name) if name == uid))
    }
}

impl Capability {
    fn parse(message: Option<&VolumeCapability>) -> Result<Self, Invalid> {
        let message = message.ok_or_else(|| Invalid::one("volume_capability is missing"))?;
        let mount = match &message.access_type {
            Some(AccessType::Mount(mount)) => mount,
            Some(AccessType::Block(_)) => {
                return Err(Invalid::one(
                    "a block device was requested, but secrets are files; set volumeMode: Filesystem",
                ));
            }
            None => return Err(Invalid::one("volume_capability has no access type")),
        };
        let mut problems = Vec::new();
        let group = match mount.volume_mount_group.as_str() {
            "" => None,
            number => number.parse().map(Some).unwrap_or_else(|_| {
                problems.push(format!("volume_mount_group {number:?} is not the number of a group"));
                None
            }),
        };
        let mut context = None;
        for flag in &mount.mount_flags {
            match flag.strip_prefix("context=") {
                Some(label) => context = Some(label.trim_matches('"').to_owned()),
                // Not echoed: the specification says that flags may be sensitive.
                None => problems.push(
                    "a mount flag other than context= is set; this driver accepts no others".to_owned(),
                ),
            }
        }
        if !matches!(mount.fs_type.as_str(), "" | "tmpfs") {
            problems.push(format!(
                "fsType {:?} was requested, but volumes are tmpfs; leave it out",
                mount.fs_type
            ));
        }
        let access_mode = message.access_mode.as_ref().map(|access| access.mode).unwrap_or_default();
        if problems.is_empty() { Ok(Self { access_mode, group, context }) } else { Err(Invalid(problems)) }
    }
}

impl Request {
    /// Takes a message apart. Every mistake is found at once, because each costs a person a round.
    ///
    /// # Errors
    /// All that is wrong with what the kubelet says.
    pub fn parse(
        root: &Path,
        audience: &str,
        mut message: NodePublishVolumeRequest,
    ) -> Result<Self, Invalid> {
        let token = take_token(audience, &mut message.secrets, &mut message.volume_context);
        let mut problems = Problems::default();
        let id = problems.sort(VolumeId::parse(&message.volume_id));
        let target = problems.sort(Target::parse(root, &message.target_path));
        let capability = problems.sort(Capability::parse(message.volume_capability.as_ref()));
        if !message.readonly {
            problems.add("the volume is not read-only: set csi.readOnly: true in the pod");
        }
        let pod =
            problems.sort(inline(&message.volume_context).and_then(|()| identity(&message.volume_context)));
        if let (Some(target), Some(pod)) = (&target, &pod)
            && !target.names(&pod.uid)
        {
            problems.add(format!("target_path {:?} does not belong to the pod {}", target.path, pod.uid));
        }
        let wishes = match (pod.as_ref().map(|pod| describe(&message.volume_context, pod)), token) {
            (Some(Ok(volume)), Ok(token)) => {
                let group = capability.as_ref().and_then(|capability| capability.group);
                let volume = match group {
                    Some(gid) => volume.or_group(gid),
                    None => volume,
                };
                Ok(Wishes { volume, token })
            }
            (volume, token) => {
                let mut wrong = Problems::default();
                wrong.sort(volume.transpose());
                wrong.sort(token);
                Err(Invalid(wrong.0))
            }
        };
        match (id, target, pod, capability) {
            (Some(id), Some(target), Some(pod), Some(capability)) if problems.0.is_empty() => {
                Ok(Self { id, target, pod, capability, wishes })
            }
            _ => {
                problems.sort(wishes);
                Err(Invalid(problems.0))
            }
        }
    }
}

/// Mistakes, as they are found.
#[derive(Default)]
struct Problems(Vec<String>);

impl Problems {
    fn add(&mut self, problem: impl Into<String>) {
        self.0.push(problem.into());
    }

    fn sort<T>(&mut self, parsed: Result<T, Invalid>) -> Option<T> {
        parsed.map_err(|invalid| self.0.extend(invalid.0)).ok()
    }
}

/// What the pod's attributes ask for.
///
/// # Errors
/// All that is wrong with them.
pub fn describe(attributes: &BTreeMap<String, String>, pod: &Pod) -> Result<Volume, Invalid> {
    let pod = PodRef {
        namespace: pod.namespace.clone(),
        pod: pod.name.clone(),
        service_account: pod.service_account.clone(),
    };
    Volume::parse(attributes, &pod)
        .map_err(|problems| Invalid(problems.iter().map(ToString::to_string).collect()))
}

fn inline(context: &BTreeMap<String, String>) -> Result<(), Invalid> {
    if context.get("csi.storage.k8s.io/ephemeral").map(String::as_str) == Some("true") {
        return Ok(());
    }
    Err(Invalid::one(
        "this is not an inline volume of a pod (csi.storage.k8s.io/ephemeral is not \"true\"): secrets cannot be in a \
         PersistentVolume, and the CSIDriver object needs podInfoOnMount: true",
    ))
}

/// The pod that the kubelet speaks of.
///
/// # Errors
/// Something is missing.
pub fn identity(context: &BTreeMap<String, String>) -> Result<Pod, Invalid> {
    let mut missing = Vec::new();
    let mut take = |key: &str| {
        let key = format!("csi.storage.k8s.io/{key}");
        let found = context.get(&key).filter(|value| !value.is_empty()).cloned();
        found.unwrap_or_else(|| {
            missing.push(format!("{key} is missing: the CSIDriver object needs podInfoOnMount: true"));
            String::new()
        })
    };
    let pod = Pod {
        namespace: take("pod.namespace"),
        name: take("pod.name"),
        uid: take("pod.uid"),
        service_account: take("serviceAccount.name"),
    };
    if missing.is_empty() { Ok(pod) } else { Err(Invalid(missing)) }
}

/// The pod's token for `audience`, out of both maps: from `secrets`, where kubelets deliver it since 1.35, or else from
/// the context.
///
/// # Errors
/// What is there is not what a kubelet sends. Nothing of it is repeated: a decoder's error may quote a token
/// (CVE-2025-7445).
pub fn take_token(
    audience: &str,
    secrets: &mut BTreeMap<String, String>,
    context: &mut BTreeMap<String, String>,
) -> Result<Option<SecretBytes>, Invalid> {
    let (first, second) = (secrets.remove(TOKENS), context.remove(TOKENS));
    secrets.values_mut().for_each(Zeroize::zeroize);
    let Some(mut text) = first.or(second).filter(|text| !text.is_empty()) else { return Ok(None) };
    let tokens: Result<BTreeMap<String, Token>, _> = serde_json::from_str(&text);
    text.zeroize();
    let mut tokens =
        tokens.map_err(|_| Invalid::one(format!("{TOKENS} is not the JSON that a kubelet sends")))?;
    match tokens.remove(audience) {
        Some(token) if token.token.0.len() <= limits::TOKEN_BYTES => Ok(Some(token.token.0)),
        Some(_) => {
            Err(Invalid::one(format!("{TOKENS} has a token of more than {} bytes", limits::TOKEN_BYTES)))
        }
        None => Ok(None),
    }
}

#[derive(Deserialize)]
struct Token {
    token: TokenText,
}

struct TokenText(SecretBytes);

impl<'de> Deserialize<'de> for TokenText {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        String::deserialize(from).map(|text| Self(SecretBytes::from(text)))
    }
}

#[cfg(test)]
#[path = "volume_tests.rs"]
mod tests;
