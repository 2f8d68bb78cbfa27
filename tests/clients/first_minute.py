"""What somebody does first with the Kubernetes client for Python. usage: first_minute.py KUBECONFIG NAMESPACE"""

import sys
import threading

from kubernetes import client, config, dynamic, stream, watch
from kubernetes.client.rest import ApiException

config.load_kube_config(sys.argv[1])
namespace = sys.argv[2]
core, apps = client.CoreV1Api(), client.AppsV1Api()


def expect(found, wanted):
    assert found == wanted, f"{found!r}, not {wanted!r}"


def config_maps():
    """Make, read, change, list in pages, delete."""
    for at in range(5):
        body = client.V1ConfigMap(metadata=client.V1ObjectMeta(name=f"py-{at}", labels={"of": "python"}), data={"at": str(at)})
        core.create_namespaced_config_map(namespace, body)
    made = core.read_namespaced_config_map("py-0", namespace)
    assert made.metadata.creation_timestamp.tzinfo is not None
    made.data["at"] = "zero"
    changed = core.replace_namespaced_config_map("py-0", namespace, made)
    expect(changed.data, {"at": "zero"})
    try:
        core.replace_namespaced_config_map("py-0", namespace, made)
        raise AssertionError("an old version replaced a newer one")
    except ApiException as error:
        expect((error.status, error.reason), (409, "Conflict"))
    core.patch_namespaced_config_map("py-0", namespace, {"data": {"more": "1"}})
    expect(core.read_namespaced_config_map("py-0", namespace).data, {"at": "zero", "more": "1"})
    names, token = [], None
    while True:
        page = core.list_namespaced_config_map(namespace, label_selector="of=python", limit=2, _continue=token)
        names += [item.metadata.name for item in page.items]
        token = page.metadata._continue
        if not token:
            break
    expect(names, [f"py-{at}" for at in range(5)])
    core.delete_collection_namespaced_config_map(namespace, label_selector="of=python")
    expect(core.list_namespaced_config_map(namespace, label_selector="of=python").items, [])


def watches():
    """A watch sees what happens behind the revision of a list, and ends when its time is over."""
    revision = core.list_namespaced_secret(namespace).metadata.resource_version

    def write():
        core.create_namespaced_secret(namespace, client.V1Secret(metadata=client.V1ObjectMeta(name="py"), string_data={"a": "b"}))
        core.patch_namespaced_secret("py", namespace, {"metadata": {"labels": {"a": "b"}}})
        core.delete_namespaced_secret("py", namespace)

    writer = threading.Thread(target=write)
    writer.start()
    seen = []
    for event in watch.Watch().stream(core.list_namespaced_secret, namespace, resource_version=revision, timeout_seconds=20):
        seen.append(event["type"])
        if event["type"] == "DELETED":
            break
    writer.join()
    expect(seen, ["ADDED", "MODIFIED", "DELETED"])
    ended = list(watch.Watch().stream(core.list_namespaced_secret, namespace, timeout_seconds=1))
    expect([event["type"] for event in ended], [])


def deployments():
    """Typed bodies, a scale, a status that controllers fill, a deletion in the foreground."""
    labels = {"app": "py"}
    container = client.V1Container(name="c", image="busybox:1.35", command=["sleep", "infinity"])
    pod = client.V1PodSpec(containers=[container], termination_grace_period_seconds=0)
    template = client.V1PodTemplateSpec(metadata=client.V1ObjectMeta(labels=labels), spec=pod)
    spec = client.V1DeploymentSpec(replicas=1, selector=client.V1LabelSelector(match_labels=labels), template=template)
    apps.create_namespaced_deployment(namespace, client.V1Deployment(metadata=client.V1ObjectMeta(name="py"), spec=spec))
    apps.patch_namespaced_deployment_scale("py", namespace, {"spec": {"replicas": 2}})
    for event in watch.Watch().stream(apps.list_namespaced_deployment, namespace, field_selector="metadata.name=py", timeout_seconds=120):
        if event["object"].status.ready_replicas == 2:
            break
    else:
        raise AssertionError("no two pods of the deployment are ready")
    expect(len(core.list_namespaced_pod(namespace, label_selector="app=py").items), 2)
    apps.delete_namespaced_deployment("py", namespace, propagation_policy="Background")


def applies():
    """Server-side apply through the dynamic client."""
    maps = dynamic.DynamicClient(client.ApiClient()).resources.get(api_version="v1", kind="ConfigMap")
    body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "applied"}, "data": {"k": "v"}}
    maps.server_side_apply(body=body, namespace=namespace, field_manager="python")
    managers = [entry.manager for entry in core.read_namespaced_config_map("applied", namespace).metadata.managed_fields]
    expect(managers, ["python"])
    maps.delete("applied", namespace)


def pods():
    """A wait for readiness, commands with all their streams, logs to their end."""
    script = "echo first; until [ -e /tmp/over ]; do sleep 0.1; done; echo last"
    container = client.V1Container(name="c", image="busybox:1.35", command=["sh", "-c", script])
    spec = client.V1PodSpec(containers=[container], restart_policy="Never", termination_grace_period_seconds=0)
    core.create_namespaced_pod(namespace, client.V1Pod(metadata=client.V1ObjectMeta(name="py"), spec=spec))
    for event in watch.Watch().stream(core.list_namespaced_pod, namespace, field_selector="metadata.name=py", timeout_seconds=120):
        if any(condition.type == "Ready" and condition.status == "True" for condition in event["object"].status.conditions or []):
            break
    else:
        raise AssertionError("the pod is not ready")

    def execute(*command, **streams):
        return stream.stream(core.connect_get_namespaced_pod_exec, "py", namespace, command=list(command), stdout=True, **streams)

    expect(execute("hostname"), "py\n")
    both = execute("sh", "-c", "echo out; echo err >&2; exit 3", stderr=True, _preload_content=False)
    both.run_forever(timeout=30)
    expect((both.read_stdout(), both.read_stderr(), both.returncode), ("out\n", "err\n", 3))
    cat = execute("cat", stdin=True, _preload_content=False)
    cat.write_stdin("to and fro\n")
    expect(cat.readline_stdout(timeout=30), "to and fro")
    cat.close()
    expect(core.read_namespaced_pod_log("py", namespace, tail_lines=1), "first\n")
    lines = []
    for line in watch.Watch().stream(core.read_namespaced_pod_log, name="py", namespace=namespace):
        lines.append(line)
        if line == "first":
            execute("touch", "/tmp/over")
    expect(lines, ["first", "last"])
    core.delete_namespaced_pod("py", namespace)


config_maps()
watches()
deployments()
applies()
pods()
expect(client.VersionApi().get_code().minor, "36")
print("done")
