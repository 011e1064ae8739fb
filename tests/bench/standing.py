"""What tesd costs by being there: idle memory, start, and connected workers."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator

from peers import PeerMissing, slurm
from rig import Result, median, pairs, program, rss_mib, run, scratch, size, store, tesd, worker

INTERVAL_MS = 10000


def heartbeats() -> Iterator[Result]:
    for kind in ("sqlite", "postgresql"):
        for state, count, goal in (("idle", 10000, 20000), ("running", 2000, None)):
            with scratch() as folder, store(kind) as url:
                out = run(program("bench-heartbeat"), url, folder / "files", str(size(count, 200)), str(size(5, 1)), state)
            v = pairs(out)
            rate = float(v["rate"])
            yield Result(f"heartbeats-one-thread-{kind}-{state}", rate, "heartbeats/s", f"{goal}/s" if goal else "-",
                         rate >= goal if goal else None, more={"cpu_us_each": float(v["cpu_us_each"])})  # fmt: skip
    count = size(15000, 200)
    with store("sqlite") as url, tesd(url, network__heartbeat="10s", network__silent_after="30s") as server:
        keys = server.folder / "keys"
        run(program("bench-world"), url, server.folder, str(count), "0", keys)
        server.start()
        assert server.process
        out = run(program("bench-swarm"), str(server.port), keys, str(size(INTERVAL_MS, 1000)), str(size(30, 3)), str(server.process.pid))
        v = pairs(out)
        more = {"workers": count, "rate": float(v["rate"]), "p50_ms": float(v["p50_ms"]), "p99_ms": float(v["p99_ms"]),
                "opening_s": float(v["opening_s"]), "connecting_s": float(v["connecting_s"])}  # fmt: skip
        cpu, each = float(v["cpu_percent"]), float(v["kib_each"])
        yield Result("heartbeats-cpu", cpu, "%-of-one-core", "40%", cpu < 40, more=more)
        yield Result("heartbeats-memory", each, "KiB-each", "16KiB", each < 16, more={"rss_mib": float(v["rss_kib"]) / 1024})


def idle() -> Iterator[Result]:
    peer: dict[str, float | None] = {"slurmctld": None, "slurmd": None}
    if shutil.which("slurmctld"):
        try:
            with slurm(2) as s:
                time.sleep(3)
                peer = {"slurmctld": rss_mib(s.controller.pid), "slurmd": rss_mib(s.node.pid)}
        except PeerMissing:
            pass
    with store("sqlite") as url, tesd(url) as server:
        server.customer()
        server.start()
        with worker(server) as process:
            time.sleep(size(15, 3))
            assert server.process
            ours = {"tesd": rss_mib(server.process.pid), "tes-worker": rss_mib(process.pid)}
    for name, other, goal in (("tesd", "slurmctld", 16), ("tes-worker", "slurmd", 8)):
        yield Result(f"idle-{name}", ours[name], "MiB", f"{goal}MiB", ours[name] <= goal, other, peer[other])


def start() -> Iterator[Result]:
    workers, leases = size(10000, 100), size(100000, 500)
    with store("sqlite") as url, tesd(url) as server:
        run(program("bench-world"), url, server.folder, str(workers), str(leases))
        took = []
        for _ in range(5):
            took.append(server.start())
            server.stop()
    yield Result("start", median(took), "s", "1s", median(took) <= 1, more={"worst_s": max(took), "workers": workers, "leases": leases})
