//! Messages that come in parts ask admission for room first. A decoder makes room for a whole message as soon as it has
//! read its length, so a few bytes could make a megabyte of it, a hundred times on each connection. A message that comes
//! with its first frame is let through as it is. All of them have a time by which they must be there.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context as TaskContext, Poll, ready},
};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, header::AUTHORIZATION};
use http_body::Frame;
use tokio::time::{Instant, Sleep, sleep_until};
use tonic::{Status, body::Body};

use super::{call::token, status::status};
use crate::{
    admission::{Room, Visit},
    core::Error,
    limits,
};

/// Flag of compression and length, before each message (gRPC over HTTP/2).
const PREFIX: usize = 5;

/// A body that waits for room before it lets a long message in, and that does not wait for the message for ever.
struct Guarded {
    body: Body,
    visit: Arc<Visit>,
    authorization: Option<HeaderValue>,
    prefix: Vec<u8>,
    /// Of the first message, once its length is known; an RPC of ours takes one.
    missing: Option<usize>,
    /// When all of it must be there. None: nothing is expected any more.
    until: Option<Instant>,
    timer: Option<Pin<Box<Sleep>>>,
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
    Body::new(Guarded {
        body,
        visit: Arc::clone(visit),
        authorization: headers.get(AUTHORIZATION).cloned(),
        prefix: Vec::new(),
        missing: None,
        until: Some(Instant::now() + limits::RECEIVE),
        timer: None,
        asking: None,
        room: None,
    })
}

/// Room for a message of that length.
async fn ask(visit: Arc<Visit>, authorization: Option<HeaderValue>, length: usize) -> Result<Room, Status> {
    let bearer = authorization.as_ref().and_then(|value| token(value.to_str().ok()?));
    let room = visit.room(bearer.as_ref(), length).await.map_err(|error| status(&error, visit.id()))?;
    let longest = visit.longest_message();
    if length > longest {
        let problem = format!("the message has {length} bytes; this RPC takes {longest} at most");
        return Err(Status::out_of_range(problem));
    }
    Ok(room)
}

impl Guarded {
    /// The length of a message of which `frame` brings the beginning and not the end.
    fn long_message(&mut self, frame: &Bytes) -> Option<usize> {
        if let Some(missing) = &mut self.missing {
            *missing = missing.saturating_sub(frame.len());
            return None;
        }
        let (head, rest) = frame.split_at_checked(PREFIX - self.prefix.len()).unwrap_or((frame, &[]));
        self.prefix.extend_from_slice(head);
        let [_, length @ ..] = <[u8; PREFIX]>::try_from(&*self.prefix).ok()?;
        let length = usize::try_from(u32::from_be_bytes(length)).unwrap_or(usize::MAX);
        self.missing = Some(length.saturating_sub(rest.len()));
        (length > rest.len()).then_some(length)
    }

    /// Ready when the message should have been there.
    fn poll_late(&mut self, task: &mut TaskContext<'_>) -> Poll<Status> {
        let Some(until) = self.until else { return Poll::Pending };
        let timer = self.timer.get_or_insert_with(|| Box::pin(sleep_until(until)));
        timer.as_mut().poll(task).map(|()| status(&Error::NotReceived(limits::RECEIVE), self.visit.id()))
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
            let frame = match Pin::new(&mut this.body).poll_frame(task) {
                Poll::Ready(Some(Ok(frame))) => frame,
                Poll::Ready(end) => return Poll::Ready(end),
                Poll::Pending => return this.poll_late(task).map(|late| Some(Err(late))),
            };
            let frame = match frame.into_data() {
                Ok(data) => data,
                Err(trailers) => return Poll::Ready(Some(Ok(trailers))),
            };
            let long = this.long_message(&frame);
            if this.missing == Some(0) && this.visit.goes_on() {
                this.until = None;
            }
            let Some(length) = long else { return Poll::Ready(Some(Ok(Frame::data(frame)))) };
            let answer = Box::pin(ask(Arc::clone(&this.visit), this.authorization.take(), length));
            this.asking = Some(Asking { answer, frame });
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
