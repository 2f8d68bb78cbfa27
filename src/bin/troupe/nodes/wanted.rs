//! How many nodes are wanted, and how they are joined: by flags, else as it was.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr},
};

use anyhow::{Context, Result, bail, ensure};
use clap::{Args, ValueEnum};
use ipnetwork::{IpNetwork, Ipv4Network};
use troupe_net::{
    iptables::Family,
    netlink::Netlink,
    node_links::{FIRST, NodeLinks, Topology, free_range},
};

use crate::{
    config::{Config, PerFamily, Settings},
    instance::{
        Record, find,
        nodes::{Member, Nodes},
    },
};

/// Where ranges for links are looked for.
const RANGES: (Ipv4Addr, u8) = (Ipv4Addr::new(172, 30, 0, 0), 16);

/// Options of `troupe up` about several nodes.
#[derive(Clone, Debug, Default, Args)]
pub struct NodesArgs {
    /// Nodes of the cluster; all but the first live in network namespaces of this machine, with a containerd each
    /// [default: as many as it had, at first 1]
    #[arg(long, value_parser = clap::value_parser!(u8).range(1..))]
    nodes: Option<u8>,
    /// How they are joined [default: as they were, at first shared]
    #[arg(long, value_enum)]
    topology: Option<Way>,
    /// Addresses of the nodes' links [default: a free range of 172.30.0.0/16]
    #[arg(long, value_name = "CIDR")]
    node_range: Option<Ipv4Network>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Way {
    /// All on one link: pods reach each other by routes
    Shared,
    /// Each on a link of its own to a router: pods reach each other through VXLAN
    Routed,
}

/// What is wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    count: u8,
    topology: Topology,
    range: Ipv4Network,
    /// Of the cluster's addresses.
    families: Vec<Family>,
}

impl Wanted {
    /// What the flags ask for; `None` for one node that has no others beside it. The settings get the node's address on the link.
    ///
    /// # Errors
    /// When something cannot work, or has no effect.
    pub fn of(arguments: &NodesArgs, settings: &mut Settings) -> Result<Option<Self>> {
        let known = find::of_place(&settings.data_dir(), &settings.run_dir())?.and_then(|record| record.nodes);
        let before = known.as_ref().map_or(1, |nodes| u8::try_from(nodes.members.len() + 1).unwrap_or(u8::MAX));
        let count = arguments.nodes.unwrap_or(before);
        if count == 1 && known.is_none() {
            ensure!(arguments.topology.is_none(), "--topology has no effect with one node: say how many with --nodes");
            ensure!(arguments.node_range.is_none(), "--node-range has no effect with one node: say how many with --nodes");
            return Ok(None);
        }
        let topology = match arguments.topology {
            Some(Way::Shared) => Topology::Shared,
            Some(Way::Routed) => Topology::Routed,
            None => known.as_ref().map_or_else(Topology::default, |nodes| nodes.topology),
        };
        let range = match (arguments.node_range, &known) {
            (Some(range), _) => range,
            (None, Some(nodes)) => nodes.range,
            (None, None) => choose_range(settings)?,
        };
        let families = settings.service_cidr.or(settings.pod_cidr).map_or_else(|| vec![Family::V4], |ranges| ranges.families());
        let wanted = Wanted { count, topology, range, families };
        wanted.check(settings)?;
        settings.node_ip = Some(wanted.first_address()?);
        Ok(Some(wanted))
    }

    fn check(&self, settings: &Settings) -> Result<()> {
        let room = NodeLinks::room(self.topology);
        ensure!(self.count <= room, "--nodes {}: there is room for {room}", self.count);
        ensure!(self.range.prefix() <= 24, "--node-range {} is too small: a prefix of at most 24 is needed", self.range);
        match settings.node_ip {
            Some(given) if given != self.first_address()? => bail!(
                "--node-ip {given} cannot be with --nodes: this node is known to the others by its address on their link, {}; \
                 leave it out, or choose the link's addresses with --node-range",
                self.first_address()?
            ),
            _ => Ok(()),
        }
    }

    fn links(&self) -> NodeLinks {
        NodeLinks { mark: String::new(), topology: self.topology, range: self.range, ipv6: self.ipv6() }
    }

    fn ipv6(&self) -> bool {
        self.families.contains(&Family::V6)
    }

    fn first_address(&self) -> Result<PerFamily<IpAddr>> {
        addresses(&self.links(), FIRST, &self.families)
    }

    /// The nodes as they are to be. Who was there stays as it was.
    pub fn nodes(&self, config: &Config, known: Option<&Nodes>) -> Nodes {
        let member = |number: u8| {
            let known = known.and_then(|nodes| nodes.members.get(&number)).cloned();
            known.unwrap_or_else(|| Member::new(number, &config.node_name, &config.data_dir, &config.run_dir))
        };
        let members: BTreeMap<u8, Member> = (FIRST + 1..=self.count).map(|number| (number, member(number))).collect();
        let before = known.into_iter().flat_map(|nodes| nodes.departed.iter().chain(nodes.members.values().map(|member| &member.name)));
        let departed = before.filter(|name| members.values().all(|member| member.name != **name)).cloned().collect();
        Nodes { topology: self.topology, range: self.range, ipv6: self.ipv6(), members, departed }
    }
}

/// The addresses of a machine on its link, in the order of the cluster's families.
pub fn addresses(links: &NodeLinks, number: u8, families: &[Family]) -> Result<PerFamily<IpAddr>> {
    let address = |family: &Family| match family {
        Family::V4 => links.address(number).ip().into(),
        Family::V6 => links.ipv6_address(number).ip().into(),
    };
    PerFamily::new(&families.iter().map(address).collect::<Vec<IpAddr>>())
}

/// A range that nothing here, no Service and no pod has.
fn choose_range(settings: &Settings) -> Result<Ipv4Network> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let routes = runtime.block_on(async { Netlink::open()?.routes().await }).context("cannot read the routes of this machine")?;
    let mut used: Vec<Ipv4Network> = routes.into_iter().map(|route| route.destination).collect();
    let ranges = settings.service_cidr.into_iter().chain(settings.pod_cidr).flat_map(|ranges| ranges.all());
    used.extend(ranges.filter_map(|range| if let IpNetwork::V4(range) = range { Some(range) } else { None }));
    // Of clusters in other namespaces too: their ranges are easier told apart so.
    used.extend(crate::instance::register::all().iter().filter_map(|record: &Record| record.nodes.as_ref()).map(|nodes| nodes.range));
    let within = Ipv4Network::new(RANGES.0, RANGES.1).expect("a prefix of at most 32");
    free_range(within, &used).with_context(|| format!("no range of {within} is free: name one with --node-range"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place() -> (tempfile::TempDir, Settings) {
        let dir = tempfile::tempdir().expect("a directory");
        let settings = Settings { data_dir: Some(dir.path().join("data")), run_dir: Some(dir.path().join("run")), ..Settings::default() };
        (dir, settings)
    }

    #[test]
    fn one_node_needs_no_link_and_options_of_it_are_refused() {
        let (_dir, mut settings) = place();
        assert_eq!(Wanted::of(&NodesArgs::default(), &mut settings).expect("works"), None);
        assert_eq!(settings.node_ip, None);
        let routed = NodesArgs { topology: Some(Way::Routed), ..NodesArgs::default() };
        assert!(Wanted::of(&routed, &mut settings).expect_err("refused").to_string().contains("--topology"));
    }

    #[test]
    fn nodes_that_are_wanted_no_more_are_noted_until_they_come_again() {
        let (_dir, settings) = place();
        let named = Settings { node_name: Some("one".into()), node_ip: Some(IpAddr::from([172, 30, 9, 1]).into()), ..settings };
        let config = named.resolve().expect("resolves");
        let range = "172.30.9.0/24".parse().expect("a range");
        let of = |count, known: Option<&Nodes>| Wanted { count, topology: Topology::Shared, range, families: vec![Family::V4] }.nodes(&config, known);
        let departed = |nodes: &Nodes| nodes.departed.iter().cloned().collect::<Vec<_>>();
        let three = of(3, None);
        assert_eq!(departed(&three), Vec::<String>::new());
        let one = of(1, Some(&three));
        assert_eq!((departed(&one), one.members.len()), (vec!["one-2".to_owned(), "one-3".to_owned()], 0));
        let two = of(2, Some(&one));
        assert_eq!((departed(&two), two.members.len()), (vec!["one-3".to_owned()], 1));
        assert_eq!(of(2, Some(&two)), two);
    }

    #[test]
    fn the_first_node_has_an_address_on_the_link_and_no_other() {
        let (_dir, mut settings) = place();
        let arguments = NodesArgs { nodes: Some(3), node_range: Some("172.30.9.0/24".parse().expect("a range")), topology: None };
        let mut other = Settings { node_ip: Some(IpAddr::from([192, 0, 2, 1]).into()), ..settings.clone() };
        assert!(Wanted::of(&arguments, &mut other).expect_err("refused").to_string().contains("172.30.9.1"));
        let wanted = Wanted::of(&arguments, &mut settings).expect("works").expect("several");
        assert_eq!(settings.node_ip, Some(IpAddr::from([172, 30, 9, 1]).into()));
        assert_eq!((wanted.count, wanted.topology), (3, Topology::Shared));
        let small = NodesArgs { node_range: Some("172.30.9.0/28".parse().expect("a range")), ..arguments };
        settings.node_ip = None;
        assert!(Wanted::of(&small, &mut settings).expect_err("refused").to_string().contains("too small"));
    }
}
