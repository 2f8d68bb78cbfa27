//! `AdmissionConfiguration`: the file that configures plugins.

use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde_json::Value;
use troupe_api::{
    document::{self, Document, DocumentError},
    schema::{DocumentError as YamlError, from_yaml},
};

use super::{
    DefaultTolerationSeconds, EventRateLimit, Pipeline, PodNodeSelector, PodSecurity, PodTolerationRestriction, Selection,
    pipeline::ConfiguredPlugins,
    pod_security::{Configuration, ConfigurationError},
    resource_quota::ResourceQuotaConfiguration,
};

/// Why a file is unusable.
#[derive(Debug, thiserror::Error)]
pub enum AdmissionConfigurationError {
    #[error("cannot read {0}: {1}")]
    Read(PathBuf, std::io::Error),
    #[error("{0} is no YAML: {1}")]
    Yaml(PathBuf, YamlError),
    #[error(transparent)]
    Document(#[from] DocumentError),
    #[error("the plugin {0:?} is not there, or takes no configuration")]
    Plugin(String),
    #[error("the plugin {0:?} is configured twice")]
    Twice(String),
    #[error("the plugin {0:?} must have a configuration or the path of one, and not both")]
    Source(String),
    #[error("the configuration of PodSecurity is unusable: {0}")]
    PodSecurity(#[from] ConfigurationError),
    #[error("the configuration of {0} is unusable: {1}")]
    Unusable(&'static str, String),
    #[error("EventRateLimit is enabled, but has no configuration that says what it limits")]
    NoLimits,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    plugins: Vec<PluginEntry>,
}

impl Document for File {
    const GROUP: &'static str = "apiserver.config.k8s.io";
    const VERSIONS: &'static [&'static str] = &["v1"];
    const KIND: &'static str = "AdmissionConfiguration";
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PluginEntry {
    name: String,
    /// Relative paths begin beside the file.
    path: Option<PathBuf>,
    configuration: Option<Value>,
}

impl Pipeline {
    /// The chosen plugins, configured as `file` says; pods stay on nodes that are lost for as long as `tolerations` say.
    ///
    /// # Errors
    /// When the file, or one that it names, cannot be read, or says what this server does not do.
    pub fn from_file(selection: Selection, tolerations: DefaultTolerationSeconds, file: Option<&Path>) -> Result<Self, AdmissionConfigurationError> {
        let mut plugins = ConfiguredPlugins { default_tolerations: tolerations, ..ConfiguredPlugins::default() };
        let configuration = file.map(|file| document::read::<File>(renamed(parse(file)?)).map_err(AdmissionConfigurationError::from)).transpose()?;
        let mut seen = Vec::new();
        for PluginEntry { name, path, configuration } in configuration.map(|file| file.plugins).unwrap_or_default() {
            if seen.contains(&name) {
                return Err(AdmissionConfigurationError::Twice(name));
            }
            if !CONFIGURABLE.contains(&name.as_str()) {
                return Err(AdmissionConfigurationError::Plugin(name));
            }
            let value = match (configuration, path) {
                (Some(value), None) => value,
                (None, Some(path)) => parse(&file.and_then(Path::parent).unwrap_or(Path::new("")).join(path))?,
                _ => return Err(AdmissionConfigurationError::Source(name)),
            };
            plugins.configure(&name, value)?;
            seen.push(name);
        }
        if selection.has("EventRateLimit") && plugins.event_rate_limit.is_none() {
            return Err(AdmissionConfigurationError::NoLimits);
        }
        Ok(Pipeline::configured(selection, plugins))
    }
}

/// The older version, which differs by its name alone.
const OLDER: &str = "apiserver.k8s.io/v1alpha1";

fn renamed(mut configuration: Value) -> Value {
    if configuration.get("apiVersion").and_then(Value::as_str) == Some(OLDER) {
        configuration["apiVersion"] = format!("{}/{}", File::GROUP, File::VERSIONS[0]).into();
    }
    configuration
}

const CONFIGURABLE: [&str; 5] = ["EventRateLimit", "PodNodeSelector", "PodSecurity", "PodTolerationRestriction", "ResourceQuota"];

impl ConfiguredPlugins {
    fn configure(&mut self, name: &str, value: Value) -> Result<(), AdmissionConfigurationError> {
        match name {
            "EventRateLimit" => {
                let limits = EventRateLimit::new(document::read(value)?);
                self.event_rate_limit = Some(limits.map_err(|why| AdmissionConfigurationError::Unusable("EventRateLimit", why))?);
            }
            "PodNodeSelector" => {
                let unusable = |why| AdmissionConfigurationError::Unusable("PodNodeSelector", why);
                // Upstream's is no document: it has neither apiVersion nor kind.
                let configuration = serde_json::from_value(value).map_err(|error| unusable(error.to_string()))?;
                self.pod_node_selector = PodNodeSelector::new(configuration).map_err(unusable)?;
            }
            "PodTolerationRestriction" => self.pod_tolerations = PodTolerationRestriction::new(document::read(value)?),
            "ResourceQuota" => {
                let limited = document::read::<ResourceQuotaConfiguration>(value)?.limited();
                self.limited_resources = limited.map_err(|why| AdmissionConfigurationError::Unusable("ResourceQuota", why))?;
            }
            _ => self.pod_security = PodSecurity::new(Configuration::from_value(value)?),
        }
        Ok(())
    }
}

fn parse(file: &Path) -> Result<Value, AdmissionConfigurationError> {
    let text = std::fs::read_to_string(file).map_err(|error| AdmissionConfigurationError::Read(file.to_owned(), error))?;
    from_yaml(&text).map_err(|error| AdmissionConfigurationError::Yaml(file.to_owned(), error))
}

#[cfg(test)]
mod tests {
    use super::*;

    const POD_SECURITY: &str = "{apiVersion: pod-security.admission.config.k8s.io/v1, kind: PodSecurityConfiguration, defaults: {enforce: baseline}}";

    fn read(plugins: &str) -> Result<Vec<&'static str>, String> {
        let dir = tempfile::tempdir().expect("a temporary directory");
        std::fs::write(dir.path().join("pod-security.yaml"), POD_SECURITY).expect("writes");
        let file = dir.path().join("admission.yaml");
        std::fs::write(&file, format!("apiVersion: apiserver.config.k8s.io/v1\nkind: AdmissionConfiguration\nplugins: {plugins}\n")).expect("writes");
        Pipeline::from_file(Selection::default(), DefaultTolerationSeconds::default(), Some(&file))
            .map(|pipeline| pipeline.names().to_vec())
            .map_err(|error| error.to_string())
    }

    #[test]
    fn a_plugin_is_configured_in_the_file_or_beside_it() {
        let standard = Ok(Pipeline::standard().names().to_vec());
        assert_eq!(read("[]"), standard);
        assert_eq!(read(&format!("[{{name: PodSecurity, configuration: {POD_SECURITY}}}]")), standard);
        assert_eq!(read("[{name: PodSecurity, path: pod-security.yaml}]"), standard);
    }

    #[test]
    fn quotas_are_told_what_is_limited() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let file = dir.path().join("admission.yaml");
        let scopes = "[{scopeName: PriorityClass, operator: In, values: [critical]}]";
        let limited = format!("[{{resource: pods, matchScopes: {scopes}}}, {{apiGroup: apps, resource: deployments, matchContains: [count]}}]");
        let own = format!("{{apiVersion: apiserver.config.k8s.io/v1, kind: ResourceQuotaConfiguration, limitedResources: {limited}}}");
        // An older version is read, too.
        let text = format!(
            "{{apiVersion: apiserver.k8s.io/v1alpha1, kind: AdmissionConfiguration, plugins: [{{name: ResourceQuota, configuration: {own}}}]}}"
        );
        std::fs::write(&file, text).expect("writes");
        let pipeline = Pipeline::from_file(Selection::default(), DefaultTolerationSeconds::default(), Some(&file)).expect("works");
        let [pods, deployments] = pipeline.limited_resources() else { panic!("two are limited") };
        assert_eq!((&*pods.resource.resource, pods.scopes[0].values.as_slice()), ("pods", &["critical".to_owned()][..]));
        assert_eq!((&*deployments.resource.group, deployments.contains.as_slice()), ("apps", &["count".to_owned()][..]));
    }

    #[test]
    fn a_limit_of_events_needs_its_configuration() {
        let chosen = || Selection::new(&["EventRateLimit".into(), "AlwaysPullImages".into()], &["PodSecurity".into()]).expect("known");
        let error = Pipeline::from_file(chosen(), DefaultTolerationSeconds::default(), None).err().expect("is refused");
        assert!(matches!(error, AdmissionConfigurationError::NoLimits), "{error}");
        let dir = tempfile::tempdir().expect("a temporary directory");
        let file = dir.path().join("admission.yaml");
        let limits = "{apiVersion: eventratelimit.admission.k8s.io/v1alpha1, kind: Configuration, limits: [{type: Server, qps: 1, burst: 2}]}";
        let text = format!(
            "{{apiVersion: apiserver.config.k8s.io/v1, kind: AdmissionConfiguration, plugins: [{{name: EventRateLimit, configuration: {limits}}}]}}"
        );
        std::fs::write(&file, text).expect("writes");
        let names = Pipeline::from_file(chosen(), DefaultTolerationSeconds::default(), Some(&file)).expect("works").names().to_vec();
        assert!(names.contains(&"EventRateLimit") && names.contains(&"AlwaysPullImages") && !names.contains(&"PodSecurity"), "{names:?}");
    }

    #[test]
    fn what_would_have_no_effect_is_refused() {
        let cases = [
            ("[{name: ImagePolicyWebhook, path: pod-security.yaml}]", "\"ImagePolicyWebhook\" is not there"),
            ("[{name: EventRateLimit, path: pod-security.yaml}]", "this server reads eventratelimit.admission.k8s.io/v1alpha1 Configuration"),
            ("[{name: PodNodeSelector, configuration: {podNodeSelectorPluginConfig: {a: b}}}]", "a: invalid selector: [b]"),
            (
                "[{name: ResourceQuota, configuration: {apiVersion: apiserver.config.k8s.io/v1, kind: ResourceQuotaConfiguration, limitedResources: [{}]}}]",
                "limitedResources[0].resource: Required value",
            ),
            ("[{name: PodSecurity}]", "must have a configuration"),
            ("[{name: PodSecurity, path: pod-security.yaml, configuration: {}}]", "and not both"),
            ("[{name: PodSecurity, path: pod-security.yaml}, {name: PodSecurity, path: pod-security.yaml}]", "configured twice"),
            ("[{name: PodSecurity, path: nowhere.yaml}]", "cannot read"),
            ("[{name: PodSecurity, paths: x}]", "unknown field"),
            ("[{name: PodSecurity, configuration: {apiVersion: v1, kind: Pod}}]", "it is v1 Pod"),
        ];
        for (plugins, want) in cases {
            let error = read(plugins).expect_err(plugins);
            assert!(error.contains(want), "{error}");
        }
    }
}
