//! A share as text: `srs1-` and 76 characters of base32 (RFC 4648, upper case, no padding) of
//! `version 1 | set id 8 | threshold 1 | x 1 | y 32 | CRC-32 of all before, 4`.
//!
//! Written in upper case; read in either case and with white space around, because people copy shares from paper and
//! mail. The CRC finds typing errors but does not protect against forgery: that is what opening the root key is for.

use data_encoding::BASE32_NOPAD;
use zeroize::Zeroizing;

use super::{
    ShareRejected,
    shamir::{Point, SECRET},
};
use crate::model::SecretBytes;

/// The set that a share belongs to: drawn again whenever shares are made. Not a secret.
pub type SetId = [u8; 8];

const PREFIX: &[u8] = b"srs1-";
const VERSION: u8 = 1;
const BODY: usize = 1 + 8 + 1 + 1 + SECRET;
const BYTES: usize = BODY + 4;
const CHARACTERS: usize = 76;
/// Longer texts are refused before anything is copied.
const MAX_TEXT: usize = 256;

/// One part of a seal key. No `Debug`, no `Clone`, wiped on drop.
pub struct Share {
    pub(super) set: SetId,
    pub(super) threshold: u8,
    pub(super) point: Point,
}

impl Share {
    /// The text to hand to its keeper.
    pub fn to_text(&self) -> SecretBytes {
        let mut bytes = Zeroizing::new(Vec::with_capacity(BYTES));
        bytes.push(VERSION);
        bytes.extend_from_slice(&self.set);
        bytes.extend_from_slice(&[self.threshold, self.point.x]);
        bytes.extend_from_slice(&self.point.y[..]);
        let sum = crc32fast::hash(&bytes);
        bytes.extend_from_slice(&sum.to_be_bytes());

        let mut text = String::with_capacity(PREFIX.len() + CHARACTERS);
        text.push_str("srs1-");
        BASE32_NOPAD.encode_append(&bytes, &mut text);
        SecretBytes::from(text)
    }

    /// From its text.
    ///
    /// # Errors
    /// `NotAShare`, `Version` or `Mistyped`; whether it fits a record is judged elsewhere.
    pub fn parse(text: &SecretBytes) -> Result<Self, ShareRejected> {
        let text = text.expose().trim_ascii();
        if text.len() > MAX_TEXT {
            return Err(ShareRejected::NotAShare);
        }
        let text = Zeroizing::new(text.to_ascii_uppercase());
        let prefix = PREFIX.to_ascii_uppercase();
        let Some(body) = text.strip_prefix(prefix.as_slice()) else {
            return Err(match text.strip_prefix(b"SRS") {
                Some([b'0'..=b'9', b'-', ..]) => ShareRejected::Version,
                _ => ShareRejected::NotAShare,
            });
        };
        if body.len() != CHARACTERS {
            return Err(ShareRejected::Mistyped);
        }
        let mut bytes = Zeroizing::new([0; BYTES]);
        BASE32_NOPAD.decode_mut(body, &mut bytes[..]).map_err(|_| ShareRejected::Mistyped)?;
        Self::decode(&bytes)
    }

    fn decode(bytes: &[u8; BYTES]) -> Result<Self, ShareRejected> {
        let (body, sum) = bytes.split_at(BODY);
        if crc32fast::hash(body).to_be_bytes() != sum {
            return Err(ShareRejected::Mistyped);
        }
        let (head, y) = body.split_at(BODY - SECRET);
        let [version, set @ .., threshold, x] = head else { return Err(ShareRejected::Mistyped) };
        if *version != VERSION {
            return Err(ShareRejected::Version);
        }
        let set = set.try_into().map_err(|_| ShareRejected::Mistyped)?;
        let mut point = Point { x: *x, y: Zeroizing::new([0; SECRET]) };
        point.y.copy_from_slice(y);
        // At 0 stands the secret itself: no share of ours is there.
        if point.x == 0 {
            return Err(ShareRejected::Mistyped);
        }
        Ok(Self { set, threshold: *threshold, point })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn share(set: SetId, threshold: u8, x: u8, y: [u8; SECRET]) -> Share {
        Share { set, threshold, point: Point { x, y: Zeroizing::new(y) } }
    }

    fn parse(text: &str) -> Result<Share, ShareRejected> {
        Share::parse(&SecretBytes::from(text.to_owned()))
    }

    proptest! {
        #[test]
        fn reads_what_it_wrote(set: SetId, threshold: u8, x in 1..=u8::MAX, y: [u8; SECRET]) {
            let text = share(set, threshold, x, y).to_text();
            let upper = text.expose_str().unwrap().to_owned();
            for text in [upper.clone(), upper.to_lowercase(), format!("  {upper}\n")] {
                let read = parse(&text).ok().unwrap();
                prop_assert_eq!((read.set, read.threshold, read.point.x, *read.point.y), (set, threshold, x, y));
            }
        }

        #[test]
        fn never_panics(text: Vec<u8>, tail in "[a-zA-Z0-9]{0,90}") {
            let _ = Share::parse(&SecretBytes::new(text));
            let _ = parse(&format!("srs1-{tail}"));
        }
    }

    #[test]
    fn every_single_typing_error_is_found() {
        let text = share(*b"the set!", 3, 9, [0x42; SECRET]).to_text();
        let text = text.expose_str().unwrap().to_owned();
        assert_eq!(text.len(), PREFIX.len() + CHARACTERS);
        for (at, right) in text.char_indices() {
            for wrong in (' '..='~').filter(|c| !c.eq_ignore_ascii_case(&right)) {
                let mut typo = text.clone();
                typo.replace_range(at..=at, &wrong.to_string());
                assert!(parse(&typo).is_err(), "{wrong:?} at {at}");
            }
            let mut dropped = text.clone();
            dropped.remove(at);
            assert!(parse(&dropped).is_err(), "dropped {at}");
        }
    }

    #[test]
    fn refusals_have_names() {
        assert!(matches!(parse("sr1_abc"), Err(ShareRejected::NotAShare)));
        assert!(matches!(parse("srs2-ABC"), Err(ShareRejected::Version)));
        assert!(matches!(parse("srs1-ABC"), Err(ShareRejected::Mistyped)));
        let zero = share([0; 8], 1, 0, [0; SECRET]).to_text();
        assert!(matches!(Share::parse(&zero), Err(ShareRejected::Mistyped)));
    }
}
