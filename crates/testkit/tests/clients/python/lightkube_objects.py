"""lightkube: generic and typed resources, apply, patch, watch, wait, delete."""

import threading

from lightkube import ApiError, Client
from lightkube.core.exceptions import ConditionError
from lightkube.generic_resource import create_namespaced_resource
from lightkube.models.meta_v1 import ObjectMeta
from lightkube.resources.coordination_v1 import Lease
from lightkube.resources.core_v1 import Namespace
from lightkube.types import CascadeType, PatchType

client = Client(field_manager="lightkube", namespace="default")
Environment = create_namespaced_resource("boatyard.dev", "v1", "Environment", "environments")


def environment(name, **spec):
    return Environment(
        metadata=ObjectMeta(name=name, labels={"app": name}), spec={"runnerName": "none", **spec}
    )


made = client.create(environment("one"))
assert made.metadata.uid and made.spec["state"] == "Running"
version = made.metadata.resourceVersion
assert client.get(Environment, "one").metadata.uid == made.metadata.uid
try:
    client.create(environment("one"))
    raise SystemExit("created twice")
except ApiError as error:
    assert (error.status.code, error.status.reason) == (409, "AlreadyExists"), error.status

# Watching: everything after a version, in order.
seen, over = [], threading.Event()


def watch():
    for event, item in client.watch(Environment, resource_version=version):
        seen.append((event, item.metadata.name))
        if ("DELETED", "one") in seen and ("DELETED", "two") in seen:
            over.set()
            return


threading.Thread(target=watch, daemon=True).start()
patched = client.patch(Environment, "one", {"spec": {"state": "Stopped"}}, patch_type=PatchType.MERGE)
assert patched.metadata.generation == 2
patched = client.patch(
    Environment,
    "one",
    [{"op": "replace", "path": "/spec/state", "value": "Running"}],
    patch_type=PatchType.JSON,
)
assert patched.spec["state"] == "Running"
patched.spec["restartedAt"] = "once"
replaced = client.replace(patched)
assert replaced.spec["restartedAt"] == "once"
try:
    client.replace(patched)
    raise SystemExit("replaced what had changed")
except ApiError as error:
    assert (error.status.code, error.status.reason) == (409, "Conflict"), error.status

# Server-side apply, as two managers.
applied = client.apply(environment("two", devcontainer={"image": "image:1"}))
assert applied.metadata.managedFields[0].manager == "lightkube"
assert applied.metadata.managedFields[0].operation == "Apply"
try:
    client.apply(environment("two", devcontainer={"image": "image:2"}), field_manager="other")
    raise SystemExit("no conflict")
except ApiError as error:
    assert (error.status.code, error.status.reason) == (409, "Conflict")
    cause = error.status.details.causes[0]
    assert cause.reason == "FieldManagerConflict", cause
    assert cause.field == ".spec.devcontainer.image" and "lightkube" in cause.message, cause
forced = client.apply(
    environment("two", devcontainer={"image": "image:2"}), field_manager="other", force=True
)
assert forced.spec["devcontainer"]["image"] == "image:2"

assert [item.metadata.name for item in client.list(Environment, labels={"app": ["one", "two"]})] == [
    "one",
    "two",
]
assert [item.metadata.name for item in client.list(Environment, fields={"metadata.name": "two"}, chunk_size=1)] == ["two"]

condition = {
    "type": "Ready",
    "status": "True",
    "reason": "Ready",
    "message": "",
    "lastTransitionTime": "2026-01-01T00:00:00Z",
}
client.patch(
    Environment.Status,
    "two",
    {"status": {"phase": "Running", "conditions": [condition]}},
    patch_type=PatchType.MERGE,
)
ready = client.wait(Environment, "two", for_conditions=["Ready"])
assert ready.status["phase"] == "Running"
client.delete(Environment, "one", cascade=CascadeType.FOREGROUND)
client.delete(Environment, "two")
assert over.wait(30), seen
assert seen[:2] == [("MODIFIED", "one")] * 2, seen

# Typed resources of the client's own.
client.create(Namespace(metadata=ObjectMeta(name="team")))
assert client.get(Namespace, "team").status.phase == "Active"
lease = client.apply(Lease.from_dict({"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": "l"}, "spec": {"holderIdentity": "me"}}))
assert lease.spec.holderIdentity == "me"
client.deletecollection(Lease)
assert list(client.list(Lease)) == []
client.delete(Namespace, "team")
