//! Waiting for a condition with a deadline: the one place where tests look again.

use std::{
    io, thread,
    time::{Duration, Instant},
};

/// How long a condition may take to come true, a start and a stop too, before a test gives up.
pub const DEADLINE: Duration = Duration::from_secs(30);
const PAUSE: Duration = Duration::from_millis(5);

/// Looks until it is so.
///
/// # Errors
/// It was not so within [`DEADLINE`].
pub fn until(what: &str, mut so: impl FnMut() -> bool) -> io::Result<()> {
    found(what, DEADLINE, || Ok(so().then_some(())))
}

/// Looks until there is something, and gives it. A look that fails counts as nothing; the last failure is told at the end.
///
/// # Errors
/// Nothing within the deadline.
pub fn found<T>(
    what: &str,
    deadline: Duration,
    mut look: impl FnMut() -> io::Result<Option<T>>,
) -> io::Result<T> {
    let end = Instant::now() + deadline;
    loop {
        let began = Instant::now();
        let failure = match look() {
            Ok(Some(found)) => return Ok(found),
            Ok(None) => String::new(),
            Err(error) => format!(": {error}"),
        };
        if Instant::now() > end {
            return Err(too_late(what, deadline, &failure));
        }
        pause(began.elapsed());
    }
}

/// As [`until`], for what has to be awaited.
///
/// # Errors
/// It was not so within [`DEADLINE`].
pub async fn until_async(what: &str, mut so: impl AsyncFnMut() -> bool) -> io::Result<()> {
    found_async(what, DEADLINE, async || so().await.then_some(())).await
}

/// As [`found`], for what has to be awaited.
///
/// # Errors
/// Nothing within the deadline.
pub async fn found_async<T>(
    what: &str,
    deadline: Duration,
    mut look: impl AsyncFnMut() -> Option<T>,
) -> io::Result<T> {
    let end = Instant::now() + deadline;
    loop {
        if let Some(found) = look().await {
            return Ok(found);
        }
        if Instant::now() > end {
            return Err(too_late(what, deadline, ""));
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// Lets time pass in which nothing may happen, or in which somebody else is at work.
#[expect(clippy::disallowed_methods, reason = "the time itself is the point")]
pub fn nothing_for(time: Duration) {
    thread::sleep(time);
}

/// At least as long as the look took: looking never has more than half of a processor, which others need.
pub fn pause(looked: Duration) {
    nothing_for(looked.max(PAUSE));
}

fn too_late(what: &str, deadline: Duration, failure: &str) -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, format!("not in {deadline:?}: {what}{failure}"))
}
