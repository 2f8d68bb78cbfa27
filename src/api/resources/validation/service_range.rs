//! The bookkeeping of services' addresses: ranges, and what each address was given to.

use std::collections::BTreeSet;

use serde_json::Value;

use super::{
    Field, IMMUTABLE,
    ip::{self, Range},
};
use crate::{
    meta::{Object, names},
    status::FieldError,
};

const NONE: &Value = &Value::Null;
const MOST_RANGES: usize = 2;

/// Checks an IP address.
pub fn ip_address(object: &Object) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let parent = Field::root("spec.parentRef", object.get(&["spec", "parentRef"]).unwrap_or(NONE));
    if !parent.is_set() {
        errors.push(parent.required(""));
        return errors;
    }
    parent.child("group").check_name(&mut errors, names::subdomain);
    parent.child("resource").check_required_name(&mut errors, names::path_segment);
    parent.child("name").check_required_name(&mut errors, names::path_segment);
    parent.child("namespace").check_name(&mut errors, names::path_segment);
    errors
}

/// Checks an update: an address belongs to the same object until it is given back.
pub fn ip_address_update(new: &Object, old: &Object) -> Vec<FieldError> {
    let mut errors = ip_address(new);
    let parent = |object: &Object| object.get(&["spec", "parentRef"]).cloned().unwrap_or_default();
    if parent(new) != parent(old) {
        errors.push(FieldError::invalid("spec.parentRef", parent(new), IMMUTABLE));
    }
    errors
}

fn ranges(object: &Object) -> Field<'_> {
    Field::root("spec.cidrs", object.get(&["spec", "cidrs"]).unwrap_or(NONE))
}

/// Checks a service CIDR.
pub fn service_cidr(object: &Object) -> Vec<FieldError> {
    let (ranges, mut errors) = (ranges(object), Vec::new());
    match ranges.items().len() {
        0 => errors.push(ranges.required("at least one CIDR required")),
        count if count > MOST_RANGES => {
            let shown = object.get(&["spec"]).cloned().unwrap_or_default();
            errors.push(ranges.invalid_as(shown, "may only hold up to 2 values"));
        }
        _ => {}
    }
    if !errors.is_empty() {
        return errors;
    }
    for range in ranges.each() {
        ip::canonical_range(&mut errors, &range);
    }
    let parsed: Vec<Range> = ranges.each().filter_map(|range| Range::parse(range.text())).collect();
    let families: BTreeSet<bool> = parsed.iter().map(|range| range.is_ipv6()).collect();
    if parsed.len() > 1 && families.len() == 1 {
        errors.push(ranges.invalid("may specify no more than one IP for each IP family, i.e 192.168.0.0/24 and 2001:db8::/64"));
    }
    errors
}

/// Checks an update: a range may get a second one of the other family, nothing else.
pub fn service_cidr_update(new: &Object, old: &Object) -> Vec<FieldError> {
    let (now, before) = (ranges(new), ranges(old));
    let (mut errors, first) = (Vec::new(), now.index(0));
    match (before.items().len(), now.items().len()) {
        (all, same) if all == same => {
            let changed = now.each().zip(before.items()).filter(|(range, before)| range.value != *before);
            errors.extend(changed.map(|(range, _)| range.invalid(IMMUTABLE)));
        }
        (1, 2) => {
            if first.value != &before.items()[0] {
                errors.push(first.invalid(IMMUTABLE));
            }
            errors.extend(service_cidr(new));
        }
        _ => errors.push(now.invalid(IMMUTABLE)),
    }
    errors
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::resources::validation::tests::texts;

    fn cidrs(list: Value) -> Object {
        Object::from_value(json!({"spec": {"cidrs": list}})).expect("an object")
    }

    #[test]
    fn an_address_belongs_to_an_object() {
        let of = |parent: Value| Object::from_value(json!({"spec": {"parentRef": parent}})).expect("an object");
        let good = json!({"resource": "services", "name": "s", "namespace": "n"});
        assert_eq!(texts(ip_address(&of(good.clone()))), Vec::<String>::new());
        assert_eq!(texts(ip_address(&of(Value::Null))), ["spec.parentRef: Required value"]);
        assert_eq!(
            texts(ip_address(&of(json!({"resource": "a/b", "namespace": ".."})))),
            [
                "spec.parentRef.resource: Invalid value: \"a/b\": may not contain '/'",
                "spec.parentRef.name: Required value",
                "spec.parentRef.namespace: Invalid value: \"..\": may not be '..'",
            ]
        );
        let other = json!({"resource": "services", "name": "t", "namespace": "n"});
        assert_eq!(
            texts(ip_address_update(&of(other), &of(good))),
            ["spec.parentRef: Invalid value: {\"name\":\"t\",\"namespace\":\"n\",\"resource\":\"services\"}: field is immutable"]
        );
    }

    #[test]
    fn ranges_are_one_of_each_family() {
        let cases = [
            (json!(["10.0.0.0/16", "fd00::/112"]), ""),
            (json!([]), "spec.cidrs: Required value: at least one CIDR required"),
            (json!(["1", "2", "3"]), "spec.cidrs: Invalid value: {\"cidrs\":[\"1\",\"2\",\"3\"]}: may only hold up to 2 values"),
            (json!(["10.0.0.1/16"]), "spec.cidrs[0]: Invalid value: \"10.0.0.1/16\": must not have bits set beyond the prefix length"),
            (json!(["fd00:0::/112"]), "spec.cidrs[0]: Invalid value: \"fd00:0::/112\": must be in canonical form (\"fd00::/112\")"),
            (
                json!(["10.0.0.0/16", "10.1.0.0/16"]),
                "spec.cidrs: Invalid value: [\"10.0.0.0/16\",\"10.1.0.0/16\"]: may specify no more than one IP for each IP family, i.e 192.168.0.0/24 and 2001:db8::/64",
            ),
        ];
        for (list, wanted) in cases {
            assert_eq!(texts(service_cidr(&cidrs(list.clone()))).concat(), wanted, "{list}");
        }
    }

    #[test]
    fn a_range_may_get_a_second_and_nothing_else() {
        let old = cidrs(json!(["10.0.0.0/16"]));
        let update = |list: Value| texts(service_cidr_update(&cidrs(list), &old));
        assert_eq!(update(json!(["10.0.0.0/16", "fd00::/112"])), Vec::<String>::new());
        assert_eq!(update(json!(["10.1.0.0/16"])), ["spec.cidrs[0]: Invalid value: \"10.1.0.0/16\": field is immutable"]);
        assert_eq!(update(json!([])), ["spec.cidrs: Invalid value: []: field is immutable"]);
    }
}
