//! Isolation, and words that become lines of files.

use serde_json::json;

use super::{check, errors};

#[test]
fn what_asks_for_isolation_is_understood_or_refused() {
    let types = "supported values: \"Localhost\", \"RuntimeDefault\", \"Unconfined\"";
    check(&[
        (
            "/spec/containers/0/securityContext",
            json!({"procMount": "Unmasked"}),
            &["containers[0].securityContext.procMount: Invalid value: \"Unmasked\": `hostUsers` must be false to use `Unmasked`"],
        ),
        (
            "/spec/containers/0/securityContext",
            json!({"procMount": "Open"}),
            &["containers[0].securityContext.procMount: Unsupported value: \"Open\": supported values: \"Default\", \"Unmasked\""],
        ),
        (
            "/spec/securityContext/seccompProfile",
            json!({"type": "Strict"}),
            &[&format!("securityContext.seccompProfile.type: Unsupported value: \"Strict\": {types}")],
        ),
        (
            "/spec/securityContext/seccompProfile",
            json!({"type": "Localhost"}),
            &["securityContext.seccompProfile.localhostProfile: Required value: must be set when seccomp type is Localhost"],
        ),
        (
            "/spec/securityContext/seccompProfile",
            json!({"type": "Localhost", "localhostProfile": "../../etc/x"}),
            &["securityContext.seccompProfile.localhostProfile: Invalid value: \"../../etc/x\": must not contain '..'"],
        ),
        (
            "/spec/containers/0/securityContext",
            json!({"seccompProfile": {"type": "Localhost", "localhostProfile": "/etc/x"}}),
            &["containers[0].securityContext.seccompProfile.localhostProfile: Invalid value: \"/etc/x\": must be a relative path"],
        ),
        (
            "/spec/containers/0/securityContext",
            json!({"appArmorProfile": {"type": "Localhost", "localhostProfile": " a"}}),
            &["containers[0].securityContext.appArmorProfile.localhostProfile: Invalid value: \" a\": must not be padded with whitespace"],
        ),
        (
            "/spec/containers/0/securityContext",
            json!({"appArmorProfile": {"type": "Off"}}),
            &[&format!("containers[0].securityContext.appArmorProfile.type: Unsupported value: \"Off\": {types}")],
        ),
        (
            "/spec/securityContext/sysctls",
            json!([{"name": "kernel.Sem", "value": "1"}, {"name": "net.a/b", "value": "1"}, {"name": "net.a/b", "value": "1"}]),
            &[
                &format!("securityContext.sysctls[0].name: Invalid value: \"kernel.Sem\": {}", super::super::security::SYSCTL),
                "securityContext.sysctls[2].name: Duplicate value: \"net.a/b\"",
            ],
        ),
        (
            "/spec/securityContext/supplementalGroupsPolicy",
            json!("Loose"),
            &["securityContext.supplementalGroupsPolicy: Unsupported value: \"Loose\": supported values: \"Merge\", \"Strict\""],
        ),
        (
            "/spec/securityContext/runAsUser",
            json!(-1),
            &["securityContext.runAsUser: Invalid value: -1: must be between 0 and 2147483647, inclusive"],
        ),
        (
            "/metadata/annotations/container.apparmor.security.beta.kubernetes.io~1x",
            json!("bad name"),
            &[
                "metadata.annotations[container.apparmor.security.beta.kubernetes.io/x]: Invalid value: \"x\": container not found",
                "metadata.annotations[container.apparmor.security.beta.kubernetes.io/x]: Invalid value: \"bad name\": invalid AppArmor profile name: \"bad name\"",
            ],
        ),
        (
            "/metadata/annotations/controller.kubernetes.io~1pod-deletion-cost",
            json!("+1"),
            &["metadata.annotations[controller.kubernetes.io/pod-deletion-cost]: Invalid value: \"+1\": must be a 32bit integer"],
        ),
        (
            "/metadata/annotations/scheduler.alpha.kubernetes.io~1tolerations",
            json!(r#"[{"key": "a", "operator": "Exists"}, {"key": "k", "operator": "Gt", "value": "1"}]"#),
            &[
                "metadata.annotations.scheduler.alpha.kubernetes.io/tolerations[1].operator: Unsupported value: \"Gt\": supported values: \"Equal\", \"Exists\", \"Lt\", \"Gt\"",
            ],
        ),
    ]);
    assert_eq!(
        errors(&[
            ("/spec/hostUsers", json!(false)),
            ("/spec/hostNetwork", json!(true)),
            ("/spec/hostPID", json!(true)),
            ("/spec/hostIPC", json!(true))
        ]),
        [
            "spec.hostNetwork: Forbidden: when `hostUsers` is false",
            "spec.HostPID: Forbidden: when `hostUsers` is false",
            "spec.HostIPC: Forbidden: when `hostUsers` is false"
        ]
    );
    assert_eq!(
        errors(&[("/spec/hostUsers", json!(false)), ("/spec/containers/0/securityContext", json!({"procMount": "Unmasked"}))]),
        Vec::<String>::new()
    );
    assert_eq!(
        errors(&[("/spec/hostNetwork", json!(true)), ("/spec/securityContext/sysctls", json!([{"name": "net/core.x", "value": "1"}]))]),
        ["spec.securityContext.sysctls[0].name: Invalid value: \"net/core.x\": may not be specified when 'hostNetwork' is true"]
    );
}

#[test]
fn what_becomes_a_line_of_a_file_is_one_word() {
    check(&[
        (
            "/spec/dnsConfig",
            json!({"searches": ["a_b.c.", ".", "_srv.x"], "nameservers": ["1.1.1.1"], "options": [{"name": "ndots", "value": "2"}]}),
            &[],
        ),
        (
            "/spec/dnsConfig",
            json!({"searches": ["a\nnameserver 6.6.6.6"]}),
            &[&format!(
                "dnsConfig.searches[0]: Invalid value: \"a\\nnameserver 6.6.6.6\": {}",
                super::super::names::subdomain_with_underscore("a b")[0]
            )],
        ),
        (
            "/spec/dnsConfig",
            json!({"nameservers": ["1.1.1.1\nnameserver 6.6.6.6", "::ffff:1.2.3.4", "010.0.0.1", "1.1.1.1"]}),
            &[
                "dnsConfig.nameservers: Invalid value: [\"1.1.1.1\\nnameserver 6.6.6.6\",\"::ffff:1.2.3.4\",\"010.0.0.1\",\"1.1.1.1\"]: must not have more than 3 nameservers",
                "dnsConfig.nameservers[0]: Invalid value: \"1.1.1.1\\nnameserver 6.6.6.6\": must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)",
                "dnsConfig.nameservers[1]: Invalid value: \"::ffff:1.2.3.4\": must not be an IPv4-mapped IPv6 address",
                "dnsConfig.nameservers[2]: Invalid value: \"010.0.0.1\": must not have leading 0s",
            ],
        ),
        (
            "/spec/dnsConfig",
            json!({"options": [{"name": ""}, {"name": "ndots", "value": "2\nnameserver 6.6.6.6"}]}),
            &[
                "dnsConfig.options[0]: Required value: must not be empty",
                "dnsConfig.options[1].value: Invalid value: \"2\\nnameserver 6.6.6.6\": must not contain whitespace or control characters",
            ],
        ),
        (
            "/spec/hostAliases",
            json!([{"ip": "1.2.3.4\n6.6.6.6", "hostnames": ["a b"]}]),
            &[
                "hostAliases[0].ip: Invalid value: \"1.2.3.4\\n6.6.6.6\": must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)",
                &format!("hostAliases[0].hostnames[0]: Invalid value: \"a b\": {}", super::super::names::subdomain("a b", false)[0]),
            ],
        ),
        (
            "/spec/containers/0/ports",
            json!([{"containerPort": 80, "hostPort": 80, "hostIP": "x -j ACCEPT"}]),
            &["containers[0].ports[0].hostIP: Invalid value: \"x -j ACCEPT\": must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)"],
        ),
        (
            "/spec/containers/0/livenessProbe",
            json!({"httpGet": {"port": 80, "path": "/ HTTP/1.1\r\nX: y", "httpHeaders": [{"name": "A\r\nB", "value": "c\r\nd"}]}}),
            &[
                &format!("containers[0].livenessProbe.httpGet.httpHeaders: Invalid value: \"A\\r\\nB\": {}", super::super::names::http_header("")[0]),
                "containers[0].livenessProbe.httpGet.httpHeaders[0].value: Invalid value: \"c\\r\\nd\": must not contain control characters",
                "containers[0].livenessProbe.httpGet.path: Invalid value: \"/ HTTP/1.1\\r\\nX: y\": must not contain control characters",
            ],
        ),
    ]);
}

#[test]
fn systems_have_options_of_their_own() {
    check(&[
        ("/spec/os", json!({"name": "plan9"}), &["os: Unsupported value: \"plan9\": supported values: \"linux\", \"windows\""]),
        (
            "/spec/securityContext/windowsOptions",
            json!({"runAsUserName": "a\\b\\c", "gmsaCredentialSpec": ""}),
            &[
                "securityContext.windowsOptions.gmsaCredentialSpec: Invalid value: \"\": gmsaCredentialSpec cannot be an empty string",
                "securityContext.windowsOptions.runAsUserName: Invalid value: \"a\\\\b\\\\c\": runAsUserName cannot contain more than one backslash",
            ],
        ),
        (
            "/spec/securityContext/windowsOptions",
            json!({"hostProcess": true}),
            &["hostNetwork: Invalid value: false: hostNetwork must be true if pod contains any hostProcess containers"],
        ),
    ]);
    assert_eq!(
        errors(&[("/spec/os", json!({"name": "linux"})), ("/spec/securityContext/windowsOptions", json!({}))]),
        ["spec.securityContext.windowsOptions: Forbidden: windows options cannot be set for a linux pod"]
    );
    assert_eq!(
        errors(&[("/spec/os", json!({"name": "windows"})), ("/spec/containers/0/securityContext", json!({"privileged": false}))]),
        ["spec.containers[0].securityContext.privileged: Forbidden: cannot be set for a windows pod"]
    );
}
