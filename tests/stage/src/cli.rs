//! The real command line, run as a person would, in a home of its own.

use std::{
    io::{self, Write},
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};

use crate::server::{Server, binary};

/// A person at a terminal: a home directory and a server to talk to.
#[derive(Clone)]
pub struct Cli {
    home: PathBuf,
    url: String,
    ca: PathBuf,
    token_file: Option<PathBuf>,
    variable: Option<(&'static str, String)>,
}

impl Cli {
    /// For `server`, with a home in `home`.
    ///
    /// # Errors
    /// The home cannot be made.
    pub fn new(home: &Path, server: &Server) -> io::Result<Cli> {
        std::fs::create_dir_all(home)?;
        Ok(Cli {
            home: home.into(),
            url: server.url.clone(),
            ca: server.ca(),
            token_file: None,
            variable: None,
        })
    }

    /// The same person with the token of that file instead of a login's.
    pub fn with_token(&self, file: &Path) -> Cli {
        Cli { token_file: Some(file.into()), ..self.clone() }
    }

    /// The same person with a variable of the environment.
    #[must_use]
    pub fn with_variable(&self, name: &'static str, value: &str) -> Cli {
        Cli { variable: Some((name, value.to_owned())), ..self.clone() }
    }

    /// What to set in a shell so that the commands work as printed.
    pub fn environment(&self) -> Vec<(&'static str, String)> {
        let mut variables = vec![
            ("XDG_CONFIG_HOME", self.home.join("config").display().to_string()),
            ("XDG_STATE_HOME", self.home.join("state").display().to_string()),
            ("STRONGROOM_ADDR", self.url.clone()),
            ("STRONGROOM_CACERT", self.ca.display().to_string()),
        ];
        if let Some(file) = &self.token_file {
            variables.push(("STRONGROOM_TOKEN_FILE", file.display().to_string()));
        }
        variables.extend(self.variable.clone());
        variables
    }

    /// Runs `strongroom ARGUMENTS` with `input` on its standard input.
    ///
    /// # Errors
    /// It could not be started.
    pub fn run(&self, arguments: &[&str], input: &[u8]) -> io::Result<Output> {
        let mut command = Command::new(binary("strongroom")?);
        command.env_clear().env("PATH", "/usr/bin:/bin").envs(self.environment()).args(arguments);
        let mut child =
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
        if let Some(mut stdin) = child.stdin.take() {
            // A command that does not read its input may end before it is written.
            let _ = stdin.write_all(input);
        }
        child.wait_with_output()
    }

    /// Runs and wants success; gives what it printed.
    ///
    /// # Errors
    /// It failed; the error holds all it printed.
    pub fn ok(&self, arguments: &[&str], input: &[u8]) -> io::Result<String> {
        let output = self.run(arguments, input)?;
        let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        if output.status.success() {
            return Ok(out.into_owned());
        }
        Err(io::Error::other(format!(
            "strongroom {} ended with {}\n{out}{err}",
            arguments.join(" "),
            output.status
        )))
    }

    /// Runs it where standard output is a terminal, and gives what a person would see.
    ///
    /// # Errors
    /// There is no `script` (util-linux) to make the terminal.
    pub fn on_terminal(&self, arguments: &[&str]) -> io::Result<String> {
        let line = format!("{} {}", binary("strongroom")?.display(), arguments.join(" "));
        let mut command = Command::new("script");
        command.env_clear().env("PATH", "/usr/bin:/bin").env("TERM", "xterm").envs(self.environment());
        let output = command.args(["-qec", &line, "/dev/null"]).stdin(Stdio::null()).output()?;
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }
}
