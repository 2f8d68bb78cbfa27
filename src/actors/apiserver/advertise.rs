//! Which API servers there are: each keeps a lease under its address, and the endpoints of `default/kubernetes` name all that do. The Service
//! is made anew where somebody deleted it.
//!
//! A server that stops takes its lease back; that of a server that was killed runs out, and the next round of any other
//! leaves it out. Keys and times are upstream's.

use std::{net::IpAddr, sync::Arc, time::Duration};

use bytes::Bytes;
use serde_json::{Value, json};
use troupe_api::status::Status;
use troupe_api_server::store::{RangeRequest, Store, StoreError, keys, prefix_end};

use super::{server_client::ServerClient, store_status::store_status};
use crate::runtime::host::{Unit, UnitContext};

/// How often the lease is renewed and the list of servers is put right.
const EVERY: Duration = Duration::from_secs(10);
/// The port of the Service `default/kubernetes`.
const HTTPS: u16 = 443;

/// Where clients inside the cluster reach this server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reach {
    pub address: IpAddr,
    pub port: u16,
}

/// This server's lease, and the list of all servers that have one.
pub struct Advertisement {
    store: Arc<dyn Store>,
    client: ServerClient,
    /// The address of the Service.
    service: Option<IpAddr>,
}

impl Advertisement {
    /// `service` is the address of the Service `default/kubernetes`.
    pub fn new(store: Arc<dyn Store>, client: ServerClient, service: Option<IpAddr>) -> Self {
        Advertisement { store, client, service }
    }

    /// Renews this server's lease, names all servers that have one, and sees to the Service by which they are reached.
    pub async fn renew(&self, reach: Reach) -> Result<(), Status> {
        let key = keys::server_lease(reach.address);
        let value: Bytes = endpoints(&[reach.address], reach.port).to_string().into();
        let ttl = keys::time_to_live(&key, keys::EVENT_TTL);
        let (found, _) = self.store.get(&key, None).await.map_err(store_status)?;
        let written = match found {
            Some(lease) => self.store.update(key, value, lease.mod_revision, ttl).await,
            None => self.store.create(key, value, ttl).await,
        };
        match written {
            // It was renewed, or ran out, in this moment: the next round sees to it.
            Ok(_) | Err(StoreError::Conflict { .. }) => {}
            Err(error) => return Err(store_status(error)),
        }
        self.name_servers(reach.port).await?;
        self.client.exists(kubernetes_service(self.service, reach.port)).await
    }

    /// Gives the lease back: nobody should be sent here any more.
    pub async fn withdraw(&self, reach: Reach) -> Result<(), Status> {
        let key = keys::server_lease(reach.address);
        let (found, _) = self.store.get(&key, None).await.map_err(store_status)?;
        if let Some(lease) = found {
            match self.store.delete(key, lease.mod_revision).await {
                Ok(_) | Err(StoreError::Conflict { .. }) => {}
                Err(error) => return Err(store_status(error)),
            }
        }
        self.name_servers(reach.port).await
    }

    async fn name_servers(&self, port: u16) -> Result<(), Status> {
        let start = keys::server_leases();
        let request = RangeRequest { end: prefix_end(&start), start, limit: 0, at: None };
        let found = self.store.range(request).await.map_err(store_status)?;
        let mut addresses: Vec<IpAddr> = found.items.iter().filter_map(|lease| keys::leasing_server(&lease.key)).collect();
        // One object names one family only.
        let Some(first) = addresses.first().copied() else { return Ok(()) };
        addresses.retain(|address| address.is_ipv4() == first.is_ipv4());
        addresses.sort_unstable();
        self.client.reconcile(endpoints(&addresses, port)).await?;
        self.client.reconcile(endpoint_slice(&addresses, port)).await
    }
}

/// The unit at `apiserver/advertiser`.
pub struct Advertiser {
    advertisement: Arc<Advertisement>,
    reach: Reach,
    last_error: Option<String>,
}

impl Advertiser {
    pub fn new(advertisement: Arc<Advertisement>, reach: Reach) -> Self {
        Advertiser { advertisement, reach, last_error: None }
    }

    fn renew(&mut self, cx: &mut UnitContext<'_, Self>) {
        let (advertisement, reach) = (self.advertisement.clone(), self.reach);
        cx.spawn_then(async move { advertisement.renew(reach).await }, |unit, result, _| {
            unit.last_error = result.as_ref().err().map(ToString::to_string);
            if let Err(error) = result {
                tracing::warn!(%error, "this API server is not advertised, will retry");
            }
        });
    }
}

impl Unit for Advertiser {
    fn started(&mut self, cx: &mut UnitContext<'_, Self>) {
        cx.every(EVERY, Self::renew);
    }

    fn observe(&self) -> Value {
        json!({"address": self.reach.address.to_string(), "lastError": self.last_error})
    }
}

fn kubernetes_service(address: Option<IpAddr>, port: u16) -> Value {
    let ip = address.map(|address| address.to_string()).unwrap_or_default();
    json!({
        "apiVersion": "v1", "kind": "Service",
        "metadata": {"name": "kubernetes", "namespace": "default", "labels": {"component": "apiserver", "provider": "kubernetes"}},
        "spec": {
            "type": "ClusterIP", "clusterIP": ip, "sessionAffinity": "None",
            "ports": [{"name": "https", "port": HTTPS, "protocol": "TCP", "targetPort": port}],
        },
    })
}

fn endpoints(addresses: &[IpAddr], port: u16) -> Value {
    let addresses: Vec<_> = addresses.iter().map(|address| json!({"ip": address.to_string()})).collect();
    json!({
        "apiVersion": "v1", "kind": "Endpoints",
        "metadata": {"name": "kubernetes", "namespace": "default", "labels": {"endpointslice.kubernetes.io/skip-mirror": "true"}},
        "subsets": [{"addresses": addresses, "ports": [{"name": "https", "port": port, "protocol": "TCP"}]}],
    })
}

fn endpoint_slice(addresses: &[IpAddr], port: u16) -> Value {
    let family = if addresses.iter().all(IpAddr::is_ipv4) { "IPv4" } else { "IPv6" };
    let endpoints: Vec<_> = addresses.iter().map(|address| json!({"addresses": [address.to_string()], "conditions": {"ready": true}})).collect();
    json!({
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": family,
        "metadata": {"name": "kubernetes", "namespace": "default", "labels": {"kubernetes.io/service-name": "kubernetes"}},
        "endpoints": endpoints,
        "ports": [{"name": "https", "port": port, "protocol": "TCP"}],
    })
}
