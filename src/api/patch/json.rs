//! JSON patch (RFC 6902), within upstream's limits and some of our own: what one operation costs depends on the object, so a
//! short patch could cost without end.

use std::{fmt, io};

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
pub fn apply(patch: &[u8], object: Value) -> Result<(Value, Vec<String>), Status> {
    let bad = |error: &dyn fmt::Display| Status::bad_request(format!("error decoding patch: {error}"));
    let raw = parse(patch, Format::Json).map_err(|error| error.into_bad_request("error decoding patch: "))?;
    let mut problems = duplicates(&raw);
    unknown_fields(&raw, &mut problems);
    let Raw::List(operations) = &raw else {
        return Err(bad(&format!("json: cannot unmarshal {} into Go value of type []handlers.jsonPatchOp", raw.describe(false))));
    };
    if let Some(odd) = operations.iter().find(|operation| !matches!(operation, Raw::Object(_))) {
        return Err(bad(&format!("json: cannot unmarshal {} into Go value of type handlers.jsonPatchOp", odd.describe(false))));
    }
    if operations.len() > MAX_OPERATIONS {
        return Err(Status::too_large(format!("The allowed maximum operations in a JSON patch is {MAX_OPERATIONS}, got {}", operations.len())));
    }
    let Value::Array(operations) = raw.into_value() else { return Err(rejected()) };
    let object = apply_operations(operations, object).map_err(|_| rejected())?;
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
    /// The `test` of this path does not hold.
    Test(String),
    /// What went wrong.
    Failed(String),
}

impl fmt::Display for Unapplied {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Unapplied::Test(path) => write!(f, "testing value {path} failed: test failed"),
            Unapplied::Failed(why) => f.write_str(why),
        }
    }
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
        let [op, path, from] = ["op", "path", "from"].map(|field| operation[field].as_str().unwrap_or_default().to_owned());
        if !OPERATIONS.contains(&&*op) {
            return Err(Unapplied::Failed(format!("Unexpected kind: {op}")));
        }
        if !leads_somewhere(&op, &path, &from) {
            return Err(Unapplied::Failed(reason(&op, &path, &from, &object)));
        }
        let places = resolve(&mut operation, &object);
        complete(&mut operation, &object);
        if wants_nothing(&operation, &object) {
            continue;
        }
        let operation: PatchOperation = serde_json::from_value(operation).map_err(|error| Unapplied::Failed(error.to_string()))?;
        spent.afford(&operation, &places, &object).ok_or_else(|| Unapplied::Failed("the patch goes too far".to_owned()))?;
        // Nobody sees the object of a patch that fails half-way.
        if let Err(error) = json_patch::patch_unsafe(&mut object, &[operation]) {
            return Err(match error.kind {
                PatchErrorKind::TestFailed => Unapplied::Test(path),
                _ if op == "test" && is_absent_field(&path, &object) => Unapplied::Test(path),
                _ => Unapplied::Failed(reason(&op, &path, &from, &object)),
            });
        }
    }
    Ok(object)
}

/// Whether the paths of an operation are ones: only `replace` and `test` may be about the whole object.
fn leads_somewhere(op: &str, path: &str, from: &str) -> bool {
    let is_path = |path: &str| path.starts_with('/');
    match op {
        "replace" | "test" => path.is_empty() || is_path(path),
        "copy" | "move" => is_path(path) && is_path(from),
        _ => is_path(path),
    }
}

/// Makes an operation one of RFC 6902 that does what upstream's does: `replace` sets a field that its object does not have yet, `copy` finds null
/// there, and a `value` that is left out is null.
fn complete(operation: &mut Value, object: &Value) {
    let lacks = |path: Option<&Value>| path.and_then(Value::as_str).is_some_and(|path| is_absent_field(path, object));
    let (of_path, of_from) = (lacks(operation.get("path")), lacks(operation.get("from")));
    let Some(fields) = operation.as_object_mut() else { return };
    let op = fields.get("op").and_then(Value::as_str).unwrap_or_default();
    let sets = matches!(op, "add" | "replace" | "test");
    let becomes_add = (op == "replace" && of_path) || (op == "copy" && of_from);
    if sets || becomes_add {
        fields.entry("value").or_insert(Value::Null);
    }
    if becomes_add {
        fields.insert("op".to_owned(), "add".into());
    }
}

/// Whether a path leads to an object that has no field of its last name.
fn is_absent_field(path: &str, object: &Value) -> bool {
    path.rsplit_once('/').is_some_and(|(parent, _)| object.pointer(parent).is_some_and(Value::is_object)) && object.pointer(path).is_none()
}

/// Why an operation was not applied, in the words of upstream's library.
fn reason(op: &str, path: &str, from: &str, object: &Value) -> String {
    let (parent, key) = path.rsplit_once('/').unwrap_or_default();
    let holder =
        |path: &str| path.rsplit_once('/').and_then(|(parent, _)| object.pointer(parent)).filter(|parent| parent.is_array() || parent.is_object());
    let missing = |what: &str, path: &str| format!("{op} operation does not apply: {what}: {path}: missing value");
    match op {
        "copy" | "move" if holder(from).is_none() => missing("doc is missing from path", from),
        "copy" | "move" if holder(path).is_none() => missing("doc is missing destination path", path),
        "test" if holder(path).is_none() => missing("is missing path", path),
        "replace" if holder(path).is_none() => missing("doc is missing path", path),
        "replace" => missing("doc is missing key", path),
        _ if holder(path).is_none() => missing("doc is missing path", &format!("\"{path}\"")),
        "remove" if object.pointer(parent).is_some_and(Value::is_object) => {
            format!("error in remove for path: '{path}': Unable to remove nonexistent key: {key}: missing value")
        }
        _ => format!("error in {op} for path: '{path}': Unable to access invalid index: {key}: invalid index referenced"),
    }
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
