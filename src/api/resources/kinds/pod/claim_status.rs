//! Checks of what a status says of resource claims.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use crate::{
    meta::{names, quantity},
    resources::{
        int_or_string::display,
        tree::{at, items, text},
        validation::Field,
    },
    status::FieldError,
};

/// Checks `extendedResourceClaimStatus`: the claim that stands for extended resources.
pub fn extended(errors: &mut Vec<FieldError>, status: &Field<'_>, spec: &Value) {
    if !status.is_set() {
        return;
    }
    let containers: BTreeMap<&str, &Value> = ["initContainers", "containers"]
        .into_iter()
        .flat_map(|list| items(spec, &[list]))
        .map(|container| (text(container, &["name"]), container))
        .collect();
    let mappings = status.child("requestMappings");
    if mappings.items().is_empty() {
        errors.push(mappings.required("at least one request mapping is required"));
    }
    let mut seen = BTreeSet::new();
    for mapping in mappings.each() {
        let parts = ["containerName", "resourceName", "requestName"].map(|name| mapping.child(name).text().to_owned());
        let [container, resource, request] = &parts;
        match containers.get(container.as_str()) {
            Some(found) if at(found, &["resources", "requests", resource]).is_null() => {
                let detail = "must match the extended resource name of an entry in spec.initContainers.resources.requests or spec.containers.resources.requests";
                errors.push(mapping.child("resourceName").invalid_as(resource.as_str(), detail));
            }
            Some(_) => {}
            None => {
                let detail = "must match the name of an entry in spec.initContainers.name or spec.containers.name";
                errors.push(mapping.child("containerName").invalid_as(container.as_str(), detail));
            }
        }
        status.child("requestName").with(&request.as_str().into()).judge(errors, names::label(request, false));
        if seen.contains(&parts) {
            errors.extend(["containerName", "resourceName", "requestName"].map(|name| mapping.child(name).duplicate()));
        }
        seen.insert(parts);
    }
    status.child("resourceClaimName").check_required_name(errors, names::subdomain);
}

/// Checks `nodeAllocatableResourceClaimStatuses`: claims for what nodes themselves allocate.
pub fn allocatable(errors: &mut Vec<FieldError>, status: &Field<'_>, spec: &Value) {
    let of = |list: &[Value]| list.iter().map(|claim| text(claim, &["resourceClaimName"]).to_owned()).collect::<BTreeSet<_>>();
    let mut known = of(items(spec, &["resourceClaims"]));
    known.extend(of(status.child("resourceClaimStatuses").items()));
    for claim in status.child("nodeAllocatableResourceClaimStatuses").each() {
        let (name, containers, resources) = (claim.child("resourceClaimName"), claim.child("containers"), claim.child("resources"));
        if name.text().is_empty() {
            errors.push(name.required("must not be empty"));
        }
        if name.text().is_empty() || !known.contains(name.text()) {
            errors.push(name.invalid_as(name.text(), "no mapping found in pod reference"));
        }
        if containers.items().is_empty() {
            errors.push(containers.required("must not be empty"));
        }
        if resources.entries().next().is_none() {
            errors.push(resources.required("must not be empty"));
        }
        for (name, amount) in resources.entries() {
            if name.contains('/') && !name.contains("kubernetes.io/") {
                errors.push(amount.invalid_as(name, "must be a node allocatable resource name"));
            }
            if quantity::value_nanos(amount.value).is_some_and(|nanos| nanos < 0) {
                errors.push(amount.invalid_as(display(amount.value), "must be non-negative"));
            }
        }
    }
}
