//! `make demo`: the main job as a newcomer sees it. Starts a real server with TLS, walks through it with the real command
//! line, then stays up until Ctrl-C. `--once` ends after the tour.
#![expect(clippy::print_stdout, reason = "the tour is for people")]

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use clap::Parser;
use strongroom_stage::{
    cli::Cli,
    server::{Options, Server, binary},
};

#[derive(Parser)]
struct Args {
    /// End after the tour.
    #[arg(long)]
    once: bool,
}

/// The administrator of the demo; a throw-away server on the loopback address.
const ADMIN: &str = "admin";
/// Who may do everything.
const BINDING: &str = "kind: Binding
name: admins
role: admin
subjects:
- user: {method: userpass, name: admin}
";

#[tokio::main]
async fn main() -> io::Result<()> {
    let args = Args::parse();
    let home = tempfile::Builder::new().prefix("strongroom-demo-").tempdir()?;
    let server = Server::start(home.path(), &Options::default())?;
    let tour = Tour { cli: Cli::new(home.path(), &server)?, home: home.path().to_owned() };
    println!("A server listens on {} with a certificate of a throw-away CA.\n", server.url);
    tour.open_the_store()?;
    tour.make_an_admin()?;
    tour.keep_a_secret()?;
    println!("Done: a secret was written, read, listed and rotated, and the audit log has it all.\n");
    if !args.once {
        tour.invite(&server)?;
        tokio::signal::ctrl_c().await?;
        println!("\nStopping. Everything of this demo is removed.");
    }
    server.stop()
}

struct Tour {
    cli: Cli,
    home: PathBuf,
}

impl Tour {
    /// Shows a command as one would type it, runs it, shows what it prints.
    fn show(&self, arguments: &[&str], input: &[u8]) -> io::Result<String> {
        println!("$ strongroom {}", self.short(&arguments.join(" ")));
        let printed = self.cli.ok(arguments, input)?;
        println!("{}", printed.trim_end());
        println!();
        Ok(printed)
    }

    /// Without the folder that everything is in.
    fn short(&self, text: &str) -> String {
        text.replace(&format!("{}/", self.home.display()), "")
    }

    fn file(&self, name: &str) -> String {
        self.home.join(name).display().to_string()
    }

    fn open_the_store(&self) -> io::Result<()> {
        let keys = self.file("keys");
        println!(
            "# Make the store. Its key is split into 3 shares, any 2 of them open it; each would go to another person."
        );
        self.show(&["init", "--shares", "3", "--threshold", "2", "--out-dir", &keys], b"")?;
        println!("# Open it: two people give their shares.");
        for share in ["share-1", "share-2"] {
            self.show(&["unseal", "--share-file", &format!("{keys}/{share}")], b"")?;
        }
        Ok(())
    }

    fn make_an_admin(&self) -> io::Result<()> {
        println!(
            "# The root token of init lives an hour: make the first administrator with it, then let it go."
        );
        let (password, binding) = (self.file("password"), self.file("admin.yaml"));
        write_secret(Path::new(&password), b"correct horse battery staple")?;
        fs::write(&binding, BINDING)?;
        let token = self.file("keys/root-token");
        println!("$ export STRONGROOM_TOKEN_FILE={}", self.short(&token));
        let root = Tour { cli: self.cli.with_token(Path::new(&token)), home: self.home.clone() };
        root.show(&["user", "put", ADMIN, "--password-file", &password], b"")?;
        root.show(&["apply", "-f", &binding, "--yes"], b"")?;
        root.show(&["logout"], b"")?;
        println!("$ unset STRONGROOM_TOKEN_FILE");
        self.show(&["login", "--user", ADMIN, "--password-file", &password], b"")?;
        Ok(())
    }

    fn keep_a_secret(&self) -> io::Result<()> {
        println!(
            "# Keep a secret. Values come from files, standard input or a prompt, never from the command line."
        );
        let (first, second) = (self.file("api-key.1"), self.file("api-key.2"));
        write_secret(Path::new(&first), b"sk-demo-4f9a1c")?;
        write_secret(Path::new(&second), b"sk-demo-77e0b2")?;
        self.show(&["put", "secret/apps/shop/stripe", &format!("api_key=@{first}")], b"")?;
        self.show(&["get", "secret/apps/shop/stripe", "--key", "api_key"], b"")?;
        self.show(&["list", "secret/apps/shop"], b"")?;
        println!("# Rotate it: a new version, and the old one is still there.");
        self.show(&["put", "secret/apps/shop/stripe", &format!("api_key=@{second}")], b"")?;
        self.show(&["history", "secret/apps/shop/stripe"], b"")?;
        println!("# Who did what: every request is in a signed, hash-chained log.");
        self.show(&["audit", "query", "--path", "secret/apps/shop/stripe"], b"")?;
        Ok(())
    }

    fn invite(&self, server: &Server) -> io::Result<()> {
        println!("The server stays up until Ctrl-C. In a second terminal:\n");
        for (name, value) in self.cli.environment() {
            println!("export {name}={value}");
        }
        let strongroom = binary("strongroom")?;
        if let Some(folder) = strongroom.parent() {
            println!("export PATH={}:$PATH\n", folder.display());
        }
        println!("strongroom whoami");
        println!(
            "printf %s shop | strongroom put secret/apps/shop/db username=-   # or: password (asks), password=@FILE"
        );
        println!("strongroom get secret/apps/shop/db");
        println!("strongroom can-i read secret/apps/shop/db --as kubernetes/main/shop/web");
        println!("strongroom audit tail --follow");
        println!("curl -s http://{}/metrics | grep strongroom_requests", server.ops);
        Ok(())
    }
}

/// 0600 from the first byte on.
fn write_secret(file: &Path, content: &[u8]) -> io::Result<()> {
    use std::{io::Write, os::unix::fs::OpenOptionsExt};
    let mut options = fs::OpenOptions::new();
    options.write(true).create_new(true).mode(0o600).open(file)?.write_all(content)
}
