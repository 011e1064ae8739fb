"""A store that was put back to an older copy: what the server has forgotten of a running job's output comes again."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness import wait_for
from stage import Stage
from test_backup import restore

LOST = "[tes] output is lost here"
# Says 40 lines, is silent until it is told to go on, and says 10 more.
SCRIPT = """go=; trap 'go=1' USR1; i=0
say() { while [ $i -lt $1 ]; do i=$((i+1)); echo line $i; sleep 0.05; done; }
say 40; while [ -z "$go" ]; do sleep 0.1; done; say 50"""


@pytest.fixture
def job(stage: Stage, tmp_path: Path) -> tuple[str, Path]:
    """It runs, is silent, and has said all; the backup is from amid that."""
    stage.worker()
    job = stage.cli.shell(SCRIPT, "--retries", "0")
    stage.wait_line(job, "line 5")
    backup = tmp_path / "backup"
    done = stage.tesd.run("backup", str(backup))
    assert done.returncode == 0, done.stderr
    stage.wait_line(job, "line 40")
    return job, backup


def go_on(stage: Stage, job: str) -> None:
    assert stage.engine.call("POST", f"/containers/tes-{stage.lease(job)}/kill?signal=USR1")[0] == 204
    ended = stage.wait_end(job, 60)
    assert (ended["state"], ended["attempts"]) == ("succeeded", 1), ended
    stage.check_once(job)


def test_what_the_server_has_forgotten_comes_again(stage: Stage, job: tuple[str, Path]) -> None:
    """Also while the job says nothing that would show the gap."""
    assert stage.tesd.stop() == 0
    restore(stage, job[1])
    stage.tesd.start()
    wait_for("all that it has said is back", lambda: stage.check_lines(job[0]) == 40, 40)
    assert stage.api.show(job[0])["state"] == "running"
    go_on(stage, job[0])
    stage.check_lines(job[0], 50)
    assert LOST not in stage.text(job[0])


def test_after_a_restart_of_the_worker_as_well(stage: Stage, job: tuple[str, Path]) -> None:
    assert stage.tesd.stop() == 0
    stage.workers[0].kill()
    restore(stage, job[1])
    stage.tesd.start()
    stage.workers[0].start()
    go_on(stage, job[0])
    stage.check_lines(job[0], 50)
    assert LOST not in stage.text(job[0])


def test_the_server_goes_back_twice(stage: Stage, job: tuple[str, Path]) -> None:
    for _ in range(2):
        assert stage.tesd.stop() == 0
        restore(stage, job[1])
        stage.tesd.start()
        wait_for("all that it has said is back", lambda: stage.check_lines(job[0]) == 40, 40)
    go_on(stage, job[0])
    stage.check_lines(job[0], 50)


def test_what_the_machine_no_longer_has_is_marked(stage: Stage, job: tuple[str, Path]) -> None:
    kept = Path(stage.engine.inspect(stage.lease(job[0]))["LogPath"])
    assert stage.tesd.stop() == 0
    restore(stage, job[1])
    with kept.open("r+b") as file:
        file.truncate()
    stage.tesd.start()
    wait_for("it is said that output is lost", lambda: LOST in stage.text(job[0]), 40)
    go_on(stage, job[0])
    items = stage.api.get(f"/v1/workloads/{job[0]}/logs").ok()["items"]
    assert [e["seq"] for e in items] == list(range(1, len(items) + 1))
    mark = next(i for i, e in enumerate(items) if LOST in e["text"])
    assert 5 <= mark < 40 and items[mark]["stream"] == "system"
    assert [e["text"] for e in items[:mark]] == [f"line {i + 1}\n" for i in range(mark)]
    assert [e["text"] for e in items[mark + 1 :]] == [f"line {i}\n" for i in range(41, 51)]
