//! Revocation: a certificate is written down as revoked, and the next list has it.

use data_encoding::HEXLOWER;
use prost::Message;

use super::{
    Pki,
    error::Error,
    issue::Leased,
    records::{CrlState, Issuer, Kept, RevokedRecord},
};
use crate::{
    barrier::BarrierError,
    model::{Invalid, Path, RequestId, SecretBytes, Timestamp},
};

/// Most certificates that are revoked and not expired: a list of so many, each with a reason, is as long as an answer may be.
pub(super) const MOST: u64 = 75_000;
/// Reasons that people may give, with their numbers (RFC 5280, section 5.3.1).
const REASONS: [(&str, u32); 5] = [
    ("unspecified", 0),
    ("keyCompromise", 1),
    ("affiliationChanged", 3),
    ("superseded", 4),
    ("cessationOfOperation", 5),
];
/// Whose pod or session is over.
const CESSATION: u32 = 5;
/// How often a revocation that lost to another server's is made again.
const ATTEMPTS: usize = 16;
/// The longest serial that we read: section 4.1.2.2, and what some make of it.
const SERIAL_BYTES: usize = 21;

/// Which certificate.
pub(super) enum Which {
    Serial(Vec<u8>),
    Certificate(String),
}

pub(super) fn serial(text: &str) -> Result<Vec<u8>, Invalid> {
    let plain: String = text.chars().filter(|c| *c != ':').map(|c| c.to_ascii_lowercase()).collect();
    let read = HEXLOWER.decode(plain.as_bytes()).ok();
    let read = read.map(|bytes| bytes.into_iter().skip_while(|byte| *byte == 0).collect::<Vec<u8>>());
    let good = read.filter(|bytes| (1..=SERIAL_BYTES).contains(&bytes.len()));
    good.ok_or_else(|| Invalid::new("serial", "is no serial; expected hex digits"))
}

pub(super) fn reason(text: &str) -> Result<u32, Invalid> {
    let text = if text.is_empty() { "unspecified" } else { text };
    let found = REASONS.iter().find(|(known, _)| *known == text).map(|(_, number)| *number);
    let expected = REASONS.map(|(name, _)| name).join(", ");
    found.ok_or_else(|| Invalid::new("reason", format!("is {text:?}; expected one of {expected}")))
}

impl Pki {
    /// Revokes one of the issuer at `path`. Returns its serial, and since when it is revoked.
    pub(super) async fn revoke_one(
        &self,
        path: &Path,
        which: Which,
        reason: u32,
        (by, now): (RequestId, Timestamp),
    ) -> Result<(String, i64), Error> {
        let issuer = self.authority(path).await?;
        let (serial, not_after) = match which {
            // Whatever it is, it ends with its issuer.
            Which::Serial(serial) => (serial, issuer.not_after),
            Which::Certificate(pem) => issuer.recognises(&pem)?,
        };
        let record = RevokedRecord {
            serial,
            at_ms: now.as_millis(),
            not_after_ms: not_after.as_millis(),
            reason,
            since: 0,
        };
        self.write_down(&issuer.id, record, Some(by)).await
    }

    /// Revokes what a lease was for. What has expired needs no revocation.
    pub(super) async fn revoke_leased(&self, data: &SecretBytes, now: Timestamp) -> Result<(), Error> {
        let corrupt = |_| BarrierError::Corrupt { kind: Issuer::KIND, namespace: "pki".to_owned() };
        let leased = Leased::decode(data.expose()).map_err(corrupt)?;
        if now.as_millis() >= leased.not_after_ms {
            return Ok(());
        }
        let record = RevokedRecord {
            serial: leased.serial,
            at_ms: now.as_millis(),
            not_after_ms: leased.not_after_ms,
            reason: CESSATION,
            since: 0,
        };
        self.write_down(&leased.issuer, record, None).await.map(drop)
    }

    async fn write_down(
        &self,
        issuer: &str,
        mut record: RevokedRecord,
        by: Option<RequestId>,
    ) -> Result<(String, i64), Error> {
        let _alone = self.revoking.lock().await;
        let name = HEXLOWER.encode(&record.serial);
        for _ in 0..ATTEMPTS {
            if let Some(before) = self.records.revoked(issuer, &name).await? {
                return Ok((name, before.at_ms));
            }
            let found = self.records.crl(issuer).await?;
            let (mut state, was) =
                found.map_or((CrlState::default(), None), |(state, was)| (state, Some(was)));
            if state.count >= MOST {
                return Err(Error::Full(MOST));
            }
            record.since = state.number + 1;
            (state.count, state.changed) = (state.count + 1, true);
            match self.records.put_crl(issuer, &state, was, Some((&name, &record)), by).await {
                Err(Error::Barrier(BarrierError::Conflict)) => tokio::task::yield_now().await,
                other => return other.map(|_| (name, record.at_ms)),
            }
        }
        Err(BarrierError::Conflict.into())
    }
}
