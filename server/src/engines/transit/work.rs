//! What is done with a key: by the version that is asked for, or that the text names.

use super::{
    Error,
    algorithm::{self, Algorithm, Scheme},
    key::{TransitKey, Version},
    text::Versioned,
};
use crate::{
    crypto::{Cipher, Encoding, Entropy, Key},
    model::{Invalid, Path, SecretBytes},
};

/// Bytes of a data key: those of AES-256 and of ChaCha20-Poly1305.
const DATA_KEY_BYTES: usize = 32;

/// What is not secret, and must be the same again when it is opened.
#[derive(Default)]
pub(super) struct Terms {
    /// Which of a derived key's keys.
    pub(super) context: Vec<u8>,
    pub(super) associated_data: Vec<u8>,
}

pub(super) struct Plain {
    pub(super) plaintext: SecretBytes,
    pub(super) terms: Terms,
}

pub(super) struct Sealed {
    pub(super) ciphertext: String,
    pub(super) terms: Terms,
}

/// A key that encrypts.
pub(super) struct Encrypting<'a> {
    key: &'a TransitKey,
    cipher: Cipher,
    entropy: &'a dyn Entropy,
}

impl<'a> Encrypting<'a> {
    pub(super) fn of(path: &Path, key: &'a TransitKey, entropy: &'a dyn Entropy) -> Result<Self, Error> {
        match key.algorithm {
            Algorithm::Encrypts(cipher) => Ok(Self { key, cipher, entropy }),
            _ => Err(wrong(path, key, "encrypts")),
        }
    }

    pub(super) fn encrypt(&self, with: &Version, item: &Plain) -> Result<String, Error> {
        let key = derived(self.key, with, &item.terms.context)?;
        let plaintext = item.plaintext.expose();
        let bytes =
            algorithm::encrypt(self.cipher, &key, &item.terms.associated_data, plaintext, self.entropy)?;
        Ok(Versioned { version: with.number, bytes }.to_string())
    }

    pub(super) fn decrypt(&self, item: &Sealed) -> Result<SecretBytes, Error> {
        let Versioned { version, bytes } = Versioned::parse("ciphertext", &item.ciphertext)?;
        let key = derived(self.key, self.key.to_open("ciphertext", version)?, &item.terms.context)?;
        algorithm::decrypt(self.cipher, &key, &item.terms.associated_data, &bytes)
            .map_err(|_| Error::DoesNotOpen)
    }

    /// A key for data that does not come here, in the clear and encrypted.
    pub(super) fn data_key(&self, with: &Version, terms: Terms) -> Result<(SecretBytes, String), Error> {
        let mut bytes = zeroize::Zeroizing::new([0; DATA_KEY_BYTES]);
        self.entropy.fill(&mut *bytes)?;
        let item = Plain { plaintext: SecretBytes::from(bytes.as_slice()), terms };
        let ciphertext = self.encrypt(with, &item)?;
        Ok((item.plaintext, ciphertext))
    }
}

pub(super) fn sign(
    path: &Path,
    key: &TransitKey,
    version: Option<u32>,
    encoding: Encoding,
    message: &SecretBytes,
) -> Result<(String, u32), Error> {
    let (scheme, with) = (scheme(path, key)?, key.to_make(version)?);
    let bytes = scheme.sign(&with.pair.secret, encoding, message.expose())?;
    Ok((Versioned { version: with.number, bytes }.to_string(), with.number))
}

pub(super) fn verify(
    path: &Path,
    key: &TransitKey,
    encoding: Encoding,
    message: &SecretBytes,
    signature: &str,
) -> Result<bool, Error> {
    let scheme = scheme(path, key)?;
    let Versioned { version, bytes } = Versioned::parse("signature", signature)?;
    let with = key.to_open("signature", version)?;
    Ok(scheme.verify(&with.pair.public, encoding, message.expose(), &bytes).is_ok())
}

pub(super) fn mac(
    path: &Path,
    key: &TransitKey,
    version: Option<u32>,
    context: &[u8],
    message: &SecretBytes,
) -> Result<(String, u32), Error> {
    authenticates(path, key)?;
    let with = key.to_make(version)?;
    let bytes = algorithm::mac(&derived(key, with, context)?, message.expose()).to_vec();
    Ok((Versioned { version: with.number, bytes }.to_string(), with.number))
}

pub(super) fn is_mac(
    path: &Path,
    key: &TransitKey,
    context: &[u8],
    message: &SecretBytes,
    claimed: &str,
) -> Result<bool, Error> {
    authenticates(path, key)?;
    let Versioned { version, bytes } = Versioned::parse("mac", claimed)?;
    let with = derived(key, key.to_open("mac", version)?, context)?;
    Ok(algorithm::is_mac(&with, message.expose(), &bytes))
}

fn scheme(path: &Path, key: &TransitKey) -> Result<Scheme, Error> {
    match key.algorithm {
        Algorithm::Signs(scheme) => Ok(scheme),
        _ => Err(wrong(path, key, "signs")),
    }
}

fn authenticates(path: &Path, key: &TransitKey) -> Result<(), Error> {
    match key.algorithm {
        Algorithm::Authenticates => Ok(()),
        _ => Err(wrong(path, key, "authenticates")),
    }
}

fn wrong(path: &Path, key: &TransitKey, expected: &str) -> Error {
    let does = match key.algorithm {
        Algorithm::Encrypts(_) => "encrypts",
        Algorithm::Signs(_) => "signs",
        Algorithm::Authenticates => "authenticates",
    };
    let name = key.algorithm.name();
    Invalid::new("path", format!("{path} is a key of {name}, which {does}; expected one that {expected}"))
        .into()
}

fn derived(key: &TransitKey, version: &Version, context: &[u8]) -> Result<Key, Error> {
    let context = match (key.derived, context.is_empty()) {
        (true, true) => {
            let problem = "is missing: this key is derived, so each context has a key of its own";
            return Err(Invalid::new("context", problem).into());
        }
        (false, false) => {
            let problem = "is given, but this key is not derived; expected none, or associated_data";
            return Err(Invalid::new("context", problem).into());
        }
        (true, false) => Some(context),
        (false, true) => None,
    };
    Ok(algorithm::derived(&version.pair.secret, context)?)
}
