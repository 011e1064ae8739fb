"""One job from submission to bill, through the worker that was written from the document."""

from __future__ import annotations

from conftest import Network
from harness import owed, wait_for


def test_job_from_submission_to_bill(net: Network) -> None:
    worker = net.worker()
    api = net.api
    before = api.balance()
    job = api.submit(
        name="first",
        sim={"run_s": 2.2, "log": ["one\n", "two\n"], "outputs": {"out/model.txt": "weights"}},
        outputs=["/out"],
        env={"A": "b"},
    )
    assert job["state"] == "pending" and job["name"] == "first"
    api.wait(job["id"], "running", "succeeded")
    held = api.balance()
    assert held["held_uusd"] > 0 and held["available_uusd"] == held["posted_uusd"] - held["held_uusd"]
    done = api.wait_end(job["id"])
    assert (done["state"], done["reason"], done["exit_code"]) == ("succeeded", "completed", 0)
    assert done["attempts"] == 1 and done["image_pinned"].startswith("docker.io/library/debian:12@sha256:")

    lease = api.lease(job["id"])
    assert (lease["state"], lease["reason"], lease["worker_id"]) == ("ended", "completed", worker.worker_id)
    assert 2200 <= lease["claimed_ms"] < 3500

    bill = api.bill(job["id"])
    line = bill["lines"][0]
    assert bill["final"] and len(bill["lines"]) == 1 and line["receipt_id"]
    assert line["seconds"] == min(lease["claimed_ms"], lease["observed_ms"]) // 1000 >= 2
    assert line["amount_uusd"] == bill["total_uusd"] == done["charged_uusd"] == owed(line["rate_uusd_h"], line["seconds"])
    assert line["fee_uusd"] == line["amount_uusd"] * 30000 // 1000000

    after = api.balance()
    assert after["held_uusd"] == bill.get("held_uusd", 0) == 0
    assert after["posted_uusd"] == before["posted_uusd"] - bill["total_uusd"] == after["available_uusd"]
    earned = net.provider.client().balance()["earned_uusd"]
    assert earned == line["amount_uusd"] - line["fee_uusd"]

    assert api.logs(job["id"]) == ["one\n", "two\n"]
    results = api.get(f"/v1/workloads/{job['id']}/results").ok()
    assert results["complete"] and [r["path"] for r in results["items"]] == ["out/model.txt"]
    assert api.get(f"/v1/results/{results['items'][0]['id']}").body == b"weights"
    assert not worker.failures and not worker.problems

    wait_for("the worker has forgotten the lease", lambda: not worker.container(lease["id"]))
    machine = net.provider.client().get(f"/v1/workers/{worker.worker_id}").ok()
    assert machine["used_cpu_milli"] == 0 and machine["leases_ok"] == 1


def test_those_that_find_no_room_hold_nobody_up(net: Network) -> None:
    """More than a round looks at first, all older, and none of them fits: the one behind them does."""
    net.worker()
    huge = {"cpu_milli": 1_000_000, "memory_mib": 64, "disk_mib": 64}
    waiting = [net.api.submit(resources=huge)["id"] for _ in range(80)]
    for _ in range(3):
        assert net.run(sim={"run_s": 0.1})["state"] == "succeeded"
    assert {net.api.show(w)["state"] for w in waiting} == {"pending"}
    for workload in waiting:
        net.api.stop(workload)
