//! The options of a connection, as its query says them, for admission to see. Pure.

use serde_json::{Value, json};

use super::streaming::{StreamOptions, query_values};
use crate::{meta::Object, service::Target};

/// The options of a connect subresource, of its own kind. `None` for logs: reading them is no connection.
pub fn connect_options(target: &Target, query: &str, rest: &str) -> Option<Object> {
    let mut options = match &*target.subresource {
        "log" => return None,
        "exec" | "attach" => stream_options(query),
        "portforward" => json!({"ports": ports(query)}),
        _ => json!({"path": path(rest)}),
    };
    if let Some(fields) = options.as_object_mut() {
        fields.retain(|_, value| !matches!(value, Value::Bool(false)) && *value != json!("") && *value != json!([]));
    }
    let mut options = Object::from_value(options)?;
    let subresource = target.served().subresource(&target.subresource)?;
    options.set_gvk(&target.resource.subresource_gvk(subresource, &target.version));
    Some(options)
}

fn stream_options(query: &str) -> Value {
    let StreamOptions { container, stdin, stdout, stderr, tty, command } = StreamOptions::of_api(query);
    json!({"container": container, "stdin": stdin, "stdout": stdout, "stderr": stderr, "tty": tty, "command": command})
}

/// What is no number is left to whoever forwards ports to refuse.
fn ports(query: &str) -> Vec<u16> {
    query_values(query, "ports").iter().flat_map(|ports| ports.split(',')).filter_map(|port| port.parse().ok()).collect()
}

fn path(rest: &str) -> String {
    if rest.is_empty() { String::new() } else { format!("/{}", rest.trim_start_matches('/')) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resources::{Registry, builtin};

    fn options(plural: &str, subresource: &str, query: &str, rest: &str) -> Option<Value> {
        let resource = Registry::new(builtin()).by_resource("", plural).expect("is served");
        let target = Target { resource, version: "v1".into(), namespace: "n".into(), name: "p".into(), subresource: subresource.into() };
        connect_options(&target, query, rest).map(Object::into_value)
    }

    #[test]
    fn each_connection_has_options_of_its_own_kind() {
        let exec = json!({"apiVersion": "v1", "kind": "PodExecOptions", "stdout": true, "container": "c", "command": ["a", "b c"]});
        assert_eq!(options("pods", "exec", "stdout=true&container=c&command=a&command=b+c&stdin=false", ""), Some(exec));
        let attach = json!({"apiVersion": "v1", "kind": "PodAttachOptions", "stdin": true, "tty": true});
        assert_eq!(options("pods", "attach", "stdin=1&tty=1", ""), Some(attach));
        let forward = json!({"apiVersion": "v1", "kind": "PodPortForwardOptions", "ports": [80, 81]});
        assert_eq!(options("pods", "portforward", "ports=80,81", ""), Some(forward));
        let proxy = |kind: &str| json!({"apiVersion": "v1", "kind": kind, "path": "/a/b"});
        for (plural, kind) in [("pods", "PodProxyOptions"), ("services", "ServiceProxyOptions"), ("nodes", "NodeProxyOptions")] {
            assert_eq!(options(plural, "proxy", "x=y", "a/b"), Some(proxy(kind)));
        }
        assert_eq!(options("pods", "log", "follow=true", ""), None);
    }
}
