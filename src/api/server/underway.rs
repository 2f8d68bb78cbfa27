//! Objects on their way to clients: lists, and what there is when a watch begins.
//!
//! They are the versions as of one revision until they are sent. While a client does not read, others overwrite the objects, and the old
//! versions stay in memory. So sending them may last no longer than any other request (upstream's `--request-timeout`), and while memory
//! is short only moments: the client asks again.

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, Weak},
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;
use troupe_api::memory::MemoryGauge;

/// How long sending may take while memory is short.
const IN_SHORTAGE: Duration = Duration::from_secs(2);
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// It took too long.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("it took too long to send")]
pub struct Cut;

/// What is not sent yet; nothing any more when that took too long.
#[derive(Debug)]
pub struct Unsent<T> {
    held: Arc<Mutex<Option<T>>>,
    listed: Option<(Underway, u64)>,
}

impl<T> Unsent<T> {
    /// What nobody is to cut.
    pub fn uncut(held: T) -> Self {
        Unsent { held: Arc::new(Mutex::new(Some(held))), listed: None }
    }

    /// Hands what is left to `work`.
    ///
    /// # Errors
    /// When it took too long.
    pub fn with<R>(&self, work: impl FnOnce(&mut T) -> R) -> Result<R, Cut> {
        self.held.lock().as_mut().map(work).ok_or(Cut)
    }
}

impl<T> Drop for Unsent<T> {
    fn drop(&mut self) {
        if let Some((underway, number)) = &self.listed {
            underway.0.lock().all.remove(number);
        }
    }
}

/// What can be let go of.
trait Holder: Send + Sync {
    fn let_go(&self);
}

impl<T: Send> Holder for Mutex<Option<T>> {
    fn let_go(&self) {
        // It ends outside of the lock.
        let held = self.lock().take();
        drop(held);
    }
}

/// All that is on its way.
#[derive(Clone, Default)]
pub struct Underway(Arc<Mutex<Listed>>);

#[derive(Default)]
struct Listed {
    next: u64,
    all: HashMap<u64, (Instant, Weak<dyn Holder>)>,
}

impl fmt::Debug for Underway {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Underway({})", self.0.lock().all.len())
    }
}

impl Underway {
    /// Something sets out.
    pub fn send<T: Send + 'static>(&self, held: T) -> Unsent<T> {
        let held = Arc::new(Mutex::new(Some(held)));
        let holder: Arc<dyn Holder> = held.clone();
        let mut listed = self.0.lock();
        let number = listed.next;
        listed.next += 1;
        listed.all.insert(number, (Instant::now(), Arc::downgrade(&holder)));
        Unsent { held, listed: Some((self.clone(), number)) }
    }

    /// Cuts what takes longer than `request_timeout`, or too long for how short `memory` is, until `stopping`.
    pub async fn watch(self, memory: Arc<dyn MemoryGauge>, request_timeout: Duration, stopping: CancellationToken) {
        let mut ticks = tokio::time::interval(LOOK_EVERY);
        while stopping.run_until_cancelled(ticks.tick()).await.is_some() {
            self.look(&*memory, request_timeout);
        }
    }

    /// Cuts what takes too long now.
    pub fn look(&self, memory: &dyn MemoryGauge, request_timeout: Duration) {
        let cut = self.cut(if memory.is_short() { IN_SHORTAGE.min(request_timeout) } else { request_timeout });
        if cut > 0 {
            tracing::debug!(cut, "clients took too long to take what they asked for");
        }
    }

    /// Lets go of what is left of what is older; tells how much that was.
    fn cut(&self, age: Duration) -> usize {
        let late: Vec<_> = {
            let mut listed = self.0.lock();
            let late = listed.all.extract_if(|_, (began, _)| began.elapsed() > age);
            late.filter_map(|(_, (_, holder))| holder.upgrade()).collect()
        };
        // It ends outside of the lock, which everybody takes who begins.
        late.iter().for_each(|holder| holder.let_go());
        late.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_takes_too_long_lets_go_of_what_is_left() {
        let underway = Underway::default();
        let [slow, done] = [underway.send(vec![1]), underway.send(vec![2])];
        drop(done);
        assert_eq!(underway.0.lock().all.len(), 1, "what was sent is forgotten");
        assert_eq!(underway.cut(Duration::from_secs(1)), 0);
        assert_eq!(slow.with(Vec::pop).expect("there is time"), Some(1));
        std::thread::sleep(Duration::from_millis(2));
        assert_eq!(underway.cut(Duration::from_millis(1)), 1);
        assert!(slow.with(|_| ()).is_err());
        assert_eq!(underway.cut(Duration::ZERO), 0);
    }
}
