//! What an API server is started with.

use std::{net::IpAddr, ops::RangeInclusive, sync::Arc, time::Duration};

use futures::future::BoxFuture;
use ipnetwork::IpNetwork;
use troupe_api::{
    auth::{Authorizer, tls::RenewableCertificate},
    features::FeatureGates,
    memory::{AmpleMemory, MemoryGauge},
    meta::{Clock, Object, SystemClock},
    notices::Notices,
    resources::Resource,
    service::{Listers, Target, UserInfo},
    status::Status,
    stored::StoredObject,
};
use troupe_api_server::{
    admission::Pipeline,
    http::streaming::KubeletDialer,
    store::{Store, keys},
};

use crate::runtime::system::{System, SystemOptions};

/// Makes the authorizer once the caches it reads are there.
pub type MakeAuthorizer = Box<dyn FnOnce(Arc<dyn Listers>) -> Arc<dyn Authorizer> + Send>;

/// Makes what answers the resources that are not stored, once the caches they read are there.
pub type MakeVirtualResources = Box<dyn FnOnce(Arc<dyn Listers>) -> Vec<Arc<dyn VirtualResources>> + Send>;

/// Answers creates that store nothing: reviews (`authorization.k8s.io`, `authentication.k8s.io`) and
/// `serviceaccounts/token`, for which `parent` is the service account.
pub trait VirtualResources: Send + Sync + 'static {
    /// `None` when this implementation does not serve the target.
    fn create(&self, request: VirtualRequest) -> Option<BoxFuture<'static, Result<Object, Status>>>;

    /// What the client is warned of beside its answer.
    fn warnings(&self, _request: &VirtualRequest) -> Option<String> {
        None
    }
}

/// A create on a resource or subresource that is not stored.
pub struct VirtualRequest {
    pub user: Arc<UserInfo>,
    pub target: Target,
    pub body: Object,
    /// The object whose subresource this is, for subresources.
    pub parent: Option<Arc<StoredObject>>,
    pub listers: Arc<dyn Listers>,
    pub authorizer: Option<Arc<dyn Authorizer>>,
    /// Annotates the audit event.
    pub notices: Notices,
}

/// Where the machine of an API server is reached, whatever of it is advertised.
#[derive(Clone)]
pub struct Listening {
    /// TCP ports of the server and of what is beside it.
    pub ports: Vec<u16>,
    /// All addresses that the machine has now.
    pub addresses: Arc<dyn Fn() -> Vec<IpAddr> + Send + Sync>,
}

impl Default for Listening {
    /// A server that nobody reaches by an address.
    fn default() -> Self {
        Listening { ports: Vec::new(), addresses: Arc::new(Vec::<IpAddr>::new) }
    }
}

/// Everything an API server is given. [`ApiServerOptions::new`] has the defaults.
pub struct ApiServerOptions {
    /// Where the server's actors live. The default is one on the caller's `LocalSet`.
    pub system: System,
    pub store: Arc<dyn Store>,
    pub clock: Arc<dyn Clock>,
    pub resources: Vec<Arc<Resource>>,
    /// The features that are on.
    pub features: FeatureGates,
    /// Without one, everything is allowed: tests, and processes that check elsewhere.
    pub authorizer: Option<MakeAuthorizer>,
    pub admission: Pipeline,
    /// Lets admission webhooks and servers of API services be on this machine's own addresses, which a cluster's server must not reach: for
    /// tests.
    pub webhooks_on_loopback: bool,
    /// Shown to servers of API services, so that they believe who calls.
    pub front_proxy: Arc<RenewableCertificate>,
    /// Asks no server of an API service: theirs are not served, and what is stored here can be put right whatever they do.
    pub extensions_paused: bool,
    /// Reaches kubelets for what nodes and pods use. Without it nothing is measured.
    pub kubelets: Option<KubeletDialer>,
    /// Reviews and tokens: see [`super::AuthResources`].
    pub virtual_resources: Option<MakeVirtualResources>,
    /// While it says that memory is short, no objects are created.
    pub memory: Arc<dyn MemoryGauge>,
    /// Ranges of cluster IPs; the first one is the default family.
    pub service_cidrs: Vec<IpNetwork>,
    pub node_ports: RangeInclusive<u16>,
    /// How long events are kept.
    pub event_ttl: Duration,
    /// No Service may have these addresses and ports.
    pub listening: Listening,
    /// History each resource keeps for resuming watches.
    pub history_bytes: usize,
    pub history_for: Duration,
    pub compact_every: Duration,
}

impl ApiServerOptions {
    pub fn new(store: Arc<dyn Store>) -> Self {
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        ApiServerOptions {
            system: System::new(SystemOptions::local(rand::random(), clock.clone())).expect("a local system starts no thread"),
            store,
            clock,
            resources: troupe_api::resources::builtin(),
            features: FeatureGates::default(),
            authorizer: None,
            admission: Pipeline::standard(),
            webhooks_on_loopback: false,
            front_proxy: Arc::default(),
            extensions_paused: false,
            kubelets: None,
            virtual_resources: None,
            memory: Arc::new(AmpleMemory),
            service_cidrs: vec!["10.96.0.0/16".parse().expect("a valid range")],
            node_ports: 30000..=32767,
            event_ttl: keys::EVENT_TTL,
            listening: Listening::default(),
            history_bytes: 8 << 20,
            history_for: Duration::from_secs(300),
            compact_every: Duration::from_secs(300),
        }
    }
}
