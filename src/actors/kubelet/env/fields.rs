//! The downward API: fields of the pod and resources of its containers as text.

use std::collections::BTreeMap;

use k8s_openapi::{
    api::core::v1::{Container, Pod, ResourceFieldSelector},
    apimachinery::pkg::api::resource::Quantity,
};
use troupe_cri::{quantity, resources::MachineSize};

/// A field of a pod, such as `metadata.name` or `metadata.labels['app']`.
pub fn field_value(pod: &Pod, path: &str, pod_ips: &[String], node_ips: &[String]) -> Result<String, String> {
    let meta = &pod.metadata;
    let text = |value: &Option<String>| value.clone().unwrap_or_default();
    let spec = pod.spec.as_ref();
    let first = |ips: &[String]| ips.first().cloned().unwrap_or_default();
    if let Some((map, key)) = subscript(path) {
        let map = match map {
            "metadata.labels" => &meta.labels,
            "metadata.annotations" => &meta.annotations,
            _ => return Err(format!("unsupported fieldPath: {path}")),
        };
        return Ok(map.as_ref().and_then(|map| map.get(key)).cloned().unwrap_or_default());
    }
    Ok(match path {
        "metadata.name" => text(&meta.name),
        "metadata.namespace" => text(&meta.namespace),
        "metadata.uid" => text(&meta.uid),
        "metadata.labels" => format_map(meta.labels.as_ref()),
        "metadata.annotations" => format_map(meta.annotations.as_ref()),
        "spec.nodeName" => spec.map(|spec| text(&spec.node_name)).unwrap_or_default(),
        "spec.serviceAccountName" => spec.map(|spec| text(&spec.service_account_name)).unwrap_or_default(),
        "status.hostIP" => first(node_ips),
        "status.hostIPs" => node_ips.join(","),
        "status.podIP" => first(pod_ips),
        "status.podIPs" => pod_ips.join(","),
        _ => return Err(format!("unsupported fieldPath: {path}")),
    })
}

/// `metadata.labels['key']` taken apart.
fn subscript(path: &str) -> Option<(&str, &str)> {
    let (map, rest) = path.split_once("['")?;
    Some((map, rest.strip_suffix("']")?))
}

/// A map as downward API files show it: `key="value"` lines, values quoted as Go does.
fn format_map(map: Option<&BTreeMap<String, String>>) -> String {
    let lines: Vec<_> = map.into_iter().flatten().map(|(key, value)| format!("{key}={}", quoted(value))).collect();
    lines.join("\n")
}

fn quoted(text: &str) -> String {
    serde_json::to_string(text).expect("a string always encodes")
}

/// A container's request or limit in units of the divisor, rounded up. A limit that is not set is its pod's own (`spec.resources`), else the
/// node's: huge pages have none, they are never given out twice.
pub fn resource_value(pod: &Pod, container: &Container, field: &ResourceFieldSelector, machine: MachineSize) -> Result<String, String> {
    let (kind, name) = field.resource.split_once('.').ok_or_else(|| format!("unsupported container resource : {}", field.resource))?;
    let resources = container.resources.as_ref();
    let is_set = |limit: &&Quantity| quantity::milli(&limit.0).unwrap_or(0) > 0;
    let of_pod = || pod.spec.as_ref()?.resources.as_ref()?.limits.as_ref()?.get(name).filter(is_set);
    let limit = resources.and_then(|resources| resources.limits.as_ref()?.get(name)).filter(is_set).or_else(of_pod);
    let chosen = match kind {
        "limits" => limit,
        "requests" => resources.and_then(|resources| resources.requests.as_ref()?.get(name)),
        _ => return Err(format!("unsupported container resource : {}", field.resource)),
    };
    let whole = |milli: i64| i128::from(milli) * 1000;
    let milli = match (chosen, kind, name) {
        (Some(quantity), _, _) => quantity::milli(&quantity.0).unwrap_or(0),
        (None, "limits", "cpu") => whole(machine.cpus),
        (None, "limits", "memory") => whole(machine.memory_bytes),
        (None, "limits", "ephemeral-storage") => whole(machine.storage_bytes),
        _ => 0,
    };
    let divisor = field.divisor.as_ref().and_then(|quantity| quantity::milli(&quantity.0)).filter(|milli| *milli > 0).unwrap_or(1000);
    Ok((milli / divisor + i128::from(milli % divisor > 0)).to_string())
}
