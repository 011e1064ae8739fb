"""Workloads that attack: contained, with the reason shown, while a neighbour works on undisturbed.

The addresses that are tried belong to this machine or to network namespaces made here.
"""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from harness import wait_for
from stage import Stage, counter

pytestmark = pytest.mark.one_store

NEIGHBOUR_LINES = 40


@pytest.fixture
def neighbour(common: Stage) -> Iterator[str]:
    """A peaceful job of before, during and after; it must not notice anything."""
    workload = common.cli.shell(counter(NEIGHBOUR_LINES, 0.1), "--name", f"neighbour-{os.urandom(3).hex()}")
    common.wait_line(workload, "line 1")
    yield workload
    ended = common.wait_end(workload, 60)
    assert ended["state"] == "succeeded", ended
    common.check_lines(workload, NEIGHBOUR_LINES)
    common.check_once(workload)
    common.check_bill(workload)


def test_fork_bomb(common: Stage, neighbour: str) -> None:
    """It runs into the limit of processes or of memory, whichever comes first, and not the machine; and though its share of a
    processor is a tenth, it can be ended."""
    script = "bomb() { bomb | bomb & }; bomb; sleep 2; i=0; while [ $i -lt 20 ]; do sleep 0.2; i=$((i+1)); done"
    workload = common.cli.shell(script, "--memory", "128MiB", "--max-duration", "5s", "--retries", "0")
    common.wait(workload, "running")
    lease = common.lease(workload)
    assert common.run("echo works", "--retries", "0")["state"] == "succeeded", "others are served meanwhile"
    ended = common.wait_end(workload, 60)
    assert ended["reason"] in ("out_of_memory", "max_duration_exceeded", "exited_with_error"), ended
    wait_for("all of it is gone", lambda: not common.engine.containers(f"ai.tes.lease={lease}"))


def test_memory_bomb(common: Stage, neighbour: str) -> None:
    ended = common.run("tail /dev/zero", "--memory", "48MiB", "--retries", "0")
    assert (ended["state"], ended["reason"], ended["exit_code"]) == ("failed", "out_of_memory", 137)
    assert "48 MiB" in ended["reason_text"]


def test_memory_by_its_own_tmpfs(common: Stage) -> None:
    """What is written to /dev/shm is memory, and counts as such."""
    script = "head -c 100000000 /dev/zero > /dev/shm/x; echo status $?; sleep 0.1"
    ended = common.run(script, "--memory", "48MiB", "--retries", "0")
    assert ended["reason"] == "out_of_memory" or "status 1" in common.text(ended["id"]), ended


def test_disk_bomb(common: Stage, neighbour: str) -> None:
    """Also of what it has deleted and holds open, and of many empty files."""
    script = "exec 3> /gone; rm /gone; head -c 120000000 /dev/zero >&3; i=0; while :; do : > /f$i; i=$((i+1)); done"
    ended = common.run(script, "--retries", "0", timeout_s=60)
    assert (ended["state"], ended["reason"]) == ("failed", "disk_limit_exceeded")
    assert "64 MiB were asked for" in ended["reason_text"]


@pytest.mark.settings(limits__logs_max="1MiB")
def test_log_flood(stage: Stage) -> None:
    """As fast as it can, for two seconds: cut with a word, the worker's memory stays small, the next job is served."""
    worker = stage.worker()
    quiet = stage.cli.shell(counter(20, 0.1))
    flood = stage.cli.shell(f"trap 'kill $!; exit 1' TERM; yes {'a' * 70} & wait", "--max-duration", "2s")
    assert worker.process
    peak = 0
    while stage.api.show(flood)["state"] not in ("failed", "succeeded", "stopped"):
        status = Path(f"/proc/{worker.process.pid}/status").read_text()
        peak = max(peak, int(status.split("VmRSS:")[1].split()[0]))
    assert stage.api.show(flood)["reason"] == "max_duration_exceeded"
    assert peak < 64 * 1024, f"{peak} KiB"
    kept = stage.cli.ok("logs", flood)
    shown = stage.cli.run("logs", flood)
    assert len(kept) < 2 * 2**20 and "limit" in shown.stdout + shown.stderr, shown.stderr
    assert stage.wait_end(quiet)["state"] == "succeeded"
    stage.check_lines(quiet, 20)
    assert stage.api.bill(flood)["lines"][0]["seconds"] == 2


def test_privileges(common: Stage) -> None:
    """No raw sockets, no mounts, no devices, no modules, no clock, no other namespaces, nothing of the host to be seen."""
    script = """
t() { name=$1; shift; if "$@" >/dev/null 2>&1; then echo "OPEN $name"; else echo "closed $name"; fi; }
t mount mount -t tmpfs none /tmp
t bind mount -o bind /etc /tmp
t remount mount -o remount,rw /proc/sys
t ping ping -c 1 -W 1 127.0.0.1
t device sh -c 'mknod /tmp/sda b 8 0 && head -c 1 /tmp/sda'
t memory head -c 1 /dev/mem
t module insmod /x.ko
t hostname hostname other
t clock sh -c 'date -s 2001-01-01; [ $(date +%Y) = 2001 ]'
t sysctl sh -c 'echo 1 > /proc/sys/kernel/panic'
t sysrq sh -c 'echo b > /proc/sysrq-trigger'
t release sh -c 'for f in /sys/fs/cgroup/*/release_agent /sys/fs/cgroup/cgroup.procs; do test -e $f && echo /x > $f && exit; done; exit 1'
t namespace unshare -m true
t user-namespace unshare -U true
t chroot-out nsenter -t 1 -m -n true
t swap swapoff -a
t route ip link add dummy0 type dummy
t priority nice -n -10 true
t socket-docker ls /var/run/docker.sock
t socket-podman ls /run/podman/podman.sock
t kmsg head -c 1 /dev/kmsg
t reboot reboot -f
grep -E '^(NoNewPrivs|Seccomp|CapEff):' /proc/self/status
ls /sys/firmware | head -1; cat /proc/1/cgroup >/dev/null; echo pid $(ls -d /proc/[0-9]* | wc -l)
"""
    ended = common.run(script, "--retries", "0")
    text = common.text(ended["id"])
    assert ended["state"] == "succeeded", (ended, text)
    # A lower nice value of its own harms nobody but what shares its CPU quota.
    opened = [line for line in text.splitlines() if line.startswith("OPEN") and line != "OPEN priority"]
    assert not opened, opened
    assert "NoNewPrivs:\t1" in text and "Seccomp:\t2" in text, text
    effective = int(next(line for line in text.splitlines() if line.startswith("CapEff")).split()[1], 16)
    allowed = {0, 1, 3, 5, 6, 7, 10}  # chown dac_override fowner kill setgid setuid net_bind_service
    assert {bit for bit in range(64) if effective >> bit & 1} <= allowed, hex(effective)
    assert int(text.rsplit("pid ", 1)[1]) < 10, "it sees its own processes only"


# ---- the network --------------------------------------------------------------------------------------


@contextlib.contextmanager
def listening(address: str) -> Iterator[tuple[int, list[str]]]:
    """Something that takes connections at an address of this machine; its port, and who came."""
    came: list[str] = []
    server = socket.create_server((address, 0))

    def accept() -> None:
        with contextlib.suppress(OSError):
            while True:
                conn, peer = server.accept()
                came.append(peer[0])
                conn.sendall(b"secret of the host\n")
                conn.close()

    thread = threading.Thread(target=accept, daemon=True)
    thread.start()
    try:
        yield server.getsockname()[1], came
    finally:
        with contextlib.suppress(OSError):
            server.shutdown(socket.SHUT_RDWR)
        server.close()


@pytest.fixture
def private_host() -> Iterator[str]:
    """A network namespace that is a machine of the provider's own network, and a metadata service as well."""
    if os.geteuid() != 0:
        pytest.skip("network namespaces need root")
    name = f"tes-e2e-{os.getpid()}"
    script = f"""
ip netns add {name} && ip link add te2e type veth peer name te2e-in netns {name} &&
ip addr add 192.168.213.1/24 dev te2e && ip link set te2e up && ip addr add 169.254.213.1/24 dev te2e &&
ip -n {name} addr add 192.168.213.2/24 dev te2e-in && ip -n {name} addr add 169.254.213.254/24 dev te2e-in &&
ip -n {name} link set te2e-in up && ip -n {name} link set lo up && ip -n {name} route add default via 192.168.213.1"""
    subprocess.run(["sh", "-c", script], check=True)
    server = subprocess.Popen(
        ["ip", "netns", "exec", name, "busybox", "nc", "-ll", "-p", "8080", "-e", "echo", "secret of the network"],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:

        def answers() -> bool:
            with contextlib.suppress(OSError), socket.create_connection(("192.168.213.2", 8080), 2) as s:
                return b"secret" in s.recv(100)
            return False

        wait_for("the private machine answers this one", answers)
        yield "192.168.213.2"
    finally:
        server.kill()
        server.wait()
        subprocess.run(["ip", "netns", "del", name], check=False)
        subprocess.run(["ip", "link", "del", "te2e"], check=False, stderr=subprocess.DEVNULL)


def reach(*targets: str) -> str:
    """A script that tries "address port", and says what it got."""
    return "".join(f'echo "{t}: $(timeout 2 nc -w 2 {t} </dev/null 2>&1 | head -1)"\n' for t in targets) + "echo end"


def test_the_network_is_closed(common: Stage, private_host: str) -> None:
    bridge = common.engine.get("/networks/bridge")["IPAM"]["Config"][0].get("Gateway", "172.17.0.1")
    tesd_port = common.tesd.port
    with listening("0.0.0.0") as (port, came):
        tries = [f"{private_host} 8080", "169.254.213.254 8080", f"{bridge} {port}", f"192.168.213.1 {port}",
                 f"127.0.0.1 {port}", f"{bridge} {tesd_port}"]  # fmt: skip
        ended = common.run(reach(*tries), "--retries", "0", timeout_s=60)
    text = common.text(ended["id"])
    assert ended["state"] == "succeeded" and text.endswith("end\n"), (ended, text)
    assert "secret" not in text and not came, text


@pytest.mark.settings()
def test_the_owner_may_open_private_ranges_but_never_the_host(stage: Stage, private_host: str) -> None:
    stage.worker({"jail.private_routes": "true"})
    bridge = stage.engine.get("/networks/bridge")["IPAM"]["Config"][0].get("Gateway", "172.17.0.1")
    with listening("0.0.0.0") as (port, came):
        ended = stage.run(reach(f"{private_host} 8080", "169.254.213.254 8080", f"{bridge} {port}"), timeout_s=60)
    text = stage.text(ended["id"])
    assert f"{private_host} 8080: secret of the network" in text, text
    assert text.count("secret") == 1 and not came, text


def test_a_neighbour_cannot_be_reached(common: Stage) -> None:
    server = common.cli.shell("trap 'exit 0' TERM; echo up; nc -ll -p 9000 -e echo secret of the neighbour & wait")
    common.wait_line(server, "up")
    networks = common.engine.inspect(common.lease(server))["NetworkSettings"]["Networks"]
    address = next(iter(networks.values()))["IPAddress"]
    assert address
    ended = common.run(reach(f"{address} 9000") + f"\nping -c 1 -W 1 {address} || arping -c 1 {address}; true", "--retries", "0")
    text = common.text(ended["id"])
    assert ended["state"] == "succeeded" and "secret" not in text, text
    common.cli.ok("stop", server)
    common.wait_end(server)


def test_the_jail_comes_back(common: Stage, private_host: str) -> None:
    """Somebody flushes the packet filter; the worker makes its rules again."""

    def there() -> bool:
        return subprocess.run(["nft", "list", "table", "inet", "tes_worker"], capture_output=True, check=False).returncode == 0

    assert there()
    subprocess.run(["nft", "delete", "table", "inet", "tes_worker"], check=True)
    wait_for("the rules are back", there)
    ended = common.run(reach(f"{private_host} 8080"), "--retries", "0")
    assert ended["state"] == "succeeded" and "secret" not in common.text(ended["id"])


def test_what_it_is_called_does_no_harm(common: Stage, tmp_path: Path) -> None:
    """Names, output and results that speak to a terminal or lead out of a folder."""
    evil = "\\033]0;owned\\007\\033[31m"
    script = f"printf '{evil}line\\n'; mkdir -p /out; echo x > \"/out/$(printf '\\033[31mred')\"; echo y > /out/ok; ln -s / /out/root"
    workload = common.cli.shell(script, "--out", "/out")
    assert common.wait_end(workload)["state"] == "succeeded"
    common.cli.ok("results", workload, "-o", str(tmp_path / "o"))
    assert sorted(p.name for p in (tmp_path / "o/out").iterdir()) == ["ok"]
    table = common.cli.ok("results", workload) + common.cli.ok("show", workload)
    assert "\x1b" not in table
