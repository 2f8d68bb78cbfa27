//! What the control plane needs to run the cluster's DNS server: its objects.
//!
//! The server itself is the `troupe-dns` program, in pods labelled `k8s-app: kube-dns` behind the Service
//! `kube-system/kube-dns`, so that no daemon's restart interrupts names and policies that select kube-dns pods hold.

use std::net::Ipv4Addr;

use serde_json::{Value, json};
use troupe_api::meta::Object;

/// The name of the Service; other programs know it.
pub const SERVICE: &str = "kube-dns";
/// The name of everything else.
pub const NAME: &str = "troupe-dns";
const NAMESPACE: &str = "kube-system";
/// Seconds the server keeps answering after SIGTERM, and what its pod is given beyond that.
const LAMEDUCK_SECONDS: u32 = 5;
const GRACE_SECONDS: u32 = 15;

/// What the objects depend on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DnsOptions {
    pub image: String,
    pub cluster_ip: Ipv4Addr,
    pub domain: String,
}

/// Account, rights, Service, and a DaemonSet that runs the server on every node.
pub fn manifests(image: &str, cluster_ip: Ipv4Addr, domain: &str) -> Vec<Object> {
    let options = DnsOptions { image: image.to_owned(), cluster_ip, domain: domain.to_owned() };
    options.objects(options.daemon_set())
}

/// The same with a Deployment of one pod in place of the DaemonSet, for clusters where no DaemonSet controller runs.
pub fn deployment_fallback(image: &str, cluster_ip: Ipv4Addr, domain: &str) -> Vec<Object> {
    let options = DnsOptions { image: image.to_owned(), cluster_ip, domain: domain.to_owned() };
    options.objects(options.deployment())
}

impl DnsOptions {
    fn objects(&self, workload: Value) -> Vec<Object> {
        let all = [account(), role(), binding(), self.service(), workload];
        all.into_iter().map(|value| Object::from_value(value).expect("manifests are maps")).collect()
    }

    fn service(&self) -> Value {
        let labels = json!({
            "k8s-app": "kube-dns", "kubernetes.io/cluster-service": "true", "kubernetes.io/name": "CoreDNS",
        });
        json!({
            "apiVersion": "v1", "kind": "Service",
            "metadata": {"name": SERVICE, "namespace": NAMESPACE, "labels": labels},
            "spec": {
                "clusterIP": self.cluster_ip.to_string(),
                "clusterIPs": [self.cluster_ip.to_string()],
                "selector": {"k8s-app": "kube-dns"},
                "trafficDistribution": "PreferSameNode",
                "ports": [
                    {"name": "dns", "port": 53, "protocol": "UDP", "targetPort": 53},
                    {"name": "dns-tcp", "port": 53, "protocol": "TCP", "targetPort": 53},
                ],
            },
        })
    }

    fn daemon_set(&self) -> Value {
        json!({
            "apiVersion": "apps/v1", "kind": "DaemonSet",
            "metadata": {"name": NAME, "namespace": NAMESPACE, "labels": {"k8s-app": "kube-dns"}},
            "spec": {
                "selector": {"matchLabels": {"k8s-app": "kube-dns"}},
                // The new pod answers before the old one leaves: a node is never without names.
                "updateStrategy": {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1}},
                "template": self.template(),
            },
        })
    }

    fn deployment(&self) -> Value {
        json!({
            "apiVersion": "apps/v1", "kind": "Deployment",
            "metadata": {"name": NAME, "namespace": NAMESPACE, "labels": {"k8s-app": "kube-dns"}},
            "spec": {
                "replicas": 1,
                "selector": {"matchLabels": {"k8s-app": "kube-dns"}},
                "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1}},
                "template": self.template(),
            },
        })
    }

    fn template(&self) -> Value {
        json!({
            "metadata": {"labels": {"k8s-app": "kube-dns"}},
            "spec": {
                "serviceAccountName": NAME,
                "priorityClassName": "system-cluster-critical",
                // The node's resolvers: the cluster's own would be this very server.
                "dnsPolicy": "Default",
                "terminationGracePeriodSeconds": GRACE_SECONDS,
                "tolerations": [{"operator": "Exists"}],
                "nodeSelector": {"kubernetes.io/os": "linux"},
                "containers": [self.container()],
            },
        })
    }

    fn container(&self) -> Value {
        let probe = |path: &str, port: u16| json!({"httpGet": {"path": path, "port": port, "scheme": "HTTP"}});
        let mut liveness = probe("/health", 8080);
        liveness["initialDelaySeconds"] = 10.into();
        liveness["failureThreshold"] = 5.into();
        let mut readiness = probe("/ready", 8181);
        readiness["periodSeconds"] = 2.into();
        json!({
            "name": "dns",
            "image": self.image,
            "imagePullPolicy": "IfNotPresent",
            "args": [format!("--domain={}", self.domain), format!("--lameduck-seconds={LAMEDUCK_SECONDS}")],
            "ports": [
                {"name": "dns", "containerPort": 53, "protocol": "UDP"},
                {"name": "dns-tcp", "containerPort": 53, "protocol": "TCP"},
            ],
            "resources": {"requests": {"cpu": "50m", "memory": "20Mi"}, "limits": {"memory": "170Mi"}},
            "livenessProbe": liveness,
            "readinessProbe": readiness,
            "securityContext": {
                "allowPrivilegeEscalation": false,
                "readOnlyRootFilesystem": true,
                "capabilities": {"add": ["NET_BIND_SERVICE"], "drop": ["ALL"]},
            },
        })
    }
}

fn account() -> Value {
    json!({
        "apiVersion": "v1", "kind": "ServiceAccount",
        "metadata": {"name": NAME, "namespace": NAMESPACE, "labels": {"k8s-app": "kube-dns"}},
    })
}

fn role() -> Value {
    json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole",
        "metadata": {"name": "system:troupe-dns", "labels": {"kubernetes.io/bootstrapping": "rbac-defaults"}},
        "rules": [
            {"apiGroups": [""], "resources": ["services", "namespaces"], "verbs": ["list", "watch"]},
            {"apiGroups": ["discovery.k8s.io"], "resources": ["endpointslices"], "verbs": ["list", "watch"]},
        ],
    })
}

fn binding() -> Value {
    json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding",
        "metadata": {"name": "system:troupe-dns", "labels": {"kubernetes.io/bootstrapping": "rbac-defaults"}},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "system:troupe-dns"},
        "subjects": [{"kind": "ServiceAccount", "name": NAME, "namespace": NAMESPACE}],
    })
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::{
        apps::v1::{DaemonSet, Deployment},
        core::v1::{Service, ServiceAccount},
        rbac::v1::{ClusterRole, ClusterRoleBinding},
    };
    use serde::de::DeserializeOwned;

    use super::*;

    fn typed<K: DeserializeOwned>(objects: &[Object], at: usize) -> K {
        serde_json::from_value(objects[at].clone().into_value()).expect("fits its type")
    }

    #[test]
    fn every_object_fits_its_type_and_selects_the_same_pods() {
        let address = Ipv4Addr::new(10, 96, 0, 10);
        let objects = manifests("troupe.local/dns:0.1", address, "cluster.local");
        let _: ServiceAccount = typed(&objects, 0);
        let _: ClusterRole = typed(&objects, 1);
        let _: ClusterRoleBinding = typed(&objects, 2);
        let service: Service = typed(&objects, 3);
        let daemons: DaemonSet = typed(&objects, 4);
        let fallback: Deployment = typed(&deployment_fallback("troupe.local/dns:0.1", address, "cluster.local"), 4);
        let selector = service.spec.and_then(|spec| spec.selector);
        let daemons = daemons.spec.expect("a spec");
        assert_eq!(selector, daemons.template.metadata.clone().and_then(|meta| meta.labels));
        assert_eq!(Some(daemons.template), fallback.spec.map(|spec| spec.template));
    }
}
