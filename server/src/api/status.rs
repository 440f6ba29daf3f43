//! The one map from our errors to gRPC: a code and a reason by `proto`'s table, a sentence, and what a program needs.

use std::collections::HashMap;

use strongroom_proto::{DOMAIN, Reason};
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt};

use crate::{audit::QueryError, core::Error, model::RequestId};

/// An error as the caller sees it. The request id is in the metadata of every one.
pub(super) fn status(error: &Error, id: RequestId) -> Status {
    let reason = error.reason();
    let sentence = match reason {
        // Whoever may read the log may know what of it is missing.
        _ if matches!(error, Error::Query(QueryError::Hole { .. })) => {
            tracing::error!(request_id = %id, %reason, cause = %error, "the audit log is not whole");
            error.to_string()
        }
        // The cause is nobody's business outside; it is found in the log under the request id.
        Reason::Internal | Reason::Corrupt => {
            tracing::error!(request_id = %id, %reason, cause = %error, "a request failed");
            inner_sentence(reason)
        }
        Reason::Unrecorded => {
            tracing::error!(request_id = %id, "a request was carried out, but its outcome is not on record");
            error.to_string()
        }
        // For the operator, who looks into the log when the server does not open.
        Reason::RolledBack | Reason::ForeignAuditLog => {
            tracing::error!(request_id = %id, %reason, cause = %error, "the store stays closed");
            error.to_string()
        }
        _ => error.to_string(),
    };
    let metadata = error.metadata().into_iter().map(|(name, value)| (name.to_owned(), value));
    with_reason(reason, sentence, metadata.collect(), id)
}

fn inner_sentence(reason: Reason) -> String {
    match reason {
        Reason::Corrupt => {
            "a stored record does not open: it was changed or moved; the server's log names it"
        }
        _ => "internal error; the server's log has the cause under the request id",
    }
    .to_owned()
}

fn with_reason(
    reason: Reason,
    sentence: String,
    mut metadata: HashMap<String, String>,
    id: RequestId,
) -> Status {
    metadata.insert("request_id".to_owned(), id.to_string());
    let mut details = ErrorDetails::new();
    details.set_error_info(reason.as_str(), DOMAIN, metadata);
    Status::with_error_details(Code::from_i32(reason.code()), sentence, details)
}
