//! The command line and the environment, parsed once. Every flag has a variable, because a DaemonSet sets variables.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use clap::Parser;
use strongroom_client::volume::DRIVER;
use strongroom_daemon::log::LogFormat;

use crate::limits;

/// Mounts secrets of a Strongroom server into pods.
#[derive(Parser, Clone, Debug)]
#[command(name = "strongroom-csi", version)]
pub struct Config {
    /// The socket on which to serve CSI: unix:///path
    #[arg(long, env = "CSI_ENDPOINT", default_value = "unix:///csi/csi.sock", value_parser = unix_path)]
    pub endpoint: PathBuf,
    /// The kubelet's root folder, at the same path in this container as on the node
    #[arg(long, env = "STRONGROOM_KUBELET_ROOT", default_value = "/var/lib/kubelet")]
    pub kubelet_root: PathBuf,
    /// The socket on which to register with the kubelet [default: KUBELET_ROOT/plugins_registry/csi.strongroom.dev-reg.sock]
    #[arg(long, env = "STRONGROOM_REGISTRATION_SOCKET")]
    pub registration_socket: Option<PathBuf>,
    /// The CSI socket as the kubelet sees it [default: KUBELET_ROOT/plugins/csi.strongroom.dev/csi.sock]
    #[arg(long, env = "STRONGROOM_KUBELET_ENDPOINT")]
    pub kubelet_endpoint: Option<PathBuf>,
    /// The name of this node, as in its Node object
    #[arg(long, env = "NODE_NAME", value_parser = node_name)]
    pub node_name: String,
    /// The address of the server: https://host:port
    #[arg(long, env = "STRONGROOM_ADDRESS")]
    pub server: String,
    /// A PEM file with the CA certificates to verify the server with
    #[arg(long, env = "STRONGROOM_CA_FILE")]
    pub server_ca: PathBuf,
    /// The name to expect in the server's certificate, if it is not the host of the address
    #[arg(long, env = "STRONGROOM_SERVER_NAME")]
    pub server_name: Option<String>,
    /// The name of this cluster in the server's configuration
    #[arg(long, env = "STRONGROOM_CLUSTER", default_value = "main")]
    pub cluster: String,
    /// The audience of the pods' tokens, as in the CSIDriver object and the server's configuration
    #[arg(long, env = "STRONGROOM_AUDIENCE", default_value = "strongroom")]
    pub audience: String,
    /// The folder for the state of mounted volumes; it never holds a secret [default:
    /// KUBELET_ROOT/plugins/csi.strongroom.dev/state]
    #[arg(long, env = "STRONGROOM_STATE_DIR")]
    pub state_dir: Option<PathBuf>,
    /// The address of the unencrypted port for /healthz, /readyz and /metrics
    #[arg(long, env = "STRONGROOM_OPS_ADDRESS", default_value = "0.0.0.0:7431")]
    pub ops_address: SocketAddr,
    /// Also serve the Secrets Store CSI driver as a provider, on this socket
    #[arg(long, env = "STRONGROOM_PROVIDER_SOCKET")]
    pub provider_socket: Option<PathBuf>,
    /// How many seconds a pod's first mount waits for a server that cannot be reached before it fails
    #[arg(long, env = "STRONGROOM_PATIENCE_SECONDS", default_value_t = limits::PATIENCE.as_secs(),
          value_parser = clap::value_parser!(u64).range(1..=110))]
    pub patience_seconds: u64,
    /// How many MiB of the node's memory secrets may take in all; a namespace may have half of it, a pod 16 MiB
    #[arg(long, env = "STRONGROOM_NODE_BUDGET_MIB", default_value_t = limits::NODE_MIB,
          value_parser = clap::value_parser!(u64).range(8..=16_384))]
    pub node_budget_mib: u64,
    /// Also write an event on a pod whose content is outdated, gone or denied; the driver needs the right to create and patch
    /// events then
    #[arg(long, env = "STRONGROOM_POD_EVENTS")]
    pub pod_events: bool,
    /// The log level: info, or debug for everything that this driver does
    #[arg(long, env = "STRONGROOM_LOG", default_value = "info")]
    pub log_level: String,
    /// The format of log lines
    #[arg(long, env = "STRONGROOM_LOG_FORMAT", default_value = "json")]
    pub log_format: LogFormat,
}

impl Config {
    /// Where to register.
    pub fn registration_socket(&self) -> PathBuf {
        let default = || self.kubelet_root.join(format!("plugins_registry/{DRIVER}-reg.sock"));
        self.registration_socket.clone().unwrap_or_else(default)
    }

    /// The CSI socket as the kubelet sees it.
    pub fn kubelet_endpoint(&self) -> PathBuf {
        self.kubelet_endpoint.clone().unwrap_or_else(|| self.plugin_folder().join("csi.sock"))
    }

    /// Where to remember what is mounted.
    pub fn state_dir(&self) -> PathBuf {
        self.state_dir.clone().unwrap_or_else(|| self.plugin_folder().join("state"))
    }

    /// How long a first publish waits for the server.
    pub fn patience(&self) -> Duration {
        Duration::from_secs(self.patience_seconds)
    }

    /// How many bytes of the node's memory secrets may take.
    pub fn budget(&self) -> u64 {
        self.node_budget_mib << 20
    }

    fn plugin_folder(&self) -> PathBuf {
        self.kubelet_root.join("plugins").join(DRIVER)
    }
}

fn unix_path(text: &str) -> Result<PathBuf, String> {
    let path = text.strip_prefix("unix://").unwrap_or(text);
    if !Path::new(path).is_absolute() {
        return Err("expected unix:///an/absolute/path".to_owned());
    }
    Ok(path.into())
}

fn node_name(text: &str) -> Result<String, String> {
    if text.is_empty() || text.len() > 253 {
        return Err("expected the name of the node, 1 to 253 bytes".to_owned());
    }
    Ok(text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(more: &[&str]) -> Result<Config, clap::Error> {
        let needed = ["strongroom-csi", "--node-name=n", "--server=https://s:7420", "--server-ca=/ca.pem"];
        Config::try_parse_from(needed.iter().chain(more))
    }

    #[test]
    fn paths_follow_the_kubelet_root() {
        let config = parse(&["--kubelet-root=/k"]).unwrap();
        assert_eq!(config.endpoint, Path::new("/csi/csi.sock"));
        assert_eq!(
            config.registration_socket(),
            Path::new("/k/plugins_registry/csi.strongroom.dev-reg.sock")
        );
        assert_eq!(config.kubelet_endpoint(), Path::new("/k/plugins/csi.strongroom.dev/csi.sock"));
        assert_eq!(config.state_dir(), Path::new("/k/plugins/csi.strongroom.dev/state"));
    }

    #[test]
    fn what_cannot_work_is_refused_at_the_start() {
        for wrong in
            ["--endpoint=tcp://x:1", "--endpoint=csi.sock", "--patience-seconds=0", "--ops-address=x"]
        {
            assert!(parse(&[wrong]).is_err(), "{wrong}");
        }
        assert!(parse(&["--node-name="]).is_err());
    }
}
