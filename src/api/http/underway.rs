//! Lists on their way to clients.
//!
//! A list holds the versions of its objects as of one revision until they are sent. While a client does not read, others overwrite the
//! objects, and the old versions stay in memory. So a list lasts no longer than any other request may (upstream's `--request-timeout`),
//! and while memory is short only moments: its client asks again.

use std::{
    collections::HashMap,
    sync::{Arc, Weak},
    time::{Duration, Instant},
    vec,
};

use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;

use crate::{memory::MemoryGauge, stored::StoredObject};

/// How long a list may take while memory is short.
const IN_SHORTAGE: Duration = Duration::from_secs(2);
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// The list took too long.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("the list took too long to send")]
pub struct ListCut;

type Items = vec::IntoIter<Arc<StoredObject>>;

/// What is not sent yet of a list; nothing any more when it took too long.
#[derive(Debug)]
pub struct Unsent {
    items: Arc<Mutex<Option<Items>>>,
    lists: Option<(Lists, u64)>,
}

impl Unsent {
    /// That of a list which nobody is to cut.
    pub fn uncut(items: Vec<Arc<StoredObject>>) -> Self {
        Unsent { items: Arc::new(Mutex::new(Some(items.into_iter()))), lists: None }
    }

    /// Hands the items that are left to `work`.
    ///
    /// # Errors
    /// When the list took too long.
    pub fn with<T>(&self, work: impl FnOnce(&mut Items) -> T) -> Result<T, ListCut> {
        self.items.lock().as_mut().map(work).ok_or(ListCut)
    }
}

impl Drop for Unsent {
    fn drop(&mut self) {
        if let Some((lists, number)) = &self.lists {
            lists.0.lock().underway.remove(number);
        }
    }
}

/// All lists of a server that are on their way.
#[derive(Clone, Debug, Default)]
pub struct Lists(Arc<Mutex<Listed>>);

#[derive(Debug, Default)]
struct Listed {
    next: u64,
    underway: HashMap<u64, Underway>,
}

#[derive(Debug)]
struct Underway {
    began: Instant,
    items: Weak<Mutex<Option<Items>>>,
}

impl Lists {
    /// A list sets out.
    pub fn send(&self, items: Vec<Arc<StoredObject>>) -> Unsent {
        let unsent = Unsent::uncut(items);
        let mut listed = self.0.lock();
        let number = listed.next;
        listed.next += 1;
        listed.underway.insert(number, Underway { began: Instant::now(), items: Arc::downgrade(&unsent.items) });
        Unsent { items: unsent.items.clone(), lists: Some((self.clone(), number)) }
    }

    /// Cuts lists that take longer than `request_timeout`, or too long for how short `memory` is, until `stopping`.
    pub async fn watch(self, memory: Arc<dyn MemoryGauge>, request_timeout: Duration, stopping: CancellationToken) {
        let mut ticks = tokio::time::interval(LOOK_EVERY);
        while stopping.run_until_cancelled(ticks.tick()).await.is_some() {
            let cut = self.cut(if memory.is_short() { IN_SHORTAGE.min(request_timeout) } else { request_timeout });
            if cut > 0 {
                tracing::debug!(cut, "lists took too long to send");
            }
        }
    }

    /// Lets go of what is left of lists that are older; tells how many.
    fn cut(&self, age: Duration) -> usize {
        let late: Vec<_> = {
            let mut listed = self.0.lock();
            let late = listed.underway.extract_if(|_, list| list.began.elapsed() > age);
            late.filter_map(|(_, list)| list.items.upgrade()).collect()
        };
        // They end outside of the lock, which every list takes when it begins.
        late.iter().for_each(|items| drop(items.lock().take()));
        late.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_that_takes_too_long_lets_go_of_its_objects() {
        let lists = Lists::default();
        let [slow, done] = [lists.send(Vec::new()), lists.send(Vec::new())];
        drop(done);
        assert_eq!(lists.0.lock().underway.len(), 1, "one that was sent is forgotten");
        assert_eq!(lists.cut(Duration::from_secs(1)), 0);
        assert!(slow.with(|items| items.next().is_none()).is_ok());
        std::thread::sleep(Duration::from_millis(2));
        assert_eq!(lists.cut(Duration::from_millis(1)), 1);
        assert!(slow.with(|_| ()).is_err());
        assert_eq!(lists.cut(Duration::ZERO), 0);
    }
}
