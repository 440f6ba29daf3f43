//! The tasks a process consists of, such as those that serve its ports: each goes on until it is told to stop, so the end of
//! one is the end of all.

use std::{fmt::Display, future::Future, time::Duration};

use tokio::task::{JoinError, JoinSet};

/// Tasks that end together.
pub struct Tasks<E>(JoinSet<Result<(), E>>);

impl<E> Default for Tasks<E> {
    fn default() -> Self {
        Self(JoinSet::new())
    }
}

impl<E: From<JoinError> + Display + Send + 'static> Tasks<E> {
    pub fn spawn(&mut self, task: impl Future<Output = Result<(), E>> + Send + 'static) {
        self.0.spawn(task);
    }

    /// Until a task has ended, told to or not.
    ///
    /// # Errors
    /// What it ended with.
    pub async fn ended(&mut self) -> Result<(), E> {
        match self.0.join_next().await {
            Some(ended) => ended.map_err(E::from).and_then(|outcome| outcome),
            None => Ok(()),
        }
    }

    /// Waits for all that are left, for `patience` at most; they have been told to stop.
    ///
    /// # Errors
    /// The first that was met; the others are in the log. Being late is none.
    pub async fn drain(mut self, patience: Duration) -> Result<(), E> {
        let mut outcome = Ok(());
        let draining = async {
            while !self.0.is_empty() {
                if let Err(error) = self.ended().await {
                    tracing::error!(%error, "a task of this process failed");
                    if outcome.is_ok() {
                        outcome = Err(error);
                    }
                }
            }
        };
        if tokio::time::timeout(patience, draining).await.is_err() {
            tracing::warn!(seconds = patience.as_secs(), "some requests did not finish in time");
        }
        outcome
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, PartialEq, thiserror::Error)]
    enum Fault {
        #[error("broken")]
        Broken,
        #[error("{0}")]
        Join(String),
    }

    impl From<JoinError> for Fault {
        fn from(error: JoinError) -> Self {
            Fault::Join(error.to_string())
        }
    }

    #[tokio::test]
    async fn the_first_failure_is_told_and_the_rest_is_waited_for() {
        let (stop, stopped) = tokio::sync::watch::channel(false);
        let mut tasks = Tasks::default();
        tasks.spawn(async { Err(Fault::Broken) });
        let mut own = stopped.clone();
        tasks.spawn(async move {
            own.wait_for(|stop| *stop).await.map(drop).map_err(|error| Fault::Join(error.to_string()))
        });
        assert_eq!(tasks.ended().await, Err(Fault::Broken));
        stop.send(true).unwrap();
        assert_eq!(tasks.drain(Duration::from_secs(60)).await, Ok(()));
    }

    #[tokio::test]
    async fn a_task_that_does_not_end_is_left_behind() {
        let mut tasks: Tasks<Fault> = Tasks::default();
        tasks.spawn(std::future::pending());
        tasks.spawn(async { Err(Fault::Broken) });
        assert_eq!(tasks.drain(Duration::from_millis(20)).await, Err(Fault::Broken));
    }
}
