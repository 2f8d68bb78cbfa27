//! The cluster's revision, read for many callers at once.
//!
//! A read shows every write acknowledged before it began. So callers that arrive while one is under way wait for the
//! next; all of those share it. However many ask, one read is under way and at most one is wanted.

use std::sync::Arc;

use futures::future::BoxFuture;
use parking_lot::Mutex;
use tokio::{runtime::Handle, sync::oneshot};
use troupe_api::meta::Revision;

use crate::store::StoreError;

/// Makes one read.
type Read = Box<dyn Fn() -> BoxFuture<'static, Result<Revision, StoreError>> + Send + Sync>;

/// Why a shared read failed, told to all who shared it.
type Answer = Result<Revision, String>;

/// See the module.
pub struct SharedRead {
    read: Read,
    runtime: Handle,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Who waits for the next read.
    waiting: Vec<oneshot::Sender<Answer>>,
    under_way: bool,
    /// The newest revision ever read.
    newest: Revision,
}

impl SharedRead {
    /// `runtime` carries the reads, so that a caller that goes away stops nobody else's.
    pub fn new(runtime: Handle, read: impl Fn() -> BoxFuture<'static, Result<Revision, StoreError>> + Send + Sync + 'static) -> Arc<Self> {
        Arc::new(SharedRead { read: Box::new(read), runtime, state: Mutex::default() })
    }

    /// The revision by a read that begins after this call.
    pub async fn ask(self: &Arc<Self>) -> Result<Revision, StoreError> {
        let (sender, answer) = oneshot::channel();
        let begin = {
            let mut state = self.state.lock();
            state.waiting.push(sender);
            !std::mem::replace(&mut state.under_way, true)
        };
        if begin {
            self.runtime.spawn(self.clone().run());
        }
        match answer.await {
            Ok(answer) => answer.map_err(StoreError::Unavailable),
            Err(_) => Err(StoreError::Unavailable("the store is closing".into())),
        }
    }

    /// Reads until nobody waits.
    async fn run(self: Arc<Self>) {
        loop {
            let callers = {
                let mut state = self.state.lock();
                if state.waiting.is_empty() {
                    state.under_way = false;
                    return;
                }
                std::mem::take(&mut state.waiting)
            };
            let answer = (self.read)().await.map_err(|error| match error {
                StoreError::Unavailable(why) => why,
                other => other.to_string(),
            });
            let answer = answer.and_then(|revision| self.never_back(revision));
            for caller in callers {
                // Who no longer waits needs no answer.
                let _ = caller.send(answer.clone());
            }
        }
    }

    /// A cluster that was restored to an older state would make every cache and client wrong, silently.
    fn never_back(&self, read: Revision) -> Answer {
        let newest = &mut self.state.lock().newest;
        if read < *newest {
            return Err(format!("etcd's revision went back from {newest} to {read}: its data was replaced, so restart troupe"));
        }
        *newest = read;
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use std::{
        sync::atomic::{AtomicU64, Ordering},
        time::Duration,
    };

    use super::*;

    /// Reads that answer with their number, each when it is let go.
    fn gated() -> (Arc<SharedRead>, Arc<tokio::sync::Semaphore>, Arc<AtomicU64>) {
        let (gate, begun) = (Arc::new(tokio::sync::Semaphore::new(0)), Arc::new(AtomicU64::new(0)));
        let (held, count) = (gate.clone(), begun.clone());
        let read = SharedRead::new(Handle::current(), move || {
            let (held, number) = (held.clone(), count.fetch_add(1, Ordering::SeqCst) + 1);
            Box::pin(async move {
                held.acquire().await.expect("open").forget();
                Ok(Revision(number))
            })
        });
        (read, gate, begun)
    }

    async fn until(condition: impl Fn() -> bool) {
        let deadline = tokio::time::Instant::now() + Duration::from_secs(10);
        while !condition() {
            assert!(tokio::time::Instant::now() < deadline, "in time");
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test]
    async fn who_comes_during_a_read_shares_the_next_one_and_never_gets_the_one_under_way() {
        let (read, gate, begun) = gated();
        let ask = || {
            let read = read.clone();
            tokio::spawn(async move { read.ask().await.expect("answers") })
        };
        let first = ask();
        until(|| begun.load(Ordering::SeqCst) == 1).await;
        let late: Vec<_> = (0..100).map(|_| ask()).collect();
        until(|| read.state.lock().waiting.len() == 100).await;
        gate.add_permits(10);
        assert_eq!(first.await.expect("no panic"), Revision(1));
        for caller in late {
            assert_eq!(caller.await.expect("no panic"), Revision(2));
        }
        assert_eq!(begun.load(Ordering::SeqCst), 2);
    }

    #[tokio::test]
    async fn a_revision_that_goes_back_is_an_error() {
        let answers = AtomicU64::new(7);
        let read = SharedRead::new(Handle::current(), move || {
            let answer = Revision(answers.fetch_sub(1, Ordering::SeqCst));
            Box::pin(async move { Ok(answer) })
        });
        assert_eq!(read.ask().await.expect("the first"), Revision(7));
        assert!(matches!(read.ask().await, Err(StoreError::Unavailable(why)) if why.contains("went back from 7 to 6")));
    }
}
