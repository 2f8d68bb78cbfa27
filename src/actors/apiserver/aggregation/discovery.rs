//! Asks a server which resources it has, by its aggregated discovery document or by the list of one version.

use std::time::Duration;

use http::{Request, header};
use troupe_api::{
    aside,
    resources::discovered::{self, DiscoveredResource},
};
use troupe_api_server::aggregation::{Answer, ApiServiceSpec, Backend, whole};

use super::asker;

const ACCEPT: &str =
    "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,application/json;g=apidiscovery.k8s.io;v=v2beta1;as=APIGroupDiscoveryList";
const TIMEOUT: Duration = Duration::from_secs(5);
const LONGEST: usize = 4 << 20;
/// Resources of one version that are taken from its server; each is watched by controllers.
const MOST_RESOURCES: usize = 500;
/// What is told of one of them, in words and in letters each: everybody is sent it.
const MOST_WORDS: usize = 100;
const LONGEST_WORD: usize = 253;

/// What a server told last, and by which mark it knows that nothing has changed since.
#[derive(Clone, Debug, Default)]
pub struct Told {
    pub resources: Vec<DiscoveredResource>,
    /// How many more it named.
    pub left_out: usize,
    etag: Option<String>,
}

impl Told {
    /// What a server named, no more of it than is taken from one.
    fn new(mut resources: Vec<DiscoveredResource>, etag: Option<String>) -> Self {
        let named = resources.len();
        resources.retain(is_usable);
        resources.truncate(MOST_RESOURCES);
        Told { left_out: named - resources.len(), resources, etag }
    }
}

/// Whether a resource has a name that a path may have, and is told in few words.
fn is_usable(resource: &DiscoveredResource) -> bool {
    let DiscoveredResource { resource, response_kind, scope, singular_resource, verbs, short_names, categories, subresources } = resource;
    let names = [resource, singular_resource, scope, &response_kind.group, &response_kind.version, &response_kind.kind];
    let below = subresources.iter().flat_map(|below| {
        let kind = &below.response_kind;
        below.verbs.iter().chain([&below.subresource, &kind.group, &kind.version, &kind.kind])
    });
    let words = names.into_iter().chain(verbs).chain(short_names).chain(categories).chain(below);
    let (mut count, mut longest) = (0_usize, 0_usize);
    words.for_each(|word| (count, longest) = (count + 1, longest.max(word.len())));
    !resource.is_empty() && !resource.contains('/') && count <= MOST_WORDS * (1 + subresources.len().min(MOST_WORDS)) && longest <= LONGEST_WORD
}

/// Asks. What was `told` before is what it is if the server says so.
///
/// # Errors
/// Why the server did not tell.
pub async fn discover(spec: &ApiServiceSpec, backend: &Backend, told: &Told) -> Result<Told, String> {
    let etag = told.etag.as_deref().unwrap_or_default();
    let answer = ask(backend, "/apis", ACCEPT, etag).await?;
    let is_aggregated =
        answer.headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).is_some_and(|kind| kind.contains("as=APIGroupDiscoveryList"));
    match answer.code {
        304 => Ok(told.clone()),
        503 => Err("the server is not available".into()),
        200 if is_aggregated => {
            let etag = answer.headers.get(header::ETAG).and_then(|etag| etag.to_str().ok()).map(str::to_owned);
            let body = answer.body;
            let versions = aside::compute(body.len(), move || discovered::aggregated(&body)).await.map_err(|error| error.to_string())?;
            let own = versions.into_iter().find(|version| version.group == spec.group && version.version == spec.version);
            Ok(Told::new(own.map(|own| own.resources).unwrap_or_default(), etag))
        }
        _ => listed(spec, backend).await,
    }
}

/// What an older server tells of one version.
async fn listed(spec: &ApiServiceSpec, backend: &Backend) -> Result<Told, String> {
    let answer = ask(backend, &spec.discovery_path(), "application/json", "").await?;
    if answer.code != 200 {
        return Err(format!("failed to download legacy discovery for {}: {}", spec.discovery_path(), answer.code));
    }
    let body = answer.body;
    let resources = aside::compute(body.len(), move || discovered::listed(&body)).await.map_err(|error| error.to_string())?;
    Ok(Told::new(resources, None))
}

async fn ask(backend: &Backend, path: &str, accept: &str, etag: &str) -> Result<Answer, String> {
    let mut request = Request::get(path).header(header::ACCEPT, accept);
    if !etag.is_empty() {
        request = request.header(header::IF_NONE_MATCH, etag);
    }
    let request = request.body(whole(Default::default())).map_err(|error| error.to_string())?;
    backend.ask(&asker(), request, LONGEST, TIMEOUT).await.map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_that_names_more_resources_than_are_taken_is_cut_short() {
        let named = |count: usize| (0..count).map(|at| DiscoveredResource { resource: format!("r{at}").into(), ..DiscoveredResource::default() });
        let few = Told::new(named(MOST_RESOURCES).collect(), None);
        assert_eq!((few.resources.len(), few.left_out), (MOST_RESOURCES, 0));
        let many = Told::new(named(8000).collect(), None);
        assert_eq!((many.resources, many.left_out), (few.resources, 8000 - MOST_RESOURCES));
    }

    #[test]
    fn a_resource_that_is_told_in_too_many_words_is_left_out() {
        let usable = DiscoveredResource { resource: "r".into(), verbs: vec!["get".into(); 8], ..DiscoveredResource::default() };
        let but = |change: &dyn Fn(&mut DiscoveredResource)| {
            let mut changed = usable.clone();
            change(&mut changed);
            changed
        };
        let odd = [
            but(&|resource| resource.resource = "".into()),
            but(&|resource| resource.resource = "a/../b".into()),
            but(&|resource| resource.response_kind.kind = "K".repeat(300).into()),
            but(&|resource| resource.verbs = vec!["get".into(); 1000]),
            but(&|resource| resource.categories = vec!["all".repeat(100).into()]),
        ];
        let told = Told::new(odd.into_iter().chain([usable.clone()]).collect(), None);
        assert_eq!((told.resources, told.left_out), (vec![usable], 5));
    }
}
