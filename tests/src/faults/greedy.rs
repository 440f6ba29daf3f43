//! Callers who are known and take all they can get, against good ones: each in its turn, at a server of its own. They stay
//! within the protocol, so nothing but a share of what there is for all stops them.

use std::{io, net::Ipv4Addr, path::Path, thread, time::Duration};

use strongroom_proto::v1::{self, secrets_client::SecretsClient};
use tokio::{sync::watch, task::JoinSet};

use super::hostile::Good;
use crate::{
    bench::subject::{Subject, put, with},
    figures::{Bar, Figure},
    server::{Memory, Options},
    wire::{END_HEADERS, Target, call_as, frame, kind, request},
};

/// Connections of the greedy one.
const CONNECTIONS: u8 = 16;
/// Streams of each: as many as the server allows.
const STREAMS: u32 = 100;
/// Whoever sets up the good ones has no quota for writes. The greedy one is the administrator.
const QUOTAS: &str = "writes_per_second = 1000000\nadmin_per_second = 20";
/// What they have asked for by then stands before the good ones are measured.
const LEAD: Duration = Duration::from_secs(2);

/// What a greedy caller does on one connection after the other, until it is hung up on.
#[derive(Clone, Copy)]
enum Greed {
    /// Asks for much and reads nothing.
    DoesNotRead,
    /// Says that large messages come, and sends none.
    Hoards,
    /// Asks again and again for what costs nothing but a record.
    Floods,
}

/// Who is greedy, as it stands in the table.
const ALL: [(&str, Greed); 3] = [
    ("clients that do not read", Greed::DoesNotRead),
    ("intake hoarders", Greed::Hoards),
    ("log flooders", Greed::Floods),
];

/// Runs one after the other.
///
/// # Errors
/// The harness itself failed, or a good client was refused.
pub async fn run(work: &Path) -> io::Result<Vec<Figure>> {
    let mut figures = Vec::new();
    for (name, greed) in ALL {
        figures.extend(measure(&work.join(name.replace(' ', "-")), name, greed).await?);
    }
    Ok(figures)
}

async fn measure(directory: &Path, name: &str, greed: Greed) -> io::Result<Vec<Figure>> {
    std::fs::create_dir_all(directory)?;
    // With the quotas that servers have when nothing is said.
    let subject = Subject::start(directory, &Options { limits: QUOTAS, ..Options::default() }).await?;
    let good = Good::of(&subject).await?;
    let mut large = put("secret/large");
    large.data.insert("large".to_owned(), v1::Sensitive { value: vec![7; 1_000_000] });
    let channel = subject.channels(1).await?.remove(0);
    SecretsClient::new(channel).put(with(&subject.token, large)).await.map_err(io::Error::other)?;
    let quiet = good.read().await?;

    let (stop, stopped) = watch::channel(false);
    let target = Target::of(&subject.server)?;
    // Another principal than the good ones.
    let authorization = subject.root.to_str().map_err(io::Error::other)?.to_owned();
    let attack = thread::spawn(move || attack(&target, &authorization, greed, stopped));
    tokio::time::sleep(LEAD).await;
    let under_attack = good.read().await;
    let peak = subject.server.memory_mib(Memory::Peak)?;
    stop.send_replace(true);
    attack.join().map_err(|_| io::Error::other("the attack panicked"))??;
    Ok(vec![
        Figure::plain(&format!("{name}: most resident memory"), peak, "MiB", Bar::AtMost(256.0)),
        Figure::ratio(
            &format!("{name}: p99 of good clients, against that without them"),
            under_attack?.quantile_us(0.99),
            "us",
            quiet.quantile_us(0.99),
            Bar::AtMost(5.0),
        ),
    ])
}

fn attack(
    target: &Target,
    authorization: &str,
    greed: Greed,
    mut stop: watch::Receiver<bool>,
) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut tasks = JoinSet::new();
        for connection in 0..CONNECTIONS {
            let (target, authorization) = (target.clone(), authorization.to_owned());
            tasks.spawn(async move {
                let from = Ipv4Addr::new(127, 0, 5, connection + 1);
                loop {
                    // However one connection ends, there is another.
                    let _ended = match greed {
                        Greed::DoesNotRead => ask_without_reading(&target, from, &authorization).await,
                        Greed::Hoards => announce(&target, from, &authorization).await,
                        Greed::Floods => flood(&target, from, &authorization).await,
                    };
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
            });
        }
        // The sender cannot be gone before it has said so.
        let _told = stop.wait_for(|stop| *stop).await;
        tasks.shutdown().await;
    });
    Ok(())
}

async fn ask_without_reading(target: &Target, from: Ipv4Addr, authorization: &str) -> io::Result<()> {
    let mut wire = target.http2_with_window(from, 1).await?;
    let headers = call_as(authorization, "/strongroom.v1.Secrets/Get");
    let asked = v1::GetRequest { path: "secret/large".to_owned(), version: None };
    for number in 0..STREAMS {
        wire.send(&request(2 * number + 1, &headers, &asked)).await?;
    }
    wire.end().await;
    Ok(())
}

async fn announce(target: &Target, from: Ipv4Addr, authorization: &str) -> io::Result<()> {
    let mut wire = target.http2(from).await?;
    let headers = call_as(authorization, "/strongroom.v1.Secrets/Put");
    for number in 0..STREAMS {
        wire.send(&frame(kind::HEADERS, END_HEADERS, 2 * number + 1, &headers)).await?;
        wire.send(&frame(kind::DATA, 0, 2 * number + 1, &[0, 0, 0x10, 0, 0, 1])).await?;
    }
    wire.end().await;
    Ok(())
}

async fn flood(target: &Target, from: Ipv4Addr, authorization: &str) -> io::Result<()> {
    let mut wire = target.http2(from).await?;
    let headers = call_as(authorization, "/strongroom.v1.Auth/Whoami");
    for number in 0.. {
        let stream = 2 * number + 1;
        wire.send(&request(stream, &headers, &v1::WhoamiRequest {})).await?;
        wire.answer(stream).await?;
    }
    Ok(())
}
