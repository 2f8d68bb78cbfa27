//! The places of `JSONSchemaProps` where JSON has one of two types without a tag and protobuf a message of both.

use std::sync::Arc;

use serde_json::{Map, Value};

use crate::{
    meta::limits::{self, Meter},
    schema::{Field, Schemas, Struct},
    wire::{Malformed, Reader, put_bytes, put_message, put_number},
};

/// Schemas themselves.
const PROPS: &str = "apiextensions-apiserver.pkg.apis.apiextensions.v1.JSONSchemaProps";

/// Reads the fields of a message into an object.
pub type ReadStruct = fn(&[u8], &Struct, &[u32], &mut Meter, &mut Map<String, Value>) -> Result<(), Malformed>;
/// Appends the fields of an object as a message.
pub type PutStruct = fn(&Struct, &Map<String, Value>, &mut Vec<u8>);

fn props() -> Option<Arc<Struct>> {
    Schemas::builtin().definition(PROPS)
}

/// The unions, with the numbers of their fields.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(clippy::enum_variant_names, reason = "each is a schema or something else")]
pub enum Union {
    /// A schema (1), or a list of them (2).
    SchemaOrArray,
    /// A flag (1), and maybe a schema (2).
    SchemaOrBool,
    /// A schema (1), or names of properties (2).
    SchemaOrStrings,
}

impl Union {
    /// The union at a field.
    pub fn of(definition: &Struct, field: &Field) -> Option<Union> {
        if &*definition.full_name != PROPS {
            return None;
        }
        match &*field.name {
            "items" => Some(Union::SchemaOrArray),
            "additionalItems" | "additionalProperties" => Some(Union::SchemaOrBool),
            "dependencies" => Some(Union::SchemaOrStrings),
            _ => None,
        }
    }

    /// Reads the message of a union; `read` reads that of a struct into its fields.
    pub fn read(self, bytes: &[u8], meter: &mut Meter, read: ReadStruct) -> Result<Value, Malformed> {
        let read_schema = |bytes: &[u8], meter: &mut Meter| {
            let (definition, mut schema) = (props().ok_or(Malformed)?, Map::new());
            read(bytes, &definition, &[], meter, &mut schema)?;
            Ok::<Value, Malformed>(schema.into())
        };
        let (mut reader, mut schema, mut items, mut flag) = (Reader(bytes), None, Vec::new(), false);
        while let Some((number, wire)) = reader.field()? {
            match (self, number) {
                (Union::SchemaOrArray | Union::SchemaOrStrings, 1) | (Union::SchemaOrBool, 2) => schema = Some(read_schema(wire.bytes()?, meter)?),
                (Union::SchemaOrArray, 2) => {
                    meter.charge(limits::ITEM + limits::OBJECT)?;
                    items.push(read_schema(wire.bytes()?, meter)?);
                }
                (Union::SchemaOrStrings, 2) => {
                    meter.charge(limits::ITEM)?;
                    items.push(wire.text()?.into());
                }
                (Union::SchemaOrBool, 1) => flag = wire.number()? != 0,
                _ => {}
            }
        }
        Ok(match (schema, self) {
            (Some(schema), _) => schema,
            (None, Union::SchemaOrBool) => flag.into(),
            (None, _) => items.into(),
        })
    }

    /// Appends the message of a union, without tag and length; `put` appends that of a struct.
    pub fn write(self, value: &Value, out: &mut Vec<u8>, put: PutStruct) {
        let put_schema = |number: u32, schema: &Map<String, Value>, out: &mut Vec<u8>| {
            if let Some(definition) = props() {
                put_message(number, out, |out| put(&definition, schema, out));
            }
        };
        match (self, value) {
            (Union::SchemaOrArray | Union::SchemaOrStrings, Value::Object(schema)) => put_schema(1, schema, out),
            (Union::SchemaOrArray, Value::Array(schemas)) => {
                schemas.iter().filter_map(Value::as_object).for_each(|schema| put_schema(2, schema, out))
            }
            (Union::SchemaOrStrings, Value::Array(names)) => {
                names.iter().filter_map(Value::as_str).for_each(|name| put_bytes(2, name.as_bytes(), out));
            }
            (Union::SchemaOrBool, Value::Bool(flag)) => put_number(1, u64::from(*flag), out),
            (Union::SchemaOrBool, Value::Object(schema)) => {
                put_number(1, 1, out);
                put_schema(2, schema, out);
            }
            _ => {}
        }
    }
}
