//! The engine over a real barrier and a store in memory. What other programs make of its certificates is in
//! `tests/tests/pki.rs`.

#![allow(clippy::print_stderr, reason = "figures")]

use std::time::Instant;

use x509_cert::{Certificate, crl::CertificateList, der::Decode};

use super::{names::Names, *};
use crate::{
    barrier::View,
    clock::{Clock, ManualClock, SystemClock},
    crypto::{CertifyingKey, KeyKind, SystemEntropy},
    engines::conformance,
    model::Principal,
    storage::memory::MemoryStore,
};

const BY: RequestId = RequestId([1; 16]);
const DAY: Duration = Duration::from_secs(24 * 3600);

fn now() -> Timestamp {
    Timestamp::parse_rfc3339("2026-11-26T21:19:03Z").unwrap()
}

fn path(text: &str) -> Path {
    Path::parse(text).unwrap()
}

async fn view() -> View {
    conformance::barrier(Arc::new(MemoryStore::new())).await.view("pki")
}

fn on(view: View) -> Arc<Pki> {
    Arc::new(Pki::new(Records::new(view), Arc::new(SystemEntropy), Arc::new(ManualClock::default())))
}

fn texts(texts: &[&str]) -> Vec<String> {
    texts.iter().map(|text| (*text).to_owned()).collect()
}

fn dns(names: &[&str]) -> Asked {
    Asked::Key(Names::parse(texts(names), Vec::new(), &[]).unwrap())
}

fn alice() -> Principal {
    Principal::named("userpass/alice", &[]).unwrap()
}

fn root(subject: &str, kind: KeyKind, path_length: Option<u8>) -> Operation {
    Operation::CreateIssuer(NewIssuer {
        subject: issuers::subject(subject).unwrap(),
        kind,
        ttl: DAY * 365,
        path_length,
        intermediate: false,
        crl_url: "http://crl.example/root".to_owned(),
    })
}

fn web() -> Role {
    let role = Role { dns: texts(&["*.shop.example", "{{user}}.people.example"]), ..Role::default() };
    Role::parse("pki/web", Role { keys: texts(&["ecdsa-p256", "ed25519"]), ..role }).unwrap()
}

/// A mount with a root and a role.
async fn opened() -> Arc<Pki> {
    let pki = on(view().await);
    pki.write(path("pki/root"), BY, now(), root("CN=Root", KeyKind::EcdsaP256, Some(0))).await.unwrap();
    pki.write(path("pki/web"), BY, now(), Operation::PutRole(web())).await.unwrap();
    pki
}

async fn issued(pki: &Pki, asked: Asked, at: Timestamp) -> Result<Issued, Error> {
    pki.make(pki.plan(&path("pki/web"), asked, 0, &alice(), at).await?)
}

fn read(pem: &str) -> Certificate {
    let der = der::unpem("certificate", "CERTIFICATE", pem).unwrap();
    der::exactly(&der).unwrap()
}

fn serials(der: &[u8]) -> Vec<Vec<u8>> {
    let list = CertificateList::<x509_cert::certificate::Rfc5280>::from_der(der).unwrap();
    let entries = list.tbs_cert_list.revoked_certificates.unwrap_or_default();
    entries.iter().map(|entry| entry.serial_number.as_bytes().to_vec()).collect()
}

#[derive(Clone)]
struct Subject(Arc<Pki>);

impl conformance::Subject for Subject {
    const KIND: EngineKind = KIND;

    fn build(view: View) -> Self {
        Self(on(view))
    }

    async fn write(&self, path: &Path, value: &str) -> Result<(), EngineError> {
        let role = Role { dns: vec![value.to_owned()], ..Role::default() };
        // To the end, as the engine does.
        let (pki, path) = (Arc::clone(&self.0), path.clone());
        let task = tokio::spawn(async move { pki.write(path, BY, now(), Operation::PutRole(role)).await });
        task.await.unwrap().map(drop).map_err(EngineError::from)
    }

    async fn erase(&self) -> Result<(), BarrierError> {
        self.0.records.erase().await
    }

    async fn read(&self, path: &Path) -> Result<String, EngineError> {
        let (role, _) = self.0.records.get::<Role>(path).await.map_err(EngineError::from)?;
        Ok(role.dns.concat())
    }
}

#[tokio::test]
async fn pki_keeps_what_every_engine_promises() {
    conformance::check::<Subject>().await;
}

/// What RFC 5280 asks of a certificate, and of the root's.
#[tokio::test]
async fn a_certificate_says_what_it_has_to() {
    let pki = opened().await;
    let made = issued(&pki, dns(&["a.shop.example"]), now()).await.unwrap();
    let certificate = read(&made.signed.certificate_pem);
    let tbs = certificate.tbs_certificate();
    let ca = read(&made.signed.chain_pem);
    assert_eq!(tbs.serial_number().as_bytes().len(), 20);
    assert_eq!(
        (tbs.issuer().to_string(), tbs.subject().to_string()),
        ("CN=Root".into(), "CN=a.shop.example".into())
    );
    assert_eq!(tbs.validity().not_before.to_date_time().to_string(), "2026-11-26T21:18:33Z");
    assert_eq!(tbs.validity().not_after.to_date_time().to_string(), "2026-11-27T21:19:03Z");
    let critical = |certificate: &Certificate| {
        let extensions = certificate.tbs_certificate().extensions().unwrap().iter();
        let told =
            extensions.map(|found| format!("{}{}", found.extn_id, if found.critical { "!" } else { "" }));
        told.collect::<Vec<_>>().join(" ")
    };
    assert_eq!(
        critical(&certificate),
        "2.5.29.14 2.5.29.35 2.5.29.19! 2.5.29.15! 2.5.29.37 2.5.29.17 2.5.29.31"
    );
    assert_eq!(critical(&ca), "2.5.29.14 2.5.29.35 2.5.29.19! 2.5.29.15!");
    // The key is the certificate's.
    let key = authority::key_of(made.key_pem.as_ref().unwrap()).unwrap();
    let public = CertifyingKey::from_pkcs8(key.expose()).unwrap().public();
    assert_eq!(tbs.subject_public_key_info().subject_public_key.as_bytes(), Some(&public[..]));

    // Without a subject the names are critical.
    let role = Role { uris: texts(&["spiffe://example.org/{{user}}"]), ..Role::default() };
    let role = Role::parse("pki/web", role).unwrap();
    pki.write(path("pki/web"), BY, now(), Operation::PutRole(role)).await.unwrap();
    let made = issued(&pki, dns(&[]), now()).await.unwrap();
    assert!(critical(&read(&made.signed.certificate_pem)).contains("2.5.29.17!"));

    // Nothing outlives its issuer, and an issuer that is over issues nothing.
    let late = now().plus(DAY * 364).plus(DAY / 2);
    let made = issued(&pki, dns(&[]), late).await.unwrap();
    assert_eq!(made.signed.not_after, now().plus(DAY * 365));
    let over = issued(&pki, dns(&[]), now().plus(DAY * 365)).await;
    assert!(matches!(over, Err(Error::Expired(_))));
}

#[tokio::test]
async fn a_role_gives_only_what_it_says() {
    let pki = opened().await;
    for allowed in ["a.shop.example", "alice.people.example"] {
        issued(&pki, dns(&[allowed]), now()).await.unwrap();
    }
    for refused in
        ["shop.example", "a.b.shop.example", "*.shop.example", "bob.people.example", "a.shop.example.org"]
    {
        let refused = issued(&pki, dns(&["a.shop.example", refused]), now()).await;
        assert!(matches!(refused, Err(Error::Invalid(invalid)) if invalid.field == "dns"));
    }
    let ip = Names::parse(Vec::new(), Vec::new(), &texts(&["10.0.0.1"])).unwrap();
    assert!(issued(&pki, Asked::Key(ip), now()).await.is_err());
    assert!(
        pki.plan(&path("pki/web"), dns(&["a.shop.example"]), 31 * 24 * 3600, &alice(), now()).await.is_err()
    );
    assert!(matches!(
        pki.plan(&path("pki/nothing"), dns(&[]), 0, &alice(), now()).await,
        Err(Error::NotFound("role"))
    ));
    // A path is one thing.
    let role = Operation::PutRole(web());
    assert!(matches!(pki.write(path("pki/root"), BY, now(), role).await, Err(Error::Exists("an issuer"))));
    let issuer = root("CN=Other", KeyKind::Ed25519, None);
    assert!(matches!(pki.write(path("pki/web"), BY, now(), issuer).await, Err(Error::Exists("a role"))));
}

/// A request of somebody who has the key, in DER.
fn request(kind: KeyKind, subject: &str, names: &[&str]) -> Vec<u8> {
    let key = CertifyingKey::from_pkcs8(kind.generate(&SystemEntropy).unwrap().expose()).unwrap();
    let names = Names { dns: texts(names), ..Names::default() };
    request::make(&key, &issuers::subject(subject).unwrap(), &names).unwrap()
}

fn parsed(der: &[u8]) -> Result<Request, Invalid> {
    Request::parse(&der::pem("CERTIFICATE REQUEST", der))
}

/// Whatever somebody sends: what is not signed with the key in it, to the last bit, is none.
#[tokio::test]
async fn a_hostile_request_is_refused() {
    for kind in [KeyKind::EcdsaP256, KeyKind::Ed25519] {
        let good = request(kind, "CN=a.shop.example", &["b.shop.example"]);
        let names = parsed(&good).unwrap().leaf_names().unwrap();
        assert_eq!(names.dns, ["b.shop.example", "a.shop.example"]);
        for byte in 0..good.len() {
            for bit in 0..8 {
                let mut changed = good.clone();
                changed[byte] ^= 1 << bit;
                assert!(parsed(&changed).is_err(), "{kind:?} byte {byte} bit {bit}");
            }
            assert!(parsed(&good[..byte]).is_err());
        }
        assert!(parsed(&[&good[..], b"\0"].concat()).is_err());
        let twice = der::pem("CERTIFICATE REQUEST", &good).repeat(2);
        assert!(Request::parse(&twice).is_err());
        assert!(Request::parse(&der::pem("CERTIFICATE", &good)).is_err());
        // Signed with another key.
        let other = request(kind, "CN=a.shop.example", &["b.shop.example"]);
        let end = good.len() - 60;
        assert!(parsed(&[&good[..end], &other[other.len().min(end)..]].concat()).is_err());
    }
    let long = der::pem("CERTIFICATE REQUEST", &vec![0x30; 20 << 10]);
    assert_eq!(Request::parse(&long).err().unwrap().problem, "is too long; expected at most 16 KiB");

    let pki = opened().await;
    let ask = async |kind, subject: &str, names: &[&str]| {
        let asked = Asked::Request(Box::new(parsed(&request(kind, subject, names)).unwrap()));
        issued(&pki, asked, now()).await.map(|made| made.key_pem.is_none())
    };
    assert!(ask(KeyKind::Ed25519, "CN=a.shop.example", &[]).await.unwrap());
    assert!(ask(KeyKind::EcdsaP384, "CN=a.shop.example", &[]).await.is_err());
    assert!(ask(KeyKind::EcdsaP256, "CN=a.shop.example", &["evil.example"]).await.is_err());
    assert!(ask(KeyKind::EcdsaP256, "CN=evil.example", &["a.shop.example"]).await.is_err());
    assert!(ask(KeyKind::EcdsaP256, "O=Shop,CN=a.shop.example", &[]).await.is_err());
}

/// An intermediate, and what the root lets it be.
#[tokio::test]
async fn an_issuer_is_signed_by_another_one() {
    let pki = on(view().await);
    for (name, length) in [("pki/root", Some(1)), ("pki/leaf-only", Some(0))] {
        let issuer = root(&format!("CN={name}"), KeyKind::EcdsaP384, length);
        pki.write(path(name), BY, now(), issuer).await.unwrap();
    }
    let Operation::CreateIssuer(new) = root("CN=Next", KeyKind::Ed25519, None) else { unreachable!() };
    let next =
        pki.create(path("pki/next"), NewIssuer { intermediate: true, ..new }, BY, now()).await.unwrap();
    assert!(!next.is_default && next.issuer.chain.is_empty());
    assert!(matches!(pki.set_default(path("pki/next"), BY).await, Err(Error::Unsigned(_))));
    let request = parsed(&next.issuer.csr).unwrap();
    let refused = pki.sign_issuer(&path("pki/leaf-only"), &request, DAY, None, now()).await;
    assert!(matches!(refused, Err(Error::Invalid(invalid)) if invalid.field == "path_length"));
    let signed = pki.sign_issuer(&path("pki/root"), &request, DAY, Some(9), now()).await.unwrap();

    // A chain has to be one, and for this key.
    let both = format!("{}{}", signed.certificate_pem, signed.chain_pem);
    let leaf_only = pki.authority(&path("pki/leaf-only")).await.unwrap();
    for wrong in ["", "x", &signed.chain_pem, &format!("{}{}", signed.certificate_pem, leaf_only.chain_pem)] {
        assert!(pki.set_signed(path("pki/next"), wrong, BY, now()).await.is_err());
    }
    assert!(pki.set_signed(path("pki/next"), &both, BY, now().plus(DAY)).await.is_err());
    pki.set_signed(path("pki/next"), &both, BY, now()).await.unwrap();
    assert_eq!(pki.authority(&path("pki/next")).await.unwrap().path_length, Some(0));

    // Rotation: new certificates come from the new default, and the old one goes on with its lists.
    pki.write(path("pki/web"), BY, now(), Operation::PutRole(web())).await.unwrap();
    let before = issued(&pki, dns(&["a.shop.example"]), now()).await.unwrap();
    assert!(pki.set_default(path("pki/next"), BY).await.unwrap().is_default);
    let after = issued(&pki, dns(&["a.shop.example"]), now()).await.unwrap();
    let issuer = |made: &Issued| read(&made.signed.certificate_pem).tbs_certificate().issuer().to_string();
    assert_eq!((issuer(&before), issuer(&after)), ("CN=pki/root".into(), "CN=Next".into()));
    assert_eq!(after.signed.chain_pem, both);
    let which = || Which::Certificate(before.signed.certificate_pem.clone());
    assert!(pki.revoke_one(&path("pki/next"), which(), 0, (BY, now())).await.is_err());
    pki.revoke_one(&path("pki/root"), which(), 0, (BY, now())).await.unwrap();
    assert_eq!(serials(&pki.lists(&path("pki/root"), now()).await.unwrap().full).len(), 1);

    // One from elsewhere.
    let (kept, _) = pki.records.get::<Issuer>(&path("pki/next")).await.unwrap();
    let key = authority::key_pem(&SecretBytes::from(&*kept.key.unwrap().value));
    let import =
        async |chain: &str| pki.import(path("pki/again"), &key, chain, String::new(), (BY, now())).await;
    assert!(import(&signed.chain_pem).await.is_err());
    assert_eq!(import(&both).await.unwrap().issuer.subject, "CN=Next");
}

#[tokio::test]
async fn lists_have_what_is_revoked_until_it_has_expired() {
    let (pki, place) = (opened().await, path("pki/root"));
    let empty = pki.lists(&place, now()).await.unwrap();
    assert!(serials(&empty.full).is_empty() && empty.number == 1);
    // From memory while nothing changes.
    assert!(Arc::ptr_eq(&empty, &pki.lists(&place, now().plus(DAY)).await.unwrap()));

    let first = issued(&pki, dns(&["a.shop.example"]), now()).await.unwrap();
    let serial = revoke::serial(&first.signed.serial).unwrap();
    let which = || Which::Certificate(first.signed.certificate_pem.clone());
    let revoked = pki.revoke_one(&place, which(), 1, (BY, now())).await.unwrap();
    // Twice is once, by either name.
    let later = now().plus(DAY / 4);
    assert_eq!(pki.revoke_one(&place, Which::Serial(serial.clone()), 0, (BY, later)).await.unwrap(), revoked);
    let lists = pki.lists(&place, later).await.unwrap();
    assert_eq!(
        (lists.number, serials(&lists.full), serials(&lists.delta)),
        (2, vec![serial.clone()], vec![serial.clone()])
    );

    // From a new base on, deltas no longer say it.
    let leased =
        pki.plan(&path("pki/web"), dns(&["a.shop.example"]), 0, &alice(), now().plus(DAY)).await.unwrap();
    let terms = leased.terms();
    assert_eq!((terms.ttl, terms.max), (DAY, DAY));
    pki.revoke_leased(&terms.data, now().plus(DAY)).await.unwrap();
    let lists = pki.lists(&place, now().plus(DAY)).await.unwrap();
    assert_eq!((serials(&lists.full).len(), serials(&lists.delta).len()), (2, 0));
    // It has expired, was on one more list, and goes.
    let near = pki.lists(&place, now().plus(DAY * 3)).await.unwrap();
    assert_eq!((serials(&near.full).len(), near.number), (2, 4));
    let last = pki.lists(&place, now().plus(DAY * 5)).await.unwrap();
    assert_eq!((serials(&last.full).len(), last.number), (0, 5));
    // What a lease was for and has expired needs no list.
    pki.revoke_leased(&terms.data, now().plus(DAY * 2)).await.unwrap();
    assert!(Arc::ptr_eq(&last, &pki.lists(&place, now().plus(DAY * 5)).await.unwrap()));
    // Numbers go on after a restart.
    let again = Pki::new(pki.records.clone(), Arc::new(SystemEntropy), Arc::new(ManualClock::default()));
    assert_eq!(again.lists(&place, now().plus(DAY * 5)).await.unwrap().number, 6);
}

/// As many as there may be fit into an answer; the next one is refused.
#[tokio::test]
async fn the_longest_list_fits_into_an_answer() {
    let (pki, place) = (opened().await, path("pki/root"));
    let issuer = pki.authority(&place).await.unwrap();
    pki.records.fill(&issuer.id, revoke::MOST, issuer.not_after).await;
    let began = SystemClock.steady();
    let lists = pki.lists(&place, now()).await.unwrap();
    eprintln!(
        "{} entries: {} bytes in {:?}",
        revoke::MOST,
        lists.full.len(),
        SystemClock.steady().since(began)
    );
    assert_eq!(u64::try_from(serials(&lists.full).len()), Ok(revoke::MOST));
    assert!(lists.full.len() + 64 < strongroom_proto::limits::RESPONSE_BYTES, "{}", lists.full.len());
    let next = pki.revoke_one(&place, Which::Serial(vec![7]), 0, (BY, now())).await;
    assert!(matches!(next, Err(Error::Full(revoke::MOST))));
    // All of them have expired, were on one more list, and go; then there is room.
    let over = pki.lists(&place, now().plus(DAY * 366)).await.unwrap();
    assert_eq!(serials(&over.full).len(), serials(&lists.full).len());
    assert!(serials(&pki.lists(&place, now().plus(DAY * 370)).await.unwrap().full).is_empty());
    pki.revoke_one(&place, Which::Serial(vec![7]), 0, (BY, now())).await.unwrap();
}

/// Ten thousand certificates have ten thousand serials. How long that takes is printed beside bare signatures of the same key.
#[tokio::test]
async fn ten_thousand_certificates() {
    const MANY: usize = 10_000;
    let pki = opened().await;
    let request = request(KeyKind::EcdsaP256, "CN=a.shop.example", &[]);
    let mut asked: Vec<_> = (0..MANY).map(|_| Asked::Request(Box::new(parsed(&request).unwrap()))).collect();
    let began = Instant::now();
    let mut serials = std::collections::BTreeSet::new();
    while let Some(asked) = asked.pop() {
        serials.insert(issued(&pki, asked, now()).await.unwrap().signed.serial);
    }
    let took = began.elapsed();
    assert_eq!(serials.len(), MANY);
    let key =
        CertifyingKey::from_pkcs8(KeyKind::EcdsaP256.generate(&SystemEntropy).unwrap().expose()).unwrap();
    let began = Instant::now();
    for _ in 0..MANY {
        key.sign(&[7; 500]).unwrap();
    }
    let bare = began.elapsed();
    eprintln!("{MANY} certificates in {took:?}, bare signatures in {bare:?}");
}
