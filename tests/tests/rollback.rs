//! Old data under a newer audit log, or data without its log, is noticed, told in words, and accepted only from somebody
//! who says so; and the log remembers that.

use std::{fs, io, path::Path, process::Command};

use strongroom_tests::{
    cli::Cli,
    server::{Options, Server},
};

/// One more write that the data from before does not have.
fn write(home: &Path, server: &Server) -> io::Result<()> {
    let cli = Cli::new(home, server)?.with_token(&home.join("keys/root-token"));
    cli.ok(&["put", "secret/a", "value=-"], b"x").map(drop)
}

fn copy(from: &Path, to: &Path) -> io::Result<()> {
    let done = Command::new("cp").arg("-a").args([from, to]).status()?;
    if done.success() { Ok(()) } else { Err(io::Error::other("cp")) }
}

#[test]
fn old_data_is_refused_until_somebody_accepts_it() -> io::Result<()> {
    let home = tempfile::tempdir()?;
    let (home, options) = (home.path(), Options::default());
    let (data, old) = (home.join("data"), home.join("old"));
    let server = Server::start(home, &options)?;
    let keys = home.join("keys").display().to_string();
    Cli::new(home, &server)?.ok(&["init", "--shares", "1", "--threshold", "1", "--out-dir", &keys], b"")?;
    let unseal = |server: &Server| {
        Cli::new(home, server)?.run(&["unseal", "--share-file", &format!("{keys}/share-1")], b"")
    };
    assert!(unseal(&server)?.status.success());
    write(home, &server)?;
    server.stop()?;

    copy(&data, &old)?;
    let server = Server::start(home, &options)?;
    assert!(unseal(&server)?.status.success());
    write(home, &server)?;
    server.stop()?;
    fs::remove_dir_all(&data)?;
    copy(&old, &data)?;

    let server = Server::start(home, &options)?;
    let refused = unseal(&server)?;
    let told = String::from_utf8_lossy(&refused.stderr);
    assert!(!refused.status.success() && told.contains("older than the audit log"), "{told}");
    assert!(server.log().contains("older than the audit log"), "{}", server.log());
    server.stop()?;

    let accepting = Options { arguments: vec!["--accept-rollback".into()], ..Options::default() };
    let server = Server::start(home, &accepting)?;
    assert!(unseal(&server)?.status.success());
    write(home, &server)?;
    server.stop()?;

    let server = Server::start(home, &options)?;
    assert!(unseal(&server)?.status.success(), "once is enough");
    server.stop()?;
    assert!(log(home)?.contains("another copy: accepted by --accept-rollback"));

    // The log goes, the data stays; a start in between does not make it better.
    fs::remove_dir_all(home.join("audit"))?;
    for _ in 0..2 {
        let server = Server::start(home, &options)?;
        let refused = unseal(&server)?;
        let told = String::from_utf8_lossy(&refused.stderr);
        assert!(!refused.status.success() && told.contains("audit log of this store is missing"), "{told}");
        server.stop()?;
    }
    let server = Server::start(home, &accepting)?;
    assert!(unseal(&server)?.status.success());
    server.stop()?;
    assert!(log(home)?.contains("is lost: accepted by --accept-rollback"));
    let server = Server::start(home, &options)?;
    assert!(unseal(&server)?.status.success(), "once is enough");
    write(home, &server)?;
    server.stop()
}

/// All of the audit log.
fn log(home: &Path) -> io::Result<String> {
    let mut text = String::new();
    for segment in fs::read_dir(home.join("audit"))? {
        text.push_str(&fs::read_to_string(segment?.path())?);
    }
    Ok(text)
}
