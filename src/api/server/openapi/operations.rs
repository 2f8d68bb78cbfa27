//! Operations: what one method of one path takes and answers.

use serde_json::{Value, json};
use troupe_api::meta::GroupVersionKind;

/// The media types of patches of built-in kinds.
pub const PATCH_TYPES: &[&str] =
    &["application/apply-patch+yaml", "application/json-patch+json", "application/merge-patch+json", "application/strategic-merge-patch+json"];
/// Those of custom resources, which cannot be merged strategically: clients choose how they patch by this list.
pub const CUSTOM_PATCH_TYPES: &[&str] = &["application/apply-patch+yaml", "application/json-patch+json", "application/merge-patch+json"];

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
    /// The media types of the body, if the operation patches.
    pub patch_types: &'static [&'static str],
    /// The reference of the body; `None` where there is none.
    pub body: Option<String>,
    /// That of the reply; `None` where it is no object, but text or what a connection carries.
    pub reply: Option<String>,
}

impl Operation<'_> {
    /// The operation in OpenAPI's form.
    pub fn build(self) -> Value {
        let ok = |description: &str| match &self.reply {
            Some(reply) => json!({"description": description, "content": {
                "application/json": {"schema": {"$ref": reply}},
                "application/yaml": {"schema": {"$ref": reply}},
            }}),
            None => {
                let media_type = if self.action == Action::Connect { "*/*" } else { "text/plain" };
                json!({"description": description, "content": {media_type: {"schema": {"type": "string"}}}})
            }
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
            let types: &[&str] = if self.action == Action::Patch { self.patch_types } else { &["*/*"] };
            let content: serde_json::Map<_, _> = types.iter().map(|media| ((*media).to_owned(), schema.clone())).collect();
            let required = !matches!(self.action, Action::Delete | Action::DeleteCollection);
            operation["requestBody"] = if required { json!({"content": content, "required": true}) } else { json!({"content": content}) };
        }
        operation
    }
}
