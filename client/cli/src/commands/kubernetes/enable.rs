//! `kubernetes enable`: what a cluster needs so that its pods can log in.

use std::{
    io::{self, Write},
    process::{self, Stdio},
};

use clap::{Args, ValueEnum};
use serde_json::json;

use crate::{
    context::Context,
    failure::Failure,
    output::{Format, Presentation},
};

#[derive(Args)]
#[command(after_help = "Examples:
  strongroom kubernetes enable | kubectl apply -f -
  strongroom kubernetes enable --cluster west --mode local")]
pub(super) struct Enable {
    /// The name of the cluster at the server
    #[arg(long, default_value = "main", value_parser = name)]
    cluster: String,
    /// The namespace of the server's service account
    #[arg(long, default_value = "strongroom", value_parser = name)]
    namespace: String,
    /// The server's service account
    #[arg(long, default_value = "strongroom", value_parser = name)]
    service_account: String,
    /// How the server verifies tokens
    #[arg(long, value_enum, default_value_t = Mode::Review)]
    mode: Mode,
    /// Apply it with kubectl and its current user instead of printing it
    #[arg(long)]
    apply: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Mode {
    /// The server asks the cluster about each token
    Review,
    /// The server checks signatures with the cluster's public keys and asks nobody at a login
    Local,
}

pub(super) fn run(context: &Context, args: &Enable) -> Result<(), Failure> {
    let yaml = manifest(args);
    if args.apply {
        return apply(&yaml);
    }
    match context.output.format() {
        Format::Json => context.output.show(&json!({ "yaml": yaml }), Presentation::Text(String::new())),
        // Printed unchanged, so that `kubectl apply -f -` accepts it.
        _ => context.output.raw(yaml.as_bytes()),
    }
}

/// Parses the name of a Kubernetes object or of a cluster at the server: at most 63 of `[a-z0-9-]`. Nothing in it can
/// change the YAML.
fn name(text: &str) -> Result<String, String> {
    let good = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    if (1..=63).contains(&text.len()) && text.bytes().all(good) && !text.starts_with('-') {
        return Ok(text.to_owned());
    }
    Err("expected 1 to 63 characters of a-z 0-9 -".to_owned())
}

fn manifest(args: &Enable) -> String {
    let Enable { cluster, namespace, service_account, .. } = args;
    let (review, mode) = match args.mode {
        Mode::Review => (REVIEW, "mode = \"review\"\n"),
        Mode::Local => ("", LOCAL),
    };
    format!(
        "\
# What the Strongroom server may do in this cluster. It can change nothing and reads no Secret.
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata:
  name: {service_account}
rules:
{review}{WATCH}---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata:
  name: {service_account}
roleRef:
  apiGroup: rbac.authorization.k8s.io
  kind: ClusterRole
  name: {service_account}
subjects:
- kind: ServiceAccount
  name: {service_account}
  namespace: {namespace}
---
# In the server's configuration, for a server that runs in this cluster. From elsewhere it needs api_server, ca_file and
# token_file (a token of the service account above) as well:
#
# [auth.kubernetes.{cluster}]
{}",
        mode.lines().map(|line| format!("# {line}\n")).collect::<String>()
    )
}

const REVIEW: &str = "\
# A pod logs in with its service-account token: only the API server can say whether it is good and its pod still there.
- apiGroups: [authentication.k8s.io]
  resources: [tokenreviews]
  verbs: [create]
";

const LOCAL: &str = "\
mode = \"local\"
issuer = \"https://...\" # kubectl get --raw /.well-known/openid-configuration shows it
";

const WATCH: &str = "\
# A deleted pod or account is cut off within seconds, not when its session ends. Only metadata is asked for.
- apiGroups: [\"\"]
  resources: [pods, serviceaccounts]
  verbs: [get, list, watch]
";

/// kubectl writes to the terminal itself.
fn apply(yaml: &str) -> Result<(), Failure> {
    let mut child = process::Command::new("kubectl")
        .args(["apply", "-f", "-"])
        .stdin(Stdio::piped())
        .spawn()
        .map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => Failure::local(
                "kubectl",
                "is not in PATH; without --apply the objects are printed, for kubectl apply -f - elsewhere",
            ),
            _ => Failure::local("kubectl", error),
        })?;
    let written = child.stdin.take().map(|mut stdin| stdin.write_all(yaml.as_bytes()));
    let status = child.wait()?;
    if !status.success() {
        return Err(Failure::local("kubectl apply", status));
    }
    written.transpose().map(drop).map_err(|error| Failure::local("kubectl", error))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde_json::Value;

    use super::*;

    fn enable(mode: Mode) -> Enable {
        Enable {
            cluster: "west".into(),
            namespace: "vault-ns".into(),
            service_account: "sr".into(),
            mode,
            apply: false,
        }
    }

    fn documents(mode: Mode) -> Vec<Value> {
        // The third has nothing but comments: what the server needs.
        let limits = strongroom_yaml::Limits { documents: 3, depth: 8 };
        let documents = strongroom_yaml::read_all(&manifest(&enable(mode)), limits).unwrap();
        documents.iter().map(strongroom_yaml::Node::to_json).collect()
    }

    fn rights(role: &Value) -> BTreeMap<String, String> {
        let rules = role["rules"].as_array().unwrap();
        rules.iter().map(|rule| (rule["resources"].to_string(), rule["verbs"].to_string())).collect()
    }

    #[test]
    fn a_cluster_gives_no_more_than_is_needed() {
        let watch = (r#"["pods","serviceaccounts"]"#.to_owned(), r#"["get","list","watch"]"#.to_owned());
        let review = (r#"["tokenreviews"]"#.to_owned(), r#"["create"]"#.to_owned());
        let reviewed = documents(Mode::Review);
        assert_eq!(rights(&reviewed[0]), BTreeMap::from([watch.clone(), review]));
        assert_eq!(rights(&documents(Mode::Local)[0]), BTreeMap::from([watch]));
        assert_eq!(
            reviewed[1]["subjects"][0],
            json!({"kind": "ServiceAccount", "name": "sr", "namespace": "vault-ns"})
        );
        let section = manifest(&enable(Mode::Local));
        assert!(
            section.ends_with("shows it\n")
                && section.contains("# [auth.kubernetes.west]\n# mode = \"local\"\n")
        );
        assert_eq!(reviewed[1]["roleRef"]["name"], reviewed[0]["metadata"]["name"]);
    }

    #[test]
    fn a_name_stays_a_name() {
        assert_eq!(name("main"), Ok("main".into()));
        for text in ["", "a\nb", "a: b", "A", "-a", "a.b", &"a".repeat(64)] {
            assert!(name(text).is_err(), "{text:?}");
        }
    }
}
