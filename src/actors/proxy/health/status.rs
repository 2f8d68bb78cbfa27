//! What the proxy tells of itself at the address of its metrics (upstream's `--metrics-bind-address`, port 10249 of the loopback).

use troupe_api::metrics::{CONTENT_TYPE, Collect, Process, render};
use troupe_api_client as client;

use super::document::Document;
use crate::proxy::metrics;

/// How rules reach the kernel, as upstream calls it.
const MODE: &str = "iptables";
const TEXT: &str = "text/plain; charset=utf-8";

/// Answers at a path, if something is there: `/proxyMode`, `/healthz` (that it answers at all) and `/metrics`.
pub fn answer(path: &str) -> Option<Document> {
    let (content_type, body) = match path {
        "/proxyMode" => (TEXT, MODE.to_owned()),
        "/healthz" => (TEXT, "ok".to_owned()),
        "/metrics" => (CONTENT_TYPE, page()),
        _ => return None,
    };
    Some(Document { code: 200, body, content_type, weight: None })
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
    use super::*;

    #[test]
    fn the_proxy_tells_how_it_works_and_what_it_counts() {
        let body = |path: &str| answer(path).map(|document| document.body);
        assert_eq!(body("/proxyMode").as_deref(), Some("iptables"));
        assert_eq!(body("/healthz").as_deref(), Some("ok"));
        metrics::synced(troupe_net::iptables::Family::V4, true, true, std::time::Duration::from_millis(3));
        let page = body("/metrics").expect("is there");
        assert!(page.contains("kubeproxy_sync_proxy_rules_duration_seconds_count{ip_family=\"IPv4\"}"), "{page}");
        assert_eq!(body("/other"), None);
    }
}
