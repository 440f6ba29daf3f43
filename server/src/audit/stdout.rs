//! Durable lines once more on standard output, for log collectors. A thread writes them; when the collector is too slow
//! lines are left out and counted, and a line says so. The file has them all.

use std::{
    io::{self, Write},
    sync::mpsc::{self, Receiver, RecvTimeoutError, SyncSender, TrySendError},
    time::Duration,
};

use bytes::Bytes;

use super::{Sink, SinkKind};

/// Groups that wait for the collector; a group has at most 1,024 lines and mostly far fewer.
const WAITING: usize = 64;
/// How long a close waits for the collector.
const PATIENCE: Duration = Duration::from_secs(1);

pub(super) const KIND: SinkKind = SinkKind {
    name: "stdout",
    description: "a copy of each line on standard output; leaves lines out when the reader is too slow",
    build: |_| Ok(Box::new(StdoutSink::to(io::stdout())?)),
};

pub struct StdoutSink {
    lines: SyncSender<Bytes>,
    finished: Receiver<()>,
    suppressed: usize,
}

impl StdoutSink {
    /// Writes to `output`.
    ///
    /// # Errors
    /// No thread to be had.
    pub fn to(mut output: impl Write + Send + 'static) -> io::Result<Self> {
        let (lines, receiver) = mpsc::sync_channel::<Bytes>(WAITING);
        let (done, finished) = mpsc::sync_channel(1);
        std::thread::Builder::new().name("audit-stdout".to_owned()).spawn(move || {
            for lines in receiver {
                // Nobody reads any more: the sink is optional, so this is no reason to stop.
                if output.write_all(&lines).and_then(|()| output.flush()).is_err() {
                    break;
                }
            }
            let _ = done.send(());
        })?;
        Ok(Self { lines, finished, suppressed: 0 })
    }
}

impl Sink for StdoutSink {
    fn offer(&mut self, lines: &Bytes) {
        if self.suppressed > 0 {
            let note = format!("{{\"kind\":\"sink_suppressed\",\"count\":{}}}\n", self.suppressed);
            if self.lines.try_send(note.into()).is_ok() {
                self.suppressed = 0;
            }
        }
        match self.lines.try_send(lines.clone()) {
            Ok(()) | Err(TrySendError::Disconnected(_)) => {}
            Err(TrySendError::Full(lines)) => {
                self.suppressed += lines.iter().filter(|byte| **byte == b'\n').count();
            }
        }
    }

    fn close(self: Box<Self>) {
        let Self { lines, finished, .. } = *self;
        drop(lines);
        if finished.recv_timeout(PATIENCE) == Err(RecvTimeoutError::Timeout) {
            tracing::warn!(
                "the reader of standard output is too slow; the last audit lines did not reach it"
            );
        }
    }
}
