//! Spans for a collector outside, as the configurations of API server and kubelet say.

use std::{path::Path, sync::Arc};

use anyhow::{Context, Error, Result, bail};
use tokio::sync::Mutex;
use troupe_actors::{
    controllers::server_identity::lease_name,
    runtime::system::{System, TaskHandle},
};
use troupe_api::{
    document,
    spans::{Tracer, TracingSettings},
};
use troupe_api_server::otlp::Exporter;

use crate::config::Config;

/// What is told of who makes spans, beside the name of the component.
type Resource = Vec<(&'static str, String)>;

/// Has the API server's spans sent, where its configuration says so, and those of everybody who has no settings of their own. They are sent as
/// long as the handle is there.
///
/// # Errors
/// When the configuration is unusable.
pub fn of_api_server(config: &Config, system: &System) -> Result<Option<TaskHandle>> {
    let Some(settings) = api_settings(config)? else { return Ok(None) };
    start("apiserver", &settings, vec![("service.instance.id", lease_name(&config.node_name))], system).map(Some)
}

/// The same of the kubelet.
///
/// # Errors
/// As above.
pub fn of_kubelet(config: &Config, system: &System) -> Result<Option<TaskHandle>> {
    let Some(settings) = config.kubelet.tracing() else { return Ok(None) };
    start("kubelet", &settings, vec![("host.name", config.node_name.clone())], system).map(Some)
}

/// Whether the API server can be started so.
///
/// # Errors
/// As [`of_api_server`].
pub(super) fn check(config: &Config) -> Result<()> {
    api_settings(config).map(drop)
}

fn api_settings(config: &Config) -> Result<Option<TracingSettings>> {
    config.api.tracing_config_file.as_deref().map(read).transpose()
}

fn read(file: &Path) -> Result<TracingSettings> {
    let settings: TracingSettings = document::read_file(file).context("failed to read tracing config")?;
    match settings.errors("")[..] {
        [] => Ok(settings),
        [ref only] => bail!("failed to validate tracing configuration {}: {only}", file.display()),
        ref all => bail!("failed to validate tracing configuration {}: [{}]", file.display(), all.join(", ")),
    }
}

fn start(component: &'static str, settings: &TracingSettings, resource: Resource, system: &System) -> Result<TaskHandle> {
    let endpoint = settings.endpoint().map_err(Error::msg).context("tracing")?;
    let (tracer, spans) = Tracer::new(component, settings.per_million(), system.clock().clone());
    system.recorder().export_by(tracer);
    let spans = Arc::new(Mutex::new(spans));
    Ok(system.spawn_task(&format!("spans/{component}"), move || {
        let (endpoint, resource, spans) = (endpoint.clone(), resource.clone(), spans.clone());
        async move {
            match Exporter::new(&endpoint, component, resource) {
                Ok(exporter) => exporter.run(&spans).await,
                Err(error) => tracing::error!(component, error, "no spans are sent"),
            }
        }
    }))
}

#[cfg(test)]
mod tests {
    use std::fs;

    #[test]
    fn a_configuration_is_held_to_upstreams_rules() {
        let place = tempfile::tempdir().expect("a directory");
        let file = place.path().join("tracing.yaml");
        let read = |rest: &str| {
            fs::write(&file, format!("apiVersion: apiserver.config.k8s.io/v1beta1\nkind: TracingConfiguration\n{rest}")).expect("writes");
            super::read(&file).map_err(|error| format!("{error:#}"))
        };
        assert_eq!(read("samplingRatePerMillion: 100\n").map(|settings| settings.per_million()), Ok(100));
        assert_eq!(read("").map(|settings| settings.per_million()), Ok(0));
        let high = read("samplingRatePerMillion: 1000001\nendpoint: 'https://a:1'\n").expect_err("refused");
        assert!(high.contains("sampling rate per million must be less than or equal to one million, endpoint: Invalid value"), "{high}");
        assert!(read("rate: 1\n").expect_err("refused").starts_with("failed to read tracing config: "));
    }
}
