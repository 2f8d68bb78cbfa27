//! From a manifest to pods of this node. Pure.

use k8s_openapi::api::core::v1::{Pod, Toleration};
use serde::Deserialize;
use serde_json::Value;
use sha2::{Digest, Sha256};
use troupe_api::{
    meta::Object,
    resources::{
        Strategy, kinds,
        validation::{Field, metadata, pod},
    },
    schema::{Format, decode::parse_value},
};

use super::references;

/// The annotation of a static pod: the hash of what it was made of.
pub const HASH: &str = "kubernetes.io/config.hash";
/// The annotation that says where a pod of this node comes from.
pub const SOURCE: &str = "kubernetes.io/config.source";

/// A file as a pod of this node: named after it, with a uid made of its content.
///
/// # Errors
/// When it is no pod, or one that the API would refuse, or one that refers to the API.
pub fn pod_of_file(text: &[u8], node: &str) -> Result<Pod, String> {
    let mut pod = of_node(document(text)?, &[text, node.as_bytes()].concat(), "file", node)?;
    let everything = Toleration { operator: Some("Exists".into()), effect: Some("NoExecute".into()), ..Toleration::default() };
    pod.spec.get_or_insert_default().tolerations.get_or_insert_default().push(everything);
    validate(&pod)?;
    Ok(pod)
}

/// The pods of a document that a server has: one pod, or a list of them. Its uids are made of their content and of the URL.
///
/// # Errors
/// When it is something else, or one of them is as no file may be.
pub fn pods_of_url(text: &[u8], url: &str, node: &str) -> Result<Vec<Pod>, String> {
    let mut document = document(text)?;
    let items = match document["kind"].as_str() {
        Some("Pod") => vec![document],
        Some("PodList") => match document["items"].take() {
            Value::Array(items) => items,
            _ => Vec::new(),
        },
        other => return Err(format!("couldn't parse as single or multiple pods: its kind is {:?}", other.unwrap_or_default())),
    };
    let pods = items.into_iter().map(|item| {
        if item.pointer("/metadata/name").and_then(Value::as_str).is_none_or(str::is_empty) {
            return Err("invalid pod: name is needed for the pod".to_owned());
        }
        let hashed = [item.to_string().as_bytes(), url.as_bytes(), node.as_bytes()].concat();
        let pod = of_node(item, &hashed, "http", node)?;
        validate(&pod).map(|()| pod)
    });
    pods.collect()
}

fn document(text: &[u8]) -> Result<Value, String> {
    parse_value(text, Format::Yaml).map_err(|error| error.to_string())
}

fn of_node(document: Value, hashed: &[u8], source: &str, node: &str) -> Result<Pod, String> {
    let mut pod = Pod::deserialize(document).map_err(|error| error.to_string())?;
    let hash = hex::encode(&Sha256::digest(hashed)[..16]);
    let meta = &mut pod.metadata;
    meta.name = Some(format!("{}-{node}", meta.name.as_deref().unwrap_or("pod")));
    meta.namespace.get_or_insert_with(|| "default".into());
    meta.uid = Some(hash.clone());
    let annotations = meta.annotations.get_or_insert_default();
    annotations.insert(HASH.into(), hash);
    annotations.insert(SOURCE.into(), source.into());
    let spec = pod.spec.get_or_insert_default();
    spec.node_name = Some(node.to_owned());
    for container in spec.init_containers.iter_mut().flatten().chain(&mut spec.containers) {
        container.termination_message_path.get_or_insert_with(|| "/dev/termination-log".into());
        container.termination_message_policy.get_or_insert_with(|| "File".into());
    }
    Ok(pod)
}

/// The API server's own rules: a manifest comes by no API server, and becomes files and rules all the same. Nor may it need one.
fn validate(pod: &Pod) -> Result<(), String> {
    let tree = serde_json::to_value(pod).map_err(|error| error.to_string())?;
    let self_contained = references::check(&tree["spec"]);
    let mut object = Object::from_value(tree).ok_or("a pod is an object")?;
    let rules = kinds::Pod;
    rules.default_object(&mut object);
    let mut errors = metadata(&object, true, rules.name_rule());
    errors.extend(rules.validate_create(&object));
    // A static pod is on its node whatever it tolerates: there is nothing to compare, with the feature or without.
    pod::refuse_comparisons(&mut errors, &Field::root("spec.tolerations", object.get(&["spec", "tolerations"]).unwrap_or(&Value::Null)));
    match errors.as_slice() {
        [] => self_contained,
        errors => Err(errors.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use troupe_cri::names::PodIdentity;

    use super::*;

    const WEB: &str = "apiVersion: v1\nkind: Pod\nmetadata: {name: web}\nspec: {containers: [{name: c, image: i}]}\n";

    #[test]
    fn a_manifest_becomes_a_pod_named_after_the_node() {
        let pod = pod_of_file(WEB.as_bytes(), "n1").expect("a pod");
        let id = PodIdentity::of(&pod);
        assert_eq!((id.namespace.as_str(), id.name.as_str(), id.uid.len()), ("default", "web-n1", 32));
        assert_eq!(pod_of_file(WEB.as_bytes(), "n1").expect("a pod").metadata.uid, Some(id.uid));
    }

    #[test]
    fn a_server_has_one_pod_or_a_list_of_them() {
        let of = |text: &str| pods_of_url(text.as_bytes(), "http://x/", "n1");
        let names = |text: &str| of(text).map(|pods| pods.into_iter().filter_map(|pod| pod.metadata.name).collect::<Vec<_>>());
        assert_eq!(names(WEB), Ok(vec!["web-n1".to_owned()]));
        let item = |name: &str| format!(r#"{{"metadata": {{"name": "{name}"}}, "spec": {{"containers": [{{"name": "c", "image": "i"}}]}}}}"#);
        let list = |items: &[String]| format!(r#"{{"kind": "PodList", "apiVersion": "v1", "items": [{}]}}"#, items.join(","));
        let pods = of(&list(&[item("a"), item("b")])).expect("two pods");
        assert_eq!(pods.iter().filter_map(|pod| pod.metadata.name.as_deref()).collect::<Vec<_>>(), ["a-n1", "b-n1"]);
        assert_ne!(pods[0].metadata.uid, pods[1].metadata.uid);
        let annotations = pods[0].metadata.annotations.as_ref().expect("annotations");
        assert_eq!((annotations[SOURCE].as_str(), pods[0].spec.as_ref().and_then(|spec| spec.tolerations.as_ref())), ("http", None));
        assert_eq!(names(&list(&[])), Ok(Vec::new()));
        assert_eq!(names(&list(&[item("a"), item("")])), Err("invalid pod: name is needed for the pod".into()));
        assert!(names("kind: Node").is_err() && names("[]").is_err() && names("").is_err());
    }

    #[test]
    fn a_manifest_is_judged_by_the_rules_of_the_api() {
        let bad = WEB.replace("image: i", "image: i, volumeMounts: [{name: gone, mountPath: /x}]").replace("name: web", "name: web/../x");
        let error = pod_of_file(bad.as_bytes(), "n1").expect_err("is refused");
        assert!(error.starts_with("metadata.name: Invalid value: \"web/../x-n1\""), "{error}");
        assert!(error.ends_with("spec.containers[0].volumeMounts[0].name: Not found: \"gone\""), "{error}");
    }

    #[test]
    fn a_manifest_compares_no_taints() {
        let comparing = WEB.replace("spec: {", "spec: {tolerations: [{key: sla, operator: Gt, value: \"950\"}], ");
        let error = pod_of_file(comparing.as_bytes(), "n1").expect_err("is refused");
        assert_eq!(error, "spec.tolerations[0].operator: Unsupported value: \"Gt\": supported values: \"Equal\", \"Exists\", \"Lt\", \"Gt\"");
    }

    #[test]
    fn a_manifest_cannot_refer_to_the_api() {
        let needy = WEB.replace("spec: {", "spec: {serviceAccountName: robot, ");
        assert_eq!(pod_of_file(needy.as_bytes(), "n1").expect_err("is refused"), "static pods may not reference serviceaccounts");
        let needy = WEB.replace("spec: {", "spec: {volumes: [{name: v, persistentVolumeClaim: {claimName: c}}], ");
        assert_eq!(pod_of_file(needy.as_bytes(), "n1").expect_err("is refused"), "static pods may not reference persistentvolumeclaims");
    }
}
