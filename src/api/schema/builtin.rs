//! The schemas of all built-in kinds, parsed from the tables package by package when first asked for.

use std::{
    collections::HashMap,
    sync::{Arc, OnceLock},
};

use super::{
    node::{Field, Kind, ListType, Node, PatchStrategy, Schema, Struct, StructRef},
    table::{self, Definition, FieldLine},
    tables::TABLES,
};
use crate::meta::GroupVersionKind;

/// The kinds of connections' options, which upstream publishes in no document, so that nothing generates them.
const CONNECTIONS: (&str, &str) = ("api.core.v1.connections", include_str!("connections.txt"));

fn tables() -> impl Iterator<Item = &'static (&'static str, &'static str)> {
    TABLES.iter().chain([&CONNECTIONS])
}

type Package = HashMap<&'static str, Arc<Struct>>;

/// All built-in schemas.
pub struct Schemas {
    packages: HashMap<&'static str, (&'static str, OnceLock<Package>)>,
    kinds: HashMap<GroupVersionKind, (&'static str, &'static str)>,
    schemas: HashMap<GroupVersionKind, OnceLock<Arc<Schema>>>,
    /// Definitions that stand for a scalar, by full name.
    aliases: HashMap<String, Kind>,
}

/// The scalar that an `alias=` in the tables names.
fn alias(word: &str) -> Kind {
    match word {
        "quantity" => Kind::Quantity,
        "time" => Kind::Time,
        "microtime" => Kind::MicroTime,
        "duration" => Kind::Duration,
        "intstr" => Kind::IntOrString,
        "any" => Kind::Any,
        word => unreachable!("unknown alias {word} in a schema table"),
    }
}

/// A definition of the tables, by its full name.
pub(super) fn reference(name: impl Into<Box<str>>) -> StructRef {
    StructRef::named(name, |name| Schemas::builtin().definition(name).expect("tables name only definitions they hold"))
}

/// A kind as tables write it: `version/Kind` or `group/version/Kind`.
pub fn parse_gvk(text: &str) -> GroupVersionKind {
    let mut parts = text.split('/');
    let mut part = || parts.next().unwrap_or_default();
    GroupVersionKind::new(part(), part(), part())
}

impl Schemas {
    /// The schemas built into this program.
    pub fn builtin() -> &'static Schemas {
        static BUILTIN: OnceLock<Schemas> = OnceLock::new();
        BUILTIN.get_or_init(|| {
            let packages = tables().map(|(package, text)| (*package, (*text, OnceLock::new()))).collect();
            let kinds: HashMap<_, _> =
                tables().flat_map(|(package, text)| table::kinds(text).map(|(kind, name)| (parse_gvk(kind), (*package, name)))).collect();
            let schemas = kinds.keys().map(|gvk| (gvk.clone(), OnceLock::new())).collect();
            let aliases = tables()
                .flat_map(|(package, text)| table::aliases(text).map(move |(name, word)| (format!("{package}.{name}"), alias(word))))
                .collect();
            Schemas { packages, kinds, schemas, aliases }
        })
    }

    /// Whether a kind has a schema; makes none.
    pub fn has(&self, gvk: &GroupVersionKind) -> bool {
        self.kinds.contains_key(gvk)
    }

    /// The schema of a kind in a version.
    pub fn get(&self, gvk: &GroupVersionKind) -> Option<Arc<Schema>> {
        let cell = self.schemas.get(gvk)?;
        let schema = cell.get_or_init(|| {
            let (package, name) = self.kinds[gvk];
            let root = self.package(package).and_then(|package| package.get(name)).expect("a kind's table holds its definition");
            Arc::new(Schema::new(gvk.clone(), root.clone()))
        });
        Some(schema.clone())
    }

    /// A definition by its full name without `io.k8s.`, such as `api.apps.v1.DeploymentSpec`.
    pub fn definition(&self, full_name: &str) -> Option<Arc<Struct>> {
        let (package, name) = full_name.rsplit_once('.')?;
        self.package(package)?.get(name).cloned()
    }

    /// The full name of a kind's definition.
    pub fn definition_of(&self, gvk: &GroupVersionKind) -> Option<String> {
        let (package, name) = self.kinds.get(gvk).filter(|(package, _)| *package != CONNECTIONS.0)?;
        Some(format!("{package}.{name}"))
    }

    /// The lines of a definition, with its package.
    pub fn definition_lines(&self, full_name: &str) -> Option<(&'static str, Definition)> {
        let (package, name) = full_name.rsplit_once('.')?;
        let (package, (text, _)) = self.packages.get_key_value(package)?;
        table::definition(text, name).map(|definition| (*package, definition))
    }

    /// Every kind that has a schema, in no order.
    pub fn kinds(&self) -> impl Iterator<Item = &GroupVersionKind> {
        self.kinds.keys()
    }

    fn package(&self, package: &str) -> Option<&Package> {
        let (package, (text, cell)) = self.packages.get_key_value(package)?;
        Some(cell.get_or_init(|| {
            table::definitions(text).into_iter().map(|definition| (definition.name, Arc::new(self.make_struct(package, &definition)))).collect()
        }))
    }

    fn make_struct(&self, package: &str, definition: &Definition) -> Struct {
        let fields = definition.fields.iter().map(|line| make_field(self.kind_of(package, line.type_name), line)).collect();
        let mut made = Struct::new(format!("{package}.{}", definition.name), fields);
        made.atomic = definition.atomic;
        made.kinds = definition.kinds.iter().map(|kind| parse_gvk(kind)).collect();
        made
    }

    fn kind_of(&self, package: &str, type_name: &str) -> Kind {
        if let Some(item) = type_name.strip_prefix("[]") {
            return Kind::List(Box::new(Node::new(self.kind_of(package, item))));
        }
        if let Some(value) = type_name.strip_prefix("{}") {
            return Kind::Map(Box::new(Node::new(self.kind_of(package, value))));
        }
        match type_name {
            "string" => Kind::String,
            "bytes" => Kind::Bytes,
            "int32" => Kind::Int32,
            "int64" => Kind::Int64,
            "bool" => Kind::Bool,
            "double" => Kind::Double,
            name => {
                let full_name = if name.contains('.') { name.to_owned() } else { format!("{package}.{name}") };
                self.aliases.get(&full_name).cloned().unwrap_or_else(|| Kind::Struct(reference(full_name)))
            }
        }
    }
}

fn make_field(kind: Kind, line: &FieldLine) -> Field {
    let mut node = Node::new(kind);
    node.default = line.default.map(|text| serde_json::from_str(text).expect("a default in a table is JSON"));
    node.atomic |= line.map == Some("atomic");
    node.granular = line.map == Some("granular");
    node.list = match line.list.map(|list| list.split_once(':').unwrap_or((list, ""))) {
        Some(("set", _)) => ListType::Set,
        Some(("map", keys)) => ListType::Map(keys.split(',').map(Box::from).collect()),
        _ => ListType::Atomic,
    };
    if let Some(patch) = line.patch {
        let (strategies, key) = patch.split_once(':').unwrap_or((patch, ""));
        let has = |name| strategies.split(',').any(|strategy| strategy == name);
        node.patch = PatchStrategy { merge: has("merge"), replace: has("replace"), retain_keys: has("retainKeys") };
        node.merge_key = (!key.is_empty()).then(|| key.into());
    }
    let flag = |flag| line.flags.contains(flag);
    Field {
        name: line.name.into(),
        node,
        required: flag('!'),
        pointer: flag('*'),
        omit_empty: flag('?'),
        numbers: line.numbers.split('.').filter_map(|number| number.parse().ok()).collect(),
    }
}
