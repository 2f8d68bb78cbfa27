//! What flow control counts, under upstream's names.

use std::sync::Arc;

use crate::metrics::{Collect, Counter, Departures, Family, Gauge, SeriesLabels};

const BOTH: [&str; 2] = ["priority_level", "flow_schema"];

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

/// What flow control counts.
pub static COLLECTORS: [&dyn Collect; 8] = [&EXECUTING_REQUESTS, &EXECUTING_SEATS, &WAITING, &DISPATCHED, &LOWER, &NOMINAL, &REJECTED, &UPPER];

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
#[derive(Clone, Copy, Debug)]
pub struct SchemaSeries {
    pub executing: &'static Gauge,
    pub seats: &'static Gauge,
    pub waiting: &'static Gauge,
    pub dispatched: &'static Counter,
}

impl SchemaSeries {
    pub fn of(level: &str, schema: &str) -> Self {
        let labels = [level, schema];
        SchemaSeries {
            executing: EXECUTING_REQUESTS.with(&labels),
            seats: EXECUTING_SEATS.with(&labels),
            waiting: WAITING.with(&labels),
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
