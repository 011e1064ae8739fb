"""Every way in which a lease can end, its reason, and what it costs."""

from __future__ import annotations

from typing import Any

import pytest

from conftest import Network
from harness import owed, wait_for

RETRIED = ["image_pull_failed", "input_failed", "create_failed", "refused_by_worker", "image_not_allowed", "registry_not_allowed"]


def assert_nothing_billed(net: Network, workload: str) -> None:
    bill = net.api.bill(workload)
    assert bill["total_uusd"] == 0 and bill["final"], bill
    assert net.api.balance()["held_uusd"] == 0
    assert net.api.balance()["posted_uusd"] == 100_000_000_000


def assert_machine_free(net: Network, worker_id: str) -> None:
    machine = net.provider.client().get(f"/v1/workers/{worker_id}").ok()
    assert (machine["used_cpu_milli"], machine["used_memory_mib"], machine["used_gpus"]) == (0, 0, 0)


@pytest.mark.parametrize("reason", RETRIED)
def test_failure_before_it_runs(net: Network, reason: str) -> None:
    worker = net.worker()
    job = net.run(sim={"fail": reason, "text": "no such thing in the cellar"}, retries=0)
    assert (job["state"], job["reason"]) == ("failed", reason)
    assert job["reason_text"] == "no such thing in the cellar"
    lease = net.api.lease(job["id"])
    assert (lease["state"], lease["reason"], lease["desired"]) == ("ended", reason, "none")
    assert_nothing_billed(net, job["id"])
    assert_machine_free(net, worker.worker_id)


@pytest.mark.parametrize(
    ("sim", "reason", "code"),
    [
        ({"run_s": 1.1, "exit": 3}, "exited_with_error", 3),
        ({"run_s": 1.1, "exit": 137, "reason": "out_of_memory"}, "out_of_memory", 137),
        ({"run_s": 1.1, "exit": 1, "reason": "disk_limit_exceeded"}, "disk_limit_exceeded", 1),
    ],
)
def test_exit_with_error_is_paid_and_not_retried(net: Network, sim: dict[str, Any], reason: str, code: int) -> None:
    net.worker()
    job = net.run(sim=sim, retries=3)
    assert (job["state"], job["reason"], job["exit_code"], job["attempts"]) == ("failed", reason, code, 1)
    line = net.api.bill(job["id"])["lines"][0]
    assert line["seconds"] >= 1 and line["amount_uusd"] == owed(line["rate_uusd_h"], line["seconds"])


def test_a_worker_cannot_speak_for_the_customer(net: Network) -> None:
    net.worker()
    job = net.run(sim={"run_s": 0.3, "exit": 2, "reason": "stopped_by_customer"}, retries=0)
    assert job["reason"] == "exited_with_error"


def test_never_ready(net: Network) -> None:
    worker = net.worker()
    job = net.run(
        sim={"never_ready": True}, ready={"command": ["true"], "timeout_s": 1}, prepare_timeout_s=600, retries=0
    )
    assert (job["state"], job["reason"]) == ("failed", "never_ready")
    assert_nothing_billed(net, job["id"])
    assert_machine_free(net, worker.worker_id)


@pytest.mark.settings(network__reservation_ttl="1s")
def test_preparation_timeout(net: Network) -> None:
    net.worker()
    job = net.run(sim={"prepare_s": 1000}, prepare_timeout_s=10, retries=0)
    assert (job["state"], job["reason"]) == ("failed", "preparation_timeout")
    assert net.api.lease(job["id"])["accepted_ms"]
    assert_nothing_billed(net, job["id"])


@pytest.mark.settings(network__reservation_ttl="1s")
def test_reservation_expired(net: Network) -> None:
    worker = net.worker()
    job = net.run(sim={"ignore": True}, retries=0)
    assert (job["state"], job["reason"]) == ("failed", "reservation_expired")
    assert "accepted_ms" not in net.api.lease(job["id"])
    assert_nothing_billed(net, job["id"])
    assert_machine_free(net, worker.worker_id)
    machine = net.provider.client().get(f"/v1/workers/{worker.worker_id}").ok()
    assert machine["leases_failed"] == 1 and machine["reliability_ppm"] == 500000


def test_container_lost(net: Network) -> None:
    net.worker()
    job = net.run(sim={"run_s": None, "lose_after_s": 1.1}, retries=0)
    assert (job["state"], job["reason"]) == ("failed", "container_lost")
    assert net.api.bill(job["id"])["lines"][0]["seconds"] == 1


@pytest.mark.settings(network__silent_after="1s", network__grace="3s")
def test_worker_lost_after_its_grace(net: Network) -> None:
    worker = net.worker()
    job = net.api.submit(sim={"run_s": None}, retries=0)
    net.api.wait(job["id"], "running")
    wait_for("a second is billed", lambda: net.api.lease(job["id"])["billed_ms"] >= 1000)
    worker.silence()
    net.wait_online(worker, "offline")
    wait_for("its lease is unreachable", lambda: net.api.lease(job["id"]).get("unreachable_since_ms"))
    assert net.api.lease(job["id"])["state"] == "running", "its leases go on while the grace lasts"
    done = net.api.wait_end(job["id"])
    assert (done["state"], done["reason"]) == ("failed", "worker_lost")
    lease = net.api.lease(job["id"])
    line = net.api.bill(job["id"])["lines"][0]
    assert line["seconds"] * 1000 <= lease["observed_ms"], "silence is not billed"
    wait_for("the worker has fenced itself", lambda: (c := worker.container(lease["id"])) and c.ended())
    worker.speak()
    wait_for("the worker has forgotten the lease", lambda: not worker.container(lease["id"]))
    assert net.api.bill(job["id"])["lines"] == [line], "a final bill stays as it is"


@pytest.mark.parametrize("when", ["preparing", "running"])
def test_stop_by_the_customer(net: Network, when: str) -> None:
    worker = net.worker()
    job = net.api.submit(sim={"run_s": None, "prepare_s": 1000 if when == "preparing" else 0})
    if when == "preparing":
        wait_for("it is being prepared", lambda: [x for x in net.api.leases(job["id"]) if x["state"] == "preparing"])
    net.api.wait(job["id"], when)
    stopped = net.api.stop(job["id"])
    assert stopped["state"] == "stopping" and stopped["reason"] == "stopped_by_customer"
    done = net.api.wait_end(job["id"])
    assert (done["state"], done["reason"], done["attempts"]) == ("stopped", "stopped_by_customer", 1)
    assert net.api.stop(job["id"])["state"] == "stopped", "stopping what has ended is no mistake"
    assert_machine_free(net, worker.worker_id)


def test_stop_before_it_is_placed(net: Network) -> None:
    job = net.api.submit()
    assert net.api.balance()["held_uusd"] > 0
    assert net.api.stop(job["id"])["state"] == "stopped"
    assert_nothing_billed(net, job["id"])
    net.worker()
    assert net.run(name="another")["state"] == "succeeded"
    assert net.api.show(job["id"])["attempts"] == 0


def test_drain_moves_the_work_elsewhere(net: Network) -> None:
    first = net.worker()
    job = net.api.submit(sim={"run_s": None})
    net.api.wait(job["id"], "running")
    second = net.worker()
    first.intent("draining").ok(200)
    wait_for("it runs on the second worker", lambda: net.api.show(job["id"]).get("worker_id") == second.worker_id)
    net.api.wait(job["id"], "running")
    leases = net.api.leases(job["id"])
    assert [x["reason"] for x in leases] == ["drained_by_provider", "ready"]
    machine = net.provider.client().get(f"/v1/workers/{first.worker_id}").ok()
    assert machine["intent"] == "draining" and machine["leases_failed"] == 0
    net.api.stop(job["id"])
    net.api.wait_end(job["id"])


def test_paused_worker_keeps_its_leases_and_takes_no_new_ones(net: Network) -> None:
    worker = net.worker()
    job = net.api.submit(sim={"run_s": None})
    net.api.wait(job["id"], "running")
    worker.intent("paused").ok(200)
    other = net.api.submit(sim={})
    explain = wait_for(
        "the explanation knows", lambda: (e := net.api.get(f"/v1/workloads/{other['id']}/explain").ok())["matching"] == 0 and e
    )
    assert any(line["excluded"] == 1 for line in explain["lines"]), explain
    assert net.api.show(job["id"])["state"] == "running" and net.api.show(other["id"])["state"] == "pending"
    worker.intent("open").ok(200)
    assert net.api.wait_end(other["id"])["state"] == "succeeded"
    net.api.stop(job["id"])
    net.api.wait_end(job["id"])


def test_block_by_the_operator(net: Network) -> None:
    first = net.worker()
    job = net.api.submit(sim={"run_s": None})
    net.api.wait(job["id"], "running")
    second = net.worker()
    net.tesd.admin("worker", "block", first.worker_id, "--why", "smells of burning")
    wait_for("it runs on the second worker", lambda: net.api.show(job["id"]).get("worker_id") == second.worker_id)
    assert net.api.leases(job["id"])[0]["reason"] == "blocked_by_operator"
    assert net.provider.client().get(f"/v1/workers/{first.worker_id}").ok()["blocked_why"] == "smells of burning"
    net.api.stop(job["id"])
    net.api.wait_end(job["id"])
    net.tesd.admin("worker", "unblock", first.worker_id)
    assert not net.provider.client().get(f"/v1/workers/{first.worker_id}").ok()["blocked"]


def test_max_duration_kept_by_the_worker(net: Network) -> None:
    net.worker()
    job = net.run(sim={"run_s": None}, max_duration_s=2)
    assert (job["state"], job["reason"]) == ("failed", "max_duration_exceeded")
    assert net.api.bill(job["id"])["lines"][0]["seconds"] == 2


def test_max_duration_enforced_by_the_server(net: Network) -> None:
    """A worker that lets it run on: the server stops it, and nobody pays for more."""
    worker = net.worker()
    job = net.api.submit(sim={"run_s": None}, max_duration_s=2)
    net.api.wait(job["id"], "running")
    container = worker.container(net.api.lease(job["id"])["id"])
    assert container
    with worker.state_lock:
        container.desired["max_duration_ms"] = 0
    done = net.api.wait_end(job["id"])
    assert done["reason"] == "max_duration_exceeded"
    assert net.api.bill(job["id"])["lines"][0]["seconds"] == 2


def test_retry_goes_to_another_worker_and_the_first_is_avoided(net: Network) -> None:
    cheap = net.worker(script={"fail": "image_pull_failed"}, price_cpu_uusd_h=1_000_000_000)
    dear = net.worker(price_cpu_uusd_h=1_500_000_000)
    job = net.run(sim={"run_s": 0.1}, retries=1)
    assert job["state"] == "succeeded" and job["attempts"] == 2
    leases = net.api.leases(job["id"])
    assert [x["worker_id"] for x in leases] == [cheap.worker_id, dear.worker_id]
    assert [x["generation"] for x in leases] == [1, 2] and leases[0]["reason"] == "image_pull_failed"
    cheap.script = {}
    again = net.run(sim={"run_s": 0.1})
    assert again["worker_id"] == dear.worker_id, "the pair that failed is kept apart for a while"
    stranger = net.tesd.org("stranger", credit="1000").client()
    assert stranger.wait_end(stranger.submit()["id"])["worker_id"] == cheap.worker_id


def test_retries_run_out(net: Network) -> None:
    for price in (1_000_000_000, 2_000_000_000):
        net.worker(script={"fail": "create_failed"}, price_cpu_uusd_h=price)
    job = net.run(retries=1)
    assert (job["state"], job["reason"], job["attempts"]) == ("failed", "create_failed", 2)
    assert_nothing_billed(net, job["id"])


def test_a_later_attempt_runs_the_same_image(net: Network) -> None:
    net.worker(script={"run_s": None, "lose_after_s": 0.5}, price_cpu_uusd_h=1_000_000_000)
    job = net.api.submit(sim={"run_s": 0.1}, retries=1)
    second = net.worker(price_cpu_uusd_h=2_000_000_000)
    done = net.api.wait_end(job["id"])
    leases = net.api.leases(done["id"])
    assert leases[0]["image"] == "docker.io/library/debian:12"
    assert leases[1]["image"] == done["image_pinned"] == leases[0]["image_digest"]
    assert leases[1]["worker_id"] == second.worker_id
