"""tes-worker against a server that is not what it says: it must not end by a fault, and run nothing that it cannot check.

The engine is a fake that writes down what it is asked to make.
"""

from __future__ import annotations

import itertools
import json
import os
import random
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nacl.bindings
import pytest
from attack import Generator, ident
from fakes import Fake, Reply, Request, engine_reply, js
from hostile_rig import DOC, environment, program, wait_for

LONG = bool(os.environ.get("TES_TEST_LONG"))
SEED = os.environ.get("TES_HOSTILE_SEED", "1")
WORKER = "wk_" + "0" * 26
LEASE: dict[str, Any] = {
    "lease": "le_" + "0" * 26, "workload": "wl_" + "0" * 26, "generation": 1, "rev": 1, "desired": "run", "image": "debian:12",
    "command": ["true"], "resources": {"cpu_milli": 100, "memory_mib": 64, "disk_mib": 64}, "grace_ms": 3600000,
    "funded_ms": 3600000,
}  # fmt: skip


def event(name: str, value: Any, ident_: str = "1") -> bytes:
    text = value if isinstance(value, str) else json.dumps(value)
    return f"event: {name}\nid: {ident_}\ndata: {text}\n\n".encode()


def stream(*events: bytes) -> bytes:
    return b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n" + b"".join(events)


class Server:
    """Speaks the protocol well enough to be believed, but for what a test replaces."""

    def __init__(self) -> None:
        self.streams: Iterator[bytes] = iter(())
        self.replies: dict[str, Iterator[Reply]] = {}
        self.given = 0

    def __call__(self, request: Request) -> Reply:
        name = request.path.rsplit("/", 1)[-1]
        replaced = next(self.replies.get(name, iter(())), None)
        if replaced is not None:
            self.given += 1
            return replaced
        now = time.time_ns() // 1_000_000
        if name == "join":
            return js({"worker_id": WORKER, "org_id": "or_" + "0" * 26}, 201)
        if name == "session":
            theirs = nacl.bindings.crypto_scalarmult_base(b"\x07" * 32).hex()
            return js({"id": "ss_" + "0" * 26, "exchange_key": theirs, "expires_ms": now + 10**7, "heartbeat_ms": 200, "server_time_ms": now})
        if name == "observed":
            return js({"receipts_taken": 0, "desired_rev": 0, "server_time_ms": now, "heartbeat_ms": 200})
        if name == "desired":
            self.given += 1
            more = next(self.streams, None)
            if more is None:
                time.sleep(0.2)
            return stream(b": nothing more\n\n") if more is None else more
        return js({"type": "about:blank", "title": "no", "status": 404, "code": "not_found", "detail": "no"}, 404)


class Worker:
    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.server = Server()
        self.fake = Fake(self.server)
        self.engine = Fake(engine_reply, unix=directory / "engine.sock")
        self.config = directory / "worker.conf"
        self.config.write_text(
            f"[worker]\nstate_dir = {directory}/state\n[engine]\nsocket = {directory}/engine.sock\n[images]\nallow_local = *\n[jail]\nrequired = false\n"
            "[gpu]\nsimulated = 1x Sim 1024\n"
        )
        self.log = directory / "worker.log"
        self.process: subprocess.Popen[bytes] | None = None

    def command(self, *words: str) -> list[str]:
        return [str(program("tes-worker")), "-c", str(self.config), *words]

    def start(self) -> None:
        done = subprocess.run(self.command("join", self.fake.url, "--token", "t"), env=environment(), capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stderr
        with self.log.open("wb") as out:
            self.process = subprocess.Popen(self.command("run"), env=environment(), stdout=out, stderr=out)
        wait_for("it asks for its leases", lambda: any(r.path.endswith("desired") for r in self.fake.seen) or not self.alive())

    def alive(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def stop(self) -> None:
        """In order, whatever it was sent: no fault, no leak."""
        assert self.process
        if self.alive():
            self.process.send_signal(signal.SIGTERM)
        try:
            status = self.process.wait(60)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise AssertionError(f"tes-worker does not end on SIGTERM:\n{self.text()}") from None
        assert status in (0, 3), f"tes-worker ended with {status}:\n{self.text()}"
        assert "runtime error" not in self.text() and "Sanitizer" not in self.text(), self.text()

    def text(self) -> str:
        return self.log.read_text(errors="replace")[-8000:]

    def made(self) -> list[Request]:
        return [r for r in self.engine.seen if r.path.endswith("/containers/create")]

    def feed(self, streams: list[bytes], timeout_s: float = 120) -> None:
        """Sends these, one a connection; until the worker has asked for them all."""
        self.server.given = 0
        self.server.streams = iter(streams)
        wait_for("the worker asks again and again", lambda: self.server.given > len(streams) or not self.alive(), timeout_s)
        assert self.alive(), f"tes-worker ended with {self.process and self.process.returncode}:\n{self.text()}"


@pytest.fixture
def worker(tmp_path: Path) -> Iterator[Worker]:
    made = Worker(tmp_path)
    with made.fake, made.engine:
        made.start()
        try:
            yield made
            made.stop()
        finally:
            if made.alive() and made.process:
                made.process.kill()
                made.process.wait()


def desired_values(count: int) -> Iterator[Any]:
    """Leases of the right form with one wrong value each, and any values at all."""
    op = {"method": "GET", "path": "/", "operationId": "desired", "parameters": []}
    g = Generator(DOC, op, {}, lambda *_: {}, SEED)
    fields = DOC["components"]["schemas"]["desired_lease"]["properties"]
    wrong = [{**LEASE, name: value} for name, sub in fields.items() for value in g.bad_values(sub) if name not in ("workload", "rev")]
    g.r.shuffle(wrong)
    kinds = itertools.cycle([lambda: g.value(), lambda: [g.value()], lambda: {**LEASE, "resources": g.value()}, lambda: {**LEASE, "inputs": [g.value()]}])
    yield from itertools.islice(itertools.chain(wrong, (next(kinds)() for _ in itertools.count())), count)


def refused(value: Any) -> bool:
    """Whether no reading of it makes it a lease that could run."""
    return not isinstance(value, dict) or any(
        key in LEASE and type(value.get(key)) is not type(LEASE[key]) for key in ("lease", "generation", "image", "resources", "command")
    )


def test_a_good_lease_reaches_the_engine(worker: Worker) -> None:
    """Else the others would show nothing."""
    worker.server.streams = iter([stream(event("sync", {"rev": 1, "leases": [LEASE]}))] * 100)
    wait_for("the engine is asked for a container", lambda: worker.made() or not worker.alive())
    assert worker.made()[0].query == "name=tes-" + LEASE["lease"]


def test_leases_that_are_none(worker: Worker) -> None:
    values = list(itertools.islice(filter(refused, desired_values(10_000)), 300 if LONG else 40))
    for i in range(0, len(values), 20):
        # Several on one connection: the first that cannot be read ends it, so each comes first once.
        worker.feed([stream(event(random.Random(i).choice(["lease", "sync"]), v)) for v in values[i : i + 20]], 300)
    assert not worker.made(), worker.made()[0]


def test_streams_that_are_none(worker: Worker) -> None:
    r = random.Random(SEED)
    text = json.dumps({"rev": 1, "leases": [LEASE]})
    streams = [
        b"", b"HTTP/1.1 200 OK\r\n", b"\xff" * 1000, b"HTTP/1.1 200 OK\r\nContent-Length: 99999\r\n\r\nevent: sync\n",
        b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n" + b"X: " + b"y" * 300_000 + b"\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n" + b"".join(b"X-%d: y\r\n" % i for i in range(20_000)) + b"\r\n",
        b"HTTP/1.1 204 No Content\r\n\r\n", b"HTTP/1.1 999 x\r\nContent-Length: 2\r\n\r\n{}", b"HTTP/0.9 200\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\nx",
        stream(b"event: sync\ndata: " + b"[" * 100_000 + b"\n\n"), stream(b"data: x" * 500_000), stream(b"\n" * 500_000),
        stream(b"event: sync\nid: \x00\ndata: {}\n\n"), stream(b"id: " + b"9" * 5000 + b"\nevent: sync\ndata: {\"rev\":1,\"leases\":[]}\n\n"),
        stream(event("sync", "null")), stream(event("sync", "{}")), stream(event("lease", "{}")), stream(event("other", "\x1b[2J")),
        stream(event("sync", {"rev": 2**53, "leases": []}, "a\rb")), stream(event("sync", {"rev": -1, "leases": []})),
        b"HTTP/1.1 503 x\r\nRetry-After: 99999999999999999999\r\nContent-Type: application/problem+json\r\nContent-Length: 3\r\n\r\n{}\n",
    ]  # fmt: skip
    for _ in range(200 if LONG else 20):
        cut = r.randrange(1, len(text) - 5)
        raw = bytearray(text.encode())
        raw[cut] ^= 1 << r.randrange(8)
        streams.append(stream(event("sync", text[:cut])))
        if b'"run"' not in raw or b'"image"' not in raw:
            streams.append(stream(b"event: sync\ndata: " + bytes(raw) + b"\n\n"))
    worker.feed(streams, 300)
    assert not worker.made(), worker.made()[0]


def test_inputs_that_are_not_what_was_announced(worker: Worker) -> None:
    lease = {**LEASE, "inputs": [{"id": "in_" + "0" * 26, "name": "x", "sha256": "ab" * 32, "size_bytes": 1536}]}
    worker.server.replies["in_" + "0" * 26] = itertools.cycle([(200, "application/octet-stream", b"\0" * 1536), b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nx"])
    worker.server.streams = iter([stream(event("sync", {"rev": 1, "leases": [lease]}))])
    wait_for("the input is fetched", lambda: worker.server.given >= 2 or not worker.alive())
    wait_for("its end is told", lambda: any(b"input_failed" in r.body for r in worker.fake.seen if r.path.endswith("observed")), 60)
    assert not worker.made()


def test_too_many_leases(worker: Worker) -> None:
    """A server may not make the worker end by the number of what it sends."""
    r = random.Random(SEED)
    count = 6000 if LONG else 500
    many = [{**LEASE, "lease": ident(r, "le"), "generation": 1, "resources": {"cpu_milli": 1024000, "memory_mib": 16777216}} for _ in range(count)]
    worker.feed([stream(*(event("lease", lease) for lease in many[i : i + 500])) for i in range(0, count, 500)], 200)
    assert not worker.made()


def test_answers_that_are_none(worker: Worker) -> None:
    """To sessions, observations, and joining."""
    op = {"method": "GET", "path": "/", "operationId": "answers", "parameters": []}
    g = Generator(DOC, op, {}, lambda *_: {}, SEED)
    odd: list[Reply] = [
        b"", b"\x00" * 100, b"HTTP/1.1 200 OK\r\n\r\n", (200, "text/html", b"<html>"), (200, "application/json", b"[" * 100_000),
        (500, "application/problem+json", b'{"detail":"\\u001b[2J' + b"x" * 5000 + b'"}'), (401, "x", b""), (409, "x", b"{}"),
        (200, "application/json", b'{"id":"ss_1\\r\\nX: y","exchange_key":"00"}'), (429, "x", b"\xff"),
        js({"id": "ss_" + "0" * 26, "exchange_key": "00" * 32, "expires_ms": 253402300799999, "heartbeat_ms": 2**53, "server_time_ms": 0}),
        js({"id": "x" * 100, "exchange_key": "zz" * 32, "expires_ms": 0, "heartbeat_ms": 0, "server_time_ms": 253402300799999}),
        js({"receipts_taken": 2**53, "desired_rev": 2**53, "server_time_ms": 253402300799999, "heartbeat_ms": 1}),
    ]  # fmt: skip
    odd += [js(g.value()) for _ in range(60 if LONG else 10)]
    for name in ("observed", "session"):
        worker.server.given = 0
        worker.server.replies[name] = iter(list(odd))
        if name == "session":
            worker.server.replies["observed"] = iter([(401, "application/problem+json", b'{"code":"unauthenticated","detail":"no"}')] * 200)
        wait_for("it keeps asking", lambda: worker.server.given >= 8 or not worker.alive(), 120)
        assert worker.alive(), f"tes-worker ended with {worker.process and worker.process.returncode}:\n{worker.text()}"
        worker.server.replies.clear()
    assert not worker.made()
