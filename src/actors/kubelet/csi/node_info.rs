//! What the cluster knows of the drivers on this node: the CSINode object, an annotation and labels of the node.

use std::{collections::BTreeMap, sync::Arc};

use k8s_openapi::{
    api::{
        core::v1::Node,
        storage::v1::{CSINode, CSINodeDriver, CSINodeSpec, VolumeNodeResources},
    },
    apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference},
};
use serde_json::{Value, json};
use troupe_api::{Status, service::PatchType};
use troupe_api_client::Client;

use super::proto::NodeGetInfoResponse;

/// The ids that drivers have for this node, as JSON.
const NODE_IDS: &str = "csi.volume.kubernetes.io/nodeid";
/// How often a write is tried against others' writes.
const TRIES: usize = 6;

/// What a driver says of itself and this node.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Told {
    pub driver: String,
    pub info: NodeGetInfoResponse,
}

impl Told {
    fn topology(&self) -> BTreeMap<String, String> {
        self.info.accessible_topology.as_ref().map(|topology| topology.segments.clone()).unwrap_or_default()
    }

    fn entry(&self) -> CSINodeDriver {
        let most = i32::try_from(self.info.max_volumes_per_node).unwrap_or(i32::MAX);
        CSINodeDriver {
            name: self.driver.clone(),
            node_id: self.info.node_id.clone(),
            topology_keys: Some(self.topology().into_keys().collect::<Vec<_>>()).filter(|keys| !keys.is_empty()),
            allocatable: (most > 0).then_some(VolumeNodeResources { count: Some(most) }),
        }
    }
}

fn ids(node: &Node) -> Result<BTreeMap<String, String>, String> {
    let Some(text) = node.metadata.annotations.as_ref().and_then(|all| all.get(NODE_IDS)).filter(|text| !text.is_empty()) else {
        return Ok(BTreeMap::new());
    };
    serde_json::from_str(text).map_err(|error| format!("failed to parse node's {NODE_IDS:?} annotation value ({text:?}) err={error}"))
}

/// The patch of the node that says what a driver told; `None` where it does.
fn node_patch(node: &Node, told: &Told) -> Result<Option<Value>, String> {
    let mut ids = ids(node)?;
    let topology = told.topology();
    let labels = node.metadata.labels.clone().unwrap_or_default();
    for (key, value) in &topology {
        if let Some(known) = labels.get(key).filter(|known| *known != value) {
            return Err(format!("detected topology value collision: driver reported {key:?}:{value:?} but existing label is {key:?}:{known:?}"));
        }
    }
    let says = ids.get(&told.driver) == Some(&told.info.node_id) && topology.keys().all(|key| labels.contains_key(key));
    if says {
        return Ok(None);
    }
    ids.insert(told.driver.clone(), told.info.node_id.clone());
    let text = json!(ids).to_string();
    Ok(Some(json!({"metadata": {"resourceVersion": node.metadata.resource_version, "annotations": {NODE_IDS: text}, "labels": topology}})))
}

/// The patch of the node that forgets a driver; labels stay, volumes are placed by them.
fn forgetting(node: &Node, driver: &str) -> Result<Option<Value>, String> {
    let mut ids = ids(node)?;
    if ids.remove(driver).is_none() {
        return Ok(None);
    }
    let text = (!ids.is_empty()).then(|| json!(ids).to_string());
    Ok(Some(json!({"metadata": {"resourceVersion": node.metadata.resource_version, "annotations": {NODE_IDS: text}}})))
}

/// The object as it is with a driver's entry, or without one; `None` where it is so.
fn changed(known: &CSINode, driver: &str, entry: Option<CSINodeDriver>) -> Option<CSINode> {
    let mut drivers: Vec<_> = known.spec.drivers.iter().filter(|known| known.name != driver).cloned().collect();
    drivers.extend(entry);
    let mut same: Vec<_> = known.spec.drivers.iter().collect();
    let mut wanted: Vec<_> = drivers.iter().collect();
    same.sort_by(|a, b| a.name.cmp(&b.name));
    wanted.sort_by(|a, b| a.name.cmp(&b.name));
    (same != wanted).then(|| CSINode { spec: CSINodeSpec { drivers }, ..known.clone() })
}

/// Writes what a driver says into the node and its CSINode.
///
/// # Errors
/// What the registration's answer tells the driver.
pub(super) async fn install(client: &Client, node: &str, told: &Told) -> Result<(), String> {
    if told.info.node_id.is_empty() {
        return Err("error adding CSI driver node info: driverNodeID must not be empty".into());
    }
    patch_node(client, node, |node| node_patch(node, told))
        .await
        .map_err(|why| format!("error updating Node object with CSI driver node info: {why}"))?;
    let written = change_csi_node(client, node, &told.driver, Some(told.entry())).await;
    written.map_err(|status| format!("error updating CSINode object with CSI driver node info: {}", status.message))
}

/// Takes a driver out of both.
///
/// # Errors
/// When the API does not take it.
pub(super) async fn uninstall(client: &Client, node: &str, driver: &str) -> Result<(), String> {
    let written = change_csi_node(client, node, driver, None).await;
    written.map_err(|status| format!("error uninstalling CSI driver from CSINode object {}", status.message))?;
    patch_node(client, node, |node| forgetting(node, driver))
        .await
        .map_err(|why| format!("error removing CSI driver node info from Node object {why}"))
}

async fn patch_node(client: &Client, name: &str, plan: impl Fn(&Node) -> Result<Option<Value>, String>) -> Result<(), String> {
    let api = client.all::<Node>();
    for _ in 0..TRIES {
        let node = api.get(name).await.map_err(|status| status.message)?;
        let Some(patch) = plan(&node)? else { return Ok(()) };
        match api.patch(name, "", PatchType::Merge, &patch).await {
            Err(status) if status.is_conflict() => {}
            outcome => return outcome.map(drop).map_err(|status| status.message),
        }
    }
    Err("others write it at the same time".into())
}

/// The node's CSINode, made where it is missing: without drivers it says that the node has none.
pub(super) async fn csi_node(client: &Client, node: &str) -> Result<Arc<CSINode>, Status> {
    let api = client.all::<CSINode>();
    if let Some(known) = api.get_opt(node).await? {
        return Ok(known);
    }
    let owner = client.all::<Node>().get(node).await?;
    let owner = OwnerReference {
        api_version: "v1".into(),
        kind: "Node".into(),
        name: node.to_owned(),
        uid: owner.metadata.uid.clone().unwrap_or_default(),
        ..OwnerReference::default()
    };
    let metadata = ObjectMeta { name: Some(node.to_owned()), owner_references: Some(vec![owner]), ..ObjectMeta::default() };
    api.create(&CSINode { metadata, spec: CSINodeSpec::default() }).await
}

async fn change_csi_node(client: &Client, node: &str, driver: &str, entry: Option<CSINodeDriver>) -> Result<(), Status> {
    let api = client.all::<CSINode>();
    for _ in 0..TRIES {
        let known = csi_node(client, node).await?;
        let Some(wanted) = changed(&known, driver, entry.clone()) else { return Ok(()) };
        match api.update(&wanted).await {
            Err(status) if status.is_conflict() => {}
            outcome => return outcome.map(drop),
        }
    }
    Err(Status::internal("others write it at the same time"))
}

#[cfg(test)]
mod tests {
    use serde_json::from_value;

    use super::*;
    use crate::kubelet::csi::proto::Topology;

    fn told() -> Told {
        let segments = BTreeMap::from([("topology.d/zone".to_owned(), "a".to_owned())]);
        let info = NodeGetInfoResponse { node_id: "id".into(), max_volumes_per_node: 5, accessible_topology: Some(Topology { segments }) };
        Told { driver: "d".into(), info }
    }

    #[test]
    fn a_node_says_once_what_a_driver_told_and_forgets_it() {
        let mut node: Node =
            from_value(json!({"metadata": {"name": "n", "resourceVersion": "4", "annotations": {NODE_IDS: "{\"e\":\"x\"}"}}})).expect("a node");
        let patch = node_patch(&node, &told()).expect("no collision").expect("it does not say so");
        assert_eq!(patch["metadata"]["annotations"][NODE_IDS], "{\"d\":\"id\",\"e\":\"x\"}");
        assert_eq!(patch["metadata"]["labels"], json!({"topology.d/zone": "a"}));
        node.metadata.labels = Some(BTreeMap::from([("topology.d/zone".into(), "a".into())]));
        node.metadata.annotations = Some(BTreeMap::from([(NODE_IDS.into(), "{\"d\":\"id\"}".into())]));
        assert_eq!(node_patch(&node, &told()), Ok(None));
        let patch = forgetting(&node, "d").expect("readable").expect("it is there");
        assert!(patch["metadata"]["annotations"][NODE_IDS].is_null(), "nothing is left of the annotation");
        assert_eq!(forgetting(&node, "x"), Ok(None));
        node.metadata.labels = Some(BTreeMap::from([("topology.d/zone".into(), "b".into())]));
        let why = "detected topology value collision: driver reported \"topology.d/zone\":\"a\" but existing label is \"topology.d/zone\":\"b\"";
        assert_eq!(node_patch(&node, &told()), Err(why.into()));
    }

    #[test]
    fn a_csi_node_lists_a_driver_once() {
        let known: CSINode = from_value(json!({"metadata": {"name": "n"}, "spec": {"drivers": [{"name": "e", "nodeID": "x"}]}})).expect("an object");
        let with = changed(&known, "d", Some(told().entry())).expect("it is new");
        let entry = &with.spec.drivers[1];
        assert_eq!((entry.node_id.as_str(), entry.allocatable.as_ref().and_then(|allocatable| allocatable.count)), ("id", Some(5)));
        assert_eq!(entry.topology_keys.as_deref(), Some(&["topology.d/zone".to_owned()][..]));
        assert_eq!(changed(&with, "d", Some(told().entry())), None);
        assert_eq!(changed(&with, "d", None), Some(known.clone()));
        assert_eq!(changed(&known, "d", None), None);
    }
}
