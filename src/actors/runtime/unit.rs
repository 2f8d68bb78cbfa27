//! How the failures of a supervised unit are treated.

use std::{fmt, sync::Arc, time::Duration};

use super::placement::ArbiterGroup;

/// How a host treats the failures of its unit, how long its mailbox is, and where it runs.
#[derive(Clone, Debug)]
pub struct Policy {
    /// Pause before the first restart; doubles with each failure in the window.
    pub backoff: Duration,
    pub max_backoff: Duration,
    /// More failures than this within `window` escalate to the parent, or lead into quarantine.
    pub intensity: usize,
    pub window: Duration,
    /// For units of which there is one per object: what fails with one object must not take the others along.
    pub quarantine: Option<Quarantine>,
    /// Messages that `ask` and `try_tell` may queue.
    pub mailbox: usize,
    /// Which arbiters it may run on.
    pub group: ArbiterGroup,
}

/// Hears a unit's path and why it is set aside.
pub type Told = Arc<dyn Fn(&str, &str) + Send + Sync>;

/// How a unit is set aside that failed too often.
#[derive(Clone)]
pub struct Quarantine {
    /// The pause between two tries.
    pub pause: Duration,
    /// Called once for each time it is set aside.
    pub tell: Told,
}

impl fmt::Debug for Quarantine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Quarantine").field("pause", &self.pause).finish_non_exhaustive()
    }
}

impl Default for Policy {
    fn default() -> Self {
        Policy {
            backoff: Duration::from_millis(50),
            max_backoff: Duration::from_secs(10),
            intensity: 10,
            window: Duration::from_secs(60),
            quarantine: None,
            mailbox: 1024,
            group: ArbiterGroup::default(),
        }
    }
}

impl Policy {
    /// For units of which there is one per object. `tell` hears why one is set aside.
    pub fn per_object(tell: impl Fn(&str) + Send + Sync + 'static) -> Self {
        Policy::per_object_at(move |_, why| tell(why))
    }

    /// The same where very many units share one policy: `tell` hears the path of the one that is set aside, and why.
    pub fn per_object_at(tell: impl Fn(&str, &str) + Send + Sync + 'static) -> Self {
        let quarantine = Quarantine { pause: Duration::from_secs(300), tell: Arc::new(tell) };
        Policy { intensity: 5, quarantine: Some(quarantine), ..Policy::default() }
    }

    /// The pause before restart number `failures` (1 for the first) within the window; `jitter` in 0..1 adds up to a half.
    pub fn pause(&self, failures: usize, jitter: f64) -> Duration {
        let doubled = self.backoff.saturating_mul(1 << failures.saturating_sub(1).min(16));
        doubled.min(self.max_backoff).mul_f64(1.0 + jitter.clamp(0.0, 1.0) / 2.0)
    }
}
