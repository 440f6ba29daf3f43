//! Audit logs changed by somebody who can write the files but has not the key that signs checkpoints. Every change must
//! be noticed by what `audit verify` runs; a cut end only by who knows how long the log was.
#![expect(clippy::ptr_arg, reason = "every attack has the same shape, and some of them cut or add lines")]

use std::{fs, io, path::Path, sync::Arc};

use bytes::Bytes;
use futures_util::future::join_all;
use strongroom_client::audit_verify::{Anchor, Options, Summary, verify};
use strongroom_server::{
    audit::{Broker, Config, Durability, Event, EventKind, Status},
    clock::SystemClock,
    crypto::{Sha256, SigningKey},
};

use super::dice::Dice;
use crate::{
    audit_log::{pod, read, signing_key, unseal},
    figures::Figure,
};

/// Requests in the log; with outcomes, checkpoints and the like it has a quarter more records.
const REQUESTS: u64 = 2000;
/// Requests at once; the writer looks after its segments between two groups.
const AT_ONCE: u64 = 20;
/// Some ten segments.
const SEGMENT_BYTES: u64 = 150_000;
/// The server's key.
const SEED: u8 = 1;

/// A line with its line break, and the segment it stands in.
#[derive(Clone, PartialEq)]
struct Line {
    segment: usize,
    text: Bytes,
}

/// What an attacker has.
struct Loot {
    /// Another log, of the same key.
    other: Vec<Line>,
    /// A key, but not the server's.
    key: SigningKey,
}

/// One way to change a log.
struct Attack {
    name: &'static str,
    /// Only to be noticed by who knows the log's end.
    anchored: bool,
    change: fn(&mut Vec<Line>, &Loot, &mut Dice),
}

const ATTACKS: [Attack; 15] = [
    Attack { name: "a bit flipped", anchored: false, change: flip },
    Attack { name: "a line dropped", anchored: false, change: drop_line },
    Attack { name: "a line repeated", anchored: false, change: repeat },
    Attack { name: "two lines swapped", anchored: false, change: swap },
    Attack { name: "lines cut out", anchored: false, change: cut_out },
    Attack { name: "lines between checkpoints cut out", anchored: false, change: cut_between_checkpoints },
    Attack { name: "the end cut off", anchored: true, change: cut_end },
    Attack { name: "lines of another log", anchored: false, change: splice },
    Attack { name: "a segment of another log", anchored: false, change: replace_segment },
    Attack { name: "two segments swapped", anchored: false, change: swap_segments },
    Attack { name: "a segment dropped", anchored: true, change: drop_segment },
    Attack { name: "a value changed, hashes made new", anchored: false, change: forge },
    Attack {
        name: "a value changed, hashes made new, signed by another",
        anchored: false,
        change: forge_signed,
    },
    Attack { name: "lines cut out, the rest numbered anew", anchored: false, change: renumber },
    Attack { name: "a value changed, later checkpoints left out", anchored: true, change: strip },
];

/// Changes a log `tries` times, in all ways in turn.
///
/// # Errors
/// The harness itself failed.
pub fn run(tries: u64, seed: u64) -> io::Result<Vec<Figure>> {
    let log = make(0)?;
    let loot = Loot { other: make(1 << 32)?, key: signing_key(SEED + 1)? };
    let whole = check(&log, None)?.map_err(|what| io::Error::other(format!("the unchanged log: {what}")))?;
    if whole.signed.is_none_or(|signed| signed.seq != whole.end.size) {
        return Err(io::Error::other("the unchanged log does not end with a checkpoint"));
    }
    let mut dice = Dice::new(seed);
    let mut missed = Vec::new();
    for (attack, _) in ATTACKS.iter().cycle().zip(0..tries) {
        let mut changed = log.clone();
        // A change may change nothing, two equal bytes swapped for example.
        for _ in 0..1000 {
            (attack.change)(&mut changed, &loot, &mut dice);
            if changed != log {
                break;
            }
        }
        if check(&changed, attack.anchored.then_some(whole.end))?.is_ok() {
            missed.push(attack.name);
        }
    }
    let name = "audit log changed: not noticed by `audit verify`";
    let mut figures = vec![Figure::never(name, missed.len() as u64, "missed", tries)];
    for Attack { name, .. } in &ATTACKS {
        let count = missed.iter().filter(|missed| *missed == name).count() as u64;
        if count > 0 {
            figures.push(Figure::never(&format!("of these: {name}"), count, "missed", tries));
        }
    }
    Ok(figures)
}

/// What `audit verify` says of it; the public key is all it has, and the end where that is known.
fn check(log: &[Line], expected: Option<Anchor>) -> io::Result<Result<Summary, String>> {
    let options =
        Options { public_keys: vec![signing_key(SEED)?.public_key().0], expected, ..Options::default() };
    let segments: Vec<Vec<u8>> = log
        .chunk_by(|one, next| one.segment == next.segment)
        .map(|lines| lines.iter().map(|line| &*line.text).collect::<Vec<_>>().concat())
        .collect();
    let files = segments.iter().map(|segment| ("segment".to_owned(), segment.as_slice()));
    Ok(verify(files, &options).map_err(|finding| finding.to_string()))
}

/// A log as the server writes it. In a thread of its own, so that the caller may be in a runtime already.
fn make(first: u64) -> io::Result<Vec<Line>> {
    let directory = tempfile::tempdir()?;
    let config = Config {
        segment_bytes: SEGMENT_BYTES,
        durability: Durability::Os,
        ..Config::new(directory.path().join("audit"))
    };
    let write = || {
        let runtime = tokio::runtime::Builder::new_current_thread().build()?;
        runtime.block_on(write(&config, first))
    };
    std::thread::scope(|scope| scope.spawn(write).join())
        .map_err(|_| io::Error::other("the writing of a log panicked"))??;
    lines(&config.directory)
}

async fn write(config: &Config, first: u64) -> io::Result<()> {
    let (broker, _) = Broker::open(config, Arc::new(SystemClock), vec![]).map_err(io::Error::other)?;
    unseal(&broker, SEED).await?;
    let (pod, broker) = (pod(), &broker);
    for group in (0..REQUESTS).step_by(AT_ONCE as usize) {
        let requests =
            (group..group + AT_ONCE).map(|number| request(broker, read(&pod, first + number), number));
        join_all(requests).await.into_iter().collect::<io::Result<()>>()?;
    }
    broker.close().await;
    Ok(())
}

/// Each fourth is a write: an intent and an outcome.
async fn request(broker: &Broker, event: Event<'_>, number: u64) -> io::Result<()> {
    if !number.is_multiple_of(4) {
        return broker.record(&event).await.map(drop).map_err(io::Error::other);
    }
    let intent = Event { status: Status::Pending, operation: "Secrets.Put", ..event };
    broker.record(&intent).await.map_err(io::Error::other)?;
    let outcome = Event::new(EventKind::Outcome, event.request_id, "Secrets.Put", Status::Ok);
    broker.record(&outcome).await.map(drop).map_err(io::Error::other)
}

fn lines(directory: &Path) -> io::Result<Vec<Line>> {
    let mut files =
        fs::read_dir(directory)?.map(|entry| Ok(entry?.path())).collect::<io::Result<Vec<_>>>()?;
    files.sort();
    let mut lines = Vec::new();
    for (segment, file) in files.iter().enumerate() {
        let text = Bytes::from(fs::read(file)?);
        let whole = text.split_inclusive(|byte| *byte == b'\n');
        lines.extend(whole.map(|line| Line { segment, text: text.slice_ref(line) }));
    }
    Ok(lines)
}

fn flip(log: &mut Vec<Line>, _: &Loot, dice: &mut Dice) {
    let at = dice.index(log.len());
    let Some(line) = log.get_mut(at) else { return };
    let mut text = line.text.to_vec();
    let at = dice.index(text.len());
    if let Some(byte) = text.get_mut(at) {
        *byte ^= 1 << dice.below(8);
    }
    line.text = text.into();
}

/// Not the last one: that is a cut end.
fn drop_line(log: &mut Vec<Line>, _: &Loot, dice: &mut Dice) {
    log.remove(dice.index(log.len() - 1));
}

fn repeat(log: &mut Vec<Line>, _: &Loot, dice: &mut Dice) {
    let (from, to) = (dice.index(log.len()), dice.index(log.len() + 1));
    let copy = log.get(from).cloned();
    log.splice(to..to, copy);
}

fn swap(log: &mut Vec<Line>, _: &Loot, dice: &mut Dice) {
    let (one, other) = (dice.index(log.len()), dice.index(log.len()));
    let texts = [one, other].map(|at| log.get(at).map(|line| line.text.clone()));
    let [Some(first), Some(second)] = texts else { return };
    put(log, one, second);
    put(log, other, first);
}

fn cut_out(log: &mut Vec<Line>, _: &Loot, dice: &mut Dice) {
    log.drain(range(log.len() - 1, dice));
}

/// What is left looks as if one checkpoint followed the other. The last one stays: without it that is a cut end.
fn cut_between_checkpoints(log: &mut Vec<Line>, _: &Loot, dice: &mut Dice) {
    let checkpoints: Vec<usize> =
        log.iter().enumerate().filter(|(_, line)| is_checkpoint(line)).map(|(at, _)| at).collect();
    let cut = range(checkpoints.len() - 2, dice);
    if let (Some(from), Some(to)) = (checkpoints.get(cut.start), checkpoints.get(cut.end)) {
        log.drain(from + 1..=*to - usize::from(dice.below(2) == 0));
    }
}

/// At a line or within one.
fn cut_end(log: &mut Vec<Line>, _: &Loot, dice: &mut Dice) {
    log.truncate(dice.index(log.len()));
    if dice.below(2) == 0
        && let Some(line) = log.last_mut()
    {
        line.text.truncate(dice.index(line.text.len()));
    }
}

/// In the same place; not from the very first line to the very last, which would be the other log.
fn splice(log: &mut Vec<Line>, loot: &Loot, dice: &mut Dice) {
    let place = range(log.len().min(loot.other.len()) - 1, dice);
    let (from, to) = (place.start + 1, place.end + 1);
    let other = loot.other.get(from..to).unwrap_or_default();
    log.splice(from..to, other.iter().cloned());
}

fn replace_segment(log: &mut Vec<Line>, loot: &Loot, dice: &mut Dice) {
    let segment = any_segment(log, dice);
    let place = segment_range(log, segment);
    let other = loot.other.get(segment_range(&loot.other, segment)).unwrap_or_default();
    log.splice(place, other.iter().cloned());
}

fn swap_segments(log: &mut Vec<Line>, _: &Loot, dice: &mut Dice) {
    let (one, other) = (any_segment(log, dice), any_segment(log, dice));
    for line in log.iter_mut() {
        match line.segment {
            segment if segment == one => line.segment = other,
            segment if segment == other => line.segment = one,
            _ => {}
        }
    }
    log.sort_by_key(|line| line.segment);
}

fn drop_segment(log: &mut Vec<Line>, _: &Loot, dice: &mut Dice) {
    let segment = any_segment(log, dice);
    log.drain(segment_range(log, segment));
}

fn forge(log: &mut Vec<Line>, _: &Loot, dice: &mut Dice) {
    let at = change_value(log, dice);
    rewrite(log, at, None);
}

fn forge_signed(log: &mut Vec<Line>, loot: &Loot, dice: &mut Dice) {
    let at = change_value(log, dice);
    rewrite(log, at, Some(&loot.key));
}

fn renumber(log: &mut Vec<Line>, loot: &Loot, dice: &mut Dice) {
    let cut = range(log.len() - 1, dice);
    let from = cut.start;
    log.drain(cut);
    rewrite(log, from, (dice.below(2) == 0).then_some(&loot.key));
}

/// Nothing signed speaks against what is left; it only has fewer records than the log had.
fn strip(log: &mut Vec<Line>, _: &Loot, dice: &mut Dice) {
    let changed = change_value(log, dice);
    let mut at = 0;
    log.retain(|line| {
        at += 1;
        at <= changed || !is_checkpoint(line)
    });
    rewrite(log, changed, None);
}

/// Changes the request id of a record and returns the record's place.
fn change_value(log: &mut [Line], dice: &mut Dice) -> usize {
    const KEY: &str = "\"request_id\":\"";
    let at = dice.index(log.len());
    if let Some((before, value)) = text(log, at).split_once(KEY) {
        let digit = if value.starts_with('f') { 'e' } else { 'f' };
        let changed = format!("{before}{KEY}{digit}{}", value.get(1..).unwrap_or_default());
        put(log, at, changed.into());
    }
    at
}

/// Gives all lines from `from` on the numbers and hashes of a whole log; without a key the signatures stay what they were.
fn rewrite(log: &mut [Line], from: usize, key: Option<&SigningKey>) {
    let mut head = match from.checked_sub(1) {
        Some(before) => text(log, before).rsplit('"').nth(1).unwrap_or_default().to_owned(),
        None => "0".repeat(64),
    };
    for at in from..log.len() {
        let rewritten = rewritten(&text(log, at), at + 1, &mut head, key);
        put(log, at, rewritten.unwrap_or_default().into());
    }
}

fn rewritten(line: &str, seq: usize, head: &mut String, key: Option<&SigningKey>) -> Option<String> {
    let (rest, _) = line.rsplit_once(",\"hash\":\"")?;
    let (_, rest) = rest.split_once(",\"time\":\"")?;
    let (time, rest) = rest.split_once("\",\"prev\":\"")?;
    let (_, body) = rest.split_once("\",")?;
    let mut line = format!("{{\"seq\":{seq},\"time\":\"{time}\",\"prev\":\"{head}\",");
    if body.starts_with(CHECKPOINT) {
        let (rest, signature) = body.rsplit_once(",\"signature\":\"")?;
        let (_, rest) = rest.split_once(",\"batch_seq\":")?;
        let (state, public_key) = rest.rsplit_once(",\"public_key\":\"")?;
        let public_key = match key {
            Some(key) => hex(&key.public_key().0) + "\"",
            None => public_key.to_owned(),
        };
        let size = seq - 1;
        line += &format!(
            "{CHECKPOINT},\"size\":{size},\"head\":\"{head}\",\"batch_seq\":{state},\"public_key\":\"{public_key}"
        );
        let signature = match key {
            Some(key) => hex(&key.sign(&[DOMAIN, line.as_bytes()].concat())) + "\"",
            None => signature.to_owned(),
        };
        line += &format!(",\"signature\":\"{signature}");
    } else {
        line += body;
    }
    let mut hash = Sha256::new();
    hash.update(&unhex(head));
    hash.update(line.as_bytes());
    *head = hex(&hash.finish());
    line += &format!(",\"hash\":\"{head}\"}}\n");
    Some(line)
}

/// How a checkpoint's body begins.
const CHECKPOINT: &str = "\"kind\":\"checkpoint\"";
/// What its signature is over, before the line.
const DOMAIN: &[u8] = b"strongroom audit checkpoint v1\n";

fn is_checkpoint(line: &Line) -> bool {
    let text = String::from_utf8_lossy(&line.text);
    text.split_once("\",\"kind\":\"checkpoint\"").is_some_and(|(head, _)| !head.contains("kind"))
}

fn text(log: &[Line], at: usize) -> String {
    log.get(at).map_or_else(String::new, |line| String::from_utf8_lossy(&line.text).into_owned())
}

fn put(log: &mut [Line], at: usize, text: Bytes) {
    if let Some(line) = log.get_mut(at) {
        line.text = text;
    }
}

fn any_segment(log: &[Line], dice: &mut Dice) -> usize {
    dice.index(log.last().map_or(0, |line| line.segment + 1))
}

fn segment_range(log: &[Line], segment: usize) -> std::ops::Range<usize> {
    log.partition_point(|line| line.segment < segment)..log.partition_point(|line| line.segment <= segment)
}

/// Some of so many, at least one.
fn range(length: usize, dice: &mut Dice) -> std::ops::Range<usize> {
    let start = dice.index(length);
    start..start + 1 + dice.index(length - start)
}

fn hex(bytes: &[u8]) -> String {
    let digit = |nibble: u8| char::from_digit(u32::from(nibble), 16).unwrap_or('0');
    bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]).collect()
}

fn unhex(text: &str) -> Vec<u8> {
    let digit =
        |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok()).unwrap_or(0);
    text.as_bytes()
        .chunks_exact(2)
        .map(|pair| pair.iter().fold(0, |byte, next| byte << 4 | digit(*next)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_attack_changes_the_log_and_is_noticed() {
        let figures = run(ATTACKS.len() as u64 * 4, 1).unwrap();
        assert!(figures.iter().all(|figure| figure.reached), "{figures:?}");
    }

    #[test]
    fn a_cut_end_needs_the_known_end() {
        let mut log = make(0).unwrap();
        let end = check(&log, None).unwrap().unwrap().end;
        log.truncate(100);
        assert!(check(&log, None).unwrap().is_ok());
        assert!(check(&log, Some(end)).unwrap().is_err());
    }
}
