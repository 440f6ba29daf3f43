//! Messages that come in parts ask admission for room first. A decoder makes room for a whole message as soon as it has
//! read its length, so a few bytes could make a megabyte of it, a hundred times on each connection. A message that comes
//! with its first frame is let through as it is.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context as TaskContext, Poll, ready},
};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, header::AUTHORIZATION};
use http_body::Frame;
use tonic::{Status, body::Body};

use super::{call::token, status::status};
use crate::admission::{Room, Visit};

/// Flag of compression and length, before each message (gRPC over HTTP/2).
const PREFIX: usize = 5;

/// Whose message it is.
struct Sender {
    visit: Arc<Visit>,
    authorization: Option<HeaderValue>,
}

/// A body that waits for room before it lets a long message in.
struct Guarded {
    body: Body,
    /// Gone once the message was judged; an RPC of ours takes one.
    sender: Option<Sender>,
    prefix: Vec<u8>,
    asking: Option<Asking>,
    /// Held until the message was taken in and the body is dropped.
    room: Option<Room>,
}

struct Asking {
    answer: Pin<Box<dyn Future<Output = Result<Room, Status>> + Send>>,
    /// Let in after it.
    frame: Bytes,
}

/// The body of a request, behind the guard.
pub(super) fn guard(body: Body, headers: &HeaderMap, visit: &Arc<Visit>) -> Body {
    let authorization = headers.get(AUTHORIZATION).cloned();
    let sender = Some(Sender { visit: Arc::clone(visit), authorization });
    Body::new(Guarded { body, sender, prefix: Vec::new(), asking: None, room: None })
}

impl Sender {
    /// Room for a message of that length.
    async fn ask(self, length: u32) -> Result<Room, Status> {
        let bearer = self.authorization.as_ref().and_then(|value| token(value.to_str().ok()?));
        let room = self.visit.room(bearer.as_ref(), length).await;
        room.map_err(|error| status(&error, self.visit.id()))
    }
}

impl Guarded {
    /// The length of a message of which `frame` brings the beginning and not the end.
    fn long_message(&mut self, frame: &Bytes) -> Option<u32> {
        self.sender.as_ref()?;
        let missing = PREFIX - self.prefix.len();
        let (head, rest) = frame.split_at_checked(missing).unwrap_or((frame, &[]));
        self.prefix.extend_from_slice(head);
        let [_, length @ ..] = <[u8; PREFIX]>::try_from(&*self.prefix).ok()?;
        let length = u32::from_be_bytes(length);
        if usize::try_from(length).is_ok_and(|length| length <= rest.len()) {
            self.sender = None;
            return None;
        }
        Some(length)
    }
}

impl http_body::Body for Guarded {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        task: &mut TaskContext<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let this = &mut *self;
        if this.asking.is_none() {
            let frame = match ready!(Pin::new(&mut this.body).poll_frame(task)) {
                Some(Ok(frame)) => frame,
                end => return Poll::Ready(end),
            };
            let frame = match frame.into_data() {
                Ok(data) => data,
                Err(trailers) => return Poll::Ready(Some(Ok(trailers))),
            };
            let Some(length) = this.long_message(&frame) else {
                return Poll::Ready(Some(Ok(Frame::data(frame))));
            };
            if let Some(sender) = this.sender.take() {
                this.asking = Some(Asking { answer: Box::pin(sender.ask(length)), frame });
            }
        }
        let Some(asking) = &mut this.asking else { return Poll::Ready(None) };
        let answer = ready!(asking.answer.as_mut().poll(task));
        let frame = this.asking.take().map(|asking| asking.frame).unwrap_or_default();
        Poll::Ready(Some(answer.map(|room| {
            this.room = Some(room);
            Frame::data(frame)
        })))
    }
}
