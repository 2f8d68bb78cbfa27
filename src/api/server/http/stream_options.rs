//! Options of exec and attach: which streams, and the command. The API's query names them otherwise than the kubelet's.

use troupe_api::status::Status;

use crate::http::query::Query;

/// What a client wants to be connected to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StreamOptions {
    /// Empty: the pod's only container.
    pub container: String,
    pub stdin: bool,
    pub stdout: bool,
    pub stderr: bool,
    pub tty: bool,
    /// Empty for attach.
    pub command: Vec<String>,
}

impl StreamOptions {
    /// From the query of `pods/exec` and `pods/attach`.
    pub fn of_api(query: &str) -> Self {
        let query = Query::parse(query);
        let flag = |name| query.flag(name).unwrap_or(false);
        StreamOptions {
            container: query.get("container").unwrap_or_default().to_owned(),
            stdin: flag("stdin"),
            stdout: flag("stdout"),
            stderr: flag("stderr"),
            tty: flag("tty"),
            command: query.all("command").map(str::to_owned).collect(),
        }
    }

    /// From the query of a kubelet's `/exec` and `/attach`.
    ///
    /// # Errors
    /// 400 when no stream is wanted.
    pub fn of_kubelet(query: &str) -> Result<Self, Status> {
        let query = Query::parse(query);
        let flag = |name| query.get(name) == Some("1");
        let options = StreamOptions {
            container: String::new(),
            stdin: flag("input"),
            stdout: flag("output"),
            stderr: flag("error"),
            tty: flag("tty"),
            command: query.all("command").map(str::to_owned).collect(),
        };
        options.checked()
    }

    /// The options that can be served: a terminal has one output.
    ///
    /// # Errors
    /// 400 when no stream is wanted.
    pub fn checked(mut self) -> Result<Self, Status> {
        self.stderr &= !self.tty;
        if self.stdin || self.stdout || self.stderr {
            return Ok(self);
        }
        Err(Status::bad_request("you must specify at least 1 of stdin, stdout, stderr"))
    }

    /// The query of a kubelet's `/exec` and `/attach`.
    pub fn to_kubelet_query(&self) -> String {
        let flags = [("input", self.stdin), ("output", self.stdout), ("error", self.stderr), ("tty", self.tty)];
        let mut parts: Vec<String> = flags.iter().filter(|(_, set)| *set).map(|(name, _)| format!("{name}=1")).collect();
        parts.extend(self.command.iter().map(|word| format!("command={}", escaped(word))));
        parts.join("&")
    }
}

/// All values of one parameter of a query string.
pub fn query_values(query: &str, name: &str) -> Vec<String> {
    Query::parse(query).all(name).map(str::to_owned).collect()
}

/// The first value of a parameter of a query string, or "".
pub fn query_value(query: &str, name: &str) -> String {
    Query::parse(query).get(name).unwrap_or_default().to_owned()
}

/// Percent-encodes everything but unreserved characters.
pub fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => out.push(char::from(byte)),
            _ => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_parameter_that_stands_twice_the_first_value_counts() {
        let query = "a=x%20y&b=&a=z";
        assert_eq!((query_value(query, "a"), query_values(query, "a")), ("x y".into(), vec!["x y".into(), "z".into()]));
        assert_eq!((query_value(query, "b"), query_value(query, "c")), (String::new(), String::new()));
    }

    #[test]
    fn a_command_survives_the_way_to_the_kubelet() {
        let options = StreamOptions::of_api("container=c&stdin=true&stdout=true&stderr=true&command=sh&command=-c&command=echo+%26+%C3%BC%3D1");
        assert_eq!(options.command, ["sh", "-c", "echo & ü=1"]);
        let query = options.to_kubelet_query();
        assert_eq!(query, "input=1&output=1&error=1&command=sh&command=-c&command=echo%20%26%20%C3%BC%3D1");
        let arrived = StreamOptions::of_kubelet(&query).expect("valid");
        assert_eq!(arrived, StreamOptions { container: String::new(), ..options });
    }

    #[test]
    fn a_terminal_has_no_stderr_and_some_stream_is_needed() {
        let options = StreamOptions::of_kubelet("output=1&error=1&tty=1").expect("valid");
        assert!(options.stdout && !options.stderr && options.tty);
        assert!(StreamOptions::of_kubelet("error=1&tty=1").is_err());
    }
}
