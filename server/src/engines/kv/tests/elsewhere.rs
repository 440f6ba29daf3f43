//! Two servers on one store: the lists of names and the watchers of one, and the writes of the other.

use super::{super::ChangeKind, *};
use crate::barrier::{
    Derived,
    conformance::{self, House},
};

impl conformance::Subject for Arc<Shelf> {
    async fn load(house: &House) -> Self {
        let shelf = Arc::new(on(house.barrier().await.view("kv")));
        if names(&shelf, "s").await.is_empty() {
            written(&shelf, "s/known", put(b"v", None)).await.unwrap();
        }
        // Remembered from here on.
        names(&shelf, "s").await;
        shelf
    }

    fn derived(&self) -> &dyn Derived {
        &**self
    }

    async fn change(&self) {
        written(self, "s/folder/new", put(b"v", None)).await.unwrap();
        written(self, "s/new", put(b"v", None)).await.unwrap();
        destroy_all(self, "s/known").await.unwrap();
    }

    async fn shows(&self) -> bool {
        let names = names(self, "s").await;
        assert!(names == ["known"] || names == ["folder/", "new"], "{names:?}");
        names != ["known"]
    }

    fn is_empty(&self) -> bool {
        self.index.folders().is_empty()
    }
}

#[tokio::test]
async fn lists_of_names_follow_the_store() {
    conformance::check::<Arc<Shelf>>().await;
}

#[tokio::test]
async fn watchers_are_told_to_read_again() {
    let shelf = shelf().await;
    let mut watch = shelf.hub.watch(vec![path("s")], Box::new(ALL));
    shelf.changed(&[vec![250; 41]]).await.unwrap();
    let place = super::super::SecretAddress::of(&path("s/elsewhere")).unwrap();
    shelf.changed(&[[shelf.view.prefix(SECRET, &place.folder), vec![0; 24]].concat()]).await.unwrap();
    shelf.hub.publish(ChangeKind::Written, &path("s/here"), 1);
    assert_eq!(watch.next().await.unwrap().kind, ChangeKind::Resync);
    assert_eq!(watch.next().await.unwrap().kind, ChangeKind::Written);
}
