//! What an engine keeps under names of its own, one record each: where it is, and pages of what there is.

use std::collections::BTreeSet;

use strongroom_proto::limits::PAGE_SIZE;

use crate::{
    barrier::{Address, BarrierError, Found, RecordKind, View},
    model::{Invalid, Path},
};

/// Records read at once.
const BATCH: usize = 100;

/// Where the record of `path` is. `what` it is, as in "a key": for whoever names none.
pub(super) fn address(kind: RecordKind, path: &Path, what: &str) -> Result<Address, Invalid> {
    let name = path.within_mount();
    if name.is_empty() {
        return Err(Invalid::new("path", format!("{path} names no {what}; expected {path}/NAME")));
    }
    Ok(Address { kind, folder: Box::default(), name: name.into(), part: 0 })
}

/// Looks at all records of the kind, in no order that means anything.
pub(super) async fn each(
    view: &View,
    kind: RecordKind,
    mut look: impl FnMut(Found) -> Result<(), BarrierError>,
) -> Result<(), BarrierError> {
    let mut cursor = None;
    loop {
        let found = view.scan(kind, "", cursor.as_ref(), BATCH).await?;
        let Some(last) = found.last() else { return Ok(()) };
        cursor = Some(last.cursor.clone());
        found.into_iter().try_for_each(&mut look)?;
    }
}

/// One page of the paths below `folder` that the caller may see, sorted, and the last of them if there are more. Names in
/// the store are hashed, so every page looks at all records of the kind.
pub(super) async fn page(
    view: &View,
    kind: RecordKind,
    folder: &Path,
    after: Option<&str>,
    sees: impl Fn(&Path) -> bool,
) -> Result<(Vec<Path>, Option<String>), BarrierError> {
    let within = format!("{folder}/");
    let mut paths = BTreeSet::new();
    each(view, kind, |found| {
        let path = Path::parse(&format!("{}/{}", folder.mount(), found.name)).ok();
        paths.extend(path.filter(|path| {
            path.as_str().starts_with(&within)
                && after.is_none_or(|after| path.as_str() > after)
                && sees(path)
        }));
        Ok(())
    })
    .await?;
    let size = usize::try_from(PAGE_SIZE).unwrap_or(usize::MAX);
    let more = paths.len() > size;
    let page: Vec<Path> = paths.into_iter().take(size).collect();
    let next = page.last().filter(|_| more).map(ToString::to_string);
    Ok((page, next))
}
