//! The service proxy's rules in a rule table.

use std::time::Duration;

use troupe_api::meta::ObjectKey;
use troupe_net::iptables::{ChainId, End, Family, Line, Table};

use super::{
    metrics,
    names::{self, SERVICES},
};
use crate::rules::{self, Layout, Probe, layout::Watch};

/// Rules by Service, and those for what no Service claims (`ranges`).
#[derive(Debug)]
pub struct ServiceLayout;

/// The proxy's table.
pub type ServiceTable = rules::RuleTable<ServiceLayout>;
/// What all Services contribute.
pub type Ledger = rules::Ledger<ServiceLayout>;
/// Changes by Service.
pub type Changes = rules::Changes<ObjectKey>;
/// Services whose changes wait.
pub type Queue = rules::queue::Queue<ServiceLayout>;

impl Layout for ServiceLayout {
    type Owner = ObjectKey;

    const RULES: &'static str = "service rules";
    const OWNERS: &'static str = "services";
    const TABLES: &'static [Table] = &[Table::Filter, Table::Nat];
    const SETS: bool = false;
    const CHECK: Duration = Duration::from_secs(30);
    const PATIENCE: Option<Duration> = Some(Duration::from_secs(10));

    fn is_ours(chain: &ChainId) -> bool {
        names::is_ours(&chain.name)
    }

    fn dispatch(chain: &ChainId) -> Option<Line> {
        let range = names::shard_range(&chain.name)?;
        Some(Line { chain: ChainId::new(chain.table, SERVICES), rule: format!("-d {range} -j {}", chain.name), end: End::Head })
    }

    fn watch() -> Watch {
        let jump = "-m comment --comment \"kubernetes service portals\" -j KUBE-SERVICES";
        Watch::Probes(vec![
            Probe::Rule(ChainId::new(Table::Nat, "PREROUTING"), jump.to_owned()),
            Probe::Chain(ChainId::new(Table::Nat, names::MARK_MASQ)),
            Probe::Chain(ChainId::new(Table::Filter, names::FORWARD)),
        ])
    }

    fn queued(family: Family, waiting: usize) {
        metrics::queued(family, waiting);
    }

    fn taken(_: Family, left: usize) {
        metrics::taken(left);
    }

    fn synced(family: Family, succeeded: bool, whole: bool, took: Duration) {
        metrics::synced(family, succeeded, whole, took);
    }
}
