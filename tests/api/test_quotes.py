"""Prices: as shown, so charged.  Quotes freeze them, caps bound them, and explain says why nothing fits."""

from __future__ import annotations

from typing import Any

import pytest

from conftest import Network
from harness import time_ms, wait_for
from worker import gpus_of, now_ms

WANT = {"cpu_milli": 2000, "memory_mib": 1024, "disk_mib": 64}


def quote(net: Network, **more: Any) -> dict[str, Any]:
    return net.api.post("/v1/quotes", {"resources": WANT} | more).ok(200)


def test_the_price_shown_is_the_price_charged(net: Network) -> None:
    worker = net.worker(price_cpu_uusd_h=1_000_000_001, price_gib_uusd_h=7)
    offers = net.tesd.client().get("/v1/offers?cpu_milli=2000&memory_mib=1024&disk_mib=64").ok()
    offer = offers["items"][0]
    assert offers["total"] == 1 and offer["worker_id"] == worker.worker_id
    assert offer["price_uusd_h"] == 2_000_000_002 + 7
    frozen = quote(net)
    assert frozen["rate_uusd_h"] == offer["price_uusd_h"] and frozen["worker_id"] == worker.worker_id
    worker.set_inventory(price_cpu_uusd_h=5_000_000_000)
    wait_for("the price has risen", lambda: quote(net)["rate_uusd_h"] == 10_000_000_007)
    job = net.run(sim={"run_s": 1.2}, resources=WANT, quote=frozen["id"], max_price_uusd_h=None)
    assert job["state"] == "succeeded" and job["quote_id"] == frozen["id"]
    line = net.api.bill(job["id"])["lines"][0]
    assert line["rate_uusd_h"] == frozen["rate_uusd_h"]
    used = net.api.get(f"/v1/quotes/{frozen['id']}").ok()
    assert used["used_by"] == job["id"]
    again = net.api.post("/v1/workloads", {"image": "debian:12", "resources": WANT, "quote": frozen["id"]})
    assert job["id"] in again.problem(409)["detail"]


def test_a_quote_binds_to_its_worker(net: Network) -> None:
    dear = net.worker(price_cpu_uusd_h=3_000_000_000)
    wait_for("an offer", lambda: net.api.post("/v1/quotes", {"resources": WANT}).status == 200)
    frozen = quote(net)
    net.worker(price_cpu_uusd_h=1_000_000_000)
    wait_for("there is a cheaper one", lambda: quote(net)["rate_uusd_h"] == 2_000_000_000)
    job = net.run(sim={"run_s": 0.1}, resources=WANT, quote=frozen["id"], max_price_uusd_h=None)
    assert job["worker_id"] == dear.worker_id


def test_a_quote_from_a_named_offer(net: Network) -> None:
    net.worker(price_cpu_uusd_h=1_000_000_000)
    dear = net.worker(price_cpu_uusd_h=3_000_000_000)
    offers = wait_for("two offers", lambda: len(x := net.api.get("/v1/offers").ok().get("items", [])) == 2 and x)
    named = next(o["id"] for o in offers if o["worker_id"] == dear.worker_id)
    assert quote(net, offer=named)["worker_id"] == dear.worker_id


@pytest.mark.settings(network__quote_ttl="1s")
def test_a_quote_expires(net: Network) -> None:
    net.worker()
    frozen = quote(net)
    wait_for("it has expired", lambda: now_ms() > time_ms(frozen["expires_ms"]))
    problem = net.api.post("/v1/workloads", {"image": "debian:12", "resources": WANT, "quote": frozen["id"]}).problem(410, "gone")
    assert problem["field"] == "quote"
    assert net.tesd.counts()["workloads"] == 0


def test_a_quote_for_something_else(net: Network) -> None:
    net.worker()
    frozen = quote(net)
    spec = {"image": "debian:12", "resources": WANT | {"cpu_milli": 3000}, "quote": frozen["id"]}
    assert net.api.post("/v1/workloads", spec).problem(422)["field"] == "resources"
    assert "used_by" not in net.api.get(f"/v1/quotes/{frozen['id']}").ok()


def test_no_quote_without_an_offer(net: Network) -> None:
    problem = net.api.post("/v1/quotes", {"resources": WANT}).problem(409)
    assert "no offer matches" in problem["detail"]


def test_the_cap_is_never_passed(net: Network) -> None:
    worker = net.worker(price_cpu_uusd_h=1_000_000_000)
    job = net.api.submit(sim={}, max_price_uusd_h=999_999_999)
    explain = net.api.get(f"/v1/workloads/{job['id']}/explain").ok()
    line = next(x for x in explain["lines"] if x["excluded"])
    assert line["constraint"] == "price" or "price" in line["constraint"], explain
    assert explain["matching"] == 0 and explain["summary"] and line["change"]
    assert net.api.show(job["id"])["state"] == "pending"
    worker.set_inventory(price_cpu_uusd_h=999_999_999)
    done = net.api.wait_end(job["id"])
    assert done["state"] == "succeeded" and net.api.lease(job["id"])["rate_uusd_h"] == 999_999_999


def test_the_cap_is_the_best_price_when_none_is_given(net: Network) -> None:
    problem = net.api.post("/v1/workloads", {"image": "debian:12", "resources": WANT}).problem(422)
    assert problem["field"] == "max_price_uusd_h" and "--max-price" in problem["detail"]
    net.worker(price_cpu_uusd_h=1_000_000_000)
    net.worker(price_cpu_uusd_h=2_000_000_000)
    wait_for("both offer", lambda: net.api.get("/v1/offers").ok()["total"] == 2)
    job = net.api.submit(sim={"run_s": 0.1}, resources=WANT, max_price_uusd_h=None)
    assert job["max_price_uusd_h"] == 2_000_000_000


def test_a_job_shorter_than_the_hold_holds_only_what_it_can_cost(net: Network) -> None:
    job = net.api.submit(max_price_uusd_h=3_600_000_000, max_duration_s=3)
    assert net.api.balance()["held_uusd"] == 3_000_000
    net.api.stop(job["id"])


@pytest.mark.parametrize(
    ("spec", "word"),
    [
        ({"resources": {"gpus": 1}}, "gpu"),
        ({"resources": {"gpus": 3}}, "gpu"),
        ({"resources": {"gpus": 1, "gpu_model": "H100"}}, "gpu_model"),
        ({"resources": {"gpus": 1, "vram_mib": 99_999}}, "vram"),
        ({"resources": {"cpu_milli": 9000}}, "cpu"),
        ({"resources": {"memory_mib": 99_999}}, "memory"),
        ({"resources": {"disk_mib": 9_999_999}}, "disk"),
        ({"region": "mars"}, "region"),
        ({"min_reliability_ppm": 999_999}, "reliability"),
        ({"max_price_uusd_h": 1}, "price"),
        ({"max_duration_s": 30}, "lease_min"),
        ({}, "lease_max"),
    ],
)
def test_explain_names_the_constraint(net: Network, spec: dict[str, Any], word: str) -> None:
    more: dict[str, Any] = {}
    if word.startswith("lease_"):
        more = {f"{word}_s": 60}
    elif word == "gpu" and spec["resources"]["gpus"] == 1:
        more = {}
    else:
        more = {"devices": gpus_of(2)}
    net.worker(**more)
    full = {"cpu_milli": 1000, "memory_mib": 64, "disk_mib": 64}
    if "resources" in spec:
        spec = spec | {"resources": full | spec["resources"]}
    job = net.api.submit(**spec)
    explain = wait_for(
        "the explanation sees the offer", lambda: (e := net.api.get(f"/v1/workloads/{job['id']}/explain").ok())["offers"] and e
    )
    lines = [x for x in explain["lines"] if x["excluded"]]
    assert explain["matching"] == 0 and len(lines) == 1 and lines[0]["excluded"] == 1, explain
    assert word in lines[0]["constraint"] and lines[0].get("wanted") and lines[0].get("best"), explain
    # One change that is enough stands with its line, several together in the summary.
    assert lines[0].get("change") or "ask for" in explain["summary"] or "set " in explain["summary"], explain
    assert net.api.show(job["id"])["state"] == "pending"
    net.api.stop(job["id"])


def test_offers_are_filtered_sorted_and_paged(net: Network) -> None:
    for i in range(5):
        net.link(price_cpu_uusd_h=1000 * (i + 1), region="de" if i % 2 else "us")
    client = net.tesd.client()
    wait_for("all offer", lambda: client.get("/v1/offers").ok()["total"] == 5)
    got: list[int] = []
    target = "/v1/offers?limit=2&cpu_milli=1000&sort=price"
    cursor = ""
    for _ in range(3):
        value = client.get(target + cursor).ok()
        got += [o["price_uusd_h"] for o in value["items"]]
        cursor = f"&cursor={value['next']}" if value.get("next") else ""
    assert got == [1000, 2000, 3000, 4000, 5000] and not cursor
    assert client.get("/v1/offers?region=de").ok()["total"] == 2
    assert client.get("/v1/offers?cpu_milli=1000&max_price_uusd_h=2500").ok()["total"] == 2
    client.get("/v1/offers?cursor=nonsense").problem(422)
    client.get("/v1/offers?sort=beauty").problem(422)
