//! `explain`: why something would, or would not, work. So far: the volume of a pod, before anybody rolls it out.

mod judge;
mod manifest;

use std::path::PathBuf;

use clap::{Args, Subcommand};
use serde::Serialize;
use strongroom_client::{Client, ErrorKind, Secret, volume::Volume};

use self::{
    judge::{Answers, Lookup, Row},
    manifest::{Manifest, Workload},
};
use crate::{
    context::Context,
    failure::Failure,
    input,
    output::{Format, Presentation, plural},
};

#[derive(Args)]
pub(crate) struct Explain {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Show, file by file, whether a pod would get its volume, and if not, why
    ///
    /// Reads a Pod or an object that creates pods (Deployment, StatefulSet, DaemonSet, ReplicaSet, Job, CronJob, List), and asks
    /// the server what those pods may read. Nothing is changed. The exit code is 0 only if every volume would mount.
    /// You need read on sys/policy; files of secrets that you may not read yourself are "unknown".
    Volume(VolumeArgs),
}

#[derive(Args)]
#[command(after_help = "Examples:
  strongroom explain volume -f deployment.yaml
  kubectl get deployment shop -o yaml | strongroom explain volume -f - --cluster west")]
struct VolumeArgs {
    /// The manifest, or - for standard input
    #[arg(short, long, value_name = "FILE")]
    file: PathBuf,
    /// The namespace of objects that do not name one
    #[arg(short, long, default_value = "default")]
    namespace: String,
    /// The server's name for the cluster
    #[arg(long, default_value = "main")]
    cluster: String,
}

/// What is said about a workload.
#[derive(Serialize)]
struct Report {
    workload: String,
    principal: String,
    volumes: Vec<VolumeReport>,
}

#[derive(Serialize)]
struct VolumeReport {
    volume: String,
    mounts: bool,
    files: Vec<Row>,
    warnings: Vec<String>,
}

pub(crate) async fn run(context: &Context, args: Explain) -> Result<(), Failure> {
    let Command::Volume(args) = args.command;
    let content = input::content::whole(&args.file)?;
    let text = content.expose_str().map_err(|error| Failure::local(args.file.display(), error))?;
    let Manifest { workloads, skipped } = manifest::read(text, &args.namespace)?;
    if !skipped.is_empty() {
        let (named, count) = (skipped.iter().take(8).map(String::as_str).collect::<Vec<_>>(), skipped.len());
        let more = if count > named.len() { ", ..." } else { "" };
        let objects = plural(count, "object");
        context.output.note(&format!(
            "note: skipped {objects} that make no pods, or pods of a kind that is not known here: {}{more}",
            named.join(", ")
        ));
    }
    if !workloads.iter().any(|workload| workload.spec.volumes().next().is_some()) {
        let sentence = format!(
            "{}: no pod in it has a volume of {}",
            input::content::name(&args.file),
            strongroom_client::volume::DRIVER
        );
        return Err(Failure::usage(sentence));
    }
    let client = context.client().await?;
    let mut reports = Vec::new();
    for workload in &workloads {
        reports.push(report(&client, &args.cluster, workload).await?);
    }
    show(context, &reports)?;
    if reports.iter().flat_map(|report| &report.volumes).all(|volume| volume.mounts) {
        Ok(())
    } else {
        Err(Failure::No)
    }
}

async fn report(client: &Client, cluster: &str, workload: &Workload) -> Result<Report, Failure> {
    let pod = &workload.pod;
    let principal = format!("kubernetes/{cluster}/{}/{}", pod.namespace, pod.service_account);
    let mut volumes = Vec::new();
    for (name, csi) in workload.spec.volumes() {
        let (volume, files) = match judge::parse(csi, pod) {
            Ok(volume) => {
                let answers = ask(client, &principal, &volume).await?;
                let files = judge::files(&volume, &answers);
                (Some(volume), files)
            }
            Err(mistakes) => (None, mistakes),
        };
        volumes.push(VolumeReport {
            volume: name.to_owned(),
            mounts: files.iter().all(|row| row.verdict.is_good()),
            files,
            warnings: judge::warnings(workload, name, csi, volume.as_ref()),
        });
    }
    Ok(Report { workload: workload.title.clone(), principal, volumes })
}

async fn ask(client: &Client, principal: &str, volume: &Volume) -> Result<Answers, Failure> {
    let mut answers = Answers::default();
    for path in volume.paths() {
        let answer = client.policy().can_i("read", path, Some(principal), Vec::new(), None).await?;
        answers.may.insert(path.to_owned(), (answer.allowed, answer.reason));
    }
    // Whether it may be issued is asked, and nothing is issued for that.
    for source in volume.issues() {
        let answer = client.policy().can_i("use", source.path(), Some(principal), Vec::new(), None).await?;
        answers.may.insert(source.path().to_owned(), (answer.allowed, answer.reason));
    }
    for source in volume.sources().into_iter().filter(|source| !source.is_issued()) {
        let read = match source.version() {
            Some(version) => client.get_version(source.path(), version).await,
            None => client.get(source.path()).await,
        };
        answers.lookups.insert(source.clone(), lookup(read)?);
    }
    Ok(answers)
}

fn lookup(read: Result<Secret, strongroom_client::Error>) -> Result<Lookup, Failure> {
    match read {
        Ok(secret) => Ok(Lookup::Values(secret.values)),
        Err(error) if error.is_not_found() => Ok(Lookup::Missing(error.to_string())),
        Err(error) if matches!(error.kind(), ErrorKind::Denied { .. }) => Ok(Lookup::Hidden),
        Err(error) => Err(error.into()),
    }
}

fn show(context: &Context, reports: &[Report]) -> Result<(), Failure> {
    let output = &context.output;
    if output.format() != Format::Table {
        return output.show(&reports, Presentation::Text(String::new()));
    }
    for report in reports.iter().filter(|report| !report.volumes.is_empty()) {
        output.line(&format!("{} as {}", report.workload, report.principal))?;
        let row = |volume: &str, row: &Row| {
            let verdict = row.verdict.word().to_owned();
            vec![volume.to_owned(), row.file.clone(), row.from.clone(), verdict, row.why.clone()]
        };
        let rows =
            report.volumes.iter().flat_map(|v| v.files.iter().map(|file| row(&v.volume, file))).collect();
        output.present(Presentation::Table(vec!["VOLUME", "FILE", "FROM", "MOUNTS", "WHY"], rows))?;
        for warning in report.volumes.iter().flat_map(|volume| &volume.warnings) {
            output.line(&format!("warning: {warning}"))?;
        }
    }
    let (all, good) =
        reports.iter().flat_map(|report| &report.volumes).fold((0_usize, 0_usize), |(all, good), volume| {
            (all.saturating_add(1), good.saturating_add(usize::from(volume.mounts)))
        });
    output.line(&format!("{good} of {} would mount", plural(all, "volume")))
}
