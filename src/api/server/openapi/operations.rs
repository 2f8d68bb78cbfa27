//! Operations: what one method of one path takes and answers.

use serde_json::{Map, Value, json};

use troupe_api::meta::GroupVersionKind;

/// What objects are encoded as.
pub const OBJECT_TYPES: &[&str] = &[JSON, YAML, PROTOBUF];
/// What lists are encoded as, and watches, which the same path answers.
pub const LIST_TYPES: &[&str] = &[JSON, YAML, PROTOBUF, "application/json;stream=watch", "application/vnd.kubernetes.protobuf;stream=watch"];
/// What custom resources are said to be encoded as.
pub const CUSTOM_TYPES: &[&str] = &[JSON, YAML];
/// What logs come as.
pub const LOG_TYPES: &[&str] = &["text/plain", JSON, YAML, PROTOBUF];
/// Any media type.
pub const ANY_TYPE: &[&str] = &["*/*"];
/// The media types of patches of built-in kinds.
pub const PATCH_TYPES: &[&str] =
    &["application/json-patch+json", "application/merge-patch+json", "application/strategic-merge-patch+json", "application/apply-patch+yaml"];
/// Those of custom resources, which cannot be merged strategically: clients choose how they patch by this list.
pub const CUSTOM_PATCH_TYPES: &[&str] = &["application/json-patch+json", "application/merge-patch+json", "application/apply-patch+yaml"];

pub const JSON: &str = "application/json";
const YAML: &str = "application/yaml";
pub const PROTOBUF: &str = "application/vnd.kubernetes.protobuf";

/// A reply's code with what it means.
type Reply = (&'static str, &'static str);

const OK: Reply = ("200", "OK");
const CREATED: Reply = ("201", "Created");
const ACCEPTED: Reply = ("202", "Accepted");
const UNAUTHORIZED: Reply = ("401", "Unauthorized");

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
    /// Of one object, by the deprecated path.
    Watch,
    /// Of a list, likewise.
    WatchList,
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
            Action::Watch => "watch",
            Action::WatchList => "watchlist",
        }
    }

    /// Upstream says of patches that they make objects where the kind is built in, although server-side apply makes those of all kinds.
    fn replies(self, is_custom: bool) -> &'static [Reply] {
        match self {
            Action::Post => &[OK, CREATED, ACCEPTED],
            Action::Patch if is_custom => &[OK],
            Action::Put | Action::Patch => &[OK, CREATED],
            Action::Delete => &[OK, ACCEPTED],
            _ => &[OK],
        }
    }
}

/// The parts of an operation on objects.
pub struct Operation<'a> {
    pub action: Action,
    pub id: String,
    pub description: String,
    pub tag: &'a str,
    pub kind: &'a GroupVersionKind,
    pub is_custom: bool,
    /// Of path and query.
    pub parameters: Vec<Value>,
    /// The media types of the body.
    pub consumes: &'static [&'static str],
    /// The reference of the body; `None` where there is none.
    pub body: Option<String>,
    /// The media types of replies.
    pub produces: &'static [&'static str],
    /// The reference of the reply; `None` where it is no object, but text or what a connection carries.
    pub reply: Option<String>,
}

impl Operation<'_> {
    /// Whether a parameter of its name stands in the same place.
    pub fn takes(&self, parameter: &Value) -> bool {
        self.parameters.iter().any(|own| is_same(own, parameter))
    }

    /// The operation in OpenAPI's form.
    pub fn build(mut self) -> Value {
        let schema = self.reply.as_ref().map_or_else(|| json!({"type": "string"}), |reply| json!({"$ref": reply}));
        let mut responses: Map<String, Value> = self
            .action
            .replies(self.is_custom)
            .iter()
            .map(|(code, meaning)| ((*code).to_owned(), json!({"description": meaning, "content": content(self.produces, &schema)})))
            .collect();
        responses.insert(UNAUTHORIZED.0.to_owned(), json!({"description": UNAUTHORIZED.1}));
        let mut operation = json!({
            "operationId": self.id, "description": self.description, "tags": [self.tag], "responses": responses,
            "x-kubernetes-action": self.action.name(),
            "x-kubernetes-group-version-kind": {"group": &*self.kind.group, "version": &*self.kind.version, "kind": &*self.kind.kind},
        });
        if !self.parameters.is_empty() {
            sort(&mut self.parameters);
            operation["parameters"] = self.parameters.into();
        }
        if let Some(body) = self.body {
            let content = content(self.consumes, &json!({"$ref": body}));
            let required = !matches!(self.action, Action::Delete | Action::DeleteCollection);
            operation["requestBody"] = if required { json!({"content": content, "required": true}) } else { json!({"content": content}) };
        }
        operation
    }
}

/// A `get` of a document that is about no object.
pub fn of_document(id: &str, description: &str, tag: &str, media_types: &[&str], schema: &Value) -> Value {
    let responses = json!({
        OK.0: {"description": OK.1, "content": content(media_types, schema)},
        UNAUTHORIZED.0: {"description": UNAUTHORIZED.1},
    });
    json!({"operationId": id, "description": description, "tags": [tag], "responses": responses})
}

fn content(media_types: &[&str], schema: &Value) -> Map<String, Value> {
    media_types.iter().map(|media_type| ((*media_type).to_owned(), json!({"schema": schema}))).collect()
}

/// Whether two parameters have the same name and place.
pub fn is_same(one: &Value, other: &Value) -> bool {
    one["name"] == other["name"] && one["in"] == other["in"]
}

/// Orders parameters by name, then by place.
pub fn sort(parameters: &mut [Value]) {
    fn place(parameter: &Value) -> (&str, &str) {
        let text = |field: &str| parameter[field].as_str().unwrap_or_default();
        (text("name"), text("in"))
    }
    parameters.sort_by(|one, other| place(one).cmp(&place(other)));
}
