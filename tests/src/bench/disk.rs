//! What the disk itself can do: appending and fdatasync in a bare loop, in the directory where the server's data lies.

use std::{
    fs::File,
    io::{self, Write},
    path::Path,
    time::{Duration, Instant},
};

/// Appends groups of `bytes` to each of `files` files, with one fdatasync after each, for `span`; groups a second.
///
/// # Errors
/// The disk's.
pub fn groups_per_second(directory: &Path, files: usize, bytes: usize, span: Duration) -> io::Result<f64> {
    let mut open: Vec<File> =
        (0..files).map(|n| File::create(directory.join(format!("disk-{n}")))).collect::<io::Result<_>>()?;
    let data = vec![0x5a; bytes];
    let started = Instant::now();
    let mut groups = 0.0;
    while started.elapsed() < span {
        for file in &mut open {
            file.write_all(&data)?;
            file.sync_data()?;
        }
        groups += 1.0;
    }
    let rate = groups / started.elapsed().as_secs_f64();
    (0..files).try_for_each(|n| std::fs::remove_file(directory.join(format!("disk-{n}"))))?;
    Ok(rate)
}
