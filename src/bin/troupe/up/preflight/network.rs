//! What the pod network and the service proxy need of the machine: kernel settings, tools, no firewall in the way.

use troupe_net::{
    cni::{Facts, Severity, preflight::preflight},
    iptables::{ChainId, HostIptables, Iptables, Observed, Table},
    podnet,
};

use super::Finding;
use crate::{
    config::{Cni, Config},
    instance::Record,
};

/// The chain that every service proxy of Kubernetes begins with.
const PROXY_CHAIN: &str = "KUBE-SERVICES";

pub(super) fn check(config: &Config) -> Vec<Finding> {
    let mut findings = Vec::new();
    if config.node_ip().is_loopback() {
        findings.push(Finding::warning("this machine has no address but loopback", "name the one pods should reach it at with --node-ip"));
    }
    findings.extend(foreign_proxy(config));
    let gathered = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map(|runtime| runtime.block_on(Facts::gather(&config.cni_conf_dir, &HostIptables::new(), &config.families())));
    match gathered {
        Ok(facts) => findings.extend(judge(Facts { left_to_others: config.cni == Cni::Others, ..facts })),
        Err(error) => findings.push(Finding::warning(format!("the machine's network could not be looked at: {error}"), "")),
    }
    findings
}

/// Another service proxy in this network namespace: both would write the same chains.
fn foreign_proxy(config: &Config) -> Option<Finding> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().ok()?;
    let saved = runtime.block_on(HostIptables::new().save(Table::Nat)).ok()?;
    let mut observed = Observed::default();
    observed.read(&saved);
    let has = |name: &str| observed.rules(&ChainId::new(Table::Nat, name)).is_some();
    let noted = Record::read(&config.data_dir).ok().flatten().is_some_and(|record| record.made.living);
    // A killed troupe leaves chains of both kinds.
    (has(PROXY_CHAIN) && !has(podnet::POSTROUTING) && !noted).then(|| {
        Finding::fatal(
            format!("another service proxy keeps the packet filter chain {PROXY_CHAIN} in this network namespace"),
            "stop it and remove its chains, or start troupe in a network namespace of its own (nsenter --net=/run/netns/NAME troupe …)",
        )
    })
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
