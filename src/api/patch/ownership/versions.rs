//! Managers of one object may speak several versions of it: what each owns is told in its own.
//!
//! An update is compared in every version that an entry speaks, so objects have to be converted, which may take a webhook. That is no matter
//! of this module: it asks a [`Versions`] and stops with [`Unconverted::NotYet`] where an answer is still missing. Whoever called it gets the
//! answer and calls again.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use super::{
    compare::{Comparison, compare},
    entries::ManagedFields,
};
use crate::{meta::Object, schema::Schema, status::Status};

/// Why there is no object in another version.
#[derive(Debug)]
pub enum Unconverted {
    /// Nobody was asked yet.
    NotYet,
    Failed(Status),
}

impl From<Status> for Unconverted {
    fn from(status: Status) -> Self {
        Unconverted::Failed(status)
    }
}

/// What an `apiVersion` of an entry means.
pub enum Spoken {
    /// It is as good as the version of the request.
    Same,
    /// Its schema.
    Other(Arc<Schema>),
    /// There is no such version any more: what is said in it is forgotten.
    Gone,
}

/// The versions of a resource.
pub trait Versions {
    fn spoken(&self, api_version: &str) -> Spoken;

    /// An object of any version in another one.
    ///
    /// # Errors
    /// Where that is not known yet, or fails.
    fn convert(&self, object: &Object, api_version: &str) -> Result<Object, Unconverted>;
}

/// All managers speak the same version, or it makes no difference.
pub struct OneVersion;

impl Versions for OneVersion {
    fn spoken(&self, _: &str) -> Spoken {
        Spoken::Same
    }

    fn convert(&self, object: &Object, _: &str) -> Result<Object, Unconverted> {
        Ok(object.clone())
    }
}

/// The versions of a resource, seen by a request in one of them.
#[derive(Clone, Copy)]
pub(super) struct Speaking<'a> {
    pub schema: &'a Schema,
    pub versions: &'a dyn Versions,
}

impl Speaking<'_> {
    pub fn spoken(&self, api_version: &str) -> Spoken {
        if api_version == self.schema.gvk.api_version() { Spoken::Same } else { self.versions.spoken(api_version) }
    }

    /// The version that an `apiVersion` means, as its own schema names it; nothing where it is gone. Texts that mean the same have one name.
    pub fn resolved(&self, api_version: &str) -> Option<String> {
        match self.spoken(api_version) {
            Spoken::Same => Some(self.schema.gvk.api_version()),
            Spoken::Other(schema) => Some(schema.gvk.api_version()),
            Spoken::Gone => None,
        }
    }

    /// What differs between two objects, as each other version among the entries shows it; `own` is what differs in the request's.
    /// Entries of versions that are gone go. With `patient` a version in which the objects cannot be shown is left out, else that is an error.
    pub fn differences(
        &self,
        managed: &mut ManagedFields,
        own: Comparison,
        [old, new]: [&Object; 2],
        patient: bool,
    ) -> Result<PerVersion<Comparison>, Unconverted> {
        let mut differences = PerVersion { own, others: BTreeMap::new() };
        let mut gone = BTreeSet::new();
        // An object has as many entries as it likes, each with another text for the same version: the texts are looked at, nothing is kept of them.
        let spoken: BTreeSet<&str> = managed.entries.values().map(|entry| entry.api_version.as_str()).collect();
        for api_version in spoken {
            let difference = match self.spoken(api_version) {
                Spoken::Same => continue,
                Spoken::Gone => {
                    gone.insert(api_version.to_owned());
                    continue;
                }
                Spoken::Other(schema) => match self.compared(&schema, old, new) {
                    Ok(difference) => Some(difference),
                    Err(Unconverted::Failed(_)) if patient => None,
                    Err(why) => return Err(why),
                },
            };
            differences.others.insert(api_version.to_owned(), difference);
        }
        if !gone.is_empty() {
            managed.entries.retain(|_, entry| !gone.contains(&entry.api_version));
        }
        Ok(differences)
    }

    fn compared(&self, schema: &Schema, old: &Object, new: &Object) -> Result<Comparison, Unconverted> {
        let api_version = schema.gvk.api_version();
        let [old, new] = [old, new].map(|object| self.shown(object, &api_version));
        Ok(compare(&old?, &new?, schema))
    }

    /// An object in another version. What is no object of anything yet stays as it is.
    pub fn shown(&self, object: &Object, api_version: &str) -> Result<Object, Unconverted> {
        if object.api_version().is_empty() || object.api_version() == api_version {
            return Ok(object.clone());
        }
        let mut bare = object.clone();
        bare.remove(&["metadata", "managedFields"]);
        self.versions.convert(&bare, api_version)
    }
}

/// Something about an object in the version of the request, and in others that are told apart from it.
pub(super) struct PerVersion<T> {
    pub own: T,
    /// By `apiVersion`; nothing where nobody can say.
    others: BTreeMap<String, Option<T>>,
}

impl<T> PerVersion<T> {
    /// What there is for an entry in `api_version`.
    pub fn of(&self, api_version: &str) -> Option<&T> {
        self.others.get(api_version).map_or(Some(&self.own), Option::as_ref)
    }

    /// What follows from it in each version, once.
    pub fn map<U>(&self, mut follows: impl FnMut(&T) -> U) -> PerVersion<U> {
        let own = follows(&self.own);
        let others = self.others.iter().map(|(api_version, there)| (api_version.clone(), there.as_ref().map(&mut follows)));
        PerVersion { own, others: others.collect() }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::{meta::GroupVersionKind, patch::ownership::set::FieldSet, schema::Schemas};

    /// A built-in kind: whatever an entry says, it is the version of the request, or it is gone.
    struct Known(Vec<String>);

    impl Versions for Known {
        fn spoken(&self, api_version: &str) -> Spoken {
            if self.0.iter().any(|gone| gone == api_version) { Spoken::Gone } else { Spoken::Same }
        }

        fn convert(&self, object: &Object, _: &str) -> Result<Object, Unconverted> {
            Ok(object.clone())
        }
    }

    fn object(data: &serde_json::Value) -> Object {
        Object::from_value(json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c"}, "data": data})).expect("an object")
    }

    #[test]
    fn names_of_one_version_share_what_differs_in_it() {
        let schema = Schemas::builtin().get(&GroupVersionKind::new("", "v1", "ConfigMap")).expect("built in");
        let entry = |at: usize| json!({"manager": "m", "operation": "Update", "apiVersion": format!("v{at}"), "fieldsType": "FieldsV1", "fieldsV1": {"f:data": {"f:a": {}}}});
        let mut owned = object(&json!({"a": "1"}));
        owned.set(&["metadata", "managedFields"], (0..100).map(entry).collect::<Vec<_>>());
        let mut managed = ManagedFields::read(&owned).expect("reads");
        let versions = Known(vec!["v7".into(), "v8".into()]);
        let speaking = Speaking { schema: &schema, versions: &versions };
        let (old, new) = (object(&json!({"a": "1"})), object(&json!({"a": "2"})));
        let differences = speaking.differences(&mut managed, compare(&old, &new, &schema), [&old, &new], true).expect("one version");
        assert!(differences.others.is_empty(), "{} copies of what is the same", differences.others.len());
        assert_eq!(managed.entries.len(), 98, "what is said in versions that are gone is forgotten");
        let mut made = 0;
        let sets: PerVersion<FieldSet> = differences.map(|difference| {
            made += 1;
            difference.modified.clone()
        });
        let pointers = [sets.of("v1"), sets.of("v2"), sets.of("v99")].map(|set| std::ptr::from_ref(set.expect("known")));
        assert_eq!((made, pointers[0] == pointers[1], pointers[0] == pointers[2]), (1, true, true));
    }
}
