//! Files and directories that somebody else may change at any time: what pods wrote, and logs beside which pods may write.
//!
//! Nothing here checks a path and uses it afterwards. A name is looked up once, by descriptor, and what was opened is what is read,
//! changed, mounted or removed. Links that others made lead nowhere, other file systems are not entered, devices and pipes are not
//! opened, and trees are walked by loops that hold few descriptors, however deep they are.

pub mod directory;
pub mod grant;
pub mod mounts;
pub mod remove;
#[cfg(test)]
mod tests;
pub mod usage;

use std::{
    cell::Cell,
    marker::PhantomData,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
};

use parking_lot::Mutex;
use tokio::sync::oneshot;

pub use directory::{Directory, open_directory_of_container, open_file_of_container, place_and_name};
pub use remove::{remove_tree, remove_tree_below, remove_tree_blocking};
pub use usage::{DiskUse, Tally, count_tree};

thread_local! {
    static IN_PLACE: Cell<bool> = const { Cell::new(false) };
}

/// For as long as it lives, [`blocking`] does its work on the thread that asks for it: a simulation has one thread, and repeats itself.
#[derive(Debug)]
pub struct InPlace {
    before: bool,
    /// It stays on its thread.
    _here: PhantomData<*const ()>,
}

impl InPlace {
    /// From now on, on this thread.
    pub fn begin() -> Self {
        InPlace { before: IN_PLACE.replace(true), _here: PhantomData }
    }
}

impl Drop for InPlace {
    fn drop(&mut self) {
        IN_PLACE.set(self.before);
    }
}

/// Whether blocking work of this thread is done on it.
fn is_in_place() -> bool {
    IN_PLACE.get()
}

/// How much less than others a thread gets whose work may wait (`nice(7)`).
const BACKGROUND: i32 = 10;

/// Runs work that keeps a processor busy for long on a thread of its own, which gets less of the machine than all others.
pub async fn in_background<T: Send + 'static>(name: &str, work: impl FnOnce() -> T + Send + 'static) -> T {
    if is_in_place() {
        return work();
    }
    let (tell, told) = oneshot::channel();
    let work = Arc::new(Mutex::new(Some(work)));
    let taken = work.clone();
    let run = move || {
        // SAFETY: the call takes numbers alone, and concerns this thread alone. If it is refused the work is done all the same.
        unsafe { libc::setpriority(0, 0, BACKGROUND) };
        let Some(work) = taken.lock().take() else { return };
        // Nobody may wait for it any more.
        drop(tell.send(catch_unwind(AssertUnwindSafe(work))));
    };
    if let Err(error) = std::thread::Builder::new().name(name.to_owned()).spawn(run) {
        tracing::warn!(%error, name, "no thread was started for work in the background");
        let work = work.lock().take();
        return blocking(work.expect("what was not started has taken nothing")).await;
    }
    match told.await.expect("it says how it ended") {
        Ok(done) => done,
        Err(panic) => std::panic::resume_unwind(panic),
    }
}

/// Runs work that takes long, on files or by itself, off the arbiters.
pub async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    if is_in_place() {
        return work();
    }
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        Err(error) => std::panic::resume_unwind(error.into_panic()),
    }
}
