"""Real faults: whatever dies, stands still, is cut off or fills up, running containers go on, nothing runs twice, and no line
of output and no second of the bill is lost or doubled.

Each job numbers its lines; the engine itself tells when containers began and ended (`Stage.watch`).
"""

from __future__ import annotations

import contextlib
import os
import random
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from harness import send, wait_for
from stage import Engine, Stage, counter, small, stopped

root_only = pytest.mark.skipif(os.geteuid() != 0, reason="mounting needs root")


def engine_lines(stage: Stage, lease: str) -> int:
    """What the container has said so far, by the engine's own account."""
    status, body = stage.engine.call("GET", f"/containers/tes-{lease}/logs?stdout=1")
    return body.count(b"line ") if status == 200 else 0


def goes_on(stage: Stage, lease: str, lines: int = 8) -> None:
    """Waits until the container has said so many lines more, at ten a second or nearly so."""
    target = engine_lines(stage, lease) + lines
    wait_for(
        f"the container of {lease} goes on",
        lambda: engine_lines(stage, lease) >= target or stage.watch.of(lease, "die"),
        20 + lines / 2,
    )


def all_is_well(stage: Stage, workload: str, lines: int, timeout_s: float = 60) -> None:
    ended = stage.wait_end(workload, timeout_s)
    assert (ended["state"], ended["attempts"]) == ("succeeded", 1), (ended, stage.api.leases(workload))
    stage.check_lines(workload, lines)
    stage.check_once(workload)
    stage.check_bill(workload)
    assert stage.tesd.audit()["ok"]


def begin(stage: Stage, lines: int = 40) -> tuple[str, str]:
    """A job that has begun to speak, and its lease."""
    workload = stage.cli.shell(counter(lines, 0.1))
    stage.wait_line(workload, "line 3")
    return workload, stage.lease(workload)


# ---- kill -9 ------------------------------------------------------------------------------------------


def test_tesd_is_killed(stage: Stage) -> None:
    stage.worker()
    workload, lease = begin(stage)
    follower = stage.cli.start("logs", "-f", workload)
    stage.tesd.kill()
    goes_on(stage, lease)
    stage.tesd.start()
    all_is_well(stage, workload, 40)
    out, _ = follower.communicate(timeout=30)
    assert follower.returncode == 0
    assert out.splitlines() == [f"line {i}" for i in range(1, 41)], "who followed has each line once"


def test_worker_is_killed(stage: Stage) -> None:
    worker = stage.worker()
    workload, lease = begin(stage)
    worker.kill()
    goes_on(stage, lease)
    worker.start()
    all_is_well(stage, workload, 40)


def test_job_ends_while_the_worker_is_dead(stage: Stage) -> None:
    worker = stage.worker()
    workload, lease = begin(stage, 15)
    worker.kill()
    wait_for("the container has ended", lambda: stage.watch.of(lease, "die"))
    worker.start()
    all_is_well(stage, workload, 15)


def test_job_ends_while_both_are_dead(stage: Stage) -> None:
    worker = stage.worker()
    workload, lease = begin(stage, 15)
    stage.tesd.kill()
    worker.kill()
    wait_for("the container has ended", lambda: stage.watch.of(lease, "die"))
    worker.start()
    stage.tesd.start()
    all_is_well(stage, workload, 15)


@pytest.mark.parametrize("moment", ["preparing", "create", "start", "die"])
def test_worker_is_killed_at_a_moment(stage: Stage, moment: str) -> None:
    """As soon as the engine says that something has happened, the worker is dead."""
    worker = stage.worker()
    workload = stage.cli.shell(counter(10, 0.1), "--out", "/tmp")

    def there() -> bool:
        leases = stage.api.leases(workload)
        if moment == "preparing":
            return bool(leases) and leases[0]["state"] != "reserved"
        return any(h.action == moment for h in stage.watch.happened)

    wait_for(f"the moment is there: {moment}", there)
    worker.kill()
    worker.start()
    all_is_well(stage, workload, 10)


def storm(stage: Stage, jobs: int, seed: int, breaks: tuple[float, float], timeout_s: float) -> None:
    """Kills tesd and the worker at random times until all jobs have ended."""
    rng = random.Random(seed)
    (worker,) = stage.workers
    lines = [rng.randint(10, 120) for _ in range(jobs)]
    # With a price given, those that find no room wait for it.
    flags = ["--max-price", "1.00", "--name"]
    workloads = [stage.cli.shell(counter(n, 0.05), *flags, f"storm-{i}") for i, n in enumerate(lines)]
    deadline = time.monotonic() + timeout_s
    kills = 0

    def all_ended() -> bool:
        states = [w["state"] for w in stage.api.get("/v1/workloads?limit=1000").ok()["items"]]
        return all(s in ("succeeded", "failed", "stopped") for s in states)

    while not all_ended():
        assert time.monotonic() < deadline, f"seed {seed}: not ended within {timeout_s} s, {kills} kills"
        time.sleep(rng.uniform(*breaks))  # the random moment, not a condition
        kills += 1
        if rng.random() < 0.5:
            stage.tesd.kill()
            stage.tesd.start()
        else:
            worker.kill()
            worker.start()
    print(f"seed {seed}: {jobs} jobs, {kills} kills")
    for workload, n in zip(workloads, lines, strict=True):
        all_is_well(stage, workload, n)
    wait_for("nothing is left in the engine", lambda: not worker.containers())
    starts = [h.lease for h in stage.watch.happened if h.action == "start" and h.worker == worker.id]
    assert sorted(starts) == sorted(set(starts)) and len(starts) == jobs


def test_storm(stage: Stage) -> None:
    stage.worker()
    storm(stage, 12, 1, (0.1, 1.0), 90)


@pytest.mark.long
@pytest.mark.settings(network__grace="5m")
def test_long_storm(stage: Stage) -> None:
    stage.worker()
    storm(stage, 100, int(os.environ.get("TES_TEST_SEED", "7")), (0.2, 3.0), 800)


# ---- SIGSTOP and the network --------------------------------------------------------------------------


@pytest.mark.settings(network__grace="15s", network__silent_after="1s")
@pytest.mark.parametrize("who", ["tesd", "worker"])
def test_one_side_stands_still(stage: Stage, who: str) -> None:
    worker = stage.worker()
    workload, lease = begin(stage, 60)
    process = stage.tesd.process if who == "tesd" else worker.process
    assert process
    with stopped(process):
        if who == "worker":
            wait_for("it is missed", lambda: stage.worker_show(worker)["state"] == "offline")
        goes_on(stage, lease, 25)
    all_is_well(stage, workload, 60)


@pytest.mark.long
# What is held pays for the minute as well: a worker pauses where the money ends.
@pytest.mark.settings(network__grace="5m", network__silent_after="20s", network__heartbeat="5s", network__hold="5m")
@pytest.mark.parametrize("who", ["tesd", "worker", "network"])
def test_a_minute_without_one_side(stage: Stage, who: str) -> None:
    worker, proxy = stage.proxied()
    workload, lease = begin(stage, 750)
    if who == "network":
        proxy.cut()
        goes_on(stage, lease, 580)
        proxy.mend()
    else:
        process = stage.tesd.process if who == "tesd" else worker.process
        assert process
        with stopped(process):
            wait_for("a minute is over", lambda: engine_lines(stage, lease) >= 585, 180)
    all_is_well(stage, workload, 750, 120)


@pytest.mark.settings(network__grace="15s", network__silent_after="1s")
def test_the_network_is_cut(stage: Stage) -> None:
    worker, proxy = stage.proxied()
    workload, lease = begin(stage, 60)
    proxy.cut()
    wait_for("it is missed", lambda: stage.worker_show(worker)["state"] == "offline")
    assert stage.api.show(workload)["state"] == "running", "it goes on"
    goes_on(stage, lease, 25)
    proxy.mend()
    all_is_well(stage, workload, 60)


@pytest.mark.settings(network__grace="15s", network__silent_after="1s")
def test_the_job_ends_while_the_network_is_cut(stage: Stage) -> None:
    worker, proxy = stage.proxied()
    workload = stage.cli.shell(counter(15, 0.1) + "; echo kept > /out/file", "--out", "/out")
    stage.wait_line(workload, "line 3")
    proxy.cut()
    wait_for("the container has ended", lambda: stage.watch.of(stage.lease(workload), "die"))
    wait_for("it is missed", lambda: stage.worker_show(worker)["state"] == "offline")
    proxy.mend()
    all_is_well(stage, workload, 15)
    assert [r["path"] for r in stage.cli.json("results", workload)["items"]] == ["out/file"]


def test_connections_break_all_the_time(stage: Stage) -> None:
    worker, proxy = stage.proxied()
    workload, lease = begin(stage, 60)
    while not stage.watch.of(lease, "die"):
        proxy.mend()
        goes_on(stage, lease, 3)
    all_is_well(stage, workload, 60)


# ---- the container engine -----------------------------------------------------------------------------


class PrivateDocker:
    """A dockerd of our own, which tests may restart."""

    def __init__(self, directory: Path, live_restore: bool, listens_for_it: bool) -> None:
        directory.mkdir()
        self.directory = directory
        self.engine = Engine(str(directory / "docker.sock"))
        self.bridge = f"tes-e2e{os.getpid() % 1000}"
        self.listener: socket.socket | None = None
        if listens_for_it:
            self.listener = socket.socket(socket.AF_UNIX)
            self.listener.bind(self.engine.path)
            self.listener.listen(128)
        (directory / "daemon.json").write_text('{"live-restore": %s}' % str(live_restore).lower())
        subprocess.run(["ip", "link", "add", self.bridge, "type", "bridge"], check=True)
        subprocess.run(["ip", "addr", "add", "172.29.213.1/24", "dev", self.bridge], check=True)
        subprocess.run(["ip", "link", "set", self.bridge, "up"], check=True)
        self.process: subprocess.Popen[bytes] | None = None

    def command(self) -> list[str]:
        if not self.listener:
            return ["dockerd", "--host", f"unix://{self.directory}/docker.sock"]
        as_systemd = f'LISTEN_PID=$$ LISTEN_FDS=1 exec dockerd --host fd:// "$@" 3<&{self.listener.fileno()}'
        return ["bash", "-c", as_systemd, "dockerd"]

    def start(self) -> None:
        d = self.directory
        (d / "docker.pid").unlink(missing_ok=True)
        with (d / "dockerd.log").open("ab") as out:
            self.process = subprocess.Popen(
                [*self.command(), "--data-root", d / "data", "--exec-root", d / "exec",
                 "--pidfile", d / "docker.pid", "--bridge", self.bridge, "--config-file", d / "daemon.json",
                 "--iptables=false"],
                stdout=out, stderr=out, stdin=subprocess.DEVNULL,
                pass_fds=[self.listener.fileno()] if self.listener else [],
            )  # fmt: skip
        wait_for("dockerd answers", self.engine.answers, 40)

    def stop(self, how: int = signal.SIGTERM) -> None:
        assert self.process
        process, self.process = self.process, None
        process.send_signal(how)
        process.wait(60)
        if how == signal.SIGKILL:
            # Its containerd dies with it; the next one would wait for that number if somebody else has it.
            of = self.directory / "exec/containerd/containerd.pid"
            wait_for("containerd is gone", lambda: not self.alive(int(of.read_text())))
            of.unlink()

    @staticmethod
    def alive(pid: int) -> bool:
        with contextlib.suppress(OSError):
            return "(zombie)" not in Path(f"/proc/{pid}/status").read_text()
        return False

    def close(self) -> None:
        try:
            for container in self.engine.get("/containers/json?all=1") if self.process else []:
                self.engine.call("DELETE", f"/containers/{container['Id']}?force=1&v=1")
            if self.process:
                self.stop()
        except OSError:
            if self.process:
                self.process.kill()
        finally:
            subprocess.run(["ip", "link", "del", self.bridge], check=False)


@pytest.fixture
def private_docker(tmp_path: Path) -> Iterator[Callable[[bool], PrivateDocker]]:
    made: list[PrivateDocker] = []

    def make(live_restore: bool, listens_for_it: bool = False) -> PrivateDocker:
        found = subprocess.run(["sh", "-c", "command -v dockerd"], capture_output=True, check=False)
        if os.geteuid() != 0 or found.returncode != 0:
            pytest.skip("a dockerd of our own needs dockerd and root")
        # A short path: a socket's has 107 bytes at most.
        made.append(PrivateDocker(Path(subprocess.check_output(["mktemp", "-d"], text=True).strip()) / "d", live_restore, listens_for_it))
        made[-1].start()
        made[-1].engine.image_make()
        return made[-1]

    yield make
    for docker in made:
        docker.close()
        # dockerd mounts its data upon itself, and leaves what its containers had mounted.
        mounts = [line.split()[1] for line in Path("/proc/mounts").read_text().splitlines()]
        for at in reversed([m for m in mounts if m.startswith(f"{docker.directory}/")]):
            subprocess.run(["umount", "-l", at], check=False)
        subprocess.run(["rm", "-rf", docker.directory.parent], check=False)


@pytest.mark.one_store
@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
def test_the_engine_restarts_and_keeps_its_containers(
    private_docker: Callable[[bool], PrivateDocker], stage_with: Callable[..., Stage], how: int
) -> None:
    docker = private_docker(True)
    stage = stage_with(engine=docker.engine)
    worker = stage.worker()
    workload, lease = begin(stage, 80)
    docker.stop(how)
    wait_for("the worker says that it cannot run anything", lambda: stage.worker_show(worker)["inventory"].get("problem"))
    docker.start()
    assert docker.engine.running(lease), "the container went on"
    ended = stage.wait_end(workload, 60)
    assert (ended["state"], ended["attempts"]) == ("succeeded", 1), (ended, stage.api.leases(workload))
    stage.check_lines(workload, 80)
    assert stage.api.bill(workload)["lines"][0]["seconds"] >= 8


@pytest.mark.one_store
@pytest.mark.parametrize("listens_for_it", [False, True], ids=["alone", "systemd"])
def test_the_engine_restarts_and_takes_its_containers_along(
    private_docker: Callable[..., PrivateDocker], stage_with: Callable[..., Stage], listens_for_it: bool
) -> None:
    """No doing of the customer's: it is tried again, and each attempt is billed for what it ran."""
    docker = private_docker(False, listens_for_it)
    stage = stage_with(engine=docker.engine)
    worker = stage.worker()
    workload, lease = begin(stage, 30)
    docker.stop()
    docker.start()
    stage.wait_worker(worker)
    ended = stage.wait_end(workload, 60)
    first, second = stage.api.leases(workload)
    assert (first["reason"], ended["state"], second["reason"]) == ("container_lost", "succeeded", "completed")
    stage.check_lines(workload, 30)
    wait_for("nothing is left", lambda: not worker.containers())


# ---- full disks ---------------------------------------------------------------------------------------


@pytest.fixture
def little_disk(tmp_path: Path) -> Iterator[Callable[[str, int], Path]]:
    """little_disk(name, mib): a file system of its own."""
    made: list[Path] = []

    def make(name: str, mib: int) -> Path:
        at = tmp_path / name
        at.mkdir()
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={mib}m", "tmpfs", at], check=True)
        made.append(at)
        return at

    yield make
    for at in made:
        subprocess.run(["umount", "-l", at], check=False)


def fill(at: Path) -> Path:
    """Takes all the space that is left."""
    hog = at / "hog"
    with hog.open("wb", buffering=0) as out, contextlib.suppress(OSError):
        while True:
            out.write(b"\0" * 4096)
    return hog


@root_only
def test_the_workers_disk_is_full(little_disk: Callable[[str, int], Path], stage: Stage) -> None:
    """Also over a kill -9, which finds no journal of the second job."""
    at = little_disk("wdisk", 2)
    worker = stage.worker({"worker.state_dir": str(at / "state")})
    first, lease = begin(stage, 60)
    hog = fill(at)
    second = stage.cli.shell(counter(20, 0.1), "--retries", "0")
    wait_for("it has begun, or was refused", lambda: stage.api.show(second)["state"] in ("running", "succeeded", "failed"))
    worker.kill()
    worker.start()
    goes_on(stage, lease)
    hog.unlink()
    all_is_well(stage, first, 60)
    ended = stage.wait_end(second)
    if ended["state"] == "succeeded":
        stage.check_lines(second, 20)
    else:
        assert ended["reason_text"], ended
    stage.check_once(second)
    stage.check_bill(second)


@root_only
def test_tesds_disk_is_full(
    little_disk: Callable[[str, int], Path], stage_with: Callable[..., Stage], store_kind: str
) -> None:
    at = little_disk("tdisk", 8)
    more = {"store__database": f"sqlite:{at}/tes.db"} if store_kind == "sqlite" else {}
    stage = stage_with(store__blobs=f"file:{at}/blobs", **more)
    stage.tesd.errors_expected = True
    if store_kind == "sqlite":
        stage.tesd.store.path = at / "tes.db"
    stage.worker()
    workload = stage.cli.shell("head -c 300000 /dev/urandom > /out/big; " + counter(50, 0.1), "--out", "/out")
    stage.wait_line(workload, "line 3")
    hog = fill(at)
    goes_on(stage, stage.lease(workload), 15)
    refused = stage.cli.run("run", *small(), "--", "true")
    if store_kind == "sqlite":
        assert refused.returncode != 0 and refused.stderr, "it cannot be kept, so it is refused"
    wait_for("the container has ended", lambda: stage.watch.of(stage.lease(workload), "die"))
    hog.unlink()
    all_is_well(stage, workload, 50)
    assert [r["size_bytes"] for r in stage.cli.json("results", workload)["items"]] == [300000]


# ---- the store ----------------------------------------------------------------------------------------


class PrivatePostgres:
    def __init__(self, directory: Path) -> None:
        self.bin = max((p.parent for p in Path("/usr/lib/postgresql").glob("*/bin/postgres")), default=None)
        if not self.bin:
            pytest.skip("no PostgreSQL server programs here")
        self.directory = directory
        directory.mkdir()
        self.prefix: list[str] = []
        if os.geteuid() == 0:  # the server refuses to run as root
            self.prefix = ["setpriv", "--reuid=postgres", "--regid=postgres", "--init-groups"]
            subprocess.run(["chown", "postgres", directory], check=True)
        self.data = directory / "data"
        self._run(["initdb", "-D", self.data, "-U", "tes", "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync"])
        import socket

        with socket.socket() as s:
            s.bind(("127.0.0.1", 0))
            self.port = s.getsockname()[1]
        self.url = f"postgres://tes@127.0.0.1:{self.port}/postgres"

    def _run(self, command: list[object]) -> None:
        done = subprocess.run(
            [*self.prefix, self.bin / str(command[0]), *command[1:]], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
            text=True, timeout=60, check=False, cwd="/",
        )  # fmt: skip
        assert done.returncode == 0, done.stderr

    def start(self) -> None:
        options = f"-p {self.port} -c listen_addresses=127.0.0.1 -c unix_socket_directories={self.directory}"
        self._run(["pg_ctl", "-D", self.data, "-w", "-l", self.directory / "log", "-o", options, "start"])

    def stop(self, mode: str) -> None:
        self._run(["pg_ctl", "-D", self.data, "-w", "-m", mode, "stop"])


@pytest.fixture
def private_postgres() -> Iterator[PrivatePostgres]:
    # Where the user postgres may go, which tmp_path is not.
    directory = Path(subprocess.check_output(["mktemp", "-d"], text=True).strip())
    directory.chmod(0o755)
    postgres = PrivatePostgres(directory / "pg")
    postgres.start()
    yield postgres
    postgres.stop("immediate")
    subprocess.run(["rm", "-rf", directory], check=False)


@pytest.mark.parametrize("mode", ["fast", "immediate"])
def test_postgresql_restarts(
    private_postgres: PrivatePostgres, stage_with: Callable[..., Stage], store_kind: str, mode: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if store_kind != "postgresql":
        pytest.skip("SQLite has no server")
    monkeypatch.setenv("TES_TEST_POSTGRES", private_postgres.url)
    stage = stage_with()
    stage.tesd.errors_expected = True
    stage.worker()
    workload, lease = begin(stage)
    private_postgres.stop(mode)
    goes_on(stage, lease, 10)
    wait_for("it is not ready", lambda: send(stage.tesd.url, "GET", "/readyz").status == 503)
    private_postgres.start()
    all_is_well(stage, workload, 40)
