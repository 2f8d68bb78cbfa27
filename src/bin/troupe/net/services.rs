//! Which Service a packet is for, and which of its endpoints a node's rules give it. Pure.

use std::{collections::BTreeSet, net::IpAddr, sync::Arc};

use k8s_openapi::api::{core::v1::Service, discovery::v1::EndpointSlice};
use serde_json::Value;
use troupe_actors::proxy::{
    claims::{self, Claims},
    endpoints::{Backends, Choice, EndpointView},
    plan::NodeView,
    service::{PortView, Taken, is_ours},
};
use troupe_api::meta::ObjectKey;
use troupe_net::iptables::Family;

use super::facts::{Facts, read, text};

/// A Service with its slices, as the proxy has them.
#[derive(Clone, Debug)]
pub struct Served {
    pub key: ObjectKey,
    pub service: Service,
    pub slices: Vec<Arc<EndpointSlice>>,
}

/// Which of a Service's addresses is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Door {
    Cluster,
    /// An external or load balancer address, or a node port.
    External,
}

/// The port of a Service that a packet is for.
#[derive(Clone, Debug)]
pub struct Claim<'a> {
    pub served: &'a Served,
    pub port: PortView,
    pub door: Door,
}

/// Endpoints that a node's rules translate to.
pub type Translated = BTreeSet<(IpAddr, u16)>;

impl Served {
    pub fn of(service: &Value, facts: &Facts) -> Option<Self> {
        let (namespace, name) = (text(&service["metadata"]["namespace"]), text(&service["metadata"]["name"]));
        let mut slices: Vec<&Value> = facts.slices.iter().filter(|slice| is_of(slice, namespace, name)).collect();
        slices.sort_by(|one, other| text(&one["metadata"]["name"]).cmp(text(&other["metadata"]["name"])));
        let slices = slices.into_iter().flat_map(|slice| read(std::slice::from_ref(slice))).map(Arc::new).collect();
        Some(Served { key: ObjectKey::new(namespace, name), service: serde_json::from_value(service.clone()).ok()?, slices })
    }

    /// Those that packets to an address or, where it is a node's, to a port may be for.
    pub fn asked(facts: &Facts, ip: IpAddr, port: u16) -> Vec<Self> {
        let is_asked = |view: &PortView| has_address(view, ip) || view.node_port == Some(port);
        let all = facts.services.iter().filter(|service| {
            let services = read::<Service>(std::slice::from_ref(*service));
            services.flat_map(|service| PortView::of(&service, Family::of(ip))).any(|view| is_asked(&view))
        });
        all.filter_map(|service| Served::of(service, facts)).collect()
    }
}

fn is_of(slice: &Value, namespace: &str, service: &str) -> bool {
    let meta = &slice["metadata"];
    meta["namespace"] == namespace && meta["labels"]["kubernetes.io/service-name"] == service && is_ours(|label| meta["labels"].get(label).is_some())
}

fn has_address(port: &PortView, ip: IpAddr) -> bool {
    port.cluster_ip == ip || port.external_ips.contains(&ip) || port.balancer_ips.contains(&ip)
}

/// What of each Service's addresses others have by a better right.
pub fn taken(served: &[Served], family: Family) -> Vec<Taken> {
    let claims = Claims::default();
    for served in served {
        claims.set(&served.key, claims::Claim::of(&served.service, family));
    }
    served.iter().map(|served| claims.taken(&served.key)).collect()
}

/// The port that takes packets to an address; `is_nodes` says that it is a node's.
pub fn claim<'a>(served: &'a [Served], ip: IpAddr, port: u16, protocol: &str, is_nodes: bool) -> Option<Claim<'a>> {
    let family = Family::of(ip);
    let ports = served.iter().zip(taken(served, family)).flat_map(|(served, taken)| {
        let views = PortView::of(&served.service, family).into_iter();
        views.map(move |mut view| {
            view.leave(&taken);
            (served, view)
        })
    });
    ports.filter(|(_, view)| view.protocol == protocol).find_map(|(served, view)| {
        let is_here = view.port == port && has_address(&view, ip);
        let door = match is_here {
            true if view.cluster_ip == ip => Door::Cluster,
            true => Door::External,
            false if is_nodes && view.node_port == Some(port) => Door::External,
            false => return None,
        };
        Some(Claim { served, port: view, door })
    })
}

impl Claim<'_> {
    fn is_local(&self) -> bool {
        if self.door == Door::Cluster { self.port.internal_local } else { self.port.external_local }
    }

    /// The traffic policy that binds who asks here.
    pub fn policy(&self) -> &'static str {
        if self.door == Door::Cluster { "internalTrafficPolicy" } else { "externalTrafficPolicy" }
    }

    /// What the rules of a node make of the Service: to whom they lead, and why to them.
    pub fn leads(&self, view: &NodeView, translated: &Translated) -> String {
        let backends = Backends::of(&self.served.slices, &view.location.node, view.family());
        let endpoints = backends.endpoints(&self.port);
        let choice = Choice::of(&self.port, &endpoints, &view.location);
        let ready = endpoints.iter().filter(|endpoint| endpoint.ready).count();
        let mut said = format!("service {} leads to one of {} endpoints", self.served.key, translated.len());
        if ready > translated.len() {
            said += &format!(", of {ready} that are ready");
        }
        let why = self.why(&choice, ready, translated);
        if why.is_empty() { said } else { format!("{said} ({})", why.join("; ")) }
    }

    fn why(&self, choice: &Choice, ready: usize, translated: &Translated) -> Vec<String> {
        let mut why = Vec::new();
        let are = |list: &[EndpointView]| list.len() == translated.len() && list.iter().all(|found| translated.contains(&(found.ip, found.port)));
        let keeps_local = self.is_local() && are(&choice.local);
        if keeps_local {
            why.push(format!("{}: Local", self.policy()));
        } else if self.is_local() {
            why.push(format!("{}: Local does not bind pods and nodes", self.policy()));
        } else if are(&choice.cluster) && choice.cluster.len() < ready {
            why.push("the nearest by their hints".to_owned());
        }
        let mut used = choice.cluster.iter().chain(&choice.local).filter(|found| translated.contains(&(found.ip, found.port)));
        if !used.any(|found| found.ready) {
            why.push("none is ready, they still serve while they end".to_owned());
        }
        why.extend(self.port.affinity.map(|seconds| format!("a client stays with its endpoint for {seconds} s")));
        why
    }
}
