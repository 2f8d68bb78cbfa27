//! Tokens of service accounts, asked for under our own identity: so that controllers on a remote API server act as the
//! accounts that upstream gives them, as `--use-service-account-credentials` has it.

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use http::Method;
use parking_lot::Mutex;
use serde_json::{Value, json};
use troupe_api::{meta::Cause, status::Status};

use super::{Inner, request::Outgoing};

const PREFIX: &str = "system:serviceaccount:";
/// What is asked for.
const LIFETIME: Duration = Duration::from_secs(3600);
/// A token is renewed when this much of its lifetime is over.
const RENEW_AT: f64 = 0.8;

#[derive(Clone)]
struct Token {
    text: Arc<str>,
    renew_at: Instant,
}

/// The tokens known; each account has a lock of its own, so that many calls ask once.
#[derive(Default)]
pub struct AccountTokens(Mutex<HashMap<String, Arc<tokio::sync::Mutex<Option<Token>>>>>);

/// Namespace and name of a service account's user name.
pub fn account_of(user: &str) -> Option<(&str, &str)> {
    user.strip_prefix(PREFIX)?.split_once(':')
}

impl AccountTokens {
    fn slot(&self, user: &str) -> Arc<tokio::sync::Mutex<Option<Token>>> {
        self.0.lock().entry(user.to_owned()).or_default().clone()
    }

    /// The server does not take this token any more.
    pub async fn forget(&self, user: &str, text: &str) {
        let slot = self.slot(user);
        let mut slot = slot.lock().await;
        if slot.as_ref().is_some_and(|token| &*token.text == text) {
            *slot = None;
        }
    }

    /// A valid token of a service account.
    ///
    /// # Errors
    /// When the server gives none.
    pub async fn get(&self, inner: &Inner, user: &str, namespace: &str, name: &str) -> Result<Arc<str>, Status> {
        let slot = self.slot(user);
        let mut slot = slot.lock().await;
        if let Some(token) = slot.as_ref().filter(|token| Instant::now() < token.renew_at) {
            return Ok(token.text.clone());
        }
        let text = match request(inner, namespace, name).await {
            Err(status) if status.is_not_found() => {
                create(inner, namespace, name).await?;
                request(inner, namespace, name).await?
            }
            other => other?,
        };
        let text: Arc<str> = text.into();
        *slot = Some(Token { text: text.clone(), renew_at: Instant::now() + LIFETIME.mul_f64(RENEW_AT) });
        Ok(text)
    }
}

/// Asks for a token (`TokenRequest`).
async fn request(inner: &Inner, namespace: &str, name: &str) -> Result<String, Status> {
    let spec = json!({"audiences": [], "expirationSeconds": LIFETIME.as_secs()});
    let body = json!({"kind": "TokenRequest", "apiVersion": "authentication.k8s.io/v1", "spec": spec});
    let reply = post(inner, format!("/api/v1/namespaces/{namespace}/serviceaccounts/{name}/token"), &body).await?;
    let token = reply["status"]["token"].as_str().filter(|token| !token.is_empty());
    token.map(str::to_owned).ok_or_else(|| Status::internal(format!("the server gave no token for {namespace}/{name}")))
}

async fn create(inner: &Inner, namespace: &str, name: &str) -> Result<(), Status> {
    let body = json!({"kind": "ServiceAccount", "apiVersion": "v1", "metadata": {"name": name, "namespace": namespace}});
    match post(inner, format!("/api/v1/namespaces/{namespace}/serviceaccounts"), &body).await {
        Err(status) if !status.is_already_exists() => Err(status),
        _ => Ok(()),
    }
}

async fn post(inner: &Inner, path: String, body: &Value) -> Result<Value, Status> {
    let outgoing = Outgoing { method: Method::POST, path, body: Some(("application/json", Bytes::from(body.to_string()))) };
    let whole = inner.exchange(&outgoing, &Cause::default(), None).await?;
    serde_json::from_slice(&whole.body).map_err(Status::internal)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_service_account_is_known_by_its_user_name() {
        assert_eq!(account_of("system:serviceaccount:kube-system:deployment-controller"), Some(("kube-system", "deployment-controller")));
        assert_eq!(account_of("system:kube-scheduler"), None);
    }
}
