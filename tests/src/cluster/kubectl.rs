//! The cluster's own kubectl. It knows nothing of Strongroom.

use std::{
    io::{self, BufRead, BufReader, Write},
    path::{Path, PathBuf},
    process::{Child, ChildStdout, Command, Output, Stdio},
    time::Duration,
};

use serde_json::Value;

use crate::wait::found;

/// How long a condition of the cluster may take before a test gives up: images are there, so it is seconds.
pub const DEADLINE: Duration = Duration::from_secs(60);

/// Talks to one cluster.
#[derive(Clone, Debug)]
pub struct Kubectl {
    program: PathBuf,
    kubeconfig: PathBuf,
    cache: PathBuf,
}

impl Kubectl {
    /// For the cluster whose folder this is.
    pub(super) fn new(run: &Path) -> Kubectl {
        Kubectl {
            program: run.join("kubernetes/kubectl"),
            kubeconfig: run.join("admin.kubeconfig"),
            cache: run.join("kubectl"),
        }
    }

    /// The credentials.
    pub fn kubeconfig(&self) -> &Path {
        &self.kubeconfig
    }

    /// The folder of the program, for scripts that call it by name.
    pub fn folder(&self) -> Option<&Path> {
        self.program.parent()
    }

    /// `kubectl` with these arguments, not started yet.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        command.arg("--cache-dir").arg(&self.cache).arg("--kubeconfig").arg(&self.kubeconfig).args(arguments);
        command
    }

    /// Runs it with `input` on its standard input.
    ///
    /// # Errors
    /// It could not be started.
    pub fn run(&self, arguments: &[&str], input: &[u8]) -> io::Result<Output> {
        let mut command = self.command(arguments);
        let mut child =
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
        if let Some(mut stdin) = child.stdin.take() {
            // One that does not read its input may end before it is written.
            let _ = stdin.write_all(input);
        }
        child.wait_with_output()
    }

    /// Runs and wants success; gives what it printed.
    ///
    /// # Errors
    /// It failed; the error holds what it said.
    pub fn ok(&self, arguments: &[&str]) -> io::Result<String> {
        self.with_input(arguments, b"")
    }

    /// [`ok`](Self::ok) with input.
    ///
    /// # Errors
    /// It failed; the error holds what it said.
    pub fn with_input(&self, arguments: &[&str], input: &[u8]) -> io::Result<String> {
        let output = self.run(arguments, input)?;
        if output.status.success() {
            return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
        }
        let said = String::from_utf8_lossy(&output.stderr);
        Err(io::Error::other(format!("kubectl {}: {said}", arguments.join(" "))))
    }

    /// Creates or changes these objects.
    ///
    /// # Errors
    /// One was refused.
    pub fn apply(&self, objects: &[Value]) -> io::Result<()> {
        let list = serde_json::json!({"apiVersion": "v1", "kind": "List", "items": objects});
        self.with_input(&["apply", "-f", "-"], list.to_string().as_bytes()).map(drop)
    }

    /// One object.
    ///
    /// # Errors
    /// It is not there.
    pub fn get(&self, namespace: &str, object: &str) -> io::Result<Value> {
        let text = self.ok(&["-n", namespace, "get", object, "-o", "json"])?;
        serde_json::from_str(&text).map_err(io::Error::other)
    }

    /// `kubectl port-forward` to a port of a pod.
    ///
    /// # Errors
    /// It could not be started, or ended before it was ready.
    pub fn forward(&self, namespace: &str, pod: &str, port: u16) -> io::Result<Forward> {
        let ports = format!(":{port}");
        let mut command = self.command(&["-n", namespace, "port-forward", pod, &ports]);
        let mut process = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn()?;
        let stdout = process.stdout.take().ok_or_else(|| io::Error::other("no standard output"))?;
        let mut forward = Forward { process, port: 0, stdout: BufReader::new(stdout) };
        let mut said = String::new();
        // "Forwarding from 127.0.0.1:40123 -> 7420", or nothing where that cannot be.
        forward.stdout.read_line(&mut said)?;
        let port = said.split_once("127.0.0.1:").and_then(|(_, rest)| rest.split_once(' ')?.0.parse().ok());
        forward.port = port.ok_or_else(|| io::Error::other(format!("kubectl port-forward: {said:?}")))?;
        Ok(forward)
    }

    /// What a command in a pod's container prints.
    ///
    /// # Errors
    /// It failed.
    pub fn exec(&self, namespace: &str, pod: &str, command: &[&str]) -> io::Result<String> {
        let mut arguments = vec!["-n", namespace, "exec", pod, "--"];
        arguments.extend(command);
        self.ok(&arguments)
    }

    /// Waits until a pod is ready.
    ///
    /// # Errors
    /// It was not in time.
    pub fn until_ready(&self, namespace: &str, pod: &str) -> io::Result<()> {
        let object = format!("pod/{pod}");
        found(&format!("{namespace}/{pod} is ready"), DEADLINE, || {
            Ok(is_ready(&self.get(namespace, &object)?).then_some(()))
        })
    }

    /// Waits until an object is gone.
    ///
    /// # Errors
    /// It was there still.
    pub fn until_gone(&self, namespace: &str, object: &str) -> io::Result<()> {
        found(&format!("{namespace} {object} is gone"), DEADLINE, || {
            let left = self.ok(&["-n", namespace, "get", object, "--ignore-not-found", "-o", "name"])?;
            Ok(left.trim().is_empty().then_some(()))
        })
    }

    /// The messages of a pod's events, oldest first.
    ///
    /// # Errors
    /// They cannot be read.
    pub fn events(&self, namespace: &str, pod: &str) -> io::Result<Vec<String>> {
        let events = self.events_of(namespace, pod)?;
        Ok(events.iter().filter_map(|event| Some(event.get("message")?.as_str()?.to_owned())).collect())
    }

    /// The same as objects.
    ///
    /// # Errors
    /// They cannot be read.
    pub fn events_of(&self, namespace: &str, pod: &str) -> io::Result<Vec<Value>> {
        let selector = format!("involvedObject.name={pod}");
        let text =
            self.ok(&["-n", namespace, "get", "events", "--field-selector", &selector, "-o", "json"])?;
        let list: Value = serde_json::from_str(&text).map_err(io::Error::other)?;
        Ok(list.get("items").and_then(Value::as_array).cloned().unwrap_or_default())
    }
}

/// Whether the object's condition `Ready` is true.
pub fn is_ready(pod: &Value) -> bool {
    let is =
        |condition: &Value, key: &str, value: &str| condition.get(key).is_some_and(|found| found == value);
    let mut conditions = pod.pointer("/status/conditions").and_then(Value::as_array).into_iter().flatten();
    conditions.any(|condition| is(condition, "type", "Ready") && is(condition, "status", "True"))
}

/// A port of a pod at a port of this machine. Dropping it ends it.
pub struct Forward {
    process: Child,
    /// On the loopback.
    pub port: u16,
    /// Kept open: it says a line for each connection, and ends when nobody can hear it.
    stdout: BufReader<ChildStdout>,
}

impl Drop for Forward {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
