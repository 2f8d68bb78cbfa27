//! A document of pods that a server has (`staticPodURL`).

use std::{collections::BTreeMap, fmt, sync::Arc, time::Duration};

use rustls::{ClientConfig, RootCertStore, crypto::ring};
use troupe_api::auth::tls::system_client_config;

use crate::kubelet::probes::http::{Target, fetch};

/// How long a request may take, redirects included, as upstream.
const PATIENCE: Duration = Duration::from_secs(10);

/// Where the document is, and how often it is looked at.
#[derive(Clone, PartialEq, Eq)]
pub struct PodUrl {
    url: String,
    target: Target,
    pub period: Duration,
}

/// Headers and URLs may hold secrets.
impl fmt::Debug for PodUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PodUrl").field("target", &self.to_string()).field("period", &self.period).finish_non_exhaustive()
    }
}

/// Without who asks.
impl fmt::Display for PodUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.target.fmt(f)
    }
}

impl PodUrl {
    /// `None` when it is no URL of `http` or `https`.
    pub fn parse(url: &str, headers: BTreeMap<String, String>, period: Duration) -> Option<Self> {
        let mut target = Target::parse(url, headers)?;
        target.headers.entry("user-agent".into()).or_insert_with(|| "kubelet".into());
        Some(PodUrl { url: url.to_owned(), target, period })
    }

    /// As it was given: part of what pods' uids are made of.
    pub(super) fn given(&self) -> &str {
        &self.url
    }

    /// The document, of at most `longest` bytes.
    ///
    /// # Errors
    /// When there is none, or its server is not trusted by this machine.
    pub(super) async fn get(&self, longest: usize) -> Result<Vec<u8>, String> {
        // Read each time: the authorities of a machine change. Where it trusts nobody there is plain HTTP.
        let tls = match tokio::task::spawn_blocking(system_client_config).await {
            Ok(Ok(tls)) => tls,
            _ => trusting_nobody().map_err(|error| error.to_string())?,
        };
        match tokio::time::timeout(PATIENCE, fetch(&self.target, &Arc::new(tls), longest)).await {
            Ok(got) => got,
            Err(_) => Err(format!("{self}: context deadline exceeded")),
        }
    }
}

fn trusting_nobody() -> Result<ClientConfig, rustls::Error> {
    let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider())).with_safe_default_protocol_versions()?;
    Ok(builder.with_root_certificates(RootCertStore::empty()).with_no_client_auth())
}
