//! An API server tells that it is there, as upstream's does (KEP-1965): a Lease of its own in `kube-system`, by which others find and count
//! API servers. One that ends in an orderly way removes its own; what servers left that have not renewed theirs for an hour any of them removes.

use std::{sync::Arc, time::Duration};

use actix::Message;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::{
    api::coordination::v1::{Lease, LeaseSpec},
    apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta},
};
use rand::Rng;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tokio::sync::Mutex;
use troupe_api::{
    Status,
    meta::LabelSelector,
    service::{DeleteOptions, ListOptions},
};
use troupe_api_client::{Api, Client};
use uuid::Builder;

use crate::runtime::{
    envelope::Reply,
    host::{On, Unit, UnitAddr, UnitContext},
    lease,
    system::System,
    unit::Policy,
};

const NAMESPACE: &str = "kube-system";
/// The label by which such leases are found, and what it says.
const LABEL: &str = "apiserver.kubernetes.io/identity";
const SERVER: &str = MANAGER;
const HOSTNAME: &str = "kubernetes.io/hostname";

/// Who writes them, in their managed fields.
pub const MANAGER: &str = "kube-apiserver";

/// Seconds that a lease holds after each renewal.
const HOLDS: i32 = 3600;
const RENEW: Duration = Duration::from_secs(10);
const TIDY: Duration = Duration::from_secs(3600);

/// Keeps the lease of the API server on the machine of that name. Starts at `apiserver/identity`.
pub fn run(system: &System, client: Client, hostname: &str) -> UnitAddr<ServerIdentity> {
    let (name, hostname) = (lease_name(hostname), hostname.to_owned());
    let holder = format!("{name}_{}", Builder::from_random_bytes(system.rng().random()).into_uuid());
    let has_left = Arc::new(Mutex::new(false));
    system.spawn("apiserver/identity", Policy::default(), move |_| ServerIdentity {
        client: client.clone(),
        name: name.clone(),
        hostname: hostname.clone(),
        holder: holder.clone(),
        has_left: has_left.clone(),
        last: "starting".into(),
    })
}

/// See the module.
pub struct ServerIdentity {
    client: Client,
    name: String,
    hostname: String,
    holder: String,
    /// Whether the server ends. Held while the lease is written: a renewal that is under way would make it anew.
    has_left: Arc<Mutex<bool>>,
    last: String,
}

/// The API server ends: its lease goes. Answers when it is gone, or could not be removed.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Leave;

impl ServerIdentity {
    fn api(&self) -> Api<Lease> {
        self.client.namespaced(NAMESPACE)
    }

    fn lease(&self, now: Timestamp) -> Lease {
        let labels = [(LABEL, SERVER), (HOSTNAME, self.hostname.as_str())];
        let metadata = ObjectMeta {
            name: Some(self.name.clone()),
            namespace: Some(NAMESPACE.into()),
            labels: Some(labels.map(|(key, value)| (key.to_owned(), value.to_owned())).into()),
            ..ObjectMeta::default()
        };
        let spec = LeaseSpec {
            holder_identity: Some(self.holder.clone()),
            lease_duration_seconds: Some(HOLDS),
            renew_time: Some(MicroTime(now)),
            ..LeaseSpec::default()
        };
        Lease { metadata, spec: Some(spec) }
    }

    fn renew(&mut self, cx: &mut UnitContext<'_, Self>) {
        let (api, lease, has_left) = (self.api(), self.lease(cx.system().clock().now()), self.has_left.clone());
        let work = async move {
            let left = has_left.lock().await;
            if *left { Ok(()) } else { lease::keep(&api, &lease).await }
        };
        cx.spawn_then(work, |unit, written: Result<(), Status>, cx| {
            unit.last = match written {
                Ok(()) => "kept".into(),
                Err(status) => {
                    tracing::debug!(error = %status, "the lease of this API server is not written, will retry");
                    status.message
                }
            };
            cx.after(RENEW, Self::renew);
        });
    }

    /// Removes what servers left that are gone.
    fn tidy(&mut self, cx: &mut UnitContext<'_, Self>) {
        let (api, now) = (self.api(), cx.system().clock().now());
        cx.spawn(async move {
            let Ok(labels) = LabelSelector::parse(&format!("{LABEL}={SERVER}")) else { return };
            let Ok(known) = api.list(ListOptions { labels, ..ListOptions::default() }).await else { return };
            for lease in known.items.iter().filter(|lease| has_run_out(lease, now)) {
                // Another server may be tidying too.
                let _ = api.delete(lease.metadata.name.as_deref().unwrap_or_default(), DeleteOptions::default()).await;
            }
        });
        cx.after(TIDY, Self::tidy);
    }
}

/// The name of the lease of a machine's API server, which is the server's id, as upstream makes it: lengths (two bytes) and bytes of the
/// machine's name and of the component's, hashed, and the first half of that in base 32.
pub fn lease_name(hostname: &str) -> String {
    let mut hash = Sha256::new();
    for part in [hostname, SERVER] {
        hash.update(u16::try_from(part.len()).unwrap_or(u16::MAX).to_be_bytes());
        hash.update(part);
    }
    format!("apiserver-{}", base32(&hash.finalize()[..16]))
}

/// RFC 4648, in small letters and without padding.
fn base32(bytes: &[u8]) -> String {
    const LETTERS: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";
    let bit = |at: usize| bytes.get(at / 8).map_or(0, |byte| (byte >> (7 - at % 8)) & 1);
    let letters = (0..(bytes.len() * 8).div_ceil(5)).map(|letter| (0..5).fold(0, |value, at| (value << 1) | bit(letter * 5 + at)));
    letters.map(|letter: u8| char::from(LETTERS[usize::from(letter)])).collect()
}

/// A lease without a time, or without a duration, is nobody's.
fn has_run_out(lease: &Lease, now: Timestamp) -> bool {
    let Some(LeaseSpec { renew_time: Some(renewed), lease_duration_seconds: Some(seconds), .. }) = &lease.spec else { return true };
    now.duration_since(renewed.0) > SignedDuration::from_secs(i64::from(*seconds))
}

impl On<Leave> for ServerIdentity {
    fn on(&mut self, _: Leave, _: &mut UnitContext<'_, Self>) -> Reply<()> {
        let (api, name, has_left) = (self.api(), self.name.clone(), self.has_left.clone());
        Reply::later(async move {
            let mut left = has_left.lock().await;
            *left = true;
            match api.delete(&name, DeleteOptions::default()).await {
                Err(status) if !status.is_not_found() => tracing::warn!(error = %status, "the lease of this API server stays until it runs out"),
                _ => {}
            }
        })
    }
}

impl Unit for ServerIdentity {
    fn started(&mut self, cx: &mut UnitContext<'_, Self>) {
        self.renew(cx);
        self.tidy(cx);
    }

    fn observe(&self) -> Value {
        json!({"lease": self.name, "holder": self.holder, "last": self.last})
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_upstreams() {
        assert_eq!(base32(b"foobar"), "mzxw6ytboi", "RFC 4648, section 10");
        assert_eq!(base32(&[0xff; 16]).len(), 26);
        // As Python's hashlib and base64 compute it of the same bytes.
        assert_eq!(lease_name("one"), "apiserver-lonn3mgjh4otei2c3b7rmvvvfq");
    }

    #[test]
    fn a_lease_runs_out_after_its_own_duration() {
        let now: Timestamp = "2026-01-01T01:00:00Z".parse().expect("a time");
        let lease = |renewed: Option<&str>, seconds| {
            let renew_time = renewed.map(|time| MicroTime(time.parse().expect("a time")));
            let spec = LeaseSpec { renew_time, lease_duration_seconds: seconds, ..LeaseSpec::default() };
            Lease { spec: Some(spec), ..Lease::default() }
        };
        assert!(!has_run_out(&lease(Some("2026-01-01T00:00:00Z"), Some(3600)), now));
        assert!(has_run_out(&lease(Some("2025-12-31T23:59:59Z"), Some(3600)), now));
        assert!(has_run_out(&lease(None, Some(3600)), now) && has_run_out(&lease(Some("2026-01-01T01:00:00Z"), None), now));
    }
}
