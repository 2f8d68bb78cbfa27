//! One audit event, and how it becomes a line of JSON.

use std::{borrow::Cow, collections::BTreeMap, sync::Arc};

use bytes::Bytes;
use serde::Serialize;
use serde_json::{Map, Value, json};
use troupe_api::{
    meta::{GroupVersionKind, Object},
    protobuf,
    resources::{
        Resource,
        forms::{schema_of, served_form, to_working_form},
    },
    schema::{Format, decode::parse_value},
    service::UserInfo,
    stored::StoredObject,
};

use super::{Level, Stage};
use crate::render::FullForm;

/// What a request is about.
#[derive(Clone, Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ObjectReference {
    #[serde(skip_serializing_if = "String::is_empty")]
    pub resource: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub namespace: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub name: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub uid: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub api_group: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub api_version: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub resource_version: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub subresource: String,
}

/// A body that is decoded or encoded only when the event is written.
#[derive(Clone, Debug)]
pub enum Content {
    Json(Bytes),
    Yaml(Bytes),
    Protobuf(Bytes),
    Tree(Box<Object>),
    /// An object that was sent; what it does not say of its kind is this. With a resource and a version it is an object of these, and
    /// is told with its defaults.
    Sent {
        content: Box<Content>,
        kind: Box<GroupVersionKind>,
        whole: Option<(Arc<Resource>, Arc<str>)>,
    },
    Value(Value),
    /// A stored object as the request's version shows it.
    Stored(Arc<StoredObject>, Box<FullForm>),
    List {
        kind: String,
        api_version: String,
        revision: String,
        items: Vec<Arc<StoredObject>>,
        form: Box<FullForm>,
        /// Items of built-in kinds are written without kind and version, which the list has.
        is_typed: bool,
    },
}

impl Content {
    /// How many bytes it keeps in memory, about; those of a list are in the cache anyway.
    fn held(&self) -> usize {
        match self {
            Content::Json(bytes) | Content::Yaml(bytes) | Content::Protobuf(bytes) => bytes.len(),
            Content::Tree(tree) => fields_held(tree.root()),
            Content::Sent { content, .. } => content.held(),
            Content::Value(value) => value_held(value),
            // A dry run's is kept by nobody else.
            Content::Stored(object, _) => object.encoded_length(),
            Content::List { .. } => 0,
        }
    }

    /// The content as JSON; `None` for lists, and where a client sent what is none.
    fn value(&self) -> Option<Value> {
        match self {
            Content::Json(bytes) => parse_value(bytes, Format::Json).ok(),
            Content::Yaml(bytes) => parse_value(bytes, Format::Yaml).ok(),
            Content::Protobuf(bytes) => protobuf::to_json(bytes).ok(),
            Content::Tree(tree) => Some(Value::Object(tree.root().clone())),
            Content::Sent { content, kind, whole } => {
                let value = told_of_kind(content.value()?, kind);
                let whole = whole.as_ref().and_then(|(resource, version)| defaulted(resource, version, &value));
                Some(whole.unwrap_or(value))
            }
            Content::Value(value) => Some(value.clone()),
            Content::Stored(object, form) => written(object, form),
            Content::List { .. } => None,
        }
    }

    /// The JSON of a list. It may be long, and a tree takes many times the memory of its text: there is one of one item at a time.
    fn list(&self, omit_managed_fields: bool) -> Option<Vec<u8>> {
        let Content::List { kind, api_version, revision, items, form, is_typed } = self else { return None };
        let head = json!({"kind": kind, "apiVersion": api_version, "metadata": {"resourceVersion": revision}});
        let mut out = opened(&head);
        out.extend_from_slice(b",\"items\":[");
        for (at, mut item) in items.iter().filter_map(|item| written(item, form)).enumerate() {
            if omit_managed_fields {
                drop_managed_fields(&mut item);
            }
            if let Some(fields) = item.as_object_mut().filter(|_| *is_typed) {
                fields.retain(|name, _| name != "kind" && name != "apiVersion");
            }
            out.extend_from_slice(if at > 0 { b"," } else { b"" });
            out.extend_from_slice(item.to_string().as_bytes());
        }
        out.extend_from_slice(b"]}");
        Some(out)
    }
}

/// An object with its kind and version, which clients may leave out: upstream's events have the object as it was decoded.
fn told_of_kind(mut object: Value, kind: &GroupVersionKind) -> Value {
    let Some(fields) = object.as_object_mut() else { return object };
    for (name, own) in [("kind", kind.kind.to_string()), ("apiVersion", kind.api_version())] {
        if fields.get(name).and_then(Value::as_str).is_none_or(str::is_empty) {
            fields.insert(name.to_owned(), own.into());
        }
    }
    object
}

/// An object as upstream's events have it: decoded, with its defaults. `None` where it is no such object.
fn defaulted(resource: &Resource, version: &str, sent: &Value) -> Option<Value> {
    let mut object = Object::from_value(sent.clone())?;
    let own = resource.gvk(version);
    if *object.kind() != *own.kind || object.api_version() != own.api_version() {
        return None;
    }
    object = schema_of(&resource.version(version).schema).ok()?.normalise(object).ok()?.object;
    to_working_form(resource, version, &mut object).ok()?;
    Some(served_form(resource, version, &object).into_value())
}

/// How many bytes a tree takes, about.
fn value_held(value: &Value) -> usize {
    let own = match value {
        Value::String(text) => text.len(),
        Value::Array(items) => items.iter().map(value_held).sum(),
        Value::Object(fields) => fields_held(fields),
        Value::Null | Value::Bool(_) | Value::Number(_) => 0,
    };
    size_of::<Value>() + own
}

fn fields_held(fields: &Map<String, Value>) -> usize {
    fields.iter().map(|(name, value)| name.len() + value_held(value)).sum()
}

/// An object as JSON that goes on.
fn opened(object: &Value) -> Vec<u8> {
    let mut text = object.to_string().into_bytes();
    text.pop();
    text
}

fn written(object: &StoredObject, form: &FullForm) -> Option<Value> {
    let mut out = Vec::with_capacity(object.encoded_length() + 64);
    form.write(object, &mut out);
    serde_json::from_slice(&out).ok()
}

/// An event on its way to the log.
#[derive(Clone, Debug)]
pub struct Event {
    pub level: Level,
    pub omit_managed_fields: bool,
    pub audit_id: Arc<str>,
    pub stage: Stage,
    pub uri: Arc<str>,
    pub verb: Arc<str>,
    pub user: Arc<UserInfo>,
    pub impersonated: Option<Arc<UserInfo>>,
    /// The verb that allowed a constrained impersonation, or empty.
    pub constraint: &'static str,
    pub source_ips: Arc<[String]>,
    pub user_agent: Arc<str>,
    pub object: Option<ObjectReference>,
    /// `metav1.Status` of the reply.
    pub status: Option<Value>,
    pub request: Option<Content>,
    pub response: Option<Content>,
    pub received: jiff::Timestamp,
    pub at: jiff::Timestamp,
    pub annotations: BTreeMap<Cow<'static, str>, String>,
}

impl Event {
    /// How many bytes of bodies it keeps in memory.
    pub fn held(&self) -> usize {
        [&self.request, &self.response].into_iter().flatten().map(Content::held).sum()
    }

    /// The event without its bodies, with upstream's mark that they are missing.
    pub fn truncated(&self) -> Event {
        let object = self.reference(self.request.as_ref().and_then(Content::value).as_ref());
        let mut annotations = self.annotations.clone();
        annotations.insert("audit.k8s.io/truncated".into(), "true".into());
        Event { object, request: None, response: None, annotations, ..self.clone() }
    }

    /// The line, with its end.
    pub fn line(&self) -> Vec<u8> {
        let request = self.request.as_ref().and_then(Content::value);
        let mut event = self.head(self.reference(request.as_ref()));
        let mut insert = |name: &str, value: Option<Value>| {
            if let Some(value) = value {
                event.insert(name.to_owned(), value);
            }
        };
        insert("responseStatus", self.status.clone());
        if self.level >= Level::Request {
            insert("requestObject", request.map(|value| self.trimmed(value)));
        }
        if self.level >= Level::RequestResponse {
            insert("responseObject", self.response.as_ref().and_then(Content::value).map(|value| self.trimmed(value)));
        }
        insert("requestReceivedTimestamp", Some(micro_time(self.received)));
        insert("stageTimestamp", Some(micro_time(self.at)));
        insert("annotations", (!self.annotations.is_empty()).then(|| json!(self.annotations)));
        let mut line = opened(&Value::Object(event));
        let response = self.response.as_ref().filter(|_| self.level >= Level::RequestResponse);
        if let Some(list) = response.and_then(|response| response.list(self.omit_managed_fields)) {
            line.extend_from_slice(b",\"responseObject\":");
            line.extend(list);
        }
        line.extend_from_slice(b"}\n");
        line
    }

    /// The line in the format before JSON (`--audit-log-format=legacy`), with its end: less, and as text.
    pub fn legacy_line(&self) -> Vec<u8> {
        let quoted = |names: &[String]| names.iter().map(|name| format!("{name:?}")).collect::<Vec<_>>().join(",");
        let named = |text: &str, absent: &'static str| if text.is_empty() { absent.to_owned() } else { text.to_owned() };
        let (user, impersonated) = (&self.user, self.impersonated.as_ref());
        let groups = if user.name.is_empty() { String::new() } else { quoted(&user.groups) };
        let as_user = impersonated.map_or_else(|| "<self>".to_owned(), |user| user.name.clone());
        let as_groups = impersonated.filter(|user| !user.groups.is_empty()).map_or_else(|| "<lookup>".to_owned(), |user| quoted(&user.groups));
        let namespace = self.reference(self.request.as_ref().and_then(Content::value).as_ref()).map(|reference| reference.namespace);
        let code =
            self.status.as_ref().and_then(|status| status.get("code")?.as_i64()).map_or_else(|| "<deferred>".to_owned(), |code| code.to_string());
        let stage = json!(self.stage);
        let (time, id, ip) = (self.received, &self.audit_id, self.source_ips.first().map_or("<unknown>", String::as_str));
        let line = format!(
            "{time} AUDIT: id={id:?} stage={stage} ip={ip:?} method={:?} user={:?} groups={:?} as={as_user:?} asgroups={as_groups:?} \
             user-agent={:?} namespace={:?} uri={:?} response={code:?}\n",
            self.verb,
            named(&user.name, "<none>"),
            named(&groups, "<none>"),
            self.user_agent,
            named(&namespace.unwrap_or_default(), "<none>"),
            self.uri,
        );
        line.into_bytes()
    }

    fn head(&self, reference: Option<ObjectReference>) -> Map<String, Value> {
        let mut event = Map::new();
        let mut insert = |name: &str, value: Value| drop(event.insert(name.to_owned(), value));
        insert("kind", json!("Event"));
        insert("apiVersion", json!("audit.k8s.io/v1"));
        insert("level", json!(self.level));
        insert("auditID", json!(*self.audit_id));
        insert("stage", json!(self.stage));
        insert("requestURI", json!(*self.uri));
        insert("verb", json!(*self.verb));
        insert("user", user(&self.user));
        if let Some(impersonated) = &self.impersonated {
            insert("impersonatedUser", user(impersonated));
        }
        if !self.constraint.is_empty() {
            insert("authenticationMetadata", json!({"impersonationConstraint": self.constraint}));
        }
        insert("sourceIPs", json!(&self.source_ips[..]));
        insert("userAgent", json!(*self.user_agent));
        if let Some(reference) = reference {
            insert("objectRef", json!(reference));
        }
        event
    }

    /// What the URL says, completed by the object in the body.
    fn reference(&self, request: Option<&Value>) -> Option<ObjectReference> {
        let mut reference = self.object.clone()?;
        let meta = |name: &str| request.and_then(|request| request.get("metadata")?.get(name)?.as_str()).unwrap_or_default().to_owned();
        let parts: [(&mut String, &str); 4] = [
            (&mut reference.namespace, "namespace"),
            (&mut reference.name, "name"),
            (&mut reference.uid, "uid"),
            (&mut reference.resource_version, "resourceVersion"),
        ];
        for (part, name) in parts.into_iter().filter(|(part, _)| part.is_empty()) {
            *part = meta(name);
        }
        Some(reference)
    }

    fn trimmed(&self, mut value: Value) -> Value {
        if self.omit_managed_fields {
            drop_managed_fields(&mut value);
        }
        value
    }
}

fn drop_managed_fields(object: &mut Value) {
    if let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) {
        metadata.remove("managedFields");
    }
}

fn user(user: &UserInfo) -> Value {
    let mut value = json!({"username": user.name});
    if !user.uid.is_empty() {
        value["uid"] = json!(user.uid);
    }
    if !user.groups.is_empty() {
        value["groups"] = json!(user.groups);
    }
    if !user.extra.is_empty() {
        value["extra"] = json!(user.extra);
    }
    value
}

fn micro_time(time: jiff::Timestamp) -> Value {
    time.strftime("%Y-%m-%dT%H:%M:%S.%6fZ").to_string().into()
}

#[cfg(test)]
mod tests {
    use troupe_api::resources::{Registry, builtin};

    use super::*;

    fn event(level: Level) -> Event {
        let body = r#"{"metadata":{"name":"a","uid":"u","managedFields":[{}]},"data":{"x":"y"}}"#;
        Event {
            level,
            omit_managed_fields: true,
            audit_id: "id".into(),
            stage: Stage::ResponseComplete,
            uri: "/api/v1/namespaces/n/configmaps".into(),
            verb: "create".into(),
            user: Arc::new(UserInfo { name: "ann".into(), groups: vec!["g".into()], ..UserInfo::default() }),
            impersonated: None,
            constraint: "",
            source_ips: vec!["10.0.0.1".to_owned()].into(),
            user_agent: "kubectl".into(),
            object: Some(ObjectReference {
                resource: "configmaps".into(),
                namespace: "n".into(),
                api_version: "v1".into(),
                ..ObjectReference::default()
            }),
            status: Some(json!({"metadata": {}, "code": 201})),
            request: Some(Content::Json(Bytes::from_static(body.as_bytes()))),
            response: Some(Content::Value(json!({"kind": "ConfigMap"}))),
            received: "2026-01-01T00:00:00.123456Z".parse().expect("a time"),
            at: "2026-01-01T00:00:00.2Z".parse().expect("a time"),
            annotations: BTreeMap::from([("authorization.k8s.io/decision".into(), "allow".to_owned())]),
        }
    }

    #[test]
    fn a_line_holds_as_much_as_its_level_says() {
        let parsed = |level| -> Value { serde_json::from_slice(&event(level).line()).expect("a line of JSON") };
        let metadata = parsed(Level::Metadata);
        assert_eq!(metadata["objectRef"], json!({"resource": "configmaps", "namespace": "n", "name": "a", "uid": "u", "apiVersion": "v1"}));
        assert_eq!(
            (&metadata["requestReceivedTimestamp"], &metadata["stageTimestamp"]),
            (&json!("2026-01-01T00:00:00.123456Z"), &json!("2026-01-01T00:00:00.200000Z"))
        );
        assert!(metadata.get("requestObject").is_none());
        let request = parsed(Level::Request);
        assert_eq!(request["requestObject"], json!({"metadata": {"name": "a", "uid": "u"}, "data": {"x": "y"}}));
        assert!(request.get("responseObject").is_none());
        assert_eq!(parsed(Level::RequestResponse)["responseObject"], json!({"kind": "ConfigMap"}));
    }

    #[test]
    fn what_was_sent_is_told_with_its_defaults() {
        let resources = Registry::new(builtin());
        let jobs = resources.by_resource("batch", "jobs").expect("is served");
        let told = |body: &'static str| {
            let content = Box::new(Content::Json(Bytes::from_static(body.as_bytes())));
            let sent = Content::Sent { content, kind: Box::new(jobs.gvk("v1")), whole: Some((jobs.clone(), "v1".into())) };
            sent.value().expect("JSON")
        };
        let job = told(r#"{"metadata": {"name": "a"}, "spec": {"odd": 1}}"#);
        assert_eq!((&job["kind"], &job["apiVersion"], &job["spec"]["backoffLimit"]), (&json!("Job"), &json!("batch/v1"), &json!(6)));
        assert!(job["spec"].get("odd").is_none(), "it is told as it was decoded");
        let other = told(r#"{"kind": "Pod", "apiVersion": "v1", "spec": {}}"#);
        assert_eq!(other, json!({"kind": "Pod", "apiVersion": "v1", "spec": {}}), "what is none is told as it was sent");
    }

    #[test]
    fn a_legacy_line_is_upstreams() {
        let text = |event: Event| String::from_utf8(event.legacy_line()).expect("text");
        let want = "2026-01-01T00:00:00.123456Z AUDIT: id=\"id\" stage=\"ResponseComplete\" ip=\"10.0.0.1\" method=\"create\" user=\"ann\" \
                    groups=\"\\\"g\\\"\" as=\"<self>\" asgroups=\"<lookup>\" user-agent=\"kubectl\" namespace=\"n\" \
                    uri=\"/api/v1/namespaces/n/configmaps\" response=\"201\"\n";
        assert_eq!(text(event(Level::Metadata)), want);
        let other = UserInfo { name: "bob".into(), ..UserInfo::default() };
        let begun = Event { status: None, object: None, impersonated: Some(Arc::new(other)), ..event(Level::Metadata) };
        let line = text(begun);
        assert!(line.contains("as=\"bob\" asgroups=\"<lookup>\"") && line.ends_with("response=\"<deferred>\"\n"), "{line}");
        assert!(line.contains("namespace=\"<none>\""), "{line}");
    }

    #[test]
    fn a_truncated_event_tells_of_what_it_is_and_that_it_is_truncated() {
        let whole = event(Level::RequestResponse);
        let line: Value = serde_json::from_slice(&whole.truncated().line()).expect("a line of JSON");
        assert_eq!((line.get("requestObject"), line.get("responseObject")), (None, None));
        assert_eq!(line["annotations"]["audit.k8s.io/truncated"], "true");
        assert_eq!((&line["auditID"], &line["objectRef"]["uid"]), (&json!("id"), &json!("u")));
    }

    #[test]
    fn responses_count_for_what_is_held() {
        let bare = Event { response: None, ..event(Level::RequestResponse) };
        let value = Content::Value(json!({"data": {"x": ["y".repeat(5_000), 1]}}));
        let with = Event { response: Some(value), ..event(Level::RequestResponse) };
        assert!((5_000..6_000).contains(&(with.held() - bare.held())));
    }

    #[test]
    fn lists_are_written_item_by_item() {
        let resource = troupe_api::resources::Registry::new(troupe_api::resources::builtin()).by_resource("", "configmaps").expect("is served");
        let target = troupe_api::service::Target { resource, version: "v1".into(), namespace: "n".into(), name: "".into(), subresource: "".into() };
        let map = |name: &str| {
            let tree = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "namespace": "n", "managedFields": [{}]}});
            Arc::new(StoredObject::from_object(&Object::from_value(tree).expect("an object")).expect("well formed"))
        };
        let list = |items| Content::List {
            kind: "ConfigMapList".into(),
            api_version: "v1".into(),
            revision: "7".into(),
            items,
            form: Box::new(FullForm::new(&target)),
            is_typed: true,
        };
        let response = |items| -> Value {
            let event = Event { response: Some(list(items)), ..event(Level::RequestResponse) };
            serde_json::from_slice::<Value>(&event.line()).expect("a line of JSON")["responseObject"].clone()
        };
        let written = response(vec![map("a"), map("b")]);
        assert_eq!((&written["kind"], &written["metadata"]), (&json!("ConfigMapList"), &json!({"resourceVersion": "7"})));
        assert_eq!((&written["items"][0]["metadata"]["name"], &written["items"][1]["metadata"]["name"]), (&json!("a"), &json!("b")));
        assert!(written["items"][0]["metadata"].get("managedFields").is_none());
        assert!(written["items"][0].get("kind").is_none() && written["items"][0].get("apiVersion").is_none());
        assert_eq!(response(Vec::new())["items"], json!([]));
    }
}
