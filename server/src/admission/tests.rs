//! Each column of the access table is kept, for every RPC there is.

use std::{
    future::{pending, ready},
    sync::Arc,
    time::Duration,
};

use super::{
    Admission, Visit,
    access::{Access, Class, Credential, Door, TABLE},
};
use crate::{
    config::Rates,
    core::{Action, Answer, AuditAction, Error, SessionAction, tests::House},
    crypto::SystemEntropy,
    limits,
    model::SecretBytes,
};

const LONGEST: Duration = Duration::from_secs(30);
const RATES: Rates = Rates { reads: 10, writes: 10, admin: 10, logins: 10 };

fn admission(house: &House) -> Arc<Admission> {
    let (core, metrics) = (Arc::clone(&house.core), Arc::clone(&house.metrics));
    Admission::new(core, 4, LONGEST, RATES, &SystemEntropy, metrics).unwrap()
}

fn visit(admission: &Arc<Admission>, access: &Access) -> Arc<Visit> {
    admission.arrive(access.name, None).unwrap()
}

/// The door that a row names by its columns.
fn door(access: &Access) -> Door {
    match (access.credential, access.audited) {
        (Credential::Token, _) => Door::Session,
        (Credential::None, true) => Door::Stranger,
        (Credential::None, false) => Door::Idle,
    }
}

/// Asks for something that is behind that door. Behind the strangers' it is a share that is none.
async fn knock(visit: &Arc<Visit>, door: Door, token: Option<&SecretBytes>) -> Result<(), Error> {
    let bearer = token.map(|token| SecretBytes::from(token.expose()));
    match door {
        Door::Session => visit.handle(bearer, Ok(Action::Session(SessionAction::Whoami))).await.map(drop),
        Door::Stranger => visit.unseal(SecretBytes::from(&b"no share"[..])).await.map(drop),
        Door::Idle => visit.status().await.map(drop),
    }
}

#[tokio::test]
async fn every_rpc_goes_in_by_its_own_door_alone_and_leaves_its_record() {
    let (house, root) = House::open().await;
    let admission = admission(&house);
    for access in TABLE.iter() {
        for tried in [Door::Session, Door::Stranger, Door::Idle] {
            let before = house.records(access.name).len();
            let answer = knock(&visit(&admission, access), tried, Some(&root)).await;
            let news = house.records(access.name).len() - before;
            if tried == door(access) {
                assert!(!matches!(answer, Err(Error::Internal(_))), "{}: {answer:?}", access.name);
                assert_eq!(news > 0, access.audited, "{}: {news} records", access.name);
            } else {
                assert!(matches!(answer, Err(Error::Internal(_))), "{} by {tried:?}", access.name);
                assert_eq!(news, 0, "{} by {tried:?}: nothing was done", access.name);
            }
        }
    }
}

#[tokio::test]
async fn who_must_have_a_session_and_has_none_is_refused_and_recorded() {
    let (house, _) = House::open().await;
    let admission = admission(&house);
    for access in TABLE.iter().filter(|access| access.credential == Credential::Token) {
        // More refusals in one second would be counted instead of recorded.
        house.later();
        let answer = knock(&visit(&admission, access), Door::Session, None).await;
        assert!(matches!(answer, Err(Error::TokenMissing)), "{}: {answer:?}", access.name);
        let room = visit(&admission, access).room(None, 1 << 20).await;
        assert!(matches!(room, Err(Error::TokenMissing)), "{}", access.name);
        let records = house.records(access.name);
        assert_eq!(records.len(), 2, "{}", access.name);
        assert!(records.iter().all(|record| record["status"] == "denied"), "{records:?}");
    }
}

#[tokio::test]
async fn a_sealed_server_lets_in_what_needs_no_keys() {
    let (house, root) = House::open().await;
    let admission = admission(&house);
    house.seal().await;
    for access in TABLE.iter() {
        house.later();
        let answer = knock(&visit(&admission, access), door(access), Some(&root)).await;
        let sealed = matches!(answer, Err(Error::Sealed { .. }));
        assert_eq!(sealed, !access.while_sealed, "{}: {answer:?}", access.name);
        if sealed {
            assert_eq!(house.records(access.name)[0]["reason"], "SEALED");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn when_a_class_is_full_only_that_class_waits() {
    let (house, root) = House::open().await;
    for full in [Class::Vital, Class::Public, Class::Unary, Class::Stream, Class::Urgent] {
        let admission = admission(&house);
        if let Some(slots) = admission.slots.of(full) {
            slots.forget_permits(slots.available_permits());
        }
        for access in TABLE.iter() {
            let visit = visit(&admission, access);
            let answer = match access.class {
                Class::Public => visit.attend(None, ready(()), |()| true).await.map(drop),
                Class::Vital | Class::Unary | Class::Stream | Class::Urgent => {
                    knock(&visit, door(access), Some(&root)).await
                }
            };
            let shed = matches!(answer, Err(Error::Overloaded(_)));
            // A stream begins as a request like any other.
            let needs = access.class == full || access.class == Class::Stream && full == Class::Unary;
            assert_eq!(shed, needs && full != Class::Vital, "{}: {answer:?}", access.name);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_deadline_ends_what_has_one() {
    let (house, _) = House::open().await;
    let admission = admission(&house);
    for access in TABLE.iter() {
        let visit = visit(&admission, access);
        for asked in [None, Some(LONGEST / 2), Some(LONGEST * 2)] {
            let work = visit.attend(asked, pending::<()>(), |()| true);
            let began = tokio::time::Instant::now();
            let ended = tokio::time::timeout(LONGEST * 3, work).await;
            match access.class {
                Class::Unary | Class::Vital | Class::Urgent => {
                    assert!(matches!(ended, Ok(Err(Error::DeadlinePassed))), "{}", access.name);
                    let expected = asked.unwrap_or(LONGEST).min(LONGEST);
                    assert_eq!(began.elapsed().as_secs(), expected.as_secs(), "{}", access.name);
                }
                Class::Stream | Class::Public => assert!(ended.is_err(), "{}", access.name),
            }
        }
    }
}

/// Whatever serves an RPC, its answer leaves only if the RPC went in by its door.
#[tokio::test]
async fn what_nobody_let_in_is_not_answered() {
    let (house, root) = House::open().await;
    let admission = admission(&house);
    for access in TABLE.iter() {
        let past = visit(&admission, access);
        let answered = past.attend(None, ready(()), |()| true).await;
        assert_eq!(answered.is_ok(), door(access) == Door::Idle, "{}", access.name);
        assert!(past.attend(None, ready(()), |()| false).await.is_ok(), "a refusal may leave");

        let inside = visit(&admission, access);
        let knocking = knock(&inside, door(access), Some(&root));
        assert!(inside.attend(None, knocking, |_| true).await.is_ok(), "{}", access.name);
    }
}

#[tokio::test]
async fn a_stream_holds_its_slot_until_it_is_dropped() {
    let (house, root) = House::open().await;
    let admission = admission(&house);
    let free = || admission.slots.of(Class::Stream).unwrap().available_permits();
    let visit = admission.arrive("Audit.Tail", None).unwrap();
    let tail = Ok(Action::Audit(AuditAction::Tail { last: 1, follow: true }));
    let answer = visit.handle(Some(root), tail).await.unwrap();
    assert!(matches!(answer, Answer::Lines(_)));
    drop(visit);
    assert_eq!(free(), limits::STREAMS - 1);
    drop(answer);
    assert_eq!(free(), limits::STREAMS);
}

/// Whoever answers holds the visit until the answer is sent.
#[tokio::test]
async fn a_request_holds_its_slot_until_its_visit_is_over() {
    let (house, root) = House::open().await;
    let admission = admission(&house);
    let whoami = async || {
        let visit = admission.arrive("Auth.Whoami", None).unwrap();
        let bearer = Some(SecretBytes::from(root.expose()));
        let answer = visit.handle(bearer, Ok(Action::Session(SessionAction::Whoami))).await;
        answer.map(|_| visit)
    };
    let mut unsent = Vec::new();
    for _ in 0..3 {
        unsent.push(whoami().await.unwrap());
    }
    // One of four slots is for others.
    assert!(matches!(whoami().await, Err(Error::Overloaded(_))));
    let told = house.records("Auth.Whoami");
    assert_eq!(told.last().unwrap()["reason"], "OVERLOADED");
    assert_eq!(told.last().unwrap()["principal"], "root");
    unsent.clear();
    assert!(whoami().await.is_ok());
}

#[tokio::test]
async fn large_answers_find_room_until_their_caller_has_had_a_share() {
    let (house, root) = House::open().await;
    let admission = admission(&house);
    let known = async || {
        let visit = admission.arrive("Auth.Whoami", None).unwrap();
        let bearer = Some(SecretBytes::from(root.expose()));
        visit.handle(bearer, Ok(Action::Session(SessionAction::Whoami))).await.unwrap();
        visit
    };
    let unsent = known().await.answer_room(limits::OUTBOUND_SHARE).unwrap();
    let visit = known().await;
    assert!(matches!(visit.answer_room(limits::SMALL_ANSWER_BYTES + 1), Err(Error::Overloaded(_))));
    assert!(visit.answer_room(limits::SMALL_ANSWER_BYTES).is_ok(), "has room of its own");
    let stranger = admission.arrive("Sys.Status", None).unwrap();
    assert!(stranger.answer_room(limits::OUTBOUND_SHARE).is_ok(), "that of others is not touched");
    drop(unsent);
    assert!(visit.answer_room(limits::OUTBOUND_SHARE).is_ok());
}

#[tokio::test]
async fn a_panic_is_an_error_and_what_is_unknown_has_an_id_too() {
    let (house, _) = House::open().await;
    let admission = admission(&house);
    let visit = admission.arrive("Sys.Status", None).unwrap();
    let fell = visit.attend(None, async { panic!("on purpose") }, |()| true).await;
    assert!(matches!(fell, Err(Error::Internal(_))));
    let (one, other) = (admission.arrive("", None).err(), admission.arrive("Secrets.get", None).err());
    assert!(one.is_some() && other.is_some() && one != other);
}
