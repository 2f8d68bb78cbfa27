//! `paths`: the operations of each resource and subresource.

use serde_json::{Map, Value, json};
use troupe_api::{
    meta::GroupVersionKind,
    resources::{Feature, Resource, Subresource},
    schema::Schemas,
    service::Verb,
};

use super::{
    custom,
    operations::{Action, CUSTOM_PATCH_TYPES, Operation, PATCH_TYPES},
    parameters,
};

const META: &str = "#/components/schemas/io.k8s.apimachinery.pkg.apis.meta.v1.";

/// Adds the paths of one row in one served version.
pub fn add(paths: &mut Map<String, Value>, row: &Resource, version: &str) {
    let base = if row.group.is_empty() { format!("/api/{version}") } else { format!("/apis/{}/{version}", row.group) };
    let maker = Maker::new(row, version);
    let has = |verb: Verb| row.verbs.contains(&verb);
    let scope = if row.namespaced { "/namespaces/{namespace}" } else { "" };
    let collection = format!("{base}{scope}/{}", row.plural);
    let mut operations = Vec::new();
    if has(Verb::List) {
        operations.push(("get", maker.list("")));
    }
    if has(Verb::Create) {
        operations.push(("post", maker.create()));
    }
    if has(Verb::DeleteCollection) {
        operations.push(("delete", maker.delete_collection()));
    }
    insert(paths, &collection, parameters::of_path(&collection, &row.kind), operations);
    if row.namespaced && has(Verb::List) {
        let everywhere = format!("{base}/{}", row.plural);
        insert(paths, &everywhere, parameters::of_path(&everywhere, &row.kind), vec![("get", maker.list("ForAllNamespaces"))]);
    }
    let item = format!("{collection}/{{name}}");
    let own = row.gvk(version);
    let whole = [
        (Verb::Get, "get", Action::Get),
        (Verb::Update, "put", Action::Put),
        (Verb::Patch, "patch", Action::Patch),
        (Verb::Delete, "delete", Action::Delete),
    ];
    let operations = whole.into_iter().filter(|(verb, ..)| has(*verb)).map(|(_, method, action)| (method, maker.item(action, &own, "")));
    insert(paths, &item, parameters::of_path(&item, &row.kind), operations.collect());
    for subresource in &row.version(version).subresources {
        add_subresource(paths, &maker, &format!("{item}/{}", subresource.name), subresource);
    }
}

fn add_subresource(paths: &mut Map<String, Value>, maker: &Maker<'_>, path: &str, subresource: &Subresource) {
    if !matches!(subresource.name, "attach" | "exec" | "portforward" | "proxy") {
        let mut shared = parameters::of_path(path, &maker.row.kind);
        shared.extend(parameters::options(subresource.name));
        return insert(paths, path, shared, maker.subresource(subresource));
    }
    let options = maker.row.subresource_gvk(subresource, &maker.kind.version);
    insert(paths, path, parameters::of_connection(path, &options.kind, subresource.name), maker.connections(subresource, &options, ""));
    if subresource.name == "proxy" {
        let behind = format!("{path}/{{path}}");
        let operations = maker.connections(subresource, &options, "WithPath");
        insert(paths, &behind, parameters::of_connection(&behind, &options.kind, subresource.name), operations);
    }
}

/// Adds a path whose operations share these parameters, unless it has none.
fn insert(paths: &mut Map<String, Value>, path: &str, shared: Vec<Value>, operations: Vec<(&'static str, Value)>) {
    if operations.is_empty() {
        return;
    }
    let mut item = json!({"parameters": shared});
    for (method, operation) in operations {
        item[method] = operation;
    }
    paths.insert(path.to_owned(), item);
}

/// `rbac.authorization.k8s.io` → `rbacAuthorization`; the core group is `core`.
fn camel_group(group: &str) -> String {
    if group.is_empty() {
        return "core".to_owned();
    }
    let mut parts = group.trim_end_matches(".k8s.io").split('.');
    let first = parts.next().unwrap_or_default().to_owned();
    parts.fold(first, |name, part| name + &capital(part))
}

fn capital(word: &str) -> String {
    let mut chars = word.chars();
    chars.next().map_or_else(String::new, |first| first.to_uppercase().chain(chars).collect())
}

/// Makes the operations of one row.
struct Maker<'a> {
    row: &'a Resource,
    kind: GroupVersionKind,
    tag: String,
    /// `AppsV1`
    group_version: String,
    /// `Namespaced` or nothing.
    scope: &'static str,
    patch_types: &'static [&'static str],
}

impl<'a> Maker<'a> {
    fn new(row: &'a Resource, version: &str) -> Self {
        let group = camel_group(&row.group);
        Maker {
            row,
            kind: row.gvk(version),
            tag: format!("{group}_{version}"),
            group_version: format!("{}{}", capital(&group), capital(version)),
            scope: if row.namespaced { "Namespaced" } else { "" },
            patch_types: if row.is_custom() { CUSTOM_PATCH_TYPES } else { PATCH_TYPES },
        }
    }

    fn operation(
        &self,
        action: Action,
        id: String,
        description: String,
        parameters: Vec<Value>,
        body: Option<String>,
        reply: Option<String>,
    ) -> Value {
        Operation { action, id, description, tag: &self.tag, kind: &self.kind, parameters, patch_types: self.patch_types, body, reply }.build()
    }

    /// A list in one scope; `everywhere` is the suffix of lists across namespaces.
    fn list(&self, everywhere: &str) -> Value {
        let scope = if everywhere.is_empty() { self.scope } else { "" };
        let id = format!("list{}{scope}{}{everywhere}", self.group_version, self.kind.kind);
        let list = GroupVersionKind::new(self.kind.group.clone(), self.kind.version.clone(), self.row.list_kind());
        let description = format!("list or watch objects of kind {}", self.kind.kind);
        self.operation(Action::List, id, description, parameters::list(), None, reference(self.row, &list))
    }

    fn create(&self) -> Value {
        let id = format!("create{}{}{}", self.group_version, self.scope, self.kind.kind);
        let description = format!("create a {}", self.kind.kind);
        self.operation(Action::Post, id, description, parameters::write(false), reference(self.row, &self.kind), reference(self.row, &self.kind))
    }

    fn delete_collection(&self) -> Value {
        let id = format!("delete{}Collection{}{}", self.group_version, self.scope, self.kind.kind);
        let description = format!("delete collection of {}", self.kind.kind);
        let mut query = parameters::list();
        query.retain(|parameter| parameter["name"] != "watch" && parameter["name"] != "allowWatchBookmarks");
        query.extend(parameters::delete());
        self.operation(Action::DeleteCollection, id, description, query, Some(format!("{META}DeleteOptions")), Some(format!("{META}Status")))
    }

    /// An operation on one object or, with a suffix such as `Status`, on a subresource that carries `kind`.
    fn item(&self, action: Action, kind: &GroupVersionKind, suffix: &str) -> Value {
        let (verb, words) = match action {
            Action::Put => ("replace", "replace"),
            Action::Patch => ("patch", "partially update"),
            Action::Delete => ("delete", "delete"),
            Action::Post => ("create", "create"),
            _ => ("read", "read"),
        };
        let (parameters, body, reply) = match action {
            Action::Put | Action::Post => (parameters::write(false), reference(self.row, kind), reference(self.row, kind)),
            Action::Patch => (parameters::write(true), Some(format!("{META}Patch")), reference(self.row, kind)),
            Action::Delete => {
                let returned = self.row.has(Feature::ReturnsDeleted).then(|| reference(self.row, kind)).flatten();
                (parameters::delete(), Some(format!("{META}DeleteOptions")), returned.or_else(|| Some(format!("{META}Status"))))
            }
            _ => (Vec::new(), None, reference(self.row, kind).filter(|_| suffix != "Log")),
        };
        let id = format!("{verb}{}{}{}{suffix}", self.group_version, self.scope, self.kind.kind);
        let description = match suffix {
            "" => format!("{words} the specified {}", self.kind.kind),
            suffix => format!("{words} {} of the specified {}", suffix.to_lowercase(), self.kind.kind),
        };
        Operation { action, id, description, tag: &self.tag, kind, parameters, patch_types: self.patch_types, body, reply }.build()
    }

    fn subresource(&self, subresource: &Subresource) -> Vec<(&'static str, Value)> {
        let suffix = capital(subresource.name);
        let kind = self.row.subresource_gvk(subresource, &self.kind.version);
        let mut operations = Vec::new();
        for verb in subresource.verbs {
            let (method, action) = match *verb {
                "get" => ("get", Action::Get),
                "create" => ("post", Action::Post),
                "update" => ("put", Action::Put),
                "patch" => ("patch", Action::Patch),
                "delete" => ("delete", Action::Delete),
                _ => continue,
            };
            operations.push((method, self.item(action, &kind, &suffix)));
        }
        operations
    }

    /// The requests that a connection with options of `kind` begins with; `place` ends the names of those that say where to at the backend.
    fn connections(&self, subresource: &Subresource, kind: &GroupVersionKind, place: &str) -> Vec<(&'static str, Value)> {
        let methods: &[&'static str] =
            if subresource.name == "proxy" { &["delete", "get", "head", "options", "patch", "post", "put"] } else { &["get", "post"] };
        methods.iter().map(|method| (*method, self.connect(kind, method, subresource.name, place))).collect()
    }

    fn connect(&self, kind: &GroupVersionKind, method: &str, subresource: &str, place: &str) -> Value {
        let id = format!("connect{}{}{}{}{}{place}", self.group_version, capital(method), self.scope, self.kind.kind, capital(subresource));
        let description = format!("connect {} requests to {subresource} of {}", method.to_uppercase(), self.kind.kind);
        Operation {
            action: Action::Connect,
            id,
            description,
            tag: &self.tag,
            kind,
            parameters: Vec::new(),
            patch_types: &[],
            body: None,
            reply: None,
        }
        .build()
    }
}

/// The reference to a kind's definition; `None` for kinds that no table holds, such as `PodExecOptions`.
fn reference(row: &Resource, kind: &GroupVersionKind) -> Option<String> {
    if row.is_custom() && kind.group == row.group {
        return Some(custom::reference(kind));
    }
    Schemas::builtin().definition_of(kind).map(|name| format!("#/components/schemas/io.k8s.{name}"))
}
