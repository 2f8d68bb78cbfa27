//! What flow control counts, under upstream's names.

use std::{sync::Arc, time::Duration};

use troupe_api::metrics::{Collect, Counter, Departures, Family, Gauge, Histogram, SeriesLabels};

const BOTH: [&str; 2] = ["priority_level", "flow_schema"];
const SECONDS: [f64; 13] = [0.0, 0.005, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 15.0, 30.0];

static EXECUTING_REQUESTS: Family<Gauge> = Family::new(
    "apiserver_flowcontrol_current_executing_requests",
    "Number of requests in initial (for a WATCH) or any (for a non-WATCH) execution stage in the API Priority and Fairness subsystem",
    &BOTH,
);
static EXECUTING_SEATS: Family<Gauge> = Family::new(
    "apiserver_flowcontrol_current_executing_seats",
    "Concurrency (number of seats) occupied by the currently executing (initial stage for a WATCH, any stage otherwise) requests in the API Priority and Fairness subsystem",
    &BOTH,
);
static WAITING: Family<Gauge> = Family::new(
    "apiserver_flowcontrol_current_inqueue_requests",
    "Number of requests currently pending in queues of the API Priority and Fairness subsystem",
    &BOTH,
);
static WAITING_SEATS: Family<Gauge> = Family::new(
    "apiserver_flowcontrol_current_inqueue_seats",
    "Number of seats currently pending in queues of the API Priority and Fairness subsystem",
    &BOTH,
);
static QUEUE_LENGTH: Family<Histogram> = Family::histogram(
    "apiserver_flowcontrol_request_queue_length_after_enqueue",
    "Length of queue in the API Priority and Fairness subsystem, as seen by each request after it is enqueued",
    &BOTH,
    &[0.0, 10.0, 25.0, 50.0, 100.0, 250.0, 500.0, 1000.0],
);
static WAITED: Family<Histogram> = Family::histogram(
    "apiserver_flowcontrol_request_wait_duration_seconds",
    "Length of time a request spent waiting in its queue",
    &["priority_level", "flow_schema", "execute"],
    &SECONDS,
);
static TOOK: Family<Histogram> = Family::histogram(
    "apiserver_flowcontrol_request_execution_seconds",
    "Duration of initial stage (for a WATCH) or any (for a non-WATCH) stage of request execution in the API Priority and Fairness subsystem",
    &["priority_level", "flow_schema", "type"],
    &SECONDS,
);
static WATCH_COUNTS: Family<Histogram> = Family::histogram(
    "apiserver_flowcontrol_watch_count_samples",
    "count of watchers for mutating requests in API Priority and Fairness",
    &BOTH,
    &[0.0, 1.0, 10.0, 100.0, 1000.0, 10000.0],
);
static ESTIMATED: Family<Histogram> = Family::histogram(
    "apiserver_flowcontrol_work_estimated_seats",
    "Number of estimated seats (maximum of initial and final seats) associated with requests in API Priority and Fairness",
    &BOTH,
    &[1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 100.0],
);
static NO_ACCOMMODATION: Family<Counter> = Family::new(
    "apiserver_flowcontrol_request_dispatch_no_accommodation_total",
    "Number of times a dispatch attempt resulted in a non accommodation due to lack of available seats",
    &BOTH,
);
static DISPATCHED: Family<Counter> =
    Family::new("apiserver_flowcontrol_dispatched_requests_total", "Number of requests executed by API Priority and Fairness subsystem", &BOTH);
static LOWER: Family<Gauge> = Family::new(
    "apiserver_flowcontrol_lower_limit_seats",
    "Configured lower bound on number of execution seats available to each priority level",
    &["priority_level"],
);
static NOMINAL: Family<Gauge> = Family::new(
    "apiserver_flowcontrol_nominal_limit_seats",
    "Nominal number of execution seats configured for each priority level",
    &["priority_level"],
);
static REJECTED: Family<Counter> = Family::new(
    "apiserver_flowcontrol_rejected_requests_total",
    "Number of requests rejected by API Priority and Fairness subsystem",
    &["priority_level", "flow_schema", "reason"],
);
static UPPER: Family<Gauge> = Family::new(
    "apiserver_flowcontrol_upper_limit_seats",
    "Configured upper bound on number of execution seats available to each priority level",
    &["priority_level"],
);

static DEMAND: Family<Histogram> = Family::histogram(
    "apiserver_flowcontrol_demand_seats",
    "Observations, at the end of every nanosecond, of (the number of seats each priority level could use) / (nominal number of seats for that level)",
    &["priority_level"],
    &[0.2, 0.4, 0.6, 0.8, 1.0, 1.2, 1.4, 1.7, 2.0, 2.8, 4.0, 6.0],
);
static DEMAND_AVERAGE: Family<Gauge> = Family::new(
    "apiserver_flowcontrol_demand_seats_average",
    "Time-weighted average, over last adjustment period, of demand_seats",
    &["priority_level"],
);
static DEMAND_HIGH_WATERMARK: Family<Gauge> = Family::new(
    "apiserver_flowcontrol_demand_seats_high_watermark",
    "High watermark, over last adjustment period, of demand_seats",
    &["priority_level"],
);
static DEMAND_DEVIATION: Family<Gauge> = Family::new(
    "apiserver_flowcontrol_demand_seats_stdev",
    "Time-weighted standard deviation, over last adjustment period, of demand_seats",
    &["priority_level"],
);
static REQUEST_UTILIZATION: Family<Histogram> = Family::histogram(
    "apiserver_flowcontrol_priority_level_request_utilization",
    "Observations, at the end of every nanosecond, of number of requests (as a fraction of the relevant limit) waiting or in any stage of execution (but only initial stage for WATCHes)",
    &["phase", "priority_level"],
    &[0.0, 0.001, 0.003, 0.01, 0.03, 0.1, 0.25, 0.5, 0.75, 1.0],
);
static SEAT_UTILIZATION: Family<Histogram> = Family::histogram(
    "apiserver_flowcontrol_priority_level_seat_utilization",
    "Observations, at the end of every nanosecond, of utilization of seats for any stage of execution (but only initial stage for WATCHes)",
    &["phase", "priority_level"],
    &[0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99, 1.0],
);

/// What flow control counts.
pub static COLLECTORS: [&dyn Collect; 21] = [
    &EXECUTING_REQUESTS,
    &EXECUTING_SEATS,
    &WAITING,
    &WAITING_SEATS,
    &DEMAND,
    &DEMAND_AVERAGE,
    &DEMAND_HIGH_WATERMARK,
    &DEMAND_DEVIATION,
    &DISPATCHED,
    &LOWER,
    &NOMINAL,
    &REQUEST_UTILIZATION,
    &SEAT_UTILIZATION,
    &REJECTED,
    &NO_ACCOMMODATION,
    &TOOK,
    &QUEUE_LENGTH,
    &WAITED,
    &UPPER,
    &WATCH_COUNTS,
    &ESTIMATED,
];

/// Forgets the series of schemas and levels that are gone.
pub fn forget(gone: &Departures<Named>) {
    let is_gone = |labels: &SeriesLabels<'_>| {
        gone.gone().any(|named| match named {
            Named::Schema(name) => labels.get("flow_schema") == Some(name),
            Named::Level(name) => labels.get("priority_level") == Some(name),
        })
    };
    COLLECTORS.iter().for_each(|family| family.forget(&is_gone));
}

/// What series are named by.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Named {
    Schema(Arc<str>),
    Level(Arc<str>),
}

/// The series of one flow schema.
#[derive(Debug)]
pub struct SchemaSeries {
    /// The level that it belongs to.
    pub level: Arc<str>,
    pub executing: &'static Gauge,
    pub seats: &'static Gauge,
    pub waiting: &'static Gauge,
    pub waiting_seats: &'static Gauge,
    pub queue_length: &'static Histogram,
    pub waited: &'static Histogram,
    pub waited_in_vain: &'static Histogram,
    pub took: &'static Histogram,
    pub watches_took: &'static Histogram,
    pub watch_counts: &'static Histogram,
    pub estimated: &'static Histogram,
    pub no_accommodation: &'static Counter,
    pub dispatched: &'static Counter,
}

impl SchemaSeries {
    pub fn of(level: &str, schema: &str) -> Self {
        let labels = [level, schema];
        SchemaSeries {
            level: level.into(),
            executing: EXECUTING_REQUESTS.with(&labels),
            seats: EXECUTING_SEATS.with(&labels),
            waiting: WAITING.with(&labels),
            waiting_seats: WAITING_SEATS.with(&labels),
            queue_length: QUEUE_LENGTH.with(&labels),
            waited: WAITED.with(&[level, schema, "true"]),
            waited_in_vain: WAITED.with(&[level, schema, "false"]),
            took: TOOK.with(&[level, schema, "regular"]),
            watches_took: TOOK.with(&[level, schema, "watch"]),
            watch_counts: WATCH_COUNTS.with(&labels),
            estimated: ESTIMATED.with(&labels),
            no_accommodation: NO_ACCOMMODATION.with(&labels),
            dispatched: DISPATCHED.with(&labels),
        }
    }
}

/// A request was sent away.
pub fn rejected(level: &str, schema: &str, reason: &str) {
    REJECTED.with(&[level, schema, reason]).increment();
}

/// The seats of a level are so many now.
pub fn limits(level: &str, lower: usize, nominal: usize, upper: usize) {
    LOWER.with(&[level]).set_count(lower);
    NOMINAL.with(&[level]).set_count(nominal);
    UPPER.with(&[level]).set_count(upper);
}

/// The state of a level at some moment.
#[derive(Clone, Copy, Debug)]
pub struct Load {
    pub nominal: usize,
    /// Seats that are taken.
    pub taken: usize,
    /// The same with those that are waited for.
    pub demand: usize,
    /// Requests in work, those that wait, and how many may wait.
    pub executing: usize,
    pub waiting: usize,
    pub places: usize,
}

/// A level was in a state for so long.
pub fn sampled(level: &str, load: Load, time: Duration) {
    let times = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
    let ratio = |part: usize, whole: usize| part as f64 / whole.max(1) as f64;
    // With what it borrows it has more than its own.
    let seats = load.nominal.max(load.taken);
    DEMAND.with(&[level]).observe_repeatedly(ratio(load.demand, load.nominal), times);
    SEAT_UTILIZATION.with(&["executing", level]).observe_repeatedly(ratio(load.taken, seats), times);
    REQUEST_UTILIZATION.with(&["executing", level]).observe_repeatedly(ratio(load.executing, seats), times);
    if load.places > 0 {
        REQUEST_UTILIZATION.with(&["waiting", level]).observe_repeatedly(ratio(load.waiting, load.places), times);
    }
}

/// What a level could have used during a period: at most, in the mean, and how far from that.
pub fn demanded(level: &str, peak: f64, mean: f64, deviation: f64) {
    DEMAND_HIGH_WATERMARK.with(&[level]).set(peak);
    DEMAND_AVERAGE.with(&[level]).set(mean);
    DEMAND_DEVIATION.with(&[level]).set(deviation);
}
