//! Points in time and durations.

use jiff::tz::{Offset, TimeZone};

use super::{Context, Row};
use crate::expressions::{
    meter::Fault,
    values::{
        Val, no_overload,
        times::{HOUR, MINUTE, SECOND, duration, from_seconds, offset, timestamp},
    },
};

pub(super) const FUNCTIONS: &[Row] = &[
    (
        "duration",
        to_duration,
        &[
            ("duration_to_duration", "(duration) -> duration"),
            ("int64_to_duration", "(int) -> duration"),
            ("string_to_duration", "(string) -> duration"),
        ],
    ),
    (
        "timestamp",
        to_timestamp,
        &[
            ("timestamp_to_timestamp", "(timestamp) -> timestamp"),
            ("int64_to_timestamp", "(int) -> timestamp"),
            ("string_to_timestamp", "(string) -> timestamp"),
        ],
    ),
    ("getFullYear", year, &[("timestamp_to_year", "timestamp.() -> int"), ("timestamp_to_year_with_tz", "timestamp.(string) -> int")]),
    ("getMonth", month, &[("timestamp_to_month", "timestamp.() -> int"), ("timestamp_to_month_with_tz", "timestamp.(string) -> int")]),
    (
        "getDayOfYear",
        day_of_year,
        &[("timestamp_to_day_of_year", "timestamp.() -> int"), ("timestamp_to_day_of_year_with_tz", "timestamp.(string) -> int")],
    ),
    (
        "getDayOfMonth",
        day,
        &[("timestamp_to_day_of_month", "timestamp.() -> int"), ("timestamp_to_day_of_month_with_tz", "timestamp.(string) -> int")],
    ),
    (
        "getDate",
        date,
        &[("timestamp_to_day_of_month_1_based", "timestamp.() -> int"), ("timestamp_to_day_of_month_1_based_with_tz", "timestamp.(string) -> int")],
    ),
    (
        "getDayOfWeek",
        weekday,
        &[("timestamp_to_day_of_week", "timestamp.() -> int"), ("timestamp_to_day_of_week_with_tz", "timestamp.(string) -> int")],
    ),
    (
        "getHours",
        hours,
        &[
            ("timestamp_to_hours", "timestamp.() -> int"),
            ("timestamp_to_hours_with_tz", "timestamp.(string) -> int"),
            ("duration_to_hours", "duration.() -> int"),
        ],
    ),
    (
        "getMinutes",
        minutes,
        &[
            ("timestamp_to_minutes", "timestamp.() -> int"),
            ("timestamp_to_minutes_with_tz", "timestamp.(string) -> int"),
            ("duration_to_minutes", "duration.() -> int"),
        ],
    ),
    (
        "getSeconds",
        whole_seconds,
        &[
            ("timestamp_to_seconds", "timestamp.() -> int"),
            ("timestamp_to_seconds_tz", "timestamp.(string) -> int"),
            ("duration_to_seconds", "duration.() -> int"),
        ],
    ),
    (
        "getMilliseconds",
        milliseconds,
        &[
            ("timestamp_to_milliseconds", "timestamp.() -> int"),
            ("timestamp_to_milliseconds_with_tz", "timestamp.(string) -> int"),
            ("duration_to_milliseconds", "duration.() -> int"),
        ],
    ),
];

type Ran<'a> = Result<Val<'a>, Fault>;

fn to_duration<'a>(args: &[Val<'a>], _context: &mut Context<'_>) -> Ran<'a> {
    match &args[0] {
        Val::Duration(nanos) => Ok(Val::Duration(*nanos)),
        Val::Int(nanos) => Ok(Val::Duration(*nanos)),
        Val::String(text) => {
            duration(text).map(Val::Duration).map_err(|_| Fault::error("type conversion error from 'string' to 'google.protobuf.Duration'"))
        }
        _ => Err(no_overload()),
    }
}

fn to_timestamp<'a>(args: &[Val<'a>], _context: &mut Context<'_>) -> Ran<'a> {
    match &args[0] {
        Val::Timestamp(time) => Ok(Val::Timestamp(*time)),
        Val::Int(seconds) => from_seconds(*seconds).map(Val::Timestamp).map_err(Fault::error),
        Val::String(text) => {
            timestamp(text).map(Val::Timestamp).map_err(|_| Fault::error("type conversion error from 'string' to 'google.protobuf.Timestamp'"))
        }
        _ => Err(no_overload()),
    }
}

/// The time as a clock of a zone shows it; UTC where none is named.
fn local(args: &[Val<'_>]) -> Result<jiff::Zoned, Fault> {
    let Some(Val::Timestamp(time)) = args.first() else { return Err(no_overload()) };
    let zone = match args.get(1) {
        None => TimeZone::UTC,
        Some(Val::String(name)) if name.contains(':') => {
            let offset = offset(name).and_then(|seconds| Offset::from_seconds(seconds).ok());
            TimeZone::fixed(offset.ok_or_else(|| Fault::error(format!("invalid timezone: {}", &**name)))?)
        }
        Some(Val::String(name)) if matches!(&**name, "" | "UTC") => TimeZone::UTC,
        Some(Val::String(name)) => TimeZone::get(name).map_err(|_| Fault::error(format!("unknown time zone {}", &**name)))?,
        Some(_) => return Err(no_overload()),
    };
    Ok(time.at.to_zoned(zone))
}

fn field<'a>(args: &[Val<'a>], of: impl Fn(&jiff::Zoned) -> i64) -> Ran<'a> {
    local(args).map(|local| Val::Int(of(&local)))
}

/// A part of a time, or all of a duration in such units.
fn unit<'a>(args: &[Val<'a>], nanos: i64, of: impl Fn(&jiff::Zoned) -> i64) -> Ran<'a> {
    match args {
        [Val::Duration(duration)] => Ok(Val::Int(duration / nanos)),
        _ => field(args, of),
    }
}

fn year<'a>(args: &[Val<'a>], _context: &mut Context<'_>) -> Ran<'a> {
    field(args, |local| i64::from(local.year()))
}

fn month<'a>(args: &[Val<'a>], _context: &mut Context<'_>) -> Ran<'a> {
    field(args, |local| i64::from(local.month()) - 1)
}

fn day_of_year<'a>(args: &[Val<'a>], _context: &mut Context<'_>) -> Ran<'a> {
    field(args, |local| i64::from(local.day_of_year()) - 1)
}

fn day<'a>(args: &[Val<'a>], _context: &mut Context<'_>) -> Ran<'a> {
    field(args, |local| i64::from(local.day()) - 1)
}

fn date<'a>(args: &[Val<'a>], _context: &mut Context<'_>) -> Ran<'a> {
    field(args, |local| i64::from(local.day()))
}

fn weekday<'a>(args: &[Val<'a>], _context: &mut Context<'_>) -> Ran<'a> {
    field(args, |local| i64::from(local.weekday().to_sunday_zero_offset()))
}

fn hours<'a>(args: &[Val<'a>], _context: &mut Context<'_>) -> Ran<'a> {
    unit(args, HOUR, |local| i64::from(local.hour()))
}

fn minutes<'a>(args: &[Val<'a>], _context: &mut Context<'_>) -> Ran<'a> {
    unit(args, MINUTE, |local| i64::from(local.minute()))
}

fn whole_seconds<'a>(args: &[Val<'a>], _context: &mut Context<'_>) -> Ran<'a> {
    unit(args, SECOND, |local| i64::from(local.second()))
}

fn milliseconds<'a>(args: &[Val<'a>], _context: &mut Context<'_>) -> Ran<'a> {
    unit(args, 1_000_000, |local| i64::from(local.millisecond()))
}
