//! Durable puts per second through the embedded store, beside raw appends with fdatasync batched the same way; and through
//! our store on etcd, beside bare puts to etcd.
//!
//! Prints a line per number of writers, what 10,000 stored pods cost in memory, and what is left of a long churn on the disk and in
//! memory. Values are 1 KB, pods 4 KB.

#[allow(dead_code, reason = "shared by benchmarks")]
#[path = "../../../../tests/support/figures.rs"]
mod figures;

use std::{
    fs::File,
    io::Write,
    path::Path,
    sync::{Arc, mpsc},
    time::{Duration, Instant},
};

use arc_swap::ArcSwap;
use bytes::Bytes;
use figures::{Budget, report};
use tokio::{runtime::Runtime, sync::oneshot, task::JoinSet};
use troupe_api::{meta::Revision, resources::builtin};
use troupe_api_server::{
    encryption::{EncryptedStore, EncryptionConfiguration, EncryptionRules},
    store::{
        RangeRequest, Store,
        embedded::{EmbeddedOptions, EmbeddedStore},
        etcd::testing::EtcdCluster,
        prefix_end,
    },
};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const VALUE: usize = 1024;
const MEASURE: Duration = Duration::from_secs(2);
const BATCH: usize = 1024;
/// Where a process of its own does its part of [`churn`], and which part.
const CHURN_DIRECTORY: &str = "TROUPE_BENCH_CHURN_DIRECTORY";
const CHURN_PART: &str = "TROUPE_BENCH_CHURN_PART";
/// Objects that churn leaves, and revisions that it makes.
const LEFT: usize = 700;
const REVISIONS: u64 = 520_000;

fn main() {
    if let (Ok(directory), Ok(part)) = (std::env::var(CHURN_DIRECTORY), std::env::var(CHURN_PART)) {
        return churn_part(Path::new(&directory), &part);
    }
    println!("store");
    // As the daemon does: what is resident should be what is used.
    nix::sys::prctl::set_thp_disable(true).expect("Linux allows");
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime");
    // First, while the allocator has no freed memory to hand out again.
    memory_and_reads(&runtime);
    growth(&runtime);
    churn();
    opening(&runtime);
    for writers in [1, 16, 64] {
        // One after the other, twice: the disk is not the same from one second to the next.
        let rates: Vec<(f64, f64)> = (0..2).map(|_| (raw_appends(&runtime, writers), embedded_puts(&runtime, writers))).collect();
        let sum = |pick: fn(&(f64, f64)) -> f64| rates.iter().map(pick).sum::<f64>();
        let (raw, embedded) = (sum(|rate| rate.0), sum(|rate| rate.1));
        report(&format!("durable puts of 1 KB, embedded, {writers} writers"), embedded / 2.0, "/s", Budget::None);
        let budget = if writers == 64 { Budget::AtLeast(0.5) } else { Budget::None };
        report(&format!("durable puts, {writers} writers / raw fdatasync appends"), embedded / raw, "", budget);
    }
    sealed(&runtime);
    beside_etcd(&runtime);
}

/// Creates of Secrets that are sealed, beside those that are not.
fn sealed(runtime: &Runtime) {
    for provider in ["aescbc", "aesgcm", "secretbox"] {
        let rates: Vec<(f64, f64)> = (0..2).map(|_| (sealed_puts(runtime, None), sealed_puts(runtime, Some(provider)))).collect();
        let sum = |pick: fn(&(f64, f64)) -> f64| rates.iter().map(pick).sum::<f64>();
        let name = format!("durable puts of 1 KB, embedded, 16 writers, sealed with {provider} / in the open");
        report(&name, sum(|rate| rate.1) / sum(|rate| rate.0), "", Budget::AtLeast(0.9));
    }
}

fn sealed_puts(runtime: &Runtime, provider: Option<&str>) -> f64 {
    let dir = directory();
    let store: Arc<dyn Store> = Arc::new(EmbeddedStore::open(dir.path()).expect("opens"));
    let Some(provider) = provider else { return runtime.block_on(creates(store, 16)) };
    let key = "{keys: [{name: k, secret: MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=}]}";
    let resources = format!("[{{resources: [configmaps], providers: [{{{provider}: {key}}}]}}]");
    let text = format!("{{apiVersion: apiserver.config.k8s.io/v1, kind: EncryptionConfiguration, resources: {resources}}}");
    let configuration = EncryptionConfiguration::parse(Path::new("bench"), &text, false).expect("a configuration");
    let rules = Arc::new(ArcSwap::from_pointee(EncryptionRules::new(&configuration).expect("rules")));
    runtime.block_on(creates(Arc::new(EncryptedStore::new(store, rules, &builtin())), 16))
}

/// Creates through our store on etcd, beside bare puts to an etcd of the same kind.
fn beside_etcd(runtime: &Runtime) {
    if std::process::Command::new("etcd").arg("--version").output().is_err() {
        println!("etcd is not installed: nothing to compare with");
        return;
    }
    for clients in [1, 16, 64] {
        let bare = bare_puts(runtime, clients);
        let store = etcd_creates(runtime, clients);
        report(&format!("creates of 1 KB, etcd, {clients} clients"), store, "/s", Budget::None);
        report(&format!("creates, etcd, {clients} clients / bare etcd puts"), store / bare, "", Budget::None);
    }
}

fn bare_puts(runtime: &Runtime, clients: usize) -> f64 {
    let dir = directory();
    let cluster = EtcdCluster::start(dir.path(), 1);
    runtime.block_on(async {
        // Waits until it is up.
        drop(cluster.connect().await);
        let client = cluster.client(0).await;
        let puts = measure(clients, |writer| {
            let client = client.clone();
            move |n| {
                let (mut kv, key) = (client.kv_client(), format!("/registry/configmaps/bench/{writer}-{n}"));
                async move {
                    kv.put(key, vec![b'x'; VALUE], None).await.expect("puts");
                }
            }
        });
        puts.await
    })
}

fn etcd_creates(runtime: &Runtime, clients: usize) -> f64 {
    let dir = directory();
    let cluster = EtcdCluster::start(dir.path(), 1);
    runtime.block_on(async {
        let store = Arc::new(cluster.connect().await);
        creates(store, clients).await
    })
}

fn directory() -> tempfile::TempDir {
    tempfile::tempdir().expect("a directory")
}

/// Writes that wait for their batch's fdatasync, the way the store's callers do.
fn raw_appends(runtime: &Runtime, writers: usize) -> f64 {
    let dir = directory();
    let (sender, receiver) = mpsc::channel::<(Bytes, oneshot::Sender<()>)>();
    let path = dir.path().join("log");
    let appender = std::thread::spawn(move || append_all(&path, &receiver));
    let rate = runtime.block_on(measure(writers, |_| {
        let sender = sender.clone();
        move |_| {
            let (reply, answer) = oneshot::channel();
            sender.send((Bytes::from(vec![b'x'; VALUE]), reply)).expect("the appender runs");
            async move { answer.await.expect("appended") }
        }
    }));
    drop(sender);
    appender.join().expect("the appender ends");
    rate
}

fn append_all(path: &Path, requests: &mpsc::Receiver<(Bytes, oneshot::Sender<()>)>) {
    let mut file = File::create(path).expect("creates");
    while let Ok(first) = requests.recv() {
        let mut batch = vec![first];
        batch.extend(requests.try_iter().take(BATCH - 1));
        let bytes = batch.iter().flat_map(|(value, _)| value.iter().copied()).collect::<Vec<_>>();
        file.write_all(&bytes).expect("writes");
        file.sync_data().expect("syncs");
        for (_, reply) in batch {
            // A caller that has stopped measuring does not wait.
            let _ = reply.send(());
        }
    }
}

fn embedded_puts(runtime: &Runtime, writers: usize) -> f64 {
    let dir = directory();
    let store = Arc::new(EmbeddedStore::open(dir.path()).expect("opens"));
    runtime.block_on(creates(store, writers))
}

async fn creates(store: Arc<dyn Store>, writers: usize) -> f64 {
    let creates = measure(writers, |writer| {
        let store = store.clone();
        move |n| {
            let store = store.clone();
            let key = format!("/registry/configmaps/bench/{writer}-{n}");
            async move {
                store.create(key.into(), vec![b'x'; VALUE].into(), None).await.expect("creates");
            }
        }
    });
    creates.await
}

/// Runs `writers` loops for a while and returns operations per second.
async fn measure<O, F>(writers: usize, operation: impl Fn(usize) -> O) -> f64
where
    O: Fn(u64) -> F + Send + 'static,
    F: Future<Output = ()> + Send,
{
    let begin = Instant::now();
    let mut loops = JoinSet::new();
    for writer in 0..writers {
        let operation = operation(writer);
        loops.spawn(async move {
            let mut done = 0;
            while begin.elapsed() < MEASURE {
                operation(done).await;
                done += 1;
            }
            done
        });
    }
    let total = loops.join_all().await.into_iter().sum::<u64>();
    total as f64 / begin.elapsed().as_secs_f64()
}

fn memory_and_reads(runtime: &Runtime) {
    let dir = directory();
    let before = resident();
    let store = Arc::new(EmbeddedStore::open(dir.path()).expect("opens"));
    runtime.block_on(async {
        let mut creates = JoinSet::new();
        for n in 0..10_000 {
            let store = store.clone();
            creates.spawn(async move { store.create(format!("/registry/pods/bench/pod-{n}").into(), vec![b'x'; 4096].into(), None).await });
        }
        creates.join_all().await.into_iter().collect::<Result<Vec<Revision>, _>>().expect("creates");
        report("store: memory of 10,000 values of 4 KB", (resident() - before) as f64 / 1024.0, " MiB", Budget::None);
        let begin = Instant::now();
        for n in 0..100_000 {
            store.get(format!("/registry/pods/bench/pod-{}", n % 10_000).as_bytes(), None).await.expect("reads");
        }
        report("store: get", begin.elapsed().as_nanos() as f64 / 100_000.0, " ns", Budget::None);
        let prefix = b"/registry/pods/";
        let request = RangeRequest { start: Bytes::from_static(prefix), end: prefix_end(prefix), limit: 0, at: None };
        let begin = Instant::now();
        let reply = store.range(request).await.expect("ranges");
        assert_eq!(reply.count, 10_000);
        report("store: range of 10,000", begin.elapsed().as_secs_f64() * 1000.0, " ms", Budget::None);
    });
    drop(store);
    let begin = Instant::now();
    let store = EmbeddedStore::open(dir.path()).expect("opens");
    report("store: opening it with 10,000 values", begin.elapsed().as_secs_f64() * 1000.0, " ms", Budget::None);
    drop(store);
}

/// What the files hold after many updates of few keys, compacted as they go.
fn growth(runtime: &Runtime) {
    let dir = directory();
    let store = EmbeddedStore::open(dir.path()).expect("opens");
    let written = runtime.block_on(async {
        let mut revisions = [None; 64];
        for round in 0..800_u32 {
            let updates = revisions.iter_mut().enumerate().map(async |(n, revision)| {
                let (key, value) = (Bytes::from(format!("/registry/leases/bench/{n}")), Bytes::from(random_value(4096)));
                let written = match *revision {
                    Some(expected) => store.update(key, value, expected, None).await,
                    None => store.create(key, value, None).await,
                };
                *revision = Some(written.expect("writes"));
            });
            futures::future::join_all(updates).await;
            if round % 20 == 19 {
                store.compact(store.current_revision().await.expect("reads")).await.expect("compacts");
            }
        }
        800 * 64 * 4096
    });
    let what = format!("store: files after {} MiB of updates of 64 keys", written >> 20);
    report(&what, (files(dir.path()) >> 20) as f64, " MiB", Budget::None);
}

/// What a long churn that leaves few objects leaves on the disk and in memory. Each part runs in a process of its own, since an allocator
/// keeps what others left it.
fn churn() {
    let (fresh, churned) = (directory(), directory());
    let idle = churn_process(fresh.path(), "fill")[0];
    let after = churn_process(churned.path(), "churn");
    let restarted = churn_process(churned.path(), "open")[0];
    let what = |what| format!("store: {what} {REVISIONS} revisions that left {LEFT} objects");
    let live = (LEFT * VALUE) as f64 / f64::from(1 << 20);
    report(&what("disk after"), files(churned.path()) as f64 / f64::from(1 << 20), " MiB", Budget::AtMost(2.0 * live + 64.0));
    report(&what("seconds until the disk is back, after"), after[1], " s", Budget::AtMost(600.0));
    report(&what("resident after / before"), after[0] / idle, "", Budget::AtMost(1.2));
    report(&what("resident after a restart / before, after"), restarted / idle, "", Budget::AtMost(1.2));
}

/// Runs a part in a process of its own and gives the figures that it prints: resident KiB first.
fn churn_process(directory: &Path, part: &str) -> Vec<f64> {
    let mut command = std::process::Command::new(std::env::current_exe().expect("this program"));
    let output = command.env(CHURN_DIRECTORY, directory).env(CHURN_PART, part).output().expect("runs");
    assert!(output.status.success(), "{part}: {}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).expect("text");
    text.split_whitespace().map(|number| number.parse().expect("a number")).collect()
}

fn churn_part(directory: &Path, part: &str) {
    nix::sys::prctl::set_thp_disable(true).expect("Linux allows");
    let runtime = Runtime::new().expect("a runtime");
    let store = Arc::new(EmbeddedStore::open_with(directory, EmbeddedOptions::default()).expect("opens"));
    let mut took = Duration::ZERO;
    runtime.block_on(async {
        if part != "open" {
            let kept = (0..LEFT).map(|n| store.create(format!("/registry/kept/{n}").into(), random_value(VALUE).into(), None));
            futures::future::try_join_all(kept).await.expect("creates");
        }
        if part == "churn" {
            churn_writes(&store).await;
            let quiet = Instant::now();
            // Ten minutes of quiet compact everything; that is not waited for here.
            store.compact(store.current_revision().await.expect("reads")).await.expect("compacts");
            while files(directory) > 48 << 20 && quiet.elapsed() < Duration::from_secs(60) {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            took = quiet.elapsed();
        }
        renew(&store).await;
    });
    println!("{} {}", resident(), took.as_secs_f64());
}

/// What little is written when all is quiet, as leases are: the allocator gives memory back only while it is used.
async fn renew(store: &EmbeddedStore) {
    let key = Bytes::from_static(b"/registry/kept/0");
    let mut held = store.get(&key, None).await.expect("reads").0.expect("is there").mod_revision;
    for _ in 0..100 {
        held = store.update(key.clone(), random_value(VALUE).into(), held, None).await.expect("updates");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Objects that are made, updated and deleted again, by 64 writers. Compaction follows at an eighth of the revisions, as five minutes are of
/// forty.
async fn churn_writes(store: &Arc<EmbeddedStore>) {
    const WRITERS: u64 = 64;
    let mut writers = JoinSet::new();
    for writer in 0..WRITERS {
        let store = store.clone();
        writers.spawn(async move {
            for n in 0..REVISIONS / WRITERS / 4 {
                let key = Bytes::from(format!("/registry/gone/{writer}-{n}"));
                let mut revision = store.create(key.clone(), random_value(VALUE).into(), None).await.expect("creates");
                for _ in 0..2 {
                    revision = store.update(key.clone(), random_value(VALUE).into(), revision, None).await.expect("updates");
                }
                let deleted = store.delete(key, revision).await.expect("deletes");
                if writer == 0 && n % 64 == 0 {
                    store.compact(Revision(deleted.0.saturating_sub(REVISIONS / 8))).await.expect("compacts");
                }
            }
        });
    }
    writers.join_all().await;
}

fn opening(runtime: &Runtime) {
    let dir = directory();
    let store = EmbeddedStore::open(dir.path()).expect("opens");
    runtime.block_on(async {
        for hundred in 0..1000 {
            let creates = (0..100).map(|n| store.create(format!("/registry/pods/bench/{hundred}-{n}").into(), random_value(VALUE).into(), None));
            futures::future::try_join_all(creates).await.expect("creates");
        }
    });
    drop(store);
    let begin = Instant::now();
    let store = EmbeddedStore::open(dir.path()).expect("opens");
    report("store: opening it with 100,000 objects of 1 KB", begin.elapsed().as_secs_f64(), " s", Budget::AtMost(1.0));
    drop(store);
}

/// Bytes that do not compress.
fn random_value(length: usize) -> Vec<u8> {
    let mut value = vec![0; length];
    rand::fill(&mut value[..]);
    value
}

/// Bytes allocated on disk below a directory.
fn files(path: &Path) -> u64 {
    use std::os::unix::fs::MetadataExt;
    let entries = std::fs::read_dir(path).expect("lists").map(|entry| entry.expect("lists"));
    entries.map(|entry| if entry.path().is_dir() { files(&entry.path()) } else { entry.metadata().map_or(0, |meta| meta.blocks() * 512) }).sum()
}

/// Resident memory in KiB.
fn resident() -> i64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("Linux tells");
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).expect("a line");
    line.split_whitespace().nth(1).and_then(|kib| kib.parse().ok()).expect("a number")
}
