//! Selections filed by something that everything they select has: its name, the value of a field, a label, its namespace. A change then
//! leads to those that may select its object, and costs nothing for all others, however many there are.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
};

use troupe_api::{resources::Resource, stored::StoredObject};

use super::super::{Change, Selection};

/// A set of equal selections. Numbers are not used again.
pub type GroupId = u64;

/// A selection that asks for one of more values of a label is filed by the label alone.
const FEW_VALUES: usize = 16;

/// Where a selection is filed: in every namespace if that is empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Filing {
    namespace: Arc<str>,
    term: Term,
}

/// What everything that is selected has.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Term {
    Nothing,
    Name(Arc<str>),
    Field { path: String, value: String },
    Label { name: String, values: Vec<String> },
    HasLabel(String),
}

impl Filing {
    pub fn of(selection: &Selection) -> Self {
        let required = |wanted: &str| selection.fields.required_values().find(|(path, _)| *path == wanted).map(|(_, value)| value);
        let namespace = match required("metadata.namespace") {
            Some(value) if selection.namespace.is_empty() => value.into(),
            _ => selection.namespace.clone(),
        };
        Filing { namespace, term: term(selection, required("metadata.name")) }
    }
}

fn term(selection: &Selection, name: Option<&str>) -> Term {
    if !selection.name.is_empty() {
        return Term::Name(selection.name.clone());
    }
    if let Some(name) = name {
        return Term::Name(name.into());
    }
    // Labels and fields may be others in the version that the watch shows.
    if selection.asks_webhook() {
        return Term::Nothing;
    }
    if let Some((path, value)) = selection.fields.required_values().find(|(path, _)| !path.starts_with("metadata.")) {
        return Term::Field { path: path.to_owned(), value: value.to_owned() };
    }
    match selection.labels.required_label(FEW_VALUES) {
        None => Term::Nothing,
        Some(label) => match label.values {
            Some(values) => Term::Label { name: label.name.to_owned(), values: values.iter().cloned().collect() },
            None => Term::HasLabel(label.name.to_owned()),
        },
    }
}

/// All selections of one resource by where they are filed.
#[derive(Debug, Default)]
pub struct SelectionIndex {
    namespaces: HashMap<Arc<str>, Namespace>,
}

type Groups = BTreeSet<GroupId>;

/// What is filed in one namespace.
#[derive(Debug, Default)]
struct Namespace {
    all: Groups,
    names: HashMap<Arc<str>, Groups>,
    fields: Vec<Field>,
    labels: BTreeMap<String, Label>,
}

/// What is filed by the value of a field, which a row of the table reads.
#[derive(Debug)]
struct Field {
    resource: Arc<Resource>,
    path: String,
    values: HashMap<String, Groups>,
}

#[derive(Debug, Default)]
struct Label {
    present: Groups,
    values: HashMap<String, Groups>,
}

impl SelectionIndex {
    pub fn insert(&mut self, filing: &Filing, resource: &Arc<Resource>, group: GroupId) {
        let namespace = self.namespaces.entry(filing.namespace.clone()).or_default();
        namespace.at_places(&filing.term, resource, |groups| {
            groups.insert(group);
        });
    }

    pub fn remove(&mut self, filing: &Filing, resource: &Arc<Resource>, group: GroupId) {
        let Some(namespace) = self.namespaces.get_mut(&filing.namespace) else { return };
        namespace.at_places(&filing.term, resource, |groups| {
            groups.remove(&group);
        });
        namespace.tidy(&filing.term);
        if namespace.is_empty() {
            self.namespaces.remove(&filing.namespace);
        }
    }

    /// Those that may select what an object was or is, in the order of their numbers.
    pub fn concerned(&self, change: &Change) -> Vec<GroupId> {
        let mut found = Vec::new();
        let objects = || change.previous.iter().chain(&change.current);
        let Some(key) = objects().next().map(|object| &object.key) else { return found };
        let all = (!key.namespace.is_empty()).then(|| self.namespaces.get("")).flatten();
        for namespace in self.namespaces.get(&key.namespace).into_iter().chain(all) {
            found.extend(&namespace.all);
            found.extend(namespace.names.get(&key.name).into_iter().flatten());
            objects().for_each(|object| namespace.find(object, &mut found));
        }
        found.sort_unstable();
        found.dedup();
        found
    }

    #[cfg(test)]
    pub fn is_empty(&self) -> bool {
        self.namespaces.is_empty()
    }
}

impl Namespace {
    /// Does something to each set of groups in which a selection is filed.
    fn at_places(&mut self, term: &Term, resource: &Arc<Resource>, mut change: impl FnMut(&mut Groups)) {
        match term {
            Term::Nothing => change(&mut self.all),
            Term::Name(name) => change(self.names.entry(name.clone()).or_default()),
            Term::Field { path, value } => change(self.field(path, resource).values.entry(value.clone()).or_default()),
            Term::HasLabel(name) => change(&mut self.labels.entry(name.clone()).or_default().present),
            Term::Label { name, values } => {
                let known = &mut self.labels.entry(name.clone()).or_default().values;
                values.iter().for_each(|value| change(known.entry(value.clone()).or_default()));
            }
        }
    }

    fn field(&mut self, path: &str, resource: &Arc<Resource>) -> &mut Field {
        let known = self.fields.iter().position(|field| field.path == path && Arc::ptr_eq(&field.resource, resource));
        let at = known.unwrap_or_else(|| {
            self.fields.push(Field { resource: resource.clone(), path: path.to_owned(), values: HashMap::new() });
            self.fields.len() - 1
        });
        &mut self.fields[at]
    }

    /// Forgets places that are empty.
    fn tidy(&mut self, term: &Term) {
        match term {
            Term::Nothing => {}
            Term::Name(name) => {
                if self.names.get(name).is_some_and(Groups::is_empty) {
                    self.names.remove(name);
                }
            }
            Term::Field { value, .. } => {
                for field in &mut self.fields {
                    if field.values.get(value).is_some_and(Groups::is_empty) {
                        field.values.remove(value);
                    }
                }
                self.fields.retain(|field| !field.values.is_empty());
            }
            Term::Label { name, .. } | Term::HasLabel(name) => {
                let Some(label) = self.labels.get_mut(name) else { return };
                if let Term::Label { values, .. } = term {
                    for value in values {
                        if label.values.get(value).is_some_and(Groups::is_empty) {
                            label.values.remove(value);
                        }
                    }
                }
                if label.present.is_empty() && label.values.is_empty() {
                    self.labels.remove(name);
                }
            }
        }
    }

    fn is_empty(&self) -> bool {
        self.all.is_empty() && self.names.is_empty() && self.fields.is_empty() && self.labels.is_empty()
    }

    /// Those that may select an object by its fields or labels.
    fn find(&self, object: &StoredObject, found: &mut Vec<GroupId>) {
        for field in &self.fields {
            let value = field.resource.selectable_field(object, &field.path).unwrap_or_default();
            found.extend(field.values.get(&value).into_iter().flatten());
        }
        let labels = &object.meta().labels;
        let mut filed = |label: &Label, value: &str| {
            found.extend(&label.present);
            found.extend(label.values.get(value).into_iter().flatten());
        };
        // Whichever are fewer are gone through.
        if self.labels.len() < labels.len() {
            for (name, label) in &self.labels {
                if let Some(value) = labels.get(name) {
                    filed(label, value);
                }
            }
        } else {
            for (name, value) in labels.iter() {
                if let Some(label) = self.labels.get(name) {
                    filed(label, value);
                }
            }
        }
    }
}
