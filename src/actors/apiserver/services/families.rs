//! IP families of a Service against those that the cluster has. Pure.

use ipnetwork::IpNetwork;
use serde_json::Value;
use troupe_api::{meta::Object, status::FieldError};

/// `IPv4` or `IPv6`.
pub fn family_of(range: &IpNetwork) -> &'static str {
    if range.is_ipv4() { "IPv4" } else { "IPv6" }
}

fn families(service: &Object) -> Vec<String> {
    service.list(&["spec", "ipFamilies"]).iter().filter_map(Value::as_str).map(str::to_owned).collect()
}

/// External names have no families, and headless services without selector may name any.
fn is_free(service: &Object) -> bool {
    let headless = service.str(&["spec", "clusterIP"]) == "None";
    let selects = service.get(&["spec", "selector"]).and_then(Value::as_object).is_some_and(|selector| !selector.is_empty());
    service.str(&["spec", "type"]) == "ExternalName" || headless && !selects
}

/// What the cluster's ranges do not allow.
pub fn check(service: &Object, ranges: &[IpNetwork]) -> Vec<FieldError> {
    if is_free(service) {
        return Vec::new();
    }
    let mut errors = Vec::new();
    let policy = service.str(&["spec", "ipFamilyPolicy"]);
    let ips = service.list(&["spec", "clusterIPs"]).len();
    let wanted = families(service);
    if policy == "SingleStack" && ips == 2 {
        let why = "must be 'RequireDualStack' or 'PreferDualStack' when multiple cluster IPs are specified";
        errors.push(FieldError::invalid("spec.ipFamilyPolicy", policy, why));
    }
    if policy == "SingleStack" && wanted.len() == 2 {
        let why = "must be 'RequireDualStack' or 'PreferDualStack' when multiple IP families are specified";
        errors.push(FieldError::invalid("spec.ipFamilyPolicy", policy, why));
    }
    if policy == "RequireDualStack" && ranges.len() < 2 {
        errors.push(FieldError::invalid("spec.ipFamilyPolicy", policy, "this cluster is not configured for dual-stack services"));
    }
    for (index, family) in wanted.iter().enumerate() {
        if !ranges.iter().any(|range| family_of(range) == family) {
            errors.push(FieldError::invalid(format!("spec.ipFamilies[{index}]"), family.as_str(), "not configured on this cluster"));
        }
    }
    errors
}

/// Fills in the families that the policy asks for and the cluster has, and the list of addresses from the single one.
pub fn complete(service: &mut Object, ranges: &[IpNetwork]) {
    let first = service.str(&["spec", "clusterIP"]).to_owned();
    if !first.is_empty() && service.list(&["spec", "clusterIPs"]).is_empty() {
        service.set(&["spec", "clusterIPs"], vec![first]);
    }
    if is_free(service) {
        return;
    }
    let mut wanted = families(service);
    if wanted.is_empty() {
        wanted.extend(ranges.first().map(|range| family_of(range).to_owned()));
    }
    if service.str(&["spec", "ipFamilyPolicy"]) != "SingleStack" && wanted.len() == 1 {
        wanted.extend(ranges.iter().map(|range| family_of(range).to_owned()).find(|family| *family != wanted[0]));
    }
    service.set(&["spec", "ipFamilies"], wanted);
}
