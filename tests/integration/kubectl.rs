//! kubectl as a user tries it: every everyday command, and that its output looks as it should.

use std::{
    io::{BufRead, BufReader},
    os::unix::fs::PermissionsExt,
    process::{Command, Stdio},
    sync::mpsc,
    time::{Duration, Instant},
};

use crate::{
    cluster::{Cluster, apply, ask, eventually, shared, text},
    running::Running,
};

const OBJECTS: &str = r#"
apiVersion: v1
kind: Namespace
metadata: {name: tour}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: settings, namespace: tour}
data: {colour: red}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, namespace: tour}
spec:
  replicas: 2
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      containers:
      - name: web
        image: troupe.local/sample-web:0.1
        env: [{name: VERSION, value: "1"}, {name: DRAIN_SECONDS, value: "1"}]
        ports: [{name: http, containerPort: 8080}]
        readinessProbe: {httpGet: {path: /healthz, port: http}, periodSeconds: 1}
---
apiVersion: v1
kind: Pod
metadata: {name: shell, namespace: tour}
spec:
  terminationGracePeriodSeconds: 0
  containers: [{name: shell, image: "busybox:1.35", stdin: true, command: [sh, -c, "i=0; while true; do echo tick $i; i=$((i+1)); sleep 0.2; done"]}]
"#;

/// How long a busy machine may take for what is done at once.
const PATIENCE: Duration = Duration::from_secs(60);

/// kubectl in the tour's namespace.
fn kubectl(cluster: &Cluster, words: &str) -> String {
    cluster.kubectl(&format!("-n tour {words}"))
}

#[test]
fn kubectl_does_all_that_people_do_every_day() {
    let cluster = shared();
    apply(&cluster, OBJECTS);
    kubectl(&cluster, "rollout status deployment/web --timeout=120s");
    kubectl(&cluster, "wait --for=condition=Ready pod/shell --timeout=120s");
    looks_right(&cluster);
    says_how_the_cluster_is(&cluster);
    edits(&cluster);
    rolls(&cluster);
    runs_commands(&cluster);
    follows_and_forwards(&cluster);
    hooks(&cluster);
    debugs(&cluster);
    runs_and_removes(&cluster);
    cluster.kubectl("delete namespace tour --timeout=120s");
}

/// Columns, ages and the sections of describe.
fn looks_right(cluster: &Cluster) {
    let pods = kubectl(cluster, "get pods -o wide");
    let mut lines = pods.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    let header = lines.next().expect("a header");
    assert_eq!(header[..7], ["NAME", "READY", "STATUS", "RESTARTS", "AGE", "IP", "NODE"], "{pods}");
    for row in lines {
        assert_eq!((row[1], row[2], row[3], row[6]), ("1/1", "Running", "0", "it"), "{pods}");
        assert!(row[4].ends_with(['s', 'm']) && row[5].starts_with("10.244."), "{pods}");
    }
    let deployment = kubectl(cluster, "get deployment web");
    let row: Vec<&str> = deployment.lines().nth(1).expect("a row").split_whitespace().collect();
    assert_eq!(row[..4], ["web", "2/2", "2", "2"], "{deployment}");
    let pieces = [
        "2 desired | 2 updated | 2 total | 2 available | 0 unavailable",
        "NewReplicaSet:",
        "MinimumReplicasAvailable",
        "deployment-controller",
        "Scaled up replica set web-",
    ];
    describes(cluster, "deployment web", &pieces);
    let pieces = [
        "Service Account:  default",
        "Node:             it/",
        "State:          Running",
        "QoS Class:                   BestEffort",
        "Successfully assigned tour/shell to it",
        "Container started",
    ];
    let described = describes(cluster, "pod shell", &pieces);
    assert!(described.lines().all(|line| !line.contains("<unknown>") && !line.contains("<invalid>")), "{described}");
    assert!(cluster.kubectl("describe node it").contains("Non-terminated Pods:"));
    assert!(cluster.kubectl("cluster-info").contains("is running at"));
    let yaml = kubectl(cluster, "get pod shell -o yaml");
    assert!(yaml.starts_with("apiVersion: v1\nkind: Pod\n") && !yaml.contains("managedFields"), "{yaml}");
    // A node that has just come up has nothing to tell yet.
    eventually("the node's use is shown", || {
        let top = text(&cluster.kubectl_output("top nodes").stdout);
        top.starts_with("NAME") && top.lines().nth(1).is_some_and(|line| line.starts_with("it "))
    });
}

/// Waits until an object is described with all of these; gives all that is said. Events are written a moment after what they tell of.
fn describes(cluster: &Cluster, object: &str, pieces: &[&str]) -> String {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let described = kubectl(cluster, &format!("describe {object}"));
        let Some(missing) = pieces.iter().find(|piece| !described.contains(**piece)) else { return described };
        assert!(Instant::now() < deadline, "{missing:?} is missing in:\n{described}");
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// Component statuses, and the checks behind readiness.
fn says_how_the_cluster_is(cluster: &Cluster) {
    // A busy machine may have it look otherwise for a moment.
    eventually("all components are well", || {
        let components = cluster.kubectl("get componentstatuses");
        let rows: Vec<Vec<&str>> = components.lines().map(|line| line.split_whitespace().collect()).collect();
        let well = |name| vec![name, "Healthy", "ok"];
        let header = vec!["NAME", "STATUS", "MESSAGE", "ERROR"];
        rows == [header, well("controller-manager"), well("etcd-0"), well("scheduler")]
    });
    let first = "[+]ping ok\n[+]log ok\n[+]etcd ok\n[+]etcd-readiness ok\n[+]informer-sync ok\n[+]poststarthook/";
    eventually("all checks pass", || {
        let ready = text(&cluster.kubectl_output("get --raw /readyz?verbose&exclude=shutdown").stdout);
        let all_pass = ready.lines().all(|line| line.starts_with("[+]") || line == "readyz check passed");
        ready.starts_with(first) && ready.ends_with("\n[+]shutdown excluded: ok\nreadyz check passed\n") && all_pass
    });
    eventually("the store lives", || text(&cluster.kubectl_output("get --raw /livez/etcd").stdout) == "ok");
}

/// apply, edit, three patches, label, annotate.
fn edits(cluster: &Cluster) {
    let colour = || kubectl(cluster, "get configmap settings -o jsonpath={.data.colour}");
    let editor = cluster.dir().join("editor");
    std::fs::write(&editor, "#!/bin/sh\nsed -i 's/red/green/' \"$1\"\n").expect("writes");
    std::fs::set_permissions(&editor, PermissionsExt::from_mode(0o755)).expect("allowed");
    let edited = cluster.kubectl_command(&["-n", "tour", "edit", "configmap", "settings"]).env("KUBE_EDITOR", &editor).output().expect("runs");
    assert_eq!(text(&edited.stdout), "configmap/settings edited\n", "{}", text(&edited.stderr));
    assert_eq!(colour(), "green");
    for (kind, patch) in [
        ("strategic", r#"{"data":{"colour":"blue"}}"#),
        ("merge", r#"{"data":{"colour":"black"}}"#),
        ("json", r#"[{"op":"replace","path":"/data/colour","value":"white"}]"#),
    ] {
        let said = cluster.kubectl_words(&["-n", "tour", "patch", "configmap", "settings", &format!("--type={kind}"), "-p", patch]);
        assert_eq!(said, "configmap/settings patched\n");
        assert!(patch.contains(&colour()), "{kind}");
    }
    let mistyped = cluster.kubectl_command(&["-n", "tour", "patch", "deployment", "web", "-p", r#"{"spec":{"replicas":"a"}}"#]).output();
    let told = text(&mistyped.expect("runs").stderr);
    assert_eq!(told, "The request is invalid: patch: Invalid value: \"map[spec:map[replicas:a]]\": unrecognized type: int32\n");
    assert_eq!(kubectl(cluster, "label pod shell tier=front"), "pod/shell labeled\n");
    assert_eq!(kubectl(cluster, "get pods -l tier=front -o name"), "pod/shell\n");
    assert_eq!(kubectl(cluster, "label pod shell tier-"), "pod/shell unlabeled\n");
    assert_eq!(kubectl(cluster, "annotate pod shell note=here"), "pod/shell annotated\n");
    // Applying again brings back what the manifest says, and only that.
    apply(cluster, OBJECTS);
    assert_eq!((colour(), kubectl(cluster, "get pod shell -o jsonpath={.metadata.annotations.note}")), ("red".into(), "here".into()));
}

/// scale, set env, set image, rollout status, history, undo, restart.
fn rolls(cluster: &Cluster) {
    let rolled = || kubectl(cluster, "rollout status deployment/web --timeout=120s");
    assert_eq!(kubectl(cluster, "scale deployment web --replicas=3"), "deployment.apps/web scaled\n");
    rolled();
    assert_eq!(kubectl(cluster, "set env deployment/web VERSION=2"), "deployment.apps/web env updated\n");
    assert!(rolled().ends_with("deployment \"web\" successfully rolled out\n"));
    let history = kubectl(cluster, "rollout history deployment/web");
    let revisions: Vec<&str> = history.lines().skip(2).filter_map(|line| line.split_whitespace().next()).collect();
    assert_eq!(revisions, ["1", "2"], "{history}");
    let two = kubectl(cluster, "rollout history deployment/web --revision=2");
    assert!(two.contains("VERSION:\t2"), "{two}");
    assert_eq!(kubectl(cluster, "rollout undo deployment/web"), "deployment.apps/web rolled back\n");
    rolled();
    assert_eq!(kubectl(cluster, "rollout restart deployment/web"), "deployment.apps/web restarted\n");
    rolled();
    assert_eq!(kubectl(cluster, "set image deployment/web web=busybox:1.35"), "deployment.apps/web image updated\n");
    kubectl(cluster, "rollout undo deployment/web");
    rolled();
    // All of them, also such that go: whoever is the first of them is asked for more below.
    let pods = "get pods -l app=web -o jsonpath={range.items[*]}{.spec.containers[0].image}={.spec.containers[0].env[0].value}{\"\\n\"}{end}";
    eventually("three pods of version 1 and no others", || kubectl(cluster, pods) == "troupe.local/sample-web:0.1=1\n".repeat(3));
    rolled();
}

/// exec with and without a terminal, cp.
fn runs_commands(cluster: &Cluster) {
    assert_eq!(kubectl(cluster, "exec shell -- hostname"), "shell\n");
    let failed = cluster.kubectl_output("-n tour exec shell -- sh -c false");
    assert_eq!(failed.status.code(), Some(1));
    assert!(text(&failed.stderr).contains("command terminated with exit code 1"), "{}", text(&failed.stderr));
    let mut terminal = Command::new("script");
    let inner = format!(
        "nsenter --net=/run/netns/{} kubectl --kubeconfig={}/admin.kubeconfig -n tour exec -it shell -- sh -c 'test -t 0 && test -t 1 && echo on $(tty)'",
        cluster.namespace(),
        cluster.dir().display()
    );
    let output = terminal.args(["-qec", &inner, "/dev/null"]).stdin(Stdio::null()).output().expect("script runs");
    assert!(text(&output.stdout).contains("on /dev/pts/"), "{} {}", text(&output.stdout), text(&output.stderr));
    let (there, back) = (cluster.dir().join("there"), cluster.dir().join("back"));
    let data: Vec<u8> = (0..300_000u32).map(|at| (at % 251) as u8).collect();
    std::fs::write(&there, &data).expect("writes");
    kubectl(cluster, &format!("cp {} shell:/tmp/copied", there.display()));
    kubectl(cluster, &format!("cp shell:/tmp/copied {}", back.display()));
    assert_eq!(std::fs::read(&back).expect("it came back"), data);
}

/// Starts a command and waits until it has printed so many lines that begin like this.
fn prints(mut command: Command, begin: &str, count: usize) {
    let mut process = Running(command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().expect("starts"));
    let stdout = BufReader::new(process.stdout.take().expect("piped"));
    let (each, printed) = mpsc::channel();
    // Ends with the process, or when nobody wants to know.
    std::thread::spawn(move || stdout.lines().map_while(Result::ok).try_for_each(|line| each.send(line)));
    let (deadline, mut all) = (Instant::now() + PATIENCE, Vec::<String>::new());
    while all.iter().filter(|line| line.starts_with(begin)).count() < count {
        let line = printed.recv_timeout(deadline.saturating_duration_since(Instant::now()));
        let line = line.unwrap_or_else(|_| panic!("{command:?} showed nothing but {all:?}"));
        all.push(line);
    }
}

/// logs -f, attach, port-forward to a pod and to a Service.
fn follows_and_forwards(cluster: &Cluster) {
    for words in [&["-n", "tour", "logs", "-f", "shell", "--tail=1"][..], &["-n", "tour", "attach", "shell"]] {
        prints(cluster.kubectl_command(words), "tick ", 5);
    }
    let pod = kubectl(cluster, "get pods -l app=web -o jsonpath={.items[0].metadata.name}");
    kubectl(cluster, "expose deployment web --port=80 --target-port=8080");
    for (target, port) in [(format!("pod/{pod}"), "18080:8080"), ("service/web".into(), "18081:80")] {
        let mut command = cluster.kubectl_command(&["-n", "tour", "port-forward", &target, port]);
        let _forwarding = Running(command.stdout(Stdio::null()).spawn().expect("starts"));
        let address = format!("127.0.0.1:{}", port.split(':').next().expect("a port"));
        eventually(&format!("{target} answers through {address}"), || cluster.get(&address).is_some_and(|page| page.contains(" from web-")));
        for _ in 0..20 {
            let address = address.clone();
            cluster.within(move || ask(&address)).join().expect("no panic").expect("every connection through it is answered");
        }
    }
}

/// debug: a visitor in a running pod, which sees the processes of its target.
fn debugs(cluster: &Cluster) {
    let words = ["-n", "tour", "debug", "shell", "-q", "--image=busybox:1.35", "--target=shell", "-c", "visitor", "--attach=false", "--", "sh", "-c"];
    cluster.kubectl_words(&[&words[..], &["echo hello from the visitor; sleep 3600"]].concat());
    let state = |path: &str| kubectl(cluster, &format!("get pod shell -o jsonpath={{.status.ephemeralContainerStatuses[0].{path}}}"));
    eventually("the visitor runs", || !state("state.running.startedAt").is_empty());
    eventually("it has said so", || kubectl(cluster, "logs shell -c visitor") == "hello from the visitor\n");
    let processes = kubectl(cluster, "exec shell -c visitor -- ps -o args");
    assert!(processes.contains("echo tick"), "the processes of its target: {processes}");
    assert_eq!((state("ready"), state("restartCount")), ("false".into(), "0".into()));
    kubectl(cluster, "wait --for=condition=Ready pod/shell --timeout=60s");
}

/// A container is not started while its postStart hook runs.
fn hooks(cluster: &Cluster) {
    let spec = r#"
apiVersion: v1
kind: Pod
metadata: {name: hooked, namespace: tour}
spec:
  terminationGracePeriodSeconds: 0
  containers:
  - {name: c, image: "busybox:1.35", command: [sleep, "3600"], lifecycle: {postStart: {exec: {command: [sh, -c, "until [ -e /tmp/over ]; do sleep 0.1; done"]}}}}
"#;
    apply(cluster, spec);
    let status = |path: &str| kubectl(cluster, &format!("get pod hooked -o jsonpath={{.status.containerStatuses[0].{path}}}"));
    eventually("it runs", || !status("state.running.startedAt").is_empty());
    let until = Instant::now() + Duration::from_secs(3);
    while Instant::now() < until {
        assert_eq!((status("started"), status("ready")), ("false".into(), "false".into()), "its hook runs");
    }
    kubectl(cluster, "exec hooked -- touch /tmp/over");
    kubectl(cluster, "wait --for=condition=Ready pod/hooked --timeout=60s");
    assert_eq!(status("started"), "true");
    kubectl(cluster, "delete pod hooked --grace-period=0 --force");
}

/// run, logs --previous, expose, delete.
fn runs_and_removes(cluster: &Cluster) {
    let run = |words: &[&str]| cluster.kubectl_words(&[&["-n", "tour", "run"][..], words].concat());
    assert_eq!(run(&["crash", "--image=busybox:1.35", "--", "sh", "-c", "echo last words $HOSTNAME; exit 3"]), "pod/crash created\n");
    // Nothing is said of restarts until the kubelet has seen it.
    let restarts = || kubectl(cluster, "get pod crash -o jsonpath={.status.containerStatuses[0].restartCount}").parse::<u32>();
    eventually("the pod crashed and was restarted", || restarts().is_ok_and(|count| count > 0));
    assert_eq!(kubectl(cluster, "logs crash --previous"), "last words crash\n");
    assert_eq!(run(&["once", "--image=busybox:1.35", "--restart=Never", "--", "true"]), "pod/once created\n");
    kubectl(cluster, "wait --for=jsonpath={.status.phase}=Succeeded pod/once --timeout=60s");
    assert!(kubectl(cluster, "get pod once").contains("Completed"));
    let mut typed = cluster.kubectl_command(&["-n", "tour", "run", "typed", "--image=busybox:1.35", "-i", "--rm", "--restart=Never", "--", "cat"]);
    let mut child = typed.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("starts");
    std::io::Write::write_all(&mut child.stdin.take().expect("piped"), b"to and fro\n").expect("writes");
    let output = child.wait_with_output().expect("ends");
    assert!(text(&output.stdout).contains("to and fro"), "{} {}", text(&output.stdout), text(&output.stderr));
    let began = Instant::now();
    assert_eq!(
        kubectl(cluster, "delete pod shell once crash --grace-period=1"),
        "pod \"shell\" deleted\npod \"once\" deleted\npod \"crash\" deleted\n"
    );
    // Nobody waited for the 30 seconds that they have without it.
    assert!(began.elapsed() < Duration::from_secs(25), "deleting took {:?}", began.elapsed());
    assert!(text(&cluster.kubectl_output("-n tour get pod shell").stderr).contains("pods \"shell\" not found"));
}
