//! What the proxy tells of itself at the address of its metrics (upstream's `--metrics-bind-address`, port 10249 of the loopback).

use troupe_api::metrics::{CONTENT_TYPE, Collect, Process, render};
use troupe_api_client as client;

use super::document::Document;
use crate::{
    proxy::metrics,
    zpages::{Asked, Page, Zpages},
};

/// How rules reach the kernel, as upstream calls it.
const MODE: &str = "iptables";
const TEXT: &str = "text/plain; charset=utf-8";

/// Where it answers beside the pages that say so.
pub const PATHS: [&str; 4] = ["/flagz", "/healthz", "/metrics", "/proxyMode"];

/// Answers a request, if something is there: `/proxyMode`, `/healthz` (that it answers at all), `/metrics`, `/statusz` and `/flagz`.
pub fn answer(asked: &Asked<'_>, zpages: &Zpages) -> Option<Document> {
    let (content_type, body) = match asked.path {
        "/proxyMode" => (TEXT, MODE.to_owned()),
        "/healthz" => (TEXT, "ok".to_owned()),
        "/metrics" => (CONTENT_TYPE, page()),
        _ => {
            let Page { code, content_type, body, warning, .. } = zpages.answer(asked)?.unwrap_or_else(Page::from);
            return Some(Document { code, body, content_type, weight: None, warning });
        }
    };
    Some(Document { code: 200, body, content_type, ..Document::default() })
}

fn page() -> String {
    let mut collectors: Vec<&dyn Collect> = vec![&Process];
    collectors.extend(metrics::COLLECTORS);
    collectors.extend(super::COLLECTORS);
    collectors.extend(client::COLLECTORS);
    String::from_utf8_lossy(&render(&collectors)).into_owned()
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeMap, sync::Arc};

    use troupe_api::{meta::SystemClock, version::VersionInfo};

    use super::*;

    #[test]
    fn the_proxy_tells_how_it_works_and_what_it_counts() {
        let version = VersionInfo::of_build("1", "c", "d");
        let flags = BTreeMap::from([("bridge".to_owned(), "b0".to_owned())]);
        let zpages = Zpages::new("kube-proxy", version, flags, PATHS.map(str::to_owned).to_vec(), Arc::new(SystemClock));
        let body = |path: &str| answer(&Asked { path, ..Asked::default() }, &zpages).map(|document| document.body);
        assert_eq!(body("/proxyMode").as_deref(), Some("iptables"));
        assert_eq!(body("/healthz").as_deref(), Some("ok"));
        metrics::synced(troupe_net::iptables::Family::V4, true, true, std::time::Duration::from_millis(3));
        let page = body("/metrics").expect("is there");
        assert!(page.contains("kubeproxy_sync_proxy_rules_duration_seconds_count{ip_family=\"IPv4\"}"), "{page}");
        assert_eq!(body("/other"), None);
        let (status, flags) = (body("/statusz").expect("is there"), body("/flagz").expect("is there"));
        assert!(status.contains("kube-proxy statusz") && status.contains(" /flagz /healthz /metrics /proxyMode"), "{status}");
        assert!(flags.contains("bridge") && flags.contains("b0"), "{flags}");
        let refused = answer(&Asked { path: "/flagz", accept: "application/json", ..Asked::default() }, &zpages).expect("is there");
        assert_eq!((refused.code, refused.content_type), (406, "application/json"));
    }
}
