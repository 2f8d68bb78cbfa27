//! Configurations of identities and rights that change while the control plane runs.

use std::{fs, path::Path};

use crate::cluster::{Cluster, apply, eventually, text};

const ACCOUNT: &str = "--as=system:serviceaccount:default:somebody";

/// Nobody sees half a file.
fn put(path: &Path, text: &str) {
    let beside = path.with_extension("new");
    fs::write(&beside, text).expect("writes");
    fs::rename(beside, path).expect("takes its place");
}

fn authorizers(path: &Path, types: &[&str]) {
    let listed: String = types.iter().map(|kind| format!("- {{type: {kind}, name: {}}}\n", kind.to_lowercase())).collect();
    put(path, &format!("apiVersion: apiserver.config.k8s.io/v1\nkind: AuthorizationConfiguration\nauthorizers:\n{listed}"));
}

fn anonymous(path: &Path, rest: &str) {
    let text = format!("apiVersion: apiserver.config.k8s.io/v1\nkind: AuthenticationConfiguration\nanonymous: {{enabled: false}}\n{rest}");
    put(path, &text);
}

/// How often a file of this kind was used anew, and how often it could not be.
fn reloads(cluster: &Cluster, kind: &str) -> [usize; 2] {
    let page = cluster.kubectl("get --raw /metrics");
    ["success", "failure"].map(|status| {
        let series = format!("apiserver_{kind}_config_controller_automatic_reloads_total{{status=\"{status}\",apiserver_id_hash=\"sha256:");
        let line = page.lines().find_map(|line| line.strip_prefix(&series)?.split_once("\"} "));
        line.map_or(0, |(_, count)| count.trim().parse().expect("a number"))
    })
}

/// What kubectl says to the bearer of a token. The administrator's certificate would win, so it is not shown.
fn bearing(cluster: &Cluster, token: &str, words: &str) -> String {
    let server = cluster.kubectl("config view -o jsonpath={.clusters[0].cluster.server}");
    let flags = format!("--kubeconfig=/dev/null --server={server} --insecure-skip-tls-verify --token={token}");
    text(&cluster.kubectl_output(&format!("{flags} {words}")).stdout)
}

#[test]
fn tokens_of_a_file_let_their_users_in() {
    let cluster = Cluster::place();
    let file = cluster.path("tokens.csv");
    put(&file, "secret-of-ann,ann,u1,\"dev,system:masters\"\nsecret-of-bob,bob,u2\n");
    let flag = format!("--token-auth-file={}", file.display());
    let _daemon = cluster.daemon("control-plane", &["--components=apiserver", &flag]);
    eventually("the API server is ready", || cluster.kubectl_output("get --raw /readyz").status.success());
    let with = |token: &str, words: &str| bearing(&cluster, token, words);
    let who = |token: &str| with(token, "auth whoami -o jsonpath={.status.userInfo.username}/{.status.userInfo.uid}/{.status.userInfo.groups}");
    assert_eq!(who("secret-of-ann"), r#"ann/u1/["dev","system:masters","system:authenticated"]"#);
    assert_eq!(who("secret-of-bob"), r#"bob/u2/["system:authenticated"]"#);
    assert_eq!(who("secret-of-eve"), "");
    assert_eq!(with("secret-of-ann", "auth can-i delete nodes").trim(), "yes");
    assert_eq!(with("secret-of-bob", "auth can-i delete nodes").trim(), "no");
}

#[test]
fn policies_of_a_file_allow_their_users_what_they_name() {
    let cluster = Cluster::place();
    let (tokens, policies) = (cluster.path("tokens.csv"), cluster.path("policies.jsonl"));
    put(&tokens, "secret-of-ann,ann,u1\nsecret-of-bob,bob,u2\n");
    let spec = r#"{"user": "ann", "namespace": "default", "resource": "configmaps", "apiGroup": "", "readonly": true}"#;
    put(&policies, &format!("# ABAC\n{{\"apiVersion\": \"abac.authorization.kubernetes.io/v1beta1\", \"kind\": \"Policy\", \"spec\": {spec}}}\n"));
    let flags = [format!("--token-auth-file={}", tokens.display()), format!("--authorization-policy-file={}", policies.display())];
    let _daemon = cluster.daemon("control-plane", &["--components=apiserver", "--authorization-mode=RBAC,ABAC", &flags[0], &flags[1]]);
    eventually("the API server is ready", || cluster.kubectl_output("get --raw /readyz").status.success());
    let server = cluster.kubectl("config view -o jsonpath={.clusters[0].cluster.server}");
    let may = |token: &str, what: &str| {
        let flags = format!("--kubeconfig=/dev/null --server={server} --insecure-skip-tls-verify --token={token}");
        text(&cluster.kubectl_output(&format!("{flags} auth can-i {what}")).stdout).trim() == "yes"
    };
    assert!(may("secret-of-ann", "list configmaps") && !may("secret-of-ann", "create configmaps"));
    assert!(!may("secret-of-ann", "list secrets") && !may("secret-of-bob", "list configmaps"));
}

#[test]
fn files_of_identities_and_rights_are_used_anew_when_they_change() {
    let cluster = Cluster::place();
    let (rights, identities) = (cluster.path("rights.yaml"), cluster.path("identities.yaml"));
    authorizers(&rights, &["Node", "RBAC"]);
    anonymous(&identities, "");
    let flags = [format!("--authorization-config={}", rights.display()), format!("--authentication-config={}", identities.display())];
    let _daemon = cluster.daemon("control-plane", &["--components=apiserver", &flags[0], &flags[1]]);
    eventually("the API server is ready", || cluster.kubectl_output("get --raw /readyz").status.success());
    let may = || cluster.kubectl_output(&format!("get configmaps {ACCOUNT}")).status.success();
    assert!(!may());
    authorizers(&rights, &["Node", "RBAC", "AlwaysAllow"]);
    eventually("the new file counts", may);
    eventually("it is counted", || reloads(&cluster, "authorization") == [1, 0]);
    put(&rights, "nonsense");
    eventually("it was tried", || reloads(&cluster, "authorization") == [1, 1]);
    assert!(may(), "the last usable one counts");
    authorizers(&rights, &["RBAC"]);
    eventually("the next file counts", || !may());
    cluster.kubectl("create clusterrolebinding somebody --clusterrole=view --serviceaccount=default:somebody");
    eventually("roles and bindings are known as before", may);
    // Issuers may change, anonymous requests may not.
    let jwt = "jwt:\n- issuer: {url: 'https://issuer.example', audiences: [a]}\n  claimMappings: {username: {claim: sub, prefix: 'x:'}}\n";
    anonymous(&identities, jwt);
    eventually("the issuer is known", || reloads(&cluster, "authentication") == [1, 0]);
    put(&identities, "apiVersion: apiserver.config.k8s.io/v1\nkind: AuthenticationConfiguration\n");
    eventually("it was tried", || reloads(&cluster, "authentication") == [1, 1]);
}

/// And what every cluster has is there again after somebody deleted it.
#[test]
fn uses_of_a_token_out_of_a_secret_are_noted_and_it_is_refused_when_it_is_marked() {
    const TRACKING: &str = "configmap/kube-apiserver-legacy-service-account-token-tracking";
    let cluster = Cluster::place();
    let _daemon = cluster.daemon("control-plane", &["--components=apiserver,controllers"]);
    eventually("the account is there", || cluster.kubectl_output("get serviceaccount default").status.success());
    let secret = "apiVersion: v1\nkind: Secret\ntype: kubernetes.io/service-account-token\n\
                  metadata: {name: legacy, annotations: {kubernetes.io/service-account.name: default}}\n";
    apply(&cluster, secret);
    let token = || text(&cluster.kubectl_output("get secret legacy -o go-template={{.data.token|base64decode}}").stdout);
    eventually("the secret has its token", || token().starts_with("eyJ"));
    let who = || bearing(&cluster, token().trim(), "auth whoami -o jsonpath={.status.userInfo.username}");
    assert_eq!(who(), "system:serviceaccount:default:default");
    let noted = r"get secret legacy -o jsonpath={.metadata.labels.kubernetes\.io/legacy-token-last-used}";
    eventually("its use is noted", || cluster.kubectl(noted).starts_with("20"));
    cluster.kubectl("label secret legacy kubernetes.io/legacy-token-invalid-since=2020-01-01");
    assert_eq!(who(), "");
    cluster.kubectl(&format!("delete -n kube-system {TRACKING}"));
    let since = format!("get -n kube-system {TRACKING} -o jsonpath={{.data.since}}");
    eventually("it is said again since when", || text(&cluster.kubectl_output(&since).stdout).starts_with("20"));
    let uid = || text(&cluster.kubectl_output("get namespace kube-node-lease -o jsonpath={.metadata.uid}").stdout);
    let before = uid();
    cluster.kubectl("delete namespace kube-node-lease --wait=false");
    eventually("nodes have a place for leases again", || !uid().is_empty() && uid() != before);
}
