mod failures;
mod parts;

use std::{
    cell::{Cell, RefCell},
    sync::Arc,
    time::Duration,
};

use super::{
    EtcdStore,
    testing::{ClusterOptions, EtcdCluster},
};
use crate::store::{Store, suite};

/// Runs the suite, each part on a fresh cluster.
async fn pass_the_suite(options: ClusterOptions) {
    let root = tempfile::tempdir().expect("a directory");
    let (cluster, count) = (RefCell::new(None), Cell::new(0));
    suite::run(|| async {
        // The cluster of the part before ends here.
        cluster.replace(None);
        let dir = root.path().join(count.get().to_string());
        count.set(count.get() + 1);
        std::fs::create_dir(&dir).expect("a directory");
        let started = EtcdCluster::start_with(&dir, options.clone());
        let store = started.connect().await;
        cluster.replace(Some(started));
        Arc::new(store) as Arc<dyn Store>
    })
    .await;
}

/// A plain cluster of `size` and a store on it.
async fn cluster(size: usize) -> (tempfile::TempDir, EtcdCluster, Arc<EtcdStore>) {
    let dir = tempfile::tempdir().expect("a directory");
    let cluster = EtcdCluster::start(dir.path(), size);
    let store = Arc::new(cluster.connect().await);
    (dir, cluster, store)
}

/// Polls until `condition` holds.
async fn until(what: &str, mut condition: impl AsyncFnMut() -> bool) {
    let deadline = tokio::time::Instant::now() + Duration::from_secs(30);
    while !condition().await {
        assert!(tokio::time::Instant::now() < deadline, "{what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_single_etcd_passes_the_suite() {
    pass_the_suite(ClusterOptions::default()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_etcd_behind_mutual_tls_passes_the_suite() {
    pass_the_suite(ClusterOptions { tls: true, ..ClusterOptions::default() }).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_members_pass_the_suite() {
    pass_the_suite(ClusterOptions { size: 3, ..ClusterOptions::default() }).await;
}
