//! Random pods, policies and packets: what slices and rules come to, against a slow reference that is written from the API's documentation.

mod kernel;
mod random;
mod reference;
mod services;
mod wire;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use proptest::prelude::*;
use serde_json::json;
use troupe_api::meta::ObjectKey;
use troupe_net::{
    dns::cluster_addresses::ClusterAddresses,
    iptables::{Family, RuleSet},
};

use self::{
    random::{addresses, cluster, governed_cluster},
    reference::{Cluster, ips_of, is_local},
};
use super::planned::Planned;
use crate::{
    network_policy::{
        cluster::parse,
        layout::TABLE,
        model::{PodView, PolicyView},
    },
    rules::simulate::{Packet, Verdict, simulate},
};

/// What is planned of.
fn planned(cluster: &Cluster) -> Planned {
    let cluster_policies = cluster.cluster_policies.iter().map(|policy| serde_json::from_value(policy.clone()).expect("a policy"));
    Planned {
        namespaces: cluster.namespaces.clone(),
        nodes: cluster.nodes.clone(),
        pods: cluster.pods.iter().map(PodView::of).collect(),
        policies: cluster.policies.iter().map(|policy| Arc::new(PolicyView::of(policy))).collect(),
        cluster_policies: cluster_policies.map(|policy| Arc::new(parse(&policy).policy.expect("is known here"))).collect(),
        domain_slices: Vec::new(),
        inside: ClusterAddresses::default(),
    }
}

fn is_here(pod: &PodView) -> bool {
    pod.ips.iter().any(|ip| is_local(*ip))
}

/// Everything that stands on this node.
fn rules_of(cluster: &Cluster, family: Family) -> RuleSet {
    planned(cluster).rules(family, is_here)
}

/// Asks with all sorts of packets of a family.
fn compare(cluster: &Cluster, family: Family) -> Result<(), TestCaseError> {
    let rules = rules_of(cluster, family);
    for source in addresses(cluster, family) {
        for destination in addresses(cluster, family) {
            for (protocol, port) in [("tcp", Some(80)), ("tcp", Some(82)), ("udp", Some(83)), ("sctp", Some(81)), ("icmp", None)] {
                for established in [false, true] {
                    let packet = Packet { source, destination, protocol: protocol.into(), port, established };
                    let verdict = simulate(&rules, TABLE, "FORWARD", &packet).expect("knows its own rules");
                    let passes = matches!(verdict, Verdict::Passes(_));
                    prop_assert_eq!(passes, cluster.expected(&packet), "{:?} is {:?} by {:#?}", packet, verdict, rules);
                    if !cluster.pods.iter().any(|pod| ips_of(pod).contains(&destination)) {
                        let verdict = simulate(&rules, TABLE, "INPUT", &packet).expect("knows its own rules");
                        let passes = matches!(verdict, Verdict::Passes(_));
                        prop_assert_eq!(passes, cluster.reaches_node(&packet), "{:?} to the node is {:?} by {:#?}", packet, verdict, rules);
                    }
                }
            }
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn packets_fare_as_the_documentation_says(cluster in cluster()) {
        compare(&cluster, Family::V4)?;
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn tiers_decide_in_their_order(cluster in governed_cluster(), newer in any::<bool>()) {
        compare(&cluster, if newer { Family::V6 } else { Family::V4 })?;
    }
}

#[test]
fn who_decides_is_told() {
    let pod = json!({
        "metadata": {"namespace": "n0", "name": "p", "uid": "u", "labels": {"app": "a0"}},
        "spec": {"containers": [{"name": "c"}]},
        "status": {"podIP": "10.244.0.1", "podIPs": [{"ip": "10.244.0.1"}]},
    });
    let spec = json!({"podSelector": {"matchLabels": {"app": "a0"}}, "ingress": [{"from": [{"ipBlock": {"cidr": "192.0.2.0/24"}}]}]});
    let policy = json!({"metadata": {"namespace": "n0", "name": "some"}, "spec": spec});
    let cluster = Cluster {
        namespaces: BTreeMap::from([("n0".to_owned(), BTreeMap::new())]),
        pods: vec![serde_json::from_value(pod).expect("a pod")],
        policies: vec![serde_json::from_value(policy).expect("a policy")],
        ..Cluster::default()
    };
    let rules = rules_of(&cluster, Family::V4);
    let from = |ip: &str| {
        let packet = Packet {
            source: ip.parse().expect("an address"),
            destination: "10.244.0.1".parse().expect("an address"),
            protocol: "tcp".into(),
            port: Some(80),
            established: false,
        };
        match simulate(&rules, TABLE, "FORWARD", &packet).expect("knows its own rules") {
            Verdict::Passes(by) => by.into_iter().map(|hit| hit.comment).collect::<BTreeSet<_>>(),
            Verdict::Dropped(by) => [by.comment].into(),
        }
    };
    assert_eq!(from("192.0.2.9"), BTreeSet::from(["n0/some".to_owned()]));
    assert_eq!(from("198.51.100.9"), BTreeSet::from(["n0/p is isolated".to_owned()]));
    assert_eq!(cluster.policies[0].metadata.name.as_deref(), Some("some"));
    assert!(ObjectKey::new("n0", "p") == PodView::of(&cluster.pods[0]).key);
}
