//! From a typed call to an HTTP request: path, query, body. Pure.

use bytes::Bytes;
use http::Method;
use serde_json::{Value, json};
use troupe_api::{
    service::{
        Body, DeleteOptions, FieldValidation, ListOptions, Operation, PatchType, Propagation, Target, VersionMatch, WatchOptions, WriteOptions,
    },
    status::Status,
};

const JSON: &str = "application/json";

/// A request without the headers that every request has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outgoing {
    pub method: Method,
    /// Path and query, encoded.
    pub path: String,
    /// The body and its media type.
    pub body: Option<(&'static str, Bytes)>,
}

impl Outgoing {
    /// Whether it is a watch, whose events should come with their causes.
    pub fn is_watch(&self) -> bool {
        self.is_read() && self.path.contains("?watch=true")
    }

    /// Whether sending it twice does no more than sending it once.
    pub fn is_read(&self) -> bool {
        self.method == Method::GET
    }

    /// The request of a call.
    ///
    /// # Errors
    /// When a body does not encode.
    pub fn of_call(target: &Target, operation: &Operation) -> Result<Self, Status> {
        let mut query = QueryString::default();
        let (method, body) = match operation {
            Operation::Get { resource_version } => {
                query.add_opt("resourceVersion", resource_version.as_ref());
                (Method::GET, None)
            }
            Operation::List(options) => {
                query.add_list(options);
                (Method::GET, None)
            }
            Operation::Create { body, options } => {
                query.add_write(options);
                (Method::POST, Some(encode(body)?))
            }
            Operation::Update { body, options } => {
                query.add_write(options);
                (Method::PUT, Some(encode(body)?))
            }
            Operation::Patch { patch_type, body, options } => {
                query.add_write(options);
                if *patch_type == PatchType::Apply && options.force {
                    query.add("force", "true");
                }
                (Method::PATCH, Some((media_type(*patch_type), body.clone())))
            }
            Operation::Delete(options) => (Method::DELETE, Some((JSON, delete_body(options)))),
            Operation::DeleteCollection { delete, list } => {
                query.add_list(list);
                (Method::DELETE, Some((JSON, delete_body(delete))))
            }
        };
        Ok(Outgoing { method, path: query.behind(path(target)), body })
    }

    /// The request of a watch that the server ends after `seconds`.
    pub fn of_watch(target: &Target, options: &WatchOptions, seconds: u64) -> Self {
        let mut query = QueryString::default();
        query.add("watch", "true");
        query.add_selectors(&options.labels, &options.fields);
        if !target.name.is_empty() {
            query.add("fieldSelector", &format!("metadata.name={}", target.name));
        }
        query.add_opt("resourceVersion", options.resource_version.as_ref());
        if options.allow_bookmarks {
            query.add("allowWatchBookmarks", "true");
        }
        if options.send_initial_events == Some(true) {
            query.add("sendInitialEvents", "true");
            query.add("resourceVersionMatch", "NotOlderThan");
        }
        query.add("timeoutSeconds", &seconds.to_string());
        let collection = Target { name: "".into(), ..target.clone() };
        Outgoing { method: Method::GET, path: query.behind(path(&collection)), body: None }
    }
}

/// The path of a target.
pub fn path(target: &Target) -> String {
    let resource = &target.resource;
    let mut path = if resource.group.is_empty() {
        format!("/api/{}", encoded(&target.version))
    } else {
        format!("/apis/{}/{}", encoded(&resource.group), encoded(&target.version))
    };
    if resource.namespaced && !target.namespace.is_empty() {
        path.push_str(&format!("/namespaces/{}", encoded(&target.namespace)));
    }
    for part in [&resource.plural, &target.name, &target.subresource].into_iter().filter(|part| !part.is_empty()) {
        path.push('/');
        path.push_str(&encoded(part));
    }
    path
}

fn encode(body: &Body) -> Result<(&'static str, Bytes), Status> {
    match body {
        Body::Json(bytes) => Ok((JSON, bytes.clone())),
        Body::Yaml(bytes) => Ok(("application/yaml", bytes.clone())),
        Body::Protobuf(bytes) => Ok(("application/vnd.kubernetes.protobuf", bytes.clone())),
        Body::Tree(tree) => Ok((JSON, serde_json::to_vec(tree.root()).map_err(Status::internal)?.into())),
    }
}

fn media_type(patch_type: PatchType) -> &'static str {
    match patch_type {
        PatchType::Json => "application/json-patch+json",
        PatchType::Merge => "application/merge-patch+json",
        PatchType::StrategicMerge => "application/strategic-merge-patch+json",
        PatchType::Apply => "application/apply-patch+yaml",
    }
}

fn delete_body(options: &DeleteOptions) -> Bytes {
    let mut body = json!({"kind": "DeleteOptions", "apiVersion": "v1"});
    if let Some(seconds) = options.grace_period_seconds {
        body["gracePeriodSeconds"] = seconds.into();
    }
    let mut preconditions = json!({});
    if let Some(uid) = &options.precondition_uid {
        preconditions["uid"] = uid.as_str().into();
    }
    if let Some(revision) = options.precondition_revision {
        preconditions["resourceVersion"] = revision.to_string().into();
    }
    if preconditions != json!({}) {
        body["preconditions"] = preconditions;
    }
    if let Some(propagation) = options.propagation {
        let word = match propagation {
            Propagation::Orphan => "Orphan",
            Propagation::Background => "Background",
            Propagation::Foreground => "Foreground",
        };
        body["propagationPolicy"] = word.into();
    }
    if options.dry_run {
        body["dryRun"] = Value::from(vec!["All"]);
    }
    if options.ignore_store_read_error {
        body["ignoreStoreReadErrorWithClusterBreakingPotential"] = true.into();
    }
    body.to_string().into()
}

/// A query string in the making.
#[derive(Default)]
struct QueryString(String);

impl QueryString {
    fn add(&mut self, name: &str, value: &str) {
        self.0.push(if self.0.is_empty() { '?' } else { '&' });
        self.0.push_str(name);
        self.0.push('=');
        self.0.push_str(&encoded(value));
    }

    fn add_opt(&mut self, name: &str, value: Option<&impl ToString>) {
        if let Some(value) = value {
            self.add(name, &value.to_string());
        }
    }

    fn add_selectors(&mut self, labels: &troupe_api::meta::LabelSelector, fields: &troupe_api::meta::FieldSelector) {
        if !labels.is_everything() {
            self.add("labelSelector", &labels.to_string());
        }
        if !fields.is_everything() {
            self.add("fieldSelector", &fields.to_string());
        }
    }

    fn add_list(&mut self, options: &ListOptions) {
        self.add_selectors(&options.labels, &options.fields);
        if options.limit > 0 {
            self.add("limit", &options.limit.to_string());
        }
        self.add_opt("continue", options.continue_token.as_ref());
        self.add_opt("resourceVersion", options.resource_version.as_ref());
        if let Some(version_match) = options.version_match {
            let exact = version_match == VersionMatch::Exact;
            self.add("resourceVersionMatch", if exact { "Exact" } else { "NotOlderThan" });
        }
        if !options.metric_labels.is_everything() {
            self.add("metricLabelSelector", &options.metric_labels.to_string());
        }
    }

    fn add_write(&mut self, options: &WriteOptions) {
        if !options.field_manager.is_empty() {
            self.add("fieldManager", &options.field_manager);
        }
        if options.dry_run {
            self.add("dryRun", "All");
        }
        match options.field_validation {
            FieldValidation::Warn => {}
            FieldValidation::Ignore => self.add("fieldValidation", "Ignore"),
            FieldValidation::Strict => self.add("fieldValidation", "Strict"),
        }
    }

    fn behind(self, mut path: String) -> String {
        path.push_str(&self.0);
        path
    }
}

/// Escapes everything but RFC 3986's unreserved characters and the colon.
fn encoded(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b':' => out.push(char::from(byte)),
            _ => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use troupe_api::{
        meta::{FieldSelector, LabelSelector, Revision},
        resources::Registry,
    };

    fn target(group: &str, plural: &str, namespace: &str, name: &str, subresource: &str) -> Target {
        let resource = Registry::new(troupe_api::resources::builtin()).by_resource(group, plural).expect("a built-in kind");
        let version = resource.served[0].version.clone();
        Target { resource, version, namespace: namespace.into(), name: name.into(), subresource: subresource.into() }
    }

    #[test]
    fn targets_become_the_paths_of_the_rest_api() {
        for (target, want) in [
            (target("", "pods", "a", "p", "status"), "/api/v1/namespaces/a/pods/p/status"),
            (target("", "pods", "", "", ""), "/api/v1/pods"),
            (target("", "namespaces", "", "a", "finalize"), "/api/v1/namespaces/a/finalize"),
            (target("apps", "deployments", "a", "d", "scale"), "/apis/apps/v1/namespaces/a/deployments/d/scale"),
            (
                target("rbac.authorization.k8s.io", "clusterroles", "", "system:a/b", ""),
                "/apis/rbac.authorization.k8s.io/v1/clusterroles/system:a%2Fb",
            ),
        ] {
            assert_eq!(path(&target), want);
        }
    }

    #[test]
    fn options_become_the_query() {
        let options = WriteOptions {
            dry_run: true,
            field_manager: "a b".into(),
            field_validation: FieldValidation::Strict,
            force: true,
            ..WriteOptions::default()
        };
        let patch = Operation::Patch { patch_type: PatchType::Apply, body: Bytes::from("{}"), options };
        let request = Outgoing::of_call(&target("", "pods", "n", "p", ""), &patch).expect("encodes");
        assert_eq!(request.path, "/api/v1/namespaces/n/pods/p?fieldManager=a%20b&dryRun=All&fieldValidation=Strict&force=true");
        assert_eq!(request.body, Some(("application/apply-patch+yaml", Bytes::from("{}"))));
        let list = ListOptions {
            labels: LabelSelector::parse("a in (b,c)").expect("parses"),
            limit: 5,
            continue_token: Some("x+/=".into()),
            metric_labels: LabelSelector::parse("verb=GET").expect("parses"),
            ..ListOptions::default()
        };
        let request = Outgoing::of_call(&target("", "pods", "", "", ""), &Operation::List(list)).expect("encodes");
        assert_eq!(request.path, "/api/v1/pods?labelSelector=a%20in%20%28b%2Cc%29&limit=5&continue=x%2B%2F%3D&metricLabelSelector=verb%3DGET");
        assert!(request.is_read());
    }

    #[test]
    fn a_watch_of_one_object_selects_it_by_name() {
        let options = WatchOptions {
            fields: FieldSelector::parse("spec.nodeName=n1").expect("parses"),
            allow_bookmarks: true,
            send_initial_events: Some(true),
            ..WatchOptions::default()
        };
        let watch = Outgoing::of_watch(&target("", "pods", "n", "", ""), &options, 300);
        let path = "/api/v1/namespaces/n/pods?watch=true&fieldSelector=spec.nodeName%3Dn1&allowWatchBookmarks=true&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&timeoutSeconds=300";
        assert_eq!(watch.path, path);
        let one = Outgoing::of_watch(&target("", "pods", "n", "p", ""), &WatchOptions::default(), 1);
        assert_eq!(one.path, "/api/v1/namespaces/n/pods?watch=true&fieldSelector=metadata.name%3Dp&timeoutSeconds=1");
    }

    #[test]
    fn what_a_deletion_depends_on_is_in_its_body() {
        let options = DeleteOptions {
            grace_period_seconds: Some(0),
            precondition_uid: Some("u".into()),
            precondition_revision: Some(Revision(7)),
            propagation: Some(Propagation::Foreground),
            dry_run: false,
            ignore_store_read_error: false,
        };
        let request = Outgoing::of_call(&target("", "pods", "n", "p", ""), &Operation::Delete(options)).expect("encodes");
        let body: Value = serde_json::from_slice(&request.body.expect("a body").1).expect("JSON");
        assert_eq!(
            body,
            json!({"kind": "DeleteOptions", "apiVersion": "v1", "gracePeriodSeconds": 0, "preconditions": {"uid": "u", "resourceVersion": "7"},
                "propagationPolicy": "Foreground"})
        );
    }
}
