//! Keys and the keys derived from them: HKDF-SHA256 (RFC 5869). Parents are uniform 32-byte keys, so only Expand is
//! needed (RFC 5869 section 3.3).

use ring::hkdf;
use zeroize::Zeroizing;

use super::{CryptoError, Entropy};

/// A 32-byte key. No `Debug`, no `Clone`, wiped on drop.
pub struct Key(Box<Zeroizing<[u8; 32]>>);

struct OutputLength(usize);

impl hkdf::KeyType for OutputLength {
    fn len(&self) -> usize {
        self.0
    }
}

impl Key {
    /// A fresh one.
    ///
    /// # Errors
    /// The system has no randomness to give.
    pub fn random(entropy: &dyn Entropy) -> Result<Self, CryptoError> {
        let mut key = Self(Box::new(Zeroizing::new([0; 32])));
        entropy.fill(&mut key.0[..])?;
        Ok(key)
    }

    /// From bytes that are a key already.
    pub fn from_bytes(bytes: &[u8; 32]) -> Self {
        Self(Box::new(Zeroizing::new(*bytes)))
    }

    /// From a slice.
    ///
    /// # Errors
    /// It is not 32 bytes long.
    pub fn from_slice(bytes: &[u8]) -> Result<Self, CryptoError> {
        bytes.try_into().map(Self::from_bytes).map_err(|_| CryptoError)
    }

    /// The bytes. Only for sealing this key under another one and for splitting it into shares.
    pub fn expose(&self) -> &[u8; 32] {
        &self.0
    }

    /// The key for one purpose.
    ///
    /// # Errors
    /// Never in practice: 32 bytes are always within what HKDF can give.
    pub fn derive(&self, label: &str) -> Result<Key, CryptoError> {
        let mut key = Self(Box::new(Zeroizing::new([0; 32])));
        self.expand(&[label.as_bytes()], &mut key.0[..])?;
        Ok(key)
    }

    /// HKDF-Expand with the concatenation of `info` into `output`, at most 8,160 bytes.
    ///
    /// # Errors
    /// `output` is too long.
    pub fn expand(&self, info: &[&[u8]], output: &mut [u8]) -> Result<(), CryptoError> {
        let length = OutputLength(output.len());
        hkdf::Prk::new_less_safe(hkdf::HKDF_SHA256, &self.0[..])
            .expand(info, length)
            .and_then(|okm| okm.fill(output))
            .map_err(|_| CryptoError)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 5869 appendix A.1: the expand step alone.
    #[test]
    fn rfc5869_expand() {
        let hex = |text: &str| data_encoding::HEXLOWER.decode(text.as_bytes()).unwrap();
        let prk = hex("077709362c2e32df0ddc3f0dc47bba6390b6c73bb50f9c3122ec844ad7c2b3e5");
        let mut okm = [0; 42];
        let info = hex("f0f1f2f3f4f5f6f7f8f9");
        Key::from_slice(&prk).unwrap().expand(&[&info], &mut okm).unwrap();
        assert_eq!(
            okm.to_vec(),
            hex("3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf34007208d5b887185865")
        );
    }
}
