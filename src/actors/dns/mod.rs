//! What the control plane needs to run the cluster's DNS server: its objects.
//!
//! The server itself is the `troupe-dns` program, in pods labelled `k8s-app: kube-dns` behind the Service
//! `kube-system/kube-dns`, so that no daemon's restart interrupts names and policies that select kube-dns pods hold.

use std::net::IpAddr;

use k8s_openapi::api::{apps::v1::DaemonSet, core::v1::PodSecurityContext};
use serde_json::{Value, json};
use troupe_api::meta::Object;
use troupe_net::dns::domain_names;

/// The name of the Service; other programs know it.
pub const SERVICE: &str = "kube-dns";
/// The name of everything else.
pub const NAME: &str = "troupe-dns";
/// Where all of it is.
pub const NAMESPACE: &str = "kube-system";
const CONTAINER: &str = "dns";
/// Seconds the server keeps answering after SIGTERM, and what its pod is given beyond that.
const LAMEDUCK_SECONDS: u32 = 5;
const GRACE_SECONDS: u32 = 15;
/// Whom the server runs as.
const USER: u32 = 65532;

/// What the objects depend on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DnsOptions {
    pub image: String,
    pub cluster_ip: IpAddr,
    pub domain: String,
    /// Pods have IPv6 addresses: the server listens at these, too.
    pub ipv6: bool,
}

/// Account, rights, Service, a DaemonSet that runs the server on every node, and a namespace for what it tells of domain names.
pub fn manifests(options: &DnsOptions) -> Vec<Object> {
    options.objects(options.daemon_set())
}

/// The same with a Deployment of one pod in place of the DaemonSet, for clusters where no DaemonSet controller runs.
pub fn deployment_fallback(options: &DnsOptions) -> Vec<Object> {
    options.objects(options.deployment())
}

/// What turns the DaemonSet of an older version into one whose pods have no root and no capability; `None` for one that says
/// itself whom its pods run as.
pub fn confinement(daemons: &DaemonSet) -> Option<Value> {
    let spec = daemons.spec.as_ref().and_then(|spec| spec.template.spec.as_ref());
    let said = spec.and_then(|spec| spec.security_context.as_ref()).is_some_and(|context| *context != PodSecurityContext::default());
    let container = json!({"name": CONTAINER, "securityContext": {"capabilities": {"add": null, "drop": ["ALL"]}}});
    (!said).then(|| json!({"spec": {"template": {"spec": {"securityContext": pod_security(), "containers": [container]}}}}))
}

impl DnsOptions {
    fn objects(&self, workload: Value) -> Vec<Object> {
        let all = [account(), role(), binding(), self.service(), workload];
        all.into_iter().chain(telling_domain_names()).map(|value| Object::from_value(value).expect("manifests are maps")).collect()
    }

    fn service(&self) -> Value {
        let labels = json!({
            "k8s-app": "kube-dns", "kubernetes.io/cluster-service": "true", "kubernetes.io/name": "CoreDNS",
        });
        // As CoreDNS' own manifests say it.
        let scraped = json!({"prometheus.io/scrape": "true", "prometheus.io/port": "9153"});
        json!({
            "apiVersion": "v1", "kind": "Service",
            "metadata": {"name": SERVICE, "namespace": NAMESPACE, "labels": labels, "annotations": scraped},
            "spec": {
                "clusterIP": self.cluster_ip.to_string(),
                "clusterIPs": [self.cluster_ip.to_string()],
                "selector": {"k8s-app": "kube-dns"},
                "trafficDistribution": "PreferSameNode",
                "ports": [
                    {"name": "dns", "port": 53, "protocol": "UDP", "targetPort": 53},
                    {"name": "dns-tcp", "port": 53, "protocol": "TCP", "targetPort": 53},
                    {"name": "metrics", "port": 9153, "protocol": "TCP", "targetPort": 9153},
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
                "securityContext": pod_security(),
                "tolerations": [{"operator": "Exists"}],
                "nodeSelector": {"kubernetes.io/os": "linux"},
                "containers": [self.container()],
                // Resolvers of some domains, and others than the machine's: whoever wants them makes the ConfigMap.
                "volumes": [{"name": "config", "configMap": {"name": SERVICE, "optional": true}}],
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
        let mut arguments = vec![format!("--domain={}", self.domain), format!("--lameduck-seconds={LAMEDUCK_SECONDS}")];
        if self.ipv6 {
            // All addresses, of both families.
            let listening = [("listen", 53), ("health", 8080), ("ready", 8181), ("metrics", 9153)];
            arguments.extend(listening.map(|(what, port)| format!("--{what}=[::]:{port}")));
        }
        json!({
            "name": CONTAINER,
            "image": self.image,
            "imagePullPolicy": "IfNotPresent",
            "args": arguments,
            "ports": [
                {"name": "dns", "containerPort": 53, "protocol": "UDP"},
                {"name": "dns-tcp", "containerPort": 53, "protocol": "TCP"},
                {"name": "metrics", "containerPort": 9153, "protocol": "TCP"},
            ],
            "resources": {"requests": {"cpu": "50m", "memory": "20Mi"}, "limits": {"memory": "170Mi"}},
            "volumeMounts": [{"name": "config", "mountPath": "/etc/kube-dns", "readOnly": true}],
            "livenessProbe": liveness,
            "readinessProbe": readiness,
            "securityContext": {
                "allowPrivilegeEscalation": false,
                "readOnlyRootFilesystem": true,
                "capabilities": {"drop": ["ALL"]},
            },
        })
    }
}

/// No root and no capability: whoever takes the server over has no more than its account. Policies name port 53, so that it is
/// what the server listens on; the parameter is one that any pod may set for itself.
fn pod_security() -> Value {
    json!({
        "runAsNonRoot": true,
        "runAsUser": USER,
        "runAsGroup": USER,
        "seccompProfile": {"type": "RuntimeDefault"},
        "sysctls": [{"name": "net.ipv4.ip_unprivileged_port_start", "value": "53"}],
    })
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

/// What lets the server tell nodes to which addresses domain names lead that cluster network policies have: it reads these, whether they are
/// defined, and which addresses the cluster has, and writes slices in a namespace of their own. Elsewhere it writes nothing.
fn telling_domain_names() -> [Value; 7] {
    let (rbac, name, namespace) = ("rbac.authorization.k8s.io", "system:troupe-dns:domain-names", domain_names::NAMESPACE);
    let version = format!("{rbac}/v1");
    let labels = json!({"kubernetes.io/bootstrapping": "rbac-defaults"});
    let subjects = json!([{"kind": "ServiceAccount", "name": NAME, "namespace": NAMESPACE}]);
    let cluster = json!({"name": name, "labels": labels});
    let own = json!({"name": name, "namespace": namespace, "labels": labels});
    let definition = json!({
        "apiGroups": ["apiextensions.k8s.io"], "resources": ["customresourcedefinitions"],
        "resourceNames": ["clusternetworkpolicies.policy.networking.k8s.io"], "verbs": ["list", "watch"],
    });
    let policies = json!({"apiGroups": ["policy.networking.k8s.io"], "resources": ["clusternetworkpolicies"], "verbs": ["list", "watch"]});
    let reads = json!([definition, policies]);
    // A role of its own, so that a cluster that an older version made gets it, too.
    let of_cluster = "system:troupe-dns:cluster-addresses";
    let addresses = json!({"name": of_cluster, "labels": labels});
    let nodes = json!([
        {"apiGroups": [""], "resources": ["nodes"], "verbs": ["list", "watch"]},
        {"apiGroups": ["networking.k8s.io"], "resources": ["servicecidrs"], "verbs": ["list", "watch"]},
    ]);
    let writes = json!([{"apiGroups": ["discovery.k8s.io"], "resources": ["endpointslices"], "verbs": ["get", "create", "update"]}]);
    [
        json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace, "labels": {"k8s-app": "kube-dns"}}}),
        json!({"apiVersion": version, "kind": "ClusterRole", "metadata": cluster, "rules": reads}),
        json!({
            "apiVersion": version, "kind": "ClusterRoleBinding", "metadata": cluster,
            "roleRef": {"apiGroup": rbac, "kind": "ClusterRole", "name": name}, "subjects": subjects,
        }),
        json!({"apiVersion": version, "kind": "Role", "metadata": own, "rules": writes}),
        json!({
            "apiVersion": version, "kind": "RoleBinding", "metadata": own,
            "roleRef": {"apiGroup": rbac, "kind": "Role", "name": name}, "subjects": subjects,
        }),
        json!({"apiVersion": version, "kind": "ClusterRole", "metadata": addresses, "rules": nodes}),
        json!({
            "apiVersion": version, "kind": "ClusterRoleBinding", "metadata": addresses,
            "roleRef": {"apiGroup": rbac, "kind": "ClusterRole", "name": of_cluster}, "subjects": subjects,
        }),
    ]
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::{
        apps::v1::Deployment,
        core::v1::{Namespace, Pod, Service, ServiceAccount},
        rbac::v1::{ClusterRole, ClusterRoleBinding, Role, RoleBinding},
    };
    use serde::de::DeserializeOwned;
    use troupe_cri::RuntimeFeatures;

    use super::*;
    use crate::kubelet::admission::{NodeAbilities, admit, sysctl::Allowlist};

    fn options() -> DnsOptions {
        DnsOptions { image: "troupe.local/dns:0.1".into(), cluster_ip: [10, 96, 0, 10].into(), domain: "cluster.local".into(), ipv6: false }
    }

    #[test]
    fn where_pods_have_ipv6_addresses_the_server_listens_at_them() {
        let arguments = |ipv6| {
            let daemons: DaemonSet = typed(&manifests(&DnsOptions { ipv6, ..options() }), 4);
            let mut spec = daemons.spec.expect("a spec").template.spec.expect("a spec");
            spec.containers.remove(0).args.expect("arguments").join(" ")
        };
        assert!(arguments(true).contains("--listen=[::]:53") && !arguments(false).contains("--listen"));
    }

    fn typed<K: DeserializeOwned>(objects: &[Object], at: usize) -> K {
        serde_json::from_value(objects[at].clone().into_value()).expect("fits its type")
    }

    #[test]
    fn every_object_fits_its_type_and_selects_the_same_pods() {
        let objects = manifests(&options());
        let _: ServiceAccount = typed(&objects, 0);
        let _: ClusterRole = typed(&objects, 1);
        let _: ClusterRoleBinding = typed(&objects, 2);
        let service: Service = typed(&objects, 3);
        let daemons: DaemonSet = typed(&objects, 4);
        let fallback: Deployment = typed(&deployment_fallback(&options()), 4);
        let selector = service.spec.and_then(|spec| spec.selector);
        let daemons = daemons.spec.expect("a spec");
        assert_eq!(selector, daemons.template.metadata.clone().and_then(|meta| meta.labels));
        assert_eq!(Some(daemons.template), fallback.spec.map(|spec| spec.template));
    }

    #[test]
    fn it_writes_slices_where_there_is_nothing_else() {
        let objects = manifests(&options());
        let namespace: Namespace = typed(&objects, 5);
        let (_, _): (ClusterRole, ClusterRoleBinding) = (typed(&objects, 6), typed(&objects, 7));
        let (role, binding): (Role, RoleBinding) = (typed(&objects, 8), typed(&objects, 9));
        let (addresses, bound): (ClusterRole, ClusterRoleBinding) = (typed(&objects, 10), typed(&objects, 11));
        assert_eq!(addresses.metadata.name, Some(bound.role_ref.name));
        assert_eq!(namespace.metadata.name, role.metadata.namespace);
        assert_eq!((role.metadata.name, namespace.metadata.name), (Some(binding.role_ref.name), binding.metadata.namespace));
        for (at, object) in objects.iter().enumerate().filter(|(at, _)| *at != 8) {
            assert!(!object.clone().into_value().to_string().contains("\"update\""), "object {at} lets it write elsewhere");
        }
    }

    #[test]
    fn its_pods_have_no_root_and_no_capability_and_every_node_takes_them() {
        let objects = manifests(&options());
        let daemons: DaemonSet = typed(&objects, 4);
        let spec = daemons.spec.expect("a spec").template.spec.expect("a spec");
        let of_pod = spec.security_context.clone().expect("a context");
        assert_eq!((of_pod.run_as_non_root, of_pod.run_as_user), (Some(true), Some(65532)));
        let own = spec.containers[0].security_context.clone().expect("a context");
        let capabilities = own.capabilities.expect("capabilities");
        assert_eq!((capabilities.drop, capabilities.add), (Some(vec!["ALL".to_owned()]), None));
        assert_eq!((own.read_only_root_filesystem, own.allow_privilege_escalation), (Some(true), Some(false)));
        let abilities = NodeAbilities { sysctls: Allowlist::new("4.19.0", &[]).expect("namespaced"), ..NodeAbilities::default() };
        let pod = Pod { spec: Some(spec), ..Pod::default() };
        assert_eq!(admit(&pod, &abilities, &RuntimeFeatures::default()), Ok(()));
    }

    #[test]
    fn only_daemons_that_say_nothing_of_their_user_are_confined() {
        let objects = manifests(&options());
        let mut daemons: DaemonSet = typed(&objects, 4);
        assert_eq!(confinement(&daemons), None);
        let spec = daemons.spec.as_mut().and_then(|spec| spec.template.spec.as_mut()).expect("a spec");
        spec.security_context = Some(PodSecurityContext::default());
        let patch = confinement(&daemons).expect("as older versions made it");
        assert_eq!(patch["spec"]["template"]["spec"]["securityContext"]["runAsUser"], 65532);
    }
}
