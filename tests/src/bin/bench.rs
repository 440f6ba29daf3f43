//! `make bench`: the speed of the real server against baselines in the same run. One table; `--json` beside it.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "the table is for people")]

use std::{io, path::PathBuf};

use clap::{Parser, builder::PossibleValuesParser};
use strongroom_tests::{
    bench::{audit, echo, leases, mounts, pods, rooms, transit, wire},
    figures,
};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// What there is, in this order.
const PARTS: [&str; 10] =
    ["read", "write", "login", "transit", "audit", "policy", "list", "leases", "mount", "scale"];

#[derive(Parser)]
struct Args {
    /// Where to write the figures as JSON.
    #[arg(long)]
    json: Option<PathBuf>,
    /// Under two minutes: smaller sizes, shorter runs.
    #[arg(long)]
    quick: bool,
    /// Only these.
    #[arg(long, value_delimiter = ',', value_parser = PossibleValuesParser::new(PARTS))]
    only: Vec<String>,
    /// Where data and logs go; a disk worth measuring.
    #[arg(long, default_value = "target")]
    directory: PathBuf,
    /// Be the baseline server (used by the benchmark itself).
    #[arg(long, hide = true)]
    echo: Option<PathBuf>,
}

#[tokio::main]
async fn main() -> io::Result<()> {
    let args = Args::parse();
    if let Some(pki) = &args.echo {
        return echo::serve(pki).await;
    }
    let size = if args.quick { rooms::QUICK } else { rooms::FULL };
    let work = tempfile::Builder::new().prefix("bench-").tempdir_in(&args.directory)?;
    let wanted = |name: &str| args.only.is_empty() || args.only.iter().any(|only| only == name);
    let mut all = Vec::new();
    for name in PARTS.into_iter().filter(|name| wanted(name)) {
        eprintln!("measuring: {name}");
        all.extend(match name {
            "read" => wire::read(work.path(), size).await?,
            "write" => wire::write(work.path(), size).await?,
            "login" => pods::login(work.path(), size).await?,
            "transit" => transit::encrypt(work.path(), size).await?,
            "audit" => audit::run(work.path(), size).await?,
            "policy" => rooms::policy(size)?,
            "list" => rooms::list(work.path(), size).await?,
            "leases" => leases::many().await?,
            "mount" => mounts::run(size).await?,
            _ => rooms::scale(work.path(), size).await?,
        });
    }
    print!("{}", figures::table(&all));
    if let Some(file) = &args.json {
        figures::write_json(&all, file)?;
    }
    Ok(())
}
