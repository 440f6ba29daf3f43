//! A driver that ends and is started again: with its state, without it, and at every point of a publish.

use super::*;

#[tokio::test]
async fn a_restart_keeps_volumes_and_goes_on() {
    for mut node in Node::each() {
        node.publish().await.unwrap();
        node.restart().await;
        assert_eq!(node.content(), "one");
        assert!(node.trouble().is_some_and(|why| why.contains("restarted")));
        assert_eq!(node.server.goodbyes(), 0, "a restart of every driver is no storm of writes");
        node.server.put_silently(DB, "two");
        node.publish().await.unwrap();
        node.until("the new content", || node.content() == "two" && node.trouble().is_none()).await;
        node.server.put(DB, "three");
        node.until("the new content", || node.content() == "three").await;
        node.restart().await;
        node.unpublish().await.unwrap();
        node.is_clean();
    }
}

#[tokio::test]
async fn a_lost_state_file_is_no_lost_volume() {
    for mut node in Node::each() {
        node.publish().await.unwrap();
        node.driver.stop().await;
        for file in fs::read_dir(node.home.path().join("state")).unwrap() {
            fs::remove_file(file.unwrap().path()).unwrap();
        }
        node.restart().await;
        node.publish().await.unwrap();
        node.server.put(DB, "two");
        node.until("the new content", || node.content() == "two").await;
        node.unpublish().await.unwrap();
        node.is_clean();
    }
}

/// Every point at which a kill can fall, made by hand: what is on the disk then, and the next start.
#[tokio::test]
async fn whatever_a_kill_left_the_next_start_puts_in_order() {
    // Before the mount: a state file, then the target's folder.
    for with_folder in [false, true] {
        let mut node = Node::with(false);
        let request = node.request(|_| {});
        let state = VolumeState::new(
            request.id,
            request.target.path,
            request.pod,
            request.capability,
            Timestamp::UNIX_EPOCH,
        );
        node.driver.disk.remember(&state).unwrap();
        if with_folder {
            fs::create_dir(node.target("u-1")).unwrap();
        }
        node.restart().await;
        node.is_clean();
        // The kubelet does not know, and asks for either.
        node.unpublish().await.unwrap();
        node.publish().await.unwrap();
        assert_eq!(node.content(), "one");
    }
    for mut node in Node::each() {
        // After the unmount, before the folder and the state file are gone.
        node.publish().await.unwrap();
        let Request { target, .. } = node.request(|_| {});
        node.mounter.detach(&node.driver.disk.place(&target).unwrap().unwrap()).unwrap();
        node.restart().await;
        node.is_clean();
        // Emptied, not unmounted yet.
        node.publish().await.unwrap();
        writer::empty(&node.driver.disk.place(&target).unwrap().unwrap().open().unwrap()).unwrap();
        node.restart().await;
        node.unpublish().await.unwrap();
        node.is_clean();
        // The folder is gone, the state file not.
        node.publish().await.unwrap();
        node.mounter.detach(&node.driver.disk.place(&target).unwrap().unwrap()).unwrap();
        fs::remove_dir(node.target("u-1")).unwrap();
        node.restart().await;
        node.is_clean();
        // The pod's whole folder is gone.
        fs::remove_dir_all(node.home.path().join("kubelet/pods/u-1")).unwrap();
        node.unpublish().await.unwrap();
    }
}
