use serde_json::{Value, json};
use troupe_api::{
    meta::Object,
    service::{DeleteOptions, ListOptions, PatchType, Propagation},
};

use super::{World, eventually_async};

async fn world() -> World {
    let world = World::new().await;
    world.node("n1", 64).await;
    world.play_kubelets();
    world
}

fn template(app: &str, image: &str) -> Value {
    json!({"metadata": {"labels": {"app": app}}, "spec": {"containers": [{"name": "c", "image": image}]}})
}

impl World {
    async fn object(&self, resource: &str, name: &str) -> Object {
        self.api.get(resource, "default", name).await.expect("there")
    }

    /// Waits until the object's status has these numbers; zero is absence.
    async fn counts(&self, resource: &str, name: &str, wanted: &[(&str, i64)]) {
        let what = format!("{resource} {name} has {wanted:?}");
        eventually_async(&what, async || {
            let object = self.object(resource, name).await;
            wanted.iter().all(|(field, number)| object.int(&["status", field]).unwrap_or(0) == *number)
        })
        .await;
    }

    async fn update(&self, resource: &str, name: &str, patch: Value) {
        let target = self.api.target(resource, "default", name);
        self.api.patch(target, PatchType::Merge, patch).await.expect("patched");
    }

    async fn images(&self) -> Vec<(String, String)> {
        let pods = self.api.list("pods", "default", ListOptions::default()).await.expect("listed").items;
        let pods = pods.iter().map(|item| item.to_object());
        let image = |pod: &Object| pod.list(&["spec", "containers"])[0]["image"].as_str().unwrap_or_default().to_owned();
        let mut all: Vec<_> = pods.map(|pod| (pod.name().to_owned(), image(&pod))).collect();
        all.sort();
        all
    }

    /// Ends a pod as a kubelet would.
    async fn end_pod(&self, name: &str, phase: &str, code: i32) {
        let now = troupe_api::meta::time::format_time(self.system.clock().now());
        let state = json!({"terminated": {"exitCode": code, "finishedAt": now, "startedAt": now, "reason": "Completed"}});
        let container = json!({"name": "c", "image": "a:1", "imageID": "x", "ready": false, "restartCount": 0, "state": state});
        let ready = json!({"type": "Ready", "status": "False", "lastTransitionTime": now});
        let status = json!({"status": {"phase": phase, "containerStatuses": [container], "conditions": [ready]}});
        self.api.patch(self.api.subresource("pods", "default", name, "status"), PatchType::Merge, status).await.expect("patched");
    }

    /// Waits for pods that run, and names them.
    async fn running(&self, count: usize) -> Vec<String> {
        let mut names = Vec::new();
        eventually_async(&format!("{count} pods run"), async || {
            let pods = self.api.list("pods", "default", ListOptions::default()).await.expect("listed").items;
            let pods = pods.iter().map(|item| item.to_object());
            names = pods.filter(|pod| pod.str(&["status", "phase"]) == "Running").map(|pod| pod.name().to_owned()).collect();
            names.len() == count
        })
        .await;
        names
    }
}

#[actix::test]
async fn a_replication_controller_keeps_its_pods_and_scales() {
    let world = world().await;
    let spec = json!({"replicas": 2, "selector": {"app": "web"}, "template": template("web", "a:1")});
    let metadata = json!({"name": "web", "namespace": "default"});
    world.api.create(json!({"apiVersion": "v1", "kind": "ReplicationController", "metadata": metadata, "spec": spec})).await;
    world.counts("replicationcontrollers", "web", &[("replicas", 2), ("readyReplicas", 2), ("availableReplicas", 2)]).await;
    let scale = world.api.subresource("replicationcontrollers", "default", "web", "scale");
    world.api.patch(scale, PatchType::Merge, json!({"spec": {"replicas": 3}})).await.expect("scaled");
    world.counts("replicationcontrollers", "web", &[("replicas", 3), ("availableReplicas", 3)]).await;
    world.settles().await;
    let options = DeleteOptions { propagation: Some(Propagation::Background), ..DeleteOptions::default() };
    world.api.delete("replicationcontrollers", "default", "web", options).await.expect("deleted");
    eventually_async("its pods are gone", async || world.api.names("pods", "default").await.is_empty()).await;
}

#[actix::test]
async fn a_stateful_set_is_rolled_out_in_order_and_keeps_its_claims() {
    let world = world().await;
    let claim = json!({"metadata": {"name": "data"}, "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}});
    let spec = json!({
        "replicas": 2, "serviceName": "db", "selector": {"matchLabels": {"app": "db"}}, "template": template("db", "a:1"), "volumeClaimTemplates": [claim],
    });
    let metadata = json!({"name": "db", "namespace": "default"});
    world.api.create(json!({"apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": metadata, "spec": spec})).await;
    world.counts("statefulsets.apps", "db", &[("replicas", 2), ("readyReplicas", 2), ("availableReplicas", 2), ("currentReplicas", 2)]).await;
    assert_eq!(world.api.names("persistentvolumeclaims", "default").await, ["data-db-0", "data-db-1"]);
    let pod = world.object("pods", "db-1").await;
    assert_eq!(pod.str(&["metadata", "labels", "apps.kubernetes.io/pod-index"]), "1");
    let image = json!([{"name": "c", "image": "a:2"}]);
    world.update("statefulsets.apps", "db", json!({"spec": {"template": {"spec": {"containers": image}}}})).await;
    eventually_async("both pods are new", async || world.images().await.iter().all(|(_, image)| image == "a:2")).await;
    world.counts("statefulsets.apps", "db", &[("readyReplicas", 2), ("updatedReplicas", 2), ("currentReplicas", 2)]).await;
    world.settles().await;
    let set = world.object("statefulsets.apps", "db").await;
    assert_eq!(set.str(&["status", "currentRevision"]), set.str(&["status", "updateRevision"]));
    assert_eq!(world.api.names("controllerrevisions.apps", "default").await.len(), 2);
    let reasons = world.events("default", "db").await;
    assert!(reasons.contains(&("SuccessfulCreate".into(), "Create Pod db-0 in StatefulSet db successful".into())), "{reasons:?}");
}

fn job(name: &str, more: Value) -> Value {
    let pod = json!({"restartPolicy": "Never", "containers": [{"name": "c", "image": "a:1"}]});
    let mut spec = json!({"template": {"spec": pod}});
    for (key, value) in more.as_object().expect("an object") {
        spec[key] = value.clone();
    }
    json!({"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": name, "namespace": "default"}, "spec": spec})
}

fn condition(object: &Object, kind: &str) -> Option<String> {
    let conditions = object.list(&["status", "conditions"]);
    let found = conditions.iter().find(|condition| condition["type"] == kind && condition["status"] == "True")?;
    Some(found["reason"].as_str().unwrap_or_default().to_owned())
}

#[actix::test]
async fn a_job_completes_and_its_pods_are_counted_once() {
    let world = world().await;
    world.api.create(job("work", json!({"parallelism": 2, "completions": 3}))).await;
    world.counts("jobs.batch", "work", &[("active", 2), ("ready", 2)]).await;
    for left in [2, 2, 1] {
        let names = world.running(left).await;
        world.end_pod(&names[0], "Succeeded", 0).await;
    }
    eventually_async("it is complete", async || condition(&world.object("jobs.batch", "work").await, "Complete").is_some()).await;
    world.settles().await;
    let job = world.object("jobs.batch", "work").await;
    assert_eq!(job.int(&["status", "succeeded"]), Some(3));
    assert_eq!(condition(&job, "SuccessCriteriaMet").as_deref(), Some("CompletionsReached"));
    let pods = world.api.list("pods", "default", ListOptions::default()).await.expect("listed").items;
    assert_eq!(pods.len(), 3);
    assert!(pods.iter().all(|pod| pod.to_object().list(&["metadata", "finalizers"]).is_empty()));
    let options = DeleteOptions { propagation: Some(Propagation::Background), ..DeleteOptions::default() };
    world.api.delete("jobs.batch", "default", "work", options).await.expect("deleted");
    eventually_async("its pods are gone", async || world.api.names("pods", "default").await.is_empty()).await;
}

#[actix::test]
async fn an_indexed_job_with_a_limit_per_index_fails_by_its_index_and_is_cleaned_up() {
    let world = world().await;
    let spec = json!({"completionMode": "Indexed", "completions": 2, "parallelism": 2, "backoffLimitPerIndex": 0, "ttlSecondsAfterFinished": 1});
    world.api.create(job("work", spec)).await;
    let names = world.running(2).await;
    assert!(names[0].starts_with("work-0-") && names[1].starts_with("work-1-"), "{names:?}");
    world.end_pod(&names[0], "Failed", 1).await;
    world.end_pod(&names[1], "Succeeded", 0).await;
    let mut last = None;
    eventually_async("it has failed", async || {
        last = world.api.get("jobs.batch", "default", "work").await.ok();
        last.as_ref().is_some_and(|job| condition(job, "Failed").as_deref() == Some("FailedIndexes"))
    })
    .await;
    let job = last.expect("seen");
    assert_eq!((job.str(&["status", "failedIndexes"]), job.str(&["status", "completedIndexes"])), ("0", "1"));
    assert_eq!((job.int(&["status", "failed"]), job.int(&["status", "succeeded"])), (Some(1), Some(1)));
    eventually_async("its time to live is over", async || world.api.get("jobs.batch", "default", "work").await.is_err()).await;
    eventually_async("its pods are gone", async || world.api.names("pods", "default").await.is_empty()).await;
}

#[actix::test]
async fn a_suspended_job_is_resumed_and_a_deadline_ends_it() {
    let world = world().await;
    world.api.create(job("work", json!({"suspend": true, "activeDeadlineSeconds": 1}))).await;
    eventually_async("it says so", async || condition(&world.object("jobs.batch", "work").await, "Suspended").is_some()).await;
    assert!(world.api.names("pods", "default").await.is_empty());
    world.update("jobs.batch", "work", json!({"spec": {"suspend": false}})).await;
    world.running(1).await;
    eventually_async("it took too long", async || {
        condition(&world.object("jobs.batch", "work").await, "Failed").as_deref() == Some("DeadlineExceeded")
    })
    .await;
    world.settles().await;
    let job = world.object("jobs.batch", "work").await;
    assert_eq!((job.int(&["status", "failed"]), job.int(&["status", "active"]).unwrap_or(0)), (Some(1), 0));
}

#[actix::test]
async fn pods_of_a_job_that_is_orphaned_lose_their_finalizer() {
    let world = world().await;
    world.api.create(job("work", json!({}))).await;
    let names = world.running(1).await;
    let options = DeleteOptions { propagation: Some(Propagation::Orphan), ..DeleteOptions::default() };
    world.api.delete("jobs.batch", "default", "work", options).await.expect("deleted");
    eventually_async("the finalizer is gone", async || {
        let pod = world.object("pods", &names[0]).await;
        pod.list(&["metadata", "finalizers"]).is_empty() && pod.list(&["metadata", "ownerReferences"]).is_empty()
    })
    .await;
}

#[actix::test]
async fn a_cron_job_starts_jobs_and_keeps_only_the_last() {
    let world = world().await;
    let template = json!({"spec": {"template": {"spec": {"restartPolicy": "Never", "containers": [{"name": "c", "image": "a:1"}]}}}});
    let spec = json!({"schedule": "@every 3s", "concurrencyPolicy": "Replace", "jobTemplate": template});
    let metadata = json!({"name": "tick", "namespace": "default"});
    world.api.create(json!({"apiVersion": "batch/v1", "kind": "CronJob", "metadata": metadata, "spec": spec})).await;
    let names = world.running(1).await;
    world.update("cronjobs.batch", "tick", json!({"spec": {"suspend": true}})).await;
    assert!(names[0].starts_with("tick-"), "{names:?}");
    let cron = world.object("cronjobs.batch", "tick").await;
    assert!(!cron.str(&["status", "lastScheduleTime"]).is_empty());
    assert_eq!(cron.list(&["status", "active"]).len(), 1);
    world.settles().await;
}

#[actix::test]
async fn a_daemon_set_has_a_pod_on_each_node_and_is_rolled_out() {
    let world = world().await;
    world.node("n2", 8).await;
    let metadata = json!({"name": "agent", "namespace": "default"});
    let spec = json!({"selector": {"matchLabels": {"app": "agent"}}, "template": template("agent", "a:1")});
    world.api.create(json!({"apiVersion": "apps/v1", "kind": "DaemonSet", "metadata": metadata, "spec": spec})).await;
    let all = [("desiredNumberScheduled", 2), ("numberReady", 2), ("updatedNumberScheduled", 2), ("numberAvailable", 2)];
    world.counts("daemonsets.apps", "agent", &all).await;
    let image = json!([{"name": "c", "image": "a:2"}]);
    world.update("daemonsets.apps", "agent", json!({"spec": {"template": {"spec": {"containers": image}}}})).await;
    eventually_async("all pods are new", async || world.images().await.iter().all(|(_, image)| image == "a:2")).await;
    world.counts("daemonsets.apps", "agent", &all).await;
    world.settles().await;
}

#[actix::test]
async fn a_second_revision_of_one_template_stays_until_its_set_changes() {
    let world = world().await;
    let metadata = json!({"name": "agent", "namespace": "default"});
    let spec = json!({"selector": {"matchLabels": {"app": "agent"}}, "template": template("agent", "a:1")});
    world.api.create(json!({"apiVersion": "apps/v1", "kind": "DaemonSet", "metadata": metadata, "spec": spec})).await;
    world.counts("daemonsets.apps", "agent", &[("numberReady", 1)]).await;
    world.settles().await;
    let revisions = world.api.names("controllerrevisions.apps", "default").await;
    assert_eq!(revisions.len(), 1, "{revisions:?}");
    let mut double = world.object("controllerrevisions.apps", &revisions[0]).await.into_value();
    let number = double["revision"].as_i64().expect("a number") + 1;
    let (labels, owners) = (double["metadata"]["labels"].take(), double["metadata"]["ownerReferences"].take());
    double["metadata"] = json!({"name": "double", "namespace": "default", "labels": labels, "ownerReferences": owners});
    double["revision"] = json!(number);
    world.api.create(double).await;
    world.settles().await;
    assert_eq!(world.api.names("controllerrevisions.apps", "default").await, [revisions[0].clone(), "double".into()], "it woke nobody");
    world.update("daemonsets.apps", "agent", json!({"metadata": {"annotations": {"a": "b"}}})).await;
    let one = async || world.api.names("controllerrevisions.apps", "default").await == ["double"];
    eventually_async("the newer one alone is left", one).await;
}

#[actix::test]
async fn what_is_written_beside_a_first_status_stays() {
    let world = world().await;
    for (kind, resource) in [("DaemonSet", "daemonsets.apps"), ("StatefulSet", "statefulsets.apps"), ("ReplicaSet", "replicasets.apps")] {
        for round in 0..8 {
            let name = format!("set-{round}");
            let metadata = json!({"name": name, "namespace": "default"});
            let spec = json!({"selector": {"matchLabels": {"app": name}}, "template": template(&name, "a:1")});
            world.api.create(json!({"apiVersion": "apps/v1", "kind": kind, "metadata": metadata, "spec": spec})).await;
            // The controller is about to write the status of what it has seen.
            world.update(resource, &name, json!({"metadata": {"labels": {"team": "a"}, "annotations": {"note": "b"}}})).await;
            world.counts(resource, &name, &[("observedGeneration", 1)]).await;
            let set = world.object(resource, &name).await;
            assert_eq!((set.str(&["metadata", "labels", "team"]), set.annotation("note")), ("a", Some("b")), "{kind} {round}");
        }
    }
}
