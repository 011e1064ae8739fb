"""Decisions, placements, jobs and transfers a second."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator

from containers import submit_and_wait
from peers import PeerMissing, hyperqueue, slurm
from rig import Result, database, job, median, pairs, program, run, scratch, size, store, tesd, worker

KUBE_GPU_FLOOR = 180  # placements/s, kubernetes' scheduler_perf threshold for GPU claims at 5,000 nodes
SLOTS = 20  # jobs at a time, everywhere
ROUNDS = 3


def attempt(name: str, work):  # noqa: ANN001, ANN201
    try:
        return work()
    except PeerMissing as error:
        print(f"  {name} is not available: {str(error)[-300:]}")
        return None


def placement() -> Iterator[Result]:
    out = run(program("bench-place"), str(size(200000, 2000)))
    # "40 kinds  1000 workers: p50 791 ns, p99 1713 ns, 1337415/s, …; full scan 1837 ns (2 times)"
    row = re.compile(r"^(.+?)\s+(\d+) workers: p50\s+(\d+) ns, p99\s+(\d+) ns,\s+(\d+)/s.*full scan\s+(\d+) ns", re.M)
    first = 0.0
    for kind, workers, *numbers in row.findall(out):
        p50, p99, rate, scan = (float(n) for n in numbers)
        if workers == "1000":
            first = rate
        goal, ok = "-", None
        if workers == "10000":
            goal, ok = "5000", p99 < 5000
        elif workers == "1000000":
            goal, ok = "4-times-1k", first / rate <= 4
        yield Result(f"placement-{kind.replace(' ', '-')}-{workers}", p99, "ns-p99", goal, ok, "full-scan", scan,
                     {"p50_ns": p50, "rate": rate, "times_1k": first / rate})  # fmt: skip


def place_durable() -> Iterator[Result]:
    workers, workloads = size(10000, 200), size(20000, 400)
    submits = {}
    with_slurm = attempt("slurm", lambda: slurm_submits(size(100, 5)))
    if with_slurm:
        submits["slurm_submits"] = with_slurm
    with_hq = attempt("hyperqueue", lambda: hyperqueue(size(10000, 100), SLOTS))
    if with_hq:
        submits["hyperqueue_submits"] = size(10000, 100) / with_hq["submit_s"]
    for kind, goal in (("sqlite", 10000), ("postgresql", 5000)):
        rates = []
        for _ in range(ROUNDS):
            with scratch() as folder, store(kind) as url:
                out = run(program("bench-place-durable"), url, folder / "files", str(workers), str(workloads))
                rates.append(float(pairs(out)["rate"]))
        value = median(rates)
        yield Result(f"place-durable-{kind}", value, "placements/s", f"{goal}/s", value >= goal, "kube-scheduler-gpu-published",
                     float(KUBE_GPU_FLOOR), {"workers": workers, "workloads": workloads} | submits)  # fmt: skip


def slurm_submits(count: int) -> float:
    with slurm(SLOTS) as peer:
        return peer.submit_rate(count)


def slurm_jobs(count: int) -> float:
    with slurm(SLOTS) as peer:
        peer.array(2)
        return peer.array(count)


def many_jobs() -> Iterator[Result]:
    """In turns with HyperQueue, whose time is of the same size; Slurm takes most of a minute, and has one turn."""
    count = size(1000, 40)
    ours: list[float] = []
    with store("sqlite") as url, tesd(url) as server:
        key = server.customer()
        server.start()
        with worker(server, "tes-worker-processes", share__cpus="2", jail__required="false"):
            spec = job(["true"], cpu_milli=2000 // SLOTS)
            submit_and_wait(server, key, 2, spec)

            def turns() -> float:
                peer = []
                for _ in range(size(5, 1)):
                    ours.append(submit_and_wait(server, key, count, spec))
                    peer.append(hyperqueue(count, SLOTS)["seconds"])
                return median(peer)

            hq = attempt("hyperqueue", turns)
            if not hq:
                ours = [submit_and_wait(server, key, count, spec) for _ in range(ROUNDS)]
    value = median(ours)
    for name, peer in {"slurm": attempt("slurm", lambda: slurm_jobs(count)), "hyperqueue": hq}.items():
        yield Result(f"many-jobs-vs-{name}", value, "s", "ahead", value < peer if peer else None,
                     name if peer else f"{name}-not-available", peer, {"jobs": count, "jobs_per_s": count / value})  # fmt: skip


def pgbench(url: str) -> float:
    """Transactions a second of its simple update, eight clients."""
    run("pgbench", "-i", "-q", "-s", "10", url)
    out = run("pgbench", "-N", "-n", "-c", "8", "-j", "1", "-M", "prepared", "-T", str(size(8, 2)), url)
    match = re.search(r"tps = ([\d.]+)", out)
    assert match, out
    return float(match[1])


def ledger() -> Iterator[Result]:
    seconds = str(size(5, 1))
    rates: list[float] = []
    for _ in range(ROUNDS):
        with store("sqlite") as url:
            rates.append(ledger_rate(url, seconds))
    yield Result("ledger-sqlite", median(rates), "transfers/s", "100000/s", median(rates) >= 100000)
    rates, peers = [], []
    for _ in range(ROUNDS):
        with database() as url:
            rates.append(ledger_rate(url, seconds))
        with database() as url:
            peers.append(pgbench(url))
    yield Result("ledger-postgresql", median(rates), "transfers/s", "10x", median(rates) >= 10 * median(peers), "pgbench-N",
                 median(peers))  # fmt: skip


def ledger_rate(url: str, seconds: str) -> float:
    return float(pairs(run(program("bench-ledger"), url, seconds, *os.environ.get("TES_BENCH_LEDGER", "8000 20000").split()))["value"])
