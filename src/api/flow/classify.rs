//! Finds the flow schema of a request among those that exist now.

use std::{collections::HashMap, sync::Arc};

use arc_swap::ArcSwapOption;
use k8s_openapi::api::flowcontrol::v1::{FlowSchema, PriorityLevelConfiguration};

use super::matching::covers;
use crate::{
    auth::Attributes,
    meta::{GroupResource, Revision},
    service::{Listers, UserInfo},
    stored::StoredObject,
};

const GROUP: &str = "flowcontrol.apiserver.k8s.io";

/// Where a request belongs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Classified {
    pub schema_uid: Arc<str>,
    pub level_uid: Arc<str>,
    /// Requests of this level are never held back.
    pub exempt: bool,
}

struct Entry {
    schema: Arc<FlowSchema>,
    classified: Classified,
}

/// The schemas in the order in which they are tried, as of a version of the caches.
struct Order {
    version: (Option<Revision>, Option<Revision>),
    entries: Vec<Entry>,
}

/// Classifies requests by what the caches hold.
pub struct Classifier {
    listers: Arc<dyn Listers>,
    order: ArcSwapOption<Order>,
}

impl Classifier {
    pub fn new(listers: Arc<dyn Listers>) -> Self {
        Classifier { listers, order: ArcSwapOption::empty() }
    }

    /// The first schema that covers the request. None covers it only while the built-in ones are missing.
    pub fn classify(&self, user: &UserInfo, attributes: &Attributes<'_>) -> Option<Classified> {
        let order = self.order();
        let entry = order.entries.iter().find(|entry| covers(&entry.schema, user, attributes))?;
        Some(entry.classified.clone())
    }

    fn order(&self) -> Arc<Order> {
        let (schemas, levels) = (GroupResource::new(GROUP, "flowschemas"), GroupResource::new(GROUP, "prioritylevelconfigurations"));
        let version = (self.listers.version(&schemas), self.listers.version(&levels));
        if let Some(order) = self.order.load_full().filter(|order| order.version == version && version.0.is_some()) {
            return order;
        }
        let levels: HashMap<_, _> = self.listers.list(&levels, "").iter().filter_map(level_of).collect();
        let mut entries: Vec<Entry> = self.listers.list(&schemas, "").iter().filter_map(|schema| entry_of(schema, &levels)).collect();
        entries.sort_by_key(|entry| {
            let precedence = entry.schema.spec.as_ref().and_then(|spec| spec.matching_precedence).unwrap_or(1000);
            (precedence, entry.schema.metadata.name.clone())
        });
        let order = Arc::new(Order { version, entries });
        self.order.store(Some(order.clone()));
        order
    }
}

/// A level's name, its UID and whether it is exempt.
type Level = (String, (Arc<str>, bool));

fn level_of(level: &Arc<StoredObject>) -> Option<Level> {
    let typed = level.typed::<PriorityLevelConfiguration>().ok()?;
    let exempt = typed.spec.as_ref().is_some_and(|spec| spec.type_ == "Exempt");
    Some((level.key.name.to_string(), (level.meta().uid.clone(), exempt)))
}

/// A schema with its level; one that refers to no level is passed over.
fn entry_of(schema: &Arc<StoredObject>, levels: &HashMap<String, (Arc<str>, bool)>) -> Option<Entry> {
    let typed = schema.typed::<FlowSchema>().ok()?;
    let (level_uid, exempt) = levels.get(&typed.spec.as_ref()?.priority_level_configuration.name)?.clone();
    let classified = Classified { schema_uid: schema.meta().uid.clone(), level_uid, exempt };
    Some(Entry { schema: typed, classified })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{flow::objects, meta::ObjectKey};

    struct Fixed(Vec<(String, Arc<StoredObject>)>);

    impl Listers for Fixed {
        fn get(&self, _resource: &GroupResource, _key: &ObjectKey) -> Option<Arc<StoredObject>> {
            None
        }

        fn list(&self, resource: &GroupResource, _namespace: &str) -> Vec<Arc<StoredObject>> {
            self.0.iter().filter(|(plural, _)| **plural == *resource.resource).map(|(_, object)| object.clone()).collect()
        }
    }

    /// The names of schemas stand in for their UIDs.
    fn classifier() -> Classifier {
        let stored = objects().into_iter().map(|mut object| {
            let (uid, plural) = (object.name().to_owned(), format!("{}s", object.kind().to_lowercase()));
            object.set(&["metadata", "uid"], uid);
            (plural, Arc::new(StoredObject::from_object(&object).expect("is well formed")))
        });
        Classifier::new(Arc::new(Fixed(stored.collect())))
    }

    fn schema(name: &str, groups: &[&str], attributes: &Attributes<'_>) -> String {
        let user = UserInfo { name: name.into(), groups: groups.iter().map(|group| (*group).to_owned()).collect(), ..UserInfo::default() };
        classifier().classify(&user, attributes).expect("is covered").schema_uid.to_string()
    }

    #[test]
    fn requests_fall_into_upstreams_schemas() {
        let lease =
            Attributes { verb: "update", group: "coordination.k8s.io", resource: "leases", namespace: "kube-system", ..Attributes::default() };
        let pods = Attributes { verb: "list", resource: "pods", ..Attributes::default() };
        let node_status = Attributes { verb: "patch", resource: "nodes", subresource: "status", name: "n", ..Attributes::default() };
        let health = Attributes { verb: "get", path: Some("/healthz"), ..Attributes::default() };
        let everybody = "system:authenticated";
        assert_eq!(schema("admin", &["system:masters", everybody], &pods), "exempt");
        assert_eq!(schema("ann", &[everybody], &health), "probes");
        assert_eq!(schema("system:kube-scheduler", &[everybody], &lease), "system-leader-election");
        assert_eq!(schema("system:kube-scheduler", &[everybody], &pods), "kube-scheduler");
        assert_eq!(schema("system:node:n", &["system:nodes", everybody], &node_status), "system-node-high");
        assert_eq!(schema("system:node:n", &["system:nodes", everybody], &pods), "system-nodes");
        assert_eq!(schema("system:serviceaccount:kube-system:x", &["system:serviceaccounts", everybody], &pods), "kube-system-service-accounts");
        assert_eq!(schema("system:serviceaccount:default:x", &["system:serviceaccounts", everybody], &pods), "service-accounts");
        assert_eq!(schema("ann", &[everybody], &pods), "global-default");
    }
}
