//! `troupe backup` and `troupe restore` as people run them, from the data directory to etcd and back.

use std::{
    path::Path,
    process::{Command, Output},
};

use troupe_api_server::store::{
    RangeRequest, Store,
    embedded::EmbeddedStore,
    etcd::testing::{ClusterOptions, EtcdCluster},
    prefix_end,
};

fn troupe(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_troupe")).args(arguments).output().expect("troupe runs")
}

fn succeeds(arguments: &[&str]) -> String {
    let output = troupe(arguments);
    assert!(output.status.success(), "troupe {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn fails(arguments: &[&str]) -> String {
    let output = troupe(arguments);
    assert!(!output.status.success(), "troupe {arguments:?} must fail");
    String::from_utf8_lossy(&output.stderr).into_owned()
}

async fn contents(data_dir: &Path) -> Vec<(bytes::Bytes, bytes::Bytes)> {
    let store = EmbeddedStore::open(data_dir.join("store")).expect("opens");
    let all = RangeRequest { start: "/registry/".into(), end: prefix_end(b"/registry/"), limit: 0, at: None };
    store.range(all).await.expect("ranges").items.into_iter().map(|kv| (kv.key, kv.value)).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn state_moves_by_backup_from_the_data_directory_to_etcd_and_back() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = |name: &str| dir.path().join(name).to_string_lossy().into_owned();
    let (from, to, run) = (path("from"), path("to"), path("run"));
    let store = EmbeddedStore::open(Path::new(&from).join("store")).expect("opens");
    for n in 0..700 {
        store.create(format!("/registry/configmaps/default/{n}").into(), format!("value {n}").into(), None).await.expect("creates");
    }
    drop(store);
    let file = path("first.backup");
    let told = succeeds(&["backup", &file, "--data-dir", &from, "--run-dir", &run]);
    assert!(told.contains("700 objects at revision 701"), "{told}");

    let cluster = EtcdCluster::start_with(dir.path(), ClusterOptions { tls: true, ..ClusterOptions::default() });
    drop(cluster.connect().await);
    let (servers, pki) = (cluster.options().servers.join(","), |name: &str| path(&format!("pki/{name}")));
    let (ca, certificate, key) = (pki("ca.crt"), pki("client.crt"), pki("client.key"));
    let etcd = ["--etcd-servers", &servers, "--etcd-cafile", &ca, "--etcd-certfile", &certificate, "--etcd-keyfile", &key, "--run-dir", &run];
    let told = succeeds(&[&["restore", &file, "--revision-margin", "1000"], &etcd[..]].concat());
    assert!(told.contains("restored 700 objects"), "{told}");
    let told = fails(&[&["restore", &file, "--revision-margin", "1000"], &etcd[..]].concat());
    assert!(told.contains("--force replaces it") && told.contains("700 objects"), "{told}");

    let second = path("second.backup");
    succeeds(&[&["backup", &second], &etcd[..]].concat());
    succeeds(&["restore", &second, "--data-dir", &to, "--run-dir", &run]);
    assert_eq!(contents(Path::new(&to)).await, contents(Path::new(&from)).await);

    let mut bytes = std::fs::read(&second).expect("reads");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&second, &bytes).expect("writes");
    let told = fails(&["restore", &second, "--data-dir", &to, "--run-dir", &run, "--force"]);
    assert!(told.contains("cannot be restored") && told.contains("damaged at byte"), "{told}");
    assert_eq!(contents(Path::new(&to)).await, contents(Path::new(&from)).await);
}
