//! What `cluster-info` says about a cluster. Pure.

use anyhow::{Context, Result};
use base64::{Engine, prelude::BASE64_STANDARD};
use troupe_api::schema::{Format, decode::parse_value};

/// Where a cluster is and by which CA it is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClusterInfo {
    pub server: String,
    pub ca_pem: String,
}

impl ClusterInfo {
    /// Reads the first cluster of a kubeconfig; `cluster-info` names no context.
    pub fn parse(kubeconfig: &str) -> Result<Self> {
        let document = parse_value(kubeconfig.as_bytes(), Format::Yaml).context("cluster-info holds no valid YAML")?;
        let cluster = document.pointer("/clusters/0/cluster").context("cluster-info names no cluster")?;
        let server = cluster["server"].as_str().context("cluster-info names no server")?.to_owned();
        let ca = cluster["certificate-authority-data"].as_str().context("cluster-info names no certificate authority")?;
        let ca = BASE64_STANDARD.decode(ca).context("cluster-info's certificate authority is no base64")?;
        Ok(ClusterInfo { server, ca_pem: String::from_utf8(ca).context("cluster-info's certificate authority is no PEM")? })
    }
}
