//! Patches that cost far more than they weigh: copies, long lists, many managers.

use std::time::Duration;

use serde_json::{Map, Value, json};

use crate::{caller::Caller, stage};

const MERGE: &str = "application/strategic-merge-patch+json";
const OPERATIONS: &str = "application/json-patch+json";

fn revision(data: &Value) -> Value {
    json!({"apiVersion": "apps/v1", "kind": "ControllerRevision", "metadata": {"name": "a"}, "revision": 1, "data": data})
}

#[test]
fn json_patches_end_at_upstreams_limits() {
    let stage = stage::shared();
    let room = stage.room("copies");
    let administrator = Caller::administrator(&stage);
    let revisions = format!("/apis/apps/v1/namespaces/{}/controllerrevisions", room.name);
    let data = json!({"x": {"y": "z".repeat(1000)}, "list": vec![0; 100_000]});
    assert_eq!(administrator.json("POST", &revisions, &revision(&data)).status, 201);
    let one = format!("{revisions}/a");
    let nested = vec![json!({"op": "copy", "from": "/data/x", "path": "/data/x/in"}); 10_000];
    let doubling = (0..18).map(|at| json!({"op": "copy", "from": "/data/x", "path": format!("/data/x/c{at}")})).collect::<Vec<_>>();
    let wide = (0..9000).map(|at| json!({"op": "copy", "from": "/data/list", "path": format!("/data/c{at}")})).collect::<Vec<_>>();
    let shifting = vec![json!({"op": "add", "path": "/data/list/0", "value": 1}); 10_000];
    let many = vec![json!({"op": "test", "path": "/revision", "value": 1}); 10_001];
    for (patch, status) in [(nested, 422), (doubling, 422), (wide, 422), (shifting, 422), (many, 413)] {
        let (reply, toll) = stage.attack(|| administrator.send("PATCH", &one, OPERATIONS, Value::from(patch).to_string()));
        assert_eq!(reply.status, status, "{}", reply.message());
        assert!(toll.memory < 128 << 20, "{toll:?}");
    }
    let message =
        administrator.send("PATCH", &one, OPERATIONS, Value::from(vec![json!({"op": "remove", "path": "/x"}); 10_001]).to_string()).message();
    assert_eq!(message, "Request entity too large: The allowed maximum operations in a JSON patch is 10000, got 10001");
}

/// The environment of a container.
fn variables(count: usize, value: &str) -> Vec<Value> {
    (0..count).map(|at| json!({"name": format!("V{at}"), "value": value})).collect()
}

#[test]
fn long_lists_merge_without_others_noticing() {
    let stage = stage::shared();
    let room = stage.room("lists");
    let administrator = Caller::administrator(&stage);
    let templates = format!("/api/v1/namespaces/{}/podtemplates", room.name);
    for name in ["a", "b", "c", "d"] {
        let spec = json!({"containers": [{"name": "c", "image": "i", "env": variables(10_000, "1")}]});
        let template = json!({"apiVersion": "v1", "kind": "PodTemplate", "metadata": {"name": name}, "template": {"spec": spec}});
        let reply = administrator.json("POST", &templates, &template);
        assert_eq!(reply.status, 201, "{}", reply.message());
    }
    let order = variables(10_000, "").into_iter().map(|entry| json!({"name": entry["name"]})).collect::<Vec<_>>();
    let patch = json!({"template": {"spec": {"containers": [{"name": "c", "$setElementOrder/env": order, "env": variables(10_000, "2")}]}}});
    let patch = patch.to_string();
    let (replies, toll) = stage.attack(|| {
        std::thread::scope(|scope| {
            let send = |name: &'static str| {
                let (administrator, path, patch) = (&administrator, format!("{templates}/{name}"), &patch);
                scope.spawn(move || administrator.send("PATCH", &path, MERGE, patch))
            };
            ["a", "b", "c", "d"].map(send).map(|sent| sent.join().expect("answers"))
        })
    });
    for reply in replies {
        assert_eq!(reply.status, 200, "{}", reply.message());
        assert!(reply.took < Duration::from_secs(30), "{:?} {toll:?}", reply.took);
    }
    let merged = administrator.get(&format!("{templates}/a")).json();
    let env = merged["template"]["spec"]["containers"][0]["env"].as_array().expect("a list").clone();
    assert!(env.len() == 10_000 && env.iter().all(|entry| entry["value"] == "2"));
}

#[test]
fn thousands_of_managers_are_folded_or_carried_cheaply() {
    let stage = stage::shared();
    let room = stage.room("managers");
    let administrator = Caller::administrator(&stage);
    let maps = format!("/api/v1/namespaces/{}/configmaps", room.name);
    let data: Map<String, Value> = (0..2000).map(|at| (format!("k{at}"), "v".into())).collect();
    for (name, operation, kept) in [("updates", "Update", 1..=12), ("applies", "Apply", 8_000..=10_100)] {
        let map = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": data});
        assert_eq!(administrator.json("POST", &maps, &map).status, 201);
        let count = if operation == "Update" { 10_000 } else { 8_000 };
        let entry = |at: usize| {
            json!({"manager": format!("m{at}"), "operation": operation, "apiVersion": "v1", "fieldsType": "FieldsV1",
                "fieldsV1": {"f:data": {format!("f:k{}", at % 2000): {}}}})
        };
        let mut owned = map.clone();
        owned["metadata"]["managedFields"] = (0..count).map(entry).collect();
        let path = format!("{maps}/{name}");
        let (reply, toll) = stage.attack(|| administrator.json("PUT", &path, &owned));
        assert_eq!(reply.status, 200, "{}", reply.message());
        assert!(toll.memory < 256 << 20, "{toll:?}");
        let entries = reply.json()["metadata"]["managedFields"].as_array().map_or(0, Vec::len);
        assert!(kept.contains(&entries), "{entries}");
        let (replies, toll) = stage.attack(|| {
            std::thread::scope(|scope| {
                let send = |at: usize| {
                    let patch = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": {format!("n{at}"): "w"}});
                    let (administrator, path) = (&administrator, format!("{path}?fieldManager=n{at}"));
                    scope.spawn(move || administrator.send("PATCH", &path, "application/apply-patch+yaml", patch.to_string()))
                };
                [0, 1, 2, 3].map(send).map(|sent| sent.join().expect("answers"))
            })
        });
        for reply in replies {
            assert_eq!(reply.status, 200, "{}", reply.message());
            assert!(reply.took < Duration::from_secs(30), "{:?} {toll:?}", reply.took);
        }
    }
}
