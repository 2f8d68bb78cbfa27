//! What a client reads back of the manifests in `tests/golden`, uids, addresses, times and generated names masked.
//!
//! `NAME.yaml` is created, `NAME.expected.yaml` is what upstream answers to `kubectl get -o yaml` then: its documented
//! defaults, allocations and admission. With `TROUPE_BLESS` in the environment the expectations are written anew;
//! each difference must then be justified from upstream's documentation.

use std::{fs, path::PathBuf};

use serde_json::{Value, json};

use crate::apiserver::testing::{TestApi, boot};

/// Places whose values differ from run to run.
const MASKED: [&str; 6] = [
    "/metadata/uid",
    "/metadata/creationTimestamp",
    "/metadata/resourceVersion",
    "/spec/clusterIP",
    "/spec/clusterIPs/0",
    "/status/lastPhaseTransitionTime",
];

fn manifests() -> Vec<PathBuf> {
    let dir = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden");
    let entries = fs::read_dir(dir).expect("the folder is there");
    let mut paths: Vec<_> =
        entries.map(|entry| entry.expect("readable").path()).filter(|path| !path.to_string_lossy().contains(".expected.")).collect();
    paths.sort();
    paths
}

fn read(path: &PathBuf) -> Value {
    serde_norway::from_str(&fs::read_to_string(path).unwrap_or_default()).expect("valid YAML")
}

/// The object as a client sees it, without what differs from run to run.
fn masked(mut object: Value) -> Value {
    if let Some(metadata) = object["metadata"].as_object_mut() {
        metadata.remove("managedFields");
    }
    for path in MASKED {
        match object.pointer_mut(path) {
            Some(Value::String(text)) if text != "None" => *text = "MASKED".into(),
            _ => {}
        }
    }
    mask_labels(&mut object);
    mask_token_volume(object)
}

/// Jobs select their pods by their own uid.
fn mask_labels(object: &mut Value) {
    const UID: [&str; 2] = ["controller-uid", "batch.kubernetes.io/controller-uid"];
    for path in ["/spec/selector/matchLabels", "/spec/template/metadata/labels", "/metadata/labels"] {
        let Some(labels) = object.pointer_mut(path).and_then(Value::as_object_mut) else { continue };
        for (_, value) in labels.iter_mut().filter(|(key, _)| UID.contains(&key.as_str())) {
            *value = json!("MASKED");
        }
    }
}

/// The volume with a pod's token has a generated name.
fn mask_token_volume(object: Value) -> Value {
    let name = object.pointer("/spec/volumes").and_then(Value::as_array).into_iter().flatten().find_map(|volume| {
        let name = volume["name"].as_str()?;
        name.starts_with("kube-api-access-").then(|| name.to_owned())
    });
    let Some(name) = name else { return object };
    serde_json::from_str(&object.to_string().replace(&name, "kube-api-access-MASKED")).expect("still JSON")
}

async fn prepare(api: &TestApi) {
    for (kind, name) in [("ServiceAccount", "robot")] {
        api.create(json!({"apiVersion": "v1", "kind": kind, "metadata": {"name": name, "namespace": "default"}})).await;
    }
    let critical =
        json!({"apiVersion": "scheduling.k8s.io/v1", "kind": "PriorityClass", "metadata": {"name": "system-node-critical"}, "value": 2_000_001_000});
    api.ensure(critical).await;
}

#[actix::test]
async fn manifests_read_back_as_upstream_answers() {
    let bless = std::env::var_os("TROUPE_BLESS").is_some();
    let mut wrong = Vec::new();
    for path in manifests() {
        // A server each: manifests do not see each other.
        let api = boot().await;
        let manifest = read(&path);
        if manifest["kind"] != "ServiceAccount" {
            prepare(&api).await;
        }
        let name = path.file_stem().expect("a name").to_string_lossy().into_owned();
        let created = match api.try_create(manifest).await {
            Ok(created) => masked(Value::Object(created.root().clone())),
            Err(status) => {
                wrong.push(format!("{name} is refused: {status}"));
                continue;
            }
        };
        let expected = path.with_extension("expected.yaml");
        if bless {
            fs::write(&expected, serde_norway::to_string(&created).expect("encodes")).expect("writable");
        } else if read(&expected) != created {
            wrong.push(format!("{name}:\n{}", serde_norway::to_string(&created).expect("encodes")));
        }
    }
    assert!(wrong.is_empty(), "{} manifests read back otherwise:\n{}", wrong.len(), wrong.join("\n"));
}
