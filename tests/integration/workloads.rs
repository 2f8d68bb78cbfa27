//! StatefulSets, DaemonSets, Jobs and CronJobs, as kubectl sees them.

use crate::cluster::{Cluster, eventually};

#[test]
fn every_workload_runs_and_reads_as_kubectl_expects() {
    let cluster = Cluster::up();
    let sample = format!("{}/config/samples/workloads.yaml", env!("CARGO_MANIFEST_DIR"));
    cluster.kubectl(&format!("apply -f {sample}"));
    for set in ["statefulset/peers", "daemonset/agent"] {
        cluster.kubectl(&format!("-n workloads rollout status {set} --timeout=180s"));
        rolls_back(&cluster, set);
    }
    scales(&cluster);
    runs_jobs(&cluster);
    runs_cron_jobs(&cluster);
    cluster.kubectl("delete namespace workloads --timeout=120s");
}

/// Another template, its history, and back.
fn rolls_back(cluster: &Cluster, set: &str) {
    let status = format!("-n workloads rollout status {set} --timeout=180s");
    cluster.kubectl(&format!("-n workloads set env {set} VERSION=2"));
    cluster.kubectl(&status);
    let history = cluster.kubectl(&format!("-n workloads rollout history {set}"));
    assert!(history.contains("\n1 ") && history.contains("\n2 "), "{history}");
    let details = cluster.kubectl(&format!("-n workloads rollout history {set} --revision=1"));
    assert!(details.contains("VERSION:\t1"), "{details}");
    cluster.kubectl(&format!("-n workloads rollout undo {set}"));
    cluster.kubectl(&status);
    let app = set.split('/').nth(1).expect("a name");
    let version = format!("-n workloads get pods -l app={app} -o jsonpath={{.items[*].spec.containers[0].env[?(@.name==\"VERSION\")].value}}");
    eventually("all pods are back at version 1", || cluster.kubectl(&version).split_whitespace().all(|version| version == "1"));
}

fn scales(cluster: &Cluster) {
    cluster.kubectl("-n workloads scale statefulset/peers --replicas=3");
    cluster.kubectl("-n workloads rollout status statefulset/peers --timeout=180s");
    let pods = cluster.kubectl("-n workloads get pods -l app=peers -o name");
    assert_eq!(pods, "pod/peers-0\npod/peers-1\npod/peers-2\n");
    let columns = cluster.kubectl("-n workloads get statefulset peers");
    assert!(columns.starts_with("NAME    READY   AGE\npeers   3/3 "), "{columns}");
    assert_eq!(cluster.kubectl("-n workloads exec peers-1 -- hostname").trim(), "peers-1");
}

fn runs_jobs(cluster: &Cluster) {
    cluster.kubectl("-n workloads wait --for=condition=complete job/pieces --timeout=120s");
    let columns = cluster.kubectl("-n workloads get job pieces");
    assert!(columns.starts_with("NAME     STATUS     COMPLETIONS   DURATION   AGE\npieces   Complete   3/3 "), "{columns}");
    let logs = cluster.kubectl("-n workloads logs -l batch.kubernetes.io/job-completion-index=2,job-name=pieces");
    assert_eq!(logs, "piece 2\n");
    cluster.kubectl("-n workloads wait --for=condition=failed job/broken --timeout=120s");
    // They are written a moment after what they tell of.
    let events = || cluster.kubectl("-n workloads get events --field-selector involvedObject.name=broken -o jsonpath={.items[*].reason}");
    eventually("events tell of it", || events().contains("SuccessfulCreate") && events().contains("BackoffLimitExceeded"));
}

fn runs_cron_jobs(cluster: &Cluster) {
    cluster.kubectl("-n workloads create job now --from=cronjob/tick");
    cluster.kubectl("-n workloads wait --for=condition=complete job/now --timeout=120s");
    cluster.kubectl("-n workloads patch cronjob tick -p {\"spec\":{\"schedule\":\"@every\\u00203s\"}}");
    eventually("a job started by itself", || cluster.kubectl("-n workloads get jobs -o name").contains("job.batch/tick-"));
    let columns = cluster.kubectl("-n workloads get cronjob tick");
    assert!(
        columns.starts_with("NAME   SCHEDULE    TIMEZONE   SUSPEND   ACTIVE   LAST SCHEDULE   AGE\ntick   @every 3s   Etc/UTC    False "),
        "{columns}"
    );
}
