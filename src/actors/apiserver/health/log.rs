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

/// Tries whether the streams of the log can be had. One try is under way at a time, on a thread of its own: it may wait for ever.
#[derive(Debug, Default)]
pub struct LogProbe {
    /// When the try that is under way began.
    begun: Arc<Mutex<Option<Instant>>>,
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
        let mut begun = self.begun.lock();
        if let Some(begun) = *begun {
            let is_late = now.saturating_duration_since(begun) >= PATIENCE;
            return if is_late { Err("logging blocked".to_owned()) } else { Ok(()) };
        }
        let done = self.begun.clone();
        let started = thread::Builder::new().name("log-probe".into()).spawn(move || {
            attempt();
            *done.lock() = None;
        });
        // Without a thread nothing is known.
        *begun = started.is_ok().then_some(now);
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
        assert_eq!(probe.check(now + PATIENCE / 2), Ok(()));
        assert_eq!(probe.check(now + PATIENCE), Err("logging blocked".to_owned()));
        free.send(()).expect("it waits");
        let deadline = Instant::now() + Duration::from_secs(10);
        while probe.begun.lock().is_some() {
            assert!(Instant::now() < deadline, "the try ends");
            thread::yield_now();
        }
        assert_eq!(probe.check(now + 2 * PATIENCE), Ok(()));
    }
}
