//! Many pods of one node: before a server that says nothing, and with more secrets than the node has memory for.

use super::*;

/// The server accepts and says nothing: each pod is told in time, none waits for another, and all mount when it is back.
#[tokio::test]
async fn forty_pods_before_a_silent_server_are_each_told_and_mount_when_it_speaks() {
    let node = Node::with(false);
    node.server.set_silent(true);
    let requests = || (0..40).map(|n| node.request_of(n));
    let began = Instant::now();
    let patience = Duration::from_millis(500);
    let calls = requests().map(|request| node.driver.publish_within(request, Some(patience)));
    for told in futures_util::future::join_all(calls).await {
        let told = told.unwrap_err().to_string();
        assert!(told.contains("could not be reached") && told.contains("gave no answer"), "{told}");
    }
    // Nobody stood in a line: the time is one patience, not forty.
    assert!(began.elapsed() < DEADLINE, "{:?}", began.elapsed());
    node.server.set_silent(false);
    for done in futures_util::future::join_all(requests().map(|request| node.driver.publish(request))).await {
        done.unwrap();
    }
}

#[tokio::test]
async fn a_pod_that_wants_too_much_memory_is_told_and_takes_nothing() {
    let node = Node::with(false);
    node.server.put(DB, &"x".repeat(900 << 10));
    let many: String = (0..4).map(|n| format!("- path: {DB}\n  dir: d{n}\n")).collect();
    let wide = |volume: String, m: &mut NodePublishVolumeRequest| {
        let beside = node.target("u-1").parent().unwrap().with_file_name(&volume);
        m.target_path = beside.join("mount").display().to_string();
        m.volume_id = volume;
        m.volume_context.insert("secrets".into(), many.clone());
    };
    let mut refused = None;
    for n in 0..8 {
        let request = node.request(|m| wide(format!("v{n}"), m));
        fs::create_dir_all(request.target.path.parent().unwrap()).unwrap();
        refused = node.driver.publish(request).await.err();
        if refused.is_some() {
            assert_eq!(n, 4, "four volumes of less than four MiB fit into sixteen");
            break;
        }
    }
    let told = refused.unwrap();
    assert_eq!(told.reason(), "budget");
    assert!(told.to_string().starts_with("the pod would take"), "{told}");
    // What goes makes room.
    let first = node.request(|m| wide("v0".into(), m));
    node.driver.unpublish(first.id, first.target).await.unwrap();
    let request = node.request(|m| wide("v4".into(), m));
    node.driver.publish(request).await.unwrap();
}

/// A pod that keeps old files open keeps their memory. The rotation that finds no room is told, and done once they are closed.
#[tokio::test]
async fn a_rotation_without_room_is_told_and_tried_again() {
    if !may_mount() {
        return;
    }
    let node = Node::with(true);
    let large = |letter: char| letter.to_string().repeat(900 << 10);
    node.server.put(DB, &large('a'));
    let many: String = (0..4).map(|n| format!("- path: {DB}\n  dir: d{n}\n")).collect();
    node.driver
        .publish(node.request(|m| drop(m.volume_context.insert("secrets".into(), many))))
        .await
        .unwrap();
    let file = |n: u32| node.target("u-1").join(format!("d{n}/value"));
    let is_of = |letter: char| fs::read_to_string(file(0)).is_ok_and(|text| text.starts_with(letter));
    let mut open = Vec::new();
    let mut last = 'a';
    for letter in 'b'..='h' {
        open.extend((0..4).map(|n| fs::File::open(file(n)).unwrap()));
        node.server.put(DB, &large(letter));
        node.until("the new content or why not", || is_of(letter) || node.trouble().is_some()).await;
        last = letter;
        if node.trouble().is_some() {
            break;
        }
    }
    let told = node.trouble().unwrap();
    assert!(told.contains("on this node") || told.contains("memory"), "{told}");
    assert!(!is_of(last), "sixteen MiB are not enough for all that is open");
    drop(open);
    node.until("the content that had no room", || is_of(last) && node.trouble().is_none()).await;
    node.unpublish().await.unwrap();
}
