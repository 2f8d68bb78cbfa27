//! Is this machine ready for a cluster? Findings in plain words, with how to mend them.

mod machine;
mod network;

use std::fmt;

use anyhow::{Result, bail};

use crate::{config::Config, instance::claim::Claimant};

/// Something missing or in the way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    pub what: String,
    /// How to mend it; empty when nothing needs doing.
    pub mend: String,
    /// Nothing can start until it is mended.
    pub fatal: bool,
}

impl Finding {
    fn fatal(what: impl Into<String>, mend: impl Into<String>) -> Self {
        Finding { what: what.into(), mend: mend.into(), fatal: true }
    }

    fn warning(what: impl Into<String>, mend: impl Into<String>) -> Self {
        Finding { what: what.into(), mend: mend.into(), fatal: false }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)?;
        if self.mend.is_empty() { Ok(()) } else { write!(f, "\n    → {}", self.mend) }
    }
}

/// Prints findings.
///
/// # Errors
/// When one of them is fatal.
pub fn report(findings: &[Finding]) -> Result<()> {
    for finding in findings {
        eprintln!("{} {finding}", if finding.fatal { "✘" } else { "!" });
    }
    if findings.iter().any(|finding| finding.fatal) {
        bail!("this machine is not ready for a cluster yet");
    }
    Ok(())
}

/// Puts right what may be put right without asking, and tells what stands in the way of a cluster.
pub fn check(claimant: &Claimant<'_>) -> Vec<Finding> {
    let mut findings = check_node(claimant);
    if nix::unistd::geteuid().is_root() {
        findings.extend(machine::check_control_plane(claimant.config));
        findings.sort_by_key(|finding| !finding.fatal);
    }
    findings
}

/// The same for a node alone.
pub fn check_node(claimant: &Claimant<'_>) -> Vec<Finding> {
    if let Some(finding) = not_root() {
        return vec![finding];
    }
    let mut findings = instance(claimant);
    findings.extend(machine::check(claimant.config));
    findings.extend(network::check(claimant.config));
    findings.sort_by_key(|finding| !finding.fatal);
    findings
}

/// The same for an API server alone.
pub fn check_safe(config: &Config) -> Vec<Finding> {
    not_root().map_or_else(|| machine::check_control_plane(config), |finding| vec![finding])
}

fn not_root() -> Option<Finding> {
    let root = nix::unistd::geteuid().is_root();
    (!root).then(|| Finding::fatal("troupe does not run as root, but it must make namespaces, cgroups and iptables rules", "run it with sudo"))
}

/// Other instances on the machine, and what this one left running.
fn instance(claimant: &Claimant<'_>) -> Vec<Finding> {
    match claimant.obstacles() {
        Ok(obstacles) => obstacles.into_iter().map(|obstacle| Finding::fatal(obstacle.what, obstacle.mend)).collect(),
        Err(error) => vec![Finding::fatal(format!("{error:#}"), "")],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_finding_names_its_remedy_on_a_line_of_its_own() {
        assert_eq!(Finding::fatal("it is broken", "mend it").to_string(), "it is broken\n    → mend it");
        assert_eq!(Finding::warning("it was mended", "").to_string(), "it was mended");
    }
}
