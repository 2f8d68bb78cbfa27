//! `AdmissionConfiguration`: the file that configures plugins.

use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde_json::Value;

use super::{
    Pipeline, PodSecurity,
    document::{self, Document, DocumentError},
    pod_security::{Configuration, ConfigurationError},
};
use crate::schema::{DocumentError as YamlError, from_yaml};

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
    /// The plugins that run by default, configured as `file` says.
    ///
    /// # Errors
    /// When the file, or one that it names, cannot be read, or says what this server does not do.
    pub fn from_file(file: &Path) -> Result<Self, AdmissionConfigurationError> {
        let configuration: File = document::read(parse(file)?)?;
        let mut pod_security = None;
        for PluginEntry { name, path, configuration } in configuration.plugins {
            if name != "PodSecurity" {
                return Err(AdmissionConfigurationError::Plugin(name));
            }
            if pod_security.is_some() {
                return Err(AdmissionConfigurationError::Twice(name));
            }
            let value = match (configuration, path) {
                (Some(value), None) => value,
                (None, Some(path)) => parse(&file.parent().unwrap_or(Path::new("")).join(path))?,
                _ => return Err(AdmissionConfigurationError::Source(name)),
            };
            pod_security = Some(PodSecurity::new(Configuration::from_value(value)?));
        }
        Ok(Pipeline::configured(pod_security.unwrap_or_default()))
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
        Pipeline::from_file(&file).map(|pipeline| pipeline.names().to_vec()).map_err(|error| error.to_string())
    }

    #[test]
    fn a_plugin_is_configured_in_the_file_or_beside_it() {
        let standard = Ok(Pipeline::standard().names().to_vec());
        assert_eq!(read("[]"), standard);
        assert_eq!(read(&format!("[{{name: PodSecurity, configuration: {POD_SECURITY}}}]")), standard);
        assert_eq!(read("[{name: PodSecurity, path: pod-security.yaml}]"), standard);
    }

    #[test]
    fn what_would_have_no_effect_is_refused() {
        let cases = [
            ("[{name: EventRateLimit, path: pod-security.yaml}]", "\"EventRateLimit\" is not there"),
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
