//! containerd, a kubelet's server, an API server and a kubeconfig, all on ports and in a directory of their own.

use std::{
    collections::{BTreeMap, HashMap},
    net::TcpListener,
    path::PathBuf,
    process::Output,
    sync::Arc,
};

use serde_json::json;
use tokio::process::Command;
use troupe_api::{
    auth::{
        Authorizer,
        chain::{AuthorizerChain, PrivilegedGroups},
        kubeconfig::Kubeconfig,
        pki::{LeafSpec, Pki},
        tls,
        x509::X509Authenticator,
    },
    meta::SystemClock,
    version::VersionInfo,
};
use troupe_api_server::http::{
    self, HttpOptions, HttpServerHandle,
    streaming::{KubeletConnect, KubeletDialer},
};
use troupe_cri::{
    GrpcRuntime, Runtime, names,
    proto::{
        ContainerConfig, ContainerMetadata, ImageSpec, LinuxPodSandboxConfig, LinuxSandboxSecurityContext, NamespaceMode, NamespaceOption,
        PodSandboxConfig, PodSandboxMetadata,
    },
};

use crate::{
    apiserver::testing::{TestApi, boot},
    kubelet::{
        server::{CriPodDirectory, KubeletServerOptions, serve},
        tests::containerd::{BUSYBOX, Containerd},
    },
    serving::{LocalGate, ServerHandle},
    zpages::Zpages,
};

pub struct World {
    pub runtime: Arc<GrpcRuntime>,
    pub kubelet: ServerHandle,
    pub door: HttpServerHandle,
    pub api: TestApi,
    pub home: PathBuf,
    sandboxes: std::sync::Mutex<Vec<String>>,
    _containerd: Containerd,
}

fn leaf(file: &str, common_name: &str, group: &str) -> LeafSpec {
    let ips = vec!["127.0.0.1".parse().expect("an IP")];
    LeafSpec {
        file: file.into(),
        common_name: common_name.into(),
        organizations: vec![group.into()],
        ips,
        server: true,
        client: true,
        ..LeafSpec::default()
    }
}

impl World {
    pub async fn start() -> Self {
        let containerd = Containerd::start().await;
        let home = containerd.place.path().join("home");
        let pki = Pki::open(&home).expect("a CA");
        let server = pki.leaf(&leaf("server", "system:node:node", "system:nodes")).expect("a leaf");
        let admin = pki.leaf(&leaf("admin", "admin", "system:masters")).expect("a leaf");
        let server_tls = Arc::new(tls::server_config(&server, pki.ca_pem()).expect("a TLS configuration"));
        let client_tls = Arc::new(tls::client_config(pki.ca_pem(), Some(&admin)).expect("a TLS configuration"));
        let authorizer: Arc<dyn Authorizer> = Arc::new(AuthorizerChain::new(vec![Arc::new(PrivilegedGroups)]));
        let runtime = Arc::new(GrpcRuntime::new(containerd.socket()));
        let free = || TcpListener::bind("127.0.0.1:0").expect("a free port");
        let version = VersionInfo::of_build("0.0.1", "abc", "2026-01-02T03:04:05Z");
        let options = KubeletServerOptions {
            tls: server_tls.clone(),
            node_name: "node".into(),
            runtime: runtime.clone(),
            pods: Arc::new(CriPodDirectory::new(runtime.clone())),
            cgroup_parent: "troupe-test-of-the-server/kubepods".into(),
            checkpoints: home.as_path().into(),
            gate: Arc::new(LocalGate { authenticator: Arc::new(X509Authenticator), authorizer: authorizer.clone() }),
            configuration: Arc::new(json!({"maxPods": 7})),
            zpages: Arc::new(Zpages::new("kubelet", version.clone(), BTreeMap::new(), Vec::new(), Arc::new(SystemClock))),
            version: version.clone(),
            insight: None,
        };
        let kubelet = serve(free(), options).expect("serves");
        let api = boot().await;
        let mut options = HttpOptions::new(server_tls, api.server.clone(), Arc::new(X509Authenticator), authorizer, version);
        options.workers = 1;
        let connect = KubeletConnect::new(api.server.listers(), KubeletDialer::new(client_tls));
        options.connect = Some(Arc::new(connect.reaching_loopback()));
        let door = http::serve(free(), options).expect("serves");
        let kubeconfig = Kubeconfig { server: format!("https://{}", door.addr()), ca_pem: pki.ca_pem().into(), identity: admin };
        kubeconfig.write(&home.join("kubeconfig"), "test").expect("a kubeconfig");
        let world = World { runtime, kubelet, door, api, home, sandboxes: std::sync::Mutex::default(), _containerd: containerd };
        world.register_node().await;
        world
    }

    async fn register_node(&self) {
        let mut node = self.api.create(json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "node"}})).await.root().clone();
        node.insert(
            "status".into(),
            json!({"addresses": [{"type": "InternalIP", "address": "127.0.0.1"}],
                "daemonEndpoints": {"kubeletEndpoint": {"Port": self.kubelet.addr().port()}}}),
        );
        let target = self.api.subresource("nodes", "", "node", "status");
        self.api.try_update_at(target, node.into()).await.expect("the status is taken");
    }

    /// A pod on the host's network, in the API and at the runtime, without a kubelet between.
    pub async fn pod(&self, name: &str, containers: &[(&str, &str)]) -> String {
        let specs: Vec<_> =
            containers.iter().map(|(name, script)| json!({"name": name, "image": BUSYBOX, "command": ["sh", "-c", script]})).collect();
        let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": "default"},
            "spec": {"nodeName": "node", "hostNetwork": true, "containers": specs}});
        let mut running = self.api.create(pod).await.root().clone();
        running.insert("status".into(), json!({"phase": "Running"}));
        let target = self.api.subresource("pods", "default", name, "status");
        self.api.try_update_at(target, running.into()).await.expect("the status is taken");
        let sandbox = self.sandbox(name);
        let id = self.runtime.run_pod_sandbox(sandbox.clone(), "").await.expect("a sandbox");
        self.sandboxes.lock().expect("no panic holds it").push(id.clone());
        for (container, script) in containers {
            self.container(&id, &sandbox, container, script, 0).await;
        }
        id
    }

    fn sandbox(&self, name: &str) -> PodSandboxConfig {
        let namespaces = NamespaceOption { network: NamespaceMode::Node.into(), ..Default::default() };
        let security = LinuxSandboxSecurityContext { namespace_options: Some(namespaces), ..Default::default() };
        let labels = [(names::POD_NAME, name), (names::POD_NAMESPACE, "default"), (names::POD_UID, name)];
        PodSandboxConfig {
            metadata: Some(PodSandboxMetadata { name: name.into(), uid: name.into(), namespace: "default".into(), attempt: 0 }),
            log_directory: self.home.join("logs").join(name).display().to_string(),
            labels: labels.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect(),
            linux: Some(LinuxPodSandboxConfig { security_context: Some(security), ..Default::default() }),
            ..Default::default()
        }
    }

    /// Starts one attempt at a container.
    pub async fn container(&self, sandbox_id: &str, sandbox: &PodSandboxConfig, name: &str, script: &str, attempt: u32) -> String {
        let mut labels: HashMap<_, _> = sandbox.labels.clone();
        labels.insert(names::CONTAINER_NAME.into(), name.into());
        std::fs::create_dir_all(std::path::Path::new(&sandbox.log_directory).join(name)).expect("a directory");
        let config = ContainerConfig {
            metadata: Some(ContainerMetadata { name: name.into(), attempt }),
            image: Some(ImageSpec { image: BUSYBOX.into(), ..Default::default() }),
            command: ["sh", "-c", script].map(str::to_owned).to_vec(),
            labels,
            log_path: names::container_log_path(name, attempt),
            stdin: true,
            ..Default::default()
        };
        let id = self.runtime.create_container(sandbox_id, config, sandbox.clone()).await.expect("a container");
        self.runtime.start_container(&id).await.expect("starts");
        id
    }

    /// Runs kubectl to its end.
    pub async fn kubectl(&self, arguments: &[&str]) -> Output {
        let output = self.command(arguments).output();
        tokio::time::timeout(std::time::Duration::from_secs(30), output).await.expect("kubectl ends").expect("kubectl runs")
    }

    /// What kubectl printed; its standard error too when it failed.
    pub async fn says(&self, arguments: &[&str]) -> String {
        let output = self.kubectl(arguments).await;
        let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        if output.status.success() { out.into_owned() } else { format!("{out}{err}") }
    }

    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new("kubectl");
        command.env("HOME", &self.home).env("KUBECONFIG", self.home.join("kubeconfig")).args(arguments).kill_on_drop(true);
        command
    }

    /// Ends all pods; what is left of them would outlive containerd.
    pub async fn stop(self) {
        let sandboxes = std::mem::take(&mut *self.sandboxes.lock().expect("no panic holds it"));
        for id in sandboxes {
            self.runtime.stop_pod_sandbox(&id).await.expect("stops");
            self.runtime.remove_pod_sandbox(&id).await.expect("goes away");
        }
        self.kubelet.stop();
        self.door.stop().await;
    }
}
