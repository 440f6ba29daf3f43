//! `strongroom explain volume`: what a pod would get is known before it is rolled out.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test ends at the first surprise"
)]

use serde_json::Value;
use strongroom_client::{SealKind, SecretBytes};
use strongroom_tests::{
    cli::Cli,
    world::{PASSWORD, World},
};

const POLICY: &str = r#"
kind: Role
name: shop
rules:
- {paths: ["secret/apps/{{namespace}}/**"], verbs: [read]}
---
kind: Binding
name: shop
role: shop
subjects:
- serviceAccount: {cluster: main, namespace: shop, name: web}
---
kind: Role
name: planner
rules:
- {paths: [sys/policy], verbs: [read]}
---
kind: Binding
name: planner
role: planner
subjects:
- user: {method: userpass, name: pat}
"#;

const DEPLOYMENT: &str = r#"
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, namespace: shop}
spec:
  template:
    spec:
      serviceAccountName: web
      containers:
      - name: web
        image: shop/web
        volumeMounts: [{name: secrets, mountPath: /secrets}]
      volumes:
      - name: secrets
        csi:
          driver: csi.strongroom.dev
          readOnly: true
          volumeAttributes:
            secrets: |
              - path: secret/apps/{{namespace}}/db
                dir: db
              - path: secret/apps/shop/db
                template: {database.url: "postgres://{{user}}@db"}
              - path: secret/apps/shop/flags
                optional: true
---
apiVersion: v1
kind: Service
metadata: {name: web, namespace: shop}
spec: {}
"#;

/// A shop with a secret and its policy, and the command line of its root.
struct ShopAndRoot {
    world: World,
    root: Cli,
}

impl ShopAndRoot {
    async fn open() -> ShopAndRoot {
        let world = World::open(SealKind::File).await.unwrap();
        world.apply(POLICY).await.unwrap();
        let client = world.root().await.unwrap();
        let value = |text: &str| SecretBytes::from(text.as_bytes());
        let put = client.put("secret/apps/shop/db").value("user", value("shop"));
        put.value("password", value("hunter2")).send().await.unwrap();
        let token = world.home.path().join("root-token");
        std::fs::write(&token, world.keys.root_token.expose()).unwrap();
        let root = Cli::new(&world.home.path().join("root"), &world.server).unwrap().with_token(&token);
        ShopAndRoot { world, root }
    }
}

/// Exit code, what is said, and what went wrong, for a manifest on standard input.
fn explain(cli: &Cli, manifest: &str, more: &[&str]) -> (i32, String, String) {
    let arguments: Vec<_> =
        ["explain", "volume", "-f", "-"].into_iter().chain(more.iter().copied()).collect();
    let output = cli.run(&arguments, manifest.as_bytes()).unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}

/// The verdict on each file of the first volume.
fn verdicts(cli: &Cli, manifest: &str) -> Vec<String> {
    let (_, json, error) = explain(cli, manifest, &["-o", "json"]);
    let value: Value = serde_json::from_str(&json).unwrap_or_else(|_| panic!("{json}{error}"));
    let files = value[0]["volumes"][0]["files"].as_array().unwrap();
    let text = |file: &Value, field: &str| file[field].as_str().unwrap().to_owned();
    files.iter().map(|file| format!("{} {}", text(file, "file"), text(file, "verdict"))).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_would_mount_is_told_file_by_file() {
    let setup = ShopAndRoot::open().await;
    tokio::task::block_in_place(|| {
        let (code, said, error) = explain(&setup.root, DEPLOYMENT, &[]);
        assert_eq!(code, 0, "{said}{error}");
        assert!(said.contains("Deployment web as kubernetes/main/shop/web"), "{said}");
        assert!(said.contains("role shop, rule 1"), "{said}");
        assert!(said.contains("1 of 1 volume would mount"), "{said}");
        assert!(!said.contains("hunter2"), "{said}");
        assert_eq!(
            verdicts(&setup.root, DEPLOYMENT),
            ["db/password yes", "db/user yes", "database.url yes", "secret/apps/shop/flags skipped"]
                .map(|row| row.replace("secret/apps/shop/flags", "*"))
        );
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn what_would_not_mount_is_told_with_the_reason() {
    let setup = ShopAndRoot::open().await;
    tokio::task::block_in_place(|| {
        let refuses = |from: &str, to: &str, why: &str| {
            let (code, said, error) = explain(&setup.root, &DEPLOYMENT.replace(from, to), &[]);
            assert_eq!(code, 1, "{from} -> {to}: {said}{error}");
            // The table breaks long cells into lines; words stay whole.
            let flat = said.split_whitespace().collect::<Vec<_>>().join(" ");
            assert!(flat.contains(why), "{from} -> {to}: {said}");
        };
        refuses("serviceAccountName: web", "serviceAccountName: api", "secret/apps/shop/db");
        refuses("namespace: shop", "namespace: other", "no");
        refuses("{{user}}", "{{port}}", "has no key port");
        refuses("path: secret/apps/shop/db", "path: secret/apps/shop/none", "not found");
        refuses("readOnly: true", "readOnly: false", "csi.readOnly");
        refuses("dir: db", "dir: ../db", "secrets[0].dir");

        let (_, said, _) =
            explain(&setup.root, &DEPLOYMENT.replace("mountPath:", "subPath: a, mountPath:"), &[]);
        assert!(said.contains("warning: container web mounts a subPath"), "{said}");
        let (code, _, error) = explain(&setup.root, "kind: Pod\nspec: {}\n", &[]);
        assert_eq!(code, 2);
        assert!(error.contains("no pod in it has a volume of csi.strongroom.dev"), "{error}");
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn who_cannot_see_a_secret_is_told_so() {
    let setup = ShopAndRoot::open().await;
    setup.world.user("pat", &[]).await.unwrap();
    let pat = Cli::new(&setup.world.home.path().join("pat"), &setup.world.server).unwrap();
    tokio::task::block_in_place(|| {
        pat.ok(&["login", "--user", "pat", "--password-file", "-"], PASSWORD.as_bytes()).unwrap();
        let (code, said, _) = explain(&pat, DEPLOYMENT, &[]);
        assert_eq!(code, 1, "{said}");
        assert_eq!(verdicts(&pat, DEPLOYMENT), ["db/* unknown", "database.url unknown", "* unknown"]);
        // Who may not even ask about others is told what is missing.
        setup.root.ok(&["apply", "--remove", "Binding/planner", "--yes"], b"").unwrap();
        let (code, _, error) = explain(&pat, DEPLOYMENT, &[]);
        assert_eq!(code, 3, "{error}");
        assert!(error.contains("sys/policy"), "{error}");
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_pod_may_can_be_asked() {
    let setup = ShopAndRoot::open().await;
    tokio::task::block_in_place(|| {
        let ask = |principal: &str| {
            let arguments = ["can-i", "read", "secret/apps/shop/db", "--as", principal];
            let output = setup.root.run(&arguments, b"").unwrap();
            (output.status.code().unwrap(), String::from_utf8(output.stdout).unwrap())
        };
        let (code, said) = ask("kubernetes/main/shop/web");
        assert_eq!(code, 0, "{said}");
        assert!(said.starts_with("yes: role shop, rule 1"), "{said}");
        for other in ["kubernetes/main/shop/api", "kubernetes/west/shop/web", "kubernetes/main/pay/web"] {
            assert_eq!(ask(other).0, 1, "{other}");
        }
        assert_eq!(ask("kubernetes/main/shop").0, 2, "not a principal");
    });
}

#[test]
fn what_a_cluster_needs_is_printed_or_handed_to_kubectl() {
    use std::os::unix::fs::PermissionsExt;
    let home = tempfile::tempdir().unwrap();
    let run = |arguments: &[&str], path: &std::path::Path| {
        let mut command = std::process::Command::new(strongroom_tests::server::binary("strongroom").unwrap());
        command.env_clear().env("HOME", home.path()).env("PATH", path);
        command.args(["kubernetes", "enable"]).args(arguments).output().unwrap()
    };
    let printed = run(&[], home.path());
    let yaml = String::from_utf8(printed.stdout).unwrap();
    assert!(
        yaml.contains("resources: [tokenreviews]") && yaml.contains("# [auth.kubernetes.main]"),
        "{yaml}"
    );

    let missing = run(&["--apply"], home.path());
    assert_eq!(missing.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&missing.stderr).contains("kubectl: is not in PATH"));

    let (kubectl, applied) = (home.path().join("kubectl"), home.path().join("applied"));
    let script = format!("#!/bin/sh\nexec /bin/cat >'{}'\n", applied.display());
    std::fs::write(&kubectl, script).unwrap();
    std::fs::set_permissions(&kubectl, std::fs::Permissions::from_mode(0o755)).unwrap();
    assert!(run(&["--apply"], home.path()).status.success());
    assert_eq!(std::fs::read_to_string(&applied).unwrap(), yaml);
    std::fs::write(&kubectl, "#!/bin/sh\nexit 1\n").unwrap();
    assert_eq!(run(&["--apply"], home.path()).status.code(), Some(1));
}
