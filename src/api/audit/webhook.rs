//! Events for a webhook, in batches (`audit.k8s.io/v1` EventList). Requests never wait for it: what it is too slow for is dropped, and counted.

use std::{io, thread, time::Duration};

use bytes::{BufMut, Bytes, BytesMut};
use tokio::{sync::mpsc, time::Instant};

use crate::{
    metrics::{Collect, Counter, Family},
    webhook_client::Endpoint,
};

/// Events that may wait, that are sent together, and how long the first of them waits for others: upstream's defaults.
const BUFFER: usize = 10_000;
const BATCH: usize = 400;
const WAIT: Duration = Duration::from_secs(30);
/// Bytes that are sent together.
const LONGEST_BATCH: usize = 10 << 20;
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

/// Takes events for a webhook, which a thread of its own sends.
pub struct AuditWebhook {
    queue: Option<mpsc::Sender<Bytes>>,
    /// Closed when all is sent.
    sent: std::sync::mpsc::Receiver<()>,
}

impl AuditWebhook {
    /// # Errors
    /// When there is no thread to be had.
    pub fn start(endpoint: Endpoint) -> io::Result<Self> {
        Self::waiting(endpoint, WAIT)
    }

    fn waiting(endpoint: Endpoint, wait: Duration) -> io::Result<Self> {
        let (queue, events) = mpsc::channel(BUFFER);
        let (sending, sent) = std::sync::mpsc::channel();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let endpoint = endpoint.driven_by(runtime.handle().clone());
        thread::Builder::new().name("audit-webhook".into()).spawn(move || {
            runtime.block_on(send_all(endpoint, events, wait));
            drop::<std::sync::mpsc::Sender<()>>(sending);
        })?;
        Ok(AuditWebhook { queue: Some(queue), sent })
    }

    /// Takes the JSON of an event, unless too many wait.
    pub fn take(&self, event: Bytes) {
        if self.queue.as_ref().is_some_and(|queue| queue.try_send(event).is_err()) {
            ERRORS.with(&["buffered"]).increment();
            tracing::warn!("audit buffer queue blocked: an event is not sent to the webhook");
        }
    }
}

/// What waits is sent first, if that is soon done.
impl Drop for AuditWebhook {
    fn drop(&mut self) {
        self.queue = None;
        // Nothing is ever sent through it: this ends with the thread, or after a while.
        let _ = self.sent.recv_timeout(LAST);
    }
}

async fn send_all(endpoint: Endpoint, mut events: mpsc::Receiver<Bytes>, wait: Duration) {
    while let Some(first) = events.recv().await {
        let batch = collect(first, &mut events, wait).await;
        let count = batch.len() as u64;
        if let Err(error) = endpoint.post(list(&batch), PATIENCE, LONGEST_ANSWER).await {
            ERRORS.with(&["webhook"]).add(count);
            tracing::error!(error, events = count, "cannot send audit events to the webhook");
        }
    }
}

/// The first event with those that come soon.
async fn collect(first: Bytes, events: &mut mpsc::Receiver<Bytes>, wait: Duration) -> Vec<Bytes> {
    let (ends, mut size) = (Instant::now() + wait, first.len());
    let mut batch = vec![first];
    while batch.len() < BATCH && size < LONGEST_BATCH {
        match tokio::time::timeout_at(ends, events.recv()).await {
            Ok(Some(event)) => {
                size += event.len();
                batch.push(event);
            }
            Ok(None) | Err(_) => break,
        }
    }
    batch
}

fn list(batch: &[Bytes]) -> Bytes {
    let mut list = BytesMut::with_capacity(batch.iter().map(|event| event.len() + 1).sum::<usize>() + 100);
    list.put_slice(br#"{"kind":"EventList","apiVersion":"audit.k8s.io/v1","metadata":{},"items":["#);
    for (index, event) in batch.iter().enumerate() {
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
        let webhook = AuditWebhook::start(Endpoint::of_kubeconfig(&server.kubeconfig).expect("works")).expect("starts");
        webhook.take(Bytes::from_static(b"{\"auditID\":\"last\"}"));
        tokio::task::spawn_blocking(move || drop(webhook)).await.expect("ends");
        assert_eq!(server.asked()[0].1["items"][0]["auditID"], "last");
    }

    #[tokio::test]
    async fn events_are_sent_together() {
        let server = Server::serve(|_, _| (200, String::new())).await;
        let endpoint = Endpoint::of_kubeconfig(&server.kubeconfig).expect("works");
        let webhook = AuditWebhook::waiting(endpoint, Duration::from_millis(200)).expect("starts");
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
    async fn what_a_webhook_is_too_slow_for_is_counted_and_keeps_nobody_waiting() {
        let (queue, _events) = mpsc::channel(1);
        let webhook = AuditWebhook { queue: Some(queue), sent: std::sync::mpsc::channel().1 };
        let dropped = || ERRORS.with(&["buffered"]).get();
        let before = dropped();
        for _ in 0..3 {
            webhook.take(Bytes::from_static(b"{}"));
        }
        assert!(dropped() >= before + 2);
    }
}
