//! Opens the audit log that the configuration asks for.

use std::{path::Path, sync::Arc, time::Duration};

use anyhow::{Context, Result};
use troupe_api::meta::SystemClock;
use troupe_api_server::{
    audit::{AuditLog, Backends, BatchOptions, Batches, LogFile, LogOptions, Mode, Modes, Policy, Throttle},
    webhook_client::Endpoint,
};

use crate::config::{ApiSettings, Config};

/// The audit log; none without a path or a policy.
pub fn open(config: &Config) -> Result<Option<Arc<AuditLog>>> {
    let Some(audit) = &config.audit else { return Ok(None) };
    let Some(policy) = &audit.policy_file else {
        tracing::warn!("no audit policy file is given: no events are recorded");
        return Ok(None);
    };
    let policy = read_policy(policy)?;
    let open = |log: &LogOptions| LogFile::open(log.clone()).with_context(|| format!("cannot open the audit log {}", log.path.display()));
    let send = |endpoint| Batches::for_webhook(endpoint, batches(&config.api)).context("cannot start the thread that sends audit events");
    let endpoint = config.api.audit_webhook_config_file.as_deref().map(endpoint).transpose()?;
    let modes = Modes { file: mode(config.api.audit_log_mode.as_deref()), webhook: mode(config.api.audit_webhook_mode.as_deref()) };
    let (webhook, blocking) = if modes.webhook != Mode::Queued { (None, endpoint) } else { (endpoint.map(send).transpose()?, None) };
    let legacy = config.api.audit_log_format.as_deref() == Some("legacy");
    let opened = audit.log.as_ref().map(open).transpose()?;
    let (file, batched) = match (opened, file_batches(&config.api)) {
        (Some(file), Some(options)) => {
            (None, Some(Batches::for_file(file, Arc::new(SystemClock), options).context("cannot start the audit log's thread")?))
        }
        (opened, _) => (opened, None),
    };
    let backends = Backends { file, legacy, webhook, batched, blocking, modes };
    let log = AuditLog::start(policy, backends, Arc::new(SystemClock)).context("cannot start the audit log's thread")?;
    Ok(Some(log))
}

/// A mode by its name; that there is such a one was looked at before.
fn mode(name: Option<&str>) -> Mode {
    match name {
        Some("blocking") => Mode::Blocking,
        Some("blocking-strict") => Mode::Strict,
        _ => Mode::Queued,
    }
}

/// How events are sent in batches; what is said was looked at before.
fn batches(said: &ApiSettings) -> BatchOptions {
    let usual = BatchOptions::default();
    let count = |given: Option<u32>, usual| given.and_then(|count| usize::try_from(count).ok()).unwrap_or(usual);
    let throttle = usual.throttle.filter(|_| said.audit_webhook_batch_throttle_enable.unwrap_or(true)).map(|usual| Throttle {
        per_second: said.audit_webhook_batch_throttle_qps.as_ref().and_then(|rate| rate.parse().ok()).unwrap_or(usual.per_second),
        burst: said.audit_webhook_batch_throttle_burst.unwrap_or(usual.burst),
    });
    BatchOptions {
        buffer: count(said.audit_webhook_batch_buffer_size, usual.buffer),
        size: count(said.audit_webhook_batch_max_size, usual.size),
        wait: said.audit_webhook_batch_max_wait.map_or(usual.wait, Duration::from_secs),
        throttle,
    }
}

/// How the log file is written in batches; nothing where none of that is said.
fn file_batches(said: &ApiSettings) -> Option<BatchOptions> {
    let is_said = said.audit_log_batch_buffer_size.is_some()
        || said.audit_log_batch_max_size.is_some()
        || said.audit_log_batch_max_wait.is_some()
        || said.audit_log_batch_throttle_enable.is_some();
    let usual = BatchOptions::of_file();
    let count = |given: Option<u32>, usual| given.and_then(|count| usize::try_from(count).ok()).unwrap_or(usual);
    let pace = BatchOptions::default().throttle.filter(|_| said.audit_log_batch_throttle_enable == Some(true));
    let throttle = pace.map(|usual| Throttle {
        per_second: said.audit_log_batch_throttle_qps.as_ref().and_then(|rate| rate.parse().ok()).unwrap_or(usual.per_second),
        burst: said.audit_log_batch_throttle_burst.unwrap_or(usual.burst),
    });
    is_said.then(|| BatchOptions {
        buffer: count(said.audit_log_batch_buffer_size, usual.buffer),
        size: count(said.audit_log_batch_max_size, usual.size),
        wait: said.audit_log_batch_max_wait.map_or(usual.wait, Duration::from_secs),
        throttle,
    })
}

/// Whether the files can be used that say what is recorded and who is sent it. Must be called within a tokio runtime.
///
/// # Errors
/// When one cannot.
pub(super) fn check(config: &Config) -> Result<()> {
    let policy = config.audit.as_ref().and_then(|audit| audit.policy_file.as_deref());
    policy.map(read_policy).transpose()?;
    config.api.audit_webhook_config_file.as_deref().map(endpoint).transpose().map(drop)
}

fn read_policy(file: &Path) -> Result<Policy> {
    Policy::from_file(file).with_context(|| format!("the audit policy {} is unusable", file.display()))
}

fn endpoint(file: &Path) -> Result<Endpoint> {
    Endpoint::of_kubeconfig(file).with_context(|| format!("--audit-webhook-config-file {}", file.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn batches_are_upstreams_unless_something_else_is_said() {
        assert_eq!(batches(&ApiSettings::default()), BatchOptions::default());
        let said =
            ApiSettings { audit_webhook_batch_max_size: Some(7), audit_webhook_batch_throttle_qps: Some("0.5".into()), ..ApiSettings::default() };
        let throttle = Some(Throttle { per_second: 0.5, burst: 15 });
        assert_eq!(batches(&said), BatchOptions { size: 7, throttle, ..BatchOptions::default() });
        let free = ApiSettings { audit_webhook_batch_throttle_enable: Some(false), ..ApiSettings::default() };
        assert_eq!(batches(&free).throttle, None);
        assert_eq!(file_batches(&ApiSettings::default()), None);
        let paced = ApiSettings { audit_log_batch_throttle_enable: Some(true), audit_log_batch_max_wait: Some(2), ..ApiSettings::default() };
        let throttle = Some(Throttle { per_second: 10.0, burst: 15 });
        assert_eq!(file_batches(&paced), Some(BatchOptions { wait: Duration::from_secs(2), throttle, ..BatchOptions::of_file() }));
    }
}
