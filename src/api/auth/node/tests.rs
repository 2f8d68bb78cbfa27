use parking_lot::RwLock;
use serde_json::{Value, json};

use super::*;
use crate::{
    auth::{Selection, rbac::tests::FixedListers},
    meta::{FieldSelector, LabelSelector},
    stored::StoredObject,
};

/// Caches that a test changes while the authorizer looks at them.
#[derive(Default)]
struct Changing(RwLock<FixedListers>);

impl Listers for Changing {
    fn get(&self, resource: &GroupResource, key: &ObjectKey) -> Option<Arc<StoredObject>> {
        self.0.read().get(resource, key)
    }

    fn list(&self, resource: &GroupResource, namespace: &str) -> Vec<Arc<StoredObject>> {
        self.0.read().list(resource, namespace)
    }
}

struct World {
    caches: Arc<Changing>,
    authorizer: NodeAuthorizer,
}

fn world() -> World {
    let caches = Arc::new(Changing::default());
    World { authorizer: NodeAuthorizer::new(caches.clone()), caches }
}

fn resource(name: &str) -> GroupResource {
    let (plural, group) = name.split_once('.').unwrap_or((name, ""));
    GroupResource::new(group, plural)
}

impl World {
    fn put(&self, plural: &str, object: Value) {
        self.caches.0.write().add(&resource(plural), object);
    }

    fn remove(&self, plural: &str, key: &ObjectKey) {
        self.caches.0.write().remove(&resource(plural), key);
    }

    fn ask(&self, node: &str, attributes: &Attributes<'_>) -> Decision {
        self.authorizer.authorize(&user(node), attributes)
    }
}

fn user(node: &str) -> UserInfo {
    UserInfo { name: format!("{USER_PREFIX}{node}"), groups: vec![NODES.into()], ..UserInfo::default() }
}

fn get<'a>(resource: &'a str, namespace: &'a str, name: &'a str) -> Attributes<'a> {
    Attributes { verb: "get", resource, namespace, name, ..Attributes::default() }
}

fn pod(name: &str, node: &str, spec: Value) -> Value {
    let mut spec = spec;
    spec["nodeName"] = node.into();
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": "a"}, "spec": spec})
}

fn unrelated(node: &str) -> Decision {
    no(format!("no relationship found between node '{node}' and this object"))
}

#[test]
fn a_node_reads_what_its_pods_mention_and_nothing_else() {
    let world = world();
    world.put(
        "pods",
        pod(
            "p",
            "one",
            json!({
                "serviceAccountName": "robot", "imagePullSecrets": [{"name": "pull"}],
                "containers": [{"name": "c", "envFrom": [{"secretRef": {"name": "all"}}, {"configMapRef": {"name": "settings"}}],
                    "env": [{"name": "X", "valueFrom": {"secretKeyRef": {"name": "key", "key": "k"}}}]}],
                "volumes": [{"name": "v", "projected": {"sources": [{"configMap": {"name": "projected"}}, {"secret": {"name": "inside"}}]}},
                    {"name": "s", "secret": {"secretName": "mounted"}}, {"name": "scratch", "ephemeral": {}}],
            }),
        ),
    );
    for secret in ["pull", "all", "key", "inside", "mounted"] {
        assert_eq!(world.ask("one", &get("secrets", "a", secret)), Decision::Allow, "{secret}");
        assert_eq!(world.ask("two", &get("secrets", "a", secret)), unrelated("two"), "{secret}");
    }
    for map in ["settings", "projected"] {
        assert_eq!(world.ask("one", &get("configmaps", "a", map)), Decision::Allow, "{map}");
    }
    assert_eq!(world.ask("one", &get("secrets", "b", "pull")), unrelated("one"));
    assert_eq!(world.ask("one", &get("persistentvolumeclaims", "a", "p-scratch")), Decision::Allow);
    let token = Attributes { verb: "create", subresource: "token", ..get("serviceaccounts", "a", "robot") };
    assert_eq!(world.ask("one", &token), Decision::Allow);
    assert_eq!(world.ask("two", &token), unrelated("two"));
}

#[test]
fn what_a_pod_led_to_is_out_of_reach_when_the_last_such_pod_is_gone() {
    let world = world();
    let spec = || json!({"volumes": [{"name": "s", "secret": {"secretName": "s"}}]});
    world.put("pods", pod("p", "one", spec()));
    world.put("pods", pod("q", "one", spec()));
    assert_eq!(world.ask("one", &get("secrets", "a", "s")), Decision::Allow);
    world.remove("pods", &ObjectKey::new("a", "p"));
    assert_eq!(world.ask("one", &get("secrets", "a", "s")), Decision::Allow);
    world.remove("pods", &ObjectKey::new("a", "q"));
    assert_eq!(world.ask("one", &get("secrets", "a", "s")), unrelated("one"));
}

#[test]
fn volumes_and_their_secrets_are_reached_through_claims() {
    let world = world();
    world.put("pods", pod("p", "one", json!({"volumes": [{"name": "d", "persistentVolumeClaim": {"claimName": "data"}}]})));
    world.put(
        "persistentvolumes",
        json!({"apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": "pv"}, "spec": {
            "claimRef": {"namespace": "a", "name": "data"},
            "csi": {"driver": "d", "nodeStageSecretRef": {"namespace": "storage", "name": "stage"},
                "controllerPublishSecretRef": {"namespace": "storage", "name": "controller"}}}}),
    );
    assert_eq!(world.ask("one", &get("persistentvolumes", "", "pv")), Decision::Allow);
    assert_eq!(world.ask("one", &get("secrets", "storage", "stage")), Decision::Allow);
    assert_eq!(world.ask("one", &get("secrets", "storage", "controller")), unrelated("one"));
    assert_eq!(world.ask("two", &get("persistentvolumes", "", "pv")), unrelated("two"));
    let list = Attributes { verb: "list", ..get("persistentvolumes", "", "") };
    assert_eq!(world.ask("one", &list), no("can only get individual resources of this type"));
}

#[test]
fn a_node_sees_its_own_local_volumes_and_takes_away_those_that_are_done() {
    let world = world();
    let volume = |name: &str, phase: &str, provisioner: &str| {
        json!({
            "apiVersion": "v1", "kind": "PersistentVolume",
            "metadata": {"name": name, "labels": {local_path::NODE_LABEL: "one"}, "annotations": {"pv.kubernetes.io/provisioned-by": provisioner}},
            "spec": {"persistentVolumeReclaimPolicy": "Delete"}, "status": {"phase": phase},
        })
    };
    world.put("persistentvolumes", volume("done", "Released", local_path::PROVISIONER));
    world.put("persistentvolumes", volume("used", "Bound", local_path::PROVISIONER));
    world.put("persistentvolumes", volume("foreign", "Released", "example.com/disk"));
    let delete = |name| Attributes { verb: "delete", ..get("persistentvolumes", "", name) };
    assert_eq!(world.ask("one", &delete("done")), Decision::Allow);
    assert_eq!(world.ask("two", &delete("done")), unrelated("two"));
    assert_eq!(world.ask("one", &delete("used")), unrelated("one"));
    assert_eq!(world.ask("one", &delete("foreign")), unrelated("one"));
    let own = LabelSelector::parse("local-path.troupe.dev/node=one").expect("parses");
    let watch = Attributes { verb: "watch", selection: Selection { labels: Some(&own), ..Selection::default() }, ..get("persistentvolumes", "", "") };
    assert_eq!(world.ask("one", &watch), Decision::Allow);
    let only = "can only get individual resources of this type";
    assert_eq!(world.ask("two", &watch), no(only));
    assert_eq!(world.ask("one", &Attributes { selection: Selection::default(), ..watch.clone() }), no(only));
    let update = Attributes { verb: "update", ..get("persistentvolumes", "", "done") };
    assert_eq!(world.ask("one", &update), no(only));
}

#[test]
fn pods_are_listed_by_node_and_nodes_see_only_themselves() {
    let world = world();
    let own = FieldSelector::parse("spec.nodeName=one").expect("parses");
    let list = Attributes { verb: "list", ..get("pods", "", "") };
    let own = Selection { fields: Some(&own), ..Selection::default() };
    assert_eq!(world.ask("one", &Attributes { selection: own, ..list.clone() }), Decision::Allow);
    assert_eq!(world.ask("two", &Attributes { selection: own, ..list.clone() }), no("can only list/watch pods with spec.nodeName field selector"));
    assert_eq!(world.ask("one", &list), no("can only list/watch pods with spec.nodeName field selector"));
    assert_eq!(world.ask("one", &get("nodes", "", "one")), Decision::Allow);
    assert_eq!(world.ask("one", &get("nodes", "", "two")), no("node 'one' cannot read 'two', only its own Node object"));
    let all = Attributes { verb: "watch", ..get("nodes", "", "") };
    assert_eq!(world.ask("one", &all), no("node 'one' cannot read all nodes, only its own Node object"));
    let mut other = user("one");
    other.groups.clear();
    assert_eq!(world.authorizer.authorize(&other, &get("nodes", "", "one")), no(""));
}

#[test]
fn leases_are_a_nodes_own_and_common_rules_hold_for_all() {
    let world = world();
    let lease = Attributes { verb: "update", group: "coordination.k8s.io", ..get("leases", LEASES, "one") };
    assert_eq!(world.ask("one", &lease), Decision::Allow);
    assert_eq!(world.ask("two", &lease), no("can only access node lease with the same name as the requesting node"));
    let foreign = Attributes { namespace: "kube-system", ..lease };
    assert_eq!(world.ask("one", &foreign), no("can only access leases in the \"kube-node-lease\" system namespace"));
    let services = Attributes { verb: "list", ..get("services", "", "") };
    assert_eq!(world.ask("one", &services), Decision::Allow);
    let deployments = Attributes { verb: "list", group: "apps", ..get("deployments", "", "") };
    assert_eq!(world.ask("one", &deployments), no(""));
}

#[test]
fn nodes_read_bundles_of_trust_anchors_where_there_are_any() {
    let listed = Attributes { verb: "list", group: "certificates.k8s.io", resource: "clustertrustbundles", ..Attributes::default() };
    let written = Attributes { verb: "create", ..listed.clone() };
    let of = |additions: &[Addition]| NodeAuthorizer::with(Arc::new(Changing::default()), additions);
    let asked = |authorizer: &NodeAuthorizer, attributes: &Attributes<'_>| authorizer.authorize(&user("one"), attributes) == Decision::Allow;
    assert!(!asked(&of(&[]), &listed));
    let with = of(&[Addition::TrustBundles]);
    assert!(asked(&with, &listed) && !asked(&with, &written));
}

#[test]
fn a_mirror_pod_opens_nothing() {
    let world = world();
    let mut mirror = pod("p", "one", json!({"volumes": [{"name": "s", "secret": {"secretName": "s"}}]}));
    mirror["metadata"]["annotations"] = json!({references::MIRROR: "hash"});
    world.put("pods", mirror);
    assert_eq!(world.ask("one", &get("secrets", "a", "s")), unrelated("one"));
    assert_eq!(world.ask("one", &get("pods", "a", "p")), Decision::Allow);
}

#[test]
fn requests_for_certificates_of_pods_are_made_and_seen_by_their_node() {
    const REQUESTS: &str = "podcertificaterequests";
    let world = world();
    world.put(
        "podcertificaterequests.certificates.k8s.io",
        json!({"apiVersion": "certificates.k8s.io/v1beta1", "kind": "PodCertificateRequest", "metadata": {"name": "r", "namespace": "a"},
            "spec": {"nodeName": "one"}}),
    );
    let group = "certificates.k8s.io";
    let one = Attributes { group, ..get(REQUESTS, "a", "r") };
    assert_eq!(world.ask("one", &one), Decision::Allow);
    assert_eq!(world.ask("two", &one), unrelated("two"));
    let create = Attributes { verb: "create", group, ..get(REQUESTS, "a", "") };
    assert_eq!(world.ask("two", &create), Decision::Allow);
    let status = Attributes { verb: "update", subresource: "status", ..one.clone() };
    assert_eq!(world.ask("one", &status), no("nodes may not access the status subresource of PodCertificateRequests"));
    assert_eq!(world.ask("one", &Attributes { verb: "delete", ..one.clone() }), no("nodes may not delete podcertificaterequests"));
    let all = Attributes { verb: "watch", group, ..get(REQUESTS, "", "") };
    assert_eq!(world.ask("one", &all), no("can only list/watch podcertificaterequests with nodeName field selector"));
    let fields = FieldSelector::parse("spec.nodeName=one").expect("a selector");
    let own = Attributes { selection: Selection { fields: Some(&fields), ..Selection::default() }, ..all };
    assert_eq!(world.ask("one", &own), Decision::Allow);
}
