//! Whose network pods have, and where they keep their own addresses.

use anyhow::{Context, Result, ensure};
use clap::ValueEnum;
use ipnetwork::IpNetwork;
use serde::{Deserialize, Serialize};
use troupe_net::iptables::Family;

use super::OfFamily;

/// Who makes the pods' network on this node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum, Deserialize, Serialize)]
pub enum Cni {
    /// This node.
    #[default]
    #[value(name = "troupe")]
    #[serde(rename = "troupe")]
    Own,
    /// Somebody else, who puts a CNI configuration where they are kept.
    #[value(name = "none")]
    #[serde(rename = "none")]
    Others,
}

/// The networks, of the cluster's families, that pods reach under their own addresses.
///
/// # Errors
/// When one is no network, or of a family that pods have no addresses of.
pub fn non_masquerade_cidrs(given: &[String], families: &[Family]) -> Result<Vec<IpNetwork>> {
    let read = |text: &String| {
        let network: IpNetwork = text.trim().parse().with_context(|| format!("--non-masquerade-cidrs {text:?} is no network"))?;
        let has_family = families.contains(&network.family());
        ensure!(has_family, "--non-masquerade-cidrs {network} has no effect: the cluster has no {} addresses", network.family().name());
        Ok(IpNetwork::new(network.network(), network.prefix())?)
    };
    given.iter().map(read).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_are_read_of_the_clusters_families_only() {
        let read = |given: &[&str], families: &[Family]| {
            let given: Vec<String> = given.iter().map(|text| (*text).to_owned()).collect();
            let found = non_masquerade_cidrs(&given, families).map_err(|error| error.to_string())?;
            Ok::<_, String>(found.iter().map(ToString::to_string).collect::<Vec<_>>())
        };
        assert_eq!(read(&["10.1.2.3/8", "192.0.2.1"], &[Family::V4]), Ok(vec!["10.0.0.0/8".to_owned(), "192.0.2.1/32".to_owned()]));
        assert_eq!(read(&["fd00::/8"], &Family::ALL), Ok(vec!["fd00::/8".to_owned()]));
        assert!(read(&["fd00::/8"], &[Family::V4]).is_err_and(|why| why.contains("no IPv6 addresses")));
        assert!(read(&["10.0.0.0/33"], &[Family::V4]).is_err_and(|why| why.contains("is no network")));
    }
}
