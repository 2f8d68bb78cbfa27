//! The actors in numbers, under names of our own. Actors of one kind are counted together: there may be thousands.

use troupe_api::metrics::{Collect, Text};

use super::{system::System, totals::KindNumbers};

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
