//! Erasing all of it, for a mount whose data is destroyed. No request is in progress here then.

use super::{
    Shelf,
    folders::address,
    record::{FOLDER, SECRET, VERSION},
};
use crate::barrier::{BarrierError, Changes};

impl Shelf {
    /// Depth first: what is in a folder goes before the record by which it is found, so that after a crash all that is
    /// left is found again.
    pub(super) async fn erase(&self) -> Result<(), BarrierError> {
        let mut folders = vec![String::new()];
        while let Some(folder) = folders.last().cloned() {
            // Bytes before the record that names them.
            for kind in [VERSION, SECRET] {
                self.view.erase(kind, &folder).await?;
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
}
