//! JSON patch (RFC 6902), within upstream's limits and some of our own: what one operation costs depends on the object, so a
//! short patch could cost without end.

use std::io;

use json_patch::{PatchErrorKind, PatchOperation};
use serde_json::Value;

use super::{duplicates, rejected};
use crate::{
    meta::limits::{MAX_DEPTH, is_deeper, tree_cost},
    schema::{
        Format, StrictProblem,
        decode::parse,
        raw::Raw,
        strict::{FieldPath, PROBLEM_LIMIT},
    },
    status::Status,
};

/// Upstream takes no more operations in one patch.
const MAX_OPERATIONS: usize = 10_000;
/// How much JSON the `copy` operations of one patch may add, as upstream.
const MAX_COPIED: usize = 3 << 20;
/// What these copies may cost as trees.
const MAX_COPIED_COST: usize = 16 << 20;
/// How many list items and subtrees may be shifted and looked through by one patch.
const MAX_WORK: usize = 16_000_000;

/// The patched object and the strict problems of the patch itself.
pub fn apply(patch: &[u8], mut object: Value) -> Result<(Value, Vec<String>), Status> {
    let bad = |error: &dyn std::fmt::Display| Status::bad_request(format!("error decoding patch: {error}"));
    let raw = parse(patch, Format::Json).map_err(|error| error.into_bad_request("error decoding patch: "))?;
    let mut problems = duplicates(&raw);
    unknown_fields(&raw, &mut problems);
    let Value::Array(operations) = raw.into_value() else {
        return Err(bad(&"json: cannot unmarshal object into Go value of type jsonpatch.Patch"));
    };
    if operations.len() > MAX_OPERATIONS {
        return Err(Status::too_large(format!("The allowed maximum operations in a JSON patch is {MAX_OPERATIONS}, got {}", operations.len())));
    }
    let mut spent = Spent::default();
    for mut operation in operations {
        let places = resolve(&mut operation, &object);
        if wants_nothing(&operation, &object) {
            continue;
        }
        complete(&mut operation, &object);
        let operation: PatchOperation = serde_json::from_value(operation).map_err(|_| rejected())?;
        spent.afford(&operation, &places, &object).ok_or_else(rejected)?;
        // Nobody sees the object of a patch that fails half-way.
        json_patch::patch_unsafe(&mut object, &[operation]).map_err(|_| rejected())?;
    }
    let problems = problems.iter().map(|problem| format!("json patch {problem}")).collect();
    Ok((object, problems))
}

/// Adds the fields that operations do not have. An operation has no more than four, whatever it does.
fn unknown_fields(patch: &Raw, problems: &mut Vec<StrictProblem>) {
    let Raw::List(operations) = patch else { return };
    for (index, operation) in operations.iter().enumerate() {
        let Raw::Object(fields) = operation else { continue };
        for (name, _) in fields.iter().filter(|(name, _)| !FIELDS.contains(&name.as_str())) {
            if problems.len() >= PROBLEM_LIMIT {
                return;
            }
            problems.push(StrictProblem::Unknown(FieldPath::shown(&format!("[{index}].{name}"))));
        }
    }
}

/// Why operations were not applied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unapplied {
    /// A `test` does not hold.
    Test,
    /// What went wrong.
    Failed(String),
}

/// The object after operations that are JSON already.
///
/// # Errors
/// Why they were not applied.
pub fn apply_operations(operations: Vec<Value>, mut object: Value) -> Result<Value, Unapplied> {
    if operations.len() > MAX_OPERATIONS {
        return Err(Unapplied::Failed(format!("The allowed maximum operations in a JSON patch is {MAX_OPERATIONS}, got {}", operations.len())));
    }
    let mut spent = Spent::default();
    for mut operation in operations {
        let (op, path) = (operation["op"].as_str().unwrap_or_default().to_owned(), operation["path"].as_str().unwrap_or_default().to_owned());
        if !OPERATIONS.contains(&&*op) {
            return Err(Unapplied::Failed(format!("Unexpected kind: {op}")));
        }
        let places = resolve(&mut operation, &object);
        if wants_nothing(&operation, &object) {
            continue;
        }
        let operation: PatchOperation = serde_json::from_value(operation).map_err(|error| Unapplied::Failed(error.to_string()))?;
        spent.afford(&operation, &places, &object).ok_or_else(|| Unapplied::Failed("the patch goes too far".to_owned()))?;
        if let Err(error) = json_patch::patch_unsafe(&mut object, &[operation]) {
            return Err(match error.kind {
                PatchErrorKind::TestFailed => Unapplied::Test,
                _ => Unapplied::Failed(format!("{op} operation does not apply: doc is missing path: {path:?}: missing value")),
            });
        }
    }
    Ok(object)
}

const FIELDS: [&str; 4] = ["op", "path", "from", "value"];
const OPERATIONS: [&str; 6] = ["add", "copy", "move", "remove", "replace", "test"];

/// Whether an operation tests that a field is null where there is no such field: upstream holds that for true, and clients rely on it to set a
/// field that nobody else has set (kube-rs its finalizers). RFC 6902 does not.
fn wants_nothing(operation: &Value, object: &Value) -> bool {
    let Some((parent, _)) = operation["path"].as_str().and_then(|path| path.rsplit_once('/')) else { return false };
    let absent = || operation["path"].as_str().is_some_and(|path| object.pointer(path).is_none());
    operation["op"] == "test" && operation["value"].is_null() && object.pointer(parent).is_some_and(Value::is_object) && absent()
}

/// Brings an operation into the form of RFC 6902 where upstream takes more: a field that is not there may be replaced, and a value that is left
/// out is null.
fn complete(operation: &mut Value, object: &Value) {
    let op = operation["op"].as_str().unwrap_or_default().to_owned();
    let is_absent = operation["path"].as_str().is_some_and(|path| is_absent_field(path, object));
    let Value::Object(fields) = operation else { return };
    if op == "replace" && is_absent {
        fields.insert("op".to_owned(), "add".into());
    }
    if matches!(op.as_str(), "add" | "replace" | "test") {
        fields.entry("value").or_insert(Value::Null);
    }
}

/// Whether a path leads to a field that an object lacks.
fn is_absent_field(path: &str, object: &Value) -> bool {
    let parent = path.rsplit_once('/').and_then(|(parent, _)| object.pointer(parent));
    parent.is_some_and(Value::is_object) && object.pointer(path).is_none()
}

/// What the operations so far came to.
#[derive(Default)]
struct Spent {
    copied: usize,
    copied_cost: usize,
    work: usize,
}

impl Spent {
    /// Counts an operation before it is done; `None` when it goes too far.
    fn afford(&mut self, operation: &PatchOperation, places: &Places, object: &Value) -> Option<()> {
        self.work += places.path.behind + places.from.behind;
        let depth = places.path.depth;
        let fits = match operation {
            PatchOperation::Add(add) => fits(&add.value, depth),
            PatchOperation::Replace(replace) => fits(&replace.value, depth),
            PatchOperation::Copy(copy) => {
                let source = object.pointer(copy.from.as_str());
                self.copied += source.map_or(0, json_size);
                self.copied_cost += source.map_or(0, tree_cost);
                source.is_none_or(|source| fits(source, depth))
            }
            // Nothing gets deeper that moves up.
            PatchOperation::Move(_) if depth <= places.from.depth => true,
            PatchOperation::Move(moved) => {
                let source = object.pointer(moved.from.as_str());
                self.work += source.map_or(0, nodes);
                source.is_none_or(|source| fits(source, depth))
            }
            PatchOperation::Remove(_) | PatchOperation::Test(_) => true,
        };
        let within = self.copied <= MAX_COPIED && self.copied_cost <= MAX_COPIED_COST && self.work <= MAX_WORK;
        (fits && within).then_some(())
    }
}

/// Whether a value may stand below `depth` lists and objects.
fn fits(value: &Value, depth: usize) -> bool {
    MAX_DEPTH.checked_sub(depth).is_some_and(|left| !is_deeper(value, left))
}

/// The length of a value's JSON.
fn json_size(value: &Value) -> usize {
    struct Counter(usize);
    impl io::Write for Counter {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0 += bytes.len();
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let mut counter = Counter(0);
    serde_json::to_writer(&mut counter, value).map_or(0, |()| counter.0)
}

/// How many values a tree holds.
fn nodes(value: &Value) -> usize {
    match value {
        Value::Array(items) => 1 + items.iter().map(nodes).sum::<usize>(),
        Value::Object(fields) => 1 + fields.values().map(nodes).sum::<usize>(),
        _ => 1,
    }
}

/// Where an operation's paths lead.
#[derive(Default)]
struct Places {
    path: Place,
    from: Place,
}

#[derive(Default)]
struct Place {
    /// How many lists and objects are around it.
    depth: usize,
    /// How many list items move when something is put in or taken out here.
    behind: usize,
}

/// Finds an operation's places. Upstream counts negative list indices from the end; RFC 6902 has none, so they are replaced.
fn resolve(operation: &mut Value, object: &Value) -> Places {
    let adds = operation["op"] == "add";
    let shifts = matches!(operation["op"].as_str(), Some("add" | "remove" | "move" | "copy"));
    let takes = operation["op"] == "move";
    let mut place = |field: &str, shifts: bool| {
        let Some(path) = operation.get(field).and_then(Value::as_str) else { return Place::default() };
        let (resolved, mut place) = follow(path, object, adds);
        operation[field] = resolved.into();
        if !shifts {
            place.behind = 0;
        }
        place
    };
    Places { path: place("path", shifts), from: place("from", takes) }
}

/// Follows a path through an object.
fn follow(path: &str, object: &Value, adds: bool) -> (String, Place) {
    let (mut resolved, mut place, mut here) = (String::with_capacity(path.len()), Place::default(), Some(object));
    let mut parts = path.split('/').skip(1).peekable();
    while let Some(part) = parts.next() {
        place.depth += 1;
        resolved.push('/');
        let Some(Value::Array(items)) = here else {
            resolved.push_str(part);
            here = here.and_then(|value| value.get(part.replace("~1", "/").replace("~0", "~")));
            continue;
        };
        let length = items.len() + usize::from(adds && parts.peek().is_none());
        let back = part.strip_prefix('-').and_then(|digits| digits.parse::<usize>().ok());
        let index = back.map_or_else(|| part.parse().ok(), |back| length.checked_sub(back));
        match index {
            Some(index) if back.is_some() => resolved.push_str(&index.to_string()),
            _ => resolved.push_str(part),
        }
        place.behind = index.map_or(0, |index: usize| items.len().saturating_sub(index));
        here = index.and_then(|index| items.get(index));
    }
    (resolved, place)
}
