//! Columns of the Table form.

use std::sync::Arc;

/// OpenAPI type and format of a printer column.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ColumnType {
    String,
    Integer,
    Number,
    Boolean,
    /// An age in seconds since a `metav1.Time`, printed by the server as upstream does.
    Date,
}

/// A column of the Table form (`metav1.TableColumnDefinition`).
#[derive(Clone, Debug)]
pub struct Column {
    pub name: Arc<str>,
    pub kind: ColumnType,
    /// `name` for the Name column, else usually empty.
    pub format: Arc<str>,
    pub description: Arc<str>,
    /// 0 shows always, 1 only with `-o wide`.
    pub priority: i32,
}
