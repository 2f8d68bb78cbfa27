"""What somebody does first with the Kubernetes client for Python. usage: first_minute.py KUBECONFIG"""

import sys
import threading

from kubernetes import client, config, dynamic, watch
from kubernetes.client.rest import ApiException

config.load_kube_config(sys.argv[1])
core, apps = client.CoreV1Api(), client.AppsV1Api()


def expect(found, wanted):
    assert found == wanted, f"{found!r}, not {wanted!r}"


def config_maps():
    """Make, read, change, list in pages, delete."""
    for at in range(5):
        body = client.V1ConfigMap(metadata=client.V1ObjectMeta(name=f"py-{at}", labels={"of": "python"}), data={"at": str(at)})
        core.create_namespaced_config_map("default", body)
    made = core.read_namespaced_config_map("py-0", "default")
    assert made.metadata.creation_timestamp.tzinfo is not None
    made.data["at"] = "zero"
    changed = core.replace_namespaced_config_map("py-0", "default", made)
    expect(changed.data, {"at": "zero"})
    try:
        core.replace_namespaced_config_map("py-0", "default", made)
        raise AssertionError("an old version replaced a newer one")
    except ApiException as error:
        expect((error.status, error.reason), (409, "Conflict"))
    core.patch_namespaced_config_map("py-0", "default", {"data": {"more": "1"}})
    expect(core.read_namespaced_config_map("py-0", "default").data, {"at": "zero", "more": "1"})
    names, token = [], None
    while True:
        page = core.list_namespaced_config_map("default", label_selector="of=python", limit=2, _continue=token)
        names += [item.metadata.name for item in page.items]
        token = page.metadata._continue
        if not token:
            break
    expect(names, [f"py-{at}" for at in range(5)])
    core.delete_collection_namespaced_config_map("default", label_selector="of=python")
    expect(core.list_namespaced_config_map("default", label_selector="of=python").items, [])


def watches():
    """A watch sees what happens behind the revision of a list, and ends when its time is over."""
    revision = core.list_namespaced_secret("default").metadata.resource_version

    def write():
        core.create_namespaced_secret("default", client.V1Secret(metadata=client.V1ObjectMeta(name="py"), string_data={"a": "b"}))
        core.patch_namespaced_secret("py", "default", {"metadata": {"labels": {"a": "b"}}})
        core.delete_namespaced_secret("py", "default")

    writer = threading.Thread(target=write)
    writer.start()
    seen = []
    for event in watch.Watch().stream(core.list_namespaced_secret, "default", resource_version=revision, timeout_seconds=20):
        seen.append(event["type"])
        if event["type"] == "DELETED":
            break
    writer.join()
    expect(seen, ["ADDED", "MODIFIED", "DELETED"])
    ended = list(watch.Watch().stream(core.list_namespaced_secret, "default", timeout_seconds=1))
    expect([event["type"] for event in ended], [])


def deployments():
    """Typed bodies, a scale, a status that controllers fill, a deletion in the foreground."""
    labels = {"app": "py"}
    container = client.V1Container(name="c", image="example/web")
    template = client.V1PodTemplateSpec(metadata=client.V1ObjectMeta(labels=labels), spec=client.V1PodSpec(containers=[container]))
    spec = client.V1DeploymentSpec(replicas=1, selector=client.V1LabelSelector(match_labels=labels), template=template)
    apps.create_namespaced_deployment("default", client.V1Deployment(metadata=client.V1ObjectMeta(name="py"), spec=spec))
    apps.patch_namespaced_deployment_scale("py", "default", {"spec": {"replicas": 2}})
    for event in watch.Watch().stream(apps.list_namespaced_deployment, "default", field_selector="metadata.name=py", timeout_seconds=20):
        if event["object"].status.replicas == 2:
            break
    else:
        raise AssertionError("no controller scaled the deployment")
    expect(len(core.list_namespaced_pod("default", label_selector="app=py").items), 2)
    apps.delete_namespaced_deployment("py", "default", propagation_policy="Background")


def applies():
    """Server-side apply through the dynamic client."""
    maps = dynamic.DynamicClient(client.ApiClient()).resources.get(api_version="v1", kind="ConfigMap")
    body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "applied"}, "data": {"k": "v"}}
    maps.server_side_apply(body=body, namespace="default", field_manager="python")
    managers = [entry.manager for entry in core.read_namespaced_config_map("applied", "default").metadata.managed_fields]
    expect(managers, ["python"])
    maps.delete("applied", "default")


config_maps()
watches()
deployments()
applies()
expect(client.VersionApi().get_code().minor, "36")
print("done")
