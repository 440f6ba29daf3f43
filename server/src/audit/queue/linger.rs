//! Whether the writer waits a moment for company before it takes a group, so that more records share one wait for the disk.
//! It acts only after a group of several, when more are likely to be on their way, and only where each group costs such a wait.
//! It ends when there are enough, when nobody comes any more, when the writer is told something, and always after a
//! millisecond. It changes only when a group is taken: which records wait, and in which order they are taken, is the queue's
//! business with it and without it.

use std::{
    sync::PoisonError,
    time::{Duration, Instant},
};

use super::{Shared, lock};

/// A few waits for a fast disk, a part of one for a slow disk.
const LONGEST: Duration = Duration::from_millis(1);
/// Callers who ask again as soon as they are answered come closer together than that; when none has come for so long, all of
/// them are here.
const QUIET: Duration = Duration::from_micros(250);
/// Among so many, the share of each in the wait for the disk is small beside its own work.
const ENOUGH: usize = 48;
/// A group of fewer shows no crowd: each of them would only wait for nobody.
const SEVERAL: usize = 4;

/// See the module.
#[derive(Clone, Copy, Debug)]
pub(in crate::audit) struct Linger {
    longest: Duration,
    quiet: Duration,
}

impl Linger {
    /// After a group of so many records.
    pub(in crate::audit) fn after(group: usize) -> Option<Self> {
        (group >= SEVERAL).then_some(Self { longest: LONGEST, quiet: QUIET })
    }
}

impl Shared {
    /// For the writer, before it takes what waits, at most `most` of it. If nothing does, there is nobody to wait with.
    pub(in crate::audit) fn linger(&self, linger: Linger, most: usize) {
        let (enough, ends) = (most.min(ENOUGH), Instant::now() + linger.longest);
        let mut queue = lock(&self.queue);
        loop {
            let here = queue.items.len();
            let left = ends.saturating_duration_since(Instant::now()).min(linger.quiet);
            if here == 0 || here >= enough || !queue.controls.is_empty() || left.is_zero() {
                break;
            }
            (queue.writer_waits, queue.wanted) = (true, enough);
            queue = self.arrived.wait_timeout(queue, left).unwrap_or_else(PoisonError::into_inner).0;
            if queue.items.len() == here {
                break;
            }
        }
        (queue.writer_waits, queue.wanted) = (false, 0);
    }
}

#[cfg(test)]
mod tests {
    use std::{sync::Arc, thread};

    use tokio::sync::oneshot;

    use super::*;
    use crate::audit::queue::{Control, Item, Track};

    /// So long that a test which waits for it fails by the time that it takes.
    const FOR_EVER: Duration = Duration::from_secs(600);
    const PATIENT: Linger = Linger { longest: FOR_EVER, quiet: FOR_EVER };

    fn shared(waiting: usize) -> Arc<Shared> {
        let shared = Arc::new(Shared::default());
        shared.set_room(1 << 30);
        (0..waiting).for_each(|_| push(&shared));
        shared
    }

    fn push(shared: &Shared) {
        shared.push(Item { body: Vec::new(), track: Track::Nothing, waker: None }).unwrap();
    }

    fn taken(shared: &Shared) -> usize {
        let mut items = Vec::new();
        shared.take(usize::MAX, &mut items);
        items.len()
    }

    #[test]
    fn only_a_crowd_is_waited_with() {
        assert!(Linger::after(0).is_none() && Linger::after(SEVERAL - 1).is_none());
        assert!(Linger::after(SEVERAL).is_some());
    }

    #[test]
    fn it_ends_when_there_are_enough() {
        let shared = shared(1);
        let lingering = {
            let shared = Arc::clone(&shared);
            thread::spawn(move || {
                shared.linger(PATIENT, usize::MAX);
                taken(&shared)
            })
        };
        (1..ENOUGH).for_each(|_| push(&shared));
        assert_eq!(lingering.join().unwrap(), ENOUGH);
        let full = self::shared(ENOUGH);
        full.linger(PATIENT, usize::MAX);
        let few = self::shared(3);
        few.linger(PATIENT, 3);
        assert_eq!((taken(&full), taken(&few)), (ENOUGH, 3), "no more than that many are taken anyway");
    }

    #[test]
    fn it_ends_when_nobody_comes_any_more_or_has_come_for_long_enough() {
        let quiet = Linger { quiet: Duration::from_millis(1), ..PATIENT };
        let short = Linger { longest: Duration::from_millis(1), ..PATIENT };
        for linger in [quiet, short] {
            let shared = shared(2);
            shared.linger(linger, usize::MAX);
            assert_eq!(taken(&shared), 2);
        }
        shared(0).linger(PATIENT, usize::MAX);
    }

    #[test]
    fn it_ends_when_the_writer_is_told_something() {
        let shared = shared(1);
        let lingering = {
            let shared = Arc::clone(&shared);
            thread::spawn(move || shared.linger(PATIENT, usize::MAX))
        };
        assert!(shared.tell(Control::Close(oneshot::channel().0)));
        lingering.join().unwrap();
    }
}
