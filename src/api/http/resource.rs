//! Requests on resources: from route, options and body to a call of the service, and back.

use std::{sync::Arc, time::Duration};

use actix_web::{HttpRequest, HttpResponse, dev::Payload, http::header};

use super::{
    accept::{self, Accepted, Encoding, Form},
    authorize::authorize,
    body::{self, InputFormat},
    connect::{ConnectRequest, connect_verbs},
    delete_options::delete_options,
    deprecation,
    handler::user_agent,
    list_options::{list_options, revision, watch_options},
    monitor::Monitor,
    path::RequestInfo,
    query::Query,
    render::FullForm,
    reply::{self, Outgoing},
    route::{Action, Route, attributes, request_verb, route},
    server::Shared,
    table::TableForm,
    watch::{self, Framer, WatchBody, WatchForm},
    write_options::write_options,
};
use crate::{
    meta::Cause,
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
    let accepted = exchange.accepted()?;
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
    fn accepted(&self) -> Result<Accepted, Status> {
        let header = self.request.headers().get(header::ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or("");
        let mut accepted = accept::negotiate(header)?;
        accepted.pretty |= accept::wants_pretty(self.query, user_agent(self.request));
        Ok(accepted)
    }

    async fn call(&self, target: Target, action: Action, accepted: Accepted, payload: &mut Payload) -> Result<HttpResponse, Status> {
        let options = &self.shared.options;
        let operation = self.operation(&target, action, payload).await?;
        let call = ApiCall { user: self.user.clone(), target: target.clone(), operation, cause: self.cause.clone() };
        let reply = options.service.call(call).await?;
        reply::answer(&Outgoing::new(self.request, accepted), &target, self.query, &options.clock, reply)
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
        if accepted.encoding != Encoding::Json {
            return Err(Status::not_acceptable("only the following media types are accepted: application/json;stream=watch"));
        }
        let form = match accepted.form {
            Form::Full => WatchForm::Full(FullForm::new(&target)),
            Form::Partial(version) | Form::PartialList(version) => WatchForm::Partial(version),
            Form::Table(version) => WatchForm::Table(Box::new(TableForm::new(&target, self.query, version, options.clock.clone())?)),
        };
        let (watch_options, timeout) = watch_options(self.query, &target.resource)?;
        let lasts = timeout.unwrap_or_else(|| random_watch_time(options.min_watch_timeout));
        let framer = Framer::new(form, target.clone());
        match options.service.watch(self.user.clone(), target, watch_options, self.cause.clone()).await {
            Ok(stream) => Ok(watch::answer(WatchBody::new(stream, framer, lasts, self.shared.stopping.clone().cancelled_owned()))),
            Err(status) if status.code == 410 => Ok(watch::expired(&status)),
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
