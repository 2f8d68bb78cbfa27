//! Tests by table.
