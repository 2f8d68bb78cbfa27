//! Values that cannot work, refused before anything is made of them.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    ops::RangeInclusive,
};

use anyhow::{Error, Result, bail, ensure};
use ipnetwork::IpNetwork;
use troupe_actors::controllers::node_ipam::{ClusterRange, MOST_BITS};
use troupe_api::meta::names;
use troupe_api_server::{admission::node_may_label, http::AllowedOrigins};
use troupe_net::iptables::Family;

use super::{Cni, OfFamily, PerFamily, Settings, controllers, seconds};

/// The longest name of a network interface.
const LONGEST_INTERFACE: usize = 15;

/// How requests may wait for their audit events.
const AUDIT_MODES: [&str; 3] = ["batch", "blocking", "blocking-strict"];

/// Refuses combinations of which one would have no effect.
pub fn combinations(settings: &Settings) -> Result<()> {
    let has_webhook = settings.audit_webhook_config_file.is_some();
    if has_webhook && settings.audit_policy_file.is_none() {
        bail!("--audit-webhook-config-file has no effect without --audit-policy-file, which says what is recorded");
    }
    if settings.audit_log_path.is_none() {
        let given = [
            (settings.audit_policy_file.is_some() && !has_webhook, "--audit-policy-file"),
            (settings.audit_log_maxsize.is_some(), "--audit-log-maxsize"),
            (settings.audit_log_maxbackup.is_some(), "--audit-log-maxbackup"),
            (settings.audit_log_maxage.is_some(), "--audit-log-maxage"),
        ];
        if let Some((_, flag)) = given.into_iter().find(|(given, _)| *given) {
            bail!("{flag} has no effect without --audit-log-path, the file to write to");
        }
    } else if settings.audit_policy_file.is_none() {
        bail!("--audit-log-path has no effect without --audit-policy-file, which says what is recorded");
    }
    audit_forms(settings)?;
    waits_for(settings)?;
    chosen(settings)?;
    if settings.cni == Some(Cni::Others) && settings.non_masquerade_cidrs.is_some() {
        bail!("--non-masquerade-cidrs has no effect with --cni none: whoever makes the pods' network decides about their addresses");
    }
    match (&settings.image_credential_provider_config, &settings.image_credential_provider_bin_dir) {
        (Some(_), None) => {
            bail!("--image-credential-provider-config has no effect without --image-credential-provider-bin-dir, where the programs are")
        }
        (None, Some(_)) => bail!("--image-credential-provider-bin-dir has no effect without --image-credential-provider-config, which says what for"),
        _ => {}
    }
    if settings.etcd_servers.is_some() && settings.store_history_megabytes.is_some() {
        bail!("--store-history-megabytes has no effect with --etcd-servers: etcd bounds its disk by its own quota");
    }
    if settings.container_runtime_endpoint.is_some() && settings.image_dir.is_some() {
        bail!("--image-dir has no effect with --container-runtime-endpoint: a runtime that is named gets its images by itself");
    }
    Ok(())
}

/// How the audit log is written, and how a webhook is sent events.
fn audit_forms(settings: &Settings) -> Result<()> {
    if let Some(format) = &settings.audit_log_format {
        ensure!(settings.audit_log_path.is_some(), "--audit-log-format has no effect without --audit-log-path, the file to write to");
        ensure!(["json", "legacy"].contains(&format.as_str()), "invalid audit log format {format}, allowed formats are \"legacy,json\"");
    }
    if let Some(mode) = &settings.audit_log_mode {
        ensure!(settings.audit_log_path.is_some(), "--audit-log-mode has no effect without --audit-log-path, the file to write to");
        ensure!(AUDIT_MODES.contains(&mode.as_str()), "invalid audit log mode {mode}, allowed modes are \"batch,blocking,blocking-strict\"");
    }
    log_batches(settings)?;
    let of_batches = [
        (settings.audit_webhook_batch_buffer_size.is_some(), "--audit-webhook-batch-buffer-size"),
        (settings.audit_webhook_batch_max_size.is_some(), "--audit-webhook-batch-max-size"),
        (settings.audit_webhook_batch_max_wait.is_some(), "--audit-webhook-batch-max-wait"),
        (settings.audit_webhook_batch_throttle_enable.is_some(), "--audit-webhook-batch-throttle-enable"),
        (settings.audit_webhook_batch_throttle_qps.is_some(), "--audit-webhook-batch-throttle-qps"),
        (settings.audit_webhook_batch_throttle_burst.is_some(), "--audit-webhook-batch-throttle-burst"),
    ];
    let batches = of_batches.iter().find(|(given, _)| *given).map(|(_, flag)| *flag);
    if settings.audit_webhook_config_file.is_none() {
        let given = settings.audit_webhook_mode.as_ref().map(|_| "--audit-webhook-mode").or(batches);
        return given.map_or(Ok(()), |flag| bail!("{flag} has no effect without --audit-webhook-config-file"));
    }
    match (settings.audit_webhook_mode.as_deref().unwrap_or("batch"), batches) {
        (mode, _) if !AUDIT_MODES.contains(&mode) => {
            bail!("invalid audit webhook mode {mode}, allowed modes are \"batch,blocking,blocking-strict\"")
        }
        ("batch", _) | (_, None) => {}
        (mode, Some(flag)) => bail!("{flag} has no effect with --audit-webhook-mode={mode}"),
    }
    let counts = [settings.audit_webhook_batch_buffer_size, settings.audit_webhook_batch_max_size, settings.audit_webhook_batch_throttle_burst];
    ensure!(!counts.contains(&Some(0)), "--audit-webhook-batch-buffer-size, -max-size and -throttle-burst cannot be 0");
    if let Some(given) = &settings.audit_webhook_batch_throttle_qps {
        let number = given.parse::<f64>().ok().filter(|number| *number > 0.0 && number.is_finite());
        ensure!(number.is_some(), "invalid audit batch webhook throttle QPS {given}, must be a positive number");
    }
    Ok(())
}

/// How the audit log is written in batches.
fn log_batches(settings: &Settings) -> Result<()> {
    let of_batches = [
        (settings.audit_log_batch_buffer_size.is_some(), "--audit-log-batch-buffer-size"),
        (settings.audit_log_batch_max_size.is_some(), "--audit-log-batch-max-size"),
        (settings.audit_log_batch_max_wait.is_some(), "--audit-log-batch-max-wait"),
        (settings.audit_log_batch_throttle_enable.is_some(), "--audit-log-batch-throttle-enable"),
        (settings.audit_log_batch_throttle_qps.is_some(), "--audit-log-batch-throttle-qps"),
        (settings.audit_log_batch_throttle_burst.is_some(), "--audit-log-batch-throttle-burst"),
    ];
    let Some((_, flag)) = of_batches.iter().find(|(given, _)| *given) else { return Ok(()) };
    ensure!(settings.audit_log_path.is_some(), "{flag} has no effect without --audit-log-path, the file to write to");
    let mode = settings.audit_log_mode.as_deref().unwrap_or("batch");
    ensure!(mode == "batch", "{flag} has no effect with --audit-log-mode={mode}");
    let counts = [settings.audit_log_batch_buffer_size, settings.audit_log_batch_max_size, settings.audit_log_batch_throttle_burst];
    ensure!(!counts.contains(&Some(0)), "--audit-log-batch-buffer-size, -max-size and -throttle-burst cannot be 0");
    if let Some(given) = &settings.audit_log_batch_throttle_qps {
        let number = given.parse::<f64>().ok().filter(|number| *number > 0.0 && number.is_finite());
        ensure!(number.is_some(), "invalid audit batch log throttle QPS {given}, must be a positive number");
    }
    let is_paced = settings.audit_log_batch_throttle_enable == Some(true);
    let is_told = settings.audit_log_batch_throttle_qps.is_some() || settings.audit_log_batch_throttle_burst.is_some();
    ensure!(is_paced || !is_told, "--audit-log-batch-throttle-qps and -throttle-burst have no effect without --audit-log-batch-throttle-enable");
    Ok(())
}

/// Refuses options without the one that they are about.
fn waits_for(settings: &Settings) -> Result<()> {
    let oidc = [
        (settings.oidc_client_id.is_some(), "--oidc-client-id"),
        (settings.oidc_username_claim.is_some(), "--oidc-username-claim"),
        (settings.oidc_username_prefix.is_some(), "--oidc-username-prefix"),
        (settings.oidc_groups_claim.is_some(), "--oidc-groups-claim"),
        (settings.oidc_groups_prefix.is_some(), "--oidc-groups-prefix"),
        (settings.oidc_required_claim.is_some(), "--oidc-required-claim"),
        (settings.oidc_ca_file.is_some(), "--oidc-ca-file"),
        (settings.oidc_signing_algs.is_some(), "--oidc-signing-algs"),
    ];
    let given = oidc.into_iter().find(|(given, _)| *given);
    match (&settings.oidc_issuer_url, given) {
        (None, Some((_, flag))) => bail!("{flag} has no effect without --oidc-issuer-url"),
        (Some(_), _) if settings.oidc_client_id.is_none() => {
            bail!("oidc-issuer-url and oidc-client-id must be specified together when any oidc-* flags are set")
        }
        (Some(_), _) if settings.authentication_config.is_some() => {
            bail!("authentication-config file and oidc-* flags are mutually exclusive")
        }
        _ => {}
    }
    ensure!(
        settings.tls_cert_file.is_some() == settings.tls_private_key_file.is_some(),
        "--tls-cert-file and --tls-private-key-file have no effect without each other"
    );
    let of_flags = [
        settings.authorization_mode.is_some(),
        settings.authorization_policy_file.is_some(),
        settings.authorization_webhook_config_file.is_some(),
        settings.authorization_webhook_version.is_some(),
        settings.authorization_webhook_cache_authorized_ttl.is_some(),
        settings.authorization_webhook_cache_unauthorized_ttl.is_some(),
    ];
    ensure!(
        settings.authorization_config.is_none() || of_flags == [false; 6],
        "--authorization-config can not be specified when --authorization-mode, --authorization-policy-file or --authorization-webhook-* flags are defined"
    );
    let reload = settings.encryption_provider_config_automatic_reload.is_some();
    ensure!(
        settings.encryption_provider_config.is_some() || !reload,
        "--encryption-provider-config-automatic-reload must be set with --encryption-provider-config"
    );
    ensure!(
        settings.authentication_token_webhook_config_file.is_some() || settings.authentication_token_webhook_cache_ttl.is_none(),
        "--authentication-token-webhook-cache-ttl has no effect without --authentication-token-webhook-config-file"
    );
    Ok(())
}

/// Refuses values that cannot work, in upstream's words where it has some.
fn chosen(settings: &Settings) -> Result<()> {
    let mut seen = BTreeSet::new();
    for issuer in settings.service_account_issuer.iter().flatten() {
        ensure!(!issuer.is_empty(), "service-account-issuer should not be an empty string");
        ensure!(seen.insert(issuer), "service-account-issuer {issuer:?} is already specified");
    }
    if let Some(endpoint) = &settings.service_account_signing_endpoint {
        ensure!(
            settings.service_account_signing_key_file.is_none() && settings.service_account_key_file.is_none(),
            "can't set `--service-account-signing-key-file` and/or `--service-account-key-file` with `--service-account-signing-endpoint` (They are mutually exclusive)"
        );
        ensure!(
            endpoint.starts_with('/') || endpoint.strip_prefix('@').is_some_and(is_socket_name),
            "invalid value {endpoint:?} passed for `--service-account-signing-endpoint`: it is no path from the root, and when prefixed with @ must be a valid abstract socket name"
        );
    }
    if let Some(uri) = &settings.service_account_jwks_uri {
        ensure!(uri.starts_with("https://"), "service-account-jwks-uri requires https scheme, parsed as: {uri}");
    }
    if let Some(range) = &settings.service_node_port_range {
        port_range(range)?;
    }
    let in_flight = (settings.max_requests_inflight, settings.max_mutating_requests_inflight);
    ensure!(
        in_flight != (Some(0), Some(0)),
        "invalid configuration: MaxRequestsInFlight=0 and MaxMutatingRequestsInFlight=0; they must add up to something positive"
    );
    let fractions = [
        ("--horizontal-pod-autoscaler-tolerance", &settings.horizontal_pod_autoscaler_tolerance),
        ("--node-eviction-rate", &settings.node_eviction_rate),
        ("--secondary-node-eviction-rate", &settings.secondary_node_eviction_rate),
        ("--unhealthy-zone-threshold", &settings.unhealthy_zone_threshold),
    ];
    for (flag, given) in fractions.into_iter().filter_map(|(flag, given)| Some((flag, given.as_ref()?))) {
        let number = given.parse::<f64>().ok().filter(|number| *number >= 0.0 && number.is_finite());
        ensure!(number.is_some(), "{flag} {given:?} is no number of 0 or more, such as 0.1");
    }
    let longest = settings.service_account_max_token_expiration;
    let is_allowed = longest.is_none_or(|seconds| (3600..=1 << 32).contains(&seconds));
    ensure!(is_allowed, "the service-account-max-token-expiration must be between 1 hour and 2^32 seconds");
    elections(settings)?;
    if let Some(chance) = &settings.goaway_chance {
        let is_allowed = chance.parse::<f64>().is_ok_and(|chance| (0.0..=0.02).contains(&chance));
        ensure!(is_allowed, "--goaway-chance can not be less than 0 or greater than 0.02");
    }
    if let Some(origins) = &settings.cors_allowed_origins {
        AllowedOrigins::new(origins).map_err(Error::msg)?;
    }
    for directive in settings.strict_transport_security_directives.iter().flatten() {
        let is_age = directive.strip_prefix("max-age=").is_some_and(|age| !age.contains('=') && age.bytes().all(|byte| byte.is_ascii_graphic()));
        ensure!(
            is_age || ["includeSubDomains", "preload"].contains(&directive.as_str()),
            "--strict-transport-security-directives invalid, allowed values: max-age=expireTime, includeSubDomains, preload. \
             see https://tools.ietf.org/html/rfc6797#section-6.1 for more information"
        );
    }
    settings.controllers.as_deref().map_or(Ok(()), controllers::check)
}

/// Whether it may name a socket that is no file, as upstream has it.
fn is_socket_name(name: &str) -> bool {
    name.split('.').all(|part| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-')))
}

/// Refuses times of elections with which nobody would lead for long, or two would, in upstream's words.
fn elections(settings: &Settings) -> Result<()> {
    let lease = settings.leader_elect_lease_duration.unwrap_or(15);
    let renew = settings.leader_elect_renew_deadline.unwrap_or(10);
    let retry = settings.leader_elect_retry_period.unwrap_or(2);
    ensure!(retry > 0, "--leader-elect-retry-period must be greater than zero");
    ensure!(
        lease > renew,
        "leaseDuration must be greater than renewDeadline: --leader-elect-lease-duration {lease}, --leader-elect-renew-deadline {renew}"
    );
    // A try is up to a fifth late.
    ensure!(
        renew.saturating_mul(5) > retry.saturating_mul(6),
        "renewDeadline must be greater than retryPeriod*JitterFactor: --leader-elect-renew-deadline {renew}, --leader-elect-retry-period {retry}"
    );
    Ok(())
}

/// Ports as upstream writes them: `30000-32767`, `30000+2767`, or one.
pub fn port_range(given: &str) -> Result<RangeInclusive<u16>> {
    let port = |text: &str| text.trim().parse::<u16>().ok().filter(|port| *port > 0);
    let (first, last) = match (given.split_once('-'), given.split_once('+')) {
        (Some((first, last)), _) => (port(first), port(last)),
        (None, Some((first, size))) => (port(first), port(first).zip(size.trim().parse().ok()).and_then(|(first, size)| first.checked_add(size))),
        (None, None) => (port(given), port(given)),
    };
    match first.zip(last).filter(|(first, last)| first <= last) {
        Some((first, last)) => Ok(first..=last),
        None => bail!("--service-node-port-range {given:?} is no range of ports, such as 30000-32767"),
    }
}

/// Labels of a node: keys and values that may be labels, and that nodes may give themselves.
pub fn node_labels(given: &[String]) -> Result<BTreeMap<String, String>> {
    let mut labels = BTreeMap::new();
    for label in given {
        let (key, value) = label.split_once('=').unwrap_or((label, ""));
        let wrong: Vec<String> = names::qualified(key).into_iter().chain(names::label_value(value)).collect();
        ensure!(wrong.is_empty(), "invalid node labels: '{label}' - {}", wrong.join(", "));
        ensure!(node_may_label(key), "unknown 'kubernetes.io' or 'k8s.io' labels specified with --node-labels: [{key}]");
        labels.insert(key.to_owned(), value.to_owned());
    }
    Ok(labels)
}

/// Refuses numbers that mean nothing.
pub fn numbers(settings: &Settings) -> Result<()> {
    let given = [
        ("--api-port", settings.api_port.map(u64::from)),
        ("--kubelet-port", settings.kubelet_port.map(u64::from)),
        ("--component-port", settings.component_port.map(u64::from)),
        ("--store-history-megabytes", settings.store_history_megabytes),
        ("--node-heartbeat", settings.node_heartbeat),
        ("--node-monitor-grace-period", settings.node_monitor_grace_period),
        ("--certificate-validity", settings.certificate_validity),
        ("--cluster-signing-duration", settings.cluster_signing_duration),
        ("--event-ttl", settings.event_ttl),
        ("--request-timeout", settings.request_timeout),
        ("--min-request-timeout", settings.min_request_timeout),
        ("--legacy-service-account-token-clean-up-period", settings.legacy_service_account_token_clean_up_period.map(u64::from)),
        ("--horizontal-pod-autoscaler-sync-period", settings.horizontal_pod_autoscaler_sync_period.map(u64::from)),
        ("--node-monitor-period", settings.node_monitor_period),
        ("--resource-quota-sync-period", settings.resource_quota_sync_period),
        ("--concurrent-deployment-syncs", settings.concurrent_deployment_syncs.map(u64::from)),
        ("--concurrent-replicaset-syncs", settings.concurrent_replicaset_syncs.map(u64::from)),
        ("--concurrent-rc-syncs", settings.concurrent_rc_syncs.map(u64::from)),
        ("--concurrent-statefulset-syncs", settings.concurrent_statefulset_syncs.map(u64::from)),
        ("--concurrent-daemonset-syncs", settings.concurrent_daemonset_syncs.map(u64::from)),
        ("--concurrent-job-syncs", settings.concurrent_job_syncs.map(u64::from)),
        ("--concurrent-cron-job-syncs", settings.concurrent_cron_job_syncs.map(u64::from)),
        ("--concurrent-ttl-after-finished-syncs", settings.concurrent_ttl_after_finished_syncs.map(u64::from)),
        ("--concurrent-endpoint-syncs", settings.concurrent_endpoint_syncs.map(u64::from)),
        ("--concurrent-service-endpoint-syncs", settings.concurrent_service_endpoint_syncs.map(u64::from)),
        ("--mirroring-concurrent-service-endpoint-syncs", settings.mirroring_concurrent_service_endpoint_syncs.map(u64::from)),
        ("--concurrent-service-syncs", settings.concurrent_service_syncs.map(u64::from)),
        ("--concurrent-namespace-syncs", settings.concurrent_namespace_syncs.map(u64::from)),
        ("--concurrent-resource-quota-syncs", settings.concurrent_resource_quota_syncs.map(u64::from)),
        ("--concurrent-serviceaccount-token-syncs", settings.concurrent_serviceaccount_token_syncs.map(u64::from)),
        ("--concurrent-horizontal-pod-autoscaler-syncs", settings.concurrent_horizontal_pod_autoscaler_syncs.map(u64::from)),
        ("--concurrent-ephemeralvolume-syncs", settings.concurrent_ephemeralvolume_syncs.map(u64::from)),
        ("--concurrent-resourceclaim-syncs", settings.concurrent_resourceclaim_syncs.map(u64::from)),
        ("--concurrent-device-taint-eviction-syncs", settings.concurrent_device_taint_eviction_syncs.map(u64::from)),
        ("--concurrent-validating-admission-policy-status-syncs", settings.concurrent_validating_admission_policy_status_syncs.map(u64::from)),
        ("--concurrent-gc-syncs", settings.concurrent_gc_syncs.map(u64::from)),
    ];
    let longest = u64::try_from(seconds::MOST).unwrap_or(u64::MAX);
    ensure!(settings.min_request_timeout.is_none_or(|seconds| seconds <= longest), "--min-request-timeout cannot be more than {longest}");
    match given.into_iter().find(|(_, number)| *number == Some(0)) {
        Some((flag, _)) => bail!("{flag} cannot be 0"),
        None => Ok(()),
    }
}

/// The cgroup that holds a node's pods, as given but for slashes around it.
pub fn cgroup_parent(given: &str) -> Result<String> {
    let trimmed = given.trim_matches('/');
    ensure!(!trimmed.is_empty(), "--cgroup-parent cannot be the root: pods would lie among everything else of the machine");
    for part in trimmed.split('/') {
        let odd = part.is_empty() || part == "." || part == ".." || part.bytes().any(|byte| byte.is_ascii_control() || byte.is_ascii_whitespace());
        ensure!(!odd, "--cgroup-parent {given:?} is no path of a cgroup");
        ensure!(!part.ends_with(".slice"), "--cgroup-parent {given:?} names a slice of systemd, but cgroups are made here without it: name another");
    }
    Ok(trimmed.to_owned())
}

/// A name that a network interface may have.
pub fn bridge(given: &str) -> Result<()> {
    let odd = given.is_empty() || given == "." || given == ".." || given.bytes().any(|byte| !byte.is_ascii_graphic() || b"/:".contains(&byte));
    ensure!(!odd, "--bridge {given:?} is no name of a network interface");
    ensure!(given.len() <= LONGEST_INTERFACE, "--bridge {given} is too long: interfaces have names of at most {LONGEST_INTERFACE} bytes");
    Ok(())
}

/// A DNS name in lower case, as nodes and domains have.
pub fn dns_name(flag: &str, given: &str) -> Result<()> {
    let label = |label: &str| {
        let inner = label.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-');
        inner && !label.is_empty() && label.len() <= 63 && !label.starts_with('-') && !label.ends_with('-')
    };
    ensure!(given.len() <= 253 && given.split('.').all(label), "{flag} {given:?} is no DNS name: small letters, digits, hyphens and dots");
    Ok(())
}

/// The widest range of IPv6 addresses that Services may have, as upstream's ServiceCIDRs.
const WIDEST_IPV6: u8 = 64;

/// Services and pods have addresses of their own.
pub fn ranges(services: IpNetwork, pods: IpNetwork) -> Result<()> {
    let overlap = services.contains(pods.network()) || pods.contains(services.network());
    ensure!(!overlap, "--service-cidr {services} and --pod-cidr {pods} overlap");
    let wide = services.is_ipv6() && services.prefix() < WIDEST_IPV6;
    ensure!(!wide, "--service-cidr {services} is too large: for IPv6 addresses the prefix must be at least {WIDEST_IPV6}");
    Ok(())
}

/// The DNS of a cluster that is served here is one of its Services.
pub fn dns_service(services: PerFamily<IpNetwork>, dns: IpAddr) -> Result<()> {
    ensure!(services.iter().any(|range| range.contains(dns)), "--cluster-dns {dns} is no address of --service-cidr {services}");
    Ok(())
}

/// A node has an address of each family of the cluster's: others reach its pods by them.
pub fn node_addresses(addresses: &PerFamily<IpAddr>, families: &[Family]) -> Result<()> {
    let missing = families.iter().find(|family| addresses.of(**family).is_none());
    let usual = families.first().copied().unwrap_or_default();
    if let Some(family) = missing {
        bail!("--node-ip {addresses} has no {} address, and the cluster's addresses are of that family", family.name());
    }
    ensure!(
        addresses.first().family() == usual,
        "--node-ip {addresses} must begin with the family that the cluster's ranges begin with, {}",
        usual.name()
    );
    Ok(())
}

/// The parts of pods' ranges that nodes get, by the sizes that are given for IPv4 and IPv6.
pub fn node_ranges(pods: PerFamily<IpNetwork>, sizes: [Option<u8>; 2]) -> Result<Vec<ClusterRange>> {
    for (family, size) in Family::ALL.into_iter().zip(sizes) {
        let flag = format!("--node-cidr-mask-size-{}", family.name().to_lowercase());
        ensure!(size.is_none() || pods.of(family).is_some(), "{flag} has no effect: --pod-cidr {pods} has no {} range", family.name());
    }
    pods.iter().map(|network| node_range(network, sizes[usize::from(network.is_ipv6())])).collect()
}

fn node_range(network: IpNetwork, size: Option<u8>) -> Result<ClusterRange> {
    let usual = ClusterRange::new(network);
    let node_prefix = size.unwrap_or(usual.node_prefix);
    let narrowest = network.family().host_prefix() - 2;
    ensure!(node_prefix >= network.prefix(), "nodes' ranges of /{node_prefix} do not fit into --pod-cidr {network}");
    ensure!(node_prefix <= narrowest, "nodes' ranges of /{node_prefix} have no room for pods: a prefix of at most {narrowest} is needed");
    let bits = node_prefix - network.prefix();
    ensure!(bits <= MOST_BITS, "--pod-cidr {network} has more than {} ranges of /{node_prefix} for nodes", 1_u32 << MOST_BITS);
    Ok(ClusterRange { node_prefix, ..usual })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_parent_of_pods_cgroups_is_taken_as_given_or_refused() {
        let taken = |given: &str| cgroup_parent(given).map_err(|error| error.to_string());
        assert_eq!(taken("t2pods").as_deref(), Ok("t2pods"));
        assert_eq!(taken("/a/kubepods/").as_deref(), Ok("a/kubepods"));
        for odd in ["", "/", "a//b", "a/../b", "a b", "x.slice"] {
            assert!(taken(odd).is_err(), "{odd:?}");
        }
    }

    #[test]
    fn an_option_that_waits_for_another_is_refused_without_it() {
        let refused = |settings: Settings| combinations(&settings).expect_err("refused").to_string();
        assert!(refused(Settings { audit_log_maxage: Some(1), ..Settings::default() }).contains("--audit-log-maxage has no effect"));
        assert!(refused(Settings { audit_log_path: Some("/a".into()), ..Settings::default() }).contains("--audit-policy-file"));
        assert!(refused(Settings { oidc_client_id: Some("c".into()), ..Settings::default() }).contains("--oidc-issuer-url"));
        let reload = Settings { encryption_provider_config_automatic_reload: Some(true), ..Settings::default() };
        assert!(refused(reload).contains("must be set with --encryption-provider-config"));
        let alone = Settings { image_credential_provider_config: Some("/c".into()), ..Settings::default() };
        assert!(refused(alone).contains("no effect without --image-credential-provider-bin-dir"));
        let alone = Settings { image_credential_provider_bin_dir: Some("/b".into()), ..Settings::default() };
        assert!(refused(alone).contains("no effect without --image-credential-provider-config"));
        let both = Settings { cni: Some(Cni::Others), non_masquerade_cidrs: Some(vec!["10.0.0.0/8".into()]), ..Settings::default() };
        assert!(refused(both).contains("--non-masquerade-cidrs has no effect with --cni none"));
        let both = Settings { image_dir: Some("/i".into()), container_runtime_endpoint: Some("/s".into()), ..Settings::default() };
        assert!(refused(both).contains("--image-dir"));
        let both = Settings { etcd_servers: Some(vec!["http://a:2379".into()]), store_history_megabytes: Some(1), ..Settings::default() };
        assert!(refused(both).contains("--store-history-megabytes"));
        assert!(numbers(&Settings { node_heartbeat: Some(0), ..Settings::default() }).is_err());
        assert!(numbers(&Settings { node_heartbeat: Some(1), ..Settings::default() }).is_ok());
        assert!(numbers(&Settings { min_request_timeout: Some(u64::MAX), ..Settings::default() }).is_err());
    }

    #[test]
    fn forms_of_audit_that_do_not_fit_are_refused() {
        let refused = |settings: Settings| combinations(&settings).expect_err("refused").to_string();
        let to = |settings: Settings| Settings { audit_webhook_config_file: Some("/w".into()), audit_policy_file: Some("/p".into()), ..settings };
        let mode = |mode: &str| Settings { audit_webhook_mode: Some(mode.into()), ..Settings::default() };
        assert!(combinations(&to(mode("blocking"))).is_ok());
        assert_eq!(refused(mode("blocking")), "--audit-webhook-mode has no effect without --audit-webhook-config-file");
        assert!(combinations(&to(mode("blocking-strict"))).is_ok());
        assert!(refused(to(mode("later"))).starts_with("invalid audit webhook mode later"));
        let size = to(Settings { audit_webhook_batch_max_size: Some(7), ..mode("blocking") });
        assert_eq!(refused(size), "--audit-webhook-batch-max-size has no effect with --audit-webhook-mode=blocking");
        let rate = |rate: &str| to(Settings { audit_webhook_batch_throttle_qps: Some(rate.into()), ..Settings::default() });
        assert!(combinations(&rate("0.5")).is_ok() && refused(rate("0")).contains("throttle QPS 0"));
        let format = |format: &str| Settings {
            audit_log_format: Some(format.into()),
            audit_log_path: Some("/l".into()),
            audit_policy_file: Some("/p".into()),
            ..Settings::default()
        };
        assert!(combinations(&format("legacy")).is_ok() && refused(format("xml")).starts_with("invalid audit log format xml"));
        assert!(refused(Settings { audit_log_path: None, audit_policy_file: None, ..format("json") }).contains("without --audit-log-path"));
        let written = |mode: &str| Settings { audit_log_mode: Some(mode.into()), ..format("json") };
        let batched = |mode| Settings { audit_log_batch_max_size: Some(7), ..written(mode) };
        assert!(combinations(&batched("batch")).is_ok());
        assert_eq!(refused(batched("blocking")), "--audit-log-batch-max-size has no effect with --audit-log-mode=blocking");
        assert!(refused(Settings { audit_log_batch_throttle_burst: Some(3), ..written("batch") }).contains("have no effect without"));
        assert!(combinations(&written("blocking-strict")).is_ok() && refused(written("never")).starts_with("invalid audit log mode never"));
    }

    #[test]
    fn what_is_chosen_for_the_api_server_must_be_such_a_thing() {
        let refused = |settings: Settings| combinations(&settings).expect_err("refused").to_string();
        let issuers =
            |names: &[&str]| Settings { service_account_issuer: Some(names.iter().map(|&name| name.into()).collect()), ..Settings::default() };
        assert!(combinations(&issuers(&["https://a", "https://b"])).is_ok());
        assert_eq!(refused(issuers(&["https://a", "https://a"])), "service-account-issuer \"https://a\" is already specified");
        assert_eq!(refused(issuers(&[""])), "service-account-issuer should not be an empty string");
        let keys = Settings { service_account_jwks_uri: Some("http://a".into()), ..Settings::default() };
        assert!(refused(keys).contains("requires https scheme"));
        let signed = |endpoint: &str| Settings { service_account_signing_endpoint: Some(endpoint.into()), ..Settings::default() };
        assert!(combinations(&signed("/run/signer.sock")).is_ok() && combinations(&signed("@signer.example")).is_ok());
        for odd in ["signer.sock", "@", "@a..b", "@a/b"] {
            assert!(refused(signed(odd)).contains("must be a valid abstract socket name"), "{odd}");
        }
        let both = Settings { service_account_key_file: Some(vec!["/k".into()]), ..signed("/s") };
        assert!(refused(both).ends_with("(They are mutually exclusive)"));
        let longest = Settings { service_account_max_token_expiration: Some(60), ..Settings::default() };
        assert_eq!(refused(longest), "the service-account-max-token-expiration must be between 1 hour and 2^32 seconds");
        let chance = |text: &str| Settings { goaway_chance: Some(text.into()), ..Settings::default() };
        assert!(combinations(&chance("0.001")).is_ok());
        for odd in ["0.1", "-0.1", "often"] {
            assert_eq!(refused(chance(odd)), "--goaway-chance can not be less than 0 or greater than 0.02");
        }
        let https = |directives: &[&str]| Settings {
            strict_transport_security_directives: Some(directives.iter().map(|&directive| directive.into()).collect()),
            ..Settings::default()
        };
        assert!(combinations(&https(&["max-age=31536000", "includeSubDomains", "preload"])).is_ok());
        assert!(refused(https(&["max-age=1=2"])).contains("allowed values: max-age=expireTime") && !refused(https(&["always"])).is_empty());
        let origin = Settings { cors_allowed_origins: Some(vec!["example".into()]), ..Settings::default() };
        assert!(refused(origin).contains("does not pin to start/end of host"));
        let lead = |lease, renew, retry| Settings {
            leader_elect_lease_duration: lease,
            leader_elect_renew_deadline: renew,
            leader_elect_retry_period: retry,
            ..Settings::default()
        };
        assert!(combinations(&lead(Some(60), Some(40), Some(5))).is_ok() && combinations(&lead(Some(60), None, None)).is_ok());
        assert!(refused(lead(Some(10), None, None)).starts_with("leaseDuration must be greater than renewDeadline"));
        assert!(refused(lead(None, Some(6), Some(5))).starts_with("renewDeadline must be greater than retryPeriod*JitterFactor"));
        assert!(refused(lead(None, None, Some(0))).contains("--leader-elect-retry-period"));
        let tolerance = Settings { horizontal_pod_autoscaler_tolerance: Some("-1".into()), ..Settings::default() };
        assert!(refused(tolerance).contains("--horizontal-pod-autoscaler-tolerance"));
        let none = Settings { max_requests_inflight: Some(0), max_mutating_requests_inflight: Some(0), ..Settings::default() };
        assert!(refused(none).contains("they must add up to something positive"));
        assert!(combinations(&Settings { max_requests_inflight: Some(0), ..Settings::default() }).is_ok());
        let alone = Settings { tls_cert_file: Some("/c".into()), ..Settings::default() };
        assert!(refused(alone).contains("have no effect without each other"));
        let ports = |text: &str| port_range(text).map_err(|error| error.to_string());
        assert_eq!((ports("30000-30010"), ports("20000+5"), ports("80")), (Ok(30000..=30010), Ok(20000..=20005), Ok(80..=80)));
        for odd in ["", "0-5", "5-4", "a-b", "65535+1", "1-65536"] {
            assert!(port_range(odd).is_err(), "{odd}");
        }
    }

    #[test]
    fn a_node_gives_itself_labels_that_it_may_have() {
        let labels = |given: &[&str]| node_labels(&given.iter().map(|&label| label.to_owned()).collect::<Vec<_>>());
        let taken = labels(&["disk=ssd", "topology.kubernetes.io/zone=a", "node.kubernetes.io/any=b", "example.org/empty"]).expect("works");
        assert_eq!((taken["disk"].as_str(), taken["example.org/empty"].as_str(), taken.len()), ("ssd", "", 4));
        for odd in ["=a", "a b=c", "a=b c", "node-role.kubernetes.io/control-plane=", "x.k8s.io/y=z"] {
            assert!(labels(&[odd]).is_err(), "{odd}");
        }
    }

    #[test]
    fn names_and_ranges_that_cannot_work_are_refused() {
        assert!(bridge("troupe0").is_ok());
        for odd in ["", "..", "a/b", "a b", "averylongbridge0"] {
            assert!(bridge(odd).is_err(), "{odd:?}");
        }
        assert!(dns_name("--node-name", "one.example").is_ok());
        for odd in ["", "One", "-a", "a..b", "a_b", "a\nb"] {
            assert!(dns_name("--node-name", odd).is_err(), "{odd:?}");
        }
        let range = |text: &str| text.parse::<IpNetwork>().expect("a range");
        assert!(ranges(range("10.96.0.0/16"), range("10.244.0.0/16")).is_ok());
        assert!(ranges(range("10.96.0.0/16"), range("10.96.4.0/24")).is_err());
        assert!(dns_service(range("10.96.0.0/16").into(), IpAddr::from([10, 96, 0, 10])).is_ok());
        assert!(dns_service(range("10.96.0.0/16").into(), IpAddr::from([10, 97, 0, 10])).is_err());
    }

    #[test]
    fn nodes_have_addresses_and_ranges_of_each_family() {
        let both = [Family::V4, Family::V6];
        let addresses = |text: &str| text.parse().expect("addresses");
        assert!(node_addresses(&addresses("192.0.2.1,2001:db8::1"), &both).is_ok());
        assert!(node_addresses(&addresses("192.0.2.1"), &both).expect_err("refused").to_string().contains("has no IPv6 address"));
        assert!(node_addresses(&addresses("2001:db8::1,192.0.2.1"), &both).is_err());
        let sizes = |pods: &str, sizes| {
            let ranges = node_ranges(pods.parse().expect("ranges"), sizes).map_err(|error| error.to_string())?;
            Ok::<_, String>(ranges.iter().map(|range| range.node_prefix).collect::<Vec<_>>())
        };
        assert_eq!(sizes("10.244.0.0/16,fd00::/56", [None, None]), Ok(vec![24, 64]));
        assert_eq!(sizes("fd00::/56,10.244.0.0/16", [Some(26), Some(72)]), Ok(vec![72, 26]));
        assert!(sizes("10.244.0.0/16", [None, Some(64)]).is_err_and(|why| why.contains("--node-cidr-mask-size-ipv6 has no effect")));
        assert!(sizes("fd00::/32", [None, None]).is_err_and(|why| why.contains("more than 65536")));
        assert!(sizes("10.244.0.0/16", [Some(12), None]).is_err_and(|why| why.contains("do not fit")));
    }
}
