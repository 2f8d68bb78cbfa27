//! The rules of a kind that no schema holds.

use serde_json::Value;

use super::{
    column::{Column, ColumnType},
    custom::Versions,
    gated::{Gated, Withheld},
    scale::ScalePaths,
};
use crate::{
    meta::{
        Clock, GroupVersion, Object,
        names::{self, NameRule},
        request::UserInfo,
    },
    status::FieldError,
    stored::StoredObject,
};

/// What strategies may look at beside the object.
#[derive(Clone)]
pub struct WriteContext<'a> {
    pub user: &'a UserInfo,
    pub clock: &'a dyn Clock,
    /// `status`, … or empty.
    pub subresource: &'a str,
}

/// The hand-written rules of one kind. Every method has a default that fits a kind without special rules.
/// All functions are pure over their arguments; objects are in the storage version, those of custom resources in the version of the rules.
pub trait Strategy: Send + Sync + 'static {
    /// Fills in defaults that are not plain schema defaults (those are applied before).
    fn default_object(&self, _object: &mut Object) {}

    /// The fields of features that may be off, beside those of pods.
    fn gated(&self) -> &'static [Gated] {
        &[]
    }

    /// Fills in defaults of fields that there are only with a feature.
    fn default_enabled(&self, _object: &mut Object, _is_on: &dyn Fn(&str) -> bool) {}

    /// The values of features that may be off, beside those of pods.
    fn withheld(&self) -> &'static [Withheld] {
        &[]
    }

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

    /// The fields beside the spec, as `managedFields` spells them, that a write of the status puts back: nobody owns them through one.
    fn status_resets(&self) -> &'static [&'static [&'static str]] {
        &[]
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

    /// What is wrong with a new object beside its metadata; `Resource::validate_create` checks both.
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

    /// The same, with texts for `Warning` headers about what stays wrong since nothing changed there.
    fn judge_update(&self, new: &Object, old: &Object, subresource: &str, _warnings: &mut Vec<String>) -> Vec<FieldError> {
        self.validate_update(new, old, subresource)
    }

    /// What an update that is right otherwise has wrong at this time.
    fn judge_time(&self, _new: &Object, _old: &Object, _subresource: &str, _now: jiff::Timestamp) -> Option<FieldError> {
        None
    }

    /// Whether finalizers of new objects need no domain in their names.
    fn takes_any_finalizer(&self) -> bool {
        false
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

    /// All versions of a custom resource: the API server converts its objects, which are written in the version that the client speaks.
    fn versions(&self) -> Option<&Versions> {
        None
    }

    /// What a stored object is read as, where that is not what is stored: custom resources have the defaults of their schema of today.
    fn read(&self, _object: &StoredObject) -> Option<Object> {
        None
    }

    /// What the kind adds to an object whose deletion begins.
    fn begin_deletion(&self, _object: &mut Object, _now: jiff::Timestamp) {}

    /// What the kind makes of an object that is marked as deleted and stays.
    fn mark_deleted(&self, _object: &mut Object) {}

    /// Whether something beside `metadata.finalizers` holds an object that is deleted.
    fn holds(&self, _object: &Object) -> bool {
        false
    }

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

    /// Why the object of this name may not be deleted by a request for it, whoever asks.
    fn undeletable(&self, _name: &str) -> Option<&'static str> {
        None
    }

    /// What is told to who deletes without saying what becomes of the dependents.
    fn deletion_warning(&self) -> Option<&'static str> {
        None
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

/// The resets of kinds whose status is written without metadata.
pub const ALL_METADATA: &[&[&str]] = &[&["f:metadata"]];

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
