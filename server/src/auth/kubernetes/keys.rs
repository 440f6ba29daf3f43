//! A cluster's public keys (JWKS, RFC 7517), each with the one algorithm it is for, read again when they may have changed.

use std::{collections::HashMap, sync::Arc, time::Duration};

use arc_swap::ArcSwap;
use data_encoding::BASE64URL_NOPAD;
use serde::Deserialize;
use tokio::sync::{Mutex, Semaphore};

use super::{Outage, api::Api};
use crate::{clock::Clock, crypto::VerifyingKey, model::Timestamp};

/// After an attempt, nothing is fetched for so long, whatever key ids tokens name.
const REFETCH: Duration = Duration::from_secs(30);
/// After so long they are fetched although all is well: a key that was withdrawn must not live on here.
const REFRESH: Duration = Duration::from_secs(300);
/// And so long after it failed.
const RETRY: Duration = Duration::from_secs(5);
/// Keys older than that are not believed, whatever keeps newer ones from coming.
const STALE: Duration = Duration::from_secs(3600);
/// Most logins that wait for keys: a token that names a made-up key costs its sender nothing.
const WAITING: usize = 64;
/// Most keys; a cluster has one or two.
const KEYS: usize = 32;
/// Longest key id.
const KID_BYTES: usize = 256;

/// The keys of one cluster, or none yet.
pub(super) struct Keys {
    api: Arc<dyn Api>,
    clock: Arc<dyn Clock>,
    cluster: Box<str>,
    current: ArcSwap<Set>,
    /// Held while they are fetched; when that began last.
    fetching: Mutex<Option<Timestamp>>,
    /// For those who wait for that.
    seats: Semaphore,
}

struct Set {
    keys: HashMap<String, Key>,
    fetched: Option<Timestamp>,
}

/// A key and what it is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Key {
    /// As headers name it: `RS256`, `ES256`.
    pub(super) alg: &'static str,
    pub(super) key: Arc<VerifyingKey>,
}

#[derive(Deserialize)]
struct Jwks {
    keys: Vec<serde_json::Value>,
}

#[derive(Deserialize)]
struct Jwk {
    kty: String,
    kid: String,
    alg: Option<String>,
    r#use: Option<String>,
    n: Option<String>,
    e: Option<String>,
    crv: Option<String>,
    x: Option<String>,
    y: Option<String>,
}

impl Keys {
    pub(super) fn new(api: Arc<dyn Api>, clock: Arc<dyn Clock>, cluster: &str) -> Self {
        let none = Set { keys: HashMap::new(), fetched: None };
        let current = ArcSwap::from_pointee(none);
        let seats = Semaphore::new(WAITING);
        Self { api, clock, cluster: cluster.into(), current, fetching: Mutex::default(), seats }
    }

    /// The key of that id. An id that is not known is a reason to look once in [`REFETCH`], whoever asks.
    pub(super) async fn get(&self, kid: &str) -> Result<Option<Key>, Outage> {
        if let Some(key) = self.believed()?.and_then(|set| set.keys.get(kid).cloned()) {
            return Ok(Some(key));
        }
        // Those who come while somebody fetches wait for it, and then have no need to.
        let _seat = self.seats.try_acquire().map_err(|_| unavailable())?;
        let mut last = self.fetching.lock().await;
        let now = self.clock.now();
        if last.is_none_or(|last| now >= last.plus(REFETCH)) {
            *last = Some(now);
            let first = self.believed()?.is_none();
            if self.fetch().await && first {
                // The very first fetch says nothing about an id that is not among its keys.
                *last = None;
            }
        }
        drop(last);
        let set = self.believed()?.ok_or_else(unavailable)?;
        Ok(set.keys.get(kid).cloned())
    }

    /// Fetches them now and then, for as long as it is polled: no login should have to wait for it.
    pub(super) async fn keep_fresh(&self) {
        loop {
            let fetched = self.fetch().await;
            tokio::time::sleep(if fetched { REFRESH } else { RETRY }).await;
        }
    }

    /// Nothing before the first fetch; an outage when the last one is too long ago.
    fn believed(&self) -> Result<Option<Arc<Set>>, Outage> {
        let set = self.current.load_full();
        match set.fetched {
            None => Ok(None),
            Some(fetched) if self.clock.now() >= fetched.plus(STALE) => Err(unavailable()),
            Some(_) => Ok(Some(set)),
        }
    }

    async fn fetch(&self) -> bool {
        let now = self.clock.now();
        let problem = match self.api.keys().await.map(|body| parse(&body)) {
            Ok(Some(keys)) => {
                self.current.store(Arc::new(Set { keys, fetched: Some(now) }));
                return true;
            }
            Ok(None) => "they are not a key set".to_owned(),
            Err(error) => error.to_string(),
        };
        tracing::warn!(cluster = &*self.cluster, problem, "the cluster's public keys could not be fetched");
        false
    }
}

fn unavailable() -> Outage {
    Outage { problem: "its public keys cannot be fetched", retry_after: RETRY }
}

/// Keys that are not for signatures, or for others than these two algorithms, are left out. `None`: no key set at all.
fn parse(body: &[u8]) -> Option<HashMap<String, Key>> {
    let jwks: Jwks = serde_json::from_slice(body).ok()?;
    let mut keys = HashMap::new();
    let mut twice = Vec::new();
    for jwk in jwks.keys.into_iter().take(KEYS) {
        let Some((kid, key)) = serde_json::from_value(jwk).ok().and_then(parse_key) else { continue };
        if keys.insert(kid.clone(), key).is_some() {
            twice.push(kid);
        }
    }
    // Of two keys with one id neither counts: which of them is meant must not be guessed.
    twice.iter().for_each(|kid| drop(keys.remove(kid)));
    Some(keys)
}

fn parse_key(jwk: Jwk) -> Option<(String, Key)> {
    if jwk.kid.is_empty() || jwk.kid.len() > KID_BYTES || jwk.r#use.is_some_and(|purpose| purpose != "sig") {
        return None;
    }
    let decode = |part: Option<String>| BASE64URL_NOPAD.decode(part?.as_bytes()).ok();
    let (alg, key) = match (&*jwk.kty, jwk.crv.as_deref()) {
        ("RSA", None) => ("RS256", VerifyingKey::Rs256 { n: decode(jwk.n)?, e: decode(jwk.e)? }),
        ("EC", Some("P-256")) => {
            let coordinate = |part| <[u8; 32]>::try_from(decode(part)?).ok();
            ("ES256", VerifyingKey::es256(&coordinate(jwk.x)?, &coordinate(jwk.y)?))
        }
        _ => return None,
    };
    // RS256 is what an RSA key without a word is for: other clusters' keys say so.
    jwk.alg.is_none_or(|given| given == alg).then(|| (jwk.kid, Key { alg, key: Arc::new(key) }))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::{super::tests::FakeApi, *};
    use crate::{clock::ManualClock, crypto::Signer};

    fn jwk(kid: &str) -> Value {
        let (x, y) = Signer::new().point();
        let encode = |bytes: &[u8]| BASE64URL_NOPAD.encode(bytes);
        json!({ "kty": "EC", "crv": "P-256", "kid": kid, "use": "sig", "alg": "ES256", "x": encode(&x), "y": encode(&y) })
    }

    fn parsed(keys: &[Value]) -> Vec<String> {
        let keys = parse(json!({ "keys": keys }).to_string().as_bytes()).unwrap();
        let mut ids: Vec<String> = keys.into_keys().collect();
        ids.sort();
        ids
    }

    #[test]
    fn a_key_is_for_one_algorithm_or_left_out() {
        let with = |name: &str, value: Value| {
            let mut jwk = jwk("other");
            jwk[name] = value;
            jwk
        };
        let rsa = json!({ "kty": "RSA", "kid": "rsa", "n": "AQAB", "e": "AQAB" });
        assert_eq!(parsed(&[jwk("one"), rsa.clone()]), ["one", "rsa"]);
        for wrong in [
            with("kty", json!("oct")),
            with("kty", json!("RSA")),
            with("crv", json!("P-384")),
            with("crv", json!(null)),
            with("alg", json!("ES384")),
            with("alg", json!("HS256")),
            with("alg", json!("none")),
            with("use", json!("enc")),
            with("kid", json!("")),
            with("kid", json!(null)),
            with("kid", json!("k".repeat(300))),
            with("x", json!("AQAB")),
            with("x", json!(null)),
            with("y", json!("!")),
            json!(null),
            json!("key"),
            json!({}),
            json!({ "kty": "RSA", "kid": "rsa", "n": "AQAB", "e": "AQAB", "alg": "RS384" }),
            json!({ "kty": "RSA", "kid": "rsa", "n": "AQAB" }),
            json!({ "kty": "oct", "kid": "secret", "k": "AQAB", "alg": "HS256" }),
        ] {
            assert_eq!(parsed(&[jwk("one"), wrong.clone()]), ["one"], "{wrong}");
        }
        assert_eq!(
            parsed(&[jwk("one"), jwk("two"), jwk("one"), jwk("one")]),
            ["two"],
            "two of one id are none"
        );
        assert!(parse(b"[]").is_none() && parse(b"").is_none());
    }

    fn keys() -> (Arc<ManualClock>, Arc<FakeApi>, Keys) {
        let clock = Arc::new(ManualClock::at(Timestamp::from_millis(1_000_000)));
        let api = Arc::new(FakeApi::default());
        let shared: Arc<dyn Clock> = Arc::<ManualClock>::clone(&clock);
        let keys = Keys::new(Arc::<FakeApi>::clone(&api), shared, "main");
        (clock, api, keys)
    }

    #[tokio::test]
    async fn nobody_makes_us_fetch_keys_at_will() {
        let (clock, api, keys) = keys();
        api.publish(&[jwk("one")]);
        assert!(keys.get("one").await.unwrap().is_some());
        assert!(keys.get("two").await.unwrap().is_none());
        api.publish(&[jwk("one"), jwk("two")]);
        for _ in 0..100 {
            assert!(keys.get("two").await.unwrap().is_none());
        }
        assert_eq!(api.fetches(), 2);
        clock.advance(REFETCH);
        let crowd = (0..WAITING).map(|_| keys.get("two"));
        assert!(
            futures_util::future::join_all(crowd).await.iter().all(|key| key.as_ref().unwrap().is_some())
        );
        assert_eq!(api.fetches(), 3);
    }

    #[tokio::test]
    async fn keys_that_cannot_be_renewed_are_believed_for_a_while() {
        let (clock, api, keys) = keys();
        api.publish(&[jwk("one")]);
        assert!(keys.get("one").await.unwrap().is_some());
        api.break_down();
        clock.advance(STALE - Duration::from_secs(1));
        assert!(keys.get("one").await.unwrap().is_some());
        clock.advance(Duration::from_secs(1));
        assert!(keys.get("one").await.is_err());
    }

    #[tokio::test]
    async fn without_any_keys_nobody_is_called_wrong() {
        let (_, api, keys) = keys();
        api.break_down();
        assert!(keys.get("one").await.is_err());
    }
}
