//! `troupe down`: stops the cluster and leaves nothing behind of it: no container, mount, network namespace, interface or
//! packet filter chain. `--purge` removes its data as well.

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
use troupe_net::{cleanup, iptables::HostIptables};

use crate::{
    config::Config,
    containerd, instance,
    up::control_plane::{CONTROLLERS, NODE, SCHEDULER},
};

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
    if containerd::answers(&socket) {
        let count = remove_pods(&socket).await.context("cannot remove the pods")?;
        println!("  ✔ removed {count} pods");
    }
    own.stop()?;
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

/// Stops and removes every sandbox of the runtime, gracefully first; returns how many there were.
async fn remove_pods(socket: &Path) -> Result<usize> {
    let runtime: Arc<dyn Runtime> = Arc::new(GrpcRuntime::new(socket));
    let containers = runtime.list_containers(proto::ContainerFilter::default()).await?;
    let running = containers.iter().filter(|container| container.state == proto::ContainerState::ContainerRunning as i32);
    join_all(running.map(|container| runtime.stop_container(&container.id, Duration::from_secs(2)))).await;
    let sandboxes = runtime.list_pod_sandboxes(proto::PodSandboxFilter::default()).await?;
    for sandbox in &sandboxes {
        // The CNI plugins free the address and the interface here.
        if let Err(error) = runtime.stop_pod_sandbox(&sandbox.id).await {
            tracing::warn!(sandbox = sandbox.id, %error, "the sandbox does not stop in good order");
        }
        remove_sandbox(&*runtime, &sandbox.id).await.with_context(|| format!("sandbox {}", sandbox.id))?;
    }
    Ok(sandboxes.len())
}

/// Removes a sandbox. The runtime refuses while one of its containers is being started, as the daemon may just have asked for.
async fn remove_sandbox(runtime: &dyn Runtime, id: &str) -> Result<()> {
    let deadline = tokio::time::Instant::now() + Duration::from_secs(20);
    while let Err(error) = runtime.remove_pod_sandbox(id).await {
        if tokio::time::Instant::now() > deadline {
            return Err(error.into());
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    Ok(())
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
