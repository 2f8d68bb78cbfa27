//! Turns: what a task does at a stretch before it gives way to the other tasks of its arbiter.
//!
//! Whoever goes through objects without number counts them here. What an object costs depends on whether it is decoded, so
//! what is asked for is counted too, wherever that happens.

use std::task::Poll;

use troupe_api::decoding::asked_here;

/// Objects that are looked at in a turn.
pub const OBJECTS: usize = 256;
/// Bytes of stored objects that are asked for in a turn, before the last one: some milliseconds where they must be decoded.
pub const BYTES: usize = 512 << 10;

/// A turn that has begun.
#[derive(Debug)]
pub struct Turn {
    objects: usize,
    bytes: usize,
    /// What the thread had asked for when the turn began.
    asked: usize,
}

impl Default for Turn {
    fn default() -> Self {
        Turn { objects: 0, bytes: 0, asked: asked_here() }
    }
}

impl Turn {
    /// Counts an object that was looked at; `true` when the turn is over.
    pub fn count(&mut self) -> bool {
        self.count_bytes(0)
    }

    /// Counts an object of which so many bytes were read in another way than by decoding it.
    pub fn count_bytes(&mut self, bytes: usize) -> bool {
        self.objects += 1;
        self.bytes += bytes;
        self.objects >= OBJECTS || self.bytes + asked_here().wrapping_sub(self.asked) >= BYTES
    }

    /// Counts an object, and gives way when the turn is over; then the next one begins.
    pub async fn step(&mut self) {
        self.step_bytes(0).await;
    }

    /// The same for an object of which so many bytes were read.
    pub async fn step_bytes(&mut self, bytes: usize) {
        if self.count_bytes(bytes) {
            give_way().await;
            *self = Turn::default();
        }
    }
}

/// Returns to the executor once. tokio's `yield_now` defers its wake-up past the local set, this one does not.
pub async fn give_way() {
    let mut yielded = false;
    std::future::poll_fn(|task| {
        if std::mem::replace(&mut yielded, true) {
            return Poll::Ready(());
        }
        task.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    #[test]
    fn a_turn_ends_after_so_many_objects_or_bytes() {
        let mut turn = Turn::default();
        assert!((1..OBJECTS).all(|_| !turn.count()) && turn.count());
        let mut turn = Turn::default();
        assert!(!turn.count_bytes(BYTES - 1) && turn.count_bytes(1));
    }

    #[test]
    fn whoever_steps_gives_way_and_goes_on() {
        let mut turn = Turn::default();
        assert!(turn.step_bytes(BYTES).now_or_never().is_none());
        let mut turn = Turn::default();
        assert!(turn.step_bytes(BYTES - 1).now_or_never().is_some());
    }
}
