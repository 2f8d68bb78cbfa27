//! The scheduler's configuration: a `KubeSchedulerConfiguration` (`kubescheduler.config.k8s.io/v1`), decoded strictly and checked in
//! upstream's words before anything is started. What it says of plugins becomes profiles when the scheduler starts ([`Configuration::setup`]).

mod arguments;
mod effect;
mod fields;
mod plugin_sets;
#[cfg(test)]
mod tests;
mod validation;

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    time::Duration,
};

use serde_json::{Value, json};
use troupe_api::{
    schema::{DocumentError, from_yaml},
    status::FieldError,
};

use self::plugin_sets::Arranged;
use super::{
    DEFAULT_SCHEDULER, PARALLELISM, Setup,
    extender::{ExtenderSettings, Extenders},
    features::Features,
    framework::{Profile, Profiles},
    plugins::{Parts, registry},
    queue::Backoffs,
};
use crate::document_shape::{self, strict_error};

const GROUP: &str = "kubescheduler.config.k8s.io";
const API_VERSION: &str = "kubescheduler.config.k8s.io/v1";
const KIND: &str = "KubeSchedulerConfiguration";

/// Why a configuration is unusable.
#[derive(Debug, thiserror::Error)]
pub enum ConfigurationError {
    #[error("cannot read {0}: {1}")]
    Read(PathBuf, std::io::Error),
    #[error("it is no YAML: {0}")]
    Yaml(#[from] DocumentError),
    #[error("it is {0}, but this scheduler reads {API_VERSION} {KIND}")]
    Kind(String),
    /// It has fields that there are not, or values of another type.
    #[error("{0}")]
    Malformed(String),
    #[error("{}", listed(.0))]
    Invalid(Vec<FieldError>),
    #[error("initializing profiles: creating profile for scheduler name {0}: {1}")]
    Profile(String, String),
    #[error("couldn't build extenders: {0}")]
    Extender(String),
    /// It says something that has no effect here.
    #[error("{0}")]
    Idle(String),
}

/// As upstream tells several errors at once.
fn listed(errors: &[FieldError]) -> String {
    match errors {
        [only] => only.to_string(),
        all => format!("[{}]", all.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")),
    }
}

/// A configuration that was checked.
#[derive(Clone, Debug)]
pub struct Configuration {
    profiles: Vec<ProfileConfiguration>,
    backoffs: Backoffs,
    extenders: Vec<ExtenderSettings>,
    parallelism: usize,
}

#[derive(Clone, Debug)]
struct ProfileConfiguration {
    name: String,
    percentage: Option<usize>,
    arranged: Arranged,
    /// Arguments by plugin.
    arguments: BTreeMap<String, Value>,
}

impl Configuration {
    /// Reads a file, for a scheduler with these features.
    ///
    /// # Errors
    /// When it cannot be read, or says what cannot be.
    pub fn from_file(file: &Path, features: Features) -> Result<Self, ConfigurationError> {
        let text = std::fs::read_to_string(file).map_err(|error| ConfigurationError::Read(file.to_owned(), error))?;
        Configuration::parse(&text, features)
    }

    /// Reads a document, for a scheduler with these features.
    ///
    /// # Errors
    /// When it says what cannot be.
    pub fn parse(text: &str, features: Features) -> Result<Self, ConfigurationError> {
        let mut value: Value = from_yaml(text)?;
        let (version, kind) = (value["apiVersion"].as_str().unwrap_or_default(), value["kind"].as_str().unwrap_or_default());
        if (version, kind) != (API_VERSION, KIND) {
            let found = format!("{version} {kind}");
            return Err(ConfigurationError::Kind(if found.trim().is_empty() { "without apiVersion and kind".into() } else { found }));
        }
        decode(&value)?;
        name_profiles(&mut value);
        let errors = validation::validate(&value, features);
        if !errors.is_empty() {
            return Err(ConfigurationError::Invalid(errors));
        }
        effect::check(&value).map_err(ConfigurationError::Idle)?;
        let (usual, seconds) = (Backoffs::default(), |field: &str| value[field].as_u64().map(Duration::from_secs));
        let backoffs = Backoffs {
            initial: seconds("podInitialBackoffSeconds").unwrap_or(usual.initial),
            most: seconds("podMaxBackoffSeconds").unwrap_or(usual.most),
            cut_short: features.cuts_backoffs_short,
        };
        let profiles = list(&value["profiles"]).iter().map(|profile| ProfileConfiguration::read(profile, &value["percentageOfNodesToScore"]));
        let extenders = list(&value["extenders"]).iter().map(ExtenderSettings::read);
        let extenders = extenders.collect::<Result<_, _>>().map_err(ConfigurationError::Extender)?;
        let parallelism = value["parallelism"].as_u64().and_then(|number| usize::try_from(number).ok()).unwrap_or(PARALLELISM);
        Ok(Configuration { profiles: profiles.collect::<Result<_, _>>()?, backoffs, extenders, parallelism })
    }

    /// Makes profiles of it.
    pub fn setup(&self, parts: &Parts) -> Setup {
        let ignored: Vec<String> = self.extenders.iter().flat_map(|extender| extender.ignored.clone()).collect();
        let profiles = Profiles::new(self.profiles.iter().map(|profile| profile.make(parts, &ignored)));
        let extenders = Extenders::new(self.extenders.iter().cloned());
        let (gangs, taint_rules, parallelism) = (parts.gangs.clone(), parts.taint_rules.clone(), self.parallelism);
        Setup { profiles, backoffs: self.backoffs, extenders, parallelism, gangs, taint_rules, measures: false }
    }
}

impl ProfileConfiguration {
    fn read(profile: &Value, percentage: &Value) -> Result<Self, ConfigurationError> {
        let name = profile["schedulerName"].as_str().unwrap_or_default().to_owned();
        let arranged = Arranged::of(&profile["plugins"], &name).map_err(|why| ConfigurationError::Profile(name.clone(), why))?;
        let config = |config: &Value| (config["name"].as_str().unwrap_or_default().to_owned(), config["args"].clone());
        let own = profile["percentageOfNodesToScore"].as_u64().or_else(|| percentage.as_u64());
        Ok(ProfileConfiguration {
            percentage: own.and_then(|percent| usize::try_from(percent).ok()),
            arguments: list(&profile["pluginConfig"]).iter().map(config).collect(),
            arranged,
            name,
        })
    }

    /// Resources that extenders look after are not counted if they are `ignored`.
    fn make(&self, parts: &Parts, ignored: &[String]) -> Profile {
        let (arguments, spread_defaults) = arguments::read(|plugin| self.arguments.get(plugin).unwrap_or(&Value::Null), ignored);
        let plugins = registry::make(arguments, parts).into_values().collect();
        let mut profile = Profile::arranged(&self.name, plugins, &self.arranged.asked, &self.arranged.weights);
        (profile.percentage_of_nodes_to_score, profile.spread_defaults) = (self.percentage, spread_defaults);
        profile.compares_tolerations = parts.features.compares_tolerations;
        profile
    }
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map(Vec::as_slice).unwrap_or_default()
}

/// There is at least one profile, and one alone is that of all pods that choose none.
fn name_profiles(value: &mut Value) {
    if list(&value["profiles"]).is_empty() {
        value["profiles"] = json!([{}]);
    }
    if let [only] = value["profiles"].as_array_mut().map(Vec::as_mut_slice).unwrap_or_default() {
        if only.is_null() {
            *only = json!({});
        }
        if only["schedulerName"].is_null() {
            only["schedulerName"] = json!(DEFAULT_SCHEDULER);
        }
    }
}

/// Compares fields and types with those that there are, also in the arguments of plugins.
fn decode(value: &Value) -> Result<(), ConfigurationError> {
    let malformed = ConfigurationError::Malformed;
    let mut unknown = Vec::new();
    document_shape::check(value, &fields::CONFIGURATION, "", &mut unknown).map_err(malformed)?;
    if !unknown.is_empty() {
        return Err(malformed(strict_error(&unknown)));
    }
    for (at, profile) in list(&value["profiles"]).iter().enumerate() {
        for (index, config) in list(&profile["pluginConfig"]).iter().enumerate() {
            let place = format!("decoding .profiles[{at}].pluginConfig[{index}]");
            decode_arguments(config).map_err(|(why, strict)| {
                let prefix = if strict { "strict decoding error: " } else { "" };
                malformed(format!("{prefix}{place}: {prefix}{why}"))
            })?;
        }
    }
    Ok(())
}

/// # Errors
/// What is wrong, and whether it is only more than there is.
fn decode_arguments(config: &Value) -> Result<(), (String, bool)> {
    let (name, args) = (config["name"].as_str().unwrap_or_default(), &config["args"]);
    let Some(shape) = fields::arguments_of(name) else {
        // Whether there is such a plugin is checked later.
        let takes_none = args.is_null() || registry::points_of(name).is_none();
        return if takes_none { Ok(()) } else { Err((format!("plugin {name} takes no args"), false)) };
    };
    let (version, kind) = (args["apiVersion"].as_str(), args["kind"].as_str());
    let wanted = format!("{name}Args");
    if kind.is_some_and(|kind| kind != wanted) || version.is_some_and(|version| version != API_VERSION) {
        let (group, kind) = (version.unwrap_or(API_VERSION).split('/').next().unwrap_or_default(), kind.unwrap_or(&wanted));
        return Err((format!("args for plugin {name} were not of type {wanted}.{GROUP}, got {kind}.{group}"), false));
    }
    let mut unknown = Vec::new();
    document_shape::check(args, shape, "", &mut unknown).map_err(|why| (format!("decoding args for plugin {name}: {why}"), false))?;
    if unknown.is_empty() { Ok(()) } else { Err((format!("decoding args for plugin {name}: {}", strict_error(&unknown)), true)) }
}
