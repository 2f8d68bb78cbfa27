//! `PodLogOptions`: which part of a container's log is wanted. The API server and the kubelet read it alike.

use jiff::Timestamp;
use troupe_api::{
    meta::rfc3339::{read_time, saturated},
    status::{FieldError, Status},
};

use crate::http::query::Query;

/// Which of a container's outputs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogStream {
    #[default]
    All,
    Stdout,
    Stderr,
}

impl LogStream {
    const NAMES: [(&'static str, LogStream); 3] = [("All", LogStream::All), ("Stderr", LogStream::Stderr), ("Stdout", LogStream::Stdout)];

    fn name(self) -> &'static str {
        Self::NAMES.iter().find(|(_, stream)| *stream == self).map_or("All", |(name, _)| name)
    }
}

/// The options of a log request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LogOptions {
    /// Empty: the pod's only container.
    pub container: String,
    pub follow: bool,
    pub previous: bool,
    pub timestamps: bool,
    pub since_seconds: Option<i64>,
    pub since_time: Option<Timestamp>,
    pub tail_lines: Option<i64>,
    pub limit_bytes: Option<i64>,
    pub stream: LogStream,
    /// The API server takes the log from whoever answers for the kubelet.
    pub insecure_backend: bool,
}

impl LogOptions {
    /// Reads and checks what a client asks an API server for, which lets it ask for one of the outputs where it `splits` them.
    ///
    /// # Errors
    /// As [`Self::parse`].
    pub fn asked(query: &str, name: &str, splits: bool) -> Result<Self, Status> {
        let refused = !splits && Query::parse(query).text("stream").is_some();
        LogOptions::read(query, name, refused.then(|| FieldError::forbidden("stream", "may not be specified")))
    }

    /// Reads and checks a query string.
    ///
    /// # Errors
    /// 400 for values that do not parse, 422 for combinations and numbers that make no sense; `name` is the pod's.
    pub fn parse(query: &str, name: &str) -> Result<Self, Status> {
        LogOptions::read(query, name, None)
    }

    /// The same; what is `refused` of outputs stands in the place of all that is wrong with them.
    fn read(query: &str, name: &str, refused: Option<FieldError>) -> Result<Self, Status> {
        let query = Query::parse(query);
        let since_time = match query.text("sinceTime") {
            Some(text) => Some(read_time(text).map(saturated).map_err(Status::bad_request)?),
            None => None,
        };
        let mut errors = Vec::from_iter(refused);
        let stream = match query.text("stream").filter(|_| errors.is_empty()) {
            None => LogStream::All,
            Some(text) => LogStream::NAMES.iter().find(|(name, _)| *name == text).map_or_else(
                || {
                    errors.push(FieldError::not_supported("stream", text, &LogStream::NAMES.map(|(name, _)| name)));
                    LogStream::All
                },
                |(_, stream)| *stream,
            ),
        };
        let options = LogOptions {
            container: query.get("container").unwrap_or_default().to_owned(),
            follow: query.flag("follow").unwrap_or(false),
            previous: query.flag("previous").unwrap_or(false),
            timestamps: query.flag("timestamps").unwrap_or(false),
            since_seconds: query.integer("sinceSeconds")?,
            since_time,
            tail_lines: query.integer("tailLines")?,
            limit_bytes: query.integer("limitBytes")?,
            stream,
            insecure_backend: query.flag("insecureSkipTLSVerifyBackend").unwrap_or(false),
        };
        errors.splice(0..0, options.problems());
        if errors.is_empty() { Ok(options) } else { Err(Status::invalid("", "PodLogOptions", name, errors)) }
    }

    fn problems(&self) -> Vec<FieldError> {
        let mut errors = Vec::new();
        if let Some(lines) = self.tail_lines.filter(|lines| *lines < 0) {
            errors.push(FieldError::invalid("tailLines", lines, "must be greater than or equal to 0"));
        }
        if let Some(bytes) = self.limit_bytes.filter(|bytes| *bytes < 1) {
            errors.push(FieldError::invalid("limitBytes", bytes, "must be greater than 0"));
        }
        match (self.since_seconds, self.since_time) {
            (Some(_), Some(_)) => errors.push(FieldError::forbidden("", "at most one of `sinceTime` or `sinceSeconds` may be specified")),
            (Some(seconds), None) if seconds < 1 => errors.push(FieldError::invalid("sinceSeconds", seconds, "must be greater than 0")),
            _ => {}
        }
        if self.stream != LogStream::All && self.tail_lines.is_some() {
            errors.push(FieldError::forbidden("", "`tailLines` and specific `stream` are mutually exclusive for now"));
        }
        errors
    }

    /// The query string that a kubelet reads; the container is named by the path there, and how the kubelet is reached does not concern it.
    pub fn to_query(&self) -> String {
        let flags = [("follow", self.follow), ("previous", self.previous), ("timestamps", self.timestamps)];
        let mut parts: Vec<String> = flags.iter().filter(|(_, set)| *set).map(|(name, _)| format!("{name}=true")).collect();
        let numbers = [("sinceSeconds", self.since_seconds), ("tailLines", self.tail_lines), ("limitBytes", self.limit_bytes)];
        parts.extend(numbers.iter().filter_map(|(name, value)| value.map(|value| format!("{name}={value}"))));
        // A timestamp prints in UTC with Z: nothing in it needs escaping.
        parts.extend(self.since_time.map(|time| format!("sinceTime={time}")));
        if self.stream != LogStream::All {
            parts.push(format!("stream={}", self.stream.name()));
        }
        parts.join("&")
    }

    /// Lines older than this are not wanted.
    pub fn since(&self, now: Timestamp) -> Option<Timestamp> {
        let ago = |seconds| now.checked_sub(jiff::SignedDuration::from_secs(seconds)).unwrap_or(Timestamp::MIN);
        self.since_time.or_else(|| self.since_seconds.map(ago))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_survive_the_way_to_the_kubelet() {
        let text = "follow=true&previous=true&timestamps=true&tailLines=3&limitBytes=9&sinceTime=2026-01-02T03:04:05Z";
        let options = LogOptions::parse(text, "p").expect("valid");
        assert_eq!(LogOptions::parse(&options.to_query(), "p"), Ok(options));
        let options = LogOptions::parse("sinceSeconds=5&stream=Stderr", "p").expect("valid");
        assert_eq!(options.to_query(), "sinceSeconds=5&stream=Stderr");
        assert_eq!(options.since(Timestamp::UNIX_EPOCH).map(|time| time.as_second()), Some(-5));
        let options = LogOptions::parse("insecureSkipTLSVerifyBackend=true", "p").expect("valid");
        assert_eq!((options.insecure_backend, options.to_query().as_str()), (true, ""));
    }

    #[test]
    fn outputs_are_told_apart_where_the_server_lets_clients() {
        let refused = |query: &str| LogOptions::asked(query, "p", false).expect_err("refused").message;
        assert_eq!(refused("stream=Stderr"), "PodLogOptions \"p\" is invalid: stream: Forbidden: may not be specified");
        assert!(refused("stream=odd&tailLines=-1").contains("tailLines: Invalid value: -1"));
        assert!(LogOptions::asked("tailLines=1", "p", false).is_ok());
        assert_eq!(LogOptions::asked("stream=Stderr", "p", true).map(|options| options.stream), Ok(LogStream::Stderr));
    }

    #[test]
    fn senseless_options_are_refused_in_upstreams_words() {
        let refused = |query: &str| LogOptions::parse(query, "p").expect_err("refused").message;
        assert_eq!(refused("tailLines=-1"), "PodLogOptions \"p\" is invalid: tailLines: Invalid value: -1: must be greater than or equal to 0");
        assert!(refused("sinceSeconds=1&sinceTime=2026-01-02T03:04:05Z").contains("at most one of `sinceTime` or `sinceSeconds`"));
        assert!(refused("stream=x").contains("supported values: \"All\", \"Stderr\", \"Stdout\""));
        assert!(refused("limitBytes=a").contains("invalid syntax"));
    }
}
