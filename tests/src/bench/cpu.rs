//! Processor time, as the system counts it: in hundredths of a second, so only of runs that are long enough.

use std::{fs, io};

/// Seconds of processor time of a process, all of its threads.
///
/// # Errors
/// It is gone.
#[expect(clippy::cast_precision_loss, reason = "a hundred")]
pub fn seconds(pid: u32) -> io::Result<f64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // proc_pid_stat(5): utime and stime are fields 14 and 15; the second field may hold anything, in parentheses.
    let (_, fields) = stat.rsplit_once(") ").ok_or_else(|| io::Error::other("no stat"))?;
    let ticks: f64 = fields.split(' ').skip(11).take(2).filter_map(|field| field.parse::<f64>().ok()).sum();
    Ok(ticks / rustix::param::clock_ticks_per_second() as f64)
}
