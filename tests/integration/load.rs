//! Requests at a steady rate, each over a connection of its own, until stopped. None may fail: nothing is retried.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use crate::cluster::{Cluster, ask};

/// Requests per second in all.
const RATE: u32 = 200;
const THREADS: u32 = 16;

/// Load on a few addresses.
pub struct Load {
    rate: u32,
    stop: Arc<AtomicBool>,
    sent: Arc<AtomicU64>,
    failures: Arc<Mutex<Vec<String>>>,
    threads: Vec<JoinHandle<()>>,
    began: Instant,
}

impl Load {
    /// Starts asking the addresses in turn from the cluster's node.
    pub fn on(cluster: &Cluster, addresses: &[String]) -> Self {
        Load::at(cluster, addresses, RATE)
    }

    /// The same at another rate.
    pub fn at(cluster: &Cluster, addresses: &[String], rate: u32) -> Self {
        let (stop, sent, failures) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)), Arc::new(Mutex::new(Vec::new())));
        let began = Instant::now();
        let start = |thread: u32| {
            let (stop, sent, failures, addresses) = (stop.clone(), sent.clone(), failures.clone(), addresses.to_vec());
            cluster.within(move || {
                let pause = Duration::from_secs(1) * THREADS / rate;
                let mut due = began + pause * thread / THREADS;
                let mut turn = thread as usize;
                while !stop.load(Ordering::Relaxed) {
                    std::thread::sleep(due.saturating_duration_since(Instant::now()));
                    due += pause;
                    turn += 1;
                    let address = &addresses[turn % addresses.len()];
                    sent.fetch_add(1, Ordering::Relaxed);
                    if let Err(error) = ask(address) {
                        let text = format!("{address} after {:.3} s: {error}", began.elapsed().as_secs_f64());
                        failures.lock().expect("no thread panics with it").push(text);
                    }
                }
            })
        };
        let threads = (0..THREADS).map(start).collect();
        Load { rate, stop, sent, failures, threads, began }
    }

    /// How many failed up to now.
    pub fn failures(&self) -> Vec<String> {
        self.failures.lock().expect("no thread panics with it").clone()
    }

    /// Ends the load; no request may have failed, and the rate must have been kept up.
    pub fn stop(mut self) -> u64 {
        // The last requests are waited for without sending others.
        let took = self.began.elapsed();
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            thread.join().expect("a load thread does not panic");
        }
        let (sent, failures) = (self.sent.load(Ordering::Relaxed), self.failures());
        assert!(failures.is_empty(), "{} of {sent} requests failed:\n{}", failures.len(), failures.join("\n"));
        let rate = sent as f64 / took.as_secs_f64();
        assert!(rate > f64::from(self.rate) * 0.9, "only {rate:.0} requests a second got through: the cluster was too slow");
        sent
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}
