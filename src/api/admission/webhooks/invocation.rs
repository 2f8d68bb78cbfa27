//! A webhook that is to be asked about a request, and the object in the form that it wants.

use std::sync::Arc;

use super::{configuration::Hook, convert::Converted, form::Form};
use crate::{meta::GroupVersionKind, resources::Resource};

/// A resource in one of its versions.
#[derive(Clone, Debug)]
pub struct ResourceName {
    pub row: Arc<Resource>,
    pub version: Arc<str>,
}

/// A question to a webhook.
#[derive(Clone, Debug)]
pub struct Invocation {
    pub hook: Arc<Hook>,
    /// The resource that its rule names: the request's, or an equivalent one.
    pub resource: ResourceName,
    /// The kind in which it sees the object.
    pub kind: GroupVersionKind,
    pub form: Form,
    /// The objects of a custom resource in that kind, where it is none of the request's.
    pub converted: Arc<Converted>,
}
