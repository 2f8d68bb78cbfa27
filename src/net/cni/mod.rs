//! The CNI network that containerd attaches pods to: a bridge per node, addresses from the node's range, host ports.
//!
//! The node's pod range comes in; a conflist goes out, written atomically. A conflist that somebody else put there is
//! left alone and named: then the pod network is theirs.

pub mod announce;
pub mod bridge;
mod facts;
pub mod links;
pub mod preflight;
pub mod remains;

use std::{
    fs, io,
    net::IpAddr,
    path::{Path, PathBuf},
};

use ipnetwork::IpNetwork;
use serde_json::{Value, json};

pub use facts::{Facts, has_tool, unable_to_police};
pub use preflight::{Finding, Severity};

/// The file we write.
pub const FILE_NAME: &str = "10-troupe.conflist";
/// Where distributions put the plugins.
pub const PLUGIN_DIRS: [&str; 2] = ["/opt/cni/bin", "/usr/lib/cni"];
/// The plugins our conflist calls.
pub const PLUGINS: [&str; 4] = ["bridge", "host-local", "portmap", "loopback"];
/// The plugin that limits what pods send and receive; without it they send what they like.
pub const BANDWIDTH: &str = "bandwidth";
/// The interface that runtimes give to pods.
const INTERFACE: &str = "eth0";
/// Where runtimes remember what the plugins told them.
const RESULTS: &str = "/var/lib/cni/results";

/// Why the conflist could not be written.
#[derive(Debug, thiserror::Error)]
pub enum CniError {
    #[error("reading {path} failed")]
    Read { path: PathBuf, source: io::Error },
    #[error("writing {path} failed")]
    Write { path: PathBuf, source: io::Error },
    #[error("removing {path} failed")]
    Remove { path: PathBuf, source: io::Error },
}

/// What the pod network looks like on this node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Network {
    /// The name of the network, and of its state below `/var/lib/cni`.
    pub name: String,
    /// The bridge's interface name, at most 15 bytes.
    pub bridge: String,
    /// Pods' addresses on this node, a range of each family; the first address of a range is the bridge's.
    pub pod_ranges: Vec<IpNetwork>,
    /// Where host-local keeps its leases.
    pub data_dir: PathBuf,
    /// `None` leaves it to the bridge plugin.
    pub mtu: Option<u32>,
    /// The plugin [`BANDWIDTH`] is installed beside the others.
    pub bandwidth: bool,
}

impl Network {
    /// The defaults for a node with the pods of `pod_ranges`.
    pub fn new(pod_ranges: Vec<IpNetwork>) -> Self {
        Network { name: "troupe".into(), bridge: "troupe0".into(), pod_ranges, data_dir: "/var/lib/cni/networks".into(), mtu: None, bandwidth: false }
    }

    /// The CNI configuration. Masquerading is ours (see [`crate::podnet`]): the bridge plugin would also hide pods from pods of other nodes.
    pub fn conflist(&self) -> Value {
        let subnet = |range: &IpNetwork| json!([{"subnet": format!("{}/{}", range.network(), range.prefix())}]);
        let ranges: Vec<Value> = self.pod_ranges.iter().map(subnet).collect();
        let mut bridge = json!({
            "type": "bridge",
            "bridge": self.bridge,
            "isGateway": true,
            "isDefaultGateway": true,
            "ipMasq": false,
            "hairpinMode": true,
            "forceAddress": true,
            "ipam": {
                "type": "host-local",
                "ranges": ranges,
                "dataDir": self.data_dir,
            },
        });
        if let Some(mtu) = self.mtu {
            bridge["mtu"] = mtu.into();
        }
        let portmap = json!({"type": "portmap", "capabilities": {"portMappings": true}, "snat": true});
        // What it is to do the runtime says, from a pod's annotations. It works on the node's end of the pod's link, wherever that goes later.
        let bandwidth = self.bandwidth.then(|| json!({"type": BANDWIDTH, "capabilities": {"bandwidth": true}}));
        let plugins: Vec<Value> = [bridge, portmap].into_iter().chain(bandwidth).collect();
        json!({"cniVersion": "1.0.0", "name": self.name, "plugins": plugins})
    }
}

/// The file in which a runtime remembers what the plugins told it of a sandbox's interface in a network.
fn result_file(network: &str, sandbox: &str) -> String {
    format!("{network}-{sandbox}-{INTERFACE}")
}

/// The bridge's own address in a range of pods: the first behind the network's, as host-local gives it. None in a range of one address.
pub fn gateway(range: IpNetwork) -> Option<IpAddr> {
    match range {
        IpNetwork::V4(range) => range.nth(1).map(IpAddr::V4),
        IpNetwork::V6(range) => range.nth(1).map(IpAddr::V6),
    }
}

/// What [`ensure`] found or did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    Unchanged,
    Written,
    /// Another network is configured here; nothing was written.
    Foreign(PathBuf),
}

/// Makes the conflist in `dir` describe `network`, unless the directory holds somebody else's.
pub fn ensure(dir: &Path, network: &Network) -> Result<Outcome, CniError> {
    if let Some(foreign) = foreign(dir)? {
        return Ok(Outcome::Foreign(foreign));
    }
    let path = dir.join(FILE_NAME);
    let text = format!("{:#}\n", network.conflist());
    if fs::read_to_string(&path).is_ok_and(|found| found == text) {
        return Ok(Outcome::Unchanged);
    }
    let failed = |source| CniError::Write { path: path.clone(), source };
    fs::create_dir_all(dir).map_err(failed)?;
    let temporary = dir.join(format!(".{FILE_NAME}.new"));
    fs::write(&temporary, text).map_err(failed)?;
    fs::File::open(&temporary).and_then(|file| file.sync_all()).map_err(failed)?;
    fs::rename(&temporary, &path).map_err(failed)?;
    Ok(Outcome::Written)
}

/// Removes the conflist that an earlier start wrote for `network`, whose place is somebody else's now; tells whether there was one. One of the
/// same name that gives out addresses from elsewhere stays.
///
/// # Errors
/// When it is there and cannot be removed.
pub fn withdraw(dir: &Path, network: &Network) -> Result<bool, CniError> {
    let path = dir.join(FILE_NAME);
    if !is_of(&path, network) {
        return Ok(false);
    }
    fs::remove_file(&path).map_err(|source| CniError::Remove { path, source })?;
    Ok(true)
}

/// Whether a CNI configuration is that of a network: it gives out addresses from the same directory.
pub(crate) fn is_of(path: &Path, network: &Network) -> bool {
    let read = || serde_json::from_slice::<Value>(&fs::read(path).ok()?).ok();
    read().is_some_and(|found| found["plugins"][0]["ipam"]["dataDir"] == network.conflist()["plugins"][0]["ipam"]["dataDir"])
}

/// The first network configuration in `dir` that is not ours, as a runtime would pick it.
pub fn foreign(dir: &Path) -> Result<Option<PathBuf>, CniError> {
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(CniError::Read { path: dir.into(), source }),
    };
    let is_config = |path: &PathBuf| {
        let extension = path.extension().and_then(|extension| extension.to_str());
        matches!(extension, Some("conf" | "conflist" | "json")) && path.file_name().is_some_and(|name| name != FILE_NAME)
    };
    let mut found: Vec<PathBuf> = entries.filter_map(Result::ok).map(|entry| entry.path()).filter(is_config).collect();
    found.sort();
    Ok(found.into_iter().next())
}

/// The directory that holds all plugins, or those missing in the one that comes closest.
pub fn plugin_dir(candidates: &[PathBuf]) -> Result<PathBuf, Vec<String>> {
    let missing = |dir: &PathBuf| PLUGINS.iter().filter(|plugin| !dir.join(plugin).is_file()).map(|plugin| (*plugin).to_owned()).collect::<Vec<_>>();
    let best = candidates.iter().map(|dir| (missing(dir), dir)).min_by_key(|(missing, _)| missing.len());
    match best {
        Some((missing, dir)) if missing.is_empty() => Ok(dir.clone()),
        Some((missing, _)) => Err(missing),
        None => Err(PLUGINS.map(str::to_owned).to_vec()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn network() -> Network {
        Network::new(vec!["10.244.3.0/24".parse().expect("a network")])
    }

    #[test]
    fn the_conflist_is_written_once_and_follows_the_range() {
        let dir = tempfile::tempdir().expect("a directory");
        let conf = dir.path().join("net.d");
        assert_eq!(ensure(&conf, &network()).expect("writes"), Outcome::Written);
        assert_eq!(ensure(&conf, &network()).expect("reads"), Outcome::Unchanged);
        let both = ["10.244.9.0/24", "fd00:10:244:9::/64"].map(|range| range.parse().expect("a network"));
        let moved = Network::new(both.to_vec());
        assert_eq!(ensure(&conf, &moved).expect("writes"), Outcome::Written);
        let text = fs::read_to_string(conf.join(FILE_NAME)).expect("is there");
        let value: Value = serde_json::from_str(&text).expect("is JSON");
        assert_eq!(value["plugins"][0]["ipam"]["ranges"][0][0]["subnet"], "10.244.9.0/24");
        assert_eq!(value["plugins"][0]["ipam"]["ranges"][1][0]["subnet"], "fd00:10:244:9::/64");
        assert_eq!(value["plugins"][0]["ipMasq"], false);
        assert_eq!(fs::read_dir(&conf).expect("lists").count(), 1, "no temporary file is left");
    }

    #[test]
    fn traffic_is_limited_where_the_plugin_is_there() {
        let dir = tempfile::tempdir().expect("a directory");
        let types = |network: &Network| {
            let plugins = network.conflist()["plugins"].as_array().expect("a list").clone();
            plugins.iter().map(|plugin| plugin["type"].as_str().expect("a type").to_owned()).collect::<Vec<_>>()
        };
        assert_eq!(types(&network()), ["bridge", "portmap"]);
        let limited = Network { bandwidth: true, ..network() };
        assert_eq!(types(&limited), ["bridge", "portmap", "bandwidth"]);
        assert_eq!(limited.conflist()["plugins"][2]["capabilities"], json!({"bandwidth": true}));
        assert_eq!(ensure(dir.path(), &network()).expect("writes"), Outcome::Written);
        assert_eq!(ensure(dir.path(), &limited).expect("writes"), Outcome::Written, "one that a version before wrote is written anew");
    }

    #[test]
    fn the_bridge_has_the_first_address_of_each_range() {
        let of = |range: &str| gateway(range.parse().expect("a network")).map(|address| address.to_string());
        assert_eq!(of("10.244.3.0/24").as_deref(), Some("10.244.3.1"));
        assert_eq!(of("10.244.3.77/25").as_deref(), Some("10.244.3.1"));
        assert_eq!(of("fd00:10:244:9::/64").as_deref(), Some("fd00:10:244:9::1"));
        assert_eq!(of("10.244.3.7/32"), None);
    }

    #[test]
    fn somebody_elses_network_is_left_alone() {
        let dir = tempfile::tempdir().expect("a directory");
        let theirs = dir.path().join("05-cilium.conflist");
        fs::write(&theirs, "{}").expect("writes");
        assert_eq!(ensure(dir.path(), &network()).expect("reads"), Outcome::Foreign(theirs));
        assert!(!dir.path().join(FILE_NAME).exists());
    }

    #[test]
    fn only_what_was_written_for_this_network_is_withdrawn() {
        let dir = tempfile::tempdir().expect("a directory");
        assert!(!withdraw(dir.path(), &network()).expect("nothing is there"));
        assert_eq!(ensure(dir.path(), &network()).expect("writes"), Outcome::Written);
        let of_another = Network { data_dir: "/elsewhere".into(), ..network() };
        assert!(!withdraw(dir.path(), &of_another).expect("it stays") && dir.path().join(FILE_NAME).exists());
        assert!(withdraw(dir.path(), &network()).expect("removes") && !dir.path().join(FILE_NAME).exists());
    }

    #[test]
    fn missing_plugins_are_named() {
        let dir = tempfile::tempdir().expect("a directory");
        for plugin in ["bridge", "loopback", "portmap"] {
            fs::write(dir.path().join(plugin), "").expect("writes");
        }
        assert_eq!(plugin_dir(&["/nowhere".into(), dir.path().into()]), Err(vec!["host-local".to_owned()]));
        fs::write(dir.path().join("host-local"), "").expect("writes");
        assert_eq!(plugin_dir(&["/nowhere".into(), dir.path().into()]), Ok(dir.path().to_owned()));
    }
}
