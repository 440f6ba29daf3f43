//! Passwords that nobody invented: every one of a length is as likely as any other.

use zeroize::Zeroizing;

use crate::{
    crypto::{CryptoError, Entropy},
    model::SecretBytes,
};

/// Letters and digits pass through every shell, URL and configuration file.
const LETTERS: &[u8; 62] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
/// The largest multiple of their number that a byte can be below: from there on, some would be likelier than others.
const FAIR: u8 = 248;

/// One of `length` letters and digits, of which each is worth 5.95 bits.
pub(super) fn made(length: usize, entropy: &dyn Entropy) -> Result<SecretBytes, CryptoError> {
    let mut made = Zeroizing::new(Vec::with_capacity(length));
    while made.len() < length {
        let mut bytes = Zeroizing::new(vec![0; length]);
        entropy.fill(&mut bytes)?;
        let fair = bytes.iter().filter(|byte| **byte < FAIR);
        let letters = fair.filter_map(|byte| LETTERS.get(usize::from(*byte) % LETTERS.len()).copied());
        let missing = length - made.len();
        made.extend(letters.take(missing));
    }
    Ok(SecretBytes::from(made.as_slice()))
}
