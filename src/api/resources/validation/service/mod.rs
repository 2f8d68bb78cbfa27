//! Services.

mod addresses;
mod ports;
#[cfg(test)]
mod tests;
mod update;

use serde_json::Value;

use super::{
    Field, between,
    ip::{self, Known},
    labels,
};
use crate::{
    meta::{Object, names},
    resources::tree,
    status::FieldError,
};

pub use addresses::cluster_ips;
pub use update::{address_changes, service_update};

const NONE: &Value = &Value::Null;
const HINTS: &str = "service.kubernetes.io/topology-aware-hints";
const MODE: &str = "service.kubernetes.io/topology-mode";
const SOURCE_RANGES: &str = "service.beta.kubernetes.io/load-balancer-source-ranges";
const ONLY_BALANCED: &str = "may only be used when `type` is 'LoadBalancer'";
const MOST_AFFINITY_SECONDS: i64 = 86_400;

/// The spec of a service, where it stands.
pub fn spec_of(service: &Object) -> Field<'_> {
    Field::root("spec", service.get(&["spec"]).unwrap_or(NONE))
}

fn kind<'a>(spec: &Field<'a>) -> &'a str {
    tree::text(spec.value, &["type"])
}

/// Whether a service has no address of its own.
fn is_headless(spec: &Field<'_>) -> bool {
    matches!(spec.child("clusterIPs").items(), [only] if only == "None")
}

/// Whether anybody outside can reach it.
fn is_external(spec: &Field<'_>) -> bool {
    matches!(kind(spec), "LoadBalancer" | "NodePort") || kind(spec) == "ClusterIP" && !spec.child("externalIPs").items().is_empty()
}

/// Whether a load balancer asks nodes whether they have endpoints.
fn needs_health_check(spec: &Field<'_>) -> bool {
    kind(spec) == "LoadBalancer" && spec.child("externalTrafficPolicy").text() == "Local"
}

/// Checks a service; `old` is what an update changes.
pub fn service(object: &Object, old: Option<&Object>) -> Vec<FieldError> {
    let (spec, mut errors) = (spec_of(object), Vec::new());
    let nothing = Object::default();
    let before = spec_of(old.unwrap_or(&nothing));
    topology(&mut errors, object);
    if spec.child("ports").items().is_empty() && !is_headless(&spec) && kind(&spec) != "ExternalName" {
        errors.push(spec.child("ports").required(""));
    }
    match kind(&spec) {
        "ExternalName" => external_name(&mut errors, &spec),
        other @ ("LoadBalancer" | "NodePort") if is_headless(&spec) => {
            let detail = format!("may not be set to 'None' for {other} services");
            errors.push(spec.child("clusterIPs").index(0).invalid(detail));
        }
        _ => {}
    }
    ports::each(&mut errors, &spec);
    let selector = spec.child("selector");
    labels::labels(&mut errors, &selector.to_string(), selector.value);
    affinity(&mut errors, &spec);
    cluster_ips(&mut errors, &spec, &before);
    addresses::external(&mut errors, &spec, &before);
    spec.child("type").check_one_of(&mut errors, &["ClusterIP", "ExternalName", "LoadBalancer", "NodePort"]);
    ports::together(&mut errors, &spec);
    source_ranges(&mut errors, object, old);
    balancing(&mut errors, &spec);
    external_traffic(&mut errors, &spec);
    internal_traffic(&mut errors, &spec);
    errors
}

/// Two annotations that mean the same may not differ.
fn topology(errors: &mut Vec<FieldError>, object: &Object) {
    if let (Some(mode), Some(hints)) = (object.annotation(MODE), object.annotation(HINTS))
        && mode != hints
    {
        let detail = format!("must match annotations[{HINTS}] when both are specified");
        errors.push(FieldError::invalid(format!("metadata.annotations[{MODE}]"), mode, detail));
    }
}

fn external_name(errors: &mut Vec<FieldError>, spec: &Field<'_>) {
    for name in ["clusterIPs", "ipFamilies"] {
        if !spec.child(name).items().is_empty() {
            errors.push(spec.child(name).forbidden("may not be set for ExternalName services"));
        }
    }
    if spec.child("ipFamilyPolicy").is_set() {
        errors.push(spec.child("ipFamilyPolicy").forbidden("may not be set for ExternalName services"));
    }
    let name = spec.child("externalName");
    match name.text().strip_suffix('.').unwrap_or(name.text()) {
        "" => errors.push(name.required("")),
        text => errors.extend(names::subdomain(text, false).into_iter().map(|message| name.invalid_as(text, message))),
    }
}

fn affinity(errors: &mut Vec<FieldError>, spec: &Field<'_>) {
    let (affinity, config) = (spec.child("sessionAffinity"), spec.child("sessionAffinityConfig"));
    affinity.check_one_of(errors, &["ClientIP", "None"]);
    if affinity.text() == "None" && config.is_set() {
        errors.push(config.forbidden("must not be set when session affinity is None"));
    }
    if affinity.text() != "ClientIP" {
        return;
    }
    let client = config.child("clientIP");
    let seconds = client.child("timeoutSeconds");
    if let Some(missing) = [&config, &client, &seconds].into_iter().find(|part| !part.is_set()) {
        errors.push(missing.required("when session affinity type is ClientIP"));
    } else if !(1..=MOST_AFFINITY_SECONDS).contains(&seconds.int()) {
        errors.push(seconds.invalid(format!("must be greater than 0 and less than {MOST_AFFINITY_SECONDS}")));
    }
}

/// Who may use a load balancer: by field, or by annotation where the field is empty.
fn source_ranges(errors: &mut Vec<FieldError>, object: &Object, old: Option<&Object>) {
    let spec = spec_of(object);
    let is_balanced = kind(&spec) == "LoadBalancer";
    let ranges = spec.child("loadBalancerSourceRanges");
    if !ranges.items().is_empty() {
        let shown = spec.child("LoadBalancerSourceRanges");
        let shown = shown.with(ranges.value);
        if !is_balanced {
            errors.push(shown.forbidden(ONLY_BALANCED));
        }
        let before = old.map(|old| old.list(&["spec", "loadBalancerSourceRanges"])).unwrap_or_default();
        let known = Known::new(before.iter().filter_map(Value::as_str).map(str::trim));
        for range in shown.each() {
            let text = range.text().trim();
            ip::range_or_known(errors, &range, text, &known);
        }
        return;
    }
    let Some(annotation) = object.annotation(SOURCE_RANGES) else { return };
    let path = format!("metadata.annotations[{SOURCE_RANGES}]");
    if !is_balanced {
        errors.push(FieldError::forbidden(path.as_str(), ONLY_BALANCED));
    }
    if old.and_then(|old| old.annotation(SOURCE_RANGES)) != Some(annotation) && !annotation.trim().is_empty() {
        for range in annotation.split(',') {
            ip::range(errors, &path, range.trim());
        }
    }
}

fn balancing(errors: &mut Vec<FieldError>, spec: &Field<'_>) {
    let (allocate, class) = (spec.child("allocateLoadBalancerNodePorts"), spec.child("loadBalancerClass"));
    if kind(spec) == "LoadBalancer" {
        if !allocate.is_set() {
            errors.push(FieldError::required("allocateLoadBalancerNodePorts", ""));
        }
        if class.is_set() {
            class.check_qualified(errors);
        }
        return;
    }
    for field in [allocate, class].iter().filter(|field| field.is_set()) {
        errors.push(field.forbidden(ONLY_BALANCED));
    }
}

fn external_traffic(errors: &mut Vec<FieldError>, spec: &Field<'_>) {
    let (policy, health) = (spec.child("externalTrafficPolicy"), spec.child("healthCheckNodePort"));
    if is_external(spec) {
        policy.check_one_of(errors, &["Cluster", "Local"]);
    } else if !policy.text().is_empty() {
        errors.push(policy.invalid("may only be set for externally-accessible services"));
    }
    match (needs_health_check(spec), health.int()) {
        (false, 0) | (true, 1..=65_535) => {}
        (false, _) => errors.push(health.invalid("may only be set when `type` is 'LoadBalancer' and `externalTrafficPolicy` is 'Local'")),
        (true, 0) => errors.push(health.required("")),
        (true, _) => errors.push(health.invalid(between(1, 65_535))),
    }
}

fn internal_traffic(errors: &mut Vec<FieldError>, spec: &Field<'_>) {
    let (policy, distribution) = (spec.child("internalTrafficPolicy"), spec.child("trafficDistribution"));
    if !policy.is_set() && matches!(kind(spec), "NodePort" | "LoadBalancer" | "ClusterIP") {
        errors.push(policy.required(""));
    }
    policy.check_supported(errors, &["Cluster", "Local"]);
    distribution.check_supported(errors, &["PreferClose", "PreferSameZone", "PreferSameNode"]);
}
