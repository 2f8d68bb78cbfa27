//! Since when the uses of tokens are noted: a ConfigMap that each API server sees to.

use std::time::{Duration, Instant};

use jiff::Timestamp;
use k8s_openapi::{api::core::v1::ConfigMap, apimachinery::pkg::apis::meta::v1::ObjectMeta};
use parking_lot::Mutex;
use troupe_api::{
    auth::tokens::usage::{TRACKED_SINCE, TRACKING, day_of, read_day},
    meta::{Cause, FieldSelector, ObjectKey},
    service::WatchOptions,
};

use crate::{
    controllers::writes::is_gone,
    runtime::{
        cache::{Cache, Caches},
        controller::{Controller, Outcome, ReconcileContext, ReconcileError, Watches},
    },
};

const NAMESPACE: &str = "kube-system";
/// It is made anew no more often than this: other servers, of other releases, may take it away because they note nothing.
const REST: Duration = Duration::from_secs(30 * 60);

/// See the module. Its only key is the ConfigMap's.
pub struct LegacyTokenTracking {
    maps: Cache<ConfigMap>,
    /// When it was made last by this server.
    made: Mutex<Option<Instant>>,
}

impl LegacyTokenTracking {
    pub fn new(caches: &Caches) -> Self {
        let fields = FieldSelector::parse(&format!("metadata.name={TRACKING}")).expect("a valid selector");
        let maps = caches.selected(" of token tracking", WatchOptions { fields, ..WatchOptions::default() });
        LegacyTokenTracking { maps, made: Mutex::default() }
    }

    /// How long to wait before it is made anew.
    fn rest(&self, now: Instant) -> Duration {
        self.made.lock().map_or(Duration::ZERO, |made| REST.saturating_sub(now.saturating_duration_since(made)))
    }
}

fn key() -> ObjectKey {
    ObjectKey::new(NAMESPACE, TRACKING)
}

/// What the ConfigMap should be, if it is not: one that says no day counts from now on.
fn plan(map: Option<&ConfigMap>, now: Timestamp) -> Option<ConfigMap> {
    let said = map.and_then(|map| map.data.as_ref()?.get(TRACKED_SINCE));
    if said.is_some_and(|day| read_day(day).is_some()) {
        return None;
    }
    let metadata = ObjectMeta { name: Some(TRACKING.into()), namespace: Some(NAMESPACE.into()), ..ObjectMeta::default() };
    let mut wanted = map.cloned().unwrap_or_else(|| ConfigMap { metadata, ..ConfigMap::default() });
    wanted.data.get_or_insert_default().insert(TRACKED_SINCE.into(), day_of(now));
    Some(wanted)
}

impl Controller for LegacyTokenTracking {
    const NAME: &'static str = "legacy-token-tracking";

    fn watches(&self, watches: &mut Watches<'_>) {
        watches.map_of(&self.maps, |change| (change.key == key()).then(key).into_iter().collect());
        // That it is missing tells no change.
        watches.waker().wake(key(), Cause::default());
    }

    async fn reconcile(&self, key: &ObjectKey, cx: &ReconcileContext) -> Result<Outcome, ReconcileError> {
        let there = self.maps.get(key).map(|cached| cached.object);
        let Some(wanted) = plan(there.as_deref(), cx.now()) else { return Ok(Outcome::Done) };
        let api = cx.client().namespaced::<ConfigMap>(NAMESPACE);
        let written = if there.is_some() {
            api.update(&wanted).await
        } else {
            let rest = self.rest(cx.system().instant());
            if !rest.is_zero() {
                return Ok(Outcome::RequeueAfter(rest));
            }
            let made = api.create(&wanted).await;
            if made.is_ok() {
                *self.made.lock() = Some(cx.system().instant());
            }
            made
        };
        match written {
            Ok(written) => cx.wrote(&self.maps, &*written),
            // Another server was faster.
            Err(status) if is_gone(&status) || status.is_conflict() || status.is_already_exists() => {}
            Err(status) => return Err(status.into()),
        }
        Ok(Outcome::Done)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn uses_are_noted_since_the_day_it_says_or_from_now_on() {
        let now = "2026-01-31T23:59:59Z".parse().expect("a time");
        let map = |data: Value| -> ConfigMap { serde_json::from_value(json!({"metadata": {"name": "m"}, "data": data})).expect("a map") };
        assert_eq!(plan(Some(&map(json!({TRACKED_SINCE: "2020-01-01"}))), now), None);
        let made = plan(None, now).expect("is made");
        assert_eq!((made.metadata.name.as_deref(), json!(made.data)), (Some(TRACKING), json!({TRACKED_SINCE: "2026-01-31"})));
        let mended = plan(Some(&map(json!({TRACKED_SINCE: "long ago", "more": "stays"}))), now).expect("is mended");
        assert_eq!((mended.metadata.name.as_deref(), json!(mended.data)), (Some("m"), json!({TRACKED_SINCE: "2026-01-31", "more": "stays"})));
        assert_eq!(plan(Some(&mended), now), None);
    }

    #[test]
    fn it_is_made_anew_twice_an_hour_at_most() {
        let begun = Instant::now();
        let tracking = LegacyTokenTracking { maps: Cache::default(), made: Mutex::default() };
        assert_eq!(tracking.rest(begun), Duration::ZERO);
        *tracking.made.lock() = Some(begun);
        assert_eq!(tracking.rest(begun + Duration::from_secs(60)), Duration::from_secs(29 * 60));
        assert_eq!(tracking.rest(begun + Duration::from_secs(3600)), Duration::ZERO);
    }
}
