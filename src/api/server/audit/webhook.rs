//! Events for a webhook (`audit.k8s.io/v1` EventList): in batches, for which requests never wait, so that what it is too slow for is dropped, and
//! counted; or each for itself, which its request waits for (mode `blocking`). The log file may have batches, too.

use std::{io, sync::Arc, thread, time::Duration};

use bytes::{BufMut, Bytes, BytesMut};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, mpsc},
    time::Instant,
};
use troupe_api::{
    meta::Clock,
    metrics::{Collect, Counter, Family},
};

use super::{Event, LogFile};
use crate::webhook_client::Endpoint;

/// Bytes of events that wait or are being sent.
const HELD: usize = 32 << 20;
/// Bytes that are sent together.
const LONGEST_BATCH: usize = 10 << 20;
/// Bytes of an event that is sent with its bodies.
const LONGEST_EVENT: usize = LONGEST_BATCH;
const PATIENCE: Duration = Duration::from_secs(30);
/// How long the end waits for what is not sent yet.
const LAST: Duration = Duration::from_secs(4);
const LONGEST_ANSWER: usize = 64 << 10;

pub(super) static EVENTS: Family<Counter> =
    Family::new("apiserver_audit_event_total", "Counter of audit events generated and sent to the audit backend.", &[]);
static ERRORS: Family<Counter> = Family::new(
    "apiserver_audit_error_total",
    "Counter of audit events that failed to be audited properly. Plugin identifies the plugin affected by the error.",
    &["plugin"],
);

/// What is counted of events that are sent.
pub static COLLECTORS: [&dyn Collect; 2] = [&EVENTS, &ERRORS];

/// How batches are made and sent. The default is upstream's.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct BatchOptions {
    /// Events that may wait.
    pub buffer: usize,
    /// Events that are sent together.
    pub size: usize,
    /// How long the first of them waits for others.
    pub wait: Duration,
    pub throttle: Option<Throttle>,
}

impl Default for BatchOptions {
    fn default() -> Self {
        BatchOptions { buffer: 10_000, size: 400, wait: Duration::from_secs(30), throttle: Some(Throttle { per_second: 10.0, burst: 15 }) }
    }
}

impl BatchOptions {
    /// Those of a log file, which are upstream's too: each event for itself, at once.
    pub fn of_file() -> Self {
        BatchOptions { size: 1, wait: Duration::ZERO, throttle: None, ..BatchOptions::default() }
    }
}

/// How many batches are sent.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Throttle {
    pub per_second: f64,
    /// At once, after a pause.
    pub burst: u32,
}

/// What is left of a throttle's burst.
struct Bucket {
    throttle: Throttle,
    left: f64,
    at: Instant,
}

impl Bucket {
    fn new(throttle: Throttle, now: Instant) -> Self {
        Bucket { throttle, left: f64::from(throttle.burst), at: now }
    }

    /// Takes a batch's place; how long to wait for it.
    fn take(&mut self, now: Instant) -> Duration {
        let Throttle { per_second, burst } = self.throttle;
        let gained = now.saturating_duration_since(self.at).as_secs_f64() * per_second;
        (self.left, self.at) = ((self.left + gained).min(f64::from(burst)) - 1.0, now);
        if self.left >= 0.0 { Duration::ZERO } else { Duration::try_from_secs_f64(-self.left / per_second).unwrap_or(Duration::MAX) }
    }
}

/// The JSON of an event with its share of what may be held.
type Queued = (Bytes, OwnedSemaphorePermit);

/// Where batches go.
enum Destination {
    Webhook(Endpoint),
    File(LogFile, Arc<dyn Clock>),
}

impl Destination {
    /// What it is called where its failures are counted.
    fn plugin(&self) -> &'static str {
        match self {
            Destination::Webhook(_) => "webhook",
            Destination::File(..) => "log",
        }
    }

    async fn take(&mut self, batch: Vec<Bytes>) -> Result<(), String> {
        match self {
            Destination::Webhook(endpoint) => endpoint.post(list(batch), PATIENCE, LONGEST_ANSWER).await.map(drop),
            Destination::File(file, clock) => {
                let written = batch.iter().try_for_each(|line| file.append(line, clock.now())).and_then(|()| file.flush());
                written.map_err(|error| error.to_string())
            }
        }
    }
}

/// Takes events for a webhook or file, to which a thread of its own brings them.
pub struct Batches {
    queue: Option<mpsc::Sender<Queued>>,
    /// What may still be held.
    room: Arc<Semaphore>,
    /// Closed when all is sent.
    sent: std::sync::mpsc::Receiver<()>,
}

impl Batches {
    /// # Errors
    /// When there is no thread to be had.
    pub fn for_webhook(endpoint: Endpoint, options: BatchOptions) -> io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let endpoint = endpoint.driven_by(runtime.handle().clone());
        Batches::start(Destination::Webhook(endpoint), runtime, options)
    }

    /// # Errors
    /// When there is no thread to be had.
    pub fn for_file(file: LogFile, clock: Arc<dyn Clock>, options: BatchOptions) -> io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build()?;
        Batches::start(Destination::File(file, clock), runtime, options)
    }

    fn start(destination: Destination, runtime: tokio::runtime::Runtime, options: BatchOptions) -> io::Result<Self> {
        let (queue, events) = mpsc::channel(options.buffer.max(1));
        let (sending, sent) = std::sync::mpsc::channel();
        thread::Builder::new().name("audit-batches".into()).spawn(move || {
            runtime.block_on(send_all(destination, events, options));
            drop::<std::sync::mpsc::Sender<()>>(sending);
        })?;
        Ok(Batches { queue: Some(queue), room: Arc::new(Semaphore::new(HELD)), sent })
    }

    /// Takes the JSON of an event, unless too many wait or they are too long together.
    pub fn take(&self, event: Bytes) {
        let Some(queue) = &self.queue else { return };
        let share = u32::try_from(event.len()).unwrap_or(u32::MAX);
        let room = self.room.clone().try_acquire_many_owned(share);
        let taken = room.is_ok_and(|held| queue.try_send((event, held)).is_ok());
        if !taken {
            ERRORS.with(&["buffered"]).increment();
            tracing::warn!("audit buffer queue blocked: an event is dropped");
        }
    }
}

/// What waits is sent first, if that is soon done.
impl Drop for Batches {
    fn drop(&mut self) {
        self.queue = None;
        // Nothing is ever sent through it: this ends with the thread, or after a while.
        let _ = self.sent.recv_timeout(LAST);
    }
}

async fn send_all(mut destination: Destination, mut events: mpsc::Receiver<Queued>, options: BatchOptions) {
    let mut bucket = options.throttle.map(|throttle| Bucket::new(throttle, Instant::now()));
    while let Some(first) = events.recv().await {
        let (batch, held) = collect(first, &mut events, options).await;
        if let Some(bucket) = &mut bucket {
            tokio::time::sleep(bucket.take(Instant::now())).await;
        }
        let count = batch.len() as u64;
        let answer = destination.take(batch).await;
        // What is under way counts, too.
        drop(held);
        if let Err(error) = answer {
            let plugin = destination.plugin();
            ERRORS.with(&[plugin]).add(count);
            tracing::error!(error, events = count, plugin, "cannot bring audit events where they go");
        }
    }
}

/// The JSON of an event as it is sent: without its bodies where they are too long.
pub(super) fn sent_line(event: &Event, line: Vec<u8>) -> Vec<u8> {
    if line.len() > LONGEST_EVENT { event.truncated().line() } else { line }
}

/// Sends the JSON of one event and waits until the webhook has it. That it does not is counted.
pub(super) async fn send_one(endpoint: &Endpoint, audit_id: &str, line: Vec<u8>) -> bool {
    let answer = endpoint.post(list(vec![line.into()]), PATIENCE, LONGEST_ANSWER).await;
    if let Err(error) = &answer {
        ERRORS.with(&["webhook"]).increment();
        tracing::error!(error, audit_id, "cannot send an audit event to the webhook");
    }
    answer.is_ok()
}

/// The first event with those that come soon, and what they hold together.
async fn collect((first, mut held): Queued, events: &mut mpsc::Receiver<Queued>, options: BatchOptions) -> (Vec<Bytes>, OwnedSemaphorePermit) {
    let (ends, mut size) = (Instant::now() + options.wait, first.len());
    let mut batch = vec![first];
    while batch.len() < options.size && size < LONGEST_BATCH {
        match tokio::time::timeout_at(ends, events.recv()).await {
            Ok(Some((event, share))) => {
                size += event.len();
                held.merge(share);
                batch.push(event);
            }
            Ok(None) | Err(_) => break,
        }
    }
    (batch, held)
}

/// The events in one body; each is let go when it is in there.
fn list(batch: Vec<Bytes>) -> Bytes {
    let mut list = BytesMut::with_capacity(batch.iter().map(|event| event.len() + 1).sum::<usize>() + 100);
    list.put_slice(br#"{"kind":"EventList","apiVersion":"audit.k8s.io/v1","metadata":{},"items":["#);
    for (index, event) in batch.into_iter().enumerate() {
        if index > 0 {
            list.put_u8(b',');
        }
        list.put_slice(event.trim_ascii());
    }
    list.put_slice(b"]}");
    list.freeze()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::webhook_client::testing::Server;

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn what_waits_is_sent_before_the_end() {
        let server = Server::serve(|_, _| (200, String::new())).await;
        let endpoint = Endpoint::of_kubeconfig(&server.kubeconfig).expect("works");
        let webhook = Batches::for_webhook(endpoint, BatchOptions::default()).expect("starts");
        webhook.take(Bytes::from_static(b"{\"auditID\":\"last\"}"));
        tokio::task::spawn_blocking(move || drop(webhook)).await.expect("ends");
        assert_eq!(server.asked()[0].1["items"][0]["auditID"], "last");
    }

    #[tokio::test]
    async fn events_are_sent_together() {
        let server = Server::serve(|_, _| (200, String::new())).await;
        let endpoint = Endpoint::of_kubeconfig(&server.kubeconfig).expect("works");
        let options = BatchOptions { wait: Duration::from_millis(200), ..BatchOptions::default() };
        let webhook = Batches::for_webhook(endpoint, options).expect("starts");
        for id in ["a", "b"] {
            webhook.take(format!("{{\"auditID\":\"{id}\"}}\n").into());
        }
        while server.asked().is_empty() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let sent = &server.asked()[0].1;
        assert_eq!((&sent["kind"], &sent["apiVersion"]), (&"EventList".into(), &"audit.k8s.io/v1".into()));
        assert_eq!(sent["items"], serde_json::json!([{"auditID": "a"}, {"auditID": "b"}]));
    }

    #[tokio::test]
    async fn batches_are_as_large_as_is_said_and_paced() {
        let server = Server::serve(|_, _| (200, String::new())).await;
        let endpoint = Endpoint::of_kubeconfig(&server.kubeconfig).expect("works");
        let throttle = Some(Throttle { per_second: 1000.0, burst: 1 });
        let webhook = Batches::for_webhook(endpoint, BatchOptions { size: 2, wait: Duration::ZERO, throttle, ..BatchOptions::default() });
        let webhook = webhook.expect("starts");
        (0..5).for_each(|_| webhook.take(Bytes::from_static(b"{}")));
        tokio::task::spawn_blocking(move || drop(webhook)).await.expect("ends");
        let sizes = server.asked().iter().map(|(_, list)| list["items"].as_array().map_or(0, Vec::len)).collect::<Vec<_>>();
        assert!(sizes.iter().all(|size| (1..=2).contains(size)) && sizes.iter().sum::<usize>() == 5, "{sizes:?}");
    }

    #[tokio::test]
    async fn a_file_has_what_was_taken_in_order() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("audit.log");
        let file = LogFile::open(crate::audit::LogOptions { path: path.clone(), ..Default::default() }).expect("opens");
        let batches = Batches::for_file(file, Arc::new(troupe_api::meta::SystemClock), BatchOptions::of_file()).expect("starts");
        for line in ["{\"a\":1}\n", "{\"a\":2}\n"] {
            batches.take(Bytes::from_static(line.as_bytes()));
        }
        tokio::task::spawn_blocking(move || drop(batches)).await.expect("ends");
        assert_eq!(std::fs::read_to_string(&path).expect("reads"), "{\"a\":1}\n{\"a\":2}\n");
    }

    #[test]
    fn a_throttle_lets_a_burst_through_and_then_so_many_a_second() {
        let start = Instant::now();
        let mut bucket = Bucket::new(Throttle { per_second: 10.0, burst: 2 }, start);
        let mut wait = |after: u64| bucket.take(start + Duration::from_millis(after)).as_millis();
        assert_eq!([wait(0), wait(0), wait(0), wait(0)], [0, 0, 100, 200]);
        assert_eq!((wait(10_000), wait(10_000), wait(10_000)), (0, 0, 100), "no more than a burst is saved up");
    }

    #[tokio::test]
    async fn what_a_webhook_is_too_slow_for_is_counted_and_keeps_nobody_waiting() {
        let (webhook, _events) = stuck(1);
        let before = dropped();
        for _ in 0..3 {
            webhook.take(Bytes::from_static(b"{}"));
        }
        assert!(dropped() >= before + 2);
    }

    #[tokio::test]
    async fn events_are_held_by_their_length_until_they_are_sent() {
        let (webhook, mut events) = stuck(10_000);
        let take = |times: usize| (0..times).for_each(|_| webhook.take(Bytes::from(vec![b'x'; 1 << 20])));
        let before = dropped();
        take(100);
        assert!(dropped() >= before + 68);
        assert_eq!(events.len(), 32);
        let first = events.recv().await.expect("waits");
        let (batch, held) = collect(first, &mut events, BatchOptions::default()).await;
        assert_eq!((batch.len(), held.num_permits()), (10, 10 << 20));
        drop(list(batch));
        take(1);
        assert_eq!(events.len(), 22, "what is under way still counts");
        drop(held);
        take(20);
        assert_eq!(events.len(), 32);
    }

    fn dropped() -> u64 {
        ERRORS.with(&["buffered"]).get()
    }

    /// A webhook that nothing is sent to.
    fn stuck(buffer: usize) -> (Batches, mpsc::Receiver<Queued>) {
        let (queue, events) = mpsc::channel(buffer);
        (Batches { queue: Some(queue), room: Arc::new(Semaphore::new(HELD)), sent: std::sync::mpsc::channel().1 }, events)
    }
}
