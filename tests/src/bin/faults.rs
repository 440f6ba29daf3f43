//! `make faults`: what must never happen, tried many times. One table; `--json` beside it; fails if anything happened.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "the table is for people")]

use std::{
    io,
    path::PathBuf,
    process::ExitCode,
    time::{SystemTime, UNIX_EPOCH},
};

use clap::{Parser, builder::PossibleValuesParser};
use strongroom_tests::{
    faults::{
        LONG, MERGE, audit, between, clock, coverage, damage, driver, forgeries, greedy, hostile, kill,
        leases, log, policy, power, records,
    },
    figures,
};

/// What there is, in this order.
const PARTS: [&str; 15] = [
    "coverage",
    "forgeries",
    "audit",
    "log",
    "policy",
    "swap",
    "hostile",
    "greedy",
    "power",
    "damage",
    "driver",
    "clock",
    "between",
    "leases",
    "kill",
];

#[derive(Parser)]
struct Args {
    /// Where to write the figures as JSON.
    #[arg(long)]
    json: Option<PathBuf>,
    /// The sizes for a release.
    #[arg(long)]
    long: bool,
    /// Only these.
    #[arg(long, value_delimiter = ',', value_parser = PossibleValuesParser::new(PARTS))]
    only: Vec<String>,
    /// Repeats the run of that seed.
    #[arg(long)]
    seed: Option<u64>,
    /// Where data and logs go.
    #[arg(long, default_value = "target")]
    directory: PathBuf,
}

#[tokio::main]
async fn main() -> io::Result<ExitCode> {
    let args = Args::parse();
    let size = if args.long { LONG } else { MERGE };
    let seed = args.seed.unwrap_or_else(seed_of_the_moment);
    eprintln!("seed {seed}");
    let work = tempfile::Builder::new().prefix("faults-").tempdir_in(&args.directory)?;
    let wanted = |name: &str| args.only.is_empty() || args.only.iter().any(|only| only == name);
    let mut all = Vec::new();
    for name in PARTS.into_iter().filter(|name| wanted(name)) {
        eprintln!("trying: {name}");
        all.extend(match name {
            "coverage" => coverage::run(work.path()).await?,
            "forgeries" => forgeries::run(work.path(), seed).await?,
            "audit" => audit::run(size.tampers, seed)?,
            "log" => log::run(work.path()).await?,
            "policy" => policy::run(size.questions, seed)?,
            "swap" => records::run(size.swaps, seed).await?,
            "hostile" => hostile::run(work.path(), size.silent).await?,
            "greedy" => greedy::run(work.path()).await?,
            "power" => power::run(work.path(), size.cuts, seed).await?,
            "damage" => damage::run(work.path(), size.damage, seed).await?,
            "driver" => driver::run(size.driver_kills, seed).await?,
            "clock" => clock::run(work.path()).await?,
            "leases" => leases::run(work.path(), size.lease_kills, size.users, seed).await?,
            "between" => between::run(work.path(), size.between, seed).await?,
            _ => kill::run(work.path(), size.kills, size.records, seed).await?,
        });
    }
    print!("{}", figures::table(&all));
    if let Some(file) = &args.json {
        figures::write_json(&all, file)?;
    }
    // Times depend on what else the machine does: they are told, and judged by people.
    let good = all.iter().all(|figure| figure.reached || matches!(figure.unit, "s" | "us"));
    Ok(if good { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

#[expect(clippy::disallowed_methods, reason = "a seed nobody chose; it is printed")]
fn seed_of_the_moment() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    since.as_secs() ^ u64::from(since.subsec_nanos())
}
