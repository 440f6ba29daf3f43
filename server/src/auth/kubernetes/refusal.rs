//! Why a service-account token is not accepted, and how much of that is told.
//!
//! The owner of a pod has to be helped, an attacker must not be. So a hint is made only of what whoever sent the token can
//! read in it anyway, compared with what is no secret (audience and issuer stand in every pod's manifest and at the
//! cluster's public discovery address), and never of what the cluster knows: whether such a pod or account exists, which
//! keys there are, why an API server said no. Whether a signature was good is not told either: the hint comes from the
//! claims, whoever signed them. Only who has proved to be the pod is told that the pod is gone.

use super::claims::Claims;
use crate::model::Timestamp;

/// Seconds by which the clocks of the cluster and of this server may differ.
pub(super) const LEEWAY_SECONDS: i64 = 30;

/// See the module.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Refusal {
    /// Nothing that can be told.
    #[error("the token was not accepted")]
    Token,
    /// By its own claims it is somebody else's token.
    #[error("the token was not accepted: its issuer is not this cluster's; check the cluster's name")]
    Issuer,
    /// By its own claims it is for somebody else.
    #[error(
        "the token was not accepted: it is for another audience; request one for the audience {expected:?}"
    )]
    Audience { expected: Box<str> },
    /// By its own claims its time is over.
    #[error("the token was not accepted: it has expired; the kubelet renews its file, read it again")]
    Expired,
    /// By its own claims its time has not come.
    #[error(
        "the token was not accepted: it is not valid yet; compare the clocks of the cluster and of this server"
    )]
    NotYet,
    /// Proved, but gone.
    #[error("the pod of this token is gone")]
    PodGone,
    /// Proved, but gone.
    #[error("the service account of this token was deleted, or deleted and created again")]
    AccountGone,
}

/// What a token must say, as far as anybody may know.
#[derive(Clone, Debug)]
pub(super) struct Expected {
    pub(super) audience: Box<str>,
    pub(super) issuer: Option<Box<str>>,
}

impl Refusal {
    /// For the audit log and for metrics.
    pub(super) const fn as_str(&self) -> &'static str {
        match self {
            Self::Token => "token",
            Self::Issuer => "issuer",
            Self::Audience { .. } => "audience",
            Self::Expired => "expired",
            Self::NotYet => "not_yet",
            Self::PodGone => "pod_gone",
            Self::AccountGone => "account_gone",
        }
    }
}

impl Expected {
    /// Whether these claims are for us and of now.
    pub(super) fn check(&self, claims: &Claims, now: Timestamp) -> Result<(), Refusal> {
        let seconds = now.as_millis().div_euclid(1000);
        if self.issuer.as_ref().is_some_and(|issuer| **issuer != *claims.iss) {
            return Err(Refusal::Issuer);
        }
        if !claims.aud.contain(&self.audience) {
            return Err(Refusal::Audience { expected: self.audience.clone() });
        }
        if seconds >= claims.exp.saturating_add(LEEWAY_SECONDS) {
            return Err(Refusal::Expired);
        }
        let latest = seconds.saturating_add(LEEWAY_SECONDS);
        if claims.nbf > latest || claims.iat > latest {
            return Err(Refusal::NotYet);
        }
        // A token that ends before it begins was made by nobody.
        if claims.exp <= claims.iat || claims.exp <= claims.nbf {
            return Err(Refusal::Token);
        }
        Ok(())
    }
}
