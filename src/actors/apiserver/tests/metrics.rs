//! Series of custom resources go with their definitions; what other tests ask of counters.

use serde_json::{Value, json};
use troupe_api::{
    ApiService,
    metrics::{parse::Samples, render},
    service::DeleteOptions,
};
use troupe_api_server::admission::match_metrics;

use crate::apiserver::{
    cache,
    testing::{TestApi, boot, eventually},
};

const CRDS: &str = "customresourcedefinitions.apiextensions.k8s.io";
const RECEIVED: &str = "apiserver_storage_events_received_total";
/// Other tests of this process have definitions of other groups.
const GROUP: &str = "counted.example.com";

fn definition(plural: &str, kind: &str) -> Value {
    let version = json!({"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": {"type": "object"}}});
    json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition", "metadata": {"name": format!("{plural}.{GROUP}")},
        "spec": {"group": GROUP, "scope": "Namespaced", "names": {"plural": plural, "kind": kind}, "versions": [version]},
    })
}

/// The events of a resource that were counted; nothing if there is no series.
fn counted(plural: &str) -> Option<f64> {
    let page = render(&cache::metrics::COLLECTORS);
    let samples = Samples::parse(std::str::from_utf8(&page).expect("text")).expect("parses");
    samples.value(RECEIVED, &[("group", GROUP), ("resource", plural)])
}

async fn define(api: &TestApi, plural: &str, kind: &str) {
    api.create(definition(plural, kind)).await;
    eventually("it is served", async || api.server.registry().by_resource(GROUP, plural).is_some()).await;
    let object = json!({"apiVersion": format!("{GROUP}/v1"), "kind": kind, "metadata": {"name": "a", "namespace": "default"}});
    api.create(object).await;
}

#[actix::test]
async fn series_of_a_custom_resource_go_with_its_definition() {
    let api = boot().await;
    define(&api, "keepers", "Keeper").await;
    for _ in 0..3 {
        define(&api, "comers", "Comer").await;
        assert_eq!(counted("comers"), Some(1.0), "each begins with none");
        api.delete(CRDS, "", &format!("comers.{GROUP}"), DeleteOptions::default()).await.expect("deletes");
        eventually("the series is gone", async || counted("comers").is_none()).await;
        eventually("the definition is gone", async || api.get(CRDS, "", &format!("comers.{GROUP}")).await.is_err()).await;
    }
    assert_eq!(counted("keepers"), Some(1.0));
}

/// What is counted of the match conditions of a webhook or policy for creates: requests it was not asked about, failures, and evaluations
/// that took a time.
pub fn counted_of(name: &str, kind: &str, step: &str) -> [Option<f64>; 3] {
    let page = render(&match_metrics::COLLECTORS);
    let samples = Samples::parse(std::str::from_utf8(&page).expect("text")).expect("parses");
    let labels = [("name", name), ("kind", kind), ("type", step), ("operation", "CREATE")];
    ["exclusions_total", "evaluation_errors_total", "evaluation_seconds_count"]
        .map(|series| samples.value(&format!("apiserver_admission_match_condition_{series}"), &labels))
}
