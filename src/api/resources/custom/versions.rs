//! All versions of a custom resource, and what turns its objects from one into another (`spec.conversion`).
//!
//! Objects lie in the store in the version that was for storage when they were written. Each is read by the schema of its own version:
//! pruned, and with the defaults of today. Whoever wants it in another version has it converted by the API server.

use std::sync::Arc;

use serde_json::Value;
use tokio::sync::Semaphore;

use super::CustomSchema;
use crate::{
    meta::{GroupVersionKind, Object},
    resources::{
        tree::{at, items, text},
        webhook_config::ClientConfig,
    },
};

/// Questions to one webhook at a time: one that hangs keeps no more waiting in it.
const QUESTIONS: usize = 16;

/// The versions of a definition, served or not.
#[derive(Debug)]
pub struct Versions {
    /// The name of the definition.
    pub definition: Arc<str>,
    group: Arc<str>,
    kind: Arc<str>,
    schemas: Vec<(Arc<str>, Arc<CustomSchema>)>,
    webhook: Option<ConversionWebhook>,
}

/// A webhook that converts.
#[derive(Debug)]
pub struct ConversionWebhook {
    /// `conversionReviewVersions`, in the order in which it likes them.
    pub review_versions: Vec<String>,
    pub client: ClientConfig,
    /// A place for each question that may be asked at one time.
    pub places: Arc<Semaphore>,
}

impl ConversionWebhook {
    /// Reads `spec.conversion`; `None` where objects are the same in all versions.
    pub fn read(conversion: &Value) -> Option<Self> {
        (text(conversion, &["strategy"]) == "Webhook").then(|| ConversionWebhook {
            review_versions: items(conversion, &["webhook", "conversionReviewVersions"])
                .iter()
                .filter_map(|version| version.as_str().map(str::to_owned))
                .collect(),
            client: ClientConfig::read(at(conversion, &["webhook", "clientConfig"])),
            places: Arc::new(Semaphore::new(QUESTIONS)),
        })
    }
}

impl Versions {
    pub fn new(
        definition: Arc<str>,
        group: &str,
        kind: &Arc<str>,
        schemas: Vec<(Arc<str>, Arc<CustomSchema>)>,
        webhook: Option<ConversionWebhook>,
    ) -> Self {
        Versions { definition, group: group.into(), kind: kind.clone(), schemas, webhook }
    }

    /// What is asked for other versions; `None` where all are the same but for their schemas.
    pub fn webhook(&self) -> Option<&ConversionWebhook> {
        self.webhook.as_ref()
    }

    /// `group/version` of a version.
    pub fn api_version(&self, version: &str) -> String {
        format!("{}/{version}", self.group)
    }

    /// Whether an `apiVersion` is that of a version.
    pub fn is_of(&self, api_version: &str, version: &str) -> bool {
        api_version.strip_prefix(&*self.group).and_then(|rest| rest.strip_prefix('/')) == Some(version)
    }

    /// The schema that objects of an `apiVersion` have; `None` where the definition has no such version.
    pub fn schema_of(&self, api_version: &str) -> Option<&Arc<CustomSchema>> {
        self.schema(api_version.strip_prefix(&*self.group)?.strip_prefix('/')?)
    }

    /// The schema of a version; `None` where the definition has none of that name.
    pub fn schema(&self, version: &str) -> Option<&Arc<CustomSchema>> {
        self.schemas.iter().find(|(name, _)| **name == *version).map(|(_, schema)| schema)
    }

    /// Whether there is a way from one `apiVersion` to another.
    ///
    /// # Errors
    /// In upstream's words, which of the two is none of the definition's.
    pub fn check(&self, from: &str, to: &str) -> Result<(), String> {
        match (self.schema_of(to), self.schema_of(from)) {
            (None, _) => Err(format!("request to convert CR to an invalid group/version: {to}")),
            (_, None) => Err(format!("request to convert CR from an invalid group/version: {from}")),
            _ => Ok(()),
        }
    }

    /// Brings a stored object into the form of its own version: without what its schema does not know, and with its defaults.
    pub fn form(&self, object: &mut Object) {
        if let Some(schema) = self.schema_of(object.api_version()).cloned() {
            prune(&schema, object);
            // What was stored before its defaults became that large is shown without the last of them.
            schema.schema().apply_defaults(object);
        }
    }

    /// Brings an object that a webhook made into the form of its version: without what its schema does not know. Defaults are the
    /// webhook's, as upstream.
    pub fn prune(&self, object: &mut Object) {
        if let Some(schema) = self.schema_of(object.api_version()).cloned() {
            prune(&schema, object);
        }
    }

    /// Calls an object one of `version`, and takes away what the schema of that version does not know.
    pub fn rename(&self, object: &mut Object, version: &str) {
        object.set_gvk(&GroupVersionKind::new(self.group.clone(), version, self.kind.clone()));
        self.prune(object);
    }
}

fn prune(schema: &CustomSchema, object: &mut Object) {
    // What does not even have metadata of the right types stays as it is: it can still be read, and deleted.
    if let Ok(decoded) = schema.schema().normalise(object.clone()) {
        *object = decoded.object;
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use serde_json::json;

    use super::*;

    fn versions() -> Versions {
        let kind: Arc<str> = "Widget".into();
        let schema = |version: &str, field: &str| {
            let mut fields = serde_json::Map::new();
            fields.insert(field.to_owned(), json!({"type": "string", "default": "x"}));
            let source = json!({"type": "object", "properties": {"spec": {"type": "object", "properties": fields}}});
            let gvk = GroupVersionKind::new("example.com", version, kind.clone());
            (version.into(), Arc::new(CustomSchema::new(gvk, Bytes::from(source.to_string()), false)))
        };
        Versions::new("widgets.example.com".into(), "example.com", &kind, vec![schema("v1", "old"), schema("v2", "new")], None)
    }

    fn widget(version: &str) -> Object {
        let spec = json!({"old": "1", "other": "3"});
        let widget = json!({"apiVersion": format!("example.com/{version}"), "kind": "Widget", "metadata": {"name": "a"}, "spec": spec});
        Object::from_value(widget).expect("an object")
    }

    #[test]
    fn an_object_is_read_by_the_schema_of_its_own_version() {
        let versions = versions();
        for (version, spec) in [("v1", json!({"old": "1"})), ("v2", json!({"new": "x"})), ("v3", json!({"old": "1", "other": "3"}))] {
            let mut object = widget(version);
            versions.form(&mut object);
            assert_eq!(object.get(&["spec"]), Some(&spec), "{version}");
        }
        let mut object = widget("v1");
        versions.rename(&mut object, "v2");
        assert_eq!((object.api_version(), object.get(&["spec"])), ("example.com/v2", Some(&json!({}))), "defaults come with reading and writing");
    }

    #[test]
    fn there_is_no_way_to_or_from_what_is_not_defined() {
        let check = |from: &str, to: &str| versions().check(from, to).expect_err("is none of its versions");
        assert_eq!(versions().check("example.com/v1", "example.com/v2"), Ok(()));
        assert_eq!(check("example.com/v1", "example.com/v3"), "request to convert CR to an invalid group/version: example.com/v3");
        assert_eq!(check("example.org/v1", "example.com/v1"), "request to convert CR from an invalid group/version: example.org/v1");
    }
}
