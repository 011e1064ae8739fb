"""A private registry on loopback (Debian's docker-registry): credentials, progress, pinning by digest."""

from __future__ import annotations

import base64
import json
import os
import shutil
import socket
import subprocess
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from harness import wait_for
from stage import Engine, Stage

USER, PASSWORD = "tes", "secret"
# PASSWORD, as htpasswd -B writes it.
USERS = "tes:$2y$05$r/08KUkxL/90cKqxnle9FeGdta/2tfaYP.YP/oWLuDqlbEYTE7Lw.\n"


@dataclass
class Registry:
    host: str
    engine: Engine

    def push(self, name: str, *changes: str, weight: int = 0) -> str:
        """A small image of one more file; its digest.  Nothing of it is left in the engine."""
        busybox = shutil.which("busybox")
        assert busybox
        files = {"bin/sh": Path(busybox).read_bytes(), "weight": os.urandom(weight), "tmp/.keep": b""}
        image = f"{self.host}/{name}"
        self.engine.import_image(image, files, "ENV PATH=/bin", *changes)
        auth = base64.urlsafe_b64encode(json.dumps({"username": USER, "password": PASSWORD}).encode()).decode()
        repo, tag = image.rsplit(":", 1)
        status, body = self.engine.call("POST", f"/images/{repo}/push?tag={tag}", headers={"X-Registry-Auth": auth})
        assert status == 200 and b'"error"' not in body, body
        digest = next(json.loads(line)["aux"]["Digest"] for line in body.splitlines() if b'"aux"' in line)
        self.forget(name)
        return digest

    def forget(self, name: str) -> None:
        self.engine.call("DELETE", f"/images/{self.host}/{name}?force=1")


@pytest.fixture(scope="module")
def registry(engine: Engine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    program = shutil.which("docker-registry")
    if not program or not shutil.which("busybox"):
        pytest.skip("docker-registry and busybox are not installed")
    directory = tmp_path_factory.mktemp("registry")
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    (directory / "htpasswd").write_text(USERS)
    (directory / "config.yml").write_text(
        f"version: 0.1\nlog: {{level: error}}\nstorage: {{filesystem: {{rootdirectory: {directory}/data}}}}\n"
        f"http: {{addr: '127.0.0.1:{port}'}}\nauth: {{htpasswd: {{realm: test, path: {directory}/htpasswd}}}}\n"
    )
    process = subprocess.Popen(
        [program, "serve", directory / "config.yml"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )

    def answers() -> bool:
        try:
            urllib.request.urlopen(f"http://127.0.0.1:{port}/v2/", timeout=2)
        except urllib.error.HTTPError as error:
            return error.code == 401
        except OSError:
            return False
        return True

    wait_for("the registry answers", answers)
    yield Registry(f"127.0.0.1:{port}", engine)
    process.kill()
    process.wait()


LOGIN = ["--registry-user", USER]
SIZE = ["--cpus", "0.5", "--memory", "32MiB", "--disk", "64MiB", "--retries", "0"]


def test_with_credentials(common: Stage, registry: Registry) -> None:
    digest = registry.push("private/app:1", weight=8 << 20)
    done = common.cli.run(
        "run", "--image", f"{registry.host}/private/app:1", *LOGIN, *SIZE, "--wait", "--", "sh", "-c", "echo pulled",
        env={"TES_REGISTRY_PASSWORD": PASSWORD},
    )  # fmt: skip
    registry.forget("private/app:1")
    assert (done.returncode, done.stdout) == (0, "pulled\n"), done
    assert "pulling" in done.stderr, done.stderr
    workload = common.cli.json("show")
    lease = common.api.lease(workload["id"])
    assert lease["image_digest"] == f"{registry.host}/private/app@{digest}", "pinned when the lease is made"
    assert PASSWORD not in json.dumps(workload) and PASSWORD not in common.cli.ok("events", "--json")


@pytest.mark.parametrize(("login", "env"), [([], {}), (LOGIN, {"TES_REGISTRY_PASSWORD": "wrong"})])
def test_without_or_with_wrong_credentials(common: Stage, registry: Registry, login: list[str], env: dict[str, str]) -> None:
    registry.push("private/closed:1")
    workload = common.cli.ok("run", "--image", f"{registry.host}/private/closed:1", *login, *SIZE, "--", "true", env=env).strip()
    ended = common.wait_end(workload)
    assert (ended["state"], ended["reason"]) == ("failed", "image_pull_failed"), ended
    assert "private/closed" in ended["reason_text"] and "wrong" not in ended["reason_text"], ended
    assert common.api.bill(workload)["total_uusd"] == 0


def test_an_attempt_runs_what_the_first_one_ran(stage: Stage, registry: Registry) -> None:
    """The tag moves on between two attempts; the workload does not."""
    registry.push("private/moving:1", "LABEL v=1")
    stage.worker()
    image = f"{registry.host}/private/moving:1"
    workload = stage.cli.ok(
        "run", "--image", image, *LOGIN, *SIZE[:-1], "2", "--", "sh", "-c",
        "trap 'exit 1' TERM; echo up; i=0; while [ $i -lt 600 ]; do i=$((i+1)); busybox sleep 0.1 || /bin/sh sleep 0.1; done",
        env={"TES_REGISTRY_PASSWORD": PASSWORD},
    ).strip()  # fmt: skip
    stage.wait(workload, "running")
    first = stage.api.lease(workload)
    registry.push("private/moving:1", "LABEL v=2", weight=1000)
    (worker,) = stage.workers
    worker.kill()
    worker.clear()
    stage.worker()
    worker.start()
    wait_for("there is a second attempt", lambda: len(stage.api.leases(workload)) == 2)
    stage.wait(workload, "running", "failed", "succeeded")
    second = stage.api.lease(workload)
    assert second["image_digest"] == first["image_digest"] and "@sha256:" in second["image_digest"]
    stage.cli.ok("stop", workload)
    stage.wait_end(workload)
    registry.forget("private/moving:1")
