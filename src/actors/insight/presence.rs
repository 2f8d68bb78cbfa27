//! A process tells the cluster where it can be asked: a Lease that it keeps as long as it lives.
//!
//! Where no authority of the cluster signed the certificate that is shown there, the lease names it too: then whoever may
//! write such leases vouches for the process.

use std::{net::SocketAddr, time::Duration};

use actix::Message;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::{
    api::coordination::v1::{Lease, LeaseSpec},
    apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta},
};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use troupe_api::{
    Status,
    meta::LabelSelector,
    service::{DeleteOptions, ListOptions},
};
use troupe_api_client::{Api, Client};

use crate::runtime::{
    envelope::Reply,
    host::{On, Unit, UnitAddr, UnitContext},
    lease,
    system::System,
    unit::Policy,
};

/// Where the leases are.
pub const NAMESPACE: &str = "kube-system";
/// The label that they have.
pub const LABEL: &str = "troupe.dev/process";
/// `host:port` of the server.
pub const ENDPOINT: &str = "troupe.dev/endpoint";
/// `sha256:HEX` of the certificate that it shows.
pub const CERTIFICATE: &str = "troupe.dev/certificate";

/// A lease holds for so long after each renewal.
const HOLDS: Duration = Duration::from_secs(60);
const RENEW: Duration = Duration::from_secs(20);
/// Leases of processes that ended so long ago are removed by who starts.
const FORGOTTEN: SignedDuration = SignedDuration::from_hours(1);

/// What a process tells of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Card {
    /// The same after a restart, and nobody else's.
    pub identity: String,
    /// What it is called, such as `controllers@host`.
    pub process: String,
    /// What it is: `control-plane`.
    pub kind: &'static str,
    pub endpoint: SocketAddr,
    /// SHA-256 in hex of what the server shows, unless the cluster's authority signed that.
    pub certificate: Option<String>,
}

impl Card {
    /// The lease's name: identities may have letters that names have not.
    fn lease(&self) -> String {
        format!("troupe-{}", &hex::encode(Sha256::digest(&self.identity))[..16])
    }

    fn as_lease(&self, now: Timestamp) -> Lease {
        let certificate = self.certificate.as_ref().map(|hash| (CERTIFICATE, format!("sha256:{hash}")));
        let told = std::iter::once((ENDPOINT, self.endpoint.to_string())).chain(certificate);
        let metadata = ObjectMeta {
            name: Some(self.lease()),
            namespace: Some(NAMESPACE.into()),
            labels: Some([(LABEL.to_owned(), self.kind.to_owned())].into()),
            annotations: Some(told.map(|(name, value)| (name.to_owned(), value)).collect()),
            ..ObjectMeta::default()
        };
        let spec = LeaseSpec {
            holder_identity: Some(self.process.clone()),
            lease_duration_seconds: Some(i32::try_from(HOLDS.as_secs()).unwrap_or(i32::MAX)),
            renew_time: Some(MicroTime(now)),
            ..LeaseSpec::default()
        };
        Lease { metadata, spec: Some(spec) }
    }
}

/// Keeps the lease. Starts at `presence`.
pub fn run(system: &System, client: Client, card: Card) -> UnitAddr<Presence> {
    system.spawn("presence", Policy::default(), move |_| Presence { client: client.clone(), card: card.clone(), last: "starting".into() })
}

/// See the module.
pub struct Presence {
    client: Client,
    card: Card,
    last: String,
}

/// The process ends: the lease goes.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Withdraw;

impl Presence {
    fn api(&self) -> Api<Lease> {
        self.client.namespaced(NAMESPACE)
    }

    fn renew(&mut self, cx: &mut UnitContext<'_, Self>) {
        let (api, lease) = (self.api(), self.card.as_lease(cx.system().clock().now()));
        let work = async move { lease::keep(&api, &lease).await };
        cx.spawn_then(work, |unit, written: Result<(), Status>, cx| {
            unit.last = match written {
                Ok(()) => "kept".into(),
                Err(status) => {
                    tracing::debug!(error = %status, "the lease that tells of this process is not written, will retry");
                    status.message
                }
            };
            cx.after(RENEW, Self::renew);
        });
    }

    /// Removes what processes left that are gone for good.
    fn tidy(&self, cx: &mut UnitContext<'_, Self>) {
        let (api, now) = (self.api(), cx.system().clock().now());
        cx.spawn(async move {
            let Ok(labels) = LabelSelector::parse(LABEL) else { return };
            let Ok(known) = api.list(ListOptions { labels, ..ListOptions::default() }).await else { return };
            for lease in known.items.iter().filter(|lease| is_forgotten(lease, now)) {
                // Somebody else may be tidying too.
                let _ = api.delete(lease.metadata.name.as_deref().unwrap_or_default(), DeleteOptions::default()).await;
            }
        });
    }
}

fn is_forgotten(lease: &Lease, now: Timestamp) -> bool {
    let renewed = lease.spec.as_ref().and_then(|spec| spec.renew_time.as_ref());
    renewed.is_none_or(|renewed| now.duration_since(renewed.0) > FORGOTTEN)
}

impl Unit for Presence {
    fn started(&mut self, cx: &mut UnitContext<'_, Self>) {
        self.renew(cx);
        self.tidy(cx);
    }

    fn observe(&self) -> Value {
        json!({"lease": self.card.lease(), "endpoint": self.card.endpoint.to_string(), "last": self.last})
    }
}

impl On<Withdraw> for Presence {
    fn on(&mut self, _: Withdraw, _: &mut UnitContext<'_, Self>) -> Reply<()> {
        let (api, name) = (self.api(), self.card.lease());
        Reply::later(async move {
            if let Err(status) = api.delete(&name, DeleteOptions::default()).await {
                tracing::debug!(error = %status, "the lease that tells of this process is left and runs out by itself");
            }
        })
    }
}
