//! Users, their passwords, and who may log in with them.

use super::{
    super::{conformance, password::Cost},
    *,
};
use crate::{barrier::SealedChanges, crypto::SystemEntropy};

const NOW: Timestamp = Timestamp::from_millis(1_000_000);
const PASSWORD: &str = "correct horse battery";

async fn userpass() -> Userpass {
    let view = conformance::view("sys/auth/userpass").await;
    let hasher = Hasher::with_cost(Cost { memory: 64, passes: 1 }).unwrap();
    Userpass::with_hasher(view, Arc::new(SystemEntropy), hasher).unwrap()
}

fn secret(text: &str) -> Option<SecretBytes> {
    Some(SecretBytes::from(text.as_bytes()))
}

fn credential(name: &str, password: &str) -> Credential {
    let password = SecretBytes::from(password.as_bytes());
    Credential::new(NAME, NameAndPassword { name: name.to_owned(), password })
}

async fn put(
    userpass: &Userpass,
    name: &str,
    password: Option<SecretBytes>,
    groups: Vec<Group>,
    now: Timestamp,
) -> Result<(), LoginError> {
    let change = userpass.put_user(name, password, Some(groups), now).await?;
    Ok(change.commit(SealedChanges::default(), None).await?)
}

async fn delete(userpass: &Userpass, name: &str) -> bool {
    let change = userpass.delete_user(name).await.unwrap();
    let existed = change.existed();
    change.commit(SealedChanges::default(), None).await.unwrap();
    existed
}

async fn login(userpass: &Userpass, name: &str, password: &str) -> Result<Login, LoginError> {
    userpass.login(credential(name, password), &LoginContext { peer: None, now: NOW }).await
}

#[tokio::test]
async fn conforms() {
    let userpass = userpass().await;
    put(&userpass, "alice", secret(PASSWORD), vec![group("platform")], NOW).await.unwrap();
    conformance::run(conformance::Fixture {
        method: &userpass,
        good: &|| credential("alice", PASSWORD),
        wrong: &|| credential("alice", "correct horse batterz"),
        unknown: &|| credential("bob", PASSWORD),
        oversize: vec![credential("alice", &"x".repeat(1025)), credential(&"x".repeat(65), PASSWORD)],
    })
    .await;
}

#[tokio::test]
async fn who_guesses_waits_and_nobody_else() {
    let userpass = userpass().await;
    put(&userpass, "alice", secret(PASSWORD), Vec::new(), NOW).await.unwrap();
    let from = |host: u8| LoginContext { peer: Some([192, 0, 2, host].into()), now: NOW };
    for name in ["alice", "nobody"] {
        let mut judged = 0;
        while let Err(LoginError::Rejected) =
            userpass.login(credential(name, "not the password"), &from(1)).await
        {
            judged += 1;
        }
        assert_eq!(judged, 5, "{name}");
    }
    let right = userpass.login(credential("alice", PASSWORD), &from(1)).await;
    assert!(matches!(right, Err(LoginError::Unavailable { .. })), "not judged at all");
    userpass.login(credential("alice", PASSWORD), &from(2)).await.unwrap();
}

/// All of them come before the first hash is done.
#[tokio::test]
async fn of_a_burst_only_as_many_are_judged_as_may_fail() {
    let userpass = userpass().await;
    put(&userpass, "alice", secret(PASSWORD), Vec::new(), NOW).await.unwrap();
    let mut now = NOW;
    for expected in [5, 1, 1] {
        let from = LoginContext { peer: Some([192, 0, 2, 1].into()), now };
        let burst = (0..30).map(|_| userpass.login(credential("alice", "not the password"), &from));
        let answers = futures_util::future::join_all(burst).await;
        let judged = answers.iter().filter(|answer| matches!(answer, Err(LoginError::Rejected))).count();
        assert_eq!(judged, expected);
        now = now.plus(LATER * 2);
    }
}

/// Known or not, right or wrong: one hash of the same cost each.
#[tokio::test]
async fn everybody_costs_the_same() {
    let userpass = userpass().await;
    put(&userpass, "alice", secret(PASSWORD), Vec::new(), NOW).await.unwrap();
    let before = userpass.hasher.runs();
    login(&userpass, "alice", PASSWORD).await.unwrap();
    assert_eq!(userpass.hasher.runs(), before + 1);
    for (n, (name, password)) in
        [("alice", "wrong"), ("alice", ""), ("bob", PASSWORD), ("bob", ""), ("nobody", "x")]
            .into_iter()
            .enumerate()
    {
        let error = login(&userpass, name, password).await.unwrap_err();
        assert!(matches!(error, LoginError::Rejected), "{name} {password}");
        assert_eq!(userpass.hasher.runs(), before + 2 + n, "{name} {password}");
    }
    let known = userpass.read("alice").await.unwrap().unwrap().hash;
    let cost = |phc: &str| phc.split('$').take(4).map(str::to_owned).collect::<Vec<_>>();
    assert_eq!(cost(&known), cost(&userpass.nobody));
}

#[tokio::test]
async fn a_new_password_replaces_the_old_and_none_keeps_it() {
    let userpass = userpass().await;
    put(&userpass, "alice", secret(PASSWORD), Vec::new(), NOW).await.unwrap();
    let first = userpass.find_user("alice").await.unwrap().unwrap();
    put(&userpass, "alice", None, vec![group("ops")], NOW.plus(LATER)).await.unwrap();
    let principal = login(&userpass, "alice", PASSWORD).await.unwrap().principal;
    assert_eq!(principal.groups(), [group("ops")]);
    put(&userpass, "alice", secret("another long password"), Vec::new(), NOW).await.unwrap();
    assert!(matches!(login(&userpass, "alice", PASSWORD).await, Err(LoginError::Rejected)));
    login(&userpass, "alice", "another long password").await.unwrap();
    let last = userpass.find_user("alice").await.unwrap().unwrap();
    assert_eq!((first.uid, first.created), (last.uid, last.created), "still the same person");
}

fn bytes(text: &str) -> SecretBytes {
    SecretBytes::from(text.as_bytes())
}

async fn change(
    userpass: &Userpass,
    who: &Principal,
    passwords: [&str; 2],
    context: &LoginContext,
) -> Result<Login, LoginError> {
    let [current, new] = passwords.map(bytes);
    let (login, change) = userpass.change_password(who, current, new, context).await?;
    change.commit(SealedChanges::default(), None).await?;
    Ok(login)
}

const NEW: &str = "another long password";

#[tokio::test]
async fn who_knows_the_password_changes_it_and_stays_who_they_are() {
    let userpass = userpass().await;
    put(&userpass, "alice", secret(PASSWORD), vec![group("ops")], NOW).await.unwrap();
    let alice = login(&userpass, "alice", PASSWORD).await.unwrap().principal;
    let here = LoginContext { peer: None, now: NOW };
    assert_eq!(
        change(&userpass, &alice, [PASSWORD, NEW], &here).await.unwrap(),
        Login::person(alice.clone())
    );
    assert!(matches!(login(&userpass, "alice", PASSWORD).await, Err(LoginError::Rejected)));
    assert_eq!(login(&userpass, "alice", NEW).await.unwrap().principal, alice);

    let short = change(&userpass, &alice, [NEW, "short"], &here).await;
    assert!(matches!(short, Err(LoginError::Invalid(invalid)) if invalid.field == "password"));
    let root = change(&userpass, &Principal::Root, [NEW, PASSWORD], &here).await;
    assert!(matches!(root, Err(LoginError::Invalid(invalid)) if invalid.field == "session"));
    delete(&userpass, "alice").await;
    put(&userpass, "alice", secret(NEW), Vec::new(), NOW).await.unwrap();
    let former = change(&userpass, &alice, [NEW, PASSWORD], &here).await;
    assert!(matches!(former, Err(LoginError::Rejected)), "somebody else of the same name");
}

/// Whoever has a session and not the password guesses no faster than a stranger.
#[tokio::test]
async fn a_wrong_current_password_counts_as_a_failed_login() {
    let userpass = userpass().await;
    put(&userpass, "alice", secret(PASSWORD), Vec::new(), NOW).await.unwrap();
    let alice = login(&userpass, "alice", PASSWORD).await.unwrap().principal;
    let from = |host: u8| LoginContext { peer: Some([192, 0, 2, host].into()), now: NOW };
    for _ in 0..5 {
        let wrong = change(&userpass, &alice, ["not the password", NEW], &from(1)).await;
        assert!(matches!(wrong, Err(LoginError::Rejected)));
    }
    let right = change(&userpass, &alice, [PASSWORD, NEW], &from(1)).await;
    assert!(matches!(right, Err(LoginError::Unavailable { .. })), "not judged at all");
    let at_login = userpass.login(credential("alice", PASSWORD), &from(1)).await;
    assert!(matches!(at_login, Err(LoginError::Unavailable { .. })), "one count for both");
    change(&userpass, &alice, [PASSWORD, NEW], &from(2)).await.unwrap();
}

/// It is changed while the old password is being judged.
#[tokio::test]
async fn what_an_administrator_sets_is_not_replaced_by_who_was_judged_before() {
    let userpass = userpass().await;
    put(&userpass, "alice", secret(PASSWORD), Vec::new(), NOW).await.unwrap();
    let alice = login(&userpass, "alice", PASSWORD).await.unwrap().principal;
    let here = LoginContext { peer: None, now: NOW };
    let busy = userpass.hasher.hold().await;
    let mut changing = Box::pin(change(&userpass, &alice, [PASSWORD, NEW], &here));
    assert!(futures_util::poll!(&mut changing).is_pending());
    put(&userpass, "alice", None, vec![group("ops")], NOW).await.unwrap();
    drop(busy);
    changing.await.unwrap_err();
    assert!(matches!(login(&userpass, "alice", NEW).await, Err(LoginError::Rejected)));
    assert_eq!(login(&userpass, "alice", PASSWORD).await.unwrap().principal.groups(), [group("ops")]);
}

const LATER: std::time::Duration = std::time::Duration::from_secs(1);

#[tokio::test]
async fn one_created_again_is_someone_else() {
    let userpass = userpass().await;
    put(&userpass, "alice", secret(PASSWORD), Vec::new(), NOW).await.unwrap();
    let first = login(&userpass, "alice", PASSWORD).await.unwrap().principal;
    assert!(delete(&userpass, "alice").await);
    assert!(!delete(&userpass, "alice").await);
    assert!(matches!(login(&userpass, "alice", PASSWORD).await, Err(LoginError::Rejected)));
    put(&userpass, "alice", secret(PASSWORD), Vec::new(), NOW).await.unwrap();
    let second = login(&userpass, "alice", PASSWORD).await.unwrap().principal;
    assert_ne!(first, second);
    assert_eq!(first.to_string(), second.to_string());
}

#[tokio::test]
async fn users_are_listed_by_name() {
    let userpass = userpass().await;
    let names: Vec<String> = (0..250).map(|n| format!("user{n:03}")).collect();
    for name in names.iter().rev() {
        put(&userpass, name, secret(PASSWORD), Vec::new(), NOW).await.unwrap();
    }
    let listed: Vec<_> = userpass.list_users().await.unwrap().into_iter().map(|user| user.name).collect();
    assert_eq!(listed, names.iter().map(|name| Box::from(name.as_str())).collect::<Vec<Box<str>>>());
}

#[tokio::test]
async fn passwords_have_limits() {
    let userpass = userpass().await;
    for (length, fine) in [(0, false), (11, false), (12, true), (1024, true), (1025, false)] {
        let result = put(&userpass, "alice", secret(&"x".repeat(length)), Vec::new(), NOW).await;
        assert_eq!(result.is_ok(), fine, "{length}");
    }
    let missing = put(&userpass, "bob", None, Vec::new(), NOW).await;
    assert!(matches!(missing, Err(LoginError::Invalid(invalid)) if invalid.field == "password"));
}

#[test]
fn a_name_has_one_spelling() {
    for name in ["a", "alice", "a.b_c@d-e", "alice+ops@example.com", &"x".repeat(64)] {
        assert_eq!(&*parse_name(name).unwrap(), name);
    }
    for name in
        ["", "Alice", " alice", "alice ", "alice\0", "a/b", "a%41", "älice", "alice\u{200b}", &"x".repeat(65)]
    {
        assert!(parse_name(name).is_err(), "{name:?}");
    }
    let problem = |name| parse_name(name).unwrap_err().problem;
    assert!(problem("Alice@Example.com").contains("small letters"));
    assert!(problem("Älice").contains("expected"), "nor would small letters help");
}

#[test]
fn groups_are_names() {
    let parse = |names: &[&str]| parse_groups(&names.iter().map(|name| name.to_string()).collect::<Vec<_>>());
    assert_eq!(parse(&["b", "a.b-c_d", "0"]).unwrap(), [group("b"), group("a.b-c_d"), group("0")]);
    for bad in ["", ".a", "-a", "_a", "A", "a/b", "a b", "*", &"x".repeat(64)] {
        assert_eq!(parse(&["fine", bad]).unwrap_err().field, "groups[1]", "{bad:?}");
    }
    assert!(parse(&["a", "a"]).is_err());
    let many: Vec<String> = (0..33).map(|n| n.to_string()).collect();
    assert!(parse_groups(&many[..32]).is_ok());
    assert!(parse_groups(&many).is_err());
}
