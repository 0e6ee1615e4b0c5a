"""The official client's leader election on a Lease: one leads, and another when it no longer can."""

import os
import threading

from kubernetes import client, config
from kubernetes.leaderelection import electionconfig, leaderelection
from kubernetes.leaderelection.resourcelock.leaselock import LeaseLock

config.load_kube_config()
events, told = [], threading.Condition()


def note(word):
    with told:
        events.append(word)
        told.notify_all()


def until(word):
    with told:
        assert told.wait_for(lambda: word in events, timeout=60), (word, events)


def stand(lock):
    name = lock.identity
    settings = electionconfig.Config(
        lock,
        # Long beside the deadline: who was cut off says so before another one may lead.
        lease_duration=15,
        renew_deadline=2,
        retry_period=1,
        onstarted_leading=lambda: note(f"{name} leads"),
        onstopped_leading=lambda: note(f"{name} stopped"),
    )
    threading.Thread(target=leaderelection.LeaderElection(settings).run, daemon=True).start()


def holder():
    return leases.read_namespaced_lease("lock", "default").spec.holder_identity


leases = client.CoordinationV1Api()
first, second = LeaseLock("lock", "default", "first"), LeaseLock("lock", "default", "second")
stand(first)
until("first leads")
assert holder() == "first"
stand(second)
made = leases.read_namespaced_lease("lock", "default").spec
# The leader is cut off: it stops by itself, and the other one waits until the lease has run out.
first.update = lambda *_: False
until("first stopped")
until("second leads")
taken = leases.read_namespaced_lease("lock", "default").spec
assert taken.holder_identity == "second"
assert taken.acquire_time > made.renew_time, (made, taken)
assert events == ["first leads", "first stopped", "second leads"], events
# The second leads until the end: its thread is not waited for.
os._exit(0)
