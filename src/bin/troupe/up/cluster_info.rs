//! The ConfigMap `kube-public/cluster-info`, from which machines that want to join learn where the cluster is.

use anyhow::{Context, Result};
use base64::{Engine, prelude::BASE64_STANDARD};
use k8s_openapi::api::core::v1::ConfigMap;
use serde_json::json;
use troupe_api::service::PatchType;
use troupe_api_client::Client;

/// Makes the map say where the API server is; signatures that stand in it stay until their signer renews them.
pub async fn publish(client: &Client, server: &str, ca_pem: &str) -> Result<()> {
    let kubeconfig = kubeconfig(server, ca_pem)?;
    let api = client.namespaced::<ConfigMap>("kube-public");
    let known = api.get_opt("cluster-info").await.context("cannot read cluster-info")?;
    let Some(known) = known else {
        let map = json!({"metadata": {"name": "cluster-info", "namespace": "kube-public"}, "data": {"kubeconfig": kubeconfig}});
        let map: ConfigMap = serde_json::from_value(map).context("cluster-info is a ConfigMap")?;
        return api.create(&map).await.map(drop).context("cannot make cluster-info");
    };
    if known.data.as_ref().and_then(|data| data.get("kubeconfig")) == Some(&kubeconfig) {
        return Ok(());
    }
    api.patch("cluster-info", "", PatchType::Merge, &json!({"data": {"kubeconfig": kubeconfig}}))
        .await
        .map(drop)
        .context("cannot change cluster-info")
}

/// A kubeconfig without user, as kubeadm writes it.
fn kubeconfig(server: &str, ca_pem: &str) -> Result<String> {
    let document = json!({
        "apiVersion": "v1",
        "clusters": [{"cluster": {"certificate-authority-data": BASE64_STANDARD.encode(ca_pem), "server": server}, "name": ""}],
        "contexts": null, "current-context": "", "kind": "Config", "preferences": {}, "users": null,
    });
    serde_norway::to_string(&document).context("a JSON document is a YAML document")
}
