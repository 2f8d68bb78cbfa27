//! Counts and times what the API server asks of its store, under the names upstream uses for etcd.

use std::{
    collections::HashMap,
    sync::{Arc, OnceLock},
    time::{Duration, Instant},
};

use async_trait::async_trait;
use bytes::Bytes;
use tokio::sync::mpsc;
use troupe_api::{
    meta::Revision,
    metrics::{Collect, Counter, Family, Histogram, REQUEST_SECONDS},
    resources::Resource,
};

use super::{KeyValue, RangeReply, RangeRequest, Store, StoreError, WatchMessage, keys};

const LABELS: [&str; 3] = ["operation", "group", "resource"];

static DURATIONS: Family<Histogram> = Family::histogram(
    "etcd_request_duration_seconds",
    "Etcd request latency in seconds for each operation and object type.",
    &LABELS,
    &REQUEST_SECONDS,
);
static ERRORS: Family<Counter> = Family::new("etcd_request_errors_total", "Etcd failed request counts for each operation and object type.", &LABELS);
static REQUESTS: Family<Counter> = Family::new("etcd_requests_total", "Etcd request counts for each operation and object type.", &LABELS);

/// What is counted of the store.
pub static COLLECTORS: [&dyn Collect; 3] = [&DURATIONS, &ERRORS, &REQUESTS];

/// The operations, in the order of [`Counts`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Operation {
    Get,
    List,
    Create,
    Update,
    Delete,
}

const OPERATIONS: [&str; 5] = ["get", "list", "create", "update", "delete"];

#[derive(Clone, Copy, Debug)]
struct Count {
    requests: &'static Counter,
    errors: &'static Counter,
    duration: &'static Histogram,
}

/// The series of one resource, made when they are first needed: most resources are never written.
struct Counts {
    group: Arc<str>,
    resource: Arc<str>,
    each: [OnceLock<Count>; 5],
}

impl Counts {
    fn new(group: Arc<str>, resource: Arc<str>) -> Self {
        Counts { group, resource, each: Default::default() }
    }

    fn of(&self, operation: Operation) -> Count {
        let at = operation as usize;
        *self.each[at].get_or_init(|| {
            let labels = [OPERATIONS[at], &self.group, &self.resource];
            Count { requests: REQUESTS.with(&labels), errors: ERRORS.with(&labels), duration: DURATIONS.with(&labels) }
        })
    }
}

/// A store whose operations are counted by resource.
pub struct MeteredStore {
    inner: Arc<dyn Store>,
    by_prefix: HashMap<Arc<str>, Counts>,
    /// Keys of no resource in the table, such as those of resources defined later.
    others: Counts,
}

impl MeteredStore {
    pub fn new(inner: Arc<dyn Store>, resources: &[Arc<Resource>]) -> Self {
        let by_prefix = resources.iter().map(|row| (row.storage_prefix.clone(), Counts::new(row.group.clone(), row.plural.clone()))).collect();
        MeteredStore { inner, by_prefix, others: Counts::new("".into(), "".into()) }
    }

    fn count(&self, key: &[u8], operation: Operation) -> Count {
        let known = |prefix: &str| self.by_prefix.get(prefix);
        keys::prefix_of(key, known).unwrap_or(&self.others).of(operation)
    }
}

async fn observed<T>(count: Count, work: impl Future<Output = Result<T, StoreError>>) -> Result<T, StoreError> {
    let began = Instant::now();
    let outcome = work.await;
    count.requests.increment();
    count.duration.observe_time(began.elapsed());
    // A compare that fails is an answer.
    if outcome.as_ref().is_err_and(|error| !matches!(error, StoreError::Conflict { .. })) {
        count.errors.increment();
    }
    outcome
}

#[async_trait]
impl Store for MeteredStore {
    async fn create(&self, key: Bytes, value: Bytes, ttl: Option<Duration>) -> Result<Revision, StoreError> {
        observed(self.count(&key, Operation::Create), self.inner.create(key, value, ttl)).await
    }

    async fn update(&self, key: Bytes, value: Bytes, expected: Revision, ttl: Option<Duration>) -> Result<Revision, StoreError> {
        observed(self.count(&key, Operation::Update), self.inner.update(key, value, expected, ttl)).await
    }

    async fn delete(&self, key: Bytes, expected: Revision) -> Result<Revision, StoreError> {
        observed(self.count(&key, Operation::Delete), self.inner.delete(key, expected)).await
    }

    async fn get(&self, key: &[u8], at: Option<Revision>) -> Result<(Option<KeyValue>, Revision), StoreError> {
        observed(self.count(key, Operation::Get), self.inner.get(key, at)).await
    }

    async fn range(&self, request: RangeRequest) -> Result<RangeReply, StoreError> {
        observed(self.count(&request.start, Operation::List), self.inner.range(request)).await
    }

    async fn watch(&self, prefix: Bytes, from: Revision) -> Result<mpsc::Receiver<WatchMessage>, StoreError> {
        self.inner.watch(prefix, from).await
    }

    async fn current_revision(&self) -> Result<Revision, StoreError> {
        self.inner.current_revision().await
    }

    async fn compact(&self, revision: Revision) -> Result<(), StoreError> {
        self.inner.compact(revision).await
    }

    async fn is_stale(&self, key: &[u8]) -> Result<bool, StoreError> {
        self.inner.is_stale(key).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::memory::MemoryStore;
    use troupe_api::metrics::{parse::Samples, render};

    #[tokio::test]
    async fn operations_count_under_the_resource_of_their_key() {
        let store = MeteredStore::new(Arc::new(MemoryStore::new()), &troupe_api::resources::builtin());
        let key = Bytes::from_static(b"/registry/services/specs/default/web");
        let revision = store.create(key.clone(), Bytes::from_static(b"{}"), None).await.expect("creates");
        store.create(key.clone(), Bytes::from_static(b"{}"), None).await.expect_err("exists");
        store.get(&key, None).await.expect("reads");
        store.delete(key, revision).await.expect("deletes");
        let start = keys::resource("services/specs");
        store.range(RangeRequest { end: crate::store::prefix_end(&start), start, limit: 0, at: None }).await.expect("ranges");
        let text = render(&COLLECTORS);
        let samples = Samples::parse(std::str::from_utf8(&text).expect("text")).expect("parses");
        let count = |operation| samples.value("etcd_requests_total", &[("operation", operation), ("group", ""), ("resource", "services")]);
        assert_eq!([count("create"), count("get"), count("delete"), count("list")], [Some(2.0), Some(1.0), Some(1.0), Some(1.0)]);
        let failed = samples.value("etcd_request_errors_total", &[("operation", "create"), ("resource", "services")]);
        assert_eq!(failed, Some(0.0), "a lost race is no error of the store");
        let timed = samples.value("etcd_request_duration_seconds_count", &[("operation", "get"), ("resource", "services")]);
        assert_eq!(timed, Some(1.0));
    }
}
