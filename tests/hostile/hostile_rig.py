"""A tesd with sanitizers and somebody to attack it."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "api"))

import harness  # noqa: E402
from attack import CLOSES, KEEPS, WAITS, Signer  # noqa: E402
from harness import SqliteStore, Tesd, wait_for  # noqa: E402, F401
from worker import Link, inventory_of  # noqa: E402

ROOT = harness.ROOT
ANSWER_MAX = 8 << 20
TIMEOUT_S = 30.0
SHORT_S = 0.05


def build_dir() -> Path:
    given = os.environ.get("TES_ASAN_BUILD_DIR")
    if given:
        return Path(given)
    return ROOT / "build-asan" if (ROOT / "build-asan" / "src" / "control" / "tesd").exists() else ROOT / "build"


def program(name: str) -> Path:
    folder = {"tesd": "control", "tes-worker": "worker", "tes": "cli"}[name]
    return build_dir() / "src" / folder / name


def environment() -> dict[str, str]:
    # TES_ENGINE_SOCKET and the like say it to the tests; to a program they would outdo its configuration.
    return {k: v for k, v in os.environ.items() if not k.startswith("TES_")} | {
        "ASAN_OPTIONS": "detect_leaks=1:abort_on_error=0:exitcode=99",
        "UBSAN_OPTIONS": "halt_on_error=1:print_stacktrace=1:exitcode=99",
    }


DOC = json.loads(subprocess.run([program("tesd"), "openapi"], capture_output=True, check=True, env=environment()).stdout)
OPERATIONS: list[dict[str, Any]] = [
    {"method": m.upper(), "path": p, **op} for p, methods in DOC["paths"].items() for m, op in methods.items()
]


# ---- one connection


@dataclass
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)


def answers_in(data: bytes) -> tuple[list[Answer], str]:
    """The answers that a connection carried, and what is wrong with the form of one."""
    found: list[Answer] = []
    while data:
        head, end, rest = data.partition(b"\r\n\r\n")
        if not end:
            return found, f"an answer ends within its head: {data[:200]!r}"
        lines = head.decode("latin-1").split("\r\n")
        words = lines[0].split(" ")
        if len(words) < 2 or not words[0].startswith("HTTP/1.") or not words[1].isdigit():
            return found, f"no answer of HTTP: {data[:200]!r}"
        headers = {k.strip().lower(): v.strip() for k, _, v in (line.partition(":") for line in lines[1:])}
        status = int(words[1])
        if status == 100:
            data = rest
            continue
        if headers.get("content-type", "").startswith("text/event-stream"):
            return [*found, Answer(status, headers, rest)], ""
        length = int(headers.get("content-length", "0"))
        if "transfer-encoding" in headers or len(rest) < length:
            return found, f"an answer is cut: {lines[0]} {headers} {len(rest)} bytes"
        found.append(Answer(status, headers, rest[:length]))
        # libmicrohttpd's own words are longer than it says; it closes behind them.
        data = b"" if headers.get("connection") == "close" else rest[length:]
    return found, ""


def exchange(port: int, raw: bytes, then: str = CLOSES) -> tuple[list[Answer], str]:
    """Sends the bytes on a connection of their own and reads to its end (or to the beginning of a stream)."""
    data = bytearray()
    with socket.create_connection(("127.0.0.1", port), timeout=SHORT_S if then == WAITS else TIMEOUT_S) as sock:
        # A server that has seen enough answers and closes before everything is sent.
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            sock.sendall(raw)
        try:
            while piece := sock.recv(65536):
                data += piece
                if b"text/event-stream" in data[:2000] and b"\r\n\r\n" in data or len(data) > ANSWER_MAX:
                    break
                if then != CLOSES:
                    sock.settimeout(SHORT_S)
        except ConnectionResetError:
            pass
        except TimeoutError:
            if then == CLOSES or then == KEEPS and not data:
                return [], f"neither answered nor closed within {TIMEOUT_S} s; so far {bytes(data[:200])!r}"
    return answers_in(bytes(data))


# ---- who is attacked


@dataclass
class Target:
    tesd: Tesd
    port: int
    link: Link
    key: str
    other_key: str
    inventory: dict[str, Any] = field(default_factory=inventory_of)

    def alive(self) -> bool:
        return self.tesd.process is not None and self.tesd.process.poll() is None

    def signer(self, op: dict[str, Any]) -> Signer:
        security = op.get("security")
        if security:
            return self.sign_worker
        return self.sign_public if security == [] else self.sign_key

    def sign_public(self, method: str, target: str, body: bytes, creds: str) -> dict[str, str]:
        return {} if creds in ("valid", "none") else self.sign_key(method, target, body, creds)

    def sign_key(self, method: str, target: str, body: bytes, creds: str) -> dict[str, str]:
        del method, target, body
        values = {
            "valid": f"Bearer {self.key}",
            "random": f"Bearer tes_{secrets.token_hex(13)}_{secrets.token_urlsafe(32)}",
            "scheme": "Basic dGVzOnRlcw==",
            "cut": f"Bearer {self.key[:-1]}",
            "long": f"Bearer {self.key}{'x' * 3000}",
            "empty": "",
            "other": f"Bearer {self.other_key}",
            "bytes": f"Bearer {self.key[:-1]}\xff",
        }
        return {} if creds == "none" else {"Authorization": values[creds]}

    def sign_worker(self, method: str, target: str, body: bytes, creds: str) -> dict[str, str]:
        if creds == "none":
            return {}
        if creds in ("other", "scheme"):
            return self.sign_key(method, target, body, "valid")
        headers = self.link.signed(method, target, body)
        if creds == "random":
            headers["TES-MAC"] = secrets.token_hex(32)
        elif creds == "cut":
            headers["TES-MAC"] = headers["TES-MAC"][:-1]
        elif creds == "long":
            headers["TES-Nonce"] = "9" * 200
        elif creds == "empty":
            headers["TES-Session"] = ""
        elif creds == "bytes":
            headers["TES-Time"] = "-9223372036854775808"
        return headers


@contextlib.contextmanager
def sanitized(directory: Path, **settings: str) -> Iterator[Target]:
    """A running tesd with sanitizers; at the end it must stop in order, with no leak and no error in its log."""
    saved = {name: os.environ.get(name) for name in ("TES_BUILD_DIR", "ASAN_OPTIONS", "UBSAN_OPTIONS")}
    os.environ.update(environment() | {"TES_BUILD_DIR": str(build_dir() / "src" / "control")})
    named = {"network.heartbeat": "10s", "network.silent_after": "1h", "network.grace": "2h", "log.level": "info"}
    tesd = Tesd(directory, SqliteStore(directory), named | {k.replace("__", ".", 1): v for k, v in settings.items()})
    try:
        tesd.start()
        customer, provider = tesd.org("customer", credit="1000"), tesd.org("provider")
        link = Link(tesd.url)
        link.join(provider.join_token(), inventory_of())
        link.open()
        link.observe(inventory=inventory_of())
        yield Target(tesd, tesd.port, link, customer.key(), provider.key())
        assert tesd.process and tesd.process.poll() is None, f"tesd has ended by itself:\n{tesd.log()[-8000:]}"
        tesd.audit()
        status = tesd.stop()
        assert status == 0, f"tesd ended with {status}:\n{tesd.log()[-8000:]}"
        assert not tesd.errors(), "tesd logged errors:\n" + "\n".join(tesd.errors()[:20])
    finally:
        if tesd.process:
            tesd.kill()
        for name, value in saved.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
