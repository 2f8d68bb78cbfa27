//! Certificates that are made on this machine are made again in time, and shown without a restart.
//!
//! Those that a node got through the API are kept by `kubelet/certificates` instead.

use std::{sync::Arc, time::Duration};

use anyhow::{Context, Result};
use serde_json::{Value, json};
use troupe_actors::runtime::{
    host::{Unit, UnitContext},
    system::System,
    unit::Policy,
};
use troupe_api::auth::{pki::KeyedCertificate, tls::RenewableCertificate};

use super::control_plane::{self, Shown};
use crate::config::Config;

/// No more often, and no more seldom, are certificates looked at.
const OFTEN: Duration = Duration::from_secs(1);
const SELDOM: Duration = Duration::from_secs(3600);

/// Looks at the certificates, makes anew what is due, and puts it to use. May block for some files.
type Look = Arc<dyn Fn() -> Result<()> + Send + Sync>;

/// Keeps certificates. See the module.
struct Renewal {
    look: Look,
    every: Duration,
    looks: u64,
    last: String,
}

/// Keeps what the control plane shows, and the kubeconfigs that are there.
pub fn of_control_plane(config: &Config, shown: &Shown, system: &System) {
    let (config, shown) = (config.clone(), shown.clone());
    start("certificates/control-plane", config.certificate_validity, system, move || {
        let certificates = control_plane::certificates(&config)?;
        shown.update(&certificates)?;
        control_plane::write_admin_kubeconfig(&config, &certificates)?;
        if config.kubeconfig_beside(control_plane::NODE).exists() {
            control_plane::write_component_kubeconfigs(&config, &certificates)?;
        }
        Ok(())
    });
}

/// Keeps what the kubelet's server shows, as `make` reads or makes it.
pub fn of_node(config: &Config, shown: &Arc<RenewableCertificate>, system: &System, make: fn(&Config) -> Result<KeyedCertificate>) {
    let (config, shown) = (config.clone(), shown.clone());
    start("certificates/kubelet", config.certificate_validity, system, move || {
        shown.show(&make(&config)?).context("the kubelet's certificate is unusable")
    });
}

fn start(path: &'static str, validity: Duration, system: &System, look: impl Fn() -> Result<()> + Send + Sync + 'static) {
    let (look, every): (Look, Duration) = (Arc::new(look), (validity / 50).clamp(OFTEN, SELDOM));
    system.spawn(path, Policy::default(), move |_| Renewal { look: look.clone(), every, looks: 0, last: "nothing yet".into() });
}

impl Renewal {
    fn look(&mut self, cx: &mut UnitContext<'_, Self>) {
        let look = self.look.clone();
        let work = async move { tokio::task::spawn_blocking(move || look()).await.context("the look broke off").and_then(|looked| looked) };
        cx.spawn_then(work, |unit, looked, cx| {
            unit.looks += 1;
            unit.last = match looked {
                Ok(()) => "well".into(),
                Err(error) => {
                    tracing::error!(error = format!("{error:#}"), "certificates cannot be renewed, will retry");
                    format!("{error:#}")
                }
            };
            cx.after(unit.every, Self::look);
        });
    }
}

impl Unit for Renewal {
    fn started(&mut self, cx: &mut UnitContext<'_, Self>) {
        cx.after(self.every, Self::look);
    }

    fn observe(&self) -> Value {
        json!({"looks": self.looks, "last": self.last})
    }
}
