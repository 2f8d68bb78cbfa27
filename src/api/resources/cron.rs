//! Schedules of cron jobs, as upstream's library reads them: five fields or `@daily`, `@every 1h30m` and the like.
//!
//! Written here, and not taken from a crate, because what is accepted, what is said of the rest, and when a job runs on
//! days with 23 or 25 hours are part of the API.

mod parse;
#[cfg(test)]
mod tests;

use std::time::Duration;

use jiff::{
    SignedDuration, Timestamp, ToSpan, Zoned,
    civil::{self, Date},
    tz::TimeZone,
};

pub use self::parse::parse;

/// No day this many years ahead means that there is none.
const YEARS: i16 = 5;

/// When something runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Schedule {
    Fields(Fields),
    /// At this interval since the last time; whole seconds.
    Every(Duration),
}

/// The minutes, hours and days that match, a bit each.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fields {
    minutes: u64,
    hours: u64,
    days: u64,
    months: u64,
    weekdays: u64,
    /// Days of the month or of the week are not restricted: then both must match, else one is enough.
    any_day: bool,
}

impl Schedule {
    /// The first time after `after`, by the clocks of `zone`; `None` for days that never come, like February 31st.
    pub fn next(&self, after: Timestamp, zone: &TimeZone) -> Option<Timestamp> {
        match self {
            Schedule::Every(interval) => {
                let whole = Timestamp::from_second(after.as_second()).ok()?;
                whole.checked_add(SignedDuration::try_from(*interval).ok()?).ok()
            }
            Schedule::Fields(fields) => fields.next(after, zone),
        }
    }
}

fn has(bits: u64, number: i8) -> bool {
    u32::try_from(number).is_ok_and(|number| bits & (1 << number) != 0)
}

impl Fields {
    fn next(&self, after: Timestamp, zone: &TimeZone) -> Option<Timestamp> {
        // `,` names no minute or no hour: looking for one takes millions of steps.
        if self.minutes == 0 || self.hours == 0 {
            return None;
        }
        let minute = after.as_second().div_euclid(60) + 1;
        let mut time = Timestamp::from_second(minute * 60).ok()?.to_zoned(zone.clone());
        let last = time.year().saturating_add(YEARS);
        loop {
            if time.year() > last {
                return None;
            }
            time = if !has(self.months, time.month()) {
                midnight(time.date().first_of_month().checked_add(1.month()).ok()?, zone)?
            } else if !self.matches_day(time.date()) {
                midnight(time.date().tomorrow().ok()?, zone)?
            } else if !has(self.hours, time.hour()) {
                // Hours pass as they do on the wall: one that is skipped never matches, one that comes twice does twice.
                time.checked_add((60 - i64::from(time.minute())).minutes()).ok()?
            } else if !has(self.minutes, time.minute()) {
                time.checked_add(1.minute()).ok()?
            } else {
                return Some(time.timestamp());
            };
        }
    }

    fn matches_day(&self, date: Date) -> bool {
        let day = has(self.days, date.day());
        let weekday = has(self.weekdays, date.weekday().to_sunday_zero_offset());
        if self.any_day { day && weekday } else { day || weekday }
    }
}

/// The start of a day, which is not 0:00 where clocks skip it.
fn midnight(date: Date, zone: &TimeZone) -> Option<Zoned> {
    date.to_datetime(civil::Time::midnight()).to_zoned(zone.clone()).ok()
}
