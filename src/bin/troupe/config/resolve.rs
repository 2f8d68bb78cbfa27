//! From settings to the configuration: every default is filled in.

use std::{
    net::Ipv4Addr,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, Result, bail};
use jiff::SignedDuration;
use troupe_actors::controllers::{certificates::LASTS, node_lifecycle::GRACE};
use troupe_api::{audit::LogOptions, auth::pki::LEAF_VALIDITY};

use super::{
    AuditConfig, Config, Settings,
    machine::{default_node_ip, host_name, installed_image_dir},
    settings::DEFAULT_FILE,
};
use crate::state::EtcdConfig;

impl Settings {
    /// Fills in the file's settings and the defaults.
    ///
    /// # Errors
    /// When the file is unusable, or when a default (node address, host name) cannot be found out.
    pub fn resolve(self, file: Option<&Path>) -> Result<Config> {
        let settings = match file {
            Some(path) => self.or(Settings::from_file(path)?),
            None if Path::new(DEFAULT_FILE).exists() => self.or(Settings::from_file(Path::new(DEFAULT_FILE))?),
            None => self,
        };
        let path = |setting: Option<PathBuf>, default: &str| setting.unwrap_or_else(|| default.into());
        let service_cidr = settings.service_cidr.map_or_else(|| "10.96.0.0/16".parse(), Ok).context("the default parses")?;
        let cluster_dns = match settings.cluster_dns {
            Some(ip) => ip,
            None => service_cidr.nth(10).context("the Service range is too small for a DNS address")?,
        };
        let audit = settings.audit();
        let data_dir = path(settings.data_dir, "/var/lib/troupe");
        let node_ip = settings.node_ip.map_or_else(default_node_ip, Ok)?;
        Ok(Config {
            run_dir: path(settings.run_dir, "/run/troupe"),
            kubeconfig: path(settings.kubeconfig, "/etc/troupe/admin.kubeconfig"),
            etcd: etcd(settings.etcd_servers, [settings.etcd_cafile, settings.etcd_certfile, settings.etcd_keyfile])?,
            certificates_dir: settings.certificates_dir.unwrap_or_else(|| data_dir.join("pki")),
            certificate_validity: settings.certificate_validity.map_or(LEAF_VALIDITY, Duration::from_secs),
            cluster_signing_duration: settings.cluster_signing_duration.map_or(Ok(LASTS), signed).context("certificates cannot last so long")?,
            bind_address: settings.bind_address.unwrap_or(Ipv4Addr::UNSPECIFIED.into()),
            advertise_address: settings.advertise_address.unwrap_or(node_ip),
            cert_sans: settings.cert_sans.unwrap_or_default(),
            api_port: settings.api_port.unwrap_or(6443),
            api_servers: settings.api_servers.unwrap_or_default(),
            component_port: settings.component_port,
            kubelet_port: settings.kubelet_port.unwrap_or(10250),
            node_ip,
            node_name: settings.node_name.map_or_else(host_name, Ok)?,
            service_cidr,
            pod_cidr: settings.pod_cidr.map_or_else(|| "10.244.0.0/16".parse(), Ok).context("the default parses")?,
            cluster_domain: settings.cluster_domain.unwrap_or_else(|| "cluster.local".into()),
            cluster_dns,
            container_runtime_endpoint: settings.container_runtime_endpoint,
            image_dir: settings.image_dir.or_else(installed_image_dir),
            kubelet_dir: path(settings.kubelet_dir, "/var/lib/kubelet"),
            pod_logs_dir: path(settings.pod_logs_dir, "/var/log/pods"),
            cni_conf_dir: path(settings.cni_conf_dir, "/etc/cni/net.d"),
            bridge: settings.bridge.unwrap_or_else(|| "troupe0".into()),
            cgroup_parent: settings.cgroup_parent.unwrap_or_else(|| "kubepods".into()),
            manifests_dir: path(settings.manifests_dir, "/etc/troupe/manifests"),
            node_heartbeat: Duration::from_secs(settings.node_heartbeat.unwrap_or(10).max(1)),
            node_monitor_grace_period: settings.node_monitor_grace_period.map_or(GRACE, Duration::from_secs),
            data_dir,
            audit,
        })
    }

    /// What is recorded; nothing without a file to record it to.
    fn audit(&self) -> Option<AuditConfig> {
        let log = LogOptions {
            path: self.audit_log_path.clone()?,
            max_size: self.audit_log_maxsize.unwrap_or(0),
            max_backups: self.audit_log_maxbackup.unwrap_or(0),
            max_age: self.audit_log_maxage.unwrap_or(0),
        };
        Some(AuditConfig { log, policy_file: self.audit_policy_file.clone() })
    }
}

/// The etcd that is configured, if one is.
fn etcd(servers: Option<Vec<String>>, [ca_file, cert_file, key_file]: [Option<PathBuf>; 3]) -> Result<Option<EtcdConfig>> {
    match servers {
        Some(servers) if !servers.is_empty() => EtcdConfig { servers, ca_file, cert_file, key_file }.check().map(Some),
        _ if ca_file.is_some() || cert_file.is_some() || key_file.is_some() => bail!("certificates for etcd are given, but not --etcd-servers"),
        _ => Ok(None),
    }
}

fn signed(seconds: u64) -> Result<SignedDuration, std::num::TryFromIntError> {
    i64::try_from(seconds).map(SignedDuration::from_secs)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn etcd_is_configured_in_the_file_or_by_flags() {
        let file = "apiVersion: troupe.dev/v1alpha1\nkind: TroupeConfiguration\netcdServers: [https://a:2379, https://b:2379]\netcdCafile: /ca\n";
        let settings = Settings::parse(file).expect("parses");
        let found = etcd(settings.etcd_servers, [settings.etcd_cafile, None, None]).expect("works").expect("etcd");
        assert_eq!((found.servers.len(), found.ca_file), (2, Some("/ca".into())));
        assert!(etcd(None, [Some("/ca".into()), None, None]).is_err());
        assert_eq!(etcd(None, [None, None, None]).expect("works"), None);
    }
}
