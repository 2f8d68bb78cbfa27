//! Reads `cluster-info` twice: trusting nobody, then trusting the CA that the token and the hash vouch for.

use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use rustls::ClientConfig;
use serde_json::Value;
use troupe_api::auth::{
    any_peer,
    bootstrap_tokens::{BootstrapToken, SIGNATURE_PREFIX, sign_detached},
    tls,
};

use super::{ClusterInfo, Invitation, pin};
use crate::remote::fetch;

const PATH: &str = "/api/v1/namespaces/kube-public/configmaps/cluster-info";
/// The signer needs a moment for a new token, the server perhaps longer to come up.
const PATIENCE: Duration = Duration::from_secs(60);
const PAUSE: Duration = Duration::from_millis(300);

/// Finds out where the cluster is and which CA it has.
///
/// # Errors
/// When nobody answers, the signature is not the token's, or the CA is not the one that was named.
pub async fn discover(invitation: &Invitation) -> Result<ClusterInfo> {
    let deadline = tokio::time::Instant::now() + PATIENCE;
    loop {
        match attempt(invitation).await {
            Ok(info) => return Ok(info),
            Err(Failure::Final(error)) => return Err(error),
            Err(Failure::Passing(error)) if tokio::time::Instant::now() > deadline => return Err(error),
            Err(Failure::Passing(error)) => {
                tracing::info!(error = format!("{error:#}"), server = invitation.server, "cannot learn about the cluster yet, will retry");
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

#[derive(Debug)]
enum Failure {
    /// Waiting may help.
    Passing(anyhow::Error),
    Final(anyhow::Error),
}

async fn attempt(invitation: &Invitation) -> Result<ClusterInfo, Failure> {
    // What it reads is checked by other means.
    let unverified = read(&invitation.server, (*any_peer()).clone()).await.map_err(Failure::Passing)?;
    let kubeconfig = verified(&unverified, &invitation.token)?;
    let info = ClusterInfo::parse(kubeconfig).map_err(Failure::Final)?;
    pin::check(&info.ca_pem, &invitation.ca_hashes).map_err(Failure::Final)?;
    let secure = tls::client_config(&info.ca_pem, None).context("the cluster's CA is unusable").map_err(Failure::Final)?;
    // Who answered before must now show a certificate of that CA, and say the same.
    let again =
        read(&invitation.server, secure).await.context("the server does not hold a certificate of the cluster's CA").map_err(Failure::Passing)?;
    let again = again.pointer("/data/kubeconfig").and_then(Value::as_str).unwrap_or_default();
    if again != kubeconfig {
        return Err(Failure::Passing(anyhow!("cluster-info reads differently over a trusted connection")));
    }
    Ok(info)
}

/// The kubeconfig in `cluster-info`, if the token signed it.
fn verified<'a>(map: &'a Value, token: &BootstrapToken) -> Result<&'a str, Failure> {
    let text = |key: &str| map.get("data").and_then(|data| data.get(key)).and_then(Value::as_str);
    let kubeconfig = text("kubeconfig").ok_or_else(|| Failure::Passing(anyhow!("cluster-info has no kubeconfig")))?;
    let missing = || Failure::Passing(anyhow!("cluster-info carries no signature by the token {}: has it expired?", token.id));
    let signature = text(&format!("{SIGNATURE_PREFIX}{}", token.id)).ok_or_else(missing)?;
    if signature != sign_detached(kubeconfig, token) {
        return Err(Failure::Final(anyhow!("cluster-info is not signed with this token's secret: a wrong token, or another cluster")));
    }
    Ok(kubeconfig)
}

async fn read(server: &str, tls: ClientConfig) -> Result<Value> {
    let (code, body) = fetch(server, tls, "GET", PATH).await?;
    let value: Value = serde_json::from_slice(&body).with_context(|| format!("{server} answered {code} and no JSON"))?;
    if code != 200 {
        bail!("{server} refuses to show cluster-info: {}", value["message"].as_str().unwrap_or("it does not say why"));
    }
    Ok(value)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn cluster_info_counts_only_with_the_tokens_own_signature() {
        let token = BootstrapToken { id: "abcdef".into(), secret: "0123456789abcdef".into() };
        let map = |signature: &str| json!({"data": {"kubeconfig": "K", "jws-kubeconfig-abcdef": signature}});
        assert_eq!(verified(&map(&sign_detached("K", &token)), &token).expect("is right"), "K");
        assert!(matches!(verified(&map(&sign_detached("L", &token)), &token), Err(Failure::Final(_))));
        // The signer may not have seen a new token yet.
        assert!(matches!(verified(&json!({"data": {"kubeconfig": "K"}}), &token), Err(Failure::Passing(_))));
    }
}
