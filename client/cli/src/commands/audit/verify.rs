//! `audit verify`: proves offline that log files are whole. It talks to no server and needs no token.

use std::{
    fs::File,
    io::BufReader,
    path::{Path, PathBuf},
};

use clap::Args;
use data_encoding::HEXLOWER_PERMISSIVE;
use serde_json::json;
use strongroom_client::audit_verify::{Anchor, Hash, Options, Summary, verify};

use crate::{
    context::Context,
    failure::Failure,
    input::content,
    output::{Presentation, plural},
};

/// Large reads: a log is read once, from end to end.
const BUFFER: usize = 1 << 20;

#[derive(Args)]
pub(crate) struct Verify {
    /// The files of one log, in order
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// The server's audit key as printed by init: 64 hex digits, or @FILE; may be repeated for earlier keys
    #[arg(long, required = true, value_name = "HEX|@FILE")]
    public_key: Vec<String>,
    /// The log continues after this point, which an earlier run printed; without it, the log must start with record 1
    #[arg(long, value_name = "SIZE:HEAD", value_parser = parse_anchor)]
    from: Option<Anchor>,
    /// The log must contain this point, which an earlier run or `audit anchor` printed, or the last line of @FILE; this finds
    /// an end that was cut off and an older copy
    #[arg(long, value_name = "SIZE:HEAD|@FILE", value_parser = parse_expected)]
    expected: Option<Anchor>,
}

pub(crate) fn run(context: &Context, args: Verify) -> Result<(), Failure> {
    let public_keys = args.public_key.iter().map(|text| key(text)).collect::<Result<_, _>>()?;
    let files = args.files.iter().map(|path| open(path)).collect::<Result<Vec<_>, _>>()?;
    let options = Options { public_keys, from: args.from, expected: args.expected };
    let summary = verify(files, &options).map_err(|finding| Failure::Local(finding.to_string()))?;
    show(context, &summary)
}

fn show(context: &Context, summary: &Summary) -> Result<(), Failure> {
    let end = shown(&summary.end);
    let value = json!({
        "records": summary.records,
        "end": end,
        "signed_record": summary.signed.as_ref().map(|signed| signed.seq),
        "signed_at": summary.signed.as_ref().map(|signed| signed.time.as_str()),
        "batch_seq": summary.signed.as_ref().map(|signed| signed.batch_seq),
        "unsigned": summary.unsigned,
    });
    let signed = match &summary.signed {
        Some(signed) => format!("up to record {} of {}", signed.seq, signed.time),
        None => "nothing".to_owned(),
    };
    let records = usize::try_from(summary.records).unwrap_or(usize::MAX);
    let pairs = vec![("whole", plural(records, "record")), ("signed", signed), ("end", end)];
    context.output.show(&value, Presentation::Pairs(pairs))?;
    if summary.unsigned > 0 {
        let sentence = format!("note: the last {} are chained but not signed yet", summary.unsigned);
        context.output.note(&sentence);
    }
    Ok(())
}

fn open(path: &Path) -> Result<(String, BufReader<File>), Failure> {
    let name = path.display().to_string();
    let file = File::open(path).map_err(|error| Failure::local(&name, error))?;
    Ok((name, BufReader::with_capacity(BUFFER, file)))
}

/// A point as [`parse_anchor`] reads it.
pub(super) fn shown(point: &Anchor) -> String {
    format!("{}:{}", point.size, HEXLOWER_PERMISSIVE.encode(&point.head))
}

pub(super) fn key(text: &str) -> Result<Hash, Failure> {
    let wrong = || Failure::usage("--public-key: expected 64 hex digits, or @FILE with them");
    match text.strip_prefix('@') {
        Some(path) => {
            let word = content::word(Path::new(path))?;
            word.expose_str().ok().and_then(hash).ok_or_else(wrong)
        }
        None => hash(text).ok_or_else(wrong),
    }
}

pub(super) fn hash(text: &str) -> Option<Hash> {
    HEXLOWER_PERMISSIVE.decode(text.as_bytes()).ok()?.try_into().ok()
}

fn parse_anchor(text: &str) -> Result<Anchor, String> {
    let parse = || {
        let (size, head) = text.split_once(':')?;
        Some(Anchor { size: size.parse().ok()?, head: hash(head)? })
    };
    parse().ok_or_else(|| "expected SIZE:HEAD as an earlier run printed it after \"end\"".to_owned())
}

/// In a file, anchors may stand one below the other: the last one counts.
fn parse_expected(text: &str) -> Result<Anchor, String> {
    let Some(path) = text.strip_prefix('@') else { return parse_anchor(text) };
    let lines = std::fs::read_to_string(path).map_err(|error| format!("{path}: {error}"))?;
    let last = lines.lines().rev().find_map(|line| line.split_whitespace().next());
    parse_anchor(last.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_and_anchors_are_hex() {
        let hex = "0F".repeat(32);
        assert_eq!(key(&hex).unwrap(), [15; 32]);
        assert_eq!(parse_anchor(&format!("7:{hex}")).unwrap(), Anchor { size: 7, head: [15; 32] });
        assert!(key("0f").is_err() && parse_anchor("7").is_err() && parse_anchor("x:0f").is_err());
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("key");
        std::fs::write(&file, format!("{hex}\n")).unwrap();
        assert_eq!(key(&format!("@{}", file.display())).unwrap(), [15; 32]);
        std::fs::write(&file, format!("6:{hex}\n7:{hex} noted on Monday\n\n")).unwrap();
        assert_eq!(parse_expected(&format!("@{}", file.display())).unwrap().size, 7);
        assert!(parse_expected("@/nowhere").is_err());
    }
}
