//! The machine itself: programs, cgroups, ports, disk, and what earlier clusters left.

use std::{
    fs,
    net::{Ipv4Addr, SocketAddrV4, TcpListener},
    path::Path,
    time::Duration,
};

use troupe_api_server::store::etcd::{EtcdOptions, EtcdStore};

use super::Finding;
use crate::{config::Config, containerd, state::EtcdConfig};

/// How long etcd may take to answer.
const ETCD_PATIENCE: Duration = Duration::from_secs(3);

pub(super) fn check(config: &Config) -> Vec<Finding> {
    let mut findings = missing_programs(config);
    findings.extend(missing_cgroups(Path::new("/sys/fs/cgroup")));
    findings.extend(ports_in_use(&[("the kubelet", config.kubelet_port, "--kubelet-port")]));
    findings.extend(full_disk(&config.data_dir));
    findings.extend(remains(config));
    findings
}

/// What only the control plane needs.
pub(super) fn check_control_plane(config: &Config) -> Vec<Finding> {
    let mut findings = ports_in_use(&[("the API server", config.api_port, "--api-port")]);
    findings.extend(silent_etcd(config.etcd.as_ref()));
    findings
}

fn missing_programs(config: &Config) -> Vec<Finding> {
    let has_runtime = config.container_runtime_endpoint.is_some() || containerd::answers(Path::new(containerd::SYSTEM_SOCKET));
    let wanted: &[&str] = if has_runtime { &[] } else { &["containerd", "runc"] };
    let missing = wanted.iter().filter(|program| !on_path(program));
    missing.map(|program| Finding::fatal(format!("the program {program} is not installed"), format!("apt-get install {program}"))).collect()
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
    Some(Finding::fatal(format!("{error:#}"), "start etcd, or mend --etcd-servers and its certificates"))
}

fn on_path(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).chain(["/usr/sbin".into(), "/sbin".into()]).any(|dir| dir.join(program).exists())
}

fn missing_cgroups(root: &Path) -> Vec<Finding> {
    const WANTED: [&str; 3] = ["cpu", "memory", "pids"];
    if let Ok(controllers) = fs::read_to_string(root.join("cgroup.controllers")) {
        let missing = WANTED.into_iter().filter(|wanted| !controllers.split_whitespace().any(|controller| controller == *wanted));
        return missing
            .map(|name| {
                Finding::fatal(
                    format!("the cgroup controller {name} is off"),
                    format!("remove cgroup_disable={name} from the kernel's command line, or add cgroup_enable={name}, and boot again"),
                )
            })
            .collect();
    }
    let missing: Vec<&str> = WANTED.into_iter().filter(|name| !root.join(name).is_dir()).collect();
    if missing.len() == WANTED.len() {
        // It mounts another /sys over the machine's.
        let mend = "under `ip netns exec NAME` they are hidden: enter a network namespace with `nsenter --net=/run/netns/NAME`; else mount them";
        return vec![Finding::fatal(format!("there are no cgroups under {}", root.display()), mend)];
    }
    let mend = |dir: &Path, name: &str| format!("mkdir -p {dir} && mount -t cgroup -o {name} {name} {dir}", dir = dir.display());
    let finding = |name: &str| Finding::fatal(format!("there is no cgroup hierarchy {name} under {}", root.display()), mend(&root.join(name), name));
    missing.into_iter().map(finding).collect()
}

fn ports_in_use(ports: &[(&str, u16, &str)]) -> Vec<Finding> {
    let taken = ports.iter().filter(|(_, port, _)| TcpListener::bind(SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, *port)).is_err());
    taken
        .map(|(who, port, flag)| {
            let holder = holder(*port).unwrap_or_else(|| "another program".into());
            Finding::fatal(format!("port {port} of {who} is in use by {holder}"), format!("stop that program, or choose another port with {flag}"))
        })
        .collect()
}

/// The program that listens on a TCP port, with its pid.
fn holder(port: u16) -> Option<String> {
    const LISTENS: &str = "0A";
    let suffix = format!(":{port:04X}");
    let tables = ["/proc/net/tcp", "/proc/net/tcp6"].map(|path| fs::read_to_string(path).unwrap_or_default());
    let lines = tables.iter().flat_map(|table| table.lines().skip(1));
    let inodes: Vec<String> = lines
        .map(|line| line.split_whitespace().collect::<Vec<_>>())
        .filter(|fields| fields.len() > 9 && fields[1].ends_with(&suffix) && fields[3] == LISTENS)
        .map(|fields| format!("socket:[{}]", fields[9]))
        .collect();
    for process in fs::read_dir("/proc").ok()?.flatten().filter(|entry| entry.file_name().to_str().is_some_and(|name| name.parse::<u32>().is_ok())) {
        let files = fs::read_dir(process.path().join("fd")).into_iter().flatten().flatten();
        let mut targets = files.filter_map(|file| fs::read_link(file.path()).ok());
        if targets.any(|target| inodes.iter().any(|inode| target.as_os_str() == inode.as_str())) {
            let name = fs::read_to_string(process.path().join("comm")).ok()?;
            return Some(format!("{} (pid {})", name.trim(), process.file_name().to_string_lossy()));
        }
    }
    None
}

/// A nearly full disk taints the node (below 15 % where images lie): nothing would be scheduled there, and pods are evicted.
fn full_disk(dir: &Path) -> Option<Finding> {
    let there = dir.ancestors().find(|dir| dir.exists())?;
    let disk = nix::sys::statvfs::statvfs(there).ok()?;
    let free = disk.blocks_available() * 100 / disk.blocks().max(1);
    (free < 15).then(|| {
        Finding::warning(
            format!("the disk of {} has only {free} % free: the node will report DiskPressure and take no pods", there.display()),
            "make room until more than 10 % are free",
        )
    })
}

/// Pods on disk without the state they belong to: an earlier cluster was not taken down.
fn remains(config: &Config) -> Option<Finding> {
    let pods = fs::read_dir(config.kubelet_dir.join("pods")).map_or(0, Iterator::count);
    (pods > 0 && config.etcd.is_none() && !config.data_dir.join("store").exists()).then(|| {
        Finding::warning(
            format!("{} has {pods} pods of a cluster whose state is gone: they will be stopped and removed", config.kubelet_dir.display()),
            "stop here (Ctrl-C) if they are still needed; troupe down --purge removes all remains",
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_in_use_is_named_with_its_holder_and_the_flag_that_changes_it() {
        let listener = TcpListener::bind("0.0.0.0:0").expect("a free port");
        let port = listener.local_addr().expect("bound").port();
        let findings = ports_in_use(&[("the API server", port, "--api-port")]);
        assert!(findings[0].fatal && findings[0].mend.contains("--api-port"));
        assert!(findings[0].what.contains(&format!("{port} of the API server")), "{}", findings[0].what);
        assert!(findings[0].what.contains(&format!("(pid {})", std::process::id())), "{}", findings[0].what);
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
        fs::create_dir(dir.path().join("memory")).expect("makes");
        let names: Vec<String> = missing_cgroups(dir.path()).into_iter().map(|finding| finding.what).collect();
        assert_eq!(names.len(), 2);
        assert!(names[0].contains("cpu") && names[1].contains("pids"));
        let hidden = missing_cgroups(&dir.path().join("elsewhere"));
        assert!(hidden.len() == 1 && hidden[0].fatal && hidden[0].mend.contains("nsenter --net=/run/netns/NAME"), "{hidden:?}");
    }

    #[test]
    fn controllers_that_are_off_in_the_unified_hierarchy_are_named() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        fs::write(dir.path().join("cgroup.controllers"), "cpuset cpu io pids\n").expect("writes");
        let findings = missing_cgroups(dir.path());
        assert_eq!(findings.len(), 1);
        assert!(findings[0].fatal && findings[0].what.contains("memory"));
    }
}
