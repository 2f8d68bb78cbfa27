//! Joining a cluster with a token: finding out whom to trust, and getting an identity.
//!
//! The discovery is kubeadm's. `cluster-info` is read over a connection that trusts nobody; the token's signature on it
//! and the hash of the CA's public key say whether it is right; then it is read again, trusting that CA. With the token
//! a client certificate for `system:node:NAME` is asked for, and with it the node's kubeconfig is written.

mod discovery;
mod info;
mod pin;

use std::{path::PathBuf, sync::Arc};

use anyhow::{Context, Result, bail};
use k8s_openapi::api::core::v1::Node;
use troupe_actors::kubelet::certificates::{Purpose, request};
use troupe_api::{
    auth::{bootstrap_tokens::BootstrapToken, kubeconfig::Kubeconfig},
    certificates::Draft,
};
use troupe_api_client::{
    Client,
    remote::{Access, RemoteApi, RemoteOptions},
};

pub use self::{info::ClusterInfo, pin::ca_hash};

/// How a machine was told to join.
#[derive(Clone, Debug)]
pub struct Invitation {
    /// `https://HOST:6443`
    pub server: String,
    pub token: BootstrapToken,
    /// `sha256:…` of CAs' public keys, one of which must be the cluster's. Empty trusts the token alone.
    pub ca_hashes: Vec<String>,
}

/// Where a joined node keeps what makes it one.
#[derive(Clone, Debug)]
pub struct NodeIdentity {
    pub name: String,
    /// Where the node's kubeconfig is, or will be.
    pub kubeconfig: PathBuf,
}

/// Makes sure that the node has a kubeconfig: the one from an earlier join, else one by the invitation. Joining again changes nothing.
///
/// # Errors
/// When the cluster is not the one that was meant, refuses, or cannot be reached.
pub async fn ensure_identity(node: &NodeIdentity, invitation: &Invitation) -> Result<()> {
    if Kubeconfig::read(&node.kubeconfig).is_ok() {
        return Ok(());
    }
    let info = discovery::discover(invitation).await?;
    let access =
        Access { servers: vec![info.server.clone()], ca_pem: info.ca_pem.clone(), token: Some(invitation.token.to_string()), ..Access::default() };
    let api = RemoteApi::fixed(access, RemoteOptions::new(&node.kubeconfig)).context("the cluster's CA is unusable")?;
    let client = Client::new(Arc::new(api), Arc::default(), "troupe");
    refuse_twin(&client, &node.name).await?;
    tracing::info!(server = info.server, node = node.name, "asking the cluster for an identity");
    let identity = request(&client, &Draft::node_client(&node.name), Purpose::Client, None).await.context("the node got no certificate")?;
    let kubeconfig = Kubeconfig { server: info.server, ca_pem: info.ca_pem, identity };
    kubeconfig.write(&node.kubeconfig, "kubelet").with_context(|| format!("cannot write {}", node.kubeconfig.display()))
}

/// A node of this name that is alive is another machine: two would fight over one Node object.
async fn refuse_twin(client: &Client, name: &str) -> Result<()> {
    let known = client.all::<Node>().get_opt(name).await.context("the cluster does not accept the token")?;
    let conditions = known.iter().flat_map(|node| node.status.iter()).flat_map(|status| status.conditions.iter().flatten());
    if conditions.into_iter().any(|condition| condition.type_ == "Ready" && condition.status == "True") {
        bail!("a node named {name:?} is in the cluster already and Ready; choose another --node-name, or delete that Node first");
    }
    Ok(())
}
