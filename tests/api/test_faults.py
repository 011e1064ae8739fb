"""What breaks: silence, restarts of either side, races.  Nothing runs twice, nothing is lost, nothing is billed twice."""

from __future__ import annotations

import contextlib
import threading
from typing import Any

import pytest

from conftest import Network
from harness import GIVE_UP, Client, in_parallel, owed, wait_for
from worker import gpus_of


@pytest.mark.settings(network__silent_after="1s", network__grace="20s")
def test_a_short_silence_keeps_the_lease(net: Network) -> None:
    worker = net.worker()
    job = net.api.submit(sim={"run_s": 5.5, "log": ["before\n"]}, retries=2)
    net.api.wait(job["id"], "running")
    worker.silence()
    net.wait_online(worker, "offline")
    wait_for("its lease is unreachable", lambda: net.api.lease(job["id"]).get("unreachable_since_ms"))
    assert net.api.show(job["id"])["state"] == "running"
    worker.speak()
    net.wait_online(worker, "online")
    wait_for("it is reachable", lambda: "unreachable_since_ms" not in net.api.lease(job["id"]))
    done = net.api.wait_end(job["id"])
    assert (done["state"], done["attempts"]) == ("succeeded", 1)
    line = net.api.bill(job["id"])["lines"][0]
    assert line["seconds"] == 5, "the silence was shorter than the grace: what ran in it is paid"
    seen = lambda: [e["kind"] for e in net.provider.client().events(worker.worker_id)]  # noqa: E731
    wait_for("its owner can see it", lambda: seen()[-3:] == ["worker.online", "worker.offline", "worker.online"])


def test_tesd_killed_while_a_worker_goes_on(net: Network) -> None:
    worker = net.worker()
    key = net.customer.key()
    jobs = [net.api.submit(sim={"run_s": 3.0, "log": [f"{i}\n"], "outputs": {"r": str(i)}})["id"] for i in range(3)]
    for job in jobs:
        net.api.wait(job, "running")
    for _ in range(3):
        net.tesd.kill()
        net.tesd.start()
        beats = worker.observations
        wait_for("the worker is heard again", lambda beats=beats: worker.observations > beats)
    api = net.tesd.client(key)
    for i, job in enumerate(jobs):
        done = api.wait_end(job)
        assert (done["state"], done["attempts"]) == ("succeeded", 1)
        assert api.logs(job) == [f"{i}\n"], "no line is lost or doubled"
        line = api.bill(job)["lines"][0]
        assert line["seconds"] == 3 and line["amount_uusd"] == owed(line["rate_uusd_h"], 3)
    assert len(net.tesd.store.query("SELECT id FROM receipts")) == 3
    earned = net.provider.client().balance()["earned_uusd"]
    bills = [api.bill(job)["lines"][0] for job in jobs]
    assert earned == sum(b["amount_uusd"] - b["fee_uusd"] for b in bills)


def test_tesd_stopped_in_order_while_a_worker_goes_on(net: Network) -> None:
    net.worker()
    job = net.api.submit(sim={"run_s": 2.0})["id"]
    net.api.wait(job, "running")
    assert net.tesd.stop() == 0
    net.tesd.start()
    assert net.api.wait_end(job)["state"] == "succeeded"


def test_tesd_stops_while_streams_are_being_opened(net: Network) -> None:
    """A stream that begins in the moment of stopping is ended too, and nothing of it is left."""
    net.customer.key()
    for _ in range(5):
        done = threading.Event()

        def knock(done: threading.Event = done) -> None:
            api = net.tesd.client(net.customer.key())
            while not done.is_set():
                with contextlib.suppress(*GIVE_UP):
                    api.stream("/v1/events").close()

        threads = [threading.Thread(target=knock, daemon=True) for _ in range(4)]
        for thread in threads:
            thread.start()
        try:
            assert net.tesd.stop() == 0
        finally:
            done.set()
            for thread in threads:
                thread.join(30)
        net.tesd.start()


@pytest.mark.settings(network__grace="2s", network__silent_after="1s")
def test_the_servers_own_absence_is_nobodys_fault(net: Network) -> None:
    """tesd is away for longer than the grace: the worker fences itself, and is not blamed by a second attempt beside it."""
    worker = net.worker()
    job = net.api.submit(sim={"run_s": None}, retries=1)["id"]
    net.api.wait(job, "running")
    lease = net.api.lease(job)["id"]
    net.tesd.kill()
    container = worker.container(lease)
    assert container
    wait_for("the worker has fenced itself", container.ended)
    net.tesd.start()
    wait_for("it runs again", lambda: (x := net.api.lease(job))["generation"] == 2 and x["state"] == "running")
    first = net.api.leases(job)[0]
    assert first["reason"] == "worker_lost"
    net.api.stop(job)
    net.api.wait_end(job)


def test_one_row_that_cannot_be_read_holds_up_nobody(net: Network) -> None:
    """What no code of ours writes: it is named in the log, and the leases behind it are settled all the same."""
    net.tesd.errors_expected = True
    for region in ("here", "there"):
        net.worker(region=region)
    broken, sound = (net.api.submit(sim={"run_s": None}, region=region)["id"] for region in ("here", "there"))
    for job in (broken, sound):
        net.api.wait(job, "running")
    lease = net.api.lease(broken)["id"]
    [[resources]] = net.tesd.store.query(f"SELECT resources FROM leases WHERE id = '{lease}'")
    net.tesd.store.execute(f"UPDATE leases SET resources = '{{' WHERE id = '{lease}'")
    try:
        settled = lambda: int(net.tesd.store.query(f"SELECT billed_uusd FROM leases WHERE workload_id = '{sound}'")[0][0])  # noqa: E731
        before = settled()
        wait_for("the other one is settled", lambda: settled() > before)
        wait_for("it is named", lambda: lease in net.tesd.log() and "passed over" in net.tesd.log())
        assert "tes_duty_passed_over_total" in net.tesd.client().get("/metrics").body.decode()
    finally:
        net.tesd.store.execute(f"UPDATE leases SET resources = '{resources}' WHERE id = '{lease}'")
    for job in (broken, sound):
        net.api.stop(job)
        assert net.api.wait_end(job)["reason"] == "stopped_by_customer"


def test_worker_restarts_with_its_containers(net: Network) -> None:
    worker = net.worker()
    job = net.api.submit(sim={"run_s": 2.5})["id"]
    net.api.wait(job, "running")
    worker.restart()
    done = net.api.wait_end(job)
    assert (done["state"], done["attempts"]) == ("succeeded", 1)
    assert net.api.bill(job)["lines"][0]["seconds"] == 2


def test_worker_restarts_without_its_containers(net: Network) -> None:
    worker = net.worker()
    job = net.api.submit(sim={"run_s": None}, retries=0)["id"]
    net.api.wait(job, "running")
    worker.stop()
    lease = net.api.lease(job)
    with worker.state_lock:
        worker.containers.clear()
        worker.script = {"ignore": True}
    worker.boot_id += "x"
    worker.session = None
    worker.start()
    done = net.api.wait_end(job)
    assert (done["state"], done["reason"]) == ("failed", "container_lost"), lease


def test_the_last_gpu(net: Network) -> None:
    """Two customers, one GPU: one gets it, the other gets an explanation."""
    worker = net.worker(devices=gpus_of(1))
    orgs = [net.tesd.org(f"racer-{i}", credit="1000") for i in range(2)]
    clients: list[Client] = [org.client() for org in orgs]
    want = {"cpu_milli": 1000, "memory_mib": 64, "disk_mib": 64, "gpus": 1, "gpu_model": "Simulated GPU"}
    jobs = in_parallel(2, lambda i: clients[i].submit(sim={"run_s": None}, resources=want)["id"])
    wait_for("one runs", lambda: [i for i in range(2) if clients[i].show(jobs[i])["state"] == "running"])
    winner = next(i for i in range(2) if clients[i].show(jobs[i])["state"] == "running")
    loser = 1 - winner
    assert clients[loser].show(jobs[loser])["state"] == "pending"
    explain = clients[loser].get(f"/v1/workloads/{jobs[loser]}/explain").ok()
    assert (explain["offers"], explain["matching"]) == (1, 0)
    line = next(x for x in explain["lines"] if x["excluded"] == 1)
    assert "gpu" in line["constraint"] and line["change"], explain
    lease = clients[winner].lease(jobs[winner])
    assert lease["devices"] == [worker.inventory["devices"][0]["uuid"]]
    clients[winner].stop(jobs[winner])
    clients[loser].wait(jobs[loser], "running")
    clients[loser].stop(jobs[loser])
    clients[loser].wait_end(jobs[loser])
    assert net.tesd.counts()["device_claims"] == 0


def test_more_jobs_than_gpus(net: Network) -> None:
    """Eight jobs on two workers with two GPUs each: at no time is one held twice, and all end."""
    for _ in range(2):
        net.worker(devices=gpus_of(2))
    want = {"cpu_milli": 1000, "memory_mib": 64, "disk_mib": 64, "gpus": 1}
    jobs = [net.api.submit(sim={"run_s": 0.5}, resources=want)["id"] for _ in range(8)]
    doubles: list[Any] = []
    done = threading.Event()

    def watch() -> None:
        while not done.is_set():
            held = [tuple(x["devices"]) for j in jobs for x in net.api.leases(j) if x["state"] != "ended"]
            if len(held) != len(set(held)):
                doubles.append(held)

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        assert {net.api.wait_end(j)["state"] for j in jobs} == {"succeeded"}
    finally:
        done.set()
        watcher.join()
    # Reads of several leases are not one moment; the store's own guard is what counts.
    assert net.tesd.counts()["device_claims"] == 0
    for machine in net.provider.client().get("/v1/workers").ok()["items"]:
        assert machine["used_gpus"] == 0 and machine["leases_ok"] > 0


def test_kill_in_a_loop_while_jobs_come_and_go(net: Network) -> None:
    worker = net.worker()
    key = net.customer.key()
    submitted: list[str] = []
    stop = threading.Event()

    def submit() -> None:
        for i in range(12):
            while not stop.is_set():
                spec = {"image": "debian:12", "command": ["sim", '{"run_s": 0.3}'], "resources": {"cpu_milli": 500}}
                api = net.tesd.client(key)
                try:
                    answer = api.post(
                        "/v1/workloads", spec | {"max_price_uusd_h": 10**10}, headers={"Idempotency-Key": f"job-{i}"}
                    )
                except GIVE_UP:
                    continue
                if answer.status == 201:
                    submitted.append(answer.json()["id"])
                    break

    thread = threading.Thread(target=submit, daemon=True)
    thread.start()
    try:
        for _ in range(5):
            beats = worker.observations
            wait_for("the worker is heard", lambda beats=beats: worker.observations > beats + 1)
            net.tesd.kill()
            net.tesd.audit()
            net.tesd.start()
        thread.join(30)
    finally:
        stop.set()
    assert len(submitted) == len(set(submitted)) == 12 == net.tesd.counts()["workloads"]
    api = net.tesd.client(key)
    for job in submitted:
        assert api.wait_end(job)["state"] == "succeeded"
        assert len(api.leases(job)) == 1
