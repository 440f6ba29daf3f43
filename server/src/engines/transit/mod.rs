//! transit: encryption, signatures and message authentication codes as a service. The keys stay here; what is encrypted goes
//! back to its owner and is kept nowhere. What it can do stands here; how, in the files beside it.

mod algorithm;
mod error;
mod key;
mod keys;
mod service;
#[cfg(test)]
mod tests;
mod text;
mod work;

use std::sync::Arc;

use async_trait::async_trait;
use tokio_util::task::TaskTracker;

use self::{
    algorithm::Algorithm,
    error::Error,
    key::TransitKey,
    keys::Keys,
    text::Versioned,
    work::{Encrypting, Plain, Sealed, Terms},
};
use super::{Due, Engine, EngineError, EngineKind, Parts, Settings, no_settings, own};
use crate::{
    barrier::BarrierError,
    crypto::{Encoding, Entropy},
    model::{Invalid, Path, RequestId, SecretBytes, Timestamp, Verb},
    permit::Permit,
};

/// transit, for the mount table.
pub const KIND: EngineKind = EngineKind {
    name: "transit",
    description: "Encrypts, signs and authenticates with keys that stay in the server.",
    service: service::SERVICE,
    check,
    build,
};

/// What transit is asked to do with the key at the permit's path.
enum Operation {
    Create {
        algorithm: Algorithm,
        derived: bool,
        exportable: bool,
        /// A key from elsewhere; none = a fresh one.
        material: Option<SecretBytes>,
    },
    Describe,
    /// Of keys below the path.
    List {
        page_token: Option<String>,
    },
    Rotate,
    Update {
        min_decryption: Option<u32>,
        min_encryption: Option<u32>,
        exportable: Option<bool>,
        /// Seconds; 0 = when somebody says so.
        rotation_period: Option<u64>,
    },
    /// Another version, if there is to be one by now.
    RotateIfDue,
    /// Versions below one, or all of it.
    Destroy {
        before: Option<u32>,
    },
    Export {
        version: Option<u32>,
    },
    Encrypt {
        items: Vec<Plain>,
        version: Option<u32>,
    },
    Decrypt {
        items: Vec<Sealed>,
    },
    Rewrap {
        items: Vec<Sealed>,
    },
    DataKey {
        terms: Terms,
        with_plaintext: bool,
    },
    Sign {
        message: SecretBytes,
        encoding: Encoding,
        version: Option<u32>,
    },
    Verify {
        message: SecretBytes,
        encoding: Encoding,
        signature: String,
    },
    Mac {
        message: SecretBytes,
        context: Vec<u8>,
        version: Option<u32>,
    },
    VerifyMac {
        message: SecretBytes,
        context: Vec<u8>,
        mac: String,
    },
}

/// What transit answers.
enum Output {
    Latest { version: u32 },
    Key { path: Path, key: TransitKey },
    Page { paths: Vec<Path>, next: Option<String> },
    Destroyed,
    Exported { version: u32, material: SecretBytes },
    Encrypted { ciphertexts: Vec<String>, version: u32 },
    Decrypted(Vec<Result<SecretBytes, EngineError>>),
    Rewrapped { items: Vec<Result<String, EngineError>>, version: u32 },
    DataKey { plaintext: Option<SecretBytes>, ciphertext: String, version: u32 },
    Signed { signature: String, version: u32 },
    Mac { mac: String, version: u32 },
    Verified(bool),
}

impl super::Operation for Operation {
    fn verbs(&self) -> &'static [Verb] {
        match self {
            Self::Create { .. } => &[Verb::Create],
            Self::Describe => &[Verb::Use, Verb::Read, Verb::Manage],
            Self::List { .. } => &[Verb::List],
            Self::Rotate | Self::RotateIfDue => &[Verb::Update],
            Self::Update { .. } | Self::Export { .. } => &[Verb::Manage],
            Self::Destroy { .. } => &[Verb::Destroy],
            Self::Decrypt { .. } => &[Verb::Read],
            Self::Verify { .. } | Self::VerifyMac { .. } => &[Verb::Use, Verb::Read],
            Self::Encrypt { .. }
            | Self::Rewrap { .. }
            | Self::DataKey { .. }
            | Self::Sign { .. }
            | Self::Mac { .. } => &[Verb::Use],
        }
    }

    fn is_write(&self) -> bool {
        matches!(
            self,
            Self::Create { .. }
                | Self::Rotate
                | Self::RotateIfDue
                | Self::Update { .. }
                | Self::Destroy { .. }
        )
    }

    fn versions(&self) -> Vec<u64> {
        let named = |text: &str| Versioned::parse("", text).ok().map(|parsed| parsed.version);
        let mut versions: Vec<u32> = match self {
            Self::Export { version }
            | Self::Encrypt { version, .. }
            | Self::Sign { version, .. }
            | Self::Mac { version, .. } => version.iter().copied().collect(),
            Self::Decrypt { items } | Self::Rewrap { items } => {
                items.iter().filter_map(|item| named(&item.ciphertext)).collect()
            }
            Self::Verify { signature: text, .. } | Self::VerifyMac { mac: text, .. } => {
                named(text).into_iter().collect()
            }
            _ => Vec::new(),
        };
        versions.sort_unstable();
        versions.dedup();
        versions.truncate(key::VERSIONS);
        versions.into_iter().map(u64::from).collect()
    }

    fn is_about_the_latest(&self) -> bool {
        match self {
            Self::Rotate | Self::DataKey { .. } => true,
            Self::Export { version }
            | Self::Encrypt { version, .. }
            | Self::Sign { version, .. }
            | Self::Mac { version, .. } => version.is_none(),
            _ => false,
        }
    }

    fn changes(&self) -> Vec<String> {
        match self {
            Self::Create { algorithm, derived, exportable, material } => {
                let marks = [
                    derived.then_some("derived"),
                    exportable.then_some("exportable"),
                    material.as_ref().map(|_| "imported"),
                ];
                let name = format!("algorithm {}", algorithm.name());
                std::iter::once(name).chain(marks.into_iter().flatten().map(str::to_owned)).collect()
            }
            Self::Update { min_decryption, min_encryption, exportable, rotation_period } => {
                let decryption = min_decryption.map(|to| format!("min_decryption_version {to}"));
                let encryption = min_encryption.map(|to| format!("min_encryption_version {to}"));
                let exportable = exportable.map(|to| format!("exportable {to}"));
                let period = rotation_period.map(|to| format!("rotation every {to} s"));
                decryption.into_iter().chain(encryption).chain(exportable).chain(period).collect()
            }
            Self::Destroy { before: None } => vec!["all versions".to_owned()],
            Self::Destroy { before: Some(before) } => vec![format!("versions before {before}")],
            _ => Vec::new(),
        }
    }
}

/// One mounted transit.
struct Transit {
    keys: Keys,
    entropy: Arc<dyn Entropy>,
    /// Writes that continue when their callers are gone.
    tasks: TaskTracker,
}

fn check(settings: &Settings) -> Result<(), Invalid> {
    no_settings(KIND.name, settings)
}

fn build(parts: Parts) -> Result<Box<dyn Engine>, Invalid> {
    check(&parts.settings)?;
    Ok(Box::new(Transit { keys: Keys::new(parts.view), entropy: parts.entropy, tasks: parts.tasks }))
}

#[async_trait]
impl Engine for Transit {
    async fn run(
        &self,
        permit: Permit,
        operation: Box<dyn super::Operation>,
    ) -> Result<super::Output, EngineError> {
        let operation: Operation = own(operation)?;
        let path = permit.path();
        let output = if super::Operation::is_write(&operation) {
            self.write(path.clone(), permit.request_id(), permit.at(), operation).await?
        } else if let Operation::List { page_token } = operation {
            let sees = |path: &Path| permit.scope().sees_leaf(path);
            let (paths, next) = self.keys.page(path, page_token.as_deref(), sees).await?;
            Output::Page { paths, next }
        } else {
            let key = self.keys.get(path).await?;
            self.with(path, key, operation)?
        };
        Ok(super::Output::one(output))
    }

    async fn overdue(&self, now: Timestamp) -> Result<Vec<Due>, BarrierError> {
        let due = self.keys.overdue(now).await?.into_iter();
        Ok(due.map(|name| Due { name, what: "another version".to_owned() }).collect())
    }

    async fn attend(&self, path: &Path, by: RequestId, now: Timestamp) -> Result<(), EngineError> {
        match self.write(path.clone(), by, now, Operation::RotateIfDue).await {
            Ok(_) | Err(Error::NotFound) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    async fn erase(&self) -> Result<(), BarrierError> {
        self.keys.erase().await
    }
}

impl Transit {
    /// Changes a key, to the end even if the caller stops waiting.
    async fn write(
        &self,
        path: Path,
        by: RequestId,
        now: Timestamp,
        operation: Operation,
    ) -> Result<Output, Error> {
        let (keys, entropy) = (self.keys.clone(), Arc::clone(&self.entropy));
        let task = self.tasks.spawn(async move {
            let made = keys.change(&path, by, |key| made(key, &operation, now, &*entropy)).await?;
            Ok(match (operation, made) {
                (Operation::Destroy { .. }, _) | (_, None) => Output::Destroyed,
                (Operation::Update { .. }, Some(key)) => Output::Key { path, key },
                (_, Some(key)) => Output::Latest { version: key.latest() },
            })
        });
        task.await.unwrap_or(Err(BarrierError::Stopped.into()))
    }

    /// Does what changes nothing.
    fn with(&self, path: &Path, key: TransitKey, operation: Operation) -> Result<Output, Error> {
        Ok(match operation {
            Operation::Export { version } => {
                let version = key.kept(version)?;
                if !key.exportable {
                    return Err(Error::NotExportable);
                }
                let material = SecretBytes::from(version.pair.secret.expose());
                Output::Exported { version: version.number, material }
            }
            Operation::Encrypt { items, version } => {
                let (encrypting, with) = (Encrypting::of(path, &key, &*self.entropy)?, key.to_make(version)?);
                let encrypt =
                    |(n, item)| encrypting.encrypt(with, item).map_err(|error: Error| error.of_item(n));
                let ciphertexts = items.iter().enumerate().map(encrypt);
                Output::Encrypted {
                    ciphertexts: ciphertexts.collect::<Result<_, _>>()?,
                    version: with.number,
                }
            }
            Operation::Decrypt { items } => {
                let encrypting = Encrypting::of(path, &key, &*self.entropy)?;
                let items = items.iter().enumerate().map(|(n, item)| each(n, encrypting.decrypt(item)));
                Output::Decrypted(items.collect::<Result<_, _>>()?)
            }
            Operation::Rewrap { items } => {
                let (encrypting, with) = (Encrypting::of(path, &key, &*self.entropy)?, key.to_make(None)?);
                let rewrap = |item: Sealed| {
                    let plaintext = encrypting.decrypt(&item)?;
                    encrypting.encrypt(with, &Plain { plaintext, terms: item.terms })
                };
                let items = items.into_iter().enumerate().map(|(n, item)| each(n, rewrap(item)));
                Output::Rewrapped { items: items.collect::<Result<_, _>>()?, version: with.number }
            }
            Operation::DataKey { terms, with_plaintext } => {
                let (encrypting, with) = (Encrypting::of(path, &key, &*self.entropy)?, key.to_make(None)?);
                let (plaintext, ciphertext) = encrypting.data_key(with, terms)?;
                let plaintext = with_plaintext.then_some(plaintext);
                Output::DataKey { plaintext, ciphertext, version: with.number }
            }
            Operation::Sign { message, encoding, version } => {
                let (signature, version) = work::sign(path, &key, version, encoding, &message)?;
                Output::Signed { signature, version }
            }
            Operation::Verify { message, encoding, signature } => {
                Output::Verified(work::verify(path, &key, encoding, &message, &signature)?)
            }
            Operation::Mac { message, context, version } => {
                let (mac, version) = work::mac(path, &key, version, &context, &message)?;
                Output::Mac { mac, version }
            }
            Operation::VerifyMac { message, context, mac } => {
                Output::Verified(work::is_mac(path, &key, &context, &message, &mac)?)
            }
            _ => Output::Key { path: path.clone(), key },
        })
    }
}

/// What is wrong with one of many is its own affair; what is wrong with the server is everybody's.
fn each<T>(number: usize, result: Result<T, Error>) -> Result<Result<T, EngineError>, Error> {
    match result {
        Err(Error::Barrier(error)) => Err(error.into()),
        other => Ok(other.map_err(|error| error.of_item(number).into())),
    }
}

/// What a write makes of a key; none is a key that is not there.
fn made(
    key: Option<TransitKey>,
    operation: &Operation,
    now: Timestamp,
    entropy: &dyn Entropy,
) -> Result<Option<TransitKey>, Error> {
    let key = match (key, operation) {
        (Some(_), Operation::Create { .. }) => return Err(Error::Exists),
        (None, Operation::Create { algorithm, derived, exportable, material }) => {
            let first = first(*algorithm, *derived, material.as_ref(), entropy)?;
            return Ok(Some(TransitKey::new(*algorithm, *derived, *exportable, first, now)));
        }
        (key, _) => key,
    };
    let mut key = key.ok_or(Error::NotFound)?;
    match operation {
        Operation::Rotate => key.append(key.algorithm.generate(entropy)?, now)?,
        Operation::RotateIfDue if !key.is_due(now) => {}
        Operation::RotateIfDue => key.append(key.algorithm.generate(entropy)?, now)?,
        Operation::Update { min_decryption, min_encryption, exportable, rotation_period } => {
            key.settle(*min_decryption, *min_encryption, *exportable)?;
            key.rotation_period = rotation_period.unwrap_or(key.rotation_period);
        }
        Operation::Destroy { before: Some(before) } => key.trim(*before)?,
        _ => return Ok(None),
    }
    Ok(Some(key))
}

/// The first version of a key.
fn first(
    algorithm: Algorithm,
    derived: bool,
    material: Option<&SecretBytes>,
    entropy: &dyn Entropy,
) -> Result<algorithm::Pair, Error> {
    if derived && matches!(algorithm, Algorithm::Signs(_)) {
        let problem = format!(
            "is set, but keys of {} are not derived; expected a key that encrypts or authenticates",
            algorithm.name()
        );
        return Err(Invalid::new("derived", problem).into());
    }
    let Some(material) = material else { return Ok(algorithm.generate(entropy)?) };
    let wrong = |_| {
        Invalid::new("material", format!("is no key of {}; expected {}", algorithm.name(), algorithm.shape()))
    };
    Ok(algorithm.pair(SecretBytes::from(material.expose())).map_err(wrong)?)
}
