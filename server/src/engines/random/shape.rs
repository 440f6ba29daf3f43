//! What can be made, and how: every value of a shape is as likely as any other.

use data_encoding::{BASE64, HEXLOWER};
use zeroize::Zeroizing;

use crate::{
    barrier::BarrierError,
    crypto::Entropy,
    engines::{EngineError, password},
    model::{Invalid, Path, SecretBytes},
};

/// As long as is good: 190 bits of a password, 256 of a key.
const LENGTH: u32 = 32;
/// The shortest that nobody guesses: 95 bits of a password, 128 of a key.
const SHORTEST: u32 = 16;
/// The longest that anybody needs.
const LONGEST: u32 = 1024;

/// How a secret looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shape {
    /// Letters and digits.
    Password,
    /// Bytes as they are.
    Bytes,
    /// Bytes as hex digits.
    Hex,
    /// Bytes in base64.
    Base64,
}

impl Shape {
    /// All of them with their names.
    const ALL: [(&'static str, Self); 4] =
        [("password", Self::Password), ("bytes", Self::Bytes), ("hex", Self::Hex), ("base64", Self::Base64)];

    /// The one a path names: `MOUNT/password`. So a policy says who may make what.
    pub(super) fn at(path: &Path) -> Result<Self, Invalid> {
        let name = path.within_mount();
        let found = Self::ALL.into_iter().find(|(known, _)| name == *known);
        found.map(|(_, shape)| shape).ok_or_else(|| {
            let names = Self::ALL.map(|(name, _)| name).join(", ");
            Invalid::new("path", format!("{path} does not name a shape; expected MOUNT/ and one of {names}"))
        })
    }

    /// Makes one. `length` counts characters of a password, and bytes of everything else.
    pub(super) fn make(self, length: Option<u32>, entropy: &dyn Entropy) -> Result<SecretBytes, EngineError> {
        let length = length.unwrap_or(LENGTH);
        if !(SHORTEST..=LONGEST).contains(&length) {
            return Err(
                Invalid::new("length", format!("is {length}; expected {SHORTEST} to {LONGEST}")).into()
            );
        }
        let length = usize::try_from(length).unwrap_or(usize::MAX);
        if self == Self::Password {
            return Ok(password::made(length, entropy).map_err(BarrierError::from)?);
        }
        let bytes = fill(length, entropy)?;
        Ok(match self {
            Self::Password | Self::Bytes => SecretBytes::from(bytes.as_slice()),
            Self::Hex => SecretBytes::from(HEXLOWER.encode(&bytes)),
            Self::Base64 => SecretBytes::from(BASE64.encode(&bytes)),
        })
    }
}

fn fill(length: usize, entropy: &dyn Entropy) -> Result<Zeroizing<Vec<u8>>, EngineError> {
    let mut bytes = Zeroizing::new(vec![0; length]);
    entropy.fill(&mut bytes).map_err(BarrierError::from)?;
    Ok(bytes)
}
