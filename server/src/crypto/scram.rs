//! What a server keeps of a password to check SCRAM-SHA-256 logins (RFC 5802, RFC 7677), in the form that PostgreSQL takes
//! instead of a password: whoever reads it cannot log in with it.

use std::num::NonZeroU32;

use data_encoding::BASE64;
use ring::{digest, hmac, pbkdf2};
use zeroize::Zeroizing;

use super::{CryptoError, Entropy};

/// As many as PostgreSQL itself, and RFC 7677 asks at least for these. Passwords that are made here need none at all.
const ITERATIONS: NonZeroU32 = NonZeroU32::MIN.saturating_add(4095);

/// The verifier of a password of printable ASCII, which SASLprep leaves as it is.
///
/// # Errors
/// The system has no randomness to give.
pub fn scram_verifier(password: &[u8], entropy: &dyn Entropy) -> Result<String, CryptoError> {
    let mut salt = [0; 16];
    entropy.fill(&mut salt)?;
    Ok(verifier(password, &salt))
}

fn verifier(password: &[u8], salt: &[u8; 16]) -> String {
    let mut salted = Zeroizing::new([0; 32]);
    pbkdf2::derive(pbkdf2::PBKDF2_HMAC_SHA256, ITERATIONS, salt, password, &mut *salted);
    let key = hmac::Key::new(hmac::HMAC_SHA256, &*salted);
    let stored_key = digest::digest(&digest::SHA256, hmac::sign(&key, b"Client Key").as_ref());
    let server_key = hmac::sign(&key, b"Server Key");
    format!(
        "SCRAM-SHA-256${ITERATIONS}:{}${}:{}",
        BASE64.encode(salt),
        BASE64.encode(stored_key.as_ref()),
        BASE64.encode(server_key.as_ref())
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The exchange of RFC 7677, section 3: the verifier judges the client's proof, and makes the server's signature.
    #[test]
    fn rfc7677() {
        let decode = |text: &str| BASE64.decode(text.as_bytes()).unwrap();
        let salt = decode("W22ZaJ0SNY7soEsUEjb6gQ==").try_into().unwrap();
        let verifier = verifier(b"pencil", &salt);
        let keys = verifier.strip_prefix("SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ==$").unwrap();
        let (stored, server) = keys.split_once(':').unwrap();
        let message = b"n=user,r=rOprNGfwEbeRWgbNEkqO,\
            r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096,\
            c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0";
        let sign = |key: &str| hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &decode(key)), message);
        assert_eq!(BASE64.encode(sign(server).as_ref()), "6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=");
        let proof = decode("dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=");
        let client: Vec<u8> = proof.iter().zip(sign(stored).as_ref()).map(|(a, b)| a ^ b).collect();
        assert_eq!(digest::digest(&digest::SHA256, &client).as_ref(), decode(stored));
    }
}
