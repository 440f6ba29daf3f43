//! Hostile signatures and MACs, as Project Wycheproof collects them: malleable, cut, overlong, with numbers out of range and
//! points that are none. What we accept and refuse is what it says.

use wycheproof::{TestResult, ecdsa, eddsa, mac};

use super::{Curve, Encoding, Key, MacKey, PublicKey, verify_ecdsa};

/// Fewer would mean that a filter leaves out what it should not.
fn enough(tried: usize, least: usize) {
    assert!(tried >= least, "only {tried} vectors");
}

#[test]
fn ecdsa_signatures() {
    use ecdsa::TestName::{
        EcdsaSecp256r1Sha256, EcdsaSecp256r1Sha256P1363, EcdsaSecp384r1Sha384, EcdsaSecp384r1Sha384P1363,
    };
    for (name, curve, encoding) in [
        (EcdsaSecp256r1Sha256, Curve::P256, Encoding::Asn1),
        (EcdsaSecp256r1Sha256P1363, Curve::P256, Encoding::Jws),
        (EcdsaSecp384r1Sha384, Curve::P384, Encoding::Asn1),
        (EcdsaSecp384r1Sha384P1363, Curve::P384, Encoding::Jws),
    ] {
        let mut tried = 0;
        for group in ecdsa::TestSet::load(name).unwrap().test_groups {
            for test in group.tests {
                let verified = verify_ecdsa(curve, encoding, &group.key.key, &test.msg, &test.sig).is_ok();
                assert_eq!(
                    verified,
                    test.result == TestResult::Valid,
                    "{name:?} {}: {}",
                    test.tc_id,
                    test.comment
                );
                tried += 1;
            }
        }
        enough(tried, 200);
    }
}

#[test]
fn ed25519_signatures() {
    let mut tried = 0;
    for group in eddsa::TestSet::load(eddsa::TestName::Ed25519).unwrap().test_groups {
        let key = PublicKey(group.key.pk.as_ref().try_into().unwrap());
        for test in group.tests {
            let verified = key.verify(&test.msg, &test.sig).is_ok();
            assert_eq!(verified, test.result == TestResult::Valid, "{}: {}", test.tc_id, test.comment);
            tried += 1;
        }
    }
    enough(tried, 100);
}

/// Those with keys and MACs as long as ours.
#[test]
fn hmac_sha256() {
    let mut tried = 0;
    let groups = mac::TestSet::load(mac::TestName::HmacSha256).unwrap().test_groups;
    for group in groups.into_iter().filter(|group| group.key_size == 256 && group.tag_size == 256) {
        for test in group.tests {
            let mac = MacKey::new(&Key::from_slice(&test.key).unwrap()).mac(&[&test.msg]);
            assert_eq!(
                mac == **test.tag,
                test.result == TestResult::Valid,
                "{}: {}",
                test.tc_id,
                test.comment
            );
            tried += 1;
        }
    }
    enough(tried, 50);
}
