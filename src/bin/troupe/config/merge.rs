//! How settings of several places come together.

use std::path::Path;

use anyhow::{Context, Result};
use ipnetwork::IpNetwork;
use troupe_net::iptables::Family;

use super::{PerFamily, Settings, families};

/// An audit log that is no file.
const STANDARD_OUTPUT: &str = "-";

impl Settings {
    /// The same with paths that mean the same wherever a command is run.
    ///
    /// # Errors
    /// When there is no working directory.
    pub fn absolute(mut self) -> Result<Self> {
        let paths = [
            &mut self.data_dir,
            &mut self.run_dir,
            &mut self.kubeconfig,
            &mut self.etcd_cafile,
            &mut self.etcd_certfile,
            &mut self.etcd_keyfile,
            &mut self.kubelet_certificate_authority,
            &mut self.certificates_dir,
            &mut self.container_runtime_endpoint,
            &mut self.image_dir,
            &mut self.kubelet_dir,
            &mut self.pod_logs_dir,
            &mut self.cni_conf_dir,
            &mut self.manifests_dir,
            &mut self.kubelet_config,
            &mut self.kubelet_config_dir,
            &mut self.image_credential_provider_config,
            &mut self.image_credential_provider_bin_dir,
            &mut self.admission_control_config_file,
            &mut self.scheduler_config,
            &mut self.audit_policy_file,
            &mut self.audit_log_path,
            &mut self.encryption_provider_config,
            &mut self.oidc_ca_file,
            &mut self.token_auth_file,
            &mut self.authentication_config,
            &mut self.authorization_config,
            &mut self.authentication_token_webhook_config_file,
            &mut self.audit_webhook_config_file,
            &mut self.tracing_config_file,
            &mut self.service_account_signing_key_file,
            &mut self.tls_cert_file,
            &mut self.tls_private_key_file,
            &mut self.authorization_webhook_config_file,
            &mut self.authorization_policy_file,
        ];
        let keys = self.service_account_key_file.iter_mut().flatten();
        for path in paths.into_iter().flatten().chain(keys).filter(|path| *path != Path::new(STANDARD_OUTPUT)) {
            *path = std::path::absolute(&*path).with_context(|| format!("{} is no path", path.display()))?;
        }
        for given in self.tls_sni_cert_key.iter_mut().flatten() {
            *given = absolute_pair(given)?;
        }
        Ok(self)
    }

    /// These settings, and where they are silent the network of a cluster that had those `known`. Where ranges of Services alone are given, or
    /// of pods, the others get their families, too.
    pub fn or_network_of(self, known: &Settings) -> Settings {
        let given = self.service_cidr.or(self.pod_cidr).map(|ranges| ranges.families());
        let grown = |known: Option<PerFamily<IpNetwork>>, usual| match &given {
            None => known,
            Some(given) => families::grown(known?, given, usual),
        };
        let service_cidr = self.service_cidr.or_else(|| grown(known.service_cidr, families::SERVICES));
        let pod_cidr = self.pod_cidr.or_else(|| grown(known.pod_cidr, families::PODS));
        let size = |family: Family, known: Option<u8>| known.filter(|_| pod_cidr.is_some_and(|ranges| ranges.of(family).is_some()));
        Settings {
            service_cidr,
            pod_cidr,
            node_cidr_mask_size_ipv4: self.node_cidr_mask_size_ipv4.or_else(|| size(Family::V4, known.node_cidr_mask_size_ipv4)),
            node_cidr_mask_size_ipv6: self.node_cidr_mask_size_ipv6.or_else(|| size(Family::V6, known.node_cidr_mask_size_ipv6)),
            cni_conf_dir: self.cni_conf_dir.or_else(|| known.cni_conf_dir.clone()),
            bridge: self.bridge.or_else(|| known.bridge.clone()),
            ..self
        }
    }

    /// These settings where they are set, else those of `fallback`.
    pub fn or(self, fallback: Settings) -> Settings {
        macro_rules! either {
            ($($field:ident),*) => { Settings { api_version: None, kind: None, $($field: self.$field.or(fallback.$field)),* } };
        }
        either!(
            data_dir,
            run_dir,
            kubeconfig,
            etcd_servers,
            etcd_cafile,
            etcd_certfile,
            etcd_keyfile,
            kubelet_certificate_authority,
            store_history_megabytes,
            certificates_dir,
            certificate_validity,
            cluster_signing_duration,
            bind_address,
            advertise_address,
            cert_sans,
            api_port,
            api_servers,
            component_port,
            load_balancer_pool,
            load_balancer_conflict_detection,
            kubelet_port,
            proxy_healthz_bind_address,
            proxy_metrics_bind_address,
            conntrack_max_per_core,
            conntrack_min,
            conntrack_tcp_timeout_established,
            conntrack_tcp_timeout_close_wait,
            node_ip,
            node_name,
            service_cidr,
            pod_cidr,
            node_cidr_mask_size_ipv4,
            node_cidr_mask_size_ipv6,
            cluster_domain,
            cluster_dns,
            container_runtime_endpoint,
            image_dir,
            kubelet_dir,
            pod_logs_dir,
            cni_conf_dir,
            cni,
            non_masquerade_cidrs,
            bridge,
            cgroup_parent,
            pod_max_pids,
            kubelet_config,
            kubelet_config_dir,
            image_credential_provider_config,
            image_credential_provider_bin_dir,
            eviction_hard,
            eviction_soft,
            eviction_soft_grace_period,
            eviction_max_pod_grace_period,
            eviction_minimum_reclaim,
            eviction_pressure_transition_period,
            image_gc_high_threshold,
            image_gc_low_threshold,
            minimum_image_ttl_duration,
            allowed_unsafe_sysctls,
            manifests_dir,
            admission_control_config_file,
            scheduler_config,
            enable_admission_plugins,
            disable_admission_plugins,
            encryption_provider_config,
            encryption_provider_config_automatic_reload,
            runtime_config,
            feature_gates,
            tls_min_version,
            tls_cipher_suites,
            tls_cert_file,
            tls_private_key_file,
            tls_sni_cert_key,
            max_requests_inflight,
            max_mutating_requests_inflight,
            request_timeout,
            min_request_timeout,
            service_node_port_range,
            event_ttl,
            anonymous_auth,
            service_account_issuer,
            api_audiences,
            service_account_signing_key_file,
            service_account_signing_endpoint,
            service_account_key_file,
            service_account_jwks_uri,
            service_account_extend_token_expiration,
            default_not_ready_toleration_seconds,
            default_unreachable_toleration_seconds,
            terminated_pod_gc_threshold,
            legacy_service_account_token_clean_up_period,
            horizontal_pod_autoscaler_sync_period,
            horizontal_pod_autoscaler_downscale_stabilization,
            horizontal_pod_autoscaler_tolerance,
            node_labels,
            oidc_issuer_url,
            oidc_client_id,
            oidc_username_claim,
            oidc_username_prefix,
            oidc_groups_claim,
            oidc_groups_prefix,
            oidc_required_claim,
            oidc_ca_file,
            oidc_signing_algs,
            token_auth_file,
            authentication_config,
            authorization_config,
            authentication_token_webhook_config_file,
            authentication_token_webhook_cache_ttl,
            audit_webhook_config_file,
            tracing_config_file,
            audit_log_path,
            audit_policy_file,
            audit_log_maxsize,
            audit_log_maxbackup,
            audit_log_maxage,
            node_heartbeat,
            authorization_mode,
            authorization_policy_file,
            authorization_webhook_config_file,
            authorization_webhook_version,
            authorization_webhook_cache_authorized_ttl,
            authorization_webhook_cache_unauthorized_ttl,
            horizontal_pod_autoscaler_cpu_initialization_period,
            horizontal_pod_autoscaler_initial_readiness_delay,
            controllers,
            concurrent_deployment_syncs,
            concurrent_replicaset_syncs,
            concurrent_rc_syncs,
            concurrent_statefulset_syncs,
            concurrent_daemonset_syncs,
            concurrent_job_syncs,
            concurrent_cron_job_syncs,
            concurrent_ttl_after_finished_syncs,
            concurrent_endpoint_syncs,
            concurrent_service_endpoint_syncs,
            concurrent_service_syncs,
            concurrent_namespace_syncs,
            concurrent_resource_quota_syncs,
            concurrent_serviceaccount_token_syncs,
            concurrent_horizontal_pod_autoscaler_syncs,
            concurrent_ephemeralvolume_syncs,
            concurrent_resourceclaim_syncs,
            concurrent_device_taint_eviction_syncs,
            concurrent_validating_admission_policy_status_syncs,
            concurrent_gc_syncs,
            mirroring_concurrent_service_endpoint_syncs,
            resource_quota_sync_period,
            node_monitor_period,
            node_startup_grace_period,
            node_eviction_rate,
            secondary_node_eviction_rate,
            large_cluster_size_threshold,
            unhealthy_zone_threshold,
            service_account_max_token_expiration,
            leader_elect_lease_duration,
            leader_elect_renew_deadline,
            leader_elect_retry_period,
            goaway_chance,
            shutdown_delay_duration,
            shutdown_send_retry_after,
            strict_transport_security_directives,
            cors_allowed_origins,
            audit_log_format,
            audit_log_mode,
            audit_log_batch_buffer_size,
            audit_log_batch_max_size,
            audit_log_batch_max_wait,
            audit_log_batch_throttle_enable,
            audit_log_batch_throttle_qps,
            audit_log_batch_throttle_burst,
            audit_webhook_mode,
            audit_webhook_batch_buffer_size,
            audit_webhook_batch_max_size,
            audit_webhook_batch_max_wait,
            audit_webhook_batch_throttle_enable,
            audit_webhook_batch_throttle_qps,
            audit_webhook_batch_throttle_burst,
            node_monitor_grace_period
        )
    }
}

/// The same of the paths in `certificate,key` and `certificate,key:name,…`. What is something else stays: it is refused where it is read.
fn absolute_pair(given: &str) -> Result<String> {
    let (pair, names) = given.split_at(given.find(':').unwrap_or(given.len()));
    let Some((certificate, key)) = pair.split_once(',') else { return Ok(given.to_owned()) };
    let absolute = |path: &str| std::path::absolute(path.trim()).with_context(|| format!("{path:?} is no path"));
    Ok(format!("{},{}{names}", absolute(certificate)?.display(), absolute(key)?.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_win_over_the_file_and_the_file_over_defaults() {
        let file =
            Settings::parse("apiVersion: troupe.dev/v1alpha1\nkind: TroupeConfiguration\napiPort: 7000\nnodeName: from-file\n").expect("parses");
        let flags = Settings { node_name: Some("from-flag".into()), ..Settings::default() };
        let merged = flags.or(file);
        assert_eq!((merged.api_port, merged.node_name.as_deref()), (Some(7000), Some("from-flag")));
    }

    #[test]
    fn a_misspelt_setting_is_named_with_its_line() {
        let head = "apiVersion: troupe.dev/v1alpha1\nkind: TroupeConfiguration\n";
        let error = Settings::parse(&format!("{head}apiprot: 7000\n")).expect_err("must fail").to_string();
        assert!(error.contains("apiprot") && error.contains("line 3"), "{error}");
        let error = Settings::parse(&format!("{head}apiPort: 7000\nbridge: b\napiPort: 7001\n")).expect_err("must fail").to_string();
        assert!(error.contains("duplicate") && error.contains("apiPort"), "{error}");
        let error = Settings::parse("apiVersion: v2\nkind: X\n").expect_err("must fail").to_string();
        assert!(error.contains("v2") && error.contains("troupe.dev/v1alpha1"), "{error}");
        assert!(Settings::parse("apiPort: 7000\n").is_err());
        let scheduler = "apiVersion: kubescheduler.config.k8s.io/v1\nkind: KubeSchedulerConfiguration\nleaderElection: {leaderElect: true}\n";
        let error = Settings::parse(scheduler).expect_err("must fail").to_string();
        assert!(error.contains("--scheduler-config"), "{error}");
    }

    #[test]
    fn settings_are_told_by_name_and_chosen_by_it() {
        let settings = Settings { api_port: Some(7000), bridge: Some("b0".into()), ..Settings::default() };
        assert_eq!(settings.entries().keys().collect::<Vec<_>>(), ["apiPort", "bridge"]);
        assert_eq!(settings.only(|name| name == "bridge"), Settings { bridge: Some("b0".into()), ..Settings::default() });
    }

    #[test]
    fn paths_mean_the_same_in_every_working_directory() {
        let pairs = ["c, k:a.example", "/c,/k", "c"].map(str::to_owned).to_vec();
        let settings = Settings {
            data_dir: Some("d".into()),
            audit_log_path: Some("-".into()),
            tls_cert_file: Some("c".into()),
            tls_sni_cert_key: Some(pairs),
            ..Settings::default()
        };
        let settings = settings.absolute().expect("a working directory");
        let here = std::env::current_dir().expect("there is one");
        assert_eq!((settings.data_dir, settings.tls_cert_file), (Some(here.join("d")), Some(here.join("c"))));
        assert_eq!(settings.audit_log_path, Some("-".into()));
        let named = format!("{},{}:a.example", here.join("c").display(), here.join("k").display());
        assert_eq!(settings.tls_sni_cert_key, Some(vec![named, "/c,/k".into(), "c".into()]));
    }
}
