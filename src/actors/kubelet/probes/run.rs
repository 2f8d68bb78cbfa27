//! Running one probe.

use std::{collections::BTreeMap, time::Duration};

use k8s_openapi::{
    api::core::v1::{Container, HTTPGetAction, Probe},
    apimachinery::pkg::util::intstr::IntOrString,
};
use tokio::{net::TcpStream, time::timeout};
use troupe_cri::{CriError, Runtime};

use super::{ProbeOutcome, go_duration, grpc, http};

/// As much of an answer as events show.
const SHOWN: usize = 10 * 1024;

/// Runs a probe against a container; `pod_ip` is where network probes go unless they name a host.
pub async fn run(runtime: &dyn Runtime, id: &str, container: &Container, pod_ip: &str, probe: &Probe) -> ProbeOutcome {
    let limit = Duration::from_secs(probe.timeout_seconds.unwrap_or(1).max(1).unsigned_abs().into());
    if let Some(exec) = &probe.exec {
        return run_exec(runtime, id, exec.command.as_deref().unwrap_or_default(), limit).await;
    }
    if let Some(action) = &probe.http_get {
        return http_get(action, container, pod_ip, limit).await;
    }
    if let Some(action) = &probe.tcp_socket {
        let host = action.host.as_deref().filter(|host| !host.is_empty()).unwrap_or(pod_ip);
        return match resolve_port(&action.port, container) {
            Ok(port) => connect(host, port, limit).await,
            Err(error) => ProbeOutcome::Unknown(error),
        };
    }
    if let Some(action) = &probe.grpc {
        let Ok(port) = u16::try_from(action.port) else { return ProbeOutcome::Unknown(invalid(action.port)) };
        return grpc::check(pod_ip, port, action.service.as_deref().unwrap_or_default(), limit).await;
    }
    ProbeOutcome::Unknown("missing probe handler".into())
}

async fn run_exec(runtime: &dyn Runtime, id: &str, command: &[String], limit: Duration) -> ProbeOutcome {
    match runtime.exec_sync(id, command, limit).await {
        Ok(output) if output.exit_code == 0 => ProbeOutcome::Success,
        Ok(output) => {
            let all = [output.stdout, output.stderr].concat();
            ProbeOutcome::Failure(String::from_utf8_lossy(&all[..all.len().min(SHOWN)]).into_owned())
        }
        Err(CriError::DeadlineExceeded(_)) => {
            ProbeOutcome::Failure(format!("command timed out: {:?} timed out after {}", command.join(" "), go_duration(limit)))
        }
        Err(error) => ProbeOutcome::Unknown(error.to_string()),
    }
}

async fn connect(host: &str, port: u16, limit: Duration) -> ProbeOutcome {
    let address = if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") };
    let shown = |error: String| ProbeOutcome::Failure(format!("dial tcp {address}: {error}"));
    match timeout(limit, TcpStream::connect((host, port))).await {
        Ok(Ok(_)) => ProbeOutcome::Success,
        Ok(Err(error)) if error.kind() == std::io::ErrorKind::ConnectionRefused => shown("connect: connection refused".into()),
        Ok(Err(error)) => shown(error.to_string()),
        Err(_) => shown("i/o timeout".into()),
    }
}

/// Where an HTTP action goes, and its headers.
///
/// # Errors
/// When the port is none, in upstream's words.
pub fn http_target(action: &HTTPGetAction, container: &Container, pod_ip: &str) -> Result<http::Target, String> {
    let port = resolve_port(&action.port, container)?;
    let host = action.host.as_deref().filter(|host| !host.is_empty()).unwrap_or(pod_ip);
    let path = action.path.as_deref().unwrap_or("/");
    let mut headers = BTreeMap::new();
    for header in action.http_headers.iter().flatten() {
        headers.insert(header.name.to_lowercase(), header.value.clone());
    }
    Ok(http::Target {
        tls: action.scheme.as_deref() == Some("HTTPS"),
        host: host.to_owned(),
        port,
        path: if path.starts_with('/') { path.to_owned() } else { format!("/{path}") },
        headers,
    })
}

async fn http_get(action: &HTTPGetAction, container: &Container, pod_ip: &str, limit: Duration) -> ProbeOutcome {
    let target = match http_target(action, container, pod_ip) {
        Ok(target) => target,
        Err(error) => return ProbeOutcome::Unknown(error),
    };
    let url = target.to_string();
    match timeout(limit, http::follow(&target)).await {
        Ok(Ok(http::Reply { status: 200..=299, .. })) => ProbeOutcome::Success,
        Ok(Ok(http::Reply { status: 300..=399, body, .. })) => ProbeOutcome::Warning(format!("Probe terminated redirects, Response body: {body}")),
        Ok(Ok(http::Reply { status: code, .. })) => ProbeOutcome::Failure(format!("HTTP probe failed with statuscode: {code}")),
        Ok(Err(error)) => ProbeOutcome::Failure(format!("Get \"{url}\": {error}")),
        Err(_) => {
            let why = "context deadline exceeded (Client.Timeout exceeded while awaiting headers)";
            ProbeOutcome::Failure(format!("Get \"{url}\": {why}"))
        }
    }
}

/// Makes an HTTP request of a lifecycle hook.
pub async fn http_hook(action: &HTTPGetAction, container: &Container, pod_ip: &str) -> Result<(), String> {
    let target = http_target(action, container, pod_ip)?;
    http::get(&target).await.map(drop)
}

/// A port by number, or by its name among the container's ports.
///
/// # Errors
/// When it is none, in upstream's words.
pub fn resolve_port(port: &IntOrString, container: &Container) -> Result<u16, String> {
    let number = match port {
        IntOrString::Int(number) => *number,
        IntOrString::String(text) => {
            let named = container.ports.iter().flatten().find(|port| port.name.as_deref() == Some(text.as_str()));
            let number = named.map(|port| port.container_port).or_else(|| text.parse().ok());
            number.ok_or_else(|| format!("strconv.Atoi: parsing {text:?}: invalid syntax"))?
        }
    };
    u16::try_from(number).ok().filter(|number| *number > 0).ok_or_else(|| invalid(number))
}

fn invalid(port: i32) -> String {
    format!("invalid port number: {port}")
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use troupe_cri::FakeRuntime;

    use super::*;

    fn container() -> Container {
        serde_json::from_value(json!({"name": "c", "ports": [{"name": "http", "containerPort": 8080}]})).expect("a container")
    }

    async fn outcome(probe: serde_json::Value) -> ProbeOutcome {
        let probe = serde_json::from_value(probe).expect("a probe");
        let runtime = FakeRuntime::default();
        runtime.fail_next("exec_sync", CriError::DeadlineExceeded("too late".into()));
        run(&runtime, "id", &container(), "127.0.0.1", &probe).await
    }

    #[actix::test]
    async fn a_command_that_takes_too_long_is_told_with_its_limit() {
        let slow = json!({"exec": {"command": ["sh", "-c", "sleep 100"]}, "timeoutSeconds": 90});
        assert_eq!(outcome(slow).await, ProbeOutcome::Failure("command timed out: \"sh -c sleep 100\" timed out after 1m30s".into()));
    }

    #[test]
    fn ports_have_numbers_or_names_of_the_container() {
        let port = |port: serde_json::Value| resolve_port(&serde_json::from_value(port).expect("a port"), &container());
        assert_eq!((port(json!("http")), port(json!(81)), port(json!("82"))), (Ok(8080), Ok(81), Ok(82)));
        assert_eq!(port(json!("nope")), Err("strconv.Atoi: parsing \"nope\": invalid syntax".into()));
        assert_eq!(port(json!(65536)), Err("invalid port number: 65536".into()));
    }

    #[actix::test]
    async fn a_probe_of_no_port_is_of_unknown_result() {
        let unknown = ProbeOutcome::Unknown("strconv.Atoi: parsing \"nope\": invalid syntax".into());
        for probe in [json!({"httpGet": {"port": "nope"}}), json!({"tcpSocket": {"port": "nope"}})] {
            assert_eq!(outcome(probe).await, unknown);
        }
    }
}
