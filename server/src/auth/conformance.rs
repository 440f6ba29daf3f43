//! What every auth method must do, whatever it judges. A method's tests make a [`Fixture`] and call [`run`].

use std::sync::Arc;

use super::{AuthMethod, Credential, KINDS, Login, LoginContext, LoginError, MAX_LIFETIME};
use crate::{
    barrier::{Barrier, Keyring, View},
    clock::ManualClock,
    crypto::SystemEntropy,
    model::{StoreId, Timestamp},
    storage::memory::MemoryStore,
};

/// A method and credentials for it; a new credential is made for each login.
pub(crate) struct Fixture<'a> {
    /// It knows at least one identity.
    pub(crate) method: &'a dyn AuthMethod,
    pub(crate) good: &'a (dyn Fn() -> Credential + Sync),
    /// A wrong credential of a known identity.
    pub(crate) wrong: &'a (dyn Fn() -> Credential + Sync),
    /// A credential of an unknown identity.
    pub(crate) unknown: &'a (dyn Fn() -> Credential + Sync),
    /// One for each field, larger than any good one can be; of a known identity where the field allows it.
    pub(crate) oversize: Vec<Credential>,
}

/// Panics where the method falls short.
pub(crate) async fn run(fixture: Fixture<'_>) {
    accepts(&fixture).await;
    rejections_are_alike(&fixture).await;
    survives_those_who_go_away(&fixture).await;
    bears_a_crowd(&fixture).await;
    refuses_oversize(fixture).await;
}

fn context() -> LoginContext {
    LoginContext { peer: None, now: Timestamp::from_millis(1_000_000) }
}

async fn accepts(fixture: &Fixture<'_>) {
    let login = good(fixture).await;
    assert_eq!(login.principal.method(), fixture.method.name());
    assert!(!login.ttl.is_zero());
    assert!(login.ttl <= login.max_ttl && login.max_ttl <= MAX_LIFETIME);
    for group in login.principal.groups() {
        assert_eq!(&*group.method, fixture.method.name(), "a method vouches for its own groups only");
    }
    assert_eq!(good(fixture).await, login, "the same credential is the same identity");
    assert_eq!(fixture.method.check(&login.principal), Ok(()), "who just came in is still there");
    assert!(!login.renewable || fixture.method.may_renew(&login.principal));
    assert_eq!(KINDS.iter().filter(|kind| kind.name == fixture.method.name()).count(), 1);
    assert_eq!((fixture.good)().method(), fixture.method.name());
    let foreign = fixture.method.login(Credential::new("none of ours", ()), &context()).await;
    assert!(matches!(foreign, Err(LoginError::Invalid(_))), "{foreign:?}");
}

async fn good(fixture: &Fixture<'_>) -> Login {
    fixture.method.login((fixture.good)(), &context()).await.expect("the good credential is accepted")
}

async fn rejections_are_alike(fixture: &Fixture<'_>) {
    let wrong = fixture.method.login((fixture.wrong)(), &context()).await.expect_err("wrong is rejected");
    let unknown =
        fixture.method.login((fixture.unknown)(), &context()).await.expect_err("unknown is rejected");
    assert!(matches!(wrong, LoginError::Rejected), "{wrong:?}");
    assert!(matches!(unknown, LoginError::Rejected), "{unknown:?}");
    assert_eq!(wrong.to_string(), unknown.to_string());
}

async fn refuses_oversize(fixture: Fixture<'_>) {
    for credential in fixture.oversize {
        let refused = fixture.method.login(credential, &context()).await.expect_err("oversize is refused");
        assert!(matches!(refused, LoginError::Invalid(_)), "{refused:?}");
    }
}

/// A login that is dropped half-way holds nothing that the next one needs.
async fn survives_those_who_go_away(fixture: &Fixture<'_>) {
    let context = context();
    for _ in 0..200 {
        let login = fixture.method.login((fixture.good)(), &context);
        tokio::select! { biased; _ = login => {}, () = std::future::ready(()) => {} }
    }
    loop {
        match fixture.method.login((fixture.good)(), &context).await {
            Ok(_) => return,
            Err(LoginError::Unavailable { .. }) => tokio::task::yield_now().await,
            Err(error) => panic!("{error:?}"),
        }
    }
}

/// Under load each is let in or told when to come again, and nobody is mistaken for wrong.
async fn bears_a_crowd(fixture: &Fixture<'_>) {
    let (one, many) = (context(), 0..200);
    let logins = many.map(|_| fixture.method.login((fixture.good)(), &one));
    let answers = futures_util::future::join_all(logins).await;
    assert!(answers.iter().any(Result::is_ok));
    for answer in answers {
        match answer {
            Ok(_) => {}
            Err(LoginError::Unavailable { retry_after }) => assert!(!retry_after.is_zero()),
            Err(error) => panic!("{error:?}"),
        }
    }
}

/// A view of a fresh store in memory.
pub(crate) async fn view(namespace: &str) -> View {
    let now = Timestamp::from_millis(1_000_000);
    let keyring = Keyring::create(&SystemEntropy, now).unwrap();
    let (store, clock) = (Arc::new(MemoryStore::new()), Arc::new(ManualClock::at(now)));
    let barrier = Barrier::open(
        store,
        StoreId([9; 16]),
        keyring,
        Arc::new(SystemEntropy),
        clock,
        Arc::default(),
        Arc::default(),
    );
    barrier.await.unwrap().view(namespace)
}
