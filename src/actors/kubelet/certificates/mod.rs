//! The node's certificates: asked for through the API, kept on disk, renewed long before they end.
//!
//! [`request()`] gets one certificate for a client that may ask. [`CertificateKeeper`] is the unit that keeps one: it makes
//! the first where there is none that fits, and a new one when most of the time of the last has passed. What holds a
//! certificate ([`Holder`]) puts it to use without a restart.

mod holder;
mod plan;
mod request;
#[cfg(test)]
mod tests;

use std::{sync::Arc, time::Duration};

use serde_json::{Value, json};
use troupe_api::certificates::{Draft, KUBELET_CLIENT_SIGNER, KUBELET_SERVING_SIGNER};
use troupe_api_client::Client;

pub use self::{
    holder::{Holder, HolderError, KubeconfigHolder, ServingHolder},
    plan::{Next, next},
    request::{NotIssued, request},
};
use crate::runtime::{
    host::{Unit, UnitAddr, UnitContext},
    system::System,
    unit::Policy,
};

/// What a certificate is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    Client,
    Serving,
}

impl Purpose {
    /// The signer that gives such certificates.
    pub fn signer(self) -> &'static str {
        match self {
            Purpose::Client => KUBELET_CLIENT_SIGNER,
            Purpose::Serving => KUBELET_SERVING_SIGNER,
        }
    }

    /// The usages to ask for, for keys that are not RSA.
    pub fn usages(self) -> [&'static str; 2] {
        match self {
            Purpose::Client => ["digital signature", "client auth"],
            Purpose::Serving => ["digital signature", "server auth"],
        }
    }
}

/// Pause before asking again after a failure.
const RETRY: Duration = Duration::from_secs(30);
/// Never sleep longer than this: clocks are set.
const LONGEST: Duration = Duration::from_secs(3600);

/// What the unit works with.
#[derive(Clone)]
pub struct KeeperOptions {
    pub purpose: Purpose,
    pub draft: Draft,
    /// Acts as the node.
    pub client: Client,
    pub holder: Arc<dyn Holder>,
    /// How long certificates should last; `None` leaves it to the signer.
    pub lasts: Option<Duration>,
}

/// See the module.
pub struct CertificateKeeper {
    options: KeeperOptions,
    /// Spreads renewals of nodes that joined together; between 0 and 1.
    jitter: f64,
    renewed: u64,
    last: String,
}

impl CertificateKeeper {
    /// Starts the unit at `kubelet/certificates/…`.
    pub fn start(options: KeeperOptions, system: &System) -> UnitAddr<CertificateKeeper> {
        let path = match options.purpose {
            Purpose::Client => "kubelet/certificates/client",
            Purpose::Serving => "kubelet/certificates/serving",
        };
        system.spawn(path, Policy::default(), move |_| CertificateKeeper {
            options: options.clone(),
            jitter: rand::random(),
            renewed: 0,
            last: "starting".into(),
        })
    }

    fn look(&mut self, cx: &mut UnitContext<'_, Self>) {
        let now = cx.system().clock().now();
        let held = self.options.holder.current();
        match next(held.as_deref(), &self.options.draft, self.jitter, now) {
            Next::Wait(left) => {
                self.last = format!("renewed in {} s", left.as_secs());
                cx.after(left.min(LONGEST), Self::look);
            }
            Next::Request => self.ask(cx),
        }
    }

    fn ask(&mut self, cx: &mut UnitContext<'_, Self>) {
        self.last = "asking for a certificate".into();
        let KeeperOptions { purpose, draft, client, holder, lasts } = self.options.clone();
        let work = async move {
            let made = request(&client, &draft, purpose, lasts).await.map_err(|error| error.to_string())?;
            holder.hold(&made).map_err(|error| error.to_string())
        };
        cx.spawn_then(work, move |keeper, outcome: Result<(), String>, cx| match outcome {
            Ok(()) => {
                keeper.renewed += 1;
                tracing::info!(?purpose, "certificate in use");
                keeper.look(cx);
            }
            Err(error) => {
                tracing::warn!(?purpose, error, "no certificate yet, will retry");
                keeper.last = error;
                cx.after(RETRY, Self::look);
            }
        });
    }
}

impl Unit for CertificateKeeper {
    fn started(&mut self, cx: &mut UnitContext<'_, Self>) {
        self.look(cx);
    }

    fn observe(&self) -> Value {
        json!({"renewed": self.renewed, "last": self.last})
    }
}
