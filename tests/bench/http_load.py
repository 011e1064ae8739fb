"""Requests a second over HTTP: tesd and its peer in turn, on one PostgreSQL, with the same load from wrk."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from pathlib import Path

from peers import fastapi
from rig import Api, PeerMissing, Result, job, median, run, scratch, size, store, tesd

CONNECTIONS = 64
ROUNDS = 3

REPORT = """
function done(summary, latency)
	local e = summary.errors
	io.write(string.format("rate=%f p50_ms=%f p99_ms=%f bad=%d\\n", summary.requests / summary.duration * 1e6,
		latency:percentile(50) / 1000, latency:percentile(99) / 1000, e.connect + e.read + e.write + e.status + e.timeout))
end
"""


def wrk(url: str, key: str, folder: Path, body: str | None = None) -> dict[str, float]:
    script = [REPORT]
    if body:
        script.append(f"wrk.method = 'POST'\nwrk.body = [[{body}]]\nwrk.headers['Content-Type'] = 'application/json'\n")
    (folder / "load.lua").write_text("".join(script))
    out = run("wrk", "-t1", "--timeout", "30s", f"-c{CONNECTIONS}", f"-d{size(8, 2)}s", "--latency", "-H", f"Authorization: Bearer {key}", "-s",
              folder / "load.lua", url)  # fmt: skip
    found = dict(re.findall(r"(\w+)=([\d.]+)", out))
    if float(found["bad"]):
        raise RuntimeError(f"{found['bad']} requests to {url} were not answered 2xx: {out}")
    return {k: float(v) for k, v in found.items()}


@contextlib.contextmanager
def both(kind: str = "postgresql") -> Iterator[tuple[str, str, int | None]]:
    """tesd with a key and money, and the peer on the same database: URL, key, port of the peer."""
    with store(kind) as url, tesd(url) as server:
        key = server.customer()
        server.start()
        with contextlib.ExitStack() as stack:
            try:
                peer = stack.enter_context(fastapi(url))
            except PeerMissing as error:
                print(f"  no peer: {error}")
                peer = None
            yield server.url, key, peer


def in_turn(ours: str, peer: str | None, key: str, folder: Path, body: str | None = None) -> tuple[list, list]:
    a, b = [], []
    for _ in range(ROUNDS):
        a.append(wrk(ours, key, folder, body))
        if peer:
            b.append(wrk(peer, key, folder, body))
    return a, b


def result(name: str, a: list, b: list, goal: float, lower_p99: bool) -> Result:
    rate, p99 = median([r["rate"] for r in a]), median([r["p99_ms"] for r in a])
    more = {"p50_ms": median([r["p50_ms"] for r in a]), "p99_ms": p99}
    if not b:
        return Result(name, rate, "requests/s", f"{goal:g}x", None, "not-available", None, more)
    peer, peer_p99 = median([r["rate"] for r in b]), median([r["p99_ms"] for r in b])
    more |= {"peer_p50_ms": median([r["p50_ms"] for r in b]), "peer_p99_ms": peer_p99}
    ok = rate >= goal * peer and (not lower_p99 or p99 < peer_p99)
    return Result(name, rate, "requests/s", f"{goal:g}x{',lower-p99' if lower_p99 else ''}", ok, "fastapi", peer, more)


def read_workload() -> Iterator[Result]:
    with scratch() as folder, both() as (url, key, peer):
        api = Api(url, key)
        ident = api.call("POST", "/v1/workloads", job(["true"]))["id"]
        path = f"/v1/workloads/{ident}"
        a, b = in_turn(url + path, peer and f"http://127.0.0.1:{peer}{path}", key, folder)
        yield result("read-workload", a, b, 5, True)


def submit() -> Iterator[Result]:
    import json

    body = json.dumps({"image": "docker.io/library/debian:12", "command": ["true"], "max_price_uusd_h": 1000,
                       "max_duration_s": 3600, "resources": {"cpu_milli": 1000, "memory_mib": 64, "disk_mib": 64}})  # fmt: skip
    with scratch() as folder, both() as (url, key, peer):
        a, b = in_turn(f"{url}/v1/workloads", peer and f"http://127.0.0.1:{peer}/v1/workloads", key, folder, body)
        yield result("submit", a, b, 4, False)
