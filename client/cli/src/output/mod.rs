//! The only way to standard output and standard error: tables for people, JSON and YAML for programs. Nothing from the
//! server can move the cursor or colour the screen: control characters are shown, not sent.

mod format;
mod plain;

use std::{
    fs,
    io::{self, IsTerminal, Write},
    path::{Path, PathBuf},
};

use comfy_table::{Table, presets};
use serde::Serialize;
use zeroize::Zeroizing;

use self::plain::visible;
use crate::{failure::Failure, private_file};

pub(crate) use self::format::Format;

/// What is printed in place of a value; it is the same for all, so that not even the length shows.
pub(crate) const MASK: &str = "********";

pub(crate) struct Output {
    format: Option<Format>,
    terminal: bool,
    colours: bool,
}

/// A result as people see it.
pub(crate) enum Presentation {
    /// Columns under a header.
    Table(Vec<&'static str>, Vec<Vec<String>>),
    /// A label and a value on each line.
    Pairs(Vec<(&'static str, String)>),
    /// Just text.
    Text(String),
}

/// Whether a person who sees it may be shown colours.
pub(crate) fn wants_colours(no_color: bool) -> bool {
    let refused = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    !no_color && !refused
}

impl Output {
    pub(crate) fn new(format: Option<Format>, no_color: bool) -> Self {
        let terminal = io::stdout().is_terminal();
        Self { format, terminal, colours: terminal && wants_colours(no_color) }
    }

    /// Whether a person sees standard output.
    pub(crate) fn is_terminal(&self) -> bool {
        self.terminal
    }

    /// A value is shown to a person only if that was asked for.
    pub(crate) fn check_consent(&self, show: bool) -> Result<(), Failure> {
        match self.terminal && !show {
            true => Err(Failure::usage(
                "standard output is a terminal: add --show to see the value, or --out-file FILE",
            )),
            false => Ok(()),
        }
    }

    pub(crate) fn format(&self) -> Format {
        self.format.unwrap_or(Format::Table)
    }

    /// The forms for variables of an environment are only for the values of a secret.
    pub(crate) fn check_suits(&self, prints_values: bool) -> Result<(), Failure> {
        match self.format() {
            Format::Env | Format::Shell | Format::Docker if !prints_values => {
                Err(Failure::usage("-o env, shell and docker are only for get; expected table, json or yaml"))
            }
            _ => Ok(()),
        }
    }

    /// Shows a result in the form that was asked for.
    pub(crate) fn show(&self, value: &impl Serialize, presentation: Presentation) -> Result<(), Failure> {
        match self.format() {
            Format::Table => self.present(presentation),
            format => self.raw(&structured(value, format)?),
        }
    }

    /// One result of many: a line, or a document, each.
    pub(crate) fn item(&self, value: &impl Serialize, line: &str) -> Result<(), Failure> {
        match self.format() {
            Format::Table => self.line(line),
            Format::Yaml => {
                self.line("---")?;
                self.raw(&structured(value, Format::Yaml)?)
            }
            _ => {
                let text = serde_json::to_string(value).map_err(|error| Failure::local("JSON", error))?;
                self.line(&text)
            }
        }
    }

    pub(crate) fn present(&self, presentation: Presentation) -> Result<(), Failure> {
        match presentation {
            Presentation::Table(header, rows) => {
                let mut table = Table::new();
                table.load_style(presets::NOTHING).set_header(header);
                table.add_rows(rows.iter().map(|row| row.iter().map(|cell| visible(cell).into_owned())));
                // From the left edge on, like the lines above and below it.
                for column in table.column_iter_mut() {
                    column.set_padding((0, 2));
                }
                self.raw(format!("{}\n", table.trim_fmt()).as_bytes())
            }
            Presentation::Pairs(pairs) => {
                let width = pairs.iter().map(|(label, _)| label.len()).max().unwrap_or(0);
                let lines: String = pairs
                    .iter()
                    .map(|(label, value)| format!("{label:width$}  {}\n", visible(value)))
                    .collect();
                self.raw(lines.as_bytes())
            }
            Presentation::Text(text) => self.line(&text),
        }
    }

    /// One line for people.
    pub(crate) fn line(&self, text: &str) -> Result<(), Failure> {
        self.raw(format!("{}\n", visible(text)).as_bytes())
    }

    /// A line of a unified diff, coloured on a terminal.
    pub(crate) fn diff_line(&self, line: &str) -> Result<(), Failure> {
        let colour = match line.as_bytes().first() {
            Some(b'+') => "\x1b[32m",
            Some(b'-') => "\x1b[31m",
            Some(b'@') => "\x1b[36m",
            _ => "",
        };
        if colour.is_empty() || !self.colours {
            return self.line(line);
        }
        self.raw(format!("{colour}{}\x1b[0m\n", visible(line)).as_bytes())
    }

    /// Bytes as they are.
    pub(crate) fn raw(&self, bytes: &[u8]) -> Result<(), Failure> {
        let mut stdout = io::stdout().lock();
        stdout.write_all(bytes)?;
        stdout.flush()?;
        Ok(())
    }

    /// One value as it is. A person gets it on a line; a program gets the bytes alone.
    pub(crate) fn value(&self, bytes: &[u8]) -> Result<(), Failure> {
        self.raw(bytes)?;
        if self.terminal { self.raw(b"\n") } else { Ok(()) }
    }

    /// Says that something is done.
    pub(crate) fn done(&self, value: &impl Serialize, text: &str) -> Result<(), Failure> {
        self.show(value, Presentation::Text(text.to_owned()))
    }

    /// Puts a value where it is wanted.
    pub(crate) fn deliver(&self, to: &Path, bytes: &[u8]) -> Result<(), Failure> {
        match destination(to)? {
            Destination::Standard => self.raw(bytes),
            Destination::Whole(path) => private_file::write(&path, bytes),
            Destination::Open(mut open) => {
                open.write_all(bytes).map_err(|error| Failure::local(to.display(), error))
            }
        }
    }

    /// A word beside the result, for people only.
    pub(crate) fn note(&self, text: &str) {
        complain(text);
    }
}

/// Where a result goes.
pub(crate) enum Destination {
    Standard,
    /// Replaced as a whole, and its owner's alone from then on.
    Whole(PathBuf),
    Open(fs::File),
}

/// What `to` means: `-` is standard output; a device or a pipe is written to; a file, also one that a link leads to, is
/// replaced.
pub(crate) fn destination(to: &Path) -> Result<Destination, Failure> {
    if to == Path::new("-") {
        return Ok(Destination::Standard);
    }
    let told = |error: io::Error| Failure::local(to.display(), error);
    // What stands in these folders are the devices and open files of a process, whatever they lead to.
    let is_open_elsewhere = ["/dev", "/proc"].iter().any(|folder| to.starts_with(folder));
    match fs::metadata(to) {
        Ok(there) if there.is_file() && !is_open_elsewhere => {
            Ok(Destination::Whole(fs::canonicalize(to).map_err(told)?))
        }
        Ok(there) if there.is_dir() => Err(Failure::local(to.display(), "it is a folder")),
        Ok(_) => Ok(Destination::Open(fs::OpenOptions::new().write(true).open(to).map_err(told)?)),
        Err(error) if error.kind() == io::ErrorKind::NotFound && !to.is_symlink() => {
            Ok(Destination::Whole(to.to_owned()))
        }
        Err(error) => Err(told(error)),
    }
}

/// Says something on standard error; there is nobody to tell if that fails.
pub(crate) fn complain(text: &str) {
    let _ = writeln!(io::stderr().lock(), "{}", visible(text));
}

/// May hold secrets, hence wiped after use.
pub(crate) fn structured(value: &impl Serialize, format: Format) -> Result<Zeroizing<Vec<u8>>, Failure> {
    let mut text = Zeroizing::new(match format {
        Format::Yaml => {
            strongroom_yaml::write(value).map_err(|error| Failure::local("YAML", error))?.into_bytes()
        }
        _ => serde_json::to_vec_pretty(value).map_err(|error| Failure::local("JSON", error))?,
    });
    if text.last() != Some(&b'\n') {
        text.push(b'\n');
    }
    Ok(text)
}

/// "3 shares", "1 share".
pub(crate) fn plural(count: usize, noun: &str) -> String {
    format!("{count} {noun}{}", if count == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_goes_where_it_is_wanted_and_nothing_else_is_harmed() {
        use std::os::unix::fs::{FileTypeExt, MetadataExt, symlink};
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        let output = Output::new(None, false);
        output.deliver(&at("new"), b"1").unwrap();
        fs::write(at("file"), "old").unwrap();
        symlink(at("file"), at("link")).unwrap();
        output.deliver(&at("link"), b"2").unwrap();
        assert!(at("link").is_symlink(), "a link stays one");
        assert_eq!(
            (fs::read(at("new")).unwrap(), fs::read(at("file")).unwrap()),
            (b"1".to_vec(), b"2".to_vec())
        );
        assert_eq!(fs::metadata(at("file")).unwrap().mode() & 0o777, 0o600);

        output.deliver(Path::new("/dev/null"), b"3").unwrap();
        assert!(fs::metadata("/dev/null").unwrap().file_type().is_char_device());
        assert!(std::process::Command::new("mkfifo").arg(at("pipe")).status().unwrap().success());
        let pipe = at("pipe");
        let reader = std::thread::spawn(move || fs::read(pipe).unwrap());
        output.deliver(&at("pipe"), b"4").unwrap();
        assert_eq!(reader.join().unwrap(), b"4");
        assert!(fs::metadata(at("pipe")).unwrap().file_type().is_fifo());

        symlink(at("nothing"), at("dangling")).unwrap();
        for refused in [at("dangling"), folder.path().to_owned()] {
            output.deliver(&refused, b"5").unwrap_err();
        }
        assert!(!at("nothing").exists());
    }

    #[test]
    fn structured_text_ends_with_one_line_break() {
        for format in [Format::Json, Format::Yaml] {
            let text = structured(&["a"], format).unwrap();
            assert!(text.ends_with(b"\n") && !text.ends_with(b"\n\n"));
        }
    }
}
