//! The kubelet's configuration as upstream's: a `KubeletConfiguration` (`kubelet.config.k8s.io/v1beta1`) from a file and a folder of drop-ins,
//! decoded strictly, checked in upstream's words before anything is started, and told at `/configz`.
//!
//! Each field is a row in [`fields`]. What this kubelet does not do is refused when something is said of it, or warned of where pods could not
//! see the difference: nothing is ignored without a word.

mod amounts;
mod decode;
mod effect;
pub mod fields;
mod load;
mod managers;
mod pulls;
#[cfg(test)]
mod tests;
mod validation;

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::LazyLock,
    time::Duration,
};

use k8s_openapi::api::core::v1::Taint;
use serde_json::{Map, Value, json};
use troupe_api::{expressions::go_duration, spans::TracingSettings};

use self::fields::FIELDS;
pub use self::{
    amounts::Reservation,
    load::{FileError, LoadError},
    validation::Machine,
};
use super::{
    cpu_set::CpuSet,
    eviction::settings::{EvictionSettings, default_hard},
    manifests::PodUrl,
    node_shutdown::plan::{Period, periods},
};

/// Fields that name files.
const FILES: [&str; 7] =
    ["staticPodPath", "resolvConf", "volumePluginDir", "podLogsDir", "tlsCertFile", "tlsPrivateKeyFile", "authentication.x509.clientCAFile"];

const GROUP_VERSION: &str = "kubelet.config.k8s.io/v1beta1";
const KIND: &str = "KubeletConfiguration";

/// Servers are not asked more often.
const LEAST_PERIOD: Duration = Duration::from_millis(100);
/// What is shown in the place of what nobody may read, as upstream logs it.
const MASKED: &str = "<masked>";

/// Why a configuration is unusable.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum ConfigurationError {
    /// It has fields that there are not, or values of another type.
    #[error("{0}")]
    Malformed(String),
    #[error("failed to validate kubelet configuration, error: {}", listed(.0))]
    Invalid(Vec<String>),
    /// It says something that this kubelet does not do.
    #[error("{}", listed(.0))]
    Unsupported(Vec<String>),
}

/// As upstream tells several errors at once.
fn listed(errors: &[String]) -> String {
    match errors {
        [only] => only.clone(),
        all => format!("[{}]", all.join(", ")),
    }
}

/// What there is where nothing is said, by path.
static DEFAULTS: LazyLock<BTreeMap<&'static str, Value>> = LazyLock::new(|| {
    let value = |text: &str| serde_json::from_str(text).expect("defaults are JSON");
    FIELDS.iter().filter(|row| !row.default.is_empty()).map(|row| (row.path, value(row.default))).collect()
});

/// A configuration: what is said, and what holds where nothing is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KubeletConfiguration {
    /// By path. What is said to be nothing is not here.
    said: BTreeMap<String, Value>,
}

impl KubeletConfiguration {
    /// Reads a file and the drop-ins (`*.conf`) of a folder, in the order of their paths.
    ///
    /// # Errors
    /// When one cannot be read, or has a field that there is not.
    pub fn load(file: Option<&Path>, drop_ins: Option<&Path>) -> Result<Self, LoadError> {
        load::load(file, drop_ins)
    }

    /// Reads a document.
    ///
    /// # Errors
    /// When it is another document, or has a field that there is not.
    pub fn parse(text: &str) -> Result<Self, ConfigurationError> {
        let mut configuration = KubeletConfiguration::default();
        configuration.merge(decode::document(text)?);
        Ok(configuration)
    }

    /// Takes in what another document says, null for what is not said any more. Of maps each entry counts for itself, as upstream merges.
    fn merge(&mut self, document: BTreeMap<String, Value>) {
        for (path, value) in document {
            let below = |known: &String| *known == path || known.strip_prefix(&path).is_some_and(|rest| rest.starts_with('.'));
            match value {
                Value::Null => self.said.retain(|known, _| !below(known)),
                Value::Object(entries) => {
                    let known = self.said.entry(path).or_insert_with(|| json!({}));
                    if let Some(known) = known.as_object_mut() {
                        known.extend(entries);
                        known.retain(|_, value| !value.is_null());
                    }
                }
                value => {
                    self.said.insert(path, value);
                }
            }
        }
        self.said.retain(|path, value| decode::says_something(path, value));
    }

    /// What is said of a field, `None` when nothing is.
    pub fn says(&self, path: &str) -> Option<&Value> {
        self.said.get(path)
    }

    /// Says something of a field, which then holds.
    pub fn say(&mut self, path: &str, value: impl Into<Value>) {
        self.said.insert(path.to_owned(), value.into());
    }

    /// The same of a duration.
    pub fn say_duration(&mut self, path: &str, duration: Duration) {
        self.say(path, amounts::shown_duration(i64::try_from(duration.as_nanos()).unwrap_or(i64::MAX)));
    }

    /// A document that says the same.
    pub fn said_document(&self) -> Value {
        let mut document = json!({"apiVersion": GROUP_VERSION, "kind": KIND});
        self.said.iter().for_each(|(path, value)| put(&mut document, path, value.clone()));
        document
    }

    /// What holds.
    pub fn value(&self, path: &str) -> &Value {
        let said = self.said.get(path).or_else(|| {
            // What is looked at more seldom is not told sooner.
            let follows = path == "nodeStatusReportFrequency";
            self.said.get("nodeStatusUpdateFrequency").filter(|_| follows)
        });
        said.or_else(|| DEFAULTS.get(path)).unwrap_or(&Value::Null)
    }

    pub fn text(&self, path: &str) -> &str {
        self.value(path).as_str().unwrap_or_default()
    }

    pub fn flag(&self, path: &str) -> bool {
        self.value(path).as_bool().unwrap_or_default()
    }

    pub fn number(&self, path: &str) -> i64 {
        self.value(path).as_i64().unwrap_or_default()
    }

    /// Nanoseconds of a duration, which may be negative.
    fn nanoseconds(&self, path: &str) -> i64 {
        go_duration(self.text(path)).unwrap_or_default()
    }

    pub fn duration(&self, path: &str) -> Duration {
        Duration::from_nanos(self.nanoseconds(path).max(0).unsigned_abs())
    }

    pub fn texts(&self, path: &str) -> Vec<String> {
        self.value(path).as_array().into_iter().flatten().filter_map(|text| text.as_str().map(str::to_owned)).collect()
    }

    pub fn map(&self, path: &str) -> BTreeMap<String, String> {
        let entries = self.value(path).as_object().into_iter().flatten();
        entries.filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned()))).collect()
    }

    /// What is said of tracing, if anything is.
    pub fn tracing(&self) -> Option<TracingSettings> {
        let (endpoint, rate) = (self.says("tracing.endpoint"), self.says("tracing.samplingRatePerMillion"));
        if endpoint.is_none() && rate.is_none() {
            return None;
        }
        Some(TracingSettings {
            endpoint: endpoint.and_then(Value::as_str).map(str::to_owned),
            sampling_rate_per_million: rate.and_then(Value::as_i64).and_then(|rate| i32::try_from(rate).ok()),
        })
    }

    /// Whether a feature is on, where something is said of it.
    pub fn feature(&self, name: &str) -> Option<bool> {
        self.value("featureGates").get(name)?.as_bool()
    }

    /// When pods are evicted. Where amounts are said those of other signals are not there, unless the defaults are to be merged.
    pub fn eviction(&self) -> EvictionSettings {
        let mut hard = self.map("evictionHard");
        if self.says("evictionHard").is_none() {
            hard = default_hard();
        } else if self.flag("mergeDefaultEvictionSettings") {
            for (signal, amount) in default_hard() {
                hard.entry(signal).or_insert(amount);
            }
        }
        EvictionSettings {
            hard,
            soft: self.map("evictionSoft"),
            soft_grace_period: self.map("evictionSoftGracePeriod"),
            minimum_reclaim: self.map("evictionMinimumReclaim"),
        }
    }

    /// What a server has for this node beside its files, if there is one. Several headers of one name are one with all values.
    pub fn pod_url(&self) -> Option<PodUrl> {
        let headers = self.value("staticPodURLHeader").as_object().into_iter().flatten();
        let texts =
            |values: &Value| values.as_array().into_iter().flatten().filter_map(|value| value.as_str().map(str::to_owned)).collect::<Vec<_>>();
        let headers = headers.map(|(name, values)| (name.clone(), texts(values).join(", ")));
        PodUrl::parse(self.text("staticPodURL"), headers.collect(), self.duration("httpCheckFrequency").max(LEAST_PERIOD))
    }

    /// How long pods have when the machine shuts down, by rising priority; nothing where they have no time of their own.
    pub fn shutdown_periods(&self) -> Vec<Period> {
        let given = self.value("shutdownGracePeriodByPodPriority").as_array().into_iter().flatten();
        let period = |entry: &Value| Period {
            priority: entry["priority"].as_i64().and_then(|priority| i32::try_from(priority).ok()).unwrap_or_default(),
            grace: entry["shutdownGracePeriodSeconds"].as_i64().unwrap_or_default().max(0).unsigned_abs(),
        };
        periods(given.map(period).collect(), self.duration("shutdownGracePeriod"), self.duration("shutdownGracePeriodCriticalPods"))
    }

    /// Taints of the node when it registers.
    pub fn taints(&self) -> Vec<Taint> {
        let given = self.value("registerWithTaints").as_array().into_iter().flatten();
        given.filter_map(|taint| serde_json::from_value(taint.clone()).ok()).collect()
    }

    /// Whether what pods use together is bounded.
    pub fn enforces_pods(&self) -> bool {
        self.texts("enforceNodeAllocatable").iter().any(|enforced| enforced == "pods")
    }

    /// Checks all values; what a value says of the machine is compared with that.
    ///
    /// # Errors
    /// All that is wrong, in upstream's words, or else all that this kubelet does not do.
    pub fn check(&self, machine: Machine) -> Result<(), ConfigurationError> {
        let invalid = validation::validate(self, machine);
        if !invalid.is_empty() {
            return Err(ConfigurationError::Invalid(invalid));
        }
        let unsupported = effect::unsupported(self);
        if unsupported.is_empty() { Ok(()) } else { Err(ConfigurationError::Unsupported(unsupported)) }
    }

    /// What is said and changes nothing here, in words.
    pub fn idle(&self) -> Vec<String> {
        effect::idle(self)
    }

    /// All that holds, as upstream shows it.
    pub fn document(&self) -> Value {
        let mut document = Value::Object(Map::new());
        let eviction = json!(self.eviction().hard);
        let mut headers = self.value("staticPodURLHeader").clone();
        // They may let somebody in.
        headers.as_object_mut().into_iter().flat_map(Map::values_mut).for_each(|values| *values = json!([MASKED]));
        for row in FIELDS {
            let value = match row.path {
                "evictionHard" => &eviction,
                "staticPodURLHeader" => &headers,
                path => self.value(path),
            };
            if !value.is_null() {
                put(&mut document, row.path, value.clone());
            }
        }
        document
    }

    /// Makes relative paths those of the file that they stand in.
    fn resolve_paths(&mut self, file: &Path) {
        let folder = file.parent().unwrap_or(Path::new("/"));
        for path in FILES {
            let relative = self.said.get(path).and_then(Value::as_str).filter(|text| !text.is_empty() && !text.starts_with('/')).map(PathBuf::from);
            if let Some(relative) = relative {
                self.say(path, clean(&folder.join(relative)));
            }
        }
    }
}

/// A path without `.` and `..`, as Go joins them.
fn clean(path: &Path) -> String {
    use std::path::Component::{CurDir, Normal, ParentDir, Prefix, RootDir};
    let mut cleaned = PathBuf::new();
    for component in path.components() {
        match component {
            CurDir => {}
            ParentDir => drop(cleaned.pop()),
            Prefix(_) | RootDir | Normal(_) => cleaned.push(component),
        }
    }
    cleaned.display().to_string()
}

fn put(document: &mut Value, path: &str, value: Value) {
    let mut place = document;
    for name in path.split('.') {
        place = &mut place[name];
    }
    *place = value;
}
