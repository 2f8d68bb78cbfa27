//! Where a webhook is and whom to trust there (`WebhookClientConfig`).

use base64::{Engine, prelude::BASE64_STANDARD};
use serde_json::Value;

use crate::meta::tree::{at, text};

/// Where a webhook is.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Address {
    Url(String),
    Service { namespace: String, name: String, path: String, port: u16 },
}

/// How a webhook is reached (`WebhookClientConfig`).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ClientConfig {
    pub address: Address,
    /// PEM of whom is trusted to vouch for it; whom the system trusts if it is empty.
    pub authorities: Vec<u8>,
}

impl ClientConfig {
    /// Reads a `clientConfig`, as admission and definitions have it.
    pub fn read(config: &Value) -> Self {
        let service = at(config, &["service"]);
        let address = match service.is_null() {
            true => Address::Url(text(config, &["url"]).to_owned()),
            false => Address::Service {
                namespace: text(service, &["namespace"]).to_owned(),
                name: text(service, &["name"]).to_owned(),
                path: text(service, &["path"]).to_owned(),
                port: at(service, &["port"]).as_u64().and_then(|port| u16::try_from(port).ok()).unwrap_or(443),
            },
        };
        // Validation lets nothing else in than base64.
        let mut authorities = BASE64_STANDARD.decode(text(config, &["caBundle"])).unwrap_or_default();
        if authorities.trim_ascii().is_empty() {
            authorities.clear();
        }
        ClientConfig { address, authorities }
    }

    /// The URL that is called, without the query.
    pub fn url(&self) -> String {
        match &self.address {
            Address::Url(url) => url.clone(),
            Address::Service { namespace, name, path, port } => {
                format!("https://{name}.{namespace}.svc:{port}/{}", path.trim_start_matches('/'))
            }
        }
    }

    /// The name that the certificate of what is found at `host` must have.
    pub fn server_name(&self, host: &str) -> String {
        match &self.address {
            Address::Url(_) => host.to_owned(),
            Address::Service { namespace, name, .. } => format!("{name}.{namespace}.svc"),
        }
    }
}
