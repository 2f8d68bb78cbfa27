//! What the servers of this binary tell at `/statusz` and `/flagz`.

use std::sync::Arc;

use futures::future::BoxFuture;
use troupe_actors::{
    runtime::system::System,
    zpages::{Asked, FLAGZ, STATUSZ, Zpages},
};
use troupe_api::{
    features::{COMPONENT_FLAGZ, COMPONENT_STATUSZ},
    status::Status,
};
use troupe_api_server::http::{ExtraRoute, RawReply, options::RawRequest};

use super::control_plane;
use crate::config::{Config, Part};

/// Where every front door answers beside its routes.
const EVERYWHERE: [&str; 5] = [FLAGZ, "/healthz", "/livez", "/readyz", "/version"];

/// The pages of a component that consists of these parts and answers at these paths, too.
pub fn of(name: &'static str, config: &Config, parts: &[Part], paths: &[&str], system: &System) -> Arc<Zpages> {
    let paths = paths.iter().map(|path| (*path).to_owned()).collect();
    let pages = Zpages::new(name, control_plane::version(), config.flags(parts), paths, system.clock().clone());
    Arc::new(pages.hiding(hidden(config)))
}

/// The pages whose features are off. What is said of features was looked at before.
fn hidden(config: &Config) -> Vec<&'static str> {
    let features = control_plane::features(config).unwrap_or_default();
    [(STATUSZ, COMPONENT_STATUSZ), (FLAGZ, COMPONENT_FLAGZ)]
        .into_iter()
        .filter(|(_, feature)| !features.is_on(feature))
        .map(|(page, _)| page)
        .collect()
}

/// The pages of a front door that has these routes. What controllers and scheduler of its process are told it does not say.
pub fn routes(config: &Config, system: &System, routes: &[ExtraRoute]) -> Vec<ExtraRoute> {
    let paths: Vec<&str> = routes.iter().map(|route| route.path).chain(EVERYWHERE).collect();
    let pages = of("apiserver", config, &[Part::ApiServer], &paths, system);
    let hidden = hidden(config);
    [STATUSZ, FLAGZ].into_iter().filter(|path| !hidden.contains(path)).map(|path| route(path, pages.clone())).collect()
}

fn route(path: &'static str, pages: Arc<Zpages>) -> ExtraRoute {
    let handler = move |request: RawRequest| {
        let RawRequest { path, query, accept, user_agent, .. } = &request;
        let found = pages.answer(&Asked { path, query, accept, user_agent }).unwrap_or_else(|| Err(Status::page_not_found()));
        let reply = found.map(|page| RawReply { warning: page.warning, version: page.version, ..RawReply::new(page.content_type, page.body) });
        let answer: BoxFuture<'static, Result<RawReply, Status>> = Box::pin(std::future::ready(reply));
        answer
    };
    ExtraRoute { path, handler: Arc::new(handler), acts: false }
}
