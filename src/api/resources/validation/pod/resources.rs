//! Requests, limits and claims, of containers and of whole pods.

use std::{cmp::Ordering, collections::BTreeSet};

use serde_json::{Value, json};

use super::{
    super::{
        Field,
        resource_names::{in_container, is_extended, is_huge, may_overcommit},
    },
    Facts,
};
use crate::{
    meta::{names, quantity},
    resources::{
        int_or_string::display,
        pod_amounts,
        tree::{at, text},
    },
    status::FieldError,
};

const UNIT: i128 = 1_000_000_000;
const MIRROR: &str = "kubernetes.io/config.mirror";

type NameRule = fn(&mut Vec<FieldError>, &Field<'_>, &str);

fn name_in_pod(errors: &mut Vec<FieldError>, field: &Field<'_>, name: &str) {
    let messages = names::qualified(name);
    if !messages.is_empty() {
        errors.extend(messages.into_iter().map(|message| field.invalid_as(name, message)));
    } else if !["cpu", "memory"].contains(&name) && !is_huge(name) {
        errors.push(FieldError::not_supported(*field, name, &["cpu", "hugepages-", "memory"]));
    }
}

/// Checks a container's `resources`.
pub(super) fn of_container(errors: &mut Vec<FieldError>, resources: &Field<'_>, facts: &Facts<'_>) {
    requirements(errors, resources, in_container);
    claim_names(errors, &resources.child("claims"), &facts.claims);
}

/// Checks the `resources` of a whole pod, and that they hold those of its containers.
pub fn of_pod(errors: &mut Vec<FieldError>, spec: &Field<'_>, os: &str) {
    let resources = spec.child("resources");
    if !resources.is_set() {
        return;
    }
    if os == "windows" {
        return errors.push(resources.forbidden("may not be set for a windows pod"));
    }
    if resources.child("claims").is_set() {
        errors.push(resources.child("claims").forbidden("claims may not be set for Resources at pod-level"));
    }
    requirements(errors, &resources, name_in_pod);
    consistent(errors, spec, &resources);
}

fn consistent(errors: &mut Vec<FieldError>, spec: &Field<'_>, resources: &Field<'_>) {
    for (kind, words) in [("requests", "requests"), ("limits", "limits")] {
        for (name, amount) in resources.child(kind).entries() {
            if kind == "limits" && !is_huge(name) {
                continue;
            }
            let (Some(own), Some(sum)) = (quantity::value_nanos(amount.value), pod_amounts::of_containers(spec.value, kind, name)) else { continue };
            if sum > own {
                let sum = quantity::canonical(sum, name != "cpu");
                let detail = format!("must be greater than or equal to aggregate container {words} of {sum}");
                errors.push(amount.invalid_as(display(amount.value), detail));
            }
        }
    }
    let containers = resources.child("containers");
    for (index, container) in spec.child("containers").items().iter().enumerate() {
        for (name, amount) in at(container, &["resources", "limits"]).as_object().into_iter().flatten() {
            let whole = at(resources.value, &["limits", name]);
            let (Some(part), Some(most)) = (quantity::value_nanos(amount), quantity::value_nanos(whole)) else { continue };
            if part > most {
                let detail = format!("must be less than or equal to pod limits of {}", display(whole));
                errors.push(containers.index(index).key(name).child("limits").invalid_as(display(amount), detail));
            }
        }
    }
}

fn requirements(errors: &mut Vec<FieldError>, resources: &Field<'_>, rule: NameRule) {
    let (limits, requests) = (resources.child("limits"), resources.child("requests"));
    let (mut has_usual, mut has_huge) = (false, false);
    for (list, is_request) in [(&limits, false), (&requests, true)] {
        for (name, amount) in list.entries() {
            rule(errors, &amount, name);
            check_amount(errors, name, &amount);
            if is_request {
                within_limit(errors, name, &amount, &limits, &requests);
            }
            if is_huge(name) {
                has_huge = true;
                whole_pages(errors, name, &amount);
            }
            has_usual |= ["cpu", "memory"].contains(&name);
        }
    }
    if has_huge && !has_usual {
        errors.push(resources.forbidden("HugePages require cpu or memory"));
    }
}

/// Checks the `overhead` of a pod: amounts as a container's limits.
pub fn overhead(errors: &mut Vec<FieldError>, overhead: &Field<'_>) {
    requirements(errors, &overhead.with(&json!({"limits": overhead.value})), in_container);
}

fn check_amount(errors: &mut Vec<FieldError>, name: &str, amount: &Field<'_>) {
    let Some(nanos) = quantity::value_nanos(amount.value) else { return };
    if nanos < 0 {
        errors.push(amount.invalid_as(display(amount.value), "must be greater than or equal to 0"));
    }
    if is_extended(name) && nanos % UNIT != 0 {
        errors.push(amount.invalid_as(display(amount.value), "must be an integer"));
    }
}

fn whole_pages(errors: &mut Vec<FieldError>, name: &str, amount: &Field<'_>) {
    let Some(nanos) = quantity::value_nanos(amount.value) else { return };
    let page = name.strip_prefix("hugepages-").and_then(quantity::nanos).filter(|page| *page > 0 && page % UNIT == 0);
    if page.is_none_or(|page| nanos % page != 0) {
        let shown = display(amount.value);
        errors.push(amount.invalid_as(shown.as_str(), format!("{shown} is not positive integer multiple of {name}")));
    }
}

fn within_limit(errors: &mut Vec<FieldError>, name: &str, amount: &Field<'_>, limits: &Field<'_>, requests: &Field<'_>) {
    let limit = limits.key(name);
    if !limit.is_set() {
        if !may_overcommit(name) {
            errors.push(limits.required("Limit must be set for non overcommitable resources"));
        }
        return;
    }
    let (Some(asked), Some(most)) = (quantity::value_nanos(amount.value), quantity::value_nanos(limit.value)) else { return };
    let relation = match (may_overcommit(name), asked.cmp(&most)) {
        (_, Ordering::Equal) | (true, Ordering::Less) => return,
        (false, _) => "must be equal to",
        (true, Ordering::Greater) => "must be less than or equal to",
    };
    errors.push(requests.invalid_as(display(amount.value), format!("{relation} {name} limit of {}", display(limit.value))));
}

/// Checks `resourceClaims` and gives their names.
pub fn claims<'a>(errors: &mut Vec<FieldError>, claims: &Field<'a>, metadata: Option<&Value>) -> BTreeSet<&'a str> {
    let is_static = metadata.is_some_and(|metadata| !at(metadata, &["annotations", MIRROR]).is_null());
    let mut seen = BTreeSet::new();
    for (claim, value) in claims.each().zip(claims.items()) {
        if is_static {
            errors.push(FieldError::forbidden("", "static pods do not support resource claims"));
            continue;
        }
        let name = claim.child("name");
        if name.text().is_empty() {
            errors.push(name.required(""));
        } else if !seen.insert(text(value, &["name"])) {
            errors.push(name.duplicate());
        } else {
            name.judge(errors, names::label(name.text(), false));
        }
        let sources = [claim.child("resourceClaimName"), claim.child("resourceClaimTemplateName")];
        match sources.iter().filter(|source| source.is_set()).count() {
            0 => errors.push(claim.invalid("must specify one of: `resourceClaimName`, `resourceClaimTemplateName`")),
            1 => {}
            _ => errors.push(claim.invalid("at most one of `resourceClaimName` or `resourceClaimTemplateName` may be specified")),
        }
        for source in sources.iter().filter(|source| source.is_set()) {
            source.judge(errors, names::subdomain(source.text(), false));
        }
    }
    claims.items().iter().map(|claim| text(claim, &["name"])).filter(|name| !name.is_empty()).collect()
}

/// Names as an error lists them, which is made for each wrong name: of many only the first.
fn listed(names: &BTreeSet<&str>) -> String {
    const MOST: usize = 100;
    let mut list = names.iter().copied().take(MOST).collect::<Vec<_>>().join(", ");
    if names.len() > MOST {
        list.push_str(", ...");
    }
    list
}

/// The claims a container uses: each once, whole or request by request.
fn claim_names(errors: &mut Vec<FieldError>, claims: &Field<'_>, known: &BTreeSet<&str>) {
    let (mut whole, mut parts) = (BTreeSet::new(), BTreeSet::new());
    for claim in claims.each() {
        let (name, request) = (claim.child("name").text().to_owned(), claim.child("request"));
        if name.is_empty() {
            errors.push(claim.required(""));
            continue;
        }
        if whole.contains(&name) {
            errors.push(claim.duplicate_as(name.as_str()));
        } else if request.text().is_empty() {
            let part: Option<&(String, String)> = parts.range((name.clone(), String::new())..).next();
            if part.is_some_and(|(claim, _)| *claim == name) {
                errors.push(claim.duplicate_as(name.as_str()));
            }
            whole.insert(name.clone());
        } else {
            request.judge(errors, names::label(request.text(), false));
            if !parts.insert((name.clone(), request.text().to_owned())) {
                errors.push(claim.duplicate_as(format!("{name}/{}", request.text())));
            }
        }
        if !known.contains(name.as_str()) {
            let list = listed(known);
            let end = if list.is_empty() { " which is empty".to_owned() } else { format!(": {list}") };
            errors.push(claim.with(&json!(name)).not_found(format!("must be one of the names in pod.spec.resourceClaims{end}")));
        }
    }
}
