//! kill -9 amid issuing and revoking users of a real PostgreSQL: afterwards there is no user that no lease knows, and no lease
//! without its user or its end. Then many users at once, of which none is left.

use std::{
    collections::BTreeSet,
    io,
    path::Path,
    time::{Duration, Instant},
};

use strongroom_proto::v1::{
    self, database_client::DatabaseClient, lease_selector::Which, leases_client::LeasesClient,
    sys_client::SysClient,
};
use tokio::task::JoinSet;
use tonic::{
    metadata::{Ascii, MetadataValue},
    transport::Channel,
};

use super::{dice::Dice, intents::Intents};
use crate::{
    bench::subject::{Subject, channel, with},
    figures::{Bar, Figure},
    postgres::Postgres,
    server::{Options, Server},
    wait::{DEADLINE, found_async},
};

const MOUNT: &str = "db";
const ROLE: &str = "db/role";
/// As whom the server works, and its password there.
const WORKER: &str = "strongroom";
const PASSWORD: &str = "a password of the tests";
/// Tasks that issue and revoke at the same time.
const CLIENTS: usize = 8;
/// After a start, what the last run left is ended within that.
const SETTLED: Duration = Duration::from_secs(120);

/// What the rounds counted.
#[derive(Default)]
struct Tally {
    issued: u64,
    unknown: u64,
    /// Leases that live, without a user.
    empty: u64,
}

/// Runs it. Nothing without a PostgreSQL, which is an error in CI.
///
/// # Errors
/// The harness itself failed, or the server did not come up again.
pub async fn run(work: &Path, rounds: u64, users: usize, seed: u64) -> io::Result<Vec<Figure>> {
    let directory = work.join("leases");
    std::fs::create_dir_all(&directory)?;
    let Some(postgres) = Postgres::start()? else { return Ok(Vec::new()) };
    postgres.sql(&format!(
        "CREATE ROLE {WORKER} LOGIN CREATEROLE PASSWORD '{PASSWORD}' IN ROLE pg_signal_backend"
    ))?;
    let (mut dice, options) = (Dice::new(seed), Options::default());
    let Subject { mut server, root, .. } = Subject::start(&directory, &options).await?;
    prepare(&channel(&server.url, &server.ca()).await?, &root, &postgres).await?;

    let (mut tally, mut intents) = (Tally::default(), Intents::default());
    for _ in 0..rounds {
        let clients = issue_until_dead(&channel(&server.url, &server.ca()).await?, &root);
        tokio::time::sleep(Duration::from_millis(20 + dice.below(400))).await;
        server.kill()?;
        tally.issued += clients.join_all().await.into_iter().sum::<u64>();
        server = Server::start(&directory, &options)?;
        compare(&channel(&server.url, &server.ca()).await?, &root, &postgres, &mut tally).await?;
        intents = read_on(intents, &directory.join("audit")).await?;
    }
    let channel = channel(&server.url, &server.ca()).await?;
    revoke_all(&channel, &root).await?;
    let began = Instant::now();
    let issued = issue(&channel, &root, users).await?;
    let issuing = began.elapsed();
    let there = made(&postgres)?.len();
    revoke_all(&channel, &root).await?;
    let revoking = began.elapsed() - issuing;
    let left = made(&postgres)?.len();
    server.stop()?;

    let rate = |span: Duration| issued as f64 / span.as_secs_f64();
    Ok(vec![
        Figure::never(
            &format!("kill -9 amid issue and revoke, {rounds} rounds: database users that no lease knows"),
            tally.unknown,
            "users",
            tally.issued,
        ),
        Figure::never(
            &format!("kill -9 amid issue and revoke, {rounds} rounds: leases that live without their user"),
            tally.empty,
            "leases",
            tally.issued,
        ),
        Figure::never(
            &format!(
                "kill -9 amid issue and revoke, {rounds} rounds: intents without exactly one end in the audit log"
            ),
            intents.wrong,
            "wrong",
            intents.count(),
        ),
        Figure::never(
            &format!("{issued} database users issued and revoked: missing, or left"),
            (issued - there.min(issued) + left) as u64,
            "users",
            issued as u64,
        ),
        Figure::plain("database users issued, 8 clients", rate(issuing), "1/s", Bar::None),
        Figure::plain("database users revoked, all at once", rate(revoking), "1/s", Bar::None),
    ])
}

/// The server itself has just ended leases: the ends of that are still being written.
async fn read_on(mut intents: Intents, audit: &Path) -> io::Result<Intents> {
    let all_ended = async || {
        let mut ahead = intents.clone();
        ahead.read_on(audit).ok()?;
        (ahead.wrong == intents.wrong).then_some(ahead)
    };
    if let Ok(ahead) = found_async("each intent has its end", DEADLINE, all_ended).await {
        return Ok(ahead);
    }
    intents.read_on(audit)?;
    Ok(intents)
}

async fn prepare(channel: &Channel, root: &MetadataValue<Ascii>, postgres: &Postgres) -> io::Result<()> {
    let mount = v1::MountRequest { name: MOUNT.into(), kind: "database".into(), ..Default::default() };
    SysClient::new(channel.clone()).mount(with(root, mount)).await.map_err(io::Error::other)?;
    let mut database = DatabaseClient::new(channel.clone());
    let configure = v1::ConfigureDatabaseRequest {
        path: MOUNT.into(),
        host: "127.0.0.1".into(),
        port: postgres.port.into(),
        user: WORKER.into(),
        password: Some(v1::Sensitive { value: PASSWORD.into() }),
        ca_pem: std::fs::read_to_string(&postgres.ca)?,
        max_connections: 8,
        ..Default::default()
    };
    database.configure(with(root, configure)).await.map_err(io::Error::other)?;
    let creation =
        vec!["CREATE ROLE {{name}} LOGIN PASSWORD {{password}} VALID UNTIL {{expires}}".to_owned()];
    let role = v1::PutDatabaseRoleRequest { path: ROLE.into(), creation, ..Default::default() };
    database.put_role(with(root, role)).await.map(drop).map_err(io::Error::other)
}

/// Says of each client how often it was answered.
fn issue_until_dead(channel: &Channel, root: &MetadataValue<Ascii>) -> JoinSet<u64> {
    let mut clients = JoinSet::new();
    for _ in 0..CLIENTS {
        let (mut database, mut leases) =
            (DatabaseClient::new(channel.clone()), LeasesClient::new(channel.clone()));
        let root = root.clone();
        clients.spawn(async move {
            for turn in 0_u64.. {
                let asked = v1::IssueDatabaseUserRequest { path: ROLE.into(), ..Default::default() };
                let Ok(user) = database.issue(with(&root, asked)).await else { return turn };
                let id = user.into_inner().lease.unwrap_or_default().id;
                if turn.is_multiple_of(2) && leases.revoke(with(&root, revoke(Which::Id(id)))).await.is_err()
                {
                    return turn + 1;
                }
            }
            0
        });
    }
    clients
}

fn revoke(which: Which) -> v1::RevokeLeasesRequest {
    v1::RevokeLeasesRequest { which: Some(v1::LeaseSelector { which: Some(which) }) }
}

/// Once nothing is being ended any more: the users that there are are those of the leases.
async fn compare(
    channel: &Channel,
    root: &MetadataValue<Ascii>,
    postgres: &Postgres,
    tally: &mut Tally,
) -> io::Result<()> {
    let known: BTreeSet<String> = found_async("what has to end has ended", SETTLED, async || {
        let leases = listed(channel, root).await.ok()?;
        let settled = leases.iter().all(|lease| lease.ending.is_empty());
        settled.then(|| leases.into_iter().map(|lease| lease.what).collect())
    })
    .await?;
    let there = made(postgres)?;
    tally.unknown += there.difference(&known).count() as u64;
    tally.empty += known.difference(&there).count() as u64;
    Ok(())
}

async fn listed(channel: &Channel, root: &MetadataValue<Ascii>) -> Result<Vec<v1::LeaseInfo>, tonic::Status> {
    let (mut client, mut leases) = (LeasesClient::new(channel.clone()), Vec::<v1::LeaseInfo>::new());
    loop {
        let after = leases.last().and_then(|info| info.lease.clone()).unwrap_or_default().id;
        let page = client.list(with(root, v1::ListLeasesRequest { after, ..Default::default() })).await?;
        let v1::ListLeasesResponse { leases: page, more } = page.into_inner();
        leases.extend(page);
        if !more {
            return Ok(leases);
        }
    }
}

/// The users that were made by us.
fn made(postgres: &Postgres) -> io::Result<BTreeSet<String>> {
    let names = postgres.sql("SELECT rolname FROM pg_roles WHERE rolname LIKE 'sr\\_%'")?;
    Ok(names.lines().map(str::to_owned).filter(|name| !name.is_empty()).collect())
}

/// As many as these, by several clients at once.
async fn issue(channel: &Channel, root: &MetadataValue<Ascii>, users: usize) -> io::Result<usize> {
    let mut clients = JoinSet::new();
    for client in 0..CLIENTS {
        let (mut database, root) = (DatabaseClient::new(channel.clone()), root.clone());
        clients.spawn(async move {
            let mut issued = 0;
            for _ in (client..users).step_by(CLIENTS) {
                let asked = v1::IssueDatabaseUserRequest { path: ROLE.into(), ..Default::default() };
                database.issue(with(&root, asked)).await.map_err(io::Error::other)?;
                issued += 1;
            }
            io::Result::Ok(issued)
        });
    }
    clients.join_all().await.into_iter().sum()
}

async fn revoke_all(channel: &Channel, root: &MetadataValue<Ascii>) -> io::Result<()> {
    let all = revoke(Which::Prefix(MOUNT.to_owned()));
    LeasesClient::new(channel.clone()).revoke(with(root, all)).await.map_err(io::Error::other)?;
    found_async("all leases have ended", SETTLED, async || {
        listed(channel, root).await.is_ok_and(|leases| leases.is_empty()).then_some(())
    })
    .await
}
