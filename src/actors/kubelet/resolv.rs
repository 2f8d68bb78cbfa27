//! Names: the DNS config of a pod, its hostname, its hosts file.

use std::{
    io::{self, Read},
    path::Path,
};

use k8s_openapi::api::core::v1::{Pod, PodSpec};
use troupe_cri::proto::DnsConfig;

use crate::files::{Directory, directory::replace_content, place_and_name};

const NAMESERVERS: usize = 3;
const HOSTNAME: usize = 63;

/// The node's own resolver.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Resolver {
    pub servers: Vec<String>,
    pub searches: Vec<String>,
    pub options: Vec<String>,
}

impl Resolver {
    /// Reads a `resolv.conf`. The last `search` line counts.
    pub fn parse(text: &str) -> Self {
        let mut resolver = Resolver::default();
        for line in text.lines() {
            let mut words = line.split_whitespace();
            match words.next() {
                Some("nameserver") => resolver.servers.extend(words.next().map(str::to_owned)),
                Some("search" | "domain") => resolver.searches = words.map(|word| word.trim_end_matches('.').to_owned()).collect(),
                Some("options") => resolver.options.extend(words.map(str::to_owned)),
                _ => {}
            }
        }
        resolver.searches.retain(|search| !search.is_empty());
        resolver
    }
}

/// The cluster's DNS.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClusterDns {
    pub servers: Vec<String>,
    pub domain: String,
}

/// The DNS config of a pod by its policy.
pub fn dns_config(pod: &Pod, cluster: &ClusterDns, host: &Resolver) -> DnsConfig {
    let empty = PodSpec::default();
    let spec = pod.spec.as_ref().unwrap_or(&empty);
    let namespace = pod.metadata.namespace.as_deref().unwrap_or("default");
    let policy = match spec.dns_policy.as_deref().unwrap_or("ClusterFirst") {
        "ClusterFirst" if spec.host_network == Some(true) => "Default",
        "ClusterFirst" | "ClusterFirstWithHostNet" if cluster.servers.is_empty() => "Default",
        policy => policy,
    };
    let mut config = match policy {
        "None" => DnsConfig::default(),
        "Default" => DnsConfig { servers: host.servers.clone(), searches: host.searches.clone(), options: host.options.clone() },
        _ => {
            let domain = &cluster.domain;
            let mut searches = vec![format!("{namespace}.svc.{domain}"), format!("svc.{domain}"), domain.clone()];
            searches.extend(host.searches.iter().cloned());
            DnsConfig { servers: cluster.servers.clone(), searches, options: vec!["ndots:5".into()] }
        }
    };
    if let Some(own) = &spec.dns_config {
        config.servers.extend(own.nameservers.iter().flatten().cloned());
        config.searches.extend(own.searches.iter().flatten().cloned());
        for option in own.options.iter().flatten() {
            let name = option.name.clone().unwrap_or_default();
            config.options.retain(|known| known.split(':').next() != Some(name.as_str()));
            config.options.push(option.value.as_ref().map_or(name.clone(), |value| format!("{name}:{value}")));
        }
    }
    unique(&mut config.servers);
    unique(&mut config.searches);
    config.servers.truncate(NAMESERVERS);
    config
}

fn unique(list: &mut Vec<String>) {
    let mut seen = std::collections::HashSet::new();
    list.retain(|entry| seen.insert(entry.clone()));
}

/// The hostname of a pod, and its full domain name when it has one.
pub fn hostname(pod: &Pod, domain: &str) -> (String, Option<String>) {
    let empty = PodSpec::default();
    let spec = pod.spec.as_ref().unwrap_or(&empty);
    let given = spec.hostname.as_deref().filter(|name| !name.is_empty());
    let mut name = given.unwrap_or_else(|| pod.metadata.name.as_deref().unwrap_or_default()).to_owned();
    name.truncate(HOSTNAME);
    let name = name.trim_end_matches(['-', '.']).to_owned();
    let namespace = pod.metadata.namespace.as_deref().unwrap_or("default");
    let subdomain = spec.subdomain.as_deref().filter(|subdomain| !subdomain.is_empty());
    let full = subdomain.map(|subdomain| format!("{name}.{subdomain}.{namespace}.svc.{domain}"));
    match (&spec.hostname_override, &full) {
        (Some(forced), _) => (forced.clone(), None),
        (None, Some(full)) if spec.set_hostname_as_fqdn == Some(true) => (full.clone(), Some(full.clone())),
        _ => (name, full),
    }
}

/// The text of a pod's `/etc/hosts`. Pods on the host's network get the host's file with their aliases.
pub fn hosts_file(pod: &Pod, ips: &[String], domain: &str, host_file: &str) -> String {
    let empty = PodSpec::default();
    let spec = pod.spec.as_ref().unwrap_or(&empty);
    let mut text = if spec.host_network == Some(true) {
        format!("# Kubernetes-managed hosts file (host network).\n{host_file}")
    } else {
        let (name, full) = hostname(pod, domain);
        let lines = ips.iter().map(|ip| match full.as_ref().filter(|full| **full != name) {
            Some(full) => format!("{ip}\t{full}\t{name}\n"),
            None => format!("{ip}\t{name}\n"),
        });
        let fixed = "# Kubernetes-managed hosts file.\n127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n\
            fe00::0\tip6-localnet\nfe00::0\tip6-mcastprefix\nfe00::1\tip6-allnodes\nfe00::2\tip6-allrouters\n";
        fixed.to_owned() + &lines.collect::<String>()
    };
    let aliases = spec.host_aliases.as_deref().unwrap_or_default();
    if !aliases.is_empty() {
        text.push_str("\n# Entries added by HostAliases.\n");
        for alias in aliases {
            text.push_str(&format!("{}\t{}\n", alias.ip, alias.hostnames.as_deref().unwrap_or_default().join("\t")));
        }
    }
    text
}

/// Writes the hosts file in place: containers have the inode mounted, and may have written into it what they liked.
pub fn write_hosts(path: &Path, text: &str) -> io::Result<()> {
    let (folder, name) = place_and_name(path)?;
    let mut file = Directory::make(folder, 0o700)?.overwrite(name, 0o644)?;
    let mut old = Vec::new();
    file.by_ref().take(text.len() as u64 + 1).read_to_end(&mut old)?;
    if old == text.as_bytes() { Ok(()) } else { replace_content(&mut file, text.as_bytes()) }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn pod(spec: serde_json::Value) -> Pod {
        serde_json::from_value(json!({"metadata": {"name": "web", "namespace": "n"}, "spec": spec})).expect("a pod")
    }

    fn cluster() -> ClusterDns {
        ClusterDns { servers: vec!["10.96.0.10".into()], domain: "cluster.local".into() }
    }

    #[test]
    fn cluster_first_searches_the_namespace_then_the_host() {
        let host = Resolver::parse("nameserver 192.0.2.1\nsearch example.org.\noptions edns0\n");
        let got = dns_config(&pod(json!({"containers": []})), &cluster(), &host);
        assert_eq!(got.servers, ["10.96.0.10"]);
        assert_eq!(got.searches, ["n.svc.cluster.local", "svc.cluster.local", "cluster.local", "example.org"]);
        assert_eq!(got.options, ["ndots:5"]);
        let on_host = dns_config(&pod(json!({"hostNetwork": true, "containers": []})), &cluster(), &host);
        assert_eq!(on_host.servers, ["192.0.2.1"]);
    }

    #[test]
    fn own_options_replace_those_of_the_policy() {
        let spec = json!({"dnsPolicy": "ClusterFirst", "dnsConfig": {"options": [{"name": "ndots", "value": "2"}], "nameservers": ["1.1.1.1"]}, "containers": []});
        let got = dns_config(&pod(spec), &cluster(), &Resolver::default());
        assert_eq!((got.options, got.servers), (vec!["ndots:2".to_owned()], vec!["10.96.0.10".to_owned(), "1.1.1.1".to_owned()]));
    }

    #[test]
    fn a_subdomain_gives_the_hosts_file_a_full_name() {
        let pod = pod(json!({"hostname": "a", "subdomain": "s", "hostAliases": [{"ip": "1.2.3.4", "hostnames": ["x", "y"]}], "containers": []}));
        let text = hosts_file(&pod, &["10.0.0.2".into()], "cluster.local", "");
        assert!(text.contains("10.0.0.2\ta.s.n.svc.cluster.local\ta\n"));
        assert!(text.ends_with("# Entries added by HostAliases.\n1.2.3.4\tx\ty\n"));
    }
}
