//! Gives back what a runtime that was killed has left of sandboxes and containers it does not know: addresses, host ports,
//! namespaces, and with a containerd of our own also processes.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use anyhow::{Context, Result};
use troupe_actors::runtime::system::{System, TaskHandle};
use troupe_cri::{
    Runtime,
    grpc::GrpcRuntime,
    proto::{ContainerFilter, PodSandboxFilter},
};
use troupe_net::cni::remains;

use crate::{
    config::{Config, cni_bin_dir},
    containerd::Shim,
};

/// How often remains are looked for.
const PERIOD: Duration = Duration::from_secs(30);
/// How often leases are, unless the runtime was started since.
const LEASES: Duration = Duration::from_secs(60);

#[derive(Clone)]
struct Sweep {
    config: Config,
    runtime: Arc<dyn Runtime>,
    /// The runtime is a containerd of our own, so what lies in its directories is ours.
    own: bool,
}

/// Starts sweeping behind the runtime at `socket`.
pub fn start(config: &Config, socket: &Path, system: &System) -> TaskHandle {
    let sweep = Sweep { config: config.clone(), runtime: Arc::new(GrpcRuntime::new(socket)), own: config.containerd().socket() == socket };
    system.spawn_task("sweep", move || sweep.clone().run())
}

impl Sweep {
    async fn run(self) {
        let mut seen = None;
        let mut strays = BTreeSet::new();
        let mut leases_seen: Option<Instant> = None;
        loop {
            tokio::time::sleep(PERIOD).await;
            let started = self.config.containerd().started();
            let swept = async {
                self.sweep(&mut strays).await?;
                let due = seen != started || leases_seen.is_none_or(|seen| seen.elapsed() >= LEASES);
                if self.own && due {
                    self.sweep_leases().await?;
                    leases_seen = Some(Instant::now());
                }
                anyhow::Ok(())
            };
            match swept.await {
                Ok(()) => seen = started,
                Err(error) => tracing::warn!(error = format!("{error:#}"), "remains of sandboxes are not all removed, will retry"),
            }
        }
    }

    async fn sweep_leases(&self) -> Result<()> {
        let layout = self.config.containerd();
        let sandboxes = self.sandboxes().await?;
        let ended = tokio::task::spawn_blocking(move || layout.sweep_leases(&sandboxes, SystemTime::now())).await;
        for lease in ended.context("the sweep broke")?? {
            tracing::warn!(lease, "ended a lease of an operation that was killed");
        }
        Ok(())
    }

    /// The ids of the sandboxes that the runtime has.
    async fn sandboxes(&self) -> Result<BTreeSet<String>> {
        let listed = self.runtime.list_pod_sandboxes(PodSandboxFilter::default()).await.context("cannot list the sandboxes")?;
        Ok(listed.into_iter().map(|sandbox| sandbox.id).collect())
    }

    /// `strays` are the shims that looked left over the last time.
    async fn sweep(&self, strays: &mut BTreeSet<Shim>) -> Result<()> {
        // In this order: what is there now and has a sandbox shows it in the list that is made afterwards.
        let network = self.config.pod_network(self.config.pod_cidr.all());
        let holders = remains::address_holders(&network).context("cannot read who holds addresses")?;
        let namespaces = if self.own { remains::namespaces(&self.config.containerd().network_namespaces()) } else { Ok(Vec::new()) };
        let namespaces = namespaces.context("cannot read the network namespaces")?;
        let started = self.config.containerd().started().filter(|_| self.own);
        let sandboxes = self.sandboxes().await?;
        let now = SystemTime::now();
        if self.own {
            self.sweep_tasks(&sandboxes, strays, now).await?;
        }
        for sandbox in remains::left_over(&holders, |sandbox| sandboxes.contains(sandbox), started, now) {
            remains::release(&network, &cni_bin_dir(), &sandbox).await.with_context(|| format!("cannot release the address of sandbox {sandbox}"))?;
            tracing::warn!(sandbox, "gave back the address of a sandbox that the runtime does not know");
        }
        let removed = tokio::task::spawn_blocking(move || remove_namespaces(&namespaces, started, now)).await;
        removed.context("the sweep broke")?
    }

    async fn sweep_tasks(&self, sandboxes: &BTreeSet<String>, strays: &mut BTreeSet<Shim>, now: SystemTime) -> Result<()> {
        let containers = self.runtime.list_containers(ContainerFilter::default()).await.context("cannot list the containers")?;
        let listed: BTreeSet<String> = containers.into_iter().map(|container| container.id).chain(sandboxes.iter().cloned()).collect();
        let layout = self.config.containerd();
        let before = std::mem::take(strays);
        let swept = tokio::task::spawn_blocking(move || {
            let mut ended = layout.sweep_tasks(&listed, now)?;
            let (more, strays) = layout.sweep_shims(&listed, &before)?;
            ended.extend(more);
            anyhow::Ok((ended, strays))
        });
        let (ended, left) = swept.await.context("the sweep broke")??;
        for id in ended {
            tracing::warn!(id, "ended a task that the runtime does not know");
        }
        *strays = left;
        Ok(())
    }
}

/// Removes namespaces that nobody lives in. Those of sandboxes whose processes ended are removed with them, or here.
fn remove_namespaces(found: &[remains::Part<PathBuf>], started: Option<SystemTime>, now: SystemTime) -> Result<()> {
    if found.is_empty() {
        return Ok(());
    }
    let inhabited = remains::inhabited().context("cannot read the processes")?;
    for namespace in remains::left_over(found, |path| remains::is_inhabited(path, &inhabited), started, now) {
        remains::remove_namespace(&namespace).with_context(|| format!("cannot remove the network namespace {}", namespace.display()))?;
        tracing::warn!(namespace = %namespace.display(), "removed a network namespace that nobody lives in");
    }
    Ok(())
}
