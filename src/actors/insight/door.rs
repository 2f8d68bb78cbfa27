//! The API as clients from outside reach it: their writes are the beginnings of traces.

use std::{sync::Arc, time::Duration};

use futures::{FutureExt, future::BoxFuture};
use troupe_api::{
    ApiCall, ApiReply, ApiService, Status,
    meta::{Cause, Object},
    resources::{Feature, Registry},
    service::{ConnectCall, Operation, Target, UserInfo, WatchOptions, WatchStream},
    spans,
};

use crate::runtime::{
    recorder::{Hop, Outcome},
    system::System,
};

/// Components of the cluster record themselves why they call.
const COMPONENTS: [&str; 4] = ["system:kube-controller-manager", "system:kube-scheduler", "system:node:", "system:serviceaccount:kube-system:"];

/// Passes calls on, and records writes of people and programs that are no part of the cluster; those of components, too, where they are sampled:
/// then the request has a span of its own, and what it commits names that.
pub struct FrontDoor {
    inner: Arc<dyn ApiService>,
    system: System,
}

impl FrontDoor {
    pub fn new(inner: Arc<dyn ApiService>, system: System) -> Self {
        FrontDoor { inner, system }
    }
}

fn is_told_write(call: &ApiCall) -> bool {
    let writes = !matches!(call.operation, Operation::Get { .. } | Operation::List(_));
    let resource = &call.target.resource;
    // Events are news about changes, and reviews are not stored.
    let kept = &*resource.plural != "events" && !resource.kind.ends_with("Review");
    writes && kept && call.cause.trace != 0
}

fn is_foreign(user: &UserInfo) -> bool {
    !COMPONENTS.iter().any(|name| user.name.starts_with(name))
}

impl ApiService for FrontDoor {
    fn call(&self, call: ApiCall) -> BoxFuture<'static, Result<ApiReply, Status>> {
        // The span that a component's own step has, where the request is sampled.
        let step = if is_foreign(&call.user) { Some(0) } else { spans::current().map(|scope| scope.caller()).filter(|step| *step != 0) };
        let Some(step) = step.filter(|_| is_told_write(&call)) else { return self.inner.call(call) };
        let (system, user, cause) = (self.system.clone(), call.user.clone(), call.cause.clone());
        let (verb, renews) = (call.operation.verb().rbac(), call.target.resource.has(Feature::Renewals));
        let answer = self.inner.call(call);
        async move {
            let begun = system.instant();
            let answer = answer.await;
            let recorder = system.recorder();
            let hop = Hop {
                from: recorder.intern_foreign(&user.name),
                to: recorder.intern("apiserver"),
                message: recorder.intern(verb),
                waited: Duration::ZERO,
                handled: system.instant().saturating_duration_since(begun),
                outcome: if answer.is_ok() { Outcome::Done } else { Outcome::Failed },
                // The write's own hop names this one by the span that came in. The request itself is exported where it came in.
                cause: Cause { span: step, sampled: false, ..cause },
                span: cause.span,
                produced: None,
                at: begun,
            };
            if renews {
                recorder.renewal(hop)
            } else {
                recorder.keep(hop)
            }
            answer
        }
        .boxed()
    }

    fn watch(&self, user: Arc<UserInfo>, target: Target, options: WatchOptions, cause: Cause) -> BoxFuture<'static, Result<WatchStream, Status>> {
        self.inner.watch(user, target, options, cause)
    }

    fn admit_connect(&self, call: ConnectCall) -> BoxFuture<'static, Result<Object, Status>> {
        self.inner.admit_connect(call)
    }

    fn registry(&self) -> Arc<Registry> {
        self.inner.registry()
    }

    fn settled_registry(&self) -> BoxFuture<'static, Arc<Registry>> {
        self.inner.settled_registry()
    }
}
