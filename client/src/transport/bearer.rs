//! The token of a call: sent as a header that no log shows, and replaced by whoever can get another when it has ended.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use strongroom_proto::{Reason, SecretBytes};
use tonic::{
    Request,
    metadata::{Ascii, MetadataValue},
};
use zeroize::Zeroizing;

use crate::error::{Error, ErrorKind};

const BEARER: &[u8] = b"Bearer ";

/// A bearer token as the header it is sent in. All copies share one buffer, which is wiped when the last one goes.
pub(crate) struct Token(MetadataValue<Ascii>);

impl Token {
    pub(crate) fn new(token: &SecretBytes) -> Result<Self, Error> {
        let mut text = Zeroizing::new(Vec::with_capacity(BEARER.len() + token.len()));
        text.extend_from_slice(BEARER);
        text.extend_from_slice(token.expose());
        let refused = || Error::config("this is not a token: it has characters that no token has");
        if token.is_empty() || !token.expose().iter().all(u8::is_ascii_graphic) {
            return Err(refused());
        }
        let mut header = MetadataValue::try_from(Bytes::from_owner(text)).map_err(|_| refused())?;
        header.set_sensitive(true);
        Ok(Self(header))
    }

    pub(crate) fn attach<T>(&self, request: &mut Request<T>) {
        request.metadata_mut().insert("authorization", self.0.clone());
    }

    pub(crate) fn expose(&self) -> SecretBytes {
        SecretBytes::from(self.0.as_encoded_bytes().get(BEARER.len()..).unwrap_or_default())
    }
}

/// Whose tokens a call is made with.
pub(crate) trait Bearer: Send + Sync {
    /// The token to send now.
    fn current(&self) -> Option<Arc<Token>>;

    /// Gets another token than `failed`; `false` if there is no way to. Boxed, because it is part of every call and is made
    /// of one itself.
    fn another<'a>(&'a self, failed: Option<&'a Arc<Token>>) -> BoxFuture<'a, Result<bool, Error>>;
}

/// Whether a new token would help. A revoked session is somebody's will and is not worked around, and a pod that is gone
/// gets no other one.
pub(crate) fn wants_login(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::Unauthenticated(Reason::TokenExpired | Reason::TokenMissing))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_sent_whole_and_shown_never() {
        let token = Token::new(&SecretBytes::from(String::from("sr1_abc"))).unwrap();
        let mut request = Request::new(());
        token.attach(&mut request);
        let header = request.metadata().get("authorization").unwrap();
        assert_eq!(header.to_str().unwrap(), "Bearer sr1_abc");
        assert!(!format!("{:?}", request.metadata()).contains("sr1_"));
        assert_eq!(token.expose().expose(), b"sr1_abc");
    }

    #[test]
    fn what_is_no_token_is_refused() {
        for text in ["", "two words", "line\nbreak", "ünicode"] {
            assert!(Token::new(&SecretBytes::from(text.to_owned())).is_err(), "{text:?}");
        }
    }
}
