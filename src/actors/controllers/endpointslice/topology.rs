//! Hints by the zones' capacity (`service.kubernetes.io/topology-mode: Auto`): each zone is served by a share of the endpoints that is that of its
//! CPUs, by its own endpoints where possible. Pure.
//!
//! What was hinted stays as long as no zone has fewer endpoints than a fifth more load would allow, as upstream keeps it. Where this cannot be,
//! no endpoint has a hint, and an event says why. Source: <https://kubernetes.io/docs/concepts/services-networking/topology-aware-routing/>.

use std::{collections::BTreeMap, sync::Arc};

use k8s_openapi::api::{
    core::v1::Node,
    discovery::v1::{Endpoint, EndpointHints, ForZone},
};
use troupe_api::{meta::Quantity, projection::MetaProjection};
use troupe_net::iptables::Family;

use crate::runtime::cache::Digest;

/// So much more than its share an endpoint may have to serve.
const OVERLOAD: f64 = 0.2;
/// Nodes with these labels serve no clients.
const EXCLUDED: [&str; 2] = ["node-role.kubernetes.io/control-plane", "node-role.kubernetes.io/master"];
const ENABLED: &str = "TopologyAwareHintsEnabled";
const DISABLED: &str = "TopologyAwareHintsDisabled";

/// What a node brings to its zone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeCapacity {
    zone: Option<Box<str>>,
    /// Thousandths of CPUs.
    milli_cpu: i64,
    /// It is ready, and for everybody's pods.
    counts: bool,
}

impl NodeCapacity {
    pub fn of(node: &Node) -> Self {
        let labels = node.metadata.labels.as_ref();
        let label = |name: &str| labels.and_then(|labels| labels.get(name));
        let status = node.status.as_ref();
        let cpu = status.and_then(|status| status.allocatable.as_ref()?.get("cpu"));
        let conditions = status.and_then(|status| status.conditions.as_deref()).unwrap_or_default();
        let ready = conditions.iter().find(|condition| condition.type_ == "Ready").is_some_and(|condition| condition.status == "True");
        NodeCapacity {
            zone: label("topology.kubernetes.io/zone").filter(|zone| !zone.is_empty()).map(|zone| zone.as_str().into()),
            milli_cpu: cpu.and_then(|cpu| Quantity::parse(&cpu.0).ok()).map_or(0, |cpu| cpu.milli_value()),
            counts: ready && !EXCLUDED.iter().any(|name| label(name).is_some()),
        }
    }
}

impl Digest<Node> for NodeCapacity {
    fn of(_: &Arc<MetaProjection>, node: &Node) -> Self {
        NodeCapacity::of(node)
    }
}

/// Thousandths of CPUs by zone, of two zones or more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Capacities(BTreeMap<String, i64>);

impl Capacities {
    /// `None` where there are not two zones, or a node does not say of which it is, or what it has.
    pub fn of(nodes: &[Arc<NodeCapacity>]) -> Option<Self> {
        let mut zones: BTreeMap<String, i64> = BTreeMap::new();
        for node in nodes.iter().filter(|node| node.counts) {
            let zone = node.zone.as_deref().filter(|_| node.milli_cpu > 0)?;
            *zones.entry(zone.to_owned()).or_default() += node.milli_cpu;
        }
        (zones.len() > 1).then_some(Capacities(zones))
    }
}

/// How many endpoints serve a zone.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Share {
    minimum: usize,
    maximum: usize,
    desired: f64,
}

fn float(count: usize) -> f64 {
    f64::from(u32::try_from(count).unwrap_or(u32::MAX))
}

/// The share of each zone of so many endpoints.
fn shares(capacities: Option<&Capacities>, endpoints: usize) -> Result<BTreeMap<&str, Share>, String> {
    let Some(Capacities(zones)) = capacities else {
        return Err("Insufficient Node information: allocatable CPU or zone not specified on one or more nodes".into());
    };
    let counted = |what: &str| format!("{what} ({endpoints} endpoints, {} zones)", zones.len());
    if zones.len() > endpoints {
        return Err(counted("Insufficient number of endpoints"));
    }
    let total: i64 = zones.values().sum();
    let share = |milli_cpu: i64| {
        let desired = milli_cpu as f64 / total as f64 * float(endpoints);
        let minimum = (desired / (1.0 + OVERLOAD)).ceil();
        Share { minimum: minimum as usize, maximum: 0, desired: desired.max(minimum) }
    };
    let mut shares: BTreeMap<&str, Share> = zones.iter().map(|(zone, milli_cpu)| (zone.as_str(), share(*milli_cpu))).collect();
    let least: usize = shares.values().map(|share| share.minimum).sum();
    let Some(spare) = endpoints.checked_sub(least) else {
        return Err(counted("Unable to allocate minimum required endpoints to each zone without exceeding overload threshold"));
    };
    shares.values_mut().for_each(|share| share.maximum = share.minimum + spare);
    Ok(shares)
}

/// Gives each ready endpoint the zone that it serves; `before` tells the one that it was hinted for.
///
/// # Errors
/// Why none has a hint, in upstream's words.
pub fn assign(endpoints: &mut [&mut Endpoint], capacities: Option<&Capacities>, before: impl Fn(&Endpoint) -> Option<String>) -> Result<(), String> {
    let shares = shares(capacities, endpoints.len())?;
    let mut all_stay = true;
    let mut serving: Vec<String> = Vec::with_capacity(endpoints.len());
    for endpoint in endpoints.iter() {
        let own = endpoint.zone.clone().filter(|zone| !zone.is_empty()).ok_or("One or more endpoints do not have a zone specified")?;
        let stays = before(endpoint).filter(|zone| shares.contains_key(zone.as_str()));
        all_stay &= stays.is_some();
        serving.push(stays.unwrap_or(own));
    }
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for zone in &serving {
        *counts.entry(zone).or_default() += 1;
    }
    let count = |zone: &str| counts.get(zone).copied().unwrap_or_default();
    let fits = shares.iter().all(|(zone, share)| (share.minimum..=share.maximum).contains(&count(zone)));
    if !(all_stay && fits) {
        let moves = moves(shares.iter().map(|(zone, share)| (*zone, float(count(zone)) - share.desired)));
        for (from, to) in moves {
            // A zone gives no more than it has.
            if let Some(zone) = serving.iter_mut().find(|zone| zone.as_str() == from) {
                to.clone_into(zone);
            }
        }
    }
    for (endpoint, zone) in endpoints.iter_mut().zip(serving) {
        endpoint.hints = Some(EndpointHints { for_zones: Some(vec![ForZone { name: zone }]), ..EndpointHints::default() });
    }
    Ok(())
}

/// Which zones give an endpoint to which, one at a time, where these are the endpoints that they have too many (or too few).
fn moves<'a>(surplus: impl Iterator<Item = (&'a str, f64)>) -> Vec<(&'a str, &'a str)> {
    let (mut giving, mut receiving) = (BTreeMap::new(), BTreeMap::new());
    for (zone, surplus) in surplus {
        if surplus > 0.0 {
            giving.insert(zone, surplus);
        } else if surplus < 0.0 {
            receiving.insert(zone, -surplus);
        }
    }
    let mut moves = Vec::new();
    while let (Some((from, gives)), Some((to, takes))) = (most(&giving), most(&receiving)) {
        if (gives < 1.0 && takes < 1.0) || gives < 0.5 || takes < 0.5 {
            break;
        }
        moves.push((from, to));
        giving.insert(from, gives - 1.0);
        receiving.insert(to, takes - 1.0);
    }
    moves
}

/// The first of those with the most, if that is any.
fn most<'a>(zones: &BTreeMap<&'a str, f64>) -> Option<(&'a str, f64)> {
    let mut most: Option<(&'a str, f64)> = None;
    for (zone, number) in zones {
        if *number > most.map_or(0.0, |(_, most)| most) {
            most = Some((*zone, *number));
        }
    }
    most
}

/// What came of the endpoints of each family; empty for a Service that does not ask.
pub type Outcomes = BTreeMap<Family, Result<(), String>>;

/// An event about a Service.
#[derive(Debug, PartialEq, Eq)]
pub struct News {
    pub warning: bool,
    pub reason: &'static str,
    pub message: String,
}

/// What is to be told where `before` is what was known. What is so still is told once.
pub fn news(before: &Outcomes, after: &Outcomes) -> Vec<News> {
    let hinted = |outcomes: &Outcomes| outcomes.iter().find(|(_, outcome)| outcome.is_ok()).map(|(family, _)| *family);
    let tell = |warning: bool, message: &str, family: Family| News {
        warning,
        reason: if warning { DISABLED } else { ENABLED },
        message: format!("{message}, addressType: {}", family.name()),
    };
    if after.is_empty() {
        return hinted(before).map(|family| tell(true, "Topology Aware Hints has been disabled", family)).into_iter().collect();
    }
    let begins = hinted(after).filter(|_| hinted(before).is_none());
    let mut all: Vec<News> = begins.map(|family| tell(false, "Topology Aware Hints has been enabled", family)).into_iter().collect();
    for (family, outcome) in after.iter().filter(|(family, outcome)| before.get(*family) != Some(*outcome)) {
        all.extend(outcome.as_ref().err().map(|reason| tell(true, reason, *family)));
    }
    all
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;

    fn node(zone: Option<&str>, cpu: &str, ready: &str, more: Value) -> Arc<NodeCapacity> {
        let mut labels = more;
        if let Some(zone) = zone {
            labels["topology.kubernetes.io/zone"] = zone.into();
        }
        let status = json!({"allocatable": {"cpu": cpu}, "conditions": [{"type": "Ready", "status": ready}]});
        Arc::new(NodeCapacity::of(&serde_json::from_value(json!({"metadata": {"labels": labels}, "status": status})).expect("a node")))
    }

    fn of_zones(zones: &[(&str, i64)]) -> Capacities {
        Capacities(zones.iter().map(|(zone, milli_cpu)| ((*zone).to_owned(), *milli_cpu)).collect())
    }

    fn endpoint(number: usize, zone: &str) -> Endpoint {
        let endpoint = json!({"addresses": [format!("10.244.0.{number}")], "zone": zone});
        serde_json::from_value(endpoint).expect("an endpoint")
    }

    fn hint(endpoint: &Endpoint) -> Option<String> {
        Some(endpoint.hints.as_ref()?.for_zones.as_ref()?.first()?.name.clone())
    }

    fn assigned(endpoints: &mut [Endpoint], capacities: Option<&Capacities>) -> Result<Vec<String>, String> {
        let before: BTreeMap<String, Option<String>> = endpoints.iter().map(|endpoint| (endpoint.addresses[0].clone(), hint(endpoint))).collect();
        let mut all: Vec<&mut Endpoint> = endpoints.iter_mut().collect();
        assign(&mut all, capacities, |endpoint| before[&endpoint.addresses[0]].clone())?;
        Ok(endpoints.iter().filter_map(hint).collect())
    }

    fn endpoints(zones: &[&str]) -> Vec<Endpoint> {
        zones.iter().enumerate().map(|(number, zone)| endpoint(number, zone)).collect()
    }

    #[test]
    fn zones_count_by_the_cpus_of_their_nodes_and_every_node_must_say() {
        let plain = |zone: &str, cpu: &str| node(Some(zone), cpu, "True", json!({}));
        let control = node(None, "64", "True", json!({"node-role.kubernetes.io/control-plane": ""}));
        let away = node(Some("c"), "64", "False", json!({}));
        let nodes = [plain("a", "2"), plain("a", "500m"), plain("b", "4"), control, away];
        assert_eq!(Capacities::of(&nodes), Some(of_zones(&[("a", 2500), ("b", 4000)])));
        for odd in [node(None, "4", "True", json!({})), plain("b", "0")] {
            assert_eq!(Capacities::of(&[plain("a", "2"), plain("b", "2"), odd]), None);
        }
        assert_eq!(Capacities::of(&[plain("a", "2"), plain("a", "2")]), None, "there is nothing to choose");
    }

    #[test]
    fn endpoints_serve_their_own_zone_and_others_that_have_too_few() {
        let even = of_zones(&[("a", 4000), ("b", 4000)]);
        assert_eq!(assigned(&mut endpoints(&["a", "b", "a", "b"]), Some(&even)), Ok(["a", "b", "a", "b"].map(str::to_owned).into()));
        assert_eq!(assigned(&mut endpoints(&["a", "a", "a", "b"]), Some(&even)), Ok(["b", "a", "a", "b"].map(str::to_owned).into()));
        let large = of_zones(&[("a", 4000), ("b", 12_000)]);
        let hints = assigned(&mut endpoints(&["a", "a", "a", "a", "b", "b", "b", "b"]), Some(&large)).expect("there are enough");
        assert_eq!(hints.iter().filter(|zone| *zone == "b").count(), 6);
    }

    #[test]
    fn hints_stay_while_nobody_is_overloaded() {
        let mut all = endpoints(&["a", "a", "a", "a", "a", "b", "b", "b", "b", "b", "a", "b"]);
        assigned(&mut all, Some(&of_zones(&[("a", 4000), ("b", 4000)]))).expect("there are enough");
        let before: Vec<_> = all.iter().map(hint).collect();
        assigned(&mut all, Some(&of_zones(&[("a", 4000), ("b", 4500)]))).expect("there are enough");
        assert_eq!(all.iter().map(hint).collect::<Vec<_>>(), before, "a little more of one zone moves nobody");
        let hints = assigned(&mut all, Some(&of_zones(&[("a", 4000), ("b", 12_000)]))).expect("there are enough");
        assert_eq!(hints.iter().filter(|zone| *zone == "b").count(), 9);
    }

    #[test]
    fn where_it_cannot_be_the_reason_is_upstreams() {
        let even = of_zones(&[("a", 4000), ("b", 4000)]);
        let refused = |zones: &[&str], capacities: Option<&Capacities>| assigned(&mut endpoints(zones), capacities).expect_err("is refused");
        assert_eq!(refused(&["a"], Some(&even)), "Insufficient number of endpoints (1 endpoints, 2 zones)");
        assert_eq!(refused(&["a", ""], Some(&even)), "One or more endpoints do not have a zone specified");
        let message = "Unable to allocate minimum required endpoints to each zone without exceeding overload threshold (3 endpoints, 2 zones)";
        assert_eq!(refused(&["a", "b", "a"], Some(&even)), message);
        assert!(refused(&["a", "b"], None).starts_with("Insufficient Node information"));
    }

    #[test]
    fn what_begins_ends_or_cannot_be_is_told_once() {
        let ok = Outcomes::from([(Family::V4, Ok(()))]);
        let failed = Outcomes::from([(Family::V4, Err("No".to_owned()))]);
        let none = Outcomes::new();
        let told = |before: &Outcomes, after: &Outcomes| news(before, after).iter().map(|news| news.message.clone()).collect::<Vec<_>>();
        assert_eq!(told(&none, &ok), ["Topology Aware Hints has been enabled, addressType: IPv4"]);
        assert_eq!(told(&ok, &failed), ["No, addressType: IPv4"]);
        assert_eq!(told(&ok, &none), ["Topology Aware Hints has been disabled, addressType: IPv4"]);
        for (before, after) in [(&ok, &ok), (&failed, &failed), (&failed, &none), (&none, &none)] {
            assert!(news(before, after).is_empty(), "{before:?} {after:?}");
        }
        assert_eq!(news(&failed, &ok)[0], News { warning: false, reason: ENABLED, message: told(&none, &ok).remove(0) });
    }

    proptest! {
        #[test]
        fn hints_are_for_zones_that_there_are_and_stay_as_they_are(
            cpus in prop::collection::vec(1i64..9000, 2..5), own in prop::collection::vec(0usize..5, 1..40),
        ) {
            let names = ["a", "b", "c", "d", "e"];
            let zones: Vec<(&str, i64)> = names.iter().copied().zip(cpus).collect();
            let capacities = of_zones(&zones);
            let mut all: Vec<Endpoint> = own.iter().enumerate().map(|(number, zone)| endpoint(number, names[*zone])).collect();
            if let Ok(first) = assigned(&mut all, Some(&capacities)) {
                prop_assert_eq!(first.len(), all.len());
                prop_assert_eq!(assigned(&mut all, Some(&capacities)), Ok(first));
            }
        }
    }
}
