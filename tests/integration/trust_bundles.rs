//! Bundles of trust anchors in a pod, where they are switched on.

use crate::cluster::{Cluster, apply, eventually};

const FLAGS: [&str; 2] =
    ["--feature-gates=ClusterTrustBundle=true,ClusterTrustBundleProjection=true", "--runtime-config=certificates.k8s.io/v1beta1=true"];

const READER: &str = r#"
apiVersion: v1
kind: Pod
metadata: {name: reader, namespace: default}
spec:
  terminationGracePeriodSeconds: 1
  containers:
  - name: c
    image: busybox:1.35
    command: [sleep, "3600"]
    volumeMounts: [{name: trust, mountPath: /trust}]
  volumes:
  - name: trust
    projected:
      sources:
      - clusterTrustBundle: {signerName: kubernetes.io/kube-apiserver-serving, labelSelector: {}, path: signer.pem}
      - clusterTrustBundle: {name: plain, path: plain.pem}
      - clusterTrustBundle: {name: missing, path: missing.pem, optional: true}
"#;

const PLAIN: &str = r#"
apiVersion: certificates.k8s.io/v1beta1
kind: ClusterTrustBundle
metadata: {name: plain}
spec:
  trustBundle: |
    # The cluster's own authority.
    ANCHOR
"#;

#[test]
fn a_pod_sees_the_anchors_that_it_asks_for() {
    let cluster = Cluster::place();
    cluster.start_with(&FLAGS);
    cluster.eventually_has("configmap/kube-root-ca.crt", "default");
    let ca = cluster.kubectl("-n default get configmap kube-root-ca.crt -o jsonpath={.data.ca\\.crt}");
    eventually("the API server's anchors are published", || published(&cluster).lines().count() == 1);
    apply(&cluster, READER);
    eventually("the pod waits for a bundle that is not there", || {
        cluster.kubectl("-n default get events").contains("clustertrustbundle.certificates.k8s.io \"plain\" not found")
    });
    apply(&cluster, &PLAIN.replace("ANCHOR", &ca.trim().replace('\n', "\n    ")));
    cluster.kubectl("-n default wait --for=condition=Ready pod/reader --timeout=60s");
    let file = |name: &str| cluster.kubectl(&format!("-n default exec reader -- cat /trust/{name}.pem"));
    for name in ["signer", "plain"] {
        let seen = file(name);
        assert!(seen.lines().eq(ca.lines()), "{name}: {seen}");
    }
    assert_eq!(file("missing"), "");
    let may = cluster.kubectl("auth can-i list clustertrustbundles --as=system:serviceaccount:default:default --as-group=system:serviceaccounts");
    assert_eq!(may.trim(), "yes", "accounts read them");
}

/// The bundles of the API server's signer.
fn published(cluster: &Cluster) -> String {
    cluster.kubectl("get clustertrustbundles --field-selector=spec.signerName=kubernetes.io/kube-apiserver-serving -o name")
}
