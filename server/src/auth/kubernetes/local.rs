//! Local mode: a token is judged by the cluster's public keys, without asking anybody. That its pod or account was deleted
//! since cannot be seen in it, so this mode is only good together with the watch (`presence.rs`).
//!
//! Claims that speak against a token are looked at first, because the refusal may say so (see `refusal.rs`) and because a
//! token of somebody else is no reason to fetch keys. Nothing it claims *for* itself is used before its signature is
//! verified, by the key of its id, with the algorithm of the key (RFC 8725, 3.1).

use std::sync::Arc;

use super::{
    api::Api,
    claims::Jwt,
    identity::Identity,
    keys::Keys,
    refusal::{Expected, Refusal},
    review::Judged,
};
use crate::{clock::Clock, model::Timestamp};

/// Judges tokens by keys.
pub(super) struct Verifier {
    keys: Keys,
    expected: Expected,
}

impl Verifier {
    pub(super) fn new(api: Arc<dyn Api>, expected: Expected, clock: Arc<dyn Clock>, cluster: &str) -> Self {
        Self { keys: Keys::new(api, clock, cluster), expected }
    }

    /// Finds out whose token it is.
    pub(super) async fn judge(&self, token: &str, now: Timestamp) -> Result<Identity, Judged> {
        let jwt = Jwt::parse(token).ok_or(Refusal::Token)?;
        self.expected.check(&jwt.claims, now)?;
        let key = self.keys.get(&jwt.header.kid).await?.ok_or(Refusal::Token)?;
        // The header must agree with the key; it has no say.
        if jwt.header.alg != key.alg {
            return Err(Refusal::Token.into());
        }
        key.key.verify(jwt.message, &jwt.signature).map_err(|_| Refusal::Token)?;
        Ok(jwt.claims.identity().ok_or(Refusal::Token)?)
    }

    /// Fetches keys now and then, for as long as it is polled.
    pub(super) async fn keep_fresh(&self) {
        self.keys.keep_fresh().await;
    }
}
