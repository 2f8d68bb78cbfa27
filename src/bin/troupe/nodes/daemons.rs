//! The nodes' daemons: `troupe node`, each in its namespace, started again when they end.

use std::{
    collections::BTreeMap,
    ffi::OsString,
    fs::{self, File},
    net::{IpAddr, SocketAddr},
    os::unix::{fs::OpenOptionsExt, process::CommandExt},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use nix::sched::{CloneFlags, setns};
use troupe_api::auth::{
    kubeconfig::Kubeconfig,
    pki::{LeafSpec, Pki},
};
use troupe_net::netns;

use super::wanted::addresses;
use crate::{
    config::{Config, Part, PerFamily, flag, flag_value, takes},
    containerd::ContainerdLayout,
    durable,
    instance::{Record, nodes::Member},
};

/// Between two starts of a daemon that ends again and again; each pause is twice the one before.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// One that ran for so long is started again at once.
const STEADY: Duration = Duration::from_secs(30);

/// The configuration of a node's kubelet in the node's directory.
const KUBELET: &str = "kubelet.json";

/// Those that this process started.
#[derive(Default)]
pub(super) struct Daemons {
    started: BTreeMap<u8, Started>,
}

struct Started {
    child: Option<Child>,
    at: Instant,
    pause: Duration,
}

impl Daemons {
    /// Starts those that should run and do not.
    pub(super) fn look(&mut self, config: &Config, members: &BTreeMap<u8, Member>) {
        for (number, member) in members {
            if self.lives(*number, member) || member.stopped || !self.is_due(*number) {
                continue;
            }
            let child = start(config, *number, member).inspect_err(|error| {
                tracing::warn!(node = member.name, error = format!("{error:#}"), "a node's daemon does not start, will retry");
            });
            let before = self.started.get(number).filter(|started| started.at.elapsed() < STEADY);
            let pause = before.map_or(FIRST_PAUSE, |started| (started.pause * 2).min(LONGEST_PAUSE));
            self.started.insert(*number, Started { child: child.ok(), at: Instant::now(), pause });
        }
    }

    /// Whether a daemon runs: one of ours, or one of before this process.
    fn lives(&mut self, number: u8, member: &Member) -> bool {
        if let Some(started) = self.started.get_mut(&number)
            && let Some(child) = &mut started.child
        {
            match child.try_wait() {
                Ok(None) => return true,
                Ok(Some(status)) => {
                    tracing::warn!(node = member.name, %status, "a node's daemon ended");
                    started.child = None;
                }
                Err(error) => tracing::warn!(node = member.name, %error, "cannot wait for a node's daemon"),
            }
        }
        member.running().is_some()
    }

    fn is_due(&self, number: u8) -> bool {
        self.started.get(&number).is_none_or(|started| started.at.elapsed() >= started.pause)
    }
}

/// Gives a node its kubeconfig, as joining does; the node renews what is in it by itself.
pub(super) fn give_identity(config: &Config, member: &Member, pki: &Pki) -> Result<()> {
    let path = member.place.join("kubeconfig");
    let server = format!("https://{}", SocketAddr::new(config.advertise_address, config.api_port));
    if Kubeconfig::read(&path).is_ok_and(|known| known.server == server && known.ca_pem == pki.ca_pem()) {
        return Ok(());
    }
    let spec = LeafSpec {
        file: format!("node-{}", member.name),
        common_name: format!("system:node:{}", member.name),
        organizations: vec!["system:nodes".into()],
        client: true,
        ..LeafSpec::default()
    };
    let identity = pki.leaf(&spec).with_context(|| format!("cannot make a certificate for the node {}", member.name))?;
    durable::make_dir(&member.place).with_context(|| format!("cannot make {}", member.place.display()))?;
    let kubeconfig = Kubeconfig { server, ca_pem: pki.ca_pem().to_owned(), identity };
    kubeconfig.write(&path, "kubelet").with_context(|| format!("cannot write {}", path.display()))
}

fn start(config: &Config, number: u8, member: &Member) -> Result<Child> {
    let record = write_down(config, member)?;
    let nodes = Record::read(&config.data_dir)?.and_then(|record| record.nodes).context("the record tells of no nodes")?;
    let links = nodes.links(&config.instance);
    let namespace = netns::path(&links.namespace(number));
    let inside = File::open(&namespace).with_context(|| format!("cannot open the network namespace {}", namespace.display()))?;
    let log = fs::OpenOptions::new().create(true).append(true).mode(0o600).open(record.data_dir.join("troupe.log"));
    let log = log.with_context(|| format!("cannot open the log in {}", record.data_dir.display()))?;
    let mut command = Command::new(std::env::current_exe().context("cannot find this program")?);
    command.arg("node").args(flags(config, member, addresses(&links, number, &config.families())?));
    command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
    let enter = move || {
        nix::unistd::setsid()?;
        Ok(setns(&inside, CloneFlags::CLONE_NEWNET)?)
    };
    // SAFETY: setsid and setns are async-signal-safe and the closure touches nothing else.
    unsafe { command.pre_exec(enter) };
    let child = command.spawn().with_context(|| format!("cannot start the node {}", member.name))?;
    tracing::info!(node = member.name, pid = child.id(), "started a node's daemon");
    Ok(child)
}

/// The record of a node before its daemon is started: whose it is, and that it lives at a containerd of its own, whatever else
/// answers on this machine.
fn write_down(config: &Config, member: &Member) -> Result<Record> {
    let (data_dir, run_dir) = (member.data_dir(), member.run_dir.clone());
    let mut record = match Record::read(&data_dir)? {
        Some(record) => record,
        None => Record::new(data_dir, run_dir)?,
    };
    record.cluster = Some(config.instance.clone());
    if !record.made.living {
        record.made.living = true;
        // Nothing of it is there yet that could not be elsewhere.
        record.made.boot.clear();
        let containerd = ContainerdLayout { state: record.run_dir.join("containerd"), ..config.containerd() };
        record.made.runtime = Some(containerd.socket());
    }
    record.made.kubeconfigs.insert(member.place.join("kubeconfig"));
    config.write_kubelet_configuration(&member.place.join(KUBELET))?;
    for dir in record.run_dir.parent().into_iter().chain([record.run_dir.as_path()]) {
        durable::make_passage(dir).with_context(|| format!("cannot make {}", dir.display()))?;
    }
    record.save()?;
    Ok(record)
}

/// The command line of a node: what the cluster was given, but with an address, a name and directories of its own.
fn flags(config: &Config, member: &Member, addresses: PerFamily<IpAddr>) -> Vec<OsString> {
    let parts = [Part::Node, Part::RemoteNode].into();
    let mut settings = config.settings().only(|setting| takes(&parts, setting) && setting != "containerRuntimeEndpoint");
    let place = |name: &str| Some(member.place.join(name));
    settings.data_dir = Some(member.data_dir());
    settings.run_dir = Some(member.run_dir.clone());
    settings.kubeconfig = place("kubeconfig");
    settings.certificates_dir = place("data/pki");
    settings.kubelet_dir = place("kubelet");
    settings.pod_logs_dir = place("logs");
    settings.cni_conf_dir = place("cni");
    settings.manifests_dir = place("manifests");
    settings.node_name = Some(member.name.clone());
    settings.node_ip = Some(addresses);
    settings.cgroup_parent = Some(format!("{}-{}", config.cgroup_parent, member.name));
    settings.api_servers = None;
    // What holds for the kubelet of this node holds for that one's, too.
    settings.kubelet_config = place(KUBELET);
    settings.kubelet_config_dir = None;
    (settings.node_heartbeat, settings.cluster_domain, settings.cluster_dns) = (None, None, None);
    settings.entries().iter().map(|(setting, value)| format!("{}={}", flag(setting), flag_value(value)).into()).collect()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::config::Settings;

    #[test]
    fn a_node_takes_the_clusters_settings_and_directories_of_its_own() {
        let settings = Settings {
            data_dir: Some("/d".into()),
            node_ip: Some(IpAddr::from([172, 30, 0, 1]).into()),
            node_name: Some("one".into()),
            api_port: Some(7443),
            kubelet_port: Some(7250),
            eviction_hard: Some(vec!["none".into()]),
            container_runtime_endpoint: Some("/s".into()),
            ..Settings::default()
        };
        let config = settings.resolve().expect("works");
        let member = Member::new(2, "one", Path::new("/d"), Path::new("/r"));
        let flags: Vec<String> =
            flags(&config, &member, IpAddr::from([172, 30, 0, 2]).into()).into_iter().filter_map(|flag| flag.into_string().ok()).collect();
        for wanted in [
            "--data-dir=/d/nodes/one-2/data",
            "--run-dir=/r/nodes/one-2",
            "--certificates-dir=/d/nodes/one-2/data/pki",
            "--node-name=one-2",
            "--node-ip=172.30.0.2",
            "--kubelet-port=7250",
            "--eviction-hard=none",
            "--cgroup-parent=kubepods-one-2",
            "--kubelet-config=/d/nodes/one-2/kubelet.json",
        ] {
            assert!(flags.contains(&wanted.to_owned()), "{wanted} is not in {flags:?}");
        }
        for other in ["--api-port", "--container-runtime-endpoint", "--api-servers", "--etcd-servers"] {
            assert!(!flags.iter().any(|flag| flag.starts_with(other)), "{other} is in {flags:?}");
        }
    }
}
