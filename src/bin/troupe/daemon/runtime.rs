//! Finding or starting the container runtime. One of our own is kept running.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use tokio::task::JoinHandle;
use troupe_actors::kubelet::listing;
use troupe_cri::{grpc::GrpcRuntime, names::PodIdentity};

use crate::{
    config::Config,
    containerd, images,
    instance::{Record, claim},
    log_files::{self, LogFile},
};

/// Starts the container runtime on a thread of its own, beside what else is started.
pub fn start_beside(config: Config) -> JoinHandle<Result<PathBuf>> {
    tokio::task::spawn_blocking(move || start(&config))
}

/// The runtime's socket: the one named, a running containerd's, or our own's.
fn start(config: &Config) -> Result<PathBuf> {
    let layout = config.containerd();
    let (system, noted) = (PathBuf::from(containerd::SYSTEM_SOCKET), noted(config)?);
    let socket = match &config.container_runtime_endpoint {
        Some(socket) if !containerd::answers(socket) => {
            bail!("no runtime answers on {}; start it, or leave the choice to troupe", socket.display());
        }
        Some(socket) => socket.clone(),
        // The pods are there, whatever else may run meanwhile.
        None if noted.as_ref() == Some(&layout.socket()) => layout.socket(),
        None if layout.running_pid().is_none() && containerd::answers(&system) => system,
        None => layout.socket(),
    };
    if socket == layout.socket() {
        claim::note_runtime(config, &socket)?;
        layout.ensure()?;
        log_files::keep(vec![LogFile::Others(layout.log_file())])?;
        layout.keep()?;
    } else {
        take_shared(config, &socket)?;
    }
    if let Some(dir) = &config.image_dir {
        images::import_missing(&socket, dir).context("cannot import images")?;
    }
    Ok(socket)
}

/// The runtime that the pods of this node live at, if they may.
fn noted(config: &Config) -> Result<Option<PathBuf>> {
    let record = Record::read(&config.data_dir)?;
    Ok(record.filter(|record| record.made.living).and_then(|record| record.made.runtime))
}

/// Notes a runtime that others may use too, unless another kubelet's pods are there: this node would take them for remains of
/// its own.
fn take_shared(config: &Config, socket: &Path) -> Result<()> {
    if noted(config)?.as_deref() != Some(socket) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let listed = runtime.block_on(async { listing::list(&GrpcRuntime::new(socket)).await });
        let pods = listed.with_context(|| format!("cannot list the pods of {}", socket.display()))?;
        let strange = |pod: &&PodIdentity| !config.kubelet_dir.join("pods").join(&pod.uid).exists();
        if let Some(pod) = pods.keys().find(strange) {
            bail!(
                "the runtime at {} runs pods of another kubelet (such as {}/{}): name another one with --container-runtime-endpoint",
                socket.display(),
                pod.namespace,
                pod.name
            );
        }
    }
    claim::note_runtime(config, socket)
}
