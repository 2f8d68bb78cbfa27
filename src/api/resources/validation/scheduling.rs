//! Where a pod may go: tolerations, affinity, spreading, gates.

use serde_json::Value;

use super::{invalid_each, labels, names, one_of};
use crate::{
    resources::tree::{at, int, items, text},
    status::FieldError,
};

const NODE_OPERATORS: [&str; 6] = ["DoesNotExist", "Exists", "Gt", "In", "Lt", "NotIn"];

/// Checks the scheduling parts of a pod spec.
pub fn scheduling(errors: &mut Vec<FieldError>, spec: &Value, field: &str) {
    for (index, toleration) in items(spec, &["tolerations"]).iter().enumerate() {
        tolerates(errors, toleration, &format!("{field}.tolerations[{index}]"));
    }
    spread(errors, items(spec, &["topologySpreadConstraints"]), &format!("{field}.topologySpreadConstraints"));
    node_affinity(errors, at(spec, &["affinity", "nodeAffinity"]), &format!("{field}.affinity.nodeAffinity"));
    for kind in ["podAffinity", "podAntiAffinity"] {
        pod_affinity(errors, at(spec, &["affinity", kind]), &format!("{field}.affinity.{kind}"));
    }
    let gates = items(spec, &["schedulingGates"]);
    for (index, gate) in gates.iter().enumerate() {
        let (path, name) = (format!("{field}.schedulingGates[{index}]"), text(gate, &["name"]));
        invalid_each(errors, &path, name, names::qualified(name));
        if gates[..index].iter().any(|other| text(other, &["name"]) == name) {
            errors.push(FieldError::duplicate(path, name));
        }
    }
    for (index, gate) in items(spec, &["readinessGates"]).iter().enumerate() {
        let kind = text(gate, &["conditionType"]);
        invalid_each(errors, &format!("{field}.readinessGates[{index}].conditionType"), kind, names::qualified(kind));
    }
}

fn tolerates(errors: &mut Vec<FieldError>, toleration: &Value, field: &str) {
    let part = |name: &str| text(toleration, &[name]);
    let (key, operator, value, effect) = (part("key"), part("operator"), part("value"), part("effect"));
    if !key.is_empty() {
        invalid_each(errors, &format!("{field}.key"), key, names::qualified(key));
    } else if operator != "Exists" {
        let detail = "operator must be Exists when `key` is empty, which means \"match all values and all keys\"";
        errors.push(FieldError::invalid(format!("{field}.operator"), operator, detail));
    }
    if !at(toleration, &["tolerationSeconds"]).is_null() && effect != "NoExecute" {
        errors.push(FieldError::invalid(format!("{field}.effect"), effect, "effect must be 'NoExecute' when `tolerationSeconds` is set"));
    }
    match operator {
        "" | "Equal" => {
            let messages = names::label_value(value);
            if !messages.is_empty() {
                errors.push(FieldError::invalid(format!("{field}.operator"), value, messages.join(";")));
            }
        }
        "Exists" if !value.is_empty() => {
            errors.push(FieldError::invalid(format!("{field}.operator"), value, "value must be empty when `operator` is 'Exists'"));
        }
        "Exists" => {}
        other => errors.push(FieldError::not_supported(format!("{field}.operator"), other, &["Equal", "Exists"])),
    }
    if !effect.is_empty() {
        one_of(errors, &format!("{field}.effect"), effect, &["NoSchedule", "PreferNoSchedule", "NoExecute"]);
    }
}

fn spread(errors: &mut Vec<FieldError>, constraints: &[Value], field: &str) {
    for (index, constraint) in constraints.iter().enumerate() {
        let path = format!("{field}[{index}]");
        let skew = int(constraint, &["maxSkew"]);
        if skew <= 0 {
            errors.push(FieldError::invalid(format!("{path}.maxSkew"), skew, "must be greater than zero"));
        }
        let (key, action) = (text(constraint, &["topologyKey"]), text(constraint, &["whenUnsatisfiable"]));
        match key {
            "" => errors.push(FieldError::required(format!("{path}.topologyKey"), "can not be empty")),
            key => invalid_each(errors, &format!("{path}.topologyKey"), key, names::qualified(key)),
        }
        if !["DoNotSchedule", "ScheduleAnyway"].contains(&action) {
            errors.push(FieldError::not_supported(format!("{path}.whenUnsatisfiable"), action, &["DoNotSchedule", "ScheduleAnyway"]));
        }
        let same = |other: &Value| text(other, &["topologyKey"]) == key && text(other, &["whenUnsatisfiable"]) == action;
        if constraints[..index].iter().any(same) {
            errors.push(FieldError::duplicate(format!("{path}.{{topologyKey, whenUnsatisfiable}}"), format!("{{{key}, {action}}}")));
        }
        match at(constraint, &["minDomains"]).as_i64() {
            Some(domains) if domains <= 0 => {
                errors.push(FieldError::invalid(format!("{path}.minDomains"), domains, "must be greater than zero"));
            }
            Some(domains) if action != "DoNotSchedule" => {
                let detail = format!("can only use minDomains if whenUnsatisfiable=DoNotSchedule, not {action}");
                errors.push(FieldError::invalid(format!("{path}.minDomains"), domains, detail));
            }
            _ => {}
        }
        labels::selector(errors, &format!("{path}.labelSelector"), at(constraint, &["labelSelector"]));
    }
}

fn node_affinity(errors: &mut Vec<FieldError>, affinity: &Value, field: &str) {
    const REQUIRED: &str = "requiredDuringSchedulingIgnoredDuringExecution";
    const PREFERRED: &str = "preferredDuringSchedulingIgnoredDuringExecution";
    let needed = at(affinity, &[REQUIRED]);
    if !needed.is_null() {
        let terms = items(needed, &["nodeSelectorTerms"]);
        if terms.is_empty() {
            errors.push(FieldError::required(format!("{field}.{REQUIRED}.nodeSelectorTerms"), "must have at least one node selector term"));
        }
        for (index, term) in terms.iter().enumerate() {
            node_term(errors, term, &format!("{field}.{REQUIRED}.nodeSelectorTerms[{index}]"));
        }
    }
    for (index, preferred) in items(affinity, &[PREFERRED]).iter().enumerate() {
        let path = format!("{field}.{PREFERRED}[{index}]");
        weight(errors, preferred, &path);
        node_term(errors, at(preferred, &["preference"]), &format!("{path}.preference"));
    }
}

fn weight(errors: &mut Vec<FieldError>, preferred: &Value, path: &str) {
    let weight = int(preferred, &["weight"]);
    if !(1..=100).contains(&weight) {
        errors.push(FieldError::invalid(format!("{path}.weight"), weight, "must be in the range 1-100"));
    }
}

fn node_term(errors: &mut Vec<FieldError>, term: &Value, field: &str) {
    for (index, expression) in items(term, &["matchExpressions"]).iter().enumerate() {
        let path = format!("{field}.matchExpressions[{index}]");
        let values = items(expression, &["values"]);
        let operator = text(expression, &["operator"]);
        match operator {
            "In" | "NotIn" if values.is_empty() => {
                errors.push(FieldError::required(format!("{path}.values"), "must be specified when `operator` is 'In' or 'NotIn'"));
            }
            "Exists" | "DoesNotExist" if !values.is_empty() => {
                let detail = "may not be specified when `operator` is 'Exists' or 'DoesNotExist'";
                errors.push(FieldError::forbidden(format!("{path}.values"), detail));
            }
            "Gt" | "Lt" if values.len() != 1 => {
                errors.push(FieldError::required(format!("{path}.values"), "must be specified single value when `operator` is 'Lt' or 'Gt'"));
            }
            known if NODE_OPERATORS.contains(&known) => {}
            other => errors.push(FieldError::invalid(format!("{path}.operator"), other, "not a valid selector operator")),
        }
        let key = text(expression, &["key"]);
        invalid_each(errors, &format!("{path}.key"), key, names::qualified(key));
    }
}

fn pod_affinity(errors: &mut Vec<FieldError>, affinity: &Value, field: &str) {
    const REQUIRED: &str = "requiredDuringSchedulingIgnoredDuringExecution";
    const PREFERRED: &str = "preferredDuringSchedulingIgnoredDuringExecution";
    for (index, term) in items(affinity, &[REQUIRED]).iter().enumerate() {
        pod_term(errors, term, &format!("{field}.{REQUIRED}[{index}]"));
    }
    for (index, preferred) in items(affinity, &[PREFERRED]).iter().enumerate() {
        let path = format!("{field}.{PREFERRED}[{index}]");
        weight(errors, preferred, &path);
        pod_term(errors, at(preferred, &["podAffinityTerm"]), &format!("{path}.podAffinityTerm"));
    }
}

fn pod_term(errors: &mut Vec<FieldError>, term: &Value, field: &str) {
    labels::selector(errors, &format!("{field}.labelSelector"), at(term, &["labelSelector"]));
    labels::selector(errors, &format!("{field}.namespaceSelector"), at(term, &["namespaceSelector"]));
    let key = text(term, &["topologyKey"]);
    if key.is_empty() {
        errors.push(FieldError::required(format!("{field}.topologyKey"), "can not be empty"));
    }
    invalid_each(errors, &format!("{field}.topologyKey"), key, names::qualified(key));
}
