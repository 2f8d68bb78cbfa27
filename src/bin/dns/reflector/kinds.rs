//! The kinds of objects that are followed, and what is made of each.

use std::time::SystemTime;

use serde::de::DeserializeOwned;
use troupe_net::dns::{
    cluster_addresses::{Source, SourceKind},
    view::{Meta, Namespace, Service, Slice},
};

use super::Followers;
use crate::{
    domains::{AddressSlice, ClusterNode, NamingPolicy, ServiceRange, name_of, of_service, of_slice},
    metrics::METRICS,
    programming,
};

/// The definition of cluster network policies, which most clusters do not have.
pub const POLICIES_DEFINED: &str =
    "/apis/apiextensions.k8s.io/v1/customresourcedefinitions?fieldSelector=metadata.name%3Dclusternetworkpolicies.policy.networking.k8s.io";

/// What an object that is gone tells.
const NOTHING: [&str; 0] = [];

/// A kind of object that names follow from.
pub trait Watched: DeserializeOwned + Send + 'static {
    const PATH: &'static str;
    /// The zone is not known without.
    const IN_ZONE: bool = true;
    /// Without it nobody knows where domain names must not lead.
    const GUARDS: bool = false;
    /// Where the definition of a kind is that is not built in.
    const DEFINITION: Option<&'static str> = None;
    fn revision(&self) -> &str;
    fn add(self, to: &Followers);
    fn remove(meta: &Meta, to: &Followers);
    fn replace(all: Vec<Self>, to: &Followers);
    /// An object, as JSON, is taken in that was not there or another one before.
    fn taken(_raw: &str, _of: Option<&(String, String)>, _to: &Followers) {}
    /// The Service that it belongs to.
    fn service(&self) -> Option<(String, String)> {
        None
    }
}

impl Watched for Namespace {
    const PATH: &'static str = "/api/v1/namespaces";

    fn revision(&self) -> &str {
        &self.metadata.resource_version
    }

    fn add(self, to: &Followers) {
        to.state.change(|index| index.add_namespace(self.metadata.name));
    }

    fn remove(meta: &Meta, to: &Followers) {
        to.state.change(|index| index.remove_namespace(&meta.name));
    }

    fn replace(all: Vec<Self>, to: &Followers) {
        to.state.change(|index| index.replace_namespaces(all.into_iter().map(|namespace| namespace.metadata.name)));
    }
}

impl Watched for Service {
    const PATH: &'static str = "/api/v1/services";

    fn revision(&self) -> &str {
        &self.metadata.resource_version
    }

    fn add(self, to: &Followers) {
        to.domains.set_cluster(Source::new(SourceKind::Service, name_of(&self.metadata)), of_service(&self));
        to.state.change(|index| index.add_service(self));
    }

    fn remove(meta: &Meta, to: &Followers) {
        to.domains.set_cluster(Source::new(SourceKind::Service, name_of(meta)), NOTHING);
        to.state.change(|index| index.remove_service(&meta.namespace, &meta.name));
    }

    fn replace(all: Vec<Self>, to: &Followers) {
        to.domains.replace_cluster(SourceKind::Service, all.iter().map(|service| (name_of(&service.metadata), of_service(service))));
        to.state.change(|index| index.replace_services(all));
    }
}

impl Watched for Slice {
    const PATH: &'static str = "/apis/discovery.k8s.io/v1/endpointslices";

    fn revision(&self) -> &str {
        &self.metadata.resource_version
    }

    fn add(self, to: &Followers) {
        to.domains.set_cluster(Source::new(SourceKind::Servers, name_of(&self.metadata)), of_slice(&self));
        to.state.change(|index| index.add_slice(self));
    }

    fn remove(meta: &Meta, to: &Followers) {
        to.domains.set_cluster(Source::new(SourceKind::Servers, name_of(meta)), NOTHING);
        to.state.change(|index| index.remove_slice(&meta.namespace, &meta.name));
    }

    fn replace(all: Vec<Self>, to: &Followers) {
        to.domains.replace_cluster(SourceKind::Servers, all.iter().map(|slice| (name_of(&slice.metadata), of_slice(slice))));
        to.state.change(|index| index.replace_slices(all));
    }

    fn service(&self) -> Option<(String, String)> {
        Some((self.metadata.namespace.clone(), Slice::service(self)?.to_owned()))
    }

    fn taken(raw: &str, of: Option<&(String, String)>, to: &Followers) {
        let headless = |(namespace, name): &(String, String)| to.state.zone.read().index.service(namespace, name).is_some_and(Service::is_headless);
        if of.is_some_and(headless)
            && let Some(took) = programming::since(raw, SystemTime::now())
        {
            METRICS.programmed(took);
        }
    }
}

impl Watched for NamingPolicy {
    const PATH: &'static str = "/apis/policy.networking.k8s.io/v1alpha2/clusternetworkpolicies";
    const IN_ZONE: bool = false;
    const DEFINITION: Option<&'static str> = Some(POLICIES_DEFINED);

    fn revision(&self) -> &str {
        &self.metadata.resource_version
    }

    fn add(self, to: &Followers) {
        to.domains.set_policy(self);
    }

    fn remove(meta: &Meta, to: &Followers) {
        to.domains.remove_policy(&meta.name);
    }

    fn replace(all: Vec<Self>, to: &Followers) {
        to.domains.replace_policies(all);
    }
}

impl Watched for AddressSlice {
    // In `troupe_net::dns::domain_names::NAMESPACE`.
    const PATH: &'static str = "/apis/discovery.k8s.io/v1/namespaces/troupe-domain-names/endpointslices";
    const IN_ZONE: bool = false;

    fn revision(&self) -> &str {
        &self.metadata.resource_version
    }

    fn add(self, to: &Followers) {
        to.domains.set_slice(self);
    }

    fn remove(meta: &Meta, to: &Followers) {
        to.domains.remove_slice(&meta.name);
    }

    fn replace(all: Vec<Self>, to: &Followers) {
        to.domains.replace_slices(all);
    }
}

impl Watched for ClusterNode {
    const PATH: &'static str = "/api/v1/nodes";
    const IN_ZONE: bool = false;
    const GUARDS: bool = true;

    fn revision(&self) -> &str {
        &self.metadata.resource_version
    }

    fn add(self, to: &Followers) {
        to.domains.set_cluster(Source::new(SourceKind::Node, self.metadata.name.as_str()), self.told());
    }

    fn remove(meta: &Meta, to: &Followers) {
        to.domains.set_cluster(Source::new(SourceKind::Node, meta.name.as_str()), NOTHING);
    }

    fn replace(all: Vec<Self>, to: &Followers) {
        to.domains.replace_cluster(SourceKind::Node, all.into_iter().map(|node| (node.metadata.name.clone(), node.told())));
    }
}

impl Watched for ServiceRange {
    const PATH: &'static str = "/apis/networking.k8s.io/v1/servicecidrs";
    const IN_ZONE: bool = false;
    const GUARDS: bool = true;

    fn revision(&self) -> &str {
        &self.metadata.resource_version
    }

    fn add(self, to: &Followers) {
        to.domains.set_cluster(Source::new(SourceKind::ServiceRange, self.metadata.name.as_str()), self.told());
    }

    fn remove(meta: &Meta, to: &Followers) {
        to.domains.set_cluster(Source::new(SourceKind::ServiceRange, meta.name.as_str()), NOTHING);
    }

    fn replace(all: Vec<Self>, to: &Followers) {
        to.domains.replace_cluster(SourceKind::ServiceRange, all.into_iter().map(|range| (range.metadata.name.clone(), range.told())));
    }
}
