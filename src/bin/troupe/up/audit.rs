//! Opens the audit log that the configuration asks for.

use std::sync::Arc;

use anyhow::{Context, Result};
use troupe_api::{
    audit::{AuditLog, LogFile, Policy},
    meta::SystemClock,
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
    let path = audit.log.path.display();
    let file = LogFile::open(audit.log.clone()).with_context(|| format!("cannot open the audit log {path}"))?;
    let log = AuditLog::start(policy, file, Arc::new(SystemClock)).context("cannot start the audit log's thread")?;
    Ok(Some(log))
}
