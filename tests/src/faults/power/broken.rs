//! I/O errors at the n-th write or sync of a real server, made by the recorder: EIO, a full disk, and writes that are
//! shorter than they should be. Whatever becomes of the process, what it acknowledged is there after the next start.

use std::{fs, io, path::Path};

use strongroom_proto::v1::{self, secrets_client::SecretsClient};

use super::{content, number};
use crate::{
    bench::subject::{channel, login, with},
    faults::dice::Dice,
    figures::Figure,
    server::{Options, Server},
    world::copy,
};

/// Calls of a start and of the puts after it, about.
const CALLS: u64 = 160;
/// Puts of one try, if nothing stops it.
const PUTS: u64 = 20;
const PATH: &str = "secret/broken/one";
/// EIO, ENOSPC, and none: a short write.
const ERRORS: [u64; 3] = [5, 28, 0];

#[derive(Default)]
struct BrokenTally {
    acknowledged: u64,
    lost: u64,
    not_open: u64,
}

/// Breaks so many calls of servers that start in a copy of `live`.
pub(super) async fn run(
    work: &Path,
    live: &Path,
    library: &Path,
    tries: u64,
    dice: &mut Dice,
) -> io::Result<Vec<Figure>> {
    let mut tally = BrokenTally::default();
    for (number, error) in (0..tries).zip(ERRORS.iter().cycle()) {
        let home = work.join(format!("broken-{number}"));
        copy(live, &home)?;
        let set = |name: &str, value: String| (name.to_owned(), value);
        let environment = vec![
            set("LD_PRELOAD", library.display().to_string()),
            set("RECORD_ROOT", home.display().to_string()),
            set("FAIL_AT", (dice.below(CALLS) + 1).to_string()),
            set("FAIL_WITH", error.to_string()),
        ];
        // A server that does not start on a broken disk has acknowledged nothing.
        let acknowledged = match Server::start(&home, &Options { environment, ..Options::default() }) {
            Ok(server) => put(&server).await,
            Err(_) => 0,
        };
        match Server::start(&home, &Options::default()) {
            Ok(server) => {
                tally.acknowledged += acknowledged;
                let found = get(&server).await.unwrap_or(0);
                tally.lost += acknowledged.saturating_sub(found);
            }
            Err(_) => tally.not_open += 1,
        }
        fs::remove_dir_all(home)?;
    }
    Ok(vec![
        Figure::never(
            &format!("EIO, ENOSPC, short writes at the n-th call, {tries} tries: do not open again"),
            tally.not_open,
            "tries",
            tries,
        ),
        Figure::never(
            &format!("EIO, ENOSPC, short writes at the n-th call, {tries} tries: acknowledged writes lost"),
            tally.lost,
            "lost",
            tally.acknowledged,
        ),
    ])
}

/// Puts one after the other; the last that was acknowledged.
async fn put(server: &Server) -> u64 {
    let Ok(channel) = channel(&server.url, &server.ca()).await else { return 0 };
    let Ok(token) = login(server).await else { return 0 };
    let (mut client, mut acknowledged) = (SecretsClient::new(channel), 0);
    for value in 1..=PUTS {
        let data = [("value".to_owned(), v1::Sensitive { value: content(value) })].into();
        let request = v1::PutRequest { path: PATH.to_owned(), data, ..Default::default() };
        match client.put(with(&token, request)).await {
            Ok(_) => acknowledged = value,
            // What comes after an error is not in the way of the next start either.
            Err(_) => return acknowledged,
        }
    }
    acknowledged
}

async fn get(server: &Server) -> io::Result<u64> {
    let (channel, token) = (channel(&server.url, &server.ca()).await?, login(server).await?);
    let request = v1::GetRequest { path: PATH.to_owned(), version: None };
    let found = SecretsClient::new(channel).get(with(&token, request)).await.map_err(io::Error::other)?;
    Ok(found.into_inner().data.get("value").map_or(0, |value| number(&value.value)))
}
