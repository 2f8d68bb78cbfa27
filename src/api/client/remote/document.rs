//! From what a server sends to objects, lists and failures. Pure.
//!
//! Our own server writes an object as it is stored, with its resourceVersion first in the metadata: then cutting that out is
//! all the work. Any other order of fields is decoded and encoded again.

use std::sync::Arc;

use bytes::Bytes;
use serde::Deserialize;
use serde_json::{Value, value::RawValue};
use troupe_api::{
    meta::{Cause, Object, Revision},
    service::{ApiReply, EventType, ListReply, Operation, ReplyBody, Target, WatchItem},
    status::{Reason, Status, StatusDetails},
    stored::StoredObject,
};

/// The kind and version of the objects that a target's replies carry.
#[derive(Clone, Debug)]
pub struct Decoder {
    kind: Arc<str>,
    api_version: String,
    /// How our own server begins an object, and an item of a list.
    whole: String,
}

const ITEM: &str = "{\"metadata\":{\"resourceVersion\":\"";

/// A list as it comes.
#[derive(Deserialize)]
struct ListDocument<'a> {
    #[serde(default)]
    metadata: ListMetadata,
    #[serde(borrow, default)]
    items: Option<Vec<&'a RawValue>>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct ListMetadata {
    resource_version: String,
    #[serde(rename = "continue")]
    continue_token: Option<String>,
    remaining_item_count: Option<u64>,
}

/// A watch event as it comes.
#[derive(Deserialize)]
struct Frame<'a> {
    #[serde(rename = "type")]
    kind: String,
    /// A `traceparent`, where the server tells what caused the event.
    cause: Option<String>,
    #[serde(borrow)]
    object: &'a RawValue,
}

/// What a failure says.
#[derive(Default, Deserialize)]
#[serde(default)]
struct StatusDocument {
    kind: String,
    reason: Value,
    message: String,
    code: u16,
    details: Option<StatusDetails>,
    metadata: ListMetadata,
}

impl Decoder {
    pub fn new(target: &Target) -> Self {
        let gvk = target.resource.gvk(&target.version);
        let whole = format!("{{\"kind\":\"{}\",\"apiVersion\":\"{}\",\"metadata\":{{\"resourceVersion\":\"", gvk.kind, gvk.api_version());
        Decoder { kind: gvk.kind.clone(), api_version: gvk.api_version(), whole }
    }

    /// The reply to a successful call.
    ///
    /// # Errors
    /// When it is no such document.
    pub fn reply(&self, operation: &Operation, code: u16, warnings: Vec<String>, body: &[u8]) -> Result<ApiReply, Status> {
        let body = match operation {
            Operation::List(_) => ReplyBody::List(self.list(body)?),
            _ => self.single(body)?,
        };
        Ok(ApiReply { body, code, warnings })
    }

    fn single(&self, body: &[u8]) -> Result<ReplyBody, Status> {
        if let Some(stored) = text(body).ok().and_then(|text| self.spliced(text, &self.whole, &self.whole)) {
            return Ok(ReplyBody::Object(Arc::new(stored?)));
        }
        let value: Value = serde_json::from_slice(body).map_err(unreadable)?;
        let object = Object::from_value(value).ok_or_else(|| unreadable("no object"))?;
        if object.kind() == "Status" {
            return Ok(ReplyBody::Success { details: object.get(&["details"]).cloned().unwrap_or_default() });
        }
        // What was never stored (a review, a token) has no UID, and a Scale is no object of the resource.
        if object.kind() != &*self.kind || object.uid().is_empty() {
            return Ok(ReplyBody::Tree(object));
        }
        Ok(ReplyBody::Object(Arc::new(StoredObject::from_object(&object).map_err(unreadable)?)))
    }

    fn list(&self, body: &[u8]) -> Result<ListReply, Status> {
        let document: ListDocument<'_> = serde_json::from_slice(body).map_err(unreadable)?;
        let items = document.items.unwrap_or_default().into_iter().map(|item| self.object(item.get())).collect::<Result<_, _>>()?;
        Ok(ListReply {
            items,
            revision: revision(&document.metadata.resource_version)?,
            continue_token: document.metadata.continue_token.filter(|token| !token.is_empty()),
            remaining: document.metadata.remaining_item_count,
        })
    }

    /// An object of the target's kind; items of lists don't say their kind.
    fn object(&self, text: &str) -> Result<Arc<StoredObject>, Status> {
        let spliced = self.spliced(text, &self.whole, &self.whole).or_else(|| {
            let head = self.whole.strip_suffix("\"resourceVersion\":\"").expect("made so");
            self.spliced(text, ITEM, &format!("{head}\"resourceVersion\":\""))
        });
        if let Some(stored) = spliced {
            return stored.map(Arc::new);
        }
        let value: Value = serde_json::from_str(text).map_err(unreadable)?;
        let mut object = Object::from_value(value).ok_or_else(|| unreadable("no object"))?;
        object.set_default(&["kind"], &*self.kind);
        object.set_default(&["apiVersion"], self.api_version.as_str());
        StoredObject::from_object(&object).map(Arc::new).map_err(unreadable)
    }

    /// Cuts the resourceVersion out of a text that begins with `head`; the result begins as `as_head` does.
    fn spliced(&self, text: &str, head: &str, as_head: &str) -> Option<Result<StoredObject, Status>> {
        const FIELD: &str = "\"resourceVersion\":\"";
        let rest = text.trim_end().strip_prefix(head)?;
        let (number, rest) = rest.split_once('"')?;
        let revision: Revision = number.parse().ok()?;
        let head = as_head.strip_suffix(FIELD)?;
        let rest = rest.strip_prefix(',').or_else(|| rest.starts_with('}').then_some(rest))?;
        let mut encoded = Vec::with_capacity(head.len() + rest.len());
        encoded.extend_from_slice(head.as_bytes());
        encoded.extend_from_slice(rest.as_bytes());
        Some(StoredObject::new(Bytes::from(encoded), revision).map_err(unreadable))
    }

    /// One line of a watch.
    ///
    /// # Errors
    /// When it is no event.
    pub fn frame(&self, line: &[u8]) -> Result<WatchItem, Status> {
        let frame: Frame<'_> = serde_json::from_slice(line).map_err(unreadable)?;
        let event = match frame.kind.as_str() {
            "ADDED" => EventType::Added,
            "MODIFIED" => EventType::Modified,
            "DELETED" => EventType::Deleted,
            "BOOKMARK" => return bookmark(frame.object.get()),
            "ERROR" => return Ok(WatchItem::End(failure(500, frame.object.get().as_bytes()))),
            other => return Err(unreadable(format!("an event of the unknown type {other:?}"))),
        };
        let cause = frame.cause.as_deref().and_then(Cause::from_traceparent).unwrap_or_default();
        Ok(WatchItem::Event { event, object: self.object(frame.object.get())?, cause })
    }
}

fn bookmark(text: &str) -> Result<WatchItem, Status> {
    let value: Value = serde_json::from_str(text).map_err(unreadable)?;
    let metadata = &value["metadata"];
    let revision = revision(metadata["resourceVersion"].as_str().unwrap_or_default())?;
    Ok(WatchItem::Bookmark { revision, initial_end: metadata["annotations"]["k8s.io/initial-events-end"] == "true" })
}

fn text(body: &[u8]) -> Result<&str, Status> {
    std::str::from_utf8(body).map_err(unreadable)
}

/// Lists that are made when they are asked for, such as those of metrics, are of no revision.
fn revision(text: &str) -> Result<Revision, Status> {
    if text.is_empty() {
        return Ok(Revision::ZERO);
    }
    text.parse().map_err(|_| unreadable(format!("the resourceVersion {text:?}")))
}

fn unreadable(why: impl std::fmt::Display) -> Status {
    Status::internal(format!("the server's reply is not understood: {why}"))
}

/// A failed call as the server tells it, or as its HTTP code does.
pub fn failure(code: u16, body: &[u8]) -> Status {
    let document: StatusDocument = serde_json::from_slice(body).unwrap_or_default();
    if document.kind != "Status" {
        let text = String::from_utf8_lossy(body);
        let text = text.trim();
        let message = if text.is_empty() { format!("the server answered {code}") } else { text.chars().take(512).collect() };
        return Status::new(code, reason_of(code), message);
    }
    let own_reason: Option<Box<str>> = document.reason.as_str().filter(|reason| !reason.is_empty()).map(Box::from);
    let reason = serde_json::from_value(document.reason).unwrap_or(Reason::Unknown);
    Status {
        code: if document.code == 0 { code } else { document.code },
        // One that we don't know is told as it came.
        own_reason: own_reason.filter(|_| reason == Reason::Unknown),
        reason,
        message: document.message,
        details: document.details.map(Box::new),
        continue_token: document.metadata.continue_token.map(String::into_boxed_str),
    }
}

fn reason_of(code: u16) -> Reason {
    match code {
        400 => Reason::BadRequest,
        401 => Reason::Unauthorized,
        403 => Reason::Forbidden,
        404 => Reason::NotFound,
        405 => Reason::MethodNotAllowed,
        409 => Reason::Conflict,
        410 => Reason::Gone,
        429 => Reason::TooManyRequests,
        503 => Reason::ServiceUnavailable,
        504 => Reason::Timeout,
        code if code >= 500 => Reason::InternalError,
        _ => Reason::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use troupe_api::{meta::ObjectKey, resources::Registry};

    fn decoder() -> Decoder {
        let resource = Registry::new(troupe_api::resources::builtin()).by_resource("", "configmaps").expect("a built-in kind");
        let (namespace, name, subresource) = ("".into(), "".into(), "".into());
        Decoder::new(&Target { resource, version: "v1".into(), namespace, name, subresource })
    }

    fn config_map() -> StoredObject {
        let tree = json!({"apiVersion": "v1", "kind": "ConfigMap", "data": {"a": "b"},
            "metadata": {"name": "x", "namespace": "n", "uid": "u", "resourceVersion": "7"}});
        StoredObject::from_object(&Object::from_value(tree).expect("an object")).expect("well formed")
    }

    #[test]
    fn our_own_form_is_spliced_and_any_other_decoded_to_the_same_object() {
        let stored = config_map();
        let ours = stored.to_json();
        assert!(decoder().spliced(text(&ours).expect("text"), &decoder().whole, &decoder().whole).is_some(), "the short way");
        let other = json!({"metadata": {"uid": "u", "name": "x", "resourceVersion": "7", "namespace": "n"}, "data": {"a": "b"},
            "kind": "ConfigMap", "apiVersion": "v1"});
        for body in [ours, other.to_string().into_bytes()] {
            let reply = decoder().reply(&Operation::Get { resource_version: None }, 200, Vec::new(), &body).expect("understood");
            let ReplyBody::Object(object) = reply.body else { panic!("an object was sent") };
            assert_eq!((object.revision, &object.key), (Revision(7), &ObjectKey::new("n", "x")));
            assert_eq!(object.to_object(), stored.to_object());
        }
    }

    #[test]
    fn items_of_a_list_get_their_kind() {
        let mut item = Vec::new();
        config_map().write_list_item(&mut item);
        let item = String::from_utf8(item).expect("text");
        let foreign = r#"{"metadata":{"name":"y","resourceVersion":"8"}}"#;
        let body =
            format!(r#"{{"kind":"ConfigMapList","apiVersion":"v1","metadata":{{"resourceVersion":"9","continue":"c"}},"items":[{item},{foreign}]}}"#);
        let list = decoder().list(body.as_bytes()).expect("understood");
        assert_eq!((list.revision, list.continue_token.as_deref(), list.items.len()), (Revision(9), Some("c"), 2));
        assert_eq!(list.items[0].to_object(), config_map().to_object());
        assert_eq!(list.items[1].to_object().kind(), "ConfigMap");
        assert!(decoder().list(br#"{"metadata":{"resourceVersion":"9"},"items":null}"#).expect("understood").items.is_empty());
        let made_now = decoder().list(format!(r#"{{"metadata":{{}},"items":[{foreign}]}}"#).as_bytes()).expect("understood");
        assert_eq!((made_now.revision, made_now.items.len()), (Revision::ZERO, 1));
        assert!(decoder().list(br#"{"metadata":{"resourceVersion":"x"},"items":[]}"#).is_err());
    }

    #[test]
    fn frames_of_a_watch_become_items() {
        let (root, json) = (Cause::root(), String::from_utf8(config_map().to_json()).expect("text"));
        let told = format!("\"cause\":{:?},", root.traceparent().expect("a root has a trace"));
        for (field, wanted) in [("", Cause::default()), (told.as_str(), root)] {
            let line = format!("{{\"type\":\"MODIFIED\",{field}\"object\":{json}}}");
            let WatchItem::Event { event: EventType::Modified, object, cause } = decoder().frame(line.as_bytes()).expect("understood") else {
                panic!("it was modified")
            };
            assert_eq!((object.revision, cause), (Revision(7), wanted));
        }
        let end = r#"{"type":"BOOKMARK","object":{"kind":"ConfigMap","metadata":{"resourceVersion":"9","annotations":{"k8s.io/initial-events-end":"true"}}}}"#;
        assert!(matches!(decoder().frame(end.as_bytes()), Ok(WatchItem::Bookmark { revision: Revision(9), initial_end: true })));
        let gone = format!("{{\"type\":\"ERROR\",\"object\":{}}}", Status::expired("too old").to_json());
        assert!(matches!(decoder().frame(gone.as_bytes()), Ok(WatchItem::End(status)) if status.code == 410 && status.reason == Reason::Expired));
        assert!(decoder().frame(b"{\"type\":\"NEWS\",\"object\":{}}").is_err());
    }

    #[test]
    fn what_is_not_stored_is_a_tree_and_a_status_a_success() {
        let scale = br#"{"kind":"Scale","apiVersion":"autoscaling/v1","metadata":{"name":"x","uid":"u"},"spec":{"replicas":1}}"#;
        assert!(matches!(decoder().single(scale), Ok(ReplyBody::Tree(tree)) if tree.kind() == "Scale"));
        let success = br#"{"kind":"Status","apiVersion":"v1","status":"Success","details":{"name":"x"}}"#;
        assert!(matches!(decoder().single(success), Ok(ReplyBody::Success { details }) if details["name"] == "x"));
    }

    #[test]
    fn failures_keep_what_the_server_said() {
        let told = Status::too_many_requests("slow down", 3);
        assert_eq!(failure(429, told.to_text().as_bytes()), told);
        let proxy = failure(502, b"<html>bad gateway</html>");
        assert_eq!((proxy.code, proxy.reason, proxy.message.as_str()), (502, Reason::InternalError, "<html>bad gateway</html>"));
        assert_eq!(failure(403, br#"{"kind":"Status","reason":"Novel","message":"m","code":403}"#).reason, Reason::Unknown);
    }
}
