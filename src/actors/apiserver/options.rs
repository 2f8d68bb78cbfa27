//! What an API server is started with.

use std::{net::IpAddr, ops::RangeInclusive, sync::Arc, time::Duration};

use futures::future::BoxFuture;
use ipnetwork::IpNetwork;
use troupe_api::{
    admission::Pipeline,
    auth::Authorizer,
    meta::{Clock, Object, SystemClock},
    resources::Resource,
    service::{Listers, Target, UserInfo},
    status::Status,
    store::Store,
};

/// Makes the authorizer once the caches it reads are there.
pub type MakeAuthorizer = Box<dyn FnOnce(Arc<dyn Listers>) -> Arc<dyn Authorizer> + Send>;

/// Answers creates that store nothing: reviews (`authorization.k8s.io`, `authentication.k8s.io`) and
/// `serviceaccounts/token`, for which `parent` is the service account.
pub trait VirtualResources: Send + Sync + 'static {
    /// `None` when this implementation does not serve the target.
    fn create(&self, request: VirtualRequest) -> Option<BoxFuture<'static, Result<Object, Status>>>;
}

/// A create on a resource or subresource that is not stored.
pub struct VirtualRequest {
    pub user: Arc<UserInfo>,
    pub target: Target,
    pub body: Object,
    /// The object whose subresource this is, for subresources.
    pub parent: Option<Object>,
    pub listers: Arc<dyn Listers>,
    pub authorizer: Option<Arc<dyn Authorizer>>,
}

/// Everything an API server is given. [`ApiServerOptions::new`] has the defaults.
pub struct ApiServerOptions {
    pub store: Arc<dyn Store>,
    pub clock: Arc<dyn Clock>,
    pub resources: Vec<Arc<Resource>>,
    /// Without one, everything is allowed: tests, and processes that check elsewhere.
    pub authorizer: Option<MakeAuthorizer>,
    pub admission: Pipeline,
    pub virtual_resources: Vec<Arc<dyn VirtualResources>>,
    /// Ranges of cluster IPs; the first one is the default family.
    pub service_cidrs: Vec<IpNetwork>,
    pub node_ports: RangeInclusive<u16>,
    /// Where clients inside the cluster reach this server: the endpoints of `default/kubernetes`.
    pub advertise: Option<(IpAddr, u16)>,
    /// PEM of the CA that signs client certificates, for `extension-apiserver-authentication`.
    pub client_ca: Option<String>,
    /// RBAC objects that must exist.
    pub bootstrap_objects: Vec<Object>,
    /// History each resource keeps for resuming watches.
    pub history_bytes: usize,
    pub history_for: Duration,
    pub compact_every: Duration,
}

impl ApiServerOptions {
    pub fn new(store: Arc<dyn Store>) -> Self {
        ApiServerOptions {
            store,
            clock: Arc::new(SystemClock),
            resources: troupe_api::resources::builtin(),
            authorizer: None,
            admission: Pipeline::standard(),
            virtual_resources: Vec::new(),
            service_cidrs: vec!["10.96.0.0/16".parse().expect("a valid range")],
            node_ports: 30000..=32767,
            advertise: None,
            client_ca: None,
            bootstrap_objects: Vec::new(),
            history_bytes: 16 << 20,
            history_for: Duration::from_secs(300),
            compact_every: Duration::from_secs(300),
        }
    }
}
