//! The messages of a stream. It keeps its place on its connection until it is dropped.

use std::{
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use futures_util::{Stream, StreamExt, stream};
use tokio::time::timeout;
use tonic::Streaming;

use super::lines::Place;
use crate::{answer::ResultStream, error::Error};

pub(crate) struct Answers<T> {
    messages: Streaming<T>,
    _place: Place,
}

impl<T: Send + 'static> Answers<T> {
    pub(crate) fn new(messages: Streaming<T>, place: Place) -> Self {
        Self { messages, _place: place }
    }

    /// The same, for a stream that is never quiet before its end: each message has to arrive within this time.
    pub(crate) fn each_within(self, patience: Duration) -> ResultStream<T> {
        stream::unfold(Some(self), move |answers| async move {
            let mut answers = answers?;
            match timeout(patience, answers.next()).await {
                Ok(Some(Ok(message))) => Some((Ok(message), Some(answers))),
                Ok(Some(Err(error))) => Some((Err(error), None)),
                Ok(None) => None,
                Err(_) => Some((Err(Error::deadline()), None)),
            }
        })
        .boxed()
    }
}

impl<T> Stream for Answers<T> {
    type Item = Result<T, Error>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.messages
            .poll_next_unpin(context)
            .map(|message| message.map(|message| message.map_err(Error::of)))
    }
}
