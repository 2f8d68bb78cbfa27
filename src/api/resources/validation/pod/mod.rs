//! Pod specs, in pods and templates: upstream's `ValidatePodSpec`, a file a subject.

mod affinity;
pub mod annotations;
mod container;
mod env;
mod ephemeral;
mod handlers;
mod mounts;
mod network;
mod projected;
mod references;
pub mod resources;
mod restart;
mod scheduling;
mod security;
#[cfg(test)]
mod tests;
pub mod volume_sources;
mod volumes;
mod windows;

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::{Field, between, grace_period, labels};
use crate::{meta::names, resources::tree, status::FieldError};

pub use affinity::{node_selector, node_term};
pub use scheduling::{has_comparisons, refuse_comparisons, tolerations};
pub use volumes::host_path;

const CONTAINER_LISTS: [&str; 3] = ["initContainers", "containers", "ephemeralContainers"];

/// What the containers of a pod are judged by.
struct Facts<'a> {
    /// The pod's own metadata; `None` in a template, which is judged less strictly.
    metadata: Option<&'a Value>,
    /// Good volumes by name.
    volumes: BTreeMap<&'a str, &'a Value>,
    claims: BTreeSet<&'a str>,
    grace: Option<i64>,
    host_users: bool,
    os: &'a str,
    restart_policy: &'a str,
}

impl Facts<'_> {
    fn is_pod(&self) -> bool {
        self.metadata.is_some()
    }
}

/// Checks a pod spec. `metadata` is that of the pod; a template has none.
pub fn pod_spec(errors: &mut Vec<FieldError>, spec: &Field<'_>, metadata: Option<&Value>) {
    let grace = spec.child("terminationGracePeriodSeconds");
    if !grace.is_set() {
        errors.push(grace.required(""));
    }
    grace_period(errors, &grace.to_string(), grace.number());
    let facts = Facts {
        metadata,
        volumes: volumes::volumes(errors, &spec.child("volumes"), metadata),
        claims: resources::claims(errors, &spec.child("resourceClaims"), metadata),
        grace: grace.number(),
        host_users: spec.child("hostUsers").value != &Value::Bool(false),
        os: tree::text(spec.value, &["os", "name"]),
        restart_policy: tree::text(spec.value, &["restartPolicy"]),
    };
    container::all(errors, spec, &facts);
    resources::of_pod(errors, spec, facts.os);
    network::host_ports(errors, spec, facts.is_pod());
    spec.child("restartPolicy").check_one_of(errors, &["Always", "OnFailure", "Never"]);
    spec.child("dnsPolicy").check_one_of(errors, &["ClusterFirstWithHostNet", "ClusterFirst", "Default", "None"]);
    let selector = spec.child("nodeSelector");
    labels::labels(errors, &selector.to_string(), selector.value);
    security::of_pod(errors, spec);
    affinity::affinity(errors, &spec.child("affinity"));
    network::dns(errors, spec);
    scheduling::gates(errors, spec);
    scheduling::spread(errors, &spec.child("topologySpreadConstraints"));
    windows::host_process(errors, spec);
    security::host_users(errors, spec);
    network::hostname(errors, spec);
    plain(errors, spec);
    scheduling::tolerations(errors, &spec.child("tolerations"));
    network::host_aliases(errors, &spec.child("hostAliases"));
    last(errors, spec);
}

/// Single fields, most of them names.
fn plain(errors: &mut Vec<FieldError>, spec: &Field<'_>) {
    spec.child("serviceAccountName").check_name(errors, names::subdomain);
    spec.child("nodeName").check_name(errors, names::subdomain);
    spec.child("activeDeadlineSeconds").check_between(errors, 1, i64::from(i32::MAX));
    spec.child("hostname").check_name(errors, names::label);
    spec.child("subdomain").check_name(errors, names::label);
    spec.child("priorityClassName").check_name(errors, names::subdomain);
    let class = spec.child("runtimeClassName");
    if class.is_set() {
        class.judge(errors, names::subdomain(class.text(), false));
    }
    let preemption = spec.child("preemptionPolicy");
    if preemption.is_set() {
        preemption.check_one_of(errors, &["PreemptLowerPriority", "Never"]);
    }
}

/// What upstream checks at the end: overhead, operating system, group, files that variables are read from.
fn last(errors: &mut Vec<FieldError>, spec: &Field<'_>) {
    let overhead = spec.child("overhead");
    if overhead.is_set() {
        resources::overhead(errors, &overhead);
    }
    windows::os(errors, spec);
    let group = spec.child("schedulingGroup");
    if group.is_set() {
        let name = group.child("podGroupName");
        match name.is_set() {
            true => name.judge(errors, names::subdomain(name.text(), false)),
            false => errors.push(name.invalid("must specify one of: `podGroupName`")),
        }
    }
    env::file_volumes(errors, spec);
}

/// Calls back for each container of all three kinds.
fn visit_containers(spec: &Field<'_>, mut visit: impl FnMut(&Field<'_>)) {
    for list in CONTAINER_LISTS {
        let containers = spec.child(list);
        containers.each().for_each(|container| visit(&container));
    }
}

/// Checks that only a whole pod must stand: images without spaces around them, tokens only with an account.
pub fn only_for_pods(errors: &mut Vec<FieldError>, spec: &Field<'_>) {
    if spec.child("serviceAccountName").text().is_empty() {
        for volume in spec.child("volumes").each() {
            for source in volume.child("projected").child("sources").each() {
                let token = source.child("serviceAccountToken");
                if token.is_set() {
                    errors.push(token.forbidden("must not be specified when serviceAccountName is not set"));
                }
            }
        }
    }
    for list in ["containers", "initContainers"] {
        for container in spec.child(list).each() {
            container::image_of_pod(errors, &container);
        }
    }
}

/// Checks a user or group id.
fn check_id(errors: &mut Vec<FieldError>, id: &Field<'_>) {
    const MOST: i64 = i32::MAX as i64;
    if id.number().is_some_and(|id| !(0..=MOST).contains(&id)) {
        errors.push(id.invalid(between(0, MOST)));
    }
}
