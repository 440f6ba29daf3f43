//! Shamir's secret sharing over GF(2^8) with the AES polynomial, byte by byte. Constant time: no tables and no branch or
//! index that depends on a secret (CVE-2023-25000). It knows nothing of formats, sets or what the secret is.

use std::hint::black_box;

use zeroize::Zeroizing;

use crate::crypto::{CryptoError, Entropy};

/// Bytes of the secret.
pub(super) const SECRET: usize = 32;

/// One point of each of the 32 polynomials. `x` is public and never 0: there stands the secret itself.
pub(super) struct Point {
    pub(super) x: u8,
    pub(super) y: Zeroizing<[u8; SECRET]>,
}

/// Makes `shares` points of which any `threshold` give the secret back and fewer tell nothing.
///
/// All coefficients are uniform over all 256 values. The top one may be 0: leaving it out would tell holders of
/// threshold-1 shares which values the secret does not have (RUSTSEC-2024-0398).
pub(super) fn split(
    secret: &[u8; SECRET],
    shares: u8,
    threshold: u8,
    entropy: &dyn Entropy,
) -> Result<Vec<Point>, CryptoError> {
    let mut coefficients = Zeroizing::new(vec![0; usize::from(threshold.saturating_sub(1)) * SECRET]);
    entropy.fill(&mut coefficients)?;
    let mut places: Vec<u8> = (1..=u8::MAX).collect();
    shuffle(&mut places, entropy)?;
    Ok(places.into_iter().take(usize::from(shares)).map(|x| point_at(x, secret, &coefficients)).collect())
}

/// The value at 0 of the polynomials through `points` (Lagrange). Wrong points give a wrong value, not an error; the
/// caller has made sure that no `x` is 0 or stands there twice.
pub(super) fn combine(points: &[&Point]) -> Zeroizing<[u8; SECRET]> {
    let mut secret = Zeroizing::new([0; SECRET]);
    for (i, point) in points.iter().enumerate() {
        let weight = points
            .iter()
            .enumerate()
            .filter(|(j, _)| *j != i)
            .fold(1, |weight, (_, other)| mul(weight, mul(other.x, invert(other.x ^ point.x))));
        for (sum, y) in secret.iter_mut().zip(point.y.iter()) {
            *sum ^= mul(weight, *y);
        }
    }
    secret
}

/// Fisher and Yates, without modulo bias.
pub(super) fn shuffle<T>(items: &mut [T], entropy: &dyn Entropy) -> Result<(), CryptoError> {
    for last in (1..items.len()).rev() {
        items.swap(last, below(last + 1, entropy)?);
    }
    Ok(())
}

/// A uniform number below `limit`, at most 256. The result decides only public places, so its time may vary.
fn below(limit: usize, entropy: &dyn Entropy) -> Result<usize, CryptoError> {
    let fair = 256 - 256 % limit.max(1);
    // Each round fails with less than one half; 256 failures in a row are a broken source, not bad luck.
    for _ in 0..256 {
        let mut byte = [0];
        entropy.fill(&mut byte)?;
        let [byte] = byte;
        if usize::from(byte) < fair {
            return Ok(usize::from(byte) % limit.max(1));
        }
    }
    Err(CryptoError)
}

/// Horner's scheme, from the top coefficients down to the secret.
fn point_at(x: u8, secret: &[u8; SECRET], coefficients: &[u8]) -> Point {
    let mut y = Zeroizing::new([0; SECRET]);
    for row in coefficients.chunks(SECRET).rev().chain([&secret[..]]) {
        for (sum, coefficient) in y.iter_mut().zip(row) {
            *sum = mul(*sum, x) ^ coefficient;
        }
    }
    Point { x, y }
}

/// Multiplies with eight masked steps, whatever the operands; `black_box` keeps the masks from becoming branches.
fn mul(mut a: u8, mut b: u8) -> u8 {
    let mut product = 0;
    for _ in 0..8 {
        product ^= a & black_box((b & 1).wrapping_neg());
        a = (a << 1) ^ (0x1b & black_box((a >> 7).wrapping_neg()));
        b >>= 1;
    }
    product
}

/// `a^254`, which is `1/a`, and 0 for 0.
fn invert(a: u8) -> u8 {
    let mut power = a;
    for _ in 0..6 {
        power = mul(mul(power, power), a);
    }
    mul(power, power)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::crypto::SystemEntropy;

    #[test]
    fn the_field_is_that_of_aes() {
        assert_eq!(mul(0x57, 0x83), 0xc1, "FIPS 197, 4.2");
        assert_eq!(invert(0), 0);
        for a in 1..=u8::MAX {
            assert_eq!(mul(a, invert(a)), 1);
        }
    }

    fn subsets(n: usize, k: usize) -> Vec<Vec<usize>> {
        (0..1_u32 << n)
            .filter(|bits| bits.count_ones() as usize == k)
            .map(|bits| (0..n).filter(|i| bits >> i & 1 == 1).collect())
            .collect()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]
        #[test]
        fn every_three_of_five(secret: [u8; SECRET]) {
            let points = split(&secret, 5, 3, &SystemEntropy).unwrap();
            for subset in subsets(5, 3) {
                let chosen: Vec<_> = subset.iter().map(|i| &points[*i]).collect();
                prop_assert_eq!(*combine(&chosen), secret);
            }
            for subset in subsets(5, 2) {
                let chosen: Vec<_> = subset.iter().map(|i| &points[*i]).collect();
                prop_assert_ne!(*combine(&chosen), secret);
            }
        }

        #[test]
        fn ten_of_up_to_255(secret: [u8; SECRET], shares in 10..=u8::MAX) {
            let mut points = split(&secret, shares, 10, &SystemEntropy).unwrap();
            let places: std::collections::BTreeSet<u8> = points.iter().map(|p| p.x).collect();
            prop_assert_eq!(places.len(), usize::from(shares));
            prop_assert!(!places.contains(&0));
            shuffle(&mut points, &SystemEntropy).unwrap();
            prop_assert_eq!(*combine(&points.iter().take(10).collect::<Vec<_>>()), secret);
        }
    }

    #[test]
    fn all_of_255_places() {
        let secret = [7; SECRET];
        let points = split(&secret, 255, 2, &SystemEntropy).unwrap();
        for pair in points.windows(2) {
            assert_eq!(*combine(&pair.iter().collect::<Vec<_>>()), secret);
        }
    }

    /// 255 degrees of freedom: 330 is the 0.1 % point, 400 has a chance below one in ten million, so that a fair source
    /// does not make a red test.
    fn assert_uniform(counts: &[u32; 256]) {
        let expected = f64::from(counts.iter().sum::<u32>()) / 256.0;
        let chi2: f64 = counts.iter().map(|n| (f64::from(*n) - expected).powi(2) / expected).sum();
        assert!(chi2 < 400.0, "chi-squared {chi2}");
    }

    /// With a known secret and threshold 2 a point gives the top coefficient away: it must be uniform, 0 included.
    #[test]
    fn coefficients_are_uniform_and_one_share_tells_nothing() {
        let (mut tops, mut values) = ([0; 256], [0; 256]);
        for _ in 0..4000 {
            for point in split(&[0xa5; SECRET], 2, 2, &SystemEntropy).unwrap().iter().take(1) {
                for y in point.y.iter() {
                    tops[usize::from(mul(y ^ 0xa5, invert(point.x)))] += 1;
                    values[usize::from(*y)] += 1;
                }
            }
        }
        assert!(tops[0] > 0);
        assert_uniform(&tops);
        assert_uniform(&values);
    }

    #[test]
    fn two_of_three_needed_tell_nothing() {
        let mut guesses = [0; 256];
        for _ in 0..4000 {
            let points = split(&[0xa5; SECRET], 3, 3, &SystemEntropy).unwrap();
            for byte in combine(&points.iter().take(2).collect::<Vec<_>>()).iter() {
                guesses[usize::from(*byte)] += 1;
            }
        }
        assert_uniform(&guesses);
    }
}
