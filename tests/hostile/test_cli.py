"""tes against a server that wants to write where it must not, to steer the terminal, or never to end."""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import pty
import random
import re
import signal
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from attack import Generator
from fakes import Fake, Reply, Request, js
from hostile_rig import DOC, OPERATIONS, environment, program

LONG = bool(os.environ.get("TES_TEST_LONG"))
SEED = os.environ.get("TES_HOSTILE_SEED", "1")
KEY = "tes_00000000000000000000000000_" + "A" * 43
WL = "wl_" + "0" * 26
ESCAPES = "\x1b[2J\x1b]0;owned\x07\x9b31m\u009b31m\u202e\r\x08\x7f"
COMMANDS = [
    ["ls"], ["show", WL], ["explain", WL], ["offers"], ["bill"], ["bill", WL], ["balance"], ["members"], ["workers"], ["whoami"],
    ["keys", "ls"], ["events"], ["logs", WL], ["logs", "-f", WL], ["results", WL], ["quote"], ["stop", WL], ["rm", WL],
    ["run", "debian:12", "true"],
]  # fmt: skip
FOLLOWS = ("logs", "events", "run")


class Server:
    def __init__(self) -> None:
        self.answers: dict[str, Reply] = {}
        self.always: Reply | None = None

    def __call__(self, request: Request) -> Reply:
        for end, reply in self.answers.items():
            if request.path.endswith(end):
                return reply
        return self.always if self.always is not None else js({}, 404)


@pytest.fixture
def server() -> Iterator[tuple[Server, Fake]]:
    made = Server()
    with Fake(made) as fake:
        yield made, fake


def run(fake: Fake, words: list[str], home: Path, timeout_s: float = 90) -> subprocess.CompletedProcess[bytes]:
    env = environment() | {"TES_URL": fake.url, "TES_KEY": KEY, "HOME": str(home), "XDG_CONFIG_HOME": str(home)}
    process = subprocess.Popen([program("tes"), *words], env=env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    # What follows something goes on for as long as the server does, but ends when it is told to.
    timer = threading.Timer(3, process.send_signal, [signal.SIGINT]) if words[0] in FOLLOWS else threading.Timer(timeout_s, process.kill)
    timer.start()
    out, text = process.communicate(timeout=timeout_s + 10)
    timer.cancel()
    check(process.returncode, words, text)
    return subprocess.CompletedProcess(words, process.returncode, out, text)


def check(status: int, words: list[str], text: bytes) -> None:
    assert (0 <= status < 126 and status != 99) or (words[0] in FOLLOWS and status in (130, -signal.SIGINT)), f"tes {words} ended with {status}: {text[-4000:]!r}"
    assert b"Sanitizer" not in text and b"runtime error" not in text, text[-4000:]


def run_on_terminal(fake: Fake, words: list[str], home: Path) -> bytes:
    """What a terminal would have been sent."""
    env = environment() | {"TES_URL": fake.url, "TES_KEY": KEY, "HOME": str(home), "XDG_CONFIG_HOME": str(home), "TERM": "xterm", "NO_COLOR": "1"}
    ours, theirs = pty.openpty()
    process = subprocess.Popen([program("tes"), *words], env=env, stdin=theirs, stdout=theirs, stderr=theirs)
    os.close(theirs)
    timer = threading.Timer(3, process.send_signal, [signal.SIGINT]) if words[0] in FOLLOWS else threading.Timer(60, process.kill)
    timer.start()
    data = b""
    try:
        while piece := os.read(ours, 65536):
            data += piece
    except OSError:
        pass  # the other end is closed
    timer.cancel()
    os.close(ours)
    check(process.wait(), words, data)
    return data


def result(path: str, content: bytes, more: dict[str, Any] | None = None) -> dict[str, Any]:
    value = {
        "id": "rs_" + "0" * 26, "workload": WL, "path": path, "sha256": hashlib.sha256(content).hexdigest(), "size_bytes": len(content),
        "mode": 0o4777, "created_ms": 1795446606000, "expires_ms": 1895446606000,
    }  # fmt: skip
    return {k: v for k, v in (value | (more or {})).items() if v is not None}


PATHS = [
    "../escape", "/tmp/tes-cli-escape", "a/../../escape", "..", ".", "", "a//b", "a/./b", "link/escape", "a\nb", "a\x1b[2Jb", "x" * 300,
    "/".join(["d"] * 2000), "a/..", "./../escape", "\u009bx", "a\\..\\b", "-rf", "~/x", "..%2fescape", "a\x00b",
]  # fmt: skip


@pytest.mark.parametrize("path", PATHS, ids=range(len(PATHS)))
def test_results_stay_in_their_folder(server: tuple[Server, Fake], tmp_path: Path, path: str) -> None:
    handler, fake = server
    out = tmp_path / "sub" / "out"
    out.mkdir(parents=True)
    (out / "link").symlink_to(tmp_path)
    content = b"owned"
    handler.answers = {
        "/results": js({"items": [result(path, content)], "complete": True}),
        "/" + "rs_" + "0" * 26: (200, "application/octet-stream", content),
    }
    run(fake, ["results", WL, "-o", str(out)], tmp_path / "home")
    outside = [p for p in tmp_path.rglob("*") if out not in p.parents and p != out and p.is_file() and "home" not in p.parts]
    assert not outside, outside
    assert not Path("/tmp/tes-cli-escape").exists()
    for made in out.rglob("*"):
        assert made.is_symlink() or not made.stat().st_mode & 0o7022 or made.is_dir(), oct(made.stat().st_mode)


@pytest.mark.parametrize(
    "more",
    [
        {"sha256": "00" * 32}, {"sha256": 'x"\r\nX: y'}, {"sha256": ""}, {"size_bytes": 10**15}, {"size_bytes": -1}, {"size_bytes": 1},
        {"id": "../../v1/keys"}, {"id": "rs_\r\nX: y"}, {"mode": 2**40}, {"mode": -1}, {"path": None}, {"id": None},
    ],
    ids=str,
)  # fmt: skip
def test_results_that_are_not_what_was_announced(server: tuple[Server, Fake], tmp_path: Path, more: dict[str, Any]) -> None:
    handler, fake = server
    handler.answers = {
        "/results": js({"items": [result("file", b"owned", more)], "complete": True}),
        "/" + "rs_" + "0" * 26: (200, "application/octet-stream", b"owned"),
    }
    # What is left of an earlier try: its digest goes into a header.
    (tmp_path / "file.part").write_bytes(b"o")
    run(fake, ["results", WL, "-o", str(tmp_path)], tmp_path / "home")
    if not {"mode"} & more.keys():
        assert not (tmp_path / "file").exists()
    assert not any(r.headers.get("x") for r in fake.seen), "a header was smuggled"


def answers_of(count: int) -> Iterator[tuple[list[str], Reply]]:
    """For each command what the operations behind it answer, with texts that steer terminals, and any values at all."""
    r = random.Random(SEED)
    op = {"method": "GET", "path": "/", "operationId": "cli", "parameters": []}
    g = Generator(DOC, op, {}, lambda *_: {}, SEED)
    schemas = [c["schema"] for o in OPERATIONS for s, a in o["responses"].items() if s[0] == "2" for c in a.get("content", {}).values() if "schema" in c]
    endless = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n" + b" " * (70 << 20)
    odd: list[Reply] = [
        b"", b"\xff" * 1000, (200, "application/json", b"[" * 200_000), (200, "text/html", ESCAPES.encode()), (418, ESCAPES[:9].encode().hex(), b""),
        js({"type": "about:blank", "title": ESCAPES, "status": 422, "code": ESCAPES, "detail": ESCAPES, "field": ESCAPES}, 422),
        b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{", b"HTTP/1.1 302 x\r\nLocation: \x1b[2J\r\nContent-Length: 0\r\n\r\n",
        (200, "text/event-stream", ("event: log\nid: 1\ndata: " + json.dumps({"seq": 1, "at_ms": 1, "text": ESCAPES}) + "\n\n").encode()),
        (200, "text/event-stream", b"event: end\ndata: x\n\n"), (200, "text/event-stream", b"data: " + b"x" * (5 << 20)),
    ]  # fmt: skip
    yield ["ls"], endless

    def steered(value: Any) -> Any:
        if isinstance(value, str) and not re.match(r"^[a-z]{2}_[0-9a-z]{26}$|^[a-z_]+$", value):
            return (ESCAPES + value)[: max(len(value), 8)]
        if isinstance(value, list):
            return [steered(v) for v in value]
        return {k: steered(v) for k, v in value.items()} if isinstance(value, dict) else value

    for n in range(count):
        words = COMMANDS[n % len(COMMANDS)]
        pick = n % 3
        yield words, odd[r.randrange(len(odd))] if pick == 0 else js(steered(g.good(r.choice(schemas)))) if pick == 1 else js(g.value())


def test_answers_that_are_none(server: tuple[Server, Fake], tmp_path: Path) -> None:
    handler, fake = server
    for words, reply in answers_of(1000 if LONG else 60):
        handler.always = reply
        run(fake, words, tmp_path)


def test_nothing_steers_the_terminal(server: tuple[Server, Fake], tmp_path: Path) -> None:
    handler, fake = server
    g = Generator(DOC, {"method": "GET", "path": "/", "operationId": "tty", "parameters": []}, {}, lambda *_: {}, SEED)
    by_path = {o["path"].rsplit("/", 1)[-1]: o for o in OPERATIONS if o["method"] == "GET"}

    def poison(schema: dict[str, Any], depth: int = 0) -> Any:
        """Every free text is an attack; the rest is as it should be."""
        inner = DOC["components"]["schemas"][schema["$ref"].rsplit("/", 1)[1]] if "$ref" in schema else schema
        if inner.get("type") == "string" and "enum" not in inner and "pattern" not in inner:
            return ESCAPES
        if inner.get("type") == "array":
            return [poison(inner["items"], depth + 1)] * 2 if depth < 5 else []
        if "properties" in inner:
            return {k: poison(v, depth + 1) for k, v in inner["properties"].items()} if depth < 6 else {}
        return g.good(inner)

    for words in COMMANDS if LONG else COMMANDS[:: 2] + [["logs", "-f", WL]]:
        handler.answers = {}
        for name, op in by_path.items():
            schema = op["responses"].get("200", {}).get("content", {}).get("application/json", {}).get("schema")
            if schema:
                handler.answers["/" + name.replace("{id}", WL)] = js(poison(schema))
        log = json.dumps({"seq": 1, "at_ms": 1795446606000, "stream": "stdout", "text": ESCAPES + "\n"})
        if "-f" in words:
            handler.answers["/logs"] = (200, "text/event-stream", f"event: log\nid: 1\ndata: {log}\n\nevent: end\ndata: {{}}\n\n".encode())
        handler.always = js({"type": "x", "title": ESCAPES, "status": 404, "code": "not_found", "detail": ESCAPES, "field": ESCAPES}, 404)
        sent = run_on_terminal(fake, words, tmp_path)
        # tes itself draws with these: carriage return, erase line, colours.
        rest = re.sub(rb"\x1b\[(\d*(;\d+)*m|K|\?25[hl])", b"", sent)
        for bad in (b"\x1b", b"\x07", b"\x08", b"\x9b31m", b"\xc2\x9b", b"\xe2\x80\xae"):
            assert bad not in rest, (words, bad, rest[:2000])
