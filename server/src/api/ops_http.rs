//! What the server answers on its plain port: it is ready while it is unsealed and can write its audit log.

use std::sync::Arc;

use strongroom_daemon::ops::Report;

use crate::{core::Core, telemetry::Metrics};

/// What the answers are made of.
pub struct Ops {
    pub core: Arc<Core>,
    pub metrics: Arc<Metrics>,
}

impl Report for Ops {
    fn trouble(&self) -> Option<String> {
        self.core.ready().err().map(|error| error.to_string())
    }

    fn shortcoming(&self) -> Option<String> {
        let full = self.core.is_full();
        full.then(|| "the store is nearly full: only what takes rights or data away is written".to_owned())
    }

    fn metrics(&self) -> String {
        self.core.measure(&self.metrics);
        self.metrics.render()
    }
}
