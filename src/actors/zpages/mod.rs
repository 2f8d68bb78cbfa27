//! `/statusz` and `/flagz`: what a component is, and with which flags it runs (KEP-4827, KEP-4828). People get text, who asks for it an
//! object of `config.k8s.io`. Who may read them is a question of the server that has them.

mod flagz;
mod negotiate;
mod statusz;

use std::{collections::BTreeMap, fmt, sync::Arc};

use hyper::{
    Request, Response,
    header::{self, HeaderName, HeaderValue},
};
use jiff::Timestamp;
use serde_json::{Value, json};
use troupe_api::{Status, meta::Clock, metrics::Process, schema::to_yaml, version::VersionInfo};
use troupe_api_server::http::accept;

use self::negotiate::{Form, Version, negotiate};
use crate::serving::{Body, document};

pub const STATUSZ: &str = "/statusz";
pub const FLAGZ: &str = "/flagz";
const TEXT: &str = "text/plain; charset=utf-8";
/// What stands between names and values: one as good as another, so that no program relies on it.
const DELIMITERS: [&str; 4] = [":", ": ", "=", " "];

/// What is told of a component.
#[derive(Clone, Debug)]
pub struct Facts {
    /// Such as `kube-scheduler`.
    pub name: &'static str,
    pub version: VersionInfo,
    /// Values by names, without secrets.
    pub flags: BTreeMap<String, String>,
    /// Where else its server answers.
    pub paths: Vec<String>,
    pub started: Timestamp,
}

/// The pages of a component.
pub struct Zpages {
    facts: Facts,
    clock: Arc<dyn Clock>,
    /// Those of the two that are not there.
    hidden: Vec<&'static str>,
}

impl fmt::Debug for Zpages {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Zpages").field("facts", &self.facts).finish_non_exhaustive()
    }
}

/// A request, as far as it matters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Asked<'a> {
    pub path: &'a str,
    /// The query string, undecoded.
    pub query: &'a str,
    /// The header, empty for none.
    pub accept: &'a str,
    pub user_agent: &'a str,
}

impl<'a> Asked<'a> {
    pub fn of<B>(request: &'a Request<B>) -> Self {
        let header = |name: HeaderName| request.headers().get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
        let (path, query) = (request.uri().path(), request.uri().query().unwrap_or_default());
        Asked { path, query, accept: header(header::ACCEPT), user_agent: header(header::USER_AGENT) }
    }
}

/// A reply.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page {
    pub code: u16,
    pub content_type: &'static str,
    pub body: String,
    /// What its `Warning` header says, if it has one.
    pub warning: Option<&'static str>,
    /// The version of `config.k8s.io` that an object is of.
    pub version: Option<&'static str>,
}

impl From<Status> for Page {
    fn from(status: Status) -> Self {
        Page { code: status.code, content_type: "application/json", body: status.to_text(), warning: None, version: None }
    }
}

impl Zpages {
    /// The pages of a component of this process.
    pub fn new(name: &'static str, version: VersionInfo, flags: BTreeMap<String, String>, paths: Vec<String>, clock: Arc<dyn Clock>) -> Self {
        // Fractions of a second are not told.
        let started = Process.started().and_then(|seconds| Timestamp::from_second(seconds as i64).ok()).unwrap_or_else(|| clock.now());
        Zpages { facts: Facts { name, version, flags, paths, started }, clock, hidden: Vec::new() }
    }

    /// The same without some of them.
    #[must_use]
    pub fn hiding(mut self, hidden: Vec<&'static str>) -> Self {
        self.facts.paths.retain(|path| !hidden.contains(&path.as_str()));
        Zpages { hidden, ..self }
    }

    /// The reply to a request; `None` for another path.
    ///
    /// # Errors
    /// 406 when the client takes nothing that there is.
    pub fn answer(&self, asked: &Asked<'_>) -> Option<Result<Page, Status>> {
        match asked.path {
            STATUSZ | FLAGZ if !self.hidden.contains(&asked.path) => Some(page(&self.facts, asked, self.clock.now())),
            _ => None,
        }
    }

    /// The same as a response.
    pub fn respond(&self, asked: &Asked<'_>) -> Option<Response<Body>> {
        let Page { code, content_type, body, warning, .. } = self.answer(asked)?.unwrap_or_else(Page::from);
        let mut response = document(code, content_type, body);
        if let Some(value) = warning.and_then(|warning| HeaderValue::try_from(format!("299 - \"{warning}\"")).ok()) {
            response.headers_mut().insert(header::WARNING, value);
        }
        Some(response)
    }
}

/// The page at a path. Pure.
fn page(facts: &Facts, asked: &Asked<'_>, now: Timestamp) -> Result<Page, Status> {
    let is_status = asked.path == STATUSZ;
    let kind = if is_status { "Statusz" } else { "Flagz" };
    let delimiter = DELIMITERS[usize::try_from(now.as_second().rem_euclid(4)).unwrap_or(0)];
    let ok = |content_type, body, warning, version| Page { code: 200, content_type, body, warning, version };
    let (version, is_yaml, pretty) = match negotiate(asked.accept, kind)? {
        Form::Text if is_status => return Ok(ok(TEXT, statusz::text(facts, now, delimiter), None, None)),
        Form::Text => return Ok(ok(TEXT, flagz::text(facts, delimiter), None, None)),
        Form::Object { version, yaml, pretty } => (version, yaml, pretty),
    };
    let mut object = if is_status { statusz::fields(facts, now) } else { flagz::fields(facts) };
    object["kind"] = kind.into();
    object["apiVersion"] = version.api_version().into();
    object["metadata"] = json!({"name": facts.name});
    let warning = (version == Version::V1Alpha1).then_some(if is_status { statusz::DEPRECATED } else { flagz::DEPRECATED });
    if is_yaml {
        return Ok(ok("application/yaml", to_yaml(&object), warning, Some(version.name())));
    }
    let pretty = pretty || accept::is_for_people(asked.query, asked.user_agent);
    Ok(ok("application/json", json_text(&object, pretty), warning, Some(version.name())))
}

fn json_text(object: &Value, pretty: bool) -> String {
    if pretty { format!("{object:#}") } else { format!("{object}\n") }
}

/// How a page begins.
fn head(name: &str, page: &str) -> String {
    let warning = "Warning: This endpoint is not meant to be machine parseable, has no formatting compatibility guarantees and is for debugging \
                   purposes only.";
    format!("\n{name} {page}\n{warning}\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts() -> Facts {
        Facts {
            name: "kube-scheduler",
            version: VersionInfo::of_build("0.1.0", "c", "d"),
            flags: [("data-dir", "/d"), ("bridge", "")].map(|(name, value)| (name.to_owned(), value.to_owned())).into(),
            paths: ["/metrics", "/metrics/slis", "/healthz", "/apis/apps", "/openapi/v2", "/"].map(str::to_owned).to_vec(),
            started: "2026-01-02T03:04:05Z".parse().expect("a time"),
        }
    }

    fn asked(path: &str, accept: &str) -> Result<Page, Status> {
        let now = "2026-01-02T05:05:08Z".parse().expect("a time");
        page(&facts(), &Asked { path, accept, ..Asked::default() }, now)
    }

    #[test]
    fn a_page_that_is_hidden_is_not_there() {
        let Facts { name, version, flags, paths, .. } = facts();
        let pages = Zpages::new(name, version, flags, paths, Arc::new(troupe_api::meta::SystemClock)).hiding(vec![FLAGZ]);
        let answer = |path: &str| pages.answer(&Asked { path, ..Asked::default() });
        assert!(answer(FLAGZ).is_none() && answer(STATUSZ).is_some_and(|page| page.is_ok()));
    }

    #[test]
    fn people_read_text() {
        for accept in ["", " ", "*/*", "text/plain", "text/*", "application/json,*/*;q=0.1"] {
            let page = asked(STATUSZ, accept).expect(accept);
            assert_eq!((page.code, page.content_type, page.warning, page.version), (200, TEXT, None, None));
            let (first, rest) = page.body.split_once("only.\n").expect("a head");
            assert!(first.starts_with("\nkube-scheduler statusz\nWarning: This endpoint is not meant"), "{first}");
            let told = "\nStarted: Fri Jan  2 03:04:05 UTC 2026\nUp: 2 hr 01 min 03 sec\nGo version: none\nBinary version: 1.36.0+troupe.0.1.0\n\
                        Emulation version: 1.36\nPaths: /healthz /metrics\n";
            assert_eq!(unspaced(rest), unspaced(told));
        }
        let flags = asked(FLAGZ, "text/plain").expect("a page").body;
        assert!(flags.starts_with("\nkube-scheduler flagz\n"), "{flags}");
        let lines: Vec<&str> = flags.lines().rev().take(2).collect();
        assert!(lines[0].starts_with("data-dir") && lines[0].ends_with("/d") && lines[1].starts_with("bridge"), "{lines:?}");
    }

    /// A page whatever stands between its names and values.
    fn unspaced(text: &str) -> String {
        text.chars().filter(|letter| !matches!(letter, ' ' | ':' | '=')).collect()
    }

    #[test]
    fn programs_read_objects_of_a_version() {
        let status = asked(STATUSZ, "application/json;as=Statusz;v=v1beta1;g=config.k8s.io").expect("a page");
        assert_eq!((status.content_type, status.warning, status.version), ("application/json", None, Some("v1beta1")));
        let want = json!({
            "kind": "Statusz", "apiVersion": "config.k8s.io/v1beta1", "metadata": {"name": "kube-scheduler"},
            "startTime": "2026-01-02T03:04:05Z", "uptimeSeconds": 7263, "goVersion": "none", "binaryVersion": "1.36.0+troupe.0.1.0",
            "emulationVersion": "1.36", "paths": ["/healthz", "/metrics"],
        });
        assert_eq!(serde_json::from_str::<Value>(&status.body).expect("JSON"), want);
        let flags = asked(FLAGZ, "application/json;as=Flagz;v=v1alpha1;g=config.k8s.io;pretty=1").expect("a page");
        assert_eq!(flags.warning, Some("This version of the flagz endpoint is deprecated. Please use a newer version."));
        assert!(flags.body.contains("\n  \"flags\": {\n    \"bridge\": \"\",\n    \"data-dir\": \"/d\"\n  }"), "{}", flags.body);
        let yaml = asked(FLAGZ, "application/yaml;as=Flagz;v=v1beta1;g=config.k8s.io").expect("a page");
        assert_eq!(yaml.content_type, "application/yaml");
        assert!(yaml.body.contains("apiVersion: config.k8s.io/v1beta1\n") && yaml.body.contains("  data-dir: /d\n"), "{}", yaml.body);
    }

    #[test]
    fn what_there_is_not_is_not_acceptable() {
        let (path, kind) = (STATUSZ, "Statusz");
        for accept in [
            "application/json".to_owned(),
            "application/vnd.kubernetes.protobuf".into(),
            format!("application/json;as={kind};v=v1;g=config.k8s.io"),
            "application/json;as=Flagz;v=v1beta1;g=config.k8s.io".into(),
            format!("text/plain;as={kind};v=v1beta1;g=config.k8s.io"),
            format!("application/json;as={kind};v=v1beta1;g=config.k8s.io;stream=watch"),
        ] {
            let status = asked(path, &accept).expect_err(&accept);
            assert_eq!((status.code, Page::from(status.clone()).code), (406, 406));
            assert_eq!(status.message, "only the following media types are accepted: application/json, application/yaml, text/plain");
        }
    }
}
