//! What admission is told of a request, as upstream's `admission.Attributes`: the one type that plugins, webhooks and policies take.

use std::sync::{Arc, OnceLock};

use async_trait::async_trait;
use troupe_api::{
    auth::Authorizer,
    meta::{Clock, GroupResource, GroupVersionKind, Object, ObjectKey},
    notices::Notices,
    resources::{Registry, Resource},
    service::{DeleteOptions, Listers, Target, UserInfo, WriteOptions},
    status::Status,
    stored::StoredObject,
};

use super::{
    Operation,
    reinvocation::{Asked, Reinvocation},
    resource_name::{ResourceName, equivalents},
};

/// The options that the operation came with.
#[derive(Clone, Copy, Debug)]
pub enum OperationOptions<'a> {
    Create(&'a WriteOptions),
    Update(&'a WriteOptions),
    Delete(&'a DeleteOptions),
    /// There are none: those of the connection are its object.
    Connect,
}

impl OperationOptions<'_> {
    fn operation(&self) -> Operation {
        match self {
            OperationOptions::Create(_) => Operation::Create,
            OperationOptions::Update(_) => Operation::Update,
            OperationOptions::Delete(_) => Operation::Delete,
            OperationOptions::Connect => Operation::Connect,
        }
    }

    fn dry_run(&self) -> bool {
        match self {
            OperationOptions::Create(options) | OperationOptions::Update(options) => options.dry_run,
            OperationOptions::Delete(options) => options.dry_run,
            OperationOptions::Connect => false,
        }
    }
}

/// What plugins may read beside the request.
#[async_trait]
pub trait Reads: Send + Sync {
    /// The watch caches; may be older than the last write by a local hop.
    fn listers(&self) -> &dyn Listers;

    /// The resources that are served.
    fn registry(&self) -> Arc<Registry>;

    /// Who may do what; without one, everybody may everything.
    fn authorizer(&self) -> Option<&Arc<dyn Authorizer>>;

    fn clock(&self) -> &dyn Clock;

    /// An object of a custom resource in `version`; those of built-in kinds stay as they are.
    ///
    /// # Errors
    /// 500 where it cannot be converted.
    async fn convert(&self, resource: &Arc<Resource>, version: &str, object: &Object) -> Result<Object, Status>;

    /// One object as of now: for what the cache lacks. It is in the version in which it lies in the store.
    async fn live(&self, resource: &GroupResource, key: &ObjectKey) -> Result<Option<Arc<StoredObject>>, Status>;
}

/// The object that a request writes.
#[derive(Debug, Default)]
pub enum NewObject<'a> {
    /// Deletions have none.
    #[default]
    None,
    /// For validation.
    Final(&'a Object),
    /// For mutation.
    Open(&'a mut Object),
}

impl<'a> From<&'a Object> for NewObject<'a> {
    fn from(object: &'a Object) -> Self {
        NewObject::Final(object)
    }
}

impl<'a> From<&'a mut Object> for NewObject<'a> {
    fn from(object: &'a mut Object) -> Self {
        NewObject::Open(object)
    }
}

/// One request on its way through admission. Objects are in the form that they are stored in, those of custom resources in the version of
/// the request; how a webhook or a policy sees them says
/// [`Matched`](super::matching::Matched). A review's uid is that of the question, not of the request, as upstream.
pub struct Attributes<'a> {
    pub operation: Operation,
    pub options: OperationOptions<'a>,
    /// The resource as it is addressed: version, namespace, name and subresource.
    pub target: &'a Target,
    pub user: &'a UserInfo,
    pub dry_run: bool,
    new: NewObject<'a>,
    /// The object as it is stored, for updates and deletions.
    pub old: Option<&'a Object>,
    pub reads: &'a dyn Reads,
    /// Where plugins leave warnings for the client and annotations for the audit event.
    pub notices: &'a Notices,
    /// Whether mutation goes round once more.
    pub reinvocation: Reinvocation,
    equivalents: OnceLock<Vec<ResourceName>>,
}

impl<'a> Attributes<'a> {
    /// A request that `options` tell the operation of; it has no objects yet.
    pub fn new(target: &'a Target, user: &'a UserInfo, options: OperationOptions<'a>, reads: &'a dyn Reads, notices: &'a Notices) -> Self {
        Attributes {
            operation: options.operation(),
            dry_run: options.dry_run(),
            options,
            target,
            user,
            new: NewObject::None,
            old: None,
            reads,
            notices,
            reinvocation: Reinvocation::default(),
            equivalents: OnceLock::new(),
        }
    }

    /// The same about `new`: the object to be written, the body of a subresource's create, or the options of a connection. It can be
    /// changed where it comes as `&mut`.
    pub fn with_object(self, new: impl Into<NewObject<'a>>) -> Self {
        Attributes { new: new.into(), ..self }
    }

    /// The same with the object as it is stored.
    pub fn with_old(self, old: Option<&'a Object>) -> Self {
        Attributes { old, ..self }
    }

    /// The object to be written; for connections their options, for deletions there is none.
    pub fn object(&self) -> Option<&Object> {
        match &self.new {
            NewObject::None => None,
            NewObject::Final(object) => Some(object),
            NewObject::Open(object) => Some(object),
        }
    }

    /// The same to be changed: while requests are mutated.
    pub fn object_mut(&mut self) -> Option<&mut Object> {
        match &mut self.new {
            NewObject::Open(object) => Some(object),
            NewObject::None | NewObject::Final(_) => None,
        }
    }

    /// The other resources and versions in which the object is served.
    pub fn equivalents(&self) -> &[ResourceName] {
        let found = || equivalents(&self.reads.registry(), &ResourceName::requested(self.target), &self.target.subresource);
        self.equivalents.get_or_init(found)
    }

    /// What `plugin` noted in the first round; in the second, with what changed since.
    pub fn take_asked(&mut self, plugin: &'static str) -> Asked {
        let mut asked = self.reinvocation.take(plugin);
        if self.reinvocation.is_second() && asked.last.as_ref() != self.object() {
            asked.object_changed();
        }
        asked
    }

    /// Keeps it for the second round.
    pub fn keep_asked(&mut self, plugin: &'static str, mut asked: Asked) {
        if self.reinvocation.is_second() || asked.is_empty() {
            return;
        }
        asked.last = self.object().cloned();
        self.reinvocation.keep(plugin, asked);
    }

    /// The kind that the request's object has: the resource's, or that of its subresource.
    pub fn kind(&self) -> GroupVersionKind {
        let (row, version) = (&self.target.resource, &self.target.version);
        match self.target.served().subresource(&self.target.subresource) {
            Some(subresource) => row.subresource_gvk(subresource, version),
            None => row.gvk(version),
        }
    }

    /// The name of the object; a create of a generated name has none before mutation is over.
    pub fn name(&self) -> &str {
        match self.object() {
            Some(object) if self.operation == Operation::Create && self.target.name.is_empty() => object.name(),
            _ => &self.target.name,
        }
    }

    /// The namespace that webhooks and policies are told of; a Namespace lies in itself.
    pub fn namespace(&self) -> &'a str {
        if self.target.resource.is_namespace() { &self.target.name } else { &self.target.namespace }
    }

    /// Whether this is a request for `resource` in `group` itself (not for a subresource).
    pub fn is_main(&self, group: &str, resource: &str) -> bool {
        self.target.subresource.is_empty() && *self.target.resource.group == *group && *self.target.resource.plural == *resource
    }

    /// 403 about the object of this request. Before a name is generated it is called by what that will begin with.
    pub fn forbidden(&self, why: impl std::fmt::Display) -> Status {
        let name = match self.object() {
            Some(object) if !object.name().is_empty() => object.name(),
            Some(object) if self.target.name.is_empty() => object.str(&["metadata", "generateName"]),
            _ => &self.target.name,
        };
        Status::forbidden(&self.target.group_resource(), name, why)
    }
}
