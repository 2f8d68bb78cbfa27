//! Removal of everything the network left on this machine, for `troupe down --purge`. Each step stands alone:
//! what is gone already is no failure, and one failure does not keep the others from being tried.

use std::{fs, io, path::Path};

use thiserror::Error;

use crate::{
    announce::{Change, HostLinkAddresses, LinkAddresses},
    cni::{FILE_NAME, Network, has_tool, is_of},
    iptables::{ChainId, End, Family, HostIptables, IpSets, Iptables, IptablesError, Line, Observed, Patch, Table},
    netlink::Netlink,
    overlay::{HostRouting, Routing, Step},
};

/// Chains of the service proxy, of network policies, of the pod network and of pods' links.
pub fn is_ours(id: &ChainId) -> bool {
    id.name.starts_with("KUBE-") || id.name.starts_with("TROUPE-")
}

/// The families of addresses that this machine has: whoever removes what may be of either asks for no more.
fn families() -> Vec<Family> {
    let ipv6 = Path::new("/proc/net/if_inet6").exists();
    Family::ALL.into_iter().filter(|family| *family == Family::V4 || ipv6).collect()
}

/// The packet filters of this machine that may have rules of ours: without its tools there are none of a family.
pub fn filters() -> Vec<HostIptables> {
    let has_tools = |family: &Family| *family == Family::V4 || has_tool("ip6tables-save");
    families().into_iter().filter(has_tools).map(|family| HostIptables::new().of(family)).collect()
}

/// Sets of network policies and of pods' links.
fn is_our_set(name: &str) -> bool {
    name.starts_with("TROUPE-")
}

/// The steps that remove every chain `ours` accepts and every rule elsewhere that jumps there. Pure.
pub fn removal(observed: &Observed, ours: impl Fn(&ChainId) -> bool) -> Patch {
    let mut patch = Patch::default();
    for (id, rules) in observed.chains() {
        if ours(id) {
            patch.delete.insert(id.clone());
            continue;
        }
        for rule in rules {
            let target = rule.split_whitespace().skip_while(|word| !matches!(*word, "-j" | "-g")).nth(1);
            if target.is_some_and(|target| ours(&ChainId::new(id.table, target))) {
                patch.remove.insert(Line { chain: id.clone(), rule: rule.clone(), end: End::Head });
            }
        }
    }
    patch
}

/// Host-port chains that the portmap plugin leaves behind when no pod uses them any more.
fn is_idle_portmap(observed: &Observed) -> impl Fn(&ChainId) -> bool {
    let dispatch = ChainId::new(Table::Nat, "CNI-HOSTPORT-DNAT");
    let idle = observed.rules(&dispatch).is_none_or(Vec::is_empty);
    move |id| idle && id.table == Table::Nat && id.name.starts_with("CNI-HOSTPORT-")
}

/// What is left, and why.
#[derive(Debug, Error)]
#[error("{what}")]
pub struct Failure {
    what: String,
    source: Box<dyn std::error::Error + Send + Sync>,
}

impl Failure {
    fn new(what: impl ToString, source: impl std::error::Error + Send + Sync + 'static) -> Self {
        Failure { what: what.to_string(), source: Box::new(source) }
    }
}

/// Removes chains of each family, the bridge with pods' interfaces, and CNI configuration and state. Returns what failed.
pub async fn purge(iptables: &[&dyn Iptables], sets: &dyn IpSets, conf_dir: &Path, network: &Network) -> Vec<Failure> {
    let mut failures = Vec::new();
    for family in iptables {
        if let Err(error) = remove_chains(*family).await {
            failures.push(Failure::new("packet filter", error));
        }
    }
    if let Err(error) = remove_sets(sets).await {
        failures.push(Failure::new("sets of addresses", error));
    }
    if let Err(error) = remove_links(&network.bridge).await {
        failures.push(Failure::new("interfaces", error));
    }
    let state = network.data_dir.join(&network.name);
    let configuration = conf_dir.join(FILE_NAME);
    let own = [Some(configuration).filter(|path| is_of(path, network)), Some(state)];
    for (path, done) in own.into_iter().flatten().map(|path| (path.clone(), remove(&path))) {
        if let Err(error) = done {
            failures.push(Failure::new(path.display(), error));
        }
    }
    failures
}

async fn remove_chains(iptables: &dyn Iptables) -> Result<(), IptablesError> {
    let mut observed = Observed::default();
    for table in Table::ALL {
        observed.read(&iptables.save(table).await?);
    }
    let idle = is_idle_portmap(&observed);
    let patch = removal(&observed, |id| is_ours(id) || idle(id));
    if patch.is_empty() { Ok(()) } else { iptables.restore(patch.to_restore()).await }
}

async fn remove_sets(sets: &dyn IpSets) -> Result<(), IptablesError> {
    let text = match sets.save_sets().await {
        // Without the tool none was made.
        Err(IptablesError::Start { source, .. }) if source.kind() == io::ErrorKind::NotFound => return Ok(()),
        saved => saved?,
    };
    let mut observed = Observed::default();
    observed.read_sets(&text);
    let ours: Vec<String> = observed.sets().keys().filter(|name| is_our_set(name)).cloned().collect();
    if ours.is_empty() { Ok(()) } else { sets.destroy_sets(ours).await }
}

async fn remove_links(bridge: &str) -> Result<(), crate::netlink::NetlinkError> {
    let netlink = Netlink::open()?;
    remove_announced().await?;
    remove_overlay(bridge).await?;
    // With each go its addresses and routes.
    for link in netlink.links().await?.iter().filter(|link| link.is_of_pod()) {
        netlink.remove_link(link.index).await?;
    }
    let Some(bridge) = netlink.link(bridge).await? else { return Ok(()) };
    for port in netlink.links().await?.iter().filter(|link| link.is_veth && link.controller == Some(bridge.index)) {
        netlink.remove_link(port.index).await?;
    }
    netlink.remove_link(bridge.index).await
}

/// Addresses of Services.
async fn remove_announced() -> Result<(), crate::netlink::NetlinkError> {
    let addresses = HostLinkAddresses::open(Vec::new())?;
    for link in addresses.links().await? {
        for address in link.announced {
            addresses.apply(Change::Remove { link: link.index, address }, None).await?;
        }
    }
    Ok(())
}

/// Routes to other nodes, and the tunnel.
async fn remove_overlay(bridge: &str) -> Result<(), crate::netlink::NetlinkError> {
    for family in families() {
        let routing = HostRouting::open(bridge, family)?;
        let observed = routing.observe().await?;
        for destination in observed.routes.keys() {
            routing.apply(&Step::RemoveRoute(*destination)).await?;
        }
        if observed.tunnel.is_some() {
            routing.apply(&Step::RemoveTunnel).await?;
        }
    }
    Ok(())
}

fn remove(path: &Path) -> io::Result<()> {
    let removed = if path.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) };
    match removed {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{iptables::FakeIptables, podnet};

    #[test]
    fn a_configuration_of_another_network_is_not_ours() {
        let dir = tempfile::tempdir().expect("a directory");
        let network = |data: &str| Network { data_dir: data.into(), ..Network::new(vec!["10.244.0.0/24".parse().expect("a network")]) };
        crate::cni::ensure(dir.path(), &network("/a/cni")).expect("writes");
        let path = dir.path().join(FILE_NAME);
        assert!(is_of(&path, &network("/a/cni")) && !is_of(&path, &network("/ab/cni")));
        fs::write(&path, "{").expect("writes");
        assert!(!is_of(&path, &network("/a/cni")));
    }

    #[tokio::test]
    async fn removal_leaves_strangers_rules_and_nothing_of_ours() {
        let fake = FakeIptables::default();
        fake.restore("*nat\n:DOCKER - [0:0]\n-A PREROUTING -j DOCKER\nCOMMIT\n".to_owned()).await.expect("applies");
        let mut before = Observed::default();
        before.read(&fake.save(Table::Nat).await.expect("saves"));
        let rules = podnet::rules("10.244.0.0/16".parse().expect("a network"), "10.244.0.0/24".parse().expect("a network"), &[]);
        fake.restore(crate::iptables::RuleSet::default().diff(&rules).to_restore()).await.expect("applies");
        fake.restore_sets("create TROUPE-NP4-A hash:net\ncreate theirs hash:net\nadd theirs 10.0.0.1\n".to_owned()).await.expect("applies");
        fake.restore("*raw\n:TROUPE-SOURCES - [0:0]\n-A PREROUTING -j TROUPE-SOURCES\nCOMMIT\n".to_owned()).await.expect("applies");
        remove_sets(&fake).await.expect("applies");
        assert!(fake.set("TROUPE-NP4-A").is_none() && fake.set("theirs").is_some());
        assert!(fake.rules(Table::Nat, podnet::POSTROUTING).is_some());
        remove_chains(&fake).await.expect("applies");
        let mut after = Observed::default();
        after.read(&fake.save(Table::Nat).await.expect("saves"));
        assert_eq!(after, before);
        assert_eq!(fake.rules(Table::Filter, "FORWARD"), Some(Vec::new()));
        assert_eq!((fake.rules(Table::Raw, "TROUPE-SOURCES"), fake.rules(Table::Raw, "PREROUTING")), (None, Some(Vec::new())));
    }
}
