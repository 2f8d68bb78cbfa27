//! Pages of other origins that browsers let use the server (CORS, `--cors-allowed-origins`).
//!
//! In: the origin that a request names. Out: the headers by which the browser knows that it may show the answer to the page.

use actix_web::http::header::{self, HeaderMap, HeaderValue};
use troupe_api::pattern::{Kept, Pattern, syntax};

/// What a page may do, as upstream has it.
const METHODS: &str = "POST, GET, OPTIONS, PUT, DELETE, PATCH";
const HEADERS: &str = "Content-Type, Content-Length, Accept-Encoding, X-CSRF-Token, Authorization, X-Requested-With, If-Modified-Since";

/// The origins whose pages may use the server.
#[derive(Debug)]
pub struct AllowedOrigins(Vec<Pattern>);

impl AllowedOrigins {
    /// Takes regular expressions, each of which must say where the host of an origin begins and ends.
    ///
    /// # Errors
    /// In upstream's words, what is none.
    pub fn new(expressions: &[String]) -> Result<Self, String> {
        let kept = Kept::default();
        let pattern = |expression: &String| match fault(expression) {
            Some(why) => Err(why),
            None => Ok(Pattern::new(expression, &kept)),
        };
        expressions.iter().map(pattern).collect::<Result<_, _>>().map(AllowedOrigins)
    }

    /// The origin of a request, where it is one of them.
    pub(super) fn of(&self, headers: &HeaderMap) -> Option<HeaderValue> {
        let origin = headers.get(header::ORIGIN).filter(|origin| !origin.is_empty())?;
        let text = origin.to_str().ok()?;
        self.0.iter().any(|pattern| pattern.matches(text) == Some(true)).then(|| origin.clone())
    }
}

/// What is wrong with an expression. One that leaves open where a host begins or ends would let in whoever registers a longer name.
fn fault(expression: &str) -> Option<String> {
    if expression.is_empty() {
        return Some("empty value in --cors-allowed-origins".to_owned());
    }
    let is_pinned = |signs: [&str; 2]| signs.iter().any(|sign| expression.contains(sign));
    let why = match syntax::fault(expression) {
        Some(why) => why,
        None if is_pinned(["^", "//"]) && is_pinned(["$", ":"]) => return None,
        None => "regular expression does not pin to start/end of host in the origin header".to_owned(),
    };
    Some(format!("--cors-allowed-origins has an invalid regular expression: {why}"))
}

/// Lets a page of `origin` see an answer.
pub(super) fn allow(headers: &mut HeaderMap, origin: HeaderValue) {
    headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
    headers.insert(header::ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static(METHODS));
    headers.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, HeaderValue::from_static(HEADERS));
    headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, HeaderValue::from_static("Date"));
    headers.insert(header::ACCESS_CONTROL_ALLOW_CREDENTIALS, HeaderValue::from_static("true"));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn expressions_must_say_where_hosts_begin_and_end() {
        let new = |expression: &str| AllowedOrigins::new(&[expression.to_owned()]).map(|_| ());
        for fine in [r"//example\.com(:|$)", r"^https://example\.com(:|$)", r"//localhost:"] {
            assert_eq!(new(fine), Ok(()), "{fine}");
        }
        let loose =
            "--cors-allowed-origins has an invalid regular expression: regular expression does not pin to start/end of host in the origin header";
        for odd in [r"example\.com", r"//example\.com", r"example\.com$"] {
            assert_eq!(new(odd), Err(loose.to_owned()), "{odd}");
        }
        assert!(new("^(a$").expect_err("is none").starts_with("--cors-allowed-origins has an invalid regular expression: error parsing regexp"));
        assert_eq!(new(""), Err("empty value in --cors-allowed-origins".to_owned()));
    }

    #[test]
    fn an_origin_is_told_from_a_longer_one() {
        let allowed = AllowedOrigins::new(&[r"//example\.com(:|$)".to_owned()]).expect("reads");
        let is_allowed = |origin: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::ORIGIN, HeaderValue::from_static(origin));
            allowed.of(&headers).is_some()
        };
        assert!(is_allowed("https://example.com") && is_allowed("http://example.com:8080"));
        assert!(!is_allowed("https://example.com.evil.test") && !is_allowed("https://an-example.com") && !is_allowed(""));
        assert!(allowed.of(&HeaderMap::new()).is_none());
    }
}
