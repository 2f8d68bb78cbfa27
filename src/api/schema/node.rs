//! The schema tree: nodes that say what may stand at a place of an object and how it merges.

use std::sync::{Arc, LazyLock, OnceLock};

use serde_json::{Map, Value};

use crate::meta::{GroupVersionKind, Object};

/// The schema of one kind in one version.
#[derive(Clone, Debug)]
pub struct Schema {
    pub gvk: GroupVersionKind,
    /// Always a [`Kind::Struct`].
    pub root: Node,
    /// The status is written like any other field: a custom resource without the subresource.
    pub plain_status: bool,
    empty: OnceLock<Object>,
}

/// What may stand at one place, and how it is merged.
#[derive(Clone, Debug)]
pub struct Node {
    pub kind: Kind,
    /// How a list's items are told apart (`x-kubernetes-list-type`).
    pub list: ListType,
    /// A map or struct that is owned and replaced as a whole (`x-kubernetes-map-type: atomic`).
    pub atomic: bool,
    /// A struct that is not, although its type is so elsewhere (`x-kubernetes-map-type: granular`).
    pub granular: bool,
    pub patch: PatchStrategy,
    /// The key that strategic merge patches match list items by.
    pub merge_key: Option<Box<str>>,
    pub default: Option<Value>,
    /// An explicit null is a value of its own (custom resources only).
    pub nullable: bool,
    /// What a scalar of a custom resource should be. Its kind is [`Kind::Any`]: only server-side apply asks before validation does.
    pub scalar: Option<ScalarType>,
}

/// The types that scalars of custom resources are declared with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ScalarType {
    String,
    Numeric,
    Boolean,
}

/// What may stand in an unknown field that stays.
static UNKNOWN: LazyLock<Node> = LazyLock::new(Node::unknown);

/// The type of a value.
#[derive(Clone, Debug)]
pub enum Kind {
    String,
    /// Base64 in JSON.
    Bytes,
    Int32,
    Int64,
    Bool,
    Double,
    IntOrString,
    Quantity,
    Time,
    MicroTime,
    /// A span in Go's form, such as `1m30s`.
    Duration,
    /// Anything; never pruned. Owned as a whole unless the node says it is not atomic.
    Any,
    Struct(StructRef),
    List(Box<Node>),
    Map(Box<Node>),
}

/// `x-kubernetes-list-type` with its keys.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum ListType {
    #[default]
    Atomic,
    Set,
    /// Items are objects told apart by these fields.
    Map(Vec<Box<str>>),
}

/// `x-kubernetes-patch-strategy`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PatchStrategy {
    pub merge: bool,
    pub replace: bool,
    pub retain_keys: bool,
}

/// A named group of fields.
#[derive(Clone, Debug, Default)]
pub struct Struct {
    /// The name as it reads in messages, such as `DeploymentSpec`.
    pub name: Box<str>,
    /// The name with its package, such as `api.apps.v1.DeploymentSpec`.
    pub full_name: Box<str>,
    /// Sorted by name.
    fields: Vec<Field>,
    pub atomic: bool,
    /// Unknown fields stay (`x-kubernetes-preserve-unknown-fields`).
    pub preserve_unknown: bool,
    /// Values of wrong types are left to validation: those of custom resources.
    pub lenient: bool,
    pub kinds: Vec<GroupVersionKind>,
    wire_order: OnceLock<Box<[usize]>>,
}

/// One field of a struct.
#[derive(Clone, Debug)]
pub struct Field {
    pub name: Box<str>,
    pub node: Node,
    pub required: bool,
    /// Zero is a value of its own, not absence.
    pub pointer: bool,
    /// Zero values are not written.
    pub omit_empty: bool,
    /// Protobuf field numbers, outermost first; several where the wire form nests what JSON has inline.
    pub numbers: Vec<u32>,
}

/// A reference to a struct: made at once for custom resources, looked up at first use for built-ins.
#[derive(Clone, Debug)]
pub struct StructRef {
    name: Box<str>,
    /// Finds the struct by its name, where it is not at hand.
    find: Option<fn(&str) -> Arc<Struct>>,
    target: OnceLock<Arc<Struct>>,
}

impl StructRef {
    /// A struct that is at hand.
    pub fn new(target: Arc<Struct>) -> Self {
        StructRef { name: target.full_name.clone(), find: None, target: OnceLock::from(target) }
    }

    /// A struct that `find` finds by its full name when it is first asked for.
    pub(super) fn named(name: impl Into<Box<str>>, find: fn(&str) -> Arc<Struct>) -> Self {
        StructRef { name: name.into(), find: Some(find), target: OnceLock::new() }
    }

    pub fn get(&self) -> &Arc<Struct> {
        self.target.get_or_init(|| self.find.expect("one without is made with its struct")(&self.name))
    }
}

impl Struct {
    pub fn new(full_name: impl Into<Box<str>>, mut fields: Vec<Field>) -> Self {
        fields.sort_by(|a, b| a.name.cmp(&b.name));
        let full_name = full_name.into();
        let name = full_name.rsplit('.').next().unwrap_or_default().into();
        Struct { name, full_name, fields, ..Struct::default() }
    }

    pub fn field(&self, name: &str) -> Option<&Field> {
        self.fields.binary_search_by(|field| (*field.name).cmp(name)).ok().map(|index| &self.fields[index])
    }

    pub fn fields(&self) -> &[Field] {
        &self.fields
    }

    /// Positions of the fields that protobuf messages have, by their numbers: the order in which Go writes them.
    pub fn wire_order(&self) -> &[usize] {
        self.wire_order.get_or_init(|| {
            let mut order: Vec<usize> = (0..self.fields.len()).filter(|at| self.is_on_the_wire(&self.fields[*at])).collect();
            order.sort_by(|a, b| self.fields[*a].numbers.cmp(&self.fields[*b].numbers));
            order.into()
        })
    }

    /// kind and apiVersion of an object travel outside of its message; their numbers belong to other fields.
    fn is_on_the_wire(&self, field: &Field) -> bool {
        let is_shared = || self.fields.iter().any(|other| other.name != field.name && other.numbers == field.numbers);
        let is_type = matches!(&*field.name, "kind" | "apiVersion") && (!self.kinds.is_empty() || is_shared());
        !is_type && !field.numbers.is_empty()
    }

    /// The name as Go prints the type, such as `v1.DeploymentSpec`.
    pub fn go_name(&self) -> String {
        let mut parts = self.full_name.rsplit('.');
        let name = parts.next().unwrap_or_default();
        parts.next().map_or_else(|| name.to_owned(), |package| format!("{package}.{name}"))
    }
}

impl Node {
    pub fn new(kind: Kind) -> Self {
        let atomic = matches!(kind, Kind::Any);
        Node {
            kind,
            list: ListType::Atomic,
            atomic,
            granular: false,
            patch: PatchStrategy::default(),
            merge_key: None,
            default: None,
            nullable: false,
            scalar: None,
        }
    }

    /// A place of which nothing is known.
    pub(super) fn unknown() -> Self {
        Node { atomic: false, ..Node::new(Kind::Any) }
    }

    pub fn as_struct(&self) -> Option<&Arc<Struct>> {
        match &self.kind {
            Kind::Struct(reference) => Some(reference.get()),
            _ => None,
        }
    }

    /// The node of a list's items or a map's values.
    pub fn element(&self) -> Option<&Node> {
        match &self.kind {
            Kind::List(item) | Kind::Map(item) => Some(item),
            _ => None,
        }
    }

    /// The node of a field or key below this one.
    pub fn child(&self, name: &str) -> Option<&Node> {
        match &self.kind {
            Kind::Struct(reference) => {
                let holder = reference.get();
                holder.field(name).map(|field| &field.node).or_else(|| holder.preserve_unknown.then(|| &*UNKNOWN))
            }
            Kind::Map(value) => Some(value),
            _ => None,
        }
    }

    /// Whether values here are owned and replaced as a whole.
    pub fn is_atomic(&self) -> bool {
        match &self.kind {
            Kind::List(_) => self.list == ListType::Atomic,
            Kind::Map(_) => self.atomic,
            Kind::Struct(reference) => self.atomic || !self.granular && reference.get().atomic,
            Kind::Any => self.atomic,
            _ => true,
        }
    }
}

impl Schema {
    pub fn new(gvk: GroupVersionKind, root: Arc<Struct>) -> Self {
        Schema { gvk, root: Node::new(Kind::Struct(StructRef::new(root))), plain_status: false, empty: OnceLock::new() }
    }

    /// An object of this kind as Go writes a new one: its nested structs, and nulls for lists and pointers without `omitempty`.
    pub fn empty_object(&self) -> &Object {
        self.empty.get_or_init(|| {
            let mut object = Object::default();
            self.apply_defaults(&mut object);
            forget_values(object.root_mut());
            fill_nulls(self.root_struct(), object.root_mut());
            object
        })
    }

    pub fn root_struct(&self) -> &Arc<Struct> {
        self.root.as_struct().expect("the root of a schema is a struct")
    }

    /// The node at a path of field names, list items skipped (`spec.template.spec.containers.name`).
    pub fn node_at(&self, path: &[&str]) -> Option<&Node> {
        path.iter().try_fold(&self.root, |node, name| {
            let holder = match &node.kind {
                Kind::List(item) => item,
                _ => node,
            };
            holder.child(name)
        })
    }
}

/// Without what is not Go's zero: a new object has none of its defaults.
fn forget_values(fields: &mut Map<String, Value>) {
    fields.retain(|_, value| match value {
        Value::Object(inner) => {
            forget_values(inner);
            true
        }
        Value::Null => true,
        Value::Bool(value) => !*value,
        Value::Number(number) => number.as_i64() == Some(0),
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
    });
}

fn fill_nulls(holder: &Struct, fields: &mut Map<String, Value>) {
    for field in holder.fields() {
        match (field.node.as_struct(), fields.get_mut(&*field.name)) {
            (Some(inner), Some(Value::Object(fields))) => fill_nulls(inner, fields),
            (_, None) if !field.omit_empty => {
                fields.insert(field.name.to_string(), Value::Null);
            }
            _ => {}
        }
    }
}
