//! `audit`: what happened, who did it, and whether the log still says all of it.

mod anchor;
mod verify;

use std::path::Path;

use clap::{Args, Subcommand};
use jiff::Timestamp;
use serde_json::{Value, json};
use strongroom_client::{AuditQuery, ResultStream, StreamExt};

use self::{anchor::AnchorArgs, verify::Verify};
use crate::{
    context::Context,
    failure::Failure,
    input::{content, prompt, span},
    output::{Format, Output, Presentation},
};

#[derive(Args)]
pub(crate) struct Audit {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Show the last lines and, with --follow, every new one
    Tail {
        /// How many lines to show
        #[arg(short = 'n', long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(0..=10_000))]
        last: u32,
        /// Continue with new lines as they are written
        #[arg(short, long)]
        follow: bool,
    },
    /// Show the lines that match everything that is given, oldest first
    Query(Query),
    /// Prove offline that log files are whole: nothing changed, dropped, added or reordered
    Verify(Verify),
    /// Print the last checkpoint, to be kept elsewhere: it finds a log that was put back to an earlier state
    Anchor(AnchorArgs),
    /// Show the keyed hash under which a value appears in the log where it was written
    Hash {
        /// The path of the secret
        path: String,
        /// The field as the log names it, such as data.password
        field: String,
        /// The value, as @FILE or - for standard input; without it you are asked for the value
        value: Option<String>,
    },
}

#[derive(Args)]
#[command(after_help = "Examples:
  strongroom audit query --path secret/apps/shop
  strongroom audit query --principal userpass/alice --status denied")]
struct Query {
    /// The principal, such as userpass/alice
    #[arg(long, default_value = "")]
    principal: String,
    /// A path, or a folder for everything below it
    #[arg(long, default_value = "")]
    path: String,
    /// The operation, such as get
    #[arg(long, default_value = "")]
    operation: String,
    /// The id of a request
    #[arg(long, default_value = "", value_name = "ID")]
    request: String,
    /// The status: ok, denied or error
    #[arg(long, default_value = "")]
    status: String,
    /// The earliest time: 2026-01-31T12:00:00Z, or 8h for eight hours ago
    #[arg(long, value_parser = parse_time)]
    from: Option<Timestamp>,
    /// The latest time
    #[arg(long, value_parser = parse_time)]
    until: Option<Timestamp>,
    /// Show at most so many lines, the newest that match
    #[arg(long, default_value_t = 1000)]
    limit: u32,
}

pub(crate) async fn run(context: &Context, args: Audit) -> Result<(), Failure> {
    match args.command {
        Command::Tail { last, follow } => {
            let client = context.client().await?;
            print(&context.output, client.audit().tail(last, follow).await?).await
        }
        Command::Query(query) => {
            let client = context.client().await?;
            print(&context.output, client.audit().query(query.into()).await?).await
        }
        Command::Verify(args) => verify::run(context, args),
        Command::Anchor(args) => anchor::run(context, args).await,
        Command::Hash { path, field, value } => {
            let value = match value.as_deref() {
                None => prompt::hidden("Value")?,
                Some("-") => content::whole(Path::new("-"))?,
                Some(text) => match text.strip_prefix('@') {
                    Some(path) => content::whole(Path::new(path))?,
                    None => {
                        return Err(Failure::usage(
                            "the value comes from @FILE or -, not from the command line",
                        ));
                    }
                },
            };
            let hash = context.client().await?.audit().hash(&path, &field, &value).await?;
            context.output.show(&json!({ "hash": hash }), Presentation::Text(hash))
        }
    }
}

/// For people a table; for programs the lines as they stand in the log.
async fn print(output: &Output, mut lines: ResultStream<String>) -> Result<(), Failure> {
    let mut columns = Columns::new();
    let mut headed = false;
    while let Some(line) = lines.next().await {
        let line = line?;
        match (output.format(), serde_json::from_str::<Value>(&line)) {
            (Format::Table, Ok(value)) => {
                if !headed {
                    output.line(&columns.row(HEADER.map(str::to_owned)))?;
                    headed = true;
                }
                output.line(&columns.row(cells(&value)))?;
            }
            (Format::Yaml, Ok(value)) => output.item(&value, "")?,
            _ => output.line(&line)?,
        }
    }
    Ok(())
}

const HEADER: [&str; 6] = ["TIME", "PRINCIPAL", "OPERATION", "PATH", "STATUS", "REASON"];

/// Lines of a table that has no end: a column grows with what it has held so far.
struct Columns([usize; 6]);

impl Columns {
    /// Wide enough for most lines, so that the first rows stand in line already.
    const fn new() -> Self {
        Self([24, 16, 20, 32, 7, 0])
    }

    fn row(&mut self, cells: [String; 6]) -> String {
        let mut line = String::new();
        for (cell, width) in cells.iter().zip(&mut self.0) {
            *width = cell.chars().count().max(*width);
            line.push_str(&format!("{cell:<width$}  ", width = *width));
        }
        line.truncate(line.trim_end().len());
        line
    }
}

/// Lines of the log itself have no operation: their kind says what they are.
fn cells(line: &Value) -> [String; 6] {
    let text = |keys: &[&str]| match keys.iter().find_map(|key| line.get(key).filter(|v| !v.is_null())) {
        // A line break in a cell would look like a line of the log.
        Some(Value::String(text)) => text.replace(['\n', '\t'], " "),
        Some(other) => other.to_string(),
        None => "-".to_owned(),
    };
    // Several of them are a list, and what a list has no room for is a number of its own.
    let list = |key: &str| {
        let told = line.get(key).and_then(Value::as_array);
        let told =
            told.into_iter().flatten().map(|one| one.as_str().map_or_else(|| one.to_string(), str::to_owned));
        let more = line.get(format!("{key}_left_out")).map(|count| format!("and {count} more"));
        told.chain(more).collect::<Vec<_>>().join(", ")
    };
    let path = if line.get("paths").is_some() { list("paths") } else { text(&["path"]) };
    let path = match (line.get("version"), line.get("versions")) {
        (Some(version), _) => format!("{path} v{version}"),
        (None, Some(_)) => format!("{path} versions {}", list("versions")),
        (None, None) => path,
    };
    let path = if line.get("objects").is_some() { format!("{path}: {}", list("objects")) } else { path };
    let path = match line.get("target") {
        Some(_) => format!("{path} ({})", text(&["target"])),
        None => path,
    };
    let reason = text(&["recovered", "reason"]);
    [text(&["time"]), text(&["principal"]), text(&["operation", "kind"]), path, text(&["status"]), reason]
}

impl From<Query> for AuditQuery {
    fn from(query: Query) -> Self {
        Self {
            principal: query.principal,
            path: query.path,
            operation: query.operation,
            request_id: query.request,
            status: query.status,
            from: query.from,
            until: query.until,
            limit: query.limit,
        }
    }
}

fn parse_time(text: &str) -> Result<Timestamp, String> {
    if let Ok(time) = text.parse() {
        return Ok(time);
    }
    let ago = span::parse(text)
        .map_err(|_| "expected a time such as 2026-01-31T12:00:00Z, or a span such as 8h".to_owned())?;
    Timestamp::now().checked_sub(ago).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_absolute_or_ago() {
        assert_eq!(parse_time("1970-01-01T00:00:01Z").unwrap().as_second(), 1);
        let ago = parse_time("1h").unwrap();
        assert!((3599..=3601).contains(&Timestamp::now().duration_since(ago).as_secs()));
        assert!(parse_time("yesterday").is_err());
    }

    #[test]
    fn a_line_has_its_columns_whatever_it_holds() {
        let line = json!({ "time": "t", "kind": "start", "path": null, "status": 7, "reason": "why" });
        assert_eq!(cells(&line), ["t", "-", "start", "-", "7", "why"]);
        let line = json!({ "kind": "request", "operation": "Secrets.Get", "path": "a", "version": 3 });
        assert_eq!(cells(&line), ["-", "-", "Secrets.Get", "a v3", "-", "-"]);
        let line = json!({
            "kind": "request", "paths": ["a", "b"], "versions": [1, 2], "objects": ["x"], "objects_left_out": 3
        });
        assert_eq!(cells(&line)[3], "a, b versions 1, 2: x, and 3 more");
    }

    #[test]
    fn a_column_grows_and_stays_grown() {
        let mut columns = Columns::new();
        let long = "x".repeat(40);
        let row = |path: &str| ["t", "p", "o", path, "ok", "-"].map(str::to_owned);
        let wide = columns.row(row(&long));
        let short = columns.row(row("a"));
        assert_eq!(wide.find("ok"), short.find("ok"));
    }
}
