//! Parameters that many operations take stand once in a document, under names that follow from what they say
//! (`kube-openapi/pkg/builder/parameters.go`). Pure.

use base64::{Engine, prelude::BASE64_URL_SAFE};
use serde_json::{Map, Value, json};

use crate::openapi::order::{self, Form};

/// Takes them out of all paths, where references to them stay.
pub fn take(paths: &mut Map<String, Value>) -> Map<String, Value> {
    let mut shared = Map::new();
    for item in paths.values_mut().filter_map(Value::as_object_mut) {
        for (name, part) in item {
            let parameters = if name == "parameters" { Some(part) } else { part.get_mut("parameters") };
            for parameter in parameters.and_then(Value::as_array_mut).into_iter().flatten().filter(|parameter| is_shared(parameter)) {
                share(parameter, &mut shared);
            }
        }
    }
    shared
}

/// Whether a parameter says the same of many kinds. Clients look for two of them where they are taken, to find out what the server can do.
fn is_shared(parameter: &Value) -> bool {
    let text = |field: &str| parameter[field].as_str().unwrap_or_default();
    match (text("in"), text("name")) {
        (_, "") | ("query" | "path", "name") | ("query", "fieldValidation" | "dryRun") => false,
        ("body", "body") => parameter["schema"]["$ref"].as_str().is_some_and(|target| target.starts_with("#/definitions/io.k8s.apimachinery")),
        _ => true,
    }
}

fn share(parameter: &mut Value, shared: &mut Map<String, Value>) {
    let hash = fnv(&order::bytes(parameter, Form::SwaggerParameter));
    let name = format!("{}-{}", parameter["name"].as_str().unwrap_or_default(), BASE64_URL_SAFE.encode(&hash.to_be_bytes()[..6]));
    let reference = json!({"$ref": format!("#/parameters/{name}")});
    // Of two that differ under one name the second stays where it is.
    if shared.get(&name).is_none_or(|known| *known == *parameter) {
        shared.insert(name, std::mem::replace(parameter, reference));
    }
}

/// The FNV-1 hash of 64 bits.
fn fnv(text: &[u8]) -> u64 {
    text.iter().fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| hash.wrapping_mul(0x0000_0100_0000_01b3) ^ u64::from(*byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_all_kinds_share_stands_once_under_the_name_that_upstreams_has() {
        let namespace = json!({
            "name": "namespace", "in": "path", "description": "object name and auth scope, such as for teams and projects", "required": true,
            "type": "string", "uniqueItems": true,
        });
        let name = json!({"name": "name", "in": "path", "description": "name of the Pod", "required": true, "type": "string", "uniqueItems": true});
        let patch =
            json!({"in": "body", "name": "body", "required": true, "schema": {"$ref": "#/definitions/io.k8s.apimachinery.pkg.apis.meta.v1.Patch"}});
        let pod = json!({"in": "body", "name": "body", "required": true, "schema": {"$ref": "#/definitions/io.k8s.api.core.v1.Pod"}});
        let dry_run = json!({"name": "dryRun", "in": "query", "type": "string"});
        let item = json!({"parameters": [name, namespace], "put": {"parameters": [pod, dry_run]}, "patch": {"parameters": [patch]}});
        let mut paths = Map::from_iter([("/a".to_owned(), item.clone()), ("/b".to_owned(), item)]);
        let shared = take(&mut paths);
        assert_eq!(shared.keys().collect::<Vec<_>>(), ["body-78PwaGsr", "namespace-vgWSWtn3"]);
        assert_eq!(shared["namespace-vgWSWtn3"], namespace);
        for path in ["/a", "/b"] {
            assert_eq!(paths[path]["parameters"], json!([name, {"$ref": "#/parameters/namespace-vgWSWtn3"}]));
            assert_eq!(paths[path]["put"]["parameters"], json!([pod, dry_run]));
            assert_eq!(paths[path]["patch"]["parameters"], json!([{"$ref": "#/parameters/body-78PwaGsr"}]));
        }
    }
}
