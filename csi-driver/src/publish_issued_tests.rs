//! Volumes with what the server issues for them: it lives as long as the volume and is replaced in time.

use super::*;

const APP: &str = "- issue: database/app\n";
const BOTH: &str = "- issue: database/app\n  template: {url: \"postgres://{{username}}:{{password}}@db\"}\n- path: secret/app/db\n";
const LIFE: Duration = Duration::from_secs(18);
const MOST: Duration = Duration::from_secs(45);

fn node() -> Node {
    let node = Node::with(false);
    node.server.issue_for(LIFE, MOST);
    node
}

impl Node {
    fn wants(&self, secrets: &str) -> Request {
        self.request(|m| drop(m.volume_context.insert("secrets".into(), secrets.into())))
    }

    async fn publish_this(&self, secrets: &str) -> Result<(), Failure> {
        self.driver.publish(self.wants(secrets)).await
    }

    fn file(&self, name: &str) -> String {
        fs::read_to_string(self.target("u-1").join(name)).unwrap_or_default()
    }
}

#[tokio::test]
async fn what_is_issued_is_in_files_and_ends_with_the_volume() {
    for node in Node::each() {
        node.server.issue_for(LIFE, MOST);
        node.publish_this(APP).await.unwrap();
        assert_eq!((node.file("username").as_str(), node.file("password").as_str()), ("user1", "secret"));
        // As every minute: it is the same one.
        node.publish_this(APP).await.unwrap();
        assert_eq!(node.server.issues(), (1, 0));
        assert_eq!((node.server.reads(), node.server.watches(), node.trouble()), (0, 0, None));
        node.unpublish().await.unwrap();
        node.is_clean();
        node.until("it is given back", || node.server.users().is_empty()).await;
        node.until("the session is ended", || node.server.goodbyes() == 1).await;
    }
}

#[tokio::test(start_paused = true)]
async fn it_is_renewed_and_before_its_last_end_replaced() {
    let node = node();
    node.publish_this(APP).await.unwrap();
    node.until("a renewal", || node.server.issues() == (1, 1)).await;
    assert_eq!(node.file("username"), "user1");
    // After 12 s and 24 s; after 36 s a renewal would give it 9 s.
    node.until("another renewal", || node.server.issues() == (1, 2)).await;
    node.until("another one", || node.server.issues() == (2, 2)).await;
    node.until("it is in the files", || node.file("username") == "user2").await;
    assert_eq!(node.server.users(), ["user1", "user2"], "programs go over to it without haste");
    node.until("the first has ended", || node.server.users() == ["user2"]).await;
    assert_eq!(node.trouble(), None);
    node.unpublish().await.unwrap();
    node.until("nothing is left", || node.server.users().is_empty()).await;
}

#[tokio::test]
async fn a_changed_secret_has_nothing_issued_again() {
    let node = node();
    node.publish_this(BOTH).await.unwrap();
    assert_eq!(node.file("url"), "postgres://user1:secret@db");
    node.server.put(DB, "two");
    node.until("the new content", || node.content() == "two").await;
    assert_eq!((node.file("url").as_str(), node.server.issues()), ("postgres://user1:secret@db", (1, 0)));
}

#[tokio::test]
async fn what_no_volume_came_of_is_given_back() {
    let node = node();
    // The second is refused, no file can be made, and there is no place for one.
    node.server.deny("database/other", true);
    let refused = node.publish_this("- issue: database/app\n- issue: database/other\n  dir: other\n").await;
    let told = refused.unwrap_err().to_string();
    assert!(told.contains("may not use database/other"), "{told}");
    node.until("it is given back", || node.server.issues().0 == 1 && node.server.users().is_empty()).await;
    let wrong =
        node.publish_this("- issue: database/app\n  keys: {user: u}\n").await.unwrap_err().to_string();
    assert!(wrong.contains("no field \"user\"; it has password, username"), "{wrong}");
    node.until("it is given back", || node.server.issues().0 == 2 && node.server.users().is_empty()).await;
    fs::create_dir(node.target("u-1")).unwrap();
    fs::write(node.target("u-1").join("in-the-way"), "").unwrap();
    node.publish_this(APP).await.unwrap_err();
    node.until("it is given back", || node.server.issues().0 == 3 && node.server.users().is_empty()).await;
}

#[tokio::test]
async fn nothing_issues_there() {
    let node = Node::with(false);
    let told = node.publish_this(APP).await.unwrap_err().to_string();
    assert!(told.contains("database/NAME") && !told.contains("optional"), "{told}");
    node.is_clean();
}

#[tokio::test(start_paused = true)]
async fn a_restart_has_nothing_issued_again_as_long_as_it_lives() {
    let mut node = node();
    node.publish_this(APP).await.unwrap();
    node.restart().await;
    node.publish_this(APP).await.unwrap();
    node.until("it is renewed", || node.server.issues() == (1, 1) && node.trouble().is_none()).await;
    assert_eq!(node.file("username"), "user1");
    // It has ended meanwhile.
    node.server.forget_issued();
    node.restart().await;
    node.publish_this(APP).await.unwrap();
    node.until("another one", || node.file("username") == "user2" && node.trouble().is_none()).await;
    node.restart().await;
    node.publish_this(APP).await.unwrap();
    node.until("it is known", || node.trouble().is_none()).await;
    assert_eq!((node.file("username").as_str(), node.server.issues().0), ("user2", 2));
    node.unpublish().await.unwrap();
    node.until("nothing is left", || node.server.users().is_empty()).await;
}

#[tokio::test(start_paused = true)]
async fn beside_secrets_a_restart_has_it_issued_again() {
    let mut node = node();
    node.publish_this(BOTH).await.unwrap();
    node.restart().await;
    node.publish_this(BOTH).await.unwrap();
    node.until("another one", || node.file("url") == "postgres://user2:secret@db").await;
    assert_eq!((node.content().as_str(), node.server.issues().0), ("one", 2));
}

#[tokio::test(start_paused = true)]
async fn a_server_that_is_away_for_a_while_takes_nothing_away() {
    let node = node();
    node.publish_this(APP).await.unwrap();
    node.server.set_down(true);
    node.until("it is told", || node.trouble().is_some()).await;
    assert_eq!(node.file("username"), "user1");
    node.server.set_down(false);
    node.until("it is renewed", || node.server.issues() == (1, 1) && node.trouble().is_none()).await;
    assert_eq!(node.server.users(), ["user1"]);
}

#[tokio::test(start_paused = true)]
async fn it_is_renewed_after_the_end_of_the_token() {
    let node = node();
    node.publish_this(APP).await.unwrap();
    node.publish_this(APP).await.unwrap();
    node.server.end_tokens();
    node.until("it is renewed", || node.server.issues() == (1, 1)).await;
    assert_eq!(node.server.logins(), 2);
}
