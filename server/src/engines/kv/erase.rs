//! Erasing all of it, for a mount whose data is destroyed. No request is in progress here then.

use super::{
    Shelf,
    folders::address,
    record::{FOLDER, SECRET, VERSION},
};
use crate::barrier::{Address, BarrierError, Changes, RecordKind};

/// Records of one batch.
const BATCH: usize = 100;

impl Shelf {
    /// Depth first: what is in a folder goes before the record by which it is found, so that after a crash all that is
    /// left is found again.
    pub(super) async fn erase(&self) -> Result<(), BarrierError> {
        let mut folders = vec![String::new()];
        while let Some(folder) = folders.last().cloned() {
            // Bytes before the record that names them.
            for kind in [VERSION, SECRET] {
                self.erase_records(kind, &folder).await?;
            }
            match self.view.scan(FOLDER, &folder, None, 1).await?.first() {
                Some(inner) if folder.is_empty() => folders.push(inner.name.to_string()),
                Some(inner) => folders.push(format!("{folder}/{}", inner.name)),
                None => {
                    folders.pop();
                    if !folder.is_empty() {
                        let deletes = vec![address(&folder)];
                        self.view.commit(Changes { deletes, urgent: true, ..Changes::default() }).await?;
                    }
                }
            }
        }
        Ok(())
    }

    async fn erase_records(&self, kind: RecordKind, folder: &str) -> Result<(), BarrierError> {
        loop {
            let page = self.view.scan(kind, folder, None, BATCH).await?;
            if page.is_empty() {
                return Ok(());
            }
            let address = |name, part| Address { kind, folder: folder.into(), name, part };
            let deletes = page.into_iter().map(|found| address(found.name, found.part)).collect();
            self.view.commit(Changes { deletes, urgent: true, ..Changes::default() }).await?;
        }
    }
}
