//! Claims on a real node: made where the pod runs, kept while the claim lasts, gone with it.

use std::{fs, path::PathBuf};

use crate::cluster::{Cluster, apply, eventually, shared};

const OBJECTS: &str = r#"
apiVersion: v1
kind: Namespace
metadata: {name: volumes}
---
apiVersion: apps/v1
kind: StatefulSet
metadata: {name: db, namespace: volumes}
spec:
  replicas: 2
  serviceName: db
  selector: {matchLabels: {app: db}}
  template:
    metadata: {labels: {app: db}}
    spec:
      terminationGracePeriodSeconds: 1
      securityContext: {fsGroup: 3000, runAsUser: 1000, runAsGroup: 1000}
      containers:
      - name: c
        image: busybox:1.35
        command: [sh, -c, "date >> /data/starts; hostname > /data/part/name; exec sleep 3600"]
        volumeMounts:
        - {name: data, mountPath: /data}
        - {name: data, mountPath: /data/part, subPath: parts/one}
  volumeClaimTemplates:
  - metadata: {name: data}
    spec: {accessModes: [ReadWriteOnce], resources: {requests: {storage: 16Mi}}}
---
apiVersion: v1
kind: PersistentVolumeClaim
metadata: {name: notes, namespace: volumes}
spec: {accessModes: [ReadWriteOnce], resources: {requests: {storage: 16Mi}}}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, namespace: volumes}
spec:
  selector: {matchLabels: {app: web}}
  strategy: {type: Recreate}
  template:
    metadata: {labels: {app: web}}
    spec:
      terminationGracePeriodSeconds: 1
      containers:
      - name: c
        image: busybox:1.35
        command: [sh, -c, "echo once >> /notes/file; exec sleep 3600"]
        volumeMounts: [{name: notes, mountPath: /notes}]
      volumes: [{name: notes, persistentVolumeClaim: {claimName: notes}}]
---
apiVersion: v1
kind: Pod
metadata: {name: scratch, namespace: volumes}
spec:
  terminationGracePeriodSeconds: 1
  containers:
  - name: c
    image: busybox:1.35
    command: [sh, -c, "echo x > /scratch/file && exec sleep 3600"]
    volumeMounts: [{name: scratch, mountPath: /scratch}]
  volumes:
  - name: scratch
    ephemeral:
      volumeClaimTemplate:
        spec: {accessModes: [ReadWriteOncePod], resources: {requests: {storage: 16Mi}}}
"#;

const BY_HAND: &str = r#"
apiVersion: v1
kind: PersistentVolume
metadata: {name: by-hand}
spec:
  capacity: {storage: 1Gi}
  accessModes: [ReadWriteOnce]
  storageClassName: ""
  hostPath: {path: DIRECTORY, type: DirectoryOrCreate}
---
apiVersion: v1
kind: PersistentVolumeClaim
metadata: {name: by-hand, namespace: volumes}
spec: {accessModes: [ReadWriteOnce], storageClassName: "", resources: {requests: {storage: 1Mi}}}
---
apiVersion: v1
kind: Pod
metadata: {name: reader, namespace: volumes}
spec:
  terminationGracePeriodSeconds: 1
  containers:
  - name: c
    image: busybox:1.35
    command: [sh, -c, "cat /v/file; echo x > /v/other || echo refused; exec sleep 3600"]
    volumeMounts: [{name: v, mountPath: /v}]
  volumes: [{name: v, persistentVolumeClaim: {claimName: by-hand, readOnly: true}}]
"#;

#[test]
fn a_pods_data_outlives_it_and_goes_with_its_claim() {
    let cluster = shared();
    let class = cluster.kubectl("get storageclass");
    assert!(class.contains("troupe-local (default)   troupe.dev/local-path   Delete          WaitForFirstConsumer"), "{class}");
    apply(&cluster, OBJECTS);
    cluster.kubectl("-n volumes rollout status statefulset/db --timeout=180s");
    cluster.kubectl("-n volumes rollout status deployment/web --timeout=180s");
    cluster.kubectl("-n volumes wait --for=condition=Ready pod/scratch --timeout=120s");
    let claims = cluster.kubectl("-n volumes get pvc -o jsonpath={range.items[*]}{.metadata.name}={.status.phase}/{.spec.storageClassName},{end}");
    for claim in ["data-db-0", "data-db-1", "notes", "scratch-scratch"] {
        assert!(claims.contains(&format!("{claim}=Bound/troupe-local,")), "{claims}");
    }
    outlives_its_pod(&cluster);
    outlives_the_daemon(&cluster);
    goes_with_the_claim(&cluster);
    reads_what_was_made_by_hand(&cluster);
    cluster.kubectl("delete namespace volumes --timeout=180s");
    eventually("no volume made for a claim is left", || directories(&cluster).is_empty());
    eventually("no object of one is left", || cluster.kubectl("get pv -o name") == "persistentvolume/by-hand\n");
    cluster.kubectl("delete pv by-hand --timeout=120s");
}

/// The directory on the node of a claim's volume.
fn directory(cluster: &Cluster, claim: &str) -> PathBuf {
    let volume = cluster.kubectl(&format!("-n volumes get pvc {claim} -o jsonpath={{.spec.volumeName}}"));
    cluster.kubectl(&format!("get pv {volume} -o jsonpath={{.spec.local.path}}")).into()
}

fn directories(cluster: &Cluster) -> Vec<PathBuf> {
    let read = fs::read_dir(cluster.path("data").join("volumes"));
    read.map(|entries| entries.filter_map(|entry| Some(entry.ok()?.path())).collect()).unwrap_or_default()
}

fn outlives_its_pod(cluster: &Cluster) {
    let place = directory(cluster, "data-db-0");
    // A pod is ready as soon as it has begun, and writes then.
    eventually("the part of the volume is written", || fs::read_to_string(place.join("parts/one/name")).is_ok_and(|name| name == "db-0\n"));
    let starts = || fs::read_to_string(place.join("starts")).expect("the file is there").lines().count();
    assert_eq!(starts(), 1);
    let group = cluster.kubectl("-n volumes exec db-0 -- stat -c %g /data/starts");
    assert_eq!(group.trim(), "3000", "files belong to the pod's group");
    cluster.kubectl("-n volumes delete pod db-0 --timeout=120s");
    eventually("the next pod adds to what was there", || starts() == 2);
    cluster.kubectl("-n volumes rollout status statefulset/db --timeout=180s");
}

fn outlives_the_daemon(cluster: &Cluster) {
    let file = directory(cluster, "notes").join("file");
    eventually("the file is written", || fs::read_to_string(&file).is_ok_and(|text| text == "once\n"));
    cluster.strike("-9");
    cluster.start();
    cluster.kubectl("-n volumes rollout status deployment/web --timeout=180s");
    let seen = cluster.kubectl_words(&["-n", "volumes", "exec", "deploy/web", "--", "cat", "/notes/file"]);
    assert_eq!(seen, "once\n");
    assert_eq!(fs::read_to_string(&file).expect("is there"), "once\n", "the container runs on");
}

fn goes_with_the_claim(cluster: &Cluster) {
    let place = directory(cluster, "notes");
    cluster.kubectl("-n volumes delete pvc notes --wait=false");
    let claim = cluster.kubectl("-n volumes get pvc notes");
    assert!(claim.contains("Terminating"), "a pod uses it: {claim}");
    assert!(place.join("file").exists());
    cluster.kubectl("-n volumes delete deployment web --timeout=120s");
    eventually("the directory is gone", || !place.exists());
    let scratch = directory(cluster, "scratch-scratch");
    eventually("the pod has written", || scratch.join("file").exists());
    cluster.kubectl("-n volumes delete pod scratch --timeout=120s");
    eventually("the pod's own volume is gone with it", || !scratch.exists());
}

fn reads_what_was_made_by_hand(cluster: &Cluster) {
    let place = cluster.path("by-hand");
    fs::create_dir_all(&place).expect("makes");
    fs::write(place.join("file"), "written by hand\n").expect("writes");
    apply(cluster, &BY_HAND.replace("DIRECTORY", &place.display().to_string()));
    cluster.kubectl("-n volumes wait --for=condition=Ready pod/reader --timeout=120s");
    eventually("the pod reads and may not write", || {
        let log = cluster.kubectl("-n volumes logs reader");
        log.contains("written by hand\n") && log.contains("refused\n")
    });
    assert!(!place.join("other").exists());
    cluster.kubectl("-n volumes delete pod reader --timeout=120s");
    cluster.kubectl("-n volumes delete pvc by-hand --timeout=120s");
    eventually("the volume is retained", || cluster.kubectl("get pv by-hand -o jsonpath={.status.phase}") == "Released");
    assert!(place.join("file").exists());
}
