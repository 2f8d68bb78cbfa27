//! Namespaces and links of the nodes, the packet filter's rules beside them, and the removal of all of it.

use std::{collections::BTreeMap, fs, io, path::Path};

use anyhow::{Context, Result};
use ipnetwork::IpNetwork;
use troupe_net::{
    cleanup,
    iptables::{ChainId, End, Family, HostIptables, Looks, RuleSet, Table},
    netns,
    node_links::NodeLinks,
};

use crate::{
    Otherwise,
    config::{Config, Settings},
    down::remove_tree,
    instance::{
        Record,
        kernel::NetworkNamespace,
        nodes::{Member, Nodes},
    },
};

/// Nodes reach the outside under the address of this machine, and each other and all pods under their own.
const POSTROUTING: &str = "TROUPE-NODES-POSTROUTING";
const FORWARD: &str = "TROUPE-NODES-FORWARD";

/// Makes what stands for the nodes' machines.
pub async fn ensure(config: &Config, nodes: &Nodes) -> Result<()> {
    let links = nodes.links(&config.instance);
    links.ensure_base().await.context("cannot join the nodes")?;
    keep_rules(config, nodes, &mut BTreeMap::new()).await?;
    for (number, member) in &nodes.members {
        if !netns::exists(&links.namespace(*number)) {
            end_remains(member).await?;
        }
        links.ensure(*number).await.with_context(|| format!("cannot make the machine of the node {}", member.name))?;
    }
    Ok(())
}

/// Brings the packet filter to what the nodes need. What is known from one look to the next is by the family of the rules.
///
/// # Errors
/// When it cannot be read or written.
pub async fn keep_rules(config: &Config, nodes: &Nodes, looks: &mut BTreeMap<Family, Looks>) -> Result<()> {
    for pods in config.pod_cidr.iter() {
        let range = match pods {
            IpNetwork::V4(_) => nodes.range.into(),
            IpNetwork::V6(_) => nodes.links(&config.instance).ipv6_range().into(),
        };
        let family = Family::of(pods.ip());
        let iptables = HostIptables::new().of(family);
        let kept = looks.entry(family).or_default().keep(&iptables, &[Table::Filter, Table::Nat], &rules(range, pods), is_ours).await;
        kept.context("cannot keep the packet filter's rules for the nodes")?;
    }
    Ok(())
}

/// What lives of a node whose namespace is gone cannot be reached any more.
async fn end_remains(member: &Member) -> Result<()> {
    let boot = crate::instance::kernel::boot()?;
    let lives = Record::read(&member.data_dir())?.is_some_and(|record| record.lives(&boot));
    if lives { take_down(member, false).await } else { Ok(()) }
}

/// Takes away nodes that are wanted no more; all of them where they are to be joined otherwise.
pub async fn remove_unwanted(config: &Config, known: &Nodes, wanted: &Nodes) -> Result<()> {
    let links = known.links(&config.instance);
    let anew = (known.topology, known.range) != (wanted.topology, wanted.range);
    for (number, member) in &known.members {
        let stays = wanted.members.contains_key(number);
        if stays && !anew {
            continue;
        }
        take_down(member, !stays).await.with_context(|| format!("cannot take the node {} down", member.name))?;
        links.remove(*number).await?;
        if !stays {
            remove_place(member)?;
        }
    }
    if anew { Ok(links.remove_base().await?) } else { Ok(()) }
}

/// Takes one down on a thread of its own.
async fn take_down(member: &Member, purge: bool) -> Result<()> {
    let member = member.clone();
    tokio::task::spawn_blocking(move || down(&member, purge)).await.context("the work broke")?
}

/// `troupe down` of one node.
///
/// # Errors
/// When something of it is left.
pub fn down(member: &Member, purge: bool) -> Result<()> {
    let place = Settings { data_dir: Some(member.data_dir()), run_dir: Some(member.run_dir.clone()), ..Settings::default() };
    if Record::read(&member.data_dir())?.is_none() && Record::read(&member.run_dir)?.is_none() {
        return Ok(());
    }
    crate::down::run(crate::find(place, None, Otherwise::Nothing)?, purge)
}

/// Takes all of a cluster's nodes away, with their namespaces and links, and with their data where that goes too. Returns what failed.
pub fn forget(record: &Record, purge: bool) -> Vec<anyhow::Error> {
    let Some(nodes) = &record.nodes else { return Vec::new() };
    let mut failures = Vec::new();
    for member in nodes.members.values() {
        println!("  node {}", member.name);
        let gone = down(member, purge).with_context(|| format!("the node {} is not all gone", member.name));
        let cleared = gone.and_then(|()| if purge { remove_place(member) } else { Ok(()) });
        failures.extend(cleared.err());
    }
    if failures.is_empty() {
        let links = nodes.links(&record.id);
        failures.extend(remove_links(record.made.network, &links, nodes).err());
    }
    failures
}

fn remove_place(member: &Member) -> Result<()> {
    for dir in [&member.place, &member.run_dir] {
        remove_tree(dir).with_context(|| format!("cannot remove {}", dir.display()))?;
        if let Some(all) = dir.parent().filter(|all| is_empty(all)) {
            absent_is_done(fs::remove_dir(all)).with_context(|| format!("cannot remove {}", all.display()))?;
        }
    }
    Ok(())
}

fn is_empty(dir: &Path) -> bool {
    fs::read_dir(dir).is_ok_and(|mut entries| entries.next().is_none())
}

/// Removes links and namespaces, from the namespace where they were made.
fn remove_links(network: Option<NetworkNamespace>, links: &NodeLinks, nodes: &Nodes) -> Result<()> {
    let remove = || {
        crate::block_on(async {
            for number in nodes.members.keys() {
                links.remove(*number).await?;
            }
            links.remove_base().await?;
            remove_rules().await
        })
    };
    let removed = match network {
        Some(network) => network.run(remove)?,
        None => Some(remove()),
    };
    match removed {
        Some(removed) => removed.context("links of the nodes are left")?,
        // What was in that namespace is gone with it; the nodes' own are not.
        None => {
            let names = nodes.members.keys().map(|number| links.namespace(*number)).chain([links.between()]);
            names.into_iter().try_for_each(|name| netns::delete(&name))?;
        }
    }
    println!("  ✔ removed the nodes' namespaces and links");
    Ok(())
}

fn is_ours(id: &ChainId) -> bool {
    id.name == POSTROUTING || id.name == FORWARD
}

async fn remove_rules() -> Result<()> {
    let mut left = Vec::new();
    for iptables in cleanup::filters() {
        left.extend(cleanup::remove_chains(&iptables, is_ours).await);
    }
    left.into_iter().next().map_or(Ok(()), |first| Err(first.into()))
}

fn rules(range: IpNetwork, pods: IpNetwork) -> RuleSet {
    let mut rules = RuleSet::default();
    let multicast = if pods.is_ipv4() { "224.0.0.0/4" } else { "ff00::/8" };
    let text = |range: IpNetwork| format!("{}/{}", range.network(), range.prefix());
    let (range, pods) = (text(range), text(pods));
    for kept in [&range, &pods] {
        rules.push(Table::Nat, POSTROUTING, format!("-s {range} -d {kept} -j RETURN"));
    }
    rules.push(Table::Nat, POSTROUTING, format!("-s {range} -d {multicast} -j RETURN"));
    rules.push(Table::Nat, POSTROUTING, format!("-s {range} -j MASQUERADE --random-fully"));
    rules.push(Table::Filter, FORWARD, format!("-s {range} -j ACCEPT"));
    rules.push(Table::Filter, FORWARD, format!("-d {range} -j ACCEPT"));
    let jump = |what: &str, chain: &str| format!("-m comment --comment \"troupe {what}\" -j {chain}");
    rules.line(Table::Nat, "POSTROUTING", End::Tail, jump("nodes masquerade", POSTROUTING));
    rules.line(Table::Filter, "FORWARD", End::Tail, jump("nodes forward", FORWARD));
    rules
}

fn absent_is_done(removed: io::Result<()>) -> io::Result<()> {
    match removed {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        removed => removed,
    }
}
