//! How much of stored objects a thread has decoded: what tasks that share a thread pace themselves by.

use std::cell::Cell;

thread_local! {
    static DECODED: Cell<Decoded> = const { Cell::new(Decoded { objects: 0, bytes: 0 }) };
    static ASKED: Cell<usize> = const { Cell::new(0) };
}

/// Typed objects that were made from stored ones.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Decoded {
    pub objects: usize,
    /// Their length as they are stored.
    pub bytes: usize,
}

/// What this thread has decoded since it began.
pub fn decoded_here() -> Decoded {
    DECODED.get()
}

/// The length of all objects that this thread asked for since it began, whether they were decoded for it or known. Unlike
/// [`decoded_here`] it does not depend on what else the process has in memory. It wraps around.
pub fn asked_here() -> usize {
    ASKED.get()
}

/// An object of this length is asked for.
pub(crate) fn note_asked(bytes: usize) {
    ASKED.set(ASKED.get().wrapping_add(bytes));
}

/// An object of this length is decoded.
pub(crate) fn note(bytes: usize) {
    let before = DECODED.get();
    DECODED.set(Decoded { objects: before.objects + 1, bytes: before.bytes.wrapping_add(bytes) });
}
