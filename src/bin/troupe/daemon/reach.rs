//! How the API servers of the cluster look inside a control plane: at the port of its own API server, or of the server that one
//! without has, at upstream's ports of controller manager and scheduler.

use std::{
    io::ErrorKind,
    net::{SocketAddr, TcpListener},
    sync::Arc,
    time::Duration,
};

use anyhow::{Context, Result};
use troupe_actors::{
    component_server::{self, ComponentServerOptions},
    insight::presence::{self, Card, Presence, Withdraw},
    metrics::Sources,
    runtime::{cache::Caches, host::UnitAddr, system::System},
    serving::{DelegatingGate, ServerHandle},
};
use troupe_api::{
    auth::{
        pki,
        tls::{self, RenewableCertificate},
        x509,
    },
    meta::Cause,
};
use troupe_api_client::Client;

use crate::{
    config::{Config, Part},
    up::{control_plane, zpages},
};

/// Upstream's ports.
const CONTROLLERS: u16 = 10257;
const SCHEDULER: u16 = 10259;

/// A process that can be asked, and says so.
pub struct Reach {
    server: Option<ServerHandle>,
    presence: UnitAddr<Presence>,
}

impl Reach {
    /// The API server answers for its process.
    pub fn of_api_server(config: &Config, client: Client, identity: &str, system: &System) -> Self {
        let endpoint = SocketAddr::new(config.advertise_address, config.api_port);
        Reach { server: None, presence: presence::run(system, client, card(identity, endpoint, None, system)) }
    }

    /// A server of its own answers, with a certificate that is made for it now. A process that schedules tells what pods of `scheduling` ask
    /// for.
    pub fn of_components(
        config: &Config,
        (controllers, scheduling): (bool, Option<Caches>),
        client: Client,
        ca_pem: &str,
        identity: &str,
        system: &System,
    ) -> Result<Self> {
        let serving = pki::self_signed("troupe-control-plane").context("cannot make a certificate")?;
        let certificate = RenewableCertificate::default();
        certificate.show(&serving).context("the certificate is unusable")?;
        let tls = tls::renewable_server_config(Arc::new(certificate), ca_pem, &control_plane::tls_policy(config)?);
        let tls = tls.context("the certificates are unusable")?;
        let name = if controllers { "kube-controller-manager" } else { "kube-scheduler" };
        let parts = [if controllers { Part::Controllers } else { Part::Scheduler }, Part::WithoutApiServer];
        let sources = Sources::new(system, None, control_plane::version());
        let metrics = match scheduling {
            Some(caches) => sources.with_pods(caches),
            None => sources,
        };
        let options = ComponentServerOptions {
            tls: Arc::new(tls),
            gate: Arc::new(DelegatingGate::new(client.clone())),
            system: system.clone(),
            metrics,
            zpages: zpages::of(name, config, &parts, &component_server::PATHS, system),
        };
        let listener = listen(config, if controllers { CONTROLLERS } else { SCHEDULER })?;
        let port = listener.local_addr().context("a listener has an address")?.port();
        let server = component_server::serve(listener, options).context("cannot serve metrics and health")?;
        let shown = x509::fingerprint_of_pem(serving.certificate_pem.as_bytes());
        let card = card(identity, SocketAddr::new(config.advertise_address, port), shown, system);
        Ok(Reach { server: Some(server), presence: presence::run(system, client, card) })
    }

    /// Says that it is gone, and is gone.
    pub async fn end(&self) {
        // Without an answer the lease runs out by itself.
        let _ = tokio::time::timeout(Duration::from_secs(2), self.presence.ask(Withdraw, Cause::default())).await;
        if let Some(server) = &self.server {
            server.stop();
        }
    }
}

fn card(identity: &str, endpoint: SocketAddr, certificate: Option<String>, system: &System) -> Card {
    Card { identity: identity.to_owned(), process: system.process().name.clone(), kind: "control-plane", endpoint, certificate }
}

/// The port that is set, else `usual`, else any: several may run on one machine.
fn listen(config: &Config, usual: u16) -> Result<TcpListener> {
    let address = SocketAddr::new(config.bind_address, config.component_port.unwrap_or(usual));
    match TcpListener::bind(address) {
        Err(error) if error.kind() == ErrorKind::AddrInUse && config.component_port.is_none() => {
            let listener = TcpListener::bind(SocketAddr::new(config.bind_address, 0)).context("no port is free")?;
            tracing::info!(taken = usual, port = listener.local_addr().map_or(0, |address| address.port()), "health and metrics are at another port");
            Ok(listener)
        }
        bound => bound.with_context(|| format!("cannot listen on {address}")),
    }
}
