"""How a real container comes to its end, with its reason; what is tried again, and where."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from harness import holds_for, wait_for
from stage import Stage, counter


def nothing_billed(stage: Stage, workload: str) -> None:
    assert stage.api.bill(workload)["total_uusd"] == 0


def test_out_of_memory(common: Stage) -> None:
    ended = common.run("x=$(head -c 200000000 /dev/zero | tr '\\0' x); echo ${#x}")
    assert (ended["state"], ended["reason"], ended["attempts"]) == ("failed", "out_of_memory", 1)
    assert "32 MiB" in ended["reason_text"] and ended["exit_code"] == 137
    common.check_bill(ended["id"])


def test_disk_limit(common: Stage) -> None:
    ended = common.run("echo begins; head -c 150000000 /dev/zero > /big; sleep 60", timeout_s=30)
    assert (ended["state"], ended["reason"], ended["attempts"]) == ("failed", "disk_limit_exceeded", 1)
    assert "64 MiB were asked for" in ended["reason_text"]
    assert common.text(ended["id"]) == "begins\n"
    common.check_bill(ended["id"])


def test_max_duration(common: Stage) -> None:
    ended = common.run(counter(500, 0.1), "--max-duration", "2s")
    assert (ended["state"], ended["reason"]) == ("failed", "max_duration_exceeded")
    (line,) = common.api.bill(ended["id"])["lines"]
    assert line["seconds"] == 2, "not a second more than was agreed"
    common.check_once(ended["id"])


def test_never_ready_is_not_billed(common: Stage, tmp_path) -> None:
    (tmp_path / "job.yaml").write_text(
        "image: tes-test/busybox:1\ncommand: [sh, -c, 'trap exit TERM; sleep 60 & wait']\ncpus: 0.1\nmemory: 32MiB\n"
        "disk: 64MiB\nretries: 0\nready:\n  command: [test, -e, /ready]\n  timeout: 2s\n"
    )
    done = common.cli.run("apply", "-f", str(tmp_path / "job.yaml"), "--wait")
    assert done.returncode != 0 and "not ready within 2 s" in done.stderr, done
    shown = common.cli.json("show")
    assert shown["reason"] == "never_ready"
    nothing_billed(common, shown["id"])


def test_billed_from_readiness_on(common: Stage, tmp_path) -> None:
    (tmp_path / "job.yaml").write_text(
        "image: tes-test/busybox:1\ncommand: [sh, -c, 'sleep 2.5; touch /ready; sleep 1.7']\ncpus: 0.1\nmemory: 32MiB\n"
        "disk: 64MiB\nretries: 0\nready:\n  command: [test, -e, /ready]\n  timeout: 20s\n"
    )
    done = common.cli.run("apply", "-f", str(tmp_path / "job.yaml"), "--wait")
    assert done.returncode == 0, done
    assert common.api.bill(common.cli.json("show")["id"])["lines"][0]["seconds"] == 1


def test_image_that_cannot_be_pulled(common: Stage) -> None:
    """The address is this machine's, where no registry listens."""
    workload = common.cli.ok(
        "run", "--image", "127.0.0.1:1/none:1", "--cpus", "0.1", "--memory", "32MiB", "--retries", "0"
    ).strip()
    ended = common.wait_end(workload)
    assert (ended["state"], ended["reason"]) == ("failed", "image_pull_failed")
    assert "127.0.0.1:1/none" in ended["reason_text"] and "refused" in ended["reason_text"]
    nothing_billed(common, workload)


def test_images_of_the_machine_are_not_for_leases(common: Stage) -> None:
    """The engine has it, but no registry does, and its owner does not list it."""
    common.engine.import_image("private-of-owner:1", {"secret": b"not for you"})
    try:
        workload = common.cli.submit("--image", "private-of-owner:1", "--retries", "0", "--", "cat", "/secret")
        ended = common.wait_end(workload)
        by_id = common.cli.submit("--image", common.engine.get("/images/private-of-owner:1/json")["Id"], "--retries", "0", "--", "x")
        assert common.wait_end(by_id)["reason"] == "image_not_allowed"
    finally:
        common.engine.call("DELETE", "/images/private-of-owner:1?force=1")
    assert (ended["state"], ended["reason"]) == ("failed", "image_not_allowed"), ended
    assert "allow_local" in ended["reason_text"]
    nothing_billed(common, workload)


@pytest.mark.parametrize("registry", ["localhost:1", "192.168.1.5:5000", "169.254.169.254"])
def test_registries_of_the_providers_network_are_closed(common: Stage, registry: str) -> None:
    """The engine, which no packet filter holds, would ask it."""
    began = time.monotonic()
    workload = common.cli.submit("--image", f"{registry}/none:1", "--retries", "0", "--", "true")
    ended = common.wait_end(workload)
    assert (ended["state"], ended["reason"]) == ("failed", "registry_not_allowed"), ended
    assert "private_registries" in ended["reason_text"] and "refused" not in ended["reason_text"]
    assert time.monotonic() - began < 10, "nobody was asked: nothing is tried again"
    nothing_billed(common, workload)


def test_inputs_count_within_the_disk(common: Stage, tmp_path: Path) -> None:
    with (tmp_path / "big").open("wb") as out:
        out.truncate(48 << 20)
    fits = common.run("head -c 4000000 /dev/zero > /more; wc -c < /in/big", "--in", str(tmp_path / "big"))
    assert fits["state"] == "succeeded" and common.text(fits["id"]) == f"{48 << 20}\n", fits
    # What the inputs leave is what the container may write.
    over = common.run("head -c 30000000 /dev/zero > /more; sleep 30", "--in", str(tmp_path / "big"))
    assert (over["state"], over["reason"]) == ("failed", "disk_limit_exceeded"), over
    with (tmp_path / "big").open("wb") as out:
        out.truncate(70 << 20)
    refused = common.run("true", "--in", str(tmp_path / "big"))
    assert (refused["state"], refused["reason"], refused["attempts"]) == ("failed", "disk_limit_exceeded", 1), refused
    assert "64 MiB of disk" in refused["reason_text"]
    nothing_billed(common, refused["id"])


def test_a_retry_goes_to_another_worker(stage: Stage) -> None:
    """Somebody takes the container away behind the first worker's back."""
    stage.worker()
    stage.worker()
    workload = stage.cli.shell(counter(400, 0.1), "--retries", "2")
    stage.wait(workload, "running")
    first = stage.api.lease(workload)
    by_id = {w.id: w for w in stage.workers}
    by_id[first["worker_id"]].kill()
    assert stage.engine.call("DELETE", f"/containers/tes-{first['id']}?force=1")[0] == 204
    by_id[first["worker_id"]].start()
    wait_for("there is a second attempt", lambda: len(stage.api.leases(workload)) == 2)
    stage.wait(workload, "running")
    first, second = stage.api.leases(workload)
    assert (first["reason"], first["state"]) == ("container_lost", "ended")
    assert second["worker_id"] != first["worker_id"] and {first["worker_id"], second["worker_id"]} == set(by_id)
    stage.cli.ok("stop", workload)
    stage.wait_end(workload)
    stage.check_once(workload)
    stage.check_bill(workload)


def test_a_command_that_fails_is_not_tried_again(common: Stage) -> None:
    ended = common.run("exit 9", "--retries", "3")
    assert (ended["reason"], ended["exit_code"], ended["attempts"]) == ("exited_with_error", 9, 1)


@pytest.mark.settings(network__grace="3s", network__silent_after="1s")
def test_lost_worker(stage: Stage) -> None:
    """It dies for good: the lease is given up after the grace, and goes to another worker; what was heard last is billed."""
    stage.worker()
    workload = stage.cli.shell(counter(30, 0.1), "--retries", "1")
    stage.wait_line(workload, "line 3")
    lost = stage.workers[0]
    lost.kill()
    lost.clear()
    other = stage.worker()
    ended = stage.wait_end(workload)
    first, second = stage.api.leases(workload)
    assert (first["reason"], ended["state"], second["worker_id"]) == ("worker_lost", "succeeded", other.id)
    stage.check_once(workload)
    assert stage.api.bill(workload)["lines"][0]["seconds"] <= stage.watch.delivered_s(first["id"]) + 0.35


@pytest.mark.settings(network__grace="3s", network__silent_after="1s")
def test_cut_off_for_longer_than_its_grace_it_fences_itself(stage: Stage) -> None:
    worker, proxy = stage.proxied()
    workload = stage.cli.shell(counter(600, 0.1), "--retries", "1")
    stage.wait_line(workload, "line 3")
    proxy.cut()
    lease = stage.lease(workload)
    wait_for("the worker has ended the container by itself", lambda: stage.watch.of(lease, "die"))
    wait_for("the server has given it up", lambda: stage.api.leases(workload)[0]["state"] == "ended")
    assert stage.api.leases(workload)[0]["reason"] == "worker_lost"
    holds_for("it is not tried beside that one", lambda: len(stage.api.leases(workload)) == 1, 0.3)
    proxy.mend()
    stage.wait_worker(worker)
    wait_for("nothing of it is left", lambda: not stage.engine.containers(f"ai.tes.lease={lease}"))
    stage.cli.ok("stop", workload)
    stage.wait_end(workload)
    stage.check_once(workload)
