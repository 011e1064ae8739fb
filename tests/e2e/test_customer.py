"""The customer's main job by the command line: submit, watch, explain, stop, collect, pay."""

from __future__ import annotations

import hashlib
import json
import os
import re
import time
from pathlib import Path

import pytest
from harness import owed, wait_for
from stage import BUSYBOX, SMALL, Stage, counter, reads_until


@pytest.mark.parametrize("status", [0, 7])
def test_run_and_wait_has_the_containers_status(common: Stage, status: int) -> None:
    done = common.cli.run("run", *SMALL, "--wait", "--", "sh", "-c", f"echo out; echo err >&2; exit {status}")
    assert done.returncode == status, done
    assert done.stdout == "out\n"
    assert "err\n" in done.stderr and "placed on" in done.stderr and "creating container" in done.stderr


def test_run_and_wait_in_json(common: Stage) -> None:
    done = common.cli.run("run", *SMALL, "--wait", "--json", "--", "echo", "hello")
    assert done.returncode == 0
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert [v["data"]["text"] for v in lines if v["event"] == "log"] == ["hello\n"]
    assert lines[-1]["event"] == "workload" and lines[-1]["data"]["state"] == "succeeded"


def test_without_a_status_it_is_125(common: Stage) -> None:
    image = ["--image", "localhost:1/none:1"]
    done = common.cli.run("run", *image, "--cpus", "0.1", "--memory", "32MiB", "--wait", "--retries", "0", "--", "true")
    assert done.returncode == 125, done
    assert "localhost" in done.stderr
    shown = common.cli.json("show")
    assert (shown["reason"], shown["charged_uusd"]) == ("registry_not_allowed", 0)


@pytest.mark.parametrize(
    ("command", "status"), [("/no/such/program", 127), ("no-such-program", 127), ("/tmp", 126), ("/bin/not-executable", 126)]
)
def test_a_command_that_cannot_be_run(common: Stage, command: str, status: int) -> None:
    """As a shell says it; the same on every worker, so none tries it again."""
    common.engine.import_image("tes-test/plain:1", {"bin/not-executable": b"\x7fELF", "tmp/.keep": b""}, mode=0o644)
    done = common.cli.run(
        "run", "--image", "tes-test/plain:1", "--cpus", "0.1", "--memory", "32MiB", "--wait", "--retries", "3", "--", command
    )
    assert done.returncode == status, done
    shown = common.cli.json("show")
    assert (shown["state"], shown["reason"], shown["exit_code"]) == ("failed", "exited_with_error", status), shown
    assert (shown["attempts"], shown["charged_uusd"]) == (1, 0)
    assert command in shown["reason_text"]
    assert common.api.bill(shown["id"])["final"]


def test_interrupt_detaches(common: Stage) -> None:
    process = common.cli.start("run", *SMALL, "--wait", "--", "sh", "-c", counter(300, 0.1))
    assert process.stdout and process.stderr
    reads_until(process.stdout.readline, "line 2")
    process.send_signal(2)
    _, err = process.communicate(timeout=10)
    assert process.returncode == 130 and "tes logs -f" in err, err
    workload = common.cli.json("show")
    assert workload["state"] == "running"
    common.cli.ok("stop", workload["id"])
    assert common.wait_end(workload["id"])["state"] == "stopped"


def test_logs_are_followed_live_and_again(common: Stage) -> None:
    workload = common.cli.shell(counter(12, 0.15) + "; echo done >&2")
    process = common.cli.start("logs", "-f", workload)
    assert process.stdout
    reads_until(process.stdout.readline, "line 1\n")
    assert common.api.show(workload)["state"] in ("preparing", "running")
    out, err = process.communicate(timeout=30)
    assert process.returncode == 0 and "line 12\n" in out and "done\n" in err
    common.wait_end(workload)
    common.check_lines(workload, 12)
    assert common.cli.ok("logs", workload).splitlines() == [f"line {i}" for i in range(1, 13)]
    assert common.cli.ok("logs", "--since", "1h", workload).count("\n") == 12
    common.check_bill(workload)


def test_what_is_cut_off_in_the_middle_goes_on(common: Stage) -> None:
    """A container that writes a lot without line ends, and lines that are longer than an entry."""
    workload = common.cli.shell("head -c 200000 /dev/zero | tr '\\0' x; echo; printf tail")
    common.wait_end(workload)
    assert common.cli.ok("logs", workload) == "x" * 200000 + "\ntail\n"


def test_stop_and_rm(common: Stage) -> None:
    workload = common.cli.shell("trap 'echo bye; exit 3' TERM; echo up; while :; do sleep 0.1; done", "--name", "trapper")
    common.wait_line(workload, "up")
    assert "running" in common.cli.refused("rm", workload)
    common.cli.ok("stop", "trapper")
    ended = common.wait_end(workload)
    assert (ended["state"], ended["reason"]) == ("stopped", "stopped_by_customer")
    assert common.text(workload) == "up\nbye\n", "what it says at its end is kept"
    assert common.cli.ok("stop", workload) == "", "stopping what has ended is no error"
    lease = common.lease(workload)
    wait_for("its container is gone", lambda: not common.engine.containers(f"ai.tes.lease={lease}"))
    common.cli.ok("rm", workload)
    assert workload not in common.cli.ok("ls", "--all", "--json")
    common.check_bill(workload)


def test_an_array_is_shown_listed_and_stopped(common: Stage) -> None:
    loop = "trap 'exit 3' TERM; while :; do sleep 0.1; done"
    made = json.loads(common.cli.ok("run", *SMALL, "--array", "3", "--json", "--", "sh", "-c", loop))
    array, ids = made["id"], made["ids"]
    listed = common.cli.json("ls", "--array", array)["items"]
    assert [(w["id"], w["array_index"]) for w in listed] == [(ids[i], i) for i in (2, 1, 0)]
    wait_for("one runs", lambda: common.cli.json("show", array)["running"])
    assert array in common.cli.ok("show", array[:-1])
    common.cli.ok("stop", array)
    for ident in ids:
        assert common.wait_end(ident)["state"] == "stopped"
    shown = common.cli.json("show", array)
    assert (shown["count"], shown["stopped"]) == (3, 3)
    for words in (("stop", "ar_0000"), ("show", "ar_0000"), ("ls", "--array", "fold")):
        said = common.cli.refused(*words)
        assert words[-1] in said and "tes show" in said, said


def test_explain_names_what_excludes(common: Stage) -> None:
    workload = common.cli.submit("--cpus", "64", "--max-price", "100", "--", "true")
    text = common.cli.ok("explain", workload)
    assert "cpu" in text and "ask for at most" in text, text
    value = common.cli.json("explain", workload)
    assert value["matching"] == 0 and [c["constraint"] for c in value["lines"]] == ["cpu"]
    common.cli.ok("stop", workload)
    assert common.wait_end(workload)["state"] == "stopped"


def test_ids_may_be_shortened(common: Stage) -> None:
    first = common.cli.shell("true", "--name", "first")
    second = common.cli.shell("true", "--name", "second")
    common.wait_end(first)
    common.wait_end(second)
    shared = os.path.commonprefix([first, second])
    unique = second[: len(shared) + 1]
    assert common.cli.json("show", unique)["id"] == second
    assert common.cli.json("show", "first")["id"] == first
    assert shared in common.cli.refused("show", shared), "an ambiguous beginning is refused"
    assert "nothing-like-it" in common.cli.refused("show", "nothing-like-it")


# ---- results ------------------------------------------------------------------------------------------


def test_results_resume_and_are_checked(common: Stage, tmp_path: Path) -> None:
    script = "mkdir /out/sub; head -c 3000000 /dev/urandom > /out/big; echo small > '/out/sub/a b'; ln -s /etc/passwd /out/link"
    workload = common.cli.shell(script, "--out", "/out")
    common.wait_end(workload)
    listed = {r["path"]: r for r in common.cli.json("results", workload)["items"]}
    assert set(listed) == {"out/big", "out/sub/a b"} and "link" in common.api.lease(workload)["reason_text"]
    common.cli.ok("results", workload, "-o", str(tmp_path / "a"))
    big = (tmp_path / "a/out/big").read_bytes()
    assert hashlib.sha256(big).hexdigest() == listed["out/big"]["sha256"]

    half = tmp_path / "b/out/big.part"
    half.parent.mkdir(parents=True)
    half.write_bytes(big[:1_234_567])
    common.cli.ok("results", workload, "-o", str(tmp_path / "b"))
    assert (tmp_path / "b/out/big").read_bytes() == big and not half.exists()

    wrong = tmp_path / "c/out/big.part"
    wrong.parent.mkdir(parents=True)
    wrong.write_bytes(b"?" * 1000)
    assert "SHA-256" in common.cli.refused("results", workload, "-o", str(tmp_path / "c"))
    assert not (tmp_path / "c/out/big").exists()
    common.cli.ok("results", workload, "-o", str(tmp_path / "c"))
    assert (tmp_path / "c/out/big").read_bytes() == big
    again = common.cli.run("results", workload, "-o", str(tmp_path / "c"))
    assert again.returncode == 0


def test_results_of_what_failed(common: Stage) -> None:
    ended = common.run("echo half > /out/half; exit 4", "--out", "/out", "--out", "/never/made")
    assert (ended["state"], ended["exit_code"]) == ("failed", 4)
    assert [r["path"] for r in common.cli.json("results", ended["id"])["items"]] == ["out/half"]


# ---- inputs, environment, secrets ---------------------------------------------------------------------


def test_inputs_appear_read_only(common: Stage, tmp_path: Path) -> None:
    (tmp_path / "data/deep").mkdir(parents=True)
    (tmp_path / "data/deep/x").write_text("deep x\n")
    (tmp_path / "one.txt").write_text("one\n")
    # No word of theirs to stderr: the two streams have no order between them.
    write = "(touch /in/new || echo closed; echo more >> /in/one.txt || echo closed) 2>/dev/null"
    script = f"cat /in/one.txt /in/data/deep/x; {write}"
    ended = common.run(script, "--in", str(tmp_path / "one.txt"), "--in", str(tmp_path / "data"))
    assert common.text(ended["id"]) == "one\ndeep x\nclosed\nclosed\n"
    assert "cannot" in common.cli.refused("run", *SMALL, "--in", str(tmp_path / "missing"), "--", "true").lower()


def test_environment(common: Stage) -> None:
    workload = common.cli.shell('echo "$A-$B-$C"', "-e", "A=1 2", "-e", "B", "--env", "C=ü=", env={"B": "from-here"})
    common.wait_end(workload)
    assert common.text(workload) == "1 2-from-here-ü=\n"


def test_secrets_are_nowhere(common: Stage) -> None:
    """The container and the engine that runs it know a secret; nobody else keeps it."""
    secret = "hunter2-0123456789abcdef"
    workload = common.cli.shell('trap "exit 1" TERM; echo "${#TOKEN}"; sleep 20 & wait', "--secret", "TOKEN", env={"TOKEN": secret})
    common.wait_line(workload, f"{len(secret)}\n")
    lease = common.lease(workload)
    assert f"TOKEN={secret}" in common.engine.inspect(lease)["Config"]["Env"]
    shown = common.cli.ok("show", workload, "--json") + common.cli.ok("show", workload) + common.cli.ok("events", "--json")
    assert secret not in shown and "hunter2" not in shown
    stores = [p for p in common.directory.rglob("*") if p.is_file()]
    assert any(p.name == "tesd.log" for p in stores)
    w1 = common.workers[0].state_dir
    for path in stores:
        if path == w1 / "journal":
            continue  # the worker must know it after a crash: see below
        assert secret.encode() not in path.read_bytes(), f"{path} has the secret"
    if common.tesd.store.kind == "postgresql":
        for table in common.tesd.store.tables():
            assert secret not in repr(common.tesd.store.query(f"SELECT * FROM {table}")), table
    assert secret.encode() in (w1 / "journal").read_bytes()
    assert (w1 / "journal").stat().st_mode & 0o077 == 0, "others may read it"
    common.cli.ok("stop", workload)
    common.wait_end(workload)
    wait_for("the worker has forgotten it", lambda: lease.encode() not in (w1 / "journal").read_bytes())
    for path in w1.rglob("*"):
        assert not path.is_file() or secret.encode() not in path.read_bytes(), f"{path} has the secret"


# ---- job files ----------------------------------------------------------------------------------------

JOB = f"""\
image: {BUSYBOX}
command: [sh, -c, 'cat /in/word; echo $COLOUR; echo kept > /out/file']
cpus: 0.1
memory: 32MiB
disk: 64MiB
env:
  COLOUR: green
inputs: [word]
outputs: [/out]
max_price: 1.00
max_duration: 10m
"""


def test_apply(common: Stage, tmp_path: Path) -> None:
    (tmp_path / "word").write_text("mellon\n")
    (tmp_path / "job.yaml").write_text(JOB)
    done = common.cli.run("apply", "-f", str(tmp_path / "job.yaml"), "--wait")
    assert (done.returncode, done.stdout) == (0, "mellon\ngreen\n"), done
    spec = common.cli.json("show")["spec"]
    assert spec["resources"]["cpu_milli"] == 100 and spec["max_duration_s"] == 600


@pytest.mark.parametrize(
    ("line", "text", "words"),
    [
        (12, "memroy: 1GiB", ["memroy", "memory"]),
        (12, "retries: many", ["retries", "many"]),
        (12, "gpus: -1", ["gpus", "-1"]),
        (12, "image: again", ["image"]),
        (12, "name: [", []),
    ],
)
def test_apply_refuses_with_the_line(common: Stage, tmp_path: Path, line: int, text: str, words: list[str]) -> None:
    (tmp_path / "word").write_text("mellon\n")
    (tmp_path / "job.yaml").write_text(JOB + text + "\n")
    before = common.tesd.counts()["workloads"]
    said = common.cli.refused("apply", "-f", str(tmp_path / "job.yaml"))
    print(said)
    assert re.search(rf"\bline {line}\b|:{line}\b", said) or not words, said
    for word in words:
        assert word in said, said
    assert common.tesd.counts()["workloads"] == before


# ---- money --------------------------------------------------------------------------------------------


def test_bill_recomputes(common: Stage) -> None:
    """Each line, the total, the balance and the ledger's transfers say the same."""
    before = common.cli.json("balance")["posted_uusd"]
    workload = common.cli.shell("sleep 2.2")
    common.wait_end(workload)
    bill = common.cli.json("bill", workload)
    lease = common.api.lease(workload)
    (line,) = bill["lines"]
    resources = (100, 32)
    rate = -(-(resources[0] * 360000 * 1024 + resources[1] * 360000 * 1000) // (1000 * 1024))
    assert line["rate_uusd_h"] == lease["rate_uusd_h"] == rate
    assert line["seconds"] == 2 == int(common.watch.delivered_s(line["lease_id"]))
    assert line["amount_uusd"] == owed(rate, 2) and line["fee_uusd"] == line["amount_uusd"] * lease["fee_ppm"] // 10**6
    assert bill["final"] and bill["total_uusd"] == line["amount_uusd"] == common.api.show(workload)["charged_uusd"]
    assert before - common.cli.json("balance")["posted_uusd"] == bill["total_uusd"]
    moved = [t for t in common.api.get("/v1/transfers").ok()["items"] if t["subject"] == line["lease_id"]]
    assert sum(t["amount"] for t in moved if t["code"].startswith("settle")) == bill["total_uusd"]
    text = common.cli.ok("bill", workload)
    assert f"${bill['total_uusd'] / 1e6:.6f}" in text and "completed" in text
    assert line in common.cli.json("bill", "--since", "1h")["lines"]


def test_a_quotes_price_is_frozen(stage: Stage) -> None:
    worker = stage.worker()
    stage.cli.ok("quote", "--cpus", "0.1", "--memory", "32MiB", "--disk", "64MiB")
    quote = stage.cli.json("quote", "--cpus", "0.1", "--memory", "32MiB", "--disk", "64MiB")
    workload = stage.cli.ok("run", "--image", BUSYBOX, "--quote", quote["id"], "--", "sleep", "1.5").strip()
    stage.wait(workload, "running", "succeeded")
    worker.configure({"price.cpu_hour": "3.60"})
    worker.process.send_signal(1)
    wait_for("the new price is on offer", lambda: stage.cli.json("offers")["items"][0]["price_cpu_uusd_h"] == 3_600_000)
    stage.wait_end(workload)
    line = stage.api.bill(workload)["lines"][0]
    assert line["rate_uusd_h"] == quote["rate_uusd_h"] < 100_000
    assert "quote" in stage.cli.refused("run", "--image", BUSYBOX, "--quote", quote["id"], "--", "true"), "used once"


def test_max_price_waits(common: Stage) -> None:
    workload = common.cli.shell("true", "--max-price", "0.0001")
    assert "max_price" in common.cli.ok("explain", workload)
    assert common.api.show(workload)["state"] == "pending"
    common.cli.ok("stop", workload)


@pytest.mark.settings(network__hold="10s")
def test_out_of_funds_pauses_and_goes_on(stage: Stage) -> None:
    """Money for ten seconds: then it stands still, keeps its memory, and goes on when there is more."""
    stage.worker({"price.cpu_hour": "200"})
    poor = stage.tesd.org("poor", credit="0.06")
    stage.cli.env["TES_KEY"] = poor.key()
    workload = stage.cli.shell(counter(120, 0.1))
    api = poor.client()
    api.wait(workload, "paused", timeout_s=40)
    lease = api.lease(workload)["id"]
    wait_for("the container is frozen", lambda: stage.engine.inspect(lease)["State"]["Paused"])
    assert api.balance()["available_uusd"] < 10_000 and api.lease(workload)["reason"] == "out_of_funds"
    poor.credit("10")
    assert api.wait_end(workload, timeout_s=40)["state"] == "succeeded"
    stage.cli.ok("logs", workload)
    lines = "".join(api.logs(workload)).splitlines()
    assert lines == [f"line {i}" for i in range(1, 121)]
    bill = api.bill(workload)["lines"][0]
    delivered = stage.watch.delivered_s(lease)
    assert int(delivered - 0.5) <= bill["seconds"] <= delivered + 0.35, (bill, delivered)


# ---- speaking to people -------------------------------------------------------------------------------


def test_login_keeps_the_key_for_us_alone(common: Stage, tmp_path: Path) -> None:
    from stage import Cli

    cli = Cli(common.tesd.url, None, tmp_path)
    assert "tes login" in cli.refused("ls")
    cli.ok("login", "--url", common.tesd.url, "--key", "-", input=common.customer.key("developer") + "\n")
    (kept,) = (p for p in (tmp_path / "config").rglob("*") if p.is_file())
    assert kept.stat().st_mode & 0o777 == 0o600
    assert cli.json("whoami")["role"] == "developer"
    cli.ok("ls")
    cli.ok("logout")
    assert "tes login" in cli.refused("ls")


def test_no_colours_but_on_a_terminal(common: Stage) -> None:
    for words in (["ls"], ["offers"], ["--help"], ["run", "--help"], ["balance"]):
        done = common.cli.run(*words)
        assert done.returncode == 0 and "\x1b" not in done.stdout + done.stderr, words


def test_server_that_is_away(common: Stage) -> None:
    began = time.monotonic()
    said = common.cli.refused("ls", env={"TES_URL": "http://127.0.0.1:1"})
    assert "127.0.0.1:1" in said and time.monotonic() - began < 30
