//! This machine's links, over netlink, `/proc/sys` and the packet filter.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
    net::IpAddr,
    path::PathBuf,
};

use async_trait::async_trait;
use ipnetwork::IpNetwork;
use tokio::sync::Mutex;

use super::{
    PodLink, PodLinkError, PodLinks,
    plan::{entries, filling, is_ours, pod_link, rules, set_name, set_steps},
};
use crate::{
    cni::{BANDWIDTH, INTERFACE, Network, RESULTS, foreign, has_tool, remains::address_holders, result_file},
    iptables::{Family, HostIptables, IpSets, Looks, Observed, Table},
    netlink::{Link, Netlink},
    netns,
};

/// The node's link-local address on each of its links to pods: it speaks of neighbours from there, and is not to wait until it may.
const LINK_LOCAL: &str = "fe80::1/64";

/// The links of the pods that our plugins gave addresses.
#[derive(Debug)]
pub struct HostPodLinks {
    network: Network,
    /// The families of the cluster's addresses.
    families: Vec<Family>,
    /// Where CNI configuration is read from: somebody else's there means that the pods' links are theirs.
    conf_dir: Option<PathBuf>,
    results: PathBuf,
    namespace: Option<PathBuf>,
    /// One step at a time: what is compared with what is written down must not change meanwhile.
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// Sandboxes whose links are set up.
    connected: BTreeSet<String>,
    /// The rules stood, with the addresses of all pods there were.
    has_rules: bool,
    seen: BTreeMap<Family, Seen>,
}

/// What is known of a family's rules and their set from one look to the next.
#[derive(Debug, Default)]
struct Seen {
    rules: Looks,
    /// The set had these entries when this was its fingerprint.
    set: Option<(u64, BTreeSet<String>)>,
}

impl HostPodLinks {
    /// Those of this network namespace, unless there is configuration of somebody else in `conf_dir`.
    pub fn new(network: Network, families: Vec<Family>, conf_dir: PathBuf) -> Self {
        let state = Mutex::default();
        HostPodLinks { network, families, conf_dir: Some(conf_dir), results: RESULTS.into(), namespace: None, state }
    }

    /// Those of the network namespace at `namespace`, with another place for what the runtime remembers of the plugins' answers.
    pub fn within(network: Network, families: Vec<Family>, namespace: PathBuf, results: PathBuf) -> Self {
        HostPodLinks { network, families, conf_dir: None, results, namespace: Some(namespace), state: Mutex::default() }
    }

    /// Sets up what is not, of all pods there are, and brings the rules and their sets to that. To be called at the start and every few seconds:
    /// somebody may have flushed them, and pods come and go.
    ///
    /// # Errors
    /// When the rules cannot be brought up to date, or a link of one of the pods; the others are nevertheless.
    pub async fn keep(&self) -> Result<(), PodLinkError> {
        let mut state = self.state.lock().await;
        if self.is_foreign()? { Ok(()) } else { self.keep_all(&mut state).await }
    }

    async fn keep_all(&self, state: &mut State) -> Result<(), PodLinkError> {
        let known = self.known()?;
        let netlink = self.netlink()?;
        let standing: BTreeMap<String, Link> = netlink.links().await?.into_iter().map(|link| (link.name.clone(), link)).collect();
        let mut routes = BTreeSet::new();
        for family in &self.families {
            routes.extend(netlink.host_routes(*family).await?);
        }
        // Others go, or are only being made.
        let is_there = |pod: &PodLink| standing.get(&pod.interface).is_some_and(|link| link.is_veth);
        let known: BTreeMap<String, PodLink> = known.into_iter().filter(|(_, pod)| is_there(pod)).collect();
        // Nobody may send anything who is not in the set.
        self.write(&known, &mut state.seen).await?;
        state.has_rules = true;
        state.connected.clear();
        let mut outcome = Ok(());
        for (sandbox, pod) in known {
            let joined = match standing.get(&pod.interface) {
                Some(link) if is_connected(link, &pod, &routes) => Ok(()),
                _ => self.join(&netlink, &pod).await,
            };
            match joined {
                Ok(()) => drop(state.connected.insert(sandbox)),
                Err(error) => outcome = Err(error),
            }
        }
        outcome
    }

    fn is_foreign(&self) -> Result<bool, PodLinkError> {
        Ok(match &self.conf_dir {
            Some(dir) => foreign(dir)?.is_some(),
            None => false,
        })
    }

    fn netlink(&self) -> Result<Netlink, PodLinkError> {
        Ok(match &self.namespace {
            Some(path) => Netlink::within(path)?,
            None => Netlink::open()?,
        })
    }

    fn filter(&self, family: Family) -> HostIptables {
        match &self.namespace {
            Some(path) => HostIptables::within(path),
            None => HostIptables::new(),
        }
        .of(family)
    }

    /// The families that rules are written for. Pods may forge packets of IPv4 in any cluster; of IPv6 nothing comes through where the cluster has
    /// none, see [`HostPodLinks::settings`].
    fn guarded(&self) -> Vec<Family> {
        // Without the tool that keeps sets there are none: the preflight tells.
        let all = if has_tool("ipset") { Family::ALL.to_vec() } else { Vec::new() };
        all.into_iter().filter(|family| *family == Family::V4 || self.families.contains(family)).collect()
    }

    /// The links of all sandboxes that have addresses of this network. One whose set-up is not finished is not among them.
    fn known(&self) -> Result<BTreeMap<String, PodLink>, PodLinkError> {
        let holders = address_holders(&self.network).map_err(PodLinkError::Read)?;
        let mut known = BTreeMap::new();
        for holder in holders {
            if let Some(link) = self.remembered(&holder.is)? {
                known.insert(holder.is, link);
            }
        }
        Ok(known)
    }

    /// What the runtime remembers of a sandbox's link.
    fn remembered(&self, sandbox: &str) -> Result<Option<PodLink>, PodLinkError> {
        match fs::read(self.results.join(result_file(&self.network.name, sandbox))) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(PodLinkError::Read(error)),
            // Half of it is written.
            Ok(bytes) => Ok(serde_json::from_slice(&bytes).ok().and_then(|told| pod_link(&told, &self.network.bridge))),
        }
    }

    /// Makes a wire of its own of a pod's link. Doing so again changes nothing, and nothing is lost of what a running pod sends: each step leaves
    /// it a way.
    async fn join(&self, netlink: &Netlink, pod: &PodLink) -> Result<(), PodLinkError> {
        self.lead_over_the_gateway(pod).await?;
        let index = netlink.index(&pod.interface).await?;
        self.write_settings(&pod.interface)?;
        if self.families.contains(&Family::V6) {
            netlink.ensure_address(&pod.interface, LINK_LOCAL.parse::<IpNetwork>().expect("a network")).await?;
        }
        for own in &pod.addresses {
            let (address, gateway) = (own.address.ip(), own.gateway);
            netlink.ensure_address(&pod.interface, single(gateway)).await?;
            netlink.note_neighbour(index, address, &pod.mac).await?;
            netlink.ensure_host_route(index, address, Some(gateway)).await?;
        }
        // Pods that run know the gateway by the bridge's hardware address. One without address and ports has none.
        let bridge = netlink.link(&self.network.bridge).await?;
        let mac = bridge.map(|bridge| bridge.mac).filter(|mac| mac.iter().any(|byte| *byte != 0));
        Ok(netlink.set_pod_link(index, mac).await?)
    }

    /// Takes a pod the way to its neighbours that is not over the node.
    async fn lead_over_the_gateway(&self, pod: &PodLink) -> Result<(), PodLinkError> {
        if let Err(error) = fs::metadata(&pod.namespace) {
            return Err(PodLinkError::Namespace(error));
        }
        let there = Netlink::within(&pod.namespace)?;
        let index = there.index(INTERFACE).await?;
        for own in &pod.addresses {
            there.ensure_host_route(index, own.gateway, None).await?;
            there.remove_connected_route(index, own.address).await?;
        }
        Ok(())
    }

    /// Settings of the node's end of a link.
    fn settings(&self, interface: &str) -> Vec<(String, &'static str)> {
        let mut settings = Vec::new();
        let mut set = |family: &str, of: &str, name: &str, value| settings.push((format!("/proc/sys/net/{family}/{of}/{interface}/{name}"), value));
        if self.families.contains(&Family::V4) {
            // Whoever looks for its neighbours on the link all the same finds the node.
            set("ipv4", "conf", "proxy_arp", "1");
            set("ipv4", "neigh", "proxy_delay", "0");
            set("ipv4", "conf", "send_redirects", "0");
            set("ipv4", "conf", "accept_redirects", "0");
            set("ipv4", "conf", "accept_source_route", "0");
        }
        if self.families.contains(&Family::V6) {
            set("ipv6", "conf", "accept_ra", "0");
            set("ipv6", "conf", "accept_redirects", "0");
        } else {
            set("ipv6", "conf", "disable_ipv6", "1");
        }
        settings
    }

    fn write_settings(&self, interface: &str) -> Result<(), PodLinkError> {
        let settings = self.settings(interface);
        // The plugin for host ports says so to the bridge, which led to the pod then.
        let loopback = |of: &str| format!("/proc/sys/net/ipv4/conf/{of}/route_localnet");
        let (from, to) = (loopback(&self.network.bridge), loopback(interface));
        let write = || {
            for (path, value) in settings {
                write_setting(path, value)?;
            }
            match fs::read_to_string(from) {
                Ok(value) if value.trim() == "1" => write_setting(to, "1"),
                _ => Ok(()),
            }
        };
        match &self.namespace {
            Some(path) => netns::run(path, write).map_err(PodLinkError::Namespace)?,
            None => write(),
        }
    }

    /// Brings the rules and their sets to what these links need, each by its sandbox.
    async fn write(&self, pods: &BTreeMap<String, PodLink>, seen: &mut BTreeMap<Family, Seen>) -> Result<(), PodLinkError> {
        for family in self.guarded() {
            let (filter, wanted, seen) = (self.filter(family), entries(family, pods.values()), seen.entry(family).or_default());
            // Asked for before it is read: what is changed meanwhile is looked at next time.
            let fingerprint = filter.fingerprint(Some(set_name(family))).await;
            let stands = seen.set.as_ref().is_some_and(|(at, entries)| Some(*at) == fingerprint && *entries == wanted);
            let (before, behind) = if stands { Default::default() } else { missing(&filter, family, &wanted).await? };
            let is_right = before.is_empty() && behind.is_empty();
            if !before.is_empty() {
                filter.restore_sets(before).await?;
            }
            seen.rules.keep(&filter, &[Table::Raw], &rules(family), is_ours).await?;
            if !behind.is_empty() {
                filter.restore_sets(behind).await?;
            }
            seen.set = fingerprint.filter(|_| is_right).map(|fingerprint| (fingerprint, wanted));
        }
        Ok(())
    }

    /// Adds one more link to the sets.
    async fn fill(&self, pod: &PodLink) -> Result<(), PodLinkError> {
        for family in self.guarded() {
            self.filter(family).restore_sets(filling(family, &entries(family, [pod]))).await?;
        }
        Ok(())
    }
}

#[async_trait]
impl PodLinks for HostPodLinks {
    async fn connect(&self, sandbox: &str) -> Result<(), PodLinkError> {
        let mut state = self.state.lock().await;
        if state.connected.contains(sandbox) || self.is_foreign()? {
            return Ok(());
        }
        let holders = address_holders(&self.network).map_err(PodLinkError::Read)?;
        if !holders.iter().any(|holder| holder.is == sandbox) {
            return Ok(());
        }
        let pod = self.remembered(sandbox)?.ok_or_else(|| PodLinkError::Unknown(sandbox.to_owned()))?;
        if state.has_rules {
            self.fill(&pod).await?;
        } else {
            let kept = self.keep_all(&mut state).await;
            // What is wrong with the link of another is no concern of this one.
            if !state.has_rules {
                return kept;
            }
        }
        if !state.connected.contains(sandbox) {
            self.join(&self.netlink()?, &pod).await?;
            state.connected.insert(sandbox.to_owned());
        }
        Ok(())
    }

    fn lacks_limits(&self) -> Option<&'static str> {
        // Of a network that may be somebody else's nothing is known.
        let is_ours = matches!(self.is_foreign(), Ok(false));
        (is_ours && !self.network.bandwidth).then_some(BANDWIDTH)
    }
}

/// What is to do about a family's set before and behind its rules, see [`set_steps`].
async fn missing(filter: &HostIptables, family: Family, wanted: &BTreeSet<String>) -> Result<(String, String), PodLinkError> {
    let mut observed = Observed::default();
    observed.read_sets(&filter.save_set(set_name(family)).await?.unwrap_or_default());
    Ok(set_steps(family, &observed, wanted))
}

/// Whether a link is set up, as far as somebody may have changed it.
fn is_connected(link: &Link, pod: &PodLink, routes: &BTreeSet<(IpAddr, u32)>) -> bool {
    link.is_of_pod() && link.controller.is_none() && pod.addresses.iter().all(|own| routes.contains(&(own.address.ip(), link.index)))
}

/// A network of one address.
fn single(address: IpAddr) -> IpNetwork {
    address.into()
}

/// What the kernel has no setting for needs none.
fn write_setting(path: String, value: &str) -> Result<(), PodLinkError> {
    match fs::write(&path, value) {
        Err(source) if source.kind() != io::ErrorKind::NotFound => Err(PodLinkError::Setting { path, source }),
        _ => Ok(()),
    }
}
