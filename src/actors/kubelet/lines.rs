//! What a pod writes into lines of files and into rules of others: `resolv.conf`, the hosts file, packet filters.
//!
//! The API server refuses what would be more than one word there. The node looks for itself, because a pod may have been
//! stored by rules that were weaker.

use std::net::IpAddr;

use k8s_openapi::api::core::v1::{Container, PodDNSConfig, PodSpec};

/// Refuses a pod with a text that would become more than it stands for.
///
/// # Errors
/// What is wrong, for the pod's events.
pub fn check(spec: &PodSpec) -> Result<(), String> {
    if let Some(config) = &spec.dns_config {
        dns(config)?;
    }
    for alias in spec.host_aliases.iter().flatten() {
        address("hostAliases", &alias.ip)?;
        alias.hostnames.iter().flatten().try_for_each(|name| word("hostAliases", name))?;
    }
    for name in [&spec.hostname, &spec.subdomain, &spec.hostname_override].into_iter().flatten().filter(|name| !name.is_empty()) {
        word("hostname", name)?;
    }
    spec.init_containers.iter().flatten().chain(&spec.containers).try_for_each(host_addresses)
}

fn dns(config: &PodDNSConfig) -> Result<(), String> {
    for server in config.nameservers.iter().flatten() {
        address("dnsConfig.nameservers", server)?;
    }
    config.searches.iter().flatten().try_for_each(|search| word("dnsConfig.searches", search))?;
    for option in config.options.iter().flatten() {
        word("dnsConfig.options", option.name.as_deref().unwrap_or_default())?;
        if let Some(value) = option.value.as_deref().filter(|value| !value.is_empty()) {
            word("dnsConfig.options", value)?;
        }
    }
    Ok(())
}

fn host_addresses(container: &Container) -> Result<(), String> {
    let ports = container.ports.iter().flatten();
    ports.filter_map(|port| port.host_ip.as_deref()).filter(|ip| !ip.is_empty()).try_for_each(|ip| address("hostIP", ip))
}

fn address(field: &str, text: &str) -> Result<(), String> {
    text.parse::<IpAddr>().map(drop).map_err(|_| format!("{field}: {text:?} is not an IP address"))
}

fn word(field: &str, text: &str) -> Result<(), String> {
    let is_word = !text.is_empty() && !text.chars().any(|c| c.is_whitespace() || c.is_control() || matches!(c, '#' | ';'));
    if is_word { Ok(()) } else { Err(format!("{field}: {text:?} is not one word")) }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn judged(more: Value) -> Result<(), String> {
        let mut spec = json!({"containers": []});
        spec.as_object_mut().expect("a map").extend(more.as_object().expect("a map").clone());
        check(&serde_json::from_value(spec).expect("a spec"))
    }

    #[test]
    fn what_stays_on_its_line_is_fine() {
        let ports = json!([{"containerPort": 1, "hostIP": "10.0.0.1"}, {"containerPort": 1, "hostIP": ""}]);
        let dns = json!({"nameservers": ["1.1.1.1", "fd00::1"], "searches": ["a_b.c", "."], "options": [{"name": "ndots", "value": "2"}, {"name": "edns0"}]});
        let spec = json!({"dnsConfig": dns, "hostAliases": [{"ip": "::1", "hostnames": ["a"]}], "hostname": "web", "containers": [{"name": "c", "ports": ports}]});
        assert_eq!(judged(spec), Ok(()));
    }

    #[test]
    fn what_would_begin_another_line_is_refused() {
        for (spec, want) in [
            (
                json!({"dnsConfig": {"nameservers": ["1.1.1.1\nnameserver 6.6.6.6"]}}),
                "dnsConfig.nameservers: \"1.1.1.1\\nnameserver 6.6.6.6\" is not an IP address",
            ),
            (json!({"dnsConfig": {"searches": ["a\nnameserver 6.6.6.6"]}}), "dnsConfig.searches: \"a\\nnameserver 6.6.6.6\" is not one word"),
            (
                json!({"dnsConfig": {"options": [{"name": "a", "value": "1\nnameserver 6.6.6.6"}]}}),
                "dnsConfig.options: \"1\\nnameserver 6.6.6.6\" is not one word",
            ),
            (json!({"hostAliases": [{"ip": "1.1.1.1", "hostnames": ["a\n6.6.6.6 b"]}]}), "hostAliases: \"a\\n6.6.6.6 b\" is not one word"),
            (json!({"hostname": "a\n6.6.6.6 b"}), "hostname: \"a\\n6.6.6.6 b\" is not one word"),
            (
                json!({"containers": [{"name": "c", "ports": [{"containerPort": 1, "hostIP": "x -j ACCEPT"}]}]}),
                "hostIP: \"x -j ACCEPT\" is not an IP address",
            ),
        ] {
            assert_eq!(judged(spec), Err(want.to_owned()));
        }
    }
}
