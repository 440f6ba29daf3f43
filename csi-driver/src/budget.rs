//! How much of the node's memory secrets may take. The pages of a tmpfs count for whoever wrote them, which is this driver: a
//! tenant with many large volumes would have it killed, and with it the mounts of all others. So there is a limit for the node,
//! for a namespace and for a pod, and who asks for more is told.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use strongroom_client::volume::File;

use crate::{
    limits,
    volume::{Pod, VolumeId},
};

/// What a file of any size takes at least, and a multiple of which it takes.
const PAGE: u64 = 4096;
const MIB: u64 = 1 << 20;

/// See the module.
pub struct Budget {
    /// What all volumes of the node may take.
    node: u64,
    taken: Mutex<HashMap<VolumeId, Share>>,
}

/// What one volume takes.
struct Share {
    namespace: String,
    pod: String,
    bytes: u64,
}

/// There is not so much for it.
#[derive(Debug, thiserror::Error)]
#[error(
    "{whose} would take {} MiB of this node's memory for secrets, the limit is {} MiB: mount less, or unmount something",
    wanted.div_ceil(MIB), limit / MIB
)]
pub struct OverBudget {
    /// `the pod`, `the namespace …` or `the node`.
    whose: String,
    wanted: u64,
    limit: u64,
}

/// What files take.
pub fn size<'a>(files: impl IntoIterator<Item = &'a File>) -> u64 {
    let pages = |file: &File| (file.content.expose().len() as u64).next_multiple_of(PAGE).max(PAGE);
    files.into_iter().map(pages).fold(0, u64::saturating_add)
}

impl Budget {
    /// So much for all volumes of the node, in bytes.
    pub fn new(node: u64) -> Self {
        Self { node, taken: Mutex::default() }
    }

    /// Lets a volume that is to be mounted have `bytes`.
    ///
    /// # Errors
    /// The pod, the namespace or the node has not so much left.
    pub fn mount(&self, volume: &VolumeId, pod: &Pod, bytes: u64) -> Result<(), OverBudget> {
        self.take(volume, pod, bytes, 0)
    }

    /// Lets a mounted volume have `bytes`, new content beside the old one. For that there is some room that no mount takes, so
    /// that a full node can rotate, a few volumes at a time.
    ///
    /// # Errors
    /// As for a mount.
    pub fn rotate(&self, volume: &VolumeId, pod: &Pod, bytes: u64) -> Result<(), OverBudget> {
        self.take(volume, pod, bytes, limits::ROTATION_BYTES)
    }

    /// A volume takes `bytes` now, whether there is so much or not.
    pub fn settle(&self, volume: &VolumeId, pod: &Pod, bytes: u64) {
        let (namespace, pod) = (pod.namespace.clone(), pod.uid.clone());
        self.taken().insert(volume.clone(), Share { namespace, pod, bytes });
    }

    /// A volume is gone.
    pub fn free(&self, volume: &VolumeId) {
        self.taken().remove(volume);
    }

    fn take(&self, volume: &VolumeId, pod: &Pod, bytes: u64, room: u64) -> Result<(), OverBudget> {
        let mut taken = self.taken();
        let (mut of_pod, mut of_namespace, mut of_node) = (bytes, bytes, bytes);
        for (_, share) in taken.iter().filter(|(id, _)| *id != volume) {
            of_node = of_node.saturating_add(share.bytes);
            if share.namespace == pod.namespace {
                of_namespace = of_namespace.saturating_add(share.bytes);
            }
            if share.pod == pod.uid {
                of_pod = of_pod.saturating_add(share.bytes);
            }
        }
        let check = |whose: String, wanted: u64, limit: u64| {
            let limit = limit.saturating_add(room);
            if wanted > limit { Err(OverBudget { whose, wanted, limit }) } else { Ok(()) }
        };
        check("the pod".into(), of_pod, limits::POD_BYTES.min(self.node))?;
        check(format!("the namespace {}", pod.namespace), of_namespace, self.node / 2)?;
        check("the node".into(), of_node, self.node)?;
        let (namespace, pod) = (pod.namespace.clone(), pod.uid.clone());
        taken.insert(volume.clone(), Share { namespace, pod, bytes });
        Ok(())
    }

    /// Nothing panics while it holds the lock.
    fn taken(&self) -> MutexGuard<'_, HashMap<VolumeId, Share>> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod(namespace: &str, uid: &str) -> Pod {
        Pod {
            namespace: namespace.into(),
            name: "web".into(),
            uid: uid.into(),
            service_account: "web".into(),
        }
    }

    fn id(text: &str) -> VolumeId {
        VolumeId::parse(text).unwrap()
    }

    #[test]
    fn nobody_takes_the_node() {
        let budget = Budget::new(64 * MIB);
        let refused = |taken: Result<(), OverBudget>| taken.unwrap_err().to_string();
        for n in 0..4 {
            budget.mount(&id(&format!("a{n}")), &pod("a", "1"), 4 * MIB).unwrap();
        }
        let one_more = refused(budget.mount(&id("a4"), &pod("a", "1"), 1));
        assert!(one_more.starts_with("the pod would take 17 MiB"), "{one_more}");
        budget.mount(&id("a5"), &pod("a", "2"), 16 * MIB).unwrap();
        let one_more = refused(budget.mount(&id("a6"), &pod("a", "3"), PAGE));
        assert!(one_more.starts_with("the namespace a would take 33 MiB"), "{one_more}");
        // Another namespace has its half, and then the node is full.
        for n in 0..2 {
            budget.mount(&id(&format!("b{n}")), &pod("b", &format!("b{n}")), 16 * MIB).unwrap();
        }
        let one_more = refused(budget.mount(&id("c"), &pod("c", "c"), PAGE));
        assert!(one_more.starts_with("the node would take 65 MiB"), "{one_more}");
        // New content beside the old one has room of its own.
        budget.rotate(&id("a0"), &pod("a", "1"), 8 * MIB).unwrap();
        budget.settle(&id("a0"), &pod("a", "1"), 4 * MIB);
        budget.free(&id("b0"));
        budget.mount(&id("c"), &pod("c", "c"), PAGE).unwrap();
    }
}
