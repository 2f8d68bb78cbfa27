//! Asking for what nodes use.

use serde_json::Value;
use troupe_api::{
    meta::quantity::Quantity,
    node_pressure::NodePressure,
    service::{ListOptions, Operation, ReplyBody, Target},
};
use troupe_api_client::Client;

use super::{Figures, Usage};

/// Lists the NodeMetrics of the cluster.
///
/// # Errors
/// When nobody serves them, or not to this client.
pub async fn fetch(client: &Client) -> Result<Figures, String> {
    let row = client.service().registry().by_kind("metrics.k8s.io", "NodeMetrics");
    let resource = row.ok_or_else(|| "the server could not find the requested resource (get nodes.metrics.k8s.io)".to_owned())?;
    let Some(version) = resource.served.first().map(|served| served.version.clone()) else { return Err("no version of it is served".into()) };
    let target = Target { resource, version, namespace: "".into(), name: "".into(), subresource: "".into() };
    let reply = client.call(target, Operation::List(ListOptions::default())).await.map_err(|status| status.message)?;
    let ReplyBody::List(list) = reply.body else { return Err("a list was expected".into()) };
    Ok(list.items.iter().filter_map(|item| figure(&item.to_object().into_value())).collect())
}

fn figure(metrics: &Value) -> Option<(String, Usage)> {
    let amount = |name: &str| Quantity::parse(metrics["usage"][name].as_str()?).ok();
    let metadata = &metrics["metadata"];
    let pressure = NodePressure::of_annotations(|name| metadata["annotations"][name].as_str());
    let usage = Usage { cpu: amount("cpu")?.milli_value(), memory: amount("memory")?.value(), pressure };
    Some((metadata["name"].as_str()?.to_owned(), usage))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn figures_are_read_in_the_units_of_metrics_servers() {
        let metrics = json!({"metadata": {"name": "n"}, "usage": {"cpu": "1500000000n", "memory": "2048Ki"}});
        let pressure = NodePressure::default();
        assert_eq!(figure(&metrics), Some(("n".to_owned(), Usage { cpu: 1500, memory: 2 << 20, pressure })));
        assert_eq!(figure(&json!({"metadata": {"name": "n"}, "usage": {"cpu": "1"}})), None);
    }

    #[test]
    fn pressure_is_read_where_it_is_told() {
        let pressure = NodePressure { cpu: Some(1250), memory: None, io: Some(5) };
        let metadata = json!({"name": "n", "annotations": pressure.annotations()});
        let metrics = json!({"metadata": metadata, "usage": {"cpu": "1", "memory": "1Ki"}});
        assert_eq!(figure(&metrics), Some(("n".to_owned(), Usage { cpu: 1000, memory: 1024, pressure })));
    }
}
