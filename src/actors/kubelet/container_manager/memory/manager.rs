//! The memory of this node's containers: in memory for whoever asks, on disk before anything starts with it.

use std::{path::Path, sync::Arc};

use super::{
    NONE, STATIC,
    policy::{MemoryPolicy, release},
    state::{MemoryState, decode, encode},
};
use crate::kubelet::{
    container_manager::{
        kept::{Kept, read},
        refusal::Refusal,
    },
    cpu_set::CpuSet,
};

const FILE: &str = "memory_manager_state";

/// See the module.
#[derive(Debug)]
pub struct MemoryManager {
    pub policy: MemoryPolicy,
    kept: Kept<MemoryState>,
}

impl MemoryManager {
    /// Goes on where an earlier process ended. Blocking.
    ///
    /// # Errors
    /// When what that left is of another policy or does not fit the machine, or when it cannot be read or written.
    pub fn start(policy: MemoryPolicy, root: &Path) -> Result<Self, String> {
        let path = root.join(FILE);
        let state = match read(&path, |text| decode(STATIC, text)).map_err(|why| unusable(&path, &why))? {
            Some(kept) if !kept.nodes.is_empty() => {
                policy.check(&kept).map_err(|why| unusable(&path, &why))?;
                kept
            }
            _ => policy.initial(),
        };
        let kept = Kept::new(path, |state| encode(STATIC, state), state)?;
        Ok(MemoryManager { policy, kept })
    }

    /// Whether nobody has memory for himself since an earlier process gave some. Blocking.
    ///
    /// # Errors
    /// When the file of an earlier process is of another policy.
    pub fn check_none(root: &Path) -> Result<(), String> {
        let path = root.join(FILE);
        read(&path, |text| decode(NONE, text)).map(drop).map_err(|why| unusable(&path, &why))
    }

    /// Who has what.
    pub fn state(&self) -> Arc<MemoryState> {
        self.kept.get()
    }

    /// Changes that as a whole or, when that fails, not at all.
    ///
    /// # Errors
    /// Those of the change.
    pub fn change<T>(&self, change: impl FnOnce(&mut MemoryState) -> Result<T, Refusal>) -> Result<T, Refusal> {
        self.kept.change(change)
    }

    /// The NUMA nodes of a container's memory, as the kernel lists them; `None` for any.
    ///
    /// # Errors
    /// When what it has is not on disk.
    pub async fn place(&self, pod: &str, container: &str) -> Result<Option<String>, String> {
        self.kept.keep().await?;
        let state = self.state();
        let blocks = state.entries.get(pod).and_then(|of_pod| of_pod.get(container));
        let nodes = blocks.map(|blocks| blocks.iter().flat_map(|block| block.nodes.iter().copied()).collect::<CpuSet>());
        Ok(nodes.filter(|nodes| !nodes.is_empty()).map(|nodes| nodes.to_string()))
    }

    /// What pods have that nobody knows any more is free.
    pub fn retain(&self, is_known: impl Fn(&str) -> bool) {
        let state = self.state();
        let gone: Vec<&String> = state.entries.keys().filter(|pod| !is_known(pod)).collect();
        if gone.is_empty() {
            return;
        }
        let released = self.change(|state| {
            for pod in gone {
                release(state, pod);
            }
            Ok(())
        });
        // Nothing in it fails; the disk hears of it with the next change that anything starts with.
        drop(released);
    }

    /// A pod is gone.
    ///
    /// # Errors
    /// When that cannot be written.
    pub async fn release(&self, pod: &str) -> Result<(), String> {
        let released = self.change(|state| {
            release(state, pod);
            Ok(())
        });
        released.map_err(|refusal| refusal.message)?;
        self.kept.keep().await
    }
}

fn unusable(path: &Path, why: &str) -> String {
    let path = path.display().to_string();
    format!(
        "could not restore state from checkpoint: {why}, please drain this node and delete the memory manager checkpoint file {path:?} before \
         restarting Kubelet"
    )
}
