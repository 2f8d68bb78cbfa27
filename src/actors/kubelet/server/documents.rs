//! Replies that only the kubelet's server gives.

use std::sync::Arc;

use hyper::Response;
use k8s_openapi::api::core::v1::Pod;
use serde_json::json;

use crate::serving::{Body, document};

/// A `PodList`.
pub fn pod_list(pods: &[Arc<Pod>]) -> Response<Body> {
    let list = json!({"kind": "PodList", "apiVersion": "v1", "metadata": {}, "items": pods});
    document(200, "application/json", list.to_string())
}
