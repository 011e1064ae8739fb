"""Job arrays: many workloads from one request, all of them or none."""

from __future__ import annotations

from typing import Any

import pytest

from conftest import Network
from harness import Client, in_parallel, spec_of, wait_for

HOURLY = 3_600_000  # of each; ten seconds of it, the hold, are a hundredth of a dollar


def array_of(count: int, **spec: Any) -> dict[str, Any]:
    return {"count": count, "spec": spec_of(**({"max_price_uusd_h": HOURLY} | spec))}


def make(api: Client, count: int, **spec: Any) -> list[str]:
    return api.post("/v1/arrays", array_of(count, **spec)).ok(201)["ids"]


def test_each_runs_with_its_number(net: Network) -> None:
    net.worker()
    answer = net.api.post("/v1/arrays", array_of(5, name="fold", env={"A": "1"}, max_price_uusd_h=10**10)).ok(201)
    assert answer["max_price_uusd_h"] == 10**10
    ids = answer["ids"]
    assert len(set(ids)) == 5
    for i, ident in enumerate(ids):
        done = net.api.wait_end(ident)
        assert (done["state"], done["name"], done["attempts"]) == ("succeeded", f"fold-{i}", 1)
        assert done["spec"]["env"] == {"A": "1", "TES_ARRAY_INDEX": str(i)}
        assert done["spec"]["name"] == f"fold-{i}"
    assert ids == sorted(ids), "they are listed, and placed, in the order of their numbers"
    assert net.api.balance()["held_uusd"] == 0


def test_a_thousand_in_one_request(net: Network) -> None:
    ids = make(net.api, 1000)
    counts = net.tesd.counts()
    assert len(set(ids)) == counts["workloads"] == counts["replicas"] == 1000
    assert net.api.balance()["held_uusd"] == 1000 * 10_000
    shown = net.api.show(ids[999])
    assert shown["name"] == ids[999][-8:] and shown["spec"]["env"] == {"TES_ARRAY_INDEX": "999"}
    for ident in (ids[0], ids[999]):
        net.api.stop(ident)
    assert net.api.balance()["held_uusd"] == 998 * 10_000


def test_secrets_go_to_each_and_are_not_shown(net: Network) -> None:
    worker = net.worker()
    ids = make(net.api, 2, secrets={"TOKEN": "hunter2"}, sim={"run_s": None}, max_price_uusd_h=10**10)
    for i, ident in enumerate(ids):
        shown = net.api.wait(ident, "running")
        assert "hunter2" not in str(shown)
        container = worker.container(shown["lease_id"])
        assert container
        assert container.desired["secrets"] == {"TOKEN": "hunter2"}
        assert container.desired["env"] == {"TES_ARRAY_INDEX": str(i)}
        net.api.stop(ident)
        net.api.wait_end(ident)


def test_the_money_for_all_of_them_or_none(net: Network) -> None:
    """A hundredth of a dollar is held for each."""
    org = net.tesd.org("poor", credit="0.09")
    api = org.client()
    before = net.tesd.counts()
    problem = api.post("/v1/arrays", array_of(12)).problem(402, "funds")
    assert "all of them" in problem["detail"] and "$0.03 " in problem["detail"], problem
    assert net.tesd.counts() == before, "a refused array writes nothing"
    assert api.balance()["held_uusd"] == 0
    org.credit("0.03")
    assert len(make(api, 12)) == 12
    balance = api.balance()
    assert balance["held_uusd"] == 120_000 and balance["available_uusd"] == 0
    api.post("/v1/workloads", spec_of(max_price_uusd_h=HOURLY)).problem(402, "funds")


def test_the_poor_do_not_hold_up_the_others(net: Network) -> None:
    """Committed together, some of them without money."""
    poor = net.tesd.org("poor", credit="0.05").client()

    def submit(i: int) -> int:
        return (poor if i % 2 else net.api).post("/v1/arrays", array_of(20)).status

    assert sorted(in_parallel(16, submit)) == [201] * 8 + [402] * 8
    assert net.tesd.counts()["workloads"] == 160
    assert poor.balance()["held_uusd"] == 0


@pytest.mark.settings(limits__workloads_active_max="10")
def test_the_limit_on_active_workloads(net: Network) -> None:
    problem = net.api.post("/v1/arrays", array_of(11)).problem(429, "rate")
    assert problem["field"] == "count" and "11" in problem["detail"] and "10 may be" in problem["detail"], problem
    assert net.tesd.counts()["workloads"] == 0
    ids = make(net.api, 7)
    net.api.post("/v1/arrays", array_of(4)).problem(429, "rate")
    assert net.tesd.counts()["workloads"] == 7
    net.api.stop(ids[3])
    make(net.api, 4)
    net.api.post("/v1/workloads", spec_of()).problem(429, "rate")


def test_an_idempotency_key(net: Network) -> None:
    headers = {"Idempotency-Key": "sweep-1"}
    key = net.customer.key()

    def submit(_: int) -> list[str]:
        return net.tesd.client(key).post("/v1/arrays", array_of(30), headers=headers).ok(201)["ids"]

    answers = in_parallel(20, submit)
    assert all(ids == answers[0] for ids in answers)
    counts = net.tesd.counts()
    assert counts["workloads"] == counts["replicas"] == 30 and counts["idempotency"] == 1
    again = net.api.post("/v1/arrays", array_of(30), headers=headers)
    assert again.ok(201)["ids"] == answers[0] and again.headers["idempotent-replayed"] == "true"
    net.api.post("/v1/arrays", array_of(31), headers=headers).problem(409, "conflict")
    net.api.post("/v1/workloads", array_of(30)["spec"], headers=headers).problem(409, "conflict")
    assert net.tesd.counts() == counts


def test_a_refused_array_leaves_its_key_free(net: Network) -> None:
    poor = net.tesd.org("poor")
    headers = {"Idempotency-Key": "k"}
    poor.client().post("/v1/arrays", array_of(3), headers=headers).problem(402)
    poor.credit("1")
    assert len(poor.client().post("/v1/arrays", array_of(3), headers=headers).ok(201)["ids"]) == 3


def test_another_organisation_sees_nothing_of_it(net: Network) -> None:
    ids = make(net.api, 3)
    stranger = net.tesd.org("stranger", credit="10").client()
    assert stranger.get("/v1/workloads?all=true").ok()["items"] == []
    for ident in ids:
        stranger.get(f"/v1/workloads/{ident}").problem(404)
        stranger.post(f"/v1/workloads/{ident}/stop").problem(404)
    blob = net.api.post("/v1/inputs", raw=b"not quite a tar archive").ok(201)
    inputs = [{"id": blob["id"], "name": "x"}]
    problem = stranger.post("/v1/arrays", array_of(3, inputs=inputs)).problem(422, "invalid")
    assert problem["field"] == "spec.inputs[0].id"
    assert len(make(net.api, 3, inputs=inputs)) == 3
    net.customer.client(role="viewer").post("/v1/arrays", array_of(3)).problem(403, "forbidden")


def test_without_a_price_that_of_the_best_offer_is_the_cap_of_all(net: Network) -> None:
    problem = net.api.post("/v1/arrays", array_of(3, max_price_uusd_h=0)).problem(422, "invalid")
    assert problem["field"] == "spec.max_price_uusd_h"
    assert net.tesd.counts()["workloads"] == 0
    net.worker()
    answer = net.api.post("/v1/arrays", array_of(3, max_price_uusd_h=0)).ok(201)
    for ident in answer["ids"]:
        assert net.api.show(ident)["max_price_uusd_h"] == answer["max_price_uusd_h"] > 0
        net.api.wait_end(ident)


STATES = ("pending", "preparing", "running", "paused", "stopping", "succeeded", "failed", "stopped")


def standing(api: Client, ident: str) -> dict[str, int]:
    """How many stand in which state, of the states that some stand in."""
    shown = api.get(f"/v1/arrays/{ident}").ok()
    assert shown["count"] == sum(shown[state] for state in STATES), shown
    return {state: shown[state] for state in STATES if shown[state]}


def test_how_it_stands(net: Network) -> None:
    answer = net.api.post("/v1/arrays", array_of(3, sim={"exit": 7, "run_s": 1.5}, max_price_uusd_h=10**10, retries=0)).ok(201)
    array, ids = answer["id"], answer["ids"]
    other = make(net.api, 2)
    assert standing(net.api, array) == {"pending": 3}
    for i, ident in enumerate(ids):
        shown = net.api.show(ident)
        assert (shown["array_id"], shown["array_index"]) == (array, i)
    assert [w["id"] for w in net.api.get(f"/v1/workloads?array={array}").ok()["items"]] == ids[::-1]
    page = net.api.get(f"/v1/workloads?array={array}&limit=2").ok()
    assert [w["id"] for w in page["items"]] == ids[:0:-1]
    rest = net.api.get(f"/v1/workloads?array={array}&limit=2&cursor={page['next']}").ok()
    assert [w["id"] for w in rest["items"]] == ids[:1] and "next" not in rest
    for cursor, left in ((other[0], ids), ("wl_" + "0" * 26, []), ("wl_" + "z" * 26, ids)):
        strange = net.api.get(f"/v1/workloads?array={array}&cursor={cursor}").ok()
        assert [w["id"] for w in strange.get("items", [])] == left[::-1], cursor
    net.api.stop(ids[1])
    assert standing(net.api, array) == {"pending": 2, "stopped": 1}
    assert "ended_ms" not in net.api.get(f"/v1/arrays/{array}").ok()
    net.worker()
    for ident in ids:
        net.api.wait_end(ident)
    shown = net.api.get(f"/v1/arrays/{array}").ok()
    assert standing(net.api, array) == {"failed": 2, "stopped": 1}
    assert shown["exit_code"] == 7
    assert shown["charged_uusd"] == sum(net.api.show(i)["charged_uusd"] for i in ids) > 0
    assert shown["ended_ms"] == max(net.api.show(i)["ended_ms"] for i in ids)
    assert shown["created_ms"] == net.api.show(ids[0])["created_ms"]
    alone = net.api.post("/v1/workloads", spec_of(max_price_uusd_h=HOURLY)).ok(201)
    assert "array_id" not in alone and net.api.show(other[0])["array_id"] != array
    net.api.delete(f"/v1/workloads/{ids[0]}").ok(204)
    assert standing(net.api, array) == {"failed": 2, "stopped": 1}, "what was removed counts on"


def test_it_is_stopped_as_a_whole(net: Network) -> None:
    """More than one transaction takes, some of them running."""
    net.worker()
    answer = net.api.post("/v1/arrays", array_of(120, sim={"run_s": None}, max_price_uusd_h=10**10)).ok(201)
    array, ids = answer["id"], answer["ids"]
    bystander = make(net.api, 1)[0]
    wait_for("one of them runs", lambda: net.api.get(f"/v1/arrays/{array}").ok()["running"])
    stopped = net.api.post(f"/v1/arrays/{array}/stop").ok()
    assert stopped["count"] == 120 == stopped["stopped"] + stopped["stopping"], stopped
    for ident in ids:
        assert net.api.wait_end(ident)["state"] == "stopped"
    again = net.api.post(f"/v1/arrays/{array}/stop").ok()
    assert again["stopped"] == 120 and again["ended_ms"] > 0, "stopping what has ended is no mistake"
    assert net.api.show(bystander)["state"] == "pending"
    net.api.stop(bystander)
    assert net.api.balance()["held_uusd"] == 0


def test_arrays_are_found_by_their_id_or_its_beginning_and_by_their_own(net: Network) -> None:
    array = net.api.post("/v1/arrays", array_of(2)).ok(201)["id"]
    assert net.api.get(f"/v1/arrays/{array[:-1]}").ok()["id"] == array
    net.api.post("/v1/arrays", array_of(2)).ok(201)
    net.api.get("/v1/arrays/ar_").problem(409, "conflict")
    stranger = net.tesd.org("stranger", credit="10").client()
    viewer = net.customer.client(role="viewer")
    before = net.tesd.counts()
    for api, ident in ((stranger, array), (net.api, "ar_" + "0" * 26), (net.api, "fold"), (net.api, "wl_" + "0" * 26)):
        assert ident in api.get(f"/v1/arrays/{ident}").problem(404, "not_found")["detail"]
        api.post(f"/v1/arrays/{ident}/stop").problem(404, "not_found")
    assert stranger.get(f"/v1/workloads?all=true&array={array}").ok()["items"] == []
    problem = net.api.get("/v1/workloads?array=fold").problem(422, "invalid")
    assert problem["field"] == "array" and "fold" in problem["detail"], problem
    viewer.post(f"/v1/arrays/{array}/stop").problem(403, "forbidden")
    assert net.tesd.counts() == before
    assert standing(net.api, array) == {"pending": 2}


BAD: list[tuple[dict[str, Any], str, str]] = [
    ({"count": 0}, "count", "1"),
    ({"count": -1}, "count", "1"),
    ({"count": 1001}, "count", "1000"),
    ({"count": "3"}, "count", "number"),
    ({"count": 1.5}, "count", "number"),
    ({"count": None}, "count", "required"),
    ({"counts": 3}, "counts", "count"),
    ({"spec": None}, "spec", "required"),
    ({"spec": spec_of(image="De bian")}, "spec.image", "De bian"),
    ({"spec": spec_of(retries=101)}, "spec.retries", "101"),
    ({"spec": spec_of(quote="qt_" + "0" * 26, max_price_uusd_h=None)}, "spec.quote", "one workload"),
    ({"spec": spec_of(env={"TES_ARRAY_INDEX": "1"})}, "spec.env", "TES_ARRAY_INDEX"),
    ({"spec": spec_of(secrets={"TES_ARRAY_INDEX": "1"})}, "spec.secrets", "TES_ARRAY_INDEX"),
    ({"spec": spec_of(env={f"V{i}": "" for i in range(256)})}, "spec.env", "255"),
    ({"spec": spec_of(name="a" * 62)}, "spec.name", "61"),
    ({"count": 1000, "spec": spec_of(env={"V": "x" * 20000})}, "count", "16 MiB"),
]


def test_bad_input(net: Network) -> None:
    api = net.api
    before = net.tesd.counts()
    for part, field, said in BAD:
        body = {k: v for k, v in (array_of(3) | part).items() if v is not None}
        problem = api.post("/v1/arrays", body).problem(422, "invalid")
        assert problem["field"] == field and said in problem["detail"], problem
    assert net.tesd.counts() == before
