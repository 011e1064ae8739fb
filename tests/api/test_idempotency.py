"""The same key: one effect, the same answer."""

from __future__ import annotations

from conftest import Network
from harness import in_parallel, wait_for

SPEC = {"image": "debian:12", "resources": {"cpu_milli": 1000}, "max_price_uusd_h": 10**6}


def test_a_thousand_make_one_workload(net: Network) -> None:
    """A hundred at a time."""
    key = net.customer.key()

    def submit(_: int) -> list[tuple[int, str, str]]:
        answers = [net.tesd.client(key).post("/v1/workloads", SPEC, headers={"Idempotency-Key": "order-66"}) for _ in range(10)]
        return [(a.status, a.json().get("id", ""), a.headers.get("idempotent-replayed", "")) for a in answers]

    answers = [answer for each in in_parallel(100, submit) for answer in each]
    assert len(answers) == 1000 and {status for status, _, _ in answers} == {201}, sorted(answers)[:3]
    assert len({ident for _, ident, _ in answers}) == 1
    assert sum(replayed == "true" for _, _, replayed in answers) == 999
    counts = net.tesd.counts()
    assert counts["workloads"] == counts["replicas"] == counts["idempotency"] == 1
    assert net.api.balance()["held_uusd"] == 10**6 * 10 // 3600


def test_another_request_under_the_same_key(net: Network) -> None:
    first = net.api.post("/v1/workloads", SPEC, headers={"Idempotency-Key": "k"}).ok(201)
    before = net.tesd.counts()
    problem = net.api.post("/v1/workloads", SPEC | {"name": "other"}, headers={"Idempotency-Key": "k"}).problem(409, "conflict")
    assert "new key" in problem["detail"]
    net.api.post("/v1/quotes", {"resources": {"cpu_milli": 1000}}, headers={"Idempotency-Key": "k"}).problem(409)
    assert net.tesd.counts() == before
    again = net.api.post("/v1/workloads", SPEC, headers={"Idempotency-Key": "k"})
    assert again.ok(201)["id"] == first["id"] and again.headers["idempotent-replayed"] == "true"


def test_keys_of_two_organisations_do_not_meet(net: Network) -> None:
    stranger = net.tesd.org("stranger", credit="10").client()
    one = net.api.post("/v1/workloads", SPEC, headers={"Idempotency-Key": "k"}).ok(201)
    two = stranger.post("/v1/workloads", SPEC, headers={"Idempotency-Key": "k"}).ok(201)
    assert one["id"] != two["id"] and one["org_id"] != two["org_id"]


def test_a_refused_request_leaves_its_key_free(net: Network) -> None:
    poor = net.tesd.org("poor")
    headers = {"Idempotency-Key": "k"}
    poor.client().post("/v1/workloads", SPEC, headers=headers).problem(402)
    poor.credit("1")
    poor.client().post("/v1/workloads", SPEC, headers=headers).ok(201)


def test_the_answer_survives_a_crash(net: Network) -> None:
    first = net.api.post("/v1/workloads", SPEC, headers={"Idempotency-Key": "k"}).ok(201)
    net.tesd.kill()
    net.tesd.start()
    assert net.api.post("/v1/workloads", SPEC, headers={"Idempotency-Key": "k"}).ok(201)["id"] == first["id"]


def test_an_idempotent_quote(net: Network) -> None:
    net.worker()
    headers = {"Idempotency-Key": "q"}
    body = {"resources": {"cpu_milli": 1000, "memory_mib": 64, "disk_mib": 64}}
    one = wait_for("a quote", lambda: (a := net.api.post("/v1/quotes", body, headers=headers)).status == 200 and a.json())
    assert net.api.post("/v1/quotes", body, headers=headers).ok()["id"] == one["id"]
    assert net.api.post("/v1/quotes", body).ok()["id"] != one["id"]
