//! What is written down of an instance.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};
use ipnetwork::IpNetwork;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error};

use super::{kernel::NetworkNamespace, nodes::Nodes, register};
use crate::{
    config::{Part, PerFamily, Settings},
    durable,
};

/// The record's name in the data directory and in the run directory.
pub const NAME: &str = "instance.json";

/// An instance: who it is, what its daemons were given, what they made.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Record {
    /// Random; stands in the names of what is made where names are free.
    pub id: String,
    pub data_dir: PathBuf,
    pub run_dir: PathBuf,
    /// By the names of their pid files.
    #[serde(default)]
    pub daemons: BTreeMap<String, Daemon>,
    #[serde(default)]
    pub made: Made,
    /// The cluster that started this node and has its directories in its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cluster: Option<String>,
    /// Nodes that it started beside its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nodes: Option<Nodes>,
}

/// A daemon as it was started last.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Daemon {
    pub parts: BTreeSet<Part>,
    /// What these parts take, defaults included.
    #[serde(serialize_with = "what_is_set", deserialize_with = "what_is_known")]
    pub settings: Settings,
}

/// A program of another version may have written down settings that this one does not have.
fn what_is_known<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Settings, D::Error> {
    let all = BTreeMap::<String, serde_json::Value>::deserialize(deserializer)?;
    Settings::of_entries(all).map_err(D::Error::custom)
}

fn what_is_set<S: Serializer>(settings: &Settings, serializer: S) -> Result<S::Ok, S::Error> {
    settings.entries().serialize(serializer)
}

/// What was made on the machine. Sets grow: a directory that a later start no longer uses is still there.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Made {
    /// The machine's boot: what the kernel keeps ends with it.
    pub boot: String,
    /// A node was started and not taken down.
    pub living: bool,
    pub network: Option<NetworkNamespace>,
    /// The runtime's socket.
    pub runtime: Option<PathBuf>,
    pub pod_cidr: Option<PerFamily<IpNetwork>>,
    pub run_dirs: BTreeSet<PathBuf>,
    pub kubelet_dirs: BTreeSet<PathBuf>,
    pub pod_logs_dirs: BTreeSet<PathBuf>,
    pub cni_conf_dirs: BTreeSet<PathBuf>,
    pub bridges: BTreeSet<String>,
    pub cgroup_parents: BTreeSet<String>,
    /// Credentials that were written, not those that were given.
    pub kubeconfigs: BTreeSet<PathBuf>,
}

impl Record {
    /// One that nothing belongs to yet.
    ///
    /// # Errors
    /// When the kernel gives no random name.
    pub fn new(data_dir: PathBuf, run_dir: PathBuf) -> Result<Self> {
        let uuid = fs::read_to_string("/proc/sys/kernel/random/uuid").context("the kernel gives no random name")?;
        let id = uuid.trim().replace('-', "").chars().take(12).collect();
        Ok(Record { id, data_dir, run_dir, daemons: BTreeMap::new(), made: Made::default(), cluster: None, nodes: None })
    }

    /// The record in a directory; `None` where there is none.
    ///
    /// # Errors
    /// When it is there and cannot be read.
    pub fn read(dir: &Path) -> Result<Option<Self>> {
        Self::read_file(&dir.join(NAME))
    }

    pub(super) fn read_file(path: &Path) -> Result<Option<Self>> {
        let text = match fs::read(path) {
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => return Ok(None),
            text => text.with_context(|| format!("cannot read {}", path.display()))?,
        };
        serde_json::from_slice(&text).map(Some).with_context(|| format!("{} is damaged", path.display()))
    }

    /// Writes it down, the data directory's copy first. What stands there already is not written again: a full disk keeps no
    /// cluster from starting.
    pub fn save(&self) -> Result<()> {
        let text = serde_json::to_vec_pretty(self).context("a record is JSON")?;
        let places = [self.data_dir.join(NAME), self.run_dir.join(NAME), register::file(&self.id)];
        let missing = places.iter().filter(|path| !fs::read(path).is_ok_and(|found| found == text));
        missing.into_iter().try_for_each(|path| durable::write(path, &text).with_context(|| format!("cannot write {}", path.display())))
    }

    /// What its daemons were given, together. Who has the API server goes first.
    pub fn settings(&self) -> Settings {
        let mut daemons: Vec<&Daemon> = self.daemons.values().collect();
        daemons.sort_by_key(|daemon| !daemon.parts.contains(&Part::ApiServer));
        let place = Settings { data_dir: Some(self.data_dir.clone()), run_dir: Some(self.run_dir.clone()), ..Settings::default() };
        daemons.into_iter().fold(place, |all, daemon| all.or(daemon.settings.clone()))
    }

    /// Whether one of the two was started by the other, or both by a third: their directories lie in one another.
    pub fn is_of_one_cluster(&self, other: &Record) -> bool {
        let cluster = |record: &Record| record.cluster.clone().unwrap_or_else(|| record.id.clone());
        cluster(self) == cluster(other)
    }

    /// All parts of its daemons.
    pub fn parts(&self) -> BTreeSet<Part> {
        self.daemons.values().flat_map(|daemon| daemon.parts.iter().copied()).collect()
    }

    /// Whether something of it may run: a daemon does, or its pods were not taken down since the machine was booted.
    pub fn lives(&self, boot: &str) -> bool {
        (self.made.living && self.made.boot == boot) || super::DAEMONS.iter().any(|daemon| self.running(daemon).is_some())
    }

    /// The pid of one of its daemons.
    pub fn running(&self, daemon: &str) -> Option<i32> {
        super::running(&self.run_dir.join(format!("{daemon}.pid")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn daemon(parts: &[Part], settings: Settings) -> Daemon {
        Daemon { parts: parts.iter().copied().collect(), settings }
    }

    #[test]
    fn a_record_is_read_as_it_was_written_and_a_damaged_one_is_named() {
        let dir = tempfile::tempdir().expect("a directory");
        let mut record = Record::new(dir.path().join("data"), dir.path().join("run")).expect("makes");
        assert_eq!(record.id.len(), 12);
        let settings = Settings { bridge: Some("b0".into()), pod_cidr: Some("10.244.0.0/16".parse().expect("a range")), ..Settings::default() };
        record.daemons.insert(super::super::NODE.into(), daemon(&[Part::Node], settings));
        record.made = Made {
            boot: "b".into(),
            living: true,
            network: Some(NetworkNamespace { inode: 4, cookie: Some(3) }),
            bridges: ["b0".into()].into(),
            ..Made::default()
        };
        let text = serde_json::to_vec(&record).expect("encodes");
        assert!(!String::from_utf8_lossy(&text).contains("etcdServers"), "what is not set is not told");
        durable::write(&record.data_dir.join(NAME), &text).expect("writes");
        assert_eq!(Record::read(&record.data_dir).expect("reads"), Some(record.clone()));
        assert_eq!(Record::read(&record.run_dir).expect("nothing is there"), None);
        let later = String::from_utf8_lossy(&text).replace("\"bridge\":", "\"ofALaterVersion\":7,\"bridge\":");
        fs::write(record.data_dir.join(NAME), later).expect("writes");
        assert_eq!(Record::read(&record.data_dir).expect("reads"), Some(record.clone()));
        fs::write(record.data_dir.join(NAME), &text[..text.len() / 2]).expect("writes");
        let error = Record::read(&record.data_dir).expect_err("it is half").to_string();
        assert!(error.contains("instance.json is damaged"), "{error}");
    }

    #[test]
    fn the_api_servers_settings_go_before_a_nodes() {
        let mut record = Record::new("/d".into(), "/r".into()).expect("makes");
        let kubeconfig = |name: &str| Settings { kubeconfig: Some(name.into()), ..Settings::default() };
        let node = Settings { bridge: Some("b0".into()), ..kubeconfig("/node") };
        record.daemons.insert("a".into(), daemon(&[Part::Node, Part::RemoteNode], node));
        record.daemons.insert("b".into(), daemon(&[Part::ApiServer], kubeconfig("/admin")));
        let settings = record.settings();
        assert_eq!(settings.kubeconfig, Some("/admin".into()));
        assert_eq!((settings.bridge.as_deref(), settings.data_dir), (Some("b0"), Some("/d".into())));
    }

    #[test]
    fn nothing_of_an_earlier_boot_lives() {
        let mut record = Record::new("/nowhere/d".into(), "/nowhere/r".into()).expect("makes");
        assert!(!record.lives("now"));
        record.made = Made { living: true, boot: "now".into(), ..Made::default() };
        assert!(record.lives("now") && !record.lives("later"));
    }
}
