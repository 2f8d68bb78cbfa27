//! The webhook of a chart: it refuses Widgets that count too much.

use serde_json::{Value, json};

use super::server;

/// Judges until it is ended.
pub async fn serve() {
    let maximum: i64 = std::env::var("OPERATOR_MAXIMUM").expect("the chart says it").parse().expect("a number");
    println!("judges counts up to {maximum}");
    server::serve(move |review| judge(review, maximum)).await;
}

fn judge(review: &Value, maximum: i64) -> Value {
    let asked = &review["request"];
    let allowed = asked["object"]["spec"]["count"].as_i64().is_none_or(|count| count <= maximum);
    let message = format!("a widget counts {maximum} at most");
    let response = json!({"uid": asked["uid"], "allowed": allowed, "status": {"message": message}});
    json!({"kind": "AdmissionReview", "apiVersion": "admission.k8s.io/v1", "response": response})
}
