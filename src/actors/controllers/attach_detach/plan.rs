//! What to do about one volume's attachments: pure.

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::{core::v1::Node, storage::v1::VolumeAttachment};

use crate::controllers::nodes::{is_out_of_service, is_ready};

/// After so long a node that is not ready loses a volume that it still names as in use; upstream's `maxWaitForUnmountDuration`.
pub const LONGEST_WAIT: SignedDuration = SignedDuration::from_mins(6);

/// How a node stands to a volume that no pod on it wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hold {
    /// It has let go, or must.
    Free,
    /// It has not said yet that it is done.
    InUse,
    /// The same, and it is not ready: not waited for longer than until then.
    Until(Timestamp),
}

/// `since` is since when nobody wants the volume there.
pub fn hold(node: Option<&Node>, volume: &str, since: Timestamp, now: Timestamp) -> Hold {
    // A node that is gone uses nothing.
    let Some(node) = node else { return Hold::Free };
    let in_use = node.status.as_ref().and_then(|status| status.volumes_in_use.as_ref());
    let is_used = in_use.is_some_and(|names| names.iter().any(|name| name == volume));
    if !is_used || is_out_of_service(node) {
        return Hold::Free;
    }
    if is_ready(node) {
        return Hold::InUse;
    }
    let until = since.saturating_add(LONGEST_WAIT).unwrap_or(since);
    if now > until { Hold::Free } else { Hold::Until(until) }
}

/// Whether a node's status says that a volume is attached.
pub fn is_listed(node: Option<&Node>, volume: &str) -> bool {
    let listed = node.and_then(|node| node.status.as_ref()?.volumes_attached.as_ref());
    listed.is_some_and(|listed| listed.iter().any(|attached| attached.name == volume))
}

/// One volume, its attachments, and the nodes that want it in the order in which their first pods came.
pub struct View<'a> {
    pub wanted: &'a [String],
    pub attachments: &'a [&'a VolumeAttachment],
    pub is_exclusive: bool,
    /// How the node of an attachment that nobody wants stands to the volume, and whether its status still lists it.
    pub unwanted: &'a BTreeMap<String, (Hold, bool)>,
}

/// What to do.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Plan {
    pub attach: Vec<String>,
    /// Names of attachments.
    pub detach: Vec<String>,
    /// Nodes whose status must say first that the volume is not attached.
    pub unlist: Vec<String>,
    /// Nodes that do not get the volume because others have it.
    pub refused: Vec<String>,
    /// Something is decided then though nothing happens.
    pub look_at: Option<Timestamp>,
}

/// Plans the attachments of one volume.
pub fn plan(view: &View<'_>) -> Plan {
    let mut plan = Plan::default();
    let mut holders = BTreeSet::new();
    for attachment in view.attachments {
        let node = attachment.spec.node_name.as_str();
        holders.insert(node);
        if attachment.metadata.deletion_timestamp.is_some() {
            continue;
        }
        match view.unwanted.get(node) {
            Some((Hold::Free, true)) => plan.unlist.push(node.to_owned()),
            Some((Hold::Free, false)) => plan.detach.extend(attachment.metadata.name.clone()),
            Some((Hold::Until(at), _)) => plan.look_at = plan.look_at.into_iter().chain([*at]).min(),
            Some((Hold::InUse, _)) | None => {}
        }
    }
    for node in view.wanted.iter().filter(|node| !view.attachments.iter().any(|attachment| attachment.spec.node_name == **node)) {
        if view.is_exclusive && !holders.is_empty() {
            plan.refused.push(node.clone());
        } else {
            holders.insert(node);
            plan.attach.push(node.clone());
        }
    }
    plan
}

/// Who else has a volume, as a pod's event tells it: of other namespaces no names.
pub fn multi_attach(volume: &str, namespace: &str, holders: &[(String, String)]) -> String {
    let told = |what: String| format!("Multi-Attach error for volume {volume:?} {what}");
    if holders.is_empty() {
        return told("Volume is already exclusively attached to one node and can't be attached to another".into());
    }
    let names: Vec<_> = holders.iter().filter(|(other, _)| other == namespace).map(|(_, name)| name.as_str()).collect();
    let others = holders.len() - names.len();
    told(match (names.is_empty(), others) {
        (false, 0) => format!("Volume is already used by pod(s) {}", names.join(", ")),
        (false, others) => format!("Volume is already used by pod(s) {} and {others} pod(s) in different namespaces", names.join(", ")),
        (true, others) => format!("Volume is already used by {others} pod(s) in different namespaces"),
    })
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, from_value, json};

    use super::*;
    use crate::controllers::nodes::OUT_OF_SERVICE;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).expect("a time")
    }

    fn node(ready: &str, in_use: &[&str], taint: Option<&str>) -> Node {
        let taints: Vec<Value> = taint.iter().map(|key| json!({"key": key, "effect": "NoExecute"})).collect();
        from_value(json!({"metadata": {"name": "n"}, "spec": {"taints": taints},
            "status": {"volumesInUse": in_use, "conditions": [{"type": "Ready", "status": ready}]}}))
        .expect("a node")
    }

    #[test]
    fn a_volume_is_left_until_its_node_lets_go() {
        assert_eq!(hold(None, "v", at(0), at(0)), Hold::Free);
        assert_eq!(hold(Some(&node("True", &["w"], None)), "v", at(0), at(0)), Hold::Free);
        assert_eq!(hold(Some(&node("True", &["v"], None)), "v", at(0), at(100_000)), Hold::InUse, "a ready node is waited for");
        assert_eq!(hold(Some(&node("False", &["v"], None)), "v", at(0), at(10)), Hold::Until(at(360)));
        assert_eq!(hold(Some(&node("Unknown", &["v"], None)), "v", at(0), at(361)), Hold::Free);
        assert_eq!(hold(Some(&node("False", &["v"], Some(OUT_OF_SERVICE))), "v", at(0), at(0)), Hold::Free);
    }

    fn attachment(node: &str, deleted: bool) -> VolumeAttachment {
        let mut value = json!({"metadata": {"name": format!("csi-{node}")}, "spec": {"attacher": "d", "nodeName": node, "source": {}}});
        if deleted {
            value["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z".into();
        }
        from_value(value).expect("an attachment")
    }

    fn planned(wanted: &[&str], attachments: &[VolumeAttachment], is_exclusive: bool, unwanted: &[(&str, Hold, bool)]) -> Plan {
        let wanted: Vec<_> = wanted.iter().map(|name| (*name).to_owned()).collect();
        let attachments: Vec<_> = attachments.iter().collect();
        let unwanted = unwanted.iter().map(|(name, hold, listed)| ((*name).to_owned(), (*hold, *listed))).collect();
        plan(&View { wanted: &wanted, attachments: &attachments, is_exclusive, unwanted: &unwanted })
    }

    fn names(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn one_node_at_most_has_an_exclusive_volume() {
        assert_eq!(planned(&["a", "b"], &[], true, &[]), Plan { attach: names(&["a"]), refused: names(&["b"]), ..Plan::default() });
        assert_eq!(planned(&["a", "b"], &[], false, &[]), Plan { attach: names(&["a", "b"]), ..Plan::default() });
        let held = [attachment("a", false)];
        assert_eq!(planned(&["a"], &held, true, &[]), Plan::default(), "planning again gives nothing");
        assert_eq!(planned(&["a", "b"], &held, true, &[]).refused, ["b"]);
        let going = planned(&["b"], &[attachment("a", true)], true, &[]);
        assert_eq!(going, Plan { refused: names(&["b"]), ..Plan::default() }, "what is being taken away is there");
        let same = planned(&["a"], &[attachment("a", true)], true, &[]);
        assert_eq!(same, Plan::default(), "it comes back when it is gone");
    }

    #[test]
    fn the_nodes_status_forgets_a_volume_before_it_goes() {
        let held = [attachment("a", false)];
        assert_eq!(planned(&[], &held, true, &[("a", Hold::Free, true)]), Plan { unlist: names(&["a"]), ..Plan::default() });
        assert_eq!(planned(&[], &held, true, &[("a", Hold::Free, false)]), Plan { detach: names(&["csi-a"]), ..Plan::default() });
        assert_eq!(planned(&[], &held, true, &[("a", Hold::InUse, true)]), Plan::default());
        assert_eq!(planned(&[], &held, true, &[("a", Hold::Until(at(9)), true)]).look_at, Some(at(9)));
    }

    #[test]
    fn a_pod_is_told_who_has_its_volume() {
        let holder = |namespace: &str, name: &str| (namespace.to_owned(), name.to_owned());
        let told = |holders: &[(String, String)]| multi_attach("pv", "n", holders);
        let begins = "Multi-Attach error for volume \"pv\" Volume is already";
        assert_eq!(told(&[]), format!("{begins} exclusively attached to one node and can't be attached to another"));
        assert_eq!(told(&[holder("n", "a"), holder("n", "b")]), format!("{begins} used by pod(s) a, b"));
        let mixed = told(&[holder("n", "a"), holder("m", "b")]);
        assert_eq!(mixed, format!("{begins} used by pod(s) a and 1 pod(s) in different namespaces"));
        assert_eq!(told(&[holder("m", "b")]), format!("{begins} used by 1 pod(s) in different namespaces"));
    }
}
