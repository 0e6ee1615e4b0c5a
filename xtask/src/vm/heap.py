"""Environments per gibibyte: hard limits without swap against overbooked memory, at equal latency.

An environment is a cgroup with a process like a language server: it holds the syntax trees of part of
Python's library, some 30 MiB of small objects, never zero pages. Its developer is away most of the time.
While they are there they type: a keystroke is a request that walks trees, most of it in the part that
is open, and its answer is timed; and they build once: another process in the cgroup that parses and
compiles more of the library. Developers take turns.

Hard: each environment may hold what it needs at its peak (measured), there is no swap, and as many as
fit get their turns. Overbooked: the same memory for all of them, what zram takes counted; memory.high at
the peak; of environments whose developer is away a share is reclaimed every second. The most of them
that answer in at most 1.1 times the time at the 99th percentile, without a kill, is what is compared.
Times are by emulation on two processors: ratios alone mean something.
"""

import ast
import glob
import os
import random
import select
import subprocess
import sys
import time

TOP = "/sys/fs/cgroup/overbook"
MIB = 1 << 20
HARD = 10  # environments in the hard case, which fix the memory for all
PRESENT = 2  # developers at a time
TURN = 10.0  # seconds a developer stays
PAUSE = 0.05  # between keystrokes
AWAY = 2.0  # seconds after which an environment is reclaimed from
SHARE = 0.15  # of what it holds, each second
FLOOR = 6 * MIB  # what is left to it

LIBRARY = sorted(glob.glob("/usr/lib/python3*/*.py") + glob.glob("/usr/lib/python3*/*/*.py"))


def read(path):
    with open(path) as file:
        return file.read()


def write(path, text):
    try:
        with open(path, "w") as file:
            file.write(str(text))
        return True
    except OSError:
        return False


def parse(files, most):
    """Trees of so many bytes of source."""
    trees, size = [], 0
    for name in files:
        try:
            text = open(name, encoding="utf-8").read()
            trees.append(ast.parse(text))
        except (SyntaxError, UnicodeDecodeError, ValueError):
            continue
        size += len(text)
        if size >= most:
            break
    return trees


def serve(seed):
    """The process of an environment: a line in, an answer out."""
    dice = random.Random(seed)
    files = LIBRARY[:]
    dice.shuffle(files)
    trees = parse(files, 450_000)
    nodes = [node for tree in trees for node in ast.walk(tree)]
    opened = nodes[: len(nodes) // 10]
    print("ready", len(nodes), flush=True)
    for _ in sys.stdin:
        found = 0
        for index in range(60):
            node = dice.choice(nodes if index % 20 == 0 else opened)
            for name, value in ast.iter_fields(node):
                found += len(name) + (len(value) if isinstance(value, (str, list)) else 1)
        print(found, flush=True)


def build(seed):
    dice = random.Random(seed)
    files = LIBRARY[:]
    dice.shuffle(files)
    kept = [compile(tree, "built", "exec") for tree in parse(files, 200_000)]
    return len(kept)


class Environment:
    def __init__(self, number):
        self.number = number
        self.path = f"{TOP}/e{number}"
        os.mkdir(self.path)
        write(f"{self.path}/cgroup.subtree_control", "+cpu")
        for name, weight in (("sessions", 1000), ("builds", 10)):
            os.mkdir(f"{self.path}/{name}")
            write(f"{self.path}/{name}/cpu.weight", weight)
        self.process = self.start("sessions", "serve")
        self.builder = None
        self.left = time.monotonic()

    def start(self, group, role):
        procs = f"{self.path}/{group}/cgroup.procs"
        return subprocess.Popen(
            [sys.executable, __file__, role, str(self.number)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            preexec_fn=lambda: write(procs, os.getpid()),
        )

    def ready(self):
        assert self.process.stdout.readline().startswith(b"ready"), f"{self.path} did not come up"

    def keystroke(self):
        """Seconds until the answer; None when it is no more."""
        began = time.monotonic()
        try:
            self.process.stdin.write(b"k\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            return None
        answered, _, _ = select.select([self.process.stdout], [], [], 30)
        if not answered or not self.process.stdout.readline():
            return None
        return time.monotonic() - began

    def limit(self, name, value):
        write(f"{self.path}/memory.{name}", value)

    def holds(self):
        stat = dict(line.split() for line in read(f"{self.path}/memory.stat").splitlines())
        return int(stat["anon"]) + int(stat.get("kernel", 0))

    def kills(self):
        events = dict(line.split() for line in read(f"{self.path}/memory.events").splitlines())
        return int(events["oom_kill"])

    def end(self):
        for process in (self.process, self.builder):
            if process is not None:
                process.kill()
                process.wait()
        for _ in range(500):
            try:
                for name in ("sessions", "builds"):
                    if os.path.exists(f"{self.path}/{name}"):
                        os.rmdir(f"{self.path}/{name}")
                os.rmdir(self.path)
                return
            except OSError:
                time.sleep(0.02)


def compressed():
    """Bytes zram takes."""
    return int(read("/sys/block/zram0/mm_stat").split()[2])


def percentile(times, share):
    return sorted(times)[min(len(times) - 1, int(len(times) * share))] * 1000


class Case:
    """So many environments; `pool` bytes for all of them when overbooked."""

    def __init__(self, count, each, pool):
        self.pool = pool
        self.environments = []
        if pool is not None:
            write(f"{TOP}/memory.max", pool)
        # Two at a time, as many as there are processors.
        for first in range(0, count, 2):
            pair = [Environment(number) for number in range(first, min(count, first + 2))]
            for environment in pair:
                if each is not None:
                    environment.limit("max" if pool is None else "high", each)
                if pool is None:
                    environment.limit("swap.max", 0)
            for environment in pair:
                environment.ready()
                environment.left = time.monotonic()
            self.environments += pair
            self.reclaim(())

    def reclaim(self, present):
        """What overbooking does each second."""
        if self.pool is None:
            return
        write(f"{TOP}/memory.max", self.pool - compressed())
        now = time.monotonic()
        for environment in self.environments:
            if environment in present or now - environment.left < AWAY:
                continue
            current = int(read(f"{environment.path}/memory.current"))
            if current > FLOOR:
                wanted = int(min(current * SHARE, current - FLOOR))
                write(f"{environment.path}/memory.reclaim", wanted)

    def run(self):
        times, peak, most = [], 0, 0
        order = self.environments[:]
        random.Random(1).shuffle(order)
        for first in range(0, len(order), PRESENT):
            present = order[first : first + PRESENT]
            began = second = time.monotonic()
            for environment in present:
                environment.builder = environment.start("builds", "build")
            while (now := time.monotonic()) - began < TURN:
                for environment in present:
                    taken = environment.keystroke()
                    if taken is None:
                        return None
                    times.append(taken)
                peak = max(peak, *(environment.holds() for environment in present))
                if now - second >= 1:
                    second = now
                    self.reclaim(present)
                    whole = int(read(f"{TOP}/memory.current"))
                    most = max(most, whole + (compressed() if self.pool else 0))
                time.sleep(PAUSE)
            for environment in present:
                environment.left = time.monotonic()
                if environment.builder.poll() is None:
                    environment.builder.wait()
                if environment.builder.returncode != 0:
                    return None
                environment.builder = None
        if any(environment.kills() for environment in self.environments):
            return None
        return times, peak, most

    def end(self):
        for environment in self.environments:
            environment.end()


def case(name, count, each, pool):
    began = time.monotonic()
    case = Case(count, each, pool)
    try:
        got = case.run()
    finally:
        case.end()
    took = time.monotonic() - began
    if got is None:
        print(f"overbook: {name}: {count} environments: something was killed ({took:.0f} s)", flush=True)
        return None
    times, peak, most = got
    p50, p95, p99 = (percentile(times, share) for share in (0.5, 0.95, 0.99))
    print(
        f"overbook: {name}: {count} environments, {len(times)} keystrokes, "
        f"p50 {p50:.1f} ms, p95 {p95:.1f} ms, p99 {p99:.1f} ms, "
        f"largest {peak / MIB:.1f} MiB, all {most / MIB:.0f} MiB ({took:.0f} s)",
        flush=True,
    )
    return p99, peak


def main():
    os.mkdir(TOP)
    write("/sys/fs/cgroup/cgroup.subtree_control", "+memory +cpu")
    write(f"{TOP}/cgroup.subtree_control", "+memory +cpu")
    _, peak = case("no limits", HARD, None, None)
    each = int(peak * 1.05) + 2 * MIB
    pool = HARD * each
    print(f"overbook: {each / MIB:.1f} MiB each, {pool / MIB:.0f} MiB for all", flush=True)
    hard = case("hard limits, no swap", HARD, each, None)
    assert hard is not None, "the hard limits are too small"
    subprocess.run(["busybox", "swapon", "/dev/zram0"], check=True)
    best = 0
    counts = [15, 18, 21]
    while counts:
        count = counts.pop(0)
        got = case("overbooked", count, each, pool)
        if got is not None and got[0] <= hard[0] * 1.1:
            best = count
        elif count == 15:
            counts = [13]
        else:
            break
    ratio = best / HARD
    print(f"overbook: ratio {ratio:.2f} at equal p99 (at least 1.3 is wanted, 1.5 the aim)", flush=True)
    sys.exit(0 if ratio >= 1.3 else 1)


if __name__ == "__main__":
    if sys.argv[1:2] == ["serve"]:
        serve(int(sys.argv[2]))
    elif sys.argv[1:2] == ["build"]:
        build(int(sys.argv[2]))
    else:
        main()
