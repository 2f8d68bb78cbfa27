//! Namespaces that end under faults, while controllers and people still make things in them: what holds something is not let go, and nothing is left
//! behind.

use std::time::Duration;

use serde_json::json;
use tokio::time::{Instant, sleep};
use troupe_api::{
    resources::Resource,
    service::{DeleteOptions, ListOptions, Operation, PatchType, ReplyBody, Target, Verb},
};

use super::{
    Faults, simulate_with_clock,
    world::{World, seeds, template},
};
use crate::controllers::{namespace::NamespaceController, replicaset::ReplicaSetController, serviceaccount::ServiceAccountController};

/// How long faults go on, and how long the world then has to come to rest.
const FAULTY: Duration = Duration::from_secs(60);
const REST: Duration = Duration::from_secs(240);

impl World {
    async fn fill(&self, namespace: &str) {
        let metadata = |name: &str| json!({"name": name, "namespace": namespace});
        let mut held = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata("held")});
        held["metadata"]["finalizers"] = json!(["example.com/held"]);
        self.api.create(held).await;
        self.api.create(json!({"apiVersion": "v1", "kind": "Secret", "metadata": metadata("password")})).await;
        let spec = json!({"replicas": 3, "selector": {"matchLabels": {"app": "x"}}, "template": template("a", "Always")});
        self.api.create(json!({"apiVersion": "apps/v1", "kind": "ReplicaSet", "metadata": metadata("web"), "spec": spec})).await;
    }

    /// Makes something in the namespace every now and then, as long as it is let in.
    async fn make_more(&self, namespace: &str, time: Duration) {
        let begun = Instant::now();
        for at in 0.. {
            if begun.elapsed() >= time {
                return;
            }
            let metadata = json!({"name": format!("more-{at}"), "namespace": namespace});
            // Refused once the namespace is being terminated.
            let _ = self.api.try_create(json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata})).await;
            sleep(Duration::from_millis(300)).await;
        }
    }

    /// What there is in a namespace, of all kinds.
    async fn contents(&self, namespace: &str) -> Vec<String> {
        let registry = self.api.client.service().registry();
        let holds = |row: &Resource| {
            let is_stored = row.verbs.contains(&Verb::List) && row.verbs.contains(&Verb::Delete);
            row.namespaced && is_stored && row.group == row.storage_group && !row.is_elsewhere
        };
        let mut found = Vec::new();
        for row in registry.reachable().filter(|row| holds(row)).cloned() {
            let name = row.group_resource().to_string();
            let version = row.metadata_version();
            let target = Target { resource: row, version, namespace: namespace.into(), name: "".into(), subresource: "".into() };
            let reply = self.api.call(target, Operation::List(ListOptions::default())).await.expect("listed");
            let ReplyBody::List(list) = reply.body else { panic!("a list of {name} is none") };
            found.extend(list.items.iter().map(|item| format!("{name}/{}", item.key.name)));
        }
        found
    }
}

#[test]
fn a_namespace_goes_when_it_is_empty_and_leaves_nothing_behind() {
    for seed in seeds() {
        // One look at a namespace makes many calls, each of which may find the network parted.
        let usual = Faults { partition: 0.002, ..Faults::default() };
        for faults in [usual, Faults { lost_reply: 0.3, ..usual }] {
            simulate_with_clock(seed, |system, clock| async move {
                let world = World::new(system, clock, faults, seed).await;
                world.start(NamespaceController::new);
                world.start(ReplicaSetController::new);
                world.start(ServiceAccountController::new);
                for namespace in ["doomed", "other"] {
                    world.api.create(json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}})).await;
                    world.fill(namespace).await;
                }
                let steps = async {
                    world.make_more("doomed", FAULTY / 4).await;
                    world.api.delete("namespaces", "", "doomed", DeleteOptions::default()).await.expect("accepted");
                    world.make_more("doomed", FAULTY).await;
                };
                world.in_trouble(steps).await;
                sleep(REST).await;
                let namespace = world.api.get("namespaces", "", "doomed").await.expect("it stays as long as something is in it");
                assert_eq!(namespace.list(&["spec", "finalizers"]), [json!("kubernetes")], "seed {seed}");
                assert_eq!(world.contents("doomed").await, ["configmaps/held"], "seed {seed}: all else is gone");
                let target = world.api.target("configmaps", "doomed", "held");
                world.api.patch(target, PatchType::Merge, json!({"metadata": {"finalizers": null}})).await.expect("patched");
                sleep(REST).await;
                assert!(world.api.get("namespaces", "", "doomed").await.is_err_and(|status| status.is_not_found()), "seed {seed}");
                assert_eq!(world.contents("doomed").await, Vec::<String>::new(), "seed {seed}");
                let others = world.contents("other").await;
                assert!(others.contains(&"serviceaccounts/default".to_owned()), "seed {seed}: {others:?}");
                assert_eq!(others.iter().filter(|name| name.starts_with("pods/")).count(), 3, "seed {seed}: {others:?}");
            });
        }
    }
}
