//! The store on an etcd cluster, version 3.4 or newer.
//!
//! Writes are transactions that compare a key's mod revision (`txn`). Reads are linearizable; the revision is read for
//! many callers at once (`shared_read`). Watches go on over reconnects without gap or repeat (`watch`, `assemble`).
//! `members` finds a member that answers, `fault` tells what an error means for the operation, `leases` expires values.
//! The connections live on a thread of their own, so no busy caller delays them.

mod assemble;
mod fault;
mod leases;
mod members;
mod restore;
mod shared_read;
pub mod testing;
#[cfg(test)]
mod tests;
mod txn;
mod watch;

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use etcd_client::{CompactionOptions, GetOptions, GetResponse, Txn};
use tokio::{runtime::Runtime, sync::mpsc};
use troupe_api::{auth::pki::KeyedCertificate, meta::Revision};

use self::{
    fault::Fault,
    leases::Leases,
    members::{Member, Members, PATIENT, QUICK, read_error, write_error},
    shared_read::SharedRead,
    txn::{key_value, revision, signed},
};
pub use super::open_errors::{ConnectError, ETCD_FORMAT as FORMAT};
use super::{KeyValue, RangeReply, RangeRequest, Store, StoreError, WatchMessage, range_bounds, size};

/// Holds the format's number where it is newer than 1. Outside of the API's keys, so nobody lists it.
const FORMAT_KEY: &str = "/troupe/format";
/// Keys read at once; more come in pages.
const PAGE: usize = 500;
/// Electing a leader takes a second or two, starting a member again a little longer; clients wait half a minute and more.
const PATIENCE: Duration = Duration::from_secs(10);
/// How often the current member must be heard of.
const PROBE: Duration = Duration::from_secs(1);

/// How often the current member is asked for the size of its database.
const MEASURE: Duration = Duration::from_secs(10);

/// How the cluster is reached.
#[derive(Clone, Debug)]
pub struct EtcdOptions {
    /// The members' client URLs, `https://host:2379`; any of them is enough at a time.
    pub servers: Vec<String>,
    /// Needed for `https` URLs.
    pub tls: Option<EtcdTls>,
    /// How long an operation looks for a member that answers.
    pub patience: Duration,
}

impl EtcdOptions {
    pub fn new(servers: Vec<String>) -> Self {
        EtcdOptions { servers, tls: None, patience: PATIENCE }
    }
}

/// Whom to trust, and who we are.
#[derive(Clone)]
pub struct EtcdTls {
    /// PEM of the CA that signs the members' certificates.
    pub ca_pem: String,
    /// What members are shown that ask for client certificates.
    pub identity: Option<KeyedCertificate>,
}

impl fmt::Debug for EtcdTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EtcdTls").field("identity", &self.identity.is_some()).finish_non_exhaustive()
    }
}

/// A store in an etcd cluster.
pub struct EtcdStore {
    members: Arc<Members>,
    shared_read: Arc<SharedRead>,
    leases: Leases,
    /// The newest revision known to be compacted.
    compacted: AtomicU64,
    /// Taken when dropped.
    runtime: Option<Runtime>,
}

impl Drop for EtcdStore {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            // Dropping it would wait, which an async caller must not.
            runtime.shutdown_background();
        }
    }
}

impl EtcdStore {
    /// Connects and checks that what lies there is ours to read.
    ///
    /// # Errors
    /// When no member answers in time, or a newer version wrote the data.
    pub async fn connect(options: EtcdOptions) -> Result<Self, ConnectError> {
        let servers = options.servers.join(", ");
        let store = EtcdStore::open(options).await?;
        match store.is_marked(restore::RESTORING_KEY).await {
            Ok(false) => Ok(store),
            Ok(true) => Err(ConnectError::Interrupted),
            Err(source) => Err(ConnectError::Silent { servers, source }),
        }
    }

    /// Connects, also to a cluster that is half restored.
    async fn open(options: EtcdOptions) -> Result<Self, ConnectError> {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).thread_name("etcd").enable_all().build();
        let runtime = runtime.map_err(ConnectError::Thread)?;
        let handle = runtime.handle().clone();
        let servers = options.servers.join(", ");
        let made = handle.spawn(async move { Members::new(&options).await }).await;
        let members = Arc::new(made.map_err(|error| ConnectError::Thread(error.into()))?.map_err(ConnectError::Options)?);
        let read_by = members.clone();
        let shared_read = SharedRead::new(handle.clone(), move || {
            let members = read_by.clone();
            Box::pin(async move { newest(&members).await })
        });
        let store = EtcdStore { members, shared_read, leases: Leases::default(), compacted: AtomicU64::new(0), runtime: Some(runtime) };
        store.check_format(&servers).await?;
        handle.spawn(probe(store.members.clone()));
        handle.spawn(measure(store.members.clone()));
        Ok(store)
    }

    async fn check_format(&self, servers: &str) -> Result<(), ConnectError> {
        let reply = get(&self.members, QUICK, FORMAT_KEY.into(), GetOptions::new()).await;
        let reply = reply.map_err(|fault| ConnectError::Silent { servers: servers.to_owned(), source: read_error(fault) })?;
        let Some(mark) = reply.kvs().first() else { return Ok(()) };
        let found = String::from_utf8_lossy(mark.value()).into_owned();
        match found.trim().parse::<u32>() {
            Ok(format) if format <= FORMAT => Ok(()),
            _ => Err(ConnectError::NewerFormat { found }),
        }
    }

    async fn put(&self, key: Bytes, value: Bytes, expected: Revision, ttl: Option<Duration>) -> Result<Revision, StoreError> {
        let Some(ttl) = ttl else { return self.commit(txn::put(&key, &value, expected, 0)).await.map_err(write_error)? };
        loop {
            let lease = self.leases.take(&self.members, ttl).await.map_err(read_error)?;
            match self.commit(txn::put(&key, &value, expected, lease)).await {
                // Revoked, or lost with a restored cluster: the next one is new.
                Err(Fault::NoLease) => self.leases.forget(lease).await,
                decided => return decided.map_err(write_error)?,
            }
        }
    }

    async fn commit(&self, txn: Txn) -> Result<Result<Revision, StoreError>, Fault> {
        let response = self.members.write(|member| {
            let (mut kv, txn) = (member.kv.clone(), txn.clone());
            async move { kv.txn(txn).await }
        });
        Ok(txn::outcome(response.await?))
    }

    /// A range, page by page; all are read at the revision of the first.
    async fn pages(&self, request: &RangeRequest) -> Result<RangeReply, StoreError> {
        let mut reply = RangeReply::default();
        let (mut start, mut at) = (request.start.clone(), request.at);
        loop {
            let page = if request.limit == 0 { PAGE } else { PAGE.min(request.limit - reply.items.len()) };
            let limit = i64::try_from(page).unwrap_or(i64::MAX);
            let options = GetOptions::new().with_range(&*request.end).with_limit(limit).with_revision(at.map_or(0, signed));
            let found = get(&self.members, PATIENT, start, options).await.map_err(|fault| self.at_revision(fault, at))?;
            if reply.items.is_empty() {
                reply.count = u64::try_from(found.count()).unwrap_or(0);
                reply.revision = at.unwrap_or_else(|| header_revision(&found));
            }
            at = Some(reply.revision);
            reply.more = found.more();
            reply.items.extend(found.0.kvs.into_iter().map(key_value));
            let enough = request.limit > 0 && reply.items.len() >= request.limit;
            let Some(last) = reply.items.last().filter(|_| reply.more && !enough) else { return Ok(reply) };
            start = [&*last.key, &[0]].concat().into();
        }
    }

    /// A read's failure, for who asked at a revision.
    fn at_revision(&self, fault: Fault, at: Option<Revision>) -> StoreError {
        match (fault, at) {
            (Fault::Compacted, Some(requested)) => {
                let compacted = Revision(self.compacted.load(Ordering::Relaxed)).max(requested.next());
                StoreError::Compacted { requested, compacted }
            }
            (Fault::Future, Some(at)) => StoreError::FutureRevision(at),
            (fault, _) => read_error(fault),
        }
    }

    fn runtime(&self) -> &tokio::runtime::Handle {
        self.runtime.as_ref().expect("taken only when dropped").handle()
    }
}

/// Reads keys at one member after the other until one answers.
async fn get(members: &Members, attempt: Duration, key: Bytes, options: GetOptions) -> Result<GetResponse, Fault> {
    let call = |member: &Member| {
        let (mut kv, key, options) = (member.kv.clone(), key.clone(), options.clone());
        async move { kv.get(&*key, Some(options)).await }
    };
    members.read(attempt, call).await
}

/// The cluster's revision by a quorum read of a key that need not exist.
async fn newest(members: &Members) -> Result<Revision, StoreError> {
    let reply = get(members, QUICK, FORMAT_KEY.into(), GetOptions::new().with_keys_only()).await.map_err(read_error)?;
    Ok(header_revision(&reply))
}

fn header_revision(reply: &GetResponse) -> Revision {
    reply.header().map_or(Revision::ZERO, |header| revision(header.revision()))
}

/// Finds out, while nobody asks, whether the current member answers, so that watches do not hang on one that does not.
async fn probe(members: Arc<Members>) {
    loop {
        tokio::time::sleep(PROBE).await;
        if members.silence() >= PROBE
            && let Err(error) = newest(&members).await
        {
            tracing::warn!(%error, "etcd does not answer, will retry");
        }
    }
}

/// Tells metrics how large the current member's database is.
async fn measure(members: Arc<Members>) {
    loop {
        let mut maintenance = members.current().1.maintenance.clone();
        match tokio::time::timeout(QUICK, maintenance.status()).await {
            Ok(Ok(status)) => size::takes(size::CLUSTER, u64::try_from(status.db_size()).unwrap_or(0)),
            // The prober says so, and finds another one.
            Ok(Err(error)) => tracing::debug!(%error, "etcd does not tell how large it is"),
            Err(_) => tracing::debug!("etcd does not tell in time how large it is"),
        }
        tokio::time::sleep(MEASURE).await;
    }
}

#[async_trait]
impl Store for EtcdStore {
    async fn create(&self, key: Bytes, value: Bytes, ttl: Option<Duration>) -> Result<Revision, StoreError> {
        self.put(key, value, Revision::ZERO, ttl).await
    }

    async fn update(&self, key: Bytes, value: Bytes, expected: Revision, ttl: Option<Duration>) -> Result<Revision, StoreError> {
        self.put(key, value, expected, ttl).await
    }

    async fn delete(&self, key: Bytes, expected: Revision) -> Result<Revision, StoreError> {
        self.commit(txn::delete(&key, expected)).await.map_err(write_error)?
    }

    async fn get(&self, key: &[u8], at: Option<Revision>) -> Result<(Option<KeyValue>, Revision), StoreError> {
        let options = GetOptions::new().with_revision(at.map_or(0, signed));
        let reply = get(&self.members, QUICK, Bytes::copy_from_slice(key), options).await.map_err(|fault| self.at_revision(fault, at))?;
        let read_at = at.unwrap_or_else(|| header_revision(&reply));
        Ok((reply.0.kvs.into_iter().next().map(key_value), read_at))
    }

    async fn range(&self, request: RangeRequest) -> Result<RangeReply, StoreError> {
        if range_bounds(&request).is_none() {
            let revision = match request.at {
                Some(at) => at,
                None => self.current_revision().await?,
            };
            return Ok(RangeReply { revision, ..RangeReply::default() });
        }
        loop {
            match self.pages(&request).await {
                // The newest was asked for, and compacted between two pages.
                Err(StoreError::Compacted { .. }) if request.at.is_none() => {}
                decided => return decided,
            }
        }
    }

    async fn watch(&self, prefix: Bytes, from: Revision) -> Result<mpsc::Receiver<WatchMessage>, StoreError> {
        Ok(watch::start(self.runtime(), self.members.clone(), prefix, Revision(from.0.saturating_sub(1))))
    }

    async fn current_revision(&self) -> Result<Revision, StoreError> {
        self.shared_read.ask().await
    }

    async fn compact(&self, revision: Revision) -> Result<(), StoreError> {
        let compacted = self.members.read(QUICK, |member| {
            let mut kv = member.kv.clone();
            async move { kv.compact(signed(revision), None::<CompactionOptions>).await }
        });
        match compacted.await {
            // Compacted that far already, by us or by another server.
            Ok(_) | Err(Fault::Compacted) => {
                self.compacted.fetch_max(revision.0, Ordering::Relaxed);
                Ok(())
            }
            Err(Fault::Future) => Err(StoreError::FutureRevision(revision)),
            Err(fault) => Err(read_error(fault)),
        }
    }
}
