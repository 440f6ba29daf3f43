//! What was handed to a connection and is not written yet, and since when. A peer that asks and does not read makes the
//! server keep its answers: HTTP/2 holds them until the peer makes room, and knows no end of that. A connection of which
//! something waits longer than [`limits::SEND`] is given up, with all that waits; resetting a stream would not do, because
//! what is queued after its last frame stays in the queue.

use std::{
    collections::BTreeMap,
    future::Future,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll},
};

use futures_util::task::AtomicWaker;
use tokio::time::{Instant, Sleep, sleep_until};

use crate::limits;

/// See the module. One for each connection.
#[derive(Default)]
pub struct Unsent {
    waiting: Mutex<Waiting>,
    /// The connection, while nothing waits: HTTP/2 does not wake it for what it must not send.
    connection: AtomicWaker,
}

#[derive(Default)]
struct Waiting {
    /// Numbers grow with time, so the first entry is the oldest.
    since: BTreeMap<u64, Instant>,
    next: u64,
}

/// One thing that waits; it is written, or given up, when this is dropped.
pub struct Sending {
    of: Arc<Unsent>,
    number: u64,
}

/// Asked by the connection whenever it is at work.
pub struct Patience {
    of: Arc<Unsent>,
    /// Set while something waits. It is never late: what comes after has more time.
    timer: Option<Pin<Box<Sleep>>>,
}

impl Unsent {
    /// Something is handed over now.
    pub fn begin(self: &Arc<Self>) -> Sending {
        let mut waiting = self.lock();
        let number = waiting.next;
        waiting.next += 1;
        let first = waiting.since.is_empty();
        waiting.since.insert(number, Instant::now());
        drop(waiting);
        if first {
            self.connection.wake();
        }
        Sending { of: Arc::clone(self), number }
    }

    /// When the oldest has waited too long.
    fn deadline(&self) -> Option<Instant> {
        self.lock().since.first_key_value().map(|(_, since)| *since + limits::SEND)
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        // Nothing panics under this lock.
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Sending {
    fn drop(&mut self) {
        self.of.lock().since.remove(&self.number);
    }
}

impl Patience {
    pub fn with(of: Arc<Unsent>) -> Self {
        Self { of, timer: None }
    }

    /// Ready when something has waited too long. Once on the way of most answers, so the timer is set for the first that
    /// waits and looked at again only when it has run out.
    pub fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            let timer = match &mut self.timer {
                Some(timer) => timer,
                None => match self.first_deadline(cx) {
                    Some(deadline) => self.timer.insert(Box::pin(sleep_until(deadline))),
                    None => return Poll::Pending,
                },
            };
            if timer.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
            if self.of.deadline().is_some_and(|deadline| deadline <= Instant::now()) {
                return Poll::Ready(());
            }
            self.timer = None;
        }
    }

    fn first_deadline(&self, cx: &Context<'_>) -> Option<Instant> {
        self.of.deadline().or_else(|| {
            self.of.connection.register(cx.waker());
            // Something may have begun between the look and the registration.
            self.of.deadline()
        })
    }
}

#[cfg(test)]
mod tests {
    use std::{future::poll_fn, time::Duration};

    use tokio::time::timeout;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_oldest_counts_whatever_goes_on_beside_it() {
        let unsent = Arc::new(Unsent::default());
        let mut patience = Patience::with(Arc::clone(&unsent));
        let began = Instant::now();
        let first = unsent.begin();
        let lively = async {
            loop {
                let _sent = unsent.begin();
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        };
        let lasted = tokio::select! {
            () = poll_fn(|cx| patience.poll(cx)) => began.elapsed(),
            () = lively => unreachable!(),
        };
        assert!(lasted >= limits::SEND && lasted < limits::SEND + Duration::from_secs(2), "{lasted:?}");
        drop(first);
        let quiet = timeout(limits::SEND * 9, poll_fn(|cx| patience.poll(cx))).await;
        assert!(quiet.is_err(), "nothing waits any more");
    }

    #[tokio::test(start_paused = true)]
    async fn who_reads_slowly_but_reads_is_left_alone() {
        let unsent = Arc::new(Unsent::default());
        let mut patience = Patience::with(Arc::clone(&unsent));
        let slow = async {
            for _ in 0..9 {
                let _sent = unsent.begin();
                tokio::time::sleep(limits::SEND / 2).await;
            }
        };
        tokio::select! {
            () = poll_fn(|cx| patience.poll(cx)) => unreachable!(),
            () = slow => {}
        }
    }
}
