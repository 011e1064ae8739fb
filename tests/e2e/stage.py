"""The whole product as tests see it: tesd, tes-worker and tes as processes, and a real container engine.

    TES_ENGINE_SOCKET    the engine's socket; default: /var/run/docker.sock

What containers did is told by the engine itself (`Watch`), not by the programs under test.
"""

from __future__ import annotations

import calendar
import contextlib
import http.client
import io
import json
import os
import re
import signal
import socket
import subprocess
import tarfile
import threading
import time
import urllib.parse
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness import ROOT, Client, Org, Tesd, program, wait_for

SOCKET = os.environ.get("TES_ENGINE_SOCKET", "/var/run/docker.sock")
BUSYBOX = "tes-test/busybox:1"
SMALL = ["--image", BUSYBOX, "--cpus", "0.1", "--memory", "32MiB", "--disk", "64MiB"]


def small(*flags: str) -> list[str]:
    """The flags of a small busybox, but for what these say themselves."""
    pairs = zip(SMALL[::2], SMALL[1::2])
    return [word for pair in pairs if pair[0] not in flags for word in pair] + list(flags)



# Short times, but long enough for two cores that do other things as well.
TIMES = {
    "network.grace": "20s",
    "network.silent_after": "2s",
    "network.reservation_ttl": "20s",
    "network.hold": "60s",
}


# ---- the container engine -----------------------------------------------------------------------------


class UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: str, timeout_s: float | None = 60) -> None:
        super().__init__("engine", timeout=timeout_s)
        self.path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self.path)


class Engine:
    """Docker's API, which Podman speaks too."""

    def __init__(self, path: str = SOCKET) -> None:
        self.path = path

    def call(self, method: str, target: str, body: Any = None, headers: dict[str, str] | None = None) -> tuple[int, bytes]:
        conn = UnixConnection(self.path)
        try:
            conn.request(method, target, body=body, headers=headers or {})
            answer = conn.getresponse()
            return answer.status, answer.read()
        finally:
            conn.close()

    def get(self, target: str) -> Any:
        status, body = self.call("GET", target)
        assert status == 200, (target, status, body)
        return json.loads(body)

    def answers(self) -> bool:
        try:
            return self.call("GET", "/_ping")[0] == 200
        except OSError:
            return False

    def containers(self, label: str) -> list[dict[str, Any]]:
        """Of whatever state; label: "ai.tes.worker=wk_…"."""
        filters = urllib.parse.quote(json.dumps({"label": [label]}))
        return self.get(f"/containers/json?all=1&filters={filters}")

    def inspect(self, lease: str) -> dict[str, Any]:
        return self.get(f"/containers/tes-{lease}/json")

    def running(self, lease: str) -> bool:
        status, body = self.call("GET", f"/containers/tes-{lease}/json")
        return status == 200 and json.loads(body)["State"]["Running"]

    def import_image(self, name: str, files: dict[str, bytes], *changes: str, mode: int = 0o755) -> None:
        """One layer of these files, all of this mode."""
        tar = io.BytesIO()
        with tarfile.open(fileobj=tar, mode="w") as out:
            for path, content in files.items():
                info = tarfile.TarInfo(path)
                info.size, info.mode = len(content), mode
                out.addfile(info, io.BytesIO(content))
        query = [("fromSrc", "-"), ("repo", name), *(("changes", c) for c in changes)]
        status, body = self.call("POST", "/images/create?" + urllib.parse.urlencode(query), tar.getvalue())
        assert status == 200 and b'"error"' not in body, body

    def image_make(self) -> None:
        """tes-test/busybox:1 in this engine."""
        done = subprocess.run(
            [ROOT / "scripts/lib/test-image.sh"], env=os.environ | {"TES_ENGINE_SOCKET": self.path},
            capture_output=True, text=True, timeout=120, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr


@dataclass
class Happened:
    """One event of the engine about a container of ours."""

    at_s: float
    action: str
    lease: str
    worker: str
    exit_code: str


class Watch:
    """All that the engine says about containers, from now on.  It remembers only the last few by itself."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.happened: list[Happened] = []
        self.conn = UnixConnection(engine.path, None)
        filters = urllib.parse.quote(json.dumps({"type": ["container"], "label": ["ai.tes.lease"]}))
        self.conn.request("GET", f"/events?filters={filters}")
        self.sock = self.conn.sock
        self.answer = self.conn.getresponse()
        self.thread = threading.Thread(target=self._read, daemon=True)
        self.thread.start()

    def _read(self) -> None:
        with contextlib.suppress(OSError, ValueError, AttributeError, http.client.HTTPException):
            while line := self.answer.readline():
                value = json.loads(line)
                about = value["Actor"]["Attributes"]
                at_s = value["timeNano"] / 1e9
                if value["Action"] == "die":
                    at_s = self._ended_s(value["Actor"]["ID"]) or at_s
                self.happened.append(
                    Happened(at_s, value["Action"], about.get("ai.tes.lease", ""),
                             about.get("ai.tes.worker", ""), about.get("exitCode", ""))
                )  # fmt: skip

    def _ended_s(self, container: str) -> float | None:
        """When its process ended: a busy engine tells of it a second late.  None: it is removed already."""
        status, body = self.engine.call("GET", f"/containers/{container}/json")
        at = json.loads(body)["State"]["FinishedAt"] if status == 200 else ""
        found = re.fullmatch(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(\.\d+)?Z", at)
        if not found or at.startswith("0001"):
            return None
        return calendar.timegm(time.strptime(found[1], "%Y-%m-%dT%H:%M:%S")) + float(found[2] or 0)

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self.sock.shutdown(socket.SHUT_RDWR)
        self.thread.join(5)

    def of(self, lease: str, action: str) -> list[Happened]:
        return [h for h in self.happened if h.lease == lease and h.action == action]

    def delivered_s(self, lease: str) -> float:
        """How long the container ran and was not frozen, after its end."""
        wait_for(f"the engine says that {lease} has ended", lambda: self.of(lease, "die"))
        total, since = 0.0, None
        for h in self.happened:
            if h.lease != lease:
                continue
            if h.action in ("start", "unpause"):
                since = h.at_s
            elif h.action in ("die", "pause") and since is not None:
                total, since = total + h.at_s - since, None
        return total


# ---- tes-worker ---------------------------------------------------------------------------------------


class Proxy:
    """Stands between a worker and tesd.  cut(): nothing goes through any more, and nobody is told."""

    def __init__(self, port: int) -> None:
        self.target = port
        self.open = threading.Event()
        self.open.set()
        self.closing = False
        self.dropped = 0
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def cut(self) -> None:
        self.open.clear()

    def mend(self) -> None:
        """What was said meanwhile is lost: connections of before are dead."""
        self.dropped += 1
        self.open.set()

    def close(self) -> None:
        self.closing = True
        self.mend()
        self.listener.close()

    def _accept(self) -> None:
        while not self.closing:
            try:
                near, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self._connect, args=(near,), daemon=True).start()

    def _connect(self, near: socket.socket) -> None:
        era = self.dropped
        self.open.wait()
        try:
            if era != self.dropped:
                raise ConnectionResetError
            far = socket.create_connection(("127.0.0.1", self.target), 5)
        except OSError:
            near.close()
            return
        far.settimeout(None)
        for pair in ((near, far), (far, near)):
            threading.Thread(target=self._carry, args=(*pair, era), daemon=True).start()

    def _carry(self, source: socket.socket, sink: socket.socket, era: int) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                self.open.wait()
                if era != self.dropped:
                    break
                sink.sendall(data)
        for s in (source, sink):
            with contextlib.suppress(OSError):
                s.shutdown(socket.SHUT_RDWR)


class Worker:
    """A tes-worker with a directory of its own."""

    def __init__(self, directory: Path, engine: Engine, settings: dict[str, str] | None = None) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self.directory, self.engine = directory, engine
        self.config = directory / "tes-worker.conf"
        self.log_path = directory / "tes-worker.log"
        self.process: subprocess.Popen[bytes] | None = None
        # TES_ENGINE_SOCKET and the like say it to the tests; to a worker they would outdo its configuration.
        self.clean = {k: v for k, v in os.environ.items() if not k.startswith("TES_")}
        self.env: dict[str, str] = {}
        self.under: list[str | Path] = []  # what starts it: a command and its arguments
        self._id = ""  # outlives leaving
        self.settings = {
            "worker.state_dir": str(directory / "state"),
            "worker.name": directory.name,
            "worker.region": "local",
            "engine.socket": engine.path,
            "images.allow_local": "tes-test/*",
            "images.private_registries": "127.0.0.1",
            "price.cpu_hour": "0.36",
            "price.memory_gib_hour": "0.36",
            "log.level": "debug",
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
    def state_dir(self) -> Path:
        return Path(self.settings["worker.state_dir"])

    @property
    def id(self) -> str:
        if not self._id:
            self._id = json.loads((self.state_dir / "worker.json").read_text())["worker_id"]
        return self._id

    def log(self) -> str:
        return self.log_path.read_text(errors="replace") if self.log_path.exists() else ""

    def run(self, *words: str) -> subprocess.CompletedProcess[str]:
        """`tes-worker -c CONFIG WORDS`."""
        return subprocess.run(
            [*self.under, program("tes-worker"), "-c", self.config, *words], env=self.clean | self.env,
            capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip

    def join(self, url: str, token: str) -> None:
        done = self.run("join", url, "--token", token)
        assert done.returncode == 0, done.stderr

    def start(self) -> Worker:
        assert not self.process
        with self.log_path.open("ab") as out:
            self.process = subprocess.Popen(
                [*self.under, program("tes-worker"), "-c", self.config, "run"], env=self.clean | self.env,
                stdout=out, stderr=out, stdin=subprocess.DEVNULL,
            )  # fmt: skip
        return self

    def stop(self) -> int:
        """SIGTERM; its exit status."""
        if not self.process:
            return 0
        process, self.process = self.process, None
        process.send_signal(signal.SIGTERM)
        try:
            return process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise AssertionError("tes-worker does not end on SIGTERM within 20 s") from None

    def kill(self) -> None:
        """kill -9."""
        assert self.process
        process, self.process = self.process, None
        process.kill()
        process.wait()

    def containers(self) -> list[dict[str, Any]]:
        return self.engine.containers(f"ai.tes.worker={self.id}")

    def clear(self) -> None:
        """What a test that failed has left in the engine."""
        if not (self._id or (self.state_dir / "worker.json").exists()) or not self.engine.answers():
            return
        for container in self.containers():
            self.engine.call("DELETE", f"/containers/{container['Id']}?force=1&v=1")


# ---- tes ----------------------------------------------------------------------------------------------


class Cli:
    """`tes` of one customer."""

    def __init__(self, url: str, key: str | None, home: Path) -> None:
        home.mkdir(parents=True, exist_ok=True)
        self.home = home
        kept = {k: v for k, v in os.environ.items() if not k.startswith("TES_") and not k.startswith("XDG_")}
        self.env = kept | {"HOME": str(home), "XDG_CONFIG_HOME": str(home / "config")}
        if key:
            self.env |= {"TES_URL": url, "TES_KEY": key}

    def start(self, *words: str, env: dict[str, str] | None = None, **more: Any) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [program("tes"), *words], env=self.env | (env or {}), stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **more,
        )  # fmt: skip

    def run(
        self, *words: str, env: dict[str, str] | None = None, timeout_s: float = 60, **more: Any
    ) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [program("tes"), *words], env=self.env | (env or {}), capture_output=True, text=True,
            timeout=timeout_s, check=False, **({"stdin": subprocess.DEVNULL} | more if "input" not in more else more),
        )  # fmt: skip

    def ok(self, *words: str, **more: Any) -> str:
        done = self.run(*words, **more)
        assert done.returncode == 0, f"tes {' '.join(words)}: {done.returncode} {done.stdout} {done.stderr}"
        return done.stdout

    def refused(self, *words: str, status: int = 1, **more: Any) -> str:
        """What it says to standard error."""
        done = self.run(*words, **more)
        assert done.returncode == status, f"tes {' '.join(words)}: {done.returncode} {done.stdout} {done.stderr}"
        assert done.stderr, "it says nothing"
        return done.stderr

    def json(self, *words: str) -> Any:
        return json.loads(self.ok(*words, "--json"))

    def submit(self, *words: str, **more: Any) -> str:
        """`tes run` of a small busybox, with these flags and `-- COMMAND`; the workload's id."""
        flags, command = (list(words), []) if "--" not in words else (
            list(words[: words.index("--")]), list(words[words.index("--") :])
        )  # fmt: skip
        return self.ok("run", *small(*flags), *command, **more).strip()

    def shell(self, script: str, *flags: str, **more: Any) -> str:
        """Submits a shell script."""
        return self.submit(*flags, "--", "sh", "-c", script, **more)


# ---- all of it ----------------------------------------------------------------------------------------


class Stage:
    """A network with a customer who has money, and the workers that a test adds."""

    def __init__(self, tesd: Tesd, directory: Path, engine: Engine) -> None:
        self.tesd, self.directory, self.engine = tesd, directory, engine
        self.provider: Org = tesd.org("provider")
        self.customer: Org = tesd.org("customer", credit="1000")
        self.workers: list[Worker] = []
        self.proxies: list[Proxy] = []
        self.watch = Watch(engine)
        self.cli = Cli(tesd.url, self.customer.key(), directory / "home")

    @property
    def api(self) -> Client:
        return self.customer.client()

    def worker(
        self, settings: dict[str, str] | None = None, *, url: str | None = None, env: dict[str, str] | None = None,
        under: list[str | Path] | None = None,
    ) -> Worker:  # fmt: skip
        """One more, joined and online."""
        worker = Worker(self.directory / f"w{len(self.workers) + 1}", self.engine, settings)
        worker.env, worker.under = env or {}, under or []
        self.workers.append(worker)
        worker.join(url or self.tesd.url, self.provider.join_token())
        worker.start()
        self.wait_worker(worker)
        return worker

    def proxied(self, settings: dict[str, str] | None = None) -> tuple[Worker, Proxy]:
        """One that reaches tesd through a line that can be cut."""
        proxy = Proxy(self.tesd.port)
        self.proxies.append(proxy)
        return self.worker(settings, url=proxy.url), proxy

    def worker_show(self, worker: Worker) -> dict[str, Any]:
        return self.provider.client().get(f"/v1/workers/{worker.id}").ok()

    def wait_worker(self, worker: Worker, state: str = "online") -> None:
        def there() -> bool:
            assert not worker.process or worker.process.poll() is None, worker.log()
            value = self.worker_show(worker)
            inventory = value["inventory"]
            works = not inventory.get("problem") and inventory.get("engine")
            return value["state"] == state and (state != "online" or works)

        wait_for(f"{worker.directory.name} is {state}", there, 40)

    def wait(self, workload: str, *states: str, timeout_s: float = 40) -> dict[str, Any]:
        return self.api.wait(workload, *states, timeout_s=timeout_s)

    def wait_end(self, workload: str, timeout_s: float = 40) -> dict[str, Any]:
        return self.api.wait_end(workload, timeout_s=timeout_s)

    def lease(self, workload: str) -> str:
        return self.api.lease(workload)["id"]

    def wait_line(self, workload: str, text: str, timeout_s: float = 20) -> None:
        """Until its output has it."""
        wait_for(f"{workload} has said {text!r}", lambda: any(text in line for line in self.api.logs(workload)), timeout_s)

    def run(self, script: str, *flags: str, timeout_s: float = 40) -> dict[str, Any]:
        """Submits a shell script, waits for its end, and gives the workload."""
        return self.wait_end(self.cli.shell(script, *flags), timeout_s)

    def text(self, workload: str) -> str:
        return "".join(self.api.logs(workload))

    # ---- what must be true of everything that has ended

    def check_once(self, workload: str) -> None:
        """Each lease's container was started at most once, and no two of the workload ran side by side."""
        ran = []
        for lease in self.api.leases(workload):
            starts = self.watch.of(lease["id"], "start")
            assert len(starts) <= 1, f"{lease['id']} was started {len(starts)} times"
            if starts:
                ends = self.watch.of(lease["id"], "die")
                ran.append((starts[0].at_s, ends[0].at_s if ends else float("inf")))
        ran.sort()
        for (_, end), (begin, _) in zip(ran, ran[1:]):
            assert end <= begin, f"two containers of {workload} ran at the same time"

    def check_bill(self, workload: str, slack_s: float = 0.35) -> None:
        """The bill is that of the seconds which the engine saw, neither more nor less."""
        for line in self.api.bill(workload)["lines"]:
            if not self.watch.of(line["lease_id"], "start"):
                assert line["seconds"] == 0, line
                continue
            delivered = self.watch.delivered_s(line["lease_id"])
            assert line["amount_uusd"] == line["rate_uusd_h"] * line["seconds"] // 3600, line
            assert line["seconds"] <= delivered + slack_s, f"billed {line['seconds']} s of {delivered:.3f} s"
            assert line["seconds"] >= int(delivered - slack_s), f"billed {line['seconds']} s of {delivered:.3f} s"

    def check_lines(self, workload: str, count: int | None = None) -> int:
        """Its output is "line 1", "line 2", … without a gap or a repeat; how many."""
        lines = [line for line in self.text(workload).splitlines() if line.startswith("line ")]
        assert lines == [f"line {i + 1}" for i in range(len(lines))], f"{workload}: {lines[:20]} … {lines[-20:]}"
        assert count is None or len(lines) == count, f"{workload}: {len(lines)} lines of {count}"
        return len(lines)

    def close(self) -> None:
        for worker in self.workers:
            if worker.process:
                worker.process.send_signal(signal.SIGCONT)
                worker.kill()
            worker.clear()
        for proxy in self.proxies:
            proxy.close()
        self.watch.close()


def counter(lines: int, every_s: float) -> str:
    """A script that says "line 1" … one at a time, and ends at once when it is told to."""
    return f"trap 'exit 143' TERM; i=0; while [ $i -lt {lines} ]; do i=$((i+1)); echo line $i; sleep {every_s}; done"


@contextlib.contextmanager
def stopped(process: subprocess.Popen[bytes]) -> Iterator[None]:
    """SIGSTOP for as long as the block lasts."""
    process.send_signal(signal.SIGSTOP)
    try:
        yield
    finally:
        process.send_signal(signal.SIGCONT)


def reads_until(read: Callable[[], str], text: str, timeout_s: float = 20) -> str:
    """Reads lines until one has `text`; all that was read."""
    got: list[str] = []
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        line = read()
        got.append(line)
        if not line or text in line:
            break
    assert got and text in got[-1], f"no {text!r} in {got}"
    return "".join(got)
