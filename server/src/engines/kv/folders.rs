//! Folders come with their first name and go with their last, without locks.
//!
//! A folder has a record in its parent, `open` or `closing`; the mount itself has none. Two things always hold: the folder
//! of an existing name or folder exists, and a folder is removed only if it is empty. Why, whoever else is writing:
//!
//! - Who adds a name to a folder does so on condition that the folder's record is as it was read and open (making it open
//!   if need be), or creates the record and continues with the parent in the same way.
//! - Who removes the last name marks the folder `closing` in the same batch, and those above it that hold nothing else.
//!   This needs no condition on the folders: the batch has one on the name, and as long as that exists they do.
//! - Only then, when that is durable, the folder is searched. A name added before the mark is found. A name added after it
//!   has changed the record, so the removal, which is on condition of the mark's revision, does not happen.
//!
//! A crash in between leaves `closing` folders. Lists show one only if something is in it; the next one to add or to
//! remove a name there opens it again or removes it. (If two remove the last two names at the same moment, neither sees
//! that it is the last. Both look again afterwards; should the server crash before that, an empty folder stays in sight
//! until a name has come and gone there.)

use super::{
    Shelf,
    record::{FOLDER, SECRET},
};
use crate::{
    barrier::{Address, BarrierError, Changes},
    model::SecretBytes,
    storage::Condition,
};

const FORMAT: u8 = 1;
const OPEN: [u8; 2] = [FORMAT, 0];
const CLOSING: [u8; 2] = [FORMAT, 1];

/// How often a removal that lost to another write looks again. Giving up is harmless: see the module.
const ATTEMPTS: usize = 16;
/// Folders looked at with one read; their records are tiny.
const SCAN: usize = 256;

impl Shelf {
    /// Adds to `changes` what must hold and what must be made for a new name in `folder`.
    pub(super) async fn enter(&self, folder: &str, changes: &mut Changes) -> Result<(), BarrierError> {
        let mut here = folder;
        while !here.is_empty() {
            let address = address(here);
            let Some(entry) = self.view.get(&address).await? else {
                changes.conditions.push((address.clone(), Condition::Absent));
                changes.puts.push((address, SecretBytes::from(&OPEN[..])));
                here = parent(here);
                continue;
            };
            changes.conditions.push((address.clone(), Condition::At(entry.revision)));
            if !is_closing(&entry.content) {
                // It exists, so those above it do, and will as long as it does.
                return Ok(());
            }
            changes.puts.push((address, SecretBytes::from(&OPEN[..])));
            here = parent(here);
        }
        Ok(())
    }

    /// Adds to `changes`, which remove a name from `folder`, the mark that the folder may be empty after them; and so for
    /// each above it that holds nothing else.
    pub(super) async fn leave(&self, folder: &str, changes: &mut Changes) -> Result<(), BarrierError> {
        let mut here = folder;
        while !here.is_empty() && self.count_to_two(here).await? < 2 {
            changes.puts.push((address(here), SecretBytes::from(&CLOSING[..])));
            here = parent(here);
        }
        Ok(())
    }

    /// Removes `folder` if it is empty, then its parent if that is, and so on. What is marked but not empty is opened again.
    pub(super) async fn close(&self, folder: &str) -> Result<(), BarrierError> {
        let mut here = folder;
        while !here.is_empty() && self.close_one(here).await? {
            here = parent(here);
        }
        Ok(())
    }

    /// Whether there is a secret in or below `folder`. An open folder has one; one that is closing must be searched.
    pub(super) async fn is_inhabited(&self, folder: &str) -> Result<bool, BarrierError> {
        let mut closing: Vec<String> = vec![folder.to_owned()];
        while let Some(here) = closing.pop() {
            if !self.view.scan(SECRET, &here, None, 1).await?.is_empty() {
                return Ok(true);
            }
            let mut after = None;
            loop {
                let page = self.view.scan(FOLDER, &here, after.as_ref(), SCAN).await?;
                if page.iter().any(|found| !is_closing(&found.entry.content)) {
                    return Ok(true);
                }
                closing.extend(page.iter().map(|found| format!("{here}/{}", found.name)));
                if page.len() < SCAN {
                    break;
                }
                after = page.into_iter().last().map(|found| found.cursor);
            }
        }
        Ok(false)
    }

    /// Whether it was removed or opened again, so that its parent is to be looked at.
    async fn close_one(&self, folder: &str) -> Result<bool, BarrierError> {
        let address = address(folder);
        for _ in 0..ATTEMPTS {
            // The record first, then the search: see the module.
            let Some(entry) = self.view.get(&address).await? else { return Ok(false) };
            let closing = is_closing(&entry.content);
            let occupied = self.count_to_two(folder).await? > 0;
            if occupied && !closing {
                return Ok(false);
            }
            let mut changes = Changes::default();
            changes.conditions.push((address.clone(), Condition::At(entry.revision)));
            if closing && !occupied {
                changes.deletes.push(address.clone());
                self.leave(parent(folder), &mut changes).await?;
            } else {
                let state = if occupied { OPEN } else { CLOSING };
                changes.puts.push((address.clone(), SecretBytes::from(&state[..])));
            }
            match self.commit(changes).await {
                Ok(_) if closing => return Ok(true),
                Ok(_) | Err(BarrierError::Conflict) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(false)
    }

    /// How many names and folders there are in `folder`; "two" means two or more.
    async fn count_to_two(&self, folder: &str) -> Result<usize, BarrierError> {
        let secrets = self.view.scan(SECRET, folder, None, 2).await?.len();
        if secrets > 1 {
            return Ok(secrets);
        }
        Ok(secrets + self.view.scan(FOLDER, folder, None, 2 - secrets).await?.len())
    }
}

/// Whether a folder's record says that it may be empty.
pub(super) fn is_closing(content: &SecretBytes) -> bool {
    content.expose() == CLOSING
}

pub(super) fn address(folder: &str) -> Address {
    let (parent, name) = folder.rsplit_once('/').unwrap_or(("", folder));
    Address { kind: FOLDER, folder: parent.into(), name: name.into(), part: 0 }
}

fn parent(folder: &str) -> &str {
    folder.rsplit_once('/').map_or("", |(parent, _)| parent)
}
