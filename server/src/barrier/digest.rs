//! The set digest: a sum of keyed hashes over all live records, modulo 2^256. A write changes it by two terms, whatever
//! the size of the store, and no order of writes matters. Who does not have the key cannot make two sets with one sum.
//!
//! It covers every record except three: its own, the seal's and the keyring's. The latter two are written before there
//! is a barrier, and neither can be taken back unnoticed: a keyring that is too old does not open what its missing terms
//! sealed.

use super::{DIGEST_KEY, KEYRING_KEY, Keyring, Purpose, SEAL_KEY};
use crate::crypto::{Digest, MacKey, sha256};

/// A number modulo 2^256, least significant limb first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct SetDigest([u64; 4]);

/// Hashes records for the sum.
pub(super) struct SetMac(MacKey);

impl SetMac {
    pub(super) fn new(keyring: &Keyring) -> Self {
        Self(MacKey::new(&keyring.purpose(Purpose::SetDigest)))
    }

    /// One term of the sum: `HMAC(set-digest, key | SHA-256(value))`, or zero for a record that does not count.
    pub(super) fn of(&self, key: &[u8], value_hash: &Digest) -> SetDigest {
        if is_covered(key) {
            SetDigest::from_bytes(&self.0.mac(&[key, value_hash]))
        } else {
            SetDigest::default()
        }
    }

    /// The same, computed from the value.
    pub(super) fn of_value(&self, key: &[u8], value: &[u8]) -> SetDigest {
        if is_covered(key) { self.of(key, &sha256(value)) } else { SetDigest::default() }
    }
}

/// Whether the record under `key` is one of those that the digest covers.
pub(super) fn is_covered(key: &[u8]) -> bool {
    ![SEAL_KEY, KEYRING_KEY, DIGEST_KEY].contains(&key)
}

impl SetDigest {
    /// From 32 bytes, the most significant first.
    pub(super) fn from_bytes(bytes: &Digest) -> Self {
        let mut limbs = [0; 4];
        let (chunks, _) = bytes.as_chunks::<8>();
        for (limb, chunk) in limbs.iter_mut().zip(chunks.iter().rev()) {
            *limb = u64::from_be_bytes(*chunk);
        }
        Self(limbs)
    }

    /// As [`Self::from_bytes`] reads it.
    pub(super) fn to_bytes(self) -> Digest {
        let mut bytes = [0; 32];
        let (chunks, _) = bytes.as_chunks_mut::<8>();
        for (limb, chunk) in self.0.iter().zip(chunks.iter_mut().rev()) {
            *chunk = limb.to_be_bytes();
        }
        bytes
    }

    pub(super) fn plus(self, other: Self) -> Self {
        let (mut sum, mut carry) = ([0; 4], false);
        for ((sum, a), b) in sum.iter_mut().zip(self.0).zip(other.0) {
            let (partial, first) = a.overflowing_add(b);
            let (total, second) = partial.overflowing_add(u64::from(carry));
            (*sum, carry) = (total, first | second);
        }
        Self(sum)
    }

    pub(super) fn minus(self, other: Self) -> Self {
        let (mut difference, mut borrow) = ([0; 4], false);
        for ((difference, a), b) in difference.iter_mut().zip(self.0).zip(other.0) {
            let (partial, first) = a.overflowing_sub(b);
            let (total, second) = partial.overflowing_sub(u64::from(borrow));
            (*difference, borrow) = (total, first | second);
        }
        Self(difference)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn plus_and_minus_undo_each_other(a: [u8; 32], b: [u8; 32], c: [u8; 32]) {
            let [x, y, z] = [a, b, c].map(|bytes| SetDigest::from_bytes(&bytes));
            prop_assert_eq!(x.to_bytes(), a);
            prop_assert_eq!(x.plus(y).minus(y), x);
            prop_assert_eq!(x.plus(y), y.plus(x));
            prop_assert_eq!(x.plus(y).plus(z), x.plus(y.plus(z)));
            prop_assert_eq!(x.minus(x), SetDigest::default());
        }
    }

    #[test]
    fn carries_and_borrows_through_all_limbs() {
        let (mut one, most) = ([0; 32], SetDigest::from_bytes(&[255; 32]));
        one[31] = 1;
        let one = SetDigest::from_bytes(&one);
        assert_eq!(most.plus(one), SetDigest::default());
        assert_eq!(SetDigest::default().minus(one), most);
    }
}
