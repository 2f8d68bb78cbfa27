//! What runs after the start, under the names that upstream gives its hooks: each is done when the unit that does it lives, or when what it
//! makes is there.

use std::sync::atomic::Ordering;

use super::Checked;

/// One of upstream's hooks.
#[derive(Debug)]
pub struct Hook {
    pub name: &'static str,
    needs: Needs,
}

/// What must be so when a hook is done.
#[derive(Clone, Copy, Debug)]
enum Needs {
    /// All caches are filled.
    Caches,
    /// The cache of a resource is.
    Cache(&'static str, &'static str),
    /// The unit at a path lives.
    Unit(&'static str),
    /// What must exist after the first start was made.
    Bootstrap,
    /// The unit that names this server to clients inside the cluster lives, unless the server leaves.
    Advertiser,
}

const fn hook(name: &'static str, needs: Needs) -> Hook {
    Hook { name, needs }
}

/// In upstream's order.
pub static HOOKS: [Hook; 24] = [
    hook("poststarthook/start-apiserver-admission-initializer", Needs::Caches),
    hook("poststarthook/generic-apiserver-start-informers", Needs::Caches),
    hook("poststarthook/priority-and-fairness-config-consumer", Needs::Cache("flowcontrol.apiserver.k8s.io", "prioritylevelconfigurations")),
    hook("poststarthook/priority-and-fairness-filter", Needs::Cache("flowcontrol.apiserver.k8s.io", "flowschemas")),
    hook("poststarthook/storage-readiness", Needs::Caches),
    hook("poststarthook/start-apiextensions-informers", Needs::Cache("apiextensions.k8s.io", "customresourcedefinitions")),
    hook("poststarthook/start-apiextensions-controllers", Needs::Unit("apiserver/definitions")),
    hook("poststarthook/crd-informer-synced", Needs::Unit("apiserver/resource-table")),
    hook("poststarthook/start-system-namespaces-controller", Needs::Bootstrap),
    hook("poststarthook/start-cluster-authentication-info-controller", Needs::Unit("apiserver/cluster-authentication-trust")),
    hook("poststarthook/start-service-ip-repair-controllers", Needs::Unit("apiserver/upkeep")),
    hook("poststarthook/rbac/bootstrap-roles", Needs::Bootstrap),
    hook("poststarthook/scheduling/bootstrap-system-priority-classes", Needs::Bootstrap),
    hook("poststarthook/priority-and-fairness-config-producer", Needs::Bootstrap),
    hook("poststarthook/bootstrap-controller", Needs::Advertiser),
    hook("poststarthook/start-kube-aggregator-informers", Needs::Cache("apiregistration.k8s.io", "apiservices")),
    hook("poststarthook/apiservice-status-local-available-controller", Needs::Unit("apiserver/api-service-registration")),
    hook("poststarthook/apiservice-status-remote-available-controller", Needs::Unit("apiserver/api-services")),
    hook("poststarthook/apiservice-registration-controller", Needs::Unit("apiserver/api-services")),
    hook("poststarthook/apiservice-discovery-controller", Needs::Unit("apiserver/api-services")),
    hook("poststarthook/kube-apiserver-autoregistration", Needs::Unit("apiserver/api-service-registration")),
    hook("autoregister-completion", Needs::Bootstrap),
    hook("poststarthook/apiservice-openapi-controller", Needs::Unit("apiserver/api-services")),
    hook("poststarthook/apiservice-openapiv3-controller", Needs::Unit("apiserver/api-services")),
];

impl Hook {
    /// # Errors
    /// In upstream's words while the hook is not done.
    pub fn check(&self, checked: &Checked) -> Result<(), String> {
        let lives = |path: &str| checked.system.directory().get(path).is_some();
        let is_filled = |group: &str, plural: &str| {
            let routes = checked.caches.routes();
            let mut caches = routes.values().map(|route| &route.cache);
            caches.any(|cache| *cache.resource.group == *group && *cache.resource.plural == *plural && cache.is_filled())
        };
        let is_bootstrapped = || checked.bootstrapped.load(Ordering::Relaxed);
        let is_done = match self.needs {
            Needs::Caches => super::caches_are_filled(&checked.caches).is_ok(),
            Needs::Cache(group, plural) => is_filled(group, plural),
            Needs::Unit(path) => lives(path),
            Needs::Bootstrap => is_bootstrapped(),
            Needs::Advertiser => is_bootstrapped() && (lives("apiserver/advertiser") || checked.leaving.load(Ordering::Relaxed)),
        };
        if is_done { Ok(()) } else { Err("not finished".to_owned()) }
    }
}
