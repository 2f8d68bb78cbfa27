//! Workloads: apps, autoscaling and batch.

use super::row::{Group, Row, SCALE, STATUS, with};
use crate::resources::kinds;

pub(super) const APPS: Group = Group {
    name: "apps",
    versions: &["v1"],
    rows: &[
        Row::namespaced("ControllerRevision", "controllerrevisions").strategy(with::<kinds::ControllerRevision>),
        Row::namespaced("DaemonSet", "daemonsets").strategy(with::<kinds::DaemonSet>).short(&["ds"]).all().subs(&[STATUS]),
        Row::namespaced("Deployment", "deployments").strategy(with::<kinds::Deployment>).short(&["deploy"]).all().subs(&[SCALE, STATUS]),
        Row::namespaced("ReplicaSet", "replicasets").strategy(with::<kinds::ReplicaSet>).short(&["rs"]).all().subs(&[SCALE, STATUS]),
        Row::namespaced("StatefulSet", "statefulsets").strategy(with::<kinds::StatefulSet>).short(&["sts"]).all().subs(&[SCALE, STATUS]),
    ],
};

pub(super) const AUTOSCALING: Group = Group {
    name: "autoscaling",
    versions: &["v2", "v1"],
    rows: &[Row::namespaced("HorizontalPodAutoscaler", "horizontalpodautoscalers")
        .strategy(with::<kinds::HorizontalPodAutoscaler>)
        .short(&["hpa"])
        .all()
        .subs(&[STATUS])],
};

pub(super) const BATCH: Group = Group {
    name: "batch",
    versions: &["v1"],
    rows: &[
        Row::namespaced("CronJob", "cronjobs").strategy(with::<kinds::CronJob>).short(&["cj"]).all().subs(&[STATUS]),
        Row::namespaced("Job", "jobs").strategy(with::<kinds::Job>).all().subs(&[STATUS]),
    ],
};
