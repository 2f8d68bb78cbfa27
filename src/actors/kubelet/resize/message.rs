//! What events tell of a resize, as upstream's kubelet words it: machines read these.

use k8s_openapi::api::core::v1::{Container, Pod, ResourceRequirements};
use serde::Serialize;

#[derive(Serialize)]
struct Sized<'a> {
    name: &'a str,
    resources: ResourceRequirements,
}

#[derive(Serialize)]
struct Summary<'a> {
    #[serde(rename = "initContainers", skip_serializing_if = "Vec::is_empty")]
    init_containers: Vec<Sized<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    containers: Vec<Sized<'a>>,
    generation: i64,
    #[serde(skip_serializing_if = "str::is_empty")]
    error: &'a str,
}

/// The message of a resize that began, with what the pod gets.
pub fn started(pod: &Pod, generation: i64) -> String {
    message("Pod resize started", pod, generation, "")
}

/// Of one that is done.
pub fn completed(pod: &Pod, generation: i64) -> String {
    message("Pod resize completed", pod, generation, "")
}

/// Of one that could not be carried out.
pub fn failed(pod: &Pod, generation: i64, error: &str) -> String {
    message("Pod resize error", pod, generation, error)
}

/// Of one that is not allocated.
pub fn pending(pod: &Pod, generation: i64, reason: &str, why: &str) -> String {
    message(&format!("Pod resize {reason}"), pod, generation, why)
}

fn message(what: &str, pod: &Pod, generation: i64, error: &str) -> String {
    let spec = pod.spec.as_ref();
    let summary = Summary {
        init_containers: spec.iter().flat_map(|spec| spec.init_containers.iter().flatten()).map(sized).collect(),
        containers: spec.iter().flat_map(|spec| &spec.containers).map(sized).collect(),
        generation,
        error,
    };
    match serde_json::to_string(&summary) {
        Ok(summary) => format!("{what}: {summary}"),
        Err(_) => what.to_owned(),
    }
}

fn sized(container: &Container) -> Sized<'_> {
    Sized { name: &container.name, resources: container.resources.clone().unwrap_or_default() }
}
