//! Old data under a newer audit log, an old log under newer data, data without its log, and, where an anchor is kept elsewhere,
//! both of them old: each is noticed, told in words, and accepted only from somebody who says so; and the log remembers that.

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

/// A store with a key file, which opens by itself, and a copy of everything from before the last write.
struct Restored {
    home: tempfile::TempDir,
}

impl Restored {
    fn new() -> io::Result<Restored> {
        let restored = Restored { home: tempfile::tempdir()? };
        let server = restored.start(&[])?;
        let keys = restored.at("keys").display().to_string();
        let cli = Cli::new(&restored.at("people"), &server)?;
        cli.ok(&["init", "--file-seal", "--out-dir", &keys], b"")?;
        restored.write(&server)?;
        server.stop()?;
        for folder in ["data", "audit"] {
            copy(&restored.at(folder), &restored.at(&format!("old-{folder}")))?;
        }
        let server = restored.start(&[])?;
        restored.write(&server)?;
        let anchor = restored
            .cli(&server)?
            .ok(&["audit", "anchor", "--public-key", &format!("@{keys}/audit-public-key")], b"")?;
        fs::write(restored.at("anchor"), anchor)?;
        server.stop()?;
        Ok(restored)
    }

    fn at(&self, name: &str) -> std::path::PathBuf {
        self.home.path().join(name)
    }

    fn start(&self, arguments: &[&str]) -> io::Result<Server> {
        let arguments = arguments.iter().map(|argument| (*argument).to_owned()).collect();
        Server::start(self.home.path(), &Options { arguments, ..Options::default() })
    }

    fn cli(&self, server: &Server) -> io::Result<Cli> {
        Ok(Cli::new(&self.at("people"), server)?.with_token(&self.at("keys/root-token")))
    }

    fn write(&self, server: &Server) -> io::Result<()> {
        self.cli(server)?.ok(&["put", "secret/a", "value=-"], b"x").map(drop)
    }

    /// Puts the old copy in place.
    fn restore(&self, folder: &str) -> io::Result<()> {
        fs::remove_dir_all(self.at(folder))?;
        copy(&self.at(&format!("old-{folder}")), &self.at(folder))
    }

    /// A start that ends by itself, with these words.
    fn refused(&self, arguments: &[&str], words: &str) -> io::Result<()> {
        let told = match self.start(arguments) {
            Ok(_) => return Err(io::Error::other(format!("it started; expected: {words}"))),
            Err(error) => error.to_string(),
        };
        assert!(told.contains(words), "{told}");
        Ok(())
    }
}

#[test]
fn an_old_log_beside_newer_data_is_refused_like_a_missing_one() -> io::Result<()> {
    let restored = Restored::new()?;
    restored.restore("audit")?;
    restored.refused(&[], "the audit log is older than the data knows it")?;
    // Each start adds to the log. Long enough at last, it still is another one.
    for _ in 0..12 {
        restored.refused(&[], "the data knows")?;
    }
    restored.refused(&[], "the audit log is not the one that the data knows")?;

    let server = restored.start(&["--accept-rollback"])?;
    server.stop()?;
    let server = restored.start(&[])?;
    restored.write(&server)?;
    server.stop()?;
    assert!(log(restored.home.path())?.contains("the data knew: accepted by --accept-rollback"));
    Ok(())
}

/// Nobody wrote since: the clean stop is what the data knows of it.
#[test]
fn reads_that_are_cut_off_the_log_are_missed_after_a_clean_stop() -> io::Result<()> {
    let restored = Restored::new()?;
    let server = restored.start(&[])?;
    server.stop()?;
    let cut = restored.at("old-audit-2");
    copy(&restored.at("audit"), &cut)?;
    let server = restored.start(&[])?;
    for _ in 0..20 {
        restored.cli(&server)?.ok(&["get", "secret/a", "-o", "json"], b"")?;
    }
    server.stop()?;
    fs::remove_dir_all(restored.at("audit"))?;
    copy(&cut, &restored.at("audit"))?;
    restored.refused(&[], "the audit log is older than the data knows it")
}

#[test]
fn both_old_are_refused_by_who_kept_an_anchor() -> io::Result<()> {
    let restored = Restored::new()?;
    let anchor = restored.at("anchor").display().to_string();
    let with_anchor = ["--audit-anchor", anchor.as_str()];
    let server = restored.start(&with_anchor)?;
    server.stop()?;
    restored.restore("data")?;
    restored.restore("audit")?;
    restored.refused(&with_anchor, "the audit log is older than the anchor knows it")?;
    restored.refused(&["--audit-anchor", "/nowhere"], "audit.anchor /nowhere")?;

    // The same question, asked of the files alone.
    let server = restored.start(&["--accept-rollback", "--audit-anchor", &anchor])?;
    let cli = restored.cli(&server)?;
    let files: Vec<String> = segments(&restored.at("audit"))?;
    let key = format!("@{}", restored.at("keys/audit-public-key").display());
    let expected = format!("@{anchor}");
    let mut verify = vec!["audit", "verify", "--public-key", &key];
    verify.extend(files.iter().map(String::as_str));
    assert!(cli.run(&verify, b"")?.status.success(), "whole, and old");
    verify.extend(["--expected", &expected]);
    let told = cli.run(&verify, b"")?;
    let words = String::from_utf8_lossy(&told.stderr).into_owned();
    assert!(!told.status.success(), "{words}");
    server.stop()?;
    assert!(log(restored.home.path())?.contains("the anchor knew: accepted by --accept-rollback"));
    Ok(())
}

fn segments(directory: &Path) -> io::Result<Vec<String>> {
    let mut files: Vec<String> = Vec::new();
    for entry in fs::read_dir(directory)? {
        files.push(entry?.path().display().to_string());
    }
    files.sort();
    Ok(files)
}
