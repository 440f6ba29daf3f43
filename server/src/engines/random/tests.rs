//! What is made is as long as it was asked for, of nothing but its alphabet, and fair.

use super::*;
use crate::{
    crypto::{CryptoError, SystemEntropy},
    model::Path,
};

/// Counts upwards, so that every byte comes equally often.
struct Counter(std::sync::atomic::AtomicU8);

impl Entropy for Counter {
    fn fill(&self, bytes: &mut [u8]) -> Result<(), CryptoError> {
        bytes.fill_with(|| self.0.fetch_add(1, std::sync::atomic::Ordering::Relaxed));
        Ok(())
    }
}

struct Broken;

impl Entropy for Broken {
    fn fill(&self, _: &mut [u8]) -> Result<(), CryptoError> {
        Err(CryptoError)
    }
}

fn at(path: &str) -> Result<Shape, Invalid> {
    Shape::at(&Path::parse(path).unwrap())
}

#[test]
fn the_path_names_the_shape() {
    assert_eq!(at("random/password"), Ok(Shape::Password));
    assert_eq!(at("other/hex"), Ok(Shape::Hex));
    for wrong in ["random", "random/x", "random/password/more", "random/Password"] {
        assert_eq!(at(wrong).unwrap_err().field, "path", "{wrong}");
    }
}

#[test]
fn as_long_as_it_was_asked_for_and_of_its_alphabet() {
    let made = |shape: Shape, length| shape.make(length, &SystemEntropy).unwrap();
    for length in [16, 32, 1024] {
        let length_in_bytes = length as usize;
        let password = made(Shape::Password, Some(length));
        assert!(password.len() == length_in_bytes && password.expose().iter().all(u8::is_ascii_alphanumeric));
        assert_eq!(made(Shape::Bytes, Some(length)).len(), length_in_bytes);
        let hex = made(Shape::Hex, Some(length));
        assert!(hex.len() == 2 * length_in_bytes && hex.expose().iter().all(u8::is_ascii_hexdigit));
        assert_eq!(made(Shape::Base64, Some(length)).len(), length_in_bytes.div_ceil(3) * 4);
    }
    assert_eq!(made(Shape::Password, None).len(), 32);
    assert_ne!(made(Shape::Bytes, None).expose(), made(Shape::Bytes, None).expose());
    for length in [0, 1, 15, 1025, u32::MAX] {
        let refused = Shape::Hex.make(Some(length), &SystemEntropy);
        assert!(matches!(refused, Err(EngineError::Invalid(_))), "{length}");
    }
}

/// From bytes that are all equally frequent come letters that are.
#[test]
fn no_letter_is_likelier_than_another() {
    let counter = Counter(Default::default());
    let mut counts = std::collections::BTreeMap::new();
    for _ in 0..62 {
        let password = Shape::Password.make(Some(496), &counter).unwrap();
        password.expose().iter().for_each(|letter| *counts.entry(*letter).or_insert(0_u32) += 1);
    }
    let (least, most) = (counts.values().min().unwrap(), counts.values().max().unwrap());
    assert!(counts.len() == 62 && most - least <= most / 10, "{counts:?}");
}

#[test]
fn without_randomness_there_is_no_secret() {
    for shape in [Shape::Password, Shape::Bytes, Shape::Hex, Shape::Base64] {
        assert!(shape.make(None, &Broken).is_err());
    }
}

#[test]
fn it_has_no_settings() {
    assert!(check(&Settings::new()).is_ok());
    assert!(check(&Settings::from([("a".to_owned(), "b".to_owned())])).is_err());
}
