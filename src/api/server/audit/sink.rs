//! The queue between requests and the log, and the thread that empties it.

use std::{sync::Arc, thread, time::Duration};

use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use troupe_api::meta::Clock;

use super::{
    Batches, Event, LogFile, Policy, Subject, Verdict,
    webhook::{EVENTS, send_one, sent_line},
};
use crate::webhook_client::Endpoint;

/// Events that may wait, and bytes of the bodies they hold. A request that finds the queue full waits itself.
const QUEUE: usize = 1024;
const HELD: usize = 32 << 20;
/// How long closing waits for what is queued.
const CLOSE: Duration = Duration::from_secs(5);

/// An event to be written.
pub type Record = Box<Event>;

/// Whether a request waits until its events are where they go.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// They wait in a queue, the request goes on.
    #[default]
    Queued,
    /// It waits, and goes on also where they cannot be had.
    Blocking,
    /// It waits, and is refused where that it came cannot be recorded.
    Strict,
}

/// A record on its way.
struct Queued {
    record: Record,
    /// Its share of what may be held.
    held: Option<OwnedSemaphorePermit>,
    /// Who waits until it is written, and hears whether it is.
    waits: Option<oneshot::Sender<bool>>,
}

/// The audit log of a front door.
pub struct AuditLog {
    policy: Policy,
    clock: Arc<dyn Clock>,
    queue: Mutex<Option<mpsc::Sender<Queued>>>,
    /// What bodies may still be held.
    room: Arc<Semaphore>,
    /// A webhook that has each event before its request goes on.
    blocking: Option<Endpoint>,
    modes: Modes,
    writer: Mutex<Option<thread::JoinHandle<()>>>,
}

impl AuditLog {
    /// Starts the thread that hands events to the backends.
    pub fn start(policy: Policy, backends: impl Into<Backends>, clock: Arc<dyn Clock>) -> std::io::Result<Arc<Self>> {
        let mut backends = backends.into();
        let (blocking, modes) = (backends.blocking.take(), backends.modes);
        let (queue, records) = mpsc::channel(QUEUE);
        let times = clock.clone();
        let writer = thread::Builder::new().name("audit".into()).spawn(move || write(records, backends, &*times))?;
        Ok(Arc::new(AuditLog {
            policy,
            clock,
            queue: Mutex::new(Some(queue)),
            room: Arc::new(Semaphore::new(HELD)),
            blocking,
            modes,
            writer: Mutex::new(Some(writer)),
        }))
    }

    pub fn judge(&self, subject: Subject<'_>) -> Verdict {
        self.policy.judge(subject)
    }

    pub fn now(&self) -> jiff::Timestamp {
        self.clock.now()
    }

    /// Queues a record; waits while the queue is full, and until a file or webhook has it that is to be waited for. Says whether all have it
    /// without which a request is refused.
    pub async fn record(&self, record: Record) -> bool {
        let mut is_stored = true;
        if let Some(endpoint) = &self.blocking {
            let (id, line) = (record.audit_id.clone(), sent_line(&record, record.line()));
            is_stored = send_one(endpoint, &id, line).await || self.modes.webhook != Mode::Strict;
        }
        let share = share(&record);
        // Nobody closes it.
        let held = self.room.clone().acquire_many_owned(share).await.ok();
        let queue = self.queue.lock().clone();
        let is_needed = self.modes.file == Mode::Strict;
        let Some(queue) = queue else { return is_stored && !is_needed };
        let (waits, written) = (self.modes.file != Mode::Queued).then(oneshot::channel::<bool>).unzip();
        if queue.send(Queued { record, held, waits }).await.is_err() {
            tracing::error!("the audit log is not written any more");
        }
        let is_written = match written {
            // Nobody answers once the writer has ended.
            Some(written) => written.await.unwrap_or(false),
            None => true,
        };
        is_stored && (is_written || !is_needed)
    }

    /// Queues a record from where nothing can wait: a full queue is waited for aside.
    pub fn record_aside(self: &Arc<Self>, record: Record) {
        if self.blocking.is_some() {
            let log = self.clone();
            return drop(tokio::task::spawn(async move { log.record(record).await }));
        }
        let Some(queue) = self.queue.lock().clone() else { return };
        let record = match self.room.clone().try_acquire_many_owned(share(&record)) {
            Ok(held) => match queue.try_send(Queued { record, held: Some(held), waits: None }) {
                Ok(()) => return,
                Err(mpsc::error::TrySendError::Full(queued)) => queued.record,
                Err(mpsc::error::TrySendError::Closed(_)) => return tracing::error!("the audit log is not written any more"),
            },
            Err(_) => record,
        };
        let log = self.clone();
        drop(tokio::task::spawn(async move { log.record(record).await }));
    }

    /// Takes no more records and waits until those taken are written.
    pub fn close(&self) {
        self.queue.lock().take();
        let Some(writer) = self.writer.lock().take() else { return };
        let deadline = std::time::Instant::now() + CLOSE;
        while !writer.is_finished() && std::time::Instant::now() < deadline {
            thread::sleep(Duration::from_millis(5));
        }
    }
}

/// Where events go.
#[derive(Default)]
pub struct Backends {
    pub file: Option<LogFile>,
    /// The file's lines are of the format before JSON.
    pub legacy: bool,
    pub webhook: Option<Batches>,
    /// A file that has lines in batches, of the same format.
    pub batched: Option<Batches>,
    /// A webhook that requests wait for.
    pub blocking: Option<Endpoint>,
    pub modes: Modes,
}

/// How requests wait for the file, and for a webhook that they wait for.
#[derive(Clone, Copy, Debug, Default)]
pub struct Modes {
    pub file: Mode,
    pub webhook: Mode,
}

impl From<LogFile> for Backends {
    fn from(file: LogFile) -> Self {
        Backends { file: Some(file), ..Backends::default() }
    }
}

impl Backends {
    /// Hands a record on; says whether the file took it.
    fn take(&mut self, record: &Event, clock: &dyn Clock) -> bool {
        EVENTS.with(&[]).increment();
        let line = record.line();
        let legacy = self.legacy.then(|| record.legacy_line());
        let appended = self.file.as_mut().map_or(Ok(()), |file| file.append(legacy.as_ref().unwrap_or(&line), clock.now()));
        if let Err(error) = &appended {
            tracing::error!(%error, audit_id = %record.audit_id, "cannot write the audit log");
        }
        if let Some(batched) = &self.batched {
            batched.take(legacy.as_ref().unwrap_or(&line).clone().into());
        }
        if let Some(webhook) = &self.webhook {
            let line = sent_line(record, line);
            // What was set aside for it to grow is not kept.
            webhook.take(line.into_boxed_slice().into());
        }
        appended.is_ok()
    }
}

/// How much of the room a record takes.
fn share(record: &Event) -> u32 {
    u32::try_from(record.held().min(HELD)).unwrap_or(u32::MAX)
}

/// Writes what comes; what was written is handed to the system whenever nothing more waits.
fn write(mut records: mpsc::Receiver<Queued>, mut backends: Backends, clock: &dyn Clock) {
    while let Some(record) = records.blocking_recv() {
        let (mut next, mut waiting) = (Some(record), Vec::new());
        while let Some(Queued { record, held: _held, waits }) = next {
            let is_taken = backends.take(&record, clock);
            waiting.extend(waits.map(|waits| (waits, is_taken)));
            next = records.try_recv().ok();
        }
        let flushed = backends.file.as_mut().map_or(Ok(()), LogFile::flush);
        if let Err(error) = &flushed {
            tracing::error!(%error, "cannot write the audit log");
        }
        for (waits, is_taken) in waiting {
            // Whoever waited may be gone.
            let _ = waits.send(is_taken && flushed.is_ok());
        }
    }
}
