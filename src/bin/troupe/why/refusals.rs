//! Which webhooks keep an object from being written, from what the API servers tell of the last minutes. Pure.

use jiff::Timestamp;
use serde_json::Value;

use super::{
    report::Reason,
    tree::{items, text},
};

/// Refusals that are told.
const TOLD: usize = 5;

/// An object that somebody asks about.
#[derive(Clone, Copy, Debug)]
pub struct Asked<'a> {
    pub kind: &'a str,
    pub namespace: &'a str,
    pub name: &'a str,
    /// It is there: what once kept it from being created does no more.
    pub exists: bool,
}

/// One reason for each webhook that lately refused a write of the object, of what it owns or, of a namespace that ends, of what is in it.
pub fn reasons(actors: &[Value], asked: Asked<'_>, ends: bool, now: Timestamp) -> Vec<Reason> {
    let shown = actors.iter().filter(|actor| actor["path"] == "apiserver/webhooks");
    let refused = shown.flat_map(|actor| items(&actor["status"]["refused"]));
    refused.filter(|refusal| concerns(refusal, asked, ends)).take(TOLD).map(|refusal| reason(refusal, asked, now)).collect()
}

fn concerns(refusal: &Value, asked: Asked<'_>, ends: bool) -> bool {
    let in_namespace = text(&refusal["namespace"]) == asked.namespace;
    if asked.kind == "Namespace" && ends && text(&refusal["namespace"]) == asked.name {
        return true;
    }
    let is_creation = refusal["operation"] == "CREATE" && text(&refusal["subresource"]).is_empty();
    is_itself(refusal, asked) && !(asked.exists && is_creation) || in_namespace && is_owned(&refusal["owner"], asked)
}

fn is_itself(refusal: &Value, asked: Asked<'_>) -> bool {
    // A Namespace is told to lie in itself.
    let in_namespace = text(&refusal["namespace"]) == asked.namespace || asked.kind == "Namespace";
    refusal["kind"] == asked.kind && in_namespace && refusal["name"] == asked.name
}

/// Whether the object is the owner; what belongs to a Deployment's ReplicaSets is the Deployment's.
fn is_owned(owner: &Value, asked: Asked<'_>) -> bool {
    let (kind, name) = (text(&owner[0]), text(&owner[1]));
    let hash = name.strip_prefix(asked.name).and_then(|rest| rest.strip_prefix('-'));
    let through_set = asked.kind == "Deployment" && kind == "ReplicaSet" && hash.is_some_and(|hash| !hash.is_empty() && !hash.contains('-'));
    kind == asked.kind && name == asked.name || through_set
}

fn reason(refusal: &Value, asked: Asked<'_>, now: Timestamp) -> Reason {
    let field = |name: &str| text(&refusal[name]);
    let what = match field("operation") {
        "CREATE" if field("subresource").is_empty() => "its creation",
        "CREATE" | "CONNECT" => "a request",
        "DELETE" => "its deletion",
        _ => "a change",
    };
    let of = if is_itself(refusal, asked) { String::new() } else { format!(" of {} {}", field("kind").to_lowercase(), name_of(refusal)) };
    let of = if of.is_empty() { what.to_owned() } else { format!("{}{of}", what.replace("its ", "the ")) };
    let through = if field("subresource").is_empty() { String::new() } else { format!(" ({})", field("subresource")) };
    let ago = field("last").parse::<Timestamp>().map_or(0, |last| now.duration_since(last).as_secs().max(0));
    let count = refusal["count"].as_u64().unwrap_or(1);
    let times = if count > 1 { format!("{count} times, last {ago}s ago") } else { format!("{ago}s ago") };
    let (webhook, kind, configuration) = (field("webhook"), field("configurationKind"), field("configuration"));
    let reason = Reason::new(format!("webhook {webhook} of {kind} {configuration} prevented {of}{through}, {times}")).quotes(field("message"));
    let take_away = format!("kubectl delete {} {configuration}", kind.to_lowercase());
    reason.hint(match refusal["failed"] == true {
        true => format!("the server behind the webhook has to be mended; {take_away} takes it out of the way"),
        false => format!("the webhook's owner says what it asks for; {take_away} takes it out of the way"),
    })
}

/// The object's name, or what it begins with.
fn name_of(refusal: &Value) -> String {
    match text(&refusal["name"]) {
        "" => format!("{}…", text(&refusal["generateName"])),
        name => name.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn refusal(change: Value) -> Value {
        let mut refusal = json!({"configurationKind": "ValidatingWebhookConfiguration", "configuration": "guard", "webhook": "a.example.com",
            "operation": "CREATE", "kind": "ConfigMap", "subresource": "", "namespace": "d", "name": "m", "generateName": "", "owner": null,
            "failed": true, "message": "context deadline exceeded", "count": 1, "last": "2026-01-01T00:00:00Z"});
        for (field, value) in change.as_object().into_iter().flatten() {
            refusal[field] = value.clone();
        }
        refusal
    }

    fn told(refusal: Value, kind: &str, namespace: &str, name: &str, ends: bool) -> Vec<String> {
        let actors = [json!({"path": "apiserver/upkeep"}), json!({"path": "apiserver/webhooks", "status": {"refused": [refusal]}})];
        let now = "2026-01-01T00:00:07Z".parse().expect("a time");
        reasons(&actors, Asked { kind, namespace, name, exists: false }, ends, now).into_iter().map(|reason| reason.what).collect()
    }

    #[test]
    fn who_is_refused_learns_by_whom() {
        let first = "webhook a.example.com of ValidatingWebhookConfiguration guard prevented its creation, 7s ago";
        assert_eq!(told(refusal(json!({})), "ConfigMap", "d", "m", false), [first]);
        assert!(told(refusal(json!({})), "ConfigMap", "d", "other", false).is_empty());
        assert!(told(refusal(json!({})), "ConfigMap", "e", "m", false).is_empty());
        assert!(told(refusal(json!({})), "Secret", "d", "m", false).is_empty());
        let change = refusal(json!({"operation": "UPDATE", "subresource": "status", "count": 3}));
        let third = "webhook a.example.com of ValidatingWebhookConfiguration guard prevented a change (status), 3 times, last 7s ago";
        assert_eq!(told(change, "ConfigMap", "d", "m", false), [third]);
    }

    #[test]
    fn nothing_kept_from_being_created_what_is_there() {
        let told = |refusal: Value| {
            let actors = [json!({"path": "apiserver/webhooks", "status": {"refused": [refusal]}})];
            let asked = Asked { kind: "ConfigMap", namespace: "d", name: "m", exists: true };
            reasons(&actors, asked, false, "2026-01-01T00:00:07Z".parse().expect("a time")).len()
        };
        assert_eq!((told(refusal(json!({}))), told(refusal(json!({"operation": "UPDATE"})))), (0, 1));
        assert_eq!(told(refusal(json!({"subresource": "eviction"}))), 1, "a request to what is there");
    }

    #[test]
    fn owners_learn_of_what_is_theirs_and_namespaces_of_what_keeps_them() {
        let pod = || refusal(json!({"kind": "Pod", "name": "", "generateName": "web-abc-", "owner": ["ReplicaSet", "web-abc"]}));
        let creation = "webhook a.example.com of ValidatingWebhookConfiguration guard prevented the creation of pod web-abc-…, 7s ago";
        assert_eq!(told(pod(), "ReplicaSet", "d", "web-abc", false), [creation]);
        assert_eq!(told(pod(), "Deployment", "d", "web", false), [creation]);
        assert!(told(pod(), "Deployment", "d", "we", false).is_empty());
        assert!(told(pod(), "Deployment", "other", "web", false).is_empty());
        let deletion = || refusal(json!({"operation": "DELETE"}));
        assert_eq!(told(deletion(), "Namespace", "", "d", true).len(), 1);
        assert!(told(deletion(), "Namespace", "", "d", false).is_empty());
    }
}
