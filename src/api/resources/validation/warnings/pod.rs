//! What is said about a pod, or a template of one, beside what is wrong with it.

use std::collections::{HashMap, HashSet};

use serde_json::{Map, Value, json};

use super::{NONE, address, claim_amounts, full, node_labels, ports, virtual_paths};
use crate::{
    meta::{Object, amounts::quantity, names},
    resources::{tree, validation::Field},
};

const CONTAINERS: [&str; 3] = ["initContainers", "containers", "ephemeralContainers"];
const SECCOMP_OF_POD: &str = "seccomp.security.alpha.kubernetes.io/pod";
const SECCOMP_OF_CONTAINER: &str = "container.seccomp.security.alpha.kubernetes.io/";
const APPARMOR_OF_CONTAINER: &str = "container.apparmor.security.beta.kubernetes.io/";
const NO_SECCOMP: &str = "non-functional in v1.27+; use the \"seccompProfile\" field instead";
const NULL_SELECTOR: &str = "a null labelSelector results in matching no pod";
/// Annotations that mean nothing any more.
const OLD_ANNOTATIONS: [(&str, &str); 3] = [
    ("scheduler.alpha.kubernetes.io/critical-pod", "non-functional in v1.16+; use the \"priorityClassName\" field instead"),
    ("security.alpha.kubernetes.io/sysctls", "non-functional in v1.11+; use the \"sysctls\" field instead"),
    ("security.alpha.kubernetes.io/unsafe-sysctls", "non-functional in v1.11+; use the \"sysctls\" field instead"),
];
/// Volumes that are on their way out or gone.
const OLD_VOLUMES: [(&str, &str); 9] = [
    ("photonPersistentDisk", "deprecated in v1.11, non-functional in v1.16+"),
    ("gitRepo", "deprecated in v1.11, and disabled by default in v1.33+"),
    ("scaleIO", "deprecated in v1.16, non-functional in v1.22+"),
    ("flocker", "deprecated in v1.22, non-functional in v1.25+"),
    ("storageos", "deprecated in v1.22, non-functional in v1.25+"),
    ("quobyte", "deprecated in v1.22, non-functional in v1.25+"),
    ("glusterfs", "deprecated in v1.25, non-functional in v1.26+"),
    ("cephfs", "deprecated in v1.28, non-functional in v1.31+"),
    ("rbd", "deprecated in v1.28, non-functional in v1.31+"),
];

/// A pod's name is its host's name; `use_of_it` says where it shows.
pub fn pod_name(object: &Object, use_of_it: &str) -> Vec<String> {
    let messages = names::label(object.name(), false);
    let told = format!(
        "metadata.name: this is used in {use_of_it}, which can result in surprising behavior; a DNS label is recommended: [{}]",
        messages.join(" ")
    );
    if messages.is_empty() { Vec::new() } else { vec![told] }
}

/// What is said about a pod, or about the template of one that stands at `path`.
pub fn pod(path: &[&str], pod: &Map<String, Value>) -> Vec<String> {
    let below = |name: &str| path.iter().chain(&[name]).copied().collect::<Vec<_>>().join(".");
    let (spec_path, meta_path) = (below("spec"), below("metadata"));
    let spec = Field::root(&spec_path, pod.get("spec").unwrap_or(NONE));
    let metadata = Field::root(&meta_path, pod.get("metadata").unwrap_or(NONE));
    let annotations = metadata.child("annotations");
    let mut warnings = Vec::new();
    placement(&mut warnings, &spec);
    for (name, why) in OLD_ANNOTATIONS.iter().filter(|(name, _)| annotations.key(name).is_set()) {
        warnings.push(format!("{}: {why}", annotations.key(name)));
    }
    volumes(&mut warnings, &spec.child("volumes"));
    repeated_names(&mut warnings, &spec);
    fractions(&mut warnings, &spec.child("overhead"));
    let seccomp = spec.child("securityContext").child("seccompProfile").is_set();
    if !seccomp && annotations.key(SECCOMP_OF_POD).is_set() {
        warnings.push(format!("{}: {NO_SECCOMP}", annotations.key(SECCOMP_OF_POD)));
    }
    for list in CONTAINERS {
        spec.child(list).each().for_each(|container| self::container(&mut warnings, &container, &spec, &annotations));
    }
    ports::all(&mut warnings, &spec, &CONTAINERS);
    let grace = spec.child("terminationGracePeriodSeconds");
    if grace.int() < 0 {
        warnings.push(format!("{grace}: must be >= 0; negative values are invalid and will be treated as 1"));
    }
    affinity_of_pods(&mut warnings, &spec.child("affinity"));
    spec.child("dnsConfig").child("nameservers").each().for_each(|server| address(&mut warnings, &server, server.text()));
    for alias in spec.child("hostAliases").each() {
        address(&mut warnings, &alias.child("ip"), alias.child("ip").text());
    }
    warnings
}

/// Labels of nodes that have other names now, and selectors that select nothing.
fn placement(warnings: &mut Vec<String>, spec: &Field<'_>) {
    for (label, field) in spec.child("nodeSelector").entries() {
        warnings.extend(node_labels::advice(label).map(|why| format!("{field}: {why}")));
    }
    let affinity = spec.child("affinity");
    let affinity = affinity.child("nodeAffinity");
    for term in affinity.child("requiredDuringSchedulingIgnoredDuringExecution").child("nodeSelectorTerms").each() {
        node_labels::warn_of_term(warnings, &term, false);
    }
    for term in affinity.child("preferredDuringSchedulingIgnoredDuringExecution").each() {
        node_labels::warn_of_term(warnings, &term.child("preference"), true);
    }
    for constraint in spec.child("topologySpreadConstraints").each() {
        let (key, selector) = (constraint.child("topologyKey"), constraint.child("labelSelector"));
        warnings.extend(node_labels::advice(key.text()).map(|why| format!("{key}: {} is {why}", key.text())));
        if !selector.is_set() {
            warnings.push(format!("{selector}: {NULL_SELECTOR}"));
        }
    }
}

fn affinity_of_pods(warnings: &mut Vec<String>, affinity: &Field<'_>) {
    for kind in ["podAffinity", "podAntiAffinity"] {
        let terms = affinity.child(kind);
        for term in terms.child("requiredDuringSchedulingIgnoredDuringExecution").each() {
            null_selector(warnings, &term);
        }
        for weighted in terms.child("preferredDuringSchedulingIgnoredDuringExecution").each() {
            null_selector(warnings, &weighted.child("podAffinityTerm"));
        }
    }
}

fn null_selector(warnings: &mut Vec<String>, term: &Field<'_>) {
    if !term.child("labelSelector").is_set() {
        warnings.push(format!("{}: {NULL_SELECTOR}", term.child("labelSelector")));
    }
}

fn volumes(warnings: &mut Vec<String>, volumes: &Field<'_>) {
    for volume in volumes.each() {
        for (source, why) in OLD_VOLUMES.iter().filter(|(source, _)| volume.child(source).is_set()) {
            // One of them upstream writes otherwise than the field.
            let shown = if *source == "storageos" { "storageOS" } else { *source };
            warnings.push(format!("{}: {why}", volume.child(shown)));
        }
        let template = volume.child("ephemeral");
        let template = template.child("volumeClaimTemplate");
        claim_amounts(warnings, &template.child("spec"));
    }
    virtual_paths::all(warnings, volumes);
}

/// Host aliases of one address, and pull secrets of one name or none.
fn repeated_names(warnings: &mut Vec<String>, spec: &Field<'_>) {
    let (aliases, secrets) = (spec.child("hostAliases"), spec.child("imagePullSecrets"));
    let mut known = HashSet::new();
    for alias in aliases.each() {
        if !known.insert(tree::text(alias.value, &["ip"])) {
            warnings.push(format!("{}: duplicate ip {:?}", alias.child("ip"), alias.child("ip").text()));
        }
    }
    let mut known = HashSet::new();
    for secret in secrets.each() {
        if !known.insert(tree::text(secret.value, &["name"])) {
            warnings.push(format!("{}: duplicate name {:?}", secret.child("name"), secret.child("name").text()));
        }
    }
    for secret in secrets.each().filter(|secret| secret.child("name").text().is_empty()) {
        warnings.push(format!("{}: invalid empty name \"\"", secret.child("name")));
    }
}

/// Parts of bytes that are asked for.
fn fractions(warnings: &mut Vec<String>, amounts: &Field<'_>) {
    ["memory", "ephemeral-storage"].iter().for_each(|name| fraction(warnings, &amounts.key(name)));
}

fn fraction(warnings: &mut Vec<String>, amount: &Field<'_>) {
    if let Some(bytes) = quantity(amount.value).filter(|bytes| !bytes.is_whole()) {
        warnings.push(format!("{amount}: fractional byte value \"{bytes}\" is invalid, must be an integer"));
    }
}

fn container(warnings: &mut Vec<String>, container: &Field<'_>, spec: &Field<'_>, annotations: &Field<'_>) {
    let (name, security) = (container.child("name"), container.child("securityContext"));
    let seccomp = format!("{SECCOMP_OF_CONTAINER}{}", name.text());
    if !security.child("seccompProfile").is_set() && annotations.key(&seccomp).is_set() {
        warnings.push(format!("{}: {NO_SECCOMP}", annotations.key(&seccomp)));
    }
    let apparmor = format!("{APPARMOR_OF_CONTAINER}{}", name.text());
    let (old, of_pod) = (annotations.key(&apparmor), spec.child("securityContext"));
    let of_pod = of_pod.child("appArmorProfile");
    if !security.child("appArmorProfile").is_set() && old.is_set() && apparmor_profile(old.text()).as_ref() != Some(of_pod.value) {
        warnings.push(format!("{old}: deprecated since v1.30; use the \"appArmorProfile\" field instead"));
    }
    let resources = container.child("resources");
    for name in ["memory", "ephemeral-storage"] {
        ["limits", "requests"].iter().for_each(|list| fraction(warnings, &resources.child(list).key(name)));
    }
    hidden_variables(warnings, &container.child("env"));
}

/// The profile that an annotation of old names.
fn apparmor_profile(annotation: &str) -> Option<Value> {
    match annotation {
        "unconfined" => Some(json!({"type": "Unconfined"})),
        "runtime/default" => Some(json!({"type": "RuntimeDefault"})),
        other => {
            let profile = other.strip_prefix("localhost/").filter(|profile| !profile.is_empty())?;
            Some(json!({"type": "Localhost", "localhostProfile": profile}))
        }
    }
}

/// Variables that stand twice, unless the later one is made of the earlier.
fn hidden_variables(warnings: &mut Vec<String>, env: &Field<'_>) {
    let mut known: HashMap<&str, String> = HashMap::new();
    for variable in env.each() {
        let (name, value) = (tree::text(variable.value, &["name"]), tree::text(variable.value, &["value"]));
        let Some(reference) = known.get(name) else {
            known.insert(name, format!("$({name})"));
            continue;
        };
        let is_made_of_it = value != reference && value.contains(reference) && !variable.child("valueFrom").is_set();
        if !is_made_of_it && !full(warnings) {
            warnings.push(format!("{variable}: hides previous definition of {name:?}, which may be dropped when using apply"));
        }
    }
}
