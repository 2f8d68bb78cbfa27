//! What units work on, written where the death of the process does not reach.
//!
//! A panic is caught, and whoever panics on an object again and again sets it aside. Memory that runs out, or a stack that
//! overflows, ends the process, and the next one would come back to the same object. So it is noted which object a thread is at
//! work on at each moment; the next process counts in whose hands the last ones died. A note costs a few stores in memory.

use std::{
    fmt,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use troupe_api::{meta::ObjectKey, stored::StoredObject};

/// Deaths in a row, in the hands of one attempt, after which its object is set aside.
pub const DEATHS: u32 = 3;

/// Stands for what people say of an object: another one when it is made anew, or its spec changes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Version(pub u64);

impl Version {
    pub fn of(object: &StoredObject) -> Self {
        let meta = object.meta();
        let bytes = meta.uid.bytes().chain(meta.generation.to_le_bytes());
        // FNV-1a: the next process, perhaps of another build, must come to the same.
        Version(bytes.fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)))
    }
}

/// An attempt on one object.
#[derive(Clone, Copy, Debug)]
pub struct Attempt<'a> {
    /// Who tries: the unit's name.
    pub unit: &'a str,
    pub key: &'a ObjectKey,
    pub version: Version,
}

/// Where attempts are noted.
pub trait WorkRecord: Send + Sync + fmt::Debug + 'static {
    /// Takes a place for an attempt; `None` where there is none left, which only means that it is not noted.
    fn begin(&self, attempt: &Attempt<'_>) -> Option<usize>;

    /// The attempt at this place is, or is not, what its thread does right now.
    fn set_running(&self, place: usize, running: bool);

    /// The attempt ended, well or not.
    fn end(&self, place: usize);

    /// Whether processes died in anybody's hands: where none did, nobody need ask about each object.
    fn has_suspects(&self) -> bool;

    /// How many processes in a row died in an attempt on this version of the object.
    fn deaths(&self, attempt: &Attempt<'_>) -> u32;

    /// An attempt on the object ended well, or it deserves another chance.
    fn forget(&self, unit: &str, key: &ObjectKey);
}

/// Notes nothing: for tests, and processes that nobody starts again.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoRecord;

impl WorkRecord for NoRecord {
    fn begin(&self, _attempt: &Attempt<'_>) -> Option<usize> {
        None
    }

    fn set_running(&self, _place: usize, _running: bool) {}

    fn end(&self, _place: usize) {}

    fn has_suspects(&self) -> bool {
        false
    }

    fn deaths(&self, _attempt: &Attempt<'_>) -> u32 {
        0
    }

    fn forget(&self, _unit: &str, _key: &ObjectKey) {}
}

/// A place in a record; given back when dropped.
struct Place {
    record: Arc<dyn WorkRecord>,
    number: usize,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.record.end(self.number);
    }
}

/// Marks a place as running while it lives, also when what runs panics.
struct Running<'a>(&'a Place);

impl<'a> Running<'a> {
    fn new(place: &'a Place) -> Self {
        place.record.set_running(place.number, true);
        Running(place)
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.0.record.set_running(self.0.number, false);
    }
}

/// An attempt that is noted whenever its thread is at it.
pub struct Noted<F> {
    work: F,
    place: Option<Place>,
}

impl<F: Future + Unpin> Future for Noted<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let this = &mut *self;
        let _running = this.place.as_ref().map(Running::new);
        Pin::new(&mut this.work).poll(cx)
    }
}

/// Notes `work` as this attempt.
pub fn noted<F: Future + Unpin>(record: &Arc<dyn WorkRecord>, attempt: &Attempt<'_>, work: F) -> Noted<F> {
    let place = record.begin(attempt).map(|number| Place { record: record.clone(), number });
    Noted { work, place }
}

/// Does `work`, noted as this attempt.
pub fn noting<R>(record: &Arc<dyn WorkRecord>, attempt: &Attempt<'_>, work: impl FnOnce() -> R) -> R {
    let place = record.begin(attempt).map(|number| Place { record: record.clone(), number });
    let _running = place.as_ref().map(Running::new);
    work()
}

/// What people are told about an object in whose hands processes died.
pub fn death_message(unit: &str, deaths: u32) -> String {
    format!("the process died {deaths} times in a row while {unit} worked on this object: it is left alone until it changes")
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;
    use parking_lot::Mutex;

    use super::*;

    #[derive(Debug, Default)]
    struct Log(Mutex<Vec<String>>);

    impl WorkRecord for Log {
        fn begin(&self, attempt: &Attempt<'_>) -> Option<usize> {
            self.0.lock().push(format!("begin {} {}", attempt.unit, attempt.key));
            Some(7)
        }

        fn set_running(&self, place: usize, running: bool) {
            self.0.lock().push(format!("{place} {running}"));
        }

        fn end(&self, place: usize) {
            self.0.lock().push(format!("end {place}"));
        }

        fn has_suspects(&self) -> bool {
            false
        }

        fn deaths(&self, _attempt: &Attempt<'_>) -> u32 {
            0
        }

        fn forget(&self, _unit: &str, _key: &ObjectKey) {}
    }

    #[tokio::test]
    async fn an_attempt_is_noted_as_running_only_while_its_thread_is_at_it() {
        let log = Arc::new(Log::default());
        let record: Arc<dyn WorkRecord> = log.clone();
        let key = ObjectKey::new("n", "a");
        let attempt = Attempt { unit: "u", key: &key, version: Version(1) };
        noted(&record, &attempt, Box::pin(tokio::task::yield_now())).await;
        assert_eq!(std::mem::take(&mut *log.0.lock()), ["begin u n/a", "7 true", "7 false", "7 true", "7 false", "end 7"]);
        let panics = std::panic::AssertUnwindSafe(noted(&record, &attempt, Box::pin(async { panic!("x") }))).catch_unwind().await;
        assert!(panics.is_err());
        assert_eq!(*log.0.lock(), ["begin u n/a", "7 true", "7 false", "end 7"]);
    }
}
