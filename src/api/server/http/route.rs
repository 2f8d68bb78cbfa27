//! From a request's path and method to a [`Target`] and what is to be done with it. Pure over the registry.

use std::sync::Arc;

use actix_web::http::Method;
use troupe_api::{
    auth::{Attributes, Selection},
    meta::names,
    resources::{Registry, Resource},
    service::Target,
    status::Status,
};

use super::{connect, path::RequestInfo, query::Query};

/// What a routed request does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    Get,
    List,
    Watch,
    Create,
    Update,
    Patch,
    Delete,
    DeleteCollection,
    Connect,
}

/// A routed request.
#[derive(Clone, Debug)]
pub struct Route {
    pub target: Target,
    pub action: Action,
}

/// The verb that authorizers and metrics see, as far as path, method and query tell.
pub fn request_verb(info: &RequestInfo<'_>, method: &Method, query: &Query) -> &'static str {
    if info.legacy_watch {
        return "watch";
    }
    match (method.as_str(), info.name.is_empty()) {
        ("GET" | "HEAD", false) => "get",
        ("GET" | "HEAD", true) if query.flag("watch") == Some(true) => "watch",
        ("GET" | "HEAD", true) => "list",
        ("POST", _) => "create",
        ("PUT", _) => "update",
        ("PATCH", _) => "patch",
        ("DELETE", true) => "deletecollection",
        ("DELETE", false) => "delete",
        _ => "",
    }
}

/// What an authorizer is asked about a resource path, known or not.
pub fn attributes<'a>(info: &'a RequestInfo<'_>, verb: &'a str) -> Attributes<'a> {
    Attributes {
        verb,
        resource: &info.resource,
        subresource: &info.subresource,
        group: &info.group,
        version: &info.version,
        namespace: &info.namespace,
        name: &info.name,
        path: None,
        selection: Selection::default(),
    }
}

/// Finds the row and the action.
///
/// # Errors
/// 404 when nothing is served at the path, 405 when it does not take the method, 400 when no object can have the name.
pub fn route(registry: &Registry, info: &RequestInfo<'_>, method: &Method, query: &Query) -> Result<Route, Status> {
    let resource = registry.by_resource(&info.group, &info.resource).ok_or_else(Status::page_not_found)?;
    let version = resource.served.iter().find(|served| *served.version == *info.version).map(|served| served.version.clone());
    let version = version.ok_or_else(Status::page_not_found)?;
    let namespace = scope_of(&resource, info)?;
    let action = if info.subresource.is_empty() {
        object_action(&resource, info, method, query)?
    } else {
        subresource_action(&resource, &version, info, method)?
    };
    check_name(&info.name)?;
    let target = Target { resource, version, namespace, name: info.name.as_ref().into(), subresource: info.subresource.as_ref().into() };
    Ok(Route { target, action })
}

/// Refuses a name that is no part of a path: upstream's storage does, and reads a slash as the beginning of a subresource.
fn check_name(name: &str) -> Result<(), Status> {
    if name.contains('/') {
        return Err(Status::page_not_found());
    }
    match names::path_segment(name, false)[..] {
        [] => Ok(()),
        ref wrong => Err(Status::bad_request(format!("Name parameter invalid: {name:?}: {}", wrong.join(";")))),
    }
}

/// The target's namespace; a path of the wrong scope serves nothing.
fn scope_of(resource: &Resource, info: &RequestInfo<'_>) -> Result<Arc<str>, Status> {
    match (resource.namespaced, info.namespace.is_empty()) {
        (true, false) => Ok(info.namespace.as_ref().into()),
        // Across all namespaces there are only lists, watches and, refused below, writes.
        (true, true) if info.name.is_empty() => Ok("".into()),
        (false, true) => Ok("".into()),
        (false, false) if resource.is_namespace() => Ok("".into()),
        _ => Err(Status::page_not_found()),
    }
}

fn object_action(resource: &Resource, info: &RequestInfo<'_>, method: &Method, query: &Query) -> Result<Action, Status> {
    if !is_there(resource, info) {
        return Err(Status::page_not_found());
    }
    let verb = request_verb(info, method, query);
    let action = match verb {
        "get" => Action::Get,
        "list" => Action::List,
        "watch" if method == Method::GET => Action::Watch,
        "create" if info.name.is_empty() => Action::Create,
        "update" if !info.name.is_empty() => Action::Update,
        "patch" if !info.name.is_empty() => Action::Patch,
        "delete" => Action::Delete,
        "deletecollection" => Action::DeleteCollection,
        _ => return Err(method_not_allowed()),
    };
    let whole_cluster = resource.namespaced && info.namespace.is_empty();
    if whole_cluster && !matches!(action, Action::List | Action::Watch) || method == Method::HEAD {
        return Err(method_not_allowed());
    }
    if resource.verbs.iter().any(|served| served.rbac() == verb) { Ok(action) } else { Err(method_not_allowed()) }
}

/// Whether any method is taken at this path: no object has one of what is only created, nor has a list across namespaces what nobody lists.
fn is_there(resource: &Resource, info: &RequestInfo<'_>) -> bool {
    let serves = |verbs: &[&str]| resource.verbs.iter().any(|served| verbs.contains(&served.rbac()));
    if !info.name.is_empty() {
        return serves(&["get", "update", "patch", "delete"]);
    }
    let whole_cluster = resource.namespaced && info.namespace.is_empty();
    !whole_cluster || serves(&["list"])
}

fn subresource_action(resource: &Resource, version: &str, info: &RequestInfo<'_>, method: &Method) -> Result<Action, Status> {
    let subresource = resource.version(version).subresource(&info.subresource).ok_or_else(|| missing_subresource(resource, info))?;
    if connect::is_connect(subresource.name) {
        let known = matches!(method.as_str(), "GET" | "HEAD" | "POST" | "PUT" | "PATCH" | "DELETE" | "OPTIONS");
        let fits = subresource.name == "proxy" || info.rest.is_empty() && matches!(method.as_str(), "GET" | "POST");
        return if known && fits { Ok(Action::Connect) } else { Err(method_not_allowed()) };
    }
    if !info.rest.is_empty() || info.legacy_watch {
        return Err(Status::page_not_found());
    }
    let (action, verb) = match method.as_str() {
        "GET" => (Action::Get, "get"),
        "POST" => (Action::Create, "create"),
        "PUT" => (Action::Update, "update"),
        "PATCH" => (Action::Patch, "patch"),
        "DELETE" => (Action::Delete, "delete"),
        _ => return Err(method_not_allowed()),
    };
    if subresource.verbs.contains(&verb) { Ok(action) } else { Err(method_not_allowed()) }
}

/// 404 for a subresource that a kind does not have; of custom resources it tells the object.
fn missing_subresource(resource: &Resource, info: &RequestInfo<'_>) -> Status {
    if resource.is_custom() { Status::not_found(&resource.group_resource(), &info.name) } else { Status::page_not_found() }
}

/// 405 in upstream's words.
pub fn method_not_allowed() -> Status {
    Status::method_not_allowed("the server does not allow this method on the requested resource")
}
