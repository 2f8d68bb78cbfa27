//! Keeps containers' logs from filling the disk: a log that grew large gives way to a new file, earlier ones are
//! compressed, and only a few are kept.
//!
//! In: the running containers, every ten seconds, or as soon as a log that is written fast may be full. Out: renamed, compressed and
//! removed files, the runtime's word to open a log anew, and the end of pods that write faster than that.

pub mod plan;

use std::{
    collections::BTreeMap,
    io,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use actix::Message;
use flate2::{Compression, write::GzEncoder};
use jiff::Timestamp;
use serde_json::{Value, json};
use thiserror::Error;
use troupe_api::meta::Quantity;
use troupe_cri::{
    CriError, Runtime,
    names::PodIdentity,
    proto::{Container, ContainerFilter, ContainerState, ContainerStateValue},
};

use self::plan::{LogPolicy, SOONEST, STRIKES, Step, compressed, next_look, plan, strikes};
use super::{
    context::NodeContext,
    pods::{Evict, Pods},
};
use crate::{
    files::{Directory, blocking, open_directory_of_container},
    runtime::{
        envelope::Reply,
        host::{On, Unit, UnitAddr, UnitContext},
    },
};

/// Why a log was not rotated.
#[derive(Debug, Error)]
pub enum RotationError {
    #[error("{what} {path}: {source}")]
    Io { what: &'static str, path: PathBuf, source: io::Error },
    #[error("the runtime does not open the log anew: {0}")]
    Reopen(CriError),
}

/// Logs may have grown: look at them soon.
#[derive(Clone, Copy, Debug, Message)]
#[rtype(result = "()")]
pub struct LookAtLogs;

/// A log when it was last looked at.
#[derive(Clone, Copy, Debug)]
struct Seen {
    size: u64,
    at: Instant,
    strikes: u32,
}

/// The unit that rotates logs.
pub struct LogRotation {
    context: Arc<NodeContext>,
    pods: UnitAddr<Pods>,
    policy: LogPolicy,
    /// By container.
    seen: BTreeMap<String, Seen>,
    /// When logs were last looked at; `None` while they are.
    looked: Option<Instant>,
    /// Counts timers, so that only the newest one acts.
    timer: u64,
    rotated: u64,
    last_error: Option<String>,
}

impl LogRotation {
    pub fn new(context: Arc<NodeContext>, pods: UnitAddr<Pods>, policy: LogPolicy) -> Self {
        LogRotation { context, pods, policy, seen: BTreeMap::new(), looked: None, timer: 0, rotated: 0, last_error: None }
    }

    fn round(&mut self, cx: &mut UnitContext<'_, Self>) {
        self.timer += 1;
        self.looked = None;
        let (context, policy) = (self.context.clone(), self.policy);
        cx.spawn_then(async move { rotate_all(&context, &policy).await }, |unit, looks, cx| {
            let looks = looks.unwrap_or_else(|error| {
                unit.last_error = Some(error.to_string());
                Vec::new()
            });
            unit.take(looks, cx);
        });
    }

    /// Judges what was found, and comes again when the first log may be full.
    fn take(&mut self, looks: Vec<Look>, cx: &mut UnitContext<'_, Self>) {
        let now = Instant::now();
        let mut next = self.policy.period;
        let mut seen = BTreeMap::new();
        for look in looks {
            self.rotated += u64::from(look.rotated);
            self.last_error = look.error.or(self.last_error.take());
            let before = self.seen.get(&look.container);
            // A new one may have been written since it was started only.
            let within = before.map_or(SOONEST * 10, |before| now.saturating_duration_since(before.at));
            next = next.min(next_look(&self.policy, before.map_or(0, |before| before.size), look.size, within));
            let strikes = strikes(&self.policy, before.map_or(0, |before| before.strikes), look.size);
            if strikes >= STRIKES {
                self.evict(look.pod, &look.name, look.size, cx);
            }
            let size = if look.rotated { 0 } else { look.size };
            seen.insert(look.container, Seen { size, at: now, strikes });
        }
        self.seen = seen;
        self.looked = Some(now);
        self.again(next, cx);
    }

    fn again(&mut self, delay: Duration, cx: &mut UnitContext<'_, Self>) {
        self.timer += 1;
        let serial = self.timer;
        cx.after(delay, move |unit, cx| {
            if unit.timer == serial {
                unit.round(cx);
            }
        });
    }

    fn evict(&self, id: PodIdentity, container: &str, size: u64, cx: &mut UnitContext<'_, Self>) {
        let size = Quantity::from_bytes(i64::try_from(size).unwrap_or(i64::MAX));
        let limit = Quantity::from_bytes(i64::try_from(self.policy.whole()).unwrap_or(i64::MAX));
        let message = format!("Container {container} writes its log faster than it can be rotated: \"{size}\" where all of it may be \"{limit}\". ");
        self.pods.wake(Evict { id, message, disruption: false, grace: 0 }, cx.cause().clone());
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

impl On<LookAtLogs> for LogRotation {
    fn on(&mut self, _: LookAtLogs, cx: &mut UnitContext<'_, Self>) -> Reply<()> {
        // Whoever else fills the disk must not keep this busy.
        if self.looked.is_some_and(|looked| looked.elapsed() > SOONEST * 10) {
            self.round(cx);
        }
        Reply::Now(())
    }
}

/// What was found at a container's log.
#[derive(Debug)]
struct Look {
    container: String,
    name: String,
    pod: PodIdentity,
    /// Before it was rotated, in bytes.
    size: u64,
    rotated: bool,
    error: Option<String>,
}

/// Goes through the logs of all running containers.
async fn rotate_all(context: &NodeContext, policy: &LogPolicy) -> Result<Vec<Look>, CriError> {
    let running = ContainerFilter { state: Some(ContainerStateValue { state: ContainerState::ContainerRunning.into() }), ..Default::default() };
    let mut looks = Vec::new();
    for container in context.runtime.list_containers(running).await? {
        let Some((pod, log)) = log_of(context, &container) else { continue };
        let outcome = rotate(&*context.runtime, policy, &container.id, &log, context.clock.now()).await;
        if let Err(error) = &outcome {
            tracing::warn!(container = container.id, %error, "log not rotated, will try again");
        }
        let name = container.metadata.map(|metadata| metadata.name).unwrap_or_default();
        let error = outcome.as_ref().err().map(ToString::to_string);
        let (size, rotated) = outcome.unwrap_or_default();
        looks.push(Look { container: container.id, name, pod, size, rotated, error });
    }
    Ok(looks)
}

fn log_of(context: &NodeContext, container: &Container) -> Option<(PodIdentity, PathBuf)> {
    let pod = PodIdentity::from_labels(|name| container.labels.get(name))?;
    let metadata = container.metadata.as_ref()?;
    let log = pod.log_file(&context.log_root, &metadata.name, metadata.attempt);
    Some((pod, log))
}

/// Rotates one log if it is large; gives its size before, in bytes, and whether it did. All files are found in the log's directory, by descriptor: what somebody
/// put there under the names of logs is neither read nor written over.
///
/// # Errors
/// When a file cannot be changed or the runtime refuses; then the log is as before.
pub async fn rotate(runtime: &dyn Runtime, policy: &LogPolicy, container: &str, log: &Path, now: Timestamp) -> Result<(u64, bool), RotationError> {
    let Some(current) = log.file_name().and_then(|name| name.to_str()) else { return Ok((0, false)) };
    let Some((folder, size)) = open(log, current).await.map_err(failed("open", log))? else { return Ok((0, false)) };
    let folder = Arc::new(folder);
    let names = names(&folder).map_err(failed("read", log))?;
    for step in plan(policy, current, size, &names, now) {
        match step {
            Step::Remove(name) => folder.remove_file(&name).map_err(failed("remove", &log.with_file_name(&name)))?,
            Step::Compress(name) => {
                let (folder, from) = (folder.clone(), log.with_file_name(&name));
                blocking(move || compress(&folder, &name)).await.map_err(failed("compress", &from))?;
            }
            Step::Rotate(name) => {
                folder.rename(current, &name).map_err(failed("rename", log))?;
                if let Err(error) = runtime.reopen_container_log(container).await {
                    // Whatever it writes still goes to the file under its new name.
                    folder.rename(&name, current).map_err(failed("rename back", &log.with_file_name(&name)))?;
                    return Err(RotationError::Reopen(error));
                }
                tracing::debug!(container, log = %log.display(), size, "log rotated");
                return Ok((size, true));
            }
        }
    }
    Ok((size, false))
}

/// The directory of a log, and the log's size; a container that has not written anything may have none yet.
async fn open(log: &Path, current: &str) -> io::Result<Option<(Directory, u64)>> {
    let (folder, current) = (log.parent().unwrap_or(log).to_owned(), current.to_owned());
    let opened = blocking(move || {
        let folder = open_directory_of_container(&folder)?;
        let status = folder.metadata(&current)?;
        Ok((folder, u64::try_from(status.st_size).unwrap_or(0)))
    });
    match opened.await {
        Err(error) if io::Error::kind(&error) == io::ErrorKind::NotFound => Ok(None),
        opened => opened.map(Some),
    }
}

fn failed(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> RotationError {
    let path = path.to_owned();
    move |source| RotationError::Io { what, path, source }
}

fn names(folder: &Directory) -> io::Result<Vec<String>> {
    Ok(folder.entries()?.into_iter().filter_map(|entry| entry.name.into_string().ok()).collect())
}

/// Compresses a file into another that appears whole.
fn compress(folder: &Directory, name: &str) -> io::Result<()> {
    let (done, unfinished) = compressed(name);
    let mut read = folder.read(Path::new(name))?;
    let write = folder.create(&unfinished, 0o640)?;
    let mut encoder = GzEncoder::new(write, Compression::default());
    io::copy(&mut read, &mut encoder)?;
    encoder.finish()?;
    folder.rename(&unfinished, &done)?;
    folder.remove_file(name)
}

#[cfg(test)]
mod tests {
    use std::{
        fs::{self, File},
        io::Read,
        os::unix::fs::symlink,
    };

    use super::*;

    #[test]
    fn a_compressed_log_reads_as_before_and_leaves_nothing_beside_it() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let folder = Directory::open(dir.path()).expect("opens");
        fs::write(dir.path().join("0.log.1"), "line\n".repeat(1000)).expect("writes");
        compress(&folder, "0.log.1").expect("compresses");
        assert_eq!(names(&folder).expect("reads"), ["0.log.1.gz"]);
        let mut text = String::new();
        let file = File::open(dir.path().join("0.log.1.gz")).expect("opens");
        flate2::read::GzDecoder::new(file).read_to_string(&mut text).expect("decodes");
        assert_eq!(text, "line\n".repeat(1000));
    }

    #[test]
    fn links_under_the_names_of_logs_are_neither_read_nor_written_through() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let outside = tempfile::NamedTempFile::new().expect("a file");
        fs::write(outside.path(), "theirs").expect("writes");
        let folder = Directory::open(dir.path()).expect("opens");
        symlink(outside.path(), dir.path().join("0.log.1")).expect("links");
        assert!(compress(&folder, "0.log.1").is_err(), "it would copy a file of somebody else's");
        fs::write(dir.path().join("0.log.2"), "ours").expect("writes");
        symlink(outside.path(), dir.path().join("0.log.2.tmp")).expect("links");
        assert!(compress(&folder, "0.log.2").is_err(), "it would write over a file of somebody else's");
        assert_eq!(fs::read_to_string(outside.path()).expect("reads"), "theirs");
    }
}
