use jiff::{Timestamp, tz::TimeZone};

use super::parse;

fn times(schedule: &str, after: &str, zone: &str, count: usize) -> Vec<String> {
    let (schedule, zone) = (parse(schedule).expect("a schedule"), TimeZone::get(zone).expect("a zone"));
    let mut time: Timestamp = after.parse().expect("a time");
    let mut times = Vec::new();
    for _ in 0..count {
        time = schedule.next(time, &zone).expect("a next time");
        times.push(time.to_string());
    }
    times
}

#[test]
fn the_next_time_comes_after_the_given_one() {
    let after = "2030-01-01T00:00:00Z";
    assert_eq!(times("* * * * *", "2030-01-01T00:00:30Z", "UTC", 2), ["2030-01-01T00:01:00Z", "2030-01-01T00:02:00Z"]);
    assert_eq!(times("*/20 5-6 * * *", after, "UTC", 4)[3], "2030-01-01T06:00:00Z");
    assert_eq!(times("10/25 * * * *", after, "UTC", 3), ["2030-01-01T00:10:00Z", "2030-01-01T00:35:00Z", "2030-01-01T01:10:00Z"]);
    assert_eq!(times("0 0 29 feb *", after, "UTC", 1), ["2032-02-29T00:00:00Z"]);
    assert_eq!(times("@weekly", after, "UTC", 1), ["2030-01-06T00:00:00Z"]);
    assert_eq!(times("@every 90m", after, "UTC", 2), ["2030-01-01T01:30:00Z", "2030-01-01T03:00:00Z"]);
}

#[test]
fn a_day_of_the_month_or_of_the_week_is_enough_where_both_are_given() {
    let found = times("0 0 13 * FRI", "2030-01-01T00:00:00Z", "UTC", 3);
    assert_eq!(found, ["2030-01-04T00:00:00Z", "2030-01-11T00:00:00Z", "2030-01-13T00:00:00Z"]);
    assert_eq!(times("0 0 * * mon-tue", "2030-01-01T00:00:00Z", "UTC", 2), ["2030-01-07T00:00:00Z", "2030-01-08T00:00:00Z"]);
    // A step restricts: `*/2` is no star.
    assert_eq!(times("0 0 */31 * TUE", "2030-01-02T00:00:00Z", "UTC", 2), ["2030-01-08T00:00:00Z", "2030-01-15T00:00:00Z"]);
}

#[test]
fn clocks_that_are_put_forward_skip_what_is_due_then_and_back_repeat_it() {
    let forward = times("30 2 * * *", "2030-03-30T12:00:00Z", "Europe/Berlin", 1);
    assert_eq!(forward, ["2030-04-01T00:30:00Z"], "there is no 2:30 on March 31st");
    let back = times("30 2 * * *", "2030-10-26T12:00:00Z", "Europe/Berlin", 2);
    assert_eq!(back, ["2030-10-27T00:30:00Z", "2030-10-27T01:30:00Z"]);
}

#[test]
fn a_day_that_never_comes_has_no_next_time() {
    assert_eq!(parse("59 23 31 2 *").expect("well written").next(Timestamp::UNIX_EPOCH, &TimeZone::UTC), None);
}

#[test]
fn what_is_wrong_is_said_in_upstreams_words() {
    for (text, error) in [
        ("* * * *", "expected exactly 5 fields, found 4: [* * * *]"),
        ("error", "expected exactly 5 fields, found 1: [error]"),
        ("60 * * * *", "end of range (60) above maximum (59): 60"),
        ("* * 0 * *", "beginning of range (0) below minimum (1): 0"),
        ("5-1 * * * *", "beginning of range (5) beyond end of range (1): 5-1"),
        ("*/0 * * * *", "step of range should be a positive number: */0"),
        ("1-2-3 * * * *", "too many hyphens: 1-2-3"),
        ("1/2/3 * * * *", "too many slashes: 1/2/3"),
        ("x * * * *", "failed to parse int from x: strconv.Atoi: parsing \"x\": invalid syntax"),
        ("0-99999999999 * * * *", "end of range (99999999999) above maximum (59): 0-99999999999"),
        ("*/-2 * * * *", "negative number (-2) not allowed: -2"),
        (
            "*/9223372036854775808 * * * *",
            "failed to parse int from 9223372036854775808: strconv.Atoi: parsing \"9223372036854775808\": value out of range",
        ),
        (
            "*/-9223372036854775809 * * * *",
            "failed to parse int from -9223372036854775809: strconv.Atoi: parsing \"-9223372036854775809\": value out of range",
        ),
        ("@never", "unrecognized descriptor: @never"),
        ("@every x", "failed to parse duration @every x: time: invalid duration \"x\""),
        ("", "empty spec string"),
    ] {
        assert_eq!(parse(text), Err(error.to_owned()), "{text}");
    }
}

#[test]
fn a_step_beyond_the_end_leaves_the_beginning() {
    for step in ["60", "99999999999", "9223372036854775807"] {
        let found = times(&format!("*/{step} 7/{step} * * *"), "2030-01-01T00:00:00Z", "UTC", 2);
        assert_eq!(found, ["2030-01-01T07:00:00Z", "2030-01-02T07:00:00Z"], "{step}");
    }
}

#[test]
fn a_schedule_without_a_minute_or_an_hour_never_comes_and_costs_nothing_to_ask() {
    for text in [", * * * *", "* ,, * * *", "* * , , ,"] {
        let schedule = parse(text).expect("upstream takes it");
        let begun = std::time::Instant::now();
        assert_eq!(schedule.next(Timestamp::UNIX_EPOCH, &TimeZone::UTC), None, "{text}");
        assert!(begun.elapsed() < std::time::Duration::from_secs(2), "{text} took {:?}", begun.elapsed());
    }
}
