//! Flags. All have defaults that fit a pod.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use anyhow::{Context, bail};

/// How the server runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// The cluster's domain.
    pub domain: String,
    /// Where queries arrive, over UDP and TCP.
    pub listen: SocketAddr,
    pub health: SocketAddr,
    pub ready: SocketAddr,
    pub metrics: SocketAddr,
    /// Whose servers get the queries about other names.
    pub resolv_conf: PathBuf,
    /// The folder with `stubDomains` and `upstreamNameservers`; it need not be there.
    pub config_dir: PathBuf,
    /// The directory with `token` and `ca.crt`.
    pub service_account: PathBuf,
    /// How long to keep answering after SIGTERM.
    pub lameduck: Duration,
}

impl Default for Options {
    fn default() -> Self {
        let any = |port| SocketAddr::from(([0, 0, 0, 0], port));
        Options {
            domain: "cluster.local".into(),
            listen: any(53),
            health: any(8080),
            ready: any(8181),
            metrics: any(9153),
            resolv_conf: "/etc/resolv.conf".into(),
            config_dir: "/etc/kube-dns".into(),
            service_account: "/var/run/secrets/kubernetes.io/serviceaccount".into(),
            lameduck: Duration::from_secs(5),
        }
    }
}

impl Options {
    /// Reads `--name=value` or `--name value` pairs.
    pub fn parse(arguments: impl Iterator<Item = String>) -> anyhow::Result<Self> {
        let mut options = Options::default();
        let mut arguments = arguments;
        while let Some(argument) = arguments.next() {
            let (name, value) = match argument.split_once('=') {
                Some((name, value)) => (name.to_owned(), value.to_owned()),
                None => (argument.clone(), arguments.next().with_context(|| format!("{argument} wants a value"))?),
            };
            let bad = || format!("{value:?} is no value for {name}");
            match name.as_str() {
                "--domain" => options.domain = value.trim_end_matches('.').to_owned(),
                "--listen" => options.listen = value.parse().with_context(bad)?,
                "--health" => options.health = value.parse().with_context(bad)?,
                "--ready" => options.ready = value.parse().with_context(bad)?,
                "--metrics" => options.metrics = value.parse().with_context(bad)?,
                "--config-dir" => options.config_dir = value.into(),
                "--resolv-conf" => options.resolv_conf = value.into(),
                "--service-account" => options.service_account = value.into(),
                "--lameduck-seconds" => options.lameduck = Duration::from_secs(value.parse().with_context(bad)?),
                _ => bail!("unknown option {name}"),
            }
        }
        Ok(options)
    }
}
