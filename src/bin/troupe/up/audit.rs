//! Opens the audit log that the configuration asks for.

use std::{path::Path, sync::Arc};

use anyhow::{Context, Result};
use troupe_api::meta::SystemClock;
use troupe_api_server::{
    audit::{AuditLog, AuditWebhook, Backends, LogFile, LogOptions, Policy},
    webhook_client::Endpoint,
};

use crate::config::Config;

/// The audit log; none without a path or a policy.
pub fn open(config: &Config) -> Result<Option<Arc<AuditLog>>> {
    let Some(audit) = &config.audit else { return Ok(None) };
    let Some(policy) = &audit.policy_file else {
        tracing::warn!("no audit policy file is given: no events are recorded");
        return Ok(None);
    };
    let policy = read_policy(policy)?;
    let open = |log: &LogOptions| LogFile::open(log.clone()).with_context(|| format!("cannot open the audit log {}", log.path.display()));
    let send = |file: &Path| AuditWebhook::start(endpoint(file)?).context("cannot start the thread that sends audit events");
    let webhook = config.api.audit_webhook_config_file.as_deref().map(send).transpose()?;
    let backends = Backends { file: audit.log.as_ref().map(open).transpose()?, webhook };
    let log = AuditLog::start(policy, backends, Arc::new(SystemClock)).context("cannot start the audit log's thread")?;
    Ok(Some(log))
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
