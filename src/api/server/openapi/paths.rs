//! `paths`: the operations of each resource and subresource.

use serde_json::{Map, Value};

use super::{
    META_V1, custom, discovery,
    operations::{self, ANY_TYPE, Action, CUSTOM_PATCH_TYPES, CUSTOM_TYPES, LIST_TYPES, LOG_TYPES, OBJECT_TYPES, Operation, PATCH_TYPES},
    parameters,
};
use troupe_api::{
    meta::GroupVersionKind,
    resources::{Feature, Resource, Subresource},
    schema::Schemas,
    service::Verb,
};

/// The operations of a path with their methods.
type Operations<'a> = Vec<(&'static str, Operation<'a>)>;

/// Adds the paths of one row in one served version.
pub fn add(paths: &mut Map<String, Value>, row: &Resource, version: &str) {
    let maker = Maker::new(row, version);
    let scope = if row.namespaced { "/namespaces/{namespace}" } else { "" };
    let base = discovery::base(&row.group, version);
    let collection = format!("{scope}/{}", row.plural);
    insert(paths, format!("{base}{collection}"), maker.collection());
    if row.namespaced && maker.has(Verb::List) {
        insert(paths, format!("{base}/{}", row.plural), vec![("get", maker.list("ForAllNamespaces"))]);
    }
    let item = format!("{collection}/{{name}}");
    insert(paths, format!("{base}{item}"), maker.whole());
    if maker.has(Verb::Watch) && !row.is_custom() {
        insert(paths, format!("{base}/watch{collection}"), vec![("get", maker.watch_list(""))]);
        insert(paths, format!("{base}/watch{item}"), vec![("get", maker.watch())]);
        if row.namespaced {
            insert(paths, format!("{base}/watch/{}", row.plural), vec![("get", maker.watch_list("ForAllNamespaces"))]);
        }
    }
    for subresource in &row.version(version).subresources {
        add_subresource(paths, &maker, format!("{base}{item}/{}", subresource.name), subresource);
    }
}

fn add_subresource(paths: &mut Map<String, Value>, maker: &Maker<'_>, path: String, subresource: &Subresource) {
    let kind = maker.kind_of(subresource);
    if !matches!(subresource.name, "attach" | "exec" | "portforward" | "proxy") {
        return insert(paths, path, maker.subresource(subresource, &kind));
    }
    if subresource.name == "proxy" {
        insert(paths, format!("{path}/{{path}}"), maker.connections(subresource, &kind, "WithPath"));
    }
    insert(paths, path, maker.connections(subresource, &kind, ""));
}

/// Adds a path with its operations, unless it has none. What all of them take stands beside them.
fn insert(paths: &mut Map<String, Value>, path: String, mut operations: Operations<'_>) {
    for (_, operation) in &mut operations {
        operation.parameters.extend(parameters::places(&path, &operation.kind.kind));
    }
    let Some((_, last)) = operations.last() else { return };
    let mut shared = last.parameters.clone();
    shared.retain(|parameter| operations.iter().all(|(_, operation)| operation.takes(parameter)));
    operations::sort(&mut shared);
    let mut item = Map::new();
    for (method, mut operation) in operations {
        operation.parameters.retain(|own| !shared.iter().any(|parameter| operations::is_same(own, parameter)));
        item.insert(method.to_owned(), operation.build());
    }
    if !shared.is_empty() {
        item.insert("parameters".to_owned(), shared.into());
    }
    paths.insert(path, item.into());
}

/// A noun with its article, behind a blank: ` an Ingress` and ` a Pod`, but ` Endpoints`.
fn with_article(noun: &str) -> String {
    let is_plural = noun.ends_with('s') && !noun.ends_with("ss");
    let begins_with_vowel = noun.starts_with(['A', 'E', 'I', 'O', 'U', 'a', 'e', 'i', 'o', 'u']);
    match (is_plural, begins_with_vowel) {
        (true, _) => format!(" {noun}"),
        (false, true) => format!(" an {noun}"),
        (false, false) => format!(" a {noun}"),
    }
}

/// Makes the operations of one row.
struct Maker<'a> {
    row: &'a Resource,
    kind: GroupVersionKind,
    tag: String,
    /// `AppsV1`
    group_version: String,
}

impl<'a> Maker<'a> {
    fn new(row: &'a Resource, version: &str) -> Self {
        let (tag, group_version) = discovery::names(&row.group, version);
        Maker { row, kind: row.gvk(version), tag, group_version }
    }

    fn has(&self, verb: Verb) -> bool {
        self.row.verbs.contains(&verb)
    }

    /// The kind that a subresource's operations are about.
    fn kind_of(&self, subresource: &Subresource) -> GroupVersionKind {
        if self.row.is_custom() { self.kind.clone() } else { self.row.subresource_gvk(subresource, &self.kind.version) }
    }

    /// `NamespacedPod`, or without the scope in lists of all namespaces.
    fn scoped(&self, everywhere: &str) -> String {
        let scope = if self.row.namespaced && everywhere.is_empty() { "Namespaced" } else { "" };
        format!("{scope}{}", self.kind.kind)
    }

    /// An operation that takes and answers nothing yet.
    fn operation<'m>(&'m self, action: Action, kind: &'m GroupVersionKind, id: String, description: String) -> Operation<'m> {
        let is_custom = self.row.is_custom();
        Operation {
            action,
            id,
            description,
            tag: &self.tag,
            kind,
            is_custom,
            parameters: vec![parameters::pretty()],
            consumes: match (action, is_custom) {
                (Action::Patch, true) => CUSTOM_PATCH_TYPES,
                (Action::Patch, false) => PATCH_TYPES,
                (_, true) => CUSTOM_TYPES,
                (_, false) => ANY_TYPE,
            },
            body: None,
            produces: match (action, is_custom) {
                (_, true) => CUSTOM_TYPES,
                (Action::List | Action::Watch | Action::WatchList, false) => LIST_TYPES,
                (_, false) => OBJECT_TYPES,
            },
            reply: None,
        }
    }

    /// What is done to all objects, or makes one.
    fn collection(&self) -> Operations<'_> {
        let mut operations = Vec::new();
        if self.has(Verb::List) {
            operations.push(("get", self.list("")));
        }
        if self.has(Verb::Create) {
            operations.push(("post", self.item(Action::Post, &self.kind, &self.kind, "")));
        }
        if self.has(Verb::DeleteCollection) {
            operations.push(("delete", self.delete_collection()));
        }
        operations
    }

    /// What is done to one object.
    fn whole(&self) -> Operations<'_> {
        [
            (Verb::Get, "get", Action::Get),
            (Verb::Update, "put", Action::Put),
            (Verb::Patch, "patch", Action::Patch),
            (Verb::Delete, "delete", Action::Delete),
        ]
        .into_iter()
        .filter(|(verb, ..)| self.has(*verb))
        .map(|(_, method, action)| (method, self.item(action, &self.kind, &self.kind, "")))
        .collect()
    }

    /// A list in one scope; `everywhere` is the suffix of lists across namespaces.
    fn list(&self, everywhere: &str) -> Operation<'_> {
        let id = format!("list{}{}{everywhere}", self.group_version, self.scoped(everywhere));
        let list = GroupVersionKind::new(self.kind.group.clone(), self.kind.version.clone(), self.row.list_kind());
        let verb = if self.has(Verb::Watch) && !self.row.is_custom() { "list or watch" } else { "list" };
        let mut operation = self.operation(Action::List, &self.kind, id, format!("{verb} objects of kind {}", self.kind.kind));
        operation.parameters.extend(parameters::list());
        operation.reply = reference(self.row, &list);
        operation
    }

    fn delete_collection(&self) -> Operation<'_> {
        let id = format!("delete{}Collection{}", self.group_version, self.scoped(""));
        let mut operation = self.operation(Action::DeleteCollection, &self.kind, id, format!("delete collection of {}", self.kind.kind));
        let mut query = parameters::list();
        if !self.row.is_custom() {
            query.retain(|parameter| !parameters::OF_WATCHES.iter().any(|name| parameter["name"] == *name));
            query.extend(parameters::delete());
            operation.body = Some(of_all_kinds("DeleteOptions"));
        }
        operation.parameters.extend(query);
        operation.reply = Some(of_all_kinds("Status"));
        operation
    }

    /// A watch of a list by its deprecated path.
    fn watch_list(&self, everywhere: &str) -> Operation<'_> {
        let id = format!("watch{}{}List{everywhere}", self.group_version, self.scoped(everywhere));
        let description =
            format!("watch individual changes to a list of {}. deprecated: use the 'watch' parameter with a list operation instead.", self.kind.kind);
        self.watching(Action::WatchList, id, description)
    }

    /// A watch of one object, likewise.
    fn watch(&self) -> Operation<'_> {
        let id = format!("watch{}{}", self.group_version, self.scoped(""));
        let description = format!(
            "watch changes to an object of kind {}. deprecated: use the 'watch' parameter with a list operation instead, filtered to a single item with the 'fieldSelector' parameter.",
            self.kind.kind
        );
        self.watching(Action::Watch, id, description)
    }

    fn watching(&self, action: Action, id: String, description: String) -> Operation<'_> {
        let mut operation = self.operation(action, &self.kind, id, description);
        operation.parameters.extend(parameters::list());
        operation.reply = Some(of_all_kinds("WatchEvent"));
        operation
    }

    /// An operation on one object or, with a name such as `status`, on a subresource. It is about `kind` and carries `carried`.
    fn item<'m>(&'m self, action: Action, kind: &'m GroupVersionKind, carried: &GroupVersionKind, subresource: &str) -> Operation<'m> {
        let (verb, words, noun) = match action {
            Action::Put => ("replace", "replace", format!(" the specified {}", self.kind.kind)),
            Action::Patch => ("patch", "partially update", format!(" the specified {}", self.kind.kind)),
            Action::Delete => ("delete", "delete", with_article(&self.kind.kind)),
            Action::Post => ("create", "create", with_article(&self.kind.kind)),
            _ => ("read", "read", format!(" the specified {}", self.kind.kind)),
        };
        let id = format!("{verb}{}{}{}", self.group_version, self.scoped(""), discovery::capital(subresource));
        let of = if subresource.is_empty() { String::new() } else { format!(" {subresource} of") };
        let mut operation = self.operation(action, kind, id, format!("{words}{of}{noun}"));
        operation.reply = reference(self.row, carried);
        match action {
            Action::Put | Action::Post => {
                operation.parameters.extend(parameters::write());
                operation.body = operation.reply.clone();
            }
            Action::Patch => {
                operation.parameters.extend(parameters::patch());
                operation.body = Some(of_all_kinds("Patch"));
            }
            Action::Delete => {
                operation.parameters.extend(parameters::delete());
                operation.body = Some(of_all_kinds("DeleteOptions"));
                // Upstream says that a namespace's deletion answers with a Status.
                if !self.row.has(Feature::ReturnsDeleted) || self.row.is_namespace() {
                    operation.reply = Some(of_all_kinds("Status"));
                }
            }
            _ if self.row.is_custom() => operation.parameters.extend(parameters::read()),
            _ => operation.parameters.extend(parameters::options(subresource)),
        }
        if subresource == "log" {
            (operation.reply, operation.produces) = (None, LOG_TYPES);
        }
        operation
    }

    /// What is done to a subresource, whose operations are about `kind`.
    fn subresource<'m>(&'m self, subresource: &Subresource, kind: &'m GroupVersionKind) -> Operations<'m> {
        let carried = self.row.subresource_gvk(subresource, &self.kind.version);
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
            operations.push((method, self.item(action, kind, &carried, subresource.name)));
        }
        operations
    }

    /// The requests that a connection with options of `kind` begins with; `place` ends the names of those that say where to at the backend.
    fn connections<'m>(&'m self, subresource: &Subresource, kind: &'m GroupVersionKind, place: &str) -> Operations<'m> {
        let methods: &[&'static str] =
            if subresource.name == "proxy" { &["delete", "get", "head", "options", "patch", "post", "put"] } else { &["get", "post"] };
        methods.iter().map(|method| (*method, self.connect(kind, method, subresource.name, place))).collect()
    }

    fn connect<'m>(&'m self, kind: &'m GroupVersionKind, method: &str, subresource: &str, place: &str) -> Operation<'m> {
        let (begun, of) = (discovery::capital(method), discovery::capital(subresource));
        let id = format!("connect{}{begun}{}{of}{place}", self.group_version, self.scoped(""));
        let description = format!("connect {} requests to {subresource} of {}", method.to_uppercase(), self.kind.kind);
        let mut operation = self.operation(Action::Connect, kind, id, description);
        operation.parameters = parameters::options(subresource);
        operation.produces = ANY_TYPE;
        operation
    }
}

/// The reference to a definition that requests to all kinds share.
fn of_all_kinds(name: &str) -> String {
    format!("#/components/schemas/io.k8s.{META_V1}{name}")
}

/// The reference to a kind's definition; `None` for kinds that no table holds, such as `PodExecOptions`.
fn reference(row: &Resource, kind: &GroupVersionKind) -> Option<String> {
    if row.is_custom() && kind.group == row.group {
        return Some(custom::reference(kind));
    }
    Schemas::builtin().definition_of(kind).map(|name| format!("#/components/schemas/io.k8s.{name}"))
}
