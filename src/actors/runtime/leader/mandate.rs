//! The right to act, which ends by itself: a service that refuses when the mandate behind it has run out.

use std::sync::Arc;

use futures::{FutureExt, StreamExt, future::BoxFuture};
use tokio::{sync::watch, time::Instant};
use troupe_api::{
    ApiCall, ApiReply, ApiService, Status,
    meta::{Cause, GroupResource, Object},
    resources::Registry,
    service::{Announced, ConnectCall, Target, UserInfo, WatchOptions, WatchStream},
};

/// Until when its holder may act. Dropping it revokes it.
pub struct Mandate(watch::Sender<Option<Instant>>);

impl Mandate {
    /// A mandate that ends at `until` unless it is extended.
    pub fn new(until: Instant) -> Self {
        Mandate(watch::Sender::new(Some(until)))
    }

    /// Moves the end. `false` where it has come already, or the mandate was revoked: that stays so, because whoever saw it has
    /// stopped.
    pub fn extend(&self, until: Instant) -> bool {
        self.0.send_modify(|end| *end = end.filter(|end| Instant::now() < *end).map(|_| until));
        self.until().is_some()
    }

    /// Ends it now.
    pub fn revoke(&self) {
        self.0.send_replace(None);
    }

    /// When it ends as things stand; `None` when it was revoked.
    pub fn until(&self) -> Option<Instant> {
        *self.0.borrow()
    }

    /// `service` for as long as the mandate holds.
    pub fn service(&self, service: Arc<dyn ApiService>) -> Arc<dyn ApiService> {
        Arc::new(MandatedService { service, until: self.0.subscribe() })
    }
}

/// Passes calls on while the mandate holds. A call still in work at its end is dropped, so that no retry of it leaves
/// later; watches end.
struct MandatedService {
    service: Arc<dyn ApiService>,
    until: watch::Receiver<Option<Instant>>,
}

fn holds(until: &watch::Receiver<Option<Instant>>) -> bool {
    until.has_changed().is_ok() && until.borrow().is_some_and(|until| Instant::now() < until)
}

async fn ended(mut until: watch::Receiver<Option<Instant>>) {
    while holds(&until) {
        let Some(end) = *until.borrow_and_update() else { return };
        tokio::select! {
            biased;
            () = tokio::time::sleep_until(end) => {}
            changed = until.changed() => if changed.is_err() { return },
        }
    }
}

fn refusal() -> Status {
    Status::unavailable("this process no longer leads: nothing is sent any more")
}

impl ApiService for MandatedService {
    fn call(&self, call: ApiCall) -> BoxFuture<'static, Result<ApiReply, Status>> {
        let (service, until) = (self.service.clone(), self.until.clone());
        async move {
            if !holds(&until) {
                return Err(refusal());
            }
            tokio::select! {
                biased;
                () = ended(until) => Err(refusal()),
                reply = service.call(call) => reply,
            }
        }
        .boxed()
    }

    fn watch(&self, user: Arc<UserInfo>, target: Target, options: WatchOptions, cause: Cause) -> BoxFuture<'static, Result<WatchStream, Status>> {
        let (service, until) = (self.service.clone(), self.until.clone());
        async move {
            if !holds(&until) {
                return Err(refusal());
            }
            let stream = service.watch(user, target, options, cause).await?;
            Ok(stream.take_until(ended(until)).boxed())
        }
        .boxed()
    }

    fn admit_connect(&self, call: ConnectCall) -> BoxFuture<'static, Result<Object, Status>> {
        self.service.admit_connect(call)
    }

    fn announced(&self, resources: Vec<GroupResource>) -> BoxFuture<'static, Announced> {
        self.service.announced(resources)
    }

    fn registry(&self) -> Arc<Registry> {
        self.service.registry()
    }

    fn has_ended(&self) -> bool {
        !holds(&self.until)
    }

    fn ended(&self) -> BoxFuture<'static, ()> {
        ended(self.until.clone()).boxed()
    }
}
