//! `metav1.Status`: what a client sees when a call fails, with upstream's reasons, codes and messages.

use std::{borrow::Cow, fmt};

use serde::{Deserialize, Serialize};

use crate::meta::GroupResource;

/// Machine-readable failure reason (`metav1.StatusReason`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Reason {
    #[serde(rename = "")]
    Unknown,
    Unauthorized,
    Forbidden,
    NotFound,
    AlreadyExists,
    Conflict,
    Gone,
    Invalid,
    ServerTimeout,
    Timeout,
    TooManyRequests,
    BadRequest,
    MethodNotAllowed,
    NotAcceptable,
    RequestEntityTooLarge,
    UnsupportedMediaType,
    InternalError,
    /// What is stored cannot be read.
    StorageReadError,
    Expired,
    ServiceUnavailable,
}

/// One cause of a failure (`metav1.StatusCause`).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StatusCause {
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub reason: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub message: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub field: String,
}

/// What a failure is about (`metav1.StatusDetails`).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct StatusDetails {
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub name: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub group: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub kind: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub uid: String,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub causes: Vec<StatusCause>,
    #[serde(default, skip_serializing_if = "is_zero")]
    pub retry_after_seconds: u32,
}

fn is_zero(number: &u32) -> bool {
    *number == 0
}

/// A failed call. `code` is the HTTP status.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    pub code: u16,
    pub reason: Reason,
    pub message: String,
    pub details: Option<Box<StatusDetails>>,
    /// `metadata.continue`: the token with which an expired paged list may go on, inconsistently.
    pub continue_token: Option<Box<str>>,
    /// A reason that is none of upstream's, as webhooks give; told where `reason` is unknown.
    pub own_reason: Option<Box<str>>,
}

/// No more of a value is quoted where something is wrong with it: it may be as large as an object, and stands in a message and a cause.
const LONGEST_QUOTE: usize = 4 << 10;

/// A text as messages quote it: as it is, or how it begins.
pub fn quoted(text: &str) -> Cow<'_, str> {
    let end = text.floor_char_boundary(LONGEST_QUOTE);
    if end < text.len() { format!("{}...", &text[..end]).into() } else { text.into() }
}

/// A value as messages quote it.
fn quoted_value(value: serde_json::Value) -> String {
    match value {
        serde_json::Value::String(text) => serde_json::Value::from(quoted(&text)).to_string(),
        // Go writes a whole number without a fraction.
        serde_json::Value::Number(number) if number.is_f64() => number.as_f64().map_or_else(|| number.to_string(), |number| number.to_string()),
        other => quoted(&escaped(other.to_string())).into_owned(),
    }
}

/// JSON as Go writes it, fit for a page of HTML.
fn escaped(json: String) -> String {
    if !json.contains(['<', '>', '&', '\u{2028}', '\u{2029}']) {
        return json;
    }
    let mut out = String::with_capacity(json.len() + 16);
    for letter in json.chars() {
        match letter {
            '<' | '>' | '&' | '\u{2028}' | '\u{2029}' => out.push_str(&format!("\\u{:04x}", u32::from(letter))),
            letter => out.push(letter),
        }
    }
    out
}

/// One invalid field (`field.Error` of k8s.io/apimachinery).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldError {
    /// `FieldValueRequired`, `FieldValueInvalid`, …
    pub kind: FieldErrorKind,
    /// `spec.containers[0].name`
    pub field: String,
    /// The offending value as it reads in the message (JSON for strings: quoted), where the kind shows one.
    pub value: Option<String>,
    pub detail: String,
}

/// Kinds of field errors with upstream's wording.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FieldErrorKind {
    NotFound,
    Required,
    Duplicate,
    Invalid,
    NotSupported,
    Forbidden,
    TooLong,
    TooMany,
    Internal,
    TypeInvalid,
}

impl FieldErrorKind {
    fn words(self) -> (&'static str, &'static str) {
        match self {
            FieldErrorKind::NotFound => ("FieldValueNotFound", "Not found"),
            FieldErrorKind::Required => ("FieldValueRequired", "Required value"),
            FieldErrorKind::Duplicate => ("FieldValueDuplicate", "Duplicate value"),
            FieldErrorKind::Invalid => ("FieldValueInvalid", "Invalid value"),
            FieldErrorKind::NotSupported => ("FieldValueNotSupported", "Unsupported value"),
            FieldErrorKind::Forbidden => ("FieldValueForbidden", "Forbidden"),
            FieldErrorKind::TooLong => ("FieldValueTooLong", "Too long"),
            FieldErrorKind::TooMany => ("FieldValueTooMany", "Too many"),
            FieldErrorKind::Internal => ("InternalError", "Internal error"),
            FieldErrorKind::TypeInvalid => ("FieldValueTypeInvalid", "Invalid value"),
        }
    }
}

impl FieldError {
    pub fn required(field: impl Into<String>, detail: impl Into<String>) -> Self {
        FieldError { kind: FieldErrorKind::Required, field: field.into(), value: None, detail: detail.into() }
    }

    pub fn forbidden(field: impl Into<String>, detail: impl Into<String>) -> Self {
        FieldError { kind: FieldErrorKind::Forbidden, field: field.into(), value: None, detail: detail.into() }
    }

    pub fn invalid(field: impl Into<String>, value: impl Into<serde_json::Value>, detail: impl Into<String>) -> Self {
        FieldError { kind: FieldErrorKind::Invalid, field: field.into(), value: Some(quoted_value(value.into())), detail: detail.into() }
    }

    pub fn duplicate(field: impl Into<String>, value: impl Into<serde_json::Value>) -> Self {
        FieldError { kind: FieldErrorKind::Duplicate, field: field.into(), value: Some(quoted_value(value.into())), detail: String::new() }
    }

    /// `Unsupported value: "x": supported values: "a", "b"`.
    pub fn not_supported(field: impl Into<String>, value: impl Into<serde_json::Value>, supported: &[&str]) -> Self {
        let supported = supported.iter().map(|value| format!("{value:?}")).collect::<Vec<_>>().join(", ");
        let detail = format!("supported values: {supported}");
        FieldError { kind: FieldErrorKind::NotSupported, field: field.into(), value: Some(quoted_value(value.into())), detail }
    }

    pub fn too_long(field: impl Into<String>, max_bytes: usize) -> Self {
        let bytes = if max_bytes == 1 { "byte" } else { "bytes" };
        let detail = format!("may not be more than {max_bytes} {bytes}");
        FieldError { kind: FieldErrorKind::TooLong, field: field.into(), value: None, detail }
    }

    /// `Too many: 3: must have at most 2 items`.
    pub fn too_many(field: impl Into<String>, count: usize, most: usize) -> Self {
        let items = if most == 1 { "item" } else { "items" };
        let detail = format!("must have at most {most} {items}");
        FieldError { kind: FieldErrorKind::TooMany, field: field.into(), value: Some(count.to_string()), detail }
    }

    /// The bytes of its parts, which is about how long it is when it is told.
    pub fn length(&self) -> usize {
        self.field.len() + self.detail.len() + self.value.as_ref().map_or(0, String::len)
    }

    fn body(&self) -> String {
        let mut text = self.kind.words().1.to_owned();
        for part in [self.value.as_deref(), (!self.detail.is_empty()).then_some(self.detail.as_str())].into_iter().flatten() {
            text.push_str(": ");
            text.push_str(part);
        }
        text
    }
}

impl fmt::Display for FieldError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.field, self.body())
    }
}

/// An answer lists no more errors than this: a body may have one for every few bytes.
const MAX_ERRORS: usize = 1000;

impl Status {
    pub fn new(code: u16, reason: Reason, message: impl Into<String>) -> Self {
        Status { code, reason, message: message.into(), details: None, continue_token: None, own_reason: None }
    }

    fn about(code: u16, reason: Reason, resource: &GroupResource, name: &str, message: String) -> Self {
        let details =
            StatusDetails { name: name.into(), group: resource.group.to_string(), kind: resource.resource.to_string(), ..StatusDetails::default() };
        Status { code, reason, message, details: Some(Box::new(details)), continue_token: None, own_reason: None }
    }

    pub fn not_found(resource: &GroupResource, name: &str) -> Self {
        Status::about(404, Reason::NotFound, resource, name, format!("{resource} \"{name}\" not found"))
    }

    pub fn already_exists(resource: &GroupResource, name: &str) -> Self {
        Status::about(409, Reason::AlreadyExists, resource, name, format!("{resource} \"{name}\" already exists"))
    }

    pub fn conflict(resource: &GroupResource, name: &str, why: impl fmt::Display) -> Self {
        Status::about(409, Reason::Conflict, resource, name, format!("Operation cannot be fulfilled on {resource} \"{name}\": {why}"))
    }

    /// The conflict of a stale resourceVersion, in upstream's words.
    pub fn modified(resource: &GroupResource, name: &str) -> Self {
        Status::conflict(resource, name, "the object has been modified; please apply your changes to the latest version and try again")
    }

    pub fn forbidden(resource: &GroupResource, name: &str, why: impl fmt::Display) -> Self {
        let message = match (&*resource.resource, name) {
            ("", _) => format!("forbidden: {why}"),
            (_, "") => format!("{resource} is forbidden: {why}"),
            _ => format!("{resource} \"{name}\" is forbidden: {why}"),
        };
        Status::about(403, Reason::Forbidden, resource, name, message)
    }

    /// 422 with a cause per field. `group` and `kind` are the object's, not the resource's.
    pub fn invalid(group: &str, kind: &str, name: &str, mut errors: Vec<FieldError>) -> Self {
        let more = errors.len().saturating_sub(MAX_ERRORS);
        errors.truncate(MAX_ERRORS);
        let mut listed = errors.iter().map(ToString::to_string).collect::<Vec<_>>();
        if more > 0 {
            listed.push(format!("and {more} more"));
        }
        let listed = if listed.len() == 1 { listed.join("") } else { format!("[{}]", listed.join(", ")) };
        let qualified = if group.is_empty() { kind.to_owned() } else { format!("{kind}.{group}") };
        let causes = errors
            .iter()
            .map(|error| StatusCause { reason: error.kind.words().0.into(), message: error.body(), field: error.field.clone() })
            .collect();
        let details = StatusDetails { name: name.into(), group: group.into(), kind: kind.into(), causes, ..StatusDetails::default() };
        Status {
            code: 422,
            reason: Reason::Invalid,
            message: format!("{qualified} \"{name}\" is invalid: {listed}"),
            details: Some(Box::new(details)),
            continue_token: None,
            own_reason: None,
        }
    }

    pub fn bad_request(message: impl Into<String>) -> Self {
        Status::new(400, Reason::BadRequest, message)
    }

    /// 413: a body, or what it stands for, is larger than it may be.
    pub fn too_large(why: impl fmt::Display) -> Self {
        Status::new(413, Reason::RequestEntityTooLarge, format!("Request entity too large: {why}"))
    }

    pub fn unauthorized() -> Self {
        Status::new(401, Reason::Unauthorized, "Unauthorized")
    }

    /// The requested revision is compacted.
    pub fn expired(message: impl Into<String>) -> Self {
        Status::new(410, Reason::Expired, message)
    }

    pub fn method_not_allowed(message: impl Into<String>) -> Self {
        Status::new(405, Reason::MethodNotAllowed, message)
    }

    pub fn unsupported_media_type(message: impl Into<String>) -> Self {
        Status::new(415, Reason::UnsupportedMediaType, message)
    }

    pub fn not_acceptable(message: impl Into<String>) -> Self {
        Status::new(406, Reason::NotAcceptable, message)
    }

    /// 500, with the error as its cause.
    pub fn internal(error: impl fmt::Display) -> Self {
        let message = error.to_string();
        let status = Status::new(500, Reason::InternalError, format!("Internal error occurred: {message}"));
        status.with_causes(vec![StatusCause { message, ..StatusCause::default() }])
    }

    pub fn unavailable(message: impl Into<String>) -> Self {
        Status::new(503, Reason::ServiceUnavailable, message)
    }

    pub fn timeout(message: impl Into<String>) -> Self {
        Status::new(504, Reason::Timeout, message)
    }

    pub fn too_many_requests(message: impl Into<String>, retry_after_seconds: u32) -> Self {
        let details = StatusDetails { retry_after_seconds, ..StatusDetails::default() };
        Status {
            code: 429,
            reason: Reason::TooManyRequests,
            message: message.into(),
            details: Some(Box::new(details)),
            continue_token: None,
            own_reason: None,
        }
    }

    /// A path that no route serves.
    pub fn page_not_found() -> Self {
        Status::new(404, Reason::NotFound, "the server could not find the requested resource")
    }

    pub fn with_causes(mut self, causes: Vec<StatusCause>) -> Self {
        self.details.get_or_insert_default().causes = causes;
        self
    }

    pub fn is_not_found(&self) -> bool {
        self.reason == Reason::NotFound
    }

    pub fn is_conflict(&self) -> bool {
        self.reason == Reason::Conflict
    }

    pub fn is_already_exists(&self) -> bool {
        self.reason == Reason::AlreadyExists
    }

    /// The JSON document that goes over the wire, as a tree.
    pub fn to_json(&self) -> serde_json::Value {
        serde_json::to_value(self.document()).expect("texts and numbers always encode")
    }

    /// The JSON document that goes over the wire; its fields stand in the order of upstream's.
    pub fn to_text(&self) -> String {
        self.document().to_text()
    }

    /// The same with details, empty ones if there are none.
    pub fn to_text_with_details(&self) -> String {
        let none = StatusDetails::default();
        Document { details: self.details.as_deref().or(Some(&none)), ..self.document() }.to_text()
    }

    fn document(&self) -> Document<'_> {
        Document {
            kind: "Status",
            api_version: "v1",
            metadata: DocumentMetadata { resume: self.continue_token.as_deref() },
            status: "Failure",
            message: &self.message,
            reason: match &self.own_reason {
                Some(own) if self.reason == Reason::Unknown => Told::Own(own),
                _ => Told::Known(self.reason),
            },
            details: self.details.as_deref(),
            code: self.code,
        }
    }
}

/// The document of a call that succeeded and has nothing else to show, in the same order. A `code` of 0 is left out.
pub fn success_text(details: Option<&StatusDetails>, code: u16) -> String {
    let metadata = DocumentMetadata { resume: None };
    let (reason, message) = (Told::Known(Reason::Unknown), "");
    Document { kind: "Status", api_version: "v1", metadata, status: "Success", message, reason, details, code }.to_text()
}

/// `metav1.Status` as it is written.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Document<'a> {
    kind: &'static str,
    api_version: &'static str,
    metadata: DocumentMetadata<'a>,
    status: &'static str,
    #[serde(skip_serializing_if = "str::is_empty")]
    message: &'a str,
    #[serde(skip_serializing_if = "Told::is_unknown")]
    reason: Told<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    details: Option<&'a StatusDetails>,
    #[serde(skip_serializing_if = "is_no_code")]
    code: u16,
}

/// The part of `metav1.ListMeta` that failures have.
#[derive(Serialize)]
struct DocumentMetadata<'a> {
    #[serde(rename = "continue", skip_serializing_if = "Option::is_none")]
    resume: Option<&'a str>,
}

impl Document<'_> {
    fn to_text(&self) -> String {
        serde_json::to_string(self).expect("texts and numbers always encode")
    }
}

fn is_no_code(code: &u16) -> bool {
    *code == 0
}

/// A reason as it is written.
#[derive(Serialize)]
#[serde(untagged)]
enum Told<'a> {
    Known(Reason),
    Own(&'a str),
}

impl Told<'_> {
    fn is_unknown(&self) -> bool {
        matches!(self, Told::Known(Reason::Unknown))
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Status {}

/// Several errors as upstream's aggregate prints them: each once, in brackets if there are more.
pub fn aggregate(errors: &[String]) -> String {
    let mut distinct = Vec::<&str>::new();
    for error in errors {
        if !distinct.contains(&error.as_str()) {
            distinct.push(error);
        }
    }
    match distinct[..] {
        [single] => single.to_owned(),
        _ => format!("[{}]", distinct.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_read_as_upstream_writes_them() {
        let deployments = GroupResource::new("apps", "deployments");
        assert_eq!(Status::not_found(&deployments, "web").message, "deployments.apps \"web\" not found");
        let invalid = Status::invalid("apps", "Deployment", "web", vec![FieldError::required("spec.selector", "")]);
        assert_eq!(invalid.message, "Deployment.apps \"web\" is invalid: spec.selector: Required value");
        let both =
            Status::invalid("", "Pod", "p", vec![FieldError::invalid("spec.x", "v", "bad"), FieldError::not_supported("spec.y", "z", &["A", "B"])]);
        assert_eq!(
            both.message,
            "Pod \"p\" is invalid: [spec.x: Invalid value: \"v\": bad, spec.y: Unsupported value: \"z\": supported values: \"A\", \"B\"]"
        );
        assert_eq!(both.to_json()["details"]["causes"][0]["reason"], "FieldValueInvalid");
        let rule = FieldError::invalid("spec.x", serde_json::json!({"rule": "self > 1 && 'a' < b"}), "bad");
        let written = "spec.x: Invalid value: {\"rule\":\"self \\u003e 1 \\u0026\\u0026 'a' \\u003c b\"}: bad";
        assert_eq!(Status::invalid("", "Pod", "p", vec![rule]).message, format!("Pod \"p\" is invalid: {written}"));
        assert_eq!(FieldError::invalid("spec.x", "a > b", "bad").to_string(), "spec.x: Invalid value: \"a > b\": bad", "texts are only quoted");
        let internal = Status::internal("no way");
        assert_eq!(internal.message, "Internal error occurred: no way");
        assert_eq!(internal.to_json()["details"], serde_json::json!({"causes": [{"message": "no way"}]}));
    }

    #[test]
    fn fields_stand_in_the_order_of_upstreams() {
        let missing = Status::not_found(&GroupResource::new("apps", "deployments"), "web");
        let details = r#"{"name":"web","group":"apps","kind":"deployments"}"#;
        let head = r#"{"kind":"Status","apiVersion":"v1","metadata":{},"status""#;
        assert_eq!(
            missing.to_text(),
            format!(r#"{head}:"Failure","message":"deployments.apps \"web\" not found","reason":"NotFound","details":{details},"code":404}}"#)
        );
        assert_eq!(success_text(missing.details.as_deref(), 0), format!(r#"{head}:"Success","details":{details}}}"#));
        assert_eq!(success_text(None, 201), format!(r#"{head}:"Success","code":201}}"#));
    }
}
