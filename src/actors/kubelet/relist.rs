//! Watching the runtime: a cheap listing every second, at once when it reports an event, compared with the one before.

use std::{
    collections::BTreeSet,
    sync::Arc,
    time::{Duration, Instant},
};

use futures::StreamExt;
use serde_json::{Value, json};
use troupe_cri::{CriError, Runtime, names::PodIdentity};

use super::{
    listing::{Listing, list},
    metrics,
};
use crate::runtime::host::{Unit, UnitContext};

const PERIOD: Duration = Duration::from_secs(1);
/// Events come in bursts; one listing answers for all within this time.
const BURST: Duration = Duration::from_millis(20);
const RECONNECT: Duration = Duration::from_secs(5);

/// Called with the pods whose things changed.
pub type OnChange = Arc<dyn Fn(Vec<PodIdentity>) + Send + Sync>;

/// The unit that lists.
pub struct RuntimeWatch {
    runtime: Arc<dyn Runtime>,
    on_change: OnChange,
    last: Listing,
    listing: bool,
    again: bool,
    lists: u64,
    events: bool,
    healthy: bool,
}

/// The pods that differ between two listings.
pub fn changed(before: &Listing, after: &Listing) -> Vec<PodIdentity> {
    let all: BTreeSet<_> = before.keys().chain(after.keys()).collect();
    all.into_iter().filter(|pod| before.get(*pod) != after.get(*pod)).cloned().collect()
}

impl RuntimeWatch {
    pub fn new(runtime: Arc<dyn Runtime>, on_change: OnChange) -> Self {
        RuntimeWatch { runtime, on_change, last: Listing::new(), listing: false, again: false, lists: 0, events: false, healthy: true }
    }

    fn relist(&mut self, cx: &mut UnitContext<'_, Self>) {
        if self.listing {
            self.again = true;
            return;
        }
        self.listing = true;
        let (runtime, begun) = (self.runtime.clone(), Instant::now());
        cx.spawn_then(async move { list(&*runtime).await }, move |watch, listed, cx| {
            metrics::relisted(begun.elapsed());
            watch.listing = false;
            watch.lists += 1;
            match listed {
                Ok(listing) => watch.compare(listing),
                Err(error) if watch.healthy => {
                    watch.healthy = false;
                    tracing::warn!(%error, "runtime not listed");
                }
                Err(_) => {}
            }
            if std::mem::take(&mut watch.again) {
                cx.after(BURST, |watch, cx| watch.relist(cx));
            }
        });
    }

    fn compare(&mut self, listing: Listing) {
        self.healthy = true;
        let changes = changed(&self.last, &listing);
        self.last = listing;
        if !changes.is_empty() {
            (self.on_change)(changes);
        }
    }

    /// Follows the runtime's own events; a runtime without them is only listed.
    fn follow_events(&mut self, cx: &mut UnitContext<'_, Self>) {
        let (runtime, watch) = (self.runtime.clone(), cx.address());
        let work = async move {
            let mut events = runtime.events().await?;
            while let Some(event) = events.next().await {
                event?;
                watch.wake(Stirred, troupe_api::meta::Cause::default());
            }
            Ok::<(), CriError>(())
        };
        cx.spawn_then(work, |watch, ended, cx| match ended {
            Err(CriError::Unimplemented(_)) => watch.events = false,
            _ => cx.after(RECONNECT, |watch, cx| watch.follow_events(cx)),
        });
    }
}

/// The runtime reported an event.
#[derive(Clone, Copy, Debug, actix::Message)]
#[rtype(result = "()")]
pub struct Stirred;

impl crate::runtime::host::On<Stirred> for RuntimeWatch {
    fn on(&mut self, _stirred: Stirred, cx: &mut UnitContext<'_, Self>) -> crate::runtime::envelope::Reply<()> {
        self.events = true;
        self.relist(cx);
        crate::runtime::envelope::Reply::Now(())
    }
}

impl Unit for RuntimeWatch {
    fn started(&mut self, cx: &mut UnitContext<'_, Self>) {
        self.relist(cx);
        self.follow_events(cx);
        cx.every(PERIOD, Self::relist);
    }

    fn observe(&self) -> Value {
        json!({"pods": self.last.len(), "lists": self.lists, "events": self.events, "reachable": self.healthy})
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn only_pods_whose_things_changed_are_told() {
        let pod = |name: &str| PodIdentity { namespace: "n".into(), name: name.into(), uid: name.into() };
        let listing = |pods: &[(&str, i32)]| pods.iter().map(|(name, state)| (pod(name), BTreeMap::from([("c".to_owned(), *state)]))).collect();
        let before: Listing = listing(&[("a", 1), ("b", 1), ("gone", 1)]);
        let after: Listing = listing(&[("a", 1), ("b", 2), ("new", 1)]);
        assert_eq!(changed(&before, &after), [pod("b"), pod("gone"), pod("new")]);
    }
}
