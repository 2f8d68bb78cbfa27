//! Controllers: what a controller's author writes, and the unit that runs it.
//!
//! A controller says what wakes it ([`Controller::watches`]) and reconciles one key at a time. The unit around it keeps
//! a key queue (deduplicated, one in flight per key, backoff, quarantine), starts only when all caches it reads are
//! filled, runs several keys at once, survives a panic in a reconcile, and takes a key up again only when the caches
//! show what it wrote.
//!
//! ```no_run
//! use k8s_openapi::api::core::v1::{ConfigMap, Namespace};
//! use troupe_actors::runtime::{
//!     cache::Cache,
//!     controller::{Controller, Outcome, ReconcileContext, ReconcileError, Watches},
//! };
//! use troupe_api::meta::ObjectKey;
//!
//! /// Gives every namespace a ConfigMap `hello`.
//! struct Greeter {
//!     config_maps: Cache<ConfigMap>,
//! }
//!
//! impl Controller for Greeter {
//!     const NAME: &'static str = "greeter";
//!
//!     fn watches(&self, watches: &mut Watches<'_>) {
//!         watches.primary::<Namespace>();
//!         watches.map::<ConfigMap>(|change| vec![ObjectKey::cluster(change.key.namespace.clone())]);
//!     }
//!
//!     async fn reconcile(&self, key: &ObjectKey, cx: &ReconcileContext) -> Result<Outcome, ReconcileError> {
//!         if self.config_maps.get(&ObjectKey::new(key.name.clone(), "hello")).is_none() {
//!             let mut hello = ConfigMap::default();
//!             hello.metadata.name = Some("hello".into());
//!             let made = cx.client().namespaced::<ConfigMap>(key.name.clone()).create(&hello).await?;
//!             cx.wrote(&self.config_maps, &made);
//!         }
//!         Ok(Outcome::Done)
//!     }
//! }
//! ```

mod context;
mod lost_replies;
#[cfg(test)]
mod tests;
mod unit;
mod watches;

use std::{sync::Arc, time::Duration};

use futures::future::LocalBoxFuture;
use thiserror::Error;
use troupe_api::{meta::ObjectKey, status::Status};
use troupe_api_client::Client;

pub use self::{
    context::ReconcileContext,
    unit::ControllerUnit,
    watches::{Waker, Watches},
};
use super::{cache::Caches, host::UnitAddr, system::System, unit::Policy};

/// What to do with a key after a reconcile.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Nothing until something wakes it.
    Done,
    /// Look again after this time.
    RequeueAfter(Duration),
    /// Look at all that wakes it by then together, after `least`, and in any case after `again_after`, where that is said.
    Rest { least: Duration, again_after: Option<Duration> },
}

/// A look at no more objects than this is cheap.
const FEW: usize = 500;
/// For each object that a look goes through the key rests so long: a tenth of a second for 5,000.
const REST: Duration = Duration::from_micros(20);

impl Outcome {
    /// What comes of a look that went through so many objects, at any change of one of them. Where they are many, changes in a burst are looked
    /// at together. `again_after` is when to look again though nothing changes.
    pub fn of_look(objects: usize, again_after: Option<Duration>) -> Self {
        match again_after {
            _ if objects > FEW => Outcome::Rest { least: REST * u32::try_from(objects).unwrap_or(u32::MAX), again_after },
            Some(delay) => Outcome::RequeueAfter(delay),
            None => Outcome::Done,
        }
    }
}

/// How long a key that failed waits for its next attempt: doubled with each failure in a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backoff {
    pub first: Duration,
    pub longest: Duration,
}

impl Backoff {
    /// Most controllers' (`DefaultTypedControllerRateLimiter`).
    pub const USUAL: Backoff = Backoff::new(5, 1_000);

    pub const fn new(first_milliseconds: u64, longest_seconds: u64) -> Self {
        Backoff { first: Duration::from_millis(first_milliseconds), longest: Duration::from_secs(longest_seconds) }
    }
}

/// Why a reconcile failed; the key backs off.
#[derive(Debug, Error)]
pub enum ReconcileError {
    /// The API refused a call.
    #[error("{0}")]
    Api(#[from] Status),
    /// Anything else, in words.
    #[error("{0}")]
    Other(String),
}

/// A reconciling unit keyed by object.
pub trait Controller: Send + Sync + 'static {
    /// Its place in the tree: `controllers/NAME`, for most.
    const NAME: &'static str;
    /// What its events name as their source, as upstream's; where nothing is said its name, with `-controller` at the end.
    const EVENT_SOURCE: Option<&'static str> = None;
    /// Keys worked on at once.
    const CONCURRENCY: usize = 5;
    /// How keys that fail are paced: as upstream's controller does it.
    const BACKOFF: Backoff = Backoff::USUAL;

    /// Says which changes wake which keys, and which caches must be filled.
    fn watches(&self, watches: &mut Watches<'_>);

    /// Brings one object's actual state closer to what is desired. Runs on one thread: it need not be `Send`.
    fn reconcile(&self, key: &ObjectKey, cx: &ReconcileContext) -> impl Future<Output = Result<Outcome, ReconcileError>>;
}

/// A controller without its type.
trait AnyController: Send + Sync + 'static {
    fn watches(&self, watches: &mut Watches<'_>);
    fn reconcile<'a>(&'a self, key: &'a ObjectKey, cx: &'a ReconcileContext) -> LocalBoxFuture<'a, Result<Outcome, ReconcileError>>;
}

impl<C: Controller> AnyController for C {
    fn watches(&self, watches: &mut Watches<'_>) {
        Controller::watches(self, watches);
    }

    fn reconcile<'a>(&'a self, key: &'a ObjectKey, cx: &'a ReconcileContext) -> LocalBoxFuture<'a, Result<Outcome, ReconcileError>> {
        Box::pin(Controller::reconcile(self, key, cx))
    }
}

/// Starts a controller under `controllers/NAME`; its writes go through `client`.
pub fn start<C: Controller>(system: &System, caches: &Caches, client: Client, controller: C) -> UnitAddr<ControllerUnit> {
    start_below("controllers", system, caches, client, controller)
}

/// The same under `PARENT/NAME`, for what does not end with the other controllers.
pub fn start_below<C: Controller>(parent: &str, system: &System, caches: &Caches, client: Client, controller: C) -> UnitAddr<ControllerUnit> {
    spawn(format!("{parent}/{}", C::NAME), (system, caches, client), controller, C::CONCURRENCY)
}

/// The same under `controllers/NAME` where so many keys are worked on at once.
pub fn start_with<C: Controller>(system: &System, caches: &Caches, client: Client, controller: C, concurrency: usize) -> UnitAddr<ControllerUnit> {
    spawn(format!("controllers/{}", C::NAME), (system, caches, client), controller, concurrency)
}

fn spawn<C: Controller>(
    path: String,
    (system, caches, client): (&System, &Caches, Client),
    controller: C,
    concurrency: usize,
) -> UnitAddr<ControllerUnit> {
    let controller: Arc<dyn AnyController> = Arc::new(controller);
    let caches = caches.clone();
    system.spawn(path, Policy::default(), move |_| {
        let unit = ControllerUnit::new(controller.clone(), C::NAME, concurrency, caches.clone(), client.clone());
        unit.telling_as(event_source::<C>()).backing_off(C::BACKOFF)
    })
}

/// What a controller's events name as their source.
pub fn event_source<C: Controller>() -> String {
    let usual = || if C::NAME.ends_with("-controller") { C::NAME.to_owned() } else { format!("{}-controller", C::NAME) };
    C::EVENT_SOURCE.map_or_else(usual, str::to_owned)
}
