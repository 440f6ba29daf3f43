//! Whose turn it is to write. There is one writer behind one lock, so the order of the chain is the order of the file, whoever
//! writes. Mostly that is the log's own thread. Where a record counts as soon as the kernel has it (`durability = "os"`), a
//! request that finds the log idle takes the turn itself, which costs less than to wake the thread and to be woken by it. It is
//! the thread's turn as soon as anything waits in the queue, is being written, or is due: a checkpoint, a rotation, the look at
//! the disk each second. This changes only when and by whom a line is written, never which, where or how.

use std::{
    io,
    sync::{Arc, Mutex, MutexGuard},
};

use super::{
    Durability,
    queue::{AuditError, Item, Shared},
    writer::Writer,
};

/// See the module.
pub(super) struct Desk {
    shared: Arc<Shared>,
    /// A record counts as soon as it is written, so requests take turns.
    open: bool,
    /// None once it is closed, or failed.
    writer: Mutex<Option<Writer>>,
}

impl Desk {
    pub(super) fn new(shared: Arc<Shared>, durability: Durability, writer: Writer) -> Self {
        Self { shared, open: durability == Durability::Os, writer: Mutex::new(Some(writer)) }
    }

    /// The thread: until the log is closed or fails.
    pub(super) fn run(&self) {
        while let Some(plan) = self.turn(|writer| Some(writer.as_ref()?.plan())) {
            self.shared.wait(plan.until);
            if let Some(linger) = plan.linger {
                self.shared.linger(linger, plan.most);
            }
            let goes_on = self.turn(|writer| {
                match writer.as_mut()?.round() {
                    Ok(None) => return Some(()),
                    Ok(Some(closed)) => {
                        // Frees the directory before anybody is told that it is free.
                        if let Some(writer) = writer.take() {
                            writer.close();
                        }
                        // Nobody may be waiting for it.
                        let _ = closed.send(());
                    }
                    Err(error) => fail(writer, &error),
                }
                None
            });
            if goes_on.is_none() {
                return;
            }
        }
    }

    /// A request: writes the record at once if it can. Gives it back if it is the thread's turn.
    ///
    /// # Errors
    /// No record like this is taken now, or the file failed.
    pub(super) fn at_once(&self, item: Item) -> Result<Option<Item>, AuditError> {
        if !self.open {
            return Ok(Some(item));
        }
        let idle = |writer: &MutexGuard<'_, Option<Writer>>| writer.as_ref().is_some_and(Writer::is_idle);
        // Without waiting for it: who has the lock is writing.
        let free = || self.writer.try_lock().ok().filter(idle);
        let Some(mut turn) = self.shared.overtake_nobody(&item, free)? else { return Ok(Some(item)) };
        let written = turn.as_mut().map(|writer| writer.write(item));
        if let Some(Err(error)) = written {
            fail(&mut turn, &error);
        }
        self.shared.check_alive().map(|()| None)
    }

    /// The writer, when nobody else has it. If somebody panicked while they wrote, nobody knows what is in the file.
    fn turn<T>(&self, act: impl FnOnce(&mut Option<Writer>) -> Option<T>) -> Option<T> {
        match self.writer.lock() {
            Ok(mut writer) => act(&mut writer),
            Err(poisoned) => {
                fail(&mut poisoned.into_inner(), &io::Error::other("a fault of the server's own"));
                None
            }
        }
    }
}

fn fail(writer: &mut Option<Writer>, error: &io::Error) {
    tracing::error!(%error, "the audit log cannot be written; no request is answered any more");
    if let Some(writer) = writer.take() {
        writer.abandon(&error.to_string());
    }
}
