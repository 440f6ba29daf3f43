//! The service Transit: from messages to operations and from outputs to messages. No decisions.

use bytes::BufMut;
use prost::{EncodeError, Message};
use strongroom_proto::{
    Reason,
    limits::{REQUEST_BYTES, TRANSIT_ITEMS},
    v1::{self, decrypt_response, rewrap_response},
};

use super::{
    Operation, Output,
    algorithm::Algorithm,
    key::TransitKey,
    work::{Plain, Sealed, Terms},
};
use crate::{
    crypto::Encoding,
    engines::{Asked, EngineError, Reply, Service, at, schedule, service},
    limits::SMALL_REQUEST_BYTES,
    model::{Invalid, Path, SecretBytes},
};

/// Each rotation leaves a version, of which a key keeps 180.
const SHORTEST_PERIOD: u64 = 3600;

pub(super) const SERVICE: Service = service! { "Transit";
    "CreateKey"       One SMALL_REQUEST_BYTES create;
    "GetKey"          One SMALL_REQUEST_BYTES |asked: v1::GetKeyRequest| at(&asked.path, Operation::Describe);
    "ListKeys"        One SMALL_REQUEST_BYTES list;
    "RotateKey"       One SMALL_REQUEST_BYTES |asked: v1::RotateKeyRequest| at(&asked.path, Operation::Rotate);
    "UpdateKey"       One SMALL_REQUEST_BYTES update;
    "DestroyKey"      One SMALL_REQUEST_BYTES destroy;
    "ExportKey"       One SMALL_REQUEST_BYTES |asked: v1::ExportKeyRequest| at(&asked.path, Operation::Export { version: asked.version });
    "Encrypt"         One REQUEST_BYTES encrypt;
    "Decrypt"         One REQUEST_BYTES |asked: v1::DecryptRequest| at(&asked.path, Operation::Decrypt { items: sealed(asked.items)? });
    "Rewrap"          One REQUEST_BYTES |asked: v1::RewrapRequest| at(&asked.path, Operation::Rewrap { items: sealed(asked.items)? });
    "GenerateDataKey" One SMALL_REQUEST_BYTES data_key;
    "Sign"            One REQUEST_BYTES sign;
    "Verify"          One REQUEST_BYTES verify;
    "Mac"             One REQUEST_BYTES mac;
    "VerifyMac"       One REQUEST_BYTES verify_mac;
};

fn create(message: v1::CreateKeyRequest) -> Asked {
    let operation = Operation::Create {
        algorithm: Algorithm::parse(&message.algorithm)?,
        derived: message.derived,
        exportable: message.exportable,
        material: message.material.map(SecretBytes::from),
    };
    at(&message.path, operation)
}

fn list(message: v1::ListKeysRequest) -> Asked {
    let page_token = Some(message.page_token).filter(|token| !token.is_empty());
    at(&message.path, Operation::List { page_token })
}

fn update(message: v1::UpdateKeyRequest) -> Asked {
    let period = message.rotation_period_seconds;
    let rotation_period = period.map(|seconds| schedule::period(seconds, SHORTEST_PERIOD));
    let operation = Operation::Update {
        min_decryption: message.min_decryption_version,
        min_encryption: message.min_encryption_version,
        exportable: message.exportable,
        rotation_period: rotation_period.transpose()?,
    };
    at(&message.path, operation)
}

fn destroy(message: v1::DestroyKeyRequest) -> Asked {
    let before = match (message.before_version, message.all) {
        (0, true) => None,
        (before, false) if before > 0 => Some(before),
        _ => return Err(Invalid::new("before_version", "or all is expected, and not both")),
    };
    at(&message.path, Operation::Destroy { before })
}

fn encrypt(message: v1::EncryptRequest) -> Asked {
    check_count(message.items.len())?;
    let items = message.items.into_iter().map(|item| Plain {
        plaintext: secret(item.plaintext),
        terms: Terms { context: item.context, associated_data: item.associated_data },
    });
    at(&message.path, Operation::Encrypt { items: items.collect(), version: message.version })
}

fn sealed(items: Vec<v1::CipherItem>) -> Result<Vec<Sealed>, Invalid> {
    check_count(items.len())?;
    let sealed = |item: v1::CipherItem| Sealed {
        ciphertext: item.ciphertext,
        terms: Terms { context: item.context, associated_data: item.associated_data },
    };
    Ok(items.into_iter().map(sealed).collect())
}

fn check_count(items: usize) -> Result<(), Invalid> {
    match (1..=TRANSIT_ITEMS).contains(&items) {
        true => Ok(()),
        false => Err(Invalid::new("items", format!("has {items}; expected 1 to {TRANSIT_ITEMS}"))),
    }
}

fn data_key(message: v1::GenerateDataKeyRequest) -> Asked {
    let terms = Terms { context: message.context, associated_data: message.associated_data };
    at(&message.path, Operation::DataKey { terms, with_plaintext: !message.without_plaintext })
}

fn sign(message: v1::SignRequest) -> Asked {
    let encoding = encoding(message.encoding)?;
    let operation = Operation::Sign { message: secret(message.message), encoding, version: message.version };
    at(&message.path, operation)
}

fn verify(message: v1::VerifyRequest) -> Asked {
    let encoding = encoding(message.encoding)?;
    let signature = message.signature;
    at(&message.path, Operation::Verify { message: secret(message.message), encoding, signature })
}

fn mac(message: v1::MacRequest) -> Asked {
    let (context, version) = (message.context, message.version);
    at(&message.path, Operation::Mac { message: secret(message.message), context, version })
}

fn verify_mac(message: v1::VerifyMacRequest) -> Asked {
    let (context, mac) = (message.context, message.mac);
    at(&message.path, Operation::VerifyMac { message: secret(message.message), context, mac })
}

/// An absent message is an empty one, as everywhere in protobuf.
fn secret(value: Option<v1::Sensitive>) -> SecretBytes {
    value.map_or_else(|| SecretBytes::from(Vec::new()), SecretBytes::from)
}

fn encoding(number: i32) -> Result<Encoding, Invalid> {
    match v1::SignatureEncoding::try_from(number) {
        Ok(v1::SignatureEncoding::Unspecified) => Ok(Encoding::Asn1),
        Ok(v1::SignatureEncoding::Jws) => Ok(Encoding::Jws),
        Err(_) => Err(Invalid::new("encoding", format!("is {number}, which this server does not know"))),
    }
}

impl Reply for Output {
    fn bytes(&self) -> usize {
        match self {
            Self::Encrypted { ciphertexts, .. } => ciphertexts.iter().map(String::len).sum(),
            Self::Decrypted(items) => items.iter().flatten().map(SecretBytes::len).sum(),
            Self::Rewrapped { items, .. } => items.iter().flatten().map(String::len).sum(),
            _ => 0,
        }
    }

    fn version(&self) -> Option<u64> {
        match self {
            Self::Latest { version }
            | Self::Exported { version, .. }
            | Self::Encrypted { version, .. }
            | Self::Rewrapped { version, .. }
            | Self::DataKey { version, .. }
            | Self::Signed { version, .. }
            | Self::Mac { version, .. } => Some(u64::from(*version)),
            _ => None,
        }
    }

    fn write(self: Box<Self>, mut into: &mut dyn BufMut) -> Result<(), EncodeError> {
        match *self {
            Self::Latest { version } => v1::LatestKeyVersion { version }.encode(&mut into),
            Self::Key { path, key } => described(&path, &key).encode(&mut into),
            Self::Page { paths, next } => {
                let paths = paths.iter().map(ToString::to_string).collect();
                v1::ListKeysResponse { paths, next_page_token: next.unwrap_or_default() }.encode(&mut into)
            }
            Self::Destroyed => v1::DestroyKeyResponse {}.encode(&mut into),
            Self::Exported { version, material } => {
                v1::ExportKeyResponse { version, material: Some(material.into()) }.encode(&mut into)
            }
            Self::Encrypted { ciphertexts, version } => {
                v1::EncryptResponse { ciphertexts, version }.encode(&mut into)
            }
            Self::Decrypted(items) => {
                use decrypt_response::item::Result::{Error, Plaintext};
                let item =
                    |item: Result<SecretBytes, EngineError>| decrypt_response::Item {
                        result: Some(item.map_or_else(
                            |error| Error(told(&error)),
                            |plaintext| Plaintext(plaintext.into()),
                        )),
                    };
                v1::DecryptResponse { items: items.into_iter().map(item).collect() }.encode(&mut into)
            }
            Self::Rewrapped { items, version } => {
                use rewrap_response::item::Result::{Ciphertext, Error};
                let item = |item: Result<String, EngineError>| rewrap_response::Item {
                    result: Some(item.map_or_else(|error| Error(told(&error)), Ciphertext)),
                };
                v1::RewrapResponse { items: items.into_iter().map(item).collect(), version }.encode(&mut into)
            }
            Self::DataKey { plaintext, ciphertext, version } => {
                let plaintext = plaintext.map(Into::into);
                v1::GenerateDataKeyResponse { plaintext, ciphertext, version }.encode(&mut into)
            }
            Self::Signed { signature, version } => v1::SignResponse { signature, version }.encode(&mut into),
            Self::Mac { mac, version } => v1::MacResponse { mac, version }.encode(&mut into),
            Self::Verified(valid) => v1::VerifyResponse { valid }.encode(&mut into),
        }
    }
}

fn described(path: &Path, key: &TransitKey) -> v1::TransitKey {
    let version = |version: &super::key::Version| v1::TransitKeyVersion {
        version: version.number,
        created_at_ms: version.created.as_millis(),
        public_key: match key.algorithm {
            Algorithm::Signs(scheme) => scheme.pem(&version.pair.public),
            _ => String::new(),
        },
    };
    v1::TransitKey {
        path: path.to_string(),
        algorithm: key.algorithm.name().to_owned(),
        derived: key.derived,
        exportable: key.exportable,
        latest_version: key.latest(),
        min_decryption_version: key.min_decryption,
        min_encryption_version: key.min_encryption,
        versions: key.versions().iter().map(version).collect(),
        rotation_period_seconds: key.rotation_period,
    }
}

/// One of many that could not be done.
fn told(error: &EngineError) -> v1::ItemError {
    let reason = match error {
        EngineError::Own { reason, .. } => *reason,
        _ => Reason::InvalidArgument,
    };
    v1::ItemError { reason: reason.to_string(), sentence: error.to_string() }
}
