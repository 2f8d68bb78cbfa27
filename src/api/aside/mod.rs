//! Work that takes longer than an event loop may be held: it runs on threads of its own, a bounded amount at a time.
//!
//! What a document costs is proportional to its length (see [`crate::meta::limits`]), so lengths are what is bounded: with
//! a few MiB of documents in work, others wait, and the rest of the process keeps its processors and its memory. Those on whose behalf it is
//! done (see [`on_behalf_of`]) have turns.

pub mod places;

use std::{
    cell::{Cell, RefCell},
    future::{self, Future},
    num::NonZero,
    panic,
    sync::{Arc, LazyLock},
    thread,
};

use tokio::{runtime::Handle, task::JoinHandle};

use self::places::{Place, Places};

/// Documents up to this length take less time than the way to another thread and back is worth.
pub const SMALL: usize = 64 << 10;

/// How many bytes of long documents are in work at one time: the longest body and the longest object.
const ROOM: u32 = 5 << 20;

thread_local! {
    /// This thread does such work, and has its place.
    static IS_ASIDE: Cell<bool> = const { Cell::new(false) };
}

/// No more works of users go on at one time than there are processors for, or four, as some of them wait for the disk: more of them would only
/// take longer each, and whoever has the next turn would wait for all of them.
static FREE: LazyLock<Places> = LazyLock::new(|| Places::for_holders(ROOM, thread::available_parallelism().map_or(1, NonZero::get).max(4)));
/// What is done on nobody's behalf, or for those whose requests have priority before all, does not wait for users.
static RESERVED: LazyLock<Places> = LazyLock::new(|| Places::new(ROOM));
/// The process itself.
static NOBODY: LazyLock<Arc<str>> = LazyLock::new(|| "".into());

/// Runs `work`, which has to do with `length` bytes of documents: here if they are few, or this is a part of such work.
pub async fn compute<T: Send + 'static>(length: usize, work: impl FnOnce() -> T + Send + 'static) -> T {
    if length <= SMALL || IS_ASIDE.get() {
        return work();
    }
    let place = place(length).await;
    let done = tokio::task::spawn_blocking(move || {
        let _place = place;
        let _aside = Aside::begin();
        work()
    });
    outcome(done).await
}

/// Runs a call, which decodes and changes `length` bytes of documents between what it waits for: here if they are few.
/// Once it has begun it runs to its end, whoever waits for it. So it does where it is a part of such work: whoever has a place waits for no
/// other.
pub async fn run<F>(length: usize, call: F) -> F::Output
where
    F: Future<Output: Send + 'static> + Send + 'static,
{
    if length <= SMALL || IS_ASIDE.get() {
        return call.await;
    }
    let place = place(length).await;
    let (runtime, behalf) = (Handle::current(), behalf());
    let held = Held { length, place: RefCell::new(place) };
    let done = tokio::task::spawn_blocking(move || {
        let _aside = Aside::begin();
        runtime.block_on(BEHALF.scope(behalf, HELD.scope(held, call)))
    });
    outcome(done).await
}

/// The thread is aside as long as this lives. It does other work afterwards.
struct Aside;

impl Aside {
    fn begin() -> Self {
        IS_ASIDE.set(true);
        Aside
    }
}

impl Drop for Aside {
    fn drop(&mut self) {
        IS_ASIDE.set(false);
    }
}

/// The place of a call that runs aside.
struct Held {
    length: usize,
    place: RefCell<Option<Place>>,
}

tokio::task_local! {
    static HELD: Held;
    static BEHALF: Arc<str>;
}

/// Does something on behalf of somebody: what of it goes on aside waits in their queue; in that of the process itself where there is no name.
pub async fn on_behalf_of<F: Future>(who: Arc<str>, work: F) -> F::Output {
    BEHALF.scope(who, work).await
}

/// On whose behalf this is done.
pub fn behalf() -> Arc<str> {
    BEHALF.try_with(Arc::clone).unwrap_or_else(|_| NOBODY.clone())
}

/// Waits within a call for somebody who may take long, such as a webhook: if the call runs aside, others have its place meanwhile.
/// Must not run twice at a time within one call.
pub async fn elsewhere<F: Future>(waiting: F) -> F::Output {
    let Ok(length) = HELD.try_with(|held| {
        held.place.take();
        held.length
    }) else {
        return waiting.await;
    };
    let output = waiting.await;
    let place = place(length).await;
    HELD.with(|held| held.place.replace(place));
    output
}

async fn place(length: usize) -> Option<Place> {
    let wanted = u32::try_from(length).unwrap_or(ROOM).min(ROOM);
    let behalf = behalf();
    let places = if behalf.is_empty() { &RESERVED } else { &FREE };
    places.take(&behalf, wanted).await
}

/// What came of work aside; its panic goes on in whoever waits, as if the work had been done there.
async fn outcome<T>(done: JoinHandle<T>) -> T {
    match done.await {
        Ok(outcome) => outcome,
        Err(error) => match error.try_into_panic() {
            Ok(panicked) => panic::resume_unwind(panicked),
            // The runtime ends, and this task with it.
            Err(_) => future::pending().await,
        },
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use futures::FutureExt;

    use super::*;

    #[tokio::test]
    async fn short_documents_stay_and_long_ones_go() {
        let here = thread::current().id();
        assert_eq!(compute(SMALL, move || thread::current().id()).await, here);
        assert_ne!(compute(SMALL + 1, move || thread::current().id()).await, here);
        assert_eq!(run(0, async { thread::current().id() }).await, here);
        assert_ne!(run(SMALL + 1, async { thread::current().id() }).await, here);
    }

    #[tokio::test]
    async fn a_part_of_long_work_waits_for_no_place_of_its_own() {
        let whole = usize::try_from(ROOM).expect("fits");
        let part = async move {
            let here = thread::current().id();
            let again = run(whole, async { compute(SMALL + 1, || thread::current().id()).await });
            (here, again.await)
        };
        let (here, again) = tokio::time::timeout(Duration::from_secs(5), run(whole, part)).await.expect("all places are taken by itself");
        assert_eq!(here, again);
    }

    #[tokio::test]
    async fn the_event_loop_goes_on_meanwhile() {
        let long = tokio::spawn(run(1 << 20, async { thread::sleep(Duration::from_millis(300)) }));
        tokio::time::timeout(Duration::from_millis(200), tokio::time::sleep(Duration::from_millis(20))).await.expect("the loop is free");
        long.await.expect("runs to its end");
    }

    #[tokio::test]
    async fn a_call_that_waits_for_others_leaves_its_place_to_them() {
        let all = ROOM as usize;
        let (begun, (go, gone)) = (Arc::new(tokio::sync::Notify::new()), tokio::sync::oneshot::channel::<()>());
        let told = begun.clone();
        let slow = tokio::spawn(run(all, async move {
            elsewhere(async {
                told.notify_one();
                gone.await
            })
            .await
        }));
        begun.notified().await;
        let other = tokio::time::timeout(Duration::from_secs(10), run(all, async { 7 })).await;
        assert_eq!(other, Ok(7), "there is room");
        go.send(()).expect("it waits");
        slow.await.expect("runs to its end").expect("was told");
        assert_eq!(elsewhere(async { 8 }).await, 8, "also where nobody runs aside");
    }

    #[tokio::test]
    async fn what_users_want_stands_in_nobody_elses_way() {
        let (go, gone) = tokio::sync::oneshot::channel::<()>();
        let all = on_behalf_of("ann".into(), run(ROOM as usize, gone));
        let all = tokio::spawn(all);
        let mut more: Vec<_> = (0..20).map(|_| Box::pin(on_behalf_of("ann".into(), compute(SMALL + 1, || ())))).collect();
        tokio::task::yield_now().await;
        for work in &mut more {
            assert!(futures::poll!(work).is_pending());
        }
        tokio::time::timeout(Duration::from_secs(10), on_behalf_of("".into(), compute(SMALL + 1, || ()))).await.expect("has a place of its own");
        go.send(()).expect("it waits");
        all.await.expect("runs to its end").expect("was told");
        futures::future::join_all(more).await;
    }

    #[tokio::test]
    async fn panics_come_back_to_the_caller() {
        let panicked = panic::AssertUnwindSafe(compute(1 << 20, || panic!("on purpose"))).catch_unwind().await;
        assert!(panicked.is_err());
    }
}
