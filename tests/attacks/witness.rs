//! A client that reads and writes at a steady pace while others attack, and says how long it had to wait.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
    time::Duration,
};

use serde_json::json;

use crate::{caller::Caller, cluster::Cluster};

/// The pause between two requests.
const PACE: Duration = Duration::from_millis(20);

/// What the slowest hundredth of its requests may take.
pub const LIMIT: Duration = Duration::from_secs(1);

/// The client, until it is asked for its testimony.
pub struct Witness {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Vec<Duration>>,
}

impl Witness {
    /// Starts asking, as the administrator; a request that fails fails the test.
    pub fn of(cluster: &Cluster) -> Self {
        let caller = Caller::administrator(cluster);
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        let thread = std::thread::spawn(move || {
            let mut waits = Vec::new();
            loop {
                waits.push(ask(&caller, waits.len()));
                if stopped.load(Ordering::Relaxed) {
                    return waits;
                }
                std::thread::sleep(PACE);
            }
        });
        Witness { stop, thread }
    }

    /// Stops, and gives the time within which 99 of 100 requests were answered.
    pub fn p99(self) -> Duration {
        self.stop.store(true, Ordering::Relaxed);
        let mut waits = self.thread.join().expect("no request of the witness fails");
        waits.sort_unstable();
        // Of few requests the worst one counts.
        waits[(waits.len() * 99 / 100).min(waits.len() - 1)]
    }
}

/// One request: mostly reads, each fifth a write.
fn ask(caller: &Caller, turn: usize) -> Duration {
    let reply = match turn % 5 {
        0 => {
            let patch = json!({"metadata": {"annotations": {"witness": turn.to_string()}}}).to_string();
            caller.send("PATCH", "/api/v1/namespaces/default", "application/merge-patch+json", patch)
        }
        _ => caller.get("/api/v1/namespaces/default"),
    };
    assert_eq!(reply.status, 200, "the witness is refused: {reply:?}");
    reply.took
}
