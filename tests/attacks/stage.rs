//! The cluster under attack: its daemon lives in a memory cgroup, and an attack is watched by a witness.

use std::{
    fs,
    ops::Deref,
    sync::{Arc, Mutex, MutexGuard, Once, PoisonError},
    time::{Duration, Instant},
};

use serde_json::json;

use crate::{
    caller::Caller,
    cluster::Cluster,
    memory_group::MemoryGroup,
    stalls::Stalls,
    witness::{self, Witness},
};

/// What the daemon may use, in bytes.
pub const MEMORY: u64 = 1 << 30;

/// A cluster whose daemon is held to [`MEMORY`].
pub struct Stage {
    // The cluster ends before its group is removed.
    cluster: Cluster,
    _memory: MemoryGroup,
}

impl Deref for Stage {
    type Target = Cluster;

    fn deref(&self) -> &Cluster {
        &self.cluster
    }
}

/// The shared stage, for one test at a time.
pub struct Turn {
    stage: Arc<Stage>,
    _turn: MutexGuard<'static, ()>,
}

/// The shared stage between two tests, and how many have used it.
struct Kept {
    stage: Arc<Stage>,
    tests: u32,
}

static KEPT: Mutex<Option<Kept>> = Mutex::new(None);
/// What so many attacks left behind is enough: the next test gets a new stage.
const TESTS: u32 = 12;
/// How long a test waits for the end of what others left.
const REST: Duration = Duration::from_secs(60);
/// The processor time in a second of a daemon that nobody asks for anything.
const IDLE: Duration = Duration::from_millis(250);

impl Deref for Turn {
    type Target = Stage;

    fn deref(&self) -> &Stage {
        &self.stage
    }
}

/// What an attack took.
#[derive(Debug)]
pub struct Toll {
    /// How far the daemon's resident memory rose above what it was before, at its highest, in bytes.
    pub memory: u64,
    /// Processor time of the daemon.
    pub processor: Duration,
    /// How long the attack went on.
    pub took: Duration,
}

/// Waits for a turn at the shared stage. Tests use namespaces of their own there, and leave nothing outside of them. It stays for the next
/// test, unless one failed there, and is gone when the process ends.
pub fn shared() -> Turn {
    static TURN: Mutex<()> = Mutex::new(());
    static AT_EXIT: Once = Once::new();
    // A failed test poisons nothing: the next one sees for itself whether the daemon lives.
    let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    // SAFETY: the handler is a function of this program; it takes no arguments and does not unwind.
    AT_EXIT.call_once(|| assert_eq!(unsafe { libc::atexit(leave) }, 0, "the stage is taken down at the end"));
    let mut kept = kept().take().filter(|kept| kept.tests < TESTS && kept.stage.lives());
    let kept = kept.get_or_insert_with(|| Kept { stage: Arc::new(Stage::up()), tests: 0 });
    let stage = kept.stage.clone();
    stage.come_to_rest();
    *self::kept() = Some(Kept { stage: stage.clone(), tests: kept.tests + 1 });
    Turn { stage, _turn: turn }
}

fn kept() -> MutexGuard<'static, Option<Kept>> {
    KEPT.lock().unwrap_or_else(PoisonError::into_inner)
}

extern "C" fn leave() {
    drop(kept().take());
}

impl Drop for Turn {
    fn drop(&mut self) {
        if std::thread::panicking() {
            drop(kept().take());
        }
    }
}

impl Stage {
    /// A stage of a test's own, for attacks that leave traces.
    pub fn up() -> Self {
        Stage::up_with(&[])
    }

    /// The same with further flags of `troupe up`.
    pub fn up_with(flags: &[&str]) -> Self {
        let mut cluster = Cluster::place();
        let memory = MemoryGroup::with_limit(&format!("{}-daemon", cluster.namespace()), MEMORY);
        cluster.hold_daemons_in(memory.processes());
        cluster.start_with(flags);
        Stage { cluster, _memory: memory }
    }

    /// A namespace with its service account, made for one test and deleted with it.
    pub fn room(&self, name: &str) -> Room<'_> {
        self.kubectl(&format!("create namespace {name}"));
        self.eventually_has("serviceaccount/default", name);
        Room { stage: self, name: name.to_owned() }
    }

    /// An account without any rights of its own, in a namespace.
    pub fn stranger(&self, namespace: &str) -> Caller {
        let path = format!("/api/v1/namespaces/{namespace}/serviceaccounts/default/token");
        let request = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {}});
        let reply = Caller::administrator(self).json("POST", &path, &request);
        assert_eq!(reply.status, 201, "{reply:?}");
        Caller::with_token(self, reply.json()["status"]["token"].as_str().expect("a token"))
    }

    /// Attacks while a witness looks on: afterwards the daemon is the same process, and the witness waited no longer than
    /// [`witness::LIMIT`] for 99 of 100 requests, beside what the machine itself held up.
    pub fn attack<T>(&self, attack: impl FnOnce() -> T) -> (T, Toll) {
        let pid = self.pid();
        let (witness, stalls) = (Witness::of(self), Stalls::on(self.dir()));
        let (result, toll) = self.toll_of(attack);
        let (p99, stalled) = (witness.p99(), stalls.longest());
        assert_eq!(self.living(), pid, "the daemon lives on");
        assert!(p99 < witness::LIMIT + stalled, "the witness waited {p99:?}, of which the machine took {stalled:?}; the attack took {toll:?}");
        (result, toll)
    }

    /// The same for an attack that can be made again, which must not take `memory` bytes: what else the daemon did meanwhile is not there each of
    /// three times, what the attack costs is.
    pub fn attack_within<T>(&self, memory: u64, attack: impl Fn() -> T) -> (T, Toll) {
        let tries = (0..3).map(|_| self.attack(&attack));
        let mut best: Option<(T, Toll)> = None;
        for (result, toll) in tries {
            let fits = toll.memory < memory;
            if best.as_ref().is_none_or(|(_, before)| toll.memory < before.memory) {
                best = Some((result, toll));
            }
            if fits {
                break;
            }
        }
        best.expect("three tries")
    }

    /// What some work costs the daemon.
    pub fn toll_of<T>(&self, work: impl FnOnce() -> T) -> (T, Toll) {
        let pid = self.pid();
        let began = (memory(&pid, "VmRSS"), processor(&pid), Instant::now());
        // 5 resets the mark of the highest resident size.
        fs::write(format!("/proc/{pid}/clear_refs"), "5").expect("the daemon lives");
        let result = work();
        let toll = Toll {
            memory: memory(&pid, "VmHWM").saturating_sub(began.0),
            processor: processor(&pid).saturating_sub(began.1),
            took: began.2.elapsed(),
        };
        (result, toll)
    }

    /// Waits until what earlier tests left is taken away, or waits for something else, such as the end of a pod's grace: what the daemon still
    /// has to do with it would count as a cost of the next attack.
    fn come_to_rest(&self) {
        let deadline = Instant::now() + REST;
        while Instant::now() < deadline {
            let listed = self.kubectl_output("get namespaces -o jsonpath={.items[*].status.phase}");
            if listed.status.success() && !String::from_utf8_lossy(&listed.stdout).contains("Terminating") {
                return;
            }
            let (_, toll) = self.toll_of(|| std::thread::sleep(Duration::from_secs(1)));
            if toll.processor < IDLE {
                return;
            }
        }
    }

    /// Whether there is a daemon that answers.
    fn lives(&self) -> bool {
        let pid = fs::read_to_string(self.path("run/troupe.pid")).unwrap_or_default();
        memory(pid.trim(), "VmRSS") > 0
    }

    /// The daemon's process id, if that process lives.
    fn living(&self) -> String {
        let pid = self.pid();
        assert!(memory(&pid, "VmRSS") > 0, "the daemon is dead");
        pid
    }
}

/// A field of `/proc/PID/status`, in bytes; 0 for a process that is gone.
fn memory(pid: &str, field: &str) -> u64 {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
    line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok()).unwrap_or(0) * 1024
}

/// User and system time that a process has used; zero for one that is gone.
fn processor(pid: &str) -> Duration {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // The name, in parentheses, may have spaces; user and system time are fields 14 and 15, in hundredths of a second.
    let fields: Vec<&str> = text.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let ticks = |at: usize| fields.get(at).and_then(|field| field.parse::<u64>().ok()).unwrap_or(0);
    Duration::from_millis((ticks(11) + ticks(12)) * 10)
}

/// A namespace that is deleted when dropped.
pub struct Room<'a> {
    stage: &'a Stage,
    pub name: String,
}

impl Drop for Room<'_> {
    fn drop(&mut self) {
        // What is left of it goes with the cluster.
        let _ = self.stage.kubectl_output(&format!("delete namespace {} --wait=false", self.name));
    }
}
