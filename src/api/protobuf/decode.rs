//! Protobuf messages as JSON trees. What is absent in Go's JSON is left out here too.

use base64::{Engine, prelude::BASE64_STANDARD};
use jiff::civil::DateTime;
use serde_json::{Map, Value, json};

use super::{MAGIC, union::Union};
use crate::{
    meta::{
        GroupVersion, GroupVersionKind,
        limits::{self, Excess, Meter},
        rfc3339::{of_unix, written_micro_time, written_time},
    },
    schema::{Field, Kind, Node, Schemas, Struct, decode::parse_json},
    status::Status,
    wire::{Malformed, Reader, Wire},
};

/// The object in a protobuf body, as JSON with kind and apiVersion.
///
/// # Errors
/// 400 when the body is malformed, nested too deeply or of no kind that we know, 413 when it holds too much for its size.
pub fn to_json(body: &[u8]) -> Result<Value, Status> {
    let mut meter = Meter::new(body.len());
    read(body, &mut meter).map_err(|status| match meter.exceeded() {
        Some(Excess::Cost) => Status::too_large(Excess::Cost),
        Some(excess) => Status::bad_request(format!("the protobuf message {excess}")),
        None => status,
    })
}

fn read(body: &[u8], meter: &mut Meter) -> Result<Value, Status> {
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
    message(raw, &root, &[], meter, &mut object).map_err(malformed)?;
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
pub fn message(bytes: &[u8], definition: &Struct, prefix: &[u32], meter: &mut Meter, out: &mut Map<String, Value>) -> Result<(), Malformed> {
    meter.open()?;
    let mut reader = Reader(bytes);
    let mut path = prefix.to_vec();
    while let Some((number, wire)) = reader.field()? {
        path.push(number);
        let mut fields = definition.wire_order().iter().map(|at| &definition.fields()[*at]);
        if let Some(field) = fields.clone().find(|field| field.numbers == path) {
            read_field(definition, field, &wire, meter, out)?;
        } else if fields.any(|field| field.numbers.len() > path.len() && field.numbers.starts_with(&path)) {
            message(wire.bytes()?, definition, &path, meter, out)?;
        }
        path.pop();
    }
    meter.close();
    Ok(())
}

fn read_field(definition: &Struct, field: &Field, wire: &Wire<'_>, meter: &mut Meter, out: &mut Map<String, Value>) -> Result<(), Malformed> {
    let slot = &*field.name;
    let union = Union::of(definition, field);
    match &field.node.kind {
        Kind::List(item) => {
            if !out.contains_key(slot) {
                meter.charge(field_cost(out.len(), slot))?;
                out.insert(slot.to_owned(), json!([]));
            }
            let items = out.get_mut(slot).and_then(Value::as_array_mut).ok_or(Malformed)?;
            meter.open()?;
            push_items(item, wire, meter, items)?;
            meter.close();
        }
        Kind::Map(item) => {
            if !out.contains_key(slot) {
                meter.charge(field_cost(out.len(), slot))?;
                out.insert(slot.to_owned(), json!({}));
            }
            let map = out.get_mut(slot).and_then(Value::as_object_mut).ok_or(Malformed)?;
            meter.open()?;
            let (key, entry) = map_entry(item, union, wire, meter)?;
            meter.charge(field_cost(map.len(), &key))?;
            map.insert(key, entry);
            meter.close();
        }
        _ => {
            let Some(read) = value(&field.node, union, wire, meter)? else { return Ok(()) };
            if !(field.omit_empty && !field.pointer && is_zero(&read)) {
                meter.charge(field_cost(out.len(), slot))?;
                out.insert(slot.to_owned(), read);
            }
        }
    }
    Ok(())
}

/// Appends what one field holds of a list: an item, or packed numbers.
fn push_items(item: &Node, wire: &Wire<'_>, meter: &mut Meter, items: &mut Vec<Value>) -> Result<(), Malformed> {
    if let (Kind::Int32 | Kind::Int64 | Kind::Bool, Wire::Bytes(packed)) = (&item.kind, wire) {
        let mut reader = Reader(packed);
        while !reader.0.is_empty() {
            let number = Wire::Number(reader.varint()?);
            push_item(value(item, None, &number, meter)?, meter, items)?;
        }
        return Ok(());
    }
    push_item(value(item, None, wire, meter)?, meter, items)
}

fn push_item(item: Option<Value>, meter: &mut Meter, items: &mut Vec<Value>) -> Result<(), Malformed> {
    let item = item.unwrap_or(Value::Null);
    // Defaults may fill an empty object.
    let filled = item.as_object().is_some_and(Map::is_empty);
    meter.charge(limits::ITEM + if filled { limits::OBJECT } else { 0 })?;
    items.push(item);
    Ok(())
}

/// What a field costs in an object that has `before` fields already.
fn field_cost(before: usize, name: &str) -> usize {
    let slot = if before == 0 { limits::OBJECT } else { limits::FIELD };
    slot + limits::TEXT + name.len()
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

fn map_entry(item: &Node, union: Option<Union>, wire: &Wire<'_>, meter: &mut Meter) -> Result<(String, Value), Malformed> {
    let mut reader = Reader(wire.bytes()?);
    let (mut key, mut entry) = (String::new(), None);
    while let Some((number, wire)) = reader.field()? {
        match number {
            1 => key = wire.text()?.to_owned(),
            2 => entry = value(item, union, &wire, meter)?,
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
fn value(node: &Node, union: Option<Union>, wire: &Wire<'_>, meter: &mut Meter) -> Result<Option<Value>, Malformed> {
    if let Wire::Bytes(bytes) = wire
        && !matches!(node.kind, Kind::Struct(_) | Kind::List(_))
    {
        // Base64 is a third longer.
        meter.charge(limits::TEXT + bytes.len() + bytes.len() / 3)?;
    }
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
        Kind::Time => return time(wire.bytes()?, written_time),
        Kind::MicroTime => return time(wire.bytes()?, written_micro_time),
        Kind::Duration => match first(wire.bytes()?)? {
            Some(nanos) => format!("{}ns", nanos.number()?.cast_signed()).into(),
            None => "0s".into(),
        },
        Kind::Any => return any(union, wire.bytes()?, meter),
        Kind::Struct(definition) => {
            let mut object = Map::new();
            message(wire.bytes()?, definition.get(), &[], meter, &mut object)?;
            object.into()
        }
        // A list in a map (`userInfo.extra`) is wrapped in a message.
        Kind::List(item) => {
            let (mut reader, mut items) = (Reader(wire.bytes()?), Vec::new());
            meter.open()?;
            while let Some((_, wire)) = reader.field()? {
                push_item(value(item, None, &wire, meter)?, meter, &mut items)?;
            }
            meter.close();
            items.into()
        }
        Kind::Map(_) => return Err(Malformed),
    };
    Ok(Some(read))
}

/// JSON in a message of its own, or one of the unions.
fn any(union: Option<Union>, bytes: &[u8], meter: &mut Meter) -> Result<Option<Value>, Malformed> {
    if let Some(union) = union {
        return union.read(bytes, meter, message).map(Some);
    }
    match first(bytes)? {
        Some(raw) => parse_json(raw.bytes()?, meter).map(|raw| Some(raw.into_value())).map_err(|_| Malformed),
        None => Ok(None),
    }
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

fn time(bytes: &[u8], format: fn(DateTime) -> String) -> Result<Option<Value>, Malformed> {
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
    let Some(time) = of_unix(seconds, nanos) else { return Ok(None) };
    Ok((seconds > ZERO_TIME).then(|| format(time).into()))
}

/// Go's zero time, in Unix seconds.
const ZERO_TIME: i64 = -62_135_596_800;
