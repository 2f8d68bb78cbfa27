//! Which message each thread handles in this moment: what a process that dies can still tell, from within a signal handler.

use std::{cell::Cell, marker::PhantomData};

thread_local! {
    // Plain memory of the thread: nothing is allocated, locked or dropped when it is read.
    static DOING: Cell<Option<Work>> = const { Cell::new(None) };
}

#[derive(Clone, Copy)]
struct Work {
    path: *const str,
    message: &'static str,
}

/// As long as this lives, its thread does what it was made with.
pub(crate) struct Doing<'a> {
    before: Option<Work>,
    _path: PhantomData<&'a str>,
}

/// Says that the unit at `path` handles a message of this type now.
pub(crate) fn begin<'a>(path: &'a str, message: &'static str) -> Doing<'a> {
    Doing { before: DOING.replace(Some(Work { path, message })), _path: PhantomData }
}

impl Drop for Doing<'_> {
    fn drop(&mut self) {
        DOING.set(self.before);
    }
}

/// Calls `tell` with the path of the unit that this thread is running and the type of the message; not at all where it runs
/// none. Safe in a signal handler if `tell` is.
pub fn tell(tell: impl FnOnce(&str, &'static str)) {
    if let Some(work) = DOING.get() {
        // SAFETY: the `Doing` that set this borrows the path and resets it when dropped; it lies deeper in this thread's stack.
        tell(unsafe { &*work.path }, work.message);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told() -> Option<(String, &'static str)> {
        let mut seen = None;
        tell(|path, message| seen = Some((path.to_owned(), message)));
        seen
    }

    #[test]
    fn a_thread_tells_what_it_does_and_what_it_did_before_when_that_ends() {
        assert_eq!(told(), None);
        let outer = begin("controllers/job", "A");
        {
            let _inner = begin("kubelet/pods", "B");
            assert_eq!(told(), Some(("kubelet/pods".to_owned(), "B")));
        }
        assert_eq!(told(), Some(("controllers/job".to_owned(), "A")));
        drop(outer);
        assert_eq!(told(), None);
    }
}
