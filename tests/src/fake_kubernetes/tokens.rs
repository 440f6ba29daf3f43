//! Service-account tokens: made, forged and verified.
#![expect(clippy::indexing_slicing, reason = "of JSON values that are made here: what is not there is null")]

use std::{
    io,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use data_encoding::BASE64URL_NOPAD;
use ring::{
    rand::SystemRandom,
    signature::{
        ECDSA_P256_SHA256_FIXED, ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair,
        RSA_PKCS1_2048_8192_SHA256, RSA_PKCS1_SHA256, RSA_PKCS1_SHA384, RSA_PKCS1_SHA512, RsaKeyPair,
        RsaPublicKeyComponents, UnparsedPublicKey,
    },
};
use rustls::pki_types::{PrivatePkcs8KeyDer, pem::PemObject};
use serde_json::{Value, json};

use super::{ISSUER, Pod};

/// Generated for these tests and used nowhere else; ring makes no RSA keys.
const FIRST_RSA_KEY: &str = include_str!("../../keys/service-account-1.pem");
/// See [`FIRST_RSA_KEY`].
const SECOND_RSA_KEY: &str = include_str!("../../keys/service-account-2.pem");

/// A key that signs tokens.
pub struct SigningKey {
    kid: String,
    pair: Pair,
}

enum Pair {
    Rsa(Box<RsaKeyPair>),
    Ec(Box<EcdsaKeyPair>),
}

/// What a signature is made with, whatever the header says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Algorithm {
    /// As the key is: RS256 or ES256.
    Fitting,
    /// RSA with SHA-384.
    Rs384,
    /// RSA with SHA-512.
    Rs512,
}

/// A token before it is signed.
#[derive(Clone, Debug)]
pub struct TokenText {
    /// The protected header.
    pub header: Value,
    pub claims: Value,
}

impl SigningKey {
    /// RSA, the first test key.
    ///
    /// # Errors
    /// Never, unless the file is broken.
    pub fn rs256() -> io::Result<SigningKey> {
        Self::rsa(FIRST_RSA_KEY, "rsa-1")
    }

    /// RSA, the second test key.
    ///
    /// # Errors
    /// Never, unless the file is broken.
    pub fn another_rs256() -> io::Result<SigningKey> {
        Self::rsa(SECOND_RSA_KEY, "rsa-2")
    }

    /// ECDSA on P-256, made now.
    ///
    /// # Errors
    /// No randomness.
    pub fn es256(kid: &str) -> io::Result<SigningKey> {
        let random = SystemRandom::new();
        let made = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &random);
        let made = made.map_err(|_| io::Error::other("no key"))?;
        let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, made.as_ref(), &random);
        let pair = pair.map_err(|_| io::Error::other("no key"))?;
        Ok(SigningKey { kid: kid.to_owned(), pair: Pair::Ec(Box::new(pair)) })
    }

    /// The same key under another id.
    #[must_use]
    pub fn called(mut self, kid: &str) -> SigningKey {
        kid.clone_into(&mut self.kid);
        self
    }

    fn rsa(pem: &str, kid: &str) -> io::Result<SigningKey> {
        let der = PrivatePkcs8KeyDer::from_pem_slice(pem.as_bytes()).map_err(io::Error::other)?;
        let pair = RsaKeyPair::from_pkcs8(der.secret_pkcs8_der()).map_err(|_| io::Error::other("no key"))?;
        Ok(SigningKey { kid: kid.to_owned(), pair: Pair::Rsa(Box::new(pair)) })
    }

    pub fn kid(&self) -> &str {
        &self.kid
    }

    /// As headers name what it is for.
    pub fn alg(&self) -> &'static str {
        match self.pair {
            Pair::Rsa(_) => "RS256",
            Pair::Ec(_) => "ES256",
        }
    }

    /// The public half, as it is published.
    pub fn jwk(&self) -> Value {
        let encode = |bytes: &[u8]| BASE64URL_NOPAD.encode(bytes);
        match &self.pair {
            Pair::Rsa(pair) => {
                let public = RsaPublicKeyComponents::<Vec<u8>>::from(pair.public());
                json!({
                    "use": "sig", "kty": "RSA", "kid": self.kid, "alg": "RS256",
                    "n": encode(&public.n), "e": encode(&public.e),
                })
            }
            Pair::Ec(pair) => {
                let (x, y) = pair.public_key().as_ref().split_at(1).1.split_at(32);
                json!({
                    "use": "sig", "kty": "EC", "crv": "P-256", "kid": self.kid, "alg": "ES256",
                    "x": encode(x), "y": encode(y),
                })
            }
        }
    }

    /// The bytes of the public half: what an attacker would use as the key of an HMAC.
    pub fn public_bytes(&self) -> Vec<u8> {
        match &self.pair {
            Pair::Rsa(pair) => pair.public_key().as_ref().to_vec(),
            Pair::Ec(pair) => pair.public_key().as_ref().to_vec(),
        }
    }

    pub fn sign(&self, message: &[u8], algorithm: Algorithm) -> Vec<u8> {
        let random = SystemRandom::new();
        match &self.pair {
            Pair::Rsa(pair) => {
                let padding: &dyn ring::signature::RsaEncoding = match algorithm {
                    Algorithm::Fitting => &RSA_PKCS1_SHA256,
                    Algorithm::Rs384 => &RSA_PKCS1_SHA384,
                    Algorithm::Rs512 => &RSA_PKCS1_SHA512,
                };
                let mut signature = vec![0; pair.public().modulus_len()];
                let signed = pair.sign(padding, &random, message, &mut signature);
                if signed.is_ok() { signature } else { Vec::new() }
            }
            Pair::Ec(pair) => {
                pair.sign(&random, message).map(|signed| signed.as_ref().to_vec()).unwrap_or_default()
            }
        }
    }

    fn verifies(&self, message: &[u8], signature: &[u8]) -> bool {
        match &self.pair {
            Pair::Rsa(pair) => UnparsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, pair.public_key())
                .verify(message, signature),
            Pair::Ec(pair) => {
                UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, pair.public_key()).verify(message, signature)
            }
        }
        .is_ok()
    }
}

impl TokenText {
    /// As an API server of Kubernetes 1.29 and later makes them.
    pub(super) fn new(pod: &Pod, audience: &str, lifetime: Duration, kid: &str) -> TokenText {
        let now = now();
        let lifetime = i64::try_from(lifetime.as_secs()).unwrap_or(i64::MAX);
        TokenText {
            header: json!({ "kid": kid }),
            claims: json!({
                "aud": [audience],
                "exp": now.saturating_add(lifetime),
                "iat": now,
                "iss": ISSUER,
                "jti": format!("{}-{now}", pod.uid),
                "kubernetes.io": {
                    "namespace": pod.namespace,
                    "node": { "name": pod.node, "uid": "11111111-0000-4000-8000-000000000001" },
                    "pod": { "name": pod.name, "uid": pod.uid },
                    "serviceaccount": { "name": pod.account, "uid": pod.account_uid },
                },
                "nbf": now,
                "sub": format!("system:serviceaccount:{}:{}", pod.namespace, pod.account),
            }),
        }
    }

    /// With another value of a claim, such as `["kubernetes.io", "pod", "uid"]`.
    #[must_use]
    pub fn with(mut self, path: &[&str], value: Value) -> TokenText {
        let mut place = &mut self.claims;
        for part in path {
            place = &mut place[*part];
        }
        *place = value;
        self
    }

    /// Without a claim.
    #[must_use]
    pub fn without(mut self, path: &[&str]) -> TokenText {
        let Some((last, folder)) = path.split_last() else { return self };
        let mut place = &mut self.claims;
        for part in folder {
            place = &mut place[*part];
        }
        if let Some(folder) = place.as_object_mut() {
            folder.remove(*last);
        }
        self
    }

    /// With another value in the header.
    #[must_use]
    pub fn with_header(mut self, name: &str, value: Value) -> TokenText {
        self.header[name] = value;
        self
    }

    /// What is signed. The algorithm in the header is the key's, unless there is one.
    pub fn message(&self, key: &SigningKey) -> String {
        let mut header = self.header.clone();
        if header.get("alg").is_none() {
            header["alg"] = key.alg().into();
        }
        let encode = |value: &Value| BASE64URL_NOPAD.encode(value.to_string().as_bytes());
        format!("{}.{}", encode(&header), encode(&self.claims))
    }

    /// The whole token.
    pub fn sign(&self, key: &SigningKey) -> String {
        self.sign_with(key, Algorithm::Fitting)
    }

    /// The whole token, signed in another way than the header may say.
    pub fn sign_with(&self, key: &SigningKey, algorithm: Algorithm) -> String {
        let message = self.message(key);
        let signature = BASE64URL_NOPAD.encode(&key.sign(message.as_bytes(), algorithm));
        format!("{message}.{signature}")
    }
}

/// The claims of a token that one of the keys signed and whose time it is.
pub(super) fn verify<'a>(token: &str, keys: impl Iterator<Item = &'a SigningKey>) -> Option<Value> {
    let (message, signature) = token.rsplit_once('.')?;
    let (header, claims) = message.split_once('.')?;
    let decode = |part: &str| BASE64URL_NOPAD.decode(part.as_bytes()).ok();
    let header: Value = serde_json::from_slice(&decode(header)?).ok()?;
    let signature = decode(signature)?;
    let mut keys = keys;
    keys.find(|key| header["alg"] == key.alg() && key.verifies(message.as_bytes(), &signature))?;
    let claims: Value = serde_json::from_slice(&decode(claims)?).ok()?;
    let (now, at) = (now(), |name: &str| claims[name].as_i64());
    let good = claims["iss"] == ISSUER && now < at("exp")? && at("nbf")? <= now + 10;
    good.then_some(claims)
}

#[expect(clippy::disallowed_methods, reason = "the fake is in the same time as the real server beside it")]
fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}
