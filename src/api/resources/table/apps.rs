//! Workloads: apps, autoscaling and batch.

use super::row::{Group, Row, SCALE, STATUS, with};
use crate::{resources::kinds, service::Verb};

const READ_ONLY: &[Verb] = &[Verb::Get, Verb::List];

/// Where workloads describe their pods.
const TEMPLATE: &[&str] = &["spec", "template"];

pub(super) const APPS: Group = Group {
    name: "apps",
    versions: &["v1"],
    rows: &[
        Row::namespaced("ControllerRevision", "controllerrevisions").strategy(with::<kinds::ControllerRevision>),
        Row::namespaced("DaemonSet", "daemonsets").strategy(with::<kinds::DaemonSet>).pod_at(TEMPLATE).short(&["ds"]).all().subs(&[STATUS]),
        Row::namespaced("Deployment", "deployments")
            .strategy(with::<kinds::Deployment>)
            .pod_at(TEMPLATE)
            .short(&["deploy"])
            .all()
            .subs(&[SCALE, STATUS]),
        Row::namespaced("ReplicaSet", "replicasets").strategy(with::<kinds::ReplicaSet>).pod_at(TEMPLATE).short(&["rs"]).all().subs(&[SCALE, STATUS]),
        Row::namespaced("StatefulSet", "statefulsets")
            .strategy(with::<kinds::StatefulSet>)
            .pod_at(TEMPLATE)
            .short(&["sts"])
            .all()
            .subs(&[SCALE, STATUS]),
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

/// Read from kubelets; another server may take the group over.
pub(super) const METRICS: Group = Group {
    name: "metrics.k8s.io",
    versions: &["v1beta1"],
    rows: &[
        Row::cluster("NodeMetrics", "nodes").strategy(with::<kinds::UsageMetrics>).verbs(READ_ONLY).stored_at("metrics/nodes"),
        Row::namespaced("PodMetrics", "pods").strategy(with::<kinds::UsageMetrics>).verbs(READ_ONLY).stored_at("metrics/pods"),
    ],
};

pub(super) const BATCH: Group = Group {
    name: "batch",
    versions: &["v1"],
    rows: &[
        Row::namespaced("CronJob", "cronjobs")
            .strategy(with::<kinds::CronJob>)
            .pod_at(&["spec", "jobTemplate", "spec", "template"])
            .short(&["cj"])
            .all()
            .subs(&[STATUS]),
        Row::namespaced("Job", "jobs").strategy(with::<kinds::Job>).pod_at(TEMPLATE).all().subs(&[STATUS]),
    ],
};
