//! The sample application, from `kubectl apply` to a namespace that is gone.

use crate::cluster::{Cluster, eventually};

#[test]
fn the_sample_runs_survives_a_kill_and_leaves_nothing_behind() {
    let cluster = Cluster::up();
    assert!(cluster.kubectl("get nodes").contains(" Ready "));
    let sample = format!("{}/config/samples/web.yaml", env!("CARGO_MANIFEST_DIR"));
    cluster.kubectl(&format!("apply -f {sample}"));
    cluster.kubectl("-n sample rollout status deployment/web --timeout=90s");
    answers_through_every_door(&cluster);
    can_be_backed_up(&cluster);
    survives_a_kill(&cluster);
    rolls_forward_and_back(&cluster);
    cluster.kubectl("delete namespace sample --timeout=60s");
    assert_eq!(cluster.kubectl("get pods --all-namespaces -o name").lines().filter(|pod| !pod.contains("dns")).count(), 0);
}

fn answers_through_every_door(cluster: &Cluster) {
    let ip = cluster.kubectl("-n sample get service web -o jsonpath={.spec.clusterIP}");
    let port = cluster.kubectl("-n sample get service web -o jsonpath={.spec.ports[0].nodePort}");
    for address in [format!("{ip}:80"), format!("198.51.100.2:{port}")] {
        eventually(&format!("{address} answers"), || cluster.get(&address).is_some_and(|page| page.contains("Hello from web-")));
    }
    eventually("the caller is answered by name", || cluster.kubectl("-n sample logs caller --tail=3").contains("Hello from web-"));
    assert!(cluster.kubectl("-n sample exec caller -- cat /etc/resolv.conf").contains("svc.cluster.local"));
}

/// The running cluster gives its whole state, page by page, and the backup is whole.
fn can_be_backed_up(cluster: &Cluster) {
    let dir = tempfile::tempdir().expect("a directory");
    let file = dir.path().join("state.backup");
    let output = cluster.troupe_with_settings(&["backup", file.to_str().expect("text")]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let (head, records) = troupe_api::store::backup::verify(std::fs::File::open(&file).expect("is there")).expect("whole");
    assert!(head.revision.0 > 100 && records > 100, "{head:?} {records}");
}

/// After a `kill -9` of the daemon and a new start the containers are the same ones.
fn survives_a_kill(cluster: &Cluster) {
    const IDS: &str = "-n sample get pods -o jsonpath={.items[*].status.containerStatuses[*].containerID}";
    let before = cluster.kubectl(IDS);
    let killed = std::process::Command::new("kill").args(["-9", &cluster.pid()]).status().expect("kill runs");
    assert!(killed.success());
    cluster.start();
    eventually("the pods are as before", || cluster.kubectl(IDS) == before);
}

fn rolls_forward_and_back(cluster: &Cluster) {
    cluster.kubectl("-n sample set env deployment/web VERSION=2");
    cluster.kubectl("-n sample rollout status deployment/web --timeout=90s");
    let version = "-n sample get pods -l app=web -o jsonpath={.items[*].spec.containers[0].env[?(@.name==\"VERSION\")].value}";
    eventually("only pods of version 2 are left", || cluster.kubectl(version).split_whitespace().all(|version| version == "2"));
    cluster.kubectl("-n sample rollout undo deployment/web");
    cluster.kubectl("-n sample rollout status deployment/web --timeout=90s");
    eventually("only pods of version 1 are left", || cluster.kubectl(version).split_whitespace().all(|version| version == "1"));
}
