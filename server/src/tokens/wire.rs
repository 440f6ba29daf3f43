//! What a token looks like:
//!
//! ```text
//! sr1_ base64url( 0x01 | key id u32 | salt 32 | commit 32 | AES-256-GCM(claims) | tag 16 ) checksum
//! ```
//!
//! The checksum is CRC-32 of everything before it, as 6 characters of base 62, as GitHub does it: a secret scanner finds
//! a leaked token by `sr1_[0-9A-Za-z_-]{120,}` and is sure of it without asking, and a typing error is told from a
//! forgery. It protects nothing; the seal does.

use data_encoding::BASE64URL_NOPAD;

use crate::{
    crypto::{self, CryptoError, Entropy, Key, MacKey},
    model::{SecretBytes, StoreId},
};

/// The start of every token.
pub const PREFIX: &str = "sr1_";
/// Longest token: a user of 32 groups with the longest names has 3.5 KiB, a pod with the longest names 1.6 KiB. Judged
/// before anything else, so that junk costs nothing.
pub const MAX_TOKEN_BYTES: usize = 4 << 10;

const VERSION: u8 = 1;
const LABEL: &str = "strongroom token v1";
const CHECKSUM: usize = 6;
const BASE62: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/// `version u8 | key id u32`
type Header = [u8; 5];

/// Characters of a token's salt: no two tokens have the same.
pub(super) type Salt = [u8; 16];
/// The header has 40 bits, so the seventh character behind the prefix is the last with a bit of it.
const SALT_AT: usize = PREFIX.len() + 7;

/// Why a text is not a token of ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unreadable {
    /// It starts like one, but was damaged in transit.
    Mistyped,
    /// It is none, or of another store, or forged.
    Foreign,
}

/// The key of all tokens of one store.
pub(super) struct TokenKey {
    key: Key,
    header: Header,
    context: Vec<u8>,
}

impl TokenKey {
    /// From a key made for this. Its id is derived from it, so nobody has to number keys, and is not secret.
    pub(super) fn new(key: Key, store: StoreId) -> Self {
        let [a, b, c, d, ..] = MacKey::new(&key).mac(&[b"strongroom token key id"]);
        let header: Header = [VERSION, a, b, c, d];
        let context = [&store.0[..], &header[..]].concat();
        Self { key, header, context }
    }

    /// Claims to token.
    pub(super) fn seal(&self, claims: &[u8], entropy: &dyn Entropy) -> Result<SecretBytes, CryptoError> {
        let sealed = crypto::seal(&self.key, LABEL, &self.context, claims, entropy)?;
        let mut text =
            String::with_capacity(PREFIX.len() + (self.header.len() + sealed.len()) * 2 + CHECKSUM);
        text.push_str(PREFIX);
        BASE64URL_NOPAD.encode_append(&[&self.header[..], &sealed].concat(), &mut text);
        let checksum = checksum(&text);
        text.extend(checksum.map(char::from));
        Ok(SecretBytes::from(text))
    }

    /// Token to claims.
    pub(super) fn open(&self, token: &str) -> Result<SecretBytes, Unreadable> {
        if token.len() > MAX_TOKEN_BYTES || !token.starts_with(PREFIX) {
            return Err(Unreadable::Foreign);
        }
        let split = token.len().saturating_sub(CHECKSUM);
        let (body, sum) = token.split_at_checked(split).ok_or(Unreadable::Mistyped)?;
        if sum.as_bytes() != checksum(body) {
            return Err(Unreadable::Mistyped);
        }
        let encoded = body.strip_prefix(PREFIX).ok_or(Unreadable::Foreign)?;
        let bytes = BASE64URL_NOPAD.decode(encoded.as_bytes()).map_err(|_| Unreadable::Foreign)?;
        let sealed = bytes.strip_prefix(&self.header).ok_or(Unreadable::Foreign)?;
        crypto::open(&self.key, LABEL, &self.context, sealed).map_err(|_| Unreadable::Foreign)
    }
}

/// Those of a text, if it is long enough to have some; it need not be a token.
pub(super) fn salt(text: &str) -> Option<Salt> {
    text.as_bytes().get(SALT_AT..)?.first_chunk().copied()
}

/// CRC-32 as six digits of base 62, the most significant first.
fn checksum(text: &str) -> [u8; CHECKSUM] {
    let mut rest = crc32fast::hash(text.as_bytes());
    let mut digits = [b'0'; CHECKSUM];
    for digit in digits.iter_mut().rev() {
        *digit = BASE62.get((rest % 62) as usize).copied().unwrap_or(b'0');
        rest /= 62;
    }
    digits
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::crypto::SystemEntropy;

    fn key(byte: u8, store: u8) -> TokenKey {
        TokenKey::new(Key::from_bytes(&[byte; 32]), StoreId([store; 16]))
    }

    fn token(claims: &[u8]) -> String {
        key(1, 1).seal(claims, &SystemEntropy).unwrap().expose_str().unwrap().to_owned()
    }

    /// With a checksum that fits, so that only the seal can find the change.
    fn with_checksum(body: &str) -> String {
        body.chars().chain(checksum(body).map(char::from)).collect()
    }

    proptest! {
        #[test]
        fn opens_what_was_sealed(claims in prop::collection::vec(any::<u8>(), 0..1000)) {
            let token = token(&claims);
            prop_assert!(token.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-'));
            let opened = key(1, 1).open(&token).unwrap();
            prop_assert_eq!(opened.expose(), &claims[..]);
        }

        #[test]
        fn a_typing_error_is_mistyped(at in 4..180usize, with in "[ -~]") {
            let token = token(b"claims of some length, so that there is something to change");
            let mut typed = token.clone();
            let at = at.min(token.len() - 1);
            typed.replace_range(at..=at, &with);
            prop_assume!(typed != token);
            prop_assert_eq!(key(1, 1).open(&typed).err(), Some(Unreadable::Mistyped));
        }

        #[test]
        fn a_forgery_is_foreign(at in any::<prop::sample::Index>(), bit in 0..8u8) {
            let token = token(b"claims");
            let mut bytes = BASE64URL_NOPAD.decode(&token.as_bytes()[4..token.len() - 6]).unwrap();
            let at = at.index(bytes.len());
            bytes[at] ^= 1 << bit;
            let forged = with_checksum(&format!("sr1_{}", BASE64URL_NOPAD.encode(&bytes)));
            prop_assert_eq!(key(1, 1).open(&forged).err(), Some(Unreadable::Foreign));
        }

        #[test]
        fn anything_is_refused_in_peace(text: String) {
            let prefixed = format!("sr1_{text}");
            for text in [with_checksum(&prefixed), prefixed, text] {
                prop_assert!(key(1, 1).open(&text).is_err());
            }
        }
    }

    #[test]
    fn each_token_has_its_salt() {
        let [one, other] = [token(b"claims"), token(b"claims")];
        assert_eq!(one[..SALT_AT - 1], other[..SALT_AT - 1], "all tokens of a key begin so");
        assert_ne!(salt(&one), salt(&other));
        assert_eq!(salt(&one[..SALT_AT + 15]), None);
    }

    #[test]
    fn a_cut_token_is_mistyped() {
        let token = token(b"claims");
        for length in 4..token.len() {
            assert_eq!(key(1, 1).open(&token[..length]).err(), Some(Unreadable::Mistyped), "{length}");
        }
        for length in 0..4 {
            assert_eq!(key(1, 1).open(&token[..length]).err(), Some(Unreadable::Foreign), "{length}");
        }
    }

    #[test]
    fn other_keys_and_stores_are_foreign() {
        let token = token(b"claims");
        assert_eq!(key(2, 1).open(&token).err(), Some(Unreadable::Foreign));
        assert_eq!(key(1, 2).open(&token).err(), Some(Unreadable::Foreign));
    }

    #[test]
    fn the_longest_is_judged_first() {
        let token = token(&vec![0; MAX_TOKEN_BYTES]);
        assert_eq!(key(1, 1).open(&token).err(), Some(Unreadable::Foreign));
    }

    /// There is one text for one token: the padding bits of base64 are checked.
    #[test]
    fn spare_bits_are_refused() {
        let token = token(b"claimss");
        let body = &token[..token.len() - 6];
        assert_ne!((body.len() - 4) % 4, 0, "the last character must have spare bits");
        let last = body.bytes().last().unwrap();
        let twins =
            (b'0'..=b'z').filter(|b| *b != last).map(|b| format!("{}{}", &body[..body.len() - 1], b as char));
        for twin in twins {
            assert_eq!(key(1, 1).open(&with_checksum(&twin)).err(), Some(Unreadable::Foreign), "{twin}");
        }
    }

    /// The CRC-32 check value of "123456789" is 0xCBF43926 = 3421780262.
    #[test]
    fn checksum_is_crc32_in_base62() {
        assert_eq!(crc32fast::hash(b"123456789"), 0xCBF4_3926);
        let value = checksum("123456789")
            .iter()
            .fold(0, |sum: u64, digit| sum * 62 + BASE62.iter().position(|b| b == digit).unwrap() as u64);
        assert_eq!(value, 3_421_780_262);
    }
}
