//! The actors in numbers, under names of our own, and the caches that are none. Actors of one kind are counted together: there may be
//! thousands. So are caches of one path.

use std::{collections::BTreeMap, sync::Arc};

use troupe_api::metrics::{Collect, Text};

use super::{freshness::FreshnessNumbers, system::System, totals::KindNumbers};

/// Tells of a system's actors.
#[derive(Clone)]
pub struct ActorMetrics(pub System);

impl Collect for ActorMetrics {
    #[allow(clippy::cast_precision_loss, reason = "counts of living things are small")]
    fn collect(&self, text: &mut Text) {
        let totals = self.0.directory().totals();
        let mut family = |name: &str, help: &str, kind: &str, value: &dyn Fn(&KindNumbers) -> f64| {
            text.family(name, help, kind);
            for (of, numbers) in &totals {
                text.sample(name, &[("actor", &of.place), ("unit", of.unit)], value(numbers));
            }
        };
        family("troupe_actor_count", "Living actors of a kind.", "gauge", &|numbers| numbers.actors as f64);
        family("troupe_actor_handled_total", "Messages that actors of a kind have handled.", "counter", &|numbers| numbers.handled as f64);
        family("troupe_actor_mailbox_depth", "Messages waiting in the mailboxes of a kind of actor.", "gauge", &|numbers| numbers.mailbox as f64);
        let help = "Age of the oldest message in the mailboxes of a kind of actor.";
        family("troupe_actor_mailbox_oldest_seconds", help, "gauge", &|numbers| numbers.oldest.as_secs_f64());
        family("troupe_actor_restarts_total", "Restarts of actors of a kind after a failure.", "counter", &|numbers| numbers.restarts as f64);
    }
}

/// Tells how far the caches of a system are behind their sources, as [`super::lag`] has it.
#[derive(Clone)]
pub struct CacheMetrics(pub System);

impl Collect for CacheMetrics {
    #[allow(clippy::cast_precision_loss, reason = "counts of rare things are small")]
    fn collect(&self, text: &mut Text) {
        let now = self.0.instant();
        let mut caches = BTreeMap::<Arc<str>, FreshnessNumbers>::new();
        for cache in self.0.directory().caches() {
            let (numbers, all) = (cache.numbers(now), caches.entry(cache.path().clone()).or_default());
            all.behind = all.behind.max(numbers.behind);
            all.episodes += numbers.episodes;
            all.replaced += numbers.replaced;
        }
        let mut family = |name: &str, help: &str, kind: &str, value: &dyn Fn(&FreshnessNumbers) -> f64| {
            text.family(name, help, kind);
            for (cache, numbers) in &caches {
                text.sample(name, &[("cache", cache)], value(numbers));
            }
        };
        let help = "Time since a change that a cache lacks was first known to lie at its source.";
        family("troupe_cache_lag_seconds", help, "gauge", &|numbers| numbers.behind.as_secs_f64());
        let help = "How often a cache was a second behind its source.";
        family("troupe_cache_lag_episodes_total", help, "counter", &|numbers| numbers.episodes as f64);
        let help = "Watches of a cache that were replaced because they were stuck.";
        family("troupe_cache_watch_replacements_total", help, "counter", &|numbers| numbers.replaced as f64);
    }
}

#[cfg(test)]
mod tests {
    use std::{sync::Arc, time::Duration};

    use actix::Message;
    use troupe_api::{
        meta::{Cause, SystemClock},
        metrics::{parse::Samples, render},
    };

    use super::*;
    use crate::runtime::{
        envelope::Reply,
        host::{On, Unit, UnitContext},
        system::SystemOptions,
        unit::Policy,
    };

    struct Echo;

    impl Unit for Echo {}

    #[derive(Message)]
    #[rtype(result = "()")]
    struct Ping;

    impl On<Ping> for Echo {
        fn on(&mut self, _: Ping, _: &mut UnitContext<'_, Self>) -> Reply<()> {
            Reply::Now(())
        }
    }

    fn scrape(system: &System) -> Samples {
        let text = render(&[&ActorMetrics(system.clone())]);
        Samples::parse(std::str::from_utf8(&text).expect("text")).expect("parses")
    }

    #[actix::test]
    async fn actors_of_a_kind_count_together_and_their_totals_outlive_them() {
        let system = System::new(SystemOptions::local(1, Arc::new(SystemClock))).expect("no threads are started");
        let units: Vec<_> = (0..3).map(|number| system.spawn(format!("test/echo/{number}"), Policy::default(), |_| Echo)).collect();
        for unit in &units {
            unit.ask(Ping, Cause::default()).await.expect("it lives");
        }
        let labels = [("actor", "test/echo"), ("unit", "Echo")];
        let samples = scrape(&system);
        assert_eq!(samples.value("troupe_actor_count", &labels), Some(3.0));
        assert_eq!(samples.value("troupe_actor_handled_total", &labels), Some(3.0));
        assert_eq!(samples.value("troupe_actor_restarts_total", &labels), Some(0.0));
        assert!(system.shutdown(Duration::from_secs(5)).await);
        let samples = scrape(&system);
        assert_eq!(samples.value("troupe_actor_count", &labels), Some(0.0));
        assert_eq!(samples.value("troupe_actor_handled_total", &labels), Some(3.0));
    }
}
