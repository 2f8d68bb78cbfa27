//! Protobuf bodies as JSON trees: one transcoder over the field numbers of the schema tables.
//!
//! Clients that know the types (client-go, so also kubectl's `create NAME` commands) send
//! `k8s\0` followed by a `runtime.Unknown` that wraps the object. What is absent in Go's JSON is left out here too.

use base64::{Engine, prelude::BASE64_STANDARD};
use jiff::Timestamp;
use serde_json::{Map, Value, json};

use crate::{
    meta::{
        GroupVersion, GroupVersionKind,
        time::{format_micro_time, format_time},
    },
    schema::{Field, Kind, Node, Schemas, Struct},
    status::Status,
};

/// The media type.
pub const MEDIA_TYPE: &str = "application/vnd.kubernetes.protobuf";

const MAGIC: &[u8] = b"k8s\0";
/// Messages nested deeper are refused.
const MAX_DEPTH: usize = 64;

/// One field of a message on the wire.
enum Wire<'a> {
    Number(u64),
    Bytes(&'a [u8]),
}

/// Bytes that are no protobuf message of the expected type.
#[derive(Debug, thiserror::Error)]
#[error("the protobuf message is malformed")]
struct Malformed;

/// Reads fields off a message.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn varint(&mut self) -> Result<u64, Malformed> {
        let mut value = 0_u64;
        for shift in (0..64).step_by(7) {
            let (byte, rest) = self.0.split_first().ok_or(Malformed)?;
            self.0 = rest;
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(Malformed)
    }

    fn take(&mut self, length: usize) -> Result<&'a [u8], Malformed> {
        let (taken, rest) = self.0.split_at_checked(length).ok_or(Malformed)?;
        self.0 = rest;
        Ok(taken)
    }

    /// The next field with its number; `None` at the end.
    fn field(&mut self) -> Result<Option<(u32, Wire<'a>)>, Malformed> {
        if self.0.is_empty() {
            return Ok(None);
        }
        let tag = self.varint()?;
        let wire = match tag & 7 {
            0 => Wire::Number(self.varint()?),
            1 => Wire::Number(u64::from_le_bytes(self.take(8)?.try_into().map_err(|_| Malformed)?)),
            2 => {
                let length = usize::try_from(self.varint()?).map_err(|_| Malformed)?;
                Wire::Bytes(self.take(length)?)
            }
            5 => Wire::Number(u64::from(u32::from_le_bytes(self.take(4)?.try_into().map_err(|_| Malformed)?))),
            _ => return Err(Malformed),
        };
        Ok(Some((u32::try_from(tag >> 3).map_err(|_| Malformed)?, wire)))
    }
}

impl<'a> Wire<'a> {
    fn bytes(&self) -> Result<&'a [u8], Malformed> {
        match self {
            Wire::Bytes(bytes) => Ok(bytes),
            Wire::Number(_) => Err(Malformed),
        }
    }

    fn text(&self) -> Result<&'a str, Malformed> {
        std::str::from_utf8(self.bytes()?).map_err(|_| Malformed)
    }

    fn number(&self) -> Result<u64, Malformed> {
        match self {
            Wire::Number(number) => Ok(*number),
            Wire::Bytes(_) => Err(Malformed),
        }
    }
}

/// The object in a protobuf body, as JSON with kind and apiVersion.
///
/// # Errors
/// 400 when the body is malformed or of no kind that we know.
pub fn to_json(body: &[u8]) -> Result<Value, Status> {
    let malformed = |_: Malformed| Status::bad_request("provided data does not appear to be a protobuf message of the announced kind");
    let unknown = body
        .strip_prefix(MAGIC)
        .ok_or_else(|| Status::bad_request("provided data does not appear to be a protobuf message, expected prefix [107 56 115 0]"))?;
    let (api_version, kind, raw) = unwrap(unknown).map_err(malformed)?;
    let GroupVersion { group, version } = GroupVersion::parse(api_version);
    let gvk = GroupVersionKind::new(group, version, kind);
    // Options come under every group's name.
    let is_options = kind == "DeleteOptions";
    let root = if is_options {
        Schemas::builtin().definition("apimachinery.pkg.apis.meta.v1.DeleteOptions")
    } else {
        Schemas::builtin().get(&gvk).and_then(|schema| match &schema.root.kind {
            Kind::Struct(root) => Some(root.get().clone()),
            _ => None,
        })
    };
    let root = root.ok_or_else(|| Status::bad_request(format!("no kind {kind:?} is registered for version {api_version:?}")))?;
    let mut object = Map::new();
    message(raw, &root, &[], 0, &mut object).map_err(malformed)?;
    object.insert("kind".into(), kind.into());
    object.insert("apiVersion".into(), api_version.into());
    Ok(Value::Object(object))
}

/// apiVersion, kind and content of a `runtime.Unknown`.
fn unwrap(unknown: &[u8]) -> Result<(&str, &str, &[u8]), Malformed> {
    let (mut api_version, mut kind, mut raw): (&str, &str, &[u8]) = ("", "", &[]);
    let mut reader = Reader(unknown);
    while let Some((number, wire)) = reader.field()? {
        match number {
            1 => {
                let mut type_meta = Reader(wire.bytes()?);
                while let Some((number, wire)) = type_meta.field()? {
                    match number {
                        1 => api_version = wire.text()?,
                        2 => kind = wire.text()?,
                        _ => {}
                    }
                }
            }
            2 => raw = wire.bytes()?,
            _ => {}
        }
    }
    Ok((api_version, kind, raw))
}

/// Reads a message of `definition`; `prefix` are the numbers of the messages around it whose fields JSON has inline.
fn message(bytes: &[u8], definition: &Struct, prefix: &[u32], depth: usize, out: &mut Map<String, Value>) -> Result<(), Malformed> {
    if depth > MAX_DEPTH {
        return Err(Malformed);
    }
    let mut reader = Reader(bytes);
    while let Some((number, wire)) = reader.field()? {
        let mut path = prefix.to_vec();
        path.push(number);
        let mut fields = definition.fields().iter().filter(|field| !is_type_meta(definition, field));
        if let Some(field) = fields.clone().find(|field| field.numbers == path) {
            read_field(field, &wire, depth, out)?;
        } else if fields.any(|field| field.numbers.len() > path.len() && field.numbers.starts_with(&path)) {
            message(wire.bytes()?, definition, &path, depth + 1, out)?;
        }
    }
    Ok(())
}

/// kind and apiVersion of an object travel outside of it; their numbers belong to other fields.
fn is_type_meta(definition: &Struct, field: &Field) -> bool {
    let is_shared = || definition.fields().iter().any(|other| other.name != field.name && other.numbers == field.numbers);
    matches!(&*field.name, "kind" | "apiVersion") && (!definition.kinds.is_empty() || is_shared())
}

fn read_field(field: &Field, wire: &Wire<'_>, depth: usize, out: &mut Map<String, Value>) -> Result<(), Malformed> {
    let slot = &*field.name;
    match &field.node.kind {
        Kind::List(item) => {
            let list = out.entry(slot).or_insert_with(|| json!([]));
            let items = list.as_array_mut().ok_or(Malformed)?;
            if let (Kind::Int32 | Kind::Int64 | Kind::Bool, Wire::Bytes(packed)) = (&item.kind, wire) {
                let mut reader = Reader(packed);
                while !reader.0.is_empty() {
                    let number = Wire::Number(reader.varint()?);
                    items.push(value(item, &number, depth)?.unwrap_or(Value::Null));
                }
            } else {
                items.push(value(item, wire, depth)?.unwrap_or(Value::Null));
            }
        }
        Kind::Map(item) => {
            let (key, entry) = map_entry(item, wire, depth)?;
            let map = out.entry(slot).or_insert_with(|| json!({}));
            map.as_object_mut().ok_or(Malformed)?.insert(key, entry);
        }
        _ => {
            let Some(read) = value(&field.node, wire, depth)? else { return Ok(()) };
            if !(field.omit_empty && !field.pointer && is_zero(&read)) {
                out.insert(slot.to_owned(), read);
            }
        }
    }
    Ok(())
}

/// Go writes every scalar that is no pointer; JSON leaves the zero ones out.
fn is_zero(value: &Value) -> bool {
    match value {
        Value::String(text) => text.is_empty(),
        Value::Number(number) => number.as_f64() == Some(0.0),
        Value::Bool(flag) => !flag,
        _ => false,
    }
}

fn map_entry(item: &Node, wire: &Wire<'_>, depth: usize) -> Result<(String, Value), Malformed> {
    let mut reader = Reader(wire.bytes()?);
    let (mut key, mut entry) = (String::new(), None);
    while let Some((number, wire)) = reader.field()? {
        match number {
            1 => key = wire.text()?.to_owned(),
            2 => entry = value(item, &wire, depth)?,
            _ => {}
        }
    }
    // An entry without value holds its type's zero.
    let zero = || match item.kind {
        Kind::Struct(_) => json!({}),
        Kind::List(_) => json!([]),
        Kind::Int32 | Kind::Int64 => json!(0),
        Kind::Bool => json!(false),
        _ => json!(""),
    };
    Ok((key, entry.unwrap_or_else(zero)))
}

/// One value; `None` for what JSON does not have at all, such as a zero time.
fn value(node: &Node, wire: &Wire<'_>, depth: usize) -> Result<Option<Value>, Malformed> {
    let read = match &node.kind {
        Kind::String => wire.text()?.into(),
        Kind::Bytes => BASE64_STANDARD.encode(wire.bytes()?).into(),
        Kind::Int32 | Kind::Int64 => wire.number()?.cast_signed().into(),
        Kind::Bool => (wire.number()? != 0).into(),
        Kind::Double => f64::from_bits(wire.number()?).into(),
        Kind::IntOrString => int_or_string(wire.bytes()?)?,
        Kind::Quantity => match first(wire.bytes()?)? {
            Some(text) => text.text()?.into(),
            None => "0".into(),
        },
        Kind::Time => return time(wire.bytes()?, format_time),
        Kind::MicroTime => return time(wire.bytes()?, format_micro_time),
        Kind::Any => match first(wire.bytes()?)? {
            Some(raw) => serde_json::from_slice(raw.bytes()?).map_err(|_| Malformed)?,
            None => return Ok(None),
        },
        Kind::Struct(definition) => {
            let mut object = Map::new();
            message(wire.bytes()?, definition.get(), &[], depth + 1, &mut object)?;
            object.into()
        }
        // A list in a map (`userInfo.extra`) is wrapped in a message.
        Kind::List(item) => {
            let (mut reader, mut items) = (Reader(wire.bytes()?), Vec::new());
            while let Some((_, wire)) = reader.field()? {
                items.push(value(item, &wire, depth + 1)?.unwrap_or(Value::Null));
            }
            items.into()
        }
        Kind::Map(_) => return Err(Malformed),
    };
    Ok(Some(read))
}

/// The field numbered 1.
fn first(bytes: &[u8]) -> Result<Option<Wire<'_>>, Malformed> {
    let (mut reader, mut found) = (Reader(bytes), None);
    while let Some((number, wire)) = reader.field()? {
        if number == 1 {
            found = Some(wire);
        }
    }
    Ok(found)
}

fn int_or_string(bytes: &[u8]) -> Result<Value, Malformed> {
    let (mut reader, mut is_text, mut number, mut text) = (Reader(bytes), false, 0, "");
    while let Some((field, wire)) = reader.field()? {
        match field {
            1 => is_text = wire.number()? == 1,
            2 => number = wire.number()?.cast_signed(),
            3 => text = wire.text()?,
            _ => {}
        }
    }
    Ok(if is_text { text.into() } else { number.into() })
}

fn time(bytes: &[u8], format: fn(Timestamp) -> String) -> Result<Option<Value>, Malformed> {
    let (mut reader, mut seconds, mut nanos) = (Reader(bytes), None, 0);
    while let Some((field, wire)) = reader.field()? {
        match field {
            1 => seconds = Some(wire.number()?.cast_signed()),
            2 => nanos = i32::try_from(wire.number()?).map_err(|_| Malformed)?,
            _ => {}
        }
    }
    let Some(seconds) = seconds else { return Ok(None) };
    // Go's zero time is before any that we print.
    let Ok(time) = Timestamp::new(seconds, nanos) else { return Ok(None) };
    Ok((seconds > ZERO_TIME).then(|| format(time).into()))
}

/// Go's zero time, in Unix seconds.
const ZERO_TIME: i64 = -62_135_596_800;

#[cfg(test)]
mod tests {
    use super::*;

    /// Appends a length-delimited field.
    fn put(out: &mut Vec<u8>, number: u8, bytes: &[u8]) {
        out.push(number << 3 | 2);
        out.push(u8::try_from(bytes.len()).expect("short"));
        out.extend_from_slice(bytes);
    }

    fn wrapped(api_version: &str, kind: &str, raw: &[u8]) -> Vec<u8> {
        let (mut type_meta, mut body) = (Vec::new(), MAGIC.to_vec());
        put(&mut type_meta, 1, api_version.as_bytes());
        put(&mut type_meta, 2, kind.as_bytes());
        put(&mut body, 1, &type_meta);
        put(&mut body, 2, raw);
        body
    }

    #[test]
    fn a_config_map_reads_as_its_json() {
        let (mut metadata, mut entry, mut raw) = (Vec::new(), Vec::new(), Vec::new());
        put(&mut metadata, 1, b"a");
        put(&mut metadata, 3, b"");
        put(&mut metadata, 8, b"");
        put(&mut entry, 1, b"k");
        put(&mut entry, 2, b"v");
        put(&mut raw, 1, &metadata);
        put(&mut raw, 2, &entry);
        let read = to_json(&wrapped("v1", "ConfigMap", &raw)).expect("well formed");
        assert_eq!(read, json!({"kind": "ConfigMap", "apiVersion": "v1", "metadata": {"name": "a"}, "data": {"k": "v"}}));
    }

    #[test]
    fn fields_of_inlined_messages_come_to_the_surface() {
        // spec.volumes[0] = {name: 1, volumeSource: 2 {configMap: 19 {localObjectReference: 1 {name: 1}}}}
        let (mut reference, mut config_map, mut source, mut volume, mut spec, mut raw) = (vec![], vec![], vec![], vec![], vec![], vec![]);
        put(&mut reference, 1, b"c");
        put(&mut config_map, 1, &reference);
        source.extend([0x9a, 0x01, u8::try_from(config_map.len()).expect("short")]);
        source.extend(&config_map);
        put(&mut volume, 1, b"v");
        put(&mut volume, 2, &source);
        put(&mut spec, 1, &volume);
        put(&mut raw, 2, &spec);
        let read = to_json(&wrapped("v1", "Pod", &raw)).expect("well formed");
        assert_eq!(read["spec"]["volumes"], json!([{"name": "v", "configMap": {"name": "c"}}]));
    }

    #[test]
    fn the_type_of_nested_options_travels_outside_too() {
        let (mut metadata, mut raw) = (Vec::new(), Vec::new());
        put(&mut metadata, 1, b"p");
        put(&mut raw, 1, &metadata);
        // deleteOptions: 2 {gracePeriodSeconds: 1}
        put(&mut raw, 2, &[0x08, 0x03]);
        let read = to_json(&wrapped("policy/v1", "Eviction", &raw)).expect("well formed");
        assert_eq!(read["deleteOptions"], json!({"gracePeriodSeconds": 3}));
        let options = to_json(&wrapped("v1", "DeleteOptions", &[0x08, 0x00])).expect("well formed");
        assert_eq!(options["gracePeriodSeconds"], 0);
    }

    #[test]
    fn what_is_no_message_is_a_bad_request() {
        assert_eq!(to_json(b"{}").expect_err("JSON").code, 400);
        assert_eq!(to_json(&wrapped("v1", "Nonsense", b"")).expect_err("no such kind").code, 400);
        assert_eq!(to_json(&wrapped("v1", "Pod", &[0x0a, 0x7f])).expect_err("cut off").code, 400);
    }
}
