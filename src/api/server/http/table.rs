//! The Table form: columns and rows as the resource's strategy prints them.

use std::sync::Arc;

use serde::Serialize;
use troupe_api::{
    meta::Clock,
    resources::{Column, ColumnType, Resource, Served, Strategy, resource::Plain, scale_columns::ScaleColumns},
    service::Target,
    status::Status,
    stored::StoredObject,
};

use super::query::Query;
use crate::render::{FullForm, write_partial};

/// How much of the object comes with a row (`includeObject`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum IncludeObject {
    None,
    Metadata,
    Object,
}

/// Who prints the cells.
#[derive(Clone)]
enum Printer {
    /// The strategy of the version that the client speaks.
    Served(Arc<Served>),
    /// Name and age, for objects of another kind.
    Plain,
    /// Replicas of a `Scale`.
    Scale(ScaleColumns),
}

impl Printer {
    fn strategy(&self) -> &dyn Strategy {
        match self {
            Printer::Served(served) => &*served.strategy,
            Printer::Plain => &Plain,
            Printer::Scale(columns) => columns,
        }
    }
}

/// Makes tables of one target.
#[derive(Clone)]
pub struct TableForm {
    printer: Printer,
    full: FullForm,
    include: IncludeObject,
    api_version: &'static str,
    columns: Arc<str>,
    clock: Arc<dyn Clock>,
}

impl TableForm {
    /// # Errors
    /// 400 for an unknown `includeObject`.
    pub fn new(target: &Target, query: &Query, api_version: &'static str, clock: Arc<dyn Clock>) -> Result<Self, Status> {
        let include = match query.text("includeObject") {
            None | Some("Metadata") => IncludeObject::Metadata,
            Some("None") => IncludeObject::None,
            Some("Object") => IncludeObject::Object,
            Some(other) => {
                return Err(Status::bad_request(format!(
                    "Unable to convert to Table as requested: includeObject: Invalid value: {other:?}: must be 'Metadata', 'Object', 'None', or empty"
                )));
            }
        };
        let printer = Printer::Served(target.served().clone());
        let columns = columns_of(&printer);
        Ok(TableForm { printer, full: FullForm::new(target), include, api_version, columns, clock })
    }

    /// The same for objects of another kind than the target's.
    pub fn of_another_kind(mut self, kind: &str, resource: &Resource) -> Self {
        self.printer = match kind {
            "Scale" if resource.is_custom() => Printer::Scale(ScaleColumns::Custom),
            "Scale" => Printer::Scale(ScaleColumns::Builtin),
            _ => Printer::Plain,
        };
        self.columns = columns_of(&self.printer);
        self
    }

    /// The same for the end of a watch's initial events, whose annotation comes along whatever `includeObject` says.
    pub fn of_initial_end(&self) -> Self {
        let include = if self.include == IncludeObject::None { IncludeObject::Metadata } else { self.include };
        TableForm { include, ..self.clone() }
    }

    /// All of a table before its first row. `metadata` is JSON; `headers` tells whether columns are described.
    pub fn write_head(&self, metadata: &str, headers: bool, out: &mut Vec<u8>) {
        let columns = if headers { &*self.columns } else { "null" };
        let api_version = self.api_version;
        out.extend_from_slice(
            format!("{{\"kind\":\"Table\",\"apiVersion\":\"{api_version}\",\"metadata\":{metadata},\"columnDefinitions\":{columns},\"rows\":[")
                .as_bytes(),
        );
    }

    /// One row.
    pub fn write_row(&self, object: &StoredObject, out: &mut Vec<u8>) {
        let cells = self.printer.strategy().cells(&object.to_object(), &*self.clock);
        out.extend_from_slice(b"{\"cells\":");
        serde_json::to_writer(&mut *out, &cells).expect("a tree always encodes");
        out.extend_from_slice(b",\"object\":");
        match self.include {
            IncludeObject::None => out.extend_from_slice(b"null"),
            IncludeObject::Metadata => write_partial(object, self.api_version, out),
            IncludeObject::Object => self.full.write(object, out),
        }
        out.push(b'}');
    }

    /// A table of one object: a GET, or an event of a watch.
    pub fn write_single(&self, object: &StoredObject, headers: bool, out: &mut Vec<u8>) {
        self.write_head(&format!("{{\"resourceVersion\":\"{}\"}}", object.revision), headers, out);
        self.write_row(object, out);
        out.extend_from_slice(TAIL);
    }
}

/// All of a table after its last row.
pub const TAIL: &[u8] = b"]}";

/// `metav1.TableColumnDefinition`, in upstream's order.
#[derive(Serialize)]
struct ColumnDefinition<'a> {
    name: &'a str,
    #[serde(rename = "type")]
    kind: &'static str,
    format: &'a str,
    description: &'a str,
    priority: i32,
}

fn columns_of(printer: &Printer) -> Arc<str> {
    let columns = printer.strategy().columns();
    let definitions: Vec<ColumnDefinition<'_>> = columns.iter().map(definition).collect();
    serde_json::to_string(&definitions).expect("texts and numbers always encode").into()
}

fn definition(column: &Column) -> ColumnDefinition<'_> {
    let kind = match column.kind {
        ColumnType::String => "string",
        ColumnType::Integer => "integer",
        ColumnType::Number => "number",
        ColumnType::Boolean => "boolean",
        ColumnType::Date => "date",
    };
    ColumnDefinition { name: &column.name, kind, format: &column.format, description: &column.description, priority: column.priority }
}
