//! Requests on resources: from route, options and body to a call of the service, and back.

use std::{sync::Arc, time::Duration};

use actix_web::{HttpRequest, HttpResponse, dev::Payload};

use super::{
    accept::{self, Accepted, Encoding, Form, Offer},
    authorize::authorize,
    body::{self, InputFormat},
    connect::{ConnectRequest, connect_verbs},
    delete_options::delete_options,
    deprecation,
    frames::{Framer, WatchForm},
    handler::user_agent,
    list_options::{list_options, revision, watch_options},
    messages::MessageForm,
    monitor::Monitor,
    path::RequestInfo,
    protobuf,
    query::Query,
    render::FullForm,
    reply::{self, Answering, Outgoing},
    route::{Action, Route, attributes, request_verb, route},
    server::Shared,
    table::TableForm,
    trail::Trail,
    watch,
    write_options::write_options,
};
use crate::{
    meta::{Cause, cause::CAUSES_HEADER},
    service::{ApiCall, Operation, Target, UserInfo},
    status::Status,
};

/// One request on its way.
pub struct Exchange<'a> {
    pub shared: &'a Shared,
    pub request: &'a HttpRequest,
    pub info: &'a RequestInfo<'a>,
    pub query: &'a Query,
    pub user: Arc<UserInfo>,
    pub cause: Cause,
    pub monitor: &'a Monitor,
    pub trail: &'a Trail,
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
            authorize(&*exchange.shared.options.authorizer, &exchange.user, &attributes(exchange.info, verb))?;
            return Err(status);
        }
    };
    if action == Action::Connect {
        return exchange.connect(target, payload).await;
    }
    let accepted = exchange.accepted(&target, action)?;
    let warning = deprecation::warning(&target);
    let mut response = match action {
        Action::Watch => exchange.watch(target, accepted).await?,
        _ => exchange.call(target, action, accepted, payload).await?,
    };
    if let Some(warning) = warning {
        reply::add_warning(&mut response, warning);
    }
    Ok(response)
}

impl Exchange<'_> {
    fn accepted(&self, target: &Target, action: Action) -> Result<Accepted, Status> {
        let protobuf = protobuf::knows(&target.resource.gvk(&target.version));
        let offer = Offer { protobuf, transforms: true, stream: action == Action::Watch };
        let mut accepted = accept::negotiate(accept::header(self.request), offer)?;
        accepted.pretty |= accept::wants_pretty(self.query, user_agent(self.request));
        Ok(accepted)
    }

    async fn call(&self, target: Target, action: Action, accepted: Accepted, payload: &mut Payload) -> Result<HttpResponse, Status> {
        let operation = self.operation(&target, action, payload).await?;
        self.trail.asked(&operation);
        let call = ApiCall { user: self.user.clone(), target: target.clone(), operation, cause: self.cause.clone() };
        let reply = self.shared.options.service.call(call).await?;
        self.trail.answered(&target, &reply);
        let outgoing = Outgoing::new(self.request, accepted);
        reply::answer(&Answering { shared: self.shared, target: &target, query: self.query, outgoing }, reply).await
    }

    /// What the service is asked to do.
    async fn operation(&self, target: &Target, action: Action, payload: &mut Payload) -> Result<Operation, Status> {
        let (request, query) = (self.request, self.query);
        let agent = user_agent(request);
        let operation = match action {
            Action::Get => Operation::Get { resource_version: revision(query)? },
            Action::List => Operation::List(list_options(query, &target.resource)?),
            Action::Create => {
                let format = body::input_format(request)?;
                let options = write_options(query, "CreateOptions", None, agent)?;
                Operation::Create { body: body::object_body(format, body::read(request, payload).await?)?, options }
            }
            Action::Update => {
                let format = body::input_format(request)?;
                let options = write_options(query, "UpdateOptions", None, agent)?;
                Operation::Update { body: body::object_body(format, body::read(request, payload).await?)?, options }
            }
            Action::Patch => {
                let patch_type = body::patch_type(request)?;
                let options = write_options(query, "PatchOptions", Some(patch_type), agent)?;
                Operation::Patch { patch_type, body: body::read(request, payload).await?, options }
            }
            Action::Delete => Operation::Delete(self.delete_options(payload).await?),
            Action::DeleteCollection => {
                let list = list_options(query, &target.resource)?;
                Operation::DeleteCollection { delete: self.delete_options(payload).await?, list }
            }
            Action::Watch | Action::Connect => return Err(Status::internal("watches and connects are no calls")),
        };
        Ok(operation)
    }

    async fn delete_options(&self, payload: &mut Payload) -> Result<crate::service::DeleteOptions, Status> {
        let bytes = body::read(self.request, payload).await?;
        let format = if bytes.is_empty() { InputFormat::Json } else { body::input_format(self.request)? };
        delete_options(self.query, format, &bytes)
    }

    async fn watch(&self, target: Target, accepted: Accepted) -> Result<HttpResponse, Status> {
        let options = &self.shared.options;
        let form = match accepted.form {
            Form::Full if accepted.encoding == Encoding::Protobuf => WatchForm::Message(Box::new(MessageForm::full(&target, &self.shared.memos)?)),
            Form::Partial(version) | Form::PartialList(version) if accepted.encoding == Encoding::Protobuf => {
                WatchForm::Message(Box::new(MessageForm::partial(&target, version, &self.shared.memos)))
            }
            Form::Full => WatchForm::Full(FullForm::new(&target)),
            Form::Partial(version) | Form::PartialList(version) => WatchForm::Partial(version),
            Form::Table(version) => WatchForm::Table(Box::new(TableForm::new(&target, self.query, version, options.clock.clone())?)),
        };
        let mut watch_options = watch_options(self.query, &target.resource)?;
        let lasts = watch_options.lasts.unwrap_or_else(|| random_watch_time(options.min_watch_timeout));
        watch_options.lasts = Some(lasts);
        let framer = Framer::new(form, target.clone()).with_causes(self.request.headers().contains_key(CAUSES_HEADER));
        match options.service.watch(self.user.clone(), target, watch_options, self.cause.clone()).await {
            Ok(stream) => Ok(watch::answer(framer, stream, lasts, self.shared.stopping.clone().cancelled_owned())),
            Err(status) if status.code == 410 => Ok(watch::expired(&framer, &status)),
            Err(status) => Err(status),
        }
    }

    async fn connect(self, target: Target, payload: &mut Payload) -> Result<HttpResponse, Status> {
        let options = &self.shared.options;
        for verb in connect_verbs(self.request.method(), &target.subresource) {
            authorize(&*options.authorizer, &self.user, &attributes(self.info, verb))?;
        }
        let Some(connect) = &options.connect else {
            let why = format!("{} is not served here", target.subresource);
            return Err(Status::new(501, crate::status::Reason::Unknown, why));
        };
        let request = ConnectRequest {
            user: self.user,
            target,
            proxy_path: self.info.rest.to_owned(),
            cause: self.cause,
            request: self.request.clone(),
            payload: std::mem::replace(payload, Payload::None),
        };
        connect.connect(request).await
    }
}

/// Spreads the ends of watches that began together.
fn random_watch_time(least: Duration) -> Duration {
    least.mul_f64(1.0 + rand::random::<f64>())
}
