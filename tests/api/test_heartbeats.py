"""Heartbeats of idle workers, which are answered from memory: what the answer says all the same."""

from __future__ import annotations

import secrets
import time

import pytest

from conftest import Network
from harness import PostgresStore, in_parallel, wait_for
from worker import Link

OBSERVED = "/v1/worker/observed"
# Longer than a test: what is noticed, is noticed because it was told.
slow = pytest.mark.settings(network__heartbeat="1m", network__silent_after="1h", network__grace="1h")


def seen_ms(net: Network, link: Link) -> int:
    return int(net.tesd.store.query(f"SELECT seen_ms FROM workers WHERE id = '{link.worker_id}'")[0][0])


def kinds(net: Network, subject: str) -> list[str]:
    return [event["kind"] for event in net.api.events(subject)]


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


def test_one_heartbeat_of_many_leases(net: Network) -> None:
    """What is wrong with one lease is said of it, and the others are stored all the same."""
    link = net.link(cpu_threads=16)
    jobs = [net.api.submit(retries=0) for _ in range(5)]
    wait_for("all are placed", lambda: all(net.api.leases(job["id"]) for job in jobs))
    leases = [net.api.lease(job["id"]) for job in jobs]

    def seen(at: int, state: str, **more: object) -> dict[str, object]:
        return {"lease": leases[at]["id"], "generation": 1, "state": state} | more

    rev = link.observe([seen(at, "running") for at in range(5)], desired_rev=5)["desired_rev"]
    answer = link.observe(
        [
            seen(0, "exited", exit_code=0),
            seen(1, "exited", exit_code=3),
            seen(2, "exited", exit_code=0) | {"generation": 2},
            seen(3, "failed", reason="container_lost"),
            seen(3, "failed", reason="container_lost"),
            {"lease": "le_" + "0" * 26, "generation": 1, "state": "running"},
        ],
        receipts=[link.receipt(net.api.lease(jobs[at]["id"]) | {"lease": leases[at]["id"]}, 1, 1) for at in (0, 2)],
        desired_rev=rev,
    )
    assert len(answer["problems"]) == 2 and answer["receipts_taken"] == 2, answer
    assert "placed again" in answer["problems"][0] and "there is no lease" in answer["problems"][1]
    now = [net.api.lease(job["id"]) for job in jobs]
    assert [lease["state"] for lease in now] == ["ended", "ended", "running", "ended", "ended"]
    assert [lease["reason"] for lease in now] == ["completed", "exited_with_error", "ready", "container_lost", "container_lost"]
    assert [net.api.show(job["id"])["state"] for job in jobs] == ["succeeded", "failed", "running", "failed", "failed"]
    assert [lease["claimed_ms"] for lease in now] == [1, 0, 1, 0, 0]
    machine = net.provider.client().get(f"/v1/workers/{link.worker_id}").ok()
    assert (machine["leases_ok"], machine["leases_failed"]) == (2, 2)
    assert machine["used_cpu_milli"] == now[2]["resources"]["cpu_milli"]
    assert answer["desired_rev"] == machine["desired_rev"] == rev + 4
    assert sorted(lease["desired_rev"] for lease in now)[-4:] == [rev + 1, rev + 2, rev + 3, rev + 4]
    wait_for("the end is announced", lambda: kinds(net, jobs[4]["id"])[-1:] == ["workload.failed"])
    for job, lease, end in zip(jobs, leases, ("succeeded", "failed", None, "failed", "failed"), strict=True):
        told = kinds(net, job["id"])
        assert told == ["workload.pending", "workload.preparing", "workload.running"] + ([f"workload.{end}"] if end else [])
        assert kinds(net, lease["id"]) == ["lease.reserved", "lease.running"] + (["lease.ended"] if end else [])
    link.observe([seen(2, "exited", exit_code=0)], desired_rev=answer["desired_rev"])
    net.api.wait_end(jobs[2]["id"])


def test_a_lease_that_is_listed_twice(net: Network) -> None:
    """Each of its transitions is announced."""
    link = net.link()
    job = net.api.submit(retries=0)
    wait_for("it is placed", lambda: net.api.leases(job["id"]))
    lease = net.api.lease(job["id"])
    seen = {"lease": lease["id"], "generation": 1}
    states = [{"state": "accepted"}, {"state": "running"}, {"state": "exited", "exit_code": 0}, {"state": "exited", "exit_code": 0}]
    answer = link.observe([seen | state for state in states], desired_rev=1)
    assert not answer.get("problems") and answer["desired_rev"] == 2
    net.api.wait_end(job["id"])
    wait_for("the end is announced", lambda: kinds(net, job["id"])[-1:] == ["workload.succeeded"])
    assert kinds(net, lease["id"]) == ["lease.reserved", "lease.preparing", "lease.running", "lease.ended"]


def test_heartbeats_at_the_same_time(net: Network) -> None:
    """Each moves the worker's numbers; none is lost, also not beside those of new leases."""
    count = 12
    link = net.link(cpu_threads=64, offered_cpu_milli=64000, offered_memory_mib=1 << 17, memory_mib=1 << 17)
    jobs = [net.api.submit(retries=0) for _ in range(count)]
    wait_for("all are placed", lambda: all(net.api.leases(job["id"]) for job in jobs))
    leases = [net.api.lease(job["id"]) for job in jobs]

    def end(i: int) -> str:
        if i >= count:
            return str(net.api.submit(retries=0)["id"])
        seen = {"lease": leases[i]["id"], "generation": 1}
        receipt = link.receipt(leases[i] | {"lease": leases[i]["id"]}, 1, 1)
        answer = link.observe([seen | {"state": "running"}], desired_rev=0, receipts=[receipt])
        assert not answer.get("problems") and answer["receipts_taken"] == 1, answer
        assert not link.observe([seen | {"state": "exited", "exit_code": i % 2}], desired_rev=0).get("problems")
        return ""

    more = in_parallel(count + 4, end)[count:]
    wait_for("all are placed", lambda: all(net.api.leases(ident) for ident in more))
    now = [net.api.lease(job["id"]) for job in jobs] + [net.api.lease(ident) for ident in more]
    machine = net.provider.client().get(f"/v1/workers/{link.worker_id}").ok()
    assert machine["leases_ok"] == count and machine.get("leases_failed", 0) == 0
    assert machine["used_cpu_milli"] == sum(lease["resources"]["cpu_milli"] for lease in now[count:])
    assert machine["desired_rev"] == 2 * count + len(more)
    assert len({lease["desired_rev"] for lease in now}) == len(now)
    assert [lease["claimed_ms"] for lease in now] == [1] * count + [0] * len(more)
    assert int(net.tesd.store.query("SELECT COUNT(*) FROM receipts")[0][0]) == count


def test_a_heartbeat_that_is_repeated_while_it_is_taken(net: Network) -> None:
    """Its connection was lost, say: the second finds what the first has stored."""
    count = 8
    link = net.link(cpu_threads=64, offered_cpu_milli=64000, offered_memory_mib=1 << 17, memory_mib=1 << 17)
    jobs = [net.api.submit(retries=0) for _ in range(count)]
    wait_for("all are placed", lambda: all(net.api.leases(job["id"]) for job in jobs))
    leases = [net.api.lease(job["id"]) for job in jobs]
    link.observe([{"lease": lease["id"], "generation": 1, "state": "running"} for lease in leases], desired_rev=0)
    for i, lease in enumerate(leases):
        seen = {"lease": lease["id"], "generation": 1, "state": "exited" if i % 2 else "running", "exit_code": 0}
        receipt = link.receipt(lease | {"lease": lease["id"]}, 1, 1)
        answers = in_parallel(6, lambda _: link.observe([seen], desired_rev=0, receipts=[receipt]))  # noqa: B023
        assert all(answer["receipts_taken"] == 1 and not answer.get("problems") for answer in answers), answers
    assert int(net.tesd.store.query("SELECT COUNT(*) FROM receipts")[0][0]) == count


def test_ends_beside_placements(net: Network) -> None:
    """They move the same worker and the same accounts, in one order: none has to wait for PostgreSQL to see a deadlock."""
    if not isinstance(net.tesd.store, PostgresStore):
        pytest.skip("SQLite has one writer")
    link = net.link(cpu_threads=256, offered_cpu_milli=256000, offered_memory_mib=1 << 19, memory_mib=1 << 19)

    def one(_: int) -> None:
        for _ in range(6):
            job = net.api.submit(retries=0)
            wait_for("it is placed", lambda: net.api.leases(job["id"]))  # noqa: B023
            lease = net.api.lease(job["id"])
            link.observe([{"lease": lease["id"], "generation": 1, "state": "exited", "exit_code": 0}], desired_rev=0)

    in_parallel(16, one)
    time.sleep(2)  # until its processes have told what they counted
    deadlocks = net.tesd.store.query("SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()")
    assert int(deadlocks[0][0]) == 0
