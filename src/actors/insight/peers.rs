//! Which other processes there are: nodes by their Node objects, control planes by the Leases they keep. Pure.

use jiff::Timestamp;
use k8s_openapi::api::{coordination::v1::Lease, core::v1::Node};
use troupe_api_server::backends::place::{KubeletAddress, kubelet_address};

use super::presence::{CERTIFICATE, ENDPOINT};

/// How a peer proves to be who it should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Proof {
    /// By the certificate of this node's kubelet.
    Node(String),
    /// By a certificate of the cluster's authority.
    Authority,
    /// By the very certificate that it told of: its SHA-256 in hex.
    Certificate(String),
}

/// A process that may be asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    /// What to call it until it says its name.
    pub label: String,
    pub address: KubeletAddress,
    pub proof: Proof,
}

/// The peer at a node; `None` for one that tells no address.
pub fn of_node(node: &Node) -> Option<Peer> {
    let name = node.metadata.name.clone().unwrap_or_default();
    Some(Peer { label: format!("node@{name}"), address: kubelet_address(node).ok()?, proof: Proof::Node(name) })
}

/// The peer that keeps a lease; `None` when the lease has run out or tells of none.
pub fn of_lease(lease: &Lease, now: Timestamp) -> Option<Peer> {
    let spec = lease.spec.as_ref()?;
    let age = now.duration_since(spec.renew_time.as_ref()?.0).as_secs();
    if age > i64::from(spec.lease_duration_seconds?) {
        return None;
    }
    let told = lease.metadata.annotations.as_ref()?;
    let (host, port) = told.get(ENDPOINT)?.rsplit_once(':')?;
    let address = KubeletAddress { host: host.trim_matches(['[', ']']).to_owned(), port: port.parse().ok()? };
    let proof = match told.get(CERTIFICATE) {
        Some(certificate) => Proof::Certificate(certificate.strip_prefix("sha256:")?.to_owned()),
        None => Proof::Authority,
    };
    Some(Peer { label: spec.holder_identity.clone().unwrap_or_default(), address, proof })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_lease_that_is_kept_tells_where_a_process_answers() {
        let lease: Lease = serde_json::from_value(json!({
            "metadata": {"name": "x", "annotations": {ENDPOINT: "[fd00::1]:10257", CERTIFICATE: "sha256:ab"}},
            "spec": {"holderIdentity": "scheduler@one", "leaseDurationSeconds": 60, "renewTime": "2026-01-01T00:00:00.000000Z"},
        }))
        .expect("a lease");
        let at = |text: &str| of_lease(&lease, text.parse().expect("a time"));
        let peer = at("2026-01-01T00:00:59Z").expect("it is kept");
        assert_eq!((peer.label.as_str(), peer.address.authority().as_str()), ("scheduler@one", "[fd00::1]:10257"));
        assert_eq!(peer.proof, Proof::Certificate("ab".into()));
        assert_eq!(at("2026-01-01T00:01:02Z"), None);
        assert_eq!(of_lease(&Lease::default(), Timestamp::now()), None);
        assert_eq!(of_node(&Node::default()), None);
    }
}
