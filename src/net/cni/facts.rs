//! What the preflight looks at, gathered from the machine, and the settings it may put right.

use std::{
    fs, io,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use super::{BANDWIDTH, PLUGIN_DIRS, foreign, plugin_dir};
use crate::iptables::{ChainId, Family, Iptables, Observed, Table};

/// A kernel setting below `/proc/sys`.
const FORWARDING: &str = "net/ipv4/ip_forward";
const FORWARDING_IPV6: &str = "net/ipv6/conf/all/forwarding";
const BRIDGE_FILTER: &str = "net/bridge/bridge-nf-call-iptables";
const BRIDGE_FILTER_IPV6: &str = "net/bridge/bridge-nf-call-ip6tables";
/// The settings of all interfaces, a directory each.
const INTERFACES_IPV6: &str = "net/ipv6/conf";

/// The state of the machine as far as the pod network cares.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Facts {
    pub root: bool,
    /// Tools the network needs that are not in PATH.
    pub missing_tools: Vec<String>,
    /// The tool that keeps sets of addresses is not in PATH.
    pub no_ipset: bool,
    pub missing_plugins: Vec<String>,
    /// The plugin that limits pods' traffic is not beside the others.
    pub no_bandwidth: bool,
    /// The pod network is left to others, whether they have configured it yet or not.
    pub left_to_others: bool,
    pub foreign_network: Option<PathBuf>,
    /// `None` when the setting does not exist.
    pub forwarding: Option<bool>,
    pub bridge_filter: Option<bool>,
    /// The cluster's addresses are of IPv6 as well, or only. Without it the next two are not asked for.
    pub ipv6: bool,
    pub forwarding_ipv6: Option<bool>,
    pub bridge_filter_ipv6: Option<bool>,
    /// Swap devices in use.
    pub swap: Vec<String>,
    /// The FORWARD chain's policy is DROP, and none of our rules lets pods through yet.
    pub forward_drops: bool,
    /// The INPUT chain's policy is DROP.
    pub input_drops: bool,
    /// Known firewalls that are switched on.
    pub firewalls: Vec<&'static str>,
    /// nftables chains of others that drop what is forwarded or comes in, as `family table/chain`.
    pub dropping_chains: Vec<String>,
    /// The filter could not be read at all.
    pub iptables_error: Option<String>,
}

impl Facts {
    /// Looks at the machine. `conf_dir` is where CNI configuration is read from, `families` are those of the cluster's addresses.
    pub async fn gather(conf_dir: &Path, iptables: &dyn Iptables, families: &[Family]) -> Self {
        let sys = Path::new("/proc/sys");
        let ipv6 = families.contains(&Family::V6);
        let tools_ipv6 = ["ip6tables", "ip6tables-restore"].into_iter().filter(|_| ipv6);
        let tools = ["iptables", "iptables-restore"].into_iter().chain(tools_ipv6);
        let plugins = plugin_dir(&PLUGIN_DIRS.map(PathBuf::from));
        let mut facts = Facts {
            root: nix::unistd::geteuid().is_root(),
            missing_tools: tools.filter(|tool| !in_path(tool)).map(str::to_owned).collect(),
            no_ipset: !in_path("ipset"),
            no_bandwidth: plugins.as_ref().is_ok_and(|dir| !dir.join(BANDWIDTH).is_file()),
            missing_plugins: plugins.err().unwrap_or_default(),
            foreign_network: foreign(conf_dir).ok().flatten(),
            forwarding: setting(sys, FORWARDING),
            bridge_filter: setting(sys, BRIDGE_FILTER),
            ipv6,
            forwarding_ipv6: setting(sys, FORWARDING_IPV6).filter(|_| ipv6),
            bridge_filter_ipv6: setting(sys, BRIDGE_FILTER_IPV6).filter(|_| ipv6),
            swap: swap_devices(&fs::read_to_string("/proc/swaps").unwrap_or_default()),
            dropping_chains: nft_ruleset().map(|text| dropping_chains(&text)).unwrap_or_default(),
            firewalls: active_firewalls(Path::new("/")),
            ..Facts::default()
        };
        match iptables.save(Table::Filter).await {
            Ok(text) => {
                let mut observed = Observed::default();
                observed.read(&text);
                let forward = ChainId::new(Table::Filter, "FORWARD");
                let passes = observed.rules(&forward).is_some_and(|rules| rules.iter().any(|rule| rule.ends_with(crate::podnet::FORWARD)));
                facts.forward_drops = observed.policy(&forward) == Some("DROP") && !passes;
                facts.input_drops = observed.policy(&ChainId::new(Table::Filter, "INPUT")) == Some("DROP");
            }
            Err(error) => facts.iptables_error = Some(error.to_string()),
        }
        facts
    }

    /// Puts right what may be put right without asking: forwarding, and bridged traffic through iptables.
    /// Returns what was changed.
    pub fn mend(&mut self) -> io::Result<Vec<String>> {
        let sys = Path::new("/proc/sys");
        let mut changed = Vec::new();
        if self.bridge_filter.is_none() {
            // Not every kernel has modules; whether it helped shows in the setting.
            let _ = Command::new("modprobe").arg("br_netfilter").stdin(Stdio::null()).stderr(Stdio::null()).status();
            self.bridge_filter = setting(sys, BRIDGE_FILTER);
            self.bridge_filter_ipv6 = setting(sys, BRIDGE_FILTER_IPV6).filter(|_| self.ipv6);
        }
        if self.forwarding_ipv6 == Some(false) {
            keep_learning_routes(&sys.join(INTERFACES_IPV6))?;
        }
        let settings = [
            (FORWARDING, &mut self.forwarding),
            (BRIDGE_FILTER, &mut self.bridge_filter),
            (FORWARDING_IPV6, &mut self.forwarding_ipv6),
            (BRIDGE_FILTER_IPV6, &mut self.bridge_filter_ipv6),
        ];
        for (name, value) in settings {
            if *value == Some(false) {
                fs::write(sys.join(name), "1")?;
                *value = Some(true);
                changed.push(format!("{} = 1", name.replace('/', ".")));
            }
        }
        Ok(changed)
    }
}

/// A machine that forwards listens to no router unless it is told to do both: where it listens now, it goes on.
fn keep_learning_routes(interfaces: &Path) -> io::Result<()> {
    for interface in fs::read_dir(interfaces)?.flatten() {
        let path = interface.path().join("accept_ra");
        if fs::read_to_string(&path).is_ok_and(|text| text.trim() == "1") {
            fs::write(&path, "2")?;
        }
    }
    Ok(())
}

/// Why network policies of a family cannot be enforced on this machine; `None` when they can.
pub fn unable_to_police(family: Family) -> Option<String> {
    let filter = if family == Family::V4 { BRIDGE_FILTER } else { BRIDGE_FILTER_IPV6 };
    why_unable(in_path("ipset"), filter, setting(Path::new("/proc/sys"), filter))
}

/// The preflight switches filtering on where the kernel has it.
fn why_unable(has_ipset: bool, name: &str, bridge_filter: Option<bool>) -> Option<String> {
    if !has_ipset {
        return Some("the program ipset is missing on the node (apt-get install ipset)".into());
    }
    match bridge_filter {
        Some(true) => None,
        Some(false) => Some(format!("{} is off on the node: pods of one node would not be kept from each other", name.replace('/', "."))),
        None => Some(
            "the node's kernel does not filter bridged traffic (modprobe br_netfilter): pods of one node would not be kept from each other".into(),
        ),
    }
}

fn setting(sys: &Path, name: &str) -> Option<bool> {
    fs::read_to_string(sys.join(name)).ok().map(|text| text.trim() != "0")
}

/// Whether a program is there.
pub fn has_tool(tool: &str) -> bool {
    in_path(tool)
}

fn in_path(tool: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).chain(["/usr/sbin".into(), "/sbin".into()]).any(|dir| dir.join(tool).is_file())
}

/// The devices in the text of `/proc/swaps`.
fn swap_devices(text: &str) -> Vec<String> {
    text.lines().skip(1).filter_map(|line| line.split_whitespace().next()).map(str::to_owned).collect()
}

/// All of nftables, where the tool exists.
fn nft_ruleset() -> Option<String> {
    let output = Command::new("nft").args(["list", "chains"]).stdin(Stdio::null()).stderr(Stdio::null()).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
}

/// The firewalls that are switched on below `root`.
fn active_firewalls(root: &Path) -> Vec<&'static str> {
    let ufw = fs::read_to_string(root.join("etc/ufw/ufw.conf")).unwrap_or_default();
    let mut active = Vec::new();
    if ufw.lines().any(|line| line.trim().eq_ignore_ascii_case("enabled=yes")) {
        active.push("ufw");
    }
    if root.join("run/firewalld.pid").exists() || root.join("run/firewalld/firewalld.pid").exists() {
        active.push("firewalld");
    }
    active
}

/// Chains with a forward or input hook and a dropping policy in the text of `nft list chains`, those of iptables aside.
fn dropping_chains(text: &str) -> Vec<String> {
    let (mut table, mut chain, mut found) = ("", "", Vec::new());
    for line in text.lines().map(str::trim) {
        if let Some(name) = line.strip_prefix("table ") {
            table = name.trim_end_matches(" {");
        } else if let Some(name) = line.strip_prefix("chain ") {
            chain = name.trim_end_matches(" {");
        } else if (line.contains("hook forward") || line.contains("hook input")) && line.contains("policy drop") && table != "ip filter" {
            found.push(format!("{table}/{chain}"));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_firewall_that_drops_forwarded_traffic_is_found() {
        let text = "table ip filter {\n\tchain FORWARD {\n\t\ttype filter hook forward priority filter; policy drop;\n\t}\n}\n\
                    table inet firewalld {\n\tchain filter_FORWARD {\n\t\ttype filter hook forward priority filter + 10; policy drop;\n\t}\n\
                    \tchain filter_INPUT {\n\t\ttype filter hook input priority 0; policy drop;\n\t}\n}\n";
        assert_eq!(dropping_chains(text), ["inet firewalld/filter_FORWARD", "inet firewalld/filter_INPUT"]);
    }

    #[test]
    fn a_firewall_counts_when_it_is_switched_on() {
        let root = tempfile::tempdir().expect("a temporary directory");
        fs::create_dir_all(root.path().join("etc/ufw")).expect("makes");
        fs::write(root.path().join("etc/ufw/ufw.conf"), "# comment\nENABLED=no\n").expect("writes");
        assert!(active_firewalls(root.path()).is_empty());
        fs::write(root.path().join("etc/ufw/ufw.conf"), "ENABLED=yes\n").expect("writes");
        assert_eq!(active_firewalls(root.path()), ["ufw"]);
    }

    #[test]
    fn what_policies_need_and_is_missing_is_named() {
        let why = |has_ipset, bridge_filter| why_unable(has_ipset, BRIDGE_FILTER, bridge_filter);
        assert_eq!(why(true, Some(true)), None);
        assert!(why(false, Some(true)).is_some_and(|why| why.contains("ipset")));
        assert!(why(true, Some(false)).is_some_and(|why| why.contains("net.bridge.bridge-nf-call-iptables")));
        assert!(why(true, None).is_some_and(|why| why.contains("br_netfilter")));
    }

    #[test]
    fn a_machine_that_learns_routes_goes_on_when_it_forwards() {
        let interfaces = tempfile::tempdir().expect("a directory");
        let setting = |interface: &str| interfaces.path().join(interface).join("accept_ra");
        for (interface, value) in [("eth0", "1\n"), ("lo", "0\n")] {
            fs::create_dir(interfaces.path().join(interface)).expect("makes");
            fs::write(setting(interface), value).expect("writes");
        }
        keep_learning_routes(interfaces.path()).expect("writes");
        let read = |interface: &str| fs::read_to_string(setting(interface)).expect("reads");
        assert_eq!((read("eth0").as_str(), read("lo").as_str()), ("2", "0\n"));
    }

    #[test]
    fn swap_is_read_from_the_kernels_table() {
        let text = "Filename\t\t\t\tType\t\tSize\t\tUsed\t\tPriority\n/dev/vda2                               partition\t1024\t0\t-2\n";
        assert_eq!(swap_devices(text), ["/dev/vda2"]);
        assert!(swap_devices("Filename Type Size Used Priority\n").is_empty());
    }
}
