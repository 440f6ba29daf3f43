//! What the driver answers on its ops port: it is ready once it is registered with the kubelet. It need not reach the server
//! to be ready: volumes that are mounted do not need it.

use std::{path::PathBuf, sync::Arc};

use strongroom_daemon::{ops, socket::Seat};
use tokio::sync::watch;

use crate::{publish::Driver, registration::Standing};

/// What the answers are made of.
pub struct Ops {
    /// What is mounted, and the metrics.
    pub driver: Arc<Driver>,
    /// What the kubelet says.
    pub standing: watch::Receiver<Standing>,
    /// Why the kubelet would get no answer.
    pub answering: watch::Receiver<Option<String>>,
    /// Where it has to look.
    pub registration_socket: PathBuf,
    /// Where the kubelet finds the driver.
    pub seats: Vec<Seat>,
}

impl ops::Report for Ops {
    fn trouble(&self) -> Option<String> {
        self.standing.borrow().trouble(&self.registration_socket)
    }

    fn illness(&self) -> Option<String> {
        let Some(lost) = self.seats.iter().find(|seat| !seat.is_taken()) else {
            return self.answering.borrow().clone();
        };
        Some(format!(
            "the socket {} is gone or another process's: the kubelet does not reach this one",
            lost.path().display()
        ))
    }

    fn metrics(&self) -> String {
        self.driver.measure();
        self.driver.metrics().render()
    }
}
