//! Calls of units in this process on resources that another server has: the same calls as those on our own.

use std::{sync::Arc, time::Duration};

use futures::{StreamExt, stream};
use http::{Request, header};
use troupe_api::{
    meta::Cause,
    service::{ApiCall, ApiReply, EventType, ListOptions, Operation, ReplyBody, Target, UserInfo, WatchItem, WatchOptions, WatchStream},
    status::Status,
};
use troupe_api_client::remote::{
    document::{Decoder, failure},
    request::Outgoing,
    watch,
};

use super::{Aggregator, RemoteService, whole};

/// The longest answer to a call.
const LONGEST: usize = 64 << 20;
const TIMEOUT: Duration = Duration::from_secs(30);
/// Objects a page of what a watch begins with.
const PAGE: usize = 500;

/// Makes a call; whoever makes it has asked the authorizer.
///
/// # Errors
/// What the server says, or 503 where it does not.
pub async fn call(aggregator: &Aggregator, call: ApiCall) -> Result<ApiReply, Status> {
    let service = find(aggregator, &call.target)?;
    let outgoing = Outgoing::of_call(&call.target, &call.operation)?;
    let request = request(outgoing)?;
    let answer = service.backend.ask(&call.user, request, LONGEST, TIMEOUT).await.map_err(|error| Status::from(&error))?;
    if !(200..300).contains(&answer.code) {
        return Err(failure(answer.code, &answer.body));
    }
    Decoder::new(&call.target).reply(&call.operation, answer.code, Vec::new(), &answer.body)
}

/// Starts a watch. What exists comes as a list first, since an old server does not tell where its events of that end.
///
/// # Errors
/// As those of [`call`].
pub async fn watch(aggregator: Arc<Aggregator>, user: Arc<UserInfo>, target: Target, mut options: WatchOptions) -> Result<WatchStream, Status> {
    let mut initial = Vec::new();
    if options.send_initial_events == Some(true) {
        let mut page = ListOptions { labels: options.labels.clone(), fields: options.fields.clone(), limit: PAGE, ..ListOptions::default() };
        let revision = loop {
            let operation = Operation::List(page.clone());
            let listing = ApiCall { user: user.clone(), target: target.clone(), operation, cause: Cause::default(), notices: Default::default() };
            let ReplyBody::List(list) = call(&aggregator, listing).await?.body else { return Err(Status::internal("a list was expected")) };
            initial.extend(list.items.into_iter().map(|object| WatchItem::Event { event: EventType::Added, object, cause: Cause::default() }));
            page.continue_token = list.continue_token;
            if page.continue_token.is_none() {
                break list.revision;
            }
        };
        initial.push(WatchItem::Bookmark { revision, initial_end: true });
        (options.resource_version, options.send_initial_events) = (Some(revision), None);
    }
    let service = find(&aggregator, &target)?;
    // Spread, so that watches that began together don't end together.
    let request = request(Outgoing::of_watch(&target, &options, rand::random_range(300..600)))?;
    let authority = service.backend.authority().map_err(|error| Status::from(&error))?;
    let sending = tokio::time::timeout(TIMEOUT, service.backend.send(&authority, &user, request)).await;
    let reply = sending.map_err(|_| Status::unavailable("the server did not begin the watch in time"))?.map_err(|error| Status::from(&error))?;
    let code = reply.status().as_u16();
    if code != 200 {
        return Err(failure(code, b""));
    }
    Ok(stream::iter(initial).chain(watch::items(reply.into_body(), service, &target)).boxed())
}

/// Who has the objects of a target.
fn find(aggregator: &Aggregator, target: &Target) -> Result<RemoteService, Status> {
    let service = aggregator.find(&target.resource.group, &target.version).ok_or_else(Status::page_not_found)?;
    service.usable().map_err(|error| Status::from(&error))?;
    Ok(service)
}

fn request(outgoing: Outgoing) -> Result<Request<super::OutgoingBody>, Status> {
    let mut request = Request::builder().method(outgoing.method).uri(outgoing.path);
    request = request.header(header::ACCEPT, "application/json").header(header::USER_AGENT, "kube-apiserver");
    let mut bytes = bytes::Bytes::new();
    if let Some((media_type, body)) = outgoing.body {
        request = request.header(header::CONTENT_TYPE, media_type);
        bytes = body;
    }
    request.body(whole(bytes)).map_err(Status::internal)
}
