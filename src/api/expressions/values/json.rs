//! From documents to values, as their declarations say (`k8s.io/apiserver/pkg/cel/common/valuesunstructured.go`).

use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::{Number, Value};

use super::{List, Map, Val, shown, times};
use crate::expressions::{
    meter::{Fault, Meter},
    types::{Declaration, Identity, Shape, Type},
};

static ANY: std::sync::LazyLock<Declaration> = std::sync::LazyLock::new(Declaration::any);

/// The value of what stands in a document where `of` was declared.
///
/// # Errors
/// Something else stands there.
pub fn from_json<'a>(value: &'a Value, of: &'a Declaration) -> Result<Val<'a>, Fault> {
    match (&of.shape, value) {
        (Shape::Any, value) => Ok(any(value)),
        (_, Value::Null) if of.nullable => Ok(Val::Null),
        (_, Value::Null) => Err(Fault::error("invalid data, got null for schema with nullable=false")),
        (Shape::IntOrString, Value::String(text)) => Ok(Val::borrowed(text)),
        (Shape::IntOrString, Value::Number(number)) if number.is_i64() => Ok(Val::Int(number.as_i64().unwrap_or_default())),
        (Shape::IntOrString, _) => Err(Fault::error("invalid data, expected XIntOrString value to be either a string or integer")),
        (Shape::List { items, identity }, Value::Array(entries)) => Ok(Val::List(List::Document { entries, of: items, identity })),
        (Shape::List { .. }, _) => Err(Fault::error("invalid data, expected an array for the provided schema with type=array")),
        (Shape::Map { values }, Value::Object(entries)) => Ok(Val::Map(Map::Document { entries, of: values })),
        (Shape::Map { .. }, _) => Err(Fault::error("invalid data, expected a map for the provided schema with type=object")),
        (Shape::Plain, value) => plain(value, &of.ty),
    }
}

/// The value of a whole document, which is an object, where `of` was declared.
///
/// # Errors
/// Something else was declared.
pub fn object_from_json<'a>(entries: &'a serde_json::Map<String, Value>, of: &'a Declaration) -> Result<Val<'a>, Fault> {
    match (&of.ty, &of.shape) {
        (Type::Object(of), _) => Ok(Val::Map(Map::Object { entries, of })),
        (_, Shape::Map { values }) => Ok(Val::Map(Map::Document { entries, of: values })),
        (_, Shape::Any) => Ok(Val::Map(Map::Document { entries, of: &ANY })),
        (ty, _) => Err(Fault::error(format!("invalid data, expected {ty}, got map[string]interface {{}}"))),
    }
}

fn plain<'a>(value: &'a Value, ty: &'a Type) -> Result<Val<'a>, Fault> {
    match (ty, value) {
        (Type::Object(of), Value::Object(entries)) => Ok(Val::Map(Map::Object { entries, of })),
        (Type::Object(_), _) => Err(Fault::error("invalid data, expected a map for the provided schema with type=object")),
        (Type::Bool, Value::Bool(value)) => Ok(Val::Bool(*value)),
        (Type::Int, Value::Number(number)) => number.as_i64().map(Val::Int).ok_or_else(|| odd("int", value)),
        (Type::Double, Value::Number(number)) => number.as_f64().map(Val::Double).ok_or_else(|| odd("float", value)),
        (Type::String, Value::String(text)) => Ok(Val::borrowed(text)),
        (Type::Duration, Value::String(text)) => {
            times::schema_duration(text).map(Val::Duration).map_err(|why| Fault::error(format!("Invalid duration {text}: {why}")))
        }
        (Type::Timestamp, Value::String(text)) => {
            times::schema_time(text).map(Val::Timestamp).map_err(|why| Fault::error(format!("Invalid date-time formatted string {text}: {why}")))
        }
        (Type::Bytes, Value::String(text)) => {
            let decoded = STANDARD.decode(text.replace(['\r', '\n'], ""));
            decoded.map(|bytes| Val::Bytes(bytes.into())).map_err(|why| Fault::error(format!("Invalid byte formatted string {text}: {why}")))
        }
        (ty, value) => Err(odd(&ty.to_string(), value)),
    }
}

fn odd(wanted: &str, value: &Value) -> Fault {
    let found = match value {
        Value::Null => "<nil>",
        Value::Bool(_) => "bool",
        Value::Number(number) if number.is_f64() => "float64",
        Value::Number(_) => "int64",
        Value::String(_) => "string",
        Value::Array(_) => "[]interface {}",
        Value::Object(_) => "map[string]interface {}",
    };
    Fault::error(format!("invalid data, expected {wanted}, got {found}"))
}

/// The JSON of a value, as patches have it.
///
/// # Errors
/// JSON has no such value, or the meter's limit is reached.
pub fn to_json(value: &Val<'_>, meter: &mut Meter) -> Result<Value, Fault> {
    meter.allocate(64 + value.bytes())?;
    Ok(match value {
        Val::Null => Value::Null,
        Val::Bool(value) => Value::Bool(*value),
        Val::Int(value) => Value::from(*value),
        Val::Uint(value) => Value::from(*value),
        Val::Double(value) => Number::from_f64(*value).map(Value::Number).ok_or_else(|| Fault::error("unsupported value: NaN or Inf"))?,
        Val::String(text) => Value::from(&**text),
        Val::Bytes(bytes) => Value::from(STANDARD.encode(bytes)),
        Val::Duration(nanoseconds) => Value::from(times::seconds(*nanoseconds)),
        Val::Timestamp(time) => Value::from(times::shown(*time)),
        Val::List(list) => list.iter().map(|entry| to_json(&entry?, meter)).collect::<Result<_, _>>()?,
        Val::Map(map) => {
            let mut fields = serde_json::Map::new();
            for (key, value) in map.entries()? {
                let Val::String(key) = key else {
                    return Err(Fault::error(format!("map key {:?} is of type {}, not string", shown(&key), key.type_name())));
                };
                fields.insert(key.to_string(), to_json(&value, meter)?);
            }
            Value::Object(fields)
        }
        other => return Err(Fault::error(format!("unsupported type {}", other.type_name()))),
    })
}

/// A value of which nothing was declared.
fn any(value: &Value) -> Val<'_> {
    match value {
        Value::Null => Val::Null,
        Value::Bool(value) => Val::Bool(*value),
        Value::Number(number) => of_number(number),
        Value::String(text) => Val::borrowed(text),
        Value::Array(entries) => Val::List(List::Document { entries, of: &ANY, identity: &Identity::Place }),
        Value::Object(entries) => Val::Map(Map::Document { entries, of: &ANY }),
    }
}

fn of_number(number: &Number) -> Val<'static> {
    match (number.as_i64(), number.as_u64()) {
        (Some(value), _) => Val::Int(value),
        (_, Some(value)) => Val::Uint(value),
        _ => Val::Double(number.as_f64().unwrap_or_default()),
    }
}
