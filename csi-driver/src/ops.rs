//! What the driver answers on its plain port: it is ready once it is registered with the kubelet. Whether the server can be
//! reached is no part of being ready: pods that are mounted do not need it.

use std::{path::PathBuf, sync::Arc};

use strongroom_daemon::ops;
use tokio::sync::watch;

use crate::{publish::Driver, registration::Standing};

/// What the answers are made of.
pub struct Ops {
    /// What is mounted, and the metrics.
    pub driver: Arc<Driver>,
    /// What the kubelet says.
    pub standing: watch::Receiver<Standing>,
    /// Where it has to look.
    pub registration_socket: PathBuf,
}

impl ops::Report for Ops {
    fn trouble(&self) -> Option<String> {
        self.standing.borrow().trouble(&self.registration_socket)
    }

    fn metrics(&self) -> String {
        self.driver.measure();
        self.driver.metrics().render()
    }
}
