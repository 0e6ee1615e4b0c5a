"""kr8s: objects of a class made on the spot, apply, patch, wait, watch, delete."""

import asyncio

import kr8s
from kr8s.asyncio import api as connect
from kr8s.asyncio.objects import Namespace, new_class

Environment = new_class("Environment", version="boatyard.dev/v1", namespaced=True)


def manifest(name, **labels):
    return {
        "apiVersion": "boatyard.dev/v1",
        "kind": "Environment",
        "metadata": {"name": name, "labels": labels},
        "spec": {"runnerName": "none"},
    }


async def main():
    api = await connect()
    assert (await api.version())["major"] == "1"
    kinds = {kind["name"] async for kind in resources(api)}
    assert {"environments", "namespaces", "leases"} <= kinds, kinds
    one = await Environment(manifest("one", app="web"))
    await one.create()
    assert await one.exists() and one.metadata.generation == 1

    seen = []
    watching = asyncio.Event()

    async def watch():
        async for event, item in api.watch("environments.boatyard.dev", namespace="default"):
            seen.append((event, item.name))
            watching.set()
            if event == "DELETED":
                return

    task = asyncio.create_task(watch())
    await asyncio.wait_for(watching.wait(), 30)
    await one.patch({"spec": {"state": "Stopped"}})
    assert one.spec.state == "Stopped" and one.metadata.generation == 2
    await one.label(more="1")
    await one.annotate({"note": "hello"})
    await one.refresh()
    assert one.labels == {"app": "web", "more": "1"} and one.annotations["note"] == "hello"

    two = await Environment(manifest("two", app="db"))
    await two.create()
    found = [item.name async for item in Environment.list(namespace="default", label_selector={"app": "db"})]
    assert found == ["two"], found
    found = [item.name async for item in api.get("env", namespace="default", field_selector="metadata.name=one")]
    assert found == ["one"], found

    def status(phase, ready):
        condition = {
            "type": "Ready",
            "status": ready,
            "reason": phase,
            "message": "",
            "lastTransitionTime": "2026-01-01T00:00:00Z",
        }
        return {"status": {"phase": phase, "conditions": [condition]}}

    again = await Environment.get("two", namespace="default")
    await again.patch(status("Starting", "False"), subresource="status")
    waiting = asyncio.create_task(two.wait("condition=Ready", timeout=30))
    await again.patch(status("Running", "True"), subresource="status")
    await waiting
    await two.delete(propagation_policy="Background")
    await two.wait("delete", timeout=30)
    assert not await two.exists()
    await asyncio.wait_for(task, 30)
    assert seen[0] == ("ADDED", "one") and seen[-1] == ("DELETED", "two"), seen

    team = await Namespace({"metadata": {"name": "team"}})
    await team.create()
    held = await Environment({**manifest("held"), "metadata": {"name": "held", "namespace": "team"}})
    await held.create()
    await team.delete()
    await team.wait("delete", timeout=30)
    assert not await held.exists()
    try:
        await Environment.get("nothing", namespace="default", timeout=1)
        raise SystemExit("found what is not there")
    except kr8s.NotFoundError:
        pass


async def resources(api):
    for kind in await api.api_resources():
        yield kind


asyncio.run(main())
