//! ImageLocality: nodes that have a pod's images score higher.

use std::collections::HashMap;

use super::super::{
    framework::{MAX_SCORE, NodeScorer, Plugin, Point},
    node_info::NodeInfo,
    pod_info::PodInfo,
    snapshot::Snapshot,
};

const MB: i64 = 1024 * 1024;
/// Images together smaller than this count nothing.
const LEAST: i64 = 23 * MB;
/// So much of each container's images counts.
const MOST: i64 = 1000 * MB;

/// See the module.
pub struct ImageLocality;

impl Plugin for ImageLocality {
    fn name(&self) -> &'static str {
        "ImageLocality"
    }

    fn points(&self) -> &'static [Point] {
        &[Point::Score]
    }

    fn pre_score<'a>(&'a self, pod: &'a PodInfo, cluster: &'a Snapshot, _feasible: &[&'a NodeInfo]) -> Option<Box<dyn NodeScorer + 'a>> {
        let spec = pod.pod.spec.as_ref()?;
        let containers = spec.init_containers.iter().flatten().chain(&spec.containers);
        let number = containers.clone().count();
        let volumes = spec.volumes.iter().flatten().filter_map(|volume| volume.image.as_ref()?.reference.as_deref());
        let images: Vec<String> = containers.filter_map(|container| container.image.as_deref()).chain(volumes).map(normalized).collect();
        // An image that every node pulls when it is needed must not draw all pods to the one that has it.
        let share = |image: &String| cluster.nodes_with_image(image) as f64 / cluster.nodes().len() as f64;
        let shares: HashMap<String, f64> = images.iter().map(|image| (image.clone(), share(image))).filter(|(_, share)| *share > 0.0).collect();
        if shares.is_empty() || number == 0 {
            return None;
        }
        let images = images.into_iter().filter_map(|image| shares.get(&image).map(|share| (image, *share))).collect();
        Some(Box::new(Images { images, most: MOST * i64::try_from(number).unwrap_or(1) }))
    }
}

/// Images that some node has, with the share of nodes that have them.
struct Images {
    images: Vec<(String, f64)>,
    most: i64,
}

impl NodeScorer for Images {
    fn score(&self, node: &NodeInfo) -> i64 {
        let sizes = self.images.iter().filter_map(|(image, share)| Some((*node.images.get(image.as_str())? as f64 * share) as i64));
        let sum = sizes.fold(0_i64, i64::saturating_add).clamp(LEAST, self.most);
        MAX_SCORE * (sum - LEAST) / (self.most - LEAST)
    }
}

/// The name with its tag, as a node's status has it.
fn normalized(image: &str) -> String {
    let (colon, slash) = (image.rfind(':'), image.rfind('/'));
    if colon <= slash { format!("{image}:latest") } else { image.to_owned() }
}
