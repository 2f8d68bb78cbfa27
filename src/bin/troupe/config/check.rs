//! Values that cannot work, refused before anything is made of them.

use std::net::IpAddr;

use anyhow::{Result, bail, ensure};
use ipnetwork::IpNetwork;
use troupe_actors::controllers::node_ipam::{ClusterRange, MOST_BITS};
use troupe_net::iptables::Family;

use super::{Cni, OfFamily, PerFamily, Settings};

/// The longest name of a network interface.
const LONGEST_INTERFACE: usize = 15;

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
    waits_for(settings)?;
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
    ];
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
