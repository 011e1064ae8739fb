"""A backup of a network in use, and going on from it."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

from harness import PostgresStore, SqliteStore
from stage import Stage, counter


def restore(stage: Stage, backup: Path) -> None:
    """As docs/operations.md says."""
    store = stage.tesd.store
    if isinstance(store, SqliteStore):
        for more in ("-wal", "-shm"):
            Path(f"{store.path}{more}").unlink(missing_ok=True)
        shutil.copy(backup, store.path)
    else:
        assert isinstance(store, PostgresStore)
        done = subprocess.run(
            ["pg_restore", "--clean", "--if-exists", "-d", store.url, backup],
            capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr


def test_backup_while_in_use_and_restore(stage: Stage, tmp_path: Path) -> None:
    worker = stage.worker()
    kept = stage.run("echo kept", "--retries", "0")
    running = stage.cli.shell(counter(100, 0.1))
    stage.wait_line(running, "line 3")
    backup = tmp_path / "backup"
    done = stage.tesd.run("backup", str(backup))
    assert done.returncode == 0, done.stderr
    lost = stage.run("echo lost", "--retries", "0")

    assert stage.tesd.stop() == 0
    restore(stage, backup)
    assert stage.tesd.audit()["ok"]
    stage.tesd.start()
    assert stage.text(kept["id"]) == "kept\n" and stage.api.show(kept["id"])["state"] == "succeeded"
    assert lost["id"] not in stage.cli.ok("ls", "--all", "--json")
    ended = stage.wait_end(running, 60)
    assert (ended["state"], ended["attempts"]) == ("succeeded", 1), ended
    # The store is older than the worker's memory of what it has delivered (test_resend.py).
    stage.check_lines(running, 100)
    stage.check_once(running)
    assert stage.run("echo on", "--retries", "0")["state"] == "succeeded"
    assert worker.process and worker.process.poll() is None
