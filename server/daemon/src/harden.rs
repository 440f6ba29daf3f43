//! What a process tells the system about itself at its start: no core dumps, nothing for other processes to read, no
//! swapping of secrets where that is allowed, no files that others can read, enough open files, no huge pages.

use rustix::{
    fs::Mode,
    mm::{MlockAllFlags, mlockall},
    process::{DumpableBehavior, Resource, Rlimit, getrlimit, set_dumpable_behavior, setrlimit, umask},
    thread::{CapabilitySet, capabilities, disable_transparent_huge_pages},
};

/// What one process needs otherwise than another.
#[derive(Clone, Copy, Debug)]
pub struct Needs {
    /// How many files and connections are open when all of its limits are reached. `None` for a process that stays far
    /// below the usual limit, which is then left as it is.
    pub open_files: Option<u64>,
    /// What can be done about swap where it runs, as the end of a sentence: `switch swap off`.
    pub against_swap: &'static str,
}

/// Whether memory is kept out of swap.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MemoryLock {
    Locked,
    /// The limit is finite and the capability is missing: locking would make a later allocation fail.
    NotAllowed,
    /// The system refused all the same.
    Refused(rustix::io::Errno),
}

/// Hardens the process. Call it first, before any secret is in memory and before other threads exist; what does not
/// work is logged with what to do about it, and the process starts all the same.
pub fn harden(needs: Needs) -> MemoryLock {
    umask(Mode::RWXG | Mode::RWXO);
    if let Err(error) = set_dumpable_behavior(DumpableBehavior::NotDumpable) {
        tracing::warn!(%error, "other processes of this user may read this one's memory: PR_SET_DUMPABLE failed");
    }
    if let Err(error) = setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) }) {
        tracing::warn!(%error, "a crash may write secrets to a core dump: set LimitCORE=0");
    }
    // Where the system hands them out unasked, the first byte of 2 MiB makes all of it resident; and locked, it stays so.
    if let Err(error) = disable_transparent_huge_pages(true) {
        tracing::warn!(%error, "more memory than needed may be resident: PR_SET_THP_DISABLE failed");
    }
    if let Some(needed) = needs.open_files {
        allow_open_files(needed);
    }
    let lock = lock_memory();
    match lock {
        MemoryLock::Locked => tracing::info!("memory is locked: secrets are never swapped out"),
        MemoryLock::NotAllowed | MemoryLock::Refused(_) if !has_swap() => {
            tracing::info!("memory is not locked and need not be: this machine has no swap");
        }
        MemoryLock::NotAllowed => tracing::warn!(
            "memory is not locked and this machine swaps, so secrets may be written to its disk: {}",
            needs.against_swap
        ),
        MemoryLock::Refused(error) => tracing::warn!(
            %error,
            "memory is not locked and this machine swaps, so secrets may be written to its disk: switch swap off"
        ),
    }
    lock
}

/// Raises the soft limit of open files, 1,024 in most shells, to the hard one: each connection is one.
fn allow_open_files(needed: u64) {
    let limit = getrlimit(Resource::Nofile);
    if let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum })
    {
        tracing::warn!(%error, "the limit of open files could not be raised");
    }
    if limit.maximum.is_some_and(|files| files < needed) {
        tracing::warn!(
            files = limit.maximum,
            needed,
            "too few open files for as many connections as are allowed: set LimitNOFILE="
        );
    }
}

/// ONFAULT: only pages in use are locked, so that thread stacks and reserves do not become resident.
fn lock_memory() -> MemoryLock {
    if !may_lock() {
        return MemoryLock::NotAllowed;
    }
    match mlockall(MlockAllFlags::CURRENT | MlockAllFlags::FUTURE | MlockAllFlags::ONFAULT) {
        Ok(()) => MemoryLock::Locked,
        Err(error) => MemoryLock::Refused(error),
    }
}

/// With a finite limit MCL_FUTURE turns every mapping beyond it into a failed allocation, at any later time.
fn may_lock() -> bool {
    getrlimit(Resource::Memlock).current.is_none()
        || capabilities(None).is_ok_and(|sets| sets.effective.contains(CapabilitySet::IPC_LOCK))
}

/// Whether there is anywhere to swap to, proc_swaps(5): a line for each place below a heading. Where it cannot be read, there
/// may be. Swap that is switched on later is not seen.
fn has_swap() -> bool {
    std::fs::read_to_string("/proc/swaps").map_or(true, |table| table.lines().count() > 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The process is shared with other tests: all of this is harmless to them.
    #[test]
    fn no_dumps_and_no_open_files() {
        let lock = harden(Needs { open_files: Some(1), against_swap: "switch swap off" });
        assert_eq!(lock == MemoryLock::NotAllowed, !may_lock());
        assert_eq!(getrlimit(Resource::Core).current, Some(0));
        let files = getrlimit(Resource::Nofile);
        assert_eq!(files.current, files.maximum);
        assert_eq!(rustix::process::dumpable_behavior().unwrap(), DumpableBehavior::NotDumpable);
        assert!(rustix::thread::transparent_huge_pages_are_disabled().unwrap());
        let file = tempfile::tempdir().unwrap();
        let path = file.path().join("new");
        std::fs::write(&path, "").unwrap();
        let mode = std::os::unix::fs::MetadataExt::mode(&std::fs::metadata(path).unwrap());
        assert_eq!(mode & 0o077, 0);
    }
}
