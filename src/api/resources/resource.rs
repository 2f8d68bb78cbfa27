//! The row type of the resource table and the registry of rows.

use std::{collections::HashMap, sync::Arc};

use serde_json::Value;

use crate::{
    meta::{Clock, GroupResource, GroupVersion, GroupVersionKind, Object},
    resources::validation::{self, NameRule, names},
    service::{UserInfo, Verb},
    status::FieldError,
};

/// One served version of a resource.
#[derive(Clone, Debug)]
pub struct Served {
    pub version: Arc<str>,
    /// A served version whose schema equals the storage version's needs no conversion.
    pub deprecated: bool,
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

    /// `subresource` is `status` for status updates.
    fn validate_update(&self, new: &Object, _old: &Object, _subresource: &str) -> Vec<FieldError> {
        self.validate_create(new)
    }

    /// Texts for `Warning` headers, such as deprecations.
    fn warnings(&self, _object: &Object) -> Vec<String> {
        Vec::new()
    }

    /// Turns an object of one served form into another: between versions, or between the groups that share its storage.
    /// `apiVersion` is set by the caller. The default leaves the object as it is.
    fn convert(&self, _object: &mut Object, _from: &GroupVersion, _to: &GroupVersion) {}

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

    /// The selectable field paths beside `metadata.name` and `metadata.namespace`.
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
pub struct Resource {
    pub group: Arc<str>,
    pub kind: Arc<str>,
    pub plural: Arc<str>,
    pub singular: Arc<str>,
    pub short_names: Vec<Arc<str>>,
    pub categories: Vec<Arc<str>>,
    pub namespaced: bool,
    /// The group under which objects are stored, where another group serves the same objects (events.k8s.io → core).
    pub storage_group: Arc<str>,
    pub storage_version: Arc<str>,
    /// In order of preference.
    pub served: Vec<Served>,
    /// The path below `/registry/`, such as `minions` or `services/specs`. Two resources with the same prefix share objects.
    pub storage_prefix: Arc<str>,
    /// Verbs of the main resource, as discovery lists them. Virtual resources (reviews) have only `create`.
    pub verbs: Vec<Verb>,
    pub subresources: Vec<Subresource>,
    pub strategy: Box<dyn Strategy>,
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
        GroupVersionKind { group: self.storage_group.clone(), version: self.storage_version.clone(), kind: self.kind.clone() }
    }

    /// Everything that is wrong with a new object.
    pub fn validate_create(&self, object: &Object) -> Vec<FieldError> {
        let mut errors = validation::metadata(object, self.namespaced, self.strategy.name_rule());
        errors.extend(self.strategy.validate_create(object));
        errors
    }

    /// Everything that is wrong with an update; `subresource` is empty for the object itself.
    pub fn validate_update(&self, new: &Object, old: &Object, subresource: &str) -> Vec<FieldError> {
        let mut errors = validation::metadata_update(new, old);
        errors.extend(self.strategy.validate_update(new, old, subresource));
        errors
    }

    pub fn list_kind(&self) -> String {
        format!("{}List", self.kind)
    }

    pub fn subresource(&self, name: &str) -> Option<&Subresource> {
        self.subresources.iter().find(|subresource| subresource.name == name)
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
