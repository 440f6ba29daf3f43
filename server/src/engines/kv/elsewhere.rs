//! What other servers on the same store do: the lists of names follow, and watchers are told to read again. The key of a
//! record tells its folder only to those who know that folder. One that is remembered here is recognised; of any other no
//! list could be wrong, because there is none.

use async_trait::async_trait;

use super::{
    Shelf,
    list::Move,
    record::{FOLDER, SECRET},
};
use crate::{
    barrier::{BarrierError, Derived},
    storage::StoreKey,
};

#[async_trait]
impl Derived for Shelf {
    /// Names are collected when somebody lists them.
    async fn load(&self) -> Result<(), BarrierError> {
        self.forget_all();
        self.hub.resync();
        Ok(())
    }

    async fn changed(&self, keys: &[StoreKey]) -> Result<(), BarrierError> {
        let is_name = |key: &&StoreKey| [SECRET, FOLDER].iter().any(|kind| key.first() == Some(&kind.byte()));
        let names: Vec<_> = keys.iter().filter(is_name).collect();
        if names.is_empty() {
            return Ok(());
        }
        self.quotas.rcu(|quotas| quotas.recount());
        // A hash for each remembered folder, 4,096 at most, once for the whole batch.
        let folders = self.index.folders().into_iter();
        let known: Vec<_> = folders
            .flat_map(|folder| {
                [SECRET, FOLDER].map(|kind| (self.view.prefix(kind, &folder), kind, folder.clone()))
            })
            .collect();
        for key in names {
            let Some((_, kind, folder)) = known.iter().find(|(prefix, ..)| key.starts_with(prefix)) else {
                continue;
            };
            match self.view.find(*kind, key).await? {
                Some(found) => {
                    let moves = Move::of(*kind, folder, &found.name, Some(&found.entry.content));
                    self.index.apply(moves.into_iter().collect(), found.entry.revision);
                }
                // The hash does not tell which name it was.
                None => self.index.drop_folder(folder),
            }
        }
        // Only its folder could tell which secret the news is about.
        self.hub.resync();
        Ok(())
    }

    fn forget(&self) {
        self.forget_all();
    }
}
