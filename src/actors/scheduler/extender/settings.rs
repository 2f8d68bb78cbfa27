//! How an extender is reached and what it is asked (`extenders` of a `KubeSchedulerConfiguration`).

use std::{collections::BTreeSet, path::Path, sync::Arc, time::Duration};

use base64::{Engine, prelude::BASE64_STANDARD};
use k8s_openapi::api::core::v1::{Container, Pod};
use rustls::ClientConfig as TlsConfig;
use serde_json::Value;
use troupe_api::{
    auth::{
        any_peer,
        pki::KeyedCertificate,
        tls::{self, RenewableCertificate},
    },
    expressions::go_duration,
};

/// Unless `httpTimeout` says otherwise.
const PATIENCE: Duration = Duration::from_secs(5);

/// An extender as it is configured.
#[derive(Clone, Debug)]
pub struct ExtenderSettings {
    /// Without a slash at the end.
    pub url: String,
    pub filter_verb: String,
    pub prioritize_verb: String,
    pub preempt_verb: String,
    pub bind_verb: String,
    /// What a point of its scores counts.
    pub weight: i64,
    pub timeout: Duration,
    /// It knows the nodes: it is told names alone.
    pub node_cache_capable: bool,
    /// Pods are its business that ask for one of these; all are, if there are none.
    pub managed: BTreeSet<String>,
    /// Of those, what the scheduler itself does not count.
    pub ignored: Vec<String>,
    /// Pods are scheduled without it where it fails.
    pub ignorable: bool,
    /// For `https`.
    pub tls: Option<Arc<TlsConfig>>,
    /// The name that its certificate has to have, if not that of its URL.
    pub server_name: Option<String>,
}

impl ExtenderSettings {
    /// Reads one that was checked, and the files that it names.
    ///
    /// # Errors
    /// What cannot be used.
    pub fn read(extender: &Value) -> Result<Self, String> {
        let text = |field: &str| extender[field].as_str().unwrap_or_default().to_owned();
        let url = text("urlPrefix").trim_end_matches('/').to_owned();
        let parsed: http::Uri = url.parse().map_err(|error| format!("urlPrefix {url:?}: {error}"))?;
        if !matches!(parsed.scheme_str(), Some("http" | "https")) || parsed.host().is_none() {
            return Err(format!("urlPrefix {url:?} is no URL of http or https"));
        }
        let timeout = extender["httpTimeout"].as_str().and_then(|text| go_duration(text).ok()).and_then(|nanos| u64::try_from(nanos).ok());
        let managed = || extender["managedResources"].as_array().into_iter().flatten();
        let name = |resource: &Value| resource["name"].as_str().unwrap_or_default().to_owned();
        let tls = &extender["tlsConfig"];
        let secured = parsed.scheme_str() == Some("https");
        Ok(ExtenderSettings {
            filter_verb: text("filterVerb"),
            prioritize_verb: text("prioritizeVerb"),
            preempt_verb: text("preemptVerb"),
            bind_verb: text("bindVerb"),
            weight: extender["weight"].as_i64().unwrap_or(0),
            timeout: timeout.filter(|nanos| *nanos > 0).map_or(PATIENCE, Duration::from_nanos),
            node_cache_capable: extender["nodeCacheCapable"] == true,
            managed: managed().map(name).collect(),
            ignored: managed().filter(|resource| resource["ignoredByScheduler"] == true).map(name).collect(),
            ignorable: extender["ignorable"] == true,
            tls: if secured { Some(Arc::new(tls_config(tls, extender["enableHTTPS"] == true)?)) } else { None },
            server_name: tls["serverName"].as_str().filter(|name| !name.is_empty()).map(str::to_owned),
            url,
        })
    }

    /// Whether a pod is its business.
    pub fn is_interested(&self, pod: &Pod) -> bool {
        let Some(spec) = &pod.spec else { return false };
        let mut containers = spec.containers.iter().chain(spec.init_containers.iter().flatten());
        self.managed.is_empty() || containers.any(|container| self.manages(container))
    }

    fn manages(&self, container: &Container) -> bool {
        let Some(resources) = &container.resources else { return false };
        let mut names = resources.requests.iter().flatten().chain(resources.limits.iter().flatten()).map(|(name, _)| name);
        names.any(|name| self.managed.contains(name))
    }
}

/// Data that stand in the configuration, or in a file that it names.
fn pem(tls: &Value, data: &str, file: &str) -> Result<Option<String>, String> {
    let text = |field: &str| tls[field].as_str().filter(|text| !text.is_empty());
    if let Some(data) = text(data) {
        let bytes = BASE64_STANDARD.decode(data).map_err(|error| format!("tlsConfig: {error}"))?;
        return Ok(Some(String::from_utf8_lossy(&bytes).into_owned()));
    }
    let read = |file: &str| std::fs::read_to_string(Path::new(file)).map_err(|error| format!("tlsConfig: cannot read {file}: {error}"));
    text(file).map(read).transpose()
}

/// As upstream: with `enableHTTPS` and no authorities any certificate is taken.
fn tls_config(tls: &Value, enabled: bool) -> Result<TlsConfig, String> {
    let authorities = pem(tls, "caData", "caFile")?;
    let insecure = tls["insecure"] == true;
    let mut config = match &authorities {
        Some(_) if insecure => return Err("specifying a root certificates file with the insecure flag is not allowed".into()),
        Some(authorities) => tls::anchored_client_config(authorities, None).map_err(|error| format!("tlsConfig: {error}"))?,
        None if insecure || enabled => TlsConfig::clone(&any_peer()),
        None => tls::system_client_config().map_err(|error| format!("tlsConfig: {error}"))?,
    };
    match (pem(tls, "certData", "certFile")?, pem(tls, "keyData", "keyFile")?) {
        (Some(certificate_pem), Some(key_pem)) => {
            let identity = RenewableCertificate::default();
            identity.show(&KeyedCertificate { certificate_pem, key_pem }).map_err(|error| format!("tlsConfig: {error}"))?;
            config.client_auth_cert_resolver = Arc::new(identity);
        }
        (None, None) => {}
        _ => return Err("tlsConfig: a certificate and its key must be given together".into()),
    }
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}
