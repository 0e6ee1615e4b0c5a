// The official client's informer: through a restart of the server and through forgotten history.
// It tells the test what to do, one word a line, and waits for the answer on standard input.

import assert from "node:assert/strict";
import readline from "node:readline";

const k8s = await import(process.env.CLIENT);
const lines = readline.createInterface({ input: process.stdin })[Symbol.asyncIterator]();
const tell = async (word) => {
  console.log(word);
  assert.equal((await lines.next()).value, "done");
};

const config = new k8s.KubeConfig();
config.loadFromFile(process.env.KUBECONFIG);
const custom = config.makeApiClient(k8s.CustomObjectsApi);
const at = { group: "boatyard.dev", version: "v1", namespace: "default", plural: "environments" };
const environment = (name) => ({
  apiVersion: "boatyard.dev/v1",
  kind: "Environment",
  metadata: { name },
  spec: { runnerName: "none" },
});
const merge = k8s.setHeaderOptions("Content-Type", k8s.PatchStrategy.MergePatch);
const create = (name) => custom.createNamespacedCustomObject({ ...at, body: environment(name) });
const patch = (name, body) => custom.patchNamespacedCustomObject({ ...at, name, body }, merge);

// Requests, before anything is watched.
const typed = config.makeApiClient(k8s.CoreV1Api);
assert.equal((await typed.readNamespace({ name: "default" })).status.phase, "Active");
await create("a");
await assert.rejects(create("a"), (error) => error.code === 409);
const patched = await patch("a", { metadata: { labels: { tier: "front" } } });
assert.equal(patched.metadata.labels.tier, "front");
patched.spec.state = "Stopped";
const replaced = await custom.replaceNamespacedCustomObject({ ...at, name: "a", body: patched });
assert.equal(replaced.metadata.generation, 2);
await assert.rejects(
  custom.replaceNamespacedCustomObject({ ...at, name: "a", body: patched }),
  (error) => error.code === 409,
);
const objects = k8s.KubernetesObjectApi.makeApiClient(config);
const applied = await objects.patch(
  environment("ssa"), undefined, undefined, "node", undefined, k8s.PatchStrategy.ServerSideApply,
);
assert.equal(applied.metadata.managedFields[0].manager, "node");
await objects.delete(environment("ssa"));

// The informer.
const events = [];
let noticed = () => {};
const note = (kind) => (object) => {
  events.push(`${kind} ${object.metadata.name}`);
  noticed();
};
const until = async (what, condition) => {
  const deadline = Date.now() + 60_000;
  while (!(await condition())) {
    assert.ok(Date.now() < deadline, `waited for ${what}: ${events}`);
    await Promise.race([
      new Promise((resolve) => (noticed = resolve)),
      new Promise((resolve) => setTimeout(resolve, 100)),
    ]);
  }
};
const path = "/apis/boatyard.dev/v1/namespaces/default/environments";
const informer = k8s.makeInformer(config, path, () => custom.listNamespacedCustomObject(at));
informer.on("add", note("add"));
informer.on("update", note("update"));
informer.on("delete", note("delete"));
// As its documentation has it: an informer that failed is started again.
let failures = 0;
informer.on("error", () => {
  failures += 1;
  setTimeout(() => informer.start().catch(() => {}), 200);
});
await informer.start();
await until("the list", () => events.includes("add a"));
await create("b");
await until("an addition", () => events.includes("add b"));
await patch("b", { spec: { state: "Stopped" } });
await until("a change", () => events.includes("update b"));
assert.equal(informer.get("b", "default").spec.state, "Stopped");
await custom.deleteNamespacedCustomObject({ ...at, name: "b" });
await until("a removal", () => events.includes("delete b"));

// The server is killed and comes back: nothing is missed, nothing told twice.
await tell("restart");
await create("c");
await until("what came after the restart", () => events.includes("add c"));
assert.equal(events.filter((event) => event.startsWith("add a")).length, 1, events);

// The server is away while its history grows past what it keeps: the informer lists again.
await tell("forget");
await create("d");
await until("what came after it was forgotten", () => events.includes("add d"));
await until("the same objects as a list", async () => {
  const listed = await custom.listNamespacedCustomObject(at);
  const known = informer.list("default").map((object) => `${object.metadata.name}@${object.metadata.resourceVersion}`);
  const wanted = listed.items.map((object) => `${object.metadata.name}@${object.metadata.resourceVersion}`);
  return known.sort().join() === wanted.sort().join();
});
assert.ok(events.includes("delete a"), `${events}`);
await informer.stop();

// A watch from a version that is no more hears of it.
const said = await new Promise((resolve, reject) => {
  const watch = new k8s.Watch(config);
  watch.watch(path, { resourceVersion: applied.metadata.resourceVersion },
    (kind, object) => resolve(`${kind} ${object.code}`),
    (error) => resolve(`${error?.statusCode ?? error?.code ?? error}`)).catch(reject);
});
assert.match(said, /410/);
process.exit(0);
