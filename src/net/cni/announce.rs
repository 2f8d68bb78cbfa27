//! Tells whoever is on a pod's link that it has an address now: whoever talked to the pod that had the address before would go on to send to that
//! one, for up to ten seconds.
//!
//! The bridge plugin has the kernel announce addresses of IPv4 when the pod's interface comes up. The bridge's port does not forward yet then.

use std::{
    fs, io,
    net::IpAddr,
    path::{Path, PathBuf},
};

use async_trait::async_trait;
use parking_lot::Mutex;
use serde_json::Value;

use super::{INTERFACE, Network, RESULTS, result_file};
use crate::{announce::tell, netns};

/// Speaks for the addresses of pods.
#[async_trait]
pub trait PodAddresses: Send + Sync + 'static {
    /// Announces each of these from the interface of the pod that has it. What this node's plugins gave to nobody is passed over.
    ///
    /// # Errors
    /// The pod's network is gone, or what the plugins wrote down cannot be read. The others are announced all the same.
    async fn announce(&self, addresses: &[IpAddr]) -> io::Result<()>;
}

/// This node's pods, found by what the plugins and the runtime wrote down when they set their networks up.
#[derive(Clone, Debug)]
pub struct HostPodAddresses {
    network: String,
    /// host-local's files, one for each address that somebody has.
    leases: PathBuf,
    results: PathBuf,
}

impl HostPodAddresses {
    pub fn new(network: &Network) -> Self {
        HostPodAddresses::with_results(network, RESULTS.into())
    }

    /// With another place for what the runtime remembers of the plugins' answers.
    pub fn with_results(network: &Network, results: PathBuf) -> Self {
        HostPodAddresses { network: network.name.clone(), leases: network.data_dir.join(&network.name), results }
    }

    /// The network namespace of the pod that has an address.
    fn namespace(&self, address: IpAddr) -> io::Result<Option<PathBuf>> {
        let Some(lease) = read(&self.leases.join(address.to_string()))? else { return Ok(None) };
        // The first line is the sandbox, the second its interface.
        let sandbox = lease.lines().next().unwrap_or_default();
        let Some(result) = read(&self.results.join(result_file(&self.network, sandbox)))? else { return Ok(None) };
        Ok(namespace_in(&serde_json::from_str(&result)?))
    }

    fn announce_one(&self, address: IpAddr) -> io::Result<()> {
        let Some(namespace) = self.namespace(address)? else { return Ok(()) };
        let speak = || -> io::Result<()> { tell(nix::net::if_::if_nametoindex(INTERFACE)?, address) };
        netns::run(&namespace, speak)?
    }
}

#[async_trait]
impl PodAddresses for HostPodAddresses {
    async fn announce(&self, addresses: &[IpAddr]) -> io::Result<()> {
        let (pods, addresses) = (self.clone(), addresses.to_vec());
        let work = move || {
            let mut outcome = Ok(());
            for address in addresses {
                outcome = outcome.and(pods.announce_one(address));
            }
            outcome
        };
        tokio::task::spawn_blocking(work).await.map_err(io::Error::other)?
    }
}

/// The namespace that a remembered answer of the plugins names for the pod's interface.
fn namespace_in(remembered: &Value) -> Option<PathBuf> {
    let interfaces = remembered["result"]["interfaces"].as_array()?;
    // An interface of the node has no sandbox, whatever it is called.
    let of_pod = |interface: &&Value| interface["name"] == INTERFACE && interface["sandbox"].as_str().is_some_and(|sandbox| !sandbox.is_empty());
    interfaces.iter().find(of_pod)?["sandbox"].as_str().map(PathBuf::from)
}

/// None where there is no such file.
fn read(path: &Path) -> io::Result<Option<String>> {
    match fs::read_to_string(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        text => text.map(Some),
    }
}

/// Remembers what it was asked to announce.
#[derive(Debug, Default)]
pub struct FakePodAddresses {
    announced: Mutex<Vec<IpAddr>>,
}

impl FakePodAddresses {
    pub fn announced(&self) -> Vec<IpAddr> {
        self.announced.lock().clone()
    }
}

#[async_trait]
impl PodAddresses for FakePodAddresses {
    async fn announce(&self, addresses: &[IpAddr]) -> io::Result<()> {
        self.announced.lock().extend(addresses);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    struct Node {
        dir: tempfile::TempDir,
        pods: HostPodAddresses,
    }

    fn node() -> Node {
        let dir = tempfile::tempdir().expect("a directory");
        let network = Network { data_dir: dir.path().join("leases"), ..Network::new(Vec::new()) };
        let pods = HostPodAddresses::with_results(&network, dir.path().join("results"));
        fs::create_dir_all(&pods.leases).expect("makes");
        fs::create_dir_all(&pods.results).expect("makes");
        Node { dir, pods }
    }

    impl Node {
        fn give(&self, address: &str, sandbox: &str, namespace: &str) {
            fs::write(self.pods.leases.join(address), format!("{sandbox}\r\neth0")).expect("writes");
            let interfaces = json!([{"name": "eth0"}, {"name": "veth1", "sandbox": ""}, {"name": "eth0", "sandbox": namespace}]);
            let result = json!({"kind": "cniCacheV1", "result": {"interfaces": interfaces}});
            fs::write(self.dir.path().join(format!("results/troupe-{sandbox}-eth0")), result.to_string()).expect("writes");
        }

        fn namespace(&self, address: &str) -> Option<PathBuf> {
            self.pods.namespace(address.parse().expect("an address")).expect("reads")
        }
    }

    #[test]
    fn the_pod_that_has_an_address_is_found_by_what_the_plugins_wrote_down() {
        let node = node();
        node.give("10.244.3.7", "abc", "/run/netns/cni-1");
        node.give("fd00:10:244:3::7", "def", "/run/netns/cni-2");
        assert_eq!(node.namespace("10.244.3.7"), Some("/run/netns/cni-1".into()));
        assert_eq!(node.namespace("fd00:10:244:3::7"), Some("/run/netns/cni-2".into()));
        assert_eq!(node.namespace("10.244.3.8"), None, "nobody has it");
        fs::write(node.pods.leases.join("10.244.3.9"), "another\r\neth0").expect("writes");
        assert_eq!(node.namespace("10.244.3.9"), None, "its network is being set up");
    }

    #[tokio::test]
    async fn an_address_that_this_node_gave_to_nobody_is_passed_over_and_a_network_that_is_gone_is_told_of() {
        let node = node();
        let address: IpAddr = "10.244.3.7".parse().expect("an address");
        node.pods.announce(&[address]).await.expect("there is nothing to do");
        node.give("10.244.3.7", "abc", "/nowhere/cni-1");
        assert_eq!(node.pods.announce(&[address]).await.expect_err("it is gone").kind(), io::ErrorKind::NotFound);
    }
}
