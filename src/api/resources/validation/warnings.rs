//! What is taken, but should be written otherwise: texts for `Warning` headers, with upstream's wording.

pub mod node_labels;
mod pod;
#[cfg(test)]
mod pod_tests;
mod ports;
mod virtual_paths;

use std::net::IpAddr;

use serde_json::Value;
use troupe_addresses::is_mapped;

pub use self::pod::{pod, pod_name};
use super::{
    Field, address,
    ip::{self, Range},
};
use crate::{
    meta::{Object, amounts::quantity},
    resources::tree::text,
};

const NONE: &Value = &Value::Null;
const HINTS: &str = "service.kubernetes.io/topology-aware-hints";
const MODE: &str = "service.kubernetes.io/topology-mode";
const INGRESS_CLASS: &str = "kubernetes.io/ingress.class";
const OLD_ANNOTATIONS: [(&str, &str); 2] = [
    ("volume.beta.kubernetes.io/storage-class", "deprecated since v1.8; use \"storageClassName\" attribute instead"),
    ("volume.beta.kubernetes.io/mount-options", "deprecated since v1.31; use \"mountOptions\" attribute instead"),
];
const MANAGED_BY: [&str; 3] = ["metadata", "labels", "endpointslice.kubernetes.io/managed-by"];
const MOUNTABLE_SECRETS: &str = "kubernetes.io/enforce-mountable-secrets";
/// Types of volumes that nothing serves any more.
const GONE: [(&str, &str, &str); 6] = [
    ("cephfs", "cephfs", "deprecated in v1.28, non-functional in v1.31+"),
    ("photonPersistentDisk", "photonPersistentDisk", "deprecated in v1.11, non-functional in v1.16+"),
    ("scaleIO", "scaleIO", "deprecated in v1.16, non-functional in v1.22+"),
    ("storageos", "storageOS", "deprecated in v1.22, non-functional in v1.25+"),
    ("glusterfs", "glusterfs", "deprecated in v1.25, non-functional in v1.26+"),
    ("rbd", "rbd", "deprecated in v1.28, non-functional in v1.31+"),
];

/// No client reads more of them: where things are held against each other, the search ends with so many.
const MOST: usize = 1000;

fn full(warnings: &[String]) -> bool {
    warnings.len() >= MOST
}

fn part<'a>(object: &'a Object, name: &'static str) -> Field<'a> {
    Field::root(name, object.get(&[name]).unwrap_or(NONE))
}

/// An address that not everybody reads alike, or not in its shortest form.
fn address(warnings: &mut Vec<String>, path: &Field<'_>, text: &str) {
    let Some(ip) = address::parse(text) else { return };
    let is_strict = text.parse::<IpAddr>().is_ok() && !is_mapped(ip);
    if !is_strict {
        warnings.push(format!("{path}: non-standard IP address {text:?} is invalid: use \"{}\"", ip.to_canonical()));
    } else if ip.is_ipv6() && ip.to_string() != text {
        warnings.push(format!("{path}: IPv6 address {text:?} should be in RFC 5952 canonical format (\"{ip}\")"));
    }
}

/// A range that not everybody reads alike, or not in its shortest form.
fn range(warnings: &mut Vec<String>, path: &Field<'_>, text: &str) {
    let Some(range) = Range::parse(text) else { return };
    let before = warnings.len();
    let whole = range.canonical();
    if let Some(single) = range.single() {
        warnings.push(format!("{path}: CIDR value {text:?} is ambiguous in this context (should be \"{whole}\" or \"{single}\"?)"));
    }
    if !ip::is_strict_range(text) {
        warnings.push(format!("{path}: non-standard CIDR value {text:?} is invalid: use \"{whole}\""));
    }
    if warnings.len() == before && range.is_ipv6() && whole != text {
        warnings.push(format!("{path}: IPv6 CIDR value {text:?} should be in RFC 5952 canonical format (\"{whole}\")"));
    }
}

/// What is said about a service.
pub fn service(object: &Object) -> Vec<String> {
    let (spec, mut warnings) = (part(object, "spec"), Vec::new());
    if object.annotation(HINTS).is_some() {
        warnings.push(format!("annotation {HINTS} is deprecated, please use {MODE} instead"));
    }
    let (kind, external) = (spec.child("type"), spec.child("externalIPs"));
    let is_headless = spec.child("clusterIP").text() == "None";
    if !is_headless {
        spec.child("clusterIPs").each().for_each(|ip| address(&mut warnings, &ip, ip.text()));
    } else {
        headless(&mut warnings, &spec);
    }
    external.each().for_each(|ip| address(&mut warnings, &ip, ip.text()));
    let is_named = kind.text() == "ExternalName";
    if !external.items().is_empty() && !is_headless && !is_named {
        warnings.push("spec.externalIPs is deprecated and may no longer be implemented in some clusters".to_owned());
    }
    let balancer = spec.child("loadBalancerIP");
    address(&mut warnings, &balancer, balancer.text());
    spec.child("loadBalancerSourceRanges").each().for_each(|one| range(&mut warnings, &one, one.text().trim()));
    if is_named && !external.items().is_empty() {
        warnings.push("spec.externalIPs is ignored when spec.type is \"ExternalName\"".to_owned());
    }
    if !is_named && !spec.child("externalName").text().is_empty() {
        warnings.push("spec.externalName is ignored when spec.type is not \"ExternalName\"".to_owned());
    }
    if spec.child("trafficDistribution").text() == "PreferClose" {
        warnings.push("spec.trafficDistribution: \"PreferClose\" is deprecated; use \"PreferSameZone\"".to_owned());
    }
    warnings
}

fn headless(warnings: &mut Vec<String>, spec: &Field<'_>) {
    if !spec.child("loadBalancerIP").text().is_empty() {
        warnings.push("spec.loadBalancerIP is ignored for headless services".to_owned());
    }
    if !spec.child("externalIPs").items().is_empty() {
        warnings.push("spec.externalIPs is ignored for headless services".to_owned());
    }
    if spec.child("sessionAffinity").text() != "None" {
        warnings.push("spec.SessionAffinity is ignored for headless services".to_owned());
    }
}

/// What is said about the status of a service or an ingress.
pub fn load_balancer(object: &Object) -> Vec<String> {
    let (status, mut warnings) = (part(object, "status"), Vec::new());
    let balancer = status.child("loadBalancer");
    for entry in balancer.child("ingress").each() {
        address(&mut warnings, &entry, entry.child("ip").text());
    }
    warnings
}

/// What is said about a node.
pub fn node(object: &Object) -> Vec<String> {
    let (spec, mut warnings) = (part(object, "spec"), Vec::new());
    if spec.child("configSource").is_set() {
        warnings.push("spec.configSource: the feature is removed".to_owned());
    }
    if !spec.child("externalID").text().is_empty() {
        warnings.push("spec.externalID: this field is deprecated, and is unused by Kubernetes".to_owned());
    }
    spec.child("podCIDRs").each().for_each(|one| range(&mut warnings, &one, one.text()));
    warnings
}

/// What is said about a network policy.
pub fn network_policy(object: &Object) -> Vec<String> {
    let (spec, mut warnings) = (part(object, "spec"), Vec::new());
    for (list, peers) in [("ingress", "from"), ("egress", "to")] {
        for rule in spec.child(list).each() {
            for peer in rule.child(peers).each() {
                let block = peer.child("ipBlock");
                range(&mut warnings, &block.child("cidr"), block.child("cidr").text());
                block.child("except").each().for_each(|one| range(&mut warnings, &one, one.text()));
            }
        }
    }
    warnings
}

/// What is said about endpoints. Controllers write what they were given in its shortest form.
pub fn endpoints(object: &Object) -> Vec<String> {
    let mut warnings = Vec::new();
    if object.str(&["metadata", "labels", "endpoints.kubernetes.io/managed-by"]) == "endpoint-controller" {
        return warnings;
    }
    for subset in part(object, "subsets").each() {
        for list in ["addresses", "notReadyAddresses"] {
            for entry in subset.child(list).each() {
                address(&mut warnings, &entry.child("ip"), entry.child("ip").text());
            }
        }
    }
    warnings
}

/// What is said about a slice.
pub fn endpoint_slice(object: &Object) -> Vec<String> {
    let mut warnings = Vec::new();
    if object.str(&["addressType"]) == "FQDN" {
        warnings.push("spec.addressType: FQDN endpoints are deprecated".to_owned());
    }
    if object.str(&MANAGED_BY).ends_with("-controller.k8s.io") {
        return warnings;
    }
    for endpoint in part(object, "endpoints").each() {
        endpoint.child("addresses").each().for_each(|one| address(&mut warnings, &one, one.text()));
    }
    warnings
}

/// What is said about an ingress.
pub fn ingress(object: &Object) -> Vec<String> {
    let is_old = object.annotation(INGRESS_CLASS).is_some() && !part(object, "spec").child("ingressClassName").is_set();
    is_old.then(|| format!("annotation {INGRESS_CLASS:?} is deprecated, please use 'spec.ingressClassName' instead")).into_iter().collect()
}

/// What is said about a quota: who may ask for more than may be used.
pub fn quota(object: &Object) -> Vec<String> {
    let mut warnings = Vec::new();
    let hard = object.get(&["spec", "hard"]).unwrap_or(NONE);
    for name in ["cpu", "memory", "storage", "ephemeral-storage"] {
        let (long, limit) = (format!("requests.{name}"), format!("limits.{name}"));
        let bare = ["cpu", "memory"].contains(&name).then_some(name);
        let request = std::iter::once(long.as_str()).chain(bare).find_map(|name| Some((name, quantity(hard.get(name)?)?)));
        if let (Some((shown, asked)), Some(most)) = (request, hard.get(&limit).and_then(quantity))
            && asked > most
        {
            warnings.push(format!("ResourceQuota {shown} ({asked}) should be less than {limit} ({most})"));
        }
    }
    warnings
}

/// Annotations that have become fields.
fn old_annotations(warnings: &mut Vec<String>, object: &Object, known: &[(&str, &str)]) {
    let found = known.iter().filter(|(name, _)| object.annotation(name).is_some());
    warnings.extend(found.map(|(name, why)| format!("metadata.annotations[{name}]: {why}")));
}

/// What is said about a claim.
pub fn claim(object: &Object) -> Vec<String> {
    let mut warnings = Vec::new();
    old_annotations(&mut warnings, object, &OLD_ANNOTATIONS[..1]);
    claim_amounts(&mut warnings, &part(object, "spec"));
    warnings
}

/// What is said about what a claim with this spec asks for.
fn claim_amounts(warnings: &mut Vec<String>, spec: &Field<'_>) {
    for list in ["requests", "limits"] {
        let (resources, name) = (spec.child("resources"), "storage");
        let list = resources.child(list);
        if let Some(amount) = quantity(list.key(name).value).filter(|amount| !amount.is_whole()) {
            warnings.push(format!("{}: fractional byte value \"{amount}\" is invalid, must be an integer", list.key(name)));
        }
    }
}

/// What is said about a stateful set beside its pods.
pub fn stateful_set(object: &Object) -> Vec<String> {
    let (spec, mut warnings) = (part(object, "spec"), Vec::new());
    for template in spec.child("volumeClaimTemplates").each() {
        // Upstream leaves the template's `spec` out of the path.
        claim_amounts(&mut warnings, &template.with(template.child("spec").value));
    }
    if spec.child("revisionHistoryLimit").int() < 0 {
        warnings.push("spec.revisionHistoryLimit: a negative value retains all historical revisions; a value >= 0 is recommended".to_owned());
    }
    warnings
}

/// What is said about a job whose spec stands at `path`, beside its pods.
pub fn job(path: &str, spec: &Value) -> Vec<String> {
    let many = |name: &str, most: i64| spec.get(name).and_then(Value::as_i64).is_some_and(|number| number > most);
    let is_large = text(spec, &["completionMode"]) == "Indexed" && many("completions", 100_000) && many("parallelism", 10_000);
    let why = "In Indexed Jobs with a number of completions higher than 10^5 and a parallelism higher than 10^4, Kubernetes might not be able to track completedIndexes when a big number of indexes fail";
    is_large.then(|| format!("{path}: {why}")).into_iter().collect()
}

/// What is said about a volume.
pub fn volume(object: &Object) -> Vec<String> {
    let spec = object.get(&["spec"]).unwrap_or(NONE);
    let mut warnings = Vec::new();
    old_annotations(&mut warnings, object, &OLD_ANNOTATIONS);
    if text(spec, &["persistentVolumeReclaimPolicy"]) == "Recycle" {
        let why = "The Recycle reclaim policy is deprecated. Instead, the recommended approach is to use dynamic provisioning.";
        warnings.push(format!("spec.persistentVolumeReclaimPolicy: {why}"));
    }
    let field = Field::root("spec", spec);
    for term in field.child("nodeAffinity").child("required").child("nodeSelectorTerms").each() {
        node_labels::warn_of_term(&mut warnings, &term, false);
    }
    let gone = GONE.iter().filter(|(kind, ..)| spec.get(*kind).is_some_and(|source| !source.is_null()));
    warnings.extend(gone.map(|(_, shown, why)| format!("spec.{shown}: {why}")));
    warnings
}

/// What is said about a cron job beside its pods.
pub fn cron_job(object: &Object) -> Vec<String> {
    let mut warnings = job("spec.jobTemplate.spec", object.get(&["spec", "jobTemplate", "spec"]).unwrap_or(NONE));
    // The path is upstream's.
    let why = "cannot use TZ or CRON_TZ in spec.spec.schedule, use timeZone instead, see https://kubernetes.io/docs/concepts/workloads/controllers/cron-jobs/ for more details";
    warnings.extend(object.str(&["spec", "schedule"]).contains("TZ").then(|| why.to_owned()));
    warnings
}

/// What is said about the status of a pod.
pub fn pod_status(object: &Object) -> Vec<String> {
    let (status, mut warnings) = (part(object, "status"), Vec::new());
    for list in ["podIPs", "hostIPs"] {
        for entry in status.child(list).each() {
            address(&mut warnings, &entry.child("ip"), entry.child("ip").text());
        }
    }
    warnings
}

/// What is said about a service account.
pub fn service_account(object: &Object) -> Vec<String> {
    let why = "deprecated in v1.32+; prefer separate namespaces to isolate access to mounted secrets";
    let is_used = object.annotation(MOUNTABLE_SECRETS).is_some();
    is_used.then(|| format!("metadata.annotations[{MOUNTABLE_SECRETS}]: {why}")).into_iter().collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn object(value: Value) -> Object {
        Object::from_value(value).expect("an object")
    }

    #[test]
    fn addresses_should_be_written_as_everybody_writes_them() {
        let spec = json!({"type": "ClusterIP", "clusterIP": "fd00:0::1", "clusterIPs": ["fd00:0::1"], "externalIPs": ["010.0.0.1", "203.0.113.5"]});
        assert_eq!(
            service(&object(json!({"spec": spec}))),
            [
                "spec.clusterIPs[0]: IPv6 address \"fd00:0::1\" should be in RFC 5952 canonical format (\"fd00::1\")",
                "spec.externalIPs[0]: non-standard IP address \"010.0.0.1\" is invalid: use \"10.0.0.1\"",
                "spec.externalIPs is deprecated and may no longer be implemented in some clusters",
            ]
        );
        let entry = json!({"ip": "::ffff:1.2.3.4"});
        assert_eq!(
            load_balancer(&object(json!({"status": {"loadBalancer": {"ingress": [entry]}}}))),
            ["status.loadBalancer.ingress[0]: non-standard IP address \"::ffff:1.2.3.4\" is invalid: use \"1.2.3.4\""]
        );
        let slice = json!({"addressType": "IPv4", "endpoints": [{"addresses": ["10.0.0.01"]}]});
        assert_eq!(endpoint_slice(&object(slice)), ["endpoints[0].addresses[0]: non-standard IP address \"10.0.0.01\" is invalid: use \"10.0.0.1\""]);
    }

    #[test]
    fn ranges_should_say_all_or_one() {
        let of = |cidr: &str| network_policy(&object(json!({"spec": {"ingress": [{"from": [{"ipBlock": {"cidr": cidr}}]}]}})));
        let path = "spec.ingress[0].from[0].ipBlock.cidr";
        assert_eq!(of("10.0.0.0/8"), Vec::<String>::new());
        assert_eq!(
            of("10.0.0.1/8"),
            [format!("{path}: CIDR value \"10.0.0.1/8\" is ambiguous in this context (should be \"10.0.0.0/8\" or \"10.0.0.1/32\"?)")]
        );
        assert_eq!(of("10.0.0.0/08"), [format!("{path}: non-standard CIDR value \"10.0.0.0/08\" is invalid: use \"10.0.0.0/8\"")]);
        assert_eq!(of("fd00:0::/64"), [format!("{path}: IPv6 CIDR value \"fd00:0::/64\" should be in RFC 5952 canonical format (\"fd00::/64\")")]);
    }

    #[test]
    fn what_means_nothing_is_told() {
        let spec = json!({"type": "ClusterIP", "clusterIP": "None", "loadBalancerIP": "1.2.3.4", "sessionAffinity": "ClientIP", "externalName": "a"});
        assert_eq!(
            service(&object(json!({"spec": spec}))),
            [
                "spec.loadBalancerIP is ignored for headless services",
                "spec.SessionAffinity is ignored for headless services",
                "spec.externalName is ignored when spec.type is not \"ExternalName\"",
            ]
        );
        assert_eq!(node(&object(json!({"spec": {"externalID": "e"}}))), ["spec.externalID: this field is deprecated, and is unused by Kubernetes"]);
        assert_eq!(
            volume(&object(json!({"spec": {"storageos": {}, "persistentVolumeReclaimPolicy": "Retain"}}))),
            ["spec.storageOS: deprecated in v1.22, non-functional in v1.25+"]
        );
        let term = json!({"matchExpressions": [{"key": "beta.kubernetes.io/os", "operator": "In", "values": ["linux"]}]});
        assert_eq!(
            volume(&object(json!({"spec": {"nodeAffinity": {"required": {"nodeSelectorTerms": [term]}}}}))),
            [
                "spec.nodeAffinity.required.nodeSelectorTerms[0].matchExpressions[0].key: beta.kubernetes.io/os is deprecated since v1.14; use \"kubernetes.io/os\" instead"
            ]
        );
    }

    #[test]
    fn amounts_that_contradict_each_other_are_told() {
        assert_eq!(
            quota(&object(json!({"spec": {"hard": {"cpu": "2", "limits.cpu": "1", "requests.memory": "1Gi", "limits.memory": "2Gi"}}}))),
            ["ResourceQuota cpu (2) should be less than limits.cpu (1)"]
        );
        assert_eq!(
            claim(&object(json!({"spec": {"resources": {"requests": {"storage": "100m"}}}}))),
            ["spec.resources.requests[storage]: fractional byte value \"100m\" is invalid, must be an integer"]
        );
    }
}
