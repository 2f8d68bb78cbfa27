//! Rules that are looked after: read, compared and put back, again and again, at little cost while nobody touches the packet filter.

use super::{ChainId, Iptables, IptablesError, Observed, RuleSet, Table, stand};

/// Where the packet filter has more than so many bytes of rules it is read whole, which takes a core for seconds, in one of so many looks only.
const LARGE: usize = 1 << 20;
const LOOKS_A_READING: u32 = 20;

/// What earlier looks at one set of rules found.
#[derive(Debug, Default)]
pub struct Looks {
    /// How often it was not enough to ask whether anything has changed.
    counted: u32,
    /// The packet filter has, or had, very many rules.
    is_large: bool,
    /// These rules stood, and nothing else in their chains, when the packet filter had this generation.
    right: Option<(u64, RuleSet)>,
}

impl Looks {
    /// Brings these tables to `rules`, which are all that there shall be in chains that are `ours`.
    ///
    /// # Errors
    /// When the packet filter cannot be read or written.
    pub async fn keep(
        &mut self,
        iptables: &dyn Iptables,
        tables: &[Table],
        rules: &RuleSet,
        ours: impl Fn(&ChainId) -> bool,
    ) -> Result<(), IptablesError> {
        // Asked for before it is read: what is changed meanwhile is looked at next time.
        let generation = iptables.generation().await;
        if let (Some((at, stood)), Some(now)) = (&self.right, generation)
            && (*at, stood) == (now, rules)
        {
            return Ok(());
        }
        let asks_only = self.is_large && !self.counted.is_multiple_of(LOOKS_A_READING);
        self.counted = self.counted.wrapping_add(1);
        if asks_only && stand(iptables, rules).await? {
            return Ok(());
        }
        self.right = None;
        let (mut observed, mut read) = (Observed::default(), 0);
        for table in tables {
            let text = iptables.save(*table).await?;
            observed.read(&text);
            read += text.len();
        }
        self.is_large |= read > LARGE;
        let patch = rules.reconcile(&observed, ours);
        if patch.is_empty() {
            self.right = generation.map(|generation| (generation, rules.clone()));
            return Ok(());
        }
        iptables.restore(patch.to_restore()).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{iptables::FakeIptables, podnet};

    const TABLES: [Table; 2] = [Table::Filter, Table::Nat];

    fn rules() -> RuleSet {
        podnet::rules("10.244.0.0/16".parse().expect("a network"), "10.244.0.0/24".parse().expect("a network"), &[])
    }

    #[tokio::test]
    async fn flushed_rules_come_back_also_where_they_are_only_asked_for() {
        let (fake, rules) = (FakeIptables::default(), rules());
        for is_large in [false, true] {
            let mut looks = Looks { counted: 1, is_large, right: None };
            for _ in 0..2 {
                fake.flush();
                looks.keep(&fake, &TABLES, &rules, podnet::is_ours).await.expect("writes");
                assert!(stand(&fake, &rules).await.expect("tells"));
            }
            let before = fake.transactions().len();
            looks.keep(&fake, &TABLES, &rules, podnet::is_ours).await.expect("finds them");
            assert_eq!(fake.transactions().len(), before);
        }
    }

    #[tokio::test]
    async fn nothing_is_read_until_somebody_changes_something() {
        let (fake, mut looks) = (FakeIptables::default(), Looks::default());
        let mut keep = async |rules: &RuleSet| {
            let before = fake.reads();
            looks.keep(&fake, &TABLES, rules, podnet::is_ours).await.expect("keeps");
            fake.reads() - before
        };
        let (first, mut second) = (rules(), rules());
        assert_eq!(keep(&first).await, 2, "at the start");
        assert_eq!(keep(&first).await, 2, "what was written is looked at once");
        for _ in 0..3 {
            assert_eq!(keep(&first).await, 0);
        }
        second.push(Table::Filter, podnet::FORWARD, "-j RETURN");
        assert_eq!(keep(&second).await, 2, "other rules are wanted");
        assert_eq!(keep(&second).await, 2);
        assert_eq!(keep(&second).await, 0);
        fake.flush();
        assert_eq!(keep(&second).await, 2);
        assert!(stand(&fake, &second).await.expect("tells"));
    }

    #[tokio::test]
    async fn a_packet_filter_that_tells_no_generation_is_read_each_time() {
        let (fake, mut looks, rules) = (FakeIptables::default(), Looks::default(), rules());
        fake.hide_generation();
        for _ in 0..3 {
            let before = fake.reads();
            looks.keep(&fake, &TABLES, &rules, podnet::is_ours).await.expect("keeps");
            assert_eq!(fake.reads() - before, 2);
        }
    }
}
