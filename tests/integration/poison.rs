//! Objects on which a live cluster's actors panic: set aside and told of, all others served, and lifted by a change or a
//! restart.

use serde_json::Value;

use crate::cluster::{Cluster, eventually, text};

fn actor(cluster: &Cluster, path: &str) -> Value {
    let actors = cluster.actors();
    actors.into_iter().find(|actor| actor["path"].as_str().is_some_and(|found| found.starts_with(path))).unwrap_or_default()
}

/// `kubectl describe` shows the warning.
fn is_told(cluster: &Cluster, object: &str) -> bool {
    let described = cluster.kubectl(&format!("describe {object}"));
    described.lines().any(|line| line.contains("Warning") && line.contains("ReconcileQuarantined") && line.contains("poisoned by the chaos switch"))
}

fn deploys(cluster: &Cluster, name: &str) {
    cluster.kubectl(&format!("create deployment {name} --image=busybox:1.35 -- sleep 3600"));
    cluster.kubectl(&format!("rollout status deployment/{name} --timeout=120s"));
}

#[test]
fn an_object_on_which_a_controller_panics_is_set_aside() {
    let cluster = Cluster::up();
    cluster.troupe_text(&["actors", "poison", "controllers/deployment", "default/bad"]);
    cluster.kubectl("create deployment bad --image=busybox:1.35 -- sleep 3600");
    eventually("it is told of", || is_told(&cluster, "deployment bad"));
    deploys(&cluster, "good");
    let shown = actor(&cluster, "controllers/deployment");
    assert_eq!(shown["status"]["quarantined"]["default/bad"], "poisoned by the chaos switch", "{shown}");
    assert_eq!((&shown["restarts"], &shown["state"]), (&0.into(), &"running".into()), "the controller itself lives");
    assert!(cluster.troupe_text(&["actors", "controllers/deployment"]).contains("running, quarantined: default/bad"));
    let why = cluster.troupe_text(&["why", "deployment/bad"]);
    assert!(why.contains("controllers/deployment has set it aside") && why.contains("poisoned by the chaos switch"), "{why}");
    assert!(!cluster.troupe_text(&["why", "deployment/good"]).contains("set it aside"));
    // A change does not help as long as the reason is there, and does when it is gone.
    cluster.kubectl("annotate deployment bad try=again");
    deploys(&cluster, "better");
    assert!(cluster.kubectl("get replicasets -o name").lines().all(|name| !name.contains("/bad-")));
    cluster.troupe_text(&["actors", "poison", "controllers/deployment", "default/bad", "--end"]);
    cluster.kubectl("annotate deployment bad try=more --overwrite");
    cluster.kubectl("rollout status deployment/bad --timeout=90s");
    assert_eq!(actor(&cluster, "controllers/deployment")["status"]["quarantined"], serde_json::json!({}));
    // So does a restart.
    cluster.troupe_text(&["actors", "poison", "controllers/deployment", "default/worse"]);
    cluster.kubectl("create deployment worse --image=busybox:1.35 -- sleep 3600");
    eventually("it is told of", || is_told(&cluster, "deployment worse"));
    cluster.strike("-9");
    cluster.start();
    cluster.kubectl("rollout status deployment/worse --timeout=120s");
}

#[test]
fn a_pod_on_which_the_scheduler_or_its_worker_panics_is_set_aside() {
    let cluster = Cluster::up();
    let run = |name: &str| cluster.kubectl(&format!("run {name} --image=busybox:1.35 --restart=Never -- sleep 3600"));
    cluster.troupe_text(&["actors", "poison", "scheduler", "default/bad"]);
    run("bad");
    eventually("it is told of", || is_told(&cluster, "pod bad"));
    run("good");
    cluster.kubectl("wait --for=condition=Ready pod/good --timeout=120s");
    assert!(cluster.troupe_text(&["why", "pod/bad"]).contains("scheduler has set it aside"));
    assert_eq!(actor(&cluster, "scheduler")["restarts"], 0);
    cluster.troupe_text(&["actors", "poison", "scheduler", "default/bad", "--end"]);
    cluster.kubectl("label pod bad try=again");
    cluster.kubectl("wait --for=condition=Ready pod/bad --timeout=90s");
    // Now the worker of a running pod.
    let worker = "kubelet/pods/default/bad";
    cluster.troupe_text(&["actors", "poison", worker]);
    cluster.troupe_text(&["actors", "kill", worker, "--panic"]);
    eventually("its worker rests", || actor(&cluster, worker)["state"] == "quarantined");
    eventually("it is told of", || is_told(&cluster, "pod bad"));
    run("later");
    cluster.kubectl("wait --for=condition=Ready pod/later --timeout=120s");
    assert_eq!(actor(&cluster, "kubelet/pods")["restarts"], 0, "the others' keeper never failed");
    assert!(cluster.troupe_text(&["why", "pod/bad"]).contains("kubelet/pods/default/bad"));
    cluster.troupe_text(&["actors", "poison", worker, "--end"]);
    cluster.kubectl("label pod bad try=more --overwrite");
    eventually("a change lifts it", || actor(&cluster, worker)["state"] == "running");
    cluster.kubectl("delete pod bad --timeout=120s");
}

#[test]
fn a_service_whose_rules_cannot_be_planned_is_set_aside() {
    let cluster = Cluster::up();
    let expose = |name: &str, port: u16| cluster.kubectl(&format!("create service clusterip {name} --tcp={port}"));
    expose("bad", 80);
    let unit = "proxy/services/default/bad";
    eventually("its unit lives", || actor(&cluster, unit)["state"] == "running");
    cluster.troupe_text(&["actors", "poison", unit]);
    cluster.troupe_text(&["actors", "kill", unit, "--panic"]);
    eventually("its unit rests", || actor(&cluster, unit)["state"] == "quarantined");
    eventually("it is told of", || is_told(&cluster, "service bad"));
    expose("good", 81);
    // Without endpoints it is refused, by rules of another table than those that translate addresses.
    let rules = || text(&cluster.inside("iptables-save").output().expect("iptables-save runs").stdout);
    eventually("others have rules", || rules().contains("default/good"));
    assert_eq!(actor(&cluster, "proxy")["restarts"], 0);
    cluster.troupe_text(&["actors", "poison", unit, "--end"]);
    cluster.kubectl("label service bad try=again");
    eventually("a change lifts it", || actor(&cluster, unit)["state"] == "running");
    cluster.kubectl("delete service bad");
    eventually("it ends with its Service", || actor(&cluster, unit)["state"].is_null());
    // One that rests ends too.
    expose("worse", 82);
    let unit = "proxy/services/default/worse";
    eventually("its unit lives", || actor(&cluster, unit)["state"] == "running");
    cluster.troupe_text(&["actors", "poison", unit]);
    cluster.troupe_text(&["actors", "kill", unit, "--panic"]);
    eventually("its unit rests", || actor(&cluster, unit)["state"] == "quarantined");
    cluster.kubectl("delete service worse");
    eventually("it ends with its Service", || actor(&cluster, unit)["state"].is_null());
    let said = cluster.troupe_with_settings(&["actors", "poison", "controllers/nothing", "a/b"]);
    assert!(!said.status.success() && text(&said.stderr).contains("no actor lives at"));
}
