//! Managers of one object may speak several versions of it: what each owns is told in its own.
//!
//! An update is compared in every version that an entry speaks, so objects have to be converted, which may take a webhook. That is no matter
//! of this module: it asks a [`Versions`] and stops with [`Unconverted::NotYet`] where an answer is still missing. Whoever called it gets the
//! answer and calls again.

use std::{collections::BTreeMap, sync::Arc};

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

    /// What differs between two objects, as each other `apiVersion` among the entries shows it; `own` is what differs in the request's.
    /// Entries of versions that are gone go. With `patient` a version in which the objects cannot be shown is left out, else that is an error.
    pub fn differences(
        &self,
        managed: &mut ManagedFields,
        own: &Comparison,
        [old, new]: [&Object; 2],
        patient: bool,
    ) -> Result<Differences, Unconverted> {
        let mut differences = Differences { own: own.clone(), others: BTreeMap::new() };
        let spoken: Vec<String> = managed.entries.values().map(|entry| entry.api_version.clone()).collect();
        for api_version in spoken {
            if differences.others.contains_key(&api_version) {
                continue;
            }
            let difference = match self.spoken(&api_version) {
                Spoken::Same => Some(own.clone()),
                Spoken::Gone => {
                    managed.entries.retain(|_, entry| entry.api_version != api_version);
                    continue;
                }
                Spoken::Other(schema) => match self.compared(&schema, old, new) {
                    Ok(difference) => Some(difference),
                    Err(Unconverted::Failed(_)) if patient => None,
                    Err(why) => return Err(why),
                },
            };
            differences.others.insert(api_version, difference);
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

/// What differs between two objects in several versions.
pub(super) struct Differences {
    own: Comparison,
    /// By `apiVersion`; nothing where nobody can say.
    others: BTreeMap<String, Option<Comparison>>,
}

impl Differences {
    /// What differs for an entry in `api_version`.
    pub fn of(&self, api_version: &str) -> Option<&Comparison> {
        self.others.get(api_version).map_or(Some(&self.own), Option::as_ref)
    }
}
