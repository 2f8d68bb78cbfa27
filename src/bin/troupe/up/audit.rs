//! Opens the audit log that the configuration asks for.

use std::{path::PathBuf, sync::Arc};

use anyhow::{Context, Result};
use troupe_api::{
    audit::{AuditLog, AuditWebhook, Backends, LogFile, LogOptions, Policy},
    meta::SystemClock,
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
    let policy = Policy::from_file(policy).with_context(|| format!("the audit policy {} is unusable", policy.display()))?;
    let open = |log: &LogOptions| LogFile::open(log.clone()).with_context(|| format!("cannot open the audit log {}", log.path.display()));
    let send = |file: &PathBuf| {
        let endpoint = Endpoint::of_kubeconfig(file).with_context(|| format!("--audit-webhook-config-file {}", file.display()))?;
        AuditWebhook::start(endpoint).context("cannot start the thread that sends audit events")
    };
    let backends =
        Backends { file: audit.log.as_ref().map(open).transpose()?, webhook: config.api.audit_webhook_config_file.as_ref().map(send).transpose()? };
    let log = AuditLog::start(policy, backends, Arc::new(SystemClock)).context("cannot start the audit log's thread")?;
    Ok(Some(log))
}
