//! `troupe down`: stops the cluster and leaves nothing behind of it: no container, mount, network namespace, interface or
//! packet filter chain. `--purge` removes its data as well.
//!
//! What is being started while the daemons end resists for a moment: it is tried again. What still resists then, in a
//! containerd of our own, is killed.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use anyhow::{Context, Result, bail};
use futures::future::join_all;
use troupe_actors::kubelet::cgroups;
use troupe_cri::{Runtime, grpc::GrpcRuntime, proto};
use troupe_net::{cleanup, cni::remains, iptables::HostIptables};

use crate::{
    config::{Config, cni_bin_dir},
    containerd, instance,
    up::control_plane::{CONTROLLERS, NODE, SCHEDULER},
};

/// How long pods that resist are tried again.
const RESISTING: Duration = Duration::from_secs(30);
const PAUSE: Duration = Duration::from_millis(200);

/// Stops everything.
pub async fn run(config: &Config, purge: bool) -> Result<()> {
    if !nix::unistd::geteuid().is_root() {
        bail!("troupe down must run as root");
    }
    for (pid_file, name) in [
        (config.pid_file(), "troupe"),
        (config.daemon_pid_file("troupe-node"), "troupe-node"),
        (config.daemon_pid_file("troupe-control-plane"), "troupe-control-plane"),
    ] {
        if instance::stop(&pid_file)? {
            println!("  ✔ stopped {name}");
        }
    }
    let own = config.containerd();
    let socket = config.container_runtime_endpoint.clone().unwrap_or_else(|| own.socket());
    let mut resisting = None;
    if containerd::answers(&socket) {
        let (count, failure) = remove_pods(&socket).await.context("cannot remove the pods")?;
        println!("  ✔ removed {count} pods");
        resisting = failure;
    }
    match resisting {
        Some(error) if socket != own.socket() => return Err(error),
        Some(error) => eprintln!("  ! killing the pods that are left: {error:#}"),
        None => {}
    }
    own.stop()?;
    if socket == own.socket() {
        // Pods of a containerd that had ended before, and what it was about to start.
        own.kill_shims()?;
        kill_pods(config).await?;
    }
    release_addresses(config).await;
    unmount_below(&config.kubelet_dir)?;
    unmount_below(&own.state)?;
    unmount_below(&own.root)?;
    let failures = cleanup::purge(&HostIptables::new(), &config.cni_conf_dir, &config.pod_network(config.pod_cidr)).await;
    for failure in &failures {
        eprintln!("  ✘ {failure}");
    }
    println!("  ✔ removed interfaces and packet filter rules");
    remove_cgroups(config.cgroup_root()).await?;
    for dir in [config.kubelet_dir.join("pods"), config.pod_logs_dir.clone()] {
        remove_dir(&dir)?;
    }
    if purge {
        for path in [&config.data_dir, &config.run_dir, &config.kubelet_dir, &config.pod_logs_dir] {
            remove_dir(path)?;
        }
        for kubeconfig in
            [config.kubeconfig.clone(), config.kubeconfig_beside(CONTROLLERS), config.kubeconfig_beside(SCHEDULER), config.kubeconfig_beside(NODE)]
        {
            let _ = fs::remove_file(kubeconfig); // it may never have been written
        }
        println!("  ✔ removed the cluster's data");
    }
    if failures.is_empty() { Ok(()) } else { bail!("some of the network is left; see above") }
}

/// Stops and removes every sandbox of the runtime, gracefully first; returns how many there were, and why some are left.
async fn remove_pods(socket: &Path) -> Result<(usize, Option<anyhow::Error>)> {
    let runtime: Arc<dyn Runtime> = Arc::new(GrpcRuntime::new(socket));
    let deadline = tokio::time::Instant::now() + RESISTING;
    let mut removed = 0;
    loop {
        let (count, failure) = remove_once(&runtime).await?;
        removed += count;
        if failure.is_none() || tokio::time::Instant::now() > deadline {
            return Ok((removed, failure));
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// Tries it once; returns how many sandboxes went, and why one of the others did not.
async fn remove_once(runtime: &Arc<dyn Runtime>) -> Result<(usize, Option<anyhow::Error>)> {
    let containers = runtime.list_containers(proto::ContainerFilter::default()).await?;
    let running = containers.iter().filter(|container| container.state == proto::ContainerState::ContainerRunning as i32);
    join_all(running.map(|container| runtime.stop_container(&container.id, Duration::from_secs(2)))).await;
    let (mut removed, mut failure) = (0, None);
    for sandbox in runtime.list_pod_sandboxes(proto::PodSandboxFilter::default()).await? {
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

/// Kills what lives in the cgroups of the kubelet's pods until nothing does.
async fn kill_pods(config: &Config) -> Result<()> {
    let entries = fs::read_dir(config.kubelet_dir.join("pods")).into_iter().flatten().flatten();
    let pods: Vec<String> = entries.filter_map(|entry| entry.file_name().into_string().ok()).collect();
    let kill = |uid: &String| cgroups::kill_pod(config.cgroup_root(), uid).context("cannot kill the processes of a pod");
    let deadline = tokio::time::Instant::now() + RESISTING;
    while pods.iter().map(kill).try_fold(false, |some, alive| Ok::<_, anyhow::Error>(some | alive?))? {
        if tokio::time::Instant::now() > deadline {
            bail!("processes of pods do not die");
        }
        tokio::time::sleep(PAUSE).await;
    }
    Ok(())
}

/// Gives back the addresses and host ports of sandboxes that were not removed in good order.
async fn release_addresses(config: &Config) {
    let network = config.pod_network(config.pod_cidr);
    for holder in remains::address_holders(&network).unwrap_or_default() {
        if let Err(error) = remains::release(&network, &cni_bin_dir(), &holder.is).await {
            // The file of the address goes with the network's directory in any case.
            tracing::warn!(sandbox = holder.is, %error, "host ports of a sandbox may be left");
        }
    }
}

/// Unmounts everything mounted below a directory, the deepest first.
fn unmount_below(dir: &Path) -> Result<()> {
    let table = fs::read_to_string("/proc/self/mountinfo").context("cannot read the mount table")?;
    let mut points: Vec<PathBuf> =
        table.lines().filter_map(|line| line.split(' ').nth(4)).map(PathBuf::from).filter(|point| point.starts_with(dir)).collect();
    points.sort_by_key(|point| std::cmp::Reverse(point.components().count()));
    for point in points {
        nix::mount::umount2(&point, nix::mount::MntFlags::MNT_DETACH).with_context(|| format!("cannot unmount {}", point.display()))?;
    }
    Ok(())
}

/// Removes the pods' cgroups. The kernel keeps one busy for a moment after its last process ended.
async fn remove_cgroups(root: &str) -> Result<()> {
    let deadline = tokio::time::Instant::now() + Duration::from_secs(10);
    while let Err(error) = cgroups::remove_all(root) {
        if tokio::time::Instant::now() > deadline {
            return Err(error).context("cannot remove the pods' cgroups");
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    Ok(())
}

fn remove_dir(dir: &Path) -> Result<()> {
    match fs::remove_dir_all(dir) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error).with_context(|| format!("cannot remove {}", dir.display())),
        _ => Ok(()),
    }
}
