//! The connection to a collector, and the loop that sends.

use std::{path::Path, time::Duration};

use tokio::sync::{Mutex, mpsc};
use tonic::Code;
use troupe_api::spans::{Endpoint, Fate, Span};
use troupe_unix_grpc::{Service, words};

use super::{
    proto::{EXPORT, ExportResponse},
    request::request,
};

/// Spans that are sent together, as many as OpenTelemetry's own libraries send.
const BATCH: usize = 512;
/// How long the first span of a batch waits for others.
const WAIT: Duration = Duration::from_secs(1);
/// How long one request may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// Seconds between attempts to send the same spans; after the last of them they are dropped.
const PAUSES: [u64; 6] = [1, 2, 4, 8, 16, 30];

/// Sends the spans of one queue.
pub struct Exporter {
    service: Service,
    component: &'static str,
    resource: Vec<(&'static str, String)>,
}

impl Exporter {
    /// An exporter of a component's spans to a collector, which is connected to when there is something to send. `resource` are attributes of
    /// whoever makes the spans, beside its name. Must be called within a tokio runtime.
    ///
    /// # Errors
    /// When the endpoint is no address.
    pub fn new(endpoint: &Endpoint, component: &'static str, resource: Vec<(&'static str, String)>) -> Result<Self, String> {
        let service = match endpoint {
            Endpoint::Tcp(name) => {
                let channel = tonic::transport::Endpoint::from_shared(format!("http://{name}")).map_err(|error| format!("{name:?}: {error}"))?;
                Service::over(channel.connect_timeout(PATIENCE).connect_lazy(), PATIENCE)
            }
            Endpoint::Unix(path) => Service::new(Path::new(path), PATIENCE),
            Endpoint::Abstract(name) => Service::new(Path::new(&format!("\0{name}")), PATIENCE),
        };
        Ok(Exporter { service, component, resource })
    }

    /// Sends what comes until nobody makes spans any more. What was taken from the queue and is not sent yet is lost when this is dropped.
    pub async fn run(&self, spans: &Mutex<mpsc::Receiver<Span>>) {
        let mut spans = spans.lock().await;
        let mut is_failing = false;
        while let Some(batch) = next_batch(&mut spans).await {
            self.deliver(batch, &mut is_failing).await;
        }
    }

    /// Sends a batch, again and again for a while. What it is told of only when it begins or ends is whether the collector takes them.
    async fn deliver(&self, batch: Vec<Span>, is_failing: &mut bool) {
        let count = batch.len();
        let request = request(batch, &self.resource);
        for attempt in 0.. {
            let status = match self.service.ask::<_, ExportResponse>(EXPORT, request.clone()).await {
                Ok(answer) => return self.taken(count, &answer, is_failing),
                Err(status) => status,
            };
            if !std::mem::replace(is_failing, true) {
                tracing::warn!(component = self.component, error = words(&status), "spans are not taken, will retry");
            }
            let Some(pause) = pause(attempt, status.code()) else { break };
            // Those that waited for the same collector come back one after the other.
            tokio::time::sleep(pause.mul_f64(rand::random_range(0.8..1.2))).await;
        }
        Fate::Failed.count(self.component, count);
    }

    fn taken(&self, count: usize, answer: &ExportResponse, is_failing: &mut bool) {
        if std::mem::replace(is_failing, false) {
            tracing::info!(component = self.component, "spans are taken again");
        }
        let rejected = answer.partial_success.as_ref().map_or(0, |partly| usize::try_from(partly.rejected_spans).unwrap_or(0).min(count));
        if let Some(partly) = answer.partial_success.as_ref().filter(|_| rejected > 0) {
            tracing::debug!(component = self.component, rejected, why = partly.error_message, "the collector did not take some spans");
            Fate::Failed.count(self.component, rejected);
        }
        Fate::Sent.count(self.component, count - rejected);
    }
}

/// The spans that are sent together next, `None` when there will be none.
async fn next_batch(spans: &mut mpsc::Receiver<Span>) -> Option<Vec<Span>> {
    let mut batch = vec![spans.recv().await?];
    let full = async {
        while batch.len() < BATCH {
            let Some(span) = spans.recv().await else { return };
            batch.push(span);
        }
    };
    // After that time it is sent as it is.
    let _ = tokio::time::timeout(WAIT, full).await;
    Some(batch)
}

/// How long to wait before the next attempt, `None` where there is none: of what the OTLP specification calls retryable there are some.
fn pause(attempt: usize, code: Code) -> Option<Duration> {
    let may_pass = matches!(
        code,
        Code::Cancelled | Code::DeadlineExceeded | Code::ResourceExhausted | Code::Aborted | Code::OutOfRange | Code::Unavailable | Code::DataLoss
    );
    PAUSES.get(attempt).filter(|_| may_pass).map(|seconds| Duration::from_secs(*seconds))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn spans_wait_a_moment_for_others_and_full_batches_for_none() {
        let (sender, mut spans) = mpsc::channel(2 * BATCH);
        for _ in 0..BATCH + 1 {
            sender.try_send(Span::default()).expect("there is room");
        }
        let begun = tokio::time::Instant::now();
        assert_eq!(next_batch(&mut spans).await.map(|batch| batch.len()), Some(BATCH));
        assert_eq!(begun.elapsed(), Duration::ZERO);
        assert_eq!(next_batch(&mut spans).await.map(|batch| batch.len()), Some(1));
        assert!((WAIT..2 * WAIT).contains(&begun.elapsed()), "{:?}", begun.elapsed());
        drop(sender);
        assert_eq!(next_batch(&mut spans).await, None);
    }

    #[test]
    fn what_may_pass_is_tried_again_for_about_a_minute() {
        let whole: Duration = (0..).map_while(|attempt| pause(attempt, Code::Unavailable)).sum();
        assert_eq!(whole, Duration::from_secs(61));
        assert_eq!(pause(0, Code::Unimplemented), None);
        assert_eq!(pause(0, Code::InvalidArgument), None);
    }
}
