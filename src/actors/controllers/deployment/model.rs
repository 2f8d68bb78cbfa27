//! The ReplicaSets of a Deployment, their sizes, and the bounds of a rolling update. Pure.

use std::sync::Arc;

use k8s_openapi::{
    api::apps::v1::{Deployment, ReplicaSet},
    apimachinery::pkg::util::intstr::IntOrString,
};
use troupe_api::resources::int_or_string::{Rounding, scaled};

use crate::controllers::deployment::template::same_template;

/// The ReplicaSets of a Deployment: that of its current template, and the older ones.
#[derive(Clone, Debug)]
pub struct Sets {
    pub new: Option<Arc<ReplicaSet>>,
    pub old: Vec<Arc<ReplicaSet>>,
}

impl Sets {
    /// The oldest set whose template is the Deployment's is the new one.
    pub(super) fn of(deployment: &Deployment, owned: &[Arc<ReplicaSet>]) -> Self {
        let template = deployment.spec.as_ref().map(|spec| &spec.template);
        let is_new = |set: &&Arc<ReplicaSet>| {
            let own = set.spec.as_ref().and_then(|spec| spec.template.as_ref());
            matches!((own, template), (Some(own), Some(wanted)) if same_template(own, wanted))
        };
        let new = owned.iter().find(is_new).cloned();
        let old = owned.iter().filter(|set| new.as_ref().is_none_or(|new| !Arc::ptr_eq(new, set))).cloned().collect();
        Sets { new, old }
    }

    pub fn all(&self) -> impl Iterator<Item = &Arc<ReplicaSet>> {
        self.new.iter().chain(&self.old)
    }
}

/// `spec.replicas` of a ReplicaSet.
pub fn wanted(set: &ReplicaSet) -> i32 {
    set.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(1)
}

/// `status.availableReplicas` of a ReplicaSet.
pub fn available(set: &ReplicaSet) -> i32 {
    set.status.as_ref().and_then(|status| status.available_replicas).unwrap_or(0)
}

/// Available pods of a ReplicaSet that stay when it has its size. Its status may be older than that size, and count pods
/// which are about to go: nobody else may rely on them.
pub fn lasting(set: &ReplicaSet) -> i32 {
    available(set).min(wanted(set))
}

/// `status.replicas` of a ReplicaSet.
pub fn existing(set: &ReplicaSet) -> i32 {
    set.status.as_ref().map_or(0, |status| status.replicas)
}

pub(super) fn replicas(deployment: &Deployment) -> i32 {
    deployment.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(1)
}

/// Its old pods go before new ones come.
pub fn is_recreated(deployment: &Deployment) -> bool {
    let strategy = deployment.spec.as_ref().and_then(|spec| spec.strategy.as_ref());
    strategy.and_then(|strategy| strategy.type_.as_deref()) == Some("Recreate")
}

fn bounds(deployment: &Deployment) -> (i32, i32) {
    if is_recreated(deployment) {
        return (0, 0);
    }
    let strategy = deployment.spec.as_ref().and_then(|spec| spec.strategy.as_ref());
    let rolling = strategy.and_then(|strategy| strategy.rolling_update.as_ref());
    let total = replicas(deployment);
    let surge = share(rolling.and_then(|rolling| rolling.max_surge.as_ref()), total, Rounding::Up);
    let unavailable = share(rolling.and_then(|rolling| rolling.max_unavailable.as_ref()), total, Rounding::Down);
    // Both 0 would never move; validation forbids it, but percentages of few replicas round down to it.
    if surge == 0 && unavailable == 0 { (0, 1) } else { (surge, unavailable.min(total)) }
}

/// A number as it is, a percentage of `total` rounded up or down; 25% where nothing is said.
fn share(value: Option<&IntOrString>, total: i32, rounding: Rounding) -> i32 {
    let quarter = IntOrString::String("25%".into());
    scaled(value.unwrap_or(&quarter), total, rounding).unwrap_or(0)
}

/// The sum of what `count` says of sets. Their numbers are their users': the sum stops at the largest there is.
pub fn sum<'a>(sets: impl IntoIterator<Item = &'a Arc<ReplicaSet>>, count: impl Fn(&ReplicaSet) -> i32) -> i32 {
    sets.into_iter().fold(0, |sum: i32, set| sum.saturating_add(count(set)))
}

/// How many pods beyond its size a Deployment may have while rolling.
pub fn max_surge(deployment: &Deployment) -> i32 {
    bounds(deployment).0
}

/// How many pods may be unavailable while rolling.
pub fn max_unavailable(deployment: &Deployment) -> i32 {
    bounds(deployment).1
}
