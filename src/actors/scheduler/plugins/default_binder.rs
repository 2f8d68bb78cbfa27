//! DefaultBinder: posts the binding.

use std::sync::Arc;

use k8s_openapi::api::core::v1::Pod;
use troupe_api_client::Client;

use crate::scheduler::{
    bind::bind,
    framework::{Plugin, Point, Writing},
};

/// See the module.
pub struct DefaultBinder;

impl Plugin for DefaultBinder {
    fn name(&self) -> &'static str {
        "DefaultBinder"
    }

    fn points(&self) -> &'static [Point] {
        &[Point::Bind]
    }

    fn bind(&self, pod: &Arc<Pod>, node: &str, client: &Client) -> Option<Writing> {
        let (pod, node, client) = (pod.clone(), node.to_owned(), client.clone());
        Some(Box::pin(async move { bind(&client, &pod, &node).await }))
    }
}
