"""The official client's DynamicClient: discovery, every verb, server-side apply, watches."""

import os

from kubernetes import config, dynamic
from kubernetes.client import api_client
from kubernetes.dynamic.exceptions import ConflictError, NotFoundError

client = dynamic.DynamicClient(
    api_client.ApiClient(configuration=config.load_kube_config() or None),
    cache_file=os.environ["TEST_FOLDER"] + "/discovery.json",
)
environments = client.resources.get(api_version="boatyard.dev/v1", kind="Environment")
assert environments.namespaced and environments.name == "environments", environments
assert environments.subresources["status"].name == "environments/status"
assert client.resources.get(kind="Environment").group == "boatyard.dev"
assert client.resources.get(api_version="v1", kind="Namespace").namespaced is False
assert client.version["kubernetes"]["major"] == "1"


def manifest(name, image):
    return {
        "apiVersion": "boatyard.dev/v1",
        "kind": "Environment",
        "metadata": {"name": name, "labels": {"app": name}},
        "spec": {"runnerName": "none", "devcontainer": {"image": image}},
    }


made = environments.create(body=manifest("one", "image:1"), namespace="default")
assert made.metadata.uid and made.metadata.generation == 1, made
got = environments.get(name="one", namespace="default")
assert got.spec.devcontainer.image == "image:1"
try:
    environments.create(body=manifest("one", "image:1"), namespace="default")
    raise SystemExit("created twice")
except ConflictError as error:
    assert "AlreadyExists" in str(error.body), error

# A change from a stale version is a conflict.
stale = got.to_dict()
patched = environments.patch(
    name="one",
    namespace="default",
    body={"metadata": {"labels": {"more": "1"}}},
    content_type="application/merge-patch+json",
)
assert dict(patched.metadata.labels) == {"app": "one", "more": "1"}
try:
    environments.replace(body=stale, name="one", namespace="default")
    raise SystemExit("replaced what had changed")
except ConflictError as error:
    assert error.status == 409 and error.reason == "Conflict", error
environments.status.patch(
    name="one",
    namespace="default",
    body={"status": {"phase": "Running"}},
    content_type="application/merge-patch+json",
)
assert environments.status.get(name="one", namespace="default").status.phase == "Running"

# Server-side apply: two managers, a conflict, force.
applied = environments.server_side_apply(
    body=manifest("two", "image:1"), name="two", namespace="default", field_manager="first"
)
assert {entry.manager for entry in applied.metadata.managedFields} == {"first"}
try:
    environments.server_side_apply(
        body=manifest("two", "image:2"), name="two", namespace="default", field_manager="second"
    )
    raise SystemExit("no conflict")
except ConflictError as error:
    assert "first" in error.body and ".spec.devcontainer.image" in error.body, error.body
forced = environments.server_side_apply(
    body=manifest("two", "image:2"),
    name="two",
    namespace="default",
    field_manager="second",
    force_conflicts=True,
)
assert forced.spec.devcontainer.image == "image:2"

# Lists with selectors and pages.
listed = environments.get(namespace="default", label_selector="app in (two)")
assert [item.metadata.name for item in listed.items] == ["two"]
page = environments.get(namespace="default", limit=1)
rest = environments.get(namespace="default", limit=1, _continue=page.metadata["continue"])
assert [page.items[0].metadata.name, rest.items[0].metadata.name] == ["one", "two"]

# A watch from a version goes on where the list ended, and ends when asked to.
version = environments.get(namespace="default").metadata.resourceVersion
environments.create(body=manifest("three", "image:1"), namespace="default")
environments.delete(name="three", namespace="default")
seen = [
    (event["type"], event["object"].metadata.name)
    for event in environments.watch(namespace="default", resource_version=version, timeout=2)
]
assert seen == [("ADDED", "three"), ("DELETED", "three")], seen

environments.delete(name="one", namespace="default")
try:
    environments.get(name="one", namespace="default")
    raise SystemExit("deleted but there")
except NotFoundError as error:
    assert error.status == 404
environments.delete(namespace="default", label_selector="app=two")
assert environments.get(namespace="default").items == []

# Deletion takes a body with options.
environments.create(body=manifest("four", "image:1"), namespace="default")
environments.delete(
    name="four",
    namespace="default",
    body={"apiVersion": "v1", "kind": "DeleteOptions", "propagationPolicy": "Foreground"},
)
