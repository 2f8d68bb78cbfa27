//! When a node counts as Ready: by what it tells since this start. What it told before still stands in the API.

use std::time::Duration;

use anyhow::{Context, Result, bail};
use jiff::Timestamp;
use k8s_openapi::api::{
    coordination::v1::Lease,
    core::v1::{Node, NodeCondition},
};
use troupe_actors::{
    kubelet::node::lease,
    runtime::cache::{Cache, Caches},
};
use troupe_api::meta::ObjectKey;
use troupe_api_client::Client;

const LOOK: Duration = Duration::from_millis(10);
/// A node that was there before is waited for no longer: two of the times in which a lease is renewed.
const AGAIN: Duration = Duration::from_secs(20);
/// What a node says first whose runtime has no network for pods, whatever else it lacks.
const NO_NETWORK: &str = "container runtime network not ready";

/// A node that is to become Ready.
#[derive(Clone, Debug)]
pub struct Awaited {
    pub name: String,
    /// When its lease had been renewed last before this start.
    renewed: Option<Timestamp>,
    /// When its daemon starts; `None` where that runs already: it writes its status when there is something new.
    begun: Option<Timestamp>,
    /// Somebody else brings its network, often from within the cluster: it is waited for until it lacks nothing else.
    of_others_network: bool,
}

impl Awaited {
    /// Looks at what the node told before. Its daemon, if it starts, starts after `begun`.
    ///
    /// # Errors
    /// When the API server does not tell.
    pub async fn of(client: &Client, name: &str, begun: Option<Timestamp>) -> Result<Self> {
        let renewed = lease::renewed(client, name).await.with_context(|| format!("cannot read the lease of the node {name}"))?;
        Ok(Awaited { name: name.to_owned(), renewed, begun, of_others_network: false })
    }

    /// The same of a node whose pod network somebody else may bring.
    pub fn with_network_of_others(self, of_others_network: bool) -> Self {
        Awaited { of_others_network, ..self }
    }

    /// Waits until it is Ready. One that was there before is not waited for very long, as it may be unable to tell how it is (the store may be
    /// full): why it does not count as Ready is the answer then. So is it where nothing but a network of others is missing.
    ///
    /// # Errors
    /// When a new one is not Ready after so long, with the reason.
    pub async fn ready(&self, caches: &Caches, patience: Duration) -> Result<Option<String>> {
        let patience = if self.renewed.is_some() { patience.min(AGAIN) } else { patience };
        let (nodes, leases): (Cache<Node>, Cache<Lease>) = (caches.cache(), caches.cache());
        let (node, lease) = (ObjectKey::cluster(self.name.as_str()), ObjectKey::new(lease::NAMESPACE, self.name.as_str()));
        let found = || {
            let (node, lease) = (nodes.get(&node).map(|cached| cached.object), leases.get(&lease).map(|cached| cached.object));
            self.judge(node.as_deref(), lease.as_deref())
        };
        let ready = async {
            loop {
                match found() {
                    Ok(()) => break None,
                    Err(why) if self.is_for_others(&why) => break Some(why),
                    Err(_) => tokio::time::sleep(LOOK).await,
                }
            }
        };
        if let Ok(lacks) = tokio::time::timeout(patience, ready).await {
            return Ok(lacks);
        }
        let Err(why) = found() else { return Ok(None) };
        if self.renewed.is_none() {
            bail!("the node {} is not Ready after {} s: {why}", self.name, patience.as_secs());
        }
        Ok(Some(why))
    }

    /// Whether nothing is missing but what others bring.
    fn is_for_others(&self, why: &str) -> bool {
        self.of_others_network && why.starts_with(NO_NETWORK)
    }

    /// Why it does not count as Ready, in words, by what the API has of it.
    fn judge(&self, node: Option<&Node>, lease: Option<&Lease>) -> Result<(), String> {
        let renewed = lease.and_then(|lease| lease.spec.as_ref()?.renew_time.as_ref()).map(|time| time.0);
        let Some(node) = node else { return Err("it has not registered".into()) };
        if renewed.is_none() || renewed <= self.renewed {
            return Err("it has given no sign of life since this start".into());
        }
        let Some(condition) = ready_condition(node) else { return Err("it has not told how it is".into()) };
        if condition.status != "True" {
            return Err(condition.message.clone().unwrap_or_else(|| "it does not say why".into()));
        }
        // Conditions have whole seconds.
        let told = condition.last_heartbeat_time.as_ref().map(|time| time.0.as_second());
        if self.begun.is_some_and(|begun| told < Some(begun.as_second())) {
            return Err("it has not told how it is since this start".into());
        }
        Ok(())
    }
}

fn ready_condition(node: &Node) -> Option<&NodeCondition> {
    node.status.as_ref()?.conditions.iter().flatten().find(|condition| condition.type_ == "Ready")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).expect("a time")
    }

    fn node(ready: &str, heartbeat: i64) -> Node {
        let condition = json!({"type": "Ready", "status": ready, "message": "as told", "lastHeartbeatTime": at(heartbeat).to_string()});
        serde_json::from_value(json!({"metadata": {"name": "one"}, "status": {"conditions": [condition]}})).expect("a node")
    }

    fn lease(renewed: i64) -> Lease {
        serde_json::from_value(json!({"metadata": {}, "spec": {"renewTime": at(renewed).to_string()}})).expect("a lease")
    }

    fn awaited(renewed: Option<i64>, begun: Option<i64>) -> Awaited {
        Awaited { name: "one".into(), renewed: renewed.map(at), begun: begun.map(at), of_others_network: false }
    }

    #[test]
    fn what_an_earlier_run_told_does_not_count() {
        let again = awaited(Some(90), Some(100));
        let judged = |node: &Node, renewed| again.judge(Some(node), Some(&lease(renewed)));
        assert!(judged(&node("True", 80), 90).is_err_and(|why| why.contains("no sign of life")));
        assert!(judged(&node("True", 80), 101).is_err_and(|why| why.contains("has not told how it is since this start")));
        assert_eq!(judged(&node("False", 101), 101), Err("as told".into()));
        assert_eq!(judged(&node("True", 100), 101), Ok(()));
    }

    #[test]
    fn a_network_of_others_is_not_waited_for_and_whatever_else_is() {
        let network = "container runtime network not ready: NetworkReady=false reason:NetworkPluginNotReady message:cni plugin not initialized";
        let others = awaited(None, None).with_network_of_others(true);
        assert!(others.is_for_others(network) && !awaited(None, None).is_for_others(network));
        assert!(!others.is_for_others(&format!("container runtime not ready: RuntimeReady=false reason:x message:y, {network}")));
        assert!(!others.is_for_others("it has not registered"));
    }

    #[test]
    fn a_new_node_must_register_and_one_that_runs_already_must_live() {
        let new = awaited(None, Some(100));
        assert!(new.judge(None, None).is_err_and(|why| why.contains("registered")));
        assert!(new.judge(Some(&node("True", 100)), None).is_err());
        assert_eq!(new.judge(Some(&node("True", 100)), Some(&lease(100))), Ok(()));
        let running = awaited(Some(90), None);
        assert!(running.judge(Some(&node("True", 80)), Some(&lease(90))).is_err());
        assert_eq!(running.judge(Some(&node("True", 80)), Some(&lease(99))), Ok(()));
    }
}
