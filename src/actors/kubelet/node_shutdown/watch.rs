//! Follows logind: while the machine may shut down a lock makes it wait, and when it does pods end group by group before the lock goes
//! (logind's delay inhibitors). As with upstream's kubelet a logind that is not there at the start is told of once and not looked for again; one
//! that goes away is looked for every second.

use std::{path::PathBuf, sync::Arc, time::Duration};

use k8s_openapi::api::core::v1::Pod;
use tokio::time::{sleep, timeout};
use troupe_api::meta::Clock;

use super::{
    logind::{Lock, Logind, LogindBus, LogindError},
    plan::{Period, grace, groups, requested},
    state::State,
};
use crate::{files::blocking, kubelet::metrics};

/// How long logind that went away is not looked for.
const RECONNECT: Duration = Duration::from_secs(1);
/// How often logind is asked whether it has read its configuration, with pauses that double.
const ATTEMPTS: u32 = 5;
const FIRST_PAUSE: Duration = Duration::from_millis(100);
/// How often it is looked whether pods have ended.
const LOOK: Duration = Duration::from_millis(100);

/// What a shutdown does to the node.
pub trait ShutdownEffects: Send + Sync {
    /// Tells it in an event.
    fn tell(&self, message: &'static str);

    /// Lets no pod in any more, or does again, and has the node's status say so.
    fn set_shutting_down(&self, is_active: bool);

    /// The pods that have not ended.
    fn active_pods(&self) -> Vec<Arc<Pod>>;

    /// Ends a pod, which has so many seconds.
    fn terminate(&self, pod: &Pod, grace: u64);

    /// Whether nothing of a pod runs any more and its volumes are gone.
    fn has_ended(&self, pod: &Pod) -> bool;
}

/// All that it works with.
#[derive(Clone)]
pub struct Parts {
    pub bus: Arc<dyn LogindBus>,
    pub effects: Arc<dyn ShutdownEffects>,
    pub periods: Arc<[Period]>,
    /// The kubelet's directory.
    pub root: PathBuf,
    pub clock: Arc<dyn Clock>,
}

/// Follows logind for ever, unless it is not there at first.
pub async fn run(parts: Parts) {
    let mut watched = match start(&parts).await {
        Ok(watched) => watched,
        Err(error) => return tracing::error!(%error, "failed to start node shutdown manager"),
    };
    tell_last(&parts).await;
    loop {
        follow(&parts, watched).await;
        watched = loop {
            sleep(RECONNECT).await;
            tracing::debug!("restarting watch for node shutdown events");
            match start(&parts).await {
                Ok(watched) => break watched,
                Err(error) => tracing::error!(%error, "unable to watch the node for shutdown events"),
            }
        };
    }
}

/// A logind that tells of shutdowns, and the lock that makes it wait.
type Watched = (Box<dyn Logind>, Lock);

async fn start(parts: &Parts) -> Result<Watched, LogindError> {
    let mut logind = parts.bus.connect().await?;
    let (wanted, found) = (requested(&parts.periods), logind.inhibit_delay().await?);
    if wanted > found {
        logind.override_inhibit_delay(wanted).await?;
        logind.reload().await?;
        await_delay(&mut *logind, wanted).await?;
    }
    let lock = logind.inhibit().await?;
    logind.monitor().await?;
    Ok((logind, lock))
}

/// Waits until logind waits long enough.
async fn await_delay(logind: &mut dyn Logind, wanted: Duration) -> Result<(), LogindError> {
    let mut pause = FIRST_PAUSE;
    let mut found = logind.inhibit_delay().await?;
    for _ in 1..ATTEMPTS {
        if wanted <= found {
            break;
        }
        sleep(pause).await;
        pause *= 2;
        found = logind.inhibit_delay().await?;
    }
    if wanted <= found { Ok(()) } else { Err(LogindError::NotUpdated { attempts: ATTEMPTS, wanted, found }) }
}

/// Goes by what logind says until it says no more.
async fn follow(parts: &Parts, (mut logind, lock): Watched) {
    let mut lock = Some(lock);
    loop {
        let is_active = match logind.next().await {
            Ok(is_active) => is_active,
            Err(error) => return tracing::error!(%error, "ended to watching the node for shutdown events"),
        };
        let kind = if is_active { "shutdown" } else { "cancelled" };
        tracing::info!(event = kind, "shutdown manager detected new shutdown event");
        let message = if is_active { "Shutdown manager detected shutdown event" } else { "Shutdown manager detected shutdown cancellation" };
        parts.effects.tell(message);
        parts.effects.set_shutting_down(is_active);
        if is_active {
            shut_down(parts).await;
            lock = None;
            tracing::info!("shutdown manager completed processing shutdown event, node will shutdown shortly");
        } else {
            match logind.inhibit().await {
                Ok(taken) => lock = Some(taken),
                Err(error) => tracing::warn!(%error, is_held = lock.is_some(), "no new lock against the next shutdown"),
            }
        }
    }
}

/// Ends all pods.
async fn shut_down(parts: &Parts) {
    let started = parts.clock.now();
    store(parts, State::new(started, None)).await;
    end_pods(parts).await;
    store(parts, State::new(started, Some(parts.clock.now()))).await;
}

async fn end_pods(parts: &Parts) {
    let groups = groups(&parts.periods, parts.effects.active_pods());
    for group in groups.into_iter().filter(|group| !group.pods.is_empty()) {
        let period = group.period;
        for pod in &group.pods {
            let grace = grace(pod, period.grace);
            tracing::info!(pod = pod.metadata.name, namespace = pod.metadata.namespace, grace, "shutdown manager killing pod with gracePeriod");
            parts.effects.terminate(pod, grace);
        }
        let ended = async {
            while !group.pods.iter().all(|pod| parts.effects.has_ended(pod)) {
                sleep(LOOK).await;
            }
        };
        match timeout(Duration::from_secs(period.grace), ended).await {
            Ok(()) => tracing::info!(priority = period.priority, "done waiting for all pods in group to terminate"),
            Err(_) => tracing::info!(priority = period.priority, grace = period.grace, "shutdown manager pod killing time out"),
        }
    }
}

async fn store(parts: &Parts, state: State) {
    let (start, end) = state.times();
    metrics::shut_down(start, end);
    let root = parts.root.clone();
    if let Err(error) = blocking(move || state.store(&root)).await {
        tracing::error!(%error, "failed to store graceful shutdown state");
    }
}

/// What an earlier process did.
async fn tell_last(parts: &Parts) {
    let root = parts.root.clone();
    match blocking(move || State::load(&root)).await {
        Ok(Some(state)) => {
            let (start, end) = state.times();
            metrics::shut_down(start, end);
        }
        Ok(None) => {}
        Err(error) => tracing::error!(%error, "failed to load graceful shutdown state"),
    }
}
