"""Heartbeats of idle workers, which are answered from memory: what the answer says all the same."""

from __future__ import annotations

import secrets

import pytest

from conftest import Network
from harness import wait_for
from worker import Link

OBSERVED = "/v1/worker/observed"
# Longer than a test: what is noticed, is noticed because it was told.
slow = pytest.mark.settings(network__heartbeat="1m", network__silent_after="1h", network__grace="1h")


def seen_ms(net: Network, link: Link) -> int:
    return int(net.tesd.store.query(f"SELECT seen_ms FROM workers WHERE id = '{link.worker_id}'")[0][0])


@slow
def test_a_lease_is_told_at_once(net: Network) -> None:
    link = net.link()
    assert [link.observe()["desired_rev"] for _ in range(3)] == [0, 0, 0]
    job = net.api.submit()
    wait_for("it is placed", lambda: net.api.leases(job["id"]))
    assert [link.observe()["desired_rev"] for _ in range(2)] == [1, 1]
    net.api.stop(job["id"])
    assert link.observe()["desired_rev"] == 2
    lease = net.api.lease(job["id"])
    link.observe([{"lease": lease["id"], "generation": 1, "state": "gone"}], desired_rev=2)
    net.api.wait_end(job["id"])
    assert link.observe()["desired_rev"] == 3, "it need not be there any more"


@slow
def test_another_process_and_the_end(net: Network) -> None:
    link = net.link()
    for _ in range(3):
        link.observe()
    other = Link(net.tesd.url, link.signing_key)
    other.worker_id, other.boot_id = link.worker_id, secrets.token_hex(8)
    other.open()
    link.call("POST", OBSERVED, link.observation()).problem(409)
    for _ in range(3):
        other.observe()
    other.intent("paused")
    other.observe()
    other.intent("draining", leave=True)
    assert other.once("POST", OBSERVED, other.observation()).status == 401, "its sessions have ended"


def test_the_operator_removes_it(net: Network) -> None:
    link = net.link()
    link.observe()
    net.tesd.admin("worker", "remove", link.worker_id, "--why", "gone")

    def is_told() -> bool:
        return link.once("POST", OBSERVED, link.observation()).status == 410

    wait_for("it is told", is_told)


@pytest.mark.settings(network__silent_after="1s")
def test_heard_and_not_heard(net: Network) -> None:
    link = net.link()
    first = seen_ms(net, link)

    def is_stored() -> bool:
        link.observe()
        assert net.api.call("GET", "/v1/offers").ok(200)["items"], "who is heard is on offer"
        return seen_ms(net, link) > first + 4000

    wait_for("it is heard four times as long as a silence may be", is_stored)
    net.wait_online(link, "offline")
    link.observe()
    net.wait_online(link)
