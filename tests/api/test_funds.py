"""The end of the money: warn, pause with the data kept, go on after a payment, destroy only much later."""

from __future__ import annotations

import pytest

from conftest import Network
from harness import in_parallel, owed, wait_for

RATE = 3_612_345_679


def test_not_enough_to_begin(net: Network) -> None:
    """The hold for the first ten seconds at the cap is ten dollars."""
    org = net.tesd.org("poor", credit="9.99")
    api = org.client()
    spec = {"image": "debian:12", "resources": {"cpu_milli": 1000}, "max_price_uusd_h": 3_600_000_000}
    before = net.tesd.counts()
    problem = api.post("/v1/workloads", spec).problem(402, "funds")
    assert "holding the first 10 s" in problem["detail"], problem
    assert net.tesd.counts() == before, "a refused workload writes nothing"
    org.credit("0.01")
    assert api.post("/v1/workloads", spec).ok(201)


def test_pause_resume_and_stop(net: Network) -> None:
    worker = net.worker()
    org = net.tesd.org("poor", credit="13")
    api = org.client()
    job = api.submit(sim={"run_s": 16.0, "outputs": {"kept.txt": "all of it"}}, max_price_uusd_h=RATE)
    api.wait(job["id"], "paused")
    paused = api.show(job["id"])
    assert paused["reason"] == "out_of_funds"
    container = worker.container(paused["lease_id"])
    assert container and container.state == "paused", "its container is kept, frozen"
    bought = 13_000_000 * 3600 // RATE
    delivered = container.delivered_ms()
    assert bought - 3 <= delivered // 1000 <= bought
    assert any(e["kind"] == "funds.low" for e in api.events()), "it was warned"
    balance = api.balance()
    assert balance["available_uusd"] == balance["posted_uusd"] - balance["held_uusd"] >= 0
    org.credit("100")
    api.wait(job["id"], "running", "succeeded")
    done = api.wait_end(job["id"])
    assert (done["state"], done["exit_code"], done["attempts"]) == ("succeeded", 0, 1)
    line = api.bill(job["id"])["lines"][0]
    assert line["seconds"] in (15, 16) and line["amount_uusd"] == owed(RATE, line["seconds"])
    assert api.balance()["posted_uusd"] == 113_000_000 - line["amount_uusd"]


@pytest.mark.settings(network__pause_keep="2s")
def test_destroyed_after_pause_keep(net: Network) -> None:
    net.worker()
    org = net.tesd.org("poor", credit="11")
    api = org.client()
    job = api.submit(sim={"run_s": None}, max_price_uusd_h=RATE)
    api.wait(job["id"], "paused")
    done = api.wait_end(job["id"])
    assert (done["state"], done["reason"]) == ("failed", "out_of_funds")
    line = api.bill(job["id"])["lines"][0]
    assert line["amount_uusd"] == owed(RATE, line["seconds"]) <= 11_000_000
    assert api.balance()["posted_uusd"] == 11_000_000 - line["amount_uusd"] >= 0
    assert api.balance()["held_uusd"] == 0


def test_credit_is_idempotent_by_its_id(net: Network) -> None:
    from harness import Org

    org: Org = net.tesd.org("payer")
    first = org.credit("5.000001")
    again = org.credit("5.000001", ident=first["id"])
    assert again["id"] == first["id"]
    assert org.client().balance()["posted_uusd"] == 5_000_001
    done = net.tesd.run("admin", "credit", org.id, "6", "--id", first["id"])
    assert done.returncode == 1 and done.stderr.startswith("tesd: ")
    for bad in ("0", "-1", "1.0000001", "x", "9999999999999999"):
        done = net.tesd.run("admin", "credit", org.id, bad)
        assert done.returncode == 1 and "AMOUNT" in done.stderr or "money" in done.stderr or bad in done.stderr, done.stderr
    assert org.client().balance()["posted_uusd"] == 5_000_001


def test_many_jobs_at_once_share_the_money(net: Network) -> None:
    """Holds are exact under concurrency: of twelve jobs that hold ten dollars each, a hundred dollars let ten in."""
    org = net.tesd.org("hurried", credit="100")
    key = org.key()

    def submit(i: int) -> int:
        api = net.tesd.client(key)
        spec = {"image": "debian:12", "resources": {"cpu_milli": 1000}, "max_price_uusd_h": 3_600_000_000, "name": f"job-{i}"}
        return api.post("/v1/workloads", spec).status

    statuses = in_parallel(12, submit)
    assert sorted(statuses) == [201] * 10 + [402] * 2
    balance = org.client().balance()
    assert balance["held_uusd"] == 100_000_000 and balance["available_uusd"] == 0
    for job in org.client().get("/v1/workloads").ok()["items"]:
        org.client().stop(job["id"])
    wait_for("all is released", lambda: org.client().balance()["held_uusd"] == 0)
