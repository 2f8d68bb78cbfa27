//! Reads a log file from where it is wanted, and follows it while the container runs.

use std::{
    io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::{Arc, LazyLock},
};

use bytes::Bytes;
use jiff::Timestamp;
use thiserror::Error;
use tokio::{
    fs::File,
    io::{AsyncReadExt, AsyncSeekExt},
    sync::mpsc,
};
use troupe_api::aside::places::Places;
use troupe_api_server::http::streaming::LogOptions;

use super::{printer::Printer, tail::tail_start, watched::Watched};
use crate::{
    files::open_file_of_container,
    kubelet::server::directory::{LogFile, PodDirectory},
};

const CHUNK: usize = 64 << 10;
/// A record longer than this is printed in pieces, as records that do not parse: no runtime writes such.
const LONGEST_RECORD: usize = 1 << 20;

/// Pieces of logs that are read and printed at one time. Namespaces have turns: nobody waits for all the logs that one of them has.
const AT_ONCE: u32 = 4;
static READING: LazyLock<Places> = LazyLock::new(|| Places::new(AT_ONCE));

/// A log that cannot be read.
#[derive(Debug, Error)]
#[error("failed to try resolving symlinks in path {path:?}: {source}")]
pub struct LogStreamError {
    path: PathBuf,
    source: io::Error,
}

/// Opens a log of a pod in `namespace`; the text comes through the channel until it is all told or the receiver is dropped.
///
/// # Errors
/// When the file cannot be read.
pub async fn stream(
    log: LogFile,
    namespace: &str,
    options: LogOptions,
    pods: Arc<dyn PodDirectory>,
) -> Result<mpsc::Receiver<Bytes>, LogStreamError> {
    let path = log.path.clone();
    let failed = move |source| LogStreamError { path: path.clone(), source };
    let file = open(&log.path, options.tail_lines).await.map_err(failed)?;
    let (sender, receiver) = mpsc::channel(4);
    let printer = Printer::new(&options, Timestamp::now());
    let reader = Reader { file, log, namespace: namespace.into(), follow: options.follow, printer, pending: Vec::new(), sender, pods };
    tokio::spawn(async move {
        if let Err(error) = reader.run().await {
            tracing::warn!(%error, "a log cannot be read on");
        }
    });
    Ok(receiver)
}

async fn open(path: &Path, tail: Option<i64>) -> io::Result<File> {
    let path = path.to_owned();
    let opened = tokio::task::spawn_blocking(move || -> io::Result<std::fs::File> {
        let mut file = open_file_of_container(&path)?;
        if let Some(lines) = tail.and_then(|lines| u64::try_from(lines).ok()) {
            let start = tail_start(&mut file, lines)?;
            io::Seek::seek(&mut file, io::SeekFrom::Start(start))?;
        }
        Ok(file)
    });
    Ok(File::from_std(opened.await.map_err(io::Error::other)??))
}

struct Reader {
    file: File,
    log: LogFile,
    namespace: Arc<str>,
    follow: bool,
    printer: Printer,
    /// The beginning of a record whose end is not written yet.
    pending: Vec<u8>,
    sender: mpsc::Sender<Bytes>,
    pods: Arc<dyn PodDirectory>,
}

impl Reader {
    async fn run(mut self) -> io::Result<()> {
        let watched = self.follow.then(|| Watched::of(&self.log, &self.pods));
        let mut seen = watched.as_ref().map(|watched| watched.seen());
        loop {
            // Looked at before the file is read: what comes to an end meanwhile has written everything by then.
            let is_running = seen.as_mut().is_some_and(|seen| seen.borrow_and_update().is_running);
            if !self.read_to_end().await? {
                break;
            }
            let Some(seen) = seen.as_mut().filter(|_| is_running) else { break };
            if self.next_file().await? {
                continue;
            }
            tokio::select! {
                changed = seen.changed() => {
                    if changed.is_err() {
                        break;
                    }
                }
                () = self.sender.closed() => return Ok(()),
            }
        }
        let rest = std::mem::take(&mut self.pending);
        let mut out = Vec::new();
        if !rest.is_empty() {
            self.printer.print(&rest, &mut out);
        }
        self.send(out).await;
        Ok(())
    }

    /// Prints up to the end of the file; false when nothing more is wanted.
    async fn read_to_end(&mut self) -> io::Result<bool> {
        loop {
            let turn = READING.take(&self.namespace, 1).await;
            let start = self.pending.len();
            self.pending.resize(start + CHUNK, 0);
            let read = self.file.read(&mut self.pending[start..]).await?;
            self.pending.truncate(start + read);
            if read == 0 {
                return Ok(!self.printer.is_done());
            }
            let out = self.print_records();
            drop(turn);
            if !self.send(out).await || self.printer.is_done() {
                return Ok(false);
            }
        }
    }

    /// Prints all whole records.
    fn print_records(&mut self) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.pending.len());
        let mut done = 0;
        while let Some(length) = self.pending[done..].iter().position(|byte| *byte == b'\n') {
            self.printer.print(&self.pending[done..=done + length], &mut out);
            done += length + 1;
        }
        if self.pending.len() - done > LONGEST_RECORD {
            done = self.pending.len();
        }
        self.pending.drain(..done);
        out
    }

    /// Goes on with the file that took this one's place, if there is one. Called at the end of the file.
    async fn next_file(&mut self) -> io::Result<bool> {
        let Ok(there) = tokio::fs::symlink_metadata(&self.log.path).await else { return Ok(false) };
        let here = self.file.metadata().await?;
        if (there.dev(), there.ino()) != (here.dev(), here.ino()) {
            // Between the last read and the rename more may have been written.
            if !self.read_to_end().await? {
                return Ok(false);
            }
            let Ok(next) = open(&self.log.path, None).await else { return Ok(false) };
            self.file = next;
            self.pending.clear();
            return Ok(true);
        }
        if there.len() < self.file.stream_position().await? {
            self.file.rewind().await?;
            self.pending.clear();
            return Ok(true);
        }
        Ok(false)
    }

    /// False when nobody listens any more.
    async fn send(&self, out: Vec<u8>) -> bool {
        out.is_empty() || self.sender.send(out.into()).await.is_ok()
    }
}

#[cfg(test)]
mod tests {
    use std::{
        io::Write,
        sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed},
        time::Duration,
    };

    use async_trait::async_trait;
    use k8s_openapi::api::core::v1::Pod;

    use super::*;
    use crate::kubelet::server::directory::{LookupError, PodRef};

    /// A node with one container.
    #[derive(Default)]
    struct One {
        has_ended: AtomicBool,
        asked: AtomicUsize,
    }

    #[async_trait]
    impl PodDirectory for One {
        async fn log(&self, _: &PodRef, container: &str, _: bool) -> Result<LogFile, LookupError> {
            Err(LookupError::NotFound(container.to_owned()))
        }

        async fn container(&self, _: &PodRef, container: &str) -> Result<String, LookupError> {
            Err(LookupError::NotFound(container.to_owned()))
        }

        async fn sandbox(&self, pod: &PodRef) -> Result<String, LookupError> {
            Err(LookupError::NotFound(pod.name.clone()))
        }

        async fn is_running(&self, _: &str) -> bool {
            self.asked.fetch_add(1, Relaxed);
            !self.has_ended.load(Relaxed)
        }

        async fn pods(&self) -> Vec<Arc<Pod>> {
            Vec::new()
        }
    }

    const FOLLOWERS: usize = 200;

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_log_is_looked_at_once_however_many_follow_it() {
        let dir = tempfile::tempdir().expect("a directory");
        let log = LogFile { path: dir.path().join("0.log"), container_id: "c".to_owned() };
        let mut file = std::fs::File::create(&log.path).expect("creates");
        let mut say = |text: &str| writeln!(file, "2026-01-01T00:00:00Z stdout F {text}").expect("writes");
        say("first");
        let node = Arc::new(One::default());
        let options = LogOptions { follow: true, ..LogOptions::default() };
        let mut followers = Vec::new();
        for _ in 0..FOLLOWERS {
            followers.push(stream(log.clone(), "ns", options.clone(), node.clone()).await.expect("opens"));
        }
        let mut texts = vec![String::new(); FOLLOWERS];
        let heard = async |receiver: &mut mpsc::Receiver<Bytes>, text: &mut String, wanted: &str| {
            while !text.ends_with(wanted) {
                let more = tokio::time::timeout(Duration::from_secs(20), receiver.recv()).await.expect("it comes").expect("goes on");
                text.push_str(std::str::from_utf8(&more).expect("text"));
            }
        };
        for (receiver, text) in followers.iter_mut().zip(&mut texts) {
            heard(receiver, text, "first\n").await;
        }
        say("second");
        for (receiver, text) in followers.iter_mut().zip(&mut texts) {
            heard(receiver, text, "second\n").await;
        }
        tokio::time::sleep(3 * Duration::from_millis(500)).await;
        let asked = node.asked.load(Relaxed);
        say("last");
        node.has_ended.store(true, Relaxed);
        for (receiver, text) in followers.iter_mut().zip(&mut texts) {
            heard(receiver, text, "last\n").await;
            assert_eq!(tokio::time::timeout(Duration::from_secs(20), receiver.recv()).await.expect("it ends"), None);
            assert_eq!(text, "first\nsecond\nlast\n");
        }
        assert!((1..FOLLOWERS).contains(&asked), "the runtime was asked {asked} times");
    }
}
