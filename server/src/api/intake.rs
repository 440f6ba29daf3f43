//! What messages may take of memory while they are on their way. A decoder makes room for a whole message as soon as it
//! has read its length, so a few bytes could make a megabyte of it, a hundred times on each connection. A message that
//! comes with its first frame costs nothing here. One that comes in parts has to find room first: callers without a good
//! token have little of it among all of them, and what they take is taken from nobody else.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context as TaskContext, Poll, ready},
};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, header::AUTHORIZATION};
use http_body::Frame;
use strongroom_proto::limits as wire;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::timeout,
};
use tonic::{Status, body::Body};

use super::{access::Credential, call::token, layers::Context, status::status};
use crate::{
    core::{self, Core, Error},
    limits,
};

/// Flag of compression and length, before each message (gRPC over HTTP/2).
const PREFIX: usize = 5;

/// Room for messages on their way, in bytes.
pub(super) struct Intake {
    core: Arc<Core>,
    known: Arc<Semaphore>,
    strangers: Arc<Semaphore>,
}

/// Whose message it is.
struct Sender {
    intake: Arc<Intake>,
    context: Context,
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
    room: Option<OwnedSemaphorePermit>,
}

struct Asking {
    answer: Pin<Box<dyn Future<Output = Result<OwnedSemaphorePermit, Status>> + Send>>,
    /// Let in after it.
    frame: Bytes,
}

impl Intake {
    pub(super) fn new(core: Arc<Core>) -> Self {
        Self {
            core,
            known: Arc::new(Semaphore::new(limits::INTAKE_BYTES)),
            strangers: Arc::new(Semaphore::new(limits::STRANGERS_INTAKE_BYTES)),
        }
    }

    /// The body of a request, behind the guard.
    pub(super) fn guard(self: &Arc<Self>, body: Body, headers: &HeaderMap, context: &Context) -> Body {
        let authorization = headers.get(AUTHORIZATION).cloned();
        let sender = Some(Sender { intake: Arc::clone(self), context: context.clone(), authorization });
        Body::new(Guarded { body, sender, prefix: Vec::new(), asking: None, room: None })
    }
}

impl Sender {
    /// Room for a message of that length.
    async fn ask(self, length: u32) -> Result<OwnedSemaphorePermit, Status> {
        self.room(length).await.map_err(|error| status(&error, self.context.id))
    }

    async fn room(&self, length: u32) -> Result<OwnedSemaphorePermit, Error> {
        let (intake, context) = (&*self.intake, &self.context);
        let (room, longest) = match context.access.credential {
            Credential::None => (&intake.strangers, limits::SMALL_REQUEST_BYTES),
            Credential::Token => {
                let bearer = self.authorization.as_ref().and_then(|value| token(value.to_str().ok()?));
                let (id, name) = (context.id, context.access.name);
                core::vouch(&intake.core, id, name, context.peer, bearer.as_ref()).await?;
                (&intake.known, wire::REQUEST_BYTES)
            }
        };
        // The decoder refuses what is longer before it makes room for it.
        let taken = if usize::try_from(length).is_ok_and(|length| length <= longest) { length } else { 0 };
        let found = timeout(limits::QUEUE_WAIT, Arc::clone(room).acquire_many_owned(taken)).await;
        found.ok().and_then(Result::ok).ok_or(Error::Overloaded(limits::QUEUE_WAIT))
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
