//! The sample application under load: through its life no request fails, and a killed daemon changes nothing.

use std::time::{Duration, Instant};

use crate::{
    cluster::{Cluster, NODE_IP, eventually, shared},
    load::Load,
};

/// Applies the sample and waits until it runs; gives its ClusterIP and NodePort addresses.
pub fn deploy(cluster: &Cluster) -> Vec<String> {
    let sample = format!("{}/config/samples/web.yaml", env!("CARGO_MANIFEST_DIR"));
    cluster.kubectl(&format!("apply -f {sample}"));
    cluster.kubectl("-n sample rollout status deployment/web --timeout=180s");
    // The caller, too: who compares what runs later must find nothing that has not begun.
    cluster.kubectl("-n sample wait --for=condition=Ready pod --all --timeout=120s");
    let ip = cluster.kubectl("-n sample get service web -o jsonpath={.spec.clusterIP}");
    let port = cluster.kubectl("-n sample get service web -o jsonpath={.spec.ports[0].nodePort}");
    let addresses = vec![format!("{ip}:80"), format!("{NODE_IP}:{port}")];
    for address in &addresses {
        eventually(&format!("{address} answers"), || cluster.get(address).is_some_and(|page| page.contains("Hello from web-")));
    }
    addresses
}

#[test]
fn no_request_fails_through_scaling_rollout_rollback_and_restart() {
    let cluster = Cluster::up();
    assert!(cluster.kubectl("get nodes").contains(" Ready "));
    let addresses = deploy(&cluster);
    eventually("the caller is answered by name", || cluster.kubectl("-n sample logs caller --tail=3").contains("Hello from web-"));
    assert!(cluster.kubectl("-n sample exec caller -- cat /etc/resolv.conf").contains("svc.cluster.local"));
    can_be_backed_up(&cluster);
    // The caller begins before the cluster's DNS and the first replica are up: what failed then does not count.
    let failed = || cluster.kubectl("-n sample logs caller").matches("failed").count();
    let failed_at_first = failed();
    let load = Load::on(&cluster, &addresses);
    let rolled = || cluster.kubectl("-n sample rollout status deployment/web --timeout=180s");
    let settled = |wanted: usize| {
        let pods = || cluster.kubectl("-n sample get pods -l app=web -o name").lines().count();
        eventually(&format!("{wanted} pods are left"), || pods() == wanted);
    };
    cluster.kubectl("-n sample scale deployment/web --replicas=6");
    rolled();
    cluster.kubectl("-n sample scale deployment/web --replicas=2");
    settled(2);
    let version = "-n sample get pods -l app=web -o jsonpath={.items[*].spec.containers[0].env[?(@.name==\"VERSION\")].value}";
    cluster.kubectl("-n sample set env deployment/web VERSION=2");
    rolled();
    settled(2);
    assert!(cluster.kubectl(version).split_whitespace().all(|version| version == "2"));
    cluster.kubectl("-n sample rollout undo deployment/web");
    rolled();
    settled(2);
    assert!(cluster.kubectl(version).split_whitespace().all(|version| version == "1"));
    cluster.kubectl("-n sample rollout restart deployment/web");
    rolled();
    settled(2);
    let sent = load.stop();
    assert_eq!(failed(), failed_at_first, "the caller was not answered by name:\n{}", cluster.kubectl("-n sample logs caller"));
    println!("{sent} requests, none failed");
}

/// The running cluster gives its whole state, page by page, and the backup is whole.
fn can_be_backed_up(cluster: &Cluster) {
    let dir = tempfile::tempdir().expect("a directory");
    let file = dir.path().join("state.backup");
    let output = cluster.troupe_with_settings(&["backup", file.to_str().expect("text")]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let (head, records) = troupe_api_server::store::backup::verify(std::fs::File::open(&file).expect("is there")).expect("whole");
    assert!(head.revision.0 > 100 && records > 100, "{head:?} {records}");
}

/// A pod that resolves a name in a loop and says how it went.
const RESOLVER: &str = r#"
apiVersion: v1
kind: Pod
metadata: {name: resolver, namespace: sample}
spec:
  terminationGracePeriodSeconds: 1
  containers:
  - name: resolver
    image: busybox:1.35
    command: [sh, -c, "while true; do if nslookup web.sample.svc.cluster.local >/tmp/out 2>&1; then echo found; else echo lost; cat /tmp/out; fi; sleep 0.05; done"]
"#;

#[test]
fn a_killed_daemon_comes_back_to_the_same_containers_and_nobody_noticed() {
    nobody_notices_a_killed_daemon(&shared());
}

/// The check, on a cluster with any store.
pub fn nobody_notices_a_killed_daemon(cluster: &Cluster) {
    const CONTAINERS: &str = "get pods -o jsonpath={range.items[*]}{.metadata.uid}{.status.containerStatuses[*].containerID}{.status.containerStatuses[*].state.running.startedAt}{.status.podIP}{\"\\n\"}{end}";
    const OBJECTS: &str = "get deployments,replicasets,services,configmaps,daemonsets,serviceaccounts -o name";
    // Other namespaces are other tests'.
    let of_both = |words: &str| ["kube-system", "sample"].map(|namespace| cluster.kubectl(&format!("-n {namespace} {words}")));
    let addresses = deploy(cluster);
    crate::cluster::apply(cluster, RESOLVER);
    cluster.kubectl("-n sample wait --for=condition=Ready pod/resolver --timeout=120s");
    eventually("names are resolved", || cluster.kubectl("-n sample logs resolver --tail=5").contains("found"));
    let since = cluster.kubectl("-n sample logs resolver").lines().count();
    let (containers, objects) = (of_both(CONTAINERS), of_both(OBJECTS));
    let load = Load::on(cluster, &addresses);
    for _ in 0..2 {
        cluster.strike("-9");
        // A while without any daemon: the node must not need one.
        std::thread::sleep(Duration::from_secs(1));
        let began = Instant::now();
        cluster.start();
        println!("up again after {:.1} s", began.elapsed().as_secs_f64());
        eventually("all containers are the same ones", || of_both(CONTAINERS) == containers);
        assert_eq!(of_both(OBJECTS), objects);
    }
    // The same still holds when everything had time to go wrong: lists compared, probes run.
    std::thread::sleep(Duration::from_secs(5));
    assert_eq!(of_both(CONTAINERS), containers);
    let restarts = of_both("get pods -o jsonpath={.items[*].status.containerStatuses[*].restartCount}").join(" ");
    assert!(restarts.split_whitespace().all(|count| count == "0"), "{restarts}");
    let log = cluster.kubectl("-n sample logs resolver");
    let lost: Vec<&str> = log.lines().skip(since).filter(|line| *line != "found").collect();
    assert!(lost.is_empty(), "queries were lost:\n{}", lost.join("\n"));
    assert!(log.lines().count() > since + 50, "the resolver went on all the time");
    let sent = load.stop();
    println!("{sent} requests, none failed");
    cluster.kubectl("delete namespace sample --timeout=180s");
}
