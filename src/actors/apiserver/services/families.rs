//! IP families of a Service: what its addresses, its policy and the cluster's ranges make of them. Pure.

use ipnetwork::IpNetwork;
use troupe_api::{
    meta::Object,
    resources::validation::{address, service},
    status::FieldError,
};

const POLICY: [&str; 2] = ["spec", "ipFamilyPolicy"];
const FAMILIES: [&str; 2] = ["spec", "ipFamilies"];
const ADDRESSES: [&str; 2] = ["spec", "clusterIPs"];

/// `IPv4` or `IPv6`.
pub fn family_of(range: &IpNetwork) -> &'static str {
    if range.is_ipv4() { "IPv4" } else { "IPv6" }
}

fn families(service: &Object) -> Vec<String> {
    texts(service, &FAMILIES)
}

fn texts(service: &Object, path: &[&str]) -> Vec<String> {
    service.list(path).iter().filter_map(|value| value.as_str()).map(str::to_owned).collect()
}

fn kind(service: &Object) -> &str {
    service.str(&["spec", "type"])
}

/// Headless services without selector may name any families.
fn is_free(service: &Object) -> bool {
    let selects = service.get(&["spec", "selector"]).and_then(|selector| selector.as_object()).is_some_and(|selector| !selector.is_empty());
    service.str(&["spec", "clusterIP"]) == "None" && !selects
}

/// Whether an update leaves a service alone that prefers two families: it neither gains nor loses one on the way.
fn is_left_alone(new: &Object, old: &Object) -> bool {
    let same = |path: &[&str]| new.list(path) == old.list(path);
    let prefers = |service: &Object| service.str(&POLICY) == "PreferDualStack";
    kind(new) == kind(old) && prefers(new) && (prefers(old) || old.str(&POLICY).is_empty()) && same(&ADDRESSES) && same(&FAMILIES)
}

/// Completes what the client left out, and says what its wishes break: its own rules first, then those of the cluster.
pub fn complete(new: &mut Object, old: Option<&Object>, ranges: &[IpNetwork]) -> Vec<FieldError> {
    if kind(new) == "ExternalName" || old.is_some_and(|old| is_left_alone(new, old)) {
        return Vec::new();
    }
    if new.str(&POLICY).is_empty() {
        let before = old.map(|old| old.str(&POLICY)).filter(|policy| !policy.is_empty());
        let policy = before.unwrap_or(if is_free(new) { "RequireDualStack" } else { "SingleStack" }).to_owned();
        new.set(&POLICY, policy);
    }
    let nothing = Object::default();
    let mut errors = Vec::new();
    service::cluster_ips(&mut errors, &service::spec_of(new), &service::spec_of(old.unwrap_or(&nothing)));
    if !errors.is_empty() {
        return errors;
    }
    if let Some(old) = old {
        release(&mut errors, new, old);
    }
    single(&mut errors, new);
    infer(&mut errors, new, ranges);
    if errors.is_empty() && is_free(new) {
        any_families(new, ranges);
    } else if errors.is_empty() {
        served_families(&mut errors, new, ranges);
    }
    errors
}

/// One family more or less: a policy of one gives up what it had of the other.
fn release(errors: &mut Vec<FieldError>, new: &mut Object, old: &Object) {
    let policy = new.str(&POLICY).to_owned();
    for (path, what) in [(ADDRESSES, "cluster IP"), (FAMILIES, "IP family")] {
        let (now, before) = (texts(new, &path), texts(old, &path));
        if policy == "SingleStack" {
            if now == before && now.len() > 1 {
                new.set(&path, vec![now[0].clone()]);
            }
        } else if !now.is_empty() && now.len() < before.len() {
            let why = format!("must be 'SingleStack' to release the secondary {what}");
            errors.push(FieldError::invalid("spec.ipFamilyPolicy", policy.as_str(), why));
        }
    }
}

fn single(errors: &mut Vec<FieldError>, service: &Object) {
    let policy = service.str(&POLICY);
    for (path, what) in [(ADDRESSES, "cluster IPs"), (FAMILIES, "IP families")] {
        if policy == "SingleStack" && service.list(&path).len() == 2 {
            let why = format!("must be 'RequireDualStack' or 'PreferDualStack' when multiple {what} are specified");
            errors.push(FieldError::invalid("spec.ipFamilyPolicy", policy, why));
        }
    }
}

/// Addresses say their families.
fn infer(errors: &mut Vec<FieldError>, service: &mut Object, ranges: &[IpNetwork]) {
    let (addresses, mut families) = (texts(service, &ADDRESSES), families(service));
    let known = families.len();
    for (index, address) in addresses.iter().enumerate().skip(known).filter(|(_, address)| *address != "None") {
        let family = if address::parse(address).is_some_and(|ip| ip.is_ipv6()) { "IPv6" } else { "IPv4" };
        if ranges.iter().any(|range| family_of(range) == family) {
            families.push(family.to_owned());
        } else {
            let why = format!("{family} is not configured on this cluster");
            errors.push(FieldError::invalid(format!("spec.clusterIPs[{index}]"), addresses.clone(), why));
        }
    }
    if families.len() > known {
        service.set(&FAMILIES, families);
    }
}

/// Without selector nobody knows what the service leads to: its policy alone says how many families.
fn any_families(service: &mut Object, ranges: &[IpNetwork]) {
    let mut wanted = families(service);
    wanted.extend(ranges.first().filter(|_| wanted.is_empty()).map(|range| family_of(range).to_owned()));
    if let ([only], true) = (wanted.as_slice(), service.str(&POLICY) != "SingleStack") {
        let other = if only == "IPv4" { "IPv6" } else { "IPv4" };
        wanted.push(other.to_owned());
    }
    service.set(&FAMILIES, wanted);
}

/// Families must be the cluster's; those that the policy asks for are added.
fn served_families(errors: &mut Vec<FieldError>, service: &mut Object, ranges: &[IpNetwork]) {
    let policy = service.str(&POLICY).to_owned();
    if policy == "RequireDualStack" && ranges.len() < 2 {
        errors.push(FieldError::invalid("spec.ipFamilyPolicy", policy.as_str(), "this cluster is not configured for dual-stack services"));
    }
    let mut wanted = families(service);
    for (index, family) in wanted.iter().enumerate() {
        if !ranges.iter().any(|range| family_of(range) == family) {
            errors.push(FieldError::invalid(format!("spec.ipFamilies[{index}]"), family.as_str(), "not configured on this cluster"));
        }
    }
    wanted.extend(ranges.first().filter(|_| wanted.is_empty()).map(|range| family_of(range).to_owned()));
    if policy != "SingleStack" && wanted.len() == 1 {
        let other = ranges.iter().map(family_of).find(|family| *family != wanted[0]);
        wanted.extend(other.map(str::to_owned));
    }
    service.set(&FAMILIES, wanted);
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn service(spec: Value) -> Object {
        let mut service = Object::from_value(json!({"spec": spec})).expect("an object");
        if service.str(&["spec", "type"]).is_empty() {
            service.set(&["spec", "type"], "ClusterIP");
        }
        service
    }

    fn ranges(dual: bool) -> Vec<IpNetwork> {
        let texts: &[&str] = if dual { &["10.96.0.0/16", "fd00::/112"] } else { &["10.96.0.0/16"] };
        texts.iter().map(|text| text.parse().expect("a range")).collect()
    }

    fn outcome(spec: Value, old: Option<Value>, dual: bool) -> (String, Vec<String>, String) {
        let (mut new, old) = (service(spec), old.map(service));
        let errors = complete(&mut new, old.as_ref(), &ranges(dual));
        (new.str(&POLICY).to_owned(), families(&new), errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))
    }

    #[test]
    fn families_follow_from_addresses_policy_and_cluster() {
        let v4 = vec!["IPv4".to_owned()];
        let both = vec!["IPv4".to_owned(), "IPv6".to_owned()];
        let cases = [
            (json!({}), false, "SingleStack", &v4),
            (json!({}), true, "SingleStack", &v4),
            (json!({"ipFamilyPolicy": "PreferDualStack"}), false, "PreferDualStack", &v4),
            (json!({"ipFamilyPolicy": "PreferDualStack"}), true, "PreferDualStack", &both),
            (json!({"clusterIP": "None", "clusterIPs": ["None"]}), false, "RequireDualStack", &both),
            (json!({"clusterIP": "None", "clusterIPs": ["None"], "selector": {"a": "b"}}), true, "SingleStack", &v4),
        ];
        for (spec, dual, policy, wanted) in cases {
            assert_eq!(outcome(spec.clone(), None, dual), (policy.to_owned(), wanted.clone(), String::new()), "{spec}");
        }
    }

    #[test]
    fn what_the_cluster_or_the_policy_does_not_allow_is_refused() {
        let cases = [
            (
                json!({"clusterIP": "fd00::5", "clusterIPs": ["fd00::5"]}),
                None,
                "spec.clusterIPs[0]: Invalid value: [\"fd00::5\"]: IPv6 is not configured on this cluster",
            ),
            (json!({"ipFamilies": ["IPv6"]}), None, "spec.ipFamilies[0]: Invalid value: \"IPv6\": not configured on this cluster"),
            (
                json!({"clusterIP": "bad", "clusterIPs": ["bad"]}),
                None,
                "spec.clusterIPs[0]: Invalid value: \"bad\": must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)",
            ),
            (
                json!({"ipFamilies": ["IPv4", "IPv6"]}),
                None,
                "spec.ipFamilyPolicy: Invalid value: \"SingleStack\": must be 'RequireDualStack' or 'PreferDualStack' when multiple IP families are specified",
            ),
            (
                json!({"ipFamilyPolicy": "RequireDualStack", "ipFamilies": ["IPv4"]}),
                Some(json!({"ipFamilyPolicy": "RequireDualStack", "ipFamilies": ["IPv4", "IPv6"]})),
                "spec.ipFamilyPolicy: Invalid value: \"RequireDualStack\": must be 'SingleStack' to release the secondary IP family",
            ),
        ];
        for (spec, old, wanted) in cases {
            assert_eq!(outcome(spec.clone(), old, false).2, wanted, "{spec}");
        }
    }

    #[test]
    fn a_policy_of_one_family_releases_the_other() {
        let dual = json!({"ipFamilyPolicy": "RequireDualStack", "ipFamilies": ["IPv4", "IPv6"], "clusterIP": "10.96.0.1", "clusterIPs": ["10.96.0.1", "fd00::1"]});
        let mut wish = dual.clone();
        wish["ipFamilyPolicy"] = json!("SingleStack");
        let (mut new, old) = (service(wish), service(dual));
        assert_eq!(complete(&mut new, Some(&old), &ranges(true)), Vec::new());
        assert_eq!(texts(&new, &ADDRESSES), ["10.96.0.1"]);
        assert_eq!(families(&new), ["IPv4"]);
    }
}
