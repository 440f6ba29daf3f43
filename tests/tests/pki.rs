//! Certificates as other programs see them: made by the server over TLS, checked by OpenSSL with their lists, and shown to each
//! other by rustls.
#![allow(clippy::unwrap_used, reason = "a test ends at the first surprise")]

use std::{fs, path::Path, process::Command, sync::Arc};

use rustls::{
    ClientConfig, RootCertStore, ServerConfig,
    crypto::ring::default_provider,
    pki_types::{CertificateDer, CertificateRevocationListDer, PrivateKeyDer, ServerName, pem::PemObject},
    server::WebPkiClientVerifier,
};
use strongroom_client::{Client, ErrorKind, IssuedCertificate, LeaseSelector, SealKind, SecretBytes};
use strongroom_tests::world::World;
use tokio_rustls::{TlsAcceptor, TlsConnector};

const POLICY: &str = "
kind: Role
name: web
rules:
- {paths: [pki/web, pki/leased], verbs: [use]}
---
kind: Binding
name: web
role: web
subjects: [{user: {method: userpass, name: alice}}]
";
const NAME: &str = "web.shop.example";

/// A root, an intermediate that it signed, and roles.
async fn opened() -> (World, Client) {
    let world = World::open(SealKind::File).await.unwrap();
    let root = world.root().await.unwrap();
    root.sys().mount("pki", "pki", "", Default::default()).await.unwrap();
    let pki = root.pki();
    pki.create_issuer("pki/root", "CN=Root,O=Example").key("ecdsa-p384").path_length(1).send().await.unwrap();
    let next = pki.create_issuer("pki/next", "CN=Next,O=Example").intermediate(true);
    let next = next.crl_url("http://crl.example/next").send().await.unwrap();
    assert!(next.not_after.is_none() && !next.is_default);
    let signed = pki.sign_issuer("pki/root", &next.csr_pem, None, None).await.unwrap();
    pki.set_signed("pki/next", &(signed.certificate_pem + &signed.chain_pem)).await.unwrap();
    assert!(pki.set_default("pki/next").await.unwrap().is_default);
    let dns = || vec!["*.shop.example".to_owned()];
    pki.put_role("pki/web").dns(dns()).keys(vec!["ecdsa-p256".into(), "rsa".into()]).send().await.unwrap();
    let leased = pki.put_role("pki/leased").uris(vec!["spiffe://example/{{user}}".to_owned()]);
    leased.keys(vec!["ed25519".to_owned()]).lease(true).send().await.unwrap();
    world.apply(POLICY).await.unwrap();
    (world, root)
}

async fn issued(client: &Client) -> IssuedCertificate {
    client.pki().issue("pki/web").dns(NAME).send().await.unwrap()
}

fn openssl(folder: &Path, arguments: &[&str]) -> Result<String, String> {
    let done = Command::new("openssl").current_dir(folder).args(arguments).output().unwrap();
    let text = String::from_utf8_lossy(&[done.stdout, done.stderr].concat()).into_owned();
    if done.status.success() { Ok(text) } else { Err(text) }
}

/// Whether OpenSSL takes a certificate, strictly, with the lists of all issuers.
async fn verifies(root: &Client, folder: &Path, certificate: &str) -> Result<String, String> {
    let mut lists = String::new();
    for issuer in ["pki/root", "pki/next"] {
        let der = root.pki().crl(issuer, false).await.unwrap().der;
        fs::write(folder.join("list.der"), der).unwrap();
        lists += &openssl(folder, &["crl", "-inform", "DER", "-in", "list.der"]).unwrap();
    }
    let ca = root.pki().issuer("pki/root").await.unwrap().chain_pem;
    let chain = root.pki().issuer("pki/next").await.unwrap().chain_pem;
    for (name, text) in [("ca.pem", &ca), ("chain.pem", &chain), ("lists.pem", &lists)] {
        fs::write(folder.join(name), text).unwrap();
    }
    fs::write(folder.join("leaf.pem"), certificate).unwrap();
    let trust = ["-CAfile", "ca.pem", "-untrusted", "chain.pem", "-CRLfile", "lists.pem"];
    let strict = ["-crl_check_all", "-x509_strict", "-purpose", "sslserver", "leaf.pem"];
    openssl(folder, &[&["verify"], &trust[..], &strict[..]].concat())
}

#[tokio::test(flavor = "multi_thread")]
async fn openssl_takes_what_is_issued_until_it_is_revoked() {
    let (world, root) = opened().await;
    let folder = world.home.path();
    let alice = world.user("alice", &[]).await.unwrap();
    let made = issued(&alice).await;
    let leaf = &made.certificate.certificate_pem;
    verifies(&root, folder, leaf).await.unwrap();
    let text = openssl(folder, &["x509", "-in", "leaf.pem", "-noout", "-text"]).unwrap();
    for said in ["CA:FALSE", "Digital Signature", "DNS:web.shop.example", "URI:http://crl.example/next"] {
        assert!(text.contains(said), "{said} is missing in {text}");
    }
    fs::write(folder.join("key.pem"), made.key_pem.expose()).unwrap();
    let public = |command: &[&str]| openssl(folder, command).unwrap();
    assert_eq!(
        public(&["pkey", "-in", "key.pem", "-pubout"]),
        public(&["x509", "-in", "leaf.pem", "-noout", "-pubkey"])
    );

    // A request of OpenSSL's own, with a key that ring does not make.
    let name = format!("subjectAltName=DNS:{NAME}");
    let ask = [
        "req", "-new", "-newkey", "rsa:2048", "-nodes", "-keyout", "rsa.pem", "-out", "csr.pem", "-subj",
        "/", "-addext",
    ];
    openssl(folder, &[&ask[..], &[&name]].concat()).unwrap();
    let csr = fs::read_to_string(folder.join("csr.pem")).unwrap();
    let signed = alice.pki().sign("pki/web", &csr, None).await.unwrap();
    verifies(&root, folder, &signed.certificate_pem).await.unwrap();
    // Small ones are not signed, and nothing is for others to say.
    openssl(folder, &[&["req", "-new", "-newkey", "rsa:1024"], &ask[4..], &[&name[..]]].concat()).unwrap();
    let weak = fs::read_to_string(folder.join("csr.pem")).unwrap();
    let beside = csr.replacen("MII", "MIJ", 1);
    for hostile in [weak.as_str(), &beside, "", &csr.repeat(2), &"A".repeat(30_000)] {
        let refused = alice.pki().sign("pki/web", hostile, None).await.unwrap_err();
        assert!(matches!(refused.kind(), ErrorKind::InvalidArgument { .. }), "{refused}");
    }

    // The log names what was issued, so that it can be found and revoked.
    let logged = fs::read_dir(world.home.path().join("audit")).unwrap();
    let logged =
        logged.map(|file| String::from_utf8_lossy(&fs::read(file.unwrap().path()).unwrap()).into_owned());
    let logged = logged.collect::<String>();
    for serial in [&made.certificate.serial, &signed.serial] {
        assert!(logged.contains(&format!("certificate {serial}")), "{serial} is missing");
    }

    // Revoked is revoked; the other one stays good.
    root.pki().revoke_certificate("pki/next", leaf, "keyCompromise").await.unwrap();
    let refused = verifies(&root, folder, leaf).await.unwrap_err();
    assert!(refused.contains("certificate revoked"), "{refused}");
    verifies(&root, folder, &signed.certificate_pem).await.unwrap();
    root.pki().revoke("pki/next", &signed.serial, "").await.unwrap();
    assert!(verifies(&root, folder, &signed.certificate_pem).await.is_err());
    let delta = root.pki().crl("pki/next", true).await.unwrap();
    fs::write(folder.join("list.der"), delta.der).unwrap();
    let text = openssl(folder, &["crl", "-inform", "DER", "-in", "list.der", "-noout", "-text"]).unwrap();
    assert!(text.contains("Delta CRL Indicator: critical") && text.contains("Key Compromise"), "{text}");

    // Who may use a role may do nothing else.
    for refused in [
        alice.pki().crl("pki/next", false).await.map(drop),
        alice.pki().revoke("pki/next", &signed.serial, "").await.map(drop),
        alice.pki().sign_issuer("pki/root", &csr, None, None).await.map(drop),
        alice.pki().put_role("pki/web").send().await.map(drop),
        alice.pki().set_default("pki/root").await.map(drop),
    ] {
        assert!(matches!(refused.unwrap_err().kind(), ErrorKind::Denied { .. }));
    }
    assert!(root.sys().scrub().await.unwrap().problems.is_empty());
    let log = world.server.log();
    assert!(!log.contains("PRIVATE KEY"));
}

/// The certificate of a lease is on the list when that ends, or its session does.
#[tokio::test(flavor = "multi_thread")]
async fn a_leased_certificate_ends_with_its_lease() {
    let (world, root) = opened().await;
    let alice = world.user("alice", &[]).await.unwrap();
    let made = alice.pki().issue("pki/leased").send().await.unwrap();
    let lease = made.certificate.lease.clone().unwrap();
    let before = root.pki().crl("pki/next", false).await.unwrap();
    let revoked = root.leases().revoke(&LeaseSelector::Id(lease.id)).await.unwrap();
    assert_eq!((revoked.ended, revoked.pending), (1, 0));
    let after = root.pki().crl("pki/next", false).await.unwrap();
    assert!(after.number > before.number && after.der.len() > before.der.len());
    assert!(issued(&alice).await.certificate.lease.is_none());

    // Without a word of the engine's own, as a volume has it.
    let made = alice.leases().issue("pki/leased", None).await.unwrap();
    let lengths: Vec<_> =
        made.fields.iter().map(|(name, value)| (name.as_str(), value.len() > 100)).collect();
    assert_eq!(lengths, [("ca.crt", true), ("tls.crt", true), ("tls.key", true)]);
    assert!(made.lease.is_some());

    // An authority from elsewhere goes on here, with a key that is not made here.
    let folder = world.home.path();
    let make = [
        "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", "k.pem", "-out", "c.pem", "-subj",
        "/CN=Old",
    ];
    openssl(folder, &make).unwrap();
    let (key, chain) =
        (fs::read(folder.join("k.pem")).unwrap(), fs::read_to_string(folder.join("c.pem")).unwrap());
    let old = root.pki().import_issuer("pki/old", SecretBytes::from(key), &chain, "").await.unwrap();
    assert_eq!((old.key.as_str(), old.subject.as_str()), ("rsa", "CN=Old"));
    root.pki().put_role("pki/web").issuer("pki/old").dns(vec![NAME.to_owned()]).send().await.unwrap();
    fs::write(folder.join("leaf.pem"), issued(&alice).await.certificate.certificate_pem).unwrap();
    openssl(folder, &["verify", "-CAfile", "c.pem", "leaf.pem"]).unwrap();
}

fn chain(made: &IssuedCertificate) -> (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>) {
    let both = format!("{}{}", made.certificate.certificate_pem, made.certificate.chain_pem);
    let certificates = CertificateDer::pem_slice_iter(both.as_bytes()).collect::<Result<_, _>>().unwrap();
    (certificates, PrivateKeyDer::from_pem_slice(made.key_pem.expose()).unwrap())
}

/// Both sides show a certificate; whether they agree.
async fn shake_hands(
    trust: &Arc<RootCertStore>,
    list: Vec<u8>,
    server: &IssuedCertificate,
    client: &IssuedCertificate,
) -> bool {
    let provider = || Arc::new(default_provider());
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::clone(trust), provider())
        .with_crls([CertificateRevocationListDer::from(list)])
        .only_check_end_entity_revocation();
    let ((certificates, key), (shown, secret)) = (chain(server), chain(client));
    let server = ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_client_cert_verifier(verifier.build().unwrap())
        .with_single_cert(certificates, key)
        .unwrap();
    let client = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(Arc::clone(trust))
        .with_client_auth_cert(shown, secret)
        .unwrap();
    let (here, there) = tokio::io::duplex(1 << 16);
    let connector = TlsConnector::from(Arc::new(client));
    let (accepted, connected) = tokio::join!(
        TlsAcceptor::from(Arc::new(server)).accept(here),
        connector.connect(ServerName::try_from(NAME).unwrap(), there)
    );
    accepted.is_ok() && connected.is_ok()
}

#[tokio::test(flavor = "multi_thread")]
async fn rustls_takes_both_sides_until_one_is_revoked() {
    let (world, root) = opened().await;
    let alice = world.user("alice", &[]).await.unwrap();
    let server = issued(&alice).await;
    let client = alice.pki().issue("pki/leased").send().await.unwrap();
    let mut trust = RootCertStore::empty();
    let ca = root.pki().issuer("pki/root").await.unwrap().chain_pem;
    trust.add(CertificateDer::from_pem_slice(ca.as_bytes()).unwrap()).unwrap();
    let trust = Arc::new(trust);
    let list = root.pki().crl("pki/next", false).await.unwrap().der;
    assert!(shake_hands(&trust, list, &server, &client).await);
    // The session's end is the certificate's end.
    alice.auth().logout().await.unwrap();
    let deadline = tokio::time::Instant::now() + std::time::Duration::from_secs(30);
    loop {
        let list = root.pki().crl("pki/next", false).await.unwrap();
        if !shake_hands(&trust, list.der, &server, &client).await {
            break;
        }
        assert!(tokio::time::Instant::now() < deadline, "list {} does not have it yet", list.number);
        tokio::task::yield_now().await;
    }
}
