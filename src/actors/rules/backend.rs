//! What a table does to the packet filter, step by step.

use std::{collections::VecDeque, sync::Arc, thread};

use tokio::sync::oneshot;
use troupe_net::iptables::{Family, IpSets, Iptables, IptablesError, Observed, Patch};

use super::{
    layout::{Layout, Probe, Watch},
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

/// What the packet filter tells of itself without being read: while it is the same, nobody has changed anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sight {
    generation: u64,
    sets: Option<u64>,
}

/// What a look at the packet filter found.
#[derive(Debug, PartialEq, Eq)]
pub enum Look {
    /// Nothing is missing, as far as is looked for; what the packet filter told of itself, if it did.
    Right(Option<Sight>),
    /// Only a whole comparison tells.
    Unknown,
    /// Something is not there that should be.
    Missing,
}

impl Backend {
    /// What the packet filter tells of itself, if it does.
    pub async fn sight(&self) -> Option<Sight> {
        let generation = self.iptables.generation().await?;
        let sets = match &self.sets {
            Some(sets) => Some(sets.fingerprint(None).await?),
            None => None,
        };
        Some(Sight { generation, sets })
    }

    /// Looks whether what should stand does. `right` is what the packet filter told of itself when it did.
    pub async fn look(&self, watch: &Watch, right: Option<Sight>) -> Result<Look, IptablesError> {
        // Asked for before anything else: what is changed meanwhile is looked at next time.
        let sight = self.sight().await;
        if sight.is_some() && sight == right {
            return Ok(Look::Right(sight));
        }
        let Watch::Probes(probes) = watch else { return Ok(Look::Unknown) };
        Ok(if self.stands(probes).await? { Look::Right(sight) } else { Look::Missing })
    }

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
    async fn stands(&self, probes: &[Probe]) -> Result<bool, IptablesError> {
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
    use troupe_net::iptables::{ChainId, FakeIptables, Table};

    use super::*;

    #[tokio::test]
    async fn it_is_looked_at_again_when_somebody_has_changed_something() {
        let fake = Arc::new(FakeIptables::default());
        let backend = Backend { iptables: fake.clone(), sets: Some(fake.clone()), family: Family::V4 };
        let right = backend.sight().await;
        assert!(right.is_some());
        assert_eq!(backend.look(&Watch::Whole, None).await.expect("looks"), Look::Unknown);
        assert_eq!(backend.look(&Watch::Whole, right).await.expect("looks"), Look::Right(right));
        fake.restore_sets("create S hash:net\nadd S 10.0.0.1\n".into()).await.expect("takes sets");
        assert_eq!(backend.look(&Watch::Whole, right).await.expect("looks"), Look::Unknown);
        let right = backend.sight().await;
        fake.flush();
        assert_eq!(backend.look(&Watch::Whole, right).await.expect("looks"), Look::Unknown);
    }

    #[tokio::test]
    async fn probes_are_asked_for_once_a_change() {
        let fake = Arc::new(FakeIptables::default());
        let backend = Backend { iptables: fake.clone(), sets: None, family: Family::V4 };
        let watch = Watch::Probes(vec![Probe::Chain(ChainId::new(Table::Nat, "A"))]);
        assert_eq!(backend.look(&watch, None).await.expect("looks"), Look::Missing);
        fake.restore("*nat\n:A - [0:0]\nCOMMIT\n".into()).await.expect("writes");
        let Look::Right(right) = backend.look(&watch, None).await.expect("looks") else { panic!("it stands") };
        assert_eq!(right, backend.sight().await);
        assert_eq!(backend.look(&watch, right).await.expect("looks"), Look::Right(right));
        fake.flush();
        assert_eq!(backend.look(&watch, right).await.expect("looks"), Look::Missing);
        fake.hide_generation();
        assert_eq!(backend.look(&watch, right).await.expect("looks"), Look::Missing, "without that it is always asked for");
    }

    #[tokio::test]
    async fn work_on_a_thread_is_told_and_a_panic_there_is_an_error() {
        assert_eq!(on_a_thread(|| 7).await.expect("works"), 7);
        let broken = on_a_thread(|| -> u8 { panic!("on purpose") }).await;
        assert!(matches!(broken, Err(IptablesError::Worker)), "{broken:?}");
    }
}
