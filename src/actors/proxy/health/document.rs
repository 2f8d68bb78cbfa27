//! What is answered. Pure.

use jiff::Timestamp;
use serde_json::json;
use troupe_api::meta::ObjectKey;
use troupe_net::iptables::Family;

use crate::proxy::sync_state::State;

/// An answer: code, body and its media type, and the weight of this node where one is told.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Document {
    pub code: u16,
    pub body: String,
    pub content_type: &'static str,
    pub weight: Option<usize>,
    /// What its `Warning` header says, if it has one.
    pub warning: Option<&'static str>,
}

impl Document {
    fn of(healthy: bool, body: String) -> Self {
        Document { code: if healthy { 200 } else { 503 }, body, content_type: "application/json", ..Document::default() }
    }

    /// How many endpoints of a Service are here.
    pub fn of_service(service: &ObjectKey, local: usize, proxy_healthy: bool) -> Self {
        let (namespace, name) = (json!(&*service.namespace), json!(&*service.name));
        let body = format!(
            "{{\n\t\"service\": {{\n\t\t\"namespace\": {namespace},\n\t\t\"name\": {name}\n\t}},\n\t\"localEndpoints\": {local},\n\t\"serviceProxyHealthy\": {proxy_healthy}\n}}"
        );
        Document { weight: Some(local), ..Document::of(local > 0 && proxy_healthy, body) }
    }

    /// How the proxy is; with whether its node may get traffic, where that is asked.
    pub fn of_proxy(states: &[(Family, State)], eligible: Option<bool>, now: Timestamp) -> Self {
        let healthy = states.iter().all(|(_, state)| state.is_healthy(now));
        let well = healthy && eligible.unwrap_or(true);
        let family = |(family, state): &(Family, State)| {
            let updated = state.updated?;
            Some((family.name().to_owned(), json!({"lastUpdated": updated.to_string(), "healthy": state.is_healthy(now)})))
        };
        let families: serde_json::Map<String, serde_json::Value> = states.iter().filter_map(family).collect();
        let last = states.iter().filter_map(|(_, state)| state.updated).max();
        // As long as all is well, it counts as updated just now.
        let updated = if well { Some(now) } else { last };
        let mut body = json!({
            "lastUpdated": updated.map_or_else(|| "0001-01-01T00:00:00Z".to_owned(), |updated| updated.to_string()),
            "currentTime": now.to_string(),
            "healthy": healthy,
        });
        if let Some(eligible) = eligible {
            body["nodeEligible"] = json!(eligible);
        }
        if !families.is_empty() {
            body["status"] = families.into();
        }
        Document::of(well, body.to_string())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    #[test]
    fn a_service_is_well_where_it_has_endpoints_and_the_proxy_keeps_up() {
        let key = ObjectKey::new("shop", "web");
        let document = Document::of_service(&key, 2, true);
        assert_eq!((document.code, document.weight), (200, Some(2)));
        let body: Value = serde_json::from_str(&document.body).expect("JSON");
        assert_eq!(body, json!({"service": {"namespace": "shop", "name": "web"}, "localEndpoints": 2, "serviceProxyHealthy": true}));
        assert!(document.body.starts_with("{\n\t\"service\": {\n\t\t\"namespace\": \"shop\","));
        assert_eq!(Document::of_service(&key, 0, true).code, 503);
        assert_eq!(Document::of_service(&key, 1, false).code, 503);
    }

    #[test]
    fn the_proxy_tells_times_and_whether_its_node_may_get_traffic() {
        let now = Timestamp::from_second(1_000).expect("a time");
        let before = Timestamp::from_second(900).expect("a time");
        let (well, late) = (State { updated: Some(before), waiting: None }, State { updated: Some(before), waiting: Some(before) });
        let of = |state, eligible| {
            let document = Document::of_proxy(&[(Family::V4, state)], eligible, now);
            (document.code, serde_json::from_str::<Value>(&document.body).expect("JSON"))
        };
        let (code, body) = of(well, Some(true));
        assert_eq!((code, &body["nodeEligible"], &body["healthy"]), (200, &json!(true), &json!(true)));
        assert_eq!((&body["lastUpdated"], &body["status"]["IPv4"]["lastUpdated"]), (&json!(now.to_string()), &json!(before.to_string())));
        let (code, body) = of(well, Some(false));
        assert_eq!((code, &body["healthy"], &body["lastUpdated"]), (503, &json!(true), &json!(before.to_string())));
        let (code, body) = of(late, None);
        assert_eq!((code, &body["healthy"], body.get("nodeEligible")), (503, &json!(false), None));
        assert_eq!(of(State::default(), Some(true)).0, 200);
    }
}
