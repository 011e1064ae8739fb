"""Clients that hold on to connections: slow, half open, idle in thousands, never reading."""

from __future__ import annotations

import contextlib
import json
import os
import resource
import socket
import time
from collections.abc import Iterator

import pytest
from hostile_rig import Target, exchange, sanitized, wait_for

LONG = bool(os.environ.get("TES_TEST_LONG"))
HEALTH = b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
DEADLINE_S = 60  # of a head, and of silence


@pytest.fixture(scope="module")
def target(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Target]:
    with sanitized(tmp_path_factory.mktemp("connections")) as made:
        yield made


def connect(target: Target, count: int, first: bytes) -> list[socket.socket]:
    """Connections with the beginning of a request on each."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(hard, 8192)), hard))
    made = []
    for _ in range(count):
        made.append(socket.create_connection(("127.0.0.1", target.port), timeout=20))
        if first:
            made[-1].sendall(first)
    return made


@contextlib.contextmanager
def held(target: Target, count: int, first: bytes) -> Iterator[list[socket.socket]]:
    made = connect(target, count, first)
    try:
        yield made
    finally:
        for sock in made:
            sock.close()


def serves(target: Target) -> None:
    """Others are served meanwhile, and soon."""
    for _ in range(10):
        began = time.monotonic()
        answers, broken = exchange(target.port, HEALTH)
        assert not broken and answers[0].status == 200
        assert time.monotonic() - began < 5


def resident_kib(target: Target) -> int:
    assert target.tesd.process
    status = open(f"/proc/{target.tesd.process.pid}/status").read()
    return int(status.split("VmRSS:")[1].split()[0])


def streams(target: Target) -> int:
    answer = exchange(target.port, b"GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")[0][0]
    for line in answer.body.decode().splitlines():
        if line.startswith("tes_http_streams "):
            return int(line.split()[1])
    return -1


STARTS = {
    "idle": b"",
    "half a head": b"GET /v1/version HTTP/1.1\r\nHost: x\r\nX-A: ",
    "no body": b"POST /v1/login HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 1000\r\n\r\n{",
    "no chunk": b"POST /v1/login HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\nff\r\n",
    "kept alive": b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n",
}


@pytest.mark.parametrize("first", STARTS.values(), ids=list(STARTS))
def test_others_are_served_while_thousands_hold_on(target: Target, first: bytes) -> None:
    before = target.tesd.counts()
    with held(target, 3000 if LONG else 1000, first):
        serves(target)
    serves(target)
    assert target.tesd.counts() == before


def test_half_open(target: Target) -> None:
    """Who closes its side, or goes away without a word, holds nothing up."""
    for first in STARTS.values():
        with held(target, 100, first) as made:
            for sock in made:
                sock.shutdown(socket.SHUT_WR)
            serves(target)
        made = connect(target, 100, first)
        for sock in made:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            sock.close()  # a reset
        serves(target)


def test_a_pipeline_that_nobody_reads(target: Target) -> None:
    request = b"GET /v1/openapi.json HTTP/1.1\r\nHost: x\r\n\r\n"
    with held(target, 20, request) as made:
        for sock in made:
            sock.settimeout(0.2)
            with contextlib.suppress(OSError):  # it stops reading from us: that is the point
                for _ in range(200):
                    sock.sendall(request * 10)
        serves(target)
    assert resident_kib(target) < 2_000_000


def test_streams_that_nobody_reads(target: Target) -> None:
    """Events pile up to a limit, and then the stream ends; tesd's memory does not grow with them."""
    head = f"GET /v1/events?follow=true HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {target.key}\r\nAccept: text/event-stream\r\n\r\n"
    tesd = target.tesd
    api = tesd.client(target.key)
    with held(target, 50, head.encode()):
        serves(target)
        for i in range(100):
            api.post("/v1/keys", {"name": f"k{i}", "role": "viewer"}).ok(201)
        serves(target)
    # And those that come and go.
    for _ in range(100):
        for sock in connect(target, 1, head.encode()):
            sock.close()
    serves(target)
    wait_for("the streams of those who left are over", lambda: streams(target) <= 0)


@pytest.mark.long
def test_slow_clients_are_ended(target: Target) -> None:
    """A byte now and then keeps nobody: a head has its deadline, a body its pace."""
    slow = {
        "head": b"GET /v1/version HTTP/1.1\r\nHost: x\r\nX-A: ",
        "body": STARTS["no body"].replace(b"1000\r\n\r\n", b"1000000\r\n\r\n"),
        "silent": STARTS["half a head"],
        "idle": b"",
        "half open": STARTS["half a head"],
    }
    with contextlib.ExitStack() as stack:
        made = {name: stack.enter_context(held(target, 50, first)) for name, first in slow.items()}
        for sock in made["half open"]:
            sock.shutdown(socket.SHUT_WR)
        ended: dict[socket.socket, float] = {}
        began = time.monotonic()
        while time.monotonic() - began < DEADLINE_S + 20 and len(ended) < sum(map(len, made.values())):
            for name, socks in made.items():
                for sock in socks:
                    if sock in ended:
                        continue
                    sock.setblocking(False)
                    try:
                        if name in ("head", "body"):
                            sock.send(b"x")
                        if not sock.recv(1000):
                            ended[sock] = time.monotonic() - began
                    except BlockingIOError:
                        pass
                    except OSError:
                        ended[sock] = time.monotonic() - began
            time.sleep(1)
        left = {name: sum(s not in ended for s in socks) for name, socks in made.items()}
        assert not any(left.values()), f"still there after {DEADLINE_S + 20} s: {json.dumps(left)}"
        serves(target)
