//! Reads custom resource definitions.
//!
//! A definition is served as soon as its names are accepted: whoever waits for `Established` finds it served. Discovery tells of it once it
//! is established. What decides is read without decoding the schemas; [`Definition::same_resource`] says whether a change of a definition is one of the resource.

use std::sync::Arc;

use bytes::Bytes;
use serde::Deserialize;
use serde_json::{Value, value::RawValue};

use super::{cells, strategy::CustomResource};
use crate::{
    meta::{GroupVersionKind, gvk::version_priority, request::Verb},
    resources::{
        Resource, SchemaSource, Served, Subresource,
        custom::{ConversionWebhook, CustomSchema, Path, Versions},
        scale::ScalePaths,
    },
    stored::StoredObject,
};

const VERBS: [Verb; 8] = [Verb::Delete, Verb::DeleteCollection, Verb::Get, Verb::List, Verb::Patch, Verb::Create, Verb::Update, Verb::Watch];
const OWN_VERBS: &[&str] = &["get", "patch", "update"];

#[derive(Deserialize)]
struct Document<'a> {
    #[serde(borrow)]
    spec: &'a RawValue,
    #[serde(default, borrow)]
    status: Status<'a>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Status<'a> {
    #[serde(borrow)]
    accepted_names: Option<&'a RawValue>,
    #[serde(default)]
    conditions: Vec<Condition>,
}

#[derive(Deserialize)]
struct Condition {
    #[serde(rename = "type")]
    kind: String,
    status: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Spec<'a> {
    group: String,
    scope: String,
    #[serde(default)]
    preserve_unknown_fields: bool,
    #[serde(default)]
    conversion: Value,
    #[serde(borrow)]
    versions: Vec<Version<'a>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Version<'a> {
    name: Arc<str>,
    #[serde(default)]
    served: bool,
    #[serde(default)]
    storage: bool,
    #[serde(default)]
    deprecated: bool,
    deprecation_warning: Option<Arc<str>>,
    #[serde(borrow)]
    schema: Option<Schema<'a>>,
    #[serde(default)]
    subresources: Subresources,
    #[serde(default)]
    additional_printer_columns: Vec<Value>,
    #[serde(default)]
    selectable_fields: Vec<SelectableField>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Schema<'a> {
    #[serde(borrow, rename = "openAPIV3Schema")]
    open_api: Option<&'a RawValue>,
}

#[derive(Default, Deserialize)]
struct Subresources {
    status: Option<Value>,
    scale: Option<Scale>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Scale {
    spec_replicas_path: String,
    status_replicas_path: String,
    label_selector_path: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct SelectableField {
    json_path: String,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Names {
    plural: Arc<str>,
    singular: Arc<str>,
    short_names: Vec<Arc<str>>,
    kind: Arc<str>,
    list_kind: Arc<str>,
    categories: Vec<Arc<str>>,
}

/// A definition, as far as it says whether and as what its resource is served.
pub struct Definition<'a> {
    object: &'a StoredObject,
    document: Document<'a>,
}

impl<'a> Definition<'a> {
    /// `None` for an object that is no definition.
    pub fn read(object: &'a StoredObject) -> Option<Self> {
        let document = serde_json::from_slice(object.in_one_piece()?).ok()?;
        Some(Definition { object, document })
    }

    fn has(&self, condition: &str) -> bool {
        self.document.status.conditions.iter().any(|found| found.kind == condition && found.status == "True")
    }

    /// Whether its names are its own, or were once.
    pub fn is_served(&self) -> bool {
        self.document.status.accepted_names.is_some() && (self.has("NamesAccepted") || self.has("Established"))
    }

    /// Its accepted names; null where there are none yet.
    pub fn accepted_names(&self) -> Value {
        self.document.status.accepted_names.and_then(|names| serde_json::from_str(names.get()).ok()).unwrap_or_default()
    }

    /// Its group, and the versions that it wants served, whatever its names.
    pub fn served_versions(&self) -> (Arc<str>, Vec<Arc<str>>) {
        let spec: Option<Spec<'_>> = serde_json::from_str(self.document.spec.get()).ok();
        let Some(spec) = spec else { return Default::default() };
        let served = spec.versions.iter().filter(|version| version.served).map(|version| version.name.clone());
        (spec.group.as_str().into(), served.collect())
    }

    /// Whether it is established: upstream's discovery tells of it from then on.
    pub fn is_established(&self) -> bool {
        self.has("Established")
    }

    pub fn is_terminating(&self) -> bool {
        self.object.meta().deletion_timestamp.is_some()
    }

    /// Whether another version of the definition makes the same resource.
    pub fn same_resource(&self, other: &Definition<'_>) -> bool {
        let (mine, theirs) = (&self.document, &other.document);
        let names = |document: &Document<'_>| document.status.accepted_names.map(|names| names.get().to_owned());
        self.object.uid() == other.object.uid() && mine.spec.get() == theirs.spec.get() && names(mine) == names(theirs)
    }

    /// Has the schemas of a resource that an older version of the definition made, and this one makes as well, hold the bytes of this one.
    pub fn hold_schemas(&self, resource: &Resource) {
        let Some(versions) = resource.versions() else { return };
        let spec: Option<Spec<'_>> = serde_json::from_str(self.document.spec.get()).ok();
        for version in spec.iter().flat_map(|spec| &spec.versions) {
            if let Some(schema) = versions.schema(&version.name) {
                schema.hold(source(self.object, version));
            }
        }
    }

    /// The resource that it defines; `None` where it does not say enough.
    pub fn resource(&self) -> Option<Resource> {
        let spec: Spec<'_> = serde_json::from_str(self.document.spec.get()).ok()?;
        let names: Names = serde_json::from_str(self.document.status.accepted_names?.get()).ok()?;
        Maker { object: self.object, spec: &spec, names: &names }.resource(self.is_terminating(), self.is_established())
    }
}

struct Maker<'a> {
    object: &'a StoredObject,
    spec: &'a Spec<'a>,
    names: &'a Names,
}

impl Maker<'_> {
    fn resource(&self, is_terminating: bool, is_told: bool) -> Option<Resource> {
        let (spec, names) = (self.spec, self.names);
        let schemas: Vec<(Arc<str>, Arc<CustomSchema>)> =
            spec.versions.iter().map(|version| (version.name.clone(), Arc::new(self.schema(version)))).collect();
        let webhook = ConversionWebhook::read(&spec.conversion);
        let all = Arc::new(Versions::new(self.object.key.name.clone(), &spec.group, &names.kind, schemas.clone(), webhook));
        let mut fields: Vec<(Arc<str>, Path)> = spec.versions.iter().flat_map(|version| &version.selectable_fields).filter_map(selectable).collect();
        fields.sort_by(|a, b| a.0.cmp(&b.0));
        fields.dedup_by(|a, b| a.0 == b.0);
        let fields: Arc<[(Arc<str>, Path)]> = fields.into();
        let versions: Vec<(&Version<'_>, Arc<Served>)> = spec
            .versions
            .iter()
            .zip(schemas.iter())
            .map(|(version, (_, schema))| (version, Arc::new(self.served(version, schema, &all, &fields))))
            .collect();
        let storage = versions.iter().find(|(version, _)| version.storage).map(|(_, served)| served.clone())?;
        let mut served: Vec<_> = versions.into_iter().filter(|(version, _)| version.served).map(|(_, served)| served).collect();
        served.sort_by_key(|served| std::cmp::Reverse(version_priority(&served.version)));
        Some(Resource {
            group: spec.group.as_str().into(),
            kind: names.kind.clone(),
            list_kind: names.list_kind.clone(),
            plural: names.plural.clone(),
            singular: names.singular.clone(),
            short_names: names.short_names.clone(),
            categories: names.categories.clone(),
            namespaced: spec.scope == "Namespaced",
            storage_group: spec.group.as_str().into(),
            storage_prefix: format!("{}/{}", spec.group, names.plural).into(),
            features: &[],
            strategy: storage.strategy.clone(),
            storage,
            hashed_version: None,
            served,
            selectable: fields.iter().map(|(name, _)| name.clone()).collect(),
            verbs: VERBS.to_vec(),
            pod: None,
            is_terminating,
            is_told,
            is_elsewhere: false,
        })
    }

    fn gvk(&self, version: &Version<'_>) -> GroupVersionKind {
        GroupVersionKind::new(self.spec.group.as_str(), version.name.clone(), self.names.kind.clone())
    }

    fn schema(&self, version: &Version<'_>) -> CustomSchema {
        let schema = CustomSchema::new(self.gvk(version), source(self.object, version), self.spec.preserve_unknown_fields);
        schema.with_plain_status(version.subresources.status.is_none())
    }

    /// What is said of a deprecated version whose definition does not say it itself: the best later version instead, if there is one.
    fn default_warning(&self, deprecated: &Version<'_>) -> String {
        let (group, kind) = (&self.spec.group, &self.names.kind);
        let least = version_priority(&deprecated.name);
        let later = self.spec.versions.iter().filter(|other| other.served && !other.deprecated && version_priority(&other.name) > least);
        let advice = later.max_by_key(|other| version_priority(&other.name)).map(|other| format!("; use {group}/{} {kind}", other.name));
        format!("{group}/{} {kind} is deprecated{}", deprecated.name, advice.unwrap_or_default())
    }

    fn served(&self, version: &Version<'_>, schema: &Arc<CustomSchema>, versions: &Arc<Versions>, fields: &Arc<[(Arc<str>, Path)]>) -> Served {
        let scale = version.subresources.scale.as_ref().and_then(scale_paths);
        let with_status = version.subresources.status.is_some();
        let gvk = self.gvk(version);
        let mut subresources = Vec::new();
        if with_status {
            subresources.push(Subresource { name: "status", kind: gvk.clone(), verbs: OWN_VERBS });
        }
        if scale.is_some() {
            subresources.push(Subresource { name: "scale", kind: GroupVersionKind::new("autoscaling", "v1", "Scale"), verbs: OWN_VERBS });
        }
        Served {
            version: version.name.clone(),
            deprecation: version.deprecated.then(|| version.deprecation_warning.clone().unwrap_or_else(|| self.default_warning(version).into())),
            schema: SchemaSource::Defined(schema.clone()),
            selectable: version.selectable_fields.iter().filter_map(selectable).map(|(name, _)| name).collect(),
            subresources,
            strategy: Arc::new(CustomResource {
                schema: schema.clone(),
                with_status,
                scale,
                columns: cells::printed(&version.additional_printer_columns),
                versions: versions.clone(),
                selectable: fields.clone(),
            }),
        }
    }
}

/// The schema of a version: a part of the very bytes of the definition. Empty where there is none.
fn source(definition: &StoredObject, version: &Version<'_>) -> Bytes {
    let source = version.schema.as_ref().and_then(|schema| schema.open_api);
    match (definition.in_one_piece(), source) {
        (Some(bytes), Some(source)) => bytes.slice_ref(source.get().as_bytes()),
        _ => Bytes::new(),
    }
}

/// The name that a field is selected by, and where it stands.
fn selectable(field: &SelectableField) -> Option<(Arc<str>, Path)> {
    let path = Path::parse(&field.json_path)?;
    path.names()?;
    Some((field.json_path.trim_start_matches('.').into(), path))
}

fn scale_paths(scale: &Scale) -> Option<ScalePaths> {
    let path = |text: &str| Path::parse(text).filter(|path| path.names().is_some_and(|names| !names.is_empty()));
    Some(ScalePaths {
        spec_replicas: path(&scale.spec_replicas_path)?,
        status_replicas: path(&scale.status_replicas_path)?,
        selector: scale.label_selector_path.as_deref().and_then(path),
        spec_text: scale.spec_replicas_path.as_str().into(),
    })
}
