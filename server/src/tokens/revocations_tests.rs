//! Tests of revocations as a whole, over a real barrier.

use std::sync::Arc;

use super::{super::claims::tests::session, *};
use crate::{
    auth::conformance::view,
    barrier::conformance,
    model::{Pod, Principal, SessionId},
};

const NOW: Timestamp = Timestamp::from_millis(10_000_000);
const MILLI: Duration = Duration::from_millis(1);
const HOUR: Duration = Duration::from_secs(3600);
/// After so long everything that was there at the start is over, whatever the clock says.
const LONG: Steady = Steady::at(HOUR.saturating_mul(25));

fn alice(issued: Timestamp, uid: &str) -> Session {
    let principal = Principal::User {
        method: "userpass".into(),
        name: "alice".into(),
        uid: uid.into(),
        groups: Vec::new(),
    };
    let max_expires = issued.plus(MAX_LIFETIME);
    Session { issued, expires: max_expires, max_expires, ..session(principal) }
}

async fn revocations() -> Revocations {
    Revocations::load(view("sys/tokens").await, Steady::default()).await.unwrap()
}

#[tokio::test]
async fn a_session_is_revoked_whenever_it_was_issued() {
    let revocations = revocations().await;
    let session = alice(NOW.plus(MILLI * 3), "1");
    let other = Session { id: SessionId([8; 16]), ..session.clone() };
    assert!(!revocations.covers(&session));
    revocations.revoke(Which::Session(session.id), NOW, None).await.unwrap();
    assert!(revocations.covers(&session));
    assert!(!revocations.covers(&other));
}

#[tokio::test]
async fn a_principal_is_revoked_up_to_a_moment_whatever_the_uid() {
    let revocations = revocations().await;
    revocations.revoke(Which::principal("userpass/alice").unwrap(), NOW, None).await.unwrap();
    for uid in ["1", "2"] {
        assert!(revocations.covers(&alice(Timestamp::from_millis(0), uid)));
        assert!(revocations.covers(&alice(NOW, uid)), "a login of the same millisecond is caught");
        assert!(!revocations.covers(&alice(NOW.plus(MILLI), uid)));
    }
    assert!(!revocations.covers(&session(Principal::Root)));
}

#[tokio::test]
async fn a_method_is_revoked_up_to_a_moment() {
    let revocations = revocations().await;
    revocations.revoke(Which::method("userpass").unwrap(), NOW, None).await.unwrap();
    assert!(revocations.covers(&alice(NOW, "1")));
    assert!(!revocations.covers(&alice(NOW.plus(MILLI), "1")));
    assert!(!revocations.covers(&session(Principal::Root)));
    revocations.revoke(Which::method("root").unwrap(), NOW, None).await.unwrap();
    assert!(revocations.covers(&session(Principal::Root)));
}

#[tokio::test]
async fn a_restart_forgets_nothing() {
    let view = view("sys/tokens").await;
    let before = Revocations::load(view.clone(), Steady::default()).await.unwrap();
    for n in 0..250u8 {
        before.revoke(Which::Session(SessionId([n; 16])), NOW, None).await.unwrap();
    }
    before.revoke(Which::Principal("userpass/alice".into()), NOW, None).await.unwrap();
    before.revoke(Which::Method("root".into()), NOW, None).await.unwrap();

    let after = Revocations::load(view, Steady::default()).await.unwrap();
    assert_eq!(after.len(), 252);
    assert!(after.covers(&alice(NOW, "1")));
    assert!(after.covers(&session(Principal::Root)));
    for n in 0..250u8 {
        let later = Session { id: SessionId([n; 16]), ..alice(NOW.plus(MILLI), "1") };
        assert!(after.covers(&later), "{n}");
    }
}

#[tokio::test]
async fn a_pod_is_revoked_by_its_uid_and_stays_so() {
    let of_pod = |uid: &str, issued| {
        let pod = Pod { name: "web-0".into(), uid: uid.into(), node: None };
        let (cluster, namespace, name) = ("main".into(), "shop".into(), "web".into());
        let account = Principal::ServiceAccount { cluster, namespace, name, uid: "a".into(), pod: Some(pod) };
        Session { issued, ..session(account) }
    };
    let view = view("sys/tokens").await;
    let before = Revocations::load(view.clone(), Steady::default()).await.unwrap();
    before.revoke(Which::pod("p-1").unwrap(), NOW, None).await.unwrap();
    for revocations in [before, Revocations::load(view, Steady::default()).await.unwrap()] {
        assert!(revocations.covers(&of_pod("p-1", NOW)));
        assert!(!revocations.covers(&of_pod("p-1", NOW.plus(MILLI))), "it may log in again");
        assert!(!revocations.covers(&of_pod("p-2", NOW)));
        assert!(!revocations.covers(&session(Principal::Root)));
    }
    for bad in ["", "a/b", "a b", &"u".repeat(65)] {
        assert!(Which::pod(bad).is_err(), "{bad:?}");
    }
}

/// Many at once, of the same and of others, in no order: none is lost in memory or in the store, and the latest
/// moment stands.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn revocations_at_the_same_time_do_not_lose_one_another() {
    let view = view("sys/tokens").await;
    let revocations = Arc::new(Revocations::load(view.clone(), Steady::default()).await.unwrap());
    let mut tasks = tokio::task::JoinSet::new();
    for n in 0..40u8 {
        let revocations = Arc::clone(&revocations);
        tasks.spawn(async move {
            // The first byte is shared, so all of them meet in one shard.
            let mut id = [1; 16];
            id[15] = n;
            revocations.revoke(Which::Session(SessionId(id)), NOW, None).await.unwrap();
            let moment = NOW.plus(MILLI * (u32::from(n) * 7 % 40));
            revocations.revoke(Which::Principal("userpass/alice".into()), moment, None).await.unwrap();
        });
    }
    while let Some(done) = tasks.join_next().await {
        done.unwrap();
    }
    for revocations in [&*revocations, &Revocations::load(view, Steady::default()).await.unwrap()] {
        assert_eq!(revocations.len(), 41);
        assert!(revocations.covers(&alice(NOW.plus(MILLI * 39), "1")));
        assert!(!revocations.covers(&alice(NOW.plus(MILLI * 40), "1")));
    }
}

#[tokio::test]
async fn an_earlier_moment_takes_nothing_back() {
    let revocations = revocations().await;
    let which = Which::Principal("userpass/alice".into());
    revocations.revoke(which.clone(), NOW, None).await.unwrap();
    revocations.revoke(which, Timestamp::from_millis(5), None).await.unwrap();
    assert!(revocations.covers(&alice(NOW, "1")));
}

/// Nothing is forgotten while a session it covers could be alive, and everything is afterwards.
#[tokio::test]
async fn what_is_over_is_forgotten() {
    let view = view("sys/tokens").await;
    let revocations = Revocations::load(view.clone(), Steady::default()).await.unwrap();
    for n in 0..150u8 {
        revocations.revoke(Which::Session(SessionId([n; 16])), NOW, None).await.unwrap();
    }
    revocations.revoke(Which::Principal("userpass/alice".into()), NOW, None).await.unwrap();
    let short = Session { id: SessionId([200; 16]), max_expires: NOW.plus(MILLI), ..alice(NOW, "1") };
    revocations.end(&short, NOW, None).await.unwrap();

    assert_eq!(revocations.prune(NOW.plus(MILLI), LONG).await.unwrap(), 0);
    assert_eq!(revocations.prune(NOW.plus(MILLI + CLOCK_MARGIN), LONG).await.unwrap(), 1, "the short one");
    let end = NOW.plus(MAX_LIFETIME);
    assert_eq!(revocations.prune(end, LONG).await.unwrap(), 0);
    assert!(revocations.covers(&alice(NOW, "1")));

    // Revoked once more: that one stays.
    revocations.revoke(Which::Principal("userpass/alice".into()), end, None).await.unwrap();
    let end = end.plus(CLOCK_MARGIN);
    assert_eq!(revocations.prune(end, LONG).await.unwrap(), 150);
    assert_eq!(revocations.len(), 1);
    assert!(revocations.covers(&alice(NOW.plus(MAX_LIFETIME), "1")));
    assert_eq!(Revocations::load(view, Steady::default()).await.unwrap().len(), 1);
}

/// A start with a clock that is two days ahead, and one with the right time after it.
#[tokio::test]
async fn a_clock_that_is_ahead_makes_nothing_forgotten() {
    let view = view("sys/tokens").await;
    let load = || Revocations::load(view.clone(), Steady::default());
    let which = Which::Principal("userpass/alice".into());
    load().await.unwrap().revoke(which, NOW, None).await.unwrap();

    let (wrong, ahead) = (load().await.unwrap(), NOW.plus(HOUR * 48));
    for hours in 0..25 {
        assert_eq!(wrong.prune(ahead, Steady::at(HOUR * hours)).await.unwrap(), 0, "after {hours} h");
    }
    let right = load().await.unwrap();
    assert!(wrong.covers(&alice(NOW, "1")) && right.covers(&alice(NOW, "1")));

    // The store has it from NOW, and since then more time has passed than any session lives.
    assert_eq!(right.prune(NOW.plus(HOUR * 30), Steady::at(HOUR * 24)).await.unwrap(), 0);
    assert_eq!(right.prune(NOW.plus(HOUR * 30), Steady::at(HOUR * 25)).await.unwrap(), 1);
}

/// A server that is started every day forgets as well: each new revocation says what time it is.
#[tokio::test]
async fn what_was_revoked_later_bears_the_clock_out() {
    let view = view("sys/tokens").await;
    let load = || Revocations::load(view.clone(), Steady::default());
    let first = load().await.unwrap();
    first.revoke(Which::Session(SessionId([1; 16])), NOW, None).await.unwrap();
    let later = NOW.plus(HOUR * 26);
    first.revoke(Which::Session(SessionId([2; 16])), later, None).await.unwrap();
    assert_eq!(load().await.unwrap().prune(later, Steady::default()).await.unwrap(), 1);
}

#[tokio::test]
async fn a_flood_of_logouts_does_not_keep_an_admin_from_revoking() {
    let revocations = revocations().await;
    revocations.revoked.pretend(MAX_REVOCATIONS);
    let logout = revocations.revoke(Which::Session(SessionId([1; 16])), NOW, None).await;
    assert!(matches!(logout, Err(RevokeError::Full)));
    revocations.revoke(Which::Principal("userpass/alice".into()), NOW, None).await.unwrap();
    assert!(revocations.covers(&alice(NOW, "1")));
}

#[test]
fn typing_errors_are_refused() {
    assert!(Which::session("00112233445566778899aabbccddeeff").is_ok());
    assert!(Which::session("00112233445566778899AABBCCDDEEFF").is_err());
    for good in ["root", "userpass/alice"] {
        assert!(Which::principal(good).is_ok(), "{good}");
    }
    for bad in ["", "alice", "userpas/alice", "userpass/", "userpass/Alice", "userpass/a\n", "root/x"] {
        assert!(Which::principal(bad).is_err(), "{bad:?}");
    }
    assert!(Which::method("userpass").is_ok() && Which::method("userpas").is_err());
}

impl conformance::Subject for Revocations {
    async fn load(house: &conformance::House) -> Self {
        let revocations =
            Revocations::load(house.barrier().await.view("sys/tokens"), Steady::default()).await.unwrap();
        if revocations.is_empty() {
            revocations.revoke(Which::Session(SessionId([1; 16])), NOW, None).await.unwrap();
        }
        revocations
    }

    fn derived(&self) -> &dyn Derived {
        self
    }

    async fn change(&self) {
        for which in [Which::Session(SessionId([8; 16])), Which::Principal("userpass/alice".into())] {
            self.revoke(which, NOW, None).await.unwrap();
        }
    }

    async fn shows(&self) -> bool {
        let session = Session { id: SessionId([8; 16]), ..session(Principal::Root) };
        let shown = [self.covers(&session), self.covers(&alice(NOW, "1"))];
        assert_eq!(shown[0], shown[1]);
        shown[0]
    }

    /// And lets nobody in.
    fn is_empty(&self) -> bool {
        self.len() == 0 && self.covers(&session(Principal::Root))
    }
}

#[tokio::test]
async fn revocations_follow_the_store() {
    conformance::check::<Revocations>().await;
}
