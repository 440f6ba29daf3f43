//! Proves offline, with the public key alone, that an audit log is whole: nothing changed, dropped, added or reordered.
//!
//! It was written from the description of the format and not from the code that writes it; the two share only test vectors:
//!
//! ```text
//! {"seq":N,"time":"...","prev":"<hex>","kind":"...",...,"hash":"<hex>"}
//! hash      = SHA-256(prev, 32 bytes || the line's bytes before ,"hash":")
//! signature = Ed25519("strongroom audit checkpoint v1\n" || the line's bytes before ,"signature":")
//! ```
//!
//! A segment that a server writes to, or did when it was killed, ends in zeros, which the next lines overwrite: they are its end.
//!
//! Lines after the last checkpoint are chained but not signed yet: whoever can write the file can replace them, and can cut
//! the log at any checkpoint. [`Options::expected`] finds that, given a size and a head kept elsewhere.

use std::io::{self, BufRead, Read};

use ring::{
    digest::{self, SHA256},
    signature::{ED25519, UnparsedPublicKey},
};

const DOMAIN: &[u8] = b"strongroom audit checkpoint v1\n";
/// Longest line read; the longest one ever written has a few thousand bytes.
const LINE_BYTES: u64 = 256 << 10;
/// Lines read after a gap, to tell lines that moved from lines that are gone.
const LOOK_AHEAD: usize = 4096;

/// 32 bytes of a hash.
pub type Hash = [u8; 32];

/// A point of the log that is known from elsewhere, such as an earlier [`Summary`] or a checkpoint that was noted down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Anchor {
    /// Number of records up to it.
    pub size: u64,
    /// Hash of the last of them.
    pub head: Hash,
}

/// What a log is verified against.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// The server's audit public key, and earlier ones.
    pub public_keys: Vec<[u8; 32]>,
    /// The log continues after this point; without it, it must start with record 1.
    pub from: Option<Anchor>,
    /// The log must reach and contain this point.
    pub expected: Option<Anchor>,
}

/// What was proved about a log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Summary {
    /// Lines read.
    pub records: u64,
    /// Where the log ends.
    pub end: Anchor,
    /// The last checkpoint; everything up to it is signed.
    pub signed: Option<Signed>,
    /// Lines after the last checkpoint, which are chained but not signed yet.
    pub unsigned: u64,
}

/// A checkpoint whose signature is right.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signed {
    /// Number of its record.
    pub seq: u64,
    /// When it was signed, in RFC 3339.
    pub time: String,
    /// The last durable batch of the store at that time.
    pub batch_seq: u64,
}

/// The first damage that was found, and where.
#[derive(Debug, thiserror::Error)]
#[error("{file}, line {line}: {what}")]
pub struct Finding {
    /// Name of the file.
    pub file: String,
    /// Line in that file, from 1.
    pub line: u64,
    /// What is wrong there, as a kind of damage.
    pub what: Damage,
}

/// What can be wrong with a log.
#[derive(Debug, thiserror::Error)]
pub enum Damage {
    /// The line is not what was written: its hash does not match, or it is not a record at all.
    #[error("this line was changed")]
    Changed,
    /// The line is whole, but it does not name the hash of the line before it.
    #[error("this line or the one before it was replaced: they do not name the same hash")]
    Replaced,
    /// Records are missing before this line.
    #[error("records {from} to {to} were dropped before this line")]
    Dropped {
        /// The first missing record.
        from: u64,
        /// The last missing record.
        to: u64,
    },
    /// The record that belongs here comes later.
    #[error("record {seq} stands here, but {expected} belongs here and comes later: lines were reordered")]
    Reordered {
        /// The record that is here.
        seq: u64,
        /// The record that should be here.
        expected: u64,
    },
    /// The record was in the log before.
    #[error("record {seq} was added: {expected} belongs here")]
    Added {
        /// The record that is here.
        seq: u64,
        /// The record that should be here.
        expected: u64,
    },
    /// The signature is wrong, or it was made with another key.
    #[error("the checkpoint is not signed by the server's key: it or the lines before it were replaced")]
    Forged,
    /// The point known from elsewhere is not in the log.
    #[error("record {0} is not the one that was expected: the log before it was replaced")]
    OtherHistory(u64),
    /// The log ends too early.
    #[error("the log ends here, but it had at least {0} records: its end was cut off")]
    Truncated(u64),
    /// The last line has no end, because of a crash or because the file was cut.
    #[error("the last line is incomplete")]
    Torn,
    /// Zeros are only found behind the last line of a file.
    #[error("zeros stand here and something else behind them: a part of the file was erased")]
    Erased,
    /// The file cannot be read.
    #[error("the file cannot be read: {0}")]
    Io(#[from] io::Error),
}

/// Verifies `files`, named and in order, as one log.
///
/// # Errors
/// The first thing that is wrong, and where.
pub fn verify<R: BufRead>(
    files: impl IntoIterator<Item = (String, R)>,
    options: &Options,
) -> Result<Summary, Finding> {
    let start = options.from.unwrap_or(Anchor { size: 0, head: [0; 32] });
    let mut state = State { options, start, end: start, signed: None, last_signed: start.size };
    let (mut file, mut number) = (String::new(), 0);
    let mut files = files.into_iter();
    let mut line = Vec::new();
    while let Some((name, mut reader)) = files.next() {
        (file, number) = (name, 0);
        loop {
            number += 1;
            let checked = match next_line(&mut reader, &mut line) {
                Ok(false) => break,
                Ok(true) => state.take(&line),
                Err(what) => Err(what),
            };
            if let Err(what) = checked {
                let what = state.refine(what, &mut reader, &mut files);
                return Err(Finding { file, line: number, what });
            }
        }
    }
    state.finish().map_err(|what| Finding { file, line: number, what })
}

struct State<'a> {
    options: &'a Options,
    start: Anchor,
    end: Anchor,
    signed: Option<Signed>,
    last_signed: u64,
}

impl State<'_> {
    fn take(&mut self, line: &[u8]) -> Result<(), Damage> {
        let line = std::str::from_utf8(line).map_err(|_| Damage::Changed)?;
        let parts = LineParts::of(line).ok_or(Damage::Changed)?;
        if chain(&parts.prev, parts.canonical) != parts.hash {
            return Err(Damage::Changed);
        }
        let (seq, expected) = (parts.seq, self.end.size + 1);
        if seq < expected {
            return Err(Damage::Added { seq, expected });
        }
        if seq > expected {
            return Err(Damage::Dropped { from: expected, to: seq - 1 });
        }
        if parts.prev != self.end.head {
            return Err(Damage::Replaced);
        }
        if parts.body.starts_with("\"kind\":\"checkpoint\",") {
            self.signed = Some(self.checkpoint(&parts)?);
            self.last_signed = seq;
        }
        self.end = Anchor { size: seq, head: parts.hash };
        match self.options.expected {
            Some(anchor) if anchor.size == seq && anchor.head != parts.hash => Err(Damage::OtherHistory(seq)),
            _ => Ok(()),
        }
    }

    fn checkpoint(&self, parts: &LineParts<'_>) -> Result<Signed, Damage> {
        let (signed, signature) = parts.canonical.rsplit_once(",\"signature\":\"").ok_or(Damage::Forged)?;
        let signature: [u8; 64] = signature.strip_suffix('"').and_then(unhex).ok_or(Damage::Forged)?;
        let message = [DOMAIN, signed.as_bytes()].concat();
        let by = |key: &[u8; 32]| UnparsedPublicKey::new(&ED25519, key).verify(&message, &signature).is_ok();
        if !self.options.public_keys.iter().any(by) {
            return Err(Damage::Forged);
        }
        let size = number(parts.body, "size").ok_or(Damage::Forged)?;
        let batch_seq = number(parts.body, "batch_seq").ok_or(Damage::Forged)?;
        if size + 1 != parts.seq {
            return Err(Damage::Forged);
        }
        Ok(Signed { seq: parts.seq, time: parts.time.to_owned(), batch_seq })
    }

    /// Tells lines that moved from lines that are gone.
    fn refine<R: BufRead>(
        &self,
        what: Damage,
        reader: &mut R,
        files: &mut impl Iterator<Item = (String, R)>,
    ) -> Damage {
        let Damage::Dropped { from, to } = what else { return what };
        let mut line = Vec::new();
        for _ in 0..LOOK_AHEAD {
            match next_line(reader, &mut line) {
                Ok(true) => {}
                Ok(false) => match files.next() {
                    Some((_, next)) => *reader = next,
                    None => break,
                },
                Err(_) => break,
            }
            let seq = std::str::from_utf8(&line).ok().and_then(LineParts::of).map(|parts| parts.seq);
            if seq == Some(from) {
                return Damage::Reordered { seq: to + 1, expected: from };
            }
        }
        Damage::Dropped { from, to }
    }

    fn finish(self) -> Result<Summary, Damage> {
        if let Some(anchor) = self.options.expected
            && self.end.size < anchor.size
        {
            return Err(Damage::Truncated(anchor.size));
        }
        Ok(Summary {
            records: self.end.size - self.start.size,
            end: self.end,
            unsigned: self.end.size - self.last_signed,
            signed: self.signed,
        })
    }
}

/// Reads a line without its line break; false at the end.
fn next_line(reader: &mut impl BufRead, line: &mut Vec<u8>) -> Result<bool, Damage> {
    line.clear();
    if skip_zeros(reader)? > 0 {
        return if is_over(reader)? { Ok(false) } else { Err(Damage::Erased) };
    }
    let read = reader.take(LINE_BYTES).read_until(b'\n', line)?;
    if let Some(zeros) = line.iter().position(|byte| *byte == 0) {
        // The line that was being written; or a hole.
        let only_zeros = line.iter().skip(zeros).all(|byte| *byte == 0);
        skip_zeros(reader)?;
        return Err(if only_zeros && is_over(reader)? { Damage::Torn } else { Damage::Erased });
    }
    match line.pop() {
        None => Ok(false),
        Some(b'\n') => Ok(true),
        Some(_) if (read as u64) == LINE_BYTES => Err(Damage::Changed),
        Some(_) => Err(Damage::Torn),
    }
}

/// Goes on to the next byte that is not zero; how many were.
fn skip_zeros(reader: &mut impl BufRead) -> io::Result<usize> {
    let mut skipped = 0;
    loop {
        let part = reader.fill_buf()?;
        let zeros = part.iter().take_while(|byte| **byte == 0).count();
        if zeros == 0 {
            return Ok(skipped);
        }
        reader.consume(zeros);
        skipped += zeros;
    }
}

fn is_over(reader: &mut impl BufRead) -> io::Result<bool> {
    Ok(reader.fill_buf()?.is_empty())
}

/// A line taken apart by its fixed ends.
struct LineParts<'a> {
    seq: u64,
    time: &'a str,
    prev: Hash,
    canonical: &'a str,
    body: &'a str,
    hash: Hash,
}

impl<'a> LineParts<'a> {
    fn of(line: &'a str) -> Option<Self> {
        // `,"hash":"` + 64 digits + `"}`
        let (canonical, end) = line.split_at_checked(line.len().checked_sub(75)?)?;
        let hash = unhex(end.strip_prefix(",\"hash\":\"")?.strip_suffix("\"}")?)?;
        let (seq, rest) = canonical.strip_prefix("{\"seq\":")?.split_once(',')?;
        let (time, rest) = rest.strip_prefix("\"time\":\"")?.split_once('"')?;
        let (prev, body) = rest.strip_prefix(",\"prev\":\"")?.split_at_checked(64)?;
        let body = body.strip_prefix("\",")?;
        Some(Self { seq: seq.parse().ok()?, time, prev: unhex(prev)?, canonical, body, hash })
    }
}

fn chain(prev: &Hash, canonical: &str) -> Hash {
    let mut context = digest::Context::new(&SHA256);
    context.update(prev);
    context.update(canonical.as_bytes());
    let mut hash = [0; 32];
    hash.copy_from_slice(context.finish().as_ref());
    hash
}

/// A number in the body of a checkpoint, which holds no text of anybody else.
fn number(body: &str, key: &str) -> Option<u64> {
    let (_, rest) = body.split_once(&format!(",\"{key}\":"))?;
    rest.split_once(',')?.0.parse().ok()
}

/// Strict lower-case hex of exactly `N` bytes.
fn unhex<const N: usize>(text: &str) -> Option<[u8; N]> {
    let (pairs, []) = text.as_bytes().as_chunks::<2>() else { return None };
    let mut bytes = [0; N];
    if pairs.len() != N {
        return None;
    }
    for (byte, [high, low]) in bytes.iter_mut().zip(pairs) {
        *byte = nibble(*high)? << 4 | nibble(*low)?;
    }
    Some(bytes)
}

fn nibble(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const VECTOR: &str = include_str!("../../tests/vectors/audit.jsonl");
    const RECOVERED: &str = include_str!("../../tests/vectors/audit-recovered.jsonl");
    const LISTS: &str = include_str!("../../tests/vectors/audit-lists.jsonl");
    const KEY: &str = include_str!("../../tests/vectors/audit.pub");

    fn check(log: &[u8], expected: Option<Anchor>) -> Result<Summary, Finding> {
        let options = Options { public_keys: vec![unhex(KEY.trim()).unwrap()], from: None, expected };
        verify([("log".to_owned(), log)], &options)
    }

    #[test]
    fn opens_the_vector() {
        let summary = check(VECTOR.as_bytes(), None).unwrap();
        assert_eq!((summary.records, summary.unsigned), (7, 1));
        let signed = summary.signed.unwrap();
        assert_eq!((signed.seq, signed.batch_seq), (6, 7));
        let mut other = Options { public_keys: vec![[1; 32]], ..Options::default() };
        assert!(matches!(
            verify([("x".to_owned(), VECTOR.as_bytes())], &other).unwrap_err().what,
            Damage::Forged
        ));
        // The second half alone, behind a known point.
        let lines: Vec<_> = VECTOR.split_inclusive('\n').collect();
        let first = check(lines[..3].concat().as_bytes(), None).unwrap();
        other =
            Options { public_keys: vec![unhex(KEY.trim()).unwrap()], from: Some(first.end), expected: None };
        let rest = lines[3..].concat();
        assert_eq!(verify([("x".to_owned(), rest.as_bytes())], &other).unwrap().end, summary.end);
    }

    #[test]
    fn opens_the_vector_of_recovered_writes() {
        let summary = check(RECOVERED.as_bytes(), None).unwrap();
        assert_eq!((summary.records, summary.unsigned), (7, 0));
        let forged = RECOVERED.replace("not_applied", "applied");
        assert!(matches!(check(forged.as_bytes(), None).unwrap_err().what, Damage::Changed));
    }

    #[test]
    fn opens_the_vector_of_lists() {
        let summary = check(LISTS.as_bytes(), None).unwrap();
        assert_eq!((summary.records, summary.unsigned), (6, 0));
        let forged = LISTS.replace("[\"apply Role shop\"", "[\"apply Role shop2\"");
        assert!(matches!(check(forged.as_bytes(), None).unwrap_err().what, Damage::Changed));
    }

    /// The live segment of a server, or that of one that was killed.
    #[test]
    fn zeros_behind_the_last_line_are_the_end_and_elsewhere_a_hole() {
        let whole = check(VECTOR.as_bytes(), None).unwrap();
        let mut log = VECTOR.as_bytes().to_vec();
        log.resize(log.len() + (2 << 20), 0);
        assert_eq!(check(&log, Some(whole.end)).unwrap(), whole);
        let second = VECTOR.find('\n').unwrap() + 1;
        let third = second + VECTOR[second..].find('\n').unwrap() + 1;
        let mut erased = log.clone();
        erased[second..third].fill(0);
        let finding = check(&erased, None).unwrap_err();
        assert!(matches!(finding, Finding { line: 2, what: Damage::Erased, .. }), "{finding}");
        let mut torn = VECTOR.as_bytes()[..third - 5].to_vec();
        torn.resize(third + (1 << 20), 0);
        assert!(matches!(check(&torn, None).unwrap_err(), Finding { line: 2, what: Damage::Torn, .. }));
        torn.push(b'{');
        assert!(matches!(check(&torn, None).unwrap_err(), Finding { line: 2, what: Damage::Erased, .. }));
        // All behind it erased looks like an older log, as if it had been cut: what was noted elsewhere tells.
        log[second..].fill(0);
        assert_eq!(check(&log, None).unwrap().records, 1);
        assert!(matches!(check(&log, Some(whole.end)).unwrap_err().what, Damage::Truncated(7)));
    }

    #[test]
    fn names_the_first_line_that_is_wrong() {
        let lines: Vec<_> = VECTOR.split_inclusive('\n').collect();
        let find = |order: &[usize]| {
            let log: String = order.iter().map(|line| lines[*line]).collect();
            let finding = check(log.as_bytes(), None).unwrap_err();
            (finding.line, finding.what)
        };
        assert!(matches!(find(&[0, 1, 3, 4, 5, 6]), (3, Damage::Dropped { from: 3, to: 3 })));
        assert!(matches!(find(&[0, 1, 3, 2, 4, 5, 6]), (3, Damage::Reordered { seq: 4, expected: 3 })));
        assert!(matches!(find(&[0, 1, 2, 2, 3, 4, 5]), (4, Damage::Added { seq: 3, expected: 4 })));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(500))]
        #[test]
        fn any_tampering_is_found(how in 0..5u8, a: prop::sample::Index, b: prop::sample::Index, bit in 0..8u8) {
            let anchor = check(VECTOR.as_bytes(), None).unwrap().end;
            let mut log = VECTOR.as_bytes().to_vec();
            let mut lines: Vec<_> = VECTOR.split_inclusive('\n').collect();
            let (x, y) = (a.index(lines.len()), b.index(lines.len()));
            match how {
                0 => log[a.index(VECTOR.len())] ^= 1 << bit,
                1 => log.truncate(a.index(VECTOR.len())),
                2 => { lines.remove(x); log = lines.concat().into_bytes(); }
                3 => { lines.swap(x, y); log = lines.concat().into_bytes(); }
                _ => { lines.insert(x, lines[y]); log = lines.concat().into_bytes(); }
            }
            prop_assume!(log != VECTOR.as_bytes());
            prop_assert!(check(&log, Some(anchor)).is_err());
        }
    }
}
