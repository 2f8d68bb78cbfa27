//! A custom resource in two versions that differ: `example.com/v1` has `spec.hostPort`, `v2` has `spec.host` and `spec.port`, and a label
//! that says so. A webhook converts.

use std::sync::Arc;

use serde_json::{Map, Value, json};
use troupe_api::{
    meta::Object,
    service::{ListOptions, ListReply, Operation, PatchType, ReplyBody, Target, WatchOptions, WatchStream, WriteOptions},
    status::Status,
};
use troupe_api_server::store::memory::MemoryStore;

use super::super::webhooks::endpoint::{Answer, Endpoint};
use crate::apiserver::{
    ApiServerOptions,
    testing::{TestApi, boot_with, eventually},
};

pub const CRDS: &str = "customresourcedefinitions.apiextensions.k8s.io";
pub const SITES: &str = "sites.example.com";

/// A cluster, and the webhook that converts.
pub struct World {
    pub api: TestApi,
    pub hook: Endpoint,
    pub store: Arc<MemoryStore>,
}

/// An object in the other version, as the webhook sees it.
pub fn turned(object: &Value, wanted: &str) -> Value {
    let mut turned = object.clone();
    turned["apiVersion"] = wanted.into();
    let spec = turned["spec"].as_object_mut().expect("a spec");
    let text = |value: Option<Value>| value.and_then(|value| value.as_str().map(str::to_owned)).unwrap_or_default();
    if wanted == "example.com/v2" {
        let both = text(spec.remove("hostPort"));
        let (host, port) = both.split_once(':').unwrap_or((&both, ""));
        for (field, part) in [("host", host), ("port", port)] {
            if !part.is_empty() {
                spec.insert(field.into(), part.into());
            }
        }
        turned["metadata"]["labels"]["shown"] = "v2".into();
    } else {
        let (host, port) = (text(spec.remove("host")), text(spec.remove("port")));
        if !host.is_empty() {
            spec.insert("hostPort".into(), format!("{host}:{port}").into());
        }
        if let Some(labels) = turned["metadata"]["labels"].as_object_mut() {
            labels.remove("shown");
        }
    }
    turned
}

/// What the webhook answers: the objects in the version that is wanted.
pub fn converted(request: &Value) -> Value {
    let wanted = request["desiredAPIVersion"].as_str().expect("a version");
    let objects: Vec<Value> = request["objects"].as_array().expect("objects").iter().map(|object| turned(object, wanted)).collect();
    json!({"result": {"status": "Success"}, "convertedObjects": objects})
}

fn version(name: &str, storage: bool, fields: &[&str]) -> Value {
    let mut spec: Map<String, Value> = fields.iter().map(|field| ((*field).to_owned(), json!({"type": "string"}))).collect();
    spec.insert("note".into(), json!({"type": "string", "default": format!("of {name}")}));
    spec.insert("replicas".into(), json!({"type": "integer"}));
    spec.insert("tags".into(), json!({"type": "object", "additionalProperties": {"type": "string"}}));
    let status = json!({"type": "object", "properties": {"phase": {"type": "string"}, "replicas": {"type": "integer"}}});
    let selectable: Vec<Value> = fields.iter().map(|field| json!({"jsonPath": format!(".spec.{field}")})).collect();
    let columns: Vec<Value> = fields.iter().map(|field| json!({"name": field, "type": "string", "jsonPath": format!(".spec.{field}")})).collect();
    json!({
        "name": name, "served": true, "storage": storage,
        "schema": {"openAPIV3Schema": {"type": "object", "properties": {"spec": {"type": "object", "properties": spec}, "status": status}}},
        "subresources": {"status": {}, "scale": {"specReplicasPath": ".spec.replicas", "statusReplicasPath": ".status.replicas"}},
        "selectableFields": selectable, "additionalPrinterColumns": columns,
    })
}

/// The definition, with objects stored in `storage`.
pub fn definition(storage: &str, conversion: Value) -> Value {
    let names = json!({"plural": "sites", "singular": "site", "kind": "Site"});
    let versions = [version("v1", storage == "v1", &["hostPort"]), version("v2", storage == "v2", &["host", "port"])];
    json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition", "metadata": {"name": SITES},
        "spec": {"group": "example.com", "scope": "Namespaced", "names": names, "versions": versions, "conversion": conversion},
    })
}

/// A site in `default`.
pub fn site(version: &str, name: &str, spec: Value) -> Value {
    json!({"apiVersion": format!("example.com/{version}"), "kind": "Site", "metadata": {"name": name, "namespace": "default"}, "spec": spec})
}

/// A cluster in which sites are stored in v1, and a webhook that answers as `answer` says.
pub async fn world(answer: impl Fn(&Value) -> Answer + Send + Sync + 'static) -> World {
    let hook = Endpoint::serve(answer).await;
    let store = Arc::new(MemoryStore::new());
    let mut options = ApiServerOptions::new(store.clone());
    options.webhooks_on_loopback = true;
    let world = World { api: boot_with(options).await, hook, store };
    world.api.create(definition("v1", world.hook.conversion(&["v1"]))).await;
    world.served().await;
    world
}

/// The same with a webhook that does what it should.
pub async fn good_world() -> World {
    world(|request| Answer::Say(converted(request))).await
}

impl World {
    /// Waits until sites are served.
    pub async fn served(&self) {
        eventually("established", async || {
            let definition = self.api.get(CRDS, "", SITES).await.expect("is there");
            let conditions = definition.list(&["status", "conditions"]);
            conditions.iter().any(|condition| condition["type"] == "Established" && condition["status"] == "True")
        })
        .await;
    }

    pub fn at(&self, version: &str, name: &str, subresource: &str) -> Target {
        Target { version: version.into(), ..self.api.subresource(SITES, "default", name, subresource) }
    }

    pub async fn get(&self, version: &str, name: &str) -> Result<Object, Status> {
        self.api.call(self.at(version, name, ""), Operation::Get { resource_version: None }).await?.into_tree()
    }

    pub async fn list(&self, version: &str, options: ListOptions) -> Result<ListReply, Status> {
        match self.api.call(self.at(version, "", ""), Operation::List(options)).await?.body {
            ReplyBody::List(list) => Ok(list),
            other => panic!("a list answered with {other:?}"),
        }
    }

    pub async fn watch(&self, version: &str, options: WatchOptions) -> WatchStream {
        let target = self.at(version, "", "");
        troupe_api::ApiService::watch(&*self.api.server, self.api.user.clone(), target, options, Default::default()).await.expect("begins")
    }

    pub async fn apply(&self, manager: &str, object: Value, force: bool) -> Result<Object, Status> {
        let version = object["apiVersion"].as_str().unwrap_or_default().trim_start_matches("example.com/").to_owned();
        let name = object["metadata"]["name"].as_str().unwrap_or_default().to_owned();
        let options = WriteOptions { field_manager: manager.into(), force, ..WriteOptions::default() };
        let operation = Operation::Patch { patch_type: PatchType::Apply, body: object.to_string().into(), options };
        self.api.call(self.at(&version, &name, ""), operation).await?.into_tree()
    }

    /// The `apiVersion` in which a site lies in the store.
    pub fn stored(&self, name: &str) -> String {
        let resource = troupe_api::meta::GroupResource::new("example.com", "sites");
        let key = troupe_api::meta::ObjectKey::new("default", name);
        let found = troupe_api::service::Listers::get(&*self.api.server, &resource, &key);
        found.map_or_else(String::new, |object| object.api_version().to_owned())
    }

    /// How many objects each question since the last call was about, with the version that was wanted.
    pub fn questions(&self) -> Vec<(String, usize)> {
        let asked = self.hook.take_asked();
        asked
            .iter()
            .map(|request| (request["desiredAPIVersion"].as_str().unwrap_or_default().to_owned(), request["objects"].as_array().map_or(0, Vec::len)))
            .collect()
    }
}
