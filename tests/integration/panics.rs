//! Panics of single actors in a live cluster: each comes back, and nobody else notices.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use crate::{
    cluster::{Cluster, eventually, shared},
    load::Load,
    sample,
};

/// Restarts of every actor by path.
fn restarts(cluster: &Cluster) -> BTreeMap<String, u64> {
    let actors = cluster.actors();
    actors.iter().map(|actor| (actor["path"].as_str().unwrap_or("").to_owned(), actor["restarts"].as_u64().unwrap_or(0))).collect()
}

#[test]
fn a_panic_in_a_controller_a_pod_worker_or_a_service_stays_there() {
    stay_where_they_are(&shared());
}

/// The check, on a cluster with any store.
pub fn stay_where_they_are(cluster: &Cluster) {
    let addresses = sample::deploy(cluster);
    let load = Load::on(cluster, &addresses);
    let pod = cluster.kubectl("-n sample get pods -l app=web -o jsonpath={.items[0].metadata.name}");
    let containers = "-n sample get pods -o jsonpath={.items[*].status.containerStatuses[*].containerID}";
    let same = cluster.kubectl(containers);
    for path in ["controllers/deployment".to_owned(), format!("kubelet/pods/sample/{pod}"), "proxy/services/sample/web".to_owned()] {
        let before = restarts(cluster);
        let killed = cluster.troupe_text(&["actors", "kill", &path, "--panic"]);
        let at = Instant::now();
        let full = killed.split_whitespace().next().expect("the path").to_owned();
        let back = || {
            let actors = cluster.actors();
            let found = actors.iter().find(|actor| actor["path"] == full.as_str());
            found.is_some_and(|actor| actor["state"] == "running" && actor["restarts"].as_u64() == Some(before[&full] + 1))
        };
        // It is at once; asking may take a busy machine some seconds.
        while !back() {
            assert!(at.elapsed() < Duration::from_secs(10), "{full} is not back after {:?}", at.elapsed());
        }
        let shown = cluster.troupe_text(&["actors", &full]);
        assert!(shown.contains("running") && shown.split_whitespace().any(|word| word == (before[&full] + 1).to_string()), "{shown}");
        let disturbed: Vec<_> =
            restarts(cluster).into_iter().filter(|(path, count)| *path != full && before.get(path).is_some_and(|old| old != count)).collect();
        assert!(disturbed.is_empty(), "others restarted with {full}: {disturbed:?}");
    }
    assert_eq!(cluster.kubectl(containers), same, "no container was touched");
    // The cluster still does its work: through the controller, the workers and the rules that panicked.
    cluster.kubectl("-n sample scale deployment/web --replicas=4");
    cluster.kubectl("-n sample rollout status deployment/web --timeout=120s");
    cluster.kubectl(&format!("-n sample delete pod {pod} --timeout=120s"));
    cluster.kubectl("-n sample rollout status deployment/web --timeout=120s");
    eventually("four endpoints are known", || {
        cluster.kubectl("-n sample get endpoints web -o jsonpath={.subsets[*].addresses[*].ip}").split_whitespace().count() == 4
    });
    load.stop();
    cluster.kubectl("delete namespace sample --timeout=180s");
}

#[test]
fn an_actor_that_does_not_exist_is_named() {
    let cluster = shared();
    let output = cluster.troupe_with_settings(&["actors", "kill", "controllers/nothing", "--panic"]);
    assert!(!output.status.success());
    let error = crate::cluster::text(&output.stderr);
    assert!(error.contains("no actor lives at \"controllers/nothing\""), "{error}");
}
