//! Answers on their way out. HTTP/2 takes what a body yields and keeps it until the peer makes room, which a hostile one
//! never does. So what is handed over is counted, as long as HTTP/2 has a byte of it: it keeps the visit with its slot and
//! room of the caller's, and the connection knows since when it waits.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context as TaskContext, Poll, ready},
};

use bytes::Bytes;
use http::HeaderMap;
use http_body::Frame;
use tonic::{Status, body::Body};

use super::{connection::Peer, status::status};
use crate::{
    admission::{AnswerRoom, Visit},
    core::Error,
    unsent::Sending,
};

/// The body of an answer.
struct Outgoing {
    body: Body,
    visit: Arc<Visit>,
    peer: Option<Peer>,
    /// There was no room for the rest.
    broken_off: bool,
}

/// Bytes of an answer. It is dropped when the last of them is written, or given up.
struct Handed {
    bytes: Bytes,
    _visit: Arc<Visit>,
    _room: AnswerRoom,
    _sending: Option<Sending>,
}

/// The body of an answer to this visit, to be sent to this peer.
pub(super) fn outgoing(body: Body, visit: &Arc<Visit>, peer: Option<Peer>) -> Body {
    Body::new(Outgoing { body, visit: Arc::clone(visit), peer, broken_off: false })
}

impl AsRef<[u8]> for Handed {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Outgoing {
    fn hand_over(&self, bytes: Bytes) -> Result<Bytes, Error> {
        let room = self.visit.answer_room(bytes.len())?;
        let sending = self.peer.as_ref().map(|peer| peer.unsent.begin());
        let visit = Arc::clone(&self.visit);
        Ok(Bytes::from_owner(Handed { bytes, _visit: visit, _room: room, _sending: sending }))
    }
}

impl http_body::Body for Outgoing {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        task: &mut TaskContext<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let this = &mut *self;
        if this.broken_off {
            return Poll::Ready(None);
        }
        let frame = match ready!(Pin::new(&mut this.body).poll_frame(task)) {
            Some(Ok(frame)) => frame,
            end => return Poll::Ready(end),
        };
        let bytes = match frame.into_data() {
            Ok(bytes) => bytes,
            Err(trailers) => return Poll::Ready(Some(Ok(trailers))),
        };
        let frame = match this.hand_over(bytes) {
            Ok(bytes) => Frame::data(bytes),
            Err(error) => {
                this.broken_off = true;
                let mut trailers = HeaderMap::new();
                status(&error, this.visit.id()).add_header(&mut trailers)?;
                Frame::trailers(trailers)
            }
        };
        Poll::Ready(Some(Ok(frame)))
    }

    fn is_end_stream(&self) -> bool {
        self.broken_off || self.body.is_end_stream()
    }
}
