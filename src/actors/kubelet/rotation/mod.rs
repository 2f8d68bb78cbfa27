//! Keeps containers' logs from filling the disk: a log that grew large gives way to a new file, earlier ones are
//! compressed, and only a few are kept.
//!
//! In: the running containers, every ten seconds. Out: renamed, compressed and removed files, and the runtime's word to
//! open a log anew.

pub mod plan;

use std::{
    fs::{self, File},
    io,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use flate2::{Compression, write::GzEncoder};
use jiff::Timestamp;
use serde_json::{Value, json};
use thiserror::Error;
use troupe_cri::{
    CriError, Runtime,
    names::PodIdentity,
    proto::{Container, ContainerFilter, ContainerState, ContainerStateValue},
};

use self::plan::{Step, compressed, plan};
use super::context::NodeContext;
use crate::runtime::{host::UnitContext, unit::Unit};

/// How often sizes are looked at (upstream's `containerLogMonitorInterval`).
const PERIOD: Duration = Duration::from_secs(10);

/// Why a log was not rotated.
#[derive(Debug, Error)]
pub enum RotationError {
    #[error("{what} {path}: {source}")]
    Io { what: &'static str, path: PathBuf, source: io::Error },
    #[error("the runtime does not open the log anew: {0}")]
    Reopen(CriError),
}

/// The unit that rotates logs.
pub struct LogRotation {
    context: Arc<NodeContext>,
    rotated: u64,
    last_error: Option<String>,
}

impl LogRotation {
    pub fn new(context: Arc<NodeContext>) -> Self {
        LogRotation { context, rotated: 0, last_error: None }
    }

    fn round(&mut self, cx: &mut UnitContext<'_, Self>) {
        let context = self.context.clone();
        cx.spawn_then(async move { rotate_all(&context).await }, |unit, (rotated, error), cx| {
            unit.rotated += rotated;
            unit.last_error = error.or(unit.last_error.take());
            cx.after(PERIOD, Self::round);
        });
    }
}

impl Unit for LogRotation {
    fn started(&mut self, cx: &mut UnitContext<'_, Self>) {
        self.round(cx);
    }

    fn observe(&self) -> Value {
        json!({"rotated": self.rotated, "lastError": self.last_error})
    }
}

/// Goes through all running containers; gives how many logs were rotated, and the last failure.
async fn rotate_all(context: &NodeContext) -> (u64, Option<String>) {
    let running = ContainerFilter { state: Some(ContainerStateValue { state: ContainerState::ContainerRunning.into() }), ..Default::default() };
    let containers = match context.runtime.list_containers(running).await {
        Ok(containers) => containers,
        Err(error) => return (0, Some(error.to_string())),
    };
    let (mut rotated, mut last) = (0, None);
    for container in containers {
        let Some(log) = log_of(context, &container) else { continue };
        match rotate(&*context.runtime, &container.id, &log).await {
            Ok(done) => rotated += u64::from(done),
            Err(error) => {
                tracing::warn!(container = container.id, %error, "log not rotated, will try again");
                last = Some(error.to_string());
            }
        }
    }
    (rotated, last)
}

fn log_of(context: &NodeContext, container: &Container) -> Option<PathBuf> {
    let pod = PodIdentity::from_labels(|name| container.labels.get(name))?;
    let metadata = container.metadata.as_ref()?;
    Some(pod.log_file(&context.log_root, &metadata.name, metadata.attempt))
}

/// Rotates one log if it is large; says whether it did.
///
/// # Errors
/// When a file cannot be changed or the runtime refuses; then the log is as before.
pub async fn rotate(runtime: &dyn Runtime, container: &str, log: &Path) -> Result<bool, RotationError> {
    // A container that has not written anything may have no log yet.
    let Ok(size) = tokio::fs::metadata(log).await.map(|metadata| metadata.len()) else { return Ok(false) };
    let (Some(folder), Some(current)) = (log.parent(), log.file_name().and_then(|name| name.to_str())) else { return Ok(false) };
    let names = names(folder)?;
    for step in plan(current, size, &names, Timestamp::now()) {
        match step {
            Step::Remove(name) => fs::remove_file(folder.join(&name)).map_err(failed("remove", &folder.join(&name)))?,
            Step::Compress(name) => {
                let folder = folder.to_owned();
                let work = tokio::task::spawn_blocking(move || compress(&folder, &name));
                work.await.unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic()))?;
            }
            Step::Rotate(name) => {
                let aside = folder.join(name);
                fs::rename(log, &aside).map_err(failed("rename", log))?;
                if let Err(error) = runtime.reopen_container_log(container).await {
                    // Whatever it writes still goes to the file under its new name.
                    fs::rename(&aside, log).map_err(failed("rename back", &aside))?;
                    return Err(RotationError::Reopen(error));
                }
                tracing::info!(container, log = %log.display(), size, "log rotated");
                return Ok(true);
            }
        }
    }
    Ok(false)
}

fn failed(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> RotationError {
    let path = path.to_owned();
    move |source| RotationError::Io { what, path, source }
}

fn names(folder: &Path) -> Result<Vec<String>, RotationError> {
    let entries = fs::read_dir(folder).map_err(failed("read", folder))?;
    Ok(entries.flatten().filter_map(|entry| entry.file_name().into_string().ok()).collect())
}

/// Compresses a file into another that appears whole.
fn compress(folder: &Path, name: &str) -> Result<(), RotationError> {
    let (done, unfinished) = compressed(name);
    let (from, unfinished, done) = (folder.join(name), folder.join(unfinished), folder.join(done));
    let mut read = File::open(&from).map_err(failed("open", &from))?;
    let write = File::create(&unfinished).map_err(failed("create", &unfinished))?;
    let mut encoder = GzEncoder::new(write, Compression::default());
    io::copy(&mut read, &mut encoder).and_then(|_| encoder.finish()).map_err(failed("compress", &from))?;
    fs::rename(&unfinished, &done).map_err(failed("rename", &unfinished))?;
    fs::remove_file(&from).map_err(failed("remove", &from))
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    #[test]
    fn a_compressed_log_reads_as_before_and_leaves_nothing_beside_it() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        fs::write(dir.path().join("0.log.1"), "line\n".repeat(1000)).expect("writes");
        compress(dir.path(), "0.log.1").expect("compresses");
        assert_eq!(names(dir.path()).expect("reads"), ["0.log.1.gz"]);
        let mut text = String::new();
        let file = File::open(dir.path().join("0.log.1.gz")).expect("opens");
        flate2::read::GzDecoder::new(file).read_to_string(&mut text).expect("decodes");
        assert_eq!(text, "line\n".repeat(1000));
    }
}
