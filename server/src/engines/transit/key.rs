//! A key with its versions, and the record that it is kept as. Only bytes and types, no store.

use prost::Message;
use strongroom_proto::v1::Sensitive;

use super::{
    Error,
    algorithm::{Algorithm, Pair},
};
use crate::{
    engines::schedule,
    model::{Invalid, SecretBytes, Timestamp},
};

/// Most versions that a key keeps: a record holds 60 KiB, and a version of ECDSA P-384 takes some 310 bytes.
pub(super) const VERSIONS: usize = 180;

pub(super) struct TransitKey {
    pub(super) algorithm: Algorithm,
    pub(super) derived: bool,
    pub(super) exportable: bool,
    pub(super) min_decryption: u32,
    /// 0 = as `min_decryption`.
    pub(super) min_encryption: u32,
    /// Seconds after which there is another version; 0 = when somebody says so.
    pub(super) rotation_period: u64,
    /// Oldest first, without a gap; never empty.
    versions: Vec<Version>,
}

pub(super) struct Version {
    pub(super) number: u32,
    pub(super) created: Timestamp,
    pub(super) pair: Pair,
}

#[derive(Message)]
#[prost(skip_debug)]
struct StoredKey {
    #[prost(uint32, tag = "1")]
    algorithm: u32,
    #[prost(bool, tag = "2")]
    derived: bool,
    #[prost(bool, tag = "3")]
    exportable: bool,
    #[prost(uint32, tag = "4")]
    min_decryption: u32,
    #[prost(uint32, tag = "5")]
    min_encryption: u32,
    #[prost(message, repeated, tag = "6")]
    versions: Vec<StoredVersion>,
    #[prost(uint64, tag = "7")]
    rotation_period: u64,
}

#[derive(Message)]
#[prost(skip_debug)]
struct StoredVersion {
    #[prost(uint32, tag = "1")]
    number: u32,
    #[prost(int64, tag = "2")]
    created_ms: i64,
    /// Wiped when it is dropped.
    #[prost(message, optional, tag = "3")]
    secret: Option<Sensitive>,
    #[prost(bytes = "vec", tag = "4")]
    public: Vec<u8>,
}

impl TransitKey {
    pub(super) fn new(
        algorithm: Algorithm,
        derived: bool,
        exportable: bool,
        first: Pair,
        now: Timestamp,
    ) -> Self {
        let versions = vec![Version { number: 1, created: now, pair: first }];
        Self {
            algorithm,
            derived,
            exportable,
            min_decryption: 1,
            min_encryption: 0,
            rotation_period: 0,
            versions,
        }
    }

    /// Whether there is to be another version by now.
    pub(super) fn is_due(&self, now: Timestamp) -> bool {
        let since = self.versions.last().map_or(now, |version| version.created);
        schedule::is_due(self.rotation_period, since, now)
    }

    pub(super) fn versions(&self) -> &[Version] {
        &self.versions
    }

    pub(super) fn latest(&self) -> u32 {
        self.versions.last().map_or(0, |version| version.number)
    }

    /// The version to encrypt or sign with.
    pub(super) fn to_make(&self, asked: Option<u32>) -> Result<&Version, Error> {
        let number = asked.unwrap_or(self.latest());
        let oldest = if self.min_encryption == 0 { self.min_decryption } else { self.min_encryption };
        self.version("version", number, oldest, "min_encryption_version")
    }

    /// The version to decrypt or verify with.
    pub(super) fn to_open(&self, field: &str, number: u32) -> Result<&Version, Error> {
        self.version(field, number, self.min_decryption, "min_decryption_version")
    }

    /// Any version that is kept.
    pub(super) fn kept(&self, asked: Option<u32>) -> Result<&Version, Error> {
        self.version("version", asked.unwrap_or(self.latest()), 0, "")
    }

    fn version(
        &self,
        field: &str,
        number: u32,
        oldest: u32,
        setting: &'static str,
    ) -> Result<&Version, Error> {
        let Some(version) = self.versions.iter().find(|version| version.number == number) else {
            let problem = format!(
                "names version {number}, which this key does not have; the latest is {}",
                self.latest()
            );
            return Err(Invalid::new(field, problem).into());
        };
        if number < oldest {
            return Err(Error::VersionTooOld { version: number, setting, oldest });
        }
        Ok(version)
    }

    pub(super) fn append(&mut self, pair: Pair, now: Timestamp) -> Result<(), Invalid> {
        if self.versions.len() >= VERSIONS {
            let problem = format!(
                "has {VERSIONS} versions, which is the most; destroy some that nothing needs any more"
            );
            return Err(Invalid::new("path", problem));
        }
        let number =
            self.latest().checked_add(1).ok_or_else(|| Invalid::new("path", "has had too many versions"))?;
        self.versions.push(Version { number, created: now, pair });
        Ok(())
    }

    /// Changes what is given.
    pub(super) fn settle(
        &mut self,
        min_decryption: Option<u32>,
        min_encryption: Option<u32>,
        exportable: Option<bool>,
    ) -> Result<(), Invalid> {
        let (oldest, latest) = (self.versions.first().map_or(1, |version| version.number), self.latest());
        let decryption = min_decryption.unwrap_or(self.min_decryption);
        let encryption = min_encryption.unwrap_or(self.min_encryption);
        if !(oldest..=latest).contains(&decryption) {
            let problem = format!("is {decryption}; expected {oldest} to {latest}");
            return Err(Invalid::new("min_decryption_version", problem));
        }
        if encryption != 0 && !(decryption..=latest).contains(&encryption) {
            let problem = format!("is {encryption}; expected 0, or {decryption} to {latest}");
            return Err(Invalid::new("min_encryption_version", problem));
        }
        if exportable == Some(false) && self.exportable {
            return Err(Invalid::new("exportable", "cannot be taken back: the key may have left already"));
        }
        self.min_decryption = decryption;
        self.min_encryption = encryption;
        self.exportable |= exportable == Some(true);
        Ok(())
    }

    /// Forgets the versions below `first`.
    pub(super) fn trim(&mut self, first: u32) -> Result<(), Invalid> {
        if first > self.min_decryption {
            let problem = format!(
                "is {first}; expected at most min_decryption_version, which is {}, so that it turns out first whether \
                 anything still needs them",
                self.min_decryption
            );
            return Err(Invalid::new("before_version", problem));
        }
        self.versions.retain(|version| version.number >= first);
        Ok(())
    }

    pub(super) fn encode(&self) -> SecretBytes {
        let versions = self.versions.iter().map(|version| StoredVersion {
            number: version.number,
            created_ms: version.created.as_millis(),
            secret: Some((&version.pair.secret).into()),
            public: version.pair.public.clone(),
        });
        let stored = StoredKey {
            algorithm: self.algorithm.number(),
            derived: self.derived,
            exportable: self.exportable,
            min_decryption: self.min_decryption,
            min_encryption: self.min_encryption,
            versions: versions.collect(),
            rotation_period: self.rotation_period,
        };
        SecretBytes::from(stored.encode_to_vec())
    }

    /// Reads a record; none for what this code does not write.
    pub(super) fn decode(bytes: &SecretBytes) -> Option<Self> {
        let stored = StoredKey::decode(bytes.expose()).ok()?;
        let version = |stored: StoredVersion| {
            let pair = Pair { secret: stored.secret?.into(), public: stored.public };
            Some(Version { number: stored.number, created: Timestamp::from_millis(stored.created_ms), pair })
        };
        let versions: Vec<Version> = stored.versions.into_iter().map(version).collect::<Option<_>>()?;
        let in_order = versions.windows(2).all(|two| matches!(two, [a, b] if a.number < b.number));
        (in_order && !versions.is_empty()).then_some(Self {
            algorithm: Algorithm::of_number(stored.algorithm)?,
            derived: stored.derived,
            exportable: stored.exportable,
            min_decryption: stored.min_decryption,
            min_encryption: stored.min_encryption,
            rotation_period: stored.rotation_period,
            versions,
        })
    }
}
