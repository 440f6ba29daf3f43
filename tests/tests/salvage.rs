//! A damaged store, as the operator meets it: the start is refused with a message that says where the damage is and what to
//! do, not a byte changes, and what the message names brings everything back.

use std::{fs, io};

use strongroom_tests::{
    cli::Cli,
    server::{Options, Server, salvage, salvage_typed},
};

#[test]
fn one_flipped_byte_costs_nothing_and_the_message_says_what_to_do() -> io::Result<()> {
    let home = tempfile::tempdir()?;
    let (home, options) = (home.path(), Options::default());
    let (data, log) = (home.join("data"), home.join("data/db"));
    let keys = home.join("keys").display().to_string();
    let server = Server::start(home, &options)?;
    Cli::new(home, &server)?.ok(&["init", "--shares", "3", "--threshold", "2", "--out-dir", &keys], b"")?;
    let unseal = |server: &Server| {
        let shares = [format!("{keys}/share-1"), format!("{keys}/share-3")];
        Cli::new(home, server)?.ok(&["unseal", "--share-file", &shares[0], "--share-file", &shares[1]], b"")
    };
    unseal(&server)?;
    let put = |server: &Server, path: &str, value: &str| {
        let cli = Cli::new(home, server)?.with_token(&home.join("keys/root-token"));
        cli.ok(&["put", path, "value=-"], value.as_bytes()).map(drop)
    };
    for number in 0..40 {
        put(&server, &format!("secret/a{number}"), &format!("value {number}"))?;
    }
    server.stop()?;

    let mut bytes = fs::read(&log)?;
    let used = bytes.iter().rposition(|byte| *byte != 0).unwrap_or(0);
    bytes[used / 3] ^= 1;
    fs::write(&log, &bytes)?;
    let refused = match Server::start(home, &options) {
        Ok(_) => panic!("it started"),
        Err(error) => error.to_string(),
    };
    for word in [
        "is not whole",
        "not a byte of it was changed",
        "damaged at byte",
        "bytes are intact",
        "salvage --into",
    ] {
        assert!(refused.contains(word), "{word} is not in {refused}");
    }
    assert!(!refused.contains("accept-rollback"), "{refused}");
    assert!(fs::read(&log)? == bytes, "the refused start wrote to the log");

    // Without shares, with too few, into a directory that is in use: a sentence each, and nothing is made.
    let new = home.join("new");
    let share = |number: u8| home.join(format!("keys/share-{number}"));
    let told = |output: &std::process::Output| String::from_utf8_lossy(&output.stderr).into_owned();
    let without = told(&salvage(home, &new, &[])?);
    assert!(without.contains("give 2 of them"), "{without}");
    let few = told(&salvage(home, &new, &[share(2)])?);
    assert!(few.contains("1 shares were given, 2 are needed"), "{few}");
    let mixed = told(&salvage(home, &data, &[share(2), share(3)])?);
    assert!(mixed.contains("is not empty"), "{mixed}");

    let typed = [fs::read(share(2))?, fs::read(share(3))?].join(&b'\n');
    let done = salvage_typed(home, &new, &typed)?;
    let report = String::from_utf8_lossy(&done.stdout).into_owned();
    assert!(matches!(done.status.code(), Some(0 | 3)), "{report}{}", told(&done));
    assert!(fs::read(&log)? == bytes, "salvage wrote to the damaged log");
    fs::rename(&data, home.join("damaged"))?;
    fs::rename(&new, &data)?;
    let arguments = if done.status.success() { Vec::new() } else { vec!["--accept-rollback".to_owned()] };
    let server = Server::start(home, &Options { arguments, ..Options::default() })?;
    unseal(&server)?;
    let cli = Cli::new(home, &server)?.with_token(&home.join("keys/root-token"));
    for number in 0..40 {
        let path = format!("secret/a{number}");
        let got = cli.run(&["get", &path, "--key", "value"], b"")?;
        let right = got.status.success() && got.stdout.starts_with(format!("value {number}").as_bytes());
        assert!(right || report.contains(&format!("{path} ")), "{path} is lost and not named:\n{report}");
    }
    put(&server, "secret/after", "written")?;
    let scrubbed = cli.ok(&["operator", "scrub"], b"")?;
    assert!(!scrubbed.contains("missing"), "{scrubbed}");
    server.stop()?;
    let server = Server::start(home, &options)?;
    unseal(&server)?;
    server.stop()
}

/// The log ends in its last commits, at every kind of byte of them: what was acknowledged there is named.
#[test]
fn an_end_that_is_cut_off_is_named_to_the_last_write() -> io::Result<()> {
    let home = tempfile::tempdir()?;
    let home = home.path();
    let keys = home.join("keys").display().to_string();
    let server = Server::start(home, &Options::default())?;
    let cli = Cli::new(home, &server)?;
    cli.ok(&["init", "--shares", "1", "--threshold", "1", "--out-dir", &keys], b"")?;
    cli.ok(&["unseal", "--share-file", &format!("{keys}/share-1")], b"")?;
    let cli = cli.with_token(&home.join("keys/root-token"));
    for number in 0..6 {
        cli.ok(&["put", &format!("secret/a{number}"), "value=-"], &[b'.'; 200])?;
    }
    server.stop()?;
    let (whole, log) = (fs::read(home.join("data/db"))?, home.join("data/db"));
    let used = whole.iter().rposition(|byte| *byte != 0).unwrap_or(0);
    let share = [home.join("keys/share-1")];
    let brought_back = |report: &str| {
        report
            .lines()
            .find(|line| line.starts_with("brought back"))
            .map(|line| line.split(',').next().unwrap_or_default().to_owned())
    };
    let all = salvage(home, &home.join("all"), &share)?;
    let all = brought_back(&String::from_utf8_lossy(&all.stdout));
    let mut losses = 0;
    // The last commits are that of the last put and what the stop wrote.
    for (number, end) in (used - 6000..used).step_by(101).enumerate() {
        fs::write(&log, &whole[..end])?;
        let done = salvage(home, &home.join(format!("new-{number}")), &share)?;
        let report = String::from_utf8_lossy(&done.stdout).into_owned();
        let named = done.status.code() == Some(3) && report.contains("secret/a5 ");
        let complete =
            done.status.success() && report.contains("nothing is lost") && brought_back(&report) == all;
        assert!(
            named || complete,
            "cut to {end} of {used}:\n{report}{}",
            String::from_utf8_lossy(&done.stderr)
        );
        losses += u64::from(named);
    }
    assert!(losses > 5, "the cuts took nothing away");

    // All of the log is gone, seal and keyring with it: the keys are still found.
    fs::write(&log, vec![0; whole.len()])?;
    let done = salvage(home, &home.join("new"), &share)?;
    let told = [done.stdout, done.stderr].concat();
    assert_eq!(done.status.code(), Some(3), "{}", String::from_utf8_lossy(&told));
    fs::rename(home.join("data"), home.join("damaged"))?;
    fs::rename(home.join("new"), home.join("data"))?;
    let arguments = vec!["--accept-rollback".to_owned()];
    let server = Server::start(home, &Options { arguments, ..Options::default() })?;
    Cli::new(home, &server)?.ok(&["unseal", "--share-file", &format!("{keys}/share-1")], b"")?;
    server.stop()
}
