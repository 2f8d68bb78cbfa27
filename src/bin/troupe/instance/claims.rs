//! What an instance needs for itself on its machine, and where two would collide. Pure.

use std::{
    collections::BTreeSet,
    net::{IpAddr, Ipv4Addr},
    path::{Path, PathBuf},
};

use super::{Record, kernel::NetworkNamespace};
use crate::{
    config::{Part, Settings},
    up::control_plane::{CONTROLLERS, NODE, SCHEDULER},
};

/// The kubeconfigs that an API server's process writes beside the administrator's.
pub const COMPONENT_KUBECONFIGS: [&str; 3] = [CONTROLLERS, SCHEDULER, NODE];

/// What one instance has or wants for itself. Paths are canonical.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Claims {
    /// With all below them; each with the option that moves it.
    pub directories: Vec<(PathBuf, &'static str)>,
    /// Files that are written.
    pub kubeconfigs: Vec<PathBuf>,
    /// Where CNI configurations are read from: whoever reads one reads all.
    pub cni_conf_dir: Option<PathBuf>,
    pub runtime: Option<PathBuf>,
    pub cgroup_parent: Option<String>,
    pub bridge: Option<String>,
    pub ports: Vec<Port>,
    /// Where ports, bridge and packet filter are.
    pub network: Option<NetworkNamespace>,
    /// A node's packet filter chains have fixed names.
    pub node: bool,
}

/// A port at an address, with the option that changes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Port {
    pub address: IpAddr,
    pub number: u16,
    pub option: &'static str,
}

impl Port {
    fn collides(&self, other: &Port) -> bool {
        let one_address = self.address == other.address || self.address.is_unspecified() || other.address.is_unspecified();
        self.number == other.number && one_address
    }
}

/// Something two instances cannot both have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Collision {
    pub what: String,
    /// How to get around it.
    pub mend: String,
}

impl Claims {
    /// What daemons of these parts with these settings need. `canonical` gives each path the one name that it has for all.
    pub fn of(settings: &Settings, parts: &BTreeSet<Part>, canonical: impl Fn(&Path) -> PathBuf) -> Self {
        let path = |setting: &Option<PathBuf>| setting.as_deref().map(&canonical);
        let named = |setting: &Option<PathBuf>, option: &'static str| path(setting).map(|path| (path, option));
        let node = parts.contains(&Part::Node);
        let mut claims = Claims { node, ..Claims::default() };
        claims.directories.extend(named(&settings.data_dir, "--data-dir").into_iter().chain(named(&settings.run_dir, "--run-dir")));
        if parts.contains(&Part::ApiServer) {
            let address = settings.bind_address.unwrap_or(Ipv4Addr::UNSPECIFIED.into());
            claims.ports.extend(settings.api_port.map(|number| Port { address, number, option: "--api-port" }));
            if let Some(kubeconfig) = path(&settings.kubeconfig) {
                claims.kubeconfigs.extend(COMPONENT_KUBECONFIGS.map(|name| kubeconfig.with_file_name(name)));
                claims.kubeconfigs.push(kubeconfig);
            }
        }
        if node {
            claims
                .directories
                .extend(named(&settings.kubelet_dir, "--kubelet-dir").into_iter().chain(named(&settings.pod_logs_dir, "--pod-logs-dir")));
            let address = Ipv4Addr::UNSPECIFIED.into();
            claims.ports.extend(settings.kubelet_port.map(|number| Port { address, number, option: "--kubelet-port" }));
            claims.cni_conf_dir = path(&settings.cni_conf_dir);
            claims.runtime = path(&settings.container_runtime_endpoint);
            claims.cgroup_parent = settings.cgroup_parent.clone();
            claims.bridge = settings.bridge.clone();
        }
        claims
    }

    /// What an instance has that is written down.
    pub fn of_record(record: &Record, canonical: impl Fn(&Path) -> PathBuf) -> Self {
        let claims = Claims::of(&record.settings(), &record.parts(), &canonical);
        let runtime = claims.runtime.clone().or_else(|| record.made.runtime.as_deref().map(canonical));
        Claims { network: record.made.network, runtime: runtime.filter(|_| claims.node), ..claims }
    }
}

/// What `mine` would take of `theirs`, which belong to the instance called `them`.
pub fn collisions(mine: &Claims, theirs: &Claims, them: &str) -> Vec<Collision> {
    let mut found = Vec::new();
    let mut collide = |what: String, mend: String| found.push(Collision { what: format!("{what} of {them}"), mend });
    for (dir, option) in &mine.directories {
        for (other, _) in theirs.directories.iter().filter(|(other, _)| dir.starts_with(other) || other.starts_with(dir)) {
            let how = if dir == other { "is the directory" } else { "lies in, or around, the directory" };
            collide(format!("{} {how} {}", dir.display(), other.display()), format!("choose another with {option}"));
        }
    }
    for file in mine.kubeconfigs.iter().filter(|file| theirs.kubeconfigs.contains(file)) {
        collide(format!("{} is a kubeconfig", file.display()), "choose one in another folder with --kubeconfig".into());
    }
    if let Some(dir) = mine.cni_conf_dir.as_ref().filter(|_| mine.cni_conf_dir == theirs.cni_conf_dir) {
        collide(format!("{} has the pod network", dir.display()), "choose another with --cni-conf-dir".into());
    }
    if let Some(socket) = mine.runtime.as_ref().filter(|_| mine.runtime == theirs.runtime) {
        collide(format!("{} is the container runtime", socket.display()), "choose another with --container-runtime-endpoint".into());
    }
    if let (Some(parent), Some(other)) = (&mine.cgroup_parent, &theirs.cgroup_parent)
        && (Path::new(parent).starts_with(other) || Path::new(other).starts_with(parent))
    {
        let how = if parent == other { "is the cgroup" } else { "lies in, or around, the cgroup" };
        collide(format!("{parent} {how} {other}"), "choose another with --cgroup-parent".into());
    }
    if let (Some(here), Some(there)) = (mine.network, theirs.network)
        && here.is(&there)
    {
        in_one_network(mine, theirs, &mut collide);
    }
    found
}

/// What collides in one network namespace only.
fn in_one_network(mine: &Claims, theirs: &Claims, collide: &mut impl FnMut(String, String)) {
    for port in mine.ports.iter().filter(|port| theirs.ports.iter().any(|other| port.collides(other))) {
        collide(format!("port {} is one", port.number), format!("choose another with {}", port.option));
    }
    if let Some(bridge) = mine.bridge.as_ref().filter(|_| mine.bridge == theirs.bridge) {
        collide(format!("{bridge} is the pods' bridge"), "choose another with --bridge".into());
    }
    if mine.node && theirs.node {
        let mend = "no option changes their names: start one of the two in a network namespace of its own (nsenter --net=/run/netns/NAME troupe …)";
        collide("the packet filter chains KUBE-… and TROUPE-… in this network namespace are those".into(), mend.into());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(name: &str) -> Settings {
        let path = |kind: &str| Some(PathBuf::from(format!("/{name}/{kind}")));
        Settings {
            data_dir: path("data"),
            run_dir: path("run"),
            kubeconfig: path("admin.kubeconfig"),
            kubelet_dir: path("kubelet"),
            pod_logs_dir: path("logs"),
            cni_conf_dir: path("cni"),
            cgroup_parent: Some(name.to_owned()),
            bridge: Some(format!("{name}0")),
            api_port: Some(6443),
            kubelet_port: Some(10250),
            ..Settings::default()
        }
    }

    fn claims(settings: &Settings, network: u64) -> Claims {
        let claims = Claims::of(settings, &Part::WHOLE.into(), Path::to_owned);
        Claims { network: Some(NetworkNamespace { inode: network, cookie: None }), ..claims }
    }

    fn found(mine: &Settings, theirs: &Settings) -> Vec<String> {
        let found = collisions(&claims(mine, 1), &claims(theirs, 2), "them");
        found.into_iter().map(|collision| format!("{} → {}", collision.what, collision.mend)).collect()
    }

    #[test]
    fn names_that_begin_alike_do_not_collide() {
        for (one, other) in [("a", "ab"), ("t2", "t2pods"), ("ab", "a")] {
            assert_eq!(found(&settings(one), &settings(other)), Vec::<String>::new());
        }
    }

    #[test]
    fn each_collision_names_what_and_the_option_that_changes_it() {
        let theirs = settings("b");
        let only = |change: fn(&mut Settings), part: &str, option: &str| {
            let mut mine = settings("a");
            change(&mut mine);
            let found = found(&mine, &theirs);
            assert!(found.len() == 1 && found[0].contains(part) && found[0].contains("of them") && found[0].contains(option), "{found:?}");
        };
        only(|mine| mine.kubelet_dir = Some("/b/kubelet".into()), "/b/kubelet is the directory", "--kubelet-dir");
        only(|mine| mine.data_dir = Some("/b/kubelet/pods".into()), "lies in, or around, the directory /b/kubelet", "--data-dir");
        only(|mine| mine.pod_logs_dir = Some("/b/logs/x".into()), "/b/logs/x", "--pod-logs-dir");
        only(|mine| mine.cni_conf_dir = Some("/b/cni".into()), "pod network", "--cni-conf-dir");
        only(|mine| mine.cgroup_parent = Some("b".into()), "b is the cgroup b", "--cgroup-parent");
        only(|mine| mine.cgroup_parent = Some("b/kubepods".into()), "lies in, or around, the cgroup b", "--cgroup-parent");
        let mut mine = settings("a");
        mine.kubeconfig = Some("/b/other.kubeconfig".into());
        let kubeconfigs = found(&mine, &theirs);
        assert!(kubeconfigs.len() == 3 && kubeconfigs.iter().all(|one| one.contains("--kubeconfig")), "{kubeconfigs:?}");
    }

    #[test]
    fn in_one_network_two_nodes_collide_whatever_they_are_called() {
        let (mine, theirs) = (claims(&settings("a"), 1), claims(&settings("b"), 1));
        let found: Vec<String> = collisions(&mine, &theirs, "them").into_iter().map(|collision| collision.what).collect();
        assert_eq!(found.len(), 3, "{found:?}");
        assert!(found[0].contains("port 6443") && found[1].contains("port 10250") && found[2].contains("KUBE-"), "{found:?}");
        let plane = Claims { node: false, ports: Vec::new(), bridge: None, ..claims(&settings("c"), 1) };
        assert_eq!(collisions(&plane, &theirs, "them"), []);
    }

    #[test]
    fn one_port_at_two_addresses_is_two() {
        let at = |last: u8| {
            let settings = Settings { bind_address: Some(Ipv4Addr::new(192, 0, 2, last).into()), ..settings("a") };
            Claims {
                network: Some(NetworkNamespace { inode: 1, cookie: None }),
                ..Claims::of(&settings, &[Part::ApiServer].into(), |_| PathBuf::new())
            }
        };
        let ports = |one: u8, other: u8| collisions(&at(one), &at(other), "them").iter().filter(|found| found.what.contains("port 6443")).count();
        assert_eq!((ports(1, 1), ports(1, 2)), (1, 0));
    }

    #[test]
    fn a_control_plane_claims_nothing_of_a_nodes() {
        let claims = Claims::of(&settings("a"), &[Part::ApiServer, Part::Controllers].into(), Path::to_owned);
        assert!(claims.cgroup_parent.is_none() && claims.bridge.is_none() && claims.cni_conf_dir.is_none() && claims.directories.len() == 2);
    }

    #[test]
    fn a_record_claims_the_runtime_that_was_found() {
        let mut record = Record::new("/d".into(), "/r".into()).expect("makes");
        record.daemons.insert("troupe".into(), super::super::Daemon { parts: Part::WHOLE.into(), settings: settings("a") });
        record.made.runtime = Some("/run/containerd/containerd.sock".into());
        assert_eq!(Claims::of_record(&record, Path::to_owned).runtime, record.made.runtime);
    }
}
