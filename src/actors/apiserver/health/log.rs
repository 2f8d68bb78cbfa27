//! Whether lines of the log still go out: a pipe that nobody empties holds up everybody who logs.

use std::{
    io::Write,
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use parking_lot::Mutex;

/// A line may be under way for so long, as upstream has it.
const PATIENCE: Duration = Duration::from_secs(120);
/// What was found is good for so long, however often anybody asks.
const KNOWN_FOR: Duration = Duration::from_secs(1);

/// Tries whether the streams of the log can be had. One try is under way at a time, on a thread of its own: it may wait for ever.
#[derive(Debug, Default)]
pub struct LogProbe {
    tries: Arc<Mutex<Tries>>,
}

#[derive(Debug, Default)]
struct Tries {
    /// When the last one began.
    begun: Option<Instant>,
    is_underway: bool,
}

impl LogProbe {
    /// Begins a try unless one is under way.
    ///
    /// # Errors
    /// In upstream's words when one has been under way for too long.
    pub fn check(&self, now: Instant) -> Result<(), String> {
        self.check_with(now, || {
            // Whoever writes a line holds the stream until it is out. An error says that nobody reads, which holds up nobody.
            let _ = std::io::stderr().lock().flush();
        })
    }

    fn check_with(&self, now: Instant, attempt: impl FnOnce() + Send + 'static) -> Result<(), String> {
        let mut tries = self.tries.lock();
        let since = tries.begun.map(|begun| now.saturating_duration_since(begun));
        if tries.is_underway {
            return if since >= Some(PATIENCE) { Err("logging blocked".to_owned()) } else { Ok(()) };
        }
        if since.is_some_and(|since| since < KNOWN_FOR) {
            return Ok(());
        }
        let done = self.tries.clone();
        let started = thread::Builder::new().name("log-probe".into()).spawn(move || {
            attempt();
            done.lock().is_underway = false;
        });
        // Without a thread nothing is known.
        *tries = Tries { begun: Some(now), is_underway: started.is_ok() };
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    #[test]
    fn a_log_that_takes_nothing_for_two_minutes_is_blocked() {
        let (probe, now) = (LogProbe::default(), Instant::now());
        let (free, blocked) = mpsc::channel::<()>();
        assert_eq!(probe.check_with(now, move || blocked.recv().expect("is freed")), Ok(()));
        assert_eq!(probe.check(now + KNOWN_FOR), Ok(()), "one at a time");
        assert_eq!(probe.check(now + PATIENCE / 2), Ok(()));
        assert_eq!(probe.check(now + PATIENCE), Err("logging blocked".to_owned()));
        free.send(()).expect("it waits");
        let deadline = Instant::now() + Duration::from_secs(10);
        while probe.tries.lock().is_underway {
            assert!(Instant::now() < deadline, "the try ends");
            thread::yield_now();
        }
        let (tried, was_tried) = mpsc::channel();
        assert_eq!(probe.check_with(now + KNOWN_FOR / 2, move || tried.send(()).expect("is heard")), Ok(()));
        assert!(was_tried.recv().is_err(), "it was tried a moment ago");
        assert_eq!(probe.check(now + 2 * PATIENCE), Ok(()));
    }
}
