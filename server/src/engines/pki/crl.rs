//! Lists of what is revoked (RFC 5280, section 5): a full one, and one of what came since the last base. They are built when
//! something has changed or the last ones are half over, and answered from memory until then.

use std::sync::Arc;

use x509_cert::der::Encode;

use super::{
    Pki,
    authority::Authority,
    certificate::authority_key_id,
    der::{self, extension, integer, sequence, tagged},
    error::Error,
    records::{CrlState, RevokedRecord},
};
use crate::{
    crypto::CryptoError,
    model::{Path, Timestamp},
    storage::Revision,
};

const HOUR: i64 = 3600 * 1000;
/// How long a list is good: a weekend in which nobody can fetch one does not stop everything.
const GOOD_MS: i64 = 72 * HOUR;
/// From here on a list is made anew although nothing has changed.
const FRESH_MS: i64 = GOOD_MS / 2;
/// How long a full list is what deltas are based on: those who have one of today need no other one.
const BASE_MS: i64 = 24 * HOUR;

/// Both lists, in DER.
pub(super) struct Lists {
    pub(super) full: Vec<u8>,
    pub(super) delta: Vec<u8>,
    pub(super) number: u64,
    pub(super) this_update: Timestamp,
    pub(super) next_update: Timestamp,
}

impl Pki {
    /// The lists of an issuer as they are now.
    pub(super) async fn lists(&self, path: &Path, now: Timestamp) -> Result<Arc<Lists>, Error> {
        let issuer = self.authority(path).await?;
        let _alone = self.revoking.lock().await;
        let found = self.records.crl(&issuer.id).await?;
        if let Some((state, revision)) = &found {
            let known = self.known_lists(&issuer.id, *revision);
            let fresh = !state.changed && now.as_millis() < state.next_ms - GOOD_MS + FRESH_MS;
            if let Some(lists) = known.filter(|_| fresh) {
                return Ok(lists);
            }
        }
        self.build(&issuer, found, now).await
    }

    async fn build(
        &self,
        issuer: &Authority,
        found: Option<(CrlState, Revision)>,
        now: Timestamp,
    ) -> Result<Arc<Lists>, Error> {
        let (mut state, was) = found.map_or((CrlState::default(), None), |(state, was)| (state, Some(was)));
        // What has expired is left out once it was on a list that was made after its end (section 3.3).
        let last = state.built_at_ms;
        let revoked = self.records.all_revoked(&issuer.id, |revoked| revoked.not_after_ms < last).await?;
        state.number += 1;
        if state.base == 0 || now.as_millis() >= state.base_at_ms + BASE_MS {
            (state.base, state.base_at_ms) = (state.number, now.as_millis());
        }
        state.count = u64::try_from(revoked.len()).unwrap_or(u64::MAX);
        (state.built_at_ms, state.next_ms, state.changed) =
            (now.as_millis(), now.as_millis() + GOOD_MS, false);
        let since = revoked.iter().filter(|record| record.since > state.base);
        let lists = Lists {
            full: signed(issuer, &state, revoked.iter(), false)?,
            delta: signed(issuer, &state, since, true)?,
            number: state.number,
            this_update: now,
            next_update: Timestamp::from_millis(state.next_ms),
        };
        // No list leaves whose number is not kept.
        let revision = self.records.put_crl(&issuer.id, &state, was, None, None).await?;
        Ok(self.remember_lists(&issuer.id, revision, lists))
    }
}

/// A CertificateList.
fn signed<'a>(
    issuer: &Authority,
    state: &CrlState,
    revoked: impl Iterator<Item = &'a RevokedRecord>,
    is_delta: bool,
) -> Result<Vec<u8>, Error> {
    let algorithm = der::signature_of(issuer.key.kind());
    let mut entries = Vec::new();
    for record in revoked {
        entries.extend(entry(record)?);
    }
    // Without any the field is absent.
    let entries = if entries.is_empty() { entries } else { sequence(&[&entries]) };
    let mut extensions = authority_key_id(&issuer.key_id)?;
    extensions.extend(extension("2.5.29.20", false, &integer(&state.number.to_be_bytes()))?);
    if is_delta {
        extensions.extend(extension("2.5.29.27", true, &integer(&state.base.to_be_bytes()))?);
    }
    let tbs = sequence(&[
        &integer(&[1]),
        algorithm,
        &issuer.subject.to_der().map_err(|_| CryptoError)?,
        &der::time(Timestamp::from_millis(state.built_at_ms))?,
        &der::time(Timestamp::from_millis(state.next_ms))?,
        &entries,
        &tagged(0xa0, &[&sequence(&[&extensions])]),
    ]);
    let signature = issuer.key.sign(&tbs)?;
    Ok(sequence(&[&tbs, algorithm, &der::bits(&signature)]))
}

fn entry(record: &RevokedRecord) -> Result<Vec<u8>, Error> {
    let at = der::time(Timestamp::from_millis(record.at_ms))?;
    let reason = match u8::try_from(record.reason) {
        // Section 5.3.1: unspecified is said by saying nothing.
        Ok(0) | Err(_) => Vec::new(),
        Ok(reason) => sequence(&[&extension("2.5.29.21", false, &[0x0a, 0x01, reason])?]),
    };
    Ok(sequence(&[&integer(&record.serial), &at, &reason]))
}
