"""A provider's machine: what it has, whether it can work, joining, its owner's wishes, GPUs."""

from __future__ import annotations

import json
import os
import re
import subprocess
from pathlib import Path

import pytest
from harness import ROOT, wait_for
from stage import Engine, Stage, Worker, counter

STANDIN = ROOT / "src/worker/hw/test/nvml_standin.c"


def test_hwdetect(engine: Engine, tmp_path: Path) -> None:
    worker = Worker(tmp_path / "w", engine, {"share.memory": "1GiB", "share.cpus": "50%"})
    done = worker.run("hwdetect", "--json")
    assert done.returncode == 0, done.stderr
    value = json.loads(done.stdout)
    assert value["cpu_threads"] == os.cpu_count() and value["offered_cpu_milli"] == os.cpu_count() * 500
    assert value["offered_memory_mib"] == 1024 <= value["memory_mib"] and value["disk_mib"] > 0
    people = worker.run("hwdetect")
    assert people.returncode == 0 and value["hostname"] in people.stdout


def test_check_on_a_machine_that_works(engine: Engine, tmp_path: Path) -> None:
    worker = Worker(tmp_path / "w", engine)
    done = worker.run("check", "--image", "tes-test/busybox:1")
    assert done.returncode == 0, done.stdout + done.stderr
    for word in ("engine", "jail", "disk", "container"):
        assert word in done.stdout.lower(), done.stdout


def under_the_units_capabilities(*without: str) -> list[str | Path]:
    unit = (ROOT / "deploy/systemd/tes-worker.service").read_text()
    line = re.search(r"^CapabilityBoundingSet=(.+)$", unit, re.M)
    assert line
    kept = [c.removeprefix("CAP_").lower() for c in line[1].split() if c not in without]
    return ["setpriv", "--bounding-set", "-all," + ",".join(f"+{c}" for c in kept), "--no-new-privs"]


def test_the_units_capabilities_are_enough(stage: Stage, tmp_path: Path) -> None:
    """Also to see the disk that a container uses by a file which it has removed and holds open."""
    worker = stage.worker(under=under_the_units_capabilities())
    checked = worker.run("check", "--image", "tes-test/busybox:1")
    assert checked.returncode == 0 and "hold" not in checked.stdout, checked.stdout
    script = "exec 3> /tmp/gone; rm /tmp/gone; head -c 120000000 /dev/zero >&3; sleep 60"
    ended = stage.run(script, "--retries", "0", timeout_s=60)
    assert (ended["state"], ended["reason"]) == ("failed", "disk_limit_exceeded"), ended
    worker.under = under_the_units_capabilities("CAP_SYS_PTRACE")
    said = json.loads(worker.run("check", "--json").stdout)
    limits = [c for c in said["checks"] if c["name"] == "limits"]
    assert limits[0]["result"] == "warning" and "CAP_SYS_PTRACE" in limits[0]["next"], limits


def test_check_names_cause_and_next_step(engine: Engine, tmp_path: Path) -> None:
    worker = Worker(tmp_path / "w", engine, {"engine.socket": str(tmp_path / "none.sock")})
    done = worker.run("check", "--json")
    assert done.returncode == 1
    (failed,) = [c for c in json.loads(done.stdout)["checks"] if c["result"] == "failed"]
    assert str(tmp_path / "none.sock") in failed["text"] and failed["next"]


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"share.cpus": "lots"}, ["cpus", "lots"]),
        ({"price.gpu_hour": "-1"}, ["gpu_hour", "-1"]),
        ({"hours.daily": "25:00-26:00"}, ["daily", "25:00"]),
        ({"jail.requird": "true"}, ["requird"]),
    ],
)
def test_configuration_errors_have_file_and_line(
    engine: Engine, tmp_path: Path, settings: dict[str, str], words: list[str]
) -> None:
    worker = Worker(tmp_path / "w", engine, settings)
    (key,) = settings
    line = 1 + next(i for i, text in enumerate(worker.config.read_text().splitlines()) if text.startswith(key.split(".")[1]))
    for command in ("check", "run"):
        done = worker.run(command)
        assert done.returncode != 0 and f"{worker.config}:{line}:" in done.stderr, done.stderr
        assert all(word in done.stderr for word in words), done.stderr


def test_a_token_is_spent_by_joining(common: Stage, tmp_path: Path) -> None:
    token = common.provider.join_token()
    first, second = (Worker(tmp_path / name, common.engine) for name in ("a", "b"))
    first.join(common.tesd.url, token)
    assert (first.state_dir / "key").stat().st_mode & 0o777 == 0o600
    done = second.run("join", common.tesd.url, "--token", token)
    assert done.returncode == 1 and "token" in done.stderr
    assert not (second.state_dir / "worker.json").exists()
    again = first.run("join", common.tesd.url, "--token", common.provider.join_token())
    assert again.returncode == 1 and "leave" in again.stderr, again
    assert first.run("leave").returncode == 0


def test_pause_resume_drain_leave(stage: Stage) -> None:
    worker = stage.worker()
    assert worker.run("pause").returncode == 0
    wait_for("it is paused", lambda: stage.worker_show(worker)["intent"] == "paused")
    waiting = stage.cli.shell("true", "--max-price", "1")
    assert "intent" in stage.cli.ok("explain", waiting)
    assert worker.run("resume").returncode == 0
    assert stage.wait_end(waiting)["state"] == "succeeded"

    busy = stage.cli.shell(counter(600, 0.1), "--retries", "0")
    stage.wait_line(busy, "line 2")
    refused = worker.run("leave")
    assert refused.returncode == 1 and "drain" in refused.stderr, refused
    assert worker.run("pause").returncode == 0
    wait_for("it is paused", lambda: stage.worker_show(worker)["intent"] == "paused")
    assert stage.api.show(busy)["state"] == "running", "what runs goes on"
    assert worker.run("drain").returncode == 0
    ended = stage.wait_end(busy)
    assert ended["reason"] == "drained_by_provider"
    stage.check_bill(busy)
    assert stage.worker_show(worker)["leases_failed"] == 0, "to drain is no failure"
    wait_for("its containers are gone", lambda: not worker.containers())
    left = worker.run("leave")
    assert left.returncode == 0, left.stderr
    assert stage.worker_show(worker)["state"] == "left"
    wait_for("the process ends by itself", lambda: worker.process.poll() is not None)
    worker.process = None


def test_an_orderly_end_of_the_worker_keeps_its_containers(stage: Stage) -> None:
    worker = stage.worker()
    workload = stage.cli.shell(counter(25, 0.1))
    stage.wait_line(workload, "line 3")
    lease = stage.lease(workload)
    assert worker.stop() == 0
    assert stage.engine.running(lease)
    worker.start()
    assert stage.wait_end(workload)["state"] == "succeeded"
    stage.check_lines(workload, 25)
    stage.check_once(workload)
    stage.check_bill(workload)


# ---- GPUs ---------------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def nvml(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with a stand-in for NVIDIA's library."""
    directory = tmp_path_factory.mktemp("nvml")
    subprocess.run(
        ["cc", "-shared", "-fPIC", "-o", directory / "libnvidia-ml.so.1", STANDIN], check=True, timeout=60
    )
    return directory


@pytest.mark.one_store
def test_gpus_are_found_and_chosen_by_model(stage: Stage, nvml: Path) -> None:
    """By NVIDIA's library, of which there is only a stand-in here: offered, placed, explained; the engine cannot hand them over."""
    with_gpus = stage.worker(env={"LD_LIBRARY_PATH": str(nvml), "STANDIN_GPUS": "3"})
    stage.worker()
    devices = stage.worker_show(with_gpus)["inventory"]["devices"]
    assert [d["model"] for d in devices] == ["NVIDIA GeForce RTX 4090"] * 3 and not any(d.get("simulated") for d in devices)
    offers = stage.cli.json("offers", "--gpu-model", "4090", "--gpus", "2", "--vram", "20")["items"]
    assert [o["worker_id"] for o in offers] == [with_gpus.id]
    assert stage.cli.json("offers", "--gpu-model", "H100")["items"] == []
    too_many = stage.cli.shell("true", "--gpus", "4", "--max-price", "9")
    assert "at most 3" in stage.cli.ok("explain", too_many)
    stage.cli.ok("stop", too_many)


def test_simulated_gpus(stage: Stage) -> None:
    worker = stage.worker({"gpu.simulated": "2x NVIDIA-Sim 24576", "price.gpu_hour": "1.00"})
    stage.worker()
    (offer,) = stage.cli.json("offers", "--gpus", "1")["items"]
    assert offer["worker_id"] == worker.id and offer["simulated"] and offer["gpus_free"] == 2
    assert "simulated" in stage.cli.ok("offers", "--gpus", "1").lower()
    ended = stage.run("echo $TES_SIMULATED_GPUS; sleep 1.1", "--gpus", "2", "--gpu-model", "Sim")
    assert ended["state"] == "succeeded" and stage.api.lease(ended["id"])["worker_id"] == worker.id
    assert len(stage.text(ended["id"]).strip().split(",")) == 2
    assert stage.api.bill(ended["id"])["lines"][0]["rate_uusd_h"] > 2_000_000


def test_two_race_for_the_last_gpu(stage: Stage) -> None:
    stage.worker({"gpu.simulated": "1x NVIDIA-Sim 24576"})
    rivals = [stage.cli.shell(counter(300, 0.1), "--gpus", "1", "--max-price", "9") for _ in range(2)]
    wait_for("one has it", lambda: [stage.api.show(r)["state"] for r in rivals].count("running") == 1)
    loser = next(r for r in rivals if stage.api.show(r)["state"] == "pending")
    assert "gpus" in stage.cli.ok("explain", loser)
    winner = next(r for r in rivals if r != loser)
    stage.cli.ok("stop", winner)
    stage.wait(loser, "running")
    stage.cli.ok("stop", loser)
    stage.wait_end(loser)


@pytest.mark.settings(server__production="yes")
def test_a_production_network_refuses_what_is_simulated(stage: Stage, tmp_path: Path) -> None:
    worker = Worker(tmp_path / "sim", stage.engine, {"gpu.simulated": "1x NVIDIA-Sim 24576"})
    done = worker.run("join", stage.tesd.url, "--token", stage.provider.join_token())
    assert done.returncode == 1 and "simulated" in done.stderr
    honest = stage.worker()
    honest.configure({"gpu.simulated": "1x NVIDIA-Sim 24576"})
    honest.process.send_signal(1)
    wait_for("it says so", lambda: "simulated" in honest.log())
    assert stage.cli.json("offers", "--gpus", "1")["items"] == []
