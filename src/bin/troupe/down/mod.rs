//! `troupe down`: stops the cluster and leaves nothing behind of it: no container, mount, network namespace, interface or
//! packet filter chain. `--purge` removes its data as well.
//!
//! The record of the instance says what there is; nothing else is touched. A step that fails is told, and the others are
//! taken all the same; what is left is there for the next try. What is being started while the daemons end resists for a
//! moment: it is tried again. What still resists then, in a containerd of our own, is killed.

mod directories;
mod mounts;
mod pods;
mod report;
mod target;

use std::{collections::BTreeSet, path::PathBuf};

use anyhow::{Context, Result, bail};
use troupe_net::{
    cleanup,
    cni::{Network, remains},
    iptables::{HostIptables, Iptables},
};

pub use self::directories::remove_tree;
use self::{pods::Which, report::Report, target::Target};
use crate::{
    Found, block_on,
    config::cni_bin_dir,
    containerd,
    instance::{self, PidFile},
    nodes,
};

/// Stops everything.
///
/// # Errors
/// When something is left; everything else was taken away.
pub fn run(found: Found, purge: bool) -> Result<()> {
    if !nix::unistd::geteuid().is_root() {
        bail!("troupe down must run as root");
    }
    let Some(mut target) = Target::of(found)? else {
        println!("  ✔ there is no cluster here");
        return Ok(());
    };
    let at_work = target.record.run_dir.join(instance::DOWN);
    let _at_work = PidFile::claim(&at_work).context("another troupe down may be at work")?;
    let mut report = Report::default();
    if stop_daemons(&target, &mut report) {
        nodes::forget(&target.record, purge).iter().for_each(|failure| report.failed(failure));
        let nodes_gone = report.is_clean();
        if target.since_boot {
            take_down_node(&target, &mut report)?;
        }
        directories::remove_pods(&target, &mut report);
        forget_node(&mut target, &mut report);
        if purge && !nodes_gone {
            report.left("the cluster's data, in which that of its nodes lies");
        } else if purge {
            directories::purge(&target, &mut report);
            if report.is_clean() {
                println!("  ✔ removed the cluster's data");
            }
        }
    }
    report.end()
}

/// False when one of them lives on: nothing can be taken from under it.
fn stop_daemons(target: &Target, report: &mut Report) -> bool {
    let mut stopped = true;
    for (name, pid_file) in target.pid_files() {
        match report.attempt(instance::stop(&pid_file)) {
            Some(true) => println!("  ✔ stopped {name}"),
            Some(false) => {}
            None => stopped = false,
        }
    }
    stopped
}

/// What a node has in the kernel and at the runtime.
fn take_down_node(target: &Target, report: &mut Report) -> Result<()> {
    block_on(async {
        end_pods(target, report).await;
        anyhow::Ok(())
    })?;
    let made = &target.record.made;
    let dirs = made.kubelet_dirs.iter().cloned();
    let own = target.containerds().into_iter().flat_map(|own| [own.state, own.root]);
    for dir in dirs.chain(own).filter(|dir| target.owner_of_directory(dir).is_none()) {
        report.attempt(mounts::unmount_below(&dir));
    }
    remove_network(target, report);
    block_on(async {
        for parent in own_cgroups(target) {
            report.attempt(pods::remove_cgroups(&parent).await);
        }
        anyhow::Ok(())
    })?;
    for own in target.containerds() {
        report.attempt(own.remove_cgroup());
    }
    Ok(())
}

/// The cgroups that hold this node's pods and nobody else's.
fn own_cgroups(target: &Target) -> Vec<String> {
    let mut own = Vec::new();
    for parent in &target.record.made.cgroup_parents {
        let owner = target.owner_of_cgroup(parent).or_else(|| {
            let uid = pods::foreign(&target.record.made.kubelet_dirs, parent)?;
            Some(format!("another kubelet, which has the pod {uid} there"))
        });
        match owner {
            Some(owner) => println!("  - the cgroup {parent} stays: it is of {owner}"),
            None => own.push(parent.clone()),
        }
    }
    own
}

/// Ends the pods, and then a containerd of our own.
async fn end_pods(target: &Target, report: &mut Report) {
    let cgroups = own_cgroups(target);
    let (made, containerds) = (&target.record.made, target.containerds());
    let known = |parent: &String| -> BTreeSet<String> { made.kubelet_dirs.iter().flat_map(|dir| pods::known(dir, parent)).collect() };
    let mut sockets: BTreeSet<PathBuf> = containerds.iter().map(containerd::ContainerdLayout::socket).collect();
    let shared = made.runtime.clone().filter(|socket| !sockets.contains(socket));
    sockets.retain(|socket| containerd::answers(socket));
    for socket in &sockets {
        match pods::remove(socket, &Which::All).await {
            Ok((count, failure)) => {
                println!("  ✔ removed {count} pods");
                if let Some(error) = failure {
                    eprintln!("  ! killing the pods that are left: {error:#}");
                }
            }
            // What it no longer ends is killed below.
            Err(error) => eprintln!("  ! killing the pods: {error:#}"),
        }
    }
    if let Some(socket) = &shared {
        end_shared(socket, cgroups.iter().flat_map(known).collect(), report).await;
    }
    for own in &containerds {
        report.attempt(own.stop());
        // Shims of a containerd that had ended before, and of what it was about to start.
        report.attempt(own.kill_shims());
    }
    if shared.is_none() {
        for parent in &cgroups {
            report.attempt(pods::kill(parent, &known(parent)).await);
        }
    }
    release_addresses(target).await;
}

/// Ends this cluster's pods at a runtime that others use too.
async fn end_shared(socket: &std::path::Path, uids: BTreeSet<String>, report: &mut Report) {
    if !containerd::answers(socket) {
        report.left(format!("the pods at {}: nothing answers there; start that runtime", socket.display()));
        return;
    }
    match pods::remove(socket, &Which::Of(uids)).await {
        Ok((count, failure)) => {
            println!("  ✔ removed {count} pods");
            if let Some(error) = failure {
                report.failed(&error.context("cannot remove all pods"));
            }
        }
        Err(error) => report.failed(&error.context("cannot remove the pods")),
    }
}

/// The pod networks that this node had.
fn networks(target: &Target) -> Vec<Network> {
    let config = &target.config;
    let network = config.pod_network(target.record.made.pod_cidr.unwrap_or(config.pod_cidr).all());
    target.record.made.bridges.iter().map(|bridge| Network { bridge: bridge.clone(), ..network.clone() }).collect()
}

/// Gives back the addresses and host ports of sandboxes that were not removed in good order.
async fn release_addresses(target: &Target) {
    let Some(network) = networks(target).into_iter().next() else { return };
    for holder in remains::address_holders(&network).unwrap_or_default() {
        if let Err(error) = remains::release(&network, &cni_bin_dir(), &holder.is).await {
            // The file of the address goes with the network's directory in any case.
            tracing::warn!(sandbox = holder.is, %error, "host ports of a sandbox may be left");
        }
    }
}

/// Removes interfaces, rules and CNI configuration, in the network namespace where they were made.
fn remove_network(target: &Target, report: &mut Report) {
    let made = &target.record.made;
    let Some(namespace) = made.network else { return };
    if let Some(owner) = target.owner_of_network(&namespace) {
        println!("  - interfaces and packet filter rules stay: their network namespace is that of {owner}");
        return;
    }
    let networks = networks(target);
    let remove = || {
        block_on(async {
            let mut failures = Vec::new();
            for network in &networks {
                for dir in &made.cni_conf_dirs {
                    let filters = cleanup::filters();
                    let all: Vec<&dyn Iptables> = filters.iter().map(|filter| filter as &dyn Iptables).collect();
                    let left = cleanup::purge(&all, &HostIptables::new(), dir, network).await;
                    failures.extend(left.into_iter().map(|failure| format!("{:#}", anyhow::Error::new(failure))));
                }
            }
            Ok(failures)
        })
    };
    match report.attempt(namespace.run(remove)) {
        Some(Some(Ok(failures))) if failures.is_empty() => println!("  ✔ removed interfaces and packet filter rules"),
        Some(Some(Ok(failures))) => failures.into_iter().collect::<BTreeSet<_>>().into_iter().for_each(|failure| report.left(failure)),
        Some(Some(Err(error))) => report.failed(&error.context("cannot remove interfaces and packet filter rules")),
        // The namespace is gone with all that was in it.
        Some(None) | None => {}
    }
}

/// Writes down that nothing of the node lives any more.
fn forget_node(target: &mut Target, report: &mut Report) {
    if !report.is_clean() || target.config.instance.is_empty() {
        return;
    }
    target.record.made.living = false;
    target.record.made.runtime = None;
    report.attempt(target.record.save().context("cannot write down that the node is down"));
}
