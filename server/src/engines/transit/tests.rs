//! transit as a whole, over a real barrier and a store in memory.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU8, Ordering},
    },
    time::Duration,
};

use tokio_util::task::TaskTracker;

use super::{algorithm::Pair, *};
use crate::{
    barrier::View,
    crypto::{CryptoError, SystemEntropy},
    engines::{Operation as _, conformance},
    storage::memory::MemoryStore,
};

const ENCRYPTING: [&str; 2] = ["aes256-gcm", "chacha20-poly1305"];
const SIGNING: [&str; 3] = ["ed25519", "ecdsa-p256", "ecdsa-p384"];
const NOW: Timestamp = Timestamp::from_millis(5);
const BY: RequestId = RequestId([1; 16]);
const HMAC: &str = "hmac-sha256";

fn on(view: View) -> Transit {
    Transit { keys: Keys::new(view), entropy: Arc::new(SystemEntropy), tasks: TaskTracker::new() }
}

async fn transit() -> Transit {
    on(conformance::barrier(Arc::new(MemoryStore::new())).await.view("transit"))
}

fn path(text: &str) -> Path {
    Path::parse(text).unwrap()
}

fn create(algorithm: &str) -> Operation {
    let algorithm = Algorithm::parse(algorithm).unwrap();
    Operation::Create { algorithm, derived: false, exportable: false, material: None }
}

impl Transit {
    async fn doing(&self, at: &str, operation: Operation) -> Result<Output, Error> {
        if operation.is_write() {
            return self.write(path(at), BY, NOW, operation).await;
        }
        self.with(&path(at), self.keys.get(&path(at)).await?, operation)
    }

    async fn created(&self, at: &str, algorithm: &str) {
        self.doing(at, create(algorithm)).await.unwrap();
    }

    async fn encrypt(
        &self,
        at: &str,
        plaintext: &str,
        terms: Terms,
        version: Option<u32>,
    ) -> Result<String, Error> {
        let items = vec![Plain { plaintext: SecretBytes::from(plaintext), terms }];
        match self.doing(at, Operation::Encrypt { items, version }).await? {
            Output::Encrypted { mut ciphertexts, .. } => Ok(ciphertexts.remove(0)),
            _ => panic!("not encrypted"),
        }
    }

    async fn decrypt(&self, at: &str, ciphertext: &str, terms: Terms) -> Result<String, String> {
        let items = vec![Sealed { ciphertext: ciphertext.to_owned(), terms }];
        match self.doing(at, Operation::Decrypt { items }).await {
            Ok(Output::Decrypted(mut items)) => {
                let item = items.remove(0).map_err(|error| error.to_string())?;
                Ok(String::from_utf8(item.expose().to_vec()).unwrap())
            }
            Ok(_) => panic!("not decrypted"),
            Err(error) => Err(error.to_string()),
        }
    }
}

fn terms(context: &str, associated_data: &str) -> Terms {
    Terms { context: context.into(), associated_data: associated_data.into() }
}

/// A value that is kept as a key is, to be found again.
fn holding(value: &str) -> TransitKey {
    let mut secret = vec![0; 32];
    secret[..value.len()].copy_from_slice(value.as_bytes());
    let pair = Pair { secret: SecretBytes::from(secret), public: Vec::new() };
    TransitKey::new(Algorithm::Authenticates, false, false, pair, Timestamp::from_millis(1))
}

#[derive(Clone)]
struct Mounted(Arc<Transit>);

impl conformance::Subject for Mounted {
    const KIND: EngineKind = KIND;

    fn build(view: View) -> Self {
        Self(Arc::new(on(view)))
    }

    async fn write(&self, path: &Path, value: &str) -> Result<(), EngineError> {
        let made = |_| Ok(Some(holding(value)));
        Ok(self.0.keys.change(path, RequestId([1; 16]), made).await.map(drop)?)
    }

    async fn erase(&self) -> Result<(), BarrierError> {
        Engine::erase(&*self.0).await
    }

    async fn read(&self, path: &Path) -> Result<String, EngineError> {
        let key = self.0.keys.get(path).await?;
        let text = String::from_utf8(key.kept(None)?.pair.secret.expose().to_vec()).unwrap();
        Ok(text.trim_end_matches('\0').to_owned())
    }
}

#[tokio::test]
async fn transit_keeps_what_every_engine_promises() {
    conformance::check::<Mounted>().await;
}

#[tokio::test]
async fn opens_what_it_encrypted_and_nothing_else() {
    let transit = transit().await;
    for algorithm in ENCRYPTING {
        let (key, other) = (format!("transit/{algorithm}"), format!("transit/other/{algorithm}"));
        transit.created(&key, algorithm).await;
        transit.created(&other, algorithm).await;
        let sealed = transit.encrypt(&key, "hello", terms("", "row 7"), None).await.unwrap();
        assert!(sealed.starts_with("strongroom:v1:"));
        assert_eq!(transit.decrypt(&key, &sealed, terms("", "row 7")).await.unwrap(), "hello");
        assert_ne!(transit.encrypt(&key, "hello", terms("", "row 7"), None).await.unwrap(), sealed);

        // Another key, other associated data, another version of the same key, anything that was changed.
        let does_not_open = Error::DoesNotOpen.to_string();
        assert_eq!(transit.decrypt(&other, &sealed, terms("", "row 7")).await.unwrap_err(), does_not_open);
        assert_eq!(transit.decrypt(&key, &sealed, terms("", "row 8")).await.unwrap_err(), does_not_open);
        transit.doing(&key, Operation::Rotate).await.unwrap();
        let moved = sealed.replace(":v1:", ":v2:");
        assert_eq!(transit.decrypt(&key, &moved, terms("", "row 7")).await.unwrap_err(), does_not_open);
        let Versioned { version, bytes } = Versioned::parse("", &sealed).unwrap();
        for at in 0..bytes.len() {
            let mut bytes = bytes.clone();
            bytes[at] ^= 1;
            let changed = Versioned { version, bytes }.to_string();
            assert_eq!(transit.decrypt(&key, &changed, terms("", "row 7")).await.unwrap_err(), does_not_open);
        }
        for cut in 0..bytes.len() {
            let cut = Versioned { version, bytes: bytes[..cut].to_vec() }.to_string();
            assert_eq!(transit.decrypt(&key, &cut, terms("", "row 7")).await.unwrap_err(), does_not_open);
        }
        assert_eq!(transit.decrypt(&key, &sealed, terms("", "row 7")).await.unwrap(), "hello");
    }
}

#[tokio::test]
async fn each_context_of_a_derived_key_has_a_key_of_its_own() {
    let transit = transit().await;
    let derived = Operation::Create {
        algorithm: Algorithm::parse("").unwrap(),
        derived: true,
        exportable: false,
        material: None,
    };
    transit.doing("transit/derived", derived).await.unwrap();
    transit.created("transit/plain", "aes256-gcm").await;
    let sealed = transit.encrypt("transit/derived", "hello", terms("tenant 1", ""), None).await.unwrap();
    let decrypt = |terms| transit.decrypt("transit/derived", &sealed, terms);
    assert_eq!(decrypt(terms("tenant 1", "")).await.unwrap(), "hello");
    assert_eq!(decrypt(terms("tenant 2", "")).await.unwrap_err(), Error::DoesNotOpen.to_string());
    assert!(decrypt(terms("", "")).await.unwrap_err().starts_with("items[0].context: is missing"));
    let refused = transit.encrypt("transit/plain", "x", terms("tenant", ""), None).await.unwrap_err();
    assert!(refused.to_string().starts_with("items[0].context: is given, but"), "{refused}");
    for algorithm in SIGNING {
        let algorithm = Algorithm::parse(algorithm).unwrap();
        let refused = Operation::Create { algorithm, derived: true, exportable: false, material: None };
        assert!(matches!(transit.doing("transit/x", refused).await, Err(Error::Invalid(_))));
    }
}

/// What is wrong with one row of a table does not keep the others from being read.
#[tokio::test]
async fn of_many_each_has_its_own_answer() {
    let transit = transit().await;
    transit.created("transit/key", "aes256-gcm").await;
    let good = transit.encrypt("transit/key", "hello", Terms::default(), None).await.unwrap();
    let item = |ciphertext: &str| Sealed { ciphertext: ciphertext.to_owned(), terms: Terms::default() };
    let items = || vec![item(&good), item("hunter2"), item("strongroom:v9:AAAA"), item(&good)];
    let Output::Decrypted(decrypted) =
        transit.doing("transit/key", Operation::Decrypt { items: items() }).await.unwrap()
    else {
        panic!("not decrypted")
    };
    let [Ok(first), Err(second), Err(third), Ok(_)] = &decrypted[..] else { panic!("{}", decrypted.len()) };
    assert_eq!(first.expose(), b"hello");
    assert!(second.to_string().starts_with("items[1].ciphertext: is not of the form"), "{second}");
    assert!(
        third.to_string().starts_with("items[2].ciphertext: names version 9, which this key does not have")
    );
    let Output::Rewrapped { items, version: 1 } =
        transit.doing("transit/key", Operation::Rewrap { items: items() }).await.unwrap()
    else {
        panic!("not rewrapped")
    };
    assert!(matches!(&items[..], [Ok(_), Err(_), Err(_), Ok(_)]));
}

#[tokio::test]
async fn old_versions_open_until_they_are_retired() {
    let transit = transit().await;
    let key = "transit/key";
    transit.created(key, "aes256-gcm").await;
    let first = transit.encrypt(key, "hello", Terms::default(), None).await.unwrap();
    transit.doing(key, Operation::Rotate).await.unwrap();
    transit.doing(key, Operation::Rotate).await.unwrap();
    assert!(transit.encrypt(key, "x", Terms::default(), None).await.unwrap().starts_with("strongroom:v3:"));
    assert!(
        transit.encrypt(key, "x", Terms::default(), Some(2)).await.unwrap().starts_with("strongroom:v2:")
    );
    assert_eq!(transit.decrypt(key, &first, Terms::default()).await.unwrap(), "hello");

    // Rewrapped, it is of the latest version and says the same.
    let items = vec![Sealed { ciphertext: first.clone(), terms: Terms::default() }];
    let Output::Rewrapped { mut items, version: 3 } =
        transit.doing(key, Operation::Rewrap { items }).await.unwrap()
    else {
        panic!("not rewrapped")
    };
    let rewrapped = items.remove(0).unwrap();
    assert!(rewrapped.starts_with("strongroom:v3:"));

    let update = |min_decryption, min_encryption| Operation::Update {
        min_decryption,
        min_encryption,
        exportable: None,
        rotation_period: None,
    };
    for (decryption, encryption) in [(Some(0), None), (Some(4), None), (Some(3), Some(2)), (None, Some(4))] {
        let refused = transit.doing(key, update(decryption, encryption)).await;
        assert!(matches!(refused, Err(Error::Invalid(_))), "{decryption:?} {encryption:?}");
    }
    // Nothing is forgotten that could still be needed.
    let trim = |before| Operation::Destroy { before: Some(before) };
    assert!(matches!(transit.doing(key, trim(2)).await, Err(Error::Invalid(_))));
    transit.doing(key, update(Some(2), Some(3))).await.unwrap();
    let too_old = transit.decrypt(key, &first, Terms::default()).await.unwrap_err();
    assert_eq!(too_old, "version 1 is too old: min_decryption_version is 2");
    let too_old = transit.encrypt(key, "x", Terms::default(), Some(2)).await.unwrap_err();
    assert_eq!(too_old.to_string(), "version 2 is too old: min_encryption_version is 3");
    // It can be taken back, until the version is destroyed.
    transit.doing(key, update(Some(1), None)).await.unwrap();
    assert_eq!(transit.decrypt(key, &first, Terms::default()).await.unwrap(), "hello");
    transit.doing(key, update(Some(2), None)).await.unwrap();
    transit.doing(key, trim(2)).await.unwrap();
    assert!(matches!(transit.doing(key, update(Some(1), None)).await, Err(Error::Invalid(_))));
    assert!(transit.decrypt(key, &first, Terms::default()).await.unwrap_err().contains("does not have"));
    assert_eq!(transit.decrypt(key, &rewrapped, Terms::default()).await.unwrap(), "hello");

    transit.doing(key, Operation::Destroy { before: None }).await.unwrap();
    assert!(matches!(transit.doing(key, Operation::Describe).await, Err(Error::NotFound)));
    assert!(matches!(transit.doing(key, Operation::Rotate).await, Err(Error::NotFound)));
}

#[tokio::test]
async fn a_key_has_room_for_so_many_versions() {
    let transit = transit().await;
    transit.created("transit/key", "ecdsa-p384").await;
    for _ in 1..key::VERSIONS {
        transit.doing("transit/key", Operation::Rotate).await.unwrap();
    }
    let full = transit.doing("transit/key", Operation::Rotate).await.err().unwrap();
    assert!(full.to_string().starts_with("path: has 180 versions"), "{full}");
}

#[tokio::test]
async fn verifies_what_it_signed_and_nothing_else() {
    let transit = transit().await;
    for algorithm in SIGNING {
        let key = format!("transit/{algorithm}");
        transit.created(&key, algorithm).await;
        for encoding in [Encoding::Asn1, Encoding::Jws] {
            let message = || SecretBytes::from("message");
            let sign = Operation::Sign { message: message(), encoding, version: None };
            let Output::Signed { signature, version: 1 } = transit.doing(&key, sign).await.unwrap() else {
                panic!("not signed")
            };
            let verify = async |message: SecretBytes, signature: &str| {
                let verify = Operation::Verify { message, encoding, signature: signature.to_owned() };
                matches!(transit.doing(&key, verify).await.unwrap(), Output::Verified(true))
            };
            assert!(verify(message(), &signature).await, "{algorithm} {encoding:?}");
            assert!(!verify(SecretBytes::from("massage"), &signature).await);
            assert!(!verify(message(), "strongroom:v1:AAAA").await);
        }
        let Output::Key { key: described, .. } = transit.doing(&key, Operation::Describe).await.unwrap()
        else {
            panic!("not described")
        };
        let Algorithm::Signs(scheme) = described.algorithm else { panic!("{algorithm}") };
        let pem = scheme.pem(&described.kept(None).unwrap().pair.public);
        assert!(
            pem.starts_with("-----BEGIN PUBLIC KEY-----\nM") && pem.lines().all(|line| line.len() <= 64),
            "{pem}"
        );
    }
}

#[tokio::test]
async fn authenticates() {
    let transit = transit().await;
    transit.created("transit/key", HMAC).await;
    let mac = async |message: &str| {
        let mac = Operation::Mac { message: SecretBytes::from(message), context: Vec::new(), version: None };
        match transit.doing("transit/key", mac).await.unwrap() {
            Output::Mac { mac, .. } => mac,
            _ => panic!("no MAC"),
        }
    };
    let claimed = mac("message").await;
    assert_eq!(mac("message").await, claimed);
    for (message, claimed, valid) in
        [("message", &*claimed, true), ("massage", &claimed, false), ("message", "strongroom:v1:AAAA", false)]
    {
        let message = SecretBytes::from(message);
        let verify = Operation::VerifyMac { message, context: Vec::new(), mac: claimed.to_owned() };
        let Output::Verified(found) = transit.doing("transit/key", verify).await.unwrap() else {
            panic!("no answer")
        };
        assert_eq!(found, valid);
    }
}

/// A key does what its algorithm is for. Whoever asks for something else is told what it is.
#[tokio::test]
async fn a_key_is_for_one_thing() {
    let transit = transit().await;
    let all: Vec<&str> = ENCRYPTING.into_iter().chain(SIGNING).chain([HMAC]).collect();
    for algorithm in all {
        let key = format!("transit/{algorithm}");
        transit.created(&key, algorithm).await;
        let message = || SecretBytes::from("x");
        let asked = [
            ("encrypts", Operation::Encrypt { items: Vec::new(), version: None }),
            ("encrypts", Operation::Decrypt { items: Vec::new() }),
            ("encrypts", Operation::Rewrap { items: Vec::new() }),
            ("encrypts", Operation::DataKey { terms: Terms::default(), with_plaintext: true }),
            ("signs", Operation::Sign { message: message(), encoding: Encoding::Asn1, version: None }),
            ("authenticates", Operation::Mac { message: message(), context: Vec::new(), version: None }),
        ];
        let mut can = Vec::new();
        for (what, operation) in asked {
            match transit.doing(&key, operation).await {
                Ok(_) => can.push(what),
                Err(error) => {
                    assert!(error.to_string().ends_with(&format!("expected one that {what}")), "{error}")
                }
            }
        }
        can.dedup();
        assert_eq!(can.len(), 1, "{algorithm}: {can:?}");
    }
}

#[tokio::test]
async fn a_data_key_is_what_its_ciphertext_says() {
    let transit = transit().await;
    transit.created("transit/key", "aes256-gcm").await;
    let asked = |with_plaintext| Operation::DataKey { terms: terms("", "backup"), with_plaintext };
    let Output::DataKey { plaintext: Some(plaintext), ciphertext, .. } =
        transit.doing("transit/key", asked(true)).await.unwrap()
    else {
        panic!("no data key")
    };
    assert_eq!(plaintext.len(), 32);
    let items = vec![Sealed { ciphertext, terms: terms("", "backup") }];
    let Output::Decrypted(items) = transit.doing("transit/key", Operation::Decrypt { items }).await.unwrap()
    else {
        panic!("not decrypted")
    };
    assert_eq!(items[0].as_ref().unwrap().expose(), plaintext.expose());
    let without = transit.doing("transit/key", asked(false)).await.unwrap();
    assert!(matches!(without, Output::DataKey { plaintext: None, .. }));
}

#[tokio::test]
async fn a_key_leaves_only_if_it_may_and_comes_in_as_it_left() {
    let transit = transit().await;
    let all: Vec<&str> = ENCRYPTING.into_iter().chain(SIGNING).chain([HMAC]).collect();
    for algorithm in all {
        let key = format!("transit/{algorithm}");
        transit.created(&key, algorithm).await;
        let export = || Operation::Export { version: None };
        assert!(matches!(transit.doing(&key, export()).await, Err(Error::NotExportable)));
        let exportable = |exportable| Operation::Update {
            min_decryption: None,
            min_encryption: None,
            exportable: Some(exportable),
            rotation_period: None,
        };
        transit.doing(&key, exportable(true)).await.unwrap();
        assert!(matches!(transit.doing(&key, exportable(false)).await, Err(Error::Invalid(_))));
        let Output::Exported { material, version: 1 } = transit.doing(&key, export()).await.unwrap() else {
            panic!("not exported")
        };
        let import = |bytes: &[u8]| Operation::Create {
            algorithm: Algorithm::parse(algorithm).unwrap(),
            derived: false,
            exportable: true,
            material: Some(SecretBytes::from(bytes)),
        };
        let copy = format!("transit/copy/{algorithm}");
        transit.doing(&copy, import(material.expose())).await.unwrap();
        let Output::Exported { material: again, .. } = transit.doing(&copy, export()).await.unwrap() else {
            panic!("not exported")
        };
        assert_eq!(again.expose(), material.expose());
        let wrong = transit.doing("transit/wrong", import(&material.expose()[1..])).await.err().unwrap();
        assert!(
            wrong.to_string().starts_with(&format!("material: is no key of {algorithm}; expected ")),
            "{wrong}"
        );
        // The log is told that it was imported, and nothing of what.
        let told = import(material.expose());
        assert!(told.values().is_empty());
        assert_eq!(
            told.changes(),
            [format!("algorithm {algorithm}"), "exportable".into(), "imported".into()]
        );
    }
    let twice = transit.doing("transit/aes256-gcm", create("aes256-gcm")).await;
    assert!(matches!(twice, Err(Error::Exists)));
}

#[tokio::test]
async fn a_list_has_what_the_caller_may_see_page_by_page() {
    let transit = transit().await;
    for n in 0..1100 {
        let made = |_| Ok(Some(holding("x")));
        let at = path(&format!("transit/shop/{n:04}"));
        transit.keys.change(&at, RequestId([1; 16]), made).await.unwrap();
    }
    transit.created("transit/other", "aes256-gcm").await;
    let sees = |path: &Path| !path.as_str().ends_with("0007");
    let (first, next) = transit.keys.page(&path("transit/shop"), None, sees).await.unwrap();
    let (second, end) = transit.keys.page(&path("transit/shop"), next.as_deref(), sees).await.unwrap();
    assert_eq!((first.len(), second.len(), end), (1000, 99, None));
    let all: Vec<String> = first.iter().chain(&second).map(ToString::to_string).collect();
    assert!(all.is_sorted() && !all.contains(&"transit/shop/0007".to_owned()));
    assert_eq!(transit.keys.page(&path("transit"), None, |_| true).await.unwrap().0.len(), 1000);
}

#[test]
fn records_of_no_key_are_refused() {
    let good = holding("x").encode();
    assert!(TransitKey::decode(&good).is_some());
    for cut in 0..good.len() {
        assert!(TransitKey::decode(&SecretBytes::from(&good.expose()[..cut])).is_none(), "{cut}");
    }
    assert!(TransitKey::decode(&SecretBytes::from(vec![0xff; 40])).is_none());
}

/// Counts upwards.
struct Counter(AtomicU8);

impl Entropy for Counter {
    fn fill(&self, bytes: &mut [u8]) -> Result<(), CryptoError> {
        bytes.fill_with(|| self.0.fetch_add(1, Ordering::Relaxed));
        Ok(())
    }
}

/// What is in databases and in the store stays readable: a later version opens earlier vectors.
#[test]
fn formats_are_as_they_were() {
    let vectors: serde_json::Value =
        serde_json::from_str(include_str!("../../../../tests/vectors/transit.json")).unwrap();
    let text = |vector: &serde_json::Value, name: &str| vector[name].as_str().unwrap().to_owned();
    for vector in vectors.as_array().unwrap() {
        let algorithm = Algorithm::parse(&text(vector, "algorithm")).unwrap();
        let entropy = Counter(AtomicU8::new(0));
        let pair = algorithm.pair(SecretBytes::from(vec![7; 32])).unwrap();
        let derived = !text(vector, "context").is_empty();
        let key = TransitKey::new(algorithm, derived, true, pair, Timestamp::from_millis(1));
        let hex = data_encoding::HEXLOWER.encode(key.encode().expose());
        assert_eq!(hex, text(vector, "record"));
        let at = path("transit/key");
        let (plaintext, context) = (SecretBytes::from(text(vector, "message")), text(vector, "context"));
        let made = match algorithm {
            Algorithm::Encrypts(_) => {
                let encrypting = Encrypting::of(&at, &key, &entropy).unwrap();
                let item = Plain { plaintext, terms: terms(&context, &text(vector, "associated_data")) };
                encrypting.encrypt(key.kept(None).unwrap(), &item).unwrap()
            }
            Algorithm::Signs(_) => work::sign(&at, &key, None, Encoding::Asn1, &plaintext).unwrap().0,
            Algorithm::Authenticates => work::mac(&at, &key, None, context.as_bytes(), &plaintext).unwrap().0,
        };
        assert_eq!(made, text(vector, "made"), "{}", algorithm.name());
    }
    assert_eq!(vectors.as_array().unwrap().len(), 5);
}

/// A key has another version when it is due, and not twice; and a record of an earlier build has no period.
#[tokio::test]
async fn keys_rotate_when_they_are_due() {
    let transit = transit().await;
    let key = Path::parse("transit/orders").unwrap();
    transit.created("transit/orders", ENCRYPTING[0]).await;
    let far = NOW.plus(Duration::from_secs(10 * 366 * 86400));
    assert!(transit.overdue(far).await.unwrap().is_empty());
    let period = Operation::Update {
        min_decryption: None,
        min_encryption: None,
        exportable: None,
        rotation_period: Some(3600),
    };
    transit.doing("transit/orders", period).await.unwrap();

    let (early, due) = (NOW.plus(Duration::from_secs(3599)), NOW.plus(Duration::from_secs(3600)));
    assert!(transit.overdue(early).await.unwrap().is_empty());
    transit.attend(&key, BY, early).await.unwrap();
    assert_eq!(transit.keys.get(&key).await.unwrap().latest(), 1);
    assert_eq!(transit.overdue(due).await.unwrap()[0].name.as_ref(), "orders");
    for _ in 0..2 {
        transit.attend(&key, BY, due).await.unwrap();
        assert_eq!(transit.keys.get(&key).await.unwrap().latest(), 2);
    }
    assert!(transit.overdue(due).await.unwrap().is_empty());
    transit.attend(&Path::parse("transit/gone").unwrap(), BY, due).await.unwrap();
}
