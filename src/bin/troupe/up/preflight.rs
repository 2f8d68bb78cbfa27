//! Is this machine ready for a cluster? Findings in plain words, with how to mend them.

use std::{
    fmt,
    net::{Ipv4Addr, SocketAddrV4, TcpListener},
    path::Path,
    time::Duration,
};

use anyhow::{Result, bail};
use troupe_api::store::etcd::{EtcdOptions, EtcdStore};

use crate::{
    config::{Config, cni_bin_dir},
    state::EtcdConfig,
};

/// How long etcd may take to answer.
const ETCD_PATIENCE: Duration = Duration::from_secs(3);

/// Something missing or in the way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    pub what: String,
    pub mend: String,
    /// Nothing can start until it is mended.
    pub fatal: bool,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}\n    → {}", self.what, self.mend)
    }
}

fn fatal(what: impl Into<String>, mend: impl Into<String>) -> Finding {
    Finding { what: what.into(), mend: mend.into(), fatal: true }
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

/// What stands in the way of a cluster with this configuration.
pub fn check(config: &Config) -> Vec<Finding> {
    let mut findings = check_node(config);
    if nix::unistd::geteuid().is_root() {
        findings.extend(ports_in_use(&[("the API server", config.api_port, "--api-port")]));
        findings.extend(silent_etcd(config.etcd.as_ref()));
    }
    findings
}

/// What stands in the way of a node with this configuration.
pub fn check_node(config: &Config) -> Vec<Finding> {
    let mut findings = Vec::new();
    if !nix::unistd::geteuid().is_root() {
        findings.push(fatal("troupe does not run as root, but it must make namespaces, cgroups and iptables rules", "run it with sudo"));
        return findings;
    }
    findings.extend(missing_programs());
    findings.extend(missing_cgroups(Path::new("/sys/fs/cgroup")));
    findings.extend(ports_in_use(&[("the kubelet", config.kubelet_port, "--kubelet-port")]));
    if !cni_bin_dir().join("bridge").exists() {
        findings.push(fatal("the CNI plugins are neither in /opt/cni/bin nor in /usr/lib/cni", "apt-get install containernetworking-plugins"));
    }
    if config.node_ip.is_loopback() {
        findings.push(Finding {
            what: "this machine has no address but loopback".into(),
            mend: "name the one pods should reach it at with --node-ip".into(),
            fatal: false,
        });
    }
    findings
}

fn missing_programs() -> Vec<Finding> {
    let programs =
        [("iptables", "iptables"), ("iptables-restore", "iptables"), ("runc", "runc"), ("containerd", "containerd"), ("conntrack", "conntrack")];
    let missing = programs.into_iter().filter(|(program, _)| !on_path(program));
    missing.map(|(program, package)| fatal(format!("the program {program} is not installed"), format!("apt-get install {package}"))).collect()
}

/// Why the configured etcd cannot be used.
fn silent_etcd(etcd: Option<&EtcdConfig>) -> Option<Finding> {
    let etcd = etcd?;
    let tried = || -> anyhow::Result<()> {
        let options = EtcdOptions { patience: ETCD_PATIENCE, ..etcd.options()? };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(EtcdStore::connect(options))?;
        Ok(())
    };
    let error = tried().err()?;
    Some(fatal(format!("{error:#}"), "start etcd, or mend --etcd-servers and its certificates"))
}

fn on_path(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).chain(["/usr/sbin".into(), "/sbin".into()]).any(|dir| dir.join(program).exists())
}

fn missing_cgroups(root: &Path) -> Vec<Finding> {
    if root.join("cgroup.controllers").exists() {
        let controllers = std::fs::read_to_string(root.join("cgroup.controllers")).unwrap_or_default();
        let missing: Vec<&str> =
            ["cpu", "memory", "pids"].into_iter().filter(|wanted| !controllers.split_whitespace().any(|c| c == *wanted)).collect();
        return missing
            .into_iter()
            .map(|name| fatal(format!("the cgroup controller {name} is off"), "switch it on in the kernel's command line"))
            .collect();
    }
    let missing = ["cpu", "memory", "pids"].into_iter().filter(|name| !root.join(name).is_dir());
    missing
        .map(|name| {
            fatal(
                format!("there is no cgroup hierarchy {name} under {}", root.display()),
                format!("mount -t cgroup -o {name} {name} {}/{name}", root.display()),
            )
        })
        .collect()
}

fn ports_in_use(ports: &[(&str, u16, &str)]) -> Vec<Finding> {
    let taken = ports.iter().filter(|(_, port, _)| TcpListener::bind(SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, *port)).is_err());
    taken
        .map(|(who, port, flag)| {
            fatal(
                format!("port {port} of {who} is in use by another program"),
                format!("stop that program (ss -tlnp | grep {port} names it) or choose another port with {flag}"),
            )
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_in_use_is_named_with_the_flag_that_changes_it() {
        let listener = TcpListener::bind("0.0.0.0:0").expect("a free port");
        let port = listener.local_addr().expect("bound").port();
        let findings = ports_in_use(&[("the API server", port, "--api-port")]);
        assert!(findings[0].fatal && findings[0].what.contains(&port.to_string()) && findings[0].mend.contains("--api-port"));
    }

    #[test]
    fn an_etcd_that_does_not_answer_is_named() {
        let etcd = EtcdConfig { servers: vec!["http://127.0.0.1:1".into()], ..EtcdConfig::default() };
        let finding = silent_etcd(Some(&etcd)).expect("a finding");
        assert!(finding.fatal && finding.what.contains("no etcd answers at http://127.0.0.1:1"), "{finding}");
        assert_eq!(silent_etcd(None), None);
    }

    #[test]
    fn missing_cgroup_hierarchies_are_named_one_by_one() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        std::fs::create_dir(dir.path().join("memory")).expect("makes");
        let names: Vec<String> = missing_cgroups(dir.path()).into_iter().map(|finding| finding.what).collect();
        assert_eq!(names.len(), 2);
        assert!(names[0].contains("cpu") && names[1].contains("pids"));
    }
}
