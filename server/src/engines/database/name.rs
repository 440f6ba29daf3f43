//! What users are called: `sr_ROLE_WHO_TIME_RANDOM`, so that whoever looks at the sessions of a database sees who it is.

use super::sql::NAME_BYTES;
use crate::{
    crypto::{CryptoError, Entropy},
    model::{Path, Principal, Timestamp},
};

const PREFIX: &str = "sr_";
/// Of the role's name, so that room is left for who it is.
const ROLE: usize = 12;
/// 56 bits: two users of the same second are not called the same.
const RANDOM: usize = 11;
/// No capitals: whoever types the name does not have to quote it.
const LETTERS: &[u8; 32] = b"abcdefghijkmnpqrstuvwxyz23456789";

/// A name for a user of the role at `path`, made for `who`.
pub(super) fn made(
    path: &Path,
    who: &Principal,
    now: Timestamp,
    entropy: &dyn Entropy,
) -> Result<String, CryptoError> {
    let mut random = [0; RANDOM];
    entropy.fill(&mut random)?;
    let random = random.iter().filter_map(|byte| LETTERS.get(usize::from(*byte) % LETTERS.len()));
    let random: String = random.map(|letter| char::from(*letter)).collect();
    let seconds: String = now.to_string().chars().filter(char::is_ascii_digit).skip(2).take(12).collect();
    let end = format!("_{seconds}_{random}");

    let role: String = plain(path.within_mount()).chars().take(ROLE).collect();
    let room = NAME_BYTES.saturating_sub(PREFIX.len() + role.len() + 1 + end.len());
    let who = match who {
        Principal::Root => "root".to_owned(),
        Principal::User { name, .. } => plain(name).chars().take(room).collect(),
        Principal::ServiceAccount { namespace, name, pod, .. } => {
            // Pods of one deployment begin alike: what tells them apart is at the end.
            let pod = plain(pod.as_ref().map_or(name, |pod| &pod.name));
            let namespace: String = plain(namespace).chars().take(room / 2).collect();
            let end = pod.len().saturating_sub(room.saturating_sub(namespace.len() + 1));
            format!("{namespace}_{}", pod.get(end..).unwrap_or_default())
        }
    };
    Ok(format!("{PREFIX}{role}_{who}{end}"))
}

/// Only what needs no quotes.
fn plain(text: &str) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '_' };
    text.chars().map(plain).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{crypto::SystemEntropy, model::Pod};

    fn of(path: &str, who: &Principal) -> String {
        let now = Timestamp::parse_rfc3339("2026-11-26T21:19:03.5Z").unwrap();
        made(&Path::parse(path).unwrap(), who, now, &SystemEntropy).unwrap()
    }

    fn pod(namespace: &str, pod: &str) -> Principal {
        Principal::ServiceAccount {
            cluster: "main".into(),
            namespace: namespace.into(),
            name: "web".into(),
            uid: "1".into(),
            pod: Some(Pod { name: pod.into(), uid: "2".into(), node: None }),
        }
    }

    #[test]
    fn tell_who() {
        let name = of("db/reporting", &Principal::named("userpass/alice", &[]).unwrap());
        assert!(name.starts_with("sr_reporting_alice_261126211903_") && name.len() <= 63, "{name}");
        let name = of("db/read/Only", &Principal::Root);
        assert!(name.starts_with("sr_read_only_root_261126211903_"), "{name}");
        let name = of("db/r", &pod("shop", "web-7d4b9c-x2x4z"));
        assert!(name.starts_with("sr_r_shop_web_7d4b9c_x2x4z_261126211903_"), "{name}");
    }

    #[test]
    fn have_at_most_63_bytes_and_need_no_quotes() {
        let path = format!("db/{}", "Long.Name~:+=@/".repeat(8).trim_end_matches('/'));
        for who in [
            pod(&"n".repeat(63), &"p".repeat(250)),
            Principal::named(&format!("userpass/{}", "é".repeat(60)), &[]).unwrap(),
        ] {
            let (one, other) = (of(&path, &who), of(&path, &who));
            assert_ne!(one, other);
            assert_eq!(one.len(), 63, "{one}");
            assert!(one.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_'), "{one}");
        }
        assert!(of("db/r", &pod("shop", &"p-".repeat(100))).len() <= 63);
    }
}
