use serde_json::json;

use super::{
    generic::{self, ObjectFacts},
    pod::{self, Facts},
    pod_group::Gang,
    quarantine,
    report::Report,
    resource_claim::PodClaim,
    workload::{self, DeploymentFacts, NamespaceFacts},
};

fn facts(pod: serde_json::Value) -> Facts {
    let mut pod = pod;
    pod["metadata"]["name"] = "web".into();
    pod["metadata"]["namespace"] = "default".into();
    pod["metadata"]["creationTimestamp"] = "2026-01-01T00:00:00Z".into();
    let node = json!({"metadata": {"name": "n1"}, "status": {"conditions": [{"type": "Ready", "status": "True"}]}});
    Facts { pod, node, now: "2026-01-01T00:01:00Z".parse().expect("a time"), ..Facts::default() }
}

/// The explanation as text, which must contain all of `wanted`.
fn explains(report: &Report, wanted: &[&str]) {
    let text = report.text();
    for piece in wanted {
        assert!(text.contains(piece), "{piece:?} is missing in:\n{text}");
    }
}

#[test]
fn an_unschedulable_pod_is_told_the_schedulers_words_and_each_nodes_part() {
    let mut facts = facts(json!({
        "spec": {"containers": [{"name": "c", "resources": {"requests": {"cpu": "8", "memory": "1Gi"}}}]},
        "status": {"phase": "Pending", "conditions": [{"type": "PodScheduled", "status": "False",
            "message": "0/2 nodes are available: 1 Insufficient cpu, 1 node(s) had untolerated taint(s)."}]},
    }));
    facts.nodes = vec![
        json!({"metadata": {"name": "small"}, "status": {"allocatable": {"cpu": "2", "memory": "4Gi"}, "conditions": [{"type": "Ready", "status": "True"}]}}),
        json!({"metadata": {"name": "shut"}, "spec": {"unschedulable": true, "taints": [{"key": "k", "effect": "NoSchedule"}]},
            "status": {"conditions": [{"type": "Ready", "status": "False"}]}}),
    ];
    let wanted = [
        "Pending for 60s, not on a node yet",
        "0/2 nodes are available",
        "node small: has only 2 cpu in all",
        "node shut: not Ready, cordoned, taint k:NoSchedule",
    ];
    explains(&pod::explain(&facts), &wanted);
}

#[test]
fn tolerations_compare_numbers_where_the_scheduler_does() {
    let mut facts = facts(json!({
        "spec": {"containers": [], "tolerations": [{"key": "sla", "operator": "Gt", "value": "90", "effect": "NoSchedule"}]},
        "status": {"phase": "Pending", "conditions": [{"type": "PodScheduled", "status": "False", "message": "0/1 nodes are available"}]},
    }));
    facts.nodes = vec![json!({"metadata": {"name": "n1"}, "spec": {"taints": [{"key": "sla", "value": "99", "effect": "NoSchedule"}]},
        "status": {"allocatable": {"pods": "9"}, "conditions": [{"type": "Ready", "status": "True"}]}})];
    let (ignored, nothing) = ("TaintTolerationComparisonOperators is off in the scheduler", "node n1: nothing obvious against it");
    for unaware in [json!(null), json!({"comparesTolerations": false})] {
        facts.scheduler = unaware;
        explains(&pod::explain(&facts), &[ignored, "node n1: taint sla:NoSchedule"]);
    }
    facts.scheduler = json!({"comparesTolerations": true});
    let report = pod::explain(&facts);
    explains(&report, &[nothing]);
    assert!(!report.text().contains(ignored), "{}", report.text());
}

#[test]
fn scheduling_gates_and_unbound_claims_are_named() {
    let gated = facts(json!({"spec": {"schedulingGates": [{"name": "example.com/wait"}]}, "status": {"phase": "Pending"}}));
    explains(&pod::explain(&gated), &["scheduling gates hold it back: example.com/wait"]);
    let mut of_gang = facts(json!({"spec": {"schedulingGroup": {"podGroupName": "g"}}, "status": {"phase": "Pending"}}));
    of_gang.nodes = vec![of_gang.node.clone()];
    of_gang.gang = Some(Gang { name: "g".into(), ..Gang::default() });
    let report = pod::explain(&of_gang);
    explains(&report, &["its pod group g does not exist"]);
    assert_eq!(report.reasons.len(), 1, "the scheduler waits for the group");
    let group = json!({"spec": {"schedulingPolicy": {"gang": {"minCount": 2}}}});
    of_gang.gang = Some(Gang { name: "g".into(), group, pods: vec![of_gang.pod.clone()] });
    explains(&pod::explain(&of_gang), &["its pod group g has 1 of the 2 pods that must get nodes together", "pod web: no node"]);
    let mut claiming = facts(json!({"spec": {}, "status": {"phase": "Pending"}}));
    claiming.claims.insert("data".into(), json!({"spec": {"storageClassName": "fast"}, "status": {"phase": "Pending"}}));
    claiming.claims.insert("gone".into(), json!(null));
    claiming.resource_claims = vec![PodClaim::Missing { name: "gpu".into() }];
    let wanted = ["its claim data is Pending", "storage class fast", "its claim gone does not exist", "its resource claim gpu does not exist"];
    explains(&pod::explain(&claiming), &wanted);
    claiming.claims.clear();
    claiming.nodes = vec![claiming.node.clone()];
    let report = pod::explain(&claiming);
    explains(&report, &["its resource claim gpu does not exist"]);
    assert_eq!(report.reasons.len(), 1, "the scheduler waits for the claim");
}

fn bound(status: serde_json::Value) -> Facts {
    facts(json!({
        "spec": {"nodeName": "n1", "containers": [{"name": "web", "readinessProbe": {"httpGet": {"path": "/ready", "port": 8080}}}], "initContainers": [{"name": "setup"}]},
        "status": status,
    }))
}

#[test]
fn an_image_that_cannot_be_pulled_is_told_with_the_registrys_words() {
    let status = json!({"phase": "Pending", "containerStatuses": [{"name": "web", "image": "nowhere/web:1", "state": {"waiting":
        {"reason": "ImagePullBackOff", "message": "Back-off pulling image: not found"}}}]});
    explains(
        &pod::explain(&bound(status)),
        &["container web: image nowhere/web:1 cannot be had (ImagePullBackOff)", "not found", "check name and tag"],
    );
}

#[test]
fn a_crash_loop_is_told_with_exit_code_restarts_and_last_words() {
    let status = json!({"phase": "Running", "containerStatuses": [{"name": "web", "restartCount": 4, "ready": false,
        "state": {"waiting": {"reason": "CrashLoopBackOff", "message": "back-off 40s restarting failed container=web"}},
        "lastState": {"terminated": {"exitCode": 137, "reason": "OOMKilled"}}}]});
    let mut facts = bound(status);
    facts.logs.insert("web".into(), vec!["allocating".into()]);
    explains(
        &pod::explain(&facts),
        &[
            "container web crashes: killed because it used more memory than its limit (4 restarts, the next try 40s",
            "log: allocating",
            "limits.memory",
        ],
    );
    facts.pod["status"]["containerStatuses"][0]["lastState"] = json!({"terminated": {"exitCode": 3, "reason": "Error"}});
    explains(&pod::explain(&facts), &["exit code 3", "kubectl logs web -c web --previous"]);
}

#[test]
fn a_failing_init_container_hides_the_others_that_wait_for_it() {
    let status = json!({"phase": "Pending",
        "initContainerStatuses": [{"name": "setup", "restartCount": 1, "state": {"running": {"startedAt": "2026-01-01T00:00:30Z"}}}],
        "containerStatuses": [{"name": "web", "state": {"waiting": {"reason": "PodInitializing"}}}]});
    let report = pod::explain(&bound(status));
    explains(&report, &["init container setup has not ended (running for 30s)"]);
    assert_eq!(report.reasons.len(), 1);
}

#[test]
fn an_image_on_its_way_is_no_trouble() {
    let status = json!({"phase": "Pending", "containerStatuses": [{"name": "web", "state": {"waiting": {"reason": "ContainerCreating"}}}]});
    let mut facts = bound(status);
    facts.events = vec![json!({"reason": "Pulling", "message": "Pulling image \"big:1\"", "lastTimestamp": "2026-01-01T00:00:50Z"})];
    explains(&pod::explain(&facts), &["container web waits for its image", "Pulling image \"big:1\""]);
}

#[test]
fn an_unready_container_names_the_probe_and_its_last_answer() {
    let status = json!({"phase": "Running", "containerStatuses": [{"name": "web", "ready": false, "started": true, "state": {"running": {"startedAt": "2026-01-01T00:00:10Z"}}}]});
    let mut facts = bound(status);
    facts.events = vec![
        json!({"reason": "Unhealthy", "message": "Readiness probe failed: HTTP probe failed with statuscode: 503", "count": 7, "lastTimestamp": "2026-01-01T00:00:50Z"}),
    ];
    explains(&pod::explain(&facts), &["Running, not Ready", "readiness probe (HTTP GET /ready at port 8080)", "statuscode: 503 (failed 7 times)"]);
}

#[test]
fn a_healthy_pod_has_nothing_wrong() {
    let status = json!({"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}],
        "initContainerStatuses": [{"name": "setup", "state": {"terminated": {"exitCode": 0}}}],
        "containerStatuses": [{"name": "web", "ready": true, "started": true, "state": {"running": {}}}]});
    let report = pod::explain(&bound(status));
    assert_eq!((report.state.as_str(), report.reasons.len()), ("Running and Ready: nothing is wrong", 0));
}

#[test]
fn a_terminating_pod_tells_its_finalizers_its_grace_and_what_still_runs() {
    let mut facts = bound(json!({"phase": "Running", "containerStatuses": [{"name": "web", "state": {"running": {}}}]}));
    facts.pod["metadata"]["deletionTimestamp"] = "2026-01-01T00:01:20Z".into();
    facts.pod["metadata"]["deletionGracePeriodSeconds"] = 30.into();
    facts.pod["metadata"]["finalizers"] = json!(["example.com/hold"]);
    explains(
        &pod::explain(&facts),
        &["Terminating for 10s (grace period 30s)", "finalizers hold it: example.com/hold", "still running: web (killed in 20s)"],
    );
    facts.node = json!({"metadata": {"name": "n1"}, "status": {"conditions": [{"type": "Ready", "status": "Unknown"}]}});
    explains(&pod::explain(&facts), &["its node n1 is not Ready", "--force"]);
    facts.node = json!(null);
    explains(&pod::explain(&facts), &["its node n1 does not exist any more"]);
}

#[test]
fn a_deployment_whose_pods_the_quota_refuses_says_so() {
    let facts = DeploymentFacts {
        deployment: json!({"metadata": {"name": "web", "namespace": "default", "generation": 1}, "spec": {"replicas": 3},
            "status": {"observedGeneration": 1, "replicas": 1, "updatedReplicas": 1, "availableReplicas": 1,
                "conditions": [{"type": "ReplicaFailure", "status": "True", "message": "pods \"web-x\" is forbidden: exceeded quota: small"}]}}),
        ..DeploymentFacts::default()
    };
    explains(&workload::deployment(&facts), &["1 of 3 replicas up to date, 1 available", "exceeded quota: small", "raise the quota"]);
}

#[test]
fn a_namespace_that_is_not_gone_tells_what_is_left() {
    let namespace = json!({"metadata": {"name": "old", "deletionTimestamp": "2026-01-01T00:00:00Z"}, "status": {"phase": "Terminating", "conditions": [
        {"type": "NamespaceContentRemaining", "status": "True", "message": "Some resources are remaining: pods. has 1 resource instances"},
        {"type": "NamespaceDeletionDiscoveryFailure", "status": "False", "message": "fine"}]}});
    let report = workload::namespace(&NamespaceFacts { namespace, remaining: Vec::new() });
    explains(&report, &["namespace old: Terminating", "NamespaceContentRemaining: Some resources are remaining: pods."]);
    assert_eq!(report.reasons.len(), 1);
}

#[test]
fn what_is_left_in_a_namespace_is_named_with_what_holds_it() {
    let message = "Some resources are remaining: configmaps. has 2 resource instances, deployments.apps has 1 resource instances";
    assert_eq!(workload::resources_in(message), ["configmaps", "deployments.apps"]);
    assert!(workload::resources_in("something else").is_empty());
    let maps = vec![json!({"metadata": {"name": "free"}}), json!({"metadata": {"name": "held", "finalizers": ["example.com/hold"]}})];
    let namespace =
        json!({"metadata": {"name": "old", "deletionTimestamp": "2026-01-01T00:00:00Z"}, "spec": {"finalizers": ["kubernetes"]}, "status": {}});
    let report = workload::namespace(&NamespaceFacts { namespace, remaining: vec![("configmaps".into(), maps)] });
    explains(&report, &["2 configmaps are left", "held, held by finalizers: example.com/hold", "→ the controllers behind these finalizers"]);
    assert_eq!(report.reasons.len(), 1);
}

#[test]
fn a_pending_pod_is_told_what_would_let_it_on_a_node() {
    let mut facts = facts(json!({
        "spec": {"containers": [{"name": "c", "resources": {"requests": {"cpu": "1"}}}]},
        "status": {"phase": "Pending", "conditions": [{"type": "PodScheduled", "status": "False", "message": "0/2 nodes are available: 2 Insufficient cpu."}]},
    }));
    let node = |name: &str, cordoned: bool| {
        json!({"metadata": {"name": name}, "spec": {"unschedulable": cordoned},
        "status": {"allocatable": {"cpu": "2"}, "conditions": [{"type": "Ready", "status": "True"}]}})
    };
    facts.nodes = vec![node("shut", true), node("full", false)];
    let tenant =
        |node: &str| json!({"metadata": {"name": "t"}, "spec": {"nodeName": node, "containers": [{"resources": {"requests": {"cpu": "1500m"}}}]}});
    facts.tenants = vec![tenant("shut"), tenant("full")];
    let wanted = [
        "node shut: cordoned, has 500m of 2 cpu left, the pod asks for 1",
        "node full: has 500m of 2 cpu left, the pod asks for 1",
        "→ it would fit on node full if 500m cpu are freed there, or the pod asks for at most 500m cpu",
    ];
    explains(&pod::explain(&facts), &wanted);
}

#[test]
fn each_plugin_tells_its_nodes_and_preemption_its_victims() {
    let term = json!({"topologyKey": "kubernetes.io/hostname", "labelSelector": {"matchLabels": {"app": "db"}}});
    let mut facts = facts(json!({
        "spec": {"priority": 10, "containers": [{"name": "c", "resources": {"requests": {"cpu": "1"}}}],
            "affinity": {"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [term]}}},
        "status": {"phase": "Pending", "conditions": [{"type": "PodScheduled", "status": "False", "message": "0/3 nodes are available."}]},
    }));
    let node = |name: &str, cordoned: bool| {
        json!({"metadata": {"name": name, "labels": {"kubernetes.io/hostname": name}}, "spec": {"unschedulable": cordoned},
            "status": {"allocatable": {"cpu": "2", "pods": "10"}, "conditions": [{"type": "Ready", "status": "True"}]}})
    };
    facts.nodes = vec![node("a", false), node("b", false), node("c", true)];
    let tenant = |name: &str, node: &str, priority: i32| {
        json!({"metadata": {"name": name, "namespace": "default", "labels": {"app": "db"}},
            "spec": {"nodeName": node, "priority": priority, "containers": [{"name": "c", "resources": {"requests": {"cpu": "1500m"}}}]}})
    };
    facts.tenants = vec![tenant("small", "a", 1), tenant("great", "b", 20)];
    facts.budgets = vec![json!({"metadata": {"name": "db", "namespace": "default"}, "spec": {"selector": {"matchLabels": {"app": "db"}}},
        "status": {"disruptionsAllowed": 0, "currentHealthy": 2, "desiredHealthy": 2, "expectedPods": 2}})];
    let wanted = [
        "plugin by plugin",
        "NodeUnschedulable on 1 node (c): node(s) were unschedulable, whatever pods go",
        "NodeResourcesFit on 2 nodes (a, b): Insufficient cpu",
        "InterPodAffinity on 2 nodes (a, b): node(s) didn't match pod anti-affinity rules",
        "node a: has 500m of 2 cpu left, the pod asks for 1, didn't match pod anti-affinity rules (InterPodAffinity)",
        "preemption on node a: default/small (priority 1) would go, against one disruption budget",
    ];
    explains(&pod::explain(&facts), &wanted);
    facts.pod["spec"]["preemptionPolicy"] = json!("Never");
    explains(&pod::explain(&facts), &["preemption: the pod's preemptionPolicy is Never"]);
}

#[test]
fn advice_about_a_node_agrees_with_the_verdict_of_affinity() {
    let term = json!({"topologyKey": "kubernetes.io/hostname", "labelSelector": {"matchLabels": {"app": "db"}}});
    let mut facts = facts(json!({
        "spec": {"containers": [{"name": "c"}], "affinity": {"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [term]}}},
        "status": {"phase": "Pending", "conditions": [{"type": "PodScheduled", "status": "False", "message": "0/2 nodes are available."}]},
    }));
    let node = |name: &str, cordoned: bool| {
        json!({"metadata": {"name": name, "labels": {"kubernetes.io/hostname": name}}, "spec": {"unschedulable": cordoned},
            "status": {"allocatable": {"cpu": "2", "pods": "10"}, "conditions": [{"type": "Ready", "status": "True"}]}})
    };
    facts.nodes = vec![node("free", false), node("shut", true)];
    let tenant = |node: &str| {
        json!({"metadata": {"name": node, "namespace": "default", "labels": {"app": "db"}},
            "spec": {"nodeName": node, "containers": [{"name": "c"}]}})
    };
    facts.tenants = vec![tenant("free"), tenant("shut")];
    let wanted = [
        "node free: didn't match pod anti-affinity rules (InterPodAffinity)",
        "node shut: cordoned, didn't match pod anti-affinity rules (InterPodAffinity)",
        "→ it would fit on node free if the pods that its podAntiAffinity avoids leave, or that term is only preferred",
    ];
    explains(&pod::explain(&facts), &wanted);
    facts.tenants.clear();
    facts.pod["spec"]["affinity"]["podAffinity"] = json!({"requiredDuringSchedulingIgnoredDuringExecution":
        [{"topologyKey": "kubernetes.io/hostname", "labelSelector": {"matchLabels": {"app": "web"}}}]});
    explains(&pod::explain(&facts), &["node free: didn't match pod affinity rules", "if a pod that its podAffinity asks for runs near there"]);
    facts.pod["spec"]["affinity"] = json!({});
    explains(&pod::explain(&facts), &["node free: nothing obvious against it", "it would fit on node shut if it is uncordoned"]);
}

#[test]
fn the_last_end_of_a_container_that_runs_again_is_told() {
    let status = json!({"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}], "containerStatuses": [
        {"name": "web", "ready": true, "started": true, "restartCount": 2, "state": {"running": {"startedAt": "2026-01-01T00:00:31Z"}},
            "lastState": {"terminated": {"exitCode": 137, "reason": "OOMKilled", "finishedAt": "2026-01-01T00:00:30Z"}}}]});
    let mut facts = bound(status);
    let report = pod::explain(&facts);
    let wanted = "container web runs again after it ended 30s ago: killed because it used more memory than its limit (OOMKilled, exit code 137)";
    assert_eq!((report.state.as_str(), report.reasons.len()), ("Running and Ready (2 restarts so far)", 1));
    explains(&report, &[wanted, "→ raise resources.limits.memory"]);
    facts.now = "2026-01-01T02:00:30Z".parse().expect("a time");
    let report = pod::explain(&facts);
    assert_eq!(report.state, "Running and Ready (2 restarts so far): nothing is wrong");
    explains(&report, &["earlier: container web runs again after it ended 2h0m ago: killed because"]);
    facts.pod["status"]["containerStatuses"][0]["lastState"]["terminated"] =
        json!({"exitCode": 0, "reason": "Completed", "finishedAt": "2026-01-01T02:00:00Z"});
    let report = pod::explain(&facts);
    assert_eq!((report.reasons.len(), report.earlier.len()), (0, 1), "what ended well is no fault");
    facts.pod["status"]["containerStatuses"][0]["lastState"]["terminated"]["exitCode"] = 3.into();
    facts.pod["status"]["containerStatuses"][0]["ready"] = false.into();
    facts.pod["status"]["conditions"] = json!([]);
    explains(&pod::explain(&facts), &["readiness probe (HTTP GET /ready at port 8080)", "runs again after it ended 30s ago: exit code 3"]);
}

#[test]
fn pods_that_a_policy_refuses_lead_to_the_policy() {
    let message = "Error creating: pods \"web-x\" is forbidden: ValidatingAdmissionPolicy 'no-root' with binding 'shop' denied request: runs as root";
    let mut facts = DeploymentFacts {
        deployment: json!({"metadata": {"name": "web", "namespace": "default", "generation": 1}, "spec": {"replicas": 1},
            "status": {"observedGeneration": 1}}),
        ..DeploymentFacts::default()
    };
    facts.events = vec![json!({"type": "Warning", "reason": "FailedCreate", "message": message, "lastTimestamp": "2026-01-01T00:00:00Z"})];
    let wanted = [
        "its pods are refused: Error creating: pods \"web-x\" is forbidden: ValidatingAdmissionPolicy 'no-root'",
        "→ kubectl get validatingadmissionpolicy no-root -o yaml shows what it asks for, kubectl get validatingadmissionpolicybinding shop -o yaml",
    ];
    explains(&workload::deployment(&facts), &wanted);
    let set = ObjectFacts {
        kind: "ReplicaSet".into(),
        object: json!({"metadata": {"name": "web-1", "namespace": "default"}, "spec": {"replicas": 1}}),
        events: facts.events,
        now: "2026-01-01T00:00:10Z".parse().expect("a time"),
        ..ObjectFacts::default()
    };
    explains(&generic::explain(&set), &["FailedCreate: Error creating", "(10s ago)", wanted[1]]);
}

#[test]
fn whoever_has_set_an_object_aside_is_named_with_the_reason() {
    let actors = [
        json!({"path": "controllers/deployment", "status": {"kind": "Deployment", "quarantined": {"default/web": "it broke"}}}),
        json!({"path": "controllers/statefulset", "status": {"kind": "StatefulSet", "quarantined": {"default/web": "another object"}}}),
        json!({"path": "kubelet/pods/default/web-1/uid", "state": "quarantined", "lastFailure": "no luck", "status": null}),
    ];
    let deployment = quarantine::reasons(&actors, "Deployment", "default", "web");
    let well = Report { object: "deployment default/web".into(), state: "3 of 3: nothing is wrong".into(), ..Report::default() };
    let report = quarantine::prefixed(well, deployment);
    explains(&report, &["3 of 3\n", "controllers/deployment has set it aside", "again and again: it broke", "when the object changes"]);
    assert_eq!(report.reasons.len(), 1);
    assert_eq!(quarantine::reasons(&actors, "Pod", "default", "web-1")[0].what.split(' ').next(), Some("kubelet/pods/default/web-1/uid"));
    assert_eq!(quarantine::reasons(&actors, "Pod", "default", "web"), []);
}
