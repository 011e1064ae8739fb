"""What every measurement stands on: our programs, a tesd of its own, a worker, PostgreSQL, and how results are printed."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import shutil
import signal
import statistics
import subprocess
import tempfile
import time
import urllib.parse
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
BUILD = Path(os.environ["TES_BENCH_BUILD"])
IMAGE = "tes-test/busybox:1"
QUICK = bool(os.environ.get("TES_BENCH_QUICK"))


class PeerMissing(Exception):
    """The peer cannot be had here; the measurement stands without it."""


def size(full: int, quick: int) -> int:
    """--quick shows that a measurement works; its numbers mean nothing."""
    return quick if QUICK else full


@dataclass
class Result:
    """One line.  `ratio` is ours to the peer's; `ok` says whether the goal is reached."""

    name: str
    value: float
    unit: str
    goal: str
    ok: bool | None
    peer: str = "-"
    peer_value: float | None = None
    more: dict[str, Any] = field(default_factory=dict)

    def print(self) -> None:
        ratio = self.value / self.peer_value if self.peer_value else None
        words = [
            f"bench {self.name}",
            f"value={number(self.value)}",
            f"unit={self.unit}",
            f"peer={self.peer}",
            f"peer_value={number(self.peer_value)}",
            f"ratio={number(ratio)}",
            f"goal={self.goal}",
            "-" if self.ok is None else "ok" if self.ok else "short",
            *(f"{key}={number(value)}" for key, value in self.more.items()),
        ]
        print(" ".join(words), flush=True)


def number(value: Any) -> str:
    if value is None:
        return "-"
    if not isinstance(value, float):
        return str(value)
    return f"{value:.0f}" if abs(value) >= 1000 else f"{value:.4g}"


def program(name: str) -> Path:
    for folder in ("src/control", "src/worker", "src/cli", "src/sched", "src/ledger", "tests/bench"):
        path = BUILD / folder / name
        if path.exists():
            return path
    raise FileNotFoundError(f"{name} is not built below {BUILD}")


def run(*words: str | Path, **more: Any) -> str:
    """Runs to its end; its output, or an error with its last words."""
    done = subprocess.run([str(w) for w in words], capture_output=True, text=True, check=False, **more)
    if done.returncode != 0:
        raise RuntimeError(f"{words[0]} ended with {done.returncode}: {(done.stdout + done.stderr)[-2000:]}")
    return done.stdout


def pairs(text: str) -> dict[str, str]:
    """The key=value words of a program's output."""
    return dict(word.split("=", 1) for word in text.split() if "=" in word)


def wait_for(what: str, condition: Callable[[], Any], timeout_s: float = 60, every_s: float = 0.02) -> Any:
    deadline = time.monotonic() + timeout_s
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            raise RuntimeError(f"not within {timeout_s} s: {what}")
        time.sleep(every_s)


def end(process: subprocess.Popen[Any]) -> None:
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@contextlib.contextmanager
def scratch() -> Iterator[Path]:
    path = Path(tempfile.mkdtemp(prefix="tes-bench."))
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


def rss_mib(pid: int) -> float:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1024
    raise RuntimeError(f"process {pid} has no VmRSS")


def median(values: list[float]) -> float:
    return statistics.median(values)


# ---- PostgreSQL ---------------------------------------------------------------------------------------


def postgres() -> str:
    """URI of the server that scripts/bench has started."""
    return os.environ["TES_TEST_POSTGRES"]


@contextlib.contextmanager
def database() -> Iterator[str]:
    """A new database there; gone afterwards."""
    name = f"bench_{os.getpid()}_{time.monotonic_ns()}"
    run("psql", "-Xq", "-d", postgres(), "-c", f"CREATE DATABASE {name}")
    try:
        yield urllib.parse.urlunsplit(urllib.parse.urlsplit(postgres())._replace(path=f"/{name}"))
    finally:
        run("psql", "-Xq", "-d", postgres(), "-c", f"DROP DATABASE {name} WITH (FORCE)")


@contextlib.contextmanager
def store(kind: str) -> Iterator[str]:
    """An empty store of either kind."""
    if kind == "postgresql":
        with database() as url:
            yield url
    else:
        with scratch() as folder:
            yield f"sqlite:{folder}/tes.db"


# ---- tesd ----------------------------------------------------------------------------------------------


class Tesd:
    """A tesd with what an operator would set up: two organisations, money, a key."""

    def __init__(self, folder: Path, database_url: str, settings: dict[str, str] | None = None) -> None:
        self.folder = folder
        self.config = folder / "tesd.conf"
        self.process: subprocess.Popen[bytes] | None = None
        self.port = free_port()
        values = {
            "server.listen_port": str(self.port),
            "server.public_url": self.url,
            "store.database": database_url,
            "store.blobs": f"file:{folder}/blobs",
            "store.secret_key_file": f"{folder}/secret.key",
            "limits.workloads_active_max": "10000000",
        } | (settings or {})
        sections: dict[str, list[str]] = {}
        for name, value in values.items():
            section, key = name.split(".")
            sections.setdefault(section, []).append(f"{key} = {value}\n")
        self.config.write_text("".join(f"[{name}]\n{''.join(lines)}" for name, lines in sections.items()))

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def command(self, *words: str) -> str:
        return run(program("tesd"), *words, "-c", self.config)

    def admin(self, *words: str) -> Any:
        return json.loads(self.command("admin", *words, "--json"))

    def start(self) -> float:
        """Seconds until it is ready."""
        began = time.monotonic()
        with (self.folder / "tesd.log").open("ab") as log:
            self.process = subprocess.Popen([program("tesd"), "run", "-c", self.config], stdout=log, stderr=log)
        wait_for("tesd is ready", self.is_ready, every_s=0.002)
        return time.monotonic() - began

    def is_ready(self) -> bool:
        if self.process and self.process.poll() is not None:
            raise RuntimeError(f"tesd ended: {(self.folder / 'tesd.log').read_text()[-2000:]}")
        conn = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        try:
            conn.request("GET", "/readyz")
            return conn.getresponse().status == 200
        except OSError:
            return False
        finally:
            conn.close()

    def stop(self) -> None:
        if self.process:
            end(self.process)
            self.process = None

    def customer(self, credit: str = "100000.00") -> str:
        """The API key of a new organisation with money."""
        self.command("migrate")
        self.admin("org", "create", "customer")
        self.admin("credit", "customer", credit)
        return self.admin("key", "create", "--org", "customer", "--role", "owner")["secret"]


@contextlib.contextmanager
def tesd(database_url: str, **settings: str) -> Iterator[Tesd]:
    """Not started yet.  Settings as section__key."""
    with scratch() as folder:
        server = Tesd(folder, database_url, {key.replace("__", ".", 1): value for key, value in settings.items()})
        try:
            yield server
        finally:
            server.stop()


def free_port() -> int:
    import socket

    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


# ---- a worker -------------------------------------------------------------------------------------------


@contextlib.contextmanager
def worker(server: Tesd, binary: str = "tes-worker", **settings: str) -> Iterator[subprocess.Popen[bytes]]:
    """A worker of that server, on offer."""
    config = server.folder / "worker.conf"
    values = {
        "worker__state_dir": f"{server.folder}/worker",
        "engine__socket": os.environ.get("TES_ENGINE_SOCKET", "/var/run/docker.sock"),
        "images__allow_local": IMAGE,
        "price__cpu_hour": "0.05",
        "price__memory_gib_hour": "0.005",
    } | settings
    config.write_text("".join(f"[{k.split('__')[0]}]\n{k.split('__')[1]} = {v}\n" for k, v in values.items()))
    server.admin("org", "create", "provider")
    token = server.admin("join-token", "create", "--org", "provider")["secret"]
    run(program(binary), "-c", config, "join", server.url, "--token", token)
    with (server.folder / "worker.log").open("ab") as log:
        process = subprocess.Popen([program(binary), "-c", config, "run"], stdout=log, stderr=log)
    try:
        wait_for("the worker is on offer", lambda: offers(server), 30)
        yield process
    finally:
        end(process)


def offers(server: Tesd) -> list[Any]:
    return Api(server.url, None).call("GET", "/v1/offers")["items"]


class Api:
    """Calls over one connection that is kept."""

    def __init__(self, url: str, key: str | None) -> None:
        self.conn = http.client.HTTPConnection(url.removeprefix("http://"), timeout=60)
        self.headers = {"Content-Type": "application/json"}
        if key:
            self.headers["Authorization"] = f"Bearer {key}"

    def call(self, method: str, target: str, value: Any = None) -> Any:
        self.conn.request(method, target, body=json.dumps(value) if value is not None else None, headers=self.headers)
        answer = self.conn.getresponse()
        body = answer.read()
        if answer.status // 100 != 2:
            raise RuntimeError(f"{method} {target}: {answer.status} {body[:500]!r}")
        return json.loads(body) if body else None


def job(command: list[str], cpu_milli: int = 1000) -> dict[str, Any]:
    return {
        "image": IMAGE,
        "command": command,
        "resources": {"cpu_milli": cpu_milli, "memory_mib": 16, "disk_mib": 64},
        "max_price_uusd_h": 1_000_000,
        "max_duration_s": 3600,
    }
