//! Pod templates as objects of their own.

use serde_json::Value;

use super::pod_spec::default_template;
use crate::{
    meta::{Clock, Object},
    resources::{
        Column, Strategy,
        printing::{container_cells, labels_or_none, name, string},
        tree::at,
        validation::workload,
    },
    status::FieldError,
};

/// The rules of pod templates.
#[derive(Default)]
pub struct PodTemplate;

impl Strategy for PodTemplate {
    fn default_object(&self, object: &mut Object) {
        default_template(object, &["template"]);
    }

    fn validate_create(&self, object: &Object) -> Vec<FieldError> {
        let mut errors = Vec::new();
        workload::pod_template(&mut errors, object.get(&["template"]).unwrap_or(&Value::Null), "template");
        errors
    }

    fn columns(&self) -> Vec<Column> {
        vec![
            name(),
            string("Containers", "Names of each container in the template."),
            string("Images", "Images referenced by each container in the template."),
            string("Pod Labels", "The labels for the pod template."),
        ]
    }

    fn cells(&self, object: &Object, _clock: &dyn Clock) -> Vec<Value> {
        let template = object.get(&["template"]).unwrap_or(&Value::Null);
        let [containers, images] = container_cells(at(template, &["spec"]));
        vec![object.name().into(), containers, images, labels_or_none(at(template, &["metadata", "labels"])).into()]
    }
}
