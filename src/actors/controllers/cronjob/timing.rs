//! When a cron job is due: the last time it should have run, and the next time to look. Pure.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp, tz::TimeZone};
use k8s_openapi::api::batch::v1::CronJob;
use troupe_api::resources::cron::{self, Schedule};

/// Wakes come a bit late, so that clocks that differ a little miss nothing.
const PADDING: Duration = Duration::from_millis(100);
/// More missed times than this are worth a warning.
const MANY: i64 = 100;

/// The reason of events that tell of a `timeZone` that nobody knows.
pub const UNKNOWN_TIME_ZONE: &str = "UnknownTimeZone";

/// The schedule and the zone it is meant in.
pub struct Timing {
    schedule: Schedule,
    zone: TimeZone,
}

/// Why a cron job cannot run: an event's reason and message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unusable {
    pub reason: &'static str,
    pub message: String,
}

/// The times of a schedule up to now.
pub struct Due {
    /// Where counting began.
    since: Timestamp,
    /// The most recent one.
    pub last: Option<Timestamp>,
    missed: i64,
}

impl Due {
    /// So many that something must be wrong.
    pub fn missed_many(&self) -> bool {
        self.missed > MANY
    }
}

impl Timing {
    /// Reads what the cron job says.
    pub fn of(cron: &CronJob) -> Result<Self, Unusable> {
        let text = cron.spec.schedule.as_str();
        let unparseable = |error: String| Unusable { reason: "UnparseableSchedule", message: format!("unparseable schedule: {text:?} : {error}") };
        // Older objects may name the zone in the schedule.
        let named = text.strip_prefix("TZ=").or_else(|| text.strip_prefix("CRON_TZ=")).and_then(|rest| rest.split_once(' '));
        let (zone, fields) = match (cron.spec.time_zone.as_deref(), named) {
            (Some(zone), _) => (zone_named(zone).ok_or_else(|| unknown(zone))?, text),
            (None, Some((zone, fields))) => {
                let bad = || unparseable(format!("provided bad location {zone}: unknown time zone {zone}"));
                (zone_named(zone).ok_or_else(bad)?, fields.trim())
            }
            (None, None) => (TimeZone::system(), text),
        };
        Ok(Timing { schedule: cron::parse(fields).map_err(unparseable)?, zone })
    }

    /// What was due up to now, since the last run or since the cron job was made; no longer ago than it may start late.
    pub fn due(&self, cron: &CronJob, now: Timestamp, respect_deadline: bool) -> Result<Due, Unusable> {
        let status = cron.status.as_ref();
        let created = cron.metadata.creation_timestamp.as_ref().map_or(now, |time| time.0);
        let mut since = status.and_then(|status| status.last_schedule_time.as_ref()).map_or(created, |time| time.0);
        let deadline = cron.spec.starting_deadline_seconds.filter(|_| respect_deadline);
        if let Some(earliest) = deadline.and_then(|seconds| now.checked_sub(SignedDuration::from_secs(seconds)).ok()) {
            since = since.max(earliest);
        }
        let next = |time| self.schedule.next(time, &self.zone);
        let Some(first) = next(since) else { return Err(self.never(cron)) };
        if now < first {
            return Ok(Due { since, last: None, missed: 0 });
        }
        let second = next(first).ok_or_else(|| self.never(cron))?;
        if now < second {
            return Ok(Due { since, last: Some(first), missed: 0 });
        }
        // Not every missed time is visited: as many steps as fit are leapt, and the rest walked.
        let interval = second.duration_since(first).as_secs().max(1);
        let missed = now.duration_since(first).as_secs() / interval + 1;
        let leap = SignedDuration::from_secs(interval.saturating_mul(missed - 2));
        let mut last = None;
        let mut time = first.checked_add(leap).ok().and_then(next);
        while let Some(due) = time.filter(|due| *due <= now) {
            last = Some(due);
            time = next(due);
        }
        Ok(Due { since, last, missed })
    }

    fn never(&self, cron: &CronJob) -> Unusable {
        let schedule = &cron.spec.schedule;
        let message = format!("invalid schedule: {schedule} : time difference between two schedules is less than 1 second");
        Unusable { reason: "InvalidSchedule", message }
    }

    /// How long until the next time.
    pub fn until_next(&self, cron: &CronJob, now: Timestamp) -> Option<Duration> {
        let from = match self.due(cron, now, false) {
            Ok(Due { last: Some(last), .. }) => last,
            Ok(Due { since, missed: 0, .. }) => since,
            _ => now,
        };
        let next = self.schedule.next(from, &self.zone)?;
        let left: Duration = next.duration_since(now).try_into().unwrap_or_default();
        Some(left + PADDING)
    }

    /// A time as an RFC 3339 text in the zone of the cron job, in UTC where it names none.
    pub fn text(&self, cron: &CronJob, time: Timestamp) -> String {
        let has_zone = cron.spec.time_zone.is_some();
        let zoned = time.to_zoned(if has_zone { self.zone.clone() } else { TimeZone::UTC });
        let text = zoned.strftime("%Y-%m-%dT%H:%M:%S%:z").to_string();
        text.strip_suffix("+00:00").map_or(text.clone(), |plain| format!("{plain}Z"))
    }
}

fn zone_named(zone: &str) -> Option<TimeZone> {
    TimeZone::get(zone).ok()
}

fn unknown(zone: &str) -> Unusable {
    Unusable { reason: UNKNOWN_TIME_ZONE, message: format!("invalid timeZone: {zone:?}: unknown time zone {zone}") }
}
