//! What kubelets may do, through the whole of the API server: Node authorizer, NodeRestriction, certificates.

use std::sync::Arc;

use serde_json::{Value, json};
use troupe_api::{
    ApiReply, ApiService,
    auth::{
        chain::{AuthorizerChain, PrivilegedGroups},
        node::NodeAuthorizer,
        peer,
        rbac::Rbac,
    },
    certificates::Draft,
    meta::Cause,
    notices::Notices,
    service::{ApiCall, Body, ListOptions, Operation, PatchType, Target, UserInfo, WriteOptions},
    status::Status,
};
use troupe_api_server::store::memory::MemoryStore;

use crate::apiserver::{
    ApiServerOptions,
    testing::{TestApi, boot_with},
};

const REQUESTS: &str = "certificatesigningrequests.certificates.k8s.io";

async fn guarded() -> TestApi {
    let mut options = ApiServerOptions::new(Arc::new(MemoryStore::new()));
    options.authorizer = Some(Box::new(|listers| {
        Arc::new(AuthorizerChain::new(vec![Arc::new(PrivilegedGroups), Arc::new(NodeAuthorizer::new(listers.clone())), Arc::new(Rbac::new(listers))]))
    }));
    boot_with(options).await
}

async fn call(api: &TestApi, user: &str, target: Target, operation: Operation) -> Result<ApiReply, Status> {
    let groups = if user.starts_with("system:node:") { vec!["system:nodes".into()] } else { Vec::new() };
    let user = Arc::new(UserInfo { name: user.into(), groups, ..UserInfo::default() });
    api.server.call(ApiCall { user, target, operation, cause: Cause::root(), notices: Notices::default() }).await
}

async fn create(api: &TestApi, user: &str, target: Target, object: Value) -> Result<ApiReply, Status> {
    let body = Body::Json(object.to_string().into());
    call(api, user, target, Operation::Create { body, options: WriteOptions::default() }).await
}

async fn patch(api: &TestApi, user: &str, target: Target, patch: Value) -> Result<ApiReply, Status> {
    let operation = Operation::Patch { patch_type: PatchType::Merge, body: patch.to_string().into(), options: WriteOptions::default() };
    call(api, user, target, operation).await
}

fn message(result: Result<ApiReply, Status>) -> String {
    result.expect_err("is refused").message
}

const ONE: &str = "system:node:one";

fn node(name: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": name, "labels": {"kubernetes.io/hostname": name}}})
}

/// A node's own client, whose connection comes from `peer`.
async fn patch_from(api: &TestApi, peer: &str, target: Target, patch: Value) -> Result<ApiReply, Status> {
    let mut user = UserInfo { name: ONE.into(), groups: vec!["system:nodes".into()], ..UserInfo::default() };
    peer::note(&mut user, Some(peer.parse().expect("an address")));
    let operation = Operation::Patch { patch_type: PatchType::Merge, body: patch.to_string().into(), options: WriteOptions::default() };
    api.server.call(ApiCall { user: Arc::new(user), target, operation, cause: Cause::root(), notices: Notices::default() }).await
}

fn reports(kind: &str, address: &str) -> Value {
    json!({"status": {"addresses": [{"type": "Hostname", "address": "one"}, {"type": kind, "address": address}]}})
}

#[actix::test]
async fn a_node_reports_no_address_of_others_or_of_the_cluster() {
    let api = guarded().await;
    let range =
        json!({"apiVersion": "networking.k8s.io/v1", "kind": "ServiceCIDR", "metadata": {"name": "kubernetes"}, "spec": {"cidrs": ["10.96.0.0/12"]}});
    api.create(range).await;
    api.ensure(json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "default"}})).await;
    let servers = json!([{"addresses": [{"ip": "192.0.2.1"}], "ports": [{"name": "https", "port": 6443}]}]);
    api.create(json!({"apiVersion": "v1", "kind": "Endpoints", "metadata": {"name": "kubernetes", "namespace": "default"}, "subsets": servers}))
        .await;
    for (name, address) in [("one", "192.0.2.2"), ("two", "192.0.2.3")] {
        let mut made = node(name);
        made["status"] = json!({"addresses": [{"type": "InternalIP", "address": address}]});
        api.create(made).await;
    }
    let status = || api.subresource("nodes", "", "one", "status");
    let mine = "192.0.2.2";
    patch_from(&api, mine, status(), reports("InternalIP", "192.0.2.9")).await.expect("machines have several addresses");
    for (kind, address, why) in [
        ("InternalIP", "192.0.2.1", "the API server's"),
        ("ExternalIP", "10.96.0.1", "in the range of the cluster's services"),
        ("InternalIP", "127.0.0.1", "not an address that one machine has"),
        ("InternalIP", "169.254.169.254", "not an address that one machine has"),
        ("InternalIP", "::ffff:192.0.2.3", "node \"two\"'s"),
        ("InternalDNS", "two", "node \"two\"'s"),
        ("Hostname", "kubernetes.default.svc", "in the range of the cluster's services"),
        ("Hostname", "kubernetes", "the API server's"),
    ] {
        let refused = message(patch_from(&api, mine, status(), reports(kind, address)).await);
        let wanted = format!("nodes \"one\" is forbidden: node \"one\" is not allowed to report the address {address:?}, which is {why}");
        assert_eq!(refused, wanted);
    }
    patch_from(&api, "192.0.2.3", status(), reports("InternalIP", "192.0.2.3")).await.expect("it has that machine's address now");
    patch_from(&api, "192.0.2.1", status(), reports("InternalIP", "192.0.2.1")).await.expect("it is on the API server's machine");
}

#[actix::test]
async fn a_node_gives_itself_no_range_of_pods_addresses() {
    let api = guarded().await;
    let mut grabbing = node("one");
    grabbing["spec"] = json!({"podCIDR": "0.0.0.0/0", "podCIDRs": ["0.0.0.0/0"]});
    let refused = message(create(&api, ONE, api.target("nodes", "", ""), grabbing).await);
    assert_eq!(refused, "nodes \"one\" is forbidden: node \"one\" is not allowed to set podCIDR");
    create(&api, ONE, api.target("nodes", "", ""), node("one")).await.expect("registers");
    for spec in [json!({"podCIDR": "0.0.0.0/0"}), json!({"podCIDRs": ["10.244.7.0/24"]})] {
        let refused = message(patch(&api, ONE, api.target("nodes", "", "one"), json!({"spec": spec})).await);
        assert!(refused.ends_with("is not allowed to set podCIDR"), "{refused}");
    }
}

#[actix::test]
async fn a_node_keeps_its_own_object_and_no_other() {
    let api = guarded().await;
    let nodes = || api.target("nodes", "", "");
    create(&api, ONE, nodes(), node("one")).await.expect("registers");
    let refused = message(create(&api, ONE, nodes(), node("two")).await);
    assert_eq!(refused, "nodes \"two\" is forbidden: node \"one\" is not allowed to modify node \"two\"");
    let mut labelled = node("one");
    labelled["metadata"]["labels"]["node-role.kubernetes.io/control-plane"] = "".into();
    let refused = message(create(&api, ONE, nodes(), labelled).await);
    assert!(refused.ends_with("is not allowed to set the following labels: node-role.kubernetes.io/control-plane"), "{refused}");

    let own = || api.target("nodes", "", "one");
    let refused = message(patch(&api, ONE, own(), json!({"spec": {"taints": [{"key": "a", "effect": "NoExecute"}]}})).await);
    assert_eq!(refused, "nodes \"one\" is forbidden: node \"one\" is not allowed to modify taints");
    let status = json!({"status": {"addresses": [{"type": "InternalIP", "address": "10.0.0.1"}]}});
    patch(&api, ONE, api.subresource("nodes", "", "one", "status"), status).await.expect("reports");
    let all = call(&api, ONE, nodes(), Operation::List(ListOptions::default())).await;
    assert!(message(all).ends_with("node 'one' cannot read all nodes, only its own Node object"));
}

#[actix::test]
async fn a_node_reaches_what_its_pods_use_and_reports_on_them_only() {
    let api = guarded().await;
    for name in ["mine", "other"] {
        let on = if name == "mine" { "one" } else { "two" };
        api.create(json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name, "namespace": "default"}})).await;
        api.create(json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": "default"}, "spec": {
            "nodeName": on, "containers": [{"name": "c", "image": "i"}], "volumes": [{"name": "s", "secret": {"secretName": name}}]}}))
            .await;
    }
    let read = |name: &str| call(&api, ONE, api.target("secrets", "default", name), Operation::Get { resource_version: None });
    read("mine").await.expect("a pod of the node uses it");
    assert!(message(read("other").await).ends_with("no relationship found between node 'one' and this object"));

    let running = json!({"status": {"phase": "Running"}});
    patch(&api, ONE, api.subresource("pods", "default", "mine", "status"), running.clone()).await.expect("reports");
    let refused = message(patch(&api, ONE, api.subresource("pods", "default", "other", "status"), running).await);
    assert!(refused.ends_with("node \"one\" can only update pod status for pods with spec.nodeName set to itself"), "{refused}");
    let labels = json!({"metadata": {"labels": {"a": "b"}}});
    let refused = message(patch(&api, ONE, api.subresource("pods", "default", "mine", "status"), labels).await);
    assert!(refused.ends_with("node \"one\" cannot update labels through pod status"), "{refused}");

    let token = |pod: &Value| {
        let reference = json!({"apiVersion": "v1", "kind": "Pod", "name": pod["metadata"]["name"], "uid": pod["metadata"]["uid"]});
        json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {"audiences": [], "boundObjectRef": reference}})
    };
    let other = api.get("pods", "default", "other").await.expect("is there").into_value();
    let refused = message(create(&api, ONE, api.subresource("serviceaccounts", "default", "default", "token"), token(&other)).await);
    assert!(refused.ends_with("node requested token bound to a pod scheduled on a different node"), "{refused}");
    let foreign = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "new", "namespace": "default"},
        "spec": {"nodeName": "one", "containers": [{"name": "c", "image": "i"}]}});
    let refused = message(create(&api, ONE, api.target("pods", "default", ""), foreign).await);
    assert!(refused.contains("node \"one\" can only create mirror pods"), "{refused}");
}

fn signing_request(signer: &str, draft: &Draft) -> Value {
    use base64::{Engine, prelude::BASE64_STANDARD};
    let pem = draft.with_new_key().expect("a request").request_pem;
    json!({"apiVersion": "certificates.k8s.io/v1", "kind": "CertificateSigningRequest", "metadata": {"generateName": "r-"},
        "spec": {"request": BASE64_STANDARD.encode(pem), "signerName": signer, "usages": ["digital signature", "client auth"]}})
}

#[actix::test]
async fn certificates_are_asked_for_in_ones_own_name_and_approved_by_those_who_may() {
    let api = guarded().await;
    let requests = || api.target(REQUESTS, "", "");
    let client = "kubernetes.io/kube-apiserver-client-kubelet";
    let foreign = message(create(&api, ONE, requests(), signing_request(client, &Draft::node_client("two"))).await);
    assert!(foreign.ends_with("can only create a node CSR with CN=system:node:one"), "{foreign}");
    let made = create(&api, ONE, requests(), signing_request(client, &Draft::node_client("one"))).await.expect("is created");
    let made = made.into_tree().expect("an object");
    assert_eq!(made.str(&["spec", "username"]), ONE);

    let masters = Draft { common_name: "me".into(), organization: "system:masters".into(), ..Draft::default() };
    let refused = api.try_create(signing_request("kubernetes.io/kube-apiserver-client", &masters)).await.expect_err("is refused");
    assert!(refused.message.ends_with("use of kubernetes.io/kube-apiserver-client signer with system:masters group is not allowed"), "{refused}");

    let rbac = "rbac.authorization.k8s.io";
    let rules = json!([{"apiGroups": ["certificates.k8s.io"], "resources": ["certificatesigningrequests/approval"], "verbs": ["patch"]}]);
    api.create(json!({"apiVersion": format!("{rbac}/v1"), "kind": "ClusterRole", "metadata": {"name": "r"}, "rules": rules})).await;
    api.create(json!({"apiVersion": format!("{rbac}/v1"), "kind": "ClusterRoleBinding", "metadata": {"name": "r"},
        "roleRef": {"apiGroup": rbac, "kind": "ClusterRole", "name": "r"}, "subjects": [{"apiGroup": rbac, "kind": "User", "name": "bob"}]}))
        .await;
    let approval = api.subresource(REQUESTS, "", made.name(), "approval");
    let verdict = json!({"status": {"conditions": [{"type": "Approved", "status": "True", "reason": "R"}]}});
    let refused = message(patch(&api, "bob", approval.clone(), verdict.clone()).await);
    assert!(refused.ends_with(&format!("user not permitted to approve requests with signerName \"{client}\"")), "{refused}");
    let approved = api.patch(approval, PatchType::Merge, verdict).await.expect("an administrator may");
    assert!(!approved.list(&["status", "conditions"])[0]["lastUpdateTime"].is_null());
}

#[actix::test]
async fn a_node_reports_no_port_for_its_kubelet_that_is_another_service() {
    let api = guarded().await;
    let servers = json!([{"addresses": [{"ip": "192.0.2.1"}], "ports": [{"name": "https", "port": 6443}]}]);
    api.create(json!({"apiVersion": "v1", "kind": "Endpoints", "metadata": {"name": "kubernetes", "namespace": "default"}, "subsets": servers}))
        .await;
    let port = |port: i64| json!({"status": {"daemonEndpoints": {"kubeletEndpoint": {"Port": port}}}});
    let mut made = node("one");
    made["status"] = json!({"addresses": [{"type": "InternalIP", "address": "192.0.2.2"}]});
    made["status"]["daemonEndpoints"] = port(10250)["status"]["daemonEndpoints"].clone();
    create(&api, ONE, api.target("nodes", "", ""), made).await.expect("the usual port");
    let status = || api.subresource("nodes", "", "one", "status");
    for (number, why) in [(22, "privileged"), (1023, "privileged"), (-1, "no port"), (65536, "no port")] {
        let refused = message(patch_from(&api, "192.0.2.2", status(), port(number)).await);
        assert_eq!(refused, format!("nodes \"one\" is forbidden: node \"one\" is not allowed to report the kubelet port {number}, which is {why}"));
    }
    for number in [6443, 30250, 0, 10250] {
        patch_from(&api, "192.0.2.2", status(), port(number)).await.expect("its own machine's");
    }
    patch(&api, "admin", status(), port(443)).await.expect_err("nobody else may");
    api.patch(status(), PatchType::Merge, port(443)).await.expect("an administrator may");
    patch_from(&api, "192.0.2.2", status(), json!({"status": {"phase": "Running"}})).await.expect("what is there stays");
    // On the API server's machine its port is taken.
    api.patch(status(), PatchType::Merge, port(10250)).await.expect("an administrator may");
    patch_from(&api, "192.0.2.1", status(), reports("InternalIP", "192.0.2.1")).await.expect("it is on that machine");
    let refused = message(patch_from(&api, "192.0.2.1", status(), port(6443)).await);
    assert!(refused.ends_with("the kubelet port 6443, which is the API server's"), "{refused}");
}
