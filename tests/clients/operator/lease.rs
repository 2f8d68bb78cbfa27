//! Leader election by a Lease, as operators do it: whoever holds it renews it; when it has run out, another one takes it.

use std::time::{Duration, Instant};

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::{
    api::coordination::v1::{Lease, LeaseSpec},
    apimachinery::pkg::apis::meta::v1::MicroTime,
};
use kube::{Api, Client, api::PostParams};

pub const NAME: &str = "widget-operator";
const LASTS: Duration = Duration::from_secs(5);
const RENEW_EVERY: Duration = Duration::from_secs(1);

/// Waits until this one leads; gives since when it does for sure.
pub async fn acquire(client: &Client, own: &str) -> Instant {
    loop {
        let begun = Instant::now();
        if attempt(client, own).await {
            return begun;
        }
        tokio::time::sleep(RENEW_EVERY).await;
    }
}

/// Renews the lease; returns when it could not be renewed in time, and another one may lead.
pub async fn keep(client: &Client, own: &str, mut renewed: Instant) {
    while renewed.elapsed() < LASTS {
        tokio::time::sleep(RENEW_EVERY).await;
        let begun = Instant::now();
        let left = LASTS.saturating_sub(renewed.elapsed());
        if tokio::time::timeout(left, attempt(client, own)).await == Ok(true) {
            renewed = begun;
        }
    }
}

/// Takes or renews the lease. Any failure is a no.
async fn attempt(client: &Client, own: &str) -> bool {
    let leases: Api<Lease> = Api::default_namespaced(client.clone());
    let now = Timestamp::now();
    let Ok(found) = leases.get_opt(NAME).await else { return false };
    let Some(mut lease) = found else {
        let mut lease = Lease { spec: Some(held_by(own, now, 0)), ..Lease::default() };
        lease.metadata.name = Some(NAME.into());
        return leases.create(&PostParams::default(), &lease).await.is_ok();
    };
    let spec = lease.spec.clone().unwrap_or_default();
    let lasts = SignedDuration::from_secs(i64::from(spec.lease_duration_seconds.unwrap_or_default()));
    let runs = spec.renew_time.is_some_and(|renewed| now.duration_since(renewed.0) < lasts);
    let is_own = spec.holder_identity.as_deref() == Some(own);
    if runs && !is_own {
        return false;
    }
    let changes = spec.lease_transitions.unwrap_or_default() + i32::from(!is_own);
    lease.spec = Some(held_by(own, now, changes));
    // Its resourceVersion lets one win.
    leases.replace(NAME, &PostParams::default(), &lease).await.is_ok()
}

fn held_by(own: &str, now: Timestamp, changes: i32) -> LeaseSpec {
    LeaseSpec {
        holder_identity: Some(own.to_owned()),
        lease_duration_seconds: i32::try_from(LASTS.as_secs()).ok(),
        renew_time: Some(MicroTime(now)),
        lease_transitions: Some(changes),
        ..LeaseSpec::default()
    }
}
