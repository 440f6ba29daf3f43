//! A store's files damaged: a flipped bit, a zeroed page, an end that is cut off, a snapshot that does not fit. A server
//! that starts must have everything; one that refuses must not have changed a byte, and `salvage` must bring back all
//! that was not hit, with no wrong value, and name what it lost.

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
    time::Instant,
};

use strongroom_proto::v1::{self, secrets_client::SecretsClient};
use tonic::{
    Code,
    metadata::{Ascii, MetadataValue},
};

use super::dice::Dice;
use crate::{
    bench::subject::{Subject, channel, login, with},
    figures::{Bar, Figure},
    server::{Options, Server, salvage},
    world::copy,
};

/// What a disk loses at once.
const PAGE: u64 = 4096;
/// One try in so many is on the store of several segments, which takes longer.
const LARGE: u64 = 5;
/// Salvage brought back less than there was, and said so.
const LOST: i32 = 3;

/// Cases told of each kind of damage: each may have another reason.
const MOST_TOLD: usize = 8;

/// How many of each.
#[derive(Clone, Copy)]
pub struct Tries {
    /// One bit each.
    pub flips: u64,
    /// Of the log.
    pub pages: u64,
    /// The log's end.
    pub cuts: u64,
    /// One bit of the snapshot each.
    pub snapshots: u64,
}

/// A store, and what is in it.
struct Base {
    home: PathBuf,
    /// Value by path; none where it was deleted.
    expected: BTreeMap<String, Option<u64>>,
    root: MetadataValue<Ascii>,
    /// Bytes of the log up to its last one.
    used: u64,
}

#[derive(Default)]
struct DamageTally {
    refused: u64,
    erased: u64,
    wrong: u64,
    missing: u64,
    failed: u64,
    unnamed: u64,
    lost: u64,
    costly: u64,
    told: Vec<String>,
}

/// Damages stores of one and of several segments, stopped ones and killed ones.
///
/// # Errors
/// The harness itself failed.
pub async fn run(work: &Path, tries: Tries, seed: u64) -> io::Result<Vec<Figure>> {
    let began = Instant::now();
    let work = work.join("damage");
    let small = [
        base(&work.join("stopped"), 60, 5, 400, false).await?,
        base(&work.join("killed"), 60, 5, 400, true).await?,
    ];
    let large = [
        base(&work.join("large"), 60, 14, 50_000, false).await?,
        base(&work.join("large-killed"), 60, 14, 50_000, true).await?,
    ];
    let mut dice = Dice::new(seed);
    let mut figures = Vec::new();
    let kinds: [(&str, u64, Damage); 4] = [
        ("flipped bits", tries.flips, flip),
        ("zeroed pages", tries.pages, zero),
        ("cut ends", tries.cuts, cut),
        ("flipped bits in the snapshot", tries.snapshots, flip_snapshot),
    ];
    for (name, count, damage) in kinds {
        let mut tally = DamageTally::default();
        for number in 0..count {
            let bases = if number % LARGE == LARGE - 1 { &large } else { &small };
            let Some(base) = bases.get(dice.index(bases.len())) else { continue };
            let home = work.join("try");
            copy(&base.home, &home)?;
            let what = damage(&home.join("data"), base, &mut dice)?;
            base.attempt(&home, &what, &mut tally).await?;
            fs::remove_dir_all(&home)?;
        }
        figures.extend(tally.figures(name, count));
    }
    figures.push(Figure::plain(
        "damaged stores: seconds in all",
        began.elapsed().as_secs_f64(),
        "s",
        Bar::None,
    ));
    Ok(figures)
}

type Damage = fn(&Path, &Base, &mut Dice) -> io::Result<String>;

fn flip(data: &Path, base: &Base, dice: &mut Dice) -> io::Result<String> {
    let (at, bit) = (dice.below(base.used), dice.below(8));
    change(&data.join("db"), |bytes| {
        bytes.get_mut(at as usize).into_iter().for_each(|byte| *byte ^= 1 << bit)
    })?;
    Ok(format!("bit {bit} of byte {at} in {}", base.home.display()))
}

fn zero(data: &Path, base: &Base, dice: &mut Dice) -> io::Result<String> {
    let at = dice.below(base.used.div_ceil(PAGE)) * PAGE;
    change(&data.join("db"), |bytes| {
        bytes.iter_mut().skip(at as usize).take(PAGE as usize).for_each(|byte| *byte = 0);
    })?;
    Ok(format!("page at {at} in {}", base.home.display()))
}

fn cut(data: &Path, base: &Base, dice: &mut Dice) -> io::Result<String> {
    let length = dice.below(base.used);
    fs::File::options().write(true).open(data.join("db"))?.set_len(length)?;
    Ok(format!("cut to {length} in {}", base.home.display()))
}

fn flip_snapshot(data: &Path, base: &Base, dice: &mut Dice) -> io::Result<String> {
    let mut names = fs::read_dir(data)?.map(|entry| Ok(entry?.path())).collect::<io::Result<Vec<_>>>()?;
    names.retain(|path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("snap.")));
    let path = names.pop().ok_or_else(|| io::Error::other("there is no snapshot"))?;
    let at = dice.below(fs::metadata(&path)?.len());
    change(&path, |bytes| bytes.get_mut(at as usize).into_iter().for_each(|byte| *byte ^= 1))?;
    Ok(format!("byte {at} of the snapshot in {}", base.home.display()))
}

/// Every file of a store, by name.
fn bytes(data: &Path) -> io::Result<BTreeMap<PathBuf, Vec<u8>>> {
    let paths = fs::read_dir(data)?.map(|entry| Ok(entry?.path())).collect::<io::Result<Vec<_>>>()?;
    paths.into_iter().filter(|path| path.is_file()).map(|path| Ok((path.clone(), fs::read(path)?))).collect()
}

fn change(path: &Path, how: impl FnOnce(&mut Vec<u8>)) -> io::Result<()> {
    let mut bytes = fs::read(path)?;
    how(&mut bytes);
    fs::write(path, bytes)
}

/// Fills a store in two lives of the server, and stops or kills it.
async fn base(home: &Path, paths: u64, versions: u64, size: usize, kill: bool) -> io::Result<Base> {
    fs::create_dir_all(home)?;
    let options = Options::default();
    let subject = Subject::start(home, &options).await?;
    let (root, mut expected) = (subject.root.clone(), BTreeMap::new());
    write(&subject.server, paths, 1..versions / 2, size, &mut expected).await?;
    subject.server.stop()?;
    let server = Server::start(home, &options)?;
    write(&server, paths, versions / 2..versions, size, &mut expected).await?;
    if kill {
        server.kill()?
    } else {
        server.stop()?
    }
    let log = fs::read(home.join("data/db"))?;
    let used = log.iter().rposition(|byte| *byte != 0).map_or(0, |at| at as u64 + 1);
    Ok(Base { home: home.to_owned(), expected, root, used })
}

async fn write(
    server: &Server,
    paths: u64,
    versions: std::ops::Range<u64>,
    size: usize,
    expected: &mut BTreeMap<String, Option<u64>>,
) -> io::Result<()> {
    let token = login(server).await?;
    let mut client = SecretsClient::new(channel(&server.url, &server.ca()).await?);
    for value in versions {
        for number in 0..paths {
            let path = format!("secret/damage/f{}/p{number}", number % 7);
            let mut bytes = value.to_string().into_bytes();
            bytes.resize(size + usize::try_from(number).unwrap_or(0), b'.');
            let data = BTreeMap::from([("value".to_owned(), v1::Sensitive { value: bytes })]);
            let request = v1::PutRequest { path: path.clone(), data, ..Default::default() };
            client.put(with(&token, request)).await.map_err(io::Error::other)?;
            expected.insert(path, Some(value));
        }
    }
    Ok(())
}

impl Base {
    async fn attempt(&self, home: &Path, what: &str, tally: &mut DamageTally) -> io::Result<()> {
        let damaged = bytes(&home.join("data"))?;
        if let Ok(server) = Server::start(home, &Options::default()) {
            let (lost, wrong) = self.compare(&server).await?;
            tally.missing += lost.len() as u64;
            tally.wrong += wrong;
            tally.note(!lost.is_empty() || wrong > 0, || format!("{what}: started without {lost:?}"));
            return Ok(());
        }
        tally.refused += 1;
        let erased = bytes(&home.join("data"))? != damaged;
        tally.erased += u64::from(erased);
        tally.note(erased, || format!("{what}: the refused start wrote"));

        let new = home.join("new");
        let done = salvage(home, &new, &[])?;
        let told = String::from_utf8_lossy(&done.stdout);
        let erased = bytes(&home.join("data"))? != damaged;
        tally.erased += u64::from(erased);
        tally.note(erased, || format!("{what}: salvage wrote to the damaged store"));
        let complete = done.status.success();
        if !complete && done.status.code() != Some(LOST) {
            tally.failed += 1;
            tally.note(true, || format!("{what}: {}", String::from_utf8_lossy(&done.stderr)));
            return Ok(());
        }
        fs::rename(home.join("data"), home.join("damaged"))?;
        fs::rename(&new, home.join("data"))?;
        let arguments = if complete { Vec::new() } else { vec!["--accept-rollback".to_owned()] };
        let server = match Server::start(home, &Options { arguments, ..Options::default() }) {
            Ok(server) => server,
            Err(error) => {
                tally.failed += 1;
                tally.note(true, || format!("{what}: {error}"));
                return Ok(());
            }
        };
        let (lost, wrong) = self.compare(&server).await?;
        // With a page whose older copies are gone, records are lost that no gap of the log tells of.
        let warned = told.contains("were used again");
        let named = |path: &String| warned || told.contains(&format!("{path} "));
        let unnamed = lost.iter().filter(|path| complete || !named(path)).count() as u64;
        tally.wrong += wrong;
        tally.unnamed += unnamed;
        tally.lost += lost.len() as u64;
        tally.costly += u64::from(lost.len() > 1);
        tally.note(wrong + unnamed > 0, || format!("{what}: lost {lost:?}, and was told:\n{told}"));
        Ok(())
    }

    /// Paths without their last value, and values that never were.
    async fn compare(&self, server: &Server) -> io::Result<(Vec<String>, u64)> {
        // The user may be what was hit.
        let token = login(server).await.unwrap_or_else(|_| self.root.clone());
        let mut client = SecretsClient::new(channel(&server.url, &server.ca()).await?);
        let (mut lost, mut wrong) = (Vec::new(), 0);
        for (path, expected) in &self.expected {
            let request = v1::GetRequest { path: path.clone(), version: None };
            let found = match client.get(with(&token, request)).await {
                Ok(answer) => {
                    let data = answer.into_inner().data;
                    let bytes = data.get("value").map(|value| value.value.as_slice()).unwrap_or_default();
                    Some(number(bytes))
                }
                Err(status) if status.code() == Code::NotFound => None,
                Err(_) => Some(u64::MAX),
            };
            if found != *expected {
                lost.push(path.clone());
                let older =
                    found.is_none_or(|found| found == u64::MAX || expected.is_none_or(|last| found < last));
                wrong += u64::from(!older);
            }
        }
        Ok((lost, wrong))
    }
}

fn number(content: &[u8]) -> u64 {
    let digits: String = content.iter().take_while(|b| b.is_ascii_digit()).map(|b| char::from(*b)).collect();
    digits.parse().unwrap_or(0)
}

impl DamageTally {
    fn note(&mut self, bad: bool, what: impl FnOnce() -> String) {
        if bad && self.told.len() < MOST_TOLD {
            self.told.push(what());
        }
    }

    #[expect(clippy::cast_precision_loss, reason = "a table for people")]
    fn figures(&self, name: &str, tries: u64) -> Vec<Figure> {
        self.told.iter().for_each(|text| tell(text));
        let never = |what: &str, count: u64, unit| {
            Figure::never(
                &format!("{name}, {tries} stores, {} refused: {what}", self.refused),
                count,
                unit,
                tries,
            )
        };
        vec![
            never("wrong values", self.wrong, "values"),
            never("secrets missing after a start that was not refused", self.missing, "missing"),
            never("stores changed by a refused start or by salvage", self.erased, "stores"),
            never("not salvaged", self.failed, "stores"),
            never("secrets lost by salvage, not named and not warned of", self.unnamed, "lost"),
            Figure::plain(&format!("{name}: secrets that were hit"), self.lost as f64, "lost", Bar::None),
            Figure::plain(
                &format!("{name}: stores that lost more than one secret"),
                self.costly as f64,
                "stores",
                Bar::None,
            ),
        ]
    }
}

/// A case that must not have been, for whoever has to find out why.
#[expect(clippy::print_stderr, reason = "beside the table")]
fn tell(text: &str) {
    eprintln!("{text}");
}
