//! Encryption as a service, as its users have it: over TLS with the client library and the command line, checked by OpenSSL, and
//! with nothing in the log that anybody encrypted.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test ends at the first surprise")]

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use strongroom_client::{
    AuditQuery, Ciphertext, Client, ErrorKind, Plaintext, SealKind, SecretBytes, SignatureEncoding,
    TryStreamExt,
};
use strongroom_tests::{cli::Cli, world::World};

const PLAINTEXT: &str = "canary-4111-1111-1111-1111";

async fn opened() -> (World, Client, Cli) {
    let world = World::open(SealKind::File).await.unwrap();
    let root = world.root().await.unwrap();
    root.sys().mount("transit", "transit", "", Default::default()).await.unwrap();
    let home = world.home.path();
    fs::write(home.join("root-token"), world.keys.root_token.expose()).unwrap();
    let cli = Cli::new(&home.join("root"), &world.server).unwrap().with_token(&home.join("root-token"));
    (world, root, cli)
}

async fn log(client: &Client) -> String {
    let lines: Vec<String> =
        client.audit().query(AuditQuery::default()).await.unwrap().try_collect().await.unwrap();
    lines.concat()
}

fn text(path: &Path) -> String {
    path.to_str().unwrap().to_owned()
}

/// Encrypted here, opened there, for as long as the managers of the key say so; and the log knows who, what and which version.
#[tokio::test(flavor = "multi_thread")]
async fn applications_encrypt_without_ever_holding_a_key() {
    let (world, root, _) = opened().await;
    let transit = root.transit();
    transit.create_key("transit/orders").send().await.unwrap();
    let twice = transit.create_key("transit/orders").send().await.unwrap_err();
    assert_eq!(twice.kind(), &ErrorKind::AlreadyExists);

    let row = |plaintext: &str| Plaintext::from(plaintext).associated_data("order 7");
    let ciphertext = transit.encrypt("transit/orders", row(PLAINTEXT)).await.unwrap();
    let opening = || Ciphertext::from(ciphertext.as_str()).associated_data("order 7");
    assert_eq!(transit.decrypt("transit/orders", opening()).await.unwrap().expose(), PLAINTEXT.as_bytes());
    let elsewhere = transit.decrypt("transit/orders", ciphertext.as_str()).await.unwrap_err();
    assert_eq!(elsewhere.kind(), &ErrorKind::DoesNotOpen);

    // A whole table is moved to a new version, and the old one is retired.
    assert_eq!(transit.rotate_key("transit/orders").await.unwrap(), 2);
    let rewrapped = transit.rewrap_all("transit/orders", vec![opening(), "hunter2".into()]).await.unwrap();
    let [Ok(rewrapped), Err(refused)] = &rewrapped[..] else { panic!("{rewrapped:?}") };
    assert!(rewrapped.starts_with("strongroom:v2:"), "{rewrapped}");
    assert!(
        matches!(refused.kind(), ErrorKind::InvalidArgument { .. })
            && !refused.to_string().contains("hunter2")
    );
    let key = transit.update_key("transit/orders").min_decryption_version(2).send().await.unwrap();
    assert_eq!((key.latest_version, key.min_decryption_version, key.versions.len()), (2, 2, 2));
    let retired = transit.decrypt("transit/orders", opening()).await.unwrap_err();
    assert_eq!(retired.kind(), &ErrorKind::VersionTooOld);
    transit.destroy_key_versions("transit/orders", 2).await.unwrap();
    let again = Ciphertext::from(rewrapped.as_str()).associated_data("order 7");
    assert_eq!(transit.decrypt("transit/orders", again).await.unwrap().expose(), PLAINTEXT.as_bytes());

    let many: Vec<Plaintext> = (0..1000).map(|n| Plaintext::from(n.to_string())).collect();
    let many = transit.encrypt_all("transit/orders", many).await.unwrap();
    let many = transit
        .decrypt_all("transit/orders", many.into_iter().map(Ciphertext::from).collect())
        .await
        .unwrap();
    assert!(
        many.iter().enumerate().all(|(n, one)| one.as_ref().unwrap().expose() == n.to_string().as_bytes())
    );

    let exported = transit.export_key("transit/orders", None).await.unwrap_err();
    assert_eq!(exported.kind(), &ErrorKind::NotExportable);
    let material = SecretBytes::from(vec![7; 32]);
    transit.create_key("transit/known").material(material).exportable(true).send().await.unwrap();
    assert_eq!(transit.export_key("transit/known", None).await.unwrap().expose(), [7; 32]);
    let keys: Vec<String> = transit.keys("transit").try_collect().await.unwrap();
    assert_eq!(keys, ["transit/known", "transit/orders"]);
    assert!(root.sys().scrub().await.unwrap().problems.is_empty());

    let told = log(&root).await;
    for known in ["Transit.Encrypt", "algorithm aes256-gcm", "imported", "versions before 2", "\"version\":2"]
    {
        assert!(told.contains(known), "{known}");
    }
    let all = told + &world.server.log();
    for secret in [PLAINTEXT, "hunter2", &data_encoding::BASE64.encode(&[7; 32])] {
        assert!(!all.contains(secret), "{secret}");
    }
}

/// Who may encrypt need not be one who may decrypt, and neither gets at the key.
#[tokio::test(flavor = "multi_thread")]
async fn what_may_encrypt_may_not_decrypt() {
    const POLICY: &str = "
kind: Role
name: shop
rules:
- {paths: [transit/orders], verbs: [use]}
---
kind: Role
name: office
rules:
- {paths: [transit/orders], verbs: [read]}
---
kind: Binding
name: shop
role: shop
subjects: [{user: {method: userpass, name: alice}}]
---
kind: Binding
name: office
role: office
subjects: [{user: {method: userpass, name: bob}}]
";
    let (world, root, _) = opened().await;
    world.apply(POLICY).await.unwrap();
    root.transit().create_key("transit/orders").exportable(true).send().await.unwrap();
    let (alice, bob) = (world.user("alice", &[]).await.unwrap(), world.user("bob", &[]).await.unwrap());
    let denied = |kind: &ErrorKind| matches!(kind, ErrorKind::Denied { .. });

    let ciphertext = alice.transit().encrypt("transit/orders", PLAINTEXT).await.unwrap();
    let refused = alice.transit().decrypt("transit/orders", ciphertext.as_str()).await.unwrap_err();
    assert!(denied(refused.kind()), "{refused}");
    let rewrapped =
        alice.transit().rewrap_all("transit/orders", vec![ciphertext.as_str().into()]).await.unwrap();
    assert!(rewrapped[0].is_ok());
    assert_eq!(
        bob.transit().decrypt("transit/orders", ciphertext).await.unwrap().expose(),
        PLAINTEXT.as_bytes()
    );
    assert!(denied(bob.transit().encrypt("transit/orders", PLAINTEXT).await.unwrap_err().kind()));
    for one in [&alice, &bob] {
        one.transit().key("transit/orders").await.unwrap();
        assert!(denied(one.transit().export_key("transit/orders", None).await.unwrap_err().kind()));
        assert!(denied(one.transit().rotate_key("transit/orders").await.unwrap_err().kind()));
        assert!(denied(one.transit().destroy_key("transit/orders").await.unwrap_err().kind()));
        assert!(denied(one.transit().create_key("transit/other").send().await.unwrap_err().kind()));
    }
}

/// A signature of ours is one for everybody: OpenSSL checks it with the public key as it is shown.
#[tokio::test(flavor = "multi_thread")]
async fn openssl_verifies_what_was_signed() {
    let (world, root, _) = opened().await;
    let home = world.home.path();
    let (message, public, signature) =
        (home.join("message"), home.join("public.pem"), home.join("signature"));
    fs::write(&message, b"release 1.0").unwrap();
    for (algorithm, digest) in
        [("ed25519", None), ("ecdsa-p256", Some("-sha256")), ("ecdsa-p384", Some("-sha384"))]
    {
        let key = format!("transit/{algorithm}");
        root.transit().create_key(&key).algorithm(algorithm).send().await.unwrap();
        let signed = root.transit().sign(&key, b"release 1.0", SignatureEncoding::Asn1).await.unwrap();
        let base64 = signed.strip_prefix("strongroom:v1:").unwrap();
        fs::write(&signature, data_encoding::BASE64.decode(base64.as_bytes()).unwrap()).unwrap();
        let described = root.transit().key(&key).await.unwrap();
        fs::write(&public, described.versions[0].public_key.as_ref().unwrap()).unwrap();
        let mut openssl = Command::new("openssl");
        match digest {
            Some(digest) => {
                openssl.args(["dgst", digest, "-verify"]).arg(&public).arg("-signature").arg(&signature)
            }
            None => openssl
                .args(["pkeyutl", "-verify", "-pubin", "-rawin", "-inkey"])
                .arg(&public)
                .arg("-sigfile")
                .arg(&signature)
                .arg("-in"),
        };
        let said = openssl.arg(&message).output().unwrap();
        assert!(said.status.success(), "{algorithm}: {}", String::from_utf8_lossy(&said.stderr));
        for encoding in [SignatureEncoding::Asn1, SignatureEncoding::Jws] {
            let signed = root.transit().sign(&key, b"release 1.0", encoding).await.unwrap();
            assert!(root.transit().verify(&key, b"release 1.0", &signed, encoding).await.unwrap());
            assert!(!root.transit().verify(&key, b"release 1.1", &signed, encoding).await.unwrap());
        }
    }
}

/// A file of several chunks goes out encrypted and comes back. If anything of it was changed, nothing is written in its place.
#[tokio::test(flavor = "multi_thread")]
async fn files_of_any_size_are_encrypted_where_they_are() {
    let (world, root, cli) = opened().await;
    root.transit().create_key("transit/backups").algorithm("chacha20-poly1305").send().await.unwrap();
    let at = |name: &str| -> PathBuf { world.home.path().join(name) };
    let content: Vec<u8> = PLAINTEXT.bytes().cycle().take(1_000_003).collect();
    fs::write(at("backup"), &content).unwrap();
    let [backup, sealed, again] = ["backup", "sealed", "again"].map(|name| text(&at(name)));
    cli.ok(&["encrypt", &backup, "--key", "transit/backups", "--out-file", &sealed], b"").unwrap();
    cli.ok(&["decrypt", &sealed, "--out-file", &again], b"").unwrap();
    assert!(fs::read(at("again")).unwrap() == content);
    assert!(
        !fs::read(at("sealed")).unwrap().windows(PLAINTEXT.len()).any(|part| part == PLAINTEXT.as_bytes())
    );

    // Through pipes as well, and with the key that is expected.
    cli.ok(&["encrypt", "-", "--key", "transit/backups", "--out-file", &sealed], &content).unwrap();
    let opened = cli.run(&["decrypt", &sealed, "--key", "transit/backups", "--out-file", "-"], b"").unwrap();
    assert!(opened.stdout == content);
    let piped = cli.run(&["encrypt", "-", "--key", "transit/backups", "--out-file", "-"], b"little").unwrap();
    assert_eq!(cli.run(&["decrypt", "-", "--out-file", "-"], &piped.stdout).unwrap().stdout, b"little");
    let other = cli.run(&["decrypt", &sealed, "--key", "transit/other", "--out-file", "-"], b"").unwrap();
    let said = String::from_utf8_lossy(&other.stderr).into_owned();
    assert!(!other.status.success() && said.contains("encrypted with the key transit/backups"), "{said}");

    fs::remove_file(at("again")).unwrap();
    for (what, changed) in [
        ("cut", fs::read(at("sealed")).unwrap()[..500_000].to_vec()),
        ("changed", {
            let mut bytes = fs::read(at("sealed")).unwrap();
            *bytes.last_mut().unwrap() ^= 1;
            bytes
        }),
        ("foreign", b"something else".to_vec()),
    ] {
        fs::write(at(what), changed).unwrap();
        let refused = cli.run(&["decrypt", &text(&at(what)), "--out-file", &again], b"").unwrap();
        assert_eq!(refused.status.code(), Some(1), "{what}");
        assert!(!at("again").exists(), "{what}");
    }
    let left: Vec<_> =
        fs::read_dir(world.home.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert!(!left.iter().any(|name| name.to_string_lossy().ends_with(".tmp")), "{left:?}");
}
