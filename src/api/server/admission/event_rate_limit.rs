//! `EventRateLimit`: bounds how many events are written, by server, namespace, user, or source and object.

use std::{
    collections::{HashMap, VecDeque},
    time::Instant,
};

use async_trait::async_trait;
use parking_lot::Mutex;
use serde::Deserialize;
use troupe_api::{
    document::Document,
    status::{FieldError, Status, aggregate},
};

use super::{Attributes, Operation, Plugin, ValidatingPlugin};

/// How many keys a limit remembers where its configuration says nothing.
const CACHE: usize = 4096;
const TYPES: [&str; 4] = ["Namespace", "Server", "SourceAndObject", "User"];

/// The plugin's configuration.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EventRateLimitConfiguration {
    #[serde(default)]
    limits: Vec<Limit>,
}

impl Document for EventRateLimitConfiguration {
    const GROUP: &'static str = "eventratelimit.admission.k8s.io";
    const VERSIONS: &'static [&'static str] = &["v1alpha1"];
    const KIND: &'static str = "Configuration";
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Limit {
    #[serde(rename = "type", default)]
    kind: String,
    #[serde(default)]
    qps: i32,
    #[serde(default)]
    burst: i32,
    #[serde(default)]
    cache_size: i32,
}

/// The plugin.
pub struct EventRateLimit {
    limits: Vec<Enforcer>,
}

impl EventRateLimit {
    /// # Errors
    /// What is wrong with the configuration, in upstream's words.
    pub fn new(configuration: EventRateLimitConfiguration) -> Result<Self, String> {
        let errors = faults(&configuration);
        if !errors.is_empty() {
            return Err(aggregate(&errors.iter().map(ToString::to_string).collect::<Vec<_>>()));
        }
        Ok(EventRateLimit { limits: configuration.limits.into_iter().map(Enforcer::new).collect() })
    }
}

fn faults(configuration: &EventRateLimitConfiguration) -> Vec<FieldError> {
    let mut errors = Vec::new();
    if configuration.limits.is_empty() {
        errors.push(FieldError::invalid("limits", serde_json::Value::Null, "must not be empty"));
    }
    for (index, limit) in configuration.limits.iter().enumerate() {
        let field = |name: &str| format!("limits[{index}].{name}");
        if !TYPES.contains(&limit.kind.as_str()) {
            errors.push(FieldError::not_supported(field("type"), limit.kind.as_str(), &TYPES));
        }
        for (name, number) in [("burst", limit.burst), ("qps", limit.qps)] {
            if number <= 0 {
                errors.push(FieldError::invalid(field(name), number, "must be positive"));
            }
        }
        if limit.kind != "Server" && limit.cache_size < 0 {
            errors.push(FieldError::invalid(field("cacheSize"), limit.cache_size, "must not be negative"));
        }
    }
    errors
}

/// One limit, with a bucket of tokens for each key.
struct Enforcer {
    limit: Limit,
    buckets: Mutex<Buckets>,
}

/// Those used last; the one that was used before all others goes first.
#[derive(Default)]
struct Buckets {
    by_key: HashMap<String, Bucket>,
    order: VecDeque<(String, u64)>,
    turn: u64,
}

struct Bucket {
    tokens: f64,
    filled: Instant,
    used: u64,
}

impl Enforcer {
    fn new(limit: Limit) -> Self {
        Enforcer { limit, buckets: Mutex::default() }
    }

    fn key(&self, request: &Attributes<'_>) -> String {
        match self.limit.kind.as_str() {
            "Namespace" => request.target.namespace.to_string(),
            "User" => request.user.name.clone(),
            "SourceAndObject" => request.object().map(source_and_object).unwrap_or_default(),
            _ => String::new(),
        }
    }

    /// Takes a token, or says that there is none.
    fn accept(&self, key: &str, now: Instant) -> Result<(), String> {
        let (burst, rate) = (f64::from(self.limit.burst), f64::from(self.limit.qps));
        let most = if self.limit.cache_size > 0 { self.limit.cache_size.unsigned_abs() as usize } else { CACHE };
        if self.buckets.lock().take(key, now, (burst, rate), most) {
            return Ok(());
        }
        Err(format!("limit reached on type {} for key {key}", self.limit.kind))
    }
}

impl Buckets {
    fn take(&mut self, key: &str, now: Instant, (burst, rate): (f64, f64), most: usize) -> bool {
        self.turn += 1;
        let turn = self.turn;
        let bucket = self.by_key.entry(key.to_owned()).or_insert(Bucket { tokens: burst, filled: now, used: turn });
        let since = now.saturating_duration_since(bucket.filled).as_secs_f64();
        (bucket.tokens, bucket.filled, bucket.used) = ((bucket.tokens + since * rate).min(burst), now, turn);
        let granted = bucket.tokens >= 1.0;
        if granted {
            bucket.tokens -= 1.0;
        }
        self.order.push_back((key.to_owned(), turn));
        self.forget(most);
        granted
    }

    fn forget(&mut self, most: usize) {
        // What was used again since stands further behind too.
        while self.by_key.len() > most || self.order.len() > 2 * most {
            let Some((key, turn)) = self.order.pop_front() else { return };
            if self.by_key.get(&key).is_some_and(|bucket| bucket.used == turn) {
                if self.by_key.len() > most {
                    self.by_key.remove(&key);
                } else {
                    self.order.push_back((key, turn));
                }
            }
        }
    }
}

impl Plugin for EventRateLimit {
    fn name(&self) -> &'static str {
        "EventRateLimit"
    }

    fn operations(&self) -> &'static [Operation] {
        super::plugin::WRITES
    }
}

#[async_trait]
impl ValidatingPlugin for EventRateLimit {
    async fn validate(&self, request: &Attributes<'_>) -> Result<(), Status> {
        let kind = request.kind();
        let is_event = &*kind.kind == "Event" && matches!(&*kind.group, "" | "events.k8s.io");
        if !is_event || !matches!(request.operation, Operation::Create | Operation::Update) || request.dry_run {
            return Ok(());
        }
        let now = Instant::now();
        // Each counts, also when another has refused.
        let refused: Vec<String> = self.limits.iter().filter_map(|limit| limit.accept(&limit.key(request), now).err()).collect();
        if refused.is_empty() { Ok(()) } else { Err(Status::too_many_requests(format!("Too many requests: {}", aggregate(&refused)), 0)) }
    }
}

fn source_and_object(event: &troupe_api::meta::Object) -> String {
    // In the stored form the object of an event of events.k8s.io stands under the same name as that of the core group.
    let text = |path: &[&str]| event.str(path).to_owned();
    let (component, host) = (text(&["source", "component"]), text(&["source", "host"]));
    let object = ["kind", "namespace", "name", "uid", "apiVersion"].map(|field| text(&["involvedObject", field]));
    format!("{component}{host}{}", object.concat())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn limit(kind: &str, cache_size: i32) -> Enforcer {
        Enforcer::new(Limit { kind: kind.into(), qps: 2, burst: 3, cache_size })
    }

    #[test]
    fn a_burst_passes_then_what_the_rate_allows() {
        let (limit, begin) = (limit("Server", 0), Instant::now());
        let passed = |at: Duration| limit.accept("", begin + at).is_ok();
        assert_eq!([(); 4].map(|()| passed(Duration::ZERO)), [true, true, true, false]);
        assert_eq!([(); 2].map(|()| passed(Duration::from_millis(500))), [true, false]);
        assert_eq!(limit.accept("", begin), Err("limit reached on type Server for key ".into()));
    }

    #[test]
    fn each_key_has_its_own_tokens_and_few_keys_are_remembered() {
        let (limit, now) = (limit("User", 2), Instant::now());
        for _ in 0..3 {
            assert!(limit.accept("a", now).is_ok() && limit.accept("b", now).is_ok());
        }
        assert!(limit.accept("a", now).is_err());
        for index in 0..100 {
            assert!(limit.accept(&format!("u{index}"), now).is_ok());
        }
        let buckets = limit.buckets.lock();
        assert!(buckets.by_key.len() <= 2 && buckets.order.len() <= 4, "{}", buckets.order.len());
    }

    #[test]
    fn a_configuration_that_means_nothing_is_refused() {
        let configuration = |limits| EventRateLimitConfiguration { limits };
        let refused = |limits| EventRateLimit::new(configuration(limits)).err().unwrap_or_default();
        assert!(refused(Vec::new()).contains("must not be empty"));
        let odd = Limit { kind: "Pod".into(), qps: 0, burst: 1, cache_size: 0 };
        let why = refused(vec![odd]);
        assert!(
            why.contains("limits[0].type: Unsupported value: \"Pod\"") && why.contains("limits[0].qps: Invalid value: 0: must be positive"),
            "{why}"
        );
    }
}
