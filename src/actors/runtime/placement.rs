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

/// Which arbiters a unit may run on. Whatever holds up the arbiters of one group, those of the others go on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ArbiterGroup {
    /// Where what works on objects is: controllers, scheduler, kubelet, proxy.
    #[default]
    Workers,
    /// Where the API server's caches are, which every request waits for.
    Serving,
    /// Where watchers are told of changes, which costs what they select.
    Watches,
    /// Where leases are renewed and what a renewal waits for; nothing whose work grows with the cluster.
    Leases,
}

/// Where units run. Cheap to clone.
#[derive(Clone)]
pub struct Placement {
    workers: Arc<[UnboundedSender<Job>]>,
    /// One arbiter each, where there are workers.
    serving: Option<UnboundedSender<Job>>,
    watches: Option<UnboundedSender<Job>>,
    leases: Option<UnboundedSender<Job>>,
}

impl Placement {
    /// Starts so many arbiter threads for workers, and one for each other group. None at all means: everything runs on the
    /// caller's `LocalSet` (simulations, tests).
    ///
    /// # Errors
    /// When a thread or its executor cannot be made.
    pub fn new(workers: usize) -> io::Result<Self> {
        let alone = |name: &str| (workers > 0).then(|| start_arbiter(name)).transpose();
        let (serving, watches, leases) = (alone("serving")?, alone("watches")?, alone("leases")?);
        let workers = (0..workers).map(|number| start_arbiter(&number.to_string())).collect::<io::Result<Vec<_>>>()?;
        Ok(Placement { workers: workers.into(), serving, watches, leases })
    }

    /// Runs `job` on an arbiter of the group, among workers on the one that `path` hashes to; it may spawn local tasks there.
    pub fn run(&self, group: ArbiterGroup, path: &str, job: impl FnOnce() + Send + 'static) {
        let arbiter = match group {
            ArbiterGroup::Workers => self.worker(path),
            ArbiterGroup::Serving => self.serving.as_ref(),
            ArbiterGroup::Watches => self.watches.as_ref(),
            ArbiterGroup::Leases => self.leases.as_ref(),
        };
        match arbiter {
            // An arbiter ends only with the process' last placement; then nobody wants the job.
            Some(arbiter) => drop(arbiter.send(Box::new(job))),
            None => job(),
        }
    }

    fn worker(&self, path: &str) -> Option<&UnboundedSender<Job>> {
        let mut hasher = DefaultHasher::new();
        path.hash(&mut hasher);
        let count = u64::try_from(self.workers.len()).expect("few arbiters");
        let chosen = hasher.finish().checked_rem(count)?;
        self.workers.get(usize::try_from(chosen).expect("below the count"))
    }
}

fn start_arbiter(name: &str) -> io::Result<UnboundedSender<Job>> {
    // Unbounded, but only starts of units and tasks go through it, never messages.
    let (jobs, mut queue) = unbounded_channel::<Job>();
    let runtime = Builder::new_current_thread().enable_all().build()?;
    thread::Builder::new().name(format!("arbiter-{name}")).spawn(move || {
        let local = LocalSet::new();
        local.block_on(&runtime, async move {
            while let Some(job) = queue.recv().await {
                job();
            }
        });
    })?;
    Ok(jobs)
}
