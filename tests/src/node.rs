//! A node of a cluster: the driver's real binary, and the kubelet's side of its sockets.

use std::{
    collections::BTreeMap,
    fs,
    io::{self, BufReader},
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex, PoisonError, mpsc},
    thread,
};

use rustix::process::Signal;
use strongroom_csi::wire::{
    csi::{
        NodeGetVolumeStatsRequest, NodeGetVolumeStatsResponse, NodePublishVolumeRequest,
        NodeUnpublishVolumeRequest, VolumeCapability,
        node_client::NodeClient,
        volume_capability::{AccessMode, AccessType, MountVolume, access_mode::Mode},
    },
    provider::MountRequest,
    registration::{InfoRequest, PluginInfo, RegistrationStatus, registration_client::RegistrationClient},
};
use tonic::{
    Status,
    transport::{Channel, Endpoint},
};

use crate::{
    fake_kubernetes::Pod,
    server::{Server, binary, ended, follow, send},
    wait::DEADLINE,
};

/// What our mounts are called in the mount table.
const SOURCE: &str = "strongroom-csi";

/// A node with the driver on it; whatever is left at the end is taken away.
pub struct Node {
    home: PathBuf,
    arguments: Vec<String>,
    driver: Option<Driver>,
    log: Arc<Mutex<String>>,
}

struct Driver {
    child: Child,
    ops: SocketAddr,
}

/// A pod's volume, as the kubelet knows it.
#[derive(Clone, Debug)]
pub struct Volume {
    /// The kubelet's id.
    pub id: String,
    /// Where it is to be.
    pub target: PathBuf,
    /// The pod's attributes, and what the kubelet adds.
    pub context: BTreeMap<String, String>,
    /// The pod's fsGroup.
    pub group: String,
}

impl Node {
    /// Starts the driver with a kubelet's folder in `home`.
    ///
    /// # Errors
    /// It did not come up; the error holds its log.
    pub fn start(home: &Path, server: &Server, more: &[&str]) -> io::Result<Node> {
        Self::start_before(&server.url, home, server, more)
    }

    /// The same, with the server at another address than its own.
    ///
    /// # Errors
    /// As for [`Node::start`].
    pub fn start_before(url: &str, home: &Path, server: &Server, more: &[&str]) -> io::Result<Node> {
        let at = |name: &str| home.join(name).display().to_string();
        fs::create_dir_all(home.join("kubelet"))?;
        let mut arguments: Vec<String> = [
            ("--endpoint", format!("unix://{}", at("csi.sock"))),
            ("--kubelet-root", at("kubelet")),
            ("--node-name", "node-1".to_owned()),
            ("--server", url.to_owned()),
            ("--server-ca", server.ca().display().to_string()),
            ("--ops-address", "127.0.0.1:0".to_owned()),
        ]
        .into_iter()
        .map(|(flag, value)| format!("{flag}={value}"))
        .collect();
        arguments.extend(more.iter().map(|&argument| argument.to_owned()));
        let mut node = Node { home: home.into(), arguments, driver: None, log: Arc::default() };
        node.restart()?;
        Ok(node)
    }

    /// Starts the driver again, after a kill or a stop.
    ///
    /// # Errors
    /// It did not come up.
    pub fn restart(&mut self) -> io::Result<()> {
        let mut child = Command::new(binary("strongroom-csi")?)
            .args(&self.arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()?;
        let (found, serving) = mpsc::channel();
        if let Some(stderr) = child.stderr.take() {
            let log = Arc::clone(&self.log);
            thread::spawn(move || follow(BufReader::new(stderr), &log, &found, ops));
        }
        let Ok(ops) = serving.recv_timeout(DEADLINE) else {
            let _ = child.kill();
            return Err(io::Error::other(format!("the driver did not come up:\n{}", self.log())));
        };
        self.driver = Some(Driver { child, ops });
        Ok(())
    }

    /// SIGKILL.
    ///
    /// # Errors
    /// There is no such process.
    pub fn kill(&mut self) -> io::Result<()> {
        match self.driver.take() {
            Some(mut driver) => driver.child.kill().and_then(|()| driver.child.wait()).map(drop),
            None => Ok(()),
        }
    }

    /// Sends the driver a signal.
    ///
    /// # Errors
    /// There is no such process.
    pub fn signal(&self, signal: Signal) -> io::Result<()> {
        self.driver.as_ref().map_or(Ok(()), |driver| send(&driver.child, signal))
    }

    /// SIGTERM, and waits for the end.
    ///
    /// # Errors
    /// It did not stop in time, or not with success.
    pub fn stop(&mut self) -> io::Result<()> {
        let Some(mut driver) = self.driver.take() else { return Ok(()) };
        send(&driver.child, Signal::TERM)?;
        let status = ended(&mut driver.child)?;
        if status.success() { Ok(()) } else { Err(io::Error::other(format!("{status}:\n{}", self.log()))) }
    }

    /// Whether the process has ended by itself, and how.
    ///
    /// # Errors
    /// It cannot be told.
    pub fn ended(&mut self) -> io::Result<Option<std::process::ExitStatus>> {
        match &mut self.driver {
            Some(driver) => driver.child.try_wait(),
            None => Ok(None),
        }
    }

    /// The driver's process id.
    pub fn pid(&self) -> Option<u32> {
        self.driver.as_ref().map(|driver| driver.child.id())
    }

    /// The plain port.
    pub fn ops(&self) -> SocketAddr {
        self.driver.as_ref().map_or_else(|| ([0; 4], 0).into(), |driver| driver.ops)
    }

    /// Everything the driver has logged so far.
    pub fn log(&self) -> String {
        self.log.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// A connection to the CSI socket.
    ///
    /// # Errors
    /// Nobody listens.
    pub async fn channel(&self) -> io::Result<Channel> {
        connect(&self.home.join("csi.sock")).await
    }

    /// A connection to the socket at `path`, below the node's home.
    ///
    /// # Errors
    /// Nobody listens.
    pub async fn channel_at(&self, path: &str) -> io::Result<Channel> {
        connect(&self.home.join(path)).await
    }

    /// What the kubelet's plugin watcher does: asks, and says how it went.
    ///
    /// # Errors
    /// Nobody listens, or the driver refuses.
    pub async fn register(&self, error: Option<&str>) -> io::Result<PluginInfo> {
        let socket = self.home.join("kubelet/plugins_registry/csi.strongroom.dev-reg.sock");
        let mut client = RegistrationClient::new(connect(&socket).await?);
        let info = client.get_info(InfoRequest {}).await.map_err(io::Error::other)?.into_inner();
        let status = RegistrationStatus {
            plugin_registered: error.is_none(),
            error: error.unwrap_or_default().to_owned(),
        };
        client.notify_registration_status(status).await.map_err(io::Error::other)?;
        Ok(info)
    }

    /// A volume of a pod, with the folder that the kubelet makes for it.
    ///
    /// # Errors
    /// The folder cannot be made.
    pub fn volume(&self, pod: &Pod, name: &str, secrets: &str) -> io::Result<Volume> {
        let target =
            self.home.join(format!("kubelet/pods/{}/volumes/kubernetes.io~csi/{name}/mount", pod.uid));
        fs::create_dir_all(target.parent().unwrap_or(&target))?;
        let context = [
            ("csi.storage.k8s.io/ephemeral", "true"),
            ("csi.storage.k8s.io/pod.namespace", pod.namespace.as_str()),
            ("csi.storage.k8s.io/pod.name", &pod.name),
            ("csi.storage.k8s.io/pod.uid", &pod.uid),
            ("csi.storage.k8s.io/serviceAccount.name", &pod.account),
            ("secrets", secrets),
        ];
        let context = context.into_iter().map(|(key, value)| (key.to_owned(), value.to_owned())).collect();
        Ok(Volume { id: format!("csi-{}-{name}", pod.uid), target, context, group: String::new() })
    }

    /// What the kubelet's volume manager leaves behind on this node: mounts of the driver, targets, state files.
    ///
    /// # Errors
    /// The mount table cannot be read.
    pub fn leftovers(&self) -> io::Result<Vec<String>> {
        let mut left: Vec<String> =
            self.mounts()?.iter().map(|path| format!("mount {}", path.display())).collect();
        let state = self.home.join("kubelet/plugins/csi.strongroom.dev/state");
        for entry in fs::read_dir(state)? {
            left.push(format!("state {}", entry?.path().display()));
        }
        for pod in fs::read_dir(self.home.join("kubelet/pods")).into_iter().flatten() {
            for volume in fs::read_dir(pod?.path().join("volumes/kubernetes.io~csi")).into_iter().flatten() {
                let target = volume?.path().join("mount");
                if target.exists() {
                    left.push(format!("target {}", target.display()));
                }
            }
        }
        Ok(left)
    }

    /// Where volumes of the driver are mounted.
    ///
    /// # Errors
    /// The mount table cannot be read.
    pub fn mounts(&self) -> io::Result<Vec<PathBuf>> {
        let table = fs::read_to_string("/proc/self/mountinfo")?;
        let ours = table.lines().filter(|line| line.contains(&format!(" - tmpfs {SOURCE} ")));
        let paths = ours.filter_map(|line| line.split(' ').nth(4)).map(PathBuf::from);
        Ok(paths.filter(|path| path.starts_with(&self.home)).collect())
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        let _ = self.kill();
        for path in self.mounts().unwrap_or_default() {
            let _ = rustix::mount::unmount(path, rustix::mount::UnmountFlags::DETACH);
        }
    }
}

impl Volume {
    /// The kubelet's call for a mount, with the pod's token where kubelets before 1.35 put it.
    pub fn publish(&self, token: &str) -> NodePublishVolumeRequest {
        let mut context = self.context.clone();
        context.insert("csi.storage.k8s.io/serviceAccount.tokens".to_owned(), tokens(token));
        self.request(context, BTreeMap::new())
    }

    /// The same with the token among the secrets.
    pub fn publish_with_secrets(&self, token: &str) -> NodePublishVolumeRequest {
        let secrets = [("csi.storage.k8s.io/serviceAccount.tokens".to_owned(), tokens(token))];
        self.request(self.context.clone(), secrets.into())
    }

    fn request(
        &self,
        volume_context: BTreeMap<String, String>,
        secrets: BTreeMap<String, String>,
    ) -> NodePublishVolumeRequest {
        let mount = MountVolume { volume_mount_group: self.group.clone(), ..Default::default() };
        NodePublishVolumeRequest {
            volume_id: self.id.clone(),
            target_path: self.target.display().to_string(),
            volume_capability: Some(VolumeCapability {
                access_type: Some(AccessType::Mount(mount)),
                access_mode: Some(AccessMode { mode: Mode::SingleNodeWriter.into() }),
            }),
            readonly: true,
            secrets,
            volume_context,
            ..Default::default()
        }
    }

    /// The kubelet's call for the end.
    pub fn unpublish(&self) -> NodeUnpublishVolumeRequest {
        NodeUnpublishVolumeRequest {
            volume_id: self.id.clone(),
            target_path: self.target.display().to_string(),
        }
    }

    /// The text of a file in it; empty if there is none.
    pub fn read(&self, name: &str) -> String {
        fs::read_to_string(self.target.join(name)).unwrap_or_default()
    }
}

/// What the Secrets Store CSI driver asks a provider for a pod; Go writes `null` for no secrets.
pub fn mount_request(pod: &Pod, secrets: &str, token: &str) -> MountRequest {
    let attributes = serde_json::json!({
        "secrets": secrets,
        "secretProviderClass": "web",
        "csi.storage.k8s.io/pod.namespace": pod.namespace,
        "csi.storage.k8s.io/pod.name": pod.name,
        "csi.storage.k8s.io/pod.uid": pod.uid,
        "csi.storage.k8s.io/serviceAccount.name": pod.account,
        "csi.storage.k8s.io/serviceAccount.tokens": tokens(token),
    });
    MountRequest {
        attributes: attributes.to_string(),
        secrets: "null".into(),
        permission: "420".into(),
        ..Default::default()
    }
}

/// Calls of the kubelet.
#[derive(Clone)]
pub struct Kubelet(NodeClient<Channel>);

impl Kubelet {
    /// For the driver behind `channel`.
    pub fn new(channel: Channel) -> Self {
        Self(NodeClient::new(channel))
    }

    /// Publishes.
    ///
    /// # Errors
    /// What the driver says.
    pub async fn publish(&self, request: NodePublishVolumeRequest) -> Result<(), Status> {
        self.0.clone().node_publish_volume(request).await.map(drop)
    }

    /// Unpublishes.
    ///
    /// # Errors
    /// What the driver says.
    pub async fn unpublish(&self, request: NodeUnpublishVolumeRequest) -> Result<(), Status> {
        self.0.clone().node_unpublish_volume(request).await.map(drop)
    }

    /// Size, fill and condition.
    ///
    /// # Errors
    /// What the driver says.
    pub async fn stats(&self, volume: &Volume) -> Result<NodeGetVolumeStatsResponse, Status> {
        let request = NodeGetVolumeStatsRequest {
            volume_id: volume.id.clone(),
            volume_path: volume.target.display().to_string(),
            staging_target_path: String::new(),
        };
        self.0.clone().node_get_volume_stats(request).await.map(tonic::Response::into_inner)
    }

    /// Whether the volume's condition is abnormal, and its message.
    ///
    /// # Errors
    /// What the driver says.
    pub async fn condition(&self, volume: &Volume) -> Result<(bool, String), Status> {
        let condition = self.stats(volume).await?.volume_condition.unwrap_or_default();
        Ok((condition.abnormal, condition.message))
    }
}

/// As the kubelet delivers it.
fn tokens(token: &str) -> String {
    serde_json::json!({ "strongroom": { "token": token, "expirationTimestamp": "2037-01-01T00:00:00Z" } })
        .to_string()
}

async fn connect(socket: &Path) -> io::Result<Channel> {
    let endpoint = Endpoint::from_shared(format!("unix://{}", socket.display())).map_err(io::Error::other)?;
    endpoint.connect().await.map_err(io::Error::other)
}

fn ops(line: &str) -> Option<SocketAddr> {
    let line: serde_json::Value = serde_json::from_str(line).ok()?;
    line.get("ops")?.as_str()?.parse().ok()
}
