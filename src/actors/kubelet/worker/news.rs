//! What a worker acts upon: the newest news of its pod, so that traces tell why a container was started.

use std::time::{Duration, Instant};

use troupe_api::meta::Cause;

use crate::runtime::system::System;

/// After so long in peace, what happens next has other reasons than the last news: a container crashed, a probe failed.
const FRESH: Duration = Duration::from_secs(60);

/// The cause of what a worker does now.
#[derive(Debug, Default)]
pub(super) struct News {
    cause: Cause,
    since: Option<Instant>,
}

impl News {
    /// Something woke the worker; only what has a cause is news.
    pub fn heard(&mut self, cause: &Cause, system: &System) {
        if cause.trace != 0 || cause.object.is_some() {
            self.cause = if cause.trace == 0 { system.next_cause(cause) } else { cause.clone() };
            self.since = Some(system.instant());
        }
    }

    /// What the next step is done for: the last news while it is fresh or still acted upon, else a trace of its own.
    pub fn cause(&mut self, system: &System) -> Cause {
        let now = system.instant();
        if self.since.is_none_or(|since| now.saturating_duration_since(since) > FRESH) {
            self.cause = system.next_cause(&Cause::default());
        }
        self.since = Some(now);
        self.cause.clone()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use troupe_api::meta::{ObjectKey, ObjectVersion, Revision, SystemClock};

    use super::*;
    use crate::runtime::system::SystemOptions;

    #[tokio::test(start_paused = true)]
    async fn steps_belong_to_the_last_news_until_the_pod_was_left_in_peace() {
        let system = System::new(SystemOptions::local(1, Arc::new(SystemClock))).expect("starts");
        let version = ObjectVersion { resource: "pods".into(), key: ObjectKey::new("a", "b"), revision: Revision(7) };
        let bound = Cause::root().with_object(Arc::new(version));
        let mut news = News::default();
        news.heard(&bound, &system);
        news.heard(&Cause::default(), &system);
        assert_eq!(news.cause(&system), bound);
        tokio::time::advance(FRESH / 2).await;
        assert_eq!(news.cause(&system), bound);
        tokio::time::advance(FRESH * 2).await;
        let later = news.cause(&system);
        assert!(later.trace != 0 && later.trace != bound.trace && later.object.is_none());
        assert_eq!(news.cause(&system), later);
    }
}
