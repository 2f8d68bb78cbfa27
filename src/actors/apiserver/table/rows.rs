//! Which resources there are, beside the built-in ones: pure over the definitions.

use std::{
    collections::{BTreeMap, HashSet},
    sync::Arc,
};

use troupe_api::{
    resources::{Resource, definitions::definition::Definition},
    stored::StoredObject,
};

/// A definition and what it was made to.
struct Known {
    definition: Arc<StoredObject>,
    /// Nothing, as long as its names are not accepted, no version is served, or a built-in resource has the name.
    resource: Option<Arc<Resource>>,
}

/// The rows of custom resources by the name of their definition.
pub(super) struct Rows {
    /// Group with plural, and group with kind.
    taken: HashSet<(Arc<str>, Arc<str>)>,
    known: BTreeMap<Arc<str>, Known>,
}

impl Rows {
    pub fn new(builtin: &[Arc<Resource>]) -> Self {
        let taken = builtin.iter().flat_map(|row| [(row.group.clone(), row.plural.clone()), (row.group.clone(), row.kind.clone())]).collect();
        Rows { taken, known: BTreeMap::new() }
    }

    /// The rows there are, in the order of their definitions' names.
    pub fn resources(&self) -> impl Iterator<Item = &Arc<Resource>> {
        self.known.values().filter_map(|known| known.resource.as_ref())
    }

    /// Takes in the definitions as they are now; says whether a row came, changed or went. What is the same stays the very same.
    pub fn follow<'a>(&mut self, definitions: impl Iterator<Item = &'a Arc<StoredObject>>) -> bool {
        let mut before = std::mem::take(&mut self.known);
        let mut changed = false;
        for definition in definitions {
            let name = definition.key.name.clone();
            let known = before.remove(&name);
            if let Some(known) = known.as_ref().filter(|known| known.definition.revision == definition.revision) {
                self.known.insert(name, Known { definition: known.definition.clone(), resource: known.resource.clone() });
                continue;
            }
            let old = known.as_ref().and_then(|known| known.resource.as_ref());
            let resource = self.resource(definition, known.as_ref());
            changed |= match (old, &resource) {
                (Some(old), Some(new)) => !Arc::ptr_eq(old, new),
                (None, None) => false,
                _ => true,
            };
            self.known.insert(name, Known { definition: definition.clone(), resource });
        }
        changed | before.values().any(|gone| gone.resource.is_some())
    }

    fn resource(&self, object: &Arc<StoredObject>, known: Option<&Known>) -> Option<Arc<Resource>> {
        let definition = Definition::read(object)?;
        if !definition.is_served() {
            return None;
        }
        let before = known.and_then(|known| Some((Definition::read(&known.definition)?, known.resource.as_ref()?)));
        if let Some((old, resource)) = before
            && old.same_resource(&definition)
        {
            definition.hold_schemas(resource);
            let (is_terminating, is_told) = (definition.is_terminating(), definition.is_established());
            if (resource.is_terminating, resource.is_told) == (is_terminating, is_told) {
                return Some(resource.clone());
            }
            return Some(Arc::new(Resource { is_terminating, is_told, ..(**resource).clone() }));
        }
        let resource = definition.resource().filter(|resource| !resource.served.is_empty())?;
        let is_taken = |name: &Arc<str>| self.taken.contains(&(resource.group.clone(), name.clone()));
        (!is_taken(&resource.plural) && !is_taken(&resource.kind)).then(|| Arc::new(resource))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};
    use troupe_api::{
        meta::Object,
        resources::{SchemaSource, builtin},
    };

    use super::*;

    fn definition(revision: u64, change: impl Fn(&mut Value)) -> Arc<StoredObject> {
        let names = json!({"plural": "widgets", "singular": "widget", "kind": "Widget", "listKind": "WidgetList"});
        let schema = json!({"openAPIV3Schema": {"type": "object"}});
        let mut object = json!({
            "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
            "metadata": {"name": "widgets.example.com", "uid": "u", "resourceVersion": revision.to_string()},
            "spec": {"group": "example.com", "scope": "Namespaced", "names": names, "versions": [
                {"name": "v1", "served": true, "storage": true, "schema": schema},
            ]},
            "status": {"acceptedNames": names, "conditions": [{"type": "NamesAccepted", "status": "True"}]},
        });
        change(&mut object);
        Arc::new(StoredObject::from_object(&Object::from_value(object).expect("an object")).expect("stored"))
    }

    fn only(rows: &Rows) -> Arc<Resource> {
        let all: Vec<_> = rows.resources().cloned().collect();
        assert_eq!(all.len(), 1);
        all[0].clone()
    }

    #[test]
    fn a_row_stays_the_same_until_its_definition_says_something_else() {
        let mut rows = Rows::new(&builtin());
        let conditions = |object: &mut Value| object["status"]["conditions"] = json!([]);
        assert!(!rows.follow([&definition(1, conditions)].into_iter()), "its names are not accepted");
        assert!(rows.follow([&definition(2, |_| {})].into_iter()));
        let first = only(&rows);
        let labelled = definition(3, |object| object["metadata"]["labels"] = json!({"a": "b"}));
        assert!(!rows.follow([&labelled].into_iter()), "labels are no matter of the resource");
        assert!(Arc::ptr_eq(&first, &only(&rows)));
        let SchemaSource::Defined(schema) = &first.storage.schema else { panic!("it is a custom resource") };
        let bytes = labelled.in_one_piece().expect("is a definition");
        assert!(bytes.as_ptr_range().contains(&schema.text().as_ptr()), "the older version of the definition is not kept");
        let going = |object: &mut Value| object["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
        assert!(rows.follow([&definition(4, going)].into_iter()));
        assert!(only(&rows).is_terminating && Arc::ptr_eq(&first.storage, &only(&rows).storage));
        let other = |object: &mut Value| object["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["description"] = json!("new");
        assert!(rows.follow([&definition(5, other)].into_iter()));
        assert!(!Arc::ptr_eq(&first.storage, &only(&rows).storage));
        assert!(rows.follow(std::iter::empty()));
        assert_eq!(rows.resources().count(), 0);
    }

    #[test]
    fn discovery_tells_of_what_is_established() {
        let mut rows = Rows::new(&builtin());
        assert!(rows.follow([&definition(1, |_| {})].into_iter()));
        let served = only(&rows);
        assert!(!served.is_told);
        let established = |object: &mut Value| {
            let accepted = json!({"type": "NamesAccepted", "status": "True"});
            object["status"]["conditions"] = json!([accepted, {"type": "Established", "status": "True"}]);
        };
        assert!(rows.follow([&definition(2, established)].into_iter()));
        assert!(only(&rows).is_told && Arc::ptr_eq(&served.storage, &only(&rows).storage));
    }

    #[test]
    fn what_is_built_in_is_not_defined_again() {
        let mut rows = Rows::new(&builtin());
        let jobs = |object: &mut Value| {
            object["spec"]["group"] = json!("batch");
            object["status"]["acceptedNames"]["kind"] = json!("Job");
        };
        assert!(!rows.follow([&definition(1, jobs)].into_iter()));
        let none_served = |object: &mut Value| object["spec"]["versions"][0]["served"] = json!(false);
        assert!(!rows.follow([&definition(2, none_served)].into_iter()));
    }
}
