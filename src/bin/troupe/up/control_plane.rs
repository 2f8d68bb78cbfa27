//! Brings up the control plane: store, API server, HTTPS.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener},
    sync::Arc,
};

use anyhow::{Context, Result};
use ipnetwork::IpNetwork;
use troupe_actors::{
    apiserver::{ApiServer, ApiServerOptions, Bootstrap},
    runtime::system::System,
};
use troupe_api::{
    auth::{
        kubeconfig::Kubeconfig,
        pki::{KeyedCertificate, LeafSpec, Pki},
        tls,
        tokens::Issuer,
    },
    http::{self, HttpOptions, HttpServerHandle, VersionInfo},
    store::Store,
};

use super::{Doors, identity};
use crate::config::Config;

/// The certificates of the control plane.
pub struct Certificates {
    pub ca_pem: String,
    pub serving: KeyedCertificate,
    pub admin: KeyedCertificate,
    /// Shown by the API server to kubelets.
    pub kubelet_client: KeyedCertificate,
    pub kubelet_serving: KeyedCertificate,
    /// PKCS#8 PEM that signs service-account tokens.
    pub service_account_key: String,
}

/// Reads or makes the certificates.
pub fn certificates(config: &Config) -> Result<Certificates> {
    let pki = Pki::open(&config.pki_dir()).context("cannot open the cluster's certificates")?;
    let leaf = |spec: LeafSpec| pki.leaf(&spec).context("cannot make a certificate");
    let mut dns_names: Vec<String> = ["kubernetes", "kubernetes.default", "kubernetes.default.svc", "localhost"].map(str::to_owned).to_vec();
    dns_names.extend([format!("kubernetes.default.svc.{}", config.cluster_domain), config.node_name.clone()]);
    let ips: Vec<IpAddr> = vec![config.kubernetes_service_ip().into(), config.node_ip, Ipv4Addr::LOCALHOST.into()];
    let client = |file: &str, name: &str, group: &str| LeafSpec {
        file: file.into(),
        common_name: name.into(),
        organizations: vec![group.into()],
        client: true,
        ..LeafSpec::default()
    };
    Ok(Certificates {
        ca_pem: pki.ca_pem().to_owned(),
        serving: leaf(LeafSpec {
            file: "apiserver".into(),
            common_name: "kube-apiserver".into(),
            dns_names,
            ips,
            server: true,
            ..LeafSpec::default()
        })?,
        admin: leaf(client("admin", "kubernetes-admin", "system:masters"))?,
        kubelet_client: leaf(client("apiserver-kubelet-client", "kube-apiserver-kubelet-client", "system:masters"))?,
        kubelet_serving: leaf(LeafSpec {
            file: "kubelet".into(),
            common_name: format!("system:node:{}", config.node_name),
            organizations: vec!["system:nodes".into()],
            dns_names: vec![config.node_name.clone(), "localhost".into()],
            ips: vec![config.node_ip, Ipv4Addr::LOCALHOST.into()],
            server: true,
            client: true,
        })?,
        service_account_key: pki.service_account_key().context("cannot make the token key")?,
    })
}

/// Writes the admin kubeconfig.
pub fn write_kubeconfig(config: &Config, certificates: &Certificates) -> Result<()> {
    let kubeconfig = Kubeconfig {
        server: format!("https://127.0.0.1:{}", config.api_port),
        ca_pem: certificates.ca_pem.clone(),
        identity: certificates.admin.clone(),
    };
    kubeconfig.write(&config.kubeconfig, "troupe").context("cannot write the admin kubeconfig")
}

/// Starts the API server on a store, waits until its caches are filled, and makes what every cluster has.
pub async fn start_api(
    config: &Config,
    certificates: &Certificates,
    issuer: &Arc<Issuer>,
    store: Arc<dyn Store>,
    system: &System,
) -> Result<Arc<ApiServer>> {
    let mut options = ApiServerOptions::new(store);
    options.system = system.clone();
    options.service_cidrs = vec![IpNetwork::V4(config.service_cidr)];
    identity::configure(&mut options, issuer.clone());
    let api = ApiServer::start(options).await.context("the API server cannot read its store")?;
    let bootstrap =
        Bootstrap { advertise: Some((config.node_ip, config.api_port)), client_ca: Some(certificates.ca_pem.clone()), objects: identity::objects() };
    api.bootstrap(&bootstrap).await.context("the API server cannot make what every cluster has")?;
    Ok(api)
}

/// What this build calls itself.
pub fn version() -> VersionInfo {
    let commit = option_env!("TROUPE_COMMIT").unwrap_or("unknown");
    VersionInfo::of_build(env!("CARGO_PKG_VERSION"), commit, option_env!("TROUPE_DATE").unwrap_or("1970-01-01T00:00:00Z"))
}

/// Serves the API over HTTPS.
pub fn serve(config: &Config, certificates: &Certificates, issuer: &Issuer, api: &Arc<ApiServer>, doors: Doors) -> Result<HttpServerHandle> {
    let address = SocketAddr::from((Ipv4Addr::UNSPECIFIED, config.api_port));
    let listener = TcpListener::bind(address).with_context(|| format!("cannot listen on port {}", config.api_port))?;
    let tls = tls::server_config(&certificates.serving, &certificates.ca_pem).context("the API server's certificate is unusable")?;
    let authenticator = identity::authenticator(issuer, api.listers());
    let mut options = HttpOptions::new(Arc::new(tls), api.clone(), authenticator, identity::authorizer(api.listers()), version());
    options.advertise = format!("{}:{}", config.node_ip, config.api_port);
    options.routes = doors.routes;
    options.connect = doors.connect;
    http::serve(listener, options).context("the API server cannot serve")
}
