//! Drivers that come and go: what the plugin watcher tells.

use std::{
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use async_trait::async_trait;
use troupe_api_client::Client;

use super::{
    Csi, Driver,
    client::NodeClient,
    node_info::{self, Told},
};
use crate::{
    kubelet::plugins::{Handler, Plugin},
    runtime::host::{Unit, UnitContext},
};

/// How often the node's objects are looked at for what somebody took away.
const LOOK: Duration = Duration::from_secs(60);
const RETRY: Duration = Duration::from_secs(1);

/// The highest version that a driver speaks of those that are spoken here: all of 1.x.
fn version(driver: &str, told: &[String]) -> Result<(u64, u64, u64), String> {
    if told.is_empty() {
        return Err(format!(
            "kubernetes.io/csi: RegisterPlugin for CSI driver {driver:?} failed. Plugin returned an empty list for supported versions"
        ));
    }
    let parsed = told.iter().filter_map(|text| {
        let mut numbers = text.trim_start_matches('v').splitn(3, '.').map(|part| part.parse::<u64>().ok());
        let first = numbers.next()??;
        Some((first, numbers.next().flatten().unwrap_or(0), numbers.next().flatten().unwrap_or(0)))
    });
    parsed.filter(|version| version.0 <= 1).max().ok_or_else(|| {
        format!("kubernetes.io/csi: RegisterPlugin for CSI driver {driver:?} failed. None of the versions specified {told:?} are supported.")
    })
}

#[async_trait]
impl Handler for Csi {
    fn validate(&self, plugin: &Plugin) -> Result<(), String> {
        let version = version(&plugin.name, &plugin.versions)?;
        match self.drivers.lock().get(&plugin.name) {
            Some(known) if known.version > version => Err(format!(
                "kubernetes.io/csi: RegisterPlugin for CSI driver {:?} failed. Another driver with the same name is already registered with a higher supported version: \"{}.{}.{}\"",
                plugin.name, known.version.0, known.version.1, known.version.2
            )),
            _ => Ok(()),
        }
    }

    async fn register(&self, plugin: &Plugin) -> Result<(), String> {
        let version = version(&plugin.name, &plugin.versions)?;
        let info = NodeClient::new(&plugin.name, &plugin.endpoint).info().await.map_err(|error| error.to_string())?;
        let told = Told { driver: plugin.name.clone(), info };
        let _alone = self.objects.lock().await;
        if let Some(client) = &self.client {
            node_info::install(client, &self.node, &told).await?;
        }
        tracing::info!(driver = plugin.name, endpoint = %plugin.endpoint.display(), "CSI driver registered");
        self.drivers.lock().insert(plugin.name.clone(), Driver { endpoint: plugin.endpoint.clone(), version, told, asked: Instant::now() });
        Ok(())
    }

    async fn deregister(&self, name: &str, endpoint: &Path) {
        let _alone = self.objects.lock().await;
        {
            let mut drivers = self.drivers.lock();
            if drivers.get(name).is_none_or(|known| known.endpoint != endpoint) {
                // Another one has its name by now.
                return;
            }
            drivers.remove(name);
        }
        tracing::info!(driver = name, "CSI driver is gone");
        if let Some(client) = &self.client
            && let Err(error) = node_info::uninstall(client, &self.node, name).await
        {
            tracing::warn!(error, driver = name, "the driver is gone and still told of");
        }
    }
}

impl Csi {
    /// Asks those drivers again that want that from time to time: how many volumes the node takes may change.
    async fn ask_drivers(&self) {
        let known: Vec<_> = self.drivers.lock().iter().map(|(name, driver)| (name.clone(), driver.clone())).collect();
        for (name, driver) in known {
            let Ok(Some(object)) = self.driver_object(&name).await else { continue };
            let period = object.spec.node_allocatable_update_period_seconds.and_then(|seconds| u64::try_from(seconds).ok());
            if !period.is_some_and(|seconds| seconds > 0 && driver.asked.elapsed() >= Duration::from_secs(seconds)) {
                continue;
            }
            match NodeClient::new(&name, &driver.endpoint).info().await {
                Ok(info) => {
                    let told = Told { driver: name.clone(), info };
                    let mut drivers = self.drivers.lock();
                    if let Some(known) = drivers.get_mut(&name).filter(|known| known.endpoint == driver.endpoint) {
                        *known = Driver { told, asked: Instant::now(), ..driver };
                    }
                }
                Err(error) => tracing::warn!(%error, driver = name, "the driver does not say what the node can take"),
            }
        }
    }

    /// Tells of all drivers again: the node may have been made anew, and its CSINode with it.
    async fn tell_drivers(&self, client: &Client) {
        let _alone = self.objects.lock().await;
        let all: Vec<Told> = self.drivers.lock().values().map(|driver| driver.told.clone()).collect();
        for told in all {
            if let Err(error) = node_info::install(client, &self.node, &told).await {
                tracing::warn!(error, driver = told.driver, "the driver is not told of");
            }
        }
    }
}

/// The unit that keeps the node's objects: the CSINode, and which volumes are in use.
pub struct CsiReporter {
    csi: Arc<Csi>,
}

impl CsiReporter {
    pub fn new(csi: Arc<Csi>) -> Self {
        CsiReporter { csi }
    }

    fn look(&mut self, cx: &mut UnitContext<'_, Self>) {
        let csi = self.csi.clone();
        let work = async move {
            let Some(client) = &csi.client else { return Ok(()) };
            node_info::csi_node(client, &csi.node).await?;
            csi.ask_drivers().await;
            csi.tell_drivers(client).await;
            csi.report_in_use(true).await
        };
        cx.spawn_then(work, |_, outcome, cx| {
            let pause = if outcome.is_ok() { LOOK } else { RETRY };
            if let Err(error) = outcome {
                tracing::debug!(%error, "the node's CSINode or its volumes in use were not written");
            }
            cx.after(pause, Self::look);
        });
    }
}

impl Unit for CsiReporter {
    fn started(&mut self, cx: &mut UnitContext<'_, Self>) {
        self.look(cx);
    }

    fn observe(&self) -> serde_json::Value {
        serde_json::json!({"drivers": self.csi.drivers(), "inUse": self.csi.in_use.names()})
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_highest_version_that_is_spoken_counts() {
        let told = |versions: &[&str]| version("d", &versions.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>());
        assert_eq!(told(&["1.0.0", "v1.9.0", "2.0.0"]), Ok((1, 9, 0)));
        assert!(told(&["2.0.0"]).is_err_and(|why| why.contains("None of the versions")));
        assert!(told(&[]).is_err_and(|why| why.contains("empty list")));
    }
}
