//! A pod's service account, for credential providers.

use std::sync::Arc;

use async_trait::async_trait;
use k8s_openapi::api::core::v1::{Pod, ServiceAccount};
use troupe_api::Status;

use super::material::Tokens;
use crate::kubelet::{context::NodeContext, credentials::provider::Accounts, volumes::payload::TokenRequest};

/// Seconds that a token is asked for: as long as where nobody says how long.
const TOKEN_SECONDS: i64 = 3600;

/// See the module.
pub(super) struct PodAccounts<'a> {
    pub context: &'a NodeContext,
    pub pod: &'a Pod,
    pub tokens: &'a Tokens,
}

/// The name of a pod's service account; empty where it has none, as pods from manifests.
pub(super) fn account_name(pod: &Pod) -> &str {
    pod.spec.as_ref().and_then(|spec| spec.service_account_name.as_deref()).unwrap_or_default()
}

#[async_trait]
impl Accounts for PodAccounts<'_> {
    async fn account(&self) -> Result<Option<Arc<ServiceAccount>>, Status> {
        let namespace = self.pod.metadata.namespace.as_deref().unwrap_or_default();
        self.context.cluster.service_account(namespace, account_name(self.pod)).await
    }

    async fn token(&self, audience: &str) -> Result<String, Status> {
        let request = TokenRequest { audience: audience.to_owned(), expiration_seconds: TOKEN_SECONDS };
        Ok(self.tokens.get(self.context, self.pod, &request).await?.token)
    }
}
