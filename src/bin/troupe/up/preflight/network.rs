//! What the pod network and the service proxy need of the machine: kernel settings, tools, no firewall in the way.

use troupe_net::{
    cni::{Facts, Severity, preflight::preflight},
    iptables::HostIptables,
};

use super::Finding;
use crate::config::Config;

pub(super) fn check(config: &Config) -> Vec<Finding> {
    let mut findings = Vec::new();
    if config.node_ip.is_loopback() {
        findings.push(Finding::warning("this machine has no address but loopback", "name the one pods should reach it at with --node-ip"));
    }
    let gathered = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map(|runtime| runtime.block_on(Facts::gather(&config.cni_conf_dir, &HostIptables::new())));
    match gathered {
        Ok(facts) => findings.extend(judge(facts)),
        Err(error) => findings.push(Finding::warning(format!("the machine's network could not be looked at: {error}"), "")),
    }
    findings
}

/// Mends the kernel's settings and tells what is left.
fn judge(mut facts: Facts) -> Vec<Finding> {
    let mut findings = Vec::new();
    match facts.mend() {
        Ok(changed) => {
            findings
                .extend(changed.into_iter().map(|setting| Finding::warning(format!("pods' traffic needs {setting}: it was off, and is on now"), "")));
        }
        Err(error) => findings.push(Finding::warning(format!("a kernel setting could not be changed: {error}"), "change it by hand, see below")),
    }
    findings.extend(preflight(&facts).into_iter().map(|found| Finding {
        fatal: found.severity == Severity::Error,
        what: found.what,
        mend: found.mend,
    }));
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_keeps_pods_from_running_is_fatal_and_the_rest_is_not() {
        let facts = Facts {
            root: true,
            forwarding: Some(true),
            bridge_filter: Some(true),
            swap: vec!["/dev/sda2".into()],
            missing_plugins: vec!["bridge".into()],
            ..Facts::default()
        };
        let findings = judge(facts);
        let fatal: Vec<&str> = findings.iter().filter(|finding| finding.fatal).map(|finding| finding.what.as_str()).collect();
        assert_eq!(fatal, ["missing CNI plugins: bridge"]);
        assert!(findings.iter().any(|finding| finding.what.contains("swap is on (/dev/sda2)") && finding.mend.contains("swapoff -a")));
    }
}
