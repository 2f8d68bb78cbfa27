//! [`RemoteApi`]: the API service of a server that is reached over HTTPS. Units run on it as they do in the server's process.
//!
//! Requests of all units share a few HTTP/2 connections. What certainly was not carried out is sent again, to another
//! server where there are several; a write whose fate is unknown fails with `Timeout`. Credentials are read again when
//! their files change. Who calls is what the credentials say; a call's own user is not sent, except that of a service
//! account where [`RemoteOptions::account_tokens`] is on.

pub mod access;
mod accounts;
pub mod announced;
mod connection;
mod discovery;
pub mod document;
mod pool;
pub mod request;
mod retry;
pub mod watch;

use std::{path::PathBuf, sync::Arc, time::Duration};

use arc_swap::ArcSwap;
use bytes::Bytes;
use futures::{FutureExt, StreamExt, future::BoxFuture, stream};
use http::{HeaderMap, Request, Response, header};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use troupe_api::{
    meta::{Cause, GroupResource, Revision, cause::CAUSES_HEADER},
    notices::Notices,
    resources::{Registry, Resource, discovered},
    service::{
        Announced, ApiCall, ApiReply, ApiService, EventType, ListOptions, Operation, ReplyBody, Target, UserInfo, WatchItem, WatchOptions,
        WatchStream,
    },
    status::Status,
    stored::KubeObject,
};

pub use self::access::{Access, AccessError};
use self::{
    access::LiveAccess,
    accounts::{AccountTokens, account_of},
    connection::{Lease, SendFailure},
    document::{Decoder, failure},
    pool::Pool,
    request::Outgoing,
    retry::{Ended, pause},
};
use super::counts;

/// Objects a page when a server cannot begin a watch with what exists.
const PAGE: usize = 500;
/// How often new and removed resources are looked for, where that is wanted.
const DISCOVERY: Duration = Duration::from_secs(5);

/// How to reach a cluster.
#[derive(Clone, Debug)]
pub struct RemoteOptions {
    /// Names server, certificate authority and credentials.
    pub kubeconfig: PathBuf,
    /// Addresses (`https://host:port`) that stand for the kubeconfig's server: whichever answers is used.
    pub servers: Vec<String>,
    /// What the server's log calls us, such as `troupe-node/0.1.0`.
    pub user_agent: String,
    /// Calls of service accounts carry tokens of theirs; else they go out under our own identity as all others do.
    pub account_tokens: bool,
    /// One attempt of a request may take this long.
    pub request_timeout: Duration,
    /// Connecting to one server may take this long.
    pub connect_timeout: Duration,
    /// Resources that are asked for without discovery, whether the server serves them or not.
    pub also: Vec<Arc<Resource>>,
}

impl RemoteOptions {
    pub fn new(kubeconfig: impl Into<PathBuf>) -> Self {
        RemoteOptions {
            kubeconfig: kubeconfig.into(),
            servers: Vec::new(),
            user_agent: concat!("troupe/", env!("CARGO_PKG_VERSION")).to_owned(),
            account_tokens: false,
            request_timeout: Duration::from_secs(30),
            connect_timeout: Duration::from_secs(5),
            also: Vec::new(),
        }
    }

    /// The same with a kind that somebody may define there, for who follows no discovery.
    #[must_use]
    pub fn with<K: KubeObject>(mut self) -> Self
    where
        K::Scope: 'static,
    {
        self.also.extend(discovery::row_of::<K>());
        self
    }
}

struct Inner {
    pool: Pool,
    registry: ArcSwap<Registry>,
    user_agent: String,
    request_timeout: Duration,
    accounts: Option<AccountTokens>,
}

/// See the module. Cheap to clone.
#[derive(Clone)]
pub struct RemoteApi(Arc<Inner>);

impl RemoteApi {
    /// A service by a kubeconfig. Its connections live on the tokio runtime this is called on; calls may come from others.
    ///
    /// # Errors
    /// When the kubeconfig cannot be used. Whether a server answers is found out with the first call.
    pub fn new(options: RemoteOptions) -> Result<Self, AccessError> {
        let access = LiveAccess::by_kubeconfig(&options.kubeconfig, options.servers.clone())?;
        Ok(Self::with(access, options))
    }

    /// A service by credentials in memory, which stay as they are. The options' kubeconfig and servers are not looked at.
    pub fn fixed(access: Access, options: RemoteOptions) -> Result<Self, AccessError> {
        Ok(Self::with(LiveAccess::fixed(access)?, options))
    }

    fn with(access: LiveAccess, options: RemoteOptions) -> Self {
        RemoteApi(Arc::new(Inner {
            pool: Pool::new(access, options.connect_timeout),
            registry: ArcSwap::from_pointee(Registry::new(troupe_api::resources::builtin().into_iter().chain(options.also).collect())),
            user_agent: options.user_agent,
            request_timeout: options.request_timeout,
            accounts: options.account_tokens.then(AccountTokens::default),
        }))
    }

    /// Learns now and then which resources the server serves, until the last copy of this is dropped. Without it only those are known
    /// that are built in.
    pub fn follow_discovery(&self) {
        let inner = Arc::downgrade(&self.0);
        tokio::spawn(async move {
            let mut known = Bytes::new();
            while let Some(inner) = inner.upgrade() {
                inner.discover(&mut known).await;
                drop(inner);
                tokio::time::sleep(DISCOVERY).await;
            }
        });
    }

    /// Whether the server says it is ready (`/readyz`).
    ///
    /// # Errors
    /// What it says instead, or why it cannot be reached.
    pub async fn ready(&self) -> Result<(), Status> {
        let outgoing = Outgoing { method: http::Method::GET, path: "/readyz".into(), body: None };
        self.0.exchange(&outgoing, &Cause::default(), None).await.map(drop)
    }
}

impl ApiService for RemoteApi {
    fn call(&self, call: ApiCall) -> BoxFuture<'static, Result<ApiReply, Status>> {
        let inner = self.0.clone();
        async move { inner.call(call).await }.boxed()
    }

    fn watch(&self, user: Arc<UserInfo>, target: Target, options: WatchOptions, cause: Cause) -> BoxFuture<'static, Result<WatchStream, Status>> {
        let inner = self.0.clone();
        async move { inner.watch(Caller { user, cause }, target, options).await }.boxed()
    }

    fn announced(&self, resources: Vec<GroupResource>) -> BoxFuture<'static, Announced> {
        let inner = self.0.clone();
        async move { inner.announced(&resources).await }.boxed()
    }

    fn registry(&self) -> Arc<Registry> {
        self.0.registry.load_full()
    }
}

/// A reply, whole.
struct Whole {
    code: u16,
    headers: HeaderMap,
    body: Bytes,
}

/// How an attempt went.
enum Attempt {
    /// The head of a success; the body is still to come.
    Opened(Response<Incoming>, Lease),
    /// Anything else the server said.
    Refused(Whole),
    NotSent(String),
    Lost(String),
    TimedOut,
}

/// For whom a request is made, and why.
struct Caller {
    user: Arc<UserInfo>,
    cause: Cause,
}

impl Inner {
    /// Makes the registry what the server serves. `known` is the document that it was made of.
    async fn discover(&self, known: &mut Bytes) {
        let outgoing = Outgoing { method: http::Method::GET, path: discovery::PATH.into(), body: None };
        let document = match self.exchange(&outgoing, &Cause::default(), None).await {
            Ok(whole) => whole.body,
            Err(error) => return tracing::debug!(%error, "cannot discover resources, will retry"),
        };
        if document == *known {
            return;
        }
        let Ok(versions) = discovered::aggregated(&document) else { return };
        self.registry.store(Arc::new(discovery::registry(&versions, troupe_api::resources::builtin())));
        *known = document;
    }

    async fn call(&self, call: ApiCall) -> Result<ApiReply, Status> {
        let outgoing = Outgoing::of_call(&call.target, &call.operation)?;
        let whole = match self.account(&call.user) {
            None => self.exchange(&outgoing, &call.cause, None).await?,
            Some(account) => {
                let token = account.token().await?;
                match self.exchange(&outgoing, &call.cause, Some(&token)).await {
                    Err(status) if status.code == 401 => self.exchange(&outgoing, &call.cause, Some(&account.another(&token).await?)).await?,
                    other => other?,
                }
            }
        };
        let warnings = whole.headers.get_all(header::WARNING).iter().filter_map(|value| warning(value.to_str().ok()?)).collect();
        Decoder::new(&call.target).reply(&call.operation, whole.code, warnings, &whole.body)
    }

    /// Asked under our own identity, whoever watches.
    async fn announced(&self, resources: &[GroupResource]) -> Announced {
        let outgoing = Outgoing { method: http::Method::GET, path: announced::question(resources), body: None };
        let answer = self.exchange(&outgoing, &Cause::default(), None).await;
        announced::answered(resources, answer.map(|whole| whole.body))
    }

    /// The service account that a call is made as, where that is not left to our own credentials.
    fn account<'a>(&'a self, user: &'a UserInfo) -> Option<Account<'a>> {
        let (namespace, name) = account_of(&user.name)?;
        Some(Account { inner: self, tokens: self.accounts.as_ref()?, user: &user.name, namespace, name })
    }

    async fn watch(&self, caller: Caller, target: Target, options: WatchOptions) -> Result<WatchStream, Status> {
        // A server behind the API server may be an old one, which would not say that it cannot do that.
        if options.send_initial_events == Some(true) && target.resource.is_elsewhere {
            return self.list_and_watch(caller, target, options).await;
        }
        match self.open_watch(&caller, &target, &options).await {
            // A server that cannot send what exists as events of the watch.
            Err(status) if options.send_initial_events == Some(true) && status.code == 422 => self.list_and_watch(caller, target, options).await,
            Ok(mut opened) if options.send_initial_events == Some(true) => match opened.next().await {
                // One that finds only then that its store cannot do that, such as upstream's on an etcd before 3.5.13.
                Some(WatchItem::End(status)) if status.code == 500 => self.list_and_watch(caller, target, options).await,
                first => Ok(stream::iter(first).chain(opened).boxed()),
            },
            opened => opened,
        }
    }

    async fn open_watch(&self, caller: &Caller, target: &Target, options: &WatchOptions) -> Result<WatchStream, Status> {
        // Spread, so that watches that began together don't end together.
        let seconds = rand::random_range(300..600);
        let outgoing = Outgoing::of_watch(target, options, seconds);
        let opened = match self.account(&caller.user) {
            None => self.open(&outgoing, &caller.cause, None).await?,
            Some(account) => {
                let token = account.token().await?;
                match self.open(&outgoing, &caller.cause, Some(&token)).await {
                    Err(status) if status.code == 401 => self.open(&outgoing, &caller.cause, Some(&account.another(&token).await?)).await?,
                    other => other?,
                }
            }
        };
        let (response, lease) = opened;
        Ok(watch::items(response.into_body(), lease, target))
    }

    /// A watch with initial events, made of pages of a list and a watch from its revision.
    async fn list_and_watch(&self, caller: Caller, target: Target, options: WatchOptions) -> Result<WatchStream, Status> {
        let mut page = ListOptions { labels: options.labels.clone(), fields: options.fields.clone(), limit: PAGE, ..ListOptions::default() };
        let mut initial = Vec::new();
        let revision: Revision = loop {
            let operation = Operation::List(page.clone());
            let call =
                ApiCall { user: caller.user.clone(), target: target.clone(), operation, cause: caller.cause.clone(), notices: Notices::default() };
            let ReplyBody::List(list) = self.call(call).await?.body else { return Err(Status::internal("a list was expected")) };
            initial.extend(list.items.into_iter().map(|object| WatchItem::Event { event: EventType::Added, object, cause: Cause::default() }));
            page.continue_token = list.continue_token;
            if page.continue_token.is_none() {
                break list.revision;
            }
        };
        initial.push(WatchItem::Bookmark { revision, initial_end: true });
        let options = WatchOptions { resource_version: Some(revision), send_initial_events: None, ..options };
        let rest = self.open_watch(&caller, &target, &options).await?;
        Ok(stream::iter(initial).chain(rest).boxed())
    }

    /// Sends a request until it is answered or should not be sent again; the whole reply. With a token it shows that and
    /// no certificate.
    async fn exchange(&self, outgoing: &Outgoing, cause: &Cause, token: Option<&str>) -> Result<Whole, Status> {
        let mut attempt = 1;
        loop {
            let (response, lease) = self.open(outgoing, cause, token).await?;
            match self.collect(response).await {
                Ok(whole) => return Ok(whole),
                Err(broken) => {
                    self.next_attempt(outgoing, &mut attempt, broken).await?;
                    drop(lease);
                }
            }
        }
    }

    /// Sends a request until its reply begins.
    async fn open(&self, outgoing: &Outgoing, cause: &Cause, token: Option<&str>) -> Result<(Response<Incoming>, Lease), Status> {
        let mut attempt = 1;
        loop {
            match self.attempt(outgoing, cause, token).await {
                Attempt::Opened(response, lease) => return Ok((response, lease)),
                other => self.next_attempt(outgoing, &mut attempt, other).await?,
            }
        }
    }

    /// Waits before the next attempt.
    ///
    /// # Errors
    /// What the caller hears when there is none.
    async fn next_attempt(&self, outgoing: &Outgoing, attempt: &mut u32, failed: Attempt) -> Result<(), Status> {
        let (ended, status) = match failed {
            Attempt::Opened(..) => return Ok(()),
            Attempt::Refused(whole) => {
                let retry_after = whole.headers.get(header::RETRY_AFTER).and_then(|value| value.to_str().ok()?.parse().ok()).map(Duration::from_secs);
                (Ended::Answered { code: whole.code, retry_after }, failure(whole.code, &whole.body))
            }
            Attempt::NotSent(why) => (Ended::NotSent, Status::unavailable(format!("the API server cannot be reached: {why}"))),
            Attempt::Lost(why) => (Ended::Lost, Status::timeout(format!("the connection to the API server broke before it answered: {why}"))),
            Attempt::TimedOut => (Ended::TimedOut, Status::timeout("the API server did not answer in time")),
        };
        let code = if let Ended::Answered { code, .. } = &ended { Some(*code) } else { None };
        let Some(pause) = pause(outgoing.is_read(), *attempt, ended, rand::random()) else { return Err(status) };
        counts::retried(code, outgoing.method.as_str());
        tracing::debug!(path = outgoing.path, error = %status.message, "request is sent again");
        tokio::time::sleep(pause).await;
        *attempt += 1;
        Ok(())
    }

    async fn attempt(&self, outgoing: &Outgoing, cause: &Cause, token: Option<&str>) -> Attempt {
        let lease = match self.pool.lease(token.is_none()).await {
            Ok(lease) => lease,
            Err(why) => return Attempt::NotSent(why),
        };
        let request = match self.request(outgoing, cause, token) {
            Ok(request) => request,
            Err(error) => return Attempt::NotSent(error.to_string()),
        };
        let response = match tokio::time::timeout(self.request_timeout, lease.send(request)).await {
            Ok(Ok(response)) => response,
            Ok(Err(SendFailure::NotSent(why))) => return Attempt::NotSent(why),
            Ok(Err(SendFailure::Lost(why))) => return Attempt::Lost(why),
            Err(_) => return Attempt::TimedOut,
        };
        if response.status().is_success() {
            return Attempt::Opened(response, lease);
        }
        match response.status().as_u16() {
            401 => self.pool.access.look_soon(),
            502 | 503 => self.pool.avoid(lease.connection()),
            _ => {}
        }
        self.collect(response).await.map_or_else(|failed| failed, Attempt::Refused)
    }

    /// Reads a reply to its end.
    async fn collect(&self, response: Response<Incoming>) -> Result<Whole, Attempt> {
        let (head, body) = response.into_parts();
        match tokio::time::timeout(self.request_timeout, body.collect()).await {
            Ok(Ok(body)) => Ok(Whole { code: head.status.as_u16(), headers: head.headers, body: body.to_bytes() }),
            Ok(Err(error)) => Err(Attempt::Lost(error.to_string())),
            Err(_) => Err(Attempt::TimedOut),
        }
    }

    fn request(&self, outgoing: &Outgoing, cause: &Cause, token: Option<&str>) -> Result<Request<Full<Bytes>>, http::Error> {
        let mut request = Request::builder().method(outgoing.method.clone()).uri(&outgoing.path);
        let accept = if outgoing.path == discovery::PATH { discovery::MEDIA_TYPE } else { "application/json" };
        request = request.header(header::ACCEPT, accept).header(header::USER_AGENT, &self.user_agent);
        let access = self.pool.access.current();
        if let Some(token) = token.or(access.token.as_deref()) {
            request = request.header(header::AUTHORIZATION, format!("Bearer {token}"));
        }
        if let Some(traceparent) = cause.traceparent() {
            request = request.header("traceparent", traceparent);
            if let Some(tracestate) = cause.tracestate() {
                request = request.header("tracestate", tracestate);
            }
        }
        if outgoing.is_watch() {
            request = request.header(CAUSES_HEADER, "1");
        }
        let mut bytes = Bytes::new();
        if let Some((media_type, body)) = &outgoing.body {
            request = request.header(header::CONTENT_TYPE, *media_type);
            bytes = body.clone();
        }
        request.body(Full::new(bytes))
    }
}

/// A service account on whose behalf calls are made.
struct Account<'a> {
    inner: &'a Inner,
    tokens: &'a AccountTokens,
    user: &'a str,
    namespace: &'a str,
    name: &'a str,
}

impl Account<'_> {
    async fn token(&self) -> Result<Arc<str>, Status> {
        self.tokens.get(self.inner, self.user, self.namespace, self.name).await
    }

    /// A token in place of one that was refused.
    async fn another(&self, refused: &str) -> Result<Arc<str>, Status> {
        self.tokens.forget(self.user, refused).await;
        self.token().await
    }
}

/// The text of a `Warning: 299 - "…"` header.
fn warning(header: &str) -> Option<String> {
    let quoted = header.strip_prefix("299 ")?.split_once(' ')?.1;
    let text = quoted.strip_prefix('"')?.rsplit_once('"')?.0;
    Some(text.replace("\\\"", "\"").replace("\\\\", "\\"))
}
