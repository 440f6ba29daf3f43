//! What is taken from the kubelet and what is refused, before anything is done.

use super::*;
use crate::wire::csi::volume_capability::{BlockVolume, MountVolume};

const ROOT: &str = "/var/lib/kubelet";
const TARGET: &str = "/var/lib/kubelet/pods/u-1/volumes/kubernetes.io~csi/secrets/mount";
const CANARY: &str = "eyJhbGciOi-canary";

fn message() -> NodePublishVolumeRequest {
    let context = [
        ("csi.storage.k8s.io/ephemeral", "true"),
        ("csi.storage.k8s.io/pod.namespace", "payments"),
        ("csi.storage.k8s.io/pod.name", "web-1"),
        ("csi.storage.k8s.io/pod.uid", "u-1"),
        ("csi.storage.k8s.io/serviceAccount.name", "web"),
        ("secrets", "- path: secret/app/db\n"),
    ];
    NodePublishVolumeRequest {
        volume_id: "csi-1".into(),
        target_path: TARGET.into(),
        volume_capability: Some(VolumeCapability {
            access_type: Some(AccessType::Mount(MountVolume::default())),
            access_mode: None,
        }),
        readonly: true,
        volume_context: context.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect(),
        ..Default::default()
    }
}

fn parse(message: NodePublishVolumeRequest) -> Result<Request, Invalid> {
    Request::parse(Path::new(ROOT), "strongroom", message)
}

fn problem(change: impl FnOnce(&mut NodePublishVolumeRequest)) -> String {
    let mut message = message();
    change(&mut message);
    match parse(message) {
        Ok(Request { wishes: Err(invalid), .. }) | Err(invalid) => invalid.to_string(),
        Ok(_) => "nothing".to_owned(),
    }
}

fn tokens(audience: &str) -> String {
    format!(r#"{{"{audience}":{{"token":"{CANARY}","expirationTimestamp":"2026-01-01T00:00:00Z"}}}}"#)
}

#[test]
fn what_a_kubelet_sends_is_taken() {
    let request = parse(message()).ok().unwrap();
    assert_eq!(request.target.path, Path::new(TARGET));
    assert_eq!(request.target.parent, "pods/u-1/volumes/kubernetes.io~csi/secrets");
    assert_eq!(request.pod.to_string(), "payments/web-1");
    assert!(request.wishes.is_ok_and(|wishes| wishes.token.is_none()));
}

#[test]
fn what_is_missing_is_named() {
    assert!(problem(|m| m.volume_id.clear()).contains("volume_id is missing"));
    assert!(problem(|m| m.target_path.clear()).contains("target_path is missing"));
    assert!(problem(|m| m.volume_capability = None).contains("volume_capability is missing"));
    assert!(problem(|m| m.readonly = false).contains("csi.readOnly: true"));
    for key in ["pod.namespace", "pod.name", "pod.uid", "serviceAccount.name"] {
        let key = format!("csi.storage.k8s.io/{key}");
        assert!(problem(|m| drop(m.volume_context.remove(&key))).contains(&key));
    }
    assert!(problem(|m| drop(m.volume_context.remove("secrets"))).contains("secrets"));
    assert_eq!(problem(|_| {}), "nothing");
}

#[test]
fn every_mistake_is_told_at_once() {
    let all = problem(|m| {
        m.volume_id = "x".repeat(257);
        m.readonly = false;
        m.target_path = "/etc".into();
        m.volume_context.remove("secrets");
    });
    for part in ["257 bytes", "readOnly", "/etc", "secrets"] {
        assert!(all.contains(part), "{part} is missing in {all}");
    }
}

#[test]
fn only_inline_volumes_are_mounted() {
    for ephemeral in ["false", "True", ""] {
        let why = problem(|m| {
            drop(m.volume_context.insert("csi.storage.k8s.io/ephemeral".into(), ephemeral.into()))
        });
        assert!(why.contains("inline"), "{why}");
    }
    let block = Some(AccessType::Block(BlockVolume {}));
    assert!(problem(|m| m.volume_capability.as_mut().unwrap().access_type = block).contains("block device"));
    assert!(problem(|m| m.volume_capability.as_mut().unwrap().access_type = None).contains("no access type"));
}

#[test]
fn targets_lead_nowhere_else() {
    let hostile = [
        "relative/u-1",
        "/",
        "/u-1",
        "/etc/u-1/x",
        "/var/lib/kubelet",
        "/var/lib/kubelet/",
        "/var/lib/kubelet/u-1",
        "/var/lib/kubelet2/pods/u-1/m",
        "/var/lib/kubelet/pods/u-1/../../../../etc",
        "/var/lib/kubelet/pods/u-1/..",
        "/var/lib/kubelet/pods/./u-1/m",
        "/var/lib/kubelet/pods//u-1/m",
        "/var/lib/kubelet/pods/u-1/m/",
        "//var/lib/kubelet/pods/u-1/m",
        "/var/lib/kubelet/pods/u-1/m\0",
        "/VAR/lib/kubelet/pods/u-1/m",
        "/var/lib/kubelet/pods/u-2/m",
        "/var/lib/kubelet/pods/u-1x/m",
        "/var/lib/kubelet/pods/u-11/m",
        "/var/lib/kubelet/pods/u-1.d/m",
    ];
    for target in hostile {
        assert!(
            parse(NodePublishVolumeRequest { target_path: target.into(), ..message() }).is_err(),
            "{target:?}"
        );
    }
    let long = format!("{ROOT}/pods/u-1/{}/mount", "x/".repeat(1000).trim_end_matches('/'));
    assert!(parse(NodePublishVolumeRequest { target_path: long, ..message() }).is_ok());
    let longer = format!("{ROOT}/pods/u-1/{}", "x".repeat(limits::TARGET_BYTES));
    assert!(parse(NodePublishVolumeRequest { target_path: longer, ..message() }).is_err());
}

#[test]
fn the_mount_is_as_the_kubelet_says() {
    let with = |group: &str, flags: &[&str]| {
        let mut message = message();
        let mount = MountVolume {
            volume_mount_group: group.into(),
            mount_flags: flags.iter().map(|flag| (*flag).to_owned()).collect(),
            ..Default::default()
        };
        message.volume_capability.as_mut().unwrap().access_type = Some(AccessType::Mount(mount));
        parse(message).map(|request| request.capability).map_err(|invalid| invalid.to_string())
    };
    assert_eq!(with("2000", &[]).unwrap().group, Some(2000));
    let label = "system_u:object_r:container_file_t:s0:c1,c2";
    assert_eq!(with("", &[&format!("context=\"{label}\"")]).unwrap().context.as_deref(), Some(label));
    assert!(with("wheel", &[]).unwrap_err().contains("\"wheel\""));
    let refused = with("", &["size=1g,secretthing"]).unwrap_err();
    assert!(refused.contains("mount flag") && !refused.contains("secretthing"));
}

#[test]
fn the_token_comes_from_the_secrets_first() {
    let token = |secrets: Option<String>, context: Option<String>| {
        let mut message = message();
        message.secrets.extend(secrets.map(|text| (TOKENS.to_owned(), text)));
        message.volume_context.extend(context.map(|text| (TOKENS.to_owned(), text)));
        let wishes = parse(message).ok().unwrap().wishes.unwrap();
        wishes.token.map(|token| token.expose_str().unwrap().to_owned())
    };
    let other = tokens("strongroom").replace(CANARY, "other");
    assert_eq!(token(Some(tokens("strongroom")), Some(other.clone())).as_deref(), Some(CANARY));
    assert_eq!(token(None, Some(other)).as_deref(), Some("other"));
    assert_eq!(token(None, Some(tokens("vault"))), None);
    assert_eq!(token(None, Some(String::new())), None);
    assert_eq!(token(None, None), None);
}

#[test]
fn no_error_repeats_a_token() {
    let broken = [
        format!("\"{CANARY}\""),
        format!("{{\"strongroom\":\"{CANARY}\"}}"),
        format!("{{\"strongroom\":{{\"token\":[\"{CANARY}\"]}}}}"),
        format!("{{\"strongroom\":{{\"{CANARY}\":1}}}}"),
        CANARY.to_owned(),
        tokens("strongroom").replace(CANARY, &CANARY.repeat(1000)),
    ];
    for text in broken {
        for in_secrets in [true, false] {
            let why = problem(|m| {
                let map = if in_secrets { &mut m.secrets } else { &mut m.volume_context };
                map.insert(TOKENS.into(), text.clone());
            });
            assert!(why.contains(TOKENS) && !why.contains("canary"), "{why}");
        }
    }
}

#[test]
fn ids_become_file_names() {
    let names: std::collections::BTreeSet<_> = ["a", "../a", "a/b", "a\0", &"x".repeat(256)]
        .map(|id| VolumeId::parse(id).unwrap().file_name())
        .into();
    assert_eq!(names.len(), 5);
    assert!(names.iter().all(|name| name.len() == 64 && name.bytes().all(|b| b.is_ascii_hexdigit())));
}
