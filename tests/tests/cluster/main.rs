//! What Strongroom does in a real Kubernetes: the manifests of `deploy/`, the images, the driver under a kubelet, pods.
//!
//! One cluster for all scenarios, brought up by the first of them and taken down at the end; so they run one after the
//! other, each in a namespace of its own. `make cluster-test` runs these alone; a word as an argument picks some.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a test ends at the first surprise, and tells"
)]

mod chart;
mod crowd;
mod driver;
mod examples;
mod health;
mod identity;
mod levels;
mod manifests;
mod mounts;
mod network;
mod outage;
mod process;
mod refusals;
mod rotation;
mod salvage;
mod tokens;

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    process::ExitCode,
    sync::{Arc, OnceLock},
    time::Instant,
};

use libtest_mimic::{Arguments, Failed, Trial};
use strongroom_tests::cluster::{self, Cluster, evidence, pod, store::Store};
use tokio::runtime::Runtime;

/// How a scenario ends.
type Outcome = Result<(), Box<dyn std::error::Error>>;

/// Everything that scenarios share.
struct World {
    cluster: Cluster,
    store: Store,
    runtime: Runtime,
}

/// What one scenario works with.
struct Scene<'a> {
    world: &'a World,
    /// Of its own, with a service account `app`.
    namespace: String,
}

impl Scene<'_> {
    /// Waits for a call to the server.
    fn wait<T>(&self, future: impl Future<Output = T>) -> T {
        self.world.runtime.block_on(future)
    }

    /// Where most begin: a password of the namespace that its account `app` may read. Gives its path.
    fn store_password(&self, password: &str) -> std::io::Result<String> {
        let path = format!("secret/apps/{}/db", self.namespace);
        self.wait(async {
            self.world.store.put(&path, &[("password", password)]).await?;
            self.world.store.policy(&mounts::role_of(&self.namespace)).await
        })?;
        Ok(path)
    }
}

/// What a scenario does.
type Scenario = fn(&Scene<'_>) -> Outcome;

/// In the order of running: what the rest stands on comes first.
const SCENARIOS: &[(&str, Scenario)] = &[
    ("manifests_of_both_overlays_are_accepted", manifests::both_overlays_are_accepted),
    ("processes_have_only_the_rights_they_need", process::only_the_rights_they_need),
    ("pod_security_levels_are_enforced", levels::pod_security),
    ("admission_policies_refuse_with_a_sentence", levels::admission_policies),
    ("network_policies_are_enforced", network::policies),
    ("files_owners_and_modes_are_as_asked_for", mounts::files_owners_and_modes),
    ("a_pod_reads_through_its_group", mounts::a_group_of_the_pod),
    ("a_pod_with_users_of_its_own", mounts::users_of_its_own),
    ("tokens_may_come_in_both_places", tokens::in_both_places),
    ("a_pod_without_a_role_waits_and_says_why", refusals::waits_and_says_why),
    ("a_put_is_in_the_pod_within_a_second", rotation::within_a_second),
    ("a_deleted_pod_is_cut_off", identity::a_deleted_pod_is_cut_off),
    ("a_stolen_token_opens_nothing_elsewhere", identity::a_stolen_token),
    ("a_deleted_pod_is_cut_off_in_local_mode", identity::local_mode),
    ("a_new_driver_takes_over_what_the_old_one_mounted", driver::takes_over),
    ("a_kubelet_that_restarts_finds_the_driver", driver::kubelet_restarts),
    ("a_node_without_a_driver_for_a_minute", driver::absent),
    ("a_killed_driver_leaves_nothing_behind", driver::killed),
    ("a_volume_that_is_outdated_is_an_event", health::a_condition_is_an_event),
    ("a_pods_owner_is_told_by_the_driver", health::the_driver_tells_the_pods_owner),
    ("pods_outlive_the_server", outage::pods_outlive_the_server),
    ("every_example_runs", examples::every_example_runs),
    ("a_hundred_pods_at_once", crowd::a_hundred_pods),
    // From then on the server works on another folder.
    ("a_damaged_store_is_brought_back", salvage::a_damaged_store_is_brought_back),
    // Last: a cluster has one driver, and here it is another for a while.
    ("helm_installs_it_elsewhere", chart::helm_installs_it_elsewhere),
];

fn main() -> ExitCode {
    let mut arguments = Arguments::from_args();
    arguments.test_threads = Some(1);
    let missing = cluster::missing();
    let required =
        std::env::var_os("CI").is_some() || std::env::var_os("STRONGROOM_CLUSTER_REQUIRED").is_some();
    if !missing.is_empty() && !arguments.list {
        eprintln!("\nNOT RUN: the tests on a real cluster. This machine lacks\n  {}\n", missing.join("\n  "));
        return if required { ExitCode::FAILURE } else { ExitCode::SUCCESS };
    }
    let world: Arc<OnceLock<Result<World, String>>> = Arc::default();
    let trials = SCENARIOS.iter().map(|(name, scenario)| {
        let world = Arc::clone(&world);
        Trial::test(*name, move || run(&world, name, *scenario))
    });
    let conclusion = libtest_mimic::run(&arguments, trials.collect());
    let code = conclusion.exit_code();
    // Trials are gone and with them every other holder of the world.
    match Arc::try_unwrap(world).ok().and_then(OnceLock::into_inner) {
        Some(Ok(world)) => match world.cluster.down() {
            Ok(()) => code,
            Err(error) => {
                eprintln!("{error}");
                ExitCode::FAILURE
            }
        },
        _ => code,
    }
}

fn bring_up() -> Result<World, String> {
    let said = |error: std::io::Error| error.to_string();
    let start = Instant::now();
    let runtime = Runtime::new().map_err(said)?;
    let cluster = Cluster::up().map_err(said)?;
    let up = start.elapsed();
    let store = runtime.block_on(Store::install(&cluster)).map_err(|error| {
        format!("installing Strongroom: {error}\n{}", evidence::collect(&cluster, "strongroom"))
    })?;
    println!(
        "\ncluster up after {:.0?} (images included), Strongroom installed after {:.0?}",
        up,
        start.elapsed()
    );
    Ok(World { cluster, store, runtime })
}

fn run(world: &OnceLock<Result<World, String>>, name: &str, scenario: Scenario) -> Result<(), Failed> {
    let world = world.get_or_init(bring_up).as_ref().map_err(|error| Failed::from(error.clone()))?;
    let namespace = name.replace('_', "-");
    let kubectl = &world.cluster.kubectl;
    kubectl.apply(&pod::namespace(&namespace)).map_err(|error| Failed::from(error.to_string()))?;
    let start = Instant::now();
    let outcome = catch_unwind(AssertUnwindSafe(|| scenario(&Scene { world, namespace: namespace.clone() })));
    println!("({:.1?}) ", start.elapsed());
    let failure = match outcome {
        Ok(Ok(())) => None,
        Ok(Err(error)) => Some(error.to_string()),
        Err(panic) => Some(said(&*panic)),
    };
    let failed = failure.map(|why| format!("{why}\n{}", evidence::collect(&world.cluster, &namespace)));
    // Its pods make room for the next one's; a failure to delete shows in the last look at what is left.
    let _ = kubectl.ok(&["delete", "namespace", &namespace, "--wait=false"]);
    let _ = kubectl.ok(&["-n", &namespace, "delete", "pods", "--all", "--wait=false", "--grace-period=0"]);
    failed.map_or(Ok(()), |why| Err(why.into()))
}

fn said(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("a panic without words").to_owned()
}
