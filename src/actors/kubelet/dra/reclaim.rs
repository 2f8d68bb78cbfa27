//! What nobody else takes back: claims of pods that went while this process did not run, and what drivers published that are gone.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use k8s_openapi::api::resource::v1::ResourceSlice;
use serde_json::{Value, json};
use tokio::time::Instant;
use troupe_api::{meta::FieldSelector, service::ListOptions, status::Status};
use troupe_api_client::Client;

use super::{Dra, drivers::WIPING_DELAY};
use crate::runtime::host::{Unit, UnitContext};

/// The UIDs of the pods of this node; `None` before they are known.
pub type KnownPods = Arc<dyn Fn() -> Option<BTreeSet<String>> + Send + Sync>;

const PERIOD: Duration = Duration::from_secs(5);

/// See the module.
pub struct DraReconciler {
    dra: Arc<Dra>,
    pods: KnownPods,
    /// What was published before this process began is gone.
    has_begun: bool,
    busy: bool,
}

impl DraReconciler {
    pub fn new(dra: Arc<Dra>, pods: KnownPods) -> Self {
        DraReconciler { dra, pods, has_begun: false, busy: false }
    }

    fn look(&mut self, cx: &mut UnitContext<'_, Self>) {
        if self.busy {
            return;
        }
        self.busy = true;
        let (dra, known, all) = (self.dra.clone(), (self.pods)(), !self.has_begun);
        let work = async move {
            if let Some(known) = known {
                for uid in dra.users().into_iter().filter(|uid| !known.contains(uid)) {
                    if let Err(why) = dra.unprepare(&uid).await {
                        tracing::debug!(why, pod = uid, "claims of a pod that is gone are not taken back yet");
                    }
                }
            }
            dra.wipe_slices(all).await
        };
        cx.spawn_then(work, |unit, done, _| {
            unit.busy = false;
            unit.has_begun |= done;
        });
    }
}

impl Unit for DraReconciler {
    fn started(&mut self, cx: &mut UnitContext<'_, Self>) {
        self.look(cx);
        cx.every(PERIOD, Self::look);
    }

    fn observe(&self) -> Value {
        json!({"users": self.dra.users()})
    }
}

impl Dra {
    /// Removes the slices of drivers that are gone; of `all` drivers when nothing has registered yet: no pod should come for devices whose
    /// driver may never be back. `true` when all was done.
    async fn wipe_slices(&self, all: bool) -> bool {
        let Some(client) = &self.client else { return true };
        if all {
            return match wipe(client, &self.node, None).await {
                Ok(()) => true,
                Err(status) => {
                    tracing::debug!(%status, "slices of devices were not removed, will retry");
                    false
                }
            };
        }
        for driver in self.drivers.long_gone(Instant::now()) {
            match wipe(client, &self.node, Some(&driver)).await {
                Ok(()) => tracing::info!(driver, "what a driver that is gone published was removed"),
                Err(status) => {
                    tracing::debug!(%status, driver, "slices of a driver that is gone were not removed, will retry");
                    self.drivers.is_still_gone(driver, Instant::now() - WIPING_DELAY);
                }
            }
        }
        true
    }
}

async fn wipe(client: &Client, node: &str, driver: Option<&str>) -> Result<(), Status> {
    let driver = driver.map(|driver| format!(",spec.driver={driver}")).unwrap_or_default();
    let fields = FieldSelector::parse(&format!("spec.nodeName={node}{driver}")).map_err(|why| Status::internal(why.to_string()))?;
    let list = ListOptions { fields, ..ListOptions::default() };
    match client.all::<ResourceSlice>().delete_collection(list).await {
        Err(status) if !status.is_not_found() => Err(status),
        _ => Ok(()),
    }
}
