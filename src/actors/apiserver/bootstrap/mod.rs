//! What exists after the first start: namespaces, priority classes, the Service `default/kubernetes`, RBAC's policy.
//!
//! Everything is created where it is missing; only what says where this server is reached is brought up to date.

use std::{net::IpAddr, sync::Arc};

use futures::{StreamExt, TryStreamExt, stream};
use serde_json::{Value, json};
use troupe_api::{
    auth::tokens::usage::{TRACKED_SINCE, TRACKING, day_of},
    meta::{Clock, Object},
    status::Status,
};

use super::{
    advertise::{Advertisement, Reach},
    aggregation::{
        registration::Wanted,
        trust::{Trust, TrustKeeper},
    },
    server_client::ServerClient,
    services::{Repair, ServiceAllocator},
};

/// What the first start is told.
#[derive(Clone, Debug, Default)]
pub struct Bootstrap {
    /// Where clients inside the cluster reach this server: the endpoints of `default/kubernetes`.
    pub advertise: Option<(IpAddr, u16)>,
    /// Whom extension servers are to believe.
    pub trust: Trust,
    /// Further objects that must exist, such as RBAC's policy (`auth::bootstrap::objects()`).
    pub objects: Vec<Object>,
}

/// Objects made at once: they share the store's commits.
const AT_ONCE: usize = 16;

/// Insufficient Storage, as `store_status` says it.
const NO_SPACE: u16 = 507;

/// Creates what must exist, as the API server itself.
pub struct Bootstrapper {
    pub client: ServerClient,
    pub advertisement: Arc<Advertisement>,
    pub trust: TrustKeeper,
    pub allocator: Arc<ServiceAllocator>,
    pub repair: Arc<Repair>,
    pub clock: Arc<dyn Clock>,
}

impl Bootstrapper {
    /// Creates what is missing, in an order in which each object finds what it needs.
    pub async fn run(&self, bootstrap: &Bootstrap) -> Result<(), Status> {
        for name in ["kube-system", "kube-public", "kube-node-lease", "default"] {
            self.client.exists(json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})).await?;
        }
        for class in priority_classes() {
            self.client.exists(class).await?;
        }
        self.client.exists(self.service_cidr()).await?;
        self.add_service_range().await;
        self.ensure_all(bootstrap.objects.iter().map(|object| object.clone().into_value())).await?;
        self.trust.tell(&bootstrap.trust).await?;
        if let Some((address, port)) = bootstrap.advertise {
            match self.advertisement.renew(Reach { address, port }).await {
                // A full store can still be read; the advertiser goes on trying.
                Err(status) if status.code == NO_SPACE => tracing::warn!(error = %status.message, "this API server is not advertised yet"),
                told => told?,
            }
        }
        self.ensure_api_services().await?;
        self.client.exists(token_tracking(self.clock.now())).await?;
        self.repair.run(&Default::default()).await.map(drop)
    }

    /// Creates what is missing of objects that do not need each other.
    async fn ensure_all(&self, objects: impl Iterator<Item = Value>) -> Result<(), Status> {
        stream::iter(objects).map(|object| self.client.exists(object)).buffer_unordered(AT_ONCE).try_collect().await
    }

    /// Tells which groups are served here.
    async fn ensure_api_services(&self) -> Result<(), Status> {
        let registry = self.client.registry();
        let versions = registry.rows().iter().flat_map(|row| row.served.iter().map(|served| (&row.group, &served.version)));
        let mut wanted: Vec<Wanted> = versions.filter_map(|(group, version)| Wanted::builtin(group, version)).collect();
        wanted.sort_by_key(Wanted::name);
        wanted.dedup();
        self.ensure_all(wanted.iter().map(Wanted::object)).await
    }

    /// The cluster's range of Services gets a second one of the other family when that is configured (upstream's way from one family to two).
    async fn add_service_range(&self) {
        let wanted = self.service_cidr();
        let [first, _] = self.allocator.ranges() else { return };
        let first = Value::from(first.to_string());
        let grow = move |current: &Object| {
            let mut new = current.clone();
            if current.list(&["spec", "cidrs"]) == [first.clone()] {
                new.set(&["spec", "cidrs"], wanted["spec"]["cidrs"].clone());
            }
            new
        };
        if let Err(status) = self.client.change(self.service_cidr(), grow).await {
            tracing::error!(error = %status.message, "the default ServiceCIDR can not be updated to dual stack");
        }
    }

    fn service_cidr(&self) -> Value {
        let ranges: Vec<_> = self.allocator.ranges().iter().map(ToString::to_string).collect();
        json!({"apiVersion": "networking.k8s.io/v1", "kind": "ServiceCIDR", "metadata": {"name": "kubernetes"}, "spec": {"cidrs": ranges}})
    }
}

fn priority_classes() -> [Value; 2] {
    let class = |name: &str, value: i64, description: &str| json!({"apiVersion": "scheduling.k8s.io/v1", "kind": "PriorityClass", "metadata": {"name": name}, "value": value, "description": description});
    [
        class("system-node-critical", 2_000_001_000, "Used for system critical pods that must not be moved from their current node."),
        class(
            "system-cluster-critical",
            2_000_000_000,
            "Used for system critical pods that must run in the cluster, but can be moved to another node if necessary.",
        ),
    ]
}

/// Since when the use of tokens out of secrets is noted; later a unit beside the server sees to it.
fn token_tracking(now: jiff::Timestamp) -> Value {
    json!({
        "apiVersion": "v1", "kind": "ConfigMap",
        "metadata": {"name": TRACKING, "namespace": "kube-system"},
        "data": {TRACKED_SINCE: day_of(now)},
    })
}
