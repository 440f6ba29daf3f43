//! Tests of sealing as a whole.

use super::*;
use crate::{crypto::SystemEntropy, model::Timestamp};

const STORE: StoreId = StoreId([7; 16]);
const NOW: Timestamp = Timestamp::from_millis(1_000_000);

fn seals(file: Option<&FileSeal>) -> Seals {
    Seals::build(&Settings { key_file: file.map(|file| file.path().to_owned()) })
}

fn made(shares: u8, threshold: u8) -> (Key, SealRecord, Vec<SecretBytes>) {
    let root = Key::random(&SystemEntropy).unwrap();
    let config = SealConfig::Shamir { shares, threshold };
    let (record, shares) = seals(None).create(config, &root, STORE, &SystemEntropy).unwrap();
    (root, record, shares.iter().map(Share::to_text).collect())
}

fn rejected(progress: &mut Progress, share: &SecretBytes, record: &SealRecord) -> ShareRejected {
    match progress.submit(&seals(None), share, record, NOW) {
        Err(why) => why,
        Ok(_) => panic!("accepted"),
    }
}

#[test]
fn threshold_shares_open_in_any_order() {
    for (n, m) in [(1, 1), (5, 3), (10, 10), (255, 10), (255, 1)] {
        let (root, record, shares) = made(n, m);
        assert_eq!(shares.len(), usize::from(n));
        let record = SealRecord::decode(&record.encode()).unwrap();
        let mut progress = Progress::new();
        for (i, share) in shares.iter().rev().take(usize::from(m)).enumerate() {
            match progress.submit(&seals(None), share, &record, NOW).unwrap() {
                Step::More { given, threshold } => {
                    assert_eq!((usize::from(given), threshold), (i + 1, m));
                    assert_eq!(given, progress.given());
                }
                Step::Complete(key) => {
                    assert_eq!(i + 1, usize::from(m));
                    assert_eq!(key.expose(), root.expose());
                }
            }
        }
        assert_eq!(progress.given(), 0, "forgotten after success");
        assert_eq!(
            seals(None).open_with_shares(&record, &shares).ok().unwrap().expose(),
            root.expose(),
            "all at once"
        );
    }
}

#[test]
fn bad_shares_are_refused_by_name_and_good_ones_stay() {
    let (_, record, shares) = made(5, 3);
    let (_, _, foreign) = made(5, 3);
    let mut progress = Progress::new();
    assert!(matches!(
        progress.submit(&seals(None), &shares[0], &record, NOW),
        Ok(Step::More { given: 1, threshold: 3 })
    ));
    assert_eq!(rejected(&mut progress, &shares[0], &record), ShareRejected::Duplicate);
    assert_eq!(rejected(&mut progress, &foreign[0], &record), ShareRejected::ForeignSet);
    assert_eq!(
        rejected(&mut progress, &SecretBytes::from(String::from("x")), &record),
        ShareRejected::NotAShare
    );
    let mut other = Share::parse(&shares[1]).ok().unwrap();
    other.threshold = 2;
    assert_eq!(rejected(&mut progress, &other.to_text(), &record), ShareRejected::WrongThreshold);
    assert_eq!(progress.given(), 1);
    let too_few = seals(None).open_with_shares(&record, &shares[..2]).err().unwrap();
    assert_eq!(too_few, ShareRejected::TooFew { given: 2, threshold: 3 });
}

#[test]
fn a_wrong_combination_forgets_all() {
    let (_, record, shares) = made(3, 2);
    let mut forged = Share::parse(&shares[1]).ok().unwrap();
    forged.point.y[0] ^= 1;
    let mut progress = Progress::new();
    assert!(progress.submit(&seals(None), &shares[0], &record, NOW).is_ok());
    assert_eq!(rejected(&mut progress, &forged.to_text(), &record), ShareRejected::WrongCombination);
    assert_eq!(progress.given(), 0);
}

#[test]
fn shares_wait_ten_minutes_and_no_longer() {
    let (_, record, shares) = made(3, 2);
    let mut progress = Progress::new();
    assert!(progress.submit(&seals(None), &shares[0], &record, NOW).is_ok());
    let early = Timestamp::from_millis(NOW.as_millis() + 599_999);
    progress.expire(early);
    assert_eq!(progress.given(), 1);
    progress.expire(early.plus(std::time::Duration::from_millis(1)));
    assert_eq!(progress.given(), 0);
}

#[test]
fn a_rekey_in_between_makes_old_shares_useless() {
    let (root, record, shares) = made(3, 2);
    let config = SealConfig::Shamir { shares: 3, threshold: 2 };
    let (newer, _) = seals(None).create(config, &root, STORE, &SystemEntropy).unwrap();
    let mut progress = Progress::new();
    assert!(progress.submit(&seals(None), &shares[0], &record, NOW).is_ok());
    assert_eq!(rejected(&mut progress, &shares[1], &newer), ShareRejected::ForeignSet);
    assert_eq!(progress.given(), 0);
}

#[test]
fn the_key_file_opens_its_store_only() {
    let dir = tempfile::tempdir().unwrap();
    let file = FileSeal::new(dir.path().join("key"));
    let root = Key::random(&SystemEntropy).unwrap();
    assert!(matches!(
        seals(None).create(SealConfig::File, &root, STORE, &SystemEntropy),
        Err(SealError::NoKeyFile)
    ));
    let (record, shares) = seals(Some(&file)).create(SealConfig::File, &root, STORE, &SystemEntropy).unwrap();
    assert!(shares.is_empty());
    let record = SealRecord::decode(&record.encode()).unwrap();
    assert_eq!(seals(Some(&file)).open(&record).unwrap().unwrap().expose(), root.expose());
    let elsewhere = SealRecord { store: StoreId([8; 16]), ..record.clone() };
    assert!(matches!(seals(Some(&file)).open(&elsewhere), Err(SealError::WrongKey)));
    assert_eq!(seals(None).open_with_shares(&record, &[]).err().unwrap(), ShareRejected::NotShamir);
}

#[test]
fn impossible_configurations_are_refused() {
    for (shares, threshold) in [(0, 0), (0, 1), (5, 0), (3, 4), (20, 11)] {
        assert!(SealConfig::Shamir { shares, threshold }.validate().is_err(), "{threshold} of {shares}");
    }
}

#[test]
fn damaged_records_are_refused() {
    let (_, record, _) = made(3, 2);
    let bytes = record.encode();
    assert!(SealRecord::decode(&[]).is_err());
    assert!(SealRecord::decode(&[&[2], &bytes[1..]].concat()).is_err());
    for threshold in [0, 4, 11] {
        assert!(SealRecord::decode(&SealRecord { threshold, ..record.clone() }.encode()).is_err());
    }
}

/// Shares written down today open for ever.
#[test]
fn vectors_open() {
    #[derive(serde::Deserialize)]
    struct Vector {
        secret: String,
        set: String,
        threshold: u8,
        shares: Vec<String>,
    }
    let vectors: Vec<Vector> =
        serde_json::from_str(include_str!("../../../tests/vectors/share.json")).unwrap();
    assert!(!vectors.is_empty());
    for vector in vectors {
        let shares: Vec<Share> = vector
            .shares
            .iter()
            .map(|text| Share::parse(&SecretBytes::from(text.clone())).ok().unwrap())
            .collect();
        for chosen in shares.windows(usize::from(vector.threshold)) {
            let points: Vec<_> = chosen.iter().map(|share| &share.point).collect();
            assert_eq!(data_encoding::HEXLOWER.encode(&*shamir::combine(&points)), vector.secret);
        }
        for (share, text) in shares.iter().zip(&vector.shares) {
            assert_eq!(data_encoding::HEXLOWER.encode(&share.set), vector.set);
            assert_eq!(share.to_text().expose_str().unwrap(), text);
        }
    }
}
