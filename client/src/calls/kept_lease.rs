//! A lease that is renewed in the background, for as long as somebody needs what it stands for.

use std::{sync::Arc, time::Duration};

use tokio::{sync::watch, task::AbortHandle, time::Instant};

use super::lease::{Lease, Leases};
use crate::{client::Client, error::Error};

/// After a renewal that failed; the lease is good until it expires, and that time is used.
const PAUSE: Duration = Duration::from_secs(5);

/// Between two renewals, however short a lease is.
const SHORTEST_PAUSE: Duration = Duration::from_secs(1);

/// What is known of a lease that is kept.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum LeaseState {
    /// It lives and is renewed.
    Kept(Lease),
    /// It lives, but cannot be renewed any more: it has reached its maximum. Have another one issued before it expires.
    Last(Lease),
    /// It has ended, or will at its time: it cannot be renewed, for this reason. What it stands for must not be relied on.
    Lost(Arc<Error>),
}

/// Renews a lease until it is dropped; see [`Leases::keep`]. Dropping it ends the renewals and not the lease.
#[derive(Debug)]
pub struct KeptLease {
    states: watch::Receiver<LeaseState>,
    renewing: AbortHandle,
}

impl Leases<'_> {
    /// Renews a lease in the background, when two thirds of its time are over. What becomes of it is told by what is returned.
    pub fn keep(&self, lease: Lease) -> KeptLease {
        let (told, states) = watch::channel(LeaseState::Kept(lease.clone()));
        let renewing = tokio::spawn(keep(self.client().clone(), lease, told)).abort_handle();
        KeptLease { states, renewing }
    }
}

impl KeptLease {
    /// What is known now.
    pub fn state(&self) -> LeaseState {
        self.states.borrow().clone()
    }

    /// Waits until something else is known: at each renewal, when there can be no further one, and when it is lost. After
    /// [`LeaseState::Last`] and [`LeaseState::Lost`] nothing follows, and this does not return.
    pub async fn changed(&mut self) -> LeaseState {
        if self.states.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
        self.states.borrow_and_update().clone()
    }
}

impl Drop for KeptLease {
    fn drop(&mut self) {
        self.renewing.abort();
    }
}

async fn keep(client: Client, mut lease: Lease, told: watch::Sender<LeaseState>) {
    loop {
        // By how long the server says that it lives, and not by what time it is here.
        let ends = Instant::now() + lease.lifetime;
        tokio::time::sleep((lease.lifetime * 2 / 3).max(SHORTEST_PAUSE)).await;
        let renewed = match renew(&client, &lease, ends).await {
            Ok(renewed) => renewed,
            Err(error) => {
                told.send_replace(LeaseState::Lost(Arc::new(error)));
                return;
            }
        };
        let is_last = renewed.is_last();
        lease = renewed.clone();
        told.send_replace(if is_last { LeaseState::Last(renewed) } else { LeaseState::Kept(renewed) });
        if is_last {
            return;
        }
    }
}

/// As often as it takes, for as long as the lease lives and it may help.
async fn renew(client: &Client, lease: &Lease, ends: Instant) -> Result<Lease, Error> {
    loop {
        match client.leases().renew(&lease.id, None).await {
            Err(error) if error.is_transient() && Instant::now() + PAUSE < ends => {
                tokio::time::sleep(PAUSE).await;
            }
            other => return other,
        }
    }
}
