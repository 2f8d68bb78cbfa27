//! API server and controllers over HTTPS in this process, with certificates and a kubeconfig of their own.

use std::{
    net::SocketAddr,
    path::PathBuf,
    process::{Command, Output},
    sync::{Arc, mpsc},
    thread::JoinHandle,
    time::{Duration, Instant},
};

use tempfile::TempDir;
use tokio::sync::oneshot;
use troupe_actors::{
    apiserver::{ApiServer, ApiServerOptions, AuthResources, Bootstrap, VirtualResources},
    controllers::{
        deployment::DeploymentController, garbage_collector, namespace::NamespaceController, replicaset::ReplicaSetController,
        root_ca::RootCaPublisher, serviceaccount::ServiceAccountController,
    },
    runtime::{
        cache::Caches,
        controller::{self, Controller},
        system::{System, SystemOptions},
    },
};
use troupe_api::{
    auth::{
        Authenticator, Authorizer, bootstrap,
        chain::{AuthenticatorChain, AuthorizerChain, Masters},
        kubeconfig::Kubeconfig,
        pki::{KeyedCertificate, LeafSpec, Pki},
        rbac::Rbac,
        tls,
        tokens::{Issuer, SigningKey, Verifier},
        x509::X509Authenticator,
    },
    client::Client,
    http::{
        self, HttpOptions, HttpServerHandle, VersionInfo,
        options::bind,
        streaming::{KubeletConnect, KubeletDialer},
    },
    meta::SystemClock,
    service::{Listers, UserInfo},
    store::memory::MemoryStore,
};

/// A running control plane without nodes; gone when dropped.
pub struct ControlPlane {
    dir: TempDir,
    pub address: SocketAddr,
    pub ca_pem: String,
    pub admin: KeyedCertificate,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

/// What the clients' thread learns of the servers'.
struct Started {
    address: SocketAddr,
    ca_pem: String,
    admin: KeyedCertificate,
}

impl ControlPlane {
    /// Starts everything and waits until it answers.
    pub fn start() -> Self {
        let dir = tempfile::Builder::new().prefix("troupe-clients").tempdir().expect("a temporary directory");
        let pki = dir.path().join("pki");
        let ((started, wait), (stop, stopped)) = (mpsc::channel(), oneshot::channel());
        let thread = std::thread::spawn(move || {
            actix::System::new().block_on(async move {
                let (http, system, facts) = serve(&pki).await;
                started.send(facts).expect("the test waits");
                // A test that panicked drops its end, which stops as well.
                let _ = stopped.await;
                http.stop().await;
                system.shutdown(Duration::from_secs(5)).await;
            });
        });
        let Started { address, ca_pem, admin } = wait.recv_timeout(Duration::from_secs(60)).expect("the control plane starts");
        let plane = ControlPlane { dir, address, ca_pem, admin, stop: Some(stop), thread: Some(thread) };
        let kubeconfig = Kubeconfig { server: format!("https://{address}"), ca_pem: plane.ca_pem.clone(), identity: plane.admin.clone() };
        kubeconfig.write(&plane.kubeconfig(), "clients").expect("a kubeconfig");
        plane.eventually("the default service account is there", || plane.kubectl_output("get serviceaccount default").status.success());
        plane
    }

    /// The administrator's kubeconfig.
    pub fn kubeconfig(&self) -> PathBuf {
        self.dir.path().join("kubeconfig")
    }

    /// A file with this content.
    pub fn file(&self, name: &str, content: &str) -> String {
        let path = self.dir.path().join(name);
        std::fs::write(&path, content).expect("the directory is ours");
        path.to_string_lossy().into_owned()
    }

    /// Runs kubectl with words, of which `'` quotes some; it must succeed.
    pub fn kubectl(&self, words: &str) -> String {
        let output = self.kubectl_output(words);
        assert!(output.status.success(), "kubectl {words} failed:\n{}\n{}", text(&output.stdout), text(&output.stderr));
        text(&output.stdout)
    }

    /// Runs kubectl, which must fail, and returns what it says to that.
    pub fn kubectl_fails(&self, words: &str) -> String {
        let output = self.kubectl_output(words);
        assert!(!output.status.success(), "kubectl {words} succeeded:\n{}", text(&output.stdout));
        text(&output.stderr)
    }

    pub fn kubectl_output(&self, words: &str) -> Output {
        let mut command = Command::new("kubectl");
        command.env("KUBECONFIG", self.kubeconfig()).env("HOME", self.dir.path()).args(split(words));
        command.output().expect("kubectl is installed")
    }

    /// Waits until `condition` holds; fails after half a minute.
    pub fn eventually(&self, what: &str, condition: impl Fn() -> bool) {
        let deadline = Instant::now() + Duration::from_secs(30);
        while !condition() {
            assert!(Instant::now() < deadline, "not within half a minute: {what}");
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

impl Drop for ControlPlane {
    fn drop(&mut self) {
        // The thread may have ended on its own.
        let _ = self.stop.take().map(|stop| stop.send(()));
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

/// Words at blanks, outside of `'`.
fn split(words: &str) -> Vec<String> {
    let mut out = vec![String::new()];
    let mut quoted = false;
    for character in words.chars() {
        match character {
            '\'' => quoted = !quoted,
            ' ' if !quoted => out.push(String::new()),
            other => out.last_mut().expect("never empty").push(other),
        }
    }
    out.retain(|word| !word.is_empty());
    out
}

pub fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

async fn serve(pki: &std::path::Path) -> (HttpServerHandle, System, Started) {
    let pki = Pki::open(pki).expect("a CA");
    let leaf = |file: &str, name: &str, group: &str, server: bool| {
        let ips = vec!["127.0.0.1".parse().expect("an address")];
        let organizations = vec![group.to_owned()];
        pki.leaf(&LeafSpec { file: file.into(), common_name: name.into(), organizations, ips, server, client: !server, ..LeafSpec::default() })
            .expect("a leaf")
    };
    let (serving, admin) = (leaf("apiserver", "kube-apiserver", "", true), leaf("admin", "kubernetes-admin", "system:masters", false));
    let key = SigningKey::from_pem(&pki.service_account_key().expect("a key")).expect("a key");
    let issuer = Arc::new(Issuer::new(key));
    let system = System::new(SystemOptions::default()).expect("arbiters start");
    let api = start_api(&system, &issuer, pki.ca_pem()).await;
    start_controllers(&system, &api, pki.ca_pem());
    let tls = tls::server_config(&serving, pki.ca_pem()).expect("a TLS configuration");
    let version = VersionInfo::of_build("0.0.0", "unknown", "1970-01-01T00:00:00Z");
    let mut options = HttpOptions::new(Arc::new(tls), api.clone(), authenticator(&issuer, api.listers()), authorizer(api.listers()), version);
    let kubelets = tls::client_config(pki.ca_pem(), Some(&admin)).expect("a TLS configuration");
    options.connect = Some(Arc::new(KubeletConnect::new(api.listers(), KubeletDialer::new(Arc::new(kubelets)))));
    let http = http::serve(bind("127.0.0.1:0".parse().expect("an address")).expect("a free port"), options).expect("serves");
    let facts = Started { address: http.addr(), ca_pem: pki.ca_pem().to_owned(), admin };
    (http, system, facts)
}

async fn start_api(system: &System, issuer: &Arc<Issuer>, ca_pem: &str) -> Arc<ApiServer> {
    let mut options = ApiServerOptions::new(Arc::new(MemoryStore::new()));
    options.system = system.clone();
    options.authorizer = Some(Box::new(authorizer));
    let answering = issuer.clone();
    options.virtual_resources = Some(Box::new(move |listers| {
        let authenticator = authenticator(&answering, listers);
        let answers: Arc<dyn VirtualResources> = Arc::new(AuthResources { issuer: answering, authenticator, clock: Arc::new(SystemClock) });
        vec![answers]
    }));
    let api = ApiServer::start(options).await.expect("the store answers");
    let bootstrap = Bootstrap { advertise: None, client_ca: Some(ca_pem.to_owned()), objects: bootstrap::objects() };
    api.bootstrap(&bootstrap).await.expect("every cluster has these");
    api
}

fn start_controllers(system: &System, api: &Arc<ApiServer>, ca_pem: &str) {
    const MANAGER: &str = "kube-controller-manager";
    let groups = vec!["system:authenticated".to_owned()];
    let manager = Arc::new(UserInfo { name: "system:kube-controller-manager".into(), groups, ..UserInfo::default() });
    let caches = Caches::new(system.clone(), Client::new(api.clone(), manager, MANAGER));
    fn run<C: Controller>(system: &System, caches: &Caches, api: &Arc<ApiServer>, account: &str, controller: C) {
        controller::start(system, caches, Client::for_service_account(api.clone(), account, MANAGER), controller);
    }
    run(system, &caches, api, "deployment-controller", DeploymentController::new(&caches));
    run(system, &caches, api, "replicaset-controller", ReplicaSetController::new(&caches));
    run(system, &caches, api, "namespace-controller", NamespaceController::new(&caches));
    run(system, &caches, api, "service-account-controller", ServiceAccountController::new(&caches));
    run(system, &caches, api, "root-ca-cert-publisher", RootCaPublisher::new(&caches, ca_pem));
    garbage_collector::start(system, &Client::for_service_account(api.clone(), "generic-garbage-collector", MANAGER));
}

fn authenticator(issuer: &Issuer, listers: Arc<dyn Listers>) -> Arc<dyn Authenticator> {
    let keys = vec![issuer.public_key().clone()];
    let verifier = Verifier::new(keys, vec![issuer.name().to_owned()], issuer.audiences().to_vec(), listers, Arc::new(SystemClock));
    Arc::new(AuthenticatorChain::new(vec![Arc::new(X509Authenticator), Arc::new(verifier)], true))
}

fn authorizer(listers: Arc<dyn Listers>) -> Arc<dyn Authorizer> {
    Arc::new(AuthorizerChain::new(vec![Arc::new(Masters), Arc::new(Rbac::new(listers))]))
}
