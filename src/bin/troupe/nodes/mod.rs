//! Several nodes on one machine: `troupe up --nodes N` starts further ones in network namespaces, each a `troupe node` with a
//! containerd, directories and a cgroup of its own. The record of the cluster tells of them; names come from its id.

pub mod command;
mod daemons;
mod links;
mod wanted;

use std::{collections::BTreeMap, time::Duration};

use anyhow::{Context, Result};
use k8s_openapi::api::core::v1::Node;
use troupe_actors::runtime::system::{System, TaskHandle};
use troupe_api::{auth::pki::Pki, service::DeleteOptions};
use troupe_api_client::Client;

use self::daemons::Daemons;
pub use self::{
    links::{down, forget},
    wanted::{NodesArgs, Wanted},
};
use crate::{
    config::Config,
    instance::{
        Record, claim,
        nodes::{Member, Nodes},
    },
};

/// How often it is looked whether all run that should.
const LOOK: Duration = Duration::from_millis(500);
/// How often their packet filter rules are checked although nothing changed: somebody may have flushed them.
const CHECK: Duration = Duration::from_secs(10);

/// The nodes of a running cluster beside its own.
pub struct Running {
    members: Vec<Member>,
    keeper: TaskHandle,
    rules: TaskHandle,
}

/// Makes namespaces and links, and removes those of nodes that are no longer wanted. Nothing runs inside yet.
///
/// # Errors
/// When the kernel refuses.
pub async fn prepare(config: &Config, wanted: &Wanted) -> Result<()> {
    let known = Record::read(&config.data_dir)?.and_then(|record| record.nodes);
    let nodes = wanted.nodes(config, known.as_ref());
    if let Some(known) = known.filter(|known| *known != nodes) {
        links::remove_unwanted(config, &known, &nodes).await?;
    }
    claim::note(config, |record| record.nodes = Some(nodes.clone()))?;
    links::ensure(config, &nodes).await
}

/// Removes the Node objects of nodes that were taken away. What cannot be removed now is tried again at the next start.
///
/// # Errors
/// When the record cannot be read or written.
pub async fn remove_departed(config: &Config, client: &Client) -> Result<()> {
    let nodes = Record::read(&config.data_dir)?.and_then(|record| record.nodes);
    let mut gone = Vec::new();
    for name in nodes.map(|nodes| nodes.departed).unwrap_or_default() {
        match client.all::<Node>().delete(&name, DeleteOptions::default()).await {
            Err(error) if !error.is_not_found() => tracing::warn!(node = name, %error, "the Node of a node that was taken away stays"),
            _ => gone.push(name),
        }
    }
    claim::note(config, |record| {
        if let Some(nodes) = &mut record.nodes {
            nodes.departed.retain(|name| !gone.contains(name));
        }
    })
}

/// The names of those that should become Ready, and whether their daemons run already.
///
/// # Errors
/// When the record cannot be read.
pub fn expected(config: &Config) -> Result<Vec<(String, bool)>> {
    let nodes = Record::read(&config.data_dir)?.and_then(|record| record.nodes).context("the record tells of no nodes")?;
    let wanted = nodes.members.into_values().filter(|member| !member.stopped && !member.cut);
    Ok(wanted.map(|member| (member.name.clone(), member.running().is_some())).collect())
}

/// Starts their daemons and keeps them running.
///
/// # Errors
/// When they get no identity.
pub fn start(config: &Config, system: &System) -> Result<Running> {
    let nodes = Record::read(&config.data_dir)?.and_then(|record| record.nodes).context("the record tells of no nodes")?;
    let pki = Pki::open(&config.certificates_dir).context("cannot open the cluster's certificates")?.lasting(config.certificate_validity);
    for member in nodes.members.values() {
        daemons::give_identity(config, member, &pki)?;
    }
    let keeping = config.clone();
    let keeper = system.spawn_task("nodes", move || keep(keeping.clone()));
    let (config, members) = (config.clone(), nodes.members.values().cloned().collect());
    let rules = system.spawn_task("node-links", move || check(config.clone(), nodes.clone()));
    Ok(Running { members, keeper, rules })
}

impl Running {
    /// Stops their daemons; their pods run on.
    pub async fn stop(self) {
        drop((self.keeper, self.rules));
        let stopping = self.members.into_iter().map(|member| tokio::task::spawn_blocking(move || crate::instance::stop(&member.pid_file())));
        for stopped in stopping.collect::<Vec<_>>() {
            if let Ok(Err(error)) = stopped.await {
                tracing::warn!(error = format!("{error:#}"), "a node's daemon does not end");
            }
        }
    }
}

/// Mends the packet filter rules of the nodes' links, for ever.
async fn check(config: Config, nodes: Nodes) {
    let mut looks = BTreeMap::new();
    loop {
        tokio::time::sleep(CHECK).await;
        if let Err(error) = links::keep_rules(&config, &nodes, &mut looks).await {
            tracing::warn!(error = format!("{error:#}"), "the nodes' packet filter rules are not right, will retry");
        }
    }
}

/// Starts daemons that do not run, for ever.
async fn keep(config: Config) {
    let mut daemons = Daemons::default();
    loop {
        let config = config.clone();
        let looked = tokio::task::spawn_blocking(move || {
            let wanted = Record::read(&config.data_dir).map(|record| record.and_then(|record| record.nodes));
            match wanted {
                Ok(nodes) => daemons.look(&config, &nodes.map_or_else(BTreeMap::new, |nodes: Nodes| nodes.members)),
                Err(error) => tracing::warn!(error = format!("{error:#}"), "cannot read which nodes there are"),
            }
            daemons
        });
        daemons = looked.await.unwrap_or_default();
        tokio::time::sleep(LOOK).await;
    }
}
