use serde_json::json;

use super::*;
use crate::resources::validation::tests::texts;

fn service_of(changes: Value) -> Object {
    let mut spec = json!({
        "type": "ClusterIP", "clusterIP": "10.0.0.1", "clusterIPs": ["10.0.0.1"], "ipFamilies": ["IPv4"], "ipFamilyPolicy": "SingleStack",
        "sessionAffinity": "None", "internalTrafficPolicy": "Cluster", "ports": [{"port": 80, "targetPort": 80, "protocol": "TCP"}],
    });
    for (name, value) in changes.as_object().expect("changes") {
        spec[name] = value.clone();
    }
    Object::from_value(json!({"metadata": {"name": "s", "namespace": "n"}, "spec": spec})).expect("an object")
}

fn balanced(changes: Value) -> Object {
    let mut service = service_of(json!({"type": "LoadBalancer", "allocateLoadBalancerNodePorts": true, "externalTrafficPolicy": "Cluster"}));
    for (name, value) in changes.as_object().expect("changes") {
        service.set(&["spec", name], value.clone());
    }
    service
}

fn check(cases: &[(Object, &[&str])]) {
    for (service, wanted) in cases {
        assert_eq!(texts(super::service(service, None)), *wanted, "{service:?}");
    }
}

#[test]
fn a_service_is_reached_by_addresses_that_everybody_reads_alike() {
    let ip = "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)";
    check(&[
        (service_of(json!({})), &[]),
        (
            service_of(json!({"clusterIP": "10.0.0.1 -j ACCEPT", "clusterIPs": ["10.0.0.1 -j ACCEPT"]})),
            &[&format!("spec.clusterIPs[0]: Invalid value: \"10.0.0.1 -j ACCEPT\": {ip}")],
        ),
        (
            service_of(json!({"clusterIP": "010.0.0.1", "clusterIPs": ["010.0.0.1"]})),
            &["spec.clusterIPs[0]: Invalid value: \"010.0.0.1\": must not have leading 0s"],
        ),
        (service_of(json!({"clusterIP": "10.0.0.2"})), &["spec.clusterIPs: Invalid value: [\"10.0.0.1\"]: first value must match `clusterIP`"]),
        (service_of(json!({"clusterIP": ""})), &["spec.clusterIPs: Invalid value: [\"10.0.0.1\"]: must be empty when `clusterIP` is not specified"]),
        (
            service_of(json!({"clusterIP": "None", "clusterIPs": ["None", "fd00::1"]})),
            &["spec.clusterIPs: Invalid value: [\"None\",\"fd00::1\"]: 'None' must be the first and only value"],
        ),
        (
            service_of(json!({"clusterIPs": ["10.0.0.1", "10.0.0.2", "fd00::1"]})),
            &["spec.clusterIPs: Invalid value: [\"10.0.0.1\",\"10.0.0.2\",\"fd00::1\"]: may only hold up to 2 values"],
        ),
        (
            service_of(json!({"clusterIPs": ["10.0.0.1", "10.0.0.2"]})),
            &["spec.clusterIPs: Invalid value: [\"10.0.0.1\",\"10.0.0.2\"]: may specify no more than one IP for each IP family"],
        ),
        (
            service_of(json!({"ipFamilies": ["IPv6", "IPv6", "IPX"], "ipFamilyPolicy": "Both"})),
            &[
                "spec.ipFamilies[1]: Duplicate value: \"IPv6\"",
                "spec.ipFamilies[2]: Unsupported value: \"IPX\": supported values: \"IPv4\", \"IPv6\"",
                "spec.ipFamilyPolicy: Unsupported value: \"Both\": supported values: \"PreferDualStack\", \"RequireDualStack\", \"SingleStack\"",
                "spec.clusterIPs[0]: Invalid value: \"10.0.0.1\": expected an IPv6 value as indicated by `ipFamilies[0]`",
            ],
        ),
    ]);
}

#[test]
fn outside_addresses_are_neither_this_machine_nor_this_link() {
    let external = |ip: &str| service_of(json!({"externalIPs": [ip], "externalTrafficPolicy": "Cluster"}));
    check(&[
        (external("203.0.113.5"), &[]),
        (external("127.0.0.1"), &["spec.externalIPs[0]: Invalid value: \"127.0.0.1\": may not be in the loopback range (127.0.0.0/8, ::1/128)"]),
        (external("0.0.0.0"), &["spec.externalIPs[0]: Invalid value: \"0.0.0.0\": may not be unspecified (0.0.0.0)"]),
        (
            external("::ffff:169.254.169.254"),
            &["spec.externalIPs[0]: Invalid value: \"::ffff:169.254.169.254\": must not be an IPv4-mapped IPv6 address"],
        ),
        (
            external("1.2.3.4 -j ACCEPT"),
            &["spec.externalIPs[0]: Invalid value: \"1.2.3.4 -j ACCEPT\": must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)"],
        ),
    ]);
}

#[test]
fn ports_have_numbers_names_and_protocols_of_their_own() {
    let port = |changes: Value| {
        let mut port = json!({"port": 80, "targetPort": 80, "protocol": "TCP"});
        for (name, value) in changes.as_object().expect("changes") {
            port[name] = value.clone();
        }
        port
    };
    let with = |list: Value| service_of(json!({"ports": list}));
    check(&[
        (with(json!([])), &["spec.ports: Required value"]),
        (
            with(json!([port(json!({"port": 0, "targetPort": 0}))])),
            &[
                "spec.ports[0].port: Invalid value: 0: must be between 1 and 65535, inclusive",
                "spec.ports[0].targetPort: Invalid value: 0: must be between 1 and 65535, inclusive",
            ],
        ),
        (
            with(json!([port(json!({"protocol": "ICMP", "targetPort": "a--b"}))])),
            &[
                "spec.ports[0].protocol: Unsupported value: \"ICMP\": supported values: \"SCTP\", \"TCP\", \"UDP\"",
                "spec.ports[0].targetPort: Invalid value: \"a--b\": must not contain consecutive hyphens",
            ],
        ),
        (with(json!([port(json!({"nodePort": 30_000}))])), &["spec.ports[0].nodePort: Forbidden: may not be used when `type` is 'ClusterIP'"]),
        (
            with(json!([port(json!({"name": "a"})), port(json!({"name": "a"})), port(json!({"port": 81}))])),
            &[
                "spec.ports[1].name: Duplicate value: \"a\"",
                "spec.ports[2].name: Required value",
                "spec.ports[1]: Duplicate value: {\"Name\":\"\",\"Protocol\":\"TCP\",\"AppProtocol\":null,\"Port\":80,\"TargetPort\":0,\"NodePort\":0}",
            ],
        ),
        (
            balanced(json!({"ports": [port(json!({"name": "a", "nodePort": 30_000})), port(json!({"name": "b", "port": 81, "nodePort": 30_000}))]})),
            &["spec.ports[1].nodePort: Duplicate value: 30000"],
        ),
    ]);
}

#[test]
fn what_only_load_balancers_have() {
    let only = "may only be used when `type` is 'LoadBalancer'";
    check(&[
        (balanced(json!({"loadBalancerSourceRanges": [" 10.0.0.0/8 "], "loadBalancerClass": "a.io/b"})), &[]),
        (
            service_of(json!({"loadBalancerSourceRanges": ["10.0.0.0/8"], "loadBalancerClass": "a", "allocateLoadBalancerNodePorts": true})),
            &[
                &format!("spec.LoadBalancerSourceRanges: Forbidden: {only}"),
                &format!("spec.allocateLoadBalancerNodePorts: Forbidden: {only}"),
                &format!("spec.loadBalancerClass: Forbidden: {only}"),
            ],
        ),
        (
            balanced(json!({"loadBalancerSourceRanges": ["10.0.0.1/8", "0.0.0.0/0 -j ACCEPT"]})),
            &[
                "spec.LoadBalancerSourceRanges[0]: Invalid value: \"10.0.0.1/8\": must not have bits set beyond the prefix length",
                "spec.LoadBalancerSourceRanges[1]: Invalid value: \"0.0.0.0/0 -j ACCEPT\": must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)",
            ],
        ),
        (balanced(json!({"allocateLoadBalancerNodePorts": null})), &["allocateLoadBalancerNodePorts: Required value"]),
        (
            balanced(json!({"clusterIP": "None", "clusterIPs": ["None"]})),
            &["spec.clusterIPs[0]: Invalid value: \"None\": may not be set to 'None' for LoadBalancer services"],
        ),
        (balanced(json!({"externalTrafficPolicy": "Local"})), &["spec.healthCheckNodePort: Required value"]),
        (
            balanced(json!({"externalTrafficPolicy": "Local", "healthCheckNodePort": 70_000})),
            &["spec.healthCheckNodePort: Invalid value: 70000: must be between 1 and 65535, inclusive"],
        ),
        (
            balanced(json!({"healthCheckNodePort": 30_000})),
            &["spec.healthCheckNodePort: Invalid value: 30000: may only be set when `type` is 'LoadBalancer' and `externalTrafficPolicy` is 'Local'"],
        ),
    ]);
}

#[test]
fn traffic_goes_by_known_policies() {
    check(&[
        (
            service_of(json!({"externalTrafficPolicy": "Local"})),
            &["spec.externalTrafficPolicy: Invalid value: \"Local\": may only be set for externally-accessible services"],
        ),
        (
            balanced(json!({"externalTrafficPolicy": "Far"})),
            &["spec.externalTrafficPolicy: Unsupported value: \"Far\": supported values: \"Cluster\", \"Local\""],
        ),
        (service_of(json!({"internalTrafficPolicy": null})), &["spec.internalTrafficPolicy: Required value"]),
        (
            service_of(json!({"internalTrafficPolicy": "Far", "trafficDistribution": "Near"})),
            &[
                "spec.internalTrafficPolicy: Unsupported value: \"Far\": supported values: \"Cluster\", \"Local\"",
                "spec.trafficDistribution: Unsupported value: \"Near\": supported values: \"PreferClose\", \"PreferSameZone\", \"PreferSameNode\"",
            ],
        ),
        (
            service_of(json!({"sessionAffinity": "Cookie"})),
            &["spec.sessionAffinity: Unsupported value: \"Cookie\": supported values: \"ClientIP\", \"None\""],
        ),
        (service_of(json!({"sessionAffinityConfig": {}})), &["spec.sessionAffinityConfig: Forbidden: must not be set when session affinity is None"]),
        (
            service_of(json!({"sessionAffinity": "ClientIP", "sessionAffinityConfig": {"clientIP": {"timeoutSeconds": 0}}})),
            &["spec.sessionAffinityConfig.clientIP.timeoutSeconds: Invalid value: 0: must be greater than 0 and less than 86400"],
        ),
        (service_of(json!({"sessionAffinity": "ClientIP"})), &["spec.sessionAffinityConfig: Required value: when session affinity type is ClientIP"]),
    ]);
}

#[test]
fn an_external_name_is_a_domain_and_nothing_else() {
    let bare = |name: &str| {
        let spec = json!({"type": "ExternalName", "externalName": name, "sessionAffinity": "None"});
        Object::from_value(json!({"spec": spec})).expect("an object")
    };
    check(&[(bare("example.com."), &[]), (bare("."), &["spec.externalName: Required value"])]);
    let errors = texts(service(&bare("a\n6.6.6.6 b"), None));
    assert!(
        errors[0].starts_with("spec.externalName: Invalid value: \"a\\n6.6.6.6 b\": a lowercase RFC 1123 subdomain must consist of"),
        "{errors:?}"
    );
    let mut full = bare("a.b");
    full.set(&["spec", "clusterIPs"], json!(["10.0.0.1"]));
    full.set(&["spec", "ipFamilyPolicy"], "SingleStack");
    let detail = "Forbidden: may not be set for ExternalName services";
    assert_eq!(texts(service(&full, None)), [format!("spec.clusterIPs: {detail}"), format!("spec.ipFamilyPolicy: {detail}")]);
}

#[test]
fn annotations_of_old_have_rules_too() {
    let mut service = balanced(json!({}));
    service.set(&["metadata", "annotations"], json!({SOURCE_RANGES: "10.0.0.0/8, x", MODE: "Auto", HINTS: "auto"}));
    assert_eq!(
        texts(super::service(&service, None)),
        [
            "metadata.annotations[service.kubernetes.io/topology-mode]: Invalid value: \"Auto\": must match annotations[service.kubernetes.io/topology-aware-hints] when both are specified",
            "metadata.annotations[service.beta.kubernetes.io/load-balancer-source-ranges]: Invalid value: \"x\": must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)",
        ]
    );
    let mut old = service.clone();
    old.set(&["metadata", "labels"], json!({"a": "b"}));
    assert_eq!(texts(super::service(&service, Some(&old))).len(), 1, "what stood there may stay");
}

#[test]
fn addresses_of_an_older_service_may_stay_wherever_they_go() {
    let old = service_of(json!({"externalIPs": ["010.0.0.9"], "externalTrafficPolicy": "Cluster"}));
    let moved = service_of(json!({"externalIPs": ["203.0.113.5", "010.0.0.9"], "externalTrafficPolicy": "Cluster"}));
    assert_eq!(texts(service_update(&moved, &old)), Vec::<String>::new());
    assert_eq!(texts(super::service(&moved, None)).len(), 1);
}

#[test]
fn the_first_address_and_family_stay() {
    let dual = json!({"clusterIPs": ["10.0.0.1", "fd00::1"], "ipFamilies": ["IPv4", "IPv6"], "ipFamilyPolicy": "RequireDualStack"});
    let one = service_of(json!({}));
    assert_eq!(texts(service_update(&service_of(dual.clone()), &one)), Vec::<String>::new());
    assert_eq!(texts(service_update(&one, &service_of(dual.clone()))), Vec::<String>::new());
    assert_eq!(
        texts(service_update(&service_of(json!({"clusterIP": "10.0.0.2", "clusterIPs": ["10.0.0.2"]})), &one)),
        ["spec.clusterIPs[0]: Invalid value: [\"10.0.0.2\"]: may not change once set"]
    );
    assert_eq!(
        texts(service_update(&service_of(json!({"ipFamilyPolicy": "PreferDualStack"})), &service_of(dual))),
        [
            "spec.ipFamilyPolicy: Invalid value: \"PreferDualStack\": must be set to 'SingleStack' when releasing the secondary clusterIP",
            "spec.ipFamilyPolicy: Invalid value: \"PreferDualStack\": must be set to 'SingleStack' when releasing the secondary ipFamily",
        ]
    );
    let errors = texts(service_update(&service_of(json!({"clusterIP": "", "clusterIPs": [], "ipFamilies": []})), &one));
    assert_eq!(
        errors,
        [
            "spec.clusterIPs[0]: Invalid value: []: primary clusterIP can not be unset",
            "spec.ipFamilies[0]: Invalid value: []: primary ipFamily can not be unset",
        ]
    );
}

#[test]
fn a_class_and_a_port_for_health_stay() {
    let local = |class: &str, port: i64| balanced(json!({"loadBalancerClass": class, "externalTrafficPolicy": "Local", "healthCheckNodePort": port}));
    assert_eq!(
        texts(service_update(&local("b", 31_000), &local("a", 30_000))),
        ["spec.loadBalancerClass: Invalid value: \"b\": may not change once set", "spec.healthCheckNodePort: Forbidden: field is immutable",]
    );
}

#[test]
fn a_status_tells_addresses_and_names_of_load_balancers() {
    let with = |kind: &str, ingress: Value| {
        Object::from_value(json!({"spec": {"type": kind}, "status": {"loadBalancer": {"ingress": ingress}}})).expect("an object")
    };
    let nothing = with("LoadBalancer", json!([]));
    let of = |entry: Value| texts(super::super::load_balancer::of_service(&with("LoadBalancer", json!([entry])), &nothing));
    assert_eq!(of(json!({"ip": "203.0.113.5", "ipMode": "VIP", "hostname": "a.b"})), Vec::<String>::new());
    let path = "status.loadBalancer.ingress[0]";
    let cases = [
        (
            json!({"ip": "x -j ACCEPT", "ipMode": "VIP"}),
            "ip: Invalid value: \"x -j ACCEPT\": must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)",
        ),
        (json!({"ip": "1.2.3.4"}), "ipMode: Required value: must be specified when `ip` is set"),
        (json!({"ipMode": "VIP"}), "ipMode: Forbidden: may not be specified when `ip` is not set"),
        (json!({"ip": "1.2.3.4", "ipMode": "Any"}), "ipMode: Unsupported value: \"Any\": supported values: \"Proxy\", \"VIP\""),
        (json!({"hostname": "1.2.3.4"}), "hostname: Invalid value: \"1.2.3.4\": must be a DNS name, not an IP address"),
    ];
    for (entry, wanted) in cases {
        assert_eq!(of(entry), [format!("{path}.{wanted}")]);
    }
    let inner = with("ClusterIP", json!([{"hostname": "a"}]));
    assert_eq!(
        texts(super::super::load_balancer::of_service(&inner, &nothing)),
        ["status.loadBalancer.ingress: Forbidden: may only be used when `spec.type` is 'LoadBalancer'"]
    );
    let old = with("LoadBalancer", json!([{"ip": "01.2.3.4", "ipMode": "VIP"}]));
    assert_eq!(texts(super::super::load_balancer::of_service(&old, &old)), Vec::<String>::new());
    let ingress = texts(super::super::load_balancer::of_ingress(&with("", json!([{"ip": "x", "hostname": "a_b"}])), &nothing));
    assert_eq!(ingress.len(), 2, "{ingress:?}");
}
