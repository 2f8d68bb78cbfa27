//! What people see of flow control at work: the documents below `/debug/api_priority_and_fairness/`, as upstream writes them. Pure.

use std::{sync::atomic::Ordering::Relaxed, time::Duration};

use jiff::Timestamp;
use tokio::time::Instant;

use super::{
    room::{Asked, Executing},
    seats::{Level, State},
    work::WorkEstimate,
};

/// Of a level with more queues only those in use are told.
const MOST_QUEUES: u64 = 1024;
/// What stands where there is no time.
const NEVER: &str = "0001-01-01T00:00:00Z";

/// Which of the documents.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dump {
    PriorityLevels,
    Queues,
    /// With who asks for what, or without.
    Requests {
        details: bool,
    },
}

impl Dump {
    /// The path of a document and its query.
    pub fn of(path: &str, query: &str) -> Option<Self> {
        match path.strip_prefix("/debug/api_priority_and_fairness/")? {
            "dump_priority_levels" => Some(Dump::PriorityLevels),
            "dump_queues" => Some(Dump::Queues),
            "dump_requests" => {
                let mut asked = query.split('&').filter_map(|pair| pair.split_once('='));
                Some(Dump::Requests { details: asked.any(|(name, value)| name == "includeRequestDetails" && !value.is_empty()) })
            }
            _ => None,
        }
    }
}

type Row = Vec<String>;

/// A document about these levels.
pub fn text(levels: &[Level], what: Dump, now: Timestamp) -> String {
    let mut levels: Vec<&Level> = levels.iter().collect();
    levels.sort_unstable_by(|one, other| one.name.cmp(&other.name));
    let (head, rows): (&[&str], Vec<Row>) = match what {
        Dump::PriorityLevels => (&LEVEL, levels.into_iter().map(level).collect()),
        Dump::Queues => (&QUEUE, levels.into_iter().flat_map(queues).collect()),
        Dump::Requests { details } => {
            let head = if details { &REQUEST[..] } else { &REQUEST[..WITHOUT_DETAILS] };
            let times = Times { instant: Instant::now(), now };
            (head, levels.into_iter().flat_map(|level| requests(level, times)).map(|row| row.into_iter().take(head.len()).collect()).collect())
        }
    };
    aligned(std::iter::once(head.iter().map(|name| (*name).to_owned()).collect()).chain(rows).collect())
}

/// Rows in columns that stand below one another.
fn aligned(rows: Vec<Row>) -> String {
    let mut widths = Vec::new();
    for row in &rows {
        widths.resize(row.len().max(widths.len()), 0);
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (cell.chars().count() + 2).max(8).max(*width);
        }
    }
    let mut text = String::new();
    for row in &rows {
        for (index, (cell, width)) in row.iter().zip(&widths).enumerate() {
            match index + 1 == row.len() {
                true => text.push_str(cell),
                false => text.push_str(&format!("{:width$}", format!("{cell},"))),
            }
        }
        text.push('\n');
    }
    text
}

const LEVEL: [&str; 10] = [
    "PriorityLevelName",
    "ActiveQueues",
    "IsIdle",
    "IsQuiescing",
    "WaitingRequests",
    "ExecutingRequests",
    "DispatchedRequests",
    "RejectedRequests",
    "TimedoutRequests",
    "CancelledRequests",
];

fn level(level: &Level) -> Row {
    let (state, counts) = (level.room.state.lock(), &level.room.counts);
    let active = state.queues.all().iter().filter(|(_, queue)| queue.waiting().len() > 0).count();
    let (waiting, executing) = (state.queues.waiting(), state.executing.len());
    vec![
        level.name.to_string(),
        active.to_string(),
        (waiting == 0 && executing == 0).to_string(),
        // A level that is deleted is gone at once; what is in work goes on.
        false.to_string(),
        waiting.to_string(),
        executing.to_string(),
        counts.dispatched.load(Relaxed).to_string(),
        counts.rejected.load(Relaxed).to_string(),
        counts.timed_out.load(Relaxed).to_string(),
        counts.cancelled.load(Relaxed).to_string(),
    ]
}

const QUEUE: [&str; 9] = [
    "PriorityLevelName",
    "Index",
    "PendingRequests",
    "ExecutingRequests",
    "SeatsInUse",
    "NextDispatchR",
    "InitialSeatsSum",
    "MaxSeatsSum",
    "TotalWorkSum",
];

fn queues(level: &Level) -> Vec<Row> {
    let Some(queuing) = level.bounds.queuing else { return Vec::new() };
    let state = level.room.state.lock();
    let numbers: Vec<u64> = match queuing.queues <= MOST_QUEUES {
        true => (0..queuing.queues).collect(),
        false => state.queues.all().into_iter().map(|(number, _)| number).collect(),
    };
    numbers.into_iter().map(|number| queue(level, &state, number)).collect()
}

fn queue(level: &Level, state: &State, number: u64) -> Row {
    let sum = |seats: fn(&WorkEstimate) -> usize| state.queues.get(number).map_or(0, |queue| queue.waiting().map(|(work, _)| seats(work)).sum());
    let found = state.queues.get(number);
    vec![
        level.name.to_string(),
        number.to_string(),
        found.map_or(0, |queue| queue.waiting().len()).to_string(),
        found.map_or(0, |queue| queue.executing).to_string(),
        found.map_or(0, |queue| queue.seats).to_string(),
        seat_seconds(found.map_or(0.0, |queue| queue.had)),
        sum(|work| work.initial).to_string(),
        sum(WorkEstimate::seats).to_string(),
        seat_seconds(found.map_or(0.0, super::queues::Queue::expected)),
    ]
}

fn seat_seconds(amount: f64) -> String {
    format!("{amount:.8}ss")
}

const WITHOUT_DETAILS: usize = 10;
const REQUEST: [&str; 18] = [
    "PriorityLevelName",
    "FlowSchemaName",
    "QueueIndex",
    "RequestIndexInQueue",
    "FlowDistingsher",
    "ArriveTime",
    "InitialSeats",
    "FinalSeats",
    "AdditionalLatency",
    "StartTime",
    "UserName",
    "Verb",
    "APIPath",
    "Namespace",
    "Name",
    "APIVersion",
    "Resource",
    "SubResource",
];

/// The same moment by two clocks.
#[derive(Clone, Copy)]
struct Times {
    instant: Instant,
    now: Timestamp,
}

impl Times {
    fn of(&self, then: Instant) -> String {
        let ago = self.instant.saturating_duration_since(then);
        self.now.checked_sub(ago).map_or_else(|_| NEVER.to_owned(), |time| time.to_string())
    }
}

fn requests(level: &Level, times: Times) -> Vec<Row> {
    let state = level.room.state.lock();
    let mut rows = Vec::new();
    for (number, queue) in state.queues.all() {
        for (index, (work, waiter)) in queue.waiting().enumerate() {
            rows.push(request(level, (number.to_string(), index.to_string()), &waiter.claimed.asked, work, (times, None)));
        }
    }
    let mut executing: Vec<(&u64, &Executing)> = state.executing.iter().collect();
    executing.sort_unstable_by_key(|(number, executing)| (executing.queue.is_none(), executing.queue, **number));
    for (_, Executing { queue, asked, work, began }) in executing {
        let queue = queue.map_or_else(|| "-1".to_owned(), |queue| queue.to_string());
        rows.push(request(level, (queue, "-1".to_owned()), asked, work, (times, Some(*began))));
    }
    rows
}

fn request(level: &Level, (queue, index): (String, String), asked: &Asked, work: &WorkEstimate, (times, began): (Times, Option<Instant>)) -> Row {
    let mut row = vec![
        level.name.to_string(),
        asked.schema.to_string(),
        queue,
        index,
        asked.distinguisher().to_owned(),
        times.of(asked.arrived),
        work.initial.to_string(),
        work.last.to_string(),
        duration(work.additional),
        began.map_or_else(|| NEVER.to_owned(), |began| times.of(began)),
        asked.user.name.clone(),
    ];
    row.extend(asked.parts.all().map(str::to_owned));
    row
}

/// As Go writes those below a second.
fn duration(duration: Duration) -> String {
    if duration.is_zero() { "0s".to_owned() } else { format!("{}ms", duration.as_secs_f64() * 1e3) }
}
