//! Placement: the arbiters of the process, threads that each run one local executor.

use std::{
    hash::{DefaultHasher, Hash, Hasher},
    io,
    sync::Arc,
    thread,
};

use tokio::{
    runtime::Builder,
    sync::mpsc::{UnboundedSender, unbounded_channel},
    task::LocalSet,
};

type Job = Box<dyn FnOnce() + Send>;

/// Where units run. Cheap to clone.
#[derive(Clone)]
pub struct Placement {
    arbiters: Arc<[UnboundedSender<Job>]>,
}

impl Placement {
    /// Starts so many arbiter threads. None at all means: everything runs on the caller's `LocalSet` (simulations, tests).
    ///
    /// # Errors
    /// When a thread or its executor cannot be made.
    pub fn new(arbiters: usize) -> io::Result<Self> {
        let arbiters = (0..arbiters).map(start_arbiter).collect::<io::Result<Vec<_>>>()?;
        Ok(Placement { arbiters: arbiters.into() })
    }

    /// Runs `job` on the arbiter that `path` hashes to; it may spawn local tasks there.
    pub fn run(&self, path: &str, job: impl FnOnce() + Send + 'static) {
        if self.arbiters.is_empty() {
            return job();
        }
        let mut hasher = DefaultHasher::new();
        path.hash(&mut hasher);
        let count = u64::try_from(self.arbiters.len()).expect("few arbiters");
        let chosen = usize::try_from(hasher.finish() % count).expect("below the count");
        // An arbiter ends only with the process' last placement; then nobody wants the job.
        let _ = self.arbiters[chosen].send(Box::new(job));
    }
}

fn start_arbiter(number: usize) -> io::Result<UnboundedSender<Job>> {
    // Unbounded, but only starts of units and tasks go through it, never messages.
    let (jobs, mut queue) = unbounded_channel::<Job>();
    let runtime = Builder::new_current_thread().enable_all().build()?;
    thread::Builder::new().name(format!("arbiter-{number}")).spawn(move || {
        let local = LocalSet::new();
        local.block_on(&runtime, async move {
            while let Some(job) = queue.recv().await {
                job();
            }
        });
    })?;
    Ok(jobs)
}
