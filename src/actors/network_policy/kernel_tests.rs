//! The units and their rules against the kernel, in network namespaces of their own. Needs root, as the project's tests do.

use std::{sync::Arc, time::Duration};

use serde_json::{Value, json};
use troupe_net::{
    iptables::{Family, IpSets, Iptables, Observed, Patch},
    neighbours::Neighbours,
    netlink::Netlink,
    netns,
};

use super::{
    layout::{PolicyLayout, PolicyOwner, TABLE, base},
    model::PodView,
    plan::{closed, peer_rules, pod_rules},
    plan_tests::{pod, policy},
    unit_tests::Stage,
};
use crate::{
    proxy::kernel_tests::{Fixture, Namespace, ask_tcp, ask_udp, serve_tcp, serve_udp, sh},
    rules::{Changes, Ledger},
};

async fn observe(filter: &(impl Iptables + IpSets)) -> Observed {
    let mut observed = Observed::default();
    observed.read(&filter.save(TABLE).await.expect("saves"));
    observed.read_sets(&filter.save_sets().await.expect("saves"));
    observed
}

async fn apply(filter: &(impl Iptables + IpSets), patch: &Patch) {
    filter.restore_sets(patch.sets_before(Family::V4)).await.expect("takes sets");
    filter.restore(patch.to_restore()).await.unwrap_or_else(|error| panic!("{error}\n{}", patch.to_restore()));
    filter.restore_sets(patch.sets_after()).await.expect("takes sets");
    filter.destroy_sets(patch.destroy_sets.iter().cloned().collect()).await.expect("destroys sets");
}

fn all_sorts() -> Value {
    let ports = json!([
        {"port": 80}, {"port": 90, "endPort": 99, "protocol": "UDP"}, {"port": "web"}, {"protocol": "SCTP"}, {"port": 9, "protocol": "SCTP"},
        {"port": 1, "endPort": 65535}, {"protocol": "TCP"},
    ]);
    let peers = json!([
        {"podSelector": {"matchLabels": {"a": "b"}}}, {"namespaceSelector": {}}, {"ipBlock": {"cidr": "0.0.0.0/0", "except": ["10.0.0.0/8", "192.0.2.1/32"]}},
    ]);
    json!({
        "podSelector": {}, "policyTypes": ["Ingress", "Egress"],
        "ingress": [{"from": peers, "ports": ports}, {"from": peers}, {"ports": ports}],
        "egress": [{"to": peers, "ports": ports}, {"to": peers}, {"ports": ports}],
    })
}

#[tokio::test]
async fn the_kernel_prints_our_rules_and_sets_as_we_spell_them() {
    let namespace = Namespace::new();
    let filter = troupe_net::iptables::HostIptables::within(namespace.path());
    let mut ledger = Ledger::<PolicyLayout>::new(base(Family::V4), Family::V4);
    apply(&filter, &ledger.reconcile(&observe(&filter).await)).await;
    let policy = Arc::new(policy("all", all_sorts()));
    let pods: Vec<PodView> = (5..40).map(|low| pod(&format!("p{low}"), json!({}), &format!("10.244.0.{low}"))).collect();
    let mut changes = Changes::<PolicyOwner>::new();
    for pod in &pods {
        changes.insert(PolicyOwner::Pod(pod.key.clone()), Some(Arc::new(pod_rules(pod, std::slice::from_ref(&policy), Family::V4))));
    }
    for (id, set) in policy.peer_sets() {
        let entries = match set.kind() {
            troupe_net::iptables::SetKind::Net => vec!["10.244.1.1".to_owned(), "10.244.1.2".to_owned()],
            troupe_net::iptables::SetKind::AddressPort => vec!["10.244.1.1,tcp:80".to_owned(), "10.244.1.2,sctp:90".to_owned()],
        };
        changes.insert(PolicyOwner::Peers(id), Some(Arc::new(peer_rules(&set, entries, Family::V4))));
    }
    apply(&filter, &ledger.patch(&changes)).await;
    ledger.commit(&changes);
    let left = ledger.reconcile(&observe(&filter).await);
    assert!(left.is_empty(), "{}\n{left:?}", left.to_restore());
    let shut = Changes::from([(PolicyOwner::Pod(pods[0].key.clone()), Some(Arc::new(closed(&pods[0], Family::V4))))]);
    apply(&filter, &ledger.patch(&shut)).await;
    ledger.commit(&shut);
    assert!(ledger.reconcile(&observe(&filter).await).is_empty());
    let gone: Changes<PolicyOwner> = changes.into_keys().map(|owner| (owner, None)).collect();
    apply(&filter, &ledger.patch(&gone)).await;
    ledger.commit(&gone);
    let observed = observe(&filter).await;
    assert!(ledger.reconcile(&observed).is_empty());
    assert!(observed.sets().is_empty(), "{:?}", observed.sets());
    let removal = troupe_net::cleanup::removal(&observed, troupe_net::cleanup::is_ours);
    filter.restore(removal.to_restore()).await.expect("applies");
    assert!(observe(&filter).await.chains().all(|(id, rules)| rules.is_empty() && !troupe_net::cleanup::is_ours(id)));
}

/// Asks from a pod of the fixture, or from its node.
async fn ask(fixture: &Arc<Fixture>, from: Option<usize>, to: &str, udp: bool) -> Result<String, std::io::ErrorKind> {
    let (fixture, to) = (fixture.clone(), to.to_owned());
    let work = move || {
        let from = from.map_or(&fixture.node, |at| &fixture.pods[at]);
        if udp { ask_udp(from, &to) } else { ask_tcp(from, &to) }
    };
    tokio::task::spawn_blocking(work).await.expect("does not panic")
}

/// A cluster of three pods on one bridge.
struct Three {
    fixture: Arc<Fixture>,
    stage: Stage,
}

const SERVER: usize = 0;
const CLIENT: usize = 1;
const OTHER: usize = 2;

impl Three {
    fn new() -> Self {
        let fixture = Arc::new(Fixture::new(&[5, 6, 7]));
        for port in [80, 81] {
            serve_tcp(&fixture.pods[SERVER], port, "server");
        }
        serve_udp(&fixture.pods[SERVER], 53, "names");
        serve_tcp(&fixture.pods[OTHER], 80, "other");
        let stage = Stage::new(Arc::new(fixture.iptables()), None);
        stage.sync();
        for (name, ip) in [("server", "10.244.0.5"), ("client", "10.244.0.6"), ("other", "10.244.0.7")] {
            stage.pod(name, json!({"app": name}), ip);
        }
        Three { fixture, stage }
    }

    async fn tcp(&self, from: usize, to: &str) -> Result<String, std::io::ErrorKind> {
        ask(&self.fixture, Some(from), to, false).await
    }

    /// Asks until it is answered, or not: rules come by themselves. A packet that is dropped costs two seconds.
    async fn until(&self, from: usize, to: &str, answered: bool) {
        for _ in 0..20 {
            if self.tcp(from, to).await.is_ok() == answered {
                return;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("{to} is {}answered to pod {from}", if answered { "not " } else { "" });
    }
}

/// Real packets between pods of one bridge.
#[tokio::test]
async fn pods_of_one_node_are_kept_apart_as_policies_say() {
    tokio::task::LocalSet::new()
        .run_until(async {
            let three = Three::new();
            let stage = &three.stage;
            three.until(CLIENT, "10.244.0.5:80", true).await;

            // Nobody comes in but the node, whose probes always do.
            stage.policy("deny", json!({"podSelector": {"matchLabels": {"app": "server"}}}));
            three.until(CLIENT, "10.244.0.5:80", false).await;
            assert_eq!(ask(&three.fixture, None, "10.244.0.5:80", false).await.as_deref(), Ok("server"));
            assert_eq!(three.tcp(SERVER, "10.244.0.7:80").await.as_deref(), Ok("other"), "what it begins itself is answered");

            // Pods by label and port.
            let spec = json!({"podSelector": {"matchLabels": {"app": "server"}}, "ingress": [
                {"from": [{"podSelector": {"matchLabels": {"app": "client"}}}], "ports": [{"port": 80}, {"port": 53, "protocol": "UDP"}]}]});
            stage.policy("allow", spec.clone());
            stage.peers("allow", spec, &["10.244.0.6"]);
            three.until(CLIENT, "10.244.0.5:80", true).await;
            assert_eq!(ask(&three.fixture, Some(CLIENT), "10.244.0.5:53", true).await.as_deref(), Ok("names"));
            assert!(three.tcp(CLIENT, "10.244.0.5:81").await.is_err(), "another port");
            assert!(three.tcp(OTHER, "10.244.0.5:80").await.is_err(), "another pod");

            // Nothing goes out but to a block with an exception.
            let blocks = json!({"podSelector": {"matchLabels": {"app": "client"}}, "policyTypes": ["Egress"],
                "egress": [{"to": [{"ipBlock": {"cidr": "10.244.0.0/24", "except": ["10.244.0.7/32"]}}]}]});
            stage.policy("out", blocks);
            three.until(CLIENT, "10.244.0.7:80", false).await;
            assert_eq!(three.tcp(CLIENT, "10.244.0.5:80").await.as_deref(), Ok("server"), "both ends allow it");
            assert_eq!(three.tcp(OTHER, "10.244.0.6:1").await, Err(std::io::ErrorKind::ConnectionRefused), "it is reached, and refuses by itself");

            for policy in ["deny", "allow", "out"] {
                stage.remove(&stage.policies, policy);
            }
            three.until(CLIENT, "10.244.0.7:80", true).await;
            three.until(OTHER, "10.244.0.5:81", true).await;
        })
        .await;
}

#[tokio::test]
async fn rules_that_somebody_took_away_are_put_back() {
    tokio::task::LocalSet::new()
        .run_until(async {
            let three = Three::new();
            three.stage.policy("deny", json!({"podSelector": {"matchLabels": {"app": "server"}}}));
            three.until(CLIENT, "10.244.0.5:80", false).await;
            let filter = three.fixture.iptables();
            filter.restore("*mangle\n-F TROUPE-POLICY\nCOMMIT\n".to_owned()).await.expect("flushes");
            assert!(three.tcp(CLIENT, "10.244.0.5:80").await.is_ok(), "the kernel obeys whoever asks");
            let back = async {
                while !observe(&filter).await.chains().any(|(id, rules)| id.name == "TROUPE-POLICY" && rules.len() == 3) {
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            };
            tokio::time::timeout(Duration::from_secs(20), back).await.expect("the rules are put back");
            assert!(three.tcp(CLIENT, "10.244.0.5:80").await.is_err());
        })
        .await;
}

#[test]
fn who_had_an_address_is_forgotten_when_it_is_given_out_again() {
    let fixture = Fixture::new(&[5]);
    serve_tcp(&fixture.pods[0], 80, "pod");
    let node = fixture.node.path();
    let name = node.file_name().and_then(|name| name.to_str()).expect("a name").to_owned();
    // A pod that is gone had another hardware address.
    sh(&format!("ip -n {name} neigh replace 10.244.0.5 lladdr 02:00:00:00:00:09 dev br0 nud permanent"));
    assert!(ask_tcp(&fixture.node, "10.244.0.5:80").is_err(), "the packet goes to nobody");
    let forget = || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async {
            let netlink = Netlink::open().expect("a socket");
            netlink.forget(&["10.244.0.5".parse().expect("an address"), "10.244.0.99".parse().expect("an address")]).await
        })
    };
    netns::run(&node, forget).expect("the namespace exists").expect("is forgotten");
    assert_eq!(ask_tcp(&fixture.node, "10.244.0.5:80").as_deref(), Ok("pod"));
}
