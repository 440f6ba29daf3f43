//! One question at a time for each key, few at once for all, and an answer that is good for a while: what stands between
//! a crowd of logins and an API server.

use std::{
    collections::HashMap,
    hash::Hash,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::sync::{OnceCell, Semaphore};

use crate::{
    clock::Clock,
    model::{Source, Timestamp},
};

/// Most logins that wait at a time: each holds one of the server's 512 request slots, and logins must not take all of
/// them from reads while an API server hangs.
const WAITING: usize = 128;
/// The same of one place: all nodes may come through one NAT, and still somebody else finds a seat.
const WAITING_OF_PLACE: usize = WAITING / 2;
/// Most answers that are remembered: about 20 MB. When all are good, further ones are not remembered.
const ANSWERS: usize = 50_000;

/// See the module. `A` is cheap to clone.
pub(super) struct Flights<K, A> {
    open: Mutex<HashMap<K, Arc<Flight<A>>>>,
    places: Semaphore,
    /// For those who ask and for those who wait for them.
    seats: Semaphore,
    /// Who has how many of them; nobody is in here who has none.
    taken: Mutex<HashMap<Source, usize>>,
    /// Longest wait for a place.
    wait: Duration,
    clock: Arc<dyn Clock>,
}

/// A question that was asked, or is about to be.
struct Flight<A>(OnceCell<Answer<A>>);

struct Answer<A> {
    answer: A,
    until: Timestamp,
}

/// A seat among those of its place; free again when this is dropped.
struct Seat<'a> {
    taken: &'a Mutex<HashMap<Source, usize>>,
    from: Source,
}

/// No seat, or no place within the wait.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Full;

impl<K: Eq + Hash + Clone, A: Clone> Flights<K, A> {
    pub(super) fn new(at_once: usize, wait: Duration, clock: Arc<dyn Clock>) -> Self {
        let (places, seats) = (Semaphore::new(at_once), Semaphore::new(WAITING));
        Self { open: Mutex::default(), places, seats, taken: Mutex::default(), wait, clock }
    }

    /// The answer to `key` for somebody `from` there: one that is remembered and `usable`, one that somebody else is waiting
    /// for, or that of `ask`, which says for how long it is good. Whether it was asked for now comes with it. A caller who
    /// goes away while it asks leaves the question to the next one who waits.
    pub(super) async fn get<F>(
        &self,
        key: K,
        from: Option<Source>,
        usable: impl Fn(&A) -> bool,
        ask: impl FnOnce() -> F,
    ) -> Result<(A, bool), Full>
    where
        F: Future<Output = (A, Duration)>,
    {
        let flight = self.flight(key, usable);
        if let Some(known) = flight.0.get() {
            return Ok((known.answer.clone(), false));
        }
        let _seat = (self.sit(from)?, self.seats.try_acquire().map_err(|_| Full)?);
        let mut asked = false;
        let answer = flight.0.get_or_try_init(|| async {
            let place = tokio::time::timeout(self.wait, self.places.acquire()).await;
            let _place = place.map_err(|_| Full)?.map_err(|_| Full)?;
            asked = true;
            let (answer, keep) = ask().await;
            Ok(Answer { answer, until: self.clock.now().plus(keep) })
        });
        let answer = answer.await?.answer.clone();
        Ok((answer, asked))
    }

    fn sit(&self, from: Option<Source>) -> Result<Option<Seat<'_>>, Full> {
        let Some(from) = from else { return Ok(None) };
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let theirs = taken.get(&from).copied().unwrap_or(0);
        if theirs >= WAITING_OF_PLACE {
            return Err(Full);
        }
        taken.insert(from, theirs + 1);
        Ok(Some(Seat { taken: &self.taken, from }))
    }

    fn flight(&self, key: K, usable: impl Fn(&A) -> bool) -> Arc<Flight<A>> {
        let now = self.clock.now();
        let is_open = |flight: &Flight<A>| match flight.0.get() {
            Some(answer) => answer.until > now && usable(&answer.answer),
            None => true,
        };
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(flight) = open.get(&key).filter(|flight| is_open(flight)) {
            return Arc::clone(flight);
        }
        if open.len() >= ANSWERS {
            open.retain(|_, flight| match flight.0.get() {
                Some(answer) => answer.until > now,
                // Somebody waits for it, or nobody does any more.
                None => Arc::strong_count(flight) > 1,
            });
        }
        let flight = Arc::new(Flight(OnceCell::new()));
        if open.len() < ANSWERS {
            open.insert(key, Arc::clone(&flight));
        }
        flight
    }
}

impl Drop for Seat<'_> {
    fn drop(&mut self) {
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        match taken.get_mut(&self.from) {
            Some(seats) if *seats > 1 => *seats -= 1,
            _ => drop(taken.remove(&self.from)),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;
    use crate::clock::ManualClock;

    const SECOND: Duration = Duration::from_secs(1);

    fn flights(at_once: usize) -> (Arc<ManualClock>, Flights<u32, u32>) {
        let clock = Arc::new(ManualClock::at(Timestamp::from_millis(1_000_000)));
        let shared: Arc<dyn Clock> = Arc::<ManualClock>::clone(&clock);
        (clock, Flights::new(at_once, Duration::from_millis(50), shared))
    }

    #[tokio::test]
    async fn a_crowd_asks_once() {
        let (_, flights) = flights(4);
        let asked = AtomicUsize::new(0);
        let ask = || async {
            asked.fetch_add(1, Ordering::SeqCst);
            tokio::task::yield_now().await;
            (7, SECOND)
        };
        let all = (0..100).map(|_| flights.get(1, None, |_| true, ask));
        let answers = futures_util::future::join_all(all).await;
        assert_eq!(asked.load(Ordering::SeqCst), 1);
        assert_eq!(answers.iter().filter(|answer| **answer == Ok((7, true))).count(), 1);
        assert!(answers.iter().all(|answer| matches!(answer, Ok((7, _)))));
    }

    #[tokio::test]
    async fn an_answer_is_good_for_its_time_and_for_whom_it_is_usable() {
        let (clock, flights) = flights(4);
        let ask = |answer| move || async move { (answer, SECOND) };
        assert_eq!(flights.get(1, None, |_| true, ask(1)).await, Ok((1, true)));
        assert_eq!(flights.get(1, None, |_| true, ask(2)).await, Ok((1, false)));
        assert_eq!(flights.get(1, None, |_| false, ask(3)).await, Ok((3, true)));
        clock.advance(SECOND);
        assert_eq!(flights.get(1, None, |_| true, ask(4)).await, Ok((4, true)));
        assert_eq!(flights.get(2, None, |_| true, ask(5)).await, Ok((5, true)));
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_waits_for_a_place_for_long() {
        let (_, flights) = flights(1);
        let slow = flights.get(
            1,
            None,
            |_| true,
            || async {
                tokio::time::sleep(SECOND).await;
                (1, SECOND)
            },
        );
        let (slow, other) = tokio::join!(slow, flights.get(2, None, |_| true, || async { (2, SECOND) }));
        assert_eq!((slow, other), (Ok((1, true)), Err(Full)));
        assert_eq!(flights.get(2, None, |_| true, || async { (2, SECOND) }).await, Ok((2, true)));
    }

    #[tokio::test]
    async fn who_goes_away_leaves_the_question_to_the_next() {
        let (_, flights) = flights(1);
        let never = flights.get(1, None, |_| true, std::future::pending::<(u32, Duration)>);
        tokio::select! { biased; _ = never => panic!("answered"), () = tokio::task::yield_now() => {} }
        assert_eq!(flights.get(1, None, |_| true, || async { (2, SECOND) }).await, Ok((2, true)));
    }

    #[tokio::test(start_paused = true)]
    async fn few_wait_and_who_needs_not_wait_needs_no_seat() {
        let (_, flights) = flights(1);
        flights.get(2, None, |_| true, || async { (2, SECOND) }).await.unwrap();
        let slow = || async {
            tokio::time::sleep(SECOND).await;
            (1, SECOND)
        };
        let crowd =
            futures_util::future::join_all((0..WAITING * 2).map(|_| flights.get(1, None, |_| true, slow)));
        let known = flights.get(2, None, |_| true, || async { (3, SECOND) });
        let (crowd, known) = tokio::join!(crowd, known);
        assert_eq!(crowd.iter().filter(|answer| **answer == Err(Full)).count(), WAITING);
        assert_eq!(known, Ok((2, false)));
    }

    #[tokio::test]
    async fn it_does_not_grow_without_end() {
        let (clock, flights) = flights(1);
        for key in 0..u32::try_from(ANSWERS).unwrap() + 10 {
            flights.get(key, None, |_| true, || async { (1, SECOND) }).await.unwrap();
        }
        assert_eq!(flights.open.lock().unwrap().len(), ANSWERS);
        clock.advance(SECOND);
        flights.get(u32::MAX, None, |_| true, || async { (1, SECOND) }).await.unwrap();
        assert_eq!(flights.open.lock().unwrap().len(), 1);
    }

    #[tokio::test]
    async fn one_place_leaves_seats_to_others() {
        let (_, flights) = flights(1);
        let flights = &flights;
        let place = |host: u8| Some(Source::from(std::net::IpAddr::from([192, 0, 2, host])));
        let crowd = (0..2 * WAITING).map(|_| flights.get(1, place(1), |_| true, std::future::pending));
        let crowd = futures_util::future::join_all(crowd);
        let mut crowd = Box::pin(crowd);
        assert!(futures_util::poll!(&mut crowd).is_pending());
        let seated = flights.taken.lock().unwrap().values().sum::<usize>();
        assert_eq!(seated, WAITING_OF_PLACE);
        assert!(flights.sit(place(1)).is_err());
        assert!(flights.sit(place(2)).is_ok() && flights.seats.available_permits() > 0);
        drop(crowd);
        assert!(flights.taken.lock().unwrap().is_empty(), "who goes gives the seat back");
    }
}
