//! The end of pods: by the runtime in good order, else with their processes.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use anyhow::{Context, Result, bail};
use futures::future::join_all;
use tokio::time::{Instant, sleep};
use troupe_actors::kubelet::cgroups::{self, slices::Slices};
use troupe_cri::{
    Runtime,
    grpc::GrpcRuntime,
    names::{POD_UID, slice_unit},
    proto,
};

/// How long pods that resist are tried again.
const RESISTING: Duration = Duration::from_secs(30);
const PAUSE: Duration = Duration::from_millis(200);

/// Which sandboxes of a runtime are meant.
pub(super) enum Which {
    /// A runtime of our own has no others.
    All,
    /// Those of these pods.
    Of(BTreeSet<String>),
}

impl Which {
    fn has(&self, labels: &std::collections::HashMap<String, String>) -> bool {
        match self {
            Which::All => true,
            Which::Of(uids) => labels.get(POD_UID).is_some_and(|uid| uids.contains(uid)),
        }
    }
}

/// The pods that a kubelet's directory or cgroup tells of.
pub(super) fn known(kubelet_dir: &Path, cgroup_parent: &str) -> BTreeSet<String> {
    let entries = fs::read_dir(kubelet_dir.join("pods")).into_iter().flatten().flatten();
    let on_disk = entries.filter_map(|entry| entry.file_name().into_string().ok());
    on_disk.chain(cgroups::pods(cgroup_parent).unwrap_or_default()).collect()
}

/// A pod that lives in a slice of systemd's and that none of these kubelets' directories tells of: all kubelets of a machine have the same slice made,
/// and this one may never have used it.
pub(super) fn foreign(kubelet_dirs: &BTreeSet<PathBuf>, cgroup_parent: &str) -> Option<String> {
    slice_unit(cgroup_parent)?;
    let is_ours = |uid: &String| kubelet_dirs.iter().any(|dir| dir.join("pods").join(uid).exists());
    cgroups::inhabited(cgroup_parent).unwrap_or_default().into_iter().find(|uid| !is_ours(uid))
}

/// Stops and removes sandboxes, gracefully first; returns how many there were, and why some are left.
pub(super) async fn remove(socket: &Path, which: &Which) -> Result<(usize, Option<anyhow::Error>)> {
    let runtime: Arc<dyn Runtime> = Arc::new(GrpcRuntime::new(socket));
    let deadline = Instant::now() + RESISTING;
    let mut removed = 0;
    loop {
        let (count, failure) = remove_once(&runtime, which).await?;
        removed += count;
        if failure.is_none() || Instant::now() > deadline {
            return Ok((removed, failure));
        }
        sleep(PAUSE).await;
    }
}

/// Tries it once; returns how many sandboxes went, and why one of the others did not.
async fn remove_once(runtime: &Arc<dyn Runtime>, which: &Which) -> Result<(usize, Option<anyhow::Error>)> {
    let containers = runtime.list_containers(proto::ContainerFilter::default()).await?;
    let running =
        containers.iter().filter(|container| which.has(&container.labels) && container.state == proto::ContainerState::ContainerRunning as i32);
    join_all(running.map(|container| runtime.stop_container(&container.id, Duration::from_secs(2)))).await;
    let (mut removed, mut failure) = (0, None);
    let sandboxes = runtime.list_pod_sandboxes(proto::PodSandboxFilter::default()).await?;
    for sandbox in sandboxes.into_iter().filter(|sandbox| which.has(&sandbox.labels)) {
        // The CNI plugins free the address and the interface here.
        if let Err(error) = runtime.stop_pod_sandbox(&sandbox.id).await {
            tracing::warn!(sandbox = sandbox.id, %error, "the sandbox does not stop in good order");
        }
        match runtime.remove_pod_sandbox(&sandbox.id).await {
            Ok(()) => removed += 1,
            Err(error) => failure = Some(anyhow::Error::new(error).context(format!("sandbox {}", sandbox.id))),
        }
    }
    Ok((removed, failure))
}

/// Kills what lives in the cgroups of pods until nothing does.
pub(super) async fn kill(cgroup_parent: &str, uids: &BTreeSet<String>) -> Result<()> {
    let deadline = Instant::now() + RESISTING;
    loop {
        let mut alive = None;
        for uid in uids {
            if cgroups::kill_pod(cgroup_parent, uid).with_context(|| format!("cannot kill the processes of pod {uid}"))? {
                alive = Some(uid);
            }
        }
        let Some(uid) = alive else { return Ok(()) };
        if Instant::now() > deadline {
            bail!("processes of pod {uid} do not die");
        }
        sleep(PAUSE).await;
    }
}

/// Removes the pods' cgroups, with systemd where it made them. The kernel keeps one busy for a moment after its last process ended.
pub(super) async fn remove_cgroups(parent: &str) -> Result<()> {
    // Nobody need ask systemd for a slice that it never made.
    if cgroups::exists(parent).context("cannot look at the machine's cgroups")? {
        Slices::default().stop(parent).await.with_context(|| format!("cannot stop the slice {parent}"))?;
    }
    let deadline = Instant::now() + Duration::from_secs(10);
    while let Err(error) = cgroups::remove_all(parent) {
        if Instant::now() > deadline {
            return Err(error).context("cannot remove the pods' cgroups");
        }
        sleep(Duration::from_millis(50)).await;
    }
    Ok(())
}
