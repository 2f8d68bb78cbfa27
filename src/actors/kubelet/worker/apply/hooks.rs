//! Lifecycle hooks.

use std::time::Duration;

use k8s_openapi::api::core::v1::{Container, LifecycleHandler};

use super::Step;
use crate::kubelet::probes::run::http_hook;

/// How long an exec hook may take when nothing else bounds it.
const LONGEST: Duration = Duration::from_secs(24 * 3600);

/// Runs a hook to its end.
pub(super) async fn run(step: &Step, hook: &LifecycleHandler, container: &Container, id: &str, pod_ip: &str) -> Result<(), String> {
    if let Some(exec) = &hook.exec {
        let command = exec.command.as_deref().unwrap_or_default();
        let output = step.context.runtime.exec_sync(id, command, LONGEST).await.map_err(|error| error.to_string())?;
        return match output.exit_code {
            0 => Ok(()),
            code => Err(format!("command {command:?} exited with {code}: {}", String::from_utf8_lossy(&output.stderr).trim_end())),
        };
    }
    if let Some(action) = &hook.http_get {
        return http_hook(action, container, pod_ip).await;
    }
    if let Some(sleep) = &hook.sleep {
        tokio::time::sleep(Duration::from_secs(sleep.seconds.max(0).unsigned_abs())).await;
    }
    Ok(())
}
