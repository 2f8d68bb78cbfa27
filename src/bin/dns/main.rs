//! The cluster's DNS server: answers names of Services and pods from a watch of the API, and forwards the rest.
//!
//! What it answers for domain names that cluster network policies have it tells nodes ([`domains`]).
//!
//! It runs in pods behind the `kube-dns` Service. `/health` says that it lives, `/ready` that it knows the cluster and
//! is not about to leave; `/metrics` has CoreDNS' names. On SIGTERM it turns unready and keeps answering for a while, so that nobody's query is lost.

mod api;
mod cache;
mod domains;
mod failures;
mod forwarding;
mod health;
mod metrics;
mod options;
mod programming;
mod reflector;
mod server;
mod shares;
mod state;
mod upstream;

#[cfg(test)]
mod tests;

use std::sync::Arc;

use anyhow::Context;
use tokio::signal::unix::{SignalKind, signal};

use crate::{
    cache::Cache, domains::Domains, forwarding::Forwarding, options::Options, reflector::Followers, server::Server, state::State, upstream::Upstream,
};

fn main() -> anyhow::Result<()> {
    let options = Options::parse(std::env::args().skip(1))?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(run(options))
}

async fn run(options: Options) -> anyhow::Result<()> {
    let state = Arc::new(State::new(&options.domain)?);
    let api = api::Api::from_environment(&options.service_account).context("finding the API server")?;
    let forwarding = Arc::new(Forwarding::new(Upstream::from_file(&options.resolv_conf)));
    let cache = Arc::new(Cache::default());
    let domains = Arc::new(Domains::default());
    let server = Server::bind(options.listen, state.clone(), forwarding.clone(), cache.clone(), domains.clone()).await?;
    for address in [options.health, options.ready, options.metrics] {
        health::serve(address, state.clone(), cache.clone()).await?;
    }
    eprintln!("answering on {} for {}", server.address(), options.domain);
    server.spawn();
    tokio::spawn(forwarding.follow(options.config_dir, cache));
    reflector::spawn_all(&api, &Followers { state: state.clone(), domains: domains.clone() });
    tokio::spawn(domains.write_all(api));
    let (mut term, mut int) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    tokio::select! {
        _ = term.recv() => {}
        _ = int.recv() => {}
    }
    state.leave();
    eprintln!("leaving in {:?}", options.lameduck);
    tokio::time::sleep(options.lameduck).await;
    Ok(())
}
