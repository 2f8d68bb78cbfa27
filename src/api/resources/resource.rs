//! The row type of the resource table.

use std::sync::Arc;

use bytes::Bytes;

use crate::{
    meta::{GroupResource, GroupVersionKind, Object, Revision, request::Verb},
    projection::recent,
    resources::{
        Feature,
        custom::{CustomSchema, Versions},
        disabled, divisors,
        strategy::Strategy,
        tree::{child, descend},
        validation,
    },
    schema::{Schema, Schemas},
    status::FieldError,
    stored::{CorruptObject, StoredObject, encode_for_store},
};

pub use super::strategy::{ALL_METADATA, Plain, age_of, default_columns, keep_all_but_status};

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
    /// The version whose hash discovery tells as the one of storage, where upstream stores another one than we do: clients compare the hashes
    /// of servers, and take a change for a move to another version.
    pub hashed_version: Option<&'static str>,
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
    /// What the API server does for these objects and few others.
    pub features: &'static [Feature],
    /// Set while the definition of a custom resource goes, with all its objects: nothing is created any more.
    pub is_terminating: bool,
    /// Whether discovery tells of it: of a custom resource once it is established, when nothing is left to be written to its definition.
    pub is_told: bool,
    /// Another server has its objects: this process knows it by that server's discovery alone, and asks there.
    pub is_elsewhere: bool,
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

    /// All versions of a custom resource that this process serves.
    pub fn versions(&self) -> Option<&Versions> {
        self.strategy.versions()
    }

    /// The version in which an object is worked on that comes or goes in `version`: that very one for custom resources, which webhooks
    /// convert when they are stored; the stored one for the rest.
    pub fn working(&self, version: &str) -> &Arc<Served> {
        if self.versions().is_some() { self.version(version) } else { &self.storage }
    }

    /// The version to read in for who looks at nothing but metadata: where most objects need no conversion.
    pub fn metadata_version(&self) -> Arc<str> {
        match (self.is_custom(), self.served.first()) {
            (false, Some(first)) => first.version.clone(),
            _ => self.storage.version.clone(),
        }
    }

    /// Whether a custom resource definition made it.
    pub fn is_custom(&self) -> bool {
        matches!(self.storage.schema, SchemaSource::Defined(_)) && !self.is_elsewhere
    }

    pub fn has(&self, feature: Feature) -> bool {
        self.features.contains(&feature)
    }

    /// Whether its objects are namespaces: each lies within itself.
    pub fn is_namespace(&self) -> bool {
        self.has(Feature::Namespaces)
    }

    /// Whether objects are kept and can be watched. Reviews and the like are answered without being stored.
    pub fn is_stored(&self) -> bool {
        self.verbs.contains(&Verb::Watch)
    }

    /// Everything that is wrong with a new object that was written in `version`.
    pub fn validate_create(&self, version: &Served, object: &Object) -> Vec<FieldError> {
        let mut errors = validation::metadata(object, self.namespaced, version.strategy.name_rule());
        if !version.strategy.takes_any_finalizer() {
            errors.extend(validation::finalizer_names(object, None));
        }
        errors.extend(version.strategy.validate_create(object));
        errors
    }

    /// Everything that is wrong with an update; `subresource` is empty for the object itself. What is stored already may be
    /// wrong by rules that came later: it may stay as it is, so that the object can still be changed, and go.
    pub fn validate_update(&self, version: &Served, new: &Object, old: &Object, subresource: &str) -> Vec<FieldError> {
        self.judge_update(version, new, old, subresource, &mut Vec::new())
    }

    /// The same, with texts for `Warning` headers about what stays wrong since nothing changed there.
    pub fn judge_update(&self, version: &Served, new: &Object, old: &Object, subresource: &str, warnings: &mut Vec<String>) -> Vec<FieldError> {
        let mut errors = validation::metadata_update(new, old);
        if !version.strategy.takes_any_finalizer() {
            errors.extend(validation::finalizer_names(new, Some(old)));
        }
        errors.extend(version.strategy.judge_update(new, old, subresource, warnings));
        if !errors.is_empty() {
            let tolerated = version.strategy.tolerated(old);
            errors.retain(|error| !tolerated.contains(error));
        }
        errors
    }

    /// Drops fields of features that are off from `new` and from the pod that it describes, unless `old` has them already. Those of features
    /// that are on have their defaults.
    pub fn drop_disabled(&self, new: &mut Object, old: Option<&Object>, is_on: &dyn Fn(&str) -> bool) {
        for gated in self.strategy.gated() {
            gated.settle(new.root_mut(), old.map(Object::root), is_on);
        }
        if let Some(path) = self.pod {
            disabled::drop_disabled(new, old, path, is_on);
        }
        self.strategy.default_enabled(new, is_on);
    }

    /// Adds to `errors` what is wrong with `new` because features are off, unless `old` makes use of them already.
    pub fn judge_disabled(&self, errors: &mut Vec<FieldError>, new: &Object, old: Option<&Object>, is_on: &dyn Fn(&str) -> bool) {
        for withheld in self.strategy.withheld() {
            withheld.judge(errors, new.root(), old.map(Object::root), is_on);
        }
        if let Some(path) = self.pod {
            disabled::judge_disabled(errors, new, old, path, is_on);
        }
    }

    /// Texts for `Warning` headers to whoever writes `object`. A pod is talked about when it is made, what makes pods also when
    /// its generation changes.
    pub fn warnings(&self, object: &Object, old: Option<&Object>, subresource: &str) -> Vec<String> {
        if subresource == "status" {
            return self.strategy.status_warnings(object);
        }
        let mut warnings = if old.is_none() { self.strategy.warnings_on_create(object) } else { Vec::new() };
        warnings.extend(self.strategy.warnings(object));
        if let Some((path, pod)) = self.pod.and_then(|path| Some((path, object.at(path)?))) {
            let generation = |object: &Object| object.int(&["metadata", "generation"]);
            if old.is_none_or(|old| !path.is_empty() && generation(old) != generation(object)) {
                warnings.extend(validation::warnings::pod(path, pod));
            }
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
    pub fn read(&self, value: Bytes, revision: Revision) -> Result<StoredObject, CorruptObject> {
        let object = StoredObject::new(value, revision)?;
        match self.strategy.read(&object).or_else(|| self.with_divisors(&object)) {
            Some(read) => StoredObject::new(encode_for_store(&read), object.revision),
            None => Ok(object),
        }
    }

    /// A stored object with the divisors of the pod that it describes; `None` where none is missing. Servers did not write them once: without
    /// them the next update, which brings them in as defaults, would change a pod or a template that it does not mean to change.
    fn with_divisors(&self, object: &StoredObject) -> Option<Object> {
        let path = self.pod?;
        if !std::str::from_utf8(&object.encoded()).is_ok_and(|text| text.contains(divisors::REFERENCE)) {
            return None;
        }
        let mut read = object.to_object();
        let spec = descend(read.root_mut(), path).and_then(|pod| child(pod, "spec"))?;
        divisors::fill_divisors(spec).then_some(read)
    }

    /// The value of a selectable field of an object; `None` where the kind has no such field to select by.
    pub fn selectable_field(&self, object: &StoredObject, path: &str) -> Option<String> {
        match path {
            "metadata.name" => return Some(object.key.name.to_string()),
            "metadata.namespace" => return Some(object.key.namespace.to_string()),
            _ => {}
        }
        let at = self.selectable.iter().position(|known| **known == *path)?;
        let fields = object.selectable_fields(|object| {
            self.selectable.iter().map(|path| self.strategy.selectable_field(object, path).map(|value| recent(&value))).collect()
        });
        fields.get(at)?.as_deref().map(str::to_owned)
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
