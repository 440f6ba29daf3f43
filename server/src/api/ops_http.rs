//! What the server answers on its plain port: it is ready while it is unsealed and can write its audit log.

use std::{path::PathBuf, sync::Arc};

use strongroom_daemon::ops::Report;

use crate::{core::Core, telemetry::Metrics};

/// What the answers are made of.
pub struct Ops {
    pub core: Arc<Core>,
    pub metrics: Arc<Metrics>,
    /// What is kept where, on disks that fill.
    pub kept: Vec<(&'static str, PathBuf)>,
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
        for (of, directory) in &self.kept {
            // What cannot be asked is not told.
            if let Ok(figures) = rustix::fs::statvfs(directory) {
                self.metrics.set_disk_free(of, figures.f_bavail * figures.f_frsize);
            }
        }
        self.metrics.render()
    }
}
