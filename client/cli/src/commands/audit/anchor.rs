//! `audit anchor`: the last checkpoint of the log, small enough for a runbook or another machine. Whoever has it notices a log
//! that was put back to an earlier state: `audit verify --expected`, or the server itself with `audit.anchor`.

use clap::Args;
use serde::Deserialize;
use serde_json::json;
use strongroom_client::{
    StreamExt,
    audit_verify::{Anchor, Options, verify},
};

use super::verify::{hash, key, shown};
use crate::{context::Context, failure::Failure, output::Presentation};

/// Lines asked for: there is a checkpoint at least every 1,024 records, behind at most as many that were written at once.
const LINES: u32 = 4096;

#[derive(Args)]
pub(crate) struct AnchorArgs {
    /// Check the checkpoint with the server's audit key, as printed by init: 64 hex digits, or @FILE; may be repeated
    #[arg(long, value_name = "HEX|@FILE")]
    public_key: Vec<String>,
}

#[derive(Deserialize)]
struct Checkpoint {
    seq: u64,
    time: String,
    prev: String,
    kind: String,
    hash: String,
    batch_seq: Option<u64>,
}

pub(crate) async fn run(context: &Context, args: AnchorArgs) -> Result<(), Failure> {
    let public_keys: Vec<_> = args.public_key.iter().map(|text| key(text)).collect::<Result<_, _>>()?;
    let mut lines = context.client().await?.audit().tail(LINES, false).await?;
    let mut last = None;
    while let Some(line) = lines.next().await {
        let line = line?;
        if let Some(checkpoint) = checkpoint(&line) {
            last = Some((line, checkpoint));
        }
    }
    let none =
        || Failure::Local("there is no checkpoint among the last records: is the server sealed?".to_owned());
    let (line, checkpoint) = last.ok_or_else(none)?;
    let point = |seq, hex: &str| hash(hex).map(|head| Anchor { size: seq, head });
    let anchor = point(checkpoint.seq, &checkpoint.hash).ok_or_else(none)?;
    if !public_keys.is_empty() {
        let from = point(checkpoint.seq.saturating_sub(1), &checkpoint.prev);
        let options = Options { public_keys, from, expected: None };
        let file = std::io::Cursor::new(format!("{line}\n"));
        verify([("the last checkpoint".to_owned(), file)], &options)
            .map_err(|finding| Failure::Local(finding.to_string()))?;
    }
    let text = shown(&anchor);
    let value = json!({ "anchor": text, "time": checkpoint.time, "batch_seq": checkpoint.batch_seq });
    context.output.show(&value, Presentation::Text(text))
}

fn checkpoint(line: &str) -> Option<Checkpoint> {
    let parsed: Checkpoint = serde_json::from_str(line).ok()?;
    (parsed.kind == "checkpoint").then_some(parsed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_checkpoints_are_taken() {
        let lines: Vec<&str> = include_str!("../../../../../tests/vectors/audit.jsonl").lines().collect();
        let found: Vec<u64> =
            lines.iter().filter_map(|line| checkpoint(line)).map(|found| found.seq).collect();
        assert_eq!(found, [2, 6]);
    }
}
