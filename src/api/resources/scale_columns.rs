//! The columns of a `Scale`: upstream's `printScale`, and for scales of custom resources its `getScaleColumnsForVersion`.

use serde_json::Value;

use super::{
    column::{Column, ColumnType},
    printing::{age, integer, name, string},
    strategy::{Strategy, age_of},
};
use crate::meta::{Clock, Object};

/// Prints scales.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ScaleColumns {
    /// Of built-in workloads.
    Builtin,
    /// Of custom resources: what the scale does not say is empty, and the age is a date.
    Custom,
}

impl Strategy for ScaleColumns {
    fn columns(&self) -> Vec<Column> {
        let desired = integer("Desired", "How many instances are wanted.");
        let available = integer("Available", "How many instances were observed.");
        match self {
            ScaleColumns::Builtin => vec![string("Name", "Name must be unique within a namespace."), desired, available, age()],
            ScaleColumns::Custom => vec![name(), desired, available, Column { kind: ColumnType::Date, ..age() }],
        }
    }

    fn cells(&self, object: &Object, clock: &dyn Clock) -> Vec<Value> {
        let count = |part: &str| match (self, object.int(&[part, "replicas"])) {
            (_, Some(replicas)) => Value::from(replicas),
            (ScaleColumns::Builtin, None) => Value::from(0),
            (ScaleColumns::Custom, None) => Value::Null,
        };
        vec![object.name().into(), count("spec"), count("status"), age_of(object, clock).into()]
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::meta::SystemClock;

    #[test]
    fn a_scale_to_zero_is_shown_as_upstream_shows_it() {
        let scale = json!({"kind": "Scale", "metadata": {"name": "web"}, "spec": {}, "status": {"replicas": 2}});
        let scale = Object::from_value(scale).expect("an object");
        let cells = |columns: ScaleColumns| columns.cells(&scale, &SystemClock);
        assert_eq!(cells(ScaleColumns::Builtin), [json!("web"), json!(0), json!(2), json!("<unknown>")]);
        assert_eq!(cells(ScaleColumns::Custom), [json!("web"), json!(null), json!(2), json!("<unknown>")]);
        let ends = |columns: ScaleColumns| {
            let columns = columns.columns();
            (columns[0].format.to_string(), columns[3].kind)
        };
        assert_eq!(ends(ScaleColumns::Builtin), (String::new(), ColumnType::String));
        assert_eq!(ends(ScaleColumns::Custom), ("name".to_owned(), ColumnType::Date));
    }
}
