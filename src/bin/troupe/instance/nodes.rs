//! The further nodes of a cluster that live in network namespaces of this machine, as its record tells of them.

use std::{
    collections::BTreeMap,
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
    /// By number; the first is the one of the cluster's own process.
    pub members: BTreeMap<u8, Member>,
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
        NodeLinks { mark: id.chars().take(MARK).collect(), topology: self.topology, range: self.range }
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
