//! What an APIService object says. Pure.

use std::sync::Arc;

use base64::{Engine, prelude::BASE64_STANDARD};
use serde_json::Value;
use troupe_api::{
    meta::{GroupResource, Object},
    resources::{
        priorities::Priority,
        tree::{items, text},
    },
};

/// The group of API services.
pub const GROUP: &str = "apiregistration.k8s.io";
/// The condition that says whether requests may go there.
pub const AVAILABLE: &str = "Available";
const HTTPS: u16 = 443;

/// The resource of API services.
pub fn api_services() -> GroupResource {
    GroupResource::new(GROUP, "apiservices")
}

/// The Service that a server is behind.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ServiceReference {
    pub namespace: Arc<str>,
    pub name: Arc<str>,
    pub port: u16,
}

/// An API service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApiServiceSpec {
    /// `VERSION.GROUP`
    pub name: Arc<str>,
    pub group: Arc<str>,
    pub version: Arc<str>,
    pub priority: Priority,
    /// Nothing where this server answers itself.
    pub service: Option<ServiceReference>,
    /// PEM of whom is trusted to vouch for the server; whom the system trusts if it is empty.
    pub authorities: Vec<u8>,
    /// Takes any certificate.
    pub insecure: bool,
}

impl ApiServiceSpec {
    /// Reads an object that validation has let pass. The group of API services itself is always answered here, whatever a stored object says
    /// (upstream's aggregator looks at no API service for it either): otherwise nobody could put such an object right.
    pub fn of(object: &Object) -> Self {
        let spec = object.get(&["spec"]).unwrap_or(&Value::Null);
        let number = |field: &str| spec[field].as_i64().unwrap_or_default();
        let service = spec.get("service").filter(|service| service.is_object() && text(spec, &["group"]) != GROUP);
        let port = |service: &Value| service["port"].as_u64().and_then(|port| u16::try_from(port).ok()).unwrap_or(HTTPS);
        let reference = |service: &Value| ServiceReference {
            namespace: text(service, &["namespace"]).into(),
            name: text(service, &["name"]).into(),
            port: port(service),
        };
        ApiServiceSpec {
            name: object.name().into(),
            group: text(spec, &["group"]).into(),
            version: text(spec, &["version"]).into(),
            priority: Priority { group: number("groupPriorityMinimum"), version: number("versionPriority") },
            service: service.map(reference),
            authorities: BASE64_STANDARD.decode(text(spec, &["caBundle"])).unwrap_or_default(),
            insecure: spec["insecureSkipTLSVerify"] == true,
        }
    }

    /// The path of its own discovery document, which each such server has.
    pub fn discovery_path(&self) -> String {
        if self.group.is_empty() { format!("/api/{}", self.version) } else { format!("/apis/{}/{}", self.group, self.version) }
    }
}

/// Whether the condition says that requests may go there.
pub fn is_available(object: &Object) -> bool {
    available_condition(object).is_some_and(|condition| text(condition, &["status"]) == "True")
}

/// The condition that says whether requests may go there.
pub fn available_condition(object: &Object) -> Option<&Value> {
    let status = object.get(&["status"])?;
    items(status, &["conditions"]).iter().find(|condition| text(condition, &["type"]) == AVAILABLE)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn no_other_server_answers_for_api_services() {
        let of = |group: &str| {
            let spec = json!({"group": group, "version": "v1", "service": {"namespace": "n", "name": "s"}});
            ApiServiceSpec::of(&Object::from_value(json!({"metadata": {"name": format!("v1.{group}")}, "spec": spec})).expect("an object"))
        };
        let reference = ServiceReference { namespace: "n".into(), name: "s".into(), port: HTTPS };
        assert_eq!(of("example.com").service, Some(reference));
        assert_eq!(of(GROUP).service, None);
    }
}
