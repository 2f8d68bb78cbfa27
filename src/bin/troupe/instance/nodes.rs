//! The further nodes of a cluster that live in network namespaces of this machine, as its record tells of them.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
};

use ipnetwork::Ipv4Network;
use serde::{Deserialize, Serialize};
use troupe_net::node_links::{NodeLinks, Topology};

/// So much of an instance's id stands in the names of namespaces and links.
const MARK: usize = 8;

/// All of a cluster's, but the one of its own process.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Nodes {
    pub topology: Topology,
    /// Of their links.
    pub range: Ipv4Network,
    /// Their links have IPv6 addresses as well.
    #[serde(default)]
    pub ipv6: bool,
    /// By number; the first is the one of the cluster's own process.
    pub members: BTreeMap<u8, Member>,
    /// The names of those that were taken away, while their Node objects may stand yet.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub departed: BTreeSet<String>,
}

/// One of them.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Member {
    pub name: String,
    /// All its directories but the run directory are below.
    pub place: PathBuf,
    pub run_dir: PathBuf,
    /// Somebody stopped it: it is not started again by itself.
    #[serde(default)]
    pub stopped: bool,
    /// Somebody cut it off.
    #[serde(default)]
    pub cut: bool,
}

impl Nodes {
    /// The links of the instance with this id.
    pub fn links(&self, id: &str) -> NodeLinks {
        NodeLinks { mark: id.chars().take(MARK).collect(), topology: self.topology, range: self.range, ipv6: self.ipv6 }
    }

    /// The number and the member of this name.
    pub fn find(&mut self, name: &str) -> Option<(u8, &mut Member)> {
        self.members.iter_mut().find(|(_, member)| member.name == name).map(|(number, member)| (*number, member))
    }
}

impl Member {
    /// The node of this number beside the one called `first`.
    pub fn new(number: u8, first: &str, data_dir: &Path, run_dir: &Path) -> Self {
        let name = format!("{first}-{number}");
        Member { place: data_dir.join("nodes").join(&name), run_dir: run_dir.join("nodes").join(&name), name, stopped: false, cut: false }
    }

    pub fn data_dir(&self) -> PathBuf {
        self.place.join("data")
    }

    /// The pid of its daemon.
    pub fn running(&self) -> Option<i32> {
        super::running(&self.pid_file())
    }

    pub fn pid_file(&self) -> PathBuf {
        self.run_dir.join(format!("{}.pid", super::NODE))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::instance::Record;

    fn member() -> Member {
        Member::new(2, "one", Path::new("/d"), Path::new("/r"))
    }

    #[test]
    fn a_node_lies_below_its_cluster_and_has_its_name_and_number() {
        let member = member();
        assert_eq!((member.name.as_str(), member.data_dir()), ("one-2", "/d/nodes/one-2/data".into()));
        assert_eq!(member.pid_file(), PathBuf::from("/r/nodes/one-2/troupe-node.pid"));
        let range = "172.30.0.0/24".parse().expect("a range");
        let mut nodes = Nodes { topology: Topology::Shared, range, ipv6: false, members: [(2, member)].into(), departed: BTreeSet::new() };
        assert_eq!(nodes.links("0123456789ab").namespace(2), "troupe-01234567-2");
        assert!(nodes.find("one-2").is_some() && nodes.find("one").is_none());
        let text = serde_json::to_string(&nodes).expect("encodes");
        assert_eq!(serde_json::from_str::<Nodes>(&text).expect("decodes"), nodes);
    }

    #[test]
    fn a_cluster_and_its_nodes_belong_together() {
        let record = |cluster: Option<&str>, id: &str| {
            let mut record = Record::new("/d".into(), "/r".into()).expect("makes");
            record.id = id.into();
            record.cluster = cluster.map(str::to_owned);
            record
        };
        let (cluster, two, three, other) = (record(None, "a"), record(Some("a"), "b"), record(Some("a"), "c"), record(None, "d"));
        assert!(cluster.is_of_one_cluster(&two) && two.is_of_one_cluster(&cluster) && two.is_of_one_cluster(&three));
        assert!(!other.is_of_one_cluster(&two) && !cluster.is_of_one_cluster(&other));
    }
}
