//! What a query of the machine's logs asks, checked and refused as upstream does. Pure.

use std::collections::BTreeSet;

use jiff::{Timestamp, civil::DateTime};
use serde::Serialize;
use troupe_api_server::http::streaming::{query_value, query_values};

const MOST_LINES: i64 = 100_000;
const MOST_SERVICES: usize = 4;
const LONGEST_NAME: usize = 256;
const FORMATS: [&str; 8] = ["", "cat", "json", "short", "short-iso", "short-iso-precise", "short-precise", "short-unix"];

/// Which logs are asked for. Either services or one file, or neither.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LogQuery {
    pub services: Vec<String>,
    pub files: Vec<String>,
    pub options: QueryOptions,
}

/// What of them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct QueryOptions {
    since_time: Option<Timestamp>,
    until_time: Option<Timestamp>,
    tail_lines: Option<i64>,
    boot: Option<i64>,
    pattern: String,
    case_sensitive: bool,
    since: String,
    until: String,
    format: String,
}

impl LogQuery {
    /// Reads a request's parameters; on failure, with what is said about it.
    pub fn parse(raw: &str) -> Result<Self, String> {
        let first = |name: &str| query_value(raw, name);
        let either = |name: &str, other: &str| Some(first(name)).filter(|value| !value.is_empty()).unwrap_or_else(|| first(other));
        let (queries, units) = (query_values(raw, "query"), query_values(raw, "unit"));
        let (files, mut services): (Vec<String>, Vec<String>) = queries.iter().cloned().partition(|query| query.contains(['/', '\\']));
        services.extend(units.iter().cloned());
        services.retain(|service| !service.trim().is_empty());
        let mut wrong = Vec::new();
        if !(queries.is_empty() && units.is_empty()) && files.is_empty() && services.is_empty() {
            wrong.push(invalid("unit", &queries, "unit cannot be empty"));
        }
        let pattern = either("pattern", "grep");
        let options = QueryOptions {
            since_time: time("sinceTime", &first("sinceTime"), &mut wrong),
            until_time: time("untilTime", &first("untilTime"), &mut wrong),
            boot: number("boot", &first("boot"), &mut wrong),
            tail_lines: number("tailLines", &either("tailLines", "tail"), &mut wrong),
            case_sensitive: !pattern.is_empty() && flag("case-sensitive", &first("case-sensitive"), &mut wrong),
            pattern,
            since: first("since"),
            until: first("until"),
            format: first("output"),
        };
        outcome(wrong).map(|()| LogQuery { services, files, options })
    }

    /// Whether what is asked can be answered at all.
    pub fn check(&self) -> Result<(), String> {
        let mut wrong: Vec<String> =
            self.services.iter().filter_map(|service| unsafe_name(service).map(|why| invalid("query", service, why))).collect();
        if self.services.len() > MOST_SERVICES {
            wrong.push(format!("query: Too many: {}: must have at most {MOST_SERVICES} items", self.services.len()));
        }
        if !self.files.is_empty() && !self.services.is_empty() {
            let both = format!("[{}], [{}]", self.files.join(" "), self.services.join(" "));
            wrong.push(invalid("query", &both, "cannot specify a file and service"));
        } else if self.files.len() > 1 {
            wrong.push(invalid("query", &self.files, "cannot specify more than one file"));
        } else if !self.files.is_empty() && self.has_options() {
            wrong.push(invalid("query", &self.files, "cannot specify file with options"));
        }
        self.options.check(&mut wrong);
        outcome(wrong)
    }

    /// Whether more is asked than all of it.
    pub fn has_options(&self) -> bool {
        self.options != QueryOptions::default()
    }

    /// What is said when its file cannot be had.
    pub fn no_file(&self, error: &std::io::Error) -> String {
        invalid("query", &self.files, &error.to_string())
    }

    /// How the journal is asked for these services.
    pub fn arguments(&self, services: &[String]) -> Vec<String> {
        let QueryOptions { since_time, until_time, tail_lines, boot, pattern, case_sensitive, since, until, format } = &self.options;
        let bound = |name: &str, text: &str, time: Option<Timestamp>| match time {
            _ if !text.is_empty() => Some(format!("--{name}={text}")),
            time => time.map(|time| format!("--{name}={}", time.strftime("%Y-%m-%d %H:%M:%S UTC"))),
        };
        let mut all = vec!["--utc".to_owned(), "--no-pager".to_owned()];
        all.extend(bound("since", since, *since_time));
        all.extend(bound("until", until, *until_time));
        if let Some(lines) = tail_lines {
            all.extend(["--pager-end".to_owned(), format!("--lines={lines}")]);
        }
        all.extend(services.iter().map(|service| format!("--unit={service}")));
        if !pattern.is_empty() {
            all.extend([format!("--grep={pattern}"), format!("--case-sensitive={case_sensitive}")]);
        }
        if let Some(boot) = boot {
            all.extend(["--boot".to_owned(), boot.to_string()]);
        }
        all.push(format!("--output={}", if format.is_empty() { "short-precise" } else { format.as_str() }));
        all
    }
}

impl QueryOptions {
    fn check(&self, wrong: &mut Vec<String>) {
        if let (Some(since), Some(until)) = (self.since_time, self.until_time)
            && since > until
        {
            wrong.push(invalid("untilTime", &until.to_string(), "must be after `sinceTime`"));
        }
        if let Some(boot) = self.boot.filter(|boot| *boot > 0) {
            wrong.push(invalid("boot", &boot, "must be less than 1"));
        }
        if let Some(lines) = self.tail_lines.filter(|lines| !(0..=MOST_LINES).contains(lines)) {
            wrong.push(invalid("tailLines", &lines, &format!("must be between 0 and {MOST_LINES}, inclusive")));
        }
        let has_dates = !(self.since.is_empty() && self.until.is_empty());
        for (name, time) in [("sinceTime", self.since_time), ("untilTime", self.until_time)] {
            if time.is_some() && has_dates {
                wrong.push(format!("{name}: Forbidden: `since or until` and `{name}` cannot be specified"));
            }
        }
        for (name, date) in [("since", &self.since), ("until", &self.until)] {
            if !is_date(date) {
                let why = "date must be a relative time of the form '(+|-)[0-9]+(s|m|h|d)' or a date in 'YYYY-MM-DD HH:MM:SS' form";
                wrong.push(invalid(name, date, why));
            }
        }
        if !FORMATS.contains(&self.format.as_str()) {
            let formats: Vec<String> = FORMATS.iter().map(|format| format!("{format:?}")).collect();
            wrong.push(format!("output: Unsupported value: {:?}: supported values: {}", self.format, formats.join(", ")));
        }
    }
}

fn invalid<T: Serialize + ?Sized>(field: &str, value: &T, why: &str) -> String {
    format!("{field}: Invalid value: {}: {why}", serde_json::to_string(value).unwrap_or_default())
}

/// Several reasons read as upstream's aggregates do.
fn outcome(mut wrong: Vec<String>) -> Result<(), String> {
    let mut said = BTreeSet::new();
    wrong.retain(|why| said.insert(why.clone()));
    match wrong.len() {
        0 => Ok(()),
        1 => Err(wrong.remove(0)),
        _ => Err(format!("[{}]", wrong.join(", "))),
    }
}

fn time(name: &str, value: &str, wrong: &mut Vec<String>) -> Option<Timestamp> {
    let parsed = (!value.is_empty()).then(|| value.parse::<Timestamp>())?;
    parsed.map_err(|_| wrong.push(invalid(name, value, "invalid time format"))).ok()
}

fn number(name: &str, value: &str, wrong: &mut Vec<String>) -> Option<i64> {
    let parsed = (!value.is_empty()).then(|| value.parse::<i64>())?;
    parsed.map_err(|_| wrong.push(invalid(name, value, &format!("strconv.Atoi: parsing {value:?}: invalid syntax")))).ok()
}

fn flag(name: &str, value: &str, wrong: &mut Vec<String>) -> bool {
    match value {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => true,
        "" | "0" | "f" | "F" | "false" | "FALSE" | "False" => false,
        _ => {
            wrong.push(invalid(name, value, &format!("strconv.ParseBool: parsing {value:?}: invalid syntax")));
            false
        }
    }
}

fn unsafe_name(name: &str) -> Option<&'static str> {
    let is_safe = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.:@".contains(&byte);
    match name {
        name if name.len() > LONGEST_NAME => Some("length must be less than 256"),
        name if !name.bytes().all(is_safe) => Some("input contains unsupported characters"),
        _ => None,
    }
}

fn is_date(text: &str) -> bool {
    let relative = text.strip_prefix(['+', '-']).unwrap_or(text).strip_suffix(['s', 'm', 'h', 'd']);
    text.is_empty()
        || relative.is_some_and(|digits| !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit()))
        || DateTime::strptime("%Y-%m-%d %H:%M:%S", text).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(raw: &str) -> String {
        LogQuery::parse(raw).and_then(|query| query.check()).expect_err(raw)
    }

    #[test]
    fn services_and_files_are_told_apart() {
        let query = LogQuery::parse("query=kubelet&query=%20&unit=containerd").expect("reads");
        assert_eq!((query.services.join(" "), query.files.len()), ("kubelet containerd".to_owned(), 0));
        assert_eq!(LogQuery::parse("query=/kubelet.log").expect("reads").files, ["/kubelet.log"]);
        assert_eq!((LogQuery::parse(""), LogQuery::default().check()), (Ok(LogQuery::default()), Ok(())));
        assert_eq!(refused("query"), r#"unit: Invalid value: [""]: unit cannot be empty"#);
        assert_eq!(refused("query=kubelet&query=/a.log"), r#"query: Invalid value: "[/a.log], [kubelet]": cannot specify a file and service"#);
        assert_eq!(refused("query=/a&query=/b"), r#"query: Invalid value: ["/a","/b"]: cannot specify more than one file"#);
        assert_eq!(refused("query=/a&boot=0"), r#"query: Invalid value: ["/a"]: cannot specify file with options"#);
        assert_eq!(refused("query=a%3Bb"), r#"query: Invalid value: "a;b": input contains unsupported characters"#);
        assert_eq!(refused("query=a&query=b&query=c&query=d&query=e"), "query: Too many: 5: must have at most 4 items");
    }

    #[test]
    fn options_are_checked() {
        let wrong = [
            ("sinceTime=now", r#"sinceTime: Invalid value: "now": invalid time format"#),
            ("boot=x", r#"boot: Invalid value: "x": strconv.Atoi: parsing "x": invalid syntax"#),
            ("boot=1", "boot: Invalid value: 1: must be less than 1"),
            ("tail=100001", "tailLines: Invalid value: 100001: must be between 0 and 100000, inclusive"),
            ("since=1h&sinceTime=2026-01-02T03:04:05Z", "sinceTime: Forbidden: `since or until` and `sinceTime` cannot be specified"),
        ];
        for (raw, why) in wrong {
            assert_eq!(refused(&format!("query=kubelet&{raw}")), why);
        }
        let turned = refused("query=kubelet&sinceTime=2026-01-02T03:04:05Z&untilTime=2026-01-01T03:04:05Z");
        assert_eq!(turned, r#"untilTime: Invalid value: "2026-01-01T03:04:05Z": must be after `sinceTime`"#);
        assert!(refused("query=k&output=verbose").starts_with(r#"output: Unsupported value: "verbose": supported values: "", "cat""#));
        assert!(refused("query=k&since=h&boot=2").starts_with("[boot: Invalid value: 2: must be less than 1, since: Invalid"));
        for date in ["1h", "-20m", "%2B3d", "2026-01-02+03:04:05"] {
            assert_eq!(LogQuery::parse(&format!("query=k&since={date}")).and_then(|query| query.check()), Ok(()), "{date}");
        }
    }

    #[test]
    fn the_journal_is_asked_for_what_was_asked() {
        let plain = LogQuery::parse("query=kubelet").expect("reads");
        assert_eq!(plain.arguments(&plain.services), ["--utc", "--no-pager", "--unit=kubelet", "--output=short-precise"]);
        let raw = "query=kubelet&sinceTime=2026-01-02T03:04:05%2B01:00&until=1h&tailLines=3&pattern=a.b&case-sensitive=true&boot=-1&output=cat";
        let all = LogQuery::parse(raw).expect("reads");
        let asked = all.arguments(&all.services).join("|");
        let head = "--utc|--no-pager|--since=2026-01-02 02:04:05 UTC|--until=1h|--pager-end|--lines=3|--unit=kubelet";
        let tail = "--grep=a.b|--case-sensitive=true|--boot|-1|--output=cat";
        assert_eq!(asked, format!("{head}|{tail}"));
    }
}
