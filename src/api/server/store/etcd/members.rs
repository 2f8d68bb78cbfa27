//! The members of the etcd cluster, and the way an operation finds one that answers.
//!
//! All operations and watches go to one member, the current one, so that what was read there is soon seen by its watch.
//! Whoever finds that it does not answer moves on to the next; a prober does so while nobody asks.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use etcd_client::{Certificate, Client, ConnectOptions, Error, Identity, KvClient, LeaseClient, MaintenanceClient, TlsOptions, WatchClient};
use tokio::{
    sync::watch,
    time::{Instant, sleep, timeout},
};

use super::{EtcdOptions, fault::Fault};
use crate::store::StoreError;

/// etcd calls a client rude that pings more often than every five seconds.
const KEEP_ALIVE: (Duration, Duration) = (Duration::from_secs(6), Duration::from_secs(3));
const CONNECT: Duration = Duration::from_secs(2);
/// A small read that takes longer is tried at the next member.
pub const QUICK: Duration = Duration::from_secs(2);
/// So is a large one. Meanwhile small ones, or the prober, find out whether the member answers at all.
pub const PATIENT: Duration = Duration::from_secs(10);
/// etcd itself gives a write up after 7 s.
const WRITE_ANSWER: Duration = Duration::from_secs(8);
const BACKOFF: Duration = Duration::from_millis(30);
const MAX_BACKOFF: Duration = Duration::from_millis(500);

/// One member's clients.
pub struct Member {
    pub endpoint: String,
    pub kv: KvClient,
    pub lease: LeaseClient,
    pub watch: WatchClient,
    pub maintenance: MaintenanceClient,
}

/// All members.
pub struct Members {
    all: Vec<Member>,
    /// How often the current member was left; the remainder by the number of members names the current one.
    moves: watch::Sender<usize>,
    /// How long an operation looks for a member that answers.
    patience: Duration,
    born: Instant,
    /// Milliseconds since `born` at which some member last answered.
    answered: AtomicU64,
}

impl Members {
    /// Clients for all endpoints. Nothing is connected yet. Call it on the runtime that is to carry the connections.
    pub async fn new(options: &EtcdOptions) -> Result<Self, Error> {
        let mut all = Vec::with_capacity(options.servers.len());
        for server in &options.servers {
            let client = Client::connect([server], Some(connect_options(options))).await?;
            // Ranges come in pages and watches in fragments, so what etcd sends is bounded by what it took.
            let limit = i32::MAX as usize;
            let kv = client.kv_client().max_decoding_message_size(limit);
            let watch = client.watch_client().max_decoding_message_size(limit);
            all.push(Member { endpoint: server.clone(), kv, lease: client.lease_client(), watch, maintenance: client.maintenance_client() });
        }
        if all.is_empty() {
            return Err(Error::InvalidArgs("no etcd server is named".into()));
        }
        let moves = watch::Sender::new(0);
        Ok(Members { all, moves, patience: options.patience, born: Instant::now(), answered: AtomicU64::new(0) })
    }

    /// The current member, and the number to leave it by.
    pub fn current(&self) -> (usize, &Member) {
        let turn = *self.moves.borrow();
        (turn, self.at(turn))
    }

    /// The member that is the current one at `turn`.
    pub fn at(&self, turn: usize) -> &Member {
        &self.all[turn % self.all.len()]
    }

    pub fn all(&self) -> &[Member] {
        &self.all
    }

    /// Tells when the current member changes.
    pub fn changes(&self) -> watch::Receiver<usize> {
        self.moves.subscribe()
    }

    /// Moves on, unless somebody did so already. With one member there is nowhere to go.
    pub fn leave(&self, turn: usize, why: &str) {
        if self.all.len() == 1 {
            return;
        }
        let moved = self.moves.send_if_modified(|now| {
            let same = *now == turn;
            *now += usize::from(same);
            same
        });
        if moved {
            let (from, to) = (&self.at(turn).endpoint, &self.at(turn + 1).endpoint);
            tracing::warn!(%from, %to, why, "an etcd member does not answer, moving on");
        }
    }

    /// Notes that the cluster answered.
    pub fn heard(&self) {
        let now = u64::try_from(self.born.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.answered.fetch_max(now, Ordering::Relaxed);
    }

    /// How long ago the cluster last answered.
    pub fn silence(&self) -> Duration {
        self.born.elapsed().saturating_sub(Duration::from_millis(self.answered.load(Ordering::Relaxed)))
    }

    /// Does what may be done twice, at one member after the other until one answers. Each gets the time `attempt`, or until
    /// somebody else moves on.
    pub async fn read<T, F>(&self, attempt: Duration, call: impl Fn(&Member) -> F) -> Result<T, Fault>
    where
        F: Future<Output = Result<T, Error>>,
    {
        let mut search = MemberSearch::new(self.patience);
        let mut moves = self.changes();
        loop {
            let turn = *moves.borrow_and_update();
            let member = self.at(turn);
            let answer = tokio::select! {
                answer = timeout(attempt, call(member)) => answer,
                Ok(()) = moves.changed() => {
                    search.go_on("etcd's members do not answer".into()).await.map_err(Fault::NotDone)?;
                    continue;
                }
            };
            let why = match answer {
                Ok(Ok(answer)) => {
                    self.heard();
                    return Ok(answer);
                }
                Ok(Err(error)) => match Fault::of(&error) {
                    Fault::NotDone(why) | Fault::Unclear(why) => why,
                    answer => return Err(answer),
                },
                Err(_) => format!("{} does not answer", member.endpoint),
            };
            self.leave(turn, &why);
            search.go_on(why).await.map_err(Fault::NotDone)?;
        }
    }

    /// Does what must not be done twice: it goes on to another member only where it was certainly not done.
    pub async fn write<T, F>(&self, call: impl Fn(&Member) -> F) -> Result<T, Fault>
    where
        F: Future<Output = Result<T, Error>>,
    {
        let mut search = MemberSearch::new(self.patience);
        loop {
            let (turn, member) = self.current();
            let fault = match timeout(WRITE_ANSWER, call(member)).await {
                Ok(Ok(answer)) => {
                    self.heard();
                    return Ok(answer);
                }
                Ok(Err(error)) => Fault::of(&error),
                Err(_) => Fault::Unclear(format!("{} does not answer", member.endpoint)),
            };
            match fault {
                Fault::NotDone(why) => {
                    self.leave(turn, &why);
                    search.go_on(why).await.map_err(Fault::NotDone)?;
                }
                Fault::Unclear(why) => {
                    self.leave(turn, &why);
                    return Err(Fault::Unclear(why));
                }
                answer => return Err(answer),
            }
        }
    }
}

/// The search for a member that answers: when to try again, and when to give up.
struct MemberSearch {
    until: Instant,
    backoff: Duration,
}

impl MemberSearch {
    fn new(patience: Duration) -> Self {
        MemberSearch { until: Instant::now() + patience, backoff: BACKOFF }
    }

    /// Waits a little; an error with the last reason when the time is up.
    async fn go_on(&mut self, why: String) -> Result<(), String> {
        if Instant::now() + self.backoff > self.until {
            return Err(why);
        }
        sleep(self.backoff).await;
        self.backoff = (self.backoff * 2).min(MAX_BACKOFF);
        Ok(())
    }
}

fn connect_options(options: &EtcdOptions) -> ConnectOptions {
    let mut connect = ConnectOptions::new()
        .with_connect_timeout(CONNECT)
        .with_keep_alive(KEEP_ALIVE.0, KEEP_ALIVE.1)
        .with_keep_alive_while_idle(false)
        // A member cut off from the others says so instead of keeping us waiting.
        .with_require_leader(true);
    if let Some(tls) = &options.tls {
        let mut config = TlsOptions::new().ca_certificate(Certificate::from_pem(&tls.ca_pem));
        if let Some(identity) = &tls.identity {
            config = config.identity(Identity::from_pem(&identity.certificate_pem, &identity.key_pem));
        }
        connect = connect.with_tls(config);
    }
    connect
}

/// As [`StoreError`], for a read.
pub fn read_error(fault: Fault) -> StoreError {
    fault.into_store_error(false)
}

/// As [`StoreError`], for a write.
pub fn write_error(fault: Fault) -> StoreError {
    fault.into_store_error(true)
}
