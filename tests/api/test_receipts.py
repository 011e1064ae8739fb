"""Receipts that lie: refused, kept as evidence, never paid."""

from __future__ import annotations

import json
from typing import Any

import pytest

from conftest import Network
from harness import owed, time_ms, wait_for
from worker import Link, now_ms


class Bench:
    """A worker in the test's hand, with one lease that runs."""

    def __init__(self, net: Network, **spec: Any) -> None:
        self.net = net
        self.link: Link = net.link()
        self.job = net.api.submit(**({"retries": 0} | spec))
        self.lease: dict[str, Any] = wait_for("a lease is desired", lambda: (self.link.sync().get("leases") or [None])[0])
        self.observe("running")

    @property
    def stored(self) -> dict[str, Any]:
        return self.net.api.lease(self.job["id"])

    def observe(self, state: str, receipts: list[dict[str, str]] | None = None, **more: Any) -> dict[str, Any]:
        seen = {"lease": self.lease["lease"], "generation": self.lease["generation"], "state": state} | more
        return self.link.observe([seen], receipts=receipts or [])

    def until_observed(self, ms: int) -> None:
        """Heartbeats until the server itself supports so much time."""

        def there() -> bool:
            self.observe("running")
            return self.stored["observed_ms"] >= ms

        wait_for(f"{ms} ms are observed", there)

    def evidence(self) -> list[list[str]]:
        return self.net.tesd.evidence(self.link.worker_id)

    def end(self) -> dict[str, Any]:
        self.observe("exited", exit_code=0)
        return self.net.api.wait_end(self.job["id"])


@pytest.fixture
def bench(net: Network) -> Bench:
    return Bench(net)


def assert_refused(bench: Bench, receipt: dict[str, str], kind: str, word: str) -> None:
    before = bench.stored
    bench.observe("running", [receipt])
    after = bench.stored
    assert (after["claimed_ms"], after["claimed_seq"]) == (before["claimed_ms"], before["claimed_seq"])
    evidence = bench.evidence()
    assert len(evidence) == 1 and evidence[0][3] == kind and word in evidence[0][4], evidence
    bench.end()
    assert bench.net.api.bill(bench.job["id"])["total_uusd"] == 0


def test_an_honest_receipt_is_paid(bench: Bench) -> None:
    bench.until_observed(2000)
    observed = bench.stored["observed_ms"]
    bench.observe("running", [bench.link.receipt(bench.lease, 1, observed)])
    wait_for("it is settled", lambda: bench.stored["billed_ms"] == observed)
    bench.end()
    line = bench.net.api.bill(bench.job["id"])["lines"][0]
    assert line["seconds"] == observed // 1000 and line["amount_uusd"] == owed(line["rate_uusd_h"], line["seconds"])
    assert bench.evidence() == []


def test_time_that_was_not_run(bench: Bench) -> None:
    """A claim of an hour after a second: it is evidence, and the server pays no more than it saw itself."""
    bench.until_observed(1000)
    bench.observe("running", [bench.link.receipt(bench.lease, 1, 3_600_000)])
    bench.observe("running", [bench.link.receipt(bench.lease, 2, 3_600_001)])
    evidence = bench.evidence()
    assert [e[3] for e in evidence] == ["receipt_time"] and "3600000" in evidence[0][4], evidence
    bench.end()
    line = bench.net.api.bill(bench.job["id"])["lines"][0]
    lease = bench.stored
    assert line["seconds"] == lease["observed_ms"] // 1000 <= (time_ms(lease["ended_ms"]) - time_ms(lease["reserved_ms"])) // 1000
    assert line["seconds"] < 5


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"gpus": 1}, "gpus"),
        ({"cpu_milli": 1001}, "cpu_milli"),
        ({"memory_mib": 65}, "memory_mib"),
        ({"generation": 2}, "generation"),
        ({"worker": "wk_" + "0" * 26}, "wk_" + "0" * 26),
        ({"at_ms": lambda: now_ms() + 31_000}, "future"),
    ],
)
def test_content_that_cannot_be(bench: Bench, changes: dict[str, Any], word: str) -> None:
    real = {k: v() if callable(v) else v for k, v in changes.items()}
    assert_refused(bench, bench.link.receipt(bench.lease, 1, 500, **real), "receipt_content", word)


def test_wrong_signature(bench: Bench) -> None:
    receipt = bench.link.receipt(bench.lease, 1, 500)
    receipt["payload"] = receipt["payload"].replace("500", "501")
    assert_refused(bench, receipt, "receipt_signature", "signature")


@pytest.mark.parametrize(
    "payload",
    ["", "{", "[]", "null", '{"lease":1}', '{"lease":"le_x"}', json.dumps({"seq": 1, "delivered_ms": 1})],
)
def test_signed_nonsense(bench: Bench, payload: str) -> None:
    if not payload:
        value = bench.link.observation([], receipts=[bench.link.sign_usage(payload)])
        bench.link.call("POST", "/v1/worker/observed", value).problem(422)
        return
    bench.observe("running", [bench.link.sign_usage(payload)])
    assert [e[3] for e in bench.evidence()] == ["receipt_malformed"]
    bench.end()


def test_a_lease_of_another_worker(net: Network) -> None:
    bench = Bench(net)
    thief = net.link()
    thief.observe(receipts=[thief.receipt(bench.lease, 1, 500)])
    bench_evidence = net.tesd.evidence(thief.worker_id)
    assert [e[3] for e in bench_evidence] == ["receipt_content"] and bench.lease["lease"] in bench_evidence[0]
    # The victim's own receipt, carried by the thief: the signature is not the thief's.
    thief.observe(receipts=[bench.link.receipt(bench.lease, 1, 500)])
    assert [e[3] for e in net.tesd.evidence(thief.worker_id)] == ["receipt_content", "receipt_signature"]
    thief.observe(receipts=[thief.receipt(bench.lease | {"lease": "le_" + "0" * 26}, 1, 500)])
    assert net.tesd.evidence(thief.worker_id)[-1][3] == "receipt_lease"
    assert bench.stored["claimed_ms"] == 0
    bench.end()
    assert net.api.bill(bench.job["id"])["total_uusd"] == 0 and net.provider.client().balance()["earned_uusd"] == 0


def test_observing_a_lease_of_another_worker(net: Network) -> None:
    bench = Bench(net)
    thief = net.link()
    seen = {"lease": bench.lease["lease"], "generation": bench.lease["generation"], "state": "exited", "exit_code": 0}
    answer = thief.observe([seen])
    assert "another worker" in answer["problems"][0]
    assert [e[3] for e in net.tesd.evidence(thief.worker_id)] == ["lease_not_own"]
    assert bench.stored["state"] == "running"
    answer = thief.observe([seen | {"lease": "le_" + "0" * 26}])
    assert "there is no lease" in answer["problems"][0]
    bench.end()


def test_repeats_and_late_ones_are_ignored(bench: Bench) -> None:
    first = bench.link.receipt(bench.lease, 1, 100)
    second = bench.link.receipt(bench.lease, 2, 200)
    for receipts in ([first], [first], [second], [first, second], [second, first]):
        assert bench.observe("running", receipts)["receipts_taken"] == len(receipts)
    assert (bench.stored["claimed_ms"], bench.stored["claimed_seq"]) == (200, 2)
    assert bench.evidence() == []
    bench.end()


@pytest.mark.parametrize(
    ("seq", "delivered", "word"),
    [(2, 300, "seq"), (1, 300, "seq"), (3, 199, "delivered_ms")],
)
def test_totals_never_fall_and_numbers_count_up(bench: Bench, seq: int, delivered: int, word: str) -> None:
    bench.observe("running", [bench.link.receipt(bench.lease, 2, 200)])
    bench.observe("running", [bench.link.receipt(bench.lease, seq, delivered)])
    assert bench.stored["claimed_ms"] == 200
    assert [e[3] for e in bench.evidence()] == ["receipt_content"] and word in bench.evidence()[0][4]
    bench.end()


def test_nothing_comes_after_the_final_one(bench: Bench) -> None:
    bench.observe("running", [bench.link.receipt(bench.lease, 1, 100, final=True)])
    bench.observe("running", [bench.link.receipt(bench.lease, 2, 200)])
    assert bench.stored["claimed_ms"] == 100 and bench.stored["claimed_final"]
    assert "final" in bench.evidence()[0][4]
    bench.end()


def test_after_the_end_nothing_is_added(bench: Bench) -> None:
    bench.until_observed(1000)
    bench.observe("exited", [bench.link.receipt(bench.lease, 1, 1000, final=True)], exit_code=0)
    bench.net.api.wait_end(bench.job["id"])
    bill = bench.net.api.bill(bench.job["id"])
    bench.link.observe(receipts=[bench.link.receipt(bench.lease, 2, 5_000)])
    assert bench.net.api.bill(bench.job["id"]) == bill


@pytest.mark.settings(network__silent_after="1s", network__grace="2s")
def test_silence_is_not_paid(net: Network) -> None:
    """Between two looks more than the grace apart nothing is supported by the server, whatever is claimed."""
    bench = Bench(net)
    bench.until_observed(1000)
    net.wait_online(bench.link, "offline")
    wait_for("its grace is over", lambda: bench.stored["state"] == "ended")
    assert bench.stored["reason"] == "worker_lost"
    bench.observe("running", [bench.link.receipt(bench.lease, 1, 10_000)])
    assert net.api.bill(bench.job["id"])["total_uusd"] == 0, "what comes after the end is too late"


def test_another_generation(bench: Bench) -> None:
    seen = {"lease": bench.lease["lease"], "generation": 2, "state": "exited", "exit_code": 0}
    answer = bench.link.observe([seen])
    assert "generation" in answer["problems"][0]
    assert bench.stored["state"] == "running"
    bench.end()



def test_a_lease_that_is_left_out_is_lost(bench: Bench) -> None:
    """All leases are in every observation; what was accepted and is not named any more is gone."""
    bench.link.observe([], desired_rev=bench.lease["rev"] - 1)
    assert bench.stored["state"] == "running", "it may not have heard of it yet"
    bench.link.observe([], desired_rev=bench.lease["rev"])
    assert (bench.stored["state"], bench.stored["reason"]) == ("ended", "container_lost")


def test_what_has_ended_is_said_again(bench: Bench) -> None:
    """A worker that still reports what the server has ended is told again that nothing of it is desired."""
    bench.net.api.stop(bench.job["id"])
    bench.observe("gone")
    bench.net.api.wait_end(bench.job["id"])
    rev = bench.link.observe()["desired_rev"]
    seen = {"lease": bench.lease["lease"], "generation": bench.lease["generation"], "state": "running"}
    bench.link.observe([seen], desired_rev=rev)
    with bench.link.desired(str(rev)) as stream:
        event = stream.take(1)[0]
    assert event.event == "lease" and event.json()["desired"] == "none" and event.json()["rev"] > rev


def test_several_of_a_lease_in_one_message(net: Network) -> None:
    """The newest is kept, whatever stands before and after it; another worker's stands beside them as evidence."""
    bench, other = Bench(net), net.link()
    lease = bench.lease
    for first in (1, 3):
        receipts = [bench.link.receipt(lease, seq, seq) for seq in (first, first + 1, first)]
        answer = bench.observe("running", receipts)
        assert answer["receipts_taken"] == 3 and not answer.get("problems")
        rows = net.tesd.store.query("SELECT lease_id, seq, delivered_ms, worker_id FROM receipts")
        assert [[str(value) for value in row] for row in rows] == [[lease["lease"], str(first + 1), str(first + 1), bench.link.worker_id]]
        assert bench.stored["claimed_ms"] == first + 1
    other.observe([], receipts=[other.receipt(lease, 9, 9)])
    bench.observe("exited", [bench.link.receipt(lease, 5, 5, final=True), bench.link.receipt(lease, 6, 6)], exit_code=0)
    assert (bench.stored["state"], bench.stored["claimed_ms"]) == ("ended", 5)
    assert [row[0] for row in net.tesd.store.query("SELECT kind FROM evidence ORDER BY kind")] == ["receipt_content"] * 2
    assert int(net.tesd.store.query("SELECT seq FROM receipts")[0][0]) == 5
