//! Which containers' preStop hooks were begun. A pod that gets less time to end has its containers stopped anew while the first stop is under way: the
//! hook does not run again then, and its end is waited for within the time that there is now.

use std::{collections::BTreeMap, time::Duration};

use parking_lot::Mutex;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

/// The hooks of a pod, by container id, each with what tells its end; shared between a worker and the steps it takes.
#[derive(Debug, Default)]
pub struct PreStops(Mutex<BTreeMap<String, CancellationToken>>);

/// What became of a hook.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hooked<T> {
    /// It ran.
    Ran(T),
    /// Another step ran it.
    ByAnother,
    /// The time was over before it ended, whoever runs it.
    OutOfTime,
}

impl PreStops {
    /// Runs a container's hook for at most `time`, or waits as long for its end where it was begun before. Containers that do not exist any
    /// more are forgotten.
    pub async fn once<T>(&self, id: &str, exists: impl Fn(&str) -> bool, time: Duration, hook: impl Future<Output = T>) -> Hooked<T> {
        match self.begin(id, exists) {
            Ok(ended) => {
                // Also when nobody waits for this step any more.
                let _end = ended.drop_guard();
                timeout(time, hook).await.map_or(Hooked::OutOfTime, Hooked::Ran)
            }
            Err(ended) => timeout(time, ended.cancelled()).await.map_or(Hooked::OutOfTime, |()| Hooked::ByAnother),
        }
    }

    /// What is to tell the hook's end, or what tells it where it was begun before.
    fn begin(&self, id: &str, exists: impl Fn(&str) -> bool) -> Result<CancellationToken, CancellationToken> {
        let mut begun = self.0.lock();
        begun.retain(|known, _| known == id || exists(known));
        match begun.get(id) {
            Some(ended) => Err(ended.clone()),
            None => Ok(begun.entry(id.to_owned()).or_default().clone()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use tokio::time::{Instant, sleep};

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[tokio::test(start_paused = true)]
    async fn a_hook_runs_once_and_is_waited_for_by_who_stops_the_container_again() {
        let (hooks, runs, began) = (PreStops::default(), AtomicU32::new(0), Instant::now());
        let hook = || async {
            runs.fetch_add(1, Ordering::Relaxed);
            sleep(5 * SECOND).await;
        };
        let first = hooks.once("a", |_| true, 30 * SECOND, hook());
        let second = async {
            sleep(2 * SECOND).await;
            let hurried = hooks.once("a", |_| true, 10 * SECOND, hook()).await;
            (hurried, began.elapsed().as_secs())
        };
        let third = async {
            sleep(2 * SECOND).await;
            let hurried = hooks.once("a", |_| true, SECOND, hook()).await;
            (hurried, began.elapsed().as_secs())
        };
        let (first, second, third) = tokio::join!(first, second, third);
        assert_eq!((first, second), (Hooked::Ran(()), (Hooked::ByAnother, 5)));
        assert_eq!(third, (Hooked::OutOfTime, 3));
        assert_eq!((hooks.once("a", |_| true, SECOND, hook()).await, runs.load(Ordering::Relaxed)), (Hooked::ByAnother, 1), "nor later");
    }

    #[tokio::test(start_paused = true)]
    async fn a_hook_that_takes_too_long_is_over_for_all() {
        let hooks = PreStops::default();
        assert_eq!(hooks.once("a", |_| true, SECOND, sleep(9 * SECOND)).await, Hooked::OutOfTime);
        let began = Instant::now();
        assert_eq!((hooks.once("a", |_| true, SECOND, sleep(9 * SECOND)).await, began.elapsed().as_secs()), (Hooked::ByAnother, 0));
    }

    #[tokio::test]
    async fn containers_that_are_gone_are_forgotten() {
        let hooks = PreStops::default();
        for id in ["a", "b"] {
            assert_eq!(hooks.once(id, |id| id != "a", SECOND, async {}).await, Hooked::Ran(()));
        }
        assert_eq!(hooks.0.lock().keys().collect::<Vec<_>>(), ["b"]);
    }
}
