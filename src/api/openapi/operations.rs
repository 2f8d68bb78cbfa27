//! Operations: what one method of one path takes and answers.

use serde_json::{Value, json};

use crate::meta::GroupVersionKind;

/// The media types of PATCH bodies, the one that not all kinds take last.
const PATCH_TYPES: [&str; 4] =
    ["application/apply-patch+yaml", "application/json-patch+json", "application/merge-patch+json", "application/strategic-merge-patch+json"];

/// What the operation does to its kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    Get,
    List,
    Post,
    Put,
    Patch,
    Delete,
    DeleteCollection,
    Connect,
}

impl Action {
    /// `x-kubernetes-action`.
    fn name(self) -> &'static str {
        match self {
            Action::Get => "get",
            Action::List => "list",
            Action::Post => "post",
            Action::Put => "put",
            Action::Patch => "patch",
            Action::Delete => "delete",
            Action::DeleteCollection => "deletecollection",
            Action::Connect => "connect",
        }
    }
}

/// The parts of an operation.
pub struct Operation<'a> {
    pub action: Action,
    pub id: String,
    pub description: String,
    pub tag: &'a str,
    pub kind: &'a GroupVersionKind,
    pub parameters: Vec<Value>,
    /// References of the body and the reply; `None` where there is none or it is no object.
    pub body: Option<String>,
    pub reply: Option<String>,
    /// Whether strategic merge patches are taken; of custom resources nobody knows how their lists merge.
    pub merges_strategically: bool,
}

impl Operation<'_> {
    /// The operation in OpenAPI's form.
    pub fn build(self) -> Value {
        let ok = |description: &str| match &self.reply {
            Some(reply) => json!({"description": description, "content": {
                "application/json": {"schema": {"$ref": reply}},
                "application/yaml": {"schema": {"$ref": reply}},
            }}),
            None => json!({"description": description, "content": {"*/*": {"schema": {"type": "string"}}}}),
        };
        let mut responses = json!({"200": ok("OK"), "401": {"description": "Unauthorized"}});
        if matches!(self.action, Action::Post | Action::Put | Action::Patch) {
            responses["201"] = ok("Created");
        }
        if matches!(self.action, Action::Post | Action::Delete) {
            responses["202"] = ok("Accepted");
        }
        let mut operation = json!({
            "operationId": self.id, "description": self.description, "tags": [self.tag], "responses": responses,
            "x-kubernetes-action": self.action.name(),
            "x-kubernetes-group-version-kind": {"group": &*self.kind.group, "version": &*self.kind.version, "kind": &*self.kind.kind},
        });
        if !self.parameters.is_empty() {
            operation["parameters"] = self.parameters.into();
        }
        if let Some(body) = self.body {
            let schema = json!({"schema": {"$ref": body}});
            let types: &[&str] = match (self.action, self.merges_strategically) {
                (Action::Patch, true) => &PATCH_TYPES,
                (Action::Patch, false) => &PATCH_TYPES[..PATCH_TYPES.len() - 1],
                _ => &["*/*"],
            };
            let content: serde_json::Map<_, _> = types.iter().map(|media| ((*media).to_owned(), schema.clone())).collect();
            let required = !matches!(self.action, Action::Delete | Action::DeleteCollection);
            operation["requestBody"] = if required { json!({"content": content, "required": true}) } else { json!({"content": content}) };
        }
        operation
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_learn_who_takes_strategic_merge_patches() {
        let types = |merges_strategically| {
            let kind = GroupVersionKind::new("example.com", "v1", "Widget");
            let (body, reply) = (Some("#/body".to_owned()), Some("#/reply".to_owned()));
            let (id, description) = (String::new(), String::new());
            let operation =
                Operation { action: Action::Patch, id, description, tag: "", kind: &kind, parameters: Vec::new(), body, reply, merges_strategically };
            operation.build()["requestBody"]["content"].as_object().expect("a map").keys().cloned().collect::<Vec<_>>()
        };
        assert_eq!(types(true), PATCH_TYPES);
        assert_eq!(types(false), PATCH_TYPES[..3]);
    }
}
