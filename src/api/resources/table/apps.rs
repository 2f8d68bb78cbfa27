//! Workloads: apps, autoscaling and batch.

use super::row::{Group, Row, SCALE, STATUS};

pub(super) const APPS: Group = Group {
    name: "apps",
    versions: &["v1"],
    rows: &[
        Row::namespaced("ControllerRevision", "controllerrevisions"),
        Row::namespaced("DaemonSet", "daemonsets").short(&["ds"]).all().subs(&[STATUS]),
        Row::namespaced("Deployment", "deployments").short(&["deploy"]).all().subs(&[SCALE, STATUS]),
        Row::namespaced("ReplicaSet", "replicasets").short(&["rs"]).all().subs(&[SCALE, STATUS]),
        Row::namespaced("StatefulSet", "statefulsets").short(&["sts"]).all().subs(&[SCALE, STATUS]),
    ],
};

pub(super) const AUTOSCALING: Group = Group {
    name: "autoscaling",
    versions: &["v2", "v1"],
    rows: &[Row::namespaced("HorizontalPodAutoscaler", "horizontalpodautoscalers").short(&["hpa"]).all().subs(&[STATUS])],
};

pub(super) const BATCH: Group = Group {
    name: "batch",
    versions: &["v1"],
    rows: &[Row::namespaced("CronJob", "cronjobs").short(&["cj"]).all().subs(&[STATUS]), Row::namespaced("Job", "jobs").all().subs(&[STATUS])],
};
