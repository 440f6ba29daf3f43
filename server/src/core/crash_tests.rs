//! A crash between any two commits of one request: whatever writes more than once is stopped after each of its commits, and
//! another process looks at what is left. What the log then calls applied is all there; nobody who is gone has a session. Then
//! outcomes that are lost after their writes were answered. And what a store that is full still does.

use std::{
    fs,
    path::Path as File,
    sync::Arc,
    time::{Duration, Instant},
};

use strongroom_proto::Reason;
use strongroom_proto::v1::login_request::{Credential as Shown, Userpass};

use super::{
    context::Origin,
    error::Error,
    handle,
    request::{Action, Answer, PolicyAction, Request, SessionAction, SysAction, UserAction},
    tests::{House, anywhere, shape},
    unauthenticated::{Login, login},
};
use crate::{
    auth::{Credential, LoginContext, LoginError},
    barrier::BarrierError,
    engines::kv,
    model::{KeyName, Path, RequestId, SecretBytes},
    storage::{Store, fault},
    tokens::Which,
};

const PASSWORD: &str = "correct horse battery";
/// The request that does not come to its end.
const CUT_OFF: RequestId = RequestId([99; 16]);
/// With values of this size five versions are more than one batch erases.
const LARGE: usize = 900 << 10;
/// More than any request here commits.
const MANY: usize = 20;

fn from(id: RequestId) -> Origin {
    Origin { id, name: "Test.Request", peer: None }
}

async fn ask(house: &House, bearer: &SecretBytes, id: RequestId, action: Action) -> Result<Answer, Error> {
    let bearer = Some(SecretBytes::from(bearer.expose()));
    handle(&house.core, Request { origin: from(id), slot: anywhere(), bearer, action: Ok(action) }).await
}

async fn done(house: &House, bearer: &SecretBytes, number: u8, action: Action) {
    ask(house, bearer, RequestId([number; 16]), action).await.unwrap();
}

async fn log_in(house: &House, password: &str) -> Result<SecretBytes, Error> {
    let credential = Ok(alice(password));
    let login = login(&house.core, Login { origin: from(RequestId([50; 16])), slot: anywhere(), credential });
    login.await.map(|(token, _)| token)
}

fn alice(password: &str) -> Credential {
    let password = Some(SecretBytes::from(password.as_bytes()).into());
    Credential::read(Some(Shown::Userpass(Userpass { name: "alice".into(), password }))).unwrap()
}

fn put_alice(password: &str) -> Action {
    let password = Some(SecretBytes::from(password.as_bytes()));
    Action::User(UserAction::Put { name: "alice".into(), password, groups: Some(Vec::new()) })
}

fn on(path: &str, operation: kv::Operation) -> Action {
    Action::Engine { paths: vec![Path::parse(path).unwrap()], operation: Box::new(operation) }
}

fn put(size: usize) -> kv::Operation {
    let data = [(KeyName::parse("key").unwrap(), SecretBytes::new(vec![7; size]))].into();
    kv::Operation::Put { data, expected_version: None, ttl: None, operation_id: None }
}

/// A house in which `prepare` was done, and then `action` as far as `commits` commits. None: it came to its end.
async fn cut_off(
    prepare: impl AsyncFn(&House, &SecretBytes) -> Option<SecretBytes>,
    action: impl Fn() -> Action,
    commits: usize,
) -> Option<(House, Option<SecretBytes>)> {
    let (house, root) = House::open().await;
    let kept = prepare(&house, &root).await;
    house.later();
    house.store.crash_after(Some(commits));
    if ask(&house, &root, CUT_OFF, action()).await.is_ok() {
        return None;
    }
    // The outcome that a living process wrote is one that a dead one did not: only the store's word is looked at.
    Some((house.again().await, kept))
}

/// Whether the store says that the request was applied: what the log says after a crash.
fn is_applied(house: &House) -> bool {
    house.core.unsealed().unwrap().barrier.was_applied(&CUT_OFF)
}

#[tokio::test]
async fn a_user_and_their_sessions_end_together() {
    let prepare = async |house: &House, root: &SecretBytes| {
        done(house, root, 1, put_alice(PASSWORD)).await;
        house.later();
        Some(log_in(house, PASSWORD).await.unwrap())
    };
    let delete = || Action::User(UserAction::Delete { name: "alice".into() });
    let change = || put_alice("another long password");
    for action in [&delete as &dyn Fn() -> Action, &change] {
        let mut cuts = 0;
        while let Some((house, alice)) = cut_off(prepare, action, cuts).await {
            house.later();
            let whoami = Action::Session(SessionAction::Whoami);
            let alive = ask(&house, &alice.unwrap(), RequestId([2; 16]), whoami).await.is_ok();
            let old_password = log_in(&house, PASSWORD).await.is_ok();
            assert_eq!(alive, old_password, "after {cuts} commits: gone, but not out");
            assert_eq!(is_applied(&house), !alive, "after {cuts} commits");
            cuts += 1;
            assert!(cuts < MANY);
        }
        assert_eq!(cuts, 1, "one commit, so the only cut is before it");
    }
}

#[tokio::test]
async fn what_the_log_calls_destroyed_is_gone() {
    let prepare = async |house: &House, root: &SecretBytes| {
        for number in 1..=5 {
            done(house, root, number, on("secret/large", put(LARGE))).await;
        }
        None
    };
    let versions =
        || on("secret/large", kv::Operation::Destroy { versions: vec![1, 2, 3, 4, 5], all: false });
    let all = || on("secret/large", kv::Operation::Destroy { versions: Vec::new(), all: true });
    let unmount = || Action::Sys(SysAction::Unmount { name: "secret".into(), destroy_data: true });
    for action in [&versions as &dyn Fn() -> Action, &all, &unmount] {
        let mut cuts = 0;
        while let Some((house, _)) = cut_off(prepare, action, cuts).await {
            let left = house.store.inner().scan(&[kv::VERSION.byte()], None, 1000).await.unwrap().len();
            assert!(!is_applied(&house) || left == 0, "after {cuts} commits {left} records are left");
            cuts += 1;
            assert!(cuts < MANY);
        }
        assert!(cuts > 1, "it writes more than once, or this shows nothing");
    }
}

/// Cuts the log behind the last line that says so: what came after it did not reach the disk.
fn lose_what_follows(log: &File, last: &str) {
    let text = fs::read_to_string(log).unwrap();
    let (kept, _) = text.rsplit_once(last).unwrap();
    let end = kept.len() + text[kept.len()..].find('\n').unwrap() + 1;
    fs::write(log, &text[..end]).unwrap();
}

/// Each intent has one end, and the last one has it from the store; also after another crash.
async fn told_by_the_store(mut house: House, writes: usize) {
    let intent = ("request", "pending", "");
    let told = ("recovered", "ok", "the server ended before it recorded the outcome");
    let mut expected = [intent, ("outcome", "ok", "")].repeat(writes - 1);
    expected.extend([intent, told]);
    for _ in 0..2 {
        let records = house.records("Test.Request");
        let of_root = records.iter().position(|record| record["status"] == "pending").unwrap();
        // Init is the first of that name.
        assert_eq!(shape(&records[of_root + 2..]), expected);
        assert_eq!(records.last().unwrap()["recovered"], "applied");
        house = house.again().await;
    }
}

#[tokio::test]
async fn an_outcome_that_is_lost_after_the_answer_is_told_by_the_store() {
    let (house, root) = House::open().await;
    for number in 1..=3 {
        done(&house, &root, number, on("secret/a", put(10))).await;
    }
    let house = house.again_with(|log| lose_what_follows(log, "\"status\":\"pending\"")).await;
    told_by_the_store(house, 3).await;
}

/// The caller of a write that the store has does not wait for the disk of its outcome; that this disk is dead is noticed all
/// the same, and nobody else is answered.
#[tokio::test]
async fn a_log_that_dies_after_the_answer_stops_the_server_and_the_next_start_closes_the_intent() {
    let (mut house, mut root) = House::open().await;
    loop {
        let held = house.store.hold(fault::Operation::Commit);
        let (taken, log) = (house.log().with_extension("taken"), house.log());
        let (answer, ()) =
            tokio::join!(ask(&house, &root, RequestId([1; 16]), on("secret/a", put(10))), async {
                let stopped = held.reached().await;
                fs::rename(&log, &taken).unwrap();
                stopped.release();
            });
        let deadline = Instant::now() + Duration::from_secs(30);
        while house.core.ready().is_ok() {
            assert!(Instant::now() < deadline, "not noticed");
            tokio::task::yield_now().await;
        }
        let whoami = Action::Session(SessionAction::Whoami);
        let next = ask(&house, &root, RequestId([2; 16]), whoami).await.err().unwrap();
        assert_eq!(next.reason(), Reason::AuditUnavailable);
        if answer.is_err() {
            // Once a second the writer looks whether the log is there, and it did so just then.
            assert_eq!(answer.err().unwrap().reason(), Reason::Unrecorded);
            (house, root) = House::open().await;
            continue;
        }
        let lost = |log: &File| {
            fs::rename(&taken, log).unwrap();
            lose_what_follows(log, "\"status\":\"pending\"");
        };
        return told_by_the_store(house.again_with(lost).await, 1).await;
    }
}

#[tokio::test]
async fn a_log_that_is_closed_before_the_answer_leaves_it_unrecorded() {
    let (house, root) = House::open().await;
    let held = house.store.hold(fault::Operation::Commit);
    let (answer, ()) = tokio::join!(ask(&house, &root, CUT_OFF, on("secret/a", put(10))), async {
        let stopped = held.reached().await;
        house.core.audit.close().await;
        stopped.release();
    });
    assert_eq!(answer.err().unwrap().reason(), Reason::Unrecorded);
    assert!(is_applied(&house.again().await), "done, and known to be");
}

/// What the store could not tell is on the disk before the answer: why something failed, and that something changed nothing.
#[tokio::test]
async fn an_outcome_that_the_store_cannot_tell_is_waited_for() {
    let (house, root) = House::open().await;
    let scrub = || Action::Sys(SysAction::Scrub);
    let refused = || on("secret/none", kv::Operation::Undelete { versions: vec![1] });
    for (action, ok) in [(&scrub as &dyn Fn() -> Action, true), (&refused, false)] {
        for number in 0..20 {
            assert_eq!(ask(&house, &root, RequestId([number; 16]), action()).await.is_ok(), ok);
            assert_eq!(house.records("Test.Request").last().unwrap()["kind"], "outcome");
        }
    }
}

/// Whoever fills the store can still be shut out, and what they wrote destroyed.
#[tokio::test]
async fn a_full_store_takes_rights_and_data_away() {
    let (house, root) = House::open().await;
    done(&house, &root, 1, put_alice(PASSWORD)).await;
    for path in ["secret/a", "secret/b", "secret/deep/c"] {
        done(&house, &root, 2, on(path, put(10))).await;
    }
    house.later();
    let alice = log_in(&house, PASSWORD).await.unwrap();
    house.store.fill();
    for refused in [put(10), kv::Operation::Undelete { versions: vec![1] }] {
        done(&house, &root, 3, on("secret/a", kv::Operation::Delete { versions: vec![1] })).await;
        let refused = ask(&house, &root, CUT_OFF, on("secret/a", refused)).await.err().unwrap();
        assert_eq!(refused.reason(), Reason::ReadOnly);
    }
    let yaml = "{kind: Role, name: r, rules: [{paths: [a], verbs: [read]}]}".to_owned();
    let policy = PolicyAction::Apply { yaml, remove: Vec::new(), dry_run: false, force: false };
    let unmount = SysAction::Unmount { name: "secret".into(), destroy_data: true };
    for action in [
        on("secret/b", kv::Operation::Destroy { versions: vec![1], all: false }),
        on("secret/deep/c", kv::Operation::Destroy { versions: Vec::new(), all: true }),
        Action::Revoke(Which::method("kubernetes").unwrap()),
        Action::Policy(policy),
        put_alice("another long password"),
        Action::User(UserAction::Delete { name: "alice".into() }),
        Action::Sys(unmount),
        Action::Session(SessionAction::Logout),
    ] {
        done(&house, &root, 4, action).await;
    }
    for token in [root, alice] {
        let whoami = Action::Session(SessionAction::Whoami);
        assert!(ask(&house, &token, RequestId([5; 16]), whoami).await.is_err());
    }
}

/// The order of both times is what makes one batch enough: a login that the old password passed is over before the end of
/// the old sessions is dated, or is judged again.
#[tokio::test]
async fn no_login_by_the_old_password_outlives_its_change() {
    let (house, root) = House::open().await;
    done(&house, &root, 1, put_alice(PASSWORD)).await;
    house.later();
    let held = house.store.hold(fault::Operation::Commit);
    let changing = {
        let (core, root) = (Arc::clone(&house.core), SecretBytes::from(root.expose()));
        let action = Ok(put_alice("another long password"));
        tokio::spawn(async move {
            handle(&core, Request { origin: from(CUT_OFF), slot: anywhere(), bearer: Some(root), action })
                .await
        })
    };
    let stopped = held.reached().await;
    // Dated already, not durable yet: whoever begins now would not be covered.
    house.later();
    let unsealed = house.core.unsealed().unwrap();
    let context = LoginContext { peer: None, now: house.core.clock.now() };
    // Polled in this order: the old hash is read before the change comes true.
    let (login, ()) = tokio::join!(unsealed.methods.login(alice(PASSWORD), &context), async {
        stopped.release();
        changing.await.unwrap().unwrap();
    });
    assert!(
        matches!(login, Err(LoginError::Barrier(BarrierError::Conflict))),
        "judged by what is not the password"
    );
}
