//! Who sees what: two teams on one server, the default roles, and that a no tells nothing else.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test ends at the first surprise"
)]

use std::time::Duration;

use strongroom_client::{
    AuditQuery, ChangeKind, Client, Error, ErrorKind, ObjectName, SealKind, SecretBytes, StreamExt,
};
use strongroom_tests::{wait::DEADLINE, world::World};

const TEAMS: &str = r#"
kind: Role
name: team-a
rules:
- {paths: ["secret/team-a/**"], verbs: [read, list, create, update, delete]}
- {paths: ["secret/team-a/vault/**"], verbs: ["*"], effect: deny}
---
kind: Role
name: team-b
rules:
- {paths: ["secret/team-b/**"], verbs: [read, list, create, update]}
---
kind: Role
name: own
rules:
- {paths: ["secret/home/{{user}}/**"], verbs: [read, create, update, list]}
---
kind: Binding
name: team-a
role: team-a
subjects:
- group: {method: userpass, name: team-a}
---
kind: Binding
name: team-b
role: team-b
subjects:
- group: {method: userpass, name: team-b}
---
kind: Binding
name: own
role: own
subjects:
- group: {method: userpass, name: team-a}
- group: {method: userpass, name: team-b}
"#;

async fn put(client: &Client, path: &str) -> Result<(), Error> {
    client.put(path).value("k", SecretBytes::from(b"v".as_slice())).send().await.map(drop)
}

fn denied(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::Denied { .. })
}

async fn names(client: &Client, folder: &str) -> Vec<String> {
    client.list(folder).map(|name| name.unwrap()).collect().await
}

async fn teams() -> (World, Client, Client) {
    let world = World::open(SealKind::File).await.unwrap();
    world.apply(TEAMS).await.unwrap();
    let (anna, bert) =
        (world.user("anna", &["team-a"]).await.unwrap(), world.user("bert", &["team-b"]).await.unwrap());
    (world, anna, bert)
}

#[tokio::test(flavor = "multi_thread")]
async fn teams_have_their_own() {
    let (world, anna, bert) = teams().await;
    put(&anna, "secret/team-a/db").await.unwrap();
    put(&bert, "secret/team-b/db").await.unwrap();
    for (client, path) in [(&anna, "secret/team-b/db"), (&bert, "secret/team-a/db")] {
        assert!(denied(&client.get(path).await.err().unwrap()), "{path}");
        assert!(denied(&put(client, path).await.unwrap_err()), "{path}");
        let folder = path.trim_end_matches("/db");
        assert!(denied(&client.list(folder).next().await.unwrap().unwrap_err()), "{folder}");
    }
    assert!(denied(&put(&anna, "secret/team-a/vault/root").await.unwrap_err()), "a deny wins");
    assert!(denied(&bert.delete("secret/team-b/db", Vec::new()).await.err().unwrap()), "not among the verbs");

    put(&anna, "secret/home/anna/note").await.unwrap();
    assert!(
        denied(&put(&anna, "secret/home/bert/note").await.unwrap_err()),
        "a template is filled for who asks"
    );
    put(&bert, "secret/home/bert/note").await.unwrap();

    // Groups are those of the user now or of the login then; a new login has the new ones in any case.
    let moved = world.user("anna", &["team-b"]).await.unwrap();
    assert!(denied(&moved.get("secret/team-a/db").await.err().unwrap()));
    moved.get("secret/team-b/db").await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_condition_limits_a_binding() {
    let (world, _, _) = teams().await;
    let role = "{kind: Role, name: c, rules: [{paths: [\"secret/c/**\"], verbs: [create]}]}";
    let binding = |name: &str, user: &str, conditions: &str| {
        format!(
            "---\n{{kind: Binding, name: {name}, role: c, subjects: [{{user: {{method: userpass, name: {user}}}}}], \
             conditions: {{{conditions}}}}}\n"
        )
    };
    let yaml = [
        format!("{role}\n"),
        binding("here", "here", "cidrs: [127.0.0.0/8]"),
        binding("away", "away", "cidrs: [10.0.0.0/8]"),
        binding("past", "past", "until: \"2020-01-01T00:00:00Z\""),
    ];
    world.apply(&yaml.concat()).await.unwrap();
    for (user, may) in [("here", true), ("away", false), ("past", false)] {
        let client = world.user(user, &[]).await.unwrap();
        assert_eq!(put(&client, &format!("secret/c/{user}")).await.is_ok(), may, "{user}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_shows_what_one_may_see() {
    let (world, anna, _) = teams().await;
    let root = world.root().await.unwrap();
    for path in ["secret/team-a/db", "secret/team-a/vault/root", "secret/team-a/web/key", "secret/team-b/db"]
    {
        put(&root, path).await.unwrap();
    }
    assert_eq!(names(&root, "secret").await, ["team-a/", "team-b/"]);
    assert_eq!(names(&anna, "secret/team-a").await, ["db", "web/"], "the denied folder is not there");
    let all: Vec<_> =
        anna.list_recursive("secret/team-a").await.unwrap().map(|path| path.unwrap()).collect().await;
    assert_eq!(all, ["secret/team-a/db", "secret/team-a/web/key"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watch_tells_what_one_may_read_and_follows_the_policy() {
    let (world, anna, _) = teams().await;
    let root = world.root().await.unwrap();
    let mut changes = anna.watch(["secret/team-a"]);
    let next = async |changes: &mut strongroom_client::ResultStream<strongroom_client::Change>| {
        tokio::time::timeout(DEADLINE, changes.next()).await.expect("in time").unwrap()
    };
    assert_eq!(next(&mut changes).await.unwrap().kind, ChangeKind::Started);
    put(&root, "secret/team-a/vault/root").await.unwrap();
    put(&root, "secret/team-b/db").await.unwrap();
    put(&root, "secret/team-a/db").await.unwrap();
    let change = next(&mut changes).await.unwrap();
    assert_eq!((change.kind, &*change.path, change.version), (ChangeKind::Written, "secret/team-a/db", 1));

    // Another policy that says the same of what is watched: the watch goes on, and tells nothing of it.
    let elsewhere = "{kind: Role, name: other, rules: [{paths: [\"secret/x\"], verbs: [read]}]}\n---\n\
        {kind: Binding, name: other, role: other, subjects: [{user: {method: userpass, name: anna}}]}\n";
    world.apply(elsewhere).await.unwrap();
    put(&root, "secret/team-a/db").await.unwrap();
    let change = next(&mut changes).await.unwrap();
    assert_eq!((change.kind, change.version), (ChangeKind::Written, 2));
    // One that changes something below and leaves the right: it heals by itself and says that something may be missed.
    world.apply(&elsewhere.replace("secret/x", "secret/team-a/x")).await.unwrap();
    assert_eq!(next(&mut changes).await.unwrap().kind, ChangeKind::Resync);
    // One that takes it away: the watch ends with a no.
    let gone = ObjectName::binding("team-a");
    root.policy().apply("", vec![gone], false).await.unwrap();
    let end = next(&mut changes).await.unwrap_err();
    assert!(denied(&end), "{end}");
    assert!(changes.next().await.is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn operators_and_auditors_do_their_work_and_nothing_else() {
    let (world, _, _) = teams().await;
    let bind = |name: &str| {
        format!(
            "{{kind: Binding, name: {name}s, role: {name}, subjects: [{{user: {{method: userpass, name: {name}}}}}]}}\n"
        )
    };
    world.apply(&format!("{}---\n{}", bind("operator"), bind("auditor"))).await.unwrap();
    put(&world.root().await.unwrap(), "secret/a").await.unwrap();
    let (operator, auditor) =
        (world.user("operator", &[]).await.unwrap(), world.user("auditor", &[]).await.unwrap());

    let value = SecretBytes::from(b"v".as_slice());
    auditor.audit().tail(1, false).await.unwrap().next().await.unwrap().unwrap();
    auditor.audit().query(AuditQuery::default()).await.unwrap().next().await.unwrap().unwrap();
    // An auditor may not guess at values: that takes a right on the path too.
    assert!(denied(&auditor.audit().hash("secret/a", "data.k", &value).await.err().unwrap()));
    let guess = "kind: Role\nname: guess\nrules: [{paths: [secret/a], verbs: [use]}]\n---\n";
    world
        .apply(&format!(
            "{guess}{}",
            bind("auditor").replace("auditors", "guesses").replace("role: auditor", "role: guess")
        ))
        .await
        .unwrap();
    let hash = auditor.audit().hash("secret/a", "data.k", &value).await.unwrap();
    let written: Vec<String> = auditor
        .audit()
        .query(AuditQuery { operation: "Secrets.Put".into(), ..AuditQuery::default() })
        .await
        .unwrap()
        .map(|line| line.unwrap())
        .collect()
        .await;
    assert!(written.iter().any(|line| line.contains(&hash)), "{hash}: {written:?}");
    assert!(denied(&auditor.audit().hash("secret/b", "data.k", &value).await.err().unwrap()));
    assert!(auditor.policy().export().await.unwrap().contains("team-a"));
    assert!(!auditor.policy().who_can("read", "secret/team-a/db").await.unwrap().is_empty());
    assert!(denied(&auditor.sys().rotate().await.err().unwrap()));
    assert!(denied(&auditor.sys().seal().await.err().unwrap()));
    assert!(denied(&auditor.auth().list_users().await.err().unwrap()));

    assert!(operator.sys().scrub().await.unwrap().problems.is_empty());
    assert_eq!(operator.sys().rotate().await.unwrap(), 2);
    assert!(denied(&operator.audit().hash("secret/a", "data.k", &value).await.err().unwrap()));
    assert!(denied(&operator.audit().tail(1, false).await.err().unwrap()));
    assert!(denied(&operator.policy().export().await.err().unwrap()));

    for client in [&operator, &auditor] {
        assert!(denied(&client.get("secret/a").await.err().unwrap()));
        assert!(denied(&client.metadata("secret/a").await.err().unwrap()));
        assert!(denied(&put(client, "secret/b").await.unwrap_err()));
        assert!(denied(&client.list_page("secret", None, None).await.err().unwrap()));
        assert!(denied(&client.policy().apply(TEAMS, Vec::new(), false).await.err().unwrap()));
        assert!(denied(&client.auth().put_user("eve", Some(&value), Vec::new()).await.err().unwrap()));
    }
    // Not even with the proof would that be an operator's.
    assert!(denied(
        &operator.sys().rekey(SealKind::Shamir { shares: 2, threshold: 2 }, &[]).await.err().unwrap()
    ));
    operator.sys().seal().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_no_does_not_tell_whether_something_is_there() {
    let (world, _, _) = teams().await;
    let nobody = world.user("nobody", &[]).await.unwrap();
    let root = world.root().await.unwrap();
    put(&root, "secret/there").await.unwrap();
    put(&root, "secret/folder/there").await.unwrap();
    root.delete("secret/folder/there", Vec::new()).await.unwrap();

    let answers = async |path: &str| {
        let mut told = vec![
            nobody.get(path).await.err(),
            nobody.get_version(path, 7).await.err(),
            nobody.metadata(path).await.err(),
            put(&nobody, path).await.err(),
            nobody.patch(path).remove("k").send().await.err(),
            nobody.delete(path, vec![1]).await.err(),
            nobody.undelete(path, vec![1]).await.err(),
            nobody.destroy_all(path).await.err(),
            nobody.list_page(path, None, None).await.err(),
            nobody.update_metadata(path).max_versions(3).send().await.err(),
            nobody.list_recursive(path).await.err(),
        ];
        let watch = tokio::time::timeout(Duration::from_secs(10), nobody.watch([path]).next()).await;
        told.push(watch.expect("an answer").unwrap().err());
        told.into_iter()
            .map(|error| {
                let error = error.expect("denied");
                let ErrorKind::Denied { decision_id, verb, .. } = error.kind() else { panic!("{error}") };
                (verb.clone(), error.message().replace(path, "PATH").replace(decision_id, "ID"))
            })
            .collect::<Vec<_>>()
    };
    let missing = answers("secret/missing").await;
    for path in ["secret/there", "secret/folder/there", "secret/folder", "nomount/a"] {
        assert_eq!(answers(path).await, missing, "{path}");
    }
}

/// Nobody takes the last right to give rights away by mistake: not by a binding, a role or a rule that denies.
#[tokio::test(flavor = "multi_thread")]
async fn the_last_administrator_is_not_removed_by_mistake() {
    let world = World::open(SealKind::File).await.unwrap();
    let root = world.root().await.unwrap();
    let bind = |role: &str| {
        format!(
            "kind: Binding\nname: admins\nrole: {role}\nsubjects:\n- user: {{method: userpass, name: alice}}\n"
        )
    };
    let deny = "kind: Role\nname: no\nrules:\n- {paths: [sys/policy], verbs: [manage], effect: deny}\n---\nkind: Binding\nname: no\nrole: no\nsubjects:\n- user: {method: userpass, name: alice}\n";
    root.policy().apply(&bind("admin"), Vec::new(), false).await.unwrap();
    let admins = || vec![ObjectName::binding("admins")];
    for (yaml, remove) in [("", admins()), (&*bind("auditor"), Vec::new()), (deny, Vec::new())] {
        for dry_run in [true, false] {
            let refused = root.policy().apply(yaml, remove.clone(), dry_run).await.err().unwrap();
            assert!(refused.to_string().contains("would leave nobody"), "{refused}");
        }
    }
    // Another one may go, and the last one if that is said.
    let other = bind("admin").replace("admins", "others").replace("alice", "bob");
    root.policy().apply(&other, Vec::new(), false).await.unwrap();
    root.policy().apply("", admins(), false).await.unwrap();
    let others = vec![ObjectName::binding("others")];
    root.policy().apply("", others.clone(), false).await.err().unwrap();
    root.policy().forced().apply("", others, false).await.unwrap();
    // Where nobody was, nobody is missed.
    root.policy().apply(&bind("auditor"), Vec::new(), false).await.unwrap();
}
