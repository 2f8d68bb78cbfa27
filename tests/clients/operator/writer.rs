//! Somebody who writes widgets in turns of both versions for as long as the test lasts, and remembers what was acknowledged.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
    time::Duration,
};

use super::conversion::widget;
use crate::cluster::Cluster;

/// Where the widgets are that no operator looks after.
pub const NAMESPACE: &str = "written";
/// So many of them there are.
const WIDGETS: i64 = 12;

pub struct Writer {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<BTreeMap<String, i64>>,
}

impl Writer {
    /// Begins to write. What fails, because there is no API server, is written again until it succeeds.
    pub fn start(cluster: &Cluster) -> Self {
        let (stop, file, kubectl) = (Arc::new(AtomicBool::new(false)), cluster.path("written.json"), cluster.caller());
        let stopped = stop.clone();
        let thread = std::thread::spawn(move || {
            let (mut written, mut number) = (BTreeMap::new(), 0);
            // All of them exist in the end.
            while number < WIDGETS || !stopped.load(Ordering::Relaxed) {
                let name = format!("w-{}", number % WIDGETS);
                let version = if (number + number / WIDGETS) % 2 == 0 { "v1" } else { "v2" };
                std::fs::write(&file, widget(version, NAMESPACE, &name, number).to_string()).expect("writes");
                while !kubectl(&format!("apply -f {} --request-timeout=10s", file.display())) {
                    // The test has failed elsewhere.
                    if Arc::strong_count(&stopped) == 1 {
                        return written;
                    }
                    std::thread::sleep(Duration::from_millis(100));
                }
                written.insert(name, number);
                number += 1;
            }
            written
        });
        Writer { stop, thread }
    }

    /// Stops; gives what there must be now, by name.
    pub fn stop(self) -> BTreeMap<String, i64> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().expect("no panic")
    }
}
