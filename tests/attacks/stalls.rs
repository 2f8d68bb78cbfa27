//! How long the machine itself holds up whoever does very little: nobody who is served there can be served sooner.

use std::{
    io::Write,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

/// The pause between two looks; seldom enough to be no load itself.
const PACE: Duration = Duration::from_millis(100);

/// Somebody who writes a byte to the disk now and then, as a store does, until asked how long that took.
pub struct Stalls {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Duration>,
}

impl Stalls {
    /// Begins, on the disk of a directory.
    pub fn on(directory: &Path) -> Self {
        let mut file = tempfile::tempfile_in(directory).expect("a file");
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        let thread = std::thread::spawn(move || {
            let mut longest = Duration::ZERO;
            while !stopped.load(Ordering::Relaxed) {
                let began = Instant::now();
                // A full disk takes its time to say so, too.
                let _ = file.write_all(b"x").and_then(|()| file.sync_data());
                std::thread::sleep(PACE);
                longest = longest.max(began.elapsed().saturating_sub(PACE));
            }
            longest
        });
        Stalls { stop, thread }
    }

    /// Stops, and gives the longest time that it was held up at once.
    pub fn longest(self) -> Duration {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().expect("no panic")
    }
}
