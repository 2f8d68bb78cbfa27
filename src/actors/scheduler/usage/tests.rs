//! From the kernel to the scheduler, by a kubelet's server and an API server.

use std::{collections::BTreeMap, fs, net::TcpListener, path::Path, sync::Arc};

use serde_json::json;
use troupe_api::{
    auth::{
        chain::PrivilegedGroups,
        pki::{LeafSpec, Pki},
        tls,
        x509::X509Authenticator,
    },
    meta::{GroupResource, ObjectKey, SystemClock},
    service::PatchType,
    version::VersionInfo,
};
use troupe_api_server::{http::streaming::KubeletDialer, store::memory::MemoryStore};
use troupe_cri::{FakeRuntime, Runtime};

use super::fetch;
use crate::{
    apiserver::{
        ApiServerOptions,
        testing::{TestApi, boot_with, eventually},
    },
    kubelet::server::{CriPodDirectory, KubeletServerOptions, serve},
    serving::{LocalGate, ServerHandle},
    zpages::Zpages,
};

/// The server of node `n` on this machine, with a runtime that has no containers.
fn kubelet(pki: &Pki, home: &Path) -> ServerHandle {
    let serving = LeafSpec {
        file: "kubelet".into(),
        common_name: "system:node:n".into(),
        organizations: vec!["system:nodes".into()],
        ips: vec!["127.0.0.1".parse().expect("an IP")],
        server: true,
        ..LeafSpec::default()
    };
    let serving = pki.leaf(&serving).expect("a leaf");
    let runtime: Arc<dyn Runtime> = Arc::new(FakeRuntime::default());
    let version = VersionInfo::of_build("1", "c", "d");
    let options = KubeletServerOptions {
        tls: Arc::new(tls::server_config(&serving, pki.ca_pem()).expect("a TLS configuration")),
        node_name: "n".into(),
        runtime: runtime.clone(),
        pods: Arc::new(CriPodDirectory::new(runtime)),
        cgroup_parent: "troupe-test-of-usage/kubepods".into(),
        checkpoints: home.into(),
        gate: Arc::new(LocalGate { authenticator: Arc::new(X509Authenticator), authorizer: Arc::new(PrivilegedGroups) }),
        configuration: Arc::new(json!({})),
        zpages: Arc::new(Zpages::new("kubelet", version.clone(), BTreeMap::new(), Vec::new(), Arc::new(SystemClock))),
        version,
        insight: None,
    };
    serve(TcpListener::bind("127.0.0.1:0").expect("a free port"), options).expect("serves")
}

/// An API server that reaches kubelets on this machine.
async fn api_server(pki: &Pki) -> TestApi {
    let identity = LeafSpec {
        file: "apiserver".into(),
        common_name: "apiserver".into(),
        organizations: vec!["system:masters".into()],
        client: true,
        ..LeafSpec::default()
    };
    let identity = pki.leaf(&identity).expect("a leaf");
    let tls = tls::client_config(pki.ca_pem(), Some(&identity)).expect("a TLS configuration");
    let kubelets = Some(KubeletDialer::new(Arc::new(tls)).reaching_loopback());
    boot_with(ApiServerOptions { kubelets, ..ApiServerOptions::new(Arc::new(MemoryStore::new())) }).await
}

#[actix::test]
async fn what_the_kernel_tells_of_a_nodes_machine_reaches_the_scheduler() {
    let home = tempfile::tempdir().expect("a directory");
    let pki = Pki::open(home.path()).expect("a CA");
    let (kubelet, api) = (kubelet(&pki, home.path()), api_server(&pki).await);
    api.create(json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n"}})).await;
    let endpoint = json!({"kubeletEndpoint": {"Port": kubelet.addr().port()}});
    let status = json!({"status": {"addresses": [{"type": "InternalIP", "address": "127.0.0.1"}], "daemonEndpoints": endpoint}});
    api.patch(api.subresource("nodes", "", "n", "status"), PatchType::Merge, status).await.expect("written");
    let nodes = api.server.listers();
    let is_known = || {
        let node = nodes.get(&GroupResource::new("", "nodes"), &ObjectKey::new("", "n"));
        node.is_some_and(|node| node.to_object().get(&["status", "daemonEndpoints"]).is_some())
    };
    eventually("the API server knows where the kubelet is", async || is_known()).await;

    let figures = fetch(&api.client).await.expect("they are served");
    let usage = figures.get("n").expect("the node is measured");
    assert!(usage.memory > 0);
    let pressure = usage.pressure;
    let tells = |resource: &str| fs::read_to_string(format!("/proc/pressure/{resource}")).is_ok();
    let known = [pressure.cpu, pressure.memory, pressure.io].map(|share| share.is_some());
    assert_eq!(known, ["cpu", "memory", "io"].map(tells), "what this machine's kernel tells");
    kubelet.stop();
}
