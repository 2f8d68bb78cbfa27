//! The units with policies of the whole cluster.

use std::{sync::Arc, time::Duration};

use imbl::OrdMap;
use serde_json::{Value, json};
use troupe_api::meta::{ObjectKey, Revision};
use troupe_net::{
    dns::domain_names::DomainName,
    iptables::{FakeIptables, Family},
};

use super::{
    layout::TABLE,
    model::Direction,
    names,
    unit_tests::{Stage, ingress, local, until},
};

fn deny(from: Value) -> Value {
    let subject = json!({"pods": {"namespaceSelector": {"matchLabels": {"team": "red"}}, "podSelector": {"matchLabels": {"app": "x"}}}});
    json!({"tier": "Admin", "priority": 1, "subject": subject, "ingress": [{"action": "Deny", "from": [from]}]})
}

fn evil() -> Value {
    deny(json!({"pods": {"namespaceSelector": {}, "podSelector": {"matchLabels": {"app": "evil"}}}}))
}

fn staged() -> (Arc<FakeIptables>, Stage) {
    let filter = Arc::new(FakeIptables::default());
    let stage = Stage::new(filter.clone(), None);
    stage.sync();
    (filter, stage)
}

#[tokio::test]
async fn rules_follow_cluster_policies_and_the_labels_of_namespaces() {
    local(async {
        let (filter, stage) = staged();
        stage.namespace(json!({"team": "blue"}));
        stage.pod("a", json!({"app": "x"}), "10.244.0.5");
        stage.cluster_policy("some", evil());
        stage.admit("other", json!({"app": "x"}), "10.244.0.6").await.expect("is admitted");
        assert_eq!(ingress(&filter, "a"), None, "of another team");
        let set = names::set(Family::V4, &stage.cluster_peers(evil(), &["10.244.1.7"]));
        assert_eq!(filter.set(&set), None, "nobody here needs it");
        stage.namespace(json!({"team": "red"}));
        let denies = |filter: &FakeIptables| ingress(filter, "a").is_some_and(|rules| rules.len() == 1 && rules[0].ends_with("-j DROP"));
        until("the rules", &filter, denies).await;
        until("the peers", &filter, |filter| filter.set(&set).is_some_and(|entries| entries == ["10.244.1.7"])).await;
        stage.remove_cluster_policy("some");
        until("their end", &filter, |filter| ingress(filter, "a").is_none() && filter.set(&set).is_none()).await;
    })
    .await;
}

#[tokio::test]
async fn a_pod_is_admitted_when_those_that_it_is_kept_from_are_known() {
    local(async {
        let (filter, stage) = staged();
        stage.namespace(json!({"team": "red"}));
        stage.cluster_policy("some", evil());
        let set = names::set(Family::V4, &stage.cluster_peers(evil(), &["10.244.1.7"]));
        stage.admit("a", json!({"app": "x"}), "10.244.0.5").await.expect("is admitted");
        assert!(ingress(&filter, "a").is_some());
        assert_eq!(filter.set(&set), Some(vec!["10.244.1.7".to_owned()]), "an empty set would deny nobody");
    })
    .await;
}

#[tokio::test]
async fn nobody_is_admitted_before_it_is_known_which_cluster_policies_there_are() {
    local(async {
        let filter = Arc::new(FakeIptables::default());
        let stage = Stage::new(filter.clone(), None);
        stage.policies.replace_now(OrdMap::new(), Revision(1));
        let waits = tokio::time::timeout(Duration::from_millis(100), stage.admit("a", json!({"app": "x"}), "10.244.0.5")).await;
        assert!(waits.is_err());
        stage.cluster_policies.replace_now(OrdMap::new(), Revision(1));
        stage.admit("a", json!({"app": "x"}), "10.244.0.5").await.expect("is admitted");
    })
    .await;
}

#[tokio::test]
async fn a_pod_of_a_namespace_that_is_heard_of_later_is_closed_until_then() {
    local(async {
        let (filter, stage) = staged();
        stage.cluster_policy("some", evil());
        stage.admit("a", json!({"app": "y"}), "10.244.0.5").await.expect("is admitted");
        assert!(ingress(&filter, "a").is_some_and(|rules| rules.last().is_some_and(|last| last.contains("ns/a is isolated"))));
        stage.namespace(json!({"team": "red"}));
        until("the opening", &filter, |filter| ingress(filter, "a").is_none()).await;
    })
    .await;
}

#[tokio::test]
async fn a_domain_name_leads_where_the_dns_servers_say_and_never_into_the_cluster() {
    local(async {
        let (filter, stage) = staged();
        stage.namespace(json!({"team": "red"}));
        let rules =
            json!([{"action": "Accept", "to": [{"domainNames": ["*.Example.com"]}]}, {"action": "Deny", "to": [{"networks": ["0.0.0.0/0"]}]}]);
        stage.cluster_policy("names", json!({"tier": "Admin", "priority": 1, "subject": {"namespaces": {}}, "egress": rules}));
        let name = DomainName::parse("*.example.com").expect("a name");
        stage.node("one", "198.51.102.2");
        stage.range("kubernetes", "10.96.0.0/16");
        stage.domain_peers(&name, &["203.0.113.7", "10.244.1.7", "198.51.102.2", "10.96.0.1", "127.0.0.1"]);
        stage.admit("a", json!({"app": "x"}), "10.244.0.5").await.expect("is admitted");
        let set = names::set(Family::V4, &name.id());
        until("the address", &filter, |filter| filter.set(&set).is_some_and(|entries| entries == ["203.0.113.7"])).await;
        let egress = filter.rules(TABLE, &names::pod_chain(Direction::Egress, &ObjectKey::new("ns", "a"))).expect("has rules");
        let elsewhere = format!("-m addrtype ! --dst-type LOCAL -m set --match-set {set} dst");
        assert!(egress[0].contains(&elsewhere), "it leads to no address of its machine: {egress:#?}");
        stage.domain_peers(&name, &["203.0.113.8", "203.0.113.7"]);
        until("the next address", &filter, |filter| filter.set(&set).is_some_and(|entries| entries.len() == 2)).await;
        // A node joins with an address that was told already.
        stage.node("two", "203.0.113.8");
        until("that it is a node's", &filter, |filter| filter.set(&set).is_some_and(|entries| entries == ["203.0.113.7"])).await;
        stage.remove_cluster_policy("names");
        until("its end", &filter, |filter| filter.set(&set).is_none()).await;
    })
    .await;
}
