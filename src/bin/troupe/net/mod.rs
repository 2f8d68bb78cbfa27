//! `troupe net`: what becomes of packets between two ends of the cluster.

mod facts;
mod hops;
mod path;
mod services;

use std::sync::Arc;

use anyhow::{Result, bail};
use clap::{Args, Subcommand};
use serde_json::Value;
use troupe_api_server::http::streaming::escaped;
use troupe_net::dns::domain_names;

use self::{facts::Facts, path::Question};
use crate::{ClusterArgs, remote::Remote};

/// What `troupe net` tells.
#[derive(Debug, Subcommand)]
pub enum NetCommand {
    /// Tell which Service, endpoint and network policy decide about a connection, as planned from the API's objects
    Path {
        #[command(flatten)]
        cluster: Box<ClusterArgs>,
        #[command(flatten)]
        arguments: PathArgs,
    },
}

/// `troupe net path FROM TO:PORT`
#[derive(Debug, Args)]
pub struct PathArgs {
    /// Who asks: pod/web-1, or an IP address
    from: String,
    /// Who is asked: pod/db-0:5432, service/db:5432, or an IP address and port
    to: String,
    /// The namespace of pods and Services that are named without one (pod/shop/web-1 names its own)
    #[arg(long, short, default_value = "default")]
    namespace: String,
    /// tcp, udp or sctp
    #[arg(long, default_value = "tcp")]
    protocol: String,
}

const CLUSTER_POLICIES: &str = "/apis/policy.networking.k8s.io/v1alpha2/clusternetworkpolicies";

/// Cluster network policies; none where nobody defines them.
async fn cluster_policies(remote: &Remote) -> Result<Vec<Value>> {
    if remote.get(CLUSTER_POLICIES).await?.0 == 404 {
        return Ok(Vec::new());
    }
    Ok(remote.get_json(CLUSTER_POLICIES).await?["items"].as_array().cloned().unwrap_or_default())
}

/// Prints the way.
pub async fn run(command: NetCommand) -> Result<()> {
    let NetCommand::Path { cluster, arguments } = command;
    let config = cluster.resolve()?;
    if !["tcp", "udp", "sctp"].contains(&arguments.protocol.as_str()) {
        bail!("--protocol is tcp, udp or sctp, not {}", arguments.protocol);
    }
    let question = Question {
        from: arguments.from.parse()?,
        to: arguments.to.parse()?,
        namespace: arguments.namespace.clone(),
        protocol: arguments.protocol.clone(),
    };
    let remote = Remote::open(&config.kubeconfig)?;
    let all = async |path: &str| -> Result<Vec<Value>> { Ok(remote.get_json(path).await?["items"].as_array().cloned().unwrap_or_default()) };
    let ours = escaped("kubernetes.io/service-name");
    let facts = Facts {
        pods: all("/api/v1/pods").await?,
        namespaces: all("/api/v1/namespaces").await?,
        nodes: all("/api/v1/nodes").await?,
        services: all("/api/v1/services").await?,
        slices: all(&format!("/apis/discovery.k8s.io/v1/endpointslices?labelSelector={ours}")).await?,
        policies: all("/apis/networking.k8s.io/v1/networkpolicies").await?,
        cluster_policies: cluster_policies(&remote).await?,
        domain_slices: all(&format!("/apis/discovery.k8s.io/v1/namespaces/{}/endpointslices", domain_names::NAMESPACE)).await?,
        service_ranges: all("/apis/networking.k8s.io/v1/servicecidrs").await?,
        cluster_ranges: config.pod_cidr.all(),
        non_masquerade_cidrs: config.non_masquerade_cidrs.clone(),
        daemons: Arc::new(config.daemon_ports()),
    };
    for line in path::tell(&facts, &question)? {
        println!("{line}");
    }
    Ok(())
}
