//! How many images are pulled at once, and how often (upstream's `serializeImagePulls`, `maxParallelImagePulls`, `registryPullQPS`,
//! `registryBurst`).

use std::{
    num::NonZeroU32,
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use tokio::sync::{Semaphore, SemaphorePermit};

use crate::runtime::token_bucket::{Rate, TokenBucket};

/// What pulls may take.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PullPolicy {
    /// At once; `None` for any number.
    pub parallel: Option<NonZeroU32>,
    /// How often; `None` for as often as pods ask for them.
    pub rate: Option<Rate>,
}

/// Lets pulls go on. Share it by `Arc`.
#[derive(Debug)]
pub struct PullGate {
    slots: Option<Semaphore>,
    tokens: Option<Mutex<TokenBucket>>,
}

impl PullGate {
    pub fn new(policy: PullPolicy) -> Self {
        let tokens = policy.rate.map(|rate| TokenBucket::new(rate, Instant::now()));
        let slots = policy.parallel.map(|number| Semaphore::new(usize::try_from(number.get()).unwrap_or(usize::MAX).min(Semaphore::MAX_PERMITS)));
        PullGate { slots, tokens: tokens.map(Mutex::new) }
    }

    /// Waits until a pull may begin, which it may for as long as what this gives is held; how long it waited.
    ///
    /// # Errors
    /// When too many began lately, in upstream's words.
    pub async fn admit(&self) -> Result<(Option<SemaphorePermit<'_>>, Duration), &'static str> {
        let began = Instant::now();
        let slot = match &self.slots {
            // Nobody closes it.
            Some(slots) => slots.acquire().await.ok(),
            None => None,
        };
        if self.tokens.as_ref().is_some_and(|tokens| !tokens.lock().take(Instant::now())) {
            return Err("pull QPS exceeded");
        }
        Ok((slot, began.elapsed()))
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    #[test]
    fn no_more_images_are_pulled_at_once_than_may_be() {
        let gate = PullGate::new(PullPolicy { parallel: NonZeroU32::new(2), ..PullPolicy::default() });
        let now = || gate.admit().now_or_never();
        let (first, second) = (now().expect("at once").expect("is let in"), now().expect("at once").expect("is let in"));
        assert!(now().is_none(), "the third waits");
        drop(first);
        assert!(now().is_some());
        drop(second);
        let free = PullGate::new(PullPolicy::default());
        assert!((0..100).all(|_| free.admit().now_or_never().is_some_and(|admitted| admitted.is_ok())));
    }

    #[test]
    fn pulls_that_come_too_often_fail() {
        let gate = PullGate::new(PullPolicy { rate: NonZeroU32::new(1).map(|per_second| Rate { per_second, burst: 1 }), parallel: None });
        assert!(gate.admit().now_or_never().expect("at once").is_ok());
        assert_eq!(gate.admit().now_or_never().expect("at once").map(drop), Err("pull QPS exceeded"));
    }
}
