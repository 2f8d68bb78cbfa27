//! Settings that stay as they were given: what they mean is known where they are used.

use std::path::PathBuf;

use super::Settings;

macro_rules! given_settings {
    ($(#[$doc:meta])* $name:ident { $($field:ident: $type:ty),* }) => {
        $(#[$doc])*
        #[derive(Clone, Debug, Default)]
        pub struct $name {
            $(pub $field: Option<$type>),*
        }

        impl $name {
            pub fn of(settings: &Settings) -> Self {
                $name { $($field: settings.$field.clone()),* }
            }

            /// The same among other settings.
            pub fn among(self, others: Settings) -> Settings {
                Settings { $($field: self.$field,)* ..others }
            }
        }
    };
}

given_settings! {
    /// What was said about admission, identities, rights and keys.
    ApiSettings {
        enable_admission_plugins: Vec<String>,
        disable_admission_plugins: Vec<String>,
        encryption_provider_config: PathBuf,
        encryption_provider_config_automatic_reload: bool,
        runtime_config: Vec<String>,
        feature_gates: Vec<String>,
        tls_min_version: String,
        tls_cipher_suites: Vec<String>,
        tls_cert_file: PathBuf,
        tls_private_key_file: PathBuf,
        tls_sni_cert_key: Vec<String>,
        max_requests_inflight: u32,
        max_mutating_requests_inflight: u32,
        request_timeout: u64,
        min_request_timeout: u64,
        service_node_port_range: String,
        event_ttl: u64,
        anonymous_auth: bool,
        service_account_issuer: Vec<String>,
        api_audiences: Vec<String>,
        service_account_signing_key_file: PathBuf,
        service_account_signing_endpoint: String,
        service_account_key_file: Vec<PathBuf>,
        service_account_jwks_uri: String,
        service_account_extend_token_expiration: bool,
        default_not_ready_toleration_seconds: u32,
        default_unreachable_toleration_seconds: u32,
        oidc_issuer_url: String,
        oidc_client_id: String,
        oidc_username_claim: String,
        oidc_username_prefix: String,
        oidc_groups_claim: String,
        oidc_groups_prefix: String,
        oidc_required_claim: Vec<String>,
        oidc_ca_file: PathBuf,
        oidc_signing_algs: Vec<String>,
        token_auth_file: PathBuf,
        authentication_config: PathBuf,
        authorization_config: PathBuf,
        authentication_token_webhook_config_file: PathBuf,
        authentication_token_webhook_cache_ttl: u64,
        authorization_mode: Vec<String>,
        authorization_policy_file: PathBuf,
        authorization_webhook_config_file: PathBuf,
        authorization_webhook_version: String,
        authorization_webhook_cache_authorized_ttl: u64,
        authorization_webhook_cache_unauthorized_ttl: u64,
        service_account_max_token_expiration: u64,
        goaway_chance: String,
        shutdown_delay_duration: u64,
        shutdown_send_retry_after: bool,
        strict_transport_security_directives: Vec<String>,
        cors_allowed_origins: Vec<String>,
        audit_log_format: String,
        audit_log_mode: String,
        audit_log_batch_buffer_size: u32,
        audit_log_batch_max_size: u32,
        audit_log_batch_max_wait: u64,
        audit_log_batch_throttle_enable: bool,
        audit_log_batch_throttle_qps: String,
        audit_log_batch_throttle_burst: u32,
        audit_webhook_mode: String,
        audit_webhook_batch_buffer_size: u32,
        audit_webhook_batch_max_size: u32,
        audit_webhook_batch_max_wait: u64,
        audit_webhook_batch_throttle_enable: bool,
        audit_webhook_batch_throttle_qps: String,
        audit_webhook_batch_throttle_burst: u32,
        audit_webhook_config_file: PathBuf,
        tracing_config_file: PathBuf
    }
}

given_settings! {
    /// What was said about controllers.
    ControllerSettings {
        terminated_pod_gc_threshold: u32,
        legacy_service_account_token_clean_up_period: u32,
        horizontal_pod_autoscaler_sync_period: u32,
        horizontal_pod_autoscaler_downscale_stabilization: u32,
        horizontal_pod_autoscaler_cpu_initialization_period: u32,
        horizontal_pod_autoscaler_initial_readiness_delay: u32,
        controllers: Vec<String>,
        concurrent_deployment_syncs: u32,
        concurrent_replicaset_syncs: u32,
        concurrent_rc_syncs: u32,
        concurrent_statefulset_syncs: u32,
        concurrent_daemonset_syncs: u32,
        concurrent_job_syncs: u32,
        concurrent_cron_job_syncs: u32,
        concurrent_ttl_after_finished_syncs: u32,
        concurrent_endpoint_syncs: u32,
        concurrent_service_endpoint_syncs: u32,
        concurrent_service_syncs: u32,
        concurrent_namespace_syncs: u32,
        concurrent_resource_quota_syncs: u32,
        concurrent_serviceaccount_token_syncs: u32,
        concurrent_horizontal_pod_autoscaler_syncs: u32,
        concurrent_ephemeralvolume_syncs: u32,
        concurrent_resourceclaim_syncs: u32,
        concurrent_device_taint_eviction_syncs: u32,
        concurrent_validating_admission_policy_status_syncs: u32,
        concurrent_gc_syncs: u32,
        mirroring_concurrent_service_endpoint_syncs: u32,
        resource_quota_sync_period: u64,
        node_monitor_period: u64,
        node_startup_grace_period: u64,
        node_eviction_rate: String,
        secondary_node_eviction_rate: String,
        large_cluster_size_threshold: u32,
        unhealthy_zone_threshold: String,
        leader_elect_lease_duration: u64,
        leader_elect_renew_deadline: u64,
        leader_elect_retry_period: u64,
        horizontal_pod_autoscaler_tolerance: String
    }
}
