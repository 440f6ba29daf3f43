//! Copies of the few records without which no other one opens, in a file beside the log. The store never reads them: a log
//! that lost those records would be of no use to anybody, so they are there for whoever has to save what is left of it.

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
};

use data_encoding::HEXLOWER;

use super::directory;
use crate::storage::{Batch, StoreKey};

const NAME: &str = "COPIES";
const HEAD: &str = "strongroom copies 1\n";

type Values = BTreeMap<StoreKey, Vec<u8>>;

/// The file, and what stands in it.
pub(super) struct Copies {
    directory: PathBuf,
    keys: Vec<StoreKey>,
    values: Values,
}

/// What the copies of `directory` hold. Nothing if there are none, or they are damaged.
pub(super) fn read(directory: &Path) -> Values {
    fs::read_to_string(directory.join(NAME)).ok().and_then(|text| parse(&text)).unwrap_or_default()
}

impl Copies {
    /// Of `keys`, with the values they have in the store. The file is made, or mended, if it says something else.
    pub(super) fn open(directory: &Path, keys: Vec<StoreKey>, values: Values) -> io::Result<Self> {
        let copies = Self { directory: directory.to_owned(), keys, values };
        if read(directory) != copies.values {
            copies.write()?;
        }
        Ok(copies)
    }

    /// That batch is durable. A copy that cannot be written stays as it was, which the next start mends.
    pub(super) fn follow(&mut self, batch: &Batch) {
        let puts: Vec<_> = batch.puts.iter().filter(|(key, _)| self.keys.contains(key)).cloned().collect();
        if puts.is_empty() {
            return;
        }
        self.values.extend(puts);
        if let Err(error) = self.write() {
            tracing::warn!(%error, "the copies of seal and keyring cannot be written and are the ones of before");
        }
    }

    fn write(&self) -> io::Result<()> {
        directory::replace(&self.directory, NAME, &text(&self.values))
    }
}

/// A line for each record, and one for all of them.
fn text(values: &Values) -> String {
    let lines =
        values.iter().map(|(key, value)| format!("{} {}\n", HEXLOWER.encode(key), HEXLOWER.encode(value)));
    let body: String = lines.collect();
    format!("{HEAD}{body}{}\n", check(&body))
}

fn parse(text: &str) -> Option<Values> {
    let (body, crc) = text.strip_prefix(HEAD)?.strip_suffix('\n')?.rsplit_once('\n')?;
    let body = format!("{body}\n");
    if crc != check(&body) {
        return None;
    }
    let record = |line: &str| {
        let (key, value) = line.split_once(' ')?;
        Some((HEXLOWER.decode(key.as_bytes()).ok()?, HEXLOWER.decode(value.as_bytes()).ok()?))
    };
    body.lines().map(record).collect()
}

fn check(body: &str) -> String {
    format!("{:08x}", crc32fast::hash(body.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values() -> Values {
        Values::from([(b"s".to_vec(), vec![0, 255, 10]), (b"k".to_vec(), b"a keyring".to_vec())])
    }

    #[test]
    fn what_is_written_is_read_and_nothing_else() {
        let written = text(&values());
        assert_eq!(parse(&written), Some(values()));
        for at in 0..written.len() {
            let mut changed = written.clone().into_bytes();
            changed[at] ^= 1;
            assert_eq!(String::from_utf8(changed).ok().and_then(|text| parse(&text)), None, "byte {at}");
            assert_eq!(parse(&written[..at]), None, "cut at {at}");
        }
    }

    #[test]
    fn they_follow_the_store() -> io::Result<()> {
        let home = tempfile::tempdir()?;
        let keys = vec![b"s".to_vec(), b"k".to_vec()];
        let mut copies = Copies::open(home.path(), keys.clone(), values())?;
        assert_eq!(read(home.path()), values());
        let put = |key: &[u8], value: &[u8]| Batch {
            puts: vec![(key.to_vec(), value.to_vec())],
            ..Batch::default()
        };
        copies.follow(&put(b"another", b"record"));
        assert_eq!(read(home.path()), values());
        copies.follow(&put(b"k", b"the next keyring"));
        let mut expected = values();
        expected.insert(b"k".to_vec(), b"the next keyring".to_vec());
        assert_eq!(read(home.path()), expected);
        // As after a crash in front of it, or damage.
        fs::write(home.path().join(NAME), b"nothing")?;
        Copies::open(home.path(), keys, expected.clone())?;
        assert_eq!(read(home.path()), expected);
        Ok(())
    }
}
