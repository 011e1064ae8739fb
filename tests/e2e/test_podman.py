"""The same on Podman, with a service, storage and network state of its own."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from harness import wait_for
from stage import Engine, Stage, counter

pytestmark = pytest.mark.one_store


@pytest.fixture(scope="module")
def podman(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    if not shutil.which("podman") or os.geteuid() != 0:
        pytest.skip("Podman is not installed, or this is not root")
    # A short path: a socket's has 107 bytes at most.
    directory = Path(subprocess.check_output(["mktemp", "-d"], text=True).strip())
    where = ["--root", directory / "root", "--runroot", directory / "run", "--tmpdir", directory / "tmp"]
    # Its own default asks for more descriptors and processes than some machines allow.
    (directory / "containers.conf").write_text('[containers]\ndefault_ulimits = ["nofile=1024:1024", "nproc=1024:1024"]\n')
    env = os.environ | {"CONTAINERS_CONF": str(directory / "containers.conf")}
    with (directory / "log").open("wb") as log:
        process = subprocess.Popen(
            ["podman", *where, "system", "service", "--time=0", f"unix://{directory}/s"], stdout=log, stderr=log, env=env
        )
    engine = Engine(str(directory / "s"))
    try:
        wait_for("Podman's service answers", lambda: process.poll() is not None or engine.answers(), 20)
        if process.poll() is not None:
            pytest.skip(f"Podman does not run here: {(directory / 'log').read_text()[-300:]}")
        engine.image_make()
        probe = subprocess.run(
            ["podman", *where, "run", "--rm", "tes-test/busybox:1", "true"], env=env,
            capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
        if probe.returncode != 0:
            pytest.skip(f"Podman runs no container here: {probe.stderr[-300:]}")
        yield engine
    finally:
        subprocess.run(["podman", *where, "rm", "-af", "-t", "0"], capture_output=True, timeout=60, check=False)
        process.terminate()
        process.wait(20)
        subprocess.run(["podman", *where, "rmi", "-af"], capture_output=True, timeout=60, check=False)
        subprocess.run(["sh", "-c", f"umount -l {directory}/root/overlay 2>/dev/null; rm -rf {directory}"], check=False)


def test_on_podman(podman: Engine, stage_with: Callable[..., Stage]) -> None:
    stage = stage_with(engine=podman)
    worker = stage.worker()
    checked = worker.run("check", "--image", "tes-test/busybox:1")
    assert checked.returncode == 0, checked.stdout
    done = stage.cli.run("run", "--image", "tes-test/busybox:1", "--cpus", "0.5", "--memory", "64MiB", "--disk", "64MiB",
                         "--out", "/out", "--wait", "--", "sh", "-c", "echo hi; echo x > /out/x; exit 3")  # fmt: skip
    assert (done.returncode, done.stdout) == (3, "hi\n"), done
    assert [r["path"] for r in stage.cli.json("results")["items"]] == ["out/x"]

    workload = stage.cli.shell(counter(40, 0.1))
    stage.wait_line(workload, "line 3")
    worker.kill()
    worker.start()
    assert stage.wait_end(workload)["state"] == "succeeded"
    stage.check_lines(workload, 40)
    assert 4 <= stage.api.bill(workload)["lines"][0]["seconds"] <= 12

    ended = stage.run("tail /dev/zero", "--retries", "0")
    # With control groups of version 1 Podman hears of it through the kernel's log only, which drops what comes too often.
    assert ended["exit_code"] == 137 and ended["reason"] in ("out_of_memory", "exited_with_error"), ended
    stop = stage.cli.shell(counter(600, 0.1))
    stage.wait_line(stop, "line 2")
    stage.cli.ok("stop", stop)
    assert stage.wait_end(stop)["state"] == "stopped"
    wait_for("nothing is left", lambda: not worker.containers())
