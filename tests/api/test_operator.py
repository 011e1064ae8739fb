"""The operator's side: configuration, migrations, backup, health, metrics, TLS, the chain of events, the audit itself."""

from __future__ import annotations

import hashlib
import json
import os
import re
import sqlite3
import ssl
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from conftest import Network
from harness import GIVE_UP, SqliteStore, Tesd, in_parallel, program, send, wait_for
from worker import SimWorker

GENESIS = ""


def test_the_chain_of_events(net: Network) -> None:
    net.worker()
    net.run(sim={"run_s": 0.1})

    def rows() -> list[list[str]] | None:
        columns = "seq, id, org_id, actor, subject, kind, reason, text, at_ms, prev_hash, hash"
        got = net.tesd.store.query(f"SELECT {columns} FROM events ORDER BY seq")
        return got if got and all(r[0] for r in got) else None

    chain = wait_for("all events are numbered", rows)
    assert chain
    prev = GENESIS
    for i, (seq, ident, org, actor, subject, kind, reason, text, at_ms, prev_hash, digest) in enumerate(chain):
        assert int(seq) == i + 1 and prev_hash == prev
        lines = [prev, ident, org, actor, subject, kind, reason, text, at_ms, seq]
        assert hashlib.sha256("\n".join(lines).encode()).hexdigest() == digest
        prev = digest
    kinds = [r[5] for r in chain]
    expected = {"org.created", "worker.joined", "worker.online", "workload.pending", "lease.reserved", "lease.running", "lease.ended"}
    assert expected <= set(kinds)


def test_the_audit_finds_a_changed_event(net: Network) -> None:
    wait_for("an event is numbered", lambda: net.tesd.audit()["events"] >= 3)
    net.tesd.audited = False
    net.tesd.store.execute("UPDATE events SET text = 'nothing happened' WHERE seq = 2")
    done = net.tesd.run("admin", "audit")
    assert done.returncode == 1 and "finding: event 2" in done.stderr


@pytest.mark.parametrize(
    "sql",
    [
        "UPDATE accounts SET credits_posted = credits_posted + 1 WHERE name = 'customer'",
        "UPDATE transfers SET amount = amount + 1",
        "UPDATE leases SET billed_uusd = billed_uusd + 1",
        "UPDATE leases SET billed_ms = billed_ms - 1000",
    ],
)
def test_the_audit_finds_changed_money(net: Network, sql: str) -> None:
    net.worker()
    net.run(sim={"run_s": 1.1})
    assert net.tesd.audit()["ok"]
    net.tesd.audited = False
    net.tesd.store.execute(sql)
    done = net.tesd.run("admin", "audit")
    assert done.returncode == 1 and "finding:" in done.stderr, (done.stdout, done.stderr)


def test_event_stream(net: Network) -> None:
    api = net.api
    with api.stream("/v1/events?follow=true") as stream:
        job = api.submit(max_price_uusd_h=10**6)
        seen = []
        for event in stream:
            seen.append(event)
            if event.json()["subject"] == job["id"]:
                break
    assert [int(e.id) for e in seen] == sorted(int(e.id) for e in seen)
    api.stop(job["id"])
    with api.stream("/v1/events", last_event_id=seen[-1].id) as stream:
        following = stream.take(1)[0]
    assert int(following.id) > int(seen[-1].id) and following.json()["kind"] == "workload.stopped"
    actors = {e["kind"]: e["actor"] for e in api.events(job["id"])}
    assert actors["workload.pending"].startswith("ak_"), "it says who did it"


# ---- health, metrics, TLS -----------------------------------------------------------------------------


def test_pages_for_machines(net: Network) -> None:
    client = net.tesd.client()
    assert client.get("/healthz").ok() == {"status": "ok"}
    assert client.get("/readyz").ok() == {"status": "ready"}
    assert client.get("/v1/openapi.json").ok()["openapi"] == "3.1.0"
    version = client.get("/v1/version").ok()
    assert version["protocol"] == "1" and not version["production"]
    net.worker()
    net.run(sim={"run_s": 0.1})
    page = client.get("/metrics")
    assert page.status == 200 and page.headers["content-type"].startswith("text/plain; version=0.0.4")
    values = {}
    for line in page.body.decode().splitlines():
        if line.startswith("#"):
            assert re.match(r"# (HELP|TYPE) [a-z_]+ .+", line), line
            continue
        match = re.fullmatch(r'([a-z_]+(?:\{[a-z_]+="(?:[^"\\]|\\.)*"(?:,[a-z_]+="(?:[^"\\]|\\.)*")*\})?) (-?[0-9.e+]+)', line)
        assert match, line
        values[match.group(1)] = float(match.group(2))
    assert values["tes_lease_transitions_total"] == 2 and values["tes_placements_total"] == 1
    assert values['tes_leases_ended_total{reason="completed"}'] == 1 and values['tes_workers{state="online"}'] == 1
    assert values["tes_ledger_imbalance_uusd"] == 0
    assert not any(name.startswith(("tes_workloads{", "tes_leases{")) for name in values), "of what has ended there is no gauge"
    heads = [line for line in page.body.decode().splitlines() if line.startswith("# TYPE")]
    assert len(heads) == len(set(heads)), heads


@pytest.mark.settings(server__metrics_token="let-me-in")
def test_metrics_need_the_token(tesd: Tesd) -> None:
    tesd.client().get("/metrics").problem(403)
    assert tesd.client("let-me-out").get("/metrics").status == 403
    assert tesd.client("let-me-in").get("/metrics").status == 200


def test_readyz_tells_of_a_store_that_is_gone(tesd_with: Callable[..., Tesd], store_kind: str) -> None:
    if store_kind == "sqlite":
        pytest.skip("a file does not go away")
    tesd = tesd_with().start()
    tesd.audited = False
    tesd.errors_expected = True
    tesd.client().get("/readyz").ok(200)
    tesd.store.drop()
    wait_for("it is not ready", lambda: tesd.client().get("/readyz").status == 503)
    assert tesd.client().get("/healthz").status == 200


def test_tls(tesd_with: Callable[..., Tesd], tmp_path: Path) -> None:
    cert, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2",
         "-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", key, "-out", cert],
        check=True, capture_output=True,
    )  # fmt: skip
    tesd = tesd_with(server__tls_cert=str(cert), server__tls_key=str(key)).start()
    tesd.scheme, tesd.ca = "https", str(cert)
    client = tesd.client()
    assert client.get("/healthz").status == 200
    assert client.get("/v1/version").ok()["protocol"] == "1"
    with pytest.raises(ssl.SSLError):
        send(tesd.url, "GET", "/healthz")  # an unknown authority
    with pytest.raises(GIVE_UP):
        send(tesd.url.replace("https", "http"), "GET", "/healthz", timeout_s=5)


def test_tls_needs_both_files_and_good_ones(tesd_with: Callable[..., Tesd], tmp_path: Path) -> None:
    bad = tmp_path / "bad.pem"
    bad.write_text("not a certificate\n")
    tesd = tesd_with(server__tls_cert=str(bad))
    tesd.audited = False
    done = tesd.run("check-config")
    assert done.returncode == 1 and "tls_key" in done.stderr
    tesd.configure({"server.tls_key": str(bad)})
    done = tesd.run("run")
    assert done.returncode == 1 and done.stderr


# ---- configuration --------------------------------------------------------------------------------------


def checked(tmp_path: Path, text: str, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    path = tmp_path / "tesd.conf"
    path.write_text(text)
    return subprocess.run(
        [program("tesd"), "check-config", "-c", path], capture_output=True, text=True, check=False, env=os.environ | (env or {})
    )


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ("[server]\nlisten_port = 70000\n", 2, ["listen_port", "70000", "65535"]),
        ("[server]\n\nlisten_prot = 1\n", 3, ["listen_prot", "listen_port"]),
        ("[sever]\nlisten_port = 1\n", None, ["sever"]),
        ("listen_port = 1\n", 1, []),
        ("[network]\nfee = 101%\n", 2, ["fee"]),
        ("[network]\nfee = cheap\n", 2, ["fee", "cheap"]),
        ("[network]\nhold = 10 parsecs\n", 2, ["hold", "parsecs"]),
        ("[network]\nheartbeat = 1ms\n", 2, ["heartbeat"]),
        ("[log]\nlevel = loud\n", 2, ["level", "loud", "debug"]),
        ("[server]\nproduction = maybe\n", 2, ["production", "maybe"]),
        ("[limits]\nlogs_max = 1KiB\n", 2, ["logs_max"]),
        ("[server]\nthreads = 4\nthreads = 5\n", 3, ["threads"]),
        ("[server\nthreads = 4\n", 1, []),
        ("[server]\nthreads 4\n", 2, []),
        ("[server]\nthreads = \x07\n", 2, ["threads"]),
        ("[network]\nheartbeat = 10s\nsilent_after = 11s\n", None, ["silent_after"]),
        ("[network]\ngrace = 1s\n", None, ["grace"]),
        ("[network]\nsettle_interval = 6m\n", None, ["settle_interval"]),
        ("[store]\ndatabase = mysql://x\n", None, ["database", "mysql"]),
        ("[store]\nblobs = s3://x\n", None, ["blobs"]),
        ("[server]\nproduction = yes\npublic_url = http://tes.example.org\n", None, ["public_url", "https"]),
        ("[server]\nlisten_address = localhost\n", 2, ["listen_address", "localhost", "127.0.0.1"]),
        ("[server]\n\npublic_url = tes.example.org\n", 3, ["public_url", "tes.example.org", "https://"]),
        ("[server]\ntls_cert = /nowhere.pem\ntls_key = /etc/hostname\n", 2, ["tls_cert", "/nowhere.pem"]),
        ("[server]\ntls_key = /etc/hostname\ntls_cert = /etc/hostname\n", 3, ["tls_cert", "PEM"]),
        ("[store]\nsecret_key_file = /etc/hostname\n", 2, ["secret_key_file", "/etc/hostname", "64 hexadecimal"]),
        ("[zebra]\n", 1, ["zebra", "[server] [store] [log] [network] [limits]"]),
    ],
)
def test_mistakes_in_the_configuration(tmp_path: Path, text: str, line: int | None, words: list[str]) -> None:
    done = checked(tmp_path, text)
    assert done.returncode == 1 and not done.stdout and done.stderr.count("\n") == 1, done
    assert str(tmp_path / "tesd.conf") in done.stderr, done.stderr
    if line:
        assert f"tesd.conf:{line}" in done.stderr, done.stderr
    for word in words:
        assert word in done.stderr, done.stderr


def test_the_environment_wins(tmp_path: Path) -> None:
    assert checked(tmp_path, "[server]\nthreads = 4\n", {"TES_SERVER_THREADS": "5"}).returncode == 0
    done = checked(tmp_path, "[server]\nthreads = 4\n", {"TES_SERVER_THREADS": "many"})
    assert done.returncode == 1 and "TES_SERVER_THREADS" in done.stderr


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    done = subprocess.run(
        [program("tesd"), "check-config", "-c", tmp_path / "none.conf"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 1 and "none.conf" in done.stderr


def test_the_printed_configuration_is_a_valid_one(tmp_path: Path) -> None:
    printed = subprocess.run([program("tesd"), "config"], capture_output=True, text=True, check=True).stdout
    assert checked(tmp_path, printed).returncode == 0
    given = re.sub(r"^#(\w+ = \S)", r"\1", printed, flags=re.M)
    assert given != printed
    done = checked(tmp_path, given)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    "words",
    ["dance", "run --bogus", "run now", "run -c", "run --conf tesd.conf", "check-config x", "migrate --dry-run", "backup",
     "backup a b", "openapi x"],
)  # fmt: skip
def test_words_that_are_not_understood_start_nothing(tmp_path: Path, words: str) -> None:
    """Least of all a server on a store that nobody meant."""
    env = os.environ | {"TES_STORE_DATABASE": f"sqlite:{tmp_path}/made.db", "TES_SERVER_LISTEN_PORT": "0"}
    done = subprocess.run([program("tesd"), *words.split()], capture_output=True, text=True, check=False, env=env, timeout=20)
    assert done.returncode == 2 and done.stderr.startswith("tesd: ") and not done.stdout, done
    assert not list(tmp_path.iterdir())


def test_words_that_are_no_commands() -> None:
    for words in (["dance"], ["admin", "dance"], ["admin", "org", "create", "--colour", "red"]):
        done = subprocess.run([program("tesd"), *words], capture_output=True, text=True, check=False, env=os.environ | {
            "TES_STORE_DATABASE": "sqlite:/nowhere/at/all"})  # fmt: skip
        assert done.returncode in (1, 2) and done.stderr.startswith("tesd: "), done
    for words in (["--help"], ["help"], ["admin", "--help"], ["version"]):
        done = subprocess.run([program("tesd"), *words], capture_output=True, text=True, check=True)
        assert "tesd" in done.stdout


# ---- store --------------------------------------------------------------------------------------------


def test_migrate_twice(tesd_with: Callable[..., Tesd]) -> None:
    tesd = tesd_with()
    tesd.audited = False
    done = tesd.run("admin", "org", "list")
    assert done.returncode == 1 and "tesd migrate" in done.stderr, "an empty store is not touched by admin"
    for _ in range(2):
        done = tesd.run("migrate")
        assert (done.returncode, done.stdout) == (0, "the store is up to date\n"), done.stderr
    first = tesd.counts()
    assert tesd.run("migrate").returncode == 0 and tesd.counts() == first
    assert tesd.admin("org", "list") == []


def test_two_migrate_at_once(tesd_with: Callable[..., Tesd]) -> None:
    tesd = tesd_with()
    statuses = in_parallel(4, lambda _: tesd.run("migrate"))
    assert all(s.returncode == 0 for s in statuses), [s.stderr for s in statuses]
    assert tesd.run("migrate").returncode == 0


def test_backup_while_running(net: Network, tmp_path: Path) -> None:
    net.worker()
    running = net.api.submit(sim={"run_s": None}, name="under-way")
    net.api.wait(running["id"], "running")
    target = tmp_path / "backup"
    done = net.tesd.run("backup", str(target))
    assert (done.returncode, done.stdout) == (0, "done\n"), done.stderr
    assert target.stat().st_size > 10_000 and target.stat().st_mode & 0o077 == 0
    assert net.tesd.run("backup", str(target)).returncode == 0, "a later one takes its place, whole"
    nowhere = net.tesd.run("backup", str(tmp_path / "none" / "backup"))
    assert nowhere.returncode == 1 and "none" in nowhere.stderr
    if isinstance(net.tesd.store, SqliteStore):
        conn = sqlite3.connect(target)
        assert conn.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        assert conn.execute("SELECT name FROM workloads").fetchone() == ("under-way",)
        conn.close()
        restored = {"TES_STORE_DATABASE": f"sqlite:{target}"}
        audit = net.tesd.run("admin", "audit", env=restored)
        assert audit.returncode == 0, audit.stderr
    else:
        assert target.read_bytes().startswith(b"PGDMP")
    net.api.stop(running["id"])
    net.api.wait_end(running["id"])


def test_the_secret_key_must_be_the_right_one(net: Network) -> None:
    assert (net.tesd.directory / "secret.key").stat().st_mode & 0o777 == 0o600
    job = net.api.submit(secrets={"TOKEN": "hunter2"})
    worker = net.worker()
    net.api.wait_end(job["id"])
    assert worker.failures == []


def test_a_workload_gets_its_secrets(net: Network) -> None:
    from test_receipts import Bench

    bench = Bench(net, secrets={"TOKEN": "hunter2"}, env={"MODE": "fast"}, registry={"username": "me", "secret": "s3cret"})
    assert bench.lease["secrets"] == {"TOKEN": "hunter2"} and bench.lease["env"] == {"MODE": "fast"}
    assert bench.lease["registry"] == {"username": "me", "secret": "s3cret"}
    bench.end()


def test_admin_lists(net: Network) -> None:
    net.worker()
    assert {o["name"] for o in net.tesd.admin("org", "list")} == {"provider", "customer"}
    workers = net.tesd.admin("worker", "list")
    assert len(workers) == 1 and workers[0]["state"] == "online"
    done = net.tesd.run("admin", "org", "create", "customer")
    assert done.returncode == 1 and "already" in done.stderr
    done = net.tesd.run("admin", "worker", "block", workers[0]["id"])
    assert done.returncode == 2 and "--why" in done.stderr
    done = net.tesd.run("admin", "worker", "block", "wk_" + "0" * 26, "--why", "x")
    assert done.returncode == 1 and "no worker" in done.stderr
    done = net.tesd.run("admin", "user", "create", "bob@example.org", "--org", "customer", "--password-stdin", stdin="short\n")
    assert done.returncode == 1 and "8" in done.stderr
    assert json.loads(net.tesd.run("admin", "audit", "--json").stdout)["ok"]


def test_workers_by_name_and_by_the_beginning_of_their_ids(net: Network) -> None:
    name = "attic"
    worker = SimWorker(net.tesd.url).start(net.provider.join_token(), name)
    net.workers.append(worker)
    for ref in (name, worker.worker_id[:-3], worker.worker_id):
        assert net.tesd.admin("worker", "block", ref, "--why", "tried")["blocked"]
        assert not net.tesd.admin("worker", "unblock", ref)["blocked"]
    net.worker()
    done = net.tesd.run("admin", "worker", "block", "wk_0", "--why", "x")
    assert done.returncode == 1 and "several workers" in done.stderr, done
    for words, said in (
        (["credit", "customer", "99999999999"], "more than $1000000000.00"),
        (["join-token", "create", "--org", "provider", "--ttl", "0s"], "1s to 366d"),
    ):
        done = net.tesd.run("admin", *words)
        assert done.returncode == 1 and said in done.stderr, done
    done = net.tesd.run("admin", "worker", "block", "wk_zzz", "--why", "x")
    assert done.returncode == 1 and "worker list" in done.stderr, done
    for words in (["worker", "block", name], ["worker"], ["org", "creat", "x"], ["org", "list", "--colour"]):
        done = net.tesd.run("admin", *words)
        assert done.returncode == 2 and done.stderr.startswith("tesd: "), done


def test_no_name_stands_in_front_of_a_whole_id(net: Network) -> None:
    """A provider who names a worker as another's id keeps nobody from blocking that other one."""
    first = net.worker()
    net.workers.append(SimWorker(net.tesd.url).start(net.provider.join_token(), first.worker_id))
    assert net.tesd.admin("worker", "block", first.worker_id, "--why", "tried")["id"] == first.worker_id


def test_lists_are_for_people_on_a_terminal_and_for_programs_elsewhere(net: Network) -> None:
    worker = net.worker()
    plain = net.tesd.run("admin", "worker", "list").stdout
    assert plain.split("\t")[0] == worker.worker_id and "\x1b" not in plain
    shown = subprocess.run(
        ["script", "-qec", f"{program('tesd')} admin -c {net.tesd.config} worker list", "/dev/null"],
        capture_output=True, text=True, check=True, stdin=subprocess.DEVNULL,
    ).stdout.splitlines()  # fmt: skip
    assert shown[0].split()[:3] == ["id", "name", "org_id"] and shown[1].startswith(worker.worker_id)
    assert shown[0].index("org_id") == shown[1].index("or_")
