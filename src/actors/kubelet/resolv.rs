//! Names: the DNS config of a pod, its hostname, its hosts file.

use std::{
    io::{self, Read},
    path::Path,
};

use k8s_openapi::api::core::v1::{Pod, PodSpec};
use troupe_cri::proto::DnsConfig;

use crate::files::{Directory, directory::replace_content, place_and_name};

/// What resolvers take: servers, search paths, bytes of one of them and of all together (upstream's `MaxDNS…`).
const NAMESERVERS: usize = 3;
const SEARCHES: usize = 32;
const LONGEST_SEARCH: usize = 253;
const SEARCH_LINE: usize = 2048;
const HOSTNAME: usize = 63;
/// The longest name that a kernel has, in bytes.
const KERNEL_NAME: usize = 64;

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

/// The DNS config of a pod by its policy, as much of it as resolvers take.
pub fn dns_config(pod: &Pod, cluster: &ClusterDns, host: &Resolver) -> DnsConfig {
    let mut config = whole_config(pod, cluster, host);
    fit(&mut config);
    config
}

/// What is told of a pod whose DNS config is more than resolvers take, in upstream's words.
pub fn left_out(pod: &Pod, cluster: &ClusterDns, host: &Resolver) -> Vec<String> {
    fit(&mut whole_config(pod, cluster, host))
}

fn whole_config(pod: &Pod, cluster: &ClusterDns, host: &Resolver) -> DnsConfig {
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
    config
}

/// Cuts what is too much, and says what is left where it did.
fn fit(config: &mut DnsConfig) -> Vec<String> {
    let mut told = Vec::new();
    if config.servers.len() > NAMESERVERS {
        config.servers.truncate(NAMESERVERS);
        let left = "Nameserver limits were exceeded, some nameservers have been omitted, the applied nameserver line is";
        told.push(format!("{left}: {}", config.servers.join(" ")));
    }
    let asked = config.searches.len();
    config.searches.truncate(SEARCHES);
    config.searches.retain(|search| search.len() <= LONGEST_SEARCH);
    while config.searches.join(" ").len() > SEARCH_LINE {
        config.searches.pop();
    }
    if config.searches.len() < asked {
        let left = "Search Line limits were exceeded, some search paths have been omitted, the applied search line is";
        told.push(format!("{left}: {}", config.searches.join(" ")));
    }
    told
}

fn unique(list: &mut Vec<String>) {
    let mut seen = std::collections::HashSet::new();
    list.retain(|entry| seen.insert(entry.clone()));
}

/// The short name of a pod, and its full domain name when it has one: what its hosts file has, whichever of them the kernel is told.
fn names(pod: &Pod, domain: &str) -> (String, Option<String>) {
    let empty = PodSpec::default();
    let spec = pod.spec.as_ref().unwrap_or(&empty);
    if let Some(forced) = &spec.hostname_override {
        return (short(forced), None);
    }
    let given = spec.hostname.as_deref().filter(|name| !name.is_empty());
    let name = short(given.unwrap_or_else(|| pod.metadata.name.as_deref().unwrap_or_default()));
    let namespace = pod.metadata.namespace.as_deref().unwrap_or("default");
    let subdomain = spec.subdomain.as_deref().filter(|subdomain| !subdomain.is_empty());
    let full = subdomain.map(|subdomain| format!("{name}.{subdomain}.{namespace}.svc.{domain}"));
    (name, full)
}

/// As much of a name as a hostname has room for.
fn short(name: &str) -> String {
    let end = name.char_indices().map(|(at, letter)| at + letter.len_utf8()).take_while(|end| *end <= HOSTNAME).last().unwrap_or(0);
    name[..end].trim_end_matches(['-', '.']).to_owned()
}

/// The hostname of a pod, which is its full name where it asks for that (`setHostnameAsFQDN`).
///
/// # Errors
/// When the full name is longer than a kernel has room for, in upstream's words.
pub fn hostname(pod: &Pod, domain: &str) -> Result<String, String> {
    let wants_full = pod.spec.as_ref().is_some_and(|spec| spec.set_hostname_as_fqdn == Some(true));
    match names(pod, domain) {
        (_, Some(full)) if wants_full && full.len() > KERNEL_NAME => Err(format!(
            "failed to construct FQDN from pod hostname and cluster domain, FQDN {full} is too long ({KERNEL_NAME} characters is the max, {} characters requested)",
            full.len()
        )),
        (_, Some(full)) if wants_full => Ok(full),
        (name, _) => Ok(name),
    }
}

/// The text of a pod's `/etc/hosts`. Pods on the host's network get the host's file with their aliases.
pub fn hosts_file(pod: &Pod, ips: &[String], domain: &str, host_file: &str) -> String {
    let empty = PodSpec::default();
    let spec = pod.spec.as_ref().unwrap_or(&empty);
    let mut text = if spec.host_network == Some(true) {
        format!("# Kubernetes-managed hosts file (host network).\n{host_file}")
    } else {
        let (name, full) = names(pod, domain);
        let lines = ips.iter().map(|ip| match &full {
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
    fn what_resolvers_have_no_room_for_is_left_out_and_told() {
        let cut = |config: serde_json::Value| {
            let pod = pod(json!({"dnsConfig": config, "containers": []}));
            let host = Resolver::default();
            (dns_config(&pod, &cluster(), &host), left_out(&pod, &cluster(), &host))
        };
        let (config, told) = cut(json!({"nameservers": ["1.1.1.1", "2.2.2.2", "3.3.3.3"]}));
        assert_eq!(config.servers, ["10.96.0.10", "1.1.1.1", "2.2.2.2"]);
        let line = "the applied nameserver line is: 10.96.0.10 1.1.1.1 2.2.2.2";
        assert_eq!(told, [format!("Nameserver limits were exceeded, some nameservers have been omitted, {line}")]);
        let many: Vec<_> = (0..40).map(|number| format!("s{number}")).collect();
        let (config, told) = cut(json!({"searches": many}));
        assert_eq!((config.searches.len(), config.searches.last().map(String::as_str), told.len()), (32, Some("s28"), 1));
        let long: Vec<_> = (0..20).map(|number| format!("{number}.{}", "x".repeat(200))).collect();
        let (config, told) = cut(json!({"searches": long}));
        assert!(config.searches.join(" ").len() <= 2048 && config.searches.len() > 10, "{config:?}");
        assert!(told[0].starts_with("Search Line limits were exceeded, some search paths have been omitted, the applied search line is: n.svc."));
        assert_eq!(cut(json!({"searches": ["a.b"], "nameservers": ["1.1.1.1"]})).1, [""; 0]);
    }

    #[test]
    fn a_subdomain_gives_the_hosts_file_a_full_name() {
        let pod = pod(json!({"hostname": "a", "subdomain": "s", "hostAliases": [{"ip": "1.2.3.4", "hostnames": ["x", "y"]}], "containers": []}));
        let text = hosts_file(&pod, &["10.0.0.2".into()], "cluster.local", "");
        assert!(text.contains("10.0.0.2\ta.s.n.svc.cluster.local\ta\n"));
        assert!(text.ends_with("# Entries added by HostAliases.\n1.2.3.4\tx\ty\n"));
    }

    #[test]
    fn the_hosts_file_has_both_names_whichever_of_them_is_the_hostname() {
        let of = |spec| {
            let pod = pod(spec);
            let text = hosts_file(&pod, &["10.0.0.2".into(), "fd00::2".into()], "cluster.local", "");
            let own = text.lines().filter(|line| line.starts_with("10.0.0.2") || line.starts_with("fd00::2")).map(str::to_owned).collect::<Vec<_>>();
            (hostname(&pod, "cluster.local"), own)
        };
        let full = "foo.bar.n.svc.cluster.local".to_owned();
        let both = vec![format!("10.0.0.2\t{full}\tfoo"), format!("fd00::2\t{full}\tfoo")];
        let spec = json!({"hostname": "foo", "subdomain": "bar", "setHostnameAsFQDN": true, "containers": []});
        assert_eq!(of(spec), (Ok(full), both.clone()));
        assert_eq!(of(json!({"hostname": "foo", "subdomain": "bar", "containers": []})), (Ok("foo".into()), both));
        let alone = |name: &str| vec![format!("10.0.0.2\t{name}"), format!("fd00::2\t{name}")];
        assert_eq!(of(json!({"setHostnameAsFQDN": true, "containers": []})), (Ok("web".into()), alone("web")));
        let forced = json!({"hostnameOverride": "h.example", "hostname": "foo", "subdomain": "bar", "setHostnameAsFQDN": false, "containers": []});
        assert_eq!(of(forced), (Ok("h.example".into()), alone("h.example")));
    }

    #[test]
    fn a_full_name_that_no_kernel_has_room_for_is_refused() {
        let spec = |full: bool| json!({"hostname": "a".repeat(63), "subdomain": "s", "setHostnameAsFQDN": full, "containers": []});
        let why = hostname(&pod(spec(true)), "cluster.local").expect_err("it is too long");
        assert!(why.ends_with("is too long (64 characters is the max, 85 characters requested)"), "{why}");
        assert_eq!(hostname(&pod(spec(false)), "cluster.local"), Ok("a".repeat(63)));
        assert_eq!(short(&format!("{}-.b", "a".repeat(62))), "a".repeat(62));
    }
}
