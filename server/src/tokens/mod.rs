//! Session tokens: sealed, so that login and verification write nothing to the store, with a durable set of revocations
//! beside them. Knows nothing of how somebody proved who they are, nor of what they may do.

mod claims;
mod revocations;
mod wire;

use std::{sync::Arc, time::Duration};

pub use claims::Session;
pub use revocations::{MAX_REVOCATIONS, Revocations, RevokeError, Which};
pub use wire::{MAX_TOKEN_BYTES, PREFIX};

use crate::{
    auth::{Login, MAX_LIFETIME},
    crypto::{CryptoError, Entropy, Key},
    model::{SecretBytes, SessionId, StoreId, Timestamp},
};
use wire::{TokenKey, Unreadable};

/// How far in the future a session may have been issued: the clock may be set back by a little between two requests.
const CLOCK_STEP: Duration = Duration::from_secs(5);

/// Mints and opens the tokens of one store. Exists only while the store is unsealed.
///
/// Opening costs two HKDF expansions and one AES-GCM, which is less than a cache with its expiry and its own bounds
/// would be worth, so there is none.
pub struct Tokens {
    key: TokenKey,
    revocations: Arc<Revocations>,
    entropy: Arc<dyn Entropy>,
}

/// Why a token is not good (for this).
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// Starts like a token, but its checksum is wrong.
    #[error("the token was damaged on its way (mistyped or cut); copy it again")]
    Mistyped,
    /// Not made by this store, or changed.
    #[error("not a token of this server")]
    Invalid,
    /// Issued in the future: the server's clock was set back.
    #[error("the token is not valid before {issued}; the server's clock was set back")]
    NotYet {
        /// From then on.
        issued: Timestamp,
    },
    /// Its time is over.
    #[error("the session expired at {at}; log in again")]
    Expired {
        /// Since then.
        at: Timestamp,
    },
    /// Revoked by somebody.
    #[error("the session was revoked; log in again")]
    Revoked,
    /// Renewed as far as it can be, or not renewable at all.
    #[error("the session cannot be renewed past {max_expires}; log in again then")]
    NotRenewable {
        /// Its end.
        max_expires: Timestamp,
    },
}

/// Why no token was made.
#[derive(Debug, thiserror::Error)]
pub enum MintError {
    /// The principal does not fit into a token: too many groups.
    #[error("the principal is too large for a token of {MAX_TOKEN_BYTES} bytes; too many groups?")]
    TooLarge,
    /// No more life in the session.
    #[error(transparent)]
    Token(#[from] TokenError),
    /// No randomness.
    #[error(transparent)]
    Crypto(#[from] CryptoError),
}

impl Tokens {
    /// With the keyring's key for tokens.
    ///
    /// # Errors
    /// Never in practice.
    pub fn new(
        token_key: Key,
        store: StoreId,
        revocations: Arc<Revocations>,
        entropy: Arc<dyn Entropy>,
    ) -> Result<Self, CryptoError> {
        Ok(Self { key: TokenKey::new(token_key, store)?, revocations, entropy })
    }

    /// What is revoked.
    pub fn revocations(&self) -> &Arc<Revocations> {
        &self.revocations
    }

    /// A token for a login that began at `began`, that is before its credential was judged: only so a revocation that
    /// follows a change of the credential catches logins that were judged by the old one.
    ///
    /// # Errors
    /// Too many groups, or no randomness.
    pub fn mint(&self, login: &Login, began: Timestamp) -> Result<(SecretBytes, Session), MintError> {
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
        let claims = self.key.open(bearer).map_err(|unreadable| match unreadable {
            Unreadable::Mistyped => TokenError::Mistyped,
            Unreadable::Foreign => TokenError::Invalid,
        })?;
        let session = Session::decode(claims.expose()).ok_or(TokenError::Invalid)?;
        self.check(&session, now)?;
        Ok(Arc::new(session))
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
    pub fn renew(&self, session: &Session, now: Timestamp) -> Result<(SecretBytes, Session), MintError> {
        self.check(session, now)?;
        if session.expires >= session.max_expires {
            return Err(TokenError::NotRenewable { max_expires: session.max_expires }.into());
        }
        let expires = now.plus(session.ttl).clamp(session.expires, session.max_expires);
        let session = Session { expires, ..session.clone() };
        Ok((self.seal(&session)?, session))
    }

    fn seal(&self, session: &Session) -> Result<SecretBytes, MintError> {
        let token = self.key.seal(&session.encode(), &*self.entropy)?;
        if token.len() > MAX_TOKEN_BYTES {
            return Err(MintError::TooLarge);
        }
        Ok(token)
    }
}
