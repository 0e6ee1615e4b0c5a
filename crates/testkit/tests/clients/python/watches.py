"""The official client's Watch: versions, time-outs, bookmarks, expiry, and a server that is restarted.

Reads commands of the test on standard input where it must wait for the test.
"""

import sys

from kubernetes import client, config, watch
from kubernetes.client.rest import ApiException

config.load_kube_config()
custom = client.CustomObjectsApi()
core = client.CoreV1Api()
coordinates = ("boatyard.dev", "v1", "default", "environments")


def create(name, size=0):
    body = {
        "apiVersion": "boatyard.dev/v1",
        "kind": "Environment",
        "metadata": {"name": name, "annotations": {"filler": "x" * size} if size else {}},
        "spec": {"runnerName": "none"},
    }
    return custom.create_namespaced_custom_object(*coordinates, body)


def tell(word):
    print(word, flush=True)
    assert sys.stdin.readline(), "the test ended"


# Typed objects.
namespaces = {item.metadata.name: item.status.phase for item in core.list_namespace().items}
assert namespaces["default"] == "Active", namespaces
core.create_namespace({"metadata": {"name": "typed"}})
for event in watch.Watch().stream(core.list_namespace, timeout_seconds=5):
    if event["object"].metadata.name == "typed":
        assert event["type"] == "ADDED" and event["object"].kind == "Namespace"
        break
else:
    raise SystemExit("the namespace was not seen")

# From a version on: exactly what came after it, and the version moves on.
create("a")
start = custom.list_namespaced_custom_object(*coordinates)["metadata"]["resourceVersion"]
create("b")
custom.delete_namespaced_custom_object(*coordinates, "a")
watcher = watch.Watch()
events = [
    (event["type"], event["object"]["metadata"]["name"])
    for event in watcher.stream(
        custom.list_namespaced_custom_object,
        *coordinates,
        resource_version=start,
        timeout_seconds=1,
    )
]
assert events == [("ADDED", "b"), ("DELETED", "a")], events
assert int(watcher.resource_version) > int(start)

# Through a restart of the server: the watch breaks, and goes on from where it was.
tell("restart")
create("c")
events = [
    (event["type"], event["object"]["metadata"]["name"])
    for event in watch.Watch().stream(
        custom.list_namespaced_custom_object,
        *coordinates,
        resource_version=watcher.resource_version,
        timeout_seconds=1,
    )
]
assert events == [("ADDED", "c")], events

# History that is no more: the watch says 410, and a fresh list works.
for number in range(240):
    body = {"metadata": {"annotations": {"filler": f"{number:03}" * 80_000}}}
    custom.patch_namespaced_custom_object(*coordinates, "c", body)
try:
    for event in watch.Watch().stream(
        custom.list_namespaced_custom_object,
        *coordinates,
        resource_version=start,
        timeout_seconds=2,
    ):
        raise SystemExit(f"an event of forgotten history: {event['type']}")
    raise SystemExit("nothing was said of forgotten history")
except ApiException as error:
    assert error.status == 410, error
listed = custom.list_namespaced_custom_object(*coordinates)
assert {item["metadata"]["name"] for item in listed["items"]} == {"b", "c"}
