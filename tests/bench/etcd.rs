//! The same requests with the cluster's state in etcd, which runs on the same machine.

use troupe_api_server::store::etcd::testing::EtcdCluster;

use crate::{
    Bench, api,
    cluster::{Cluster, images, text},
    lists, runtime, watches,
};

pub fn measure() {
    let cluster = Cluster::place();
    cluster.enter();
    let dir = cluster.path("etcd");
    std::fs::create_dir(&dir).expect("a directory of our own");
    let etcd = EtcdCluster::start(&dir, 1);
    runtime().block_on(async {
        // Waits until it is up.
        drop(etcd.connect().await);
        let servers = etcd.options().servers.join(",");
        let output = cluster.troupe_with_settings(&["up", "--detach", "--image-dir", &images(), "--etcd-servers", &servers]);
        assert!(output.status.success(), "troupe up failed:\n{}\n{}", text(&output.stdout), text(&output.stderr));
        let bench = Bench::of(cluster, ", etcd");
        let client = etcd.client(0).await;
        lists::measure(&bench).await;
        api::measure(&bench, Some(&client)).await;
        watches::measure(&bench).await;
    });
}
