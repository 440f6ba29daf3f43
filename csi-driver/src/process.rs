//! What the process tells the system about itself at start: no core dumps, nothing for other processes to read, no
//! swapping of what it holds where that is allowed.

use rustix::{
    fs::Mode,
    mm::{MlockAllFlags, mlockall},
    process::{DumpableBehavior, Resource, Rlimit, getrlimit, set_dumpable_behavior, setrlimit, umask},
    thread::{CapabilitySet, capabilities},
};

/// Hardens the process. Call it first; what does not work is logged and is no reason not to start.
pub fn harden() {
    umask(Mode::RWXG | Mode::RWXO);
    if let Err(error) = set_dumpable_behavior(DumpableBehavior::NotDumpable) {
        tracing::warn!(%error, "other processes may read this one's memory: PR_SET_DUMPABLE failed");
    }
    if let Err(error) = setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) }) {
        tracing::warn!(%error, "a crash may write secrets to a core dump");
    }
    if !may_lock() {
        if has_swap() {
            tracing::warn!(
                "memory is not locked and this node swaps, so secrets may be written to its disk: switch swap off, or add the \
                 capability IPC_LOCK"
            );
        }
    } else if let Err(error) =
        // Only pages in use: thread stacks and reserves do not become resident.
        mlockall(MlockAllFlags::CURRENT | MlockAllFlags::FUTURE | MlockAllFlags::ONFAULT)
    {
        tracing::warn!(%error, "memory is not locked, secrets may be swapped out");
    }
}

/// Whether there is anywhere to swap to, proc_swaps(5): a line for each place below a heading. Where it cannot be read, there
/// may be.
fn has_swap() -> bool {
    std::fs::read_to_string("/proc/swaps").map_or(true, |table| table.lines().count() > 1)
}

/// With a finite limit every mapping beyond it would be a failed allocation, at any later time.
fn may_lock() -> bool {
    getrlimit(Resource::Memlock).current.is_none()
        || capabilities(None).is_ok_and(|sets| sets.effective.contains(CapabilitySet::IPC_LOCK))
}
