//! The row type of the resource table and the registry of rows.

use std::{collections::HashMap, sync::Arc};

use serde_json::Value;

use crate::{
    meta::{Clock, GroupResource, GroupVersion, GroupVersionKind, Object},
    resources::{
        custom::CustomSchema,
        scale::ScalePaths,
        validation::{self, NameRule, names},
        without_effect,
    },
    schema::{Schema, Schemas},
    service::{UserInfo, Verb},
    status::FieldError,
    store::KeyValue,
    stored::{CorruptObject, StoredObject, encode_for_store},
};

/// One version of a resource, built in or defined by a custom resource definition: all in which versions may differ.
pub struct Served {
    pub version: Arc<str>,
    /// What everybody is warned of who uses the version.
    pub deprecation: Option<Arc<str>>,
    pub schema: SchemaSource,
    /// The fields that can be selected by, beside name and namespace.
    pub selectable: Arc<[Arc<str>]>,
    pub subresources: Vec<Subresource>,
    /// The rules of the kind in this version: its columns among them.
    pub strategy: Arc<dyn Strategy>,
}

impl Served {
    pub fn subresource(&self, name: &str) -> Option<&Subresource> {
        self.subresources.iter().find(|subresource| subresource.name == name)
    }
}

impl std::fmt::Debug for Served {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Served({})", self.version)
    }
}

/// Where the schema of a version comes from.
#[derive(Clone, Debug)]
pub enum SchemaSource {
    /// The tables that are built in.
    Builtin(GroupVersionKind),
    /// A custom resource definition.
    Defined(Arc<CustomSchema>),
}

impl SchemaSource {
    /// The schema, made when first asked for; `None` for kinds that no table holds.
    pub fn get(&self) -> Option<Arc<Schema>> {
        match self {
            SchemaSource::Builtin(gvk) => Schemas::builtin().get(gvk),
            SchemaSource::Defined(defined) => Some(defined.schema().clone()),
        }
    }
}

/// A subresource of a resource.
#[derive(Clone, Debug)]
pub struct Subresource {
    /// `status`, `scale`, `log`, …
    pub name: &'static str,
    /// The kind its requests carry, such as `autoscaling/v1 Scale`.
    pub kind: GroupVersionKind,
    pub verbs: &'static [&'static str],
}

/// OpenAPI type and format of a printer column.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ColumnType {
    String,
    Integer,
    Number,
    Boolean,
    /// An age in seconds since a `metav1.Time`, printed by the server as upstream does.
    Date,
}

/// A column of the Table form (`metav1.TableColumnDefinition`).
#[derive(Clone, Debug)]
pub struct Column {
    pub name: Arc<str>,
    pub kind: ColumnType,
    /// `name` for the Name column, else usually empty.
    pub format: Arc<str>,
    pub description: Arc<str>,
    /// 0 shows always, 1 only with `-o wide`.
    pub priority: i32,
}

/// What strategies may look at beside the object.
#[derive(Clone)]
pub struct WriteContext<'a> {
    pub user: &'a UserInfo,
    pub clock: &'a dyn Clock,
    /// `status`, … or empty.
    pub subresource: &'a str,
}

/// The hand-written rules of one kind. Every method has a default that fits a kind without special rules.
/// All functions are pure over their arguments; objects are in the storage version.
pub trait Strategy: Send + Sync + 'static {
    /// Fills in defaults that are not plain schema defaults (those are applied before).
    fn default_object(&self, _object: &mut Object) {}

    /// Clears or sets what a client may not choose when creating: status, for most kinds, and generation 1.
    fn prepare_create(&self, object: &mut Object, _context: &WriteContext<'_>) {
        object.remove(&["status"]);
    }

    /// Keeps what a client may not change on this path: status on a main update, spec on a status update.
    /// The caller bumps `metadata.generation` when `spec_changed` says so.
    fn prepare_update(&self, new: &mut Object, old: &Object, context: &WriteContext<'_>) {
        if context.subresource == "status" {
            keep_all_but_status(new, old);
        } else if let Some(status) = old.get(&["status"]) {
            new.set(&["status"], status.clone());
        } else {
            new.remove(&["status"]);
        }
    }

    /// Kinds with a generation bump it when this is true. The default compares everything but metadata and status.
    fn spec_changed(&self, new: &Object, old: &Object) -> bool {
        let parts = |object: &Object| {
            object
                .root()
                .iter()
                .filter(|(k, _)| !matches!(k.as_str(), "metadata" | "status" | "kind" | "apiVersion"))
                .map(|(k, v)| (k.clone(), v.clone()))
                .collect::<Vec<_>>()
        };
        parts(new) != parts(old)
    }

    /// Whether objects of this kind carry `metadata.generation`.
    fn has_generation(&self) -> bool {
        true
    }

    /// The rule for `metadata.name`; most kinds take DNS subdomains.
    fn name_rule(&self) -> NameRule {
        names::subdomain
    }

    /// What is wrong with a new object beside its metadata; [`Resource::validate_create`] checks both.
    fn validate_create(&self, _object: &Object) -> Vec<FieldError> {
        Vec::new()
    }

    /// What may stay wrong with a stored object when it is changed.
    fn tolerated(&self, old: &Object) -> Vec<FieldError> {
        self.validate_create(old)
    }

    /// `subresource` is `status` for status updates.
    fn validate_update(&self, new: &Object, _old: &Object, _subresource: &str) -> Vec<FieldError> {
        self.validate_create(new)
    }

    /// Texts for `Warning` headers, such as deprecations.
    fn warnings(&self, _object: &Object) -> Vec<String> {
        Vec::new()
    }

    /// The same for whoever creates one only.
    fn warnings_on_create(&self, _object: &Object) -> Vec<String> {
        Vec::new()
    }

    /// The same for whoever writes the status.
    fn status_warnings(&self, _object: &Object) -> Vec<String> {
        Vec::new()
    }

    /// Turns an object of one served form into another: between versions, or between the groups that share its storage.
    /// `apiVersion` is set by the caller. The default leaves the object as it is.
    fn convert(&self, _object: &mut Object, _from: &GroupVersion, _to: &GroupVersion) {}

    /// What a stored object is read as, where that is not what is stored: custom resources have the defaults of their schema of today.
    fn read(&self, _object: &StoredObject) -> Option<Object> {
        None
    }

    /// What the kind adds to an object whose deletion begins.
    fn begin_deletion(&self, _object: &mut Object, _now: jiff::Timestamp) {}

    /// Where custom resources have the parts of their scale; `None` for the usual places.
    fn scale_paths(&self) -> Option<&ScalePaths> {
        None
    }

    /// Whether PUT to a name that does not exist creates it.
    fn allow_create_on_update(&self) -> bool {
        false
    }

    /// Whether an update without resourceVersion is taken (true for most kinds).
    fn allow_unconditional_update(&self) -> bool {
        true
    }

    /// Whether a deletion that does not say otherwise leaves the dependents behind: two old kinds do.
    fn orphans_by_default(&self) -> bool {
        false
    }

    /// The grace period in seconds for a deletion of `object`; `None` deletes at once (all kinds but pods).
    fn graceful_deletion(&self, _object: &Object, _requested: Option<i64>) -> Option<i64> {
        None
    }

    /// The value of a selectable field beside `metadata.name` and `metadata.namespace`; `None` where the field is not selectable.
    fn selectable_field(&self, _object: &Object, _path: &str) -> Option<String> {
        None
    }

    /// The selectable field paths of a built-in kind beside `metadata.name` and `metadata.namespace`.
    fn selectable_paths(&self) -> &'static [&'static str] {
        &[]
    }

    /// The stored path that a field label of a served group selects by; the label itself where names do not differ.
    fn field_path(&self, _group: &str, label: &str) -> String {
        label.to_owned()
    }

    /// Printer columns; the default is Name and Age.
    fn columns(&self) -> Vec<Column> {
        default_columns()
    }

    /// One row's cells, as many as there are columns.
    fn cells(&self, object: &Object, clock: &dyn Clock) -> Vec<Value> {
        vec![object.name().into(), age_of(object, clock).into()]
    }
}

/// A kind without rules of its own.
#[derive(Clone, Copy, Debug, Default)]
pub struct Plain;

impl Strategy for Plain {}

/// For a status update: takes only `status` (and managedFields) from `new`; all else stays as in `old`.
pub fn keep_all_but_status(new: &mut Object, old: &Object) {
    let status = new.remove(&["status"]);
    let managed = new.remove(&["metadata", "managedFields"]);
    let resource_version = new.remove(&["metadata", "resourceVersion"]);
    let mut merged = old.clone();
    merged.remove(&["status"]);
    for (path, value) in [(&["status"][..], status), (&["metadata", "managedFields"], managed), (&["metadata", "resourceVersion"], resource_version)]
    {
        if let Some(value) = value {
            merged.set(path, value);
        }
    }
    *new = merged;
}

/// The columns of kinds without printer: Name and Age.
pub fn default_columns() -> Vec<Column> {
    vec![
        Column {
            name: "Name".into(),
            kind: ColumnType::String,
            format: "name".into(),
            description: "Name must be unique within a namespace.".into(),
            priority: 0,
        },
        Column {
            name: "Age".into(),
            kind: ColumnType::String,
            format: "".into(),
            description: "CreationTimestamp is a timestamp representing the server time when this object was created.".into(),
            priority: 0,
        },
    ]
}

/// The Age cell.
pub fn age_of(object: &Object, clock: &dyn Clock) -> String {
    match crate::meta::time::parse_time(object.str(&["metadata", "creationTimestamp"])) {
        Ok(created) => {
            let age = clock.now().duration_since(created);
            crate::meta::time::human_duration(std::time::Duration::from_secs(age.as_secs().max(0).unsigned_abs()))
        }
        Err(_) => "<unknown>".to_owned(),
    }
}

/// One row of the table.
#[derive(Clone)]
pub struct Resource {
    pub group: Arc<str>,
    pub kind: Arc<str>,
    pub list_kind: Arc<str>,
    pub plural: Arc<str>,
    pub singular: Arc<str>,
    pub short_names: Vec<Arc<str>>,
    pub categories: Vec<Arc<str>>,
    pub namespaced: bool,
    /// The group under which objects are stored, where another group serves the same objects (events.k8s.io → core).
    pub storage_group: Arc<str>,
    /// The version that objects are stored in; it need not be served.
    pub storage: Arc<Served>,
    /// In order of preference.
    pub served: Vec<Arc<Served>>,
    /// Every field that any version can be selected by.
    pub selectable: Arc<[Arc<str>]>,
    /// The path below `/registry/`, such as `minions` or `services/specs`. Two resources with the same prefix share objects.
    pub storage_prefix: Arc<str>,
    /// Verbs of the main resource, as discovery lists them. Virtual resources (reviews) have only `create`.
    pub verbs: Vec<Verb>,
    /// Where objects describe a pod: nowhere below for pods, the path of the template for what makes pods.
    pub pod: Option<&'static [&'static str]>,
    /// Why nothing comes of objects of this kind.
    pub without_effect: Option<&'static str>,
    /// Set while the definition of a custom resource goes, with all its objects: nothing is created any more.
    pub is_terminating: bool,
    /// The rules for what is stored, whatever the version.
    pub strategy: Arc<dyn Strategy>,
}

impl Resource {
    pub fn group_resource(&self) -> GroupResource {
        GroupResource { group: self.group.clone(), resource: self.plural.clone() }
    }

    pub fn gvk(&self, version: &str) -> GroupVersionKind {
        GroupVersionKind { group: self.group.clone(), version: version.into(), kind: self.kind.clone() }
    }

    /// The kind under which objects are stored.
    pub fn storage_gvk(&self) -> GroupVersionKind {
        GroupVersionKind { group: self.storage_group.clone(), version: self.storage.version.clone(), kind: self.kind.clone() }
    }

    /// The version of that name; the stored one where it is not served.
    pub fn version(&self, version: &str) -> &Arc<Served> {
        self.served.iter().find(|served| &*served.version == version).unwrap_or(&self.storage)
    }

    /// Whether a custom resource definition made it.
    pub fn is_custom(&self) -> bool {
        matches!(self.storage.schema, SchemaSource::Defined(_))
    }

    /// Everything that is wrong with a new object that was written in `version`.
    pub fn validate_create(&self, version: &Served, object: &Object) -> Vec<FieldError> {
        let mut errors = validation::metadata(object, self.namespaced, version.strategy.name_rule());
        errors.extend(version.strategy.validate_create(object));
        errors
    }

    /// Everything that is wrong with an update; `subresource` is empty for the object itself. What is stored already may be
    /// wrong by rules that came later: it may stay as it is, so that the object can still be changed, and go.
    pub fn validate_update(&self, version: &Served, new: &Object, old: &Object, subresource: &str) -> Vec<FieldError> {
        let mut errors = validation::metadata_update(new, old);
        errors.extend(version.strategy.validate_update(new, old, subresource));
        if !errors.is_empty() {
            let tolerated = version.strategy.tolerated(old);
            errors.retain(|error| !tolerated.contains(error));
        }
        errors
    }

    /// Texts for `Warning` headers to whoever writes `object`. A pod is talked about when it is made, what makes pods also when
    /// its generation changes.
    pub fn warnings(&self, object: &Object, old: Option<&Object>, subresource: &str) -> Vec<String> {
        if subresource == "status" {
            return self.strategy.status_warnings(object);
        }
        let mut warnings = if old.is_none() { self.strategy.warnings_on_create(object) } else { Vec::new() };
        warnings.extend(self.strategy.warnings(object));
        warnings.extend(self.without_effect.map(|why| format!("{} is stored, but {why}", self.kind)));
        if let Some((path, pod)) = self.pod.and_then(|path| Some((path, object.at(path)?))) {
            let generation = |object: &Object| object.int(&["metadata", "generation"]);
            if old.is_none_or(|old| !path.is_empty() && generation(old) != generation(object)) {
                warnings.extend(validation::warnings::pod(path, pod));
            }
            warnings.extend(without_effect::in_pod(path, pod));
        }
        warnings
    }

    pub fn list_kind(&self) -> String {
        self.list_kind.to_string()
    }

    /// A value of the store as it is read today.
    ///
    /// # Errors
    /// When it is no object.
    pub fn read(&self, value: KeyValue) -> Result<StoredObject, CorruptObject> {
        let object = StoredObject::new(value.value, value.mod_revision)?;
        match self.strategy.read(&object) {
            Some(read) => StoredObject::new(encode_for_store(&read), object.revision),
            None => Ok(object),
        }
    }

    /// The kind that a subresource's requests carry when its resource is addressed in `version`.
    pub fn subresource_gvk(&self, subresource: &Subresource, version: &str) -> GroupVersionKind {
        let kind = &subresource.kind;
        if kind.group == self.group && kind.kind == self.kind { self.gvk(version) } else { kind.clone() }
    }

    pub fn serves(&self, version: &str) -> bool {
        self.served.iter().any(|served| &*served.version == version)
    }
}

impl std::fmt::Debug for Resource {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Resource({})", self.group_resource())
    }
}

/// The whole table at one moment. Immutable; share it by `Arc`.
#[derive(Debug, Default)]
pub struct Registry {
    rows: Vec<Arc<Resource>>,
    by_resource: ByGroup,
    by_kind: ByGroup,
}

/// Rows by group, then by plural or kind: looked up without allocating.
type ByGroup = HashMap<Arc<str>, HashMap<Arc<str>, Arc<Resource>>>;

impl Registry {
    pub fn new(rows: Vec<Arc<Resource>>) -> Self {
        let (mut by_resource, mut by_kind) = (ByGroup::new(), ByGroup::new());
        for row in &rows {
            by_resource.entry(row.group.clone()).or_default().insert(row.plural.clone(), row.clone());
            by_kind.entry(row.group.clone()).or_default().insert(row.kind.clone(), row.clone());
        }
        Registry { rows, by_resource, by_kind }
    }

    /// Rows in the order of discovery.
    pub fn rows(&self) -> &[Arc<Resource>] {
        &self.rows
    }

    /// By group and plural name.
    pub fn by_resource(&self, group: &str, plural: &str) -> Option<Arc<Resource>> {
        self.by_resource.get(group)?.get(plural).cloned()
    }

    /// By group and kind.
    pub fn by_kind(&self, group: &str, kind: &str) -> Option<Arc<Resource>> {
        self.by_kind.get(group)?.get(kind).cloned()
    }
}
