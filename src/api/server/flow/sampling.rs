//! How busy priority levels are over time. Upstream counts a level's state at the end of every nanosecond; here it is looked at many times a
//! second, and each look stands for all nanoseconds since the one before.

use std::{
    collections::HashMap,
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Duration,
};

use tokio::time::Instant;

use super::{
    classify::Classifier,
    metrics::{self, Load},
    seats::Level,
};

/// How often levels are looked at.
const EVERY: Duration = Duration::from_millis(100);
/// Over how long peaks and means are told, as upstream adjusts seats.
const PERIOD: Duration = Duration::from_secs(10);

/// The demand for seats of one level during a period.
#[derive(Clone, Copy, Debug, Default)]
struct Demand {
    peak: f64,
    seconds: f64,
    sum: f64,
    squares: f64,
}

impl Demand {
    fn add(&mut self, seats: f64, time: Duration) {
        let seconds = time.as_secs_f64();
        self.peak = self.peak.max(seats);
        self.seconds += seconds;
        self.sum += seats * seconds;
        self.squares += seats * seats * seconds;
    }

    /// The mean and the standard deviation.
    fn spread(&self) -> (f64, f64) {
        if self.seconds == 0.0 {
            return (0.0, 0.0);
        }
        let mean = self.sum / self.seconds;
        (mean, (self.squares / self.seconds - mean * mean).max(0.0).sqrt())
    }
}

/// Looks at the levels of a classifier. Without one running, nothing is told of them over time.
pub struct Sampler {
    classifier: Arc<Classifier>,
    last: Instant,
    period: Instant,
    demands: HashMap<Arc<str>, Demand>,
}

impl Sampler {
    pub fn new(classifier: Arc<Classifier>) -> Self {
        let now = Instant::now();
        Sampler { classifier, last: now, period: now, demands: HashMap::new() }
    }

    /// Looks for ever.
    pub async fn run(mut self) {
        loop {
            tokio::time::sleep(EVERY).await;
            self.look(Instant::now());
        }
    }

    fn look(&mut self, now: Instant) {
        let time = now - self.last;
        self.last = now;
        let levels = self.classifier.current_levels();
        for level in &*levels {
            let load = load(level);
            metrics::sampled(&level.name, load, time);
            self.demands.entry(level.name.clone()).or_default().add(load.demand as f64, time);
        }
        if now - self.period >= PERIOD {
            self.period = now;
            // The series of levels that are gone by now are forgotten already.
            for (level, demand) in self.demands.drain().filter(|(name, _)| levels.iter().any(|level| level.name == *name)) {
                let (mean, deviation) = demand.spread();
                metrics::demanded(&level, demand.peak, mean, deviation);
            }
        }
    }
}

/// The state of a level as of now.
fn load(level: &Level) -> Load {
    let taken = level.room.taken.load(Relaxed);
    let state = level.room.state.lock();
    let waiting: usize = state.queues.all().iter().flat_map(|(_, queue)| queue.waiting()).map(|(work, _)| work.seats()).sum();
    Load {
        nominal: level.bounds.nominal,
        taken,
        demand: taken + waiting,
        executing: state.executing.len(),
        waiting: state.queues.waiting(),
        places: level.bounds.queuing.map_or(0, |queuing| usize::try_from(queuing.queues).unwrap_or(usize::MAX).saturating_mul(queuing.length)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flow::{COLLECTORS, Parts, WorkEstimate, classify::tests::classifier};
    use troupe_api::{
        auth::Attributes,
        metrics::{parse::Samples, render},
        service::UserInfo,
    };

    const LEVEL: &str = "global-default";

    #[tokio::test(start_paused = true)]
    async fn what_a_level_had_to_do_is_told_by_how_long_it_lasted() {
        let classifier = Arc::new(classifier());
        let user = Arc::new(UserInfo { groups: vec!["system:authenticated".into()], ..UserInfo::default() });
        let classified = classifier.classify(&user, &Attributes { verb: "list", resource: "pods", ..Attributes::default() }).expect("is covered");
        let seat = classified.seat(WorkEstimate::ONE, &user, Parts::new([""; 7]), false).await.expect("is free");
        let sampling = tokio::spawn(Sampler::new(classifier.clone()).run());
        tokio::time::sleep(Duration::from_millis(12_050)).await;
        drop(seat);
        tokio::time::sleep(Duration::from_secs(6)).await;
        sampling.abort();
        let page = render(&COLLECTORS);
        let samples = Samples::parse(std::str::from_utf8(&page).expect("text")).expect("parses");
        let value = |name: &str, labels: &[(&str, &str)]| {
            samples.value(&format!("apiserver_flowcontrol_{name}"), &[labels, &[("priority_level", LEVEL)]].concat()).expect("is told")
        };
        assert_eq!(["high_watermark", "average", "stdev"].map(|what| value(&format!("demand_seats_{what}"), &[])), [1.0, 1.0, 0.0]);
        let seconds = |name: &str, bucket: &str| (value(name, &[("phase", "executing"), ("le", bucket)]) / 1e9).round();
        for name in ["priority_level_seat_utilization_bucket", "priority_level_request_utilization_bucket"] {
            assert_eq!((seconds(name, "0"), seconds(name, "+Inf")), (6.0, 18.0), "{name}");
        }
        assert_eq!((value("demand_seats_bucket", &[("le", "0.2")]) / 1e9).round(), 18.0);
    }

    #[test]
    fn means_count_each_state_by_how_long_it_lasted() {
        let mut demand = Demand::default();
        assert_eq!(demand.spread(), (0.0, 0.0));
        demand.add(10.0, Duration::from_secs(1));
        demand.add(2.0, Duration::from_secs(3));
        let (mean, deviation) = demand.spread();
        assert_eq!((demand.peak, mean), (10.0, 4.0));
        assert!((deviation - 12.0_f64.sqrt()).abs() < 1e-9, "{deviation}");
    }
}
