//! Leases through the pipeline and the keeper, with an engine whose world can be away: nothing exists that no lease knows of,
//! and whatever has to end does, whenever the server dies.

use std::{sync::Arc, time::Duration};

use tokio_util::sync::{CancellationToken, DropGuard};

use super::{
    context::Origin,
    error::Error,
    handle,
    request::{Action, Answer, LeaseAction, PolicyAction, Request, SessionAction, SysAction, UserAction},
    tests::{House, anywhere, shape},
    unauthenticated::{Login, login},
};
use crate::{
    auth::Credential,
    clock::Clock,
    engines::lent::{self, Lend, World},
    leases::{Cause, Counts, Page, Selector},
    model::{Path, Principal, RequestId, SecretBytes},
    tokens::Which,
};
use strongroom_proto::{
    Reason,
    v1::login_request::{Credential as Shown, Userpass},
};

const PASSWORD: &str = "correct horse battery";
/// By then the next attempt is due, however often it failed.
const LONGEST: Duration = Duration::from_secs(400);
const HOUR: Duration = Duration::from_secs(3600);
/// How long something may take before it counts as never.
const SOON: Duration = Duration::from_secs(30);
/// More than any request here commits.
const MANY: usize = 20;

/// A house with a world at `lent/`, and a keeper while it lives.
struct Kept {
    house: House,
    root: SecretBytes,
    world: Arc<World>,
    _keeper: DropGuard,
}

impl Kept {
    /// A world has a name of its own in each test.
    async fn new(name: &str) -> Self {
        let (house, root) = House::open().await;
        mount(&house, &root, "lent", name).await;
        Self { _keeper: keep(&house), house, root, world: World::named(name) }
    }

    async fn ask(&self, number: u8, action: Action) -> Result<Answer, Error> {
        ask(&self.house, &self.root, number, action).await
    }

    async fn lend(&self, number: u8, name: &'static str) -> Result<Answer, Error> {
        self.ask(number, lend(name, Duration::from_secs(600))).await
    }

    fn counts(&self) -> Counts {
        self.house.core.unsealed().unwrap().leases.counts()
    }

    /// Of all attempts to end leases that are still there.
    fn failures(&self) -> u32 {
        let page = Page { which: Selector::All, stuck: false, after: None, limit: 100 };
        let (leases, _) = self.house.core.unsealed().unwrap().leases.page(&page, &Principal::Root);
        leases.iter().map(|info| info.failures).sum()
    }

    async fn list(&self, which: Selector) -> Vec<crate::leases::Info> {
        let page = Page { which, stuck: false, after: None, limit: 100 };
        match self.ask(201, Action::Lease(LeaseAction::List(page))).await.unwrap() {
            Answer::Leases(leases, false, _) => leases,
            _ => panic!("no list"),
        }
    }

    async fn until(&self, what: &str, is_so: impl Fn(&Self) -> bool) {
        until(what, || is_so(self)).await;
    }

    /// Another process on the same store.
    async fn again(self) -> Self {
        self.again_after(|_| {}).await
    }

    /// The same, and between the two something happens in the world.
    async fn again_after(self, happens: impl FnOnce(&World)) -> Self {
        let Self { house, root, world, _keeper } = self;
        drop(_keeper);
        let house = house.again_with(|_| happens(&world)).await;
        Self { _keeper: keep(&house), house, root, world }
    }
}

fn keep(house: &House) -> DropGuard {
    let stop = CancellationToken::new();
    tokio::spawn(Arc::clone(&house.core).keep_leases(stop.clone()));
    stop.drop_guard()
}

async fn until(what: &str, is_so: impl Fn() -> bool) {
    let wait = async {
        while !is_so() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    assert!(tokio::time::timeout(SOON, wait).await.is_ok(), "not within {SOON:?}: {what}");
}

async fn ask(house: &House, bearer: &SecretBytes, number: u8, action: Action) -> Result<Answer, Error> {
    let origin = Origin { id: id(number), name: "Test.Request", peer: None };
    let bearer = Some(SecretBytes::from(bearer.expose()));
    handle(&house.core, Request { origin, slot: anywhere(), bearer, action: Ok(action) }).await
}

/// Mounts the engine whose world has this name.
pub(super) async fn mount(house: &House, root: &SecretBytes, at: &str, world: &str) {
    let mount = SysAction::Mount {
        name: at.into(),
        kind: "lent".into(),
        description: String::new(),
        settings: lent::settings(world),
    };
    ask(house, root, 200, Action::Sys(mount)).await.unwrap();
}

fn id(number: u8) -> RequestId {
    RequestId([number; 16])
}

fn lend(name: &'static str, ttl: Duration) -> Action {
    let operation = Box::new(Lend { name, ttl, max: ttl * 2 });
    Action::Engine { paths: vec![Path::parse("lent/things").unwrap()], operation }
}

fn revoke(which: Selector) -> Action {
    Action::Lease(LeaseAction::Revoke(which))
}

fn renew(number: u8, increment: Option<Duration>) -> Action {
    Action::Lease(LeaseAction::Renew { id: id(number), increment })
}

fn reason(result: Result<Answer, Error>) -> Reason {
    result.err().expect("it was done").reason()
}

/// Without a word of the engine's: the same thing, the same lease, and how long it lives from now on.
#[tokio::test]
async fn whatever_an_engine_issues_can_be_asked_for() {
    let kept = Kept::new("generic").await;
    let issue = |path: &str, ttl| Action::Lease(LeaseAction::Issue { path: Path::parse(path).unwrap(), ttl });
    let Answer::Given { values, lease: Some((granted, what)), lifetime } =
        kept.ask(1, issue("lent/things", Some(60))).await.unwrap()
    else {
        panic!("nothing is given")
    };
    assert_eq!((granted.id, &*what, lifetime), (id(1), "thing", Duration::from_secs(60)));
    assert_eq!((granted.lifetime, values[0].0), (lifetime, "lease"));
    assert_eq!(kept.world.things(), ["thing"]);
    // Later it has less, whatever time it is where somebody asks.
    kept.house.clock.advance(Duration::from_secs(20));
    let Answer::Renewed(granted) = kept.ask(2, renew(1, Some(Duration::from_secs(5)))).await.unwrap() else {
        panic!("no lease")
    };
    assert_eq!(granted.lifetime, Duration::from_secs(40));
    assert_eq!(reason(kept.ask(3, issue("nowhere/things", None)).await), Reason::NotFound);
    assert_eq!(reason(kept.ask(4, issue("secret/things", None)).await), Reason::InvalidArgument);
}

#[tokio::test]
async fn what_was_issued_ends_when_its_time_is_over() {
    let kept = Kept::new("expiry").await;
    assert!(matches!(kept.lend(1, "thing").await, Ok(Answer::Issued { .. })));
    assert_eq!(kept.world.things(), ["thing"]);
    assert_eq!(kept.counts(), Counts { live: 1, ..Counts::default() });

    kept.house.clock.advance(Duration::from_secs(599));
    assert!(kept.house.core.unsealed().unwrap().leases.take().is_none(), "a second too early");
    kept.house.clock.advance(Duration::from_secs(1));
    kept.until("it is unmade", |kept| kept.world.things().is_empty()).await;
    kept.until("its lease is gone", |kept| kept.counts() == Counts::default()).await;
    kept.until("the log has its end", |kept| kept.house.records("Upkeep.EndLease").len() == 2).await;
    let records = kept.house.records("Upkeep.EndLease");
    assert_eq!(shape(&records), [("request", "pending", ""), ("outcome", "ok", "")]);
    let text = records[0].to_string();
    for part in ["lent/things", "thing", "expired", &id(1).to_string()] {
        assert!(text.contains(part), "{part} is not in {text}");
    }
}

#[tokio::test]
async fn a_renewal_moves_the_end_up_to_the_maximum() {
    let kept = Kept::new("renewal").await;
    kept.lend(1, "thing").await.unwrap();
    let issued = kept.house.clock.now();
    kept.house.clock.advance(Duration::from_secs(300));
    let renewed = |answer| match answer {
        Ok(Answer::Renewed(granted)) => granted.expires.since(issued),
        _ => panic!("not renewed"),
    };
    assert_eq!(renewed(kept.ask(2, renew(1, None)).await), Duration::from_secs(900));
    assert_eq!(kept.world.until("thing").unwrap().since(issued), Duration::from_secs(900), "the thing, too");
    // What was promised is not taken back, and the maximum is the maximum.
    assert_eq!(renewed(kept.ask(3, renew(1, Some(Duration::from_secs(1)))).await), Duration::from_secs(900));
    assert_eq!(renewed(kept.ask(4, renew(1, Some(HOUR * 9))).await), Duration::from_secs(1200));
    assert_eq!(renewed(kept.ask(5, renew(1, Some(HOUR * 9))).await), Duration::from_secs(1200));

    let kept = kept.again().await;
    assert_eq!(kept.list(Selector::All).await[0].lease.expires.since(issued), Duration::from_secs(1200));
    kept.house.clock.advance(Duration::from_secs(900));
    kept.until("it ended", |kept| kept.world.things().is_empty()).await;
    assert_eq!(reason(kept.ask(6, renew(1, None)).await), Reason::NotFound);
}

#[tokio::test]
async fn whatever_does_not_work_out_is_unmade() {
    let kept = Kept::new("failing").await;
    assert_eq!(reason(kept.lend(1, "half").await), Reason::NotFound);
    assert_eq!(reason(kept.lend(2, "panic").await), Reason::Internal);
    kept.until("both are unmade", |kept| {
        kept.world.things().is_empty() && kept.counts() == Counts::default()
    })
    .await;
    assert!(kept.world.unmakings() >= 2);

    // The store refuses the lease: nothing is made at all.
    let before = kept.world.unmakings();
    kept.house.store.inject(crate::storage::fault::Operation::Commit, crate::storage::fault::Fault::ReadOnly);
    assert_eq!(reason(kept.lend(3, "never").await), Reason::ReadOnly);
    assert!(kept.world.things().is_empty());
    assert_eq!(kept.world.unmakings(), before);
}

#[tokio::test]
async fn what_cannot_be_ended_is_tried_again_and_listed() {
    let kept = Kept::new("stuck").await;
    kept.lend(1, "cursed").await.unwrap();
    kept.lend(2, "plain").await.unwrap();
    kept.world.curse(Some("cursed"));
    let ended = kept.ask(3, revoke(Selector::Prefix(Path::parse("lent").unwrap()))).await.unwrap();
    let Answer::Ended { ended: 1, pending: 1, last_error: Some(error) } = ended else { panic!("otherwise") };
    assert!(error.contains("it owns something"), "{error}");
    assert_eq!(kept.world.things(), ["cursed"]);
    for failures in 1..3 {
        kept.until("that it failed is known", |kept| kept.failures() == failures).await;
        kept.house.clock.advance(LONGEST);
    }
    kept.until("it is called stuck", |kept| kept.counts().stuck == 1).await;
    let page = Page { which: Selector::All, stuck: true, after: None, limit: 10 };
    let Answer::Leases(stuck, false, _) = kept.ask(4, Action::Lease(LeaseAction::List(page))).await.unwrap()
    else {
        panic!("no list")
    };
    assert_eq!(stuck.len(), 1);
    assert_eq!((stuck[0].lease.id, stuck[0].lease.ending), (id(1), Some(Cause::Revoked)));
    assert!(stuck[0].failures >= 3 && stuck[0].last_error.is_some());
    assert_eq!(reason(kept.ask(5, renew(1, None)).await), Reason::LeaseEnding);

    // A mount that has a lease stays; a restart forgets neither the lease nor that it has to end.
    let unmount = |destroy_data| Action::Sys(SysAction::Unmount { name: "lent".into(), destroy_data });
    assert_eq!(reason(kept.ask(6, unmount(true)).await), Reason::InvalidArgument);
    let kept = kept.again().await;
    kept.until("it is tried after a restart", |kept| kept.failures() == 1).await;
    assert_eq!(kept.counts().live, 0);

    kept.world.curse(None);
    kept.house.clock.advance(LONGEST);
    kept.until("in the end it is unmade", |kept| {
        kept.world.things().is_empty() && kept.counts() == Counts::default()
    })
    .await;
    kept.ask(7, unmount(false)).await.unwrap();
}

#[tokio::test]
async fn one_that_is_given_up_is_recorded() {
    let kept = Kept::new("forgotten").await;
    kept.lend(1, "cursed").await.unwrap();
    kept.world.curse(Some("cursed"));
    kept.ask(2, Action::Lease(LeaseAction::Forget(id(1)))).await.unwrap();
    assert_eq!(kept.counts(), Counts::default());
    assert_eq!(kept.world.things(), ["cursed"], "it is still there");
    let records = kept.house.records("Test.Request");
    let outcome = records.iter().rev().find(|record| record["kind"] == "outcome").unwrap().to_string();
    assert!(outcome.contains("cursed"), "{outcome}");
    assert_eq!(reason(kept.ask(3, Action::Lease(LeaseAction::Forget(id(1)))).await), Reason::NotFound);
}

/// A user `alice` who may use what is lent, and her session.
async fn alice(kept: &Kept) -> SecretBytes {
    let password = Some(SecretBytes::from(PASSWORD.as_bytes()));
    let put = UserAction::Put { name: "alice".into(), password, groups: Some(Vec::new()) };
    kept.ask(100, Action::User(put)).await.unwrap();
    kept.ask(101, policy("[use]")).await.unwrap();
    kept.house.later();
    let password = Some(SecretBytes::from(PASSWORD.as_bytes()).into());
    let credential = Credential::read(Some(Shown::Userpass(Userpass { name: "alice".into(), password })));
    let origin = Origin { id: id(102), name: "Auth.Login", peer: None };
    login(&kept.house.core, Login { origin, slot: anywhere(), credential }).await.unwrap().0
}

fn policy(verbs: &str) -> Action {
    let yaml = format!(
        "kind: Role\nname: lent\nrules:\n- paths: [lent/**]\n  verbs: {verbs}\n---\nkind: Binding\nname: lent\nrole: \
         lent\nsubjects:\n- user: {{method: userpass, name: alice}}\n"
    );
    Action::Policy(PolicyAction::Apply { yaml, remove: Vec::new(), dry_run: false, force: true })
}

#[tokio::test]
async fn leases_end_with_the_session() {
    let kept = Kept::new("sessions").await;
    let alice_token = alice(&kept).await;
    let act = |number, action| ask(&kept.house, &alice_token, number, action);
    act(1, lend("hers", HOUR)).await.unwrap();
    kept.lend(2, "roots").await.unwrap();
    act(3, Action::Session(SessionAction::Logout)).await.unwrap();
    kept.until("what was hers is gone", |kept| kept.world.things() == ["roots"]).await;

    // Also if the server died before it noticed, and also by another name.
    let alice_token = alice(&kept).await;
    ask(&kept.house, &alice_token, 4, lend("hers", HOUR)).await.unwrap();
    kept.house.later();
    kept.world.be_away(true);
    kept.ask(5, Action::Revoke(Which::principal("userpass/alice").unwrap())).await.unwrap();
    let kept = kept.again_after(|world| world.be_away(false)).await;
    kept.until("it went after the restart", |kept| kept.world.things() == ["roots"]).await;
}

#[tokio::test]
async fn others_leases_take_a_right() {
    let kept = Kept::new("rights").await;
    let alice_token = alice(&kept).await;
    let act = |number, action| ask(&kept.house, &alice_token, number, action);
    act(1, lend("hers", HOUR)).await.unwrap();
    kept.lend(2, "roots").await.unwrap();
    let list = |which| Action::Lease(LeaseAction::List(Page { which, stuck: false, after: None, limit: 9 }));
    let Ok(Answer::Leases(own, false, _)) = act(3, list(Selector::Own)).await else { panic!("her own") };
    assert_eq!(own.iter().map(|info| &*info.lease.what).collect::<Vec<_>>(), ["hers"]);
    assert!(act(4, renew(1, None)).await.is_ok());
    for action in [
        list(Selector::All),
        list(Selector::Id(id(2))),
        list(Selector::Prefix(Path::parse("lent").unwrap())),
        list(Selector::Principal("root".into())),
        revoke(Selector::Id(id(2))),
        revoke(Selector::All),
        renew(2, None),
        Action::Lease(LeaseAction::Forget(id(1))),
    ] {
        assert_eq!(reason(act(5, action).await), Reason::PermissionDenied);
    }
    assert_eq!(kept.counts().live, 2);
    assert_eq!(reason(act(6, revoke(Selector::Id(id(9)))).await), Reason::NotFound);

    // What is no longer permitted is not renewed, but may be given back.
    kept.ask(7, policy("[read]")).await.unwrap();
    assert_eq!(reason(act(8, renew(1, None)).await), Reason::PermissionDenied);
    assert!(matches!(
        act(9, revoke(Selector::Id(id(1)))).await,
        Ok(Answer::Ended { ended: 1, pending: 0, .. })
    ));
    assert_eq!(kept.world.things(), ["roots"]);
}

/// A person's lease is no longer than their session can be.
#[tokio::test]
async fn no_lease_outlives_the_longest_session() {
    let kept = Kept::new("long").await;
    kept.ask(1, lend("thing", HOUR * 500)).await.unwrap();
    let lease = Arc::clone(&kept.list(Selector::All).await[0].lease);
    assert_eq!((lease.expires, lease.max_expires), (lease.session.max_expires, lease.session.max_expires));
}

/// Stopped after each commit of an issue: afterwards nothing is there that no lease knows of, and no lease stays.
#[tokio::test]
async fn a_crash_while_issuing_leaves_nothing() {
    for world in ["crash-0", "crash-1", "crash-2"] {
        let commits = usize::from(world.as_bytes()[6] - b'0');
        let kept = Kept::new(world).await;
        kept.house.store.crash_after(Some(commits));
        let issued = kept.lend(1, "thing").await;
        assert_eq!(issued.is_ok(), commits > 0, "{world}");
        assert_eq!(kept.world.things().is_empty(), commits == 0, "{world}");
        let kept = kept.again().await;
        // One that came to its end in the log was answered, and lives.
        assert_eq!(kept.counts().live, usize::from(commits > 0), "{world}");
        assert!(commits < MANY);
    }
}

/// The server dies between making a thing and answering: nobody has it, and it goes.
#[tokio::test]
async fn what_was_not_delivered_is_ended() {
    let kept = Kept::new("undelivered").await;
    kept.world.hold();
    let (core, root) = (Arc::clone(&kept.house.core), SecretBytes::from(kept.root.expose()));
    let origin = Origin { id: id(1), name: "Test.Request", peer: None };
    let action = Ok(lend("thing", HOUR));
    let request = Request { origin, slot: anywhere(), bearer: Some(root), action };
    let asking = tokio::spawn(async move { handle(&core, request).await.is_ok() });
    kept.until("the lease is there before the thing", |kept| kept.counts().live == 1).await;
    assert!(kept.world.things().is_empty());

    // Of this process nothing goes on; what it had begun is made all the same, after the log was closed.
    let Kept { house, root, world, _keeper } = kept;
    drop(_keeper);
    let log = house.core.audit.close();
    log.await;
    world.let_go();
    assert!(!asking.await.unwrap(), "an issue whose end is not in the log was answered");
    assert_eq!(world.things(), ["thing"]);
    let house = house.again().await;
    let kept = Kept { _keeper: keep(&house), house, root, world };
    kept.until("it is unmade", |kept| kept.world.things().is_empty() && kept.counts() == Counts::default())
        .await;
    kept.until("the log says why", |kept| {
        kept.house.records("Upkeep.EndLease").iter().any(|record| record.to_string().contains("undelivered"))
    })
    .await;
}

/// Many that are due while the world is away: few attempts, and in order when it is back.
#[tokio::test]
async fn a_world_that_is_away_is_not_stormed() {
    let kept = Kept::new("away").await;
    for (number, name) in (1..=60).zip(NAMES) {
        kept.lend(number, name).await.unwrap();
    }
    kept.world.be_away(true);
    kept.house.clock.advance(HOUR);
    kept.until("it was tried", |kept| kept.world.unmakings() >= 3).await;
    for _ in 0..5 {
        kept.house.clock.advance(Duration::from_secs(1));
        tokio::task::yield_now().await;
    }
    assert!(kept.world.unmakings() < 40, "{} attempts for 60 leases", kept.world.unmakings());
    kept.world.be_away(false);
    let back = async {
        while !kept.world.things().is_empty() {
            kept.house.clock.advance(LONGEST);
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(SOON, back).await.unwrap();
}

const NAMES: [&str; 60] = {
    let mut names = ["x"; 60];
    let all = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ01234567";
    let mut n = 0;
    while n < names.len() {
        names[n] = all.split_at(n).1.split_at(1).0;
        n += 1;
    }
    names
};
