//! What nodes use just now, as `metrics.k8s.io` tells it, whoever serves that, and what their tasks waited for, where our own API server serves
//! it: the figures of the plugin `NodeInterference`.
//!
//! They are asked for while pods are being scheduled and the cluster is not too large for that, never in an attempt's way. Figures that are
//! old count for nothing.

mod fetch;
#[cfg(test)]
mod tests;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use parking_lot::RwLock;
use troupe_api::node_pressure::NodePressure;

pub use self::fetch::fetch;

/// Between two questions.
pub const PERIOD: Duration = Duration::from_secs(15);
/// Figures count for so long.
pub const FRESH: Duration = Duration::from_secs(60);
/// Clusters with more nodes than this are not asked: each question makes every kubelet count.
pub const MOST_NODES: usize = 500;

/// What a node uses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Thousandths of a core.
    pub cpu: i64,
    /// Bytes.
    pub memory: i64,
    pub pressure: NodePressure,
}

/// By node.
pub type Figures = BTreeMap<String, Usage>;

/// The figures of now. The unit puts them in, plugins read them.
#[derive(Clone, Default)]
pub struct NodeUsage {
    figures: Arc<RwLock<Arc<Figures>>>,
}

impl NodeUsage {
    pub fn set(&self, figures: Figures) {
        *self.figures.write() = Arc::new(figures);
    }

    pub fn figures(&self) -> Arc<Figures> {
        self.figures.read().clone()
    }
}
