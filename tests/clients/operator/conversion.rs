//! Widgets in two versions: `v1` counts in `spec.count`, `v2` says the same in words (`spec.amount`). Pods of the operator convert them.

use base64::{Engine, prelude::BASE64_STANDARD};
use serde_json::{Value, json};
use troupe_api::auth::pki::{LeafSpec, Pki};

use super::{NAMESPACE, server};
use crate::cluster::{Cluster, apply};

pub const GROUP: &str = "example.com";
pub const DEFINITION: &str = "customresourcedefinition/widgets.example.com";
/// The Service of the pods that convert, their Deployment, and the Secret with their certificate.
pub const CONVERTER: &str = "converter";
const UNIT: &str = " pieces";

/// Converts until it is ended.
pub async fn serve() {
    server::serve(review).await;
}

fn review(review: &Value) -> Value {
    let asked = &review["request"];
    let wanted = asked["desiredAPIVersion"].as_str().unwrap_or_default();
    let objects = asked["objects"].as_array().into_iter().flatten();
    let converted: Option<Vec<Value>> = objects.map(|object| convert(object.clone(), wanted)).collect();
    let response = match converted {
        Some(objects) => json!({"uid": asked["uid"], "result": {"status": "Success"}, "convertedObjects": objects}),
        None => json!({"uid": asked["uid"], "result": {"status": "Failure", "message": "this is no widget"}}),
    };
    json!({"kind": "ConversionReview", "apiVersion": "apiextensions.k8s.io/v1", "response": response})
}

fn convert(mut object: Value, wanted: &str) -> Option<Value> {
    let spec = object["spec"].as_object_mut()?;
    match wanted.rsplit('/').next()? {
        "v1" => {
            let amount = spec.remove("amount")?;
            let count: i64 = amount.as_str()?.strip_suffix(UNIT)?.parse().ok()?;
            spec.insert("count".into(), count.into());
        }
        "v2" => {
            let count = spec.remove("count")?.as_i64()?;
            spec.insert("amount".into(), amount(count).into());
        }
        _ => return None,
    }
    object["apiVersion"] = wanted.into();
    Some(object)
}

/// A count as `v2` says it.
pub fn amount(count: i64) -> String {
    format!("{count}{UNIT}")
}

/// A widget as one of the versions has it.
pub fn widget(version: &str, namespace: &str, name: &str, count: i64) -> Value {
    let spec = if version == "v1" { json!({"count": count}) } else { json!({"amount": amount(count)}) };
    let metadata = json!({"name": name, "namespace": namespace});
    json!({"apiVersion": format!("{GROUP}/{version}"), "kind": "Widget", "metadata": metadata, "spec": spec})
}

/// The definition, stored in one of its versions; `authority` is whom the API server trusts to be the converter.
pub fn definition(stored: &str, authority: &str) -> Value {
    let version = |name: &str, spec: Value, required: &str| {
        let spec = json!({"type": "object", "properties": spec, "required": [required]});
        let status = json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true});
        let schema = json!({"type": "object", "properties": {"spec": spec, "status": status}, "required": ["spec"]});
        json!({"name": name, "served": true, "storage": name == stored, "schema": {"openAPIV3Schema": schema}, "subresources": {"status": {}}})
    };
    let versions = [
        version("v1", json!({"count": {"type": "integer", "minimum": 0}}), "count"),
        version("v2", json!({"amount": {"type": "string", "pattern": format!("^[0-9]+{UNIT}$")}}), "amount"),
    ];
    let client = json!({"service": {"name": CONVERTER, "namespace": NAMESPACE, "path": "/convert"}, "caBundle": BASE64_STANDARD.encode(authority)});
    let conversion = json!({"strategy": "Webhook", "webhook": {"conversionReviewVersions": ["v1"], "clientConfig": client}});
    json!({"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition", "metadata": {"name": format!("widgets.{GROUP}")}, "spec": {
        "group": GROUP, "scope": "Namespaced", "names": {"plural": "widgets", "kind": "Widget", "singular": "widget"},
        "versions": versions, "conversion": conversion}})
}

/// Makes the converter's certificate and Service; gives the PEM of the authority.
pub fn introduce(cluster: &Cluster) -> String {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let pki = Pki::open(dir.path()).expect("a CA");
    let name = format!("{CONVERTER}.{NAMESPACE}.svc");
    let spec = LeafSpec { file: CONVERTER.into(), common_name: name.clone(), dns_names: vec![name], server: true, ..LeafSpec::default() };
    let made = pki.leaf(&spec).expect("a certificate");
    let metadata = json!({"name": CONVERTER, "namespace": NAMESPACE});
    let data = json!({"tls.crt": made.certificate_pem, "tls.key": made.key_pem});
    apply(cluster, &json!({"apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/tls", "metadata": metadata, "stringData": data}).to_string());
    let ports = json!([{"name": "https", "port": 443, "targetPort": server::PORT}]);
    let spec = json!({"selector": {"app": CONVERTER}, "ports": ports});
    apply(cluster, &json!({"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": spec}).to_string());
    pki.ca_pem().to_owned()
}
