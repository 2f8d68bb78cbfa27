//! The options of a connection: as its query says them, for admission to see, and as admission leaves them. Pure.

use std::borrow::Cow;

use serde::{Deserialize, de::DeserializeOwned};
use serde_json::{Value, json};
use troupe_api::{meta::Object, service::Target, status::Status};

use super::{
    query::number_error,
    stream_options::{StreamOptions, query_values},
};

/// What a connection is to be. Fields of other subresources are as if nobody had said anything.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ConnectOptions {
    /// Of `exec` and `attach`.
    pub stream: StreamOptions,
    /// Of `portforward`.
    pub ports: Vec<i32>,
    /// Of `proxy`, with a leading slash.
    path: String,
}

impl ConnectOptions {
    /// The options in an object that [`connect_options`] made and others may have changed.
    ///
    /// # Errors
    /// 500 where a field is not of its type any more.
    pub fn read(object: &Object) -> Result<Self, Status> {
        #[derive(Default, Deserialize)]
        #[serde(default)]
        struct Fields {
            container: String,
            stdin: bool,
            stdout: bool,
            stderr: bool,
            tty: bool,
            command: Vec<String>,
            ports: Vec<i32>,
            path: String,
        }
        let Fields { container, stdin, stdout, stderr, tty, command, ports, path } = decoded(object)?;
        Ok(ConnectOptions { stream: StreamOptions { container, stdin, stdout, stderr, tty, command }, ports, path })
    }

    /// What follows `proxy` in a path that ends with `rest`: that, unless admission wants another one.
    pub fn proxy_path<'a>(&self, rest: &'a str) -> Cow<'a, str> {
        if self.path == path(rest) { Cow::Borrowed(rest) } else { Cow::Owned(escaped_path(self.path.trim_start_matches('/'))) }
    }
}

fn decoded<T: DeserializeOwned>(object: &Object) -> Result<T, Status> {
    let said: serde_json::Map<_, _> =
        object.root().iter().filter(|(_, value)| !value.is_null()).map(|(name, value)| (name.clone(), value.clone())).collect();
    serde_json::from_value(Value::Object(said)).map_err(|error| Status::internal(format!("unable to decode {}: {error}", object.kind())))
}

/// Escapes what a path cannot hold; what is escaped stays so.
fn escaped_path(path: &str) -> String {
    let mut escaped = String::with_capacity(path.len());
    for byte in path.bytes() {
        match byte {
            b'"' | b'#' | b'<' | b'>' | b'?' | b'\\' | b'^' | b'`' | b'{' | b'|' | b'}' => escaped.push_str(&format!("%{byte:02X}")),
            byte if byte.is_ascii_graphic() => escaped.push(char::from(byte)),
            byte => escaped.push_str(&format!("%{byte:02X}")),
        }
    }
    escaped
}

/// The options of a connect subresource, of its own kind. `None` for logs: reading them is no connection.
///
/// # Errors
/// 400 where a port is none.
pub fn connect_options(target: &Target, query: &str, rest: &str) -> Result<Option<Object>, Status> {
    let mut options = match &*target.subresource {
        "log" => return Ok(None),
        "exec" | "attach" => stream_options(query),
        "portforward" => json!({"ports": ports(query)?}),
        _ => json!({"path": path(rest)}),
    };
    if let Some(fields) = options.as_object_mut() {
        fields.retain(|_, value| !matches!(value, Value::Bool(false)) && *value != json!("") && *value != json!([]));
    }
    let subresource = target.served().subresource(&target.subresource);
    let Some((mut options, subresource)) = Object::from_value(options).zip(subresource) else { return Ok(None) };
    options.set_gvk(&target.resource.subresource_gvk(subresource, &target.version));
    Ok(Some(options))
}

fn stream_options(query: &str) -> Value {
    let StreamOptions { container, stdin, stdout, stderr, tty, command } = StreamOptions::of_api(query);
    json!({"container": container, "stdin": stdin, "stdout": stdout, "stderr": stderr, "tty": tty, "command": command})
}

fn ports(query: &str) -> Result<Vec<i32>, Status> {
    let refused =
        |text: &str, error| Status::bad_request(format!("cannot convert to []int32: strconv.ParseUint: parsing {text:?}: {}", number_error(&error)));
    let read = |port: &str| port.parse::<u16>().map(i32::from).map_err(|error| refused(port, error));
    query_values(query, "ports").iter().flat_map(|ports| ports.split(',')).map(read).collect()
}

fn path(rest: &str) -> String {
    if rest.is_empty() { String::new() } else { format!("/{}", rest.trim_start_matches('/')) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use troupe_api::resources::{Registry, builtin};

    fn options(plural: &str, subresource: &str, query: &str, rest: &str) -> Option<Value> {
        let resource = Registry::new(builtin()).by_resource("", plural).expect("is served");
        let target = Target { resource, version: "v1".into(), namespace: "n".into(), name: "p".into(), subresource: subresource.into() };
        connect_options(&target, query, rest).expect("is well formed").map(Object::into_value)
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

    fn read(value: Value) -> Result<ConnectOptions, Status> {
        ConnectOptions::read(&Object::from_value(value).expect("an object"))
    }

    #[test]
    fn what_was_changed_is_read_back_and_must_be_of_its_type() {
        let asked = options("pods", "exec", "stdout=true&command=sh", "").expect("options");
        let stream = StreamOptions { stdout: true, command: vec!["sh".into()], ..StreamOptions::default() };
        assert_eq!(read(asked), Ok(ConnectOptions { stream, ..ConnectOptions::default() }));
        let nothing = json!({"apiVersion": "v1", "kind": "PodExecOptions", "command": null});
        assert_eq!(read(nothing), Ok(ConnectOptions::default()));
        let wrong = read(json!({"apiVersion": "v1", "kind": "PodExecOptions", "stdin": "yes"})).expect_err("is no flag");
        assert_eq!((wrong.code, wrong.message.contains("PodExecOptions")), (500, true), "{wrong}");
    }

    #[test]
    fn a_path_stays_as_it_came_unless_it_is_another() {
        let at = |path: &str| read(json!({"apiVersion": "v1", "kind": "PodProxyOptions", "path": path})).expect("options");
        assert_eq!(at("/a%20b//c").proxy_path("a%20b//c"), "a%20b//c");
        assert_eq!(at("/other place?x#y").proxy_path("a"), "other%20place%3Fx%23y");
        assert_eq!(ConnectOptions::default().proxy_path("a"), "");
        assert_eq!(ConnectOptions::default().proxy_path(""), "");
    }

    #[test]
    fn what_is_no_port_is_refused() {
        let resource = Registry::new(builtin()).by_resource("", "pods").expect("is served");
        let target = Target { resource, version: "v1".into(), namespace: "n".into(), name: "p".into(), subresource: "portforward".into() };
        for (port, why) in [("x", "invalid syntax"), ("-1", "invalid syntax"), ("65536", "value out of range")] {
            let refused = connect_options(&target, &format!("ports=80,{port}"), "").expect_err(port);
            assert_eq!((refused.code, refused.message), (400, format!("cannot convert to []int32: strconv.ParseUint: parsing {port:?}: {why}")));
        }
    }
}
