//! The only way to standard output and standard error: tables for people, JSON and YAML for programs. Nothing from the
//! server can move the cursor or colour the screen: control characters are shown, not sent.

mod format;
mod plain;

use std::io::{self, IsTerminal, Write};

use comfy_table::{Table, presets};
use serde::Serialize;
use zeroize::Zeroizing;

use self::plain::visible;
use crate::failure::Failure;

pub(crate) use self::format::Format;

/// What stands in place of a value; the same for all, so that not even the length shows.
pub(crate) const MASK: &str = "********";

pub(crate) struct Output {
    format: Option<Format>,
    terminal: bool,
}

/// A result as people see it.
pub(crate) enum View {
    /// Columns under a header.
    Table(Vec<&'static str>, Vec<Vec<String>>),
    /// A label and a value on each line.
    Pairs(Vec<(&'static str, String)>),
    /// Just text.
    Text(String),
}

impl Output {
    pub(crate) fn new(format: Option<Format>) -> Self {
        Self { format, terminal: io::stdout().is_terminal() }
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

    /// Shows a result in the form that was asked for.
    pub(crate) fn show(&self, value: &impl Serialize, view: View) -> Result<(), Failure> {
        match self.format() {
            Format::Table => self.view(view),
            format => self.raw(&structured(value, format)?),
        }
    }

    /// One result of many: a line, or a document, each.
    pub(crate) fn item(&self, value: &impl Serialize, line: &str) -> Result<(), Failure> {
        match self.format() {
            Format::Table => self.line(line),
            Format::Json => {
                let text = serde_json::to_string(value).map_err(|error| Failure::local("JSON", error))?;
                self.line(&text)
            }
            Format::Yaml => {
                self.line("---")?;
                self.raw(&structured(value, Format::Yaml)?)
            }
        }
    }

    pub(crate) fn view(&self, view: View) -> Result<(), Failure> {
        match view {
            View::Table(header, rows) => {
                let mut table = Table::new();
                table.load_style(presets::NOTHING).set_header(header);
                table.add_rows(rows.iter().map(|row| row.iter().map(|cell| visible(cell).into_owned())));
                // From the left edge on, like the lines above and below it.
                for column in table.column_iter_mut() {
                    column.set_padding((0, 2));
                }
                self.raw(format!("{}\n", table.trim_fmt()).as_bytes())
            }
            View::Pairs(pairs) => {
                let width = pairs.iter().map(|(label, _)| label.len()).max().unwrap_or(0);
                let lines: String = pairs
                    .iter()
                    .map(|(label, value)| format!("{label:width$}  {}\n", visible(value)))
                    .collect();
                self.raw(lines.as_bytes())
            }
            View::Text(text) => self.line(&text),
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
        if colour.is_empty() || !self.terminal || std::env::var_os("NO_COLOR").is_some() {
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

    /// A word beside the result, for people only.
    pub(crate) fn note(&self, text: &str) {
        complain(text);
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
    fn structured_text_ends_with_one_line_break() {
        for format in [Format::Json, Format::Yaml] {
            let text = structured(&["a"], format).unwrap();
            assert!(text.ends_with(b"\n") && !text.ends_with(b"\n\n"));
        }
    }
}
