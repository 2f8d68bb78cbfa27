//! The drivers of this node, as they register, and what is done when one is gone.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use async_trait::async_trait;
use parking_lot::Mutex;
use tokio::time::Instant;
use tonic::Code;
use troupe_unix_grpc::{Service, words};

use super::{
    Dra,
    health::Watch,
    proto::{PrepareRequest, PrepareResponse, SERVICES, UnprepareRequest, UnprepareResponse},
};
use crate::kubelet::{
    device_metrics as metrics,
    plugins::{Handler, Plugin},
};

/// What such plugins call themselves.
pub const KIND: &str = "DRAPlugin";
/// How long a driver may take for one call.
const PATIENCE: Duration = Duration::from_secs(45);
/// How long what a driver publishes stays when it is gone: it may be on an update.
pub const WIPING_DELAY: Duration = Duration::from_secs(30);

/// A driver. One that is updated runs twice for a while.
#[derive(Clone)]
pub struct Driver {
    name: String,
    /// The newest first.
    instances: Vec<Instance>,
}

/// A process of a driver, with its socket.
#[derive(Clone)]
struct Instance {
    endpoint: PathBuf,
    service: Service,
    is_v1: bool,
    /// Listens how its devices are, if it tells.
    _health: Arc<Watch>,
}

/// Drivers by name, each with its instances, the newest last.
#[derive(Default)]
pub struct Drivers {
    known: Mutex<BTreeMap<String, Vec<Instance>>>,
    /// Since when drivers are gone.
    gone: Mutex<BTreeMap<String, Instant>>,
}

impl Drivers {
    /// # Errors
    /// There is no such driver.
    pub fn get(&self, name: &str) -> Result<Driver, String> {
        let instances: Option<Vec<Instance>> = self.known.lock().get(name).map(|instances| instances.iter().rev().cloned().collect());
        let instances = instances.ok_or_else(|| format!("DRA driver {name} is not registered"))?;
        Ok(Driver { name: name.to_owned(), instances })
    }

    /// Drivers that have been gone for long enough; each is told of once.
    pub fn long_gone(&self, now: Instant) -> Vec<String> {
        let mut gone = self.gone.lock();
        let due: Vec<String> = gone.iter().filter(|(_, since)| now.duration_since(**since) >= WIPING_DELAY).map(|(name, _)| name.clone()).collect();
        gone.retain(|name, _| !due.contains(name));
        due
    }

    /// It could not be done: again later.
    pub fn is_still_gone(&self, name: String, since: Instant) {
        if !self.known.lock().contains_key(&name) {
            self.gone.lock().entry(name).or_insert(since);
        }
    }
}

impl Driver {
    pub async fn prepare(&self, request: PrepareRequest) -> Result<PrepareResponse, String> {
        let methods =
            ["/k8s.io.kubelet.pkg.apis.dra.v1.DRAPlugin/NodePrepareResources", "/k8s.io.kubelet.pkg.apis.dra.v1beta1.DRAPlugin/NodePrepareResources"];
        self.ask(methods, "NodePrepareResources", request).await
    }

    pub async fn unprepare(&self, request: UnprepareRequest) -> Result<UnprepareResponse, String> {
        let methods = [
            "/k8s.io.kubelet.pkg.apis.dra.v1.DRAPlugin/NodeUnprepareResources",
            "/k8s.io.kubelet.pkg.apis.dra.v1beta1.DRAPlugin/NodeUnprepareResources",
        ];
        self.ask(methods, "NodeUnprepareResources", request).await
    }

    /// Asks the newest instance that is there, by its version's method of two, the newest first.
    async fn ask<Q, A>(&self, [newest, older]: [&'static str; 2], name: &str, request: Q) -> Result<A, String>
    where
        Q: prost::Message + Clone + Default + 'static,
        A: prost::Message + Default + 'static,
    {
        let mut why = format!("DRA driver {} is not registered", self.name);
        for instance in &self.instances {
            let method = if instance.is_v1 { newest } else { older };
            let begun = Instant::now();
            let answer: Result<A, tonic::Status> = instance.service.ask(method, request.clone()).await;
            let code = answer.as_ref().err().map_or("OK".to_owned(), |status| format!("{:?}", status.code()));
            metrics::called(&self.name, method, &code, begun.elapsed());
            match answer {
                Ok(answer) => return Ok(answer),
                Err(status) => {
                    why = format!("{name}: {}", words(&status));
                    if status.code() != Code::Unavailable {
                        break;
                    }
                }
            }
        }
        Err(why)
    }
}

/// The service of a driver that is spoken with.
fn chosen(plugin: &Plugin) -> Result<&'static str, String> {
    let invalid = |why: String| {
        let (name, endpoint) = (&plugin.name, plugin.endpoint.display());
        format!("invalid supported gRPC versions of DRA driver plugin {name} at endpoint {endpoint}: {why}")
    };
    if plugin.versions.is_empty() {
        return Err(invalid("empty list of supported gRPC services (aka supported versions)".into()));
    }
    let found = plugin.versions.iter().find_map(|version| SERVICES.into_iter().find(|known| known == version));
    let quoted = |names: &[String]| names.iter().map(|name| format!("{name:?}")).collect::<Vec<_>>().join(" ");
    found.ok_or_else(|| {
        let known = SERVICES.map(str::to_owned);
        let (theirs, ours) = (quoted(&plugin.versions), quoted(&known));
        invalid(format!("none of services supported by the plugin ([{theirs}]) are supported by the kubelet ([{ours}])"))
    })
}

#[async_trait]
impl Handler for Dra {
    fn validate(&self, plugin: &Plugin) -> Result<(), String> {
        chosen(plugin).map(drop)
    }

    async fn register(&self, plugin: &Plugin) -> Result<(), String> {
        let is_v1 = chosen(plugin)? == SERVICES[0];
        let mut known = self.drivers.known.lock();
        let of_name = known.entry(plugin.name.clone()).or_default();
        if of_name.iter().any(|driver| driver.endpoint == plugin.endpoint) {
            return Err(format!("endpoint {} already registered for DRA driver plugin {}", plugin.endpoint.display(), plugin.name));
        }
        let service = Service::new(&plugin.endpoint, PATIENCE);
        let health = Arc::new(Watch::start(&self.health, &plugin.name, &service));
        of_name.push(Instance { endpoint: plugin.endpoint.clone(), service, is_v1, _health: health });
        self.drivers.gone.lock().remove(&plugin.name);
        tracing::info!(driver = plugin.name, endpoint = %plugin.endpoint.display(), "DRA driver registered");
        Ok(())
    }

    async fn deregister(&self, name: &str, endpoint: &Path) {
        let mut known = self.drivers.known.lock();
        let Some(of_name) = known.get_mut(name) else { return };
        of_name.retain(|driver| driver.endpoint != endpoint);
        if of_name.is_empty() {
            known.remove(name);
            self.health.forget(name);
            self.drivers.gone.lock().insert(name.to_owned(), Instant::now());
            tracing::info!(driver = name, "DRA driver is gone");
        }
    }
}
