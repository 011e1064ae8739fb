"""The real tesd as tests see it: a process with a store, an operator's command line and an HTTP interface."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import signal
import sqlite3
import ssl
import subprocess
import threading
import time
import urllib.parse
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

T = TypeVar("T")

ROOT = Path(__file__).resolve().parents[2]
DEADLINE_S = 20.0
GIVE_UP = (OSError, http.client.HTTPException)  # the other side is not there, or went away

# Short, so that nothing has to be waited for long; a test that needs other times says so.
FAST = {
    "server.listen_port": "0",
    "log.level": "debug",
    "network.heartbeat": "200ms",
    "network.silent_after": "2s",
    "network.grace": "6s",
    "network.reservation_ttl": "10s",
    "network.settle_interval": "1s",
    "network.hold": "10s",
}


class TimedOut(AssertionError):
    """A condition that did not come true in time."""


def wait_for(what: str, condition: Callable[[], T], timeout_s: float = DEADLINE_S) -> T:
    """Looks until `condition` gives something true, and returns that."""
    deadline = time.monotonic() + timeout_s
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            raise TimedOut(f"not within {timeout_s} s: {what} (last seen: {value!r})")
        time.sleep(0.02)


def holds_for(what: str, condition: Callable[[], Any], seconds: float) -> None:
    """For what must not happen: `condition` stays true for so long."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        assert condition(), f"no longer true: {what}"
        time.sleep(0.02)


def program(name: str) -> Path:
    """The built program, wherever it stands below the build directory."""
    build = Path(os.environ.get("TES_BUILD_DIR", ROOT / "build"))
    found = [p for p in sorted(build.rglob(name)) if p.is_file() and os.access(p, os.X_OK)]
    if not found:
        raise FileNotFoundError(f"there is no executable {name} below {build}: build first, or set TES_BUILD_DIR")
    return found[0]


def time_ms(value: int | str) -> int:
    """A time of the interface, whether it comes as milliseconds or as RFC 3339 text."""
    if isinstance(value, int):
        return value
    from datetime import datetime

    return round(datetime.fromisoformat(value.replace("Z", "+00:00")).timestamp() * 1000)


def owed(rate_uusd_h: int, seconds: int) -> int:
    """What docs/ledger.md says is owed."""
    return rate_uusd_h * seconds // 3600


# ---- HTTP -------------------------------------------------------------------------------------------


@dataclass
class Response:
    status: int
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)

    def ok(self, status: int | None = None) -> Any:
        """The answer's value; fails the test if it is a problem."""
        assert self.status == status if status else self.status // 100 == 2, f"{self.status} {self.body[:2000]!r}"
        return self.json() if self.body else None

    def problem(self, status: int, code: str | None = None) -> dict[str, Any]:
        """The answer as a problem of RFC 9457 with what we promise of each."""
        assert self.status == status, f"expected {status}, got {self.status} {self.body[:2000]!r}"
        assert self.headers.get("content-type", "").startswith("application/problem+json"), self.headers
        value = self.json()
        assert value["status"] == status and value["title"] and value["code"], value
        assert value["detail"], value
        if code:
            assert value["code"] == code, value
        return value


def connection(url: str, timeout_s: float, ca: str | None = None) -> http.client.HTTPConnection:
    parts = urllib.parse.urlsplit(url)
    assert parts.hostname
    if parts.scheme == "https":
        context = ssl.create_default_context(cafile=ca)
        return http.client.HTTPSConnection(parts.hostname, parts.port, timeout=timeout_s, context=context)
    return http.client.HTTPConnection(parts.hostname, parts.port, timeout=timeout_s)


def send(
    url: str,
    method: str,
    target: str,
    *,
    headers: dict[str, str] | None = None,
    body: bytes | None = None,
    timeout_s: float = DEADLINE_S,
    ca: str | None = None,
) -> Response:
    conn = connection(url, timeout_s, ca)
    try:
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            conn.request(method, target, body=body, headers=headers or {})
        if conn.sock is None:
            raise ConnectionRefusedError(f"no connection to {url}")
        # A server that refuses a large body by its head answers before it has read all of it.
        answer = conn.getresponse()
        return Response(answer.status, {k.lower(): v for k, v in answer.getheaders()}, answer.read())
    finally:
        conn.close()


@dataclass
class Event:
    """One server-sent event."""

    event: str
    id: str
    data: str

    def json(self) -> Any:
        return json.loads(self.data)


class Stream:
    """A stream of server-sent events, read by whoever iterates; close() from any thread ends it."""

    def __init__(self, url: str, target: str, headers: dict[str, str], timeout_s: float = DEADLINE_S, ca: str | None = None) -> None:
        self.conn = connection(url, timeout_s, ca)
        self.conn.request("GET", target, headers=headers)
        # Kept apart: the response drops its socket from the connection once it is to be closed by it.
        self.sock = self.conn.sock
        self.answer = self.conn.getresponse()
        self.status = self.answer.status
        self.headers = {k.lower(): v for k, v in self.answer.getheaders()}

    def __enter__(self) -> Stream:
        return self

    def __exit__(self, *unused: object) -> None:
        self.close()

    def close(self) -> None:
        try:
            if self.sock:
                self.sock.shutdown(2)
        except OSError:
            pass
        self.conn.close()

    def __iter__(self) -> Iterator[Event]:
        name, ident, data = "message", "", []
        while True:
            try:
                raw = self.answer.readline()
            except (OSError, ValueError, AttributeError, http.client.HTTPException):
                return  # closed by close(), or by the server in the middle
            if not raw:
                return
            line = raw.decode().rstrip("\r\n")
            if not line:
                if data:
                    yield Event(name, ident, "\n".join(data))
                name, data = "message", []
            elif not line.startswith(":"):
                key, _, value = line.partition(":")
                value = value.removeprefix(" ")
                if key == "event":
                    name = value
                elif key == "id":
                    ident = value
                elif key == "data":
                    data.append(value)

    def take(self, count: int) -> list[Event]:
        """The next so many events."""
        events = []
        for event in self:
            events.append(event)
            if len(events) == count:
                return events
        raise AssertionError(f"the stream ended after {events}")


@dataclass
class Client:
    """Somebody with an API key (or without)."""

    url: str
    key: str | None = None
    ca: str | None = None

    def auth(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.key}"} if self.key else {}

    def call(
        self, method: str, target: str, value: Any = None, *, headers: dict[str, str] | None = None, raw: bytes | None = None
    ) -> Response:
        sent = self.auth()
        body = raw
        if value is not None:
            body = json.dumps(value).encode()
            sent["Content-Type"] = "application/json"
        return send(self.url, method, target, headers=sent | (headers or {}), body=body, ca=self.ca)

    def get(self, target: str, **more: Any) -> Response:
        return self.call("GET", target, **more)

    def post(self, target: str, value: Any = None, **more: Any) -> Response:
        return self.call("POST", target, value, **more)

    def delete(self, target: str, **more: Any) -> Response:
        return self.call("DELETE", target, **more)

    def stream(self, target: str, last_event_id: str | None = None, timeout_s: float = DEADLINE_S) -> Stream:
        headers = self.auth() | {"Accept": "text/event-stream"}
        if last_event_id is not None:
            headers["Last-Event-ID"] = last_event_id
        return Stream(self.url, target, headers, timeout_s)

    # ---- workloads

    def submit(self, **spec: Any) -> dict[str, Any]:
        return self.post("/v1/workloads", spec_of(**spec)).ok(201)

    def show(self, workload: str) -> dict[str, Any]:
        return self.get(f"/v1/workloads/{workload}").ok()

    def leases(self, workload: str) -> list[dict[str, Any]]:
        return self.get(f"/v1/workloads/{workload}/leases").ok()["items"]

    def lease(self, workload: str) -> dict[str, Any]:
        """The newest attempt."""
        return self.leases(workload)[-1]

    def bill(self, workload: str) -> dict[str, Any]:
        return self.get(f"/v1/workloads/{workload}/bill").ok()

    def balance(self) -> dict[str, Any]:
        return self.get("/v1/balance").ok()

    def stop(self, workload: str) -> dict[str, Any]:
        return self.post(f"/v1/workloads/{workload}/stop").ok()

    def logs(self, workload: str) -> list[str]:
        return [e.get("text", "") for e in self.get(f"/v1/workloads/{workload}/logs").ok().get("items", [])]

    def wait(self, workload: str, *states: str, timeout_s: float = DEADLINE_S) -> dict[str, Any]:
        """Until the workload is in one of the states."""
        last: dict[str, Any] = {}

        def there() -> bool:
            last.clear()
            last.update(self.show(workload))
            return last["state"] in states

        try:
            wait_for(f"{workload} is {' or '.join(states)}", there, timeout_s)
        except TimedOut as error:
            raise TimedOut(f"{error}: {last}, leases {self.leases(workload)}") from None
        return last

    def wait_end(self, workload: str, timeout_s: float = DEADLINE_S) -> dict[str, Any]:
        return self.wait(workload, "succeeded", "failed", "stopped", timeout_s=timeout_s)

    def events(self, subject: str | None = None) -> list[dict[str, Any]]:
        target = "/v1/events?limit=1000" + (f"&subject={subject}" if subject else "")
        return self.get(target).ok().get("items", [])


def spec_of(**spec: Any) -> dict[str, Any]:
    """A small workload; what is given replaces its fields, and `sim` says what a simulated container does."""
    sim = spec.pop("sim", {})
    value: dict[str, Any] = {
        "image": "docker.io/library/debian:12",
        "command": ["sim", json.dumps(sim)],
        "resources": {"cpu_milli": 1000, "memory_mib": 64, "disk_mib": 64},
        "max_price_uusd_h": 10**10,
    }
    value.update(spec)
    return {k: v for k, v in value.items() if v is not None}


# ---- the store --------------------------------------------------------------------------------------


class SqliteStore:
    kind = "sqlite"

    def __init__(self, directory: Path) -> None:
        self.path = directory / "tes.db"
        self.url = f"sqlite:{self.path}"

    def query(self, sql: str) -> list[list[str]]:
        conn = sqlite3.connect(f"file:{self.path}?mode=ro", uri=True, timeout=10)
        try:
            return [["" if v is None else str(v) for v in row] for row in conn.execute(sql)]
        finally:
            conn.close()

    def execute(self, sql: str) -> None:
        conn = sqlite3.connect(self.path, timeout=10)
        try:
            conn.execute(sql)
            conn.commit()
        finally:
            conn.close()

    def tables(self) -> list[str]:
        return [r[0] for r in self.query("SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY name")]

    def drop(self) -> None:
        pass


class PostgresStore:
    kind = "postgresql"

    def __init__(self, server: str) -> None:
        self.server = server
        self.name = f"tes_{uuid.uuid4().hex[:16]}"
        self.url = urllib.parse.urlunsplit(urllib.parse.urlsplit(server)._replace(path=f"/{self.name}"))
        self.run(server, f"CREATE DATABASE {self.name}")

    @staticmethod
    def run(url: str, sql: str) -> str:
        done = subprocess.run(
            ["psql", "-X", "-q", "-A", "-t", "-F", "\x1f", "-v", "ON_ERROR_STOP=1", "-d", url, "-c", sql],
            capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return done.stdout

    def query(self, sql: str) -> list[list[str]]:
        return [line.split("\x1f") for line in self.run(self.url, sql).splitlines()]

    def execute(self, sql: str) -> None:
        self.run(self.url, sql)

    def tables(self) -> list[str]:
        return [r[0] for r in self.query("SELECT tablename FROM pg_tables WHERE schemaname = 'public' ORDER BY 1")]

    def drop(self) -> None:
        self.run(self.server, f"DROP DATABASE IF EXISTS {self.name} WITH (FORCE)")


Store = SqliteStore | PostgresStore


# ---- tesd -------------------------------------------------------------------------------------------


class Tesd:
    """A tesd of our own: its directory, its configuration, and its process while it runs."""

    def __init__(self, directory: Path, store: Store, settings: dict[str, str] | None = None) -> None:
        self.directory = directory
        self.store = store
        self.config = directory / "tesd.conf"
        self.log_path = directory / "tesd.log"
        self.process: subprocess.Popen[bytes] | None = None
        self.port = 0
        self.scheme = "http"
        self.ca: str | None = None
        self.errors_expected = False  # else an error in the log fails the test
        self.audited = True
        self.settings = FAST | {
            "server.public_url": "http://127.0.0.1:1",
            "store.database": store.url,
            "store.blobs": f"file:{directory}/blobs",
            "store.secret_key_file": f"{directory}/secret.key",
        }
        self.configure(settings or {})

    def configure(self, settings: dict[str, str]) -> None:
        self.settings |= settings
        sections: dict[str, list[str]] = {}
        for name, value in self.settings.items():
            section, key = name.split(".")
            sections.setdefault(section, []).append(f"{key} = {value}\n")
        self.config.write_text("".join(f"[{s}]\n{''.join(lines)}\n" for s, lines in sections.items()))

    @property
    def url(self) -> str:
        return f"{self.scheme}://127.0.0.1:{self.port}"

    def log(self) -> str:
        return self.log_path.read_text(errors="replace") if self.log_path.exists() else ""

    def errors(self) -> list[str]:
        return [line for line in self.log().splitlines() if " error " in line or "ERROR" in line or "runtime error" in line]

    def start(self) -> Tesd:
        """Starts it; the second time on the port of the first, as after a crash."""
        assert not self.process
        if self.port:
            self.configure({"server.listen_port": str(self.port)})
        seen = len(self.log())
        with self.log_path.open("ab") as out:
            self.process = subprocess.Popen(
                [program("tesd"), "run", "-c", self.config], stdout=out, stderr=out, stdin=subprocess.DEVNULL
            )

        def ready() -> bool:
            assert self.process
            assert self.process.poll() is None, f"tesd ended with {self.process.returncode}:\n{self.log()}"
            for line in self.log()[seen:].splitlines():
                if " ready " in line:
                    self.port = int(line.split("port=")[1].split()[0].strip('"'))
                    return True
            return False

        wait_for("tesd is ready", ready)
        return self

    def stop(self) -> int:
        """SIGTERM; its exit status."""
        if not self.process:
            return 0
        process, self.process = self.process, None
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
        try:
            return process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise AssertionError("tesd does not end on SIGTERM within 20 s") from None

    def kill(self) -> None:
        """kill -9."""
        assert self.process
        process, self.process = self.process, None
        process.kill()
        process.wait()

    def run(self, *words: str, stdin: str | None = None, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
        """`tesd WORDS -c CONFIG`."""
        return subprocess.run(
            [program("tesd"), *words, "-c", str(self.config)],
            input=stdin, capture_output=True, text=True, timeout=120, check=False, env=os.environ | (env or {}),
        )  # fmt: skip

    def admin(self, *words: str, stdin: str | None = None) -> Any:
        """`tesd admin WORDS --json`; the value that it prints."""
        done = self.run("admin", *words, "--json", stdin=stdin)
        assert done.returncode == 0, f"tesd admin {' '.join(words)}: {done.stderr}"
        return json.loads(done.stdout) if done.stdout.strip() else None

    def audit(self) -> dict[str, Any]:
        done = self.run("admin", "audit", "--json")
        assert done.returncode == 0, f"the audit fails: {done.stdout} {done.stderr}"
        return json.loads(done.stdout)

    def evidence(self, worker: str) -> list[list[str]]:
        """Lines of [time, worker, lease, kind, text]."""
        done = self.run("admin", "evidence", worker)
        assert done.returncode == 0, done.stderr
        return [line.split("\t") for line in done.stdout.splitlines()]

    def counts(self) -> dict[str, int]:
        """Rows of every table that requests write: equal before and after means nothing was written."""
        tables = [t for t in self.store.tables() if t not in ("leaders", "settings", "worker_days")]  # the duties' own
        union = " UNION ALL ".join(f"SELECT '{t}', COUNT(*) FROM {t}" for t in tables)
        return {name: int(n) for name, n in self.store.query(union)}

    def client(self, key: str | None = None) -> Client:
        return Client(self.url, key, self.ca)

    def org(self, name: str, credit: str | None = None) -> Org:
        value = self.admin("org", "create", name)
        org = Org(self, value["id"], name)
        if credit:
            org.credit(credit)
        return org


@dataclass
class Org:
    tesd: Tesd
    id: str
    name: str
    keys: dict[str, str] = field(default_factory=dict)

    def key(self, role: str = "owner") -> str:
        if role not in self.keys:
            value = self.tesd.admin("key", "create", "--org", self.id, "--role", role)
            self.keys[role] = value["secret"]
        return self.keys[role]

    def client(self, role: str = "owner") -> Client:
        return self.tesd.client(self.key(role))

    def credit(self, amount: str, ident: str | None = None) -> dict[str, Any]:
        more = ["--id", ident] if ident else []
        return self.tesd.admin("credit", self.id, amount, *more)

    def join_token(self) -> str:
        return self.tesd.admin("join-token", "create", "--org", self.id)["secret"]


def in_parallel(count: int, work: Callable[[int], T]) -> list[T]:
    """Runs work(0) … work(count - 1) at the same time, each in a thread; raises what one raised."""
    results: list[Any] = [None] * count
    raised: list[BaseException] = []
    gate = threading.Barrier(count)

    def one(i: int) -> None:
        try:
            gate.wait(DEADLINE_S)
            results[i] = work(i)
        except BaseException as error:
            raised.append(error)

    threads = [threading.Thread(target=one, args=(i,), daemon=True) for i in range(count)]
    for t in threads:
        t.start()
    for t in threads:
        t.join(DEADLINE_S * 2)
    if raised:
        raise raised[0]
    return results
