//! The audit that a request leaves in the audit log.

use std::{
    cell::RefCell,
    collections::BTreeMap,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use actix_web::{
    HttpRequest, HttpResponse,
    body::{BodySize, BoxBody, MessageBody},
    http::header::{self, HeaderMap},
};
use bytes::Bytes;
use serde_json::{Value, json};
use troupe_api::{
    auth::Attributes,
    notices::Notices,
    service::{ApiReply, Body, DeleteOptions, Operation, Propagation, ReplyBody, Target, UserInfo},
    status::{Reason, Status},
};

use super::{impersonation::Impersonated, user_agent::user_agent};
use crate::{
    audit::{AuditLog, Content, Event, Level, ObjectReference, Stage, Subject, Verdict},
    render::FullForm,
};

const LONGEST_AGENT: usize = 1024;

/// What is known of one request so far. Without an audit log it costs nothing.
pub struct AuditContext {
    log: Option<Arc<AuditLog>>,
    id: Arc<str>,
    received: jiff::Timestamp,
    open: RefCell<Option<Box<Open>>>,
}

/// A request that is recorded.
struct Open {
    verdict: Verdict,
    event: Event,
    long_running: bool,
}

impl AuditContext {
    pub fn new(log: Option<Arc<AuditLog>>, id: &str) -> Self {
        let received = log.as_ref().map_or(jiff::Timestamp::UNIX_EPOCH, |log| log.now());
        AuditContext { id: if log.is_some() { id.into() } else { "".into() }, log, received, open: RefCell::default() }
    }

    /// The caller is known: judges the request and records that it came. 500 where that must be recorded and cannot be.
    pub async fn received(&self, request: &HttpRequest, user: &Arc<UserInfo>, attributes: &Attributes<'_>, long_running: bool) -> Result<(), Status> {
        let Some(log) = &self.log else { return Ok(()) };
        let verdict = log.judge(Subject { user, attributes });
        if verdict.level == Level::None {
            return Ok(());
        }
        let event = self.event(request, user.clone(), attributes, &verdict);
        if verdict.records(Stage::RequestReceived) && !log.record(Box::new(Event { at: log.now(), ..event.clone() })).await {
            return Err(Status::internal("failed to store audit event"));
        }
        *self.open.borrow_mut() = Some(Box::new(Open { verdict, event, long_running }));
        Ok(())
    }

    /// Nobody knows the caller: one event tells that, and what was said about the credentials.
    pub async fn unauthenticated(&self, request: &HttpRequest, attributes: &Attributes<'_>, status: &Status, notices: &Notices) {
        let Some(log) = &self.log else { return };
        let nobody = Arc::new(UserInfo::default());
        let verdict = log.judge(Subject { user: &nobody, attributes });
        if verdict.records(Stage::ResponseStarted) {
            let mut event = self.event(request, nobody, attributes, &verdict);
            event.annotations.extend(notices.annotations().into_iter().map(|(name, text)| (name.into(), text)));
            let status = Some(status_of(Some(status), status.code));
            log.record(Box::new(Event { stage: Stage::ResponseStarted, at: log.now(), status, ..event })).await;
        }
    }

    fn event(&self, request: &HttpRequest, user: Arc<UserInfo>, attributes: &Attributes<'_>, verdict: &Verdict) -> Event {
        let object = attributes.path.is_none().then(|| ObjectReference {
            resource: attributes.resource.to_owned(),
            namespace: attributes.namespace.to_owned(),
            name: attributes.name.to_owned(),
            api_group: attributes.group.to_owned(),
            api_version: attributes.version.to_owned(),
            subresource: attributes.subresource.to_owned(),
            ..ObjectReference::default()
        });
        Event {
            level: verdict.level,
            omit_managed_fields: verdict.omit_managed_fields,
            audit_id: self.id.clone(),
            stage: Stage::RequestReceived,
            uri: request.uri().path_and_query().map_or("", |uri| uri.as_str()).into(),
            verb: attributes.verb.into(),
            user,
            impersonated: None,
            constraint: "",
            source_ips: source_ips(request.headers(), request.peer_addr().map(|peer| peer.ip().to_canonical().to_string())).into(),
            user_agent: shortened(user_agent(request)).into(),
            object,
            status: None,
            request: None,
            response: None,
            received: self.received,
            at: self.received,
            annotations: BTreeMap::new(),
        }
    }

    /// Whether what is asked will be in the event.
    pub fn records_requests(&self) -> bool {
        self.open.borrow().as_ref().is_some_and(|open| open.verdict.level >= Level::Request)
    }

    fn note(&self, change: impl FnOnce(&mut Open)) {
        if let Some(open) = self.open.borrow_mut().as_deref_mut() {
            change(open);
        }
    }

    /// The caller acts as somebody else.
    pub fn impersonated(&self, impersonated: &Impersonated) {
        self.note(|open| {
            open.event.impersonated = Some(impersonated.user.clone());
            open.event.constraint = impersonated.constraint;
        });
    }

    /// What the request asks for. Options of deletions are what it asks for only where they stand in its body.
    pub fn asked(&self, target: &Target, operation: &Operation, has_body: bool) {
        self.note(|open| {
            open.event.request = match operation {
                Operation::Create { body, .. } | Operation::Update { body, .. } => Some(sent(target, body)),
                Operation::Patch { body, patch_type: troupe_api::service::PatchType::Apply, .. } => Some(Content::Yaml(body.clone())),
                Operation::Patch { body, .. } => Some(Content::Json(body.clone())),
                Operation::Delete(options) | Operation::DeleteCollection { delete: options, .. } if has_body => {
                    Some(Content::Value(deletion(options)))
                }
                _ => None,
            };
        });
    }

    /// What the work on the request has to say about it.
    pub fn annotate(&self, annotations: BTreeMap<String, String>) {
        self.note(|open| open.event.annotations.extend(annotations.into_iter().map(|(name, text)| (name.into(), text))));
    }

    /// What the service answers.
    pub fn answered(&self, target: &Target, reply: &ApiReply) {
        self.note(|open| {
            if let ReplyBody::Success { details } = &reply.body {
                open.event.status = Some(success(details));
            }
            if open.verdict.level >= Level::RequestResponse {
                open.event.response = Some(content(target, reply));
            }
        });
    }

    /// The reply's head is made: records it, and follows the body of a long-running request to its end.
    pub async fn replied(self, response: HttpResponse, failure: Option<&Status>, panicked: bool) -> HttpResponse {
        let (Some(log), Some(open)) = (self.log.clone(), self.open.take()) else { return response };
        let Open { verdict, mut event, long_running } = *open;
        let code = response.status().as_u16();
        event.status = Some(settled(failure, event.status.take(), code));
        if let Some(status) = failure
            && verdict.level >= Level::RequestResponse
        {
            event.response = Some(Content::Value(status.to_json()));
        }
        let refused = failure.is_some_and(|status| status.reason == Reason::Forbidden && status.message.contains(" cannot "));
        let decision = if refused { "forbid" } else { "allow" };
        event.annotations.insert("authorization.k8s.io/decision".into(), decision.to_owned());
        event.annotations.insert("authorization.k8s.io/reason".into(), String::new());
        let stage = if panicked { Stage::Panic } else { Stage::ResponseComplete };
        // Which requests last is told by what they ask for: one that is refused starts a response too.
        if long_running && !panicked && verdict.records(Stage::ResponseStarted) {
            log.record(Box::new(Event { stage: Stage::ResponseStarted, at: log.now(), ..event.clone() })).await;
        }
        if panicked || !long_running || failure.is_some() {
            if verdict.records(stage) {
                log.record(Box::new(Event { stage, at: log.now(), ..event })).await;
            }
            return response;
        }
        let end = verdict.records(stage).then(|| Box::new(Event { stage, ..event }));
        response.map_body(|_, body| Followed { body, _end: End { log, event: end } }.boxed())
    }
}

impl Drop for AuditContext {
    /// The connection broke before the reply was made.
    fn drop(&mut self) {
        let (Some(log), Some(open)) = (&self.log, self.open.take()) else { return };
        let Open { verdict, mut event, long_running } = *open;
        event.status = Some(json!({"metadata": {}, "status": "Success", "message": "Connection closed early", "code": 200}));
        if long_running && verdict.records(Stage::ResponseStarted) {
            log.record_aside(Box::new(Event { stage: Stage::ResponseStarted, at: log.now(), ..event.clone() }));
        }
        if verdict.records(Stage::ResponseComplete) {
            log.record_aside(Box::new(Event { stage: Stage::ResponseComplete, at: log.now(), ..event }));
        }
    }
}

/// An object that a request brings.
fn sent(target: &Target, body: &Body) -> Content {
    let content = match body {
        Body::Json(bytes) => Content::Json(bytes.clone()),
        Body::Yaml(bytes) => Content::Yaml(bytes.clone()),
        Body::Protobuf(bytes) => Content::Protobuf(bytes.clone()),
        Body::Tree(tree) => Content::Tree(Box::new(tree.clone())),
    };
    let resource = &target.resource;
    let own = resource.gvk(&target.version);
    let named = target.served().subresource(&target.subresource).map(|subresource| resource.subresource_gvk(subresource, &target.version));
    let kind = named.unwrap_or_else(|| own.clone());
    let whole = (kind == own).then(|| (resource.clone(), target.version.clone()));
    Content::Sent { content: Box::new(content), kind: Box::new(kind), whole }
}

/// `metav1.Status` as events carry it.
fn status_of(failure: Option<&Status>, code: u16) -> Value {
    let Some(status) = failure else { return json!({"metadata": {}, "code": code}) };
    let mut value = status.to_json();
    if let Some(fields) = value.as_object_mut() {
        fields.remove("kind");
        fields.remove("apiVersion");
    }
    value
}

/// What a request says of its success that has no object to show.
fn success(details: &Value) -> Value {
    let mut success = json!({"metadata": {}, "status": "Success"});
    if !details.is_null() {
        success["details"] = details.clone();
    }
    success
}

/// Options of a deletion as upstream's events have them: in the form that servers work with.
fn deletion(options: &DeleteOptions) -> Value {
    let mut written = json!({"kind": "DeleteOptions", "apiVersion": "meta.k8s.io/__internal"});
    if let Some(seconds) = options.grace_period_seconds {
        written["gracePeriodSeconds"] = seconds.into();
    }
    if let Some(uid) = &options.precondition_uid {
        written["preconditions"]["uid"] = uid.as_str().into();
    }
    if let Some(revision) = &options.precondition_revision {
        written["preconditions"]["resourceVersion"] = revision.to_string().into();
    }
    if let Some(propagation) = &options.propagation {
        written["propagationPolicy"] = match propagation {
            Propagation::Orphan => "Orphan",
            Propagation::Background => "Background",
            Propagation::Foreground => "Foreground",
        }
        .into();
    }
    if options.dry_run {
        written["dryRun"] = json!(["All"]);
    }
    written
}

/// The status of a reply, of which the work on the request may have told something.
fn settled(failure: Option<&Status>, told: Option<Value>, code: u16) -> Value {
    match (failure, told) {
        (None, Some(mut told)) => {
            told["code"] = code.into();
            told
        }
        (failure, _) => status_of(failure, code),
    }
}

fn content(target: &Target, reply: &ApiReply) -> Content {
    let form = Box::new(FullForm::new(target));
    match &reply.body {
        ReplyBody::Object(object) => Content::Stored(object.clone(), form),
        ReplyBody::Tree(tree) => Content::Tree(Box::new(form.tree(tree.clone()))),
        ReplyBody::List(list) => Content::List {
            kind: target.resource.list_kind(),
            api_version: crate::render::api_version(target),
            revision: list.revision.to_string(),
            items: list.items.clone(),
            form,
            is_typed: !target.resource.is_custom(),
        },
        ReplyBody::Success { details } => {
            let mut success = success(details);
            (success["kind"], success["apiVersion"]) = ("Status".into(), "v1".into());
            Content::Value(success)
        }
    }
}

/// Where a request came from: what proxies say, then the connection's own end.
fn source_ips(headers: &HeaderMap, peer: Option<String>) -> Vec<String> {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or("");
    let is_ip = |text: &&str| text.parse::<std::net::IpAddr>().is_ok();
    let mut ips: Vec<String> = text(header::X_FORWARDED_FOR.as_str()).split(',').map(str::trim).filter(is_ip).map(str::to_owned).collect();
    let real = Some(text("x-real-ip").trim()).filter(is_ip).map(str::to_owned);
    if let Some(real) = real.filter(|real| !ips.contains(real)) {
        ips.push(real);
    }
    if let Some(peer) = peer.filter(|peer| ips.last() != Some(peer)) {
        ips.push(peer);
    }
    ips
}

fn shortened(agent: &str) -> String {
    match agent.char_indices().find(|(at, _)| *at >= LONGEST_AGENT) {
        Some((at, _)) => format!("{}...TRUNCATED", &agent[..at]),
        None => agent.to_owned(),
    }
}

/// A body whose end is recorded.
struct Followed {
    body: BoxBody,
    _end: End,
}

/// Records the end of a long-running request when it goes.
struct End {
    log: Arc<AuditLog>,
    event: Option<Box<Event>>,
}

impl Drop for End {
    fn drop(&mut self) {
        if let Some(mut event) = self.event.take() {
            event.at = self.log.now();
            self.log.record_aside(event);
        }
    }
}

impl MessageBody for Followed {
    type Error = Box<dyn std::error::Error>;

    fn size(&self) -> BodySize {
        self.body.size()
    }

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, Self::Error>>> {
        Pin::new(&mut self.body).poll_next(cx)
    }
}

#[cfg(test)]
mod tests {
    use actix_web::http::header::{HeaderName, HeaderValue};

    use super::*;

    #[test]
    fn sources_are_listed_from_the_client_to_the_last_hop() {
        let mut headers = HeaderMap::new();
        headers.insert(header::X_FORWARDED_FOR, HeaderValue::from_static("192.0.2.1, nonsense, 192.0.2.2"));
        headers.insert(HeaderName::from_static("x-real-ip"), HeaderValue::from_static("192.0.2.1"));
        assert_eq!(source_ips(&headers, Some("10.0.0.1".into())), ["192.0.2.1", "192.0.2.2", "10.0.0.1"]);
        assert_eq!(source_ips(&HeaderMap::new(), Some("10.0.0.1".into())), ["10.0.0.1"]);
    }

    #[test]
    fn deletions_tell_what_is_gone() {
        let told = success(&json!({"name": "a", "kind": "configmaps"}));
        let gone = json!({"metadata": {}, "status": "Success", "details": {"name": "a", "kind": "configmaps"}, "code": 200});
        assert_eq!(settled(None, Some(told.clone()), 200), gone);
        assert_eq!(settled(None, None, 201), json!({"metadata": {}, "code": 201}));
        let refused = settled(Some(&Status::internal("no")), Some(told), 500);
        assert_eq!((&refused["status"], &refused["code"]), (&json!("Failure"), &json!(500)));
    }

    #[test]
    fn options_of_deletions_are_what_they_ask_for() {
        let asked = DeleteOptions { grace_period_seconds: Some(0), propagation: Some(Propagation::Background), ..DeleteOptions::default() };
        let written =
            json!({"kind": "DeleteOptions", "apiVersion": "meta.k8s.io/__internal", "gracePeriodSeconds": 0, "propagationPolicy": "Background"});
        assert_eq!(deletion(&asked), written);
        let asked = DeleteOptions { precondition_uid: Some("u".into()), dry_run: true, ..DeleteOptions::default() };
        let written = json!({"kind": "DeleteOptions", "apiVersion": "meta.k8s.io/__internal", "preconditions": {"uid": "u"}, "dryRun": ["All"]});
        assert_eq!(deletion(&asked), written);
    }

    #[test]
    fn long_agents_are_cut() {
        let cut = shortened(&"ä".repeat(1000));
        assert!(cut.ends_with("...TRUNCATED") && cut.len() < 1100);
        assert_eq!(shortened("kubectl"), "kubectl");
    }
}
