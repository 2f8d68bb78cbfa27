//! Network policies.

use serde_json::Value;

use super::{
    Field,
    ip::{self, Known, Range},
    labels,
};
use crate::{
    meta::{Object, names},
    resources::tree::{at, items, text},
    status::FieldError,
};

const NONE: &Value = &Value::Null;
const LISTS: [(&str, &str); 2] = [("ingress", "from"), ("egress", "to")];
const PROTOCOLS: [&str; 3] = ["TCP", "UDP", "SCTP"];
const TYPES: [&str; 2] = ["Ingress", "Egress"];

/// Checks a network policy.
pub fn network_policy(object: &Object) -> Vec<FieldError> {
    check(object, &Known::default())
}

/// Checks an update: ranges that stood anywhere in the policy may stay.
pub fn network_policy_update(new: &Object, old: &Object) -> Vec<FieldError> {
    check(new, &Known::new(ranges(old)))
}

fn ranges(policy: &Object) -> Vec<&str> {
    let spec = policy.get(&["spec"]).unwrap_or(NONE);
    let peers = LISTS.iter().flat_map(|(list, peers)| items(spec, &[list]).iter().flat_map(move |rule| items(rule, &[peers])));
    let blocks = peers.map(|peer| at(peer, &["ipBlock"]));
    blocks.flat_map(|block| std::iter::once(text(block, &["cidr"])).chain(items(block, &["except"]).iter().filter_map(Value::as_str))).collect()
}

fn check(object: &Object, known: &Known<'_>) -> Vec<FieldError> {
    let (spec, mut errors) = (Field::root("spec", object.get(&["spec"]).unwrap_or(NONE)), Vec::new());
    selector(&mut errors, &spec.child("podSelector"));
    for (list, peers) in LISTS {
        for rule in spec.child(list).each() {
            rule.child("ports").each().for_each(|entry| port(&mut errors, &entry));
            rule.child(peers).each().for_each(|entry| peer(&mut errors, &entry, known));
        }
    }
    let types = spec.child("policyTypes");
    if types.items().len() > TYPES.len() {
        errors.push(types.invalid("may not specify more than two policyTypes"));
    } else {
        types.each().for_each(|kind| kind.check_supported(&mut errors, &TYPES));
    }
    errors
}

fn selector(errors: &mut Vec<FieldError>, selector: &Field<'_>) {
    labels::selector(errors, &selector.to_string(), selector.value);
}

fn port(errors: &mut Vec<FieldError>, entry: &Field<'_>) {
    let (port, end) = (entry.child("port"), entry.child("endPort"));
    entry.child("protocol").check_supported(errors, &PROTOCOLS);
    match port.value {
        Value::Null if end.is_set() => errors.push(end.invalid("may not be specified when `port` is not specified")),
        Value::Null => {}
        Value::String(name) => {
            if end.is_set() {
                errors.push(end.invalid("may not be specified when `port` is non-numeric"));
            }
            port.judge(errors, names::port_name(name));
        }
        _ => {
            port.check_between(errors, 1, 65_535);
            if end.is_set() && end.int() < port.int() {
                errors.push(end.invalid_as(port.int(), "must be greater than or equal to `port`"));
            }
            end.check_between(errors, 1, 65_535);
        }
    }
}

fn peer(errors: &mut Vec<FieldError>, peer: &Field<'_>, known: &Known<'_>) {
    let (pods, namespaces, block) = (peer.child("podSelector"), peer.child("namespaceSelector"), peer.child("ipBlock"));
    for labels in [&pods, &namespaces] {
        selector(errors, labels);
    }
    if block.is_set() {
        range(errors, &block, known);
    }
    match [pods, namespaces, block].iter().filter(|part| part.is_set()).count() {
        0 => errors.push(peer.required("must specify a peer")),
        1 => {}
        _ if block.is_set() => errors.push(peer.forbidden("may not specify both ipBlock and another peer")),
        _ => {}
    }
}

/// A range, and smaller ones of it that are left out.
fn range(errors: &mut Vec<FieldError>, block: &Field<'_>, known: &Known<'_>) {
    let whole = block.child("cidr");
    if whole.text().is_empty() {
        return errors.push(whole.required(""));
    }
    ip::range_or_known(errors, &whole, whole.text(), known);
    let Some(whole) = Range::parse(whole.text()) else { return };
    for except in block.child("except").each() {
        ip::range_or_known(errors, &except, except.text(), known);
        if Range::parse(except.text()).is_some_and(|part| !whole.is_wider(part)) {
            errors.push(except.invalid("must be a strict subset of `cidr`"));
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::resources::validation::tests::texts;

    fn policy(rule: Value) -> Object {
        Object::from_value(json!({"spec": {"podSelector": {}, "ingress": [rule], "policyTypes": ["Ingress"]}})).expect("an object")
    }

    #[test]
    fn ports_are_one_or_a_row() {
        let cases = [
            (json!({"port": 80, "endPort": 90, "protocol": "TCP"}), ""),
            (json!({"endPort": 90}), "endPort: Invalid value: 90: may not be specified when `port` is not specified"),
            (json!({"port": "http", "endPort": 90}), "endPort: Invalid value: 90: may not be specified when `port` is non-numeric"),
            (json!({"port": 90, "endPort": 80}), "endPort: Invalid value: 90: must be greater than or equal to `port`"),
            (json!({"port": 0}), "port: Invalid value: 0: must be between 1 and 65535, inclusive"),
            (json!({"port": "a b"}), "port: Invalid value: \"a b\": must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)"),
            (json!({"port": 1, "protocol": "ICMP"}), "protocol: Unsupported value: \"ICMP\": supported values: \"TCP\", \"UDP\", \"SCTP\""),
        ];
        for (port, wanted) in cases {
            let wanted: Vec<String> = (!wanted.is_empty()).then(|| format!("spec.ingress[0].ports[0].{wanted}")).into_iter().collect();
            assert_eq!(texts(network_policy(&policy(json!({"ports": [port]})))), wanted, "{port}");
        }
    }

    #[test]
    fn peers_are_chosen_by_labels_or_by_range() {
        let block = |cidr: &str, except: Value| json!({"ipBlock": {"cidr": cidr, "except": except}});
        let cases = [
            (block("10.0.0.0/8", json!(["10.1.0.0/16"])), ""),
            (json!({}), ": Required value: must specify a peer"),
            (json!({"ipBlock": {"cidr": "10.0.0.0/8"}, "podSelector": {}}), ": Forbidden: may not specify both ipBlock and another peer"),
            (block("", json!([])), ".ipBlock.cidr: Required value"),
            (block("10.0.0.1/8", json!([])), ".ipBlock.cidr: Invalid value: \"10.0.0.1/8\": must not have bits set beyond the prefix length"),
            (
                block("0.0.0.0/0 -j ACCEPT", json!([])),
                ".ipBlock.cidr: Invalid value: \"0.0.0.0/0 -j ACCEPT\": must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)",
            ),
            (block("10.0.0.0/8", json!(["11.0.0.0/16"])), ".ipBlock.except[0]: Invalid value: \"11.0.0.0/16\": must be a strict subset of `cidr`"),
            (block("10.0.0.0/8", json!(["10.0.0.0/8"])), ".ipBlock.except[0]: Invalid value: \"10.0.0.0/8\": must be a strict subset of `cidr`"),
            (
                json!({"podSelector": {"matchExpressions": [{"key": "a", "operator": "Is"}]}}),
                ".podSelector.matchExpressions[0].operator: Invalid value: \"Is\": not a valid selector operator",
            ),
        ];
        for (peer, wanted) in cases {
            let wanted: Vec<String> = (!wanted.is_empty()).then(|| format!("spec.ingress[0].from[0]{wanted}")).into_iter().collect();
            assert_eq!(texts(network_policy(&policy(json!({"from": [peer]})))), wanted, "{peer}");
        }
    }

    #[test]
    fn ranges_of_an_older_policy_may_stay() {
        let peer = |cidr: &str| policy(json!({"from": [{"ipBlock": {"cidr": cidr}}]}));
        let old = peer("10.0.0.1/8");
        let mut moved = peer("10.0.0.1/8");
        let rule = moved.list(&["spec", "ingress"])[0].clone();
        moved.set(&["spec", "ingress"], vec![json!({}), rule]);
        assert_eq!(texts(network_policy_update(&moved, &old)), Vec::<String>::new());
        assert_eq!(network_policy_update(&peer("10.0.0.2/8"), &old).len(), 1);
    }

    #[test]
    fn a_policy_is_about_what_comes_and_what_goes() {
        let of =
            |types: Value| texts(network_policy(&Object::from_value(json!({"spec": {"podSelector": {}, "policyTypes": types}})).expect("an object")));
        assert_eq!(of(json!(["Both"])), ["spec.policyTypes[0]: Unsupported value: \"Both\": supported values: \"Ingress\", \"Egress\""]);
        assert_eq!(
            of(json!(["Ingress", "Egress", "Both"])),
            ["spec.policyTypes: Invalid value: [\"Ingress\",\"Egress\",\"Both\"]: may not specify more than two policyTypes"]
        );
    }
}
