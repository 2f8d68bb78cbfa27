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
                // Two at once insert the same twice: the portmap plugin does for pods that start together.
                *patch.remove.entry(Line { chain: id.clone(), rule: rule.clone(), end: End::Head }).or_default() += 1;
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
        failures.extend(remove_chains(*family, is_ours).await);
        // Others write there, too: nothing of ours stays because of them.
        failures.extend(remove_idle_portmap(*family).await);
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

/// How often a table is read and cleared: somebody may write there in between.
const TRIES: u32 = 3;

/// Removes every chain `ours` accepts with what leads there, each table by itself. Returns what is left and why.
pub async fn remove_chains(iptables: &dyn Iptables, ours: impl Fn(&ChainId) -> bool) -> Vec<Failure> {
    let mut failures = Vec::new();
    for table in Table::ALL {
        failures.extend(clear(iptables, table, |observed| removal(observed, &ours)).await.err());
    }
    failures
}

async fn remove_idle_portmap(iptables: &dyn Iptables) -> Option<Failure> {
    clear(iptables, Table::Nat, |observed| removal(observed, is_idle_portmap(observed))).await.err()
}

/// Takes the steps that `plan` finds in a table.
async fn clear(iptables: &dyn Iptables, table: Table, plan: impl Fn(&Observed) -> Patch) -> Result<(), Failure> {
    let unread = |error: IptablesError| Failure::new(format!("rules in the packet filter's table {}", table.name()), error);
    let mut tries = 1;
    loop {
        let mut observed = Observed::default();
        observed.read(&iptables.save(table).await.map_err(unread)?);
        let patch = plan(&observed);
        if patch.is_empty() {
            return Ok(());
        }
        match iptables.restore(patch.to_restore()).await {
            Ok(()) => return Ok(()),
            Err(error) if tries == TRIES => return Err(Failure::new(left(table, &patch), error)),
            Err(_) => tries += 1,
        }
    }
}

/// What a removal would have removed.
fn left(table: Table, patch: &Patch) -> String {
    const SHOWN: usize = 5;
    let mut names: Vec<String> = patch.delete.iter().take(SHOWN).map(|id| id.name.clone()).collect();
    names.extend(patch.delete.len().checked_sub(SHOWN).filter(|more| *more > 0).map(|more| format!("{more} more")));
    let jumps = patch.remove.values().sum::<usize>();
    format!("chains in the packet filter's table {} ({}) and {jumps} rules that lead there", table.name(), names.join(", "))
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

    fn told(failures: impl IntoIterator<Item = Failure>) -> Vec<String> {
        failures.into_iter().map(|failure| failure.to_string()).collect()
    }

    /// What two pods with host ports leave that started together, and two starts of a proxy.
    const TWICE: &str = "*nat
:CNI-HOSTPORT-DNAT - [0:0]
:CNI-HOSTPORT-MASQ - [0:0]
:CNI-HOSTPORT-SETMARK - [0:0]
:KUBE-SERVICES - [0:0]
-A CNI-HOSTPORT-MASQ -m mark --mark 0x2000/0x2000 -j MASQUERADE
-A CNI-HOSTPORT-SETMARK -m comment --comment \"CNI portfwd masquerade mark\" -j MARK --set-xmark 0x2000/0x2000
-A OUTPUT -m addrtype --dst-type LOCAL -j CNI-HOSTPORT-DNAT
-A OUTPUT -m addrtype --dst-type LOCAL -j CNI-HOSTPORT-DNAT
-A OUTPUT -m comment --comment \"kubernetes service portals\" -j KUBE-SERVICES
-A OUTPUT -m comment --comment \"kubernetes service portals\" -j KUBE-SERVICES
-A POSTROUTING -m comment --comment \"CNI portfwd requiring masquerade\" -j CNI-HOSTPORT-MASQ
-A POSTROUTING -m comment --comment \"CNI portfwd requiring masquerade\" -j CNI-HOSTPORT-MASQ
COMMIT
";

    #[tokio::test]
    async fn rules_that_stand_twice_all_go() {
        let fake = FakeIptables::default();
        let before = fake.save(Table::Nat).await.expect("saves");
        fake.restore(TWICE.to_owned()).await.expect("applies");
        assert_eq!(told(remove_chains(&fake, is_ours).await), Vec::<String>::new());
        assert!(fake.rules(Table::Nat, "KUBE-SERVICES").is_none() && fake.rules(Table::Nat, "CNI-HOSTPORT-MASQ").is_some());
        assert_eq!(told(remove_idle_portmap(&fake).await), Vec::<String>::new());
        assert_eq!(fake.save(Table::Nat).await.expect("saves"), before);
    }

    #[tokio::test]
    async fn host_ports_in_use_stay_with_what_leads_there() {
        let fake = FakeIptables::default();
        fake.restore(TWICE.to_owned()).await.expect("applies");
        let used = "*nat\n:CNI-DN-a - [0:0]\n-A CNI-HOSTPORT-DNAT -p tcp -j CNI-DN-a\nCOMMIT\n";
        fake.restore(used.to_owned()).await.expect("applies");
        assert_eq!(told(remove_idle_portmap(&fake).await), Vec::<String>::new());
        assert_eq!(fake.rules(Table::Nat, "OUTPUT").map(|rules| rules.len()), Some(4));
    }

    #[tokio::test]
    async fn a_part_that_fails_is_told_and_keeps_no_other_from_going() {
        let fake = FakeIptables::default();
        let rules = podnet::rules("10.244.0.0/16".parse().expect("a network"), "10.244.0.0/24".parse().expect("a network"));
        fake.restore(TWICE.to_owned()).await.expect("applies");
        fake.restore(crate::iptables::RuleSet::default().diff(&rules).to_restore()).await.expect("applies");
        assert!(fake.rules(Table::Filter, podnet::FORWARD).is_some());
        // Somebody writes in between once, and all the time.
        fake.fail_next(usize::try_from(TRIES).expect("few") + 1);
        let failures = told(remove_chains(&fake, is_ours).await);
        assert_eq!(failures.len(), 1, "{failures:?}");
        assert!(failures[0].contains("table filter") && failures[0].contains(podnet::FORWARD), "{failures:?}");
        assert!(fake.rules(Table::Filter, podnet::FORWARD).is_some() && fake.rules(Table::Nat, "KUBE-SERVICES").is_none());
        assert_eq!(told(remove_chains(&fake, is_ours).await), Vec::<String>::new());
        assert!(fake.rules(Table::Filter, podnet::FORWARD).is_none());
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
        assert_eq!(told(remove_chains(&fake, is_ours).await), Vec::<String>::new());
        let mut after = Observed::default();
        after.read(&fake.save(Table::Nat).await.expect("saves"));
        assert_eq!(after, before);
        assert_eq!(fake.rules(Table::Filter, "FORWARD"), Some(Vec::new()));
        assert_eq!((fake.rules(Table::Raw, "TROUPE-SOURCES"), fake.rules(Table::Raw, "PREROUTING")), (None, Some(Vec::new())));
    }
}
