//! Log files that are followed, each looked at once however many follow it: whether it has grown or given way to another one, and whether
//! its container still runs.

use std::{
    collections::HashMap,
    os::unix::fs::MetadataExt,
    path::PathBuf,
    sync::{Arc, LazyLock, Weak},
    time::Duration,
};

use parking_lot::Mutex;
use tokio::{
    sync::watch,
    time::{Instant, sleep},
};

use crate::kubelet::server::directory::{LogFile, PodDirectory};

/// How often a followed file is looked at.
const POLL: Duration = Duration::from_millis(100);
/// How often the runtime is asked whether the container still runs.
const ALIVE: Duration = Duration::from_millis(500);

/// By path and container.
type Known = Mutex<HashMap<(PathBuf, String), Weak<Watched>>>;

static WATCHED: LazyLock<Known> = LazyLock::new(Known::default);

/// What was seen of a log at last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seen {
    /// Device, number and length of the file; nothing while there is none.
    file: Option<(u64, u64, u64)>,
    /// More may be written to it.
    pub is_running: bool,
}

/// A log that is looked at as long as somebody holds this.
#[derive(Debug)]
pub struct Watched {
    seen: watch::Receiver<Seen>,
}

impl Watched {
    /// The one that all share who follow this log.
    pub fn of(log: &LogFile, pods: &Arc<dyn PodDirectory>) -> Arc<Self> {
        let key = (log.path.clone(), log.container_id.clone());
        let mut watched = WATCHED.lock();
        if let Some(known) = watched.get(&key).and_then(Weak::upgrade) {
            return known;
        }
        watched.retain(|_, known| known.strong_count() > 0);
        let (sender, seen) = watch::channel(Seen { file: None, is_running: true });
        tokio::spawn(look(log.clone(), pods.clone(), sender));
        let new = Arc::new(Watched { seen });
        watched.insert(key, Arc::downgrade(&new));
        new
    }

    /// What is seen, and all that follows.
    pub fn seen(&self) -> watch::Receiver<Seen> {
        self.seen.clone()
    }
}

async fn look(log: LogFile, pods: Arc<dyn PodDirectory>, seen: watch::Sender<Seen>) {
    let mut asked = Instant::now();
    let mut is_running = true;
    loop {
        if is_running && asked.elapsed() >= ALIVE {
            is_running = pods.is_running(&log.container_id).await;
            asked = Instant::now();
        }
        let file = tokio::fs::symlink_metadata(&log.path).await.ok().map(|found| (found.dev(), found.ino(), found.len()));
        let now = Seen { file, is_running };
        seen.send_if_modified(|before| std::mem::replace(before, now) != now);
        tokio::select! {
            () = sleep(POLL) => {}
            () = seen.closed() => return,
        }
    }
}
