//! VolumeBinding: a pod runs where its volumes are, or where they can be bound or made.

use std::{sync::Arc, time::Duration};

use k8s_openapi::api::core::v1::{Node, Pod};
use troupe_api::meta::ObjectKey;
use troupe_api_client::Client;

use super::node_resources::{ShapePoint, broken_line, percent};
use crate::scheduler::{
    framework::{ClusterChange, Event, NodeScorer, Plugin, Point, PreFilter, Refusal, Rejection, Writing},
    node_info::NodeInfo,
    pod_info::PodInfo,
    snapshot::Snapshot,
    volumes::{
        PodVolumes, StorageCaches, bind,
        choose::{Asked, has_claims},
        pod_key,
    },
};

/// See the module.
pub struct VolumeBinding {
    pub storage: StorageCaches,
    /// How long volumes may take (`bindTimeoutSeconds`).
    pub patience: Duration,
    /// How nodes score by the part of their storage that is used; without it they score nothing.
    pub shape: Option<Vec<ShapePoint>>,
}

impl VolumeBinding {
    pub const POINTS: &[Point] = &[Point::PreFilter, Point::Filter, Point::PreScore, Point::Score, Point::Reserve, Point::PreBind];
}

impl Plugin for VolumeBinding {
    fn name(&self) -> &'static str {
        "VolumeBinding"
    }

    fn points(&self) -> &'static [Point] {
        Self::POINTS
    }

    fn pre_filter<'a>(&'a self, pod: &'a PodInfo, _cluster: &'a Snapshot) -> PreFilter<'a> {
        if !has_claims(&pod.pod) {
            return PreFilter::Skip;
        }
        let volumes = match PodVolumes::of(&pod.pod, &self.storage) {
            Ok(volumes) => volumes,
            Err(why) => return PreFilter::Reject(Rejection::unresolvable(why)),
        };
        let refused =
            |reasons: Vec<&'static str>| Rejection { reasons: reasons.into_iter().map(Into::into).collect(), unresolvable: true, is_error: false };
        PreFilter::by_node_alone(move |node| volumes.on_node(&node.node).map(drop).map_err(refused))
    }

    fn pre_score<'a>(&'a self, pod: &'a PodInfo, _cluster: &'a Snapshot, _feasible: &[&'a NodeInfo]) -> Option<Box<dyn NodeScorer + 'a>> {
        let shape = self.shape.as_deref().filter(|_| has_claims(&pod.pod))?;
        let volumes = PodVolumes::of(&pod.pod, &self.storage).ok()?;
        Some(Box::new(CapacityScorer { shape, volumes }))
    }

    /// Chooses for good. Others see from now on that these volumes are taken.
    fn reserve(&self, pod: &PodInfo, node: &Arc<Node>) -> Result<(), Refusal> {
        if !has_claims(&pod.pod) {
            return Ok(());
        }
        let volumes = PodVolumes::of(&pod.pod, &self.storage).map_err(Refusal::Failed)?;
        let choice = volumes.on_node(node).map_err(|reasons| Refusal::Failed(reasons.join(", ")))?;
        if !choice.is_empty() {
            self.storage.assumed.assume(pod.key().clone(), choice, node.metadata.name.as_deref().unwrap_or_default());
        }
        Ok(())
    }

    fn unreserve(&self, pod: &ObjectKey) {
        self.storage.assumed.forget(pod);
    }

    fn pre_bind(&self, pod: &Arc<Pod>, node: &Arc<Node>, client: &Client) -> Option<Writing> {
        let choice = self.storage.assumed.choice(&pod_key(pod))?;
        let (pod, node, client, storage, patience) = (pod.clone(), node.clone(), client.clone(), self.storage.clone(), self.patience);
        Some(Box::pin(async move { bind::bind(&client, &storage, (&pod, &node), &choice, patience).await }))
    }

    fn events(&self) -> &'static [Event] {
        &[Event::NodeAdded, Event::NodeUpdated, Event::StorageChanged]
    }

    fn may_help(&self, _pod: &PodInfo, change: &ClusterChange) -> bool {
        !change.leaves_labels()
    }
}

/// Scores nodes for one pod by what it would use of their storage.
pub struct CapacityScorer<'a> {
    pub shape: &'a [ShapePoint],
    pub volumes: PodVolumes,
}

impl NodeScorer for CapacityScorer<'_> {
    /// The mean over all classes, each of which counts the same.
    fn score(&self, node: &NodeInfo) -> i64 {
        let Ok(choice) = self.volumes.on_node(&node.node) else { return 0 };
        let asked = self.volumes.asked(&node.node, &choice);
        let scores = asked.values().map(|asked| broken_line(self.shape, utilization(*asked)));
        let (sum, count) = scores.fold((0, 0), |(sum, count), score| (sum + score, count + 1));
        // Rounded.
        if count == 0 { 0 } else { (2 * sum + count) / (2 * count) }
    }
}

/// In percent; what has no room is full.
fn utilization(asked: Asked) -> i64 {
    let Asked { requested, capacity } = asked;
    if capacity <= 0 || requested > capacity { 100 } else { percent(requested, capacity) }
}
