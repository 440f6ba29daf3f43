//! Session tokens: sealed, so that login and verification write nothing to the store, with a durable set of revocations
//! beside them. Knows nothing of how somebody proved who they are, nor of what they may do.

mod claims;
mod opened;
mod revocations;
mod revoked;
mod which;
mod wire;

use std::{sync::Arc, time::Duration};

pub use claims::Session;
#[cfg(test)]
pub(crate) use claims::tests::session as session_of;
pub use revocations::{Ending, MAX_REVOCATIONS, Revocations, RevokeError};
pub use which::Which;
pub use wire::{MAX_TOKEN_BYTES, PREFIX};

use crate::{
    auth::{Login, MAX_LIFETIME},
    barrier::SealedChanges,
    crypto::{CryptoError, Entropy, Key},
    model::{RequestId, SecretBytes, SessionId, StoreId, Timestamp},
};
use opened::Opened;
use wire::{TokenKey, Unreadable};

/// How far in the future a session may have been issued: the clock may be set back by a little between two requests.
const CLOCK_STEP: Duration = Duration::from_secs(5);

/// Mints and opens the tokens of one store. Exists only while the store is unsealed.
pub struct Tokens {
    key: TokenKey,
    opened: Opened,
    revocations: Revocations,
    entropy: Arc<dyn Entropy>,
}

/// Why a token is not good, or cannot be made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// Starts like a token, but its checksum is wrong.
    #[error("the token was damaged in transit (mistyped or truncated); copy it again")]
    Mistyped,
    /// It was not made by this store, or was changed.
    #[error("the token was not issued by this server")]
    Invalid,
    /// Issued in the future: the server's clock was set back.
    #[error("the token is not valid before {issued}; the server's clock was set back")]
    NotYet { issued: Timestamp },
    /// Its time is over.
    #[error("the session expired at {at}; log in again")]
    Expired { at: Timestamp },
    /// Revoked by somebody.
    #[error("the session was revoked; log in again")]
    Revoked,
    /// Renewed as far as it can be, or not renewable at all.
    #[error("the session cannot be renewed past {max_expires}; log in again then")]
    NotRenewable { max_expires: Timestamp },
    /// The principal does not fit into one.
    #[error("the principal is too large for a token of {MAX_TOKEN_BYTES} bytes; it may have too many groups")]
    TooLarge,
    #[error(transparent)]
    Crypto(#[from] CryptoError),
}

impl Tokens {
    /// With the keyring's key for tokens.
    pub fn new(token_key: Key, store: StoreId, revocations: Revocations, entropy: Arc<dyn Entropy>) -> Self {
        Self { key: TokenKey::new(token_key, store), opened: Opened::default(), revocations, entropy }
    }

    /// Revokes, durably first. `now` is taken after the change that this follows is durable.
    ///
    /// # Errors
    /// Nothing is revoked until this has returned `Ok`.
    pub async fn revoke(
        &self,
        which: Which,
        now: Timestamp,
        by: Option<RequestId>,
    ) -> Result<(), RevokeError> {
        self.revocations.revoke(which, now, by).await
    }

    /// Revokes one session that is at hand, as a logout does: it is remembered only as long as that one could live.
    ///
    /// # Errors
    /// As [`Tokens::revoke`].
    pub async fn end(
        &self,
        session: &Session,
        now: Timestamp,
        by: Option<RequestId>,
    ) -> Result<(), RevokeError> {
        self.revocations.end(session, now, by).await
    }

    /// The end of sessions, for the batch of a change that it has to come true with.
    ///
    /// # Errors
    /// As [`Revocations::ending`].
    pub async fn ending(&self, which: Which, now: Timestamp) -> Result<(SealedChanges, Ending), RevokeError> {
        self.revocations.ending(which, now).await
    }

    /// What is revoked; to prune now and then, and to count.
    pub fn revocations(&self) -> &Revocations {
        &self.revocations
    }

    /// The root token of init.
    ///
    /// # Errors
    /// No randomness.
    pub fn mint_root(&self, now: Timestamp) -> Result<(SecretBytes, Session), TokenError> {
        self.mint(&Login::root(), now)
    }

    /// A token for a login that began at `began`, that is before its credential was judged: only so a revocation that
    /// follows a change of the credential catches logins that were judged by the old one.
    ///
    /// # Errors
    /// Too many groups, or no randomness.
    pub fn mint(&self, login: &Login, began: Timestamp) -> Result<(SecretBytes, Session), TokenError> {
        let mut id = SessionId([0; 16]);
        self.entropy.fill(&mut id.0)?;
        let longest = if login.renewable { login.max_ttl } else { login.ttl.min(login.max_ttl) };
        let max_expires = began.plus(longest.min(MAX_LIFETIME));
        let session = Session {
            id,
            principal: Arc::new(login.principal.clone()),
            issued: began,
            expires: began.plus(login.ttl).min(max_expires),
            max_expires,
            ttl: login.ttl,
        };
        Ok((self.seal(&session)?, session))
    }

    /// The session behind a bearer token, if it is good at `now`.
    ///
    /// # Errors
    /// Says why it is not.
    pub fn open(&self, bearer: &str, now: Timestamp) -> Result<Arc<Session>, TokenError> {
        if let Some(session) = self.opened.find(bearer) {
            return match self.check(&session, now) {
                Ok(()) => Ok(session),
                Err(error) => {
                    self.opened.forget(bearer);
                    Err(error)
                }
            };
        }
        let session = Arc::new(self.decrypt(bearer)?);
        self.check(&session, now)?;
        self.opened.remember(bearer, &session);
        Ok(session)
    }

    fn decrypt(&self, bearer: &str) -> Result<Session, TokenError> {
        let claims = self.key.open(bearer).map_err(|unreadable| match unreadable {
            Unreadable::Mistyped => TokenError::Mistyped,
            Unreadable::Foreign => TokenError::Invalid,
        })?;
        Session::decode(claims.expose()).ok_or(TokenError::Invalid)
    }

    /// Whether a session that was opened before is still good: for streams, which outlive the check at their start.
    ///
    /// # Errors
    /// Says why it is not.
    pub fn check(&self, session: &Session, now: Timestamp) -> Result<(), TokenError> {
        // The second bound holds whatever a token says, because revocations are forgotten by it.
        let end = session.expires.min(session.issued.plus(MAX_LIFETIME));
        if now >= end {
            return Err(TokenError::Expired { at: end });
        }
        if session.issued > now.plus(CLOCK_STEP) {
            return Err(TokenError::NotYet { issued: session.issued });
        }
        if self.revocations.covers(session) {
            return Err(TokenError::Revoked);
        }
        Ok(())
    }

    /// A new token for the same session, good for its `ttl` from `now` on but never past its maximum. The old token
    /// stays good for its own time.
    ///
    /// # Errors
    /// The session is not good any more, or is at its maximum.
    pub fn renew(&self, session: &Session, now: Timestamp) -> Result<(SecretBytes, Session), TokenError> {
        let session = self.prolong(session, now)?;
        Ok((self.seal(&session)?, session))
    }

    /// The same without a token: for a stream, which shows none after its beginning.
    ///
    /// # Errors
    /// Those of [`renew`](Self::renew).
    pub fn prolong(&self, session: &Session, now: Timestamp) -> Result<Session, TokenError> {
        self.check(session, now)?;
        if session.expires >= session.max_expires {
            return Err(TokenError::NotRenewable { max_expires: session.max_expires });
        }
        let expires = now.plus(session.ttl).clamp(session.expires, session.max_expires);
        Ok(Session { expires, ..session.clone() })
    }

    fn seal(&self, session: &Session) -> Result<SecretBytes, TokenError> {
        let token = self.key.seal(&session.encode(), &*self.entropy)?;
        if token.len() > MAX_TOKEN_BYTES {
            return Err(TokenError::TooLarge);
        }
        Ok(token)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde::Deserialize;

    use super::*;
    use crate::{
        auth::{MAX_LIFETIME, conformance::view},
        clock::Steady,
        crypto::SystemEntropy,
        model::{Group, Pod, Principal},
    };

    const NOW: Timestamp = Timestamp::from_millis(10_000_000);
    const SECOND: Duration = Duration::from_secs(1);

    struct FixedEntropy(u8);

    impl Entropy for FixedEntropy {
        fn fill(&self, bytes: &mut [u8]) -> Result<(), CryptoError> {
            bytes.fill(self.0);
            Ok(())
        }
    }

    async fn tokens(key: u8, entropy: impl Entropy + 'static) -> Tokens {
        let revocations = Revocations::load(view("sys/tokens").await, Steady::default()).await.unwrap();
        Tokens::new(Key::from_bytes(&[key; 32]), StoreId([9; 16]), revocations, Arc::new(entropy))
    }

    fn user(groups: usize) -> Principal {
        let group = |n| Group { method: "userpass".into(), name: format!("{n:x<63}").into() };
        Principal::User {
            method: "userpass".into(),
            name: "x".repeat(64).into(),
            uid: "0123456789abcdef".into(),
            groups: (0..groups).map(group).collect(),
        }
    }

    fn pod() -> Principal {
        Principal::ServiceAccount {
            cluster: "main".into(),
            namespace: "payments".into(),
            name: "web".into(),
            uid: "6f1c1f0e-6d3c-4f0e-9b77-0d6b0ad3a001".into(),
            pod: Some(Pod {
                name: "web-7d4b9c".into(),
                uid: "6f1c1f0e-6d3c-4f0e-9b77-0d6b0ad3a002".into(),
                node: Some("node-1".into()),
            }),
        }
    }

    fn text(token: &SecretBytes) -> &str {
        token.expose_str().unwrap()
    }

    #[tokio::test]
    async fn what_was_minted_opens_until_it_expires() {
        let tokens = tokens(1, SystemEntropy).await;
        let (token, session) = tokens.mint(&Login::person(user(2)), NOW).unwrap();
        assert_eq!(*tokens.open(text(&token), NOW).unwrap(), session);
        let end = NOW.plus(Duration::from_secs(8 * 3600));
        assert_eq!(session.expires, end);
        assert!(tokens.open(text(&token), Timestamp::from_millis(end.as_millis() - 1)).is_ok());
        assert_eq!(tokens.open(text(&token), end), Err(TokenError::Expired { at: end }));
        let early = Timestamp::from_millis(NOW.as_millis() - 5_001);
        assert_eq!(tokens.open(text(&token), early), Err(TokenError::NotYet { issued: NOW }));
    }

    /// It is decrypted once; everything else about it is judged each time.
    #[tokio::test]
    async fn a_token_that_is_known_is_judged_like_any_other() {
        let tokens = tokens(1, SystemEntropy).await;
        let open = |token: &SecretBytes, now| tokens.open(text(token), now);
        let (token, session) = tokens.mint(&Login::person(user(0)), NOW).unwrap();
        let first = open(&token, NOW).unwrap();
        assert!(Arc::ptr_eq(&first, &open(&token, NOW).unwrap()), "decrypted again");
        assert_eq!(open(&token, session.expires), Err(TokenError::Expired { at: session.expires }));
        let early = Timestamp::from_millis(NOW.as_millis() - 5_001);
        for _ in 0..2 {
            open(&token, NOW).unwrap();
            assert_eq!(open(&token, early), Err(TokenError::NotYet { issued: NOW }));
        }
        let changed = format!("{}0", text(&token));
        open(&token, NOW).unwrap();
        assert_eq!(tokens.open(&changed, NOW), Err(TokenError::Mistyped));
        tokens.revoke(Which::Session(session.id), NOW, None).await.unwrap();
        assert_eq!(open(&token, NOW), Err(TokenError::Revoked));
    }

    /// A seal drops the keys, and with them whatever they have opened.
    #[tokio::test]
    async fn what_was_opened_ends_with_the_keys() {
        let tokens = tokens(1, SystemEntropy).await;
        let (token, _) = tokens.mint_root(NOW).unwrap();
        let known = Arc::downgrade(&tokens.open(text(&token), NOW).unwrap());
        assert!(known.upgrade().is_some());
        drop(tokens);
        assert!(known.upgrade().is_none());
    }

    #[tokio::test]
    async fn damage_forgery_and_revocation_are_told_apart() {
        let tokens = tokens(1, SystemEntropy).await;
        let (token, session) = tokens.mint(&Login::person(user(0)), NOW).unwrap();
        let cut = text(&token).len() - 1;
        assert_eq!(tokens.open(&text(&token)[..cut], NOW), Err(TokenError::Mistyped));
        assert_eq!(self::tokens(2, SystemEntropy).await.open(text(&token), NOW), Err(TokenError::Invalid));
        assert_eq!(tokens.open("", NOW), Err(TokenError::Invalid));
        tokens.revoke(Which::Session(session.id), NOW, None).await.unwrap();
        assert_eq!(tokens.open(text(&token), NOW), Err(TokenError::Revoked));
        assert_eq!(tokens.renew(&session, NOW).err(), Some(TokenError::Revoked));
    }

    #[tokio::test]
    async fn the_root_token_lives_an_hour_and_no_longer() {
        let tokens = tokens(1, SystemEntropy).await;
        let (token, session) = tokens.mint_root(NOW).unwrap();
        assert_eq!(session.max_expires, NOW.plus(Duration::from_secs(3600)));
        let refused = tokens.renew(&session, NOW.plus(SECOND)).err();
        assert_eq!(refused, Some(TokenError::NotRenewable { max_expires: session.max_expires }));
        assert!(tokens.open(text(&token), NOW.plus(SECOND)).is_ok());
    }

    #[tokio::test]
    async fn a_renewed_session_is_the_same_one() {
        let tokens = tokens(1, SystemEntropy).await;
        let (old, session) = tokens.mint(&Login::person(user(0)), NOW).unwrap();
        let later = NOW.plus(SECOND * 60);
        let (new, renewed) = tokens.renew(&session, later).unwrap();
        assert_eq!(renewed, Session { expires: later.plus(session.ttl), ..session.clone() });
        tokens.revoke(Which::Session(session.id), later, None).await.unwrap();
        for token in [old, new] {
            assert_eq!(tokens.open(text(&token), later), Err(TokenError::Revoked));
        }
    }

    /// A login that was judged before a revocation is caught by it, although its token was made afterwards.
    #[tokio::test]
    async fn a_slow_login_does_not_outrun_a_revocation() {
        let tokens = tokens(1, SystemEntropy).await;
        let (began, revoked) = (NOW, NOW.plus(SECOND));
        let which = Which::principal(&user(0).to_string()).unwrap();
        tokens.revoke(which, revoked, None).await.unwrap();
        let (token, _) = tokens.mint(&Login::person(user(0)), began).unwrap();
        assert_eq!(tokens.open(text(&token), revoked.plus(SECOND)), Err(TokenError::Revoked));
    }

    #[tokio::test]
    async fn the_largest_principals_fit() {
        let tokens = tokens(1, SystemEntropy).await;
        let (token, _) = tokens.mint(&Login::person(user(32)), NOW).unwrap();
        assert!(tokens.open(text(&token), NOW).is_ok());
        let long = |length| Box::<str>::from("x".repeat(length));
        let pod = Pod { name: long(253), uid: long(36), node: Some(long(253)) };
        let (cluster, namespace, name, uid) = (long(63), long(63), long(253), long(36));
        let account = Principal::ServiceAccount { cluster, namespace, name, uid, pod: Some(pod) };
        assert!(tokens.mint(&Login::person(account), NOW).is_ok());
        assert_eq!(tokens.mint(&Login::person(user(64)), NOW).err(), Some(TokenError::TooLarge));
    }

    proptest! {
        /// Whatever a method asks for and however it is renewed: never past the maximum, and no renewal shortens.
        #[test]
        fn no_renewal_goes_past_the_maximum(
            ttl in 0..200_000u64, max_ttl in 0..200_000u64, renewable: bool,
            waits in prop::collection::vec(0..40_000u64, 0..20),
        ) {
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            let tokens = runtime.block_on(tokens(1, SystemEntropy));
            let (ttl, max_ttl) = (Duration::from_secs(ttl), Duration::from_secs(max_ttl));
            let (_, mut session) = tokens.mint(&Login { principal: pod(), ttl, max_ttl, renewable }, NOW).unwrap();
            let end = NOW.plus(max_ttl.min(MAX_LIFETIME));
            prop_assert!(session.expires <= NOW.plus(ttl).min(end));
            let mut now = NOW;
            for wait in waits {
                now = now.plus(Duration::from_secs(wait));
                if let Ok((token, renewed)) = tokens.renew(&session, now) {
                    prop_assert!(renewable);
                    prop_assert!(session.expires <= renewed.expires && renewed.expires <= end);
                    prop_assert_eq!((renewed.id, renewed.issued), (session.id, session.issued));
                    prop_assert!(now >= renewed.expires || tokens.open(text(&token), now).is_ok());
                    session = renewed;
                }
            }
            prop_assert!(tokens.check(&session, end).is_err());
        }
    }

    /// Even a sealed claim of a longer life is not believed: revocations are forgotten after the maximum.
    #[tokio::test]
    async fn nothing_outlives_the_maximum() {
        let tokens = tokens(1, SystemEntropy).await;
        let (_, session) = tokens.mint(&Login::person(user(0)), NOW).unwrap();
        let far = NOW.plus(MAX_LIFETIME * 10);
        let eternal = Session { expires: far, max_expires: far, ..session };
        let token = tokens.seal(&eternal).unwrap();
        let end = NOW.plus(MAX_LIFETIME);
        assert_eq!(tokens.open(text(&token), end), Err(TokenError::Expired { at: end }));
    }

    #[derive(Deserialize)]
    struct Vector {
        what: String,
        token_key: u8,
        entropy: u8,
        now_ms: i64,
        token: String,
    }

    /// Every later version must open these. `token_key` and `entropy` are one byte repeated, the store id is 9 repeated.
    #[tokio::test]
    async fn vectors() {
        let vectors: Vec<Vector> =
            serde_json::from_str(include_str!("../../../tests/vectors/token.json")).unwrap();
        let logins = [Login::root(), Login::person(user(2)), Login::person(pod())];
        assert_eq!(vectors.len(), logins.len());
        for (vector, login) in vectors.iter().zip(logins) {
            let tokens = tokens(vector.token_key, FixedEntropy(vector.entropy)).await;
            let (token, session) = tokens.mint(&login, Timestamp::from_millis(vector.now_ms)).unwrap();
            assert_eq!(text(&token), vector.token, "{}", vector.what);
            let opened = tokens.open(&vector.token, Timestamp::from_millis(vector.now_ms)).unwrap();
            assert_eq!(*opened, session, "{}", vector.what);
        }
    }
}
