//! An API service that misbehaves by a seed: late calls, conflicts, lost replies, partitions, late, repeated, lost and broken
//! watches.

use std::{sync::Arc, time::Duration};

use futures::{StreamExt, future::BoxFuture, stream};
use parking_lot::Mutex;
use rand::{Rng, SeedableRng, rngs::StdRng};
use tokio::time::Instant;
use troupe_api::{
    ApiReply, ApiService,
    meta::{Cause, GroupResource},
    resources::Registry,
    service::{Announced, ApiCall, Operation, Target, UserInfo, WatchItem, WatchOptions, WatchStream},
    status::Status,
};

/// How often what goes wrong, as probabilities.
#[derive(Clone, Copy, Debug)]
pub struct Faults {
    /// A call or watch item waits a while.
    pub delay: f64,
    pub most_delay: Duration,
    /// A write meets a conflict that nobody caused.
    pub conflict: f64,
    /// A call is carried out, and its reply gets lost.
    pub lost_reply: f64,
    /// A watch item comes twice.
    pub repeat: f64,
    /// A watch ends after an item.
    pub broken_watch: f64,
    /// A watch ends before an item, which does not come.
    pub lost_item: f64,
    /// A call finds the network parted: until it is mended, no call gets through and no watch item comes.
    pub partition: f64,
    pub most_partition: Duration,
}

impl Faults {
    /// Nothing goes wrong.
    pub const NONE: Faults = Faults {
        delay: 0.0,
        most_delay: Duration::ZERO,
        conflict: 0.0,
        lost_reply: 0.0,
        repeat: 0.0,
        broken_watch: 0.0,
        lost_item: 0.0,
        partition: 0.0,
        most_partition: Duration::ZERO,
    };
}

impl Default for Faults {
    fn default() -> Self {
        Faults {
            delay: 0.3,
            most_delay: Duration::from_millis(400),
            conflict: 0.1,
            lost_reply: 0.05,
            repeat: 0.1,
            broken_watch: 0.02,
            lost_item: 0.02,
            partition: 0.01,
            most_partition: Duration::from_secs(20),
        }
    }
}

/// See the module.
pub struct FaultyService {
    inner: Arc<dyn ApiService>,
    dice: Arc<Dice>,
}

struct Dice {
    faults: Mutex<Faults>,
    rng: Mutex<StdRng>,
    parted_until: Mutex<Option<Instant>>,
}

impl Dice {
    fn comes(&self, of: fn(&Faults) -> f64) -> bool {
        let probability = of(&self.faults.lock());
        self.rng.lock().random_bool(probability)
    }

    fn some_of(&self, most: fn(&Faults) -> Duration) -> Duration {
        let most = most(&self.faults.lock());
        most.mul_f64(self.rng.lock().random_range(0.0..1.0))
    }

    /// Until when the network is parted, if it is; it may part now.
    fn parted(&self) -> Option<Instant> {
        let now = Instant::now();
        let mut until = self.parted_until.lock();
        *until = until.filter(|until| *until > now);
        if until.is_none() && self.comes(|faults| faults.partition) {
            *until = Some(now + self.some_of(|faults| faults.most_partition));
        }
        *until
    }

    async fn mended(&self) {
        let until = *self.parted_until.lock();
        if let Some(until) = until {
            tokio::time::sleep_until(until).await;
        }
    }

    async fn delay(&self) {
        let pause = self.comes(|faults| faults.delay).then(|| self.some_of(|faults| faults.most_delay));
        if let Some(pause) = pause {
            tokio::time::sleep(pause).await;
        }
    }
}

impl FaultyService {
    pub fn new(inner: Arc<dyn ApiService>, faults: Faults, seed: u64) -> Arc<Self> {
        Arc::new(FaultyService {
            inner,
            dice: Arc::new(Dice { faults: Mutex::new(faults), rng: Mutex::new(StdRng::seed_from_u64(seed)), parted_until: Mutex::default() }),
        })
    }

    /// Goes wrong like this from now on.
    pub fn set(&self, faults: Faults) {
        *self.dice.faults.lock() = faults;
    }
}

fn is_write(operation: &Operation) -> bool {
    !matches!(operation, Operation::Get { .. } | Operation::List(_))
}

impl ApiService for FaultyService {
    fn call(&self, call: ApiCall) -> BoxFuture<'static, Result<ApiReply, Status>> {
        let (inner, dice) = (self.inner.clone(), self.dice.clone());
        Box::pin(async move {
            dice.delay().await;
            if dice.parted().is_some() {
                return Err(Status::unavailable("the network is parted, says the simulation"));
            }
            let is_update = matches!(call.operation, Operation::Update { .. } | Operation::Patch { .. });
            if is_update && dice.comes(|faults| faults.conflict) {
                let (resource, name) = (call.target.group_resource(), call.target.name.clone());
                return Err(Status::conflict(&resource, &name, "somebody was faster, says the simulation".to_owned()));
            }
            let lost = is_write(&call.operation) && dice.comes(|faults| faults.lost_reply);
            let reply = inner.call(call).await;
            dice.delay().await;
            if lost { Err(Status::timeout("the reply got lost, says the simulation")) } else { reply }
        })
    }

    fn watch(&self, user: Arc<UserInfo>, target: Target, options: WatchOptions, cause: Cause) -> BoxFuture<'static, Result<WatchStream, Status>> {
        let (inner, dice) = (self.inner.clone(), self.dice.clone());
        Box::pin(async move {
            dice.delay().await;
            if dice.parted().is_some() {
                return Err(Status::unavailable("the network is parted, says the simulation"));
            }
            let items = inner.watch(user, target, options, cause).await?;
            Ok(faulty(items, dice))
        })
    }

    fn announced(&self, resources: Vec<GroupResource>) -> BoxFuture<'static, Announced> {
        // A network that is parted tells nobody how far the others are.
        let is_parted = self.dice.parted_until.lock().is_some_and(|until| until > Instant::now());
        if is_parted { Box::pin(std::future::pending()) } else { self.inner.announced(resources) }
    }

    fn registry(&self) -> Arc<Registry> {
        self.inner.registry()
    }
}

fn faulty(items: WatchStream, dice: Arc<Dice>) -> WatchStream {
    let items = items.then(move |item| {
        let dice = dice.clone();
        async move {
            dice.delay().await;
            dice.mended().await;
            // Only changes come twice: the end of the initial list is said once.
            let twice = matches!(item, WatchItem::Event { .. }) && dice.comes(|faults| faults.repeat);
            let lost = dice.comes(|faults| faults.lost_item);
            let last = lost || dice.comes(|faults| faults.broken_watch);
            let again = twice.then(|| item.clone());
            (last, stream::iter([Some(item), again].into_iter().flatten().filter(|_| !lost).collect::<Vec<_>>()))
        }
    });
    // The item at which the stream breaks still comes through.
    let unbroken = items.scan(false, |broken, (last, items)| {
        let ended = std::mem::replace(broken, last);
        futures::future::ready((!ended).then_some(items))
    });
    unbroken.flatten().boxed()
}
