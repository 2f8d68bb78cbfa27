//! What a table does to the packet filter, step by step.

use std::{collections::VecDeque, sync::Arc, thread};

use tokio::sync::oneshot;
use troupe_net::iptables::{Family, IpSets, Iptables, IptablesError, Observed, Patch};

use super::{
    layout::{Layout, Probe},
    ledger::Ledger,
    queue::MOST_STEPS,
};

/// From how many owners on the whole table is compared on a thread of its own.
const LARGE: usize = 200;
/// And from how many bytes of what the kernel has.
const LARGE_TEXT: usize = 1 << 20;

/// What a table writes to.
#[derive(Clone)]
pub struct Backend {
    pub iptables: Arc<dyn Iptables>,
    pub sets: Option<Arc<dyn IpSets>>,
    pub family: Family,
}

impl Backend {
    /// Sets are there before rules refer to them, and lose entries when the rules are in.
    pub async fn apply(&self, patch: &Patch) -> Result<(), IptablesError> {
        let sets = self.sets.as_ref().filter(|_| patch.has_sets());
        if let Some(sets) = sets {
            let text = patch.sets_before(self.family);
            if !text.is_empty() {
                sets.restore_sets(text).await?;
            }
        }
        let text = patch.to_restore();
        if !text.is_empty() {
            self.iptables.restore(text).await?;
        }
        let Some(sets) = sets else { return Ok(()) };
        let text = patch.sets_after();
        if !text.is_empty() {
            sets.restore_sets(text).await?;
        }
        if !patch.destroy_sets.is_empty()
            && let Err(error) = sets.destroy_sets(patch.destroy_sets.iter().cloned().collect()).await
        {
            // Nothing refers to it any more; the next whole comparison tries again.
            tracing::warn!(%error, "a set of addresses stays");
        }
        Ok(())
    }

    /// Compares everything that should stand with what the kernel has, and applies the difference, or the first and most urgent part of it.
    /// Gives how many steps that took, and what is left to do.
    pub async fn reconcile<L: Layout>(&self, ledger: Ledger<L>) -> Result<(usize, VecDeque<Patch>), IptablesError> {
        let large = ledger.len() > LARGE;
        let mut texts = Vec::new();
        for table in L::TABLES {
            texts.push(self.iptables.save(*table).await?);
        }
        let sets = match &self.sets {
            Some(sets) => sets.save_sets().await?,
            None => String::new(),
        };
        let large = large || texts.iter().chain([&sets]).map(String::len).sum::<usize>() > LARGE_TEXT;
        let compare = move || {
            let mut observed = Observed::default();
            texts.iter().for_each(|text| observed.read(text));
            observed.read_sets(&sets);
            let mut pieces = ledger.reconcile_in_pieces(&observed, MOST_STEPS);
            (pieces.pop_front().unwrap_or_default(), pieces)
        };
        let (first, rest) = if large { on_a_thread(compare).await? } else { compare() };
        self.apply(&first).await?;
        Ok((first.size(), rest))
    }

    /// Whether all that is probed for stands.
    pub async fn stands(&self, probes: &[Probe]) -> Result<bool, IptablesError> {
        for probe in probes {
            let stands = match probe {
                Probe::Chain(id) => self.iptables.chain_exists(id.table, &id.name).await?,
                Probe::Rule(id, rule) => self.iptables.rule_exists(id.table, &id.name, rule).await?,
            };
            if !stands {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

/// Works on a thread that ends with it. The allocator gives back what such a thread took and others free; of one that waits for more work it
/// keeps that, and this may be many megabytes.
async fn on_a_thread<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, IptablesError> {
    let (tell, told) = oneshot::channel();
    // Who asked may be gone: then nobody wants it.
    let spawned = thread::Builder::new().name("compare-rules".into()).spawn(move || drop(tell.send(work())));
    spawned.map_err(|_| IptablesError::Worker)?;
    told.await.map_err(|_| IptablesError::Worker)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn work_on_a_thread_is_told_and_a_panic_there_is_an_error() {
        assert_eq!(on_a_thread(|| 7).await.expect("works"), 7);
        let broken = on_a_thread(|| -> u8 { panic!("on purpose") }).await;
        assert!(matches!(broken, Err(IptablesError::Worker)), "{broken:?}");
    }
}
