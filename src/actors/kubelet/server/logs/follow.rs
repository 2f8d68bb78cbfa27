//! Reads a log file from where it is wanted, and follows it while the container runs.

use std::{
    io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use jiff::Timestamp;
use thiserror::Error;
use tokio::{
    fs::File,
    io::{AsyncReadExt, AsyncSeekExt},
    sync::mpsc,
    time::{Instant, sleep},
};
use troupe_api::http::streaming::LogOptions;

use super::{printer::Printer, tail::tail_start};
use crate::{
    files::open_file_of_container,
    kubelet::server::directory::{LogFile, PodDirectory},
};

/// How often a followed file is looked at.
const POLL: Duration = Duration::from_millis(100);
/// How often the runtime is asked whether the container still runs.
const ALIVE: Duration = Duration::from_millis(500);
const CHUNK: usize = 64 << 10;
/// A record longer than this is printed in pieces, as records that do not parse: no runtime writes such.
const LONGEST_RECORD: usize = 1 << 20;

/// A log that cannot be read.
#[derive(Debug, Error)]
#[error("failed to try resolving symlinks in path {path:?}: {source}")]
pub struct LogStreamError {
    path: PathBuf,
    source: io::Error,
}

/// Opens a log; the text comes through the channel until it is all told or the receiver is dropped.
///
/// # Errors
/// When the file cannot be read.
pub async fn stream(log: LogFile, options: LogOptions, pods: Arc<dyn PodDirectory>) -> Result<mpsc::Receiver<Bytes>, LogStreamError> {
    let path = log.path.clone();
    let failed = move |source| LogStreamError { path: path.clone(), source };
    let file = open(&log.path, options.tail_lines).await.map_err(failed)?;
    let (sender, receiver) = mpsc::channel(4);
    let printer = Printer::new(&options, Timestamp::now());
    let reader = Reader { file, log, follow: options.follow, printer, pending: Vec::new(), sender, pods };
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
    follow: bool,
    printer: Printer,
    /// The beginning of a record whose end is not written yet.
    pending: Vec<u8>,
    sender: mpsc::Sender<Bytes>,
    pods: Arc<dyn PodDirectory>,
}

impl Reader {
    async fn run(mut self) -> io::Result<()> {
        let mut ended = false;
        let mut asked = Instant::now();
        loop {
            if !self.read_to_end().await? || !self.follow || ended {
                break;
            }
            if self.next_file().await? {
                continue;
            }
            if asked.elapsed() >= ALIVE {
                // What it wrote last may have come after the read above.
                ended = !self.pods.is_running(&self.log.container_id).await;
                asked = Instant::now();
                continue;
            }
            tokio::select! {
                () = sleep(POLL) => {}
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
            let start = self.pending.len();
            self.pending.resize(start + CHUNK, 0);
            let read = self.file.read(&mut self.pending[start..]).await?;
            self.pending.truncate(start + read);
            if read == 0 {
                return Ok(!self.printer.is_done());
            }
            let out = self.print_records();
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
