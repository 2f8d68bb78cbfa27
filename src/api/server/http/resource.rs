//! Requests on resources: from route, options and body to a call of the service, and back.

use std::{sync::Arc, time::Duration};

use actix_web::{HttpRequest, HttpResponse, body::MessageBody, dev::Payload};
use bytes::Bytes;
use troupe_api::{
    auth::Selection,
    features::{ALLOW_UNSAFE_MALFORMED_OBJECT_DELETION, AUTHORIZE_POD_WEBSOCKET_UPGRADES},
    meta::{Cause, cause::CAUSES_HEADER},
    notices::Notices,
    protobuf,
    service::{ApiCall, ConnectCall, Operation, Target, UserInfo, Verb, WatchOptions},
    status::Status,
};

use super::{
    accept::{self, Accepted, Encoding, Form, Offer},
    answering::Answering,
    audit_context::AuditContext,
    authorize::authorize,
    body::{self, InputFormat},
    connect::{ConnectRequest, connect_verbs},
    connect_options::{ConnectOptions, connect_options},
    delete_options::delete_options,
    deprecation,
    frames::{Framer, WatchForm},
    limits::{Held, Place},
    list_options::{list_options, revision, watch_options},
    messages::MessageForm,
    monitor::Monitor,
    outgoing::Outgoing,
    path::RequestInfo,
    query::Query,
    reply,
    route::{Action, Route, attributes, request_verb, route},
    sessions,
    shared::Shared,
    slices::{Beginning, Counted},
    table::TableForm,
    user_agent::user_agent,
    watch, watch_socket,
    write_options::write_options,
};
use crate::{
    flow::{Asks, Classified, Parts, Seat, Watching},
    render::FullForm,
};

/// One request on its way.
pub struct Exchange<'a> {
    pub shared: &'a Shared,
    pub request: &'a HttpRequest,
    pub info: &'a RequestInfo<'a>,
    pub query: &'a Query,
    pub user: Arc<UserInfo>,
    pub cause: Cause,
    /// Where it belongs in flow control.
    pub classified: Option<Classified>,
    pub monitor: &'a Monitor,
    pub audit: &'a AuditContext,
    pub notices: &'a Notices,
}

/// Answers a request on a resource path.
pub async fn serve(exchange: Exchange<'_>, payload: &mut Payload) -> Result<HttpResponse, Status> {
    let registry = exchange.shared.options.service.registry();
    let Route { target, action } = match route(&registry, exchange.info, exchange.request.method(), exchange.query) {
        Ok(route) => {
            exchange.monitor.routed(exchange.request, exchange.query, &route);
            route
        }
        Err(status) => {
            // Whoever may not ask does not learn what is served.
            let verb = request_verb(exchange.info, exchange.request.method(), exchange.query);
            authorize(&*exchange.shared.options.authorizer, &exchange.user, &attributes(exchange.info, verb)).await?;
            return Err(status);
        }
    };
    if action == Action::Connect {
        return exchange.connect(target, payload).await;
    }
    let accepted = exchange.accepted(&target, action)?;
    deprecation::tell(&target, exchange.notices);
    match action {
        Action::Watch => exchange.watch(target, accepted, payload).await,
        _ => exchange.call(target, action, accepted, payload).await,
    }
}

impl Exchange<'_> {
    fn accepted(&self, target: &Target, action: Action) -> Result<Accepted, Status> {
        let protobuf = protobuf::knows(&target.resource.gvk(&target.version));
        let offer = Offer { protobuf, tables: has_tables(target), transforms: true, stream: action == Action::Watch };
        let mut accepted = accept::negotiate(accept::header(self.request), offer)?;
        accepted.pretty |= accept::wants_pretty(self.query, user_agent(self.request));
        Ok(accepted)
    }

    async fn call(&self, target: Target, action: Action, accepted: Accepted, payload: &mut Payload) -> Result<HttpResponse, Status> {
        let (body, _held) = self.body(&target, action, payload).await?;
        let _seat = self.seat(&target, action).await?;
        let has_body = !body.is_empty();
        let operation = self.operation(&target, action, body).await?;
        self.audit.asked(&target, &operation, has_body);
        let (cause, notices) = (self.cause.clone(), self.notices.clone());
        let call = ApiCall { user: self.user.clone(), target: target.clone(), operation, cause, notices };
        let mut reply = self.shared.options.service.call(call).await?;
        for warning in std::mem::take(&mut reply.warnings) {
            self.notices.warn(warning);
        }
        self.audit.answered(&target, &reply);
        let outgoing = Outgoing::new(self.request, accepted);
        let (user, exempt) = (&self.user, self.is_exempt());
        reply::answer(&Answering { shared: self.shared, target: &target, query: self.query, outgoing, user, exempt }, reply).await
    }

    /// The body of a request that may have one. It is read only of those who may do what they ask for, and before the request
    /// takes a seat: who sends slowly keeps nobody waiting.
    async fn body(&self, target: &Target, action: Action, payload: &mut Payload) -> Result<(Bytes, Option<Held>), Status> {
        if matches!(action, Action::Get | Action::List) {
            return Ok((Bytes::new(), None));
        }
        self.authorize(target, action).await?;
        match action {
            Action::Create | Action::Update => _ = body::input_format(self.request)?,
            Action::Patch => _ = body::patch_type(self.request)?,
            _ => {}
        }
        let mut held = self.shared.bodies.hold(&self.user, self.is_exempt());
        let bytes = body::read(self.request, payload, &mut held).await?;
        Ok((bytes, Some(held)))
    }

    /// Whether flow control never holds the request back.
    fn is_exempt(&self) -> bool {
        self.classified.as_ref().is_some_and(Classified::is_exempt)
    }

    /// The service asks the same before it does anything; this is so that nobody's body is read in vain.
    async fn authorize(&self, target: &Target, action: Action) -> Result<(), Status> {
        let verb = request_verb(self.info, self.request.method(), self.query);
        let mut attributes = attributes(self.info, verb);
        // A selector that does not parse selects nothing here, and is refused later.
        let selected = (action == Action::DeleteCollection).then(|| list_options(self.query, target).ok()).flatten();
        if let Some(options) = &selected {
            attributes.selection = Selection { labels: Some(&options.labels), fields: Some(&options.fields) };
            attributes.name = options.fields.required_value("metadata.name").unwrap_or_default();
        }
        authorize(&*self.shared.options.authorizer, &self.user, &attributes).await
    }

    /// A place among the requests in work, and seats for the work that it is expected to be.
    async fn seat(&self, target: &Target, action: Action) -> Result<(Place, Option<Seat>), Status> {
        let (Some(classified), Some(flow)) = (&self.classified, &self.shared.options.flow) else {
            return Ok((self.shared.in_flight.enter()?, None));
        };
        let place = self.shared.in_flight.begin();
        let resource = target.group_resource();
        // Options that do not parse are refused later.
        let list = (action == Action::List).then(|| list_options(self.query, target).ok()).flatten();
        let asks = match (action, &list) {
            (Action::List, Some(options)) => Asks::List(options),
            // Of a token nobody hears.
            (Action::Create, _) if &*target.subresource == "token" => Asks::Other,
            (Action::Create | Action::Update | Action::Patch | Action::Delete, _) => {
                Asks::Write(flow.watches().interested(&resource, &target.namespace, &target.name))
            }
            _ => Asks::Other,
        };
        let work = classified.work(&resource, asks);
        Ok((place, Some(classified.seat(work, &self.user, self.parts(), false).await?)))
    }

    /// What people see of the request while it waits.
    fn parts(&self) -> Parts {
        let info = self.info;
        let group_version = if info.group.is_empty() { info.version.to_string() } else { format!("{}/{}", info.group, info.version) };
        let verb = request_verb(info, self.request.method(), self.query);
        Parts::new([verb, self.request.path(), &info.namespace, &info.name, &group_version, &info.resource, &info.subresource])
    }

    /// The seats of a watch that begins, and its place among those that make writes more work.
    async fn watch_seat(&self, target: &Target, options: &WatchOptions) -> Result<(Option<Seat>, Option<Watching>), Status> {
        let (Some(classified), Some(flow)) = (&self.classified, &self.shared.options.flow) else { return Ok((None, None)) };
        let resource = target.group_resource();
        let work = classified.work(&resource, Asks::Watch(options));
        let seat = classified.seat(work, &self.user, self.parts(), true).await?;
        let name = if target.name.is_empty() { options.fields.required_value("metadata.name").unwrap_or_default() } else { &target.name };
        Ok((Some(seat), flow.watches().begin(resource, &target.namespace, name, &options.fields)))
    }

    /// What the service is asked to do.
    async fn operation(&self, target: &Target, action: Action, body: Bytes) -> Result<Operation, Status> {
        let (request, query) = (self.request, self.query);
        let agent = user_agent(request);
        let operation = match action {
            Action::Get => Operation::Get { resource_version: revision(query)? },
            Action::List => Operation::List(list_options(query, target)?),
            Action::Create => {
                let options = write_options(query, "CreateOptions", None, agent)?;
                Operation::Create { body: body::object_body(body::input_format(request)?, body), options }
            }
            Action::Update => {
                let options = write_options(query, "UpdateOptions", None, agent)?;
                Operation::Update { body: body::object_body(body::input_format(request)?, body), options }
            }
            Action::Patch => {
                let patch_type = body::patch_type(request)?;
                let options = write_options(query, "PatchOptions", Some(patch_type), agent)?;
                Operation::Patch { patch_type, body, options }
            }
            Action::Delete => Operation::Delete(self.delete_options(body).await?),
            Action::DeleteCollection => {
                let list = list_options(query, target)?;
                Operation::DeleteCollection { delete: self.delete_options(body).await?, list }
            }
            Action::Watch | Action::Connect => return Err(Status::internal("watches and connects are no calls")),
        };
        Ok(operation)
    }

    async fn delete_options(&self, body: Bytes) -> Result<troupe_api::service::DeleteOptions, Status> {
        let format = if body.is_empty() { InputFormat::Json } else { body::input_format(self.request)? };
        let takes_unsafe = self.shared.options.features.is_on(ALLOW_UNSAFE_MALFORMED_OBJECT_DELETION);
        delete_options(self.query, format, body, takes_unsafe).await
    }

    fn watch_form(&self, target: &Target, accepted: Accepted) -> Result<WatchForm, Status> {
        Ok(match accepted.form {
            Form::Full if accepted.encoding == Encoding::Protobuf => WatchForm::Message(Box::new(MessageForm::full(target, &self.shared.memos)?)),
            Form::Partial(version) | Form::PartialList(version) if accepted.encoding == Encoding::Protobuf => {
                WatchForm::Message(Box::new(MessageForm::partial(target, version, &self.shared.memos)))
            }
            Form::Full => WatchForm::Full(FullForm::new(target)),
            Form::Partial(version) | Form::PartialList(version) => WatchForm::Partial(version),
            Form::Table(version) => WatchForm::Table(Box::new(TableForm::new(target, self.query, version, self.shared.options.clock.clone())?)),
        })
    }

    async fn watch(&self, target: Target, accepted: Accepted, payload: &mut Payload) -> Result<HttpResponse, Status> {
        let options = &self.shared.options;
        let form = self.watch_form(&target, accepted)?;
        let mut watch_options = watch_options(self.query, &target)?;
        let lasts = watch_options.lasts.unwrap_or_else(|| random_watch_time(options.min_watch_timeout));
        watch_options.lasts = Some(lasts);
        let is_ours = self.request.headers().contains_key(CAUSES_HEADER);
        watch_options.progress = is_ours;
        let mut held = self.shared.watches.hold(&self.user, self.is_exempt());
        let waiting = self.shared.replies.hold(&self.user, self.is_exempt());
        held.add(1)?;
        let (seat, watching) = self.watch_seat(&target, &watch_options).await?;
        let framer = Framer::new(form, target.clone()).with_causes(is_ours);
        let begun = match options.service.watch(self.user.clone(), target, watch_options, self.cause.clone()).await {
            Err(status) if status.code != 410 => return Err(status),
            begun => begun,
        };
        let socket = match watch_socket::is_wanted(self.request) {
            true => Some(watch_socket::accept(self.request, std::mem::replace(payload, Payload::None)).await?),
            false => None,
        };
        match begun {
            Ok(stream) => {
                let response = watch::answer(framer, stream, lasts, self.shared.stopping.clone().cancelled_owned(), socket);
                let beginning = Beginning::new(seat);
                Ok(response.map_body(|_, stream| Counted { stream, _held: held, waiting, beginning, _watching: watching }.boxed()))
            }
            Err(status) => Ok(watch::expired(&framer, &status, socket)),
        }
    }

    async fn connect(self, target: Target, payload: &mut Payload) -> Result<HttpResponse, Status> {
        let options = &self.shared.options;
        let upgrades_create = options.features.is_on(AUTHORIZE_POD_WEBSOCKET_UPGRADES);
        for verb in connect_verbs(self.request.method(), &target.subresource, upgrades_create) {
            authorize(&*options.authorizer, &self.user, &attributes(self.info, verb)).await?;
        }
        let mut admitted = ConnectOptions::default();
        if let Some(asked) = connect_options(&target, self.request.query_string(), self.info.rest)? {
            let (cause, notices) = (self.cause.clone(), self.notices.clone());
            let call = ConnectCall { user: self.user.clone(), target: target.clone(), options: asked, cause, notices };
            admitted = ConnectOptions::read(&options.service.admit_connect(call).await?)?;
        }
        let Some(connect) = &options.connect else {
            let why = format!("{} is not served here", target.subresource);
            return Err(Status::new(501, troupe_api::status::Reason::Unknown, why));
        };
        let mut held = self.shared.sessions.hold(&self.user, self.is_exempt());
        held.add(1)?;
        let request = ConnectRequest {
            user: self.user,
            target,
            proxy_path: admitted.proxy_path(self.info.rest).into_owned(),
            options: admitted,
            cause: self.cause,
            request: self.request.clone(),
            payload: std::mem::replace(payload, Payload::None),
        };
        Ok(sessions::count(self.request, held, connect.connect(request).await?))
    }
}

/// Whether a target's objects are shown as tables: upstream has columns for what is stored, not for what is only answered or done.
fn has_tables(target: &Target) -> bool {
    let is_stored = target.resource.verbs.iter().any(|verb| *verb != Verb::Create);
    is_stored && matches!(&*target.subresource, "" | "status" | "scale")
}

/// Spreads the ends of watches that began together.
fn random_watch_time(least: Duration) -> Duration {
    least.mul_f64(1.0 + rand::random::<f64>())
}
