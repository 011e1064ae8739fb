"""Output: in order, each line once, followed live, resumed, cut with a word, and there after the end."""

from __future__ import annotations

from typing import Any

import pytest

from conftest import Network
from harness import Client, Event, wait_for
from test_receipts import Bench
from worker import now_ms


def entries(first: int, texts: list[str], at_ms: int | None = None) -> list[dict[str, Any]]:
    return [
        {"seq": first + i, "at_ms": at_ms or now_ms(), "stream": "stderr" if i % 2 else "stdout", "text": text}
        for i, text in enumerate(texts)
    ]


def page(api: Client, workload: str, query: str = "") -> dict[str, Any]:
    return api.get(f"/v1/workloads/{workload}/logs{query}").ok()


def texts(value: dict[str, Any]) -> list[str]:
    return [e.get("text", "") for e in value.get("items", [])]


@pytest.fixture
def bench(net: Network) -> Bench:
    return Bench(net)


def test_order_repeats_and_gaps(bench: Bench) -> None:
    link, lease, api, job = bench.link, bench.lease, bench.net.api, bench.job["id"]
    assert page(api, job) | {"complete": False} == page(api, job) and texts(page(api, job)) == []
    assert link.send_logs(lease, entries(1, ["a", "b"])).ok() == {"seq": 2, "cut": False}
    assert link.send_logs(lease, entries(1, ["A", "B", "c"])).ok()["seq"] == 3, "what is there already is left as it is"
    assert link.send_logs(lease, entries(2, ["x"])).ok()["seq"] == 3
    problem = link.send_logs(lease, entries(5, ["e"])).problem(422)
    assert problem["field"] == "entries[0].seq" and "4" in problem["detail"]
    hole = entries(4, ["d"]) + entries(6, ["f"])
    assert link.send_logs(lease, hole).problem(422)["field"] == "entries[1].seq"
    got = page(api, job)
    assert texts(got) == ["a", "b", "c"] and [e["seq"] for e in got["items"]] == [1, 2, 3]
    assert [e.get("stream", "stdout") for e in got["items"]] == ["stdout", "stderr", "stdout"]
    assert not got["complete"] and not got["cut"] and got["lease"] == lease["lease"]
    bench.end()
    assert page(api, job)["complete"]


def test_how_far_they_are_stored(bench: Bench) -> None:
    """No entries: only a question.  A worker asks it of a server that may have gone back to an older copy of its store."""
    assert bench.link.send_logs(bench.lease, []).ok() == {"seq": 0, "cut": False}
    bench.link.send_logs(bench.lease, entries(1, ["a", "b", "c"])).ok()
    assert bench.link.send_logs(bench.lease, []).ok() == {"seq": 3, "cut": False}
    bench.net.tesd.store.execute("UPDATE leases SET logs_seq = 1, logs_bytes = 0")
    problem = bench.link.send_logs(bench.lease, entries(4, ["d"])).problem(422)
    assert problem["field"] == "entries[0].seq"
    assert bench.link.send_logs(bench.lease, []).ok() == {"seq": 1, "cut": False}
    assert bench.link.send_logs(bench.lease, entries(2, ["b", "c", "d"])).ok()["seq"] == 4
    bench.end()
    stranger = bench.net.link()
    stranger.send_logs(bench.lease, []).problem(422)


def test_pages(bench: Bench) -> None:
    api, job = bench.net.api, bench.job["id"]
    lines = [f"line {i}" for i in range(250)]
    bench.link.send_logs(bench.lease, entries(1, lines)).ok()
    bench.end()
    got: list[str] = []
    after, complete = 0, False
    while not complete:
        value = page(api, job, f"?limit=100&after={after}")
        assert len(value["items"]) <= 100
        got += texts(value)
        assert value["next"] > after
        after, complete = value["next"], value["complete"]
    assert got == lines


def test_texts_of_any_kind(bench: Bench) -> None:
    """What programs write goes through as it is: colours, carriage returns, long lines, emoji."""
    odd = ["\x1b[31mred\x1b[0m", "50%\r100%\n", "tab\tbed", "ü😀\u202e", "x" * 65536, "", '"quoted" \\ back', "\x07\x08\x7f"]
    bench.link.send_logs(bench.lease, entries(1, odd)).ok()
    assert texts(page(bench.net.api, bench.job["id"])) == odd
    bench.link.send_logs(bench.lease, entries(9, ["x" * 65537])).problem(422)
    bench.link.send_logs(bench.lease, entries(9, ["nul \x00"])).problem(422)
    timeless = bench.link.send_logs(bench.lease, [entries(9, ["x"])[0] | {"at_ms": 0}]).problem(422)
    assert timeless["field"] == "entries[0].at_ms"
    bench.end()


def test_since(bench: Bench) -> None:
    now = now_ms()
    bench.link.send_logs(bench.lease, entries(1, ["old"], now - 60_000) + entries(2, ["new"], now)).ok()
    assert texts(page(bench.net.api, bench.job["id"], f"?since_ms={now - 1000}")) == ["new"]
    bench.end()


def test_follow_and_resume(bench: Bench) -> None:
    api, job = bench.net.api, bench.job["id"]
    bench.link.send_logs(bench.lease, entries(1, ["a", "b"])).ok()
    seen: list[Event] = []
    with api.stream(f"/v1/workloads/{job}/logs") as stream:
        assert stream.headers["content-type"].startswith("text/event-stream")
        for event in stream:
            seen.append(event)
            if event.event == "log" and event.json()["text"] == "b":
                break
    assert [e.json()["text"] for e in seen if e.event == "log"] == ["a", "b"]
    assert [e.json()["state"] for e in seen if e.event == "state"][-1] == "running"
    bench.link.send_logs(bench.lease, entries(3, ["c"])).ok()
    with api.stream(f"/v1/workloads/{job}/logs?follow=true", last_event_id=seen[-1].id) as stream:
        got: list[Event] = []
        sent = False
        for event in stream:
            got.append(event)
            if event.event == "log" and not sent:
                sent = True
                bench.link.send_logs(bench.lease, entries(4, ["d"])).ok()
                bench.end()
        assert [e.json()["text"] for e in got if e.event == "log"] == ["c", "d"], got
        assert got[-1].event == "end"
        assert [e.json() for e in got if e.event == "state"][-1]["state"] == "succeeded"
    for bad in ("x", "1", "1.x", "-1.0", "1.2.3"):
        assert api.get(
            f"/v1/workloads/{job}/logs?follow=true", headers={"Last-Event-ID": bad}
        ).problem(422)["field"] == "Last-Event-ID"  # fmt: skip


def test_follow_from_before_it_is_placed_over_two_attempts(net: Network) -> None:
    job = net.api.submit(sim={"run_s": 0.3, "log": ["hello\n"]}, retries=1)
    with net.api.stream(f"/v1/workloads/{job['id']}/logs") as stream:
        first = stream.take(1)[0]
        assert first.event == "state" and first.json()["state"] == "pending"
        worker = net.worker(script={"run_s": 0.3, "lose_after_s": 0.2})
        events = []
        for event in stream:
            events.append(event)
            if event.event == "state" and event.json()["reason"] == "container_lost":
                worker.script = {}
    assert [e.json()["text"] for e in events if e.event == "log"] == ["hello\n", "hello\n"], "each attempt has its output"
    assert events[-1].event == "end"
    states = [e.json()["state"] for e in events if e.event == "state"]
    assert states[-1] == "succeeded" and "running" in states
    leases = net.api.leases(job["id"])
    assert texts(page(net.api, job["id"], f"?lease={leases[0]['id']}")) == ["hello\n"]
    net.api.get(f"/v1/workloads/{job['id']}/logs?lease=le_{'0' * 26}").problem(404)


@pytest.mark.settings(limits__logs_max="4096")
def test_the_limit_cuts_and_says_so(bench: Bench) -> None:
    lines = [f"{i:04d} " + "x" * 200 for i in range(40)]
    ack = bench.link.send_logs(bench.lease, entries(1, lines)).ok()
    assert ack["cut"]
    got = page(bench.net.api, bench.job["id"])
    assert got["cut"] and 10 < len(got["items"]) < 20
    last = got["items"][-1]
    assert last["stream"] == "system" and "limit of 4" in last["text"]
    assert texts(got)[:-1] == lines[: len(got["items"]) - 1]
    again = bench.link.send_logs(bench.lease, entries(41, ["more"])).ok()
    assert again["cut"] and page(bench.net.api, bench.job["id"]) == got
    bench.end()


def test_late_lines(net: Network) -> None:
    """What the worker could not send before it reported the end is taken afterwards."""
    net.worker()
    job = net.run(sim={"run_s": 0.2, "log": ["in time\n"]})
    lease = net.api.lease(job["id"])
    worker = net.workers[0]
    want = {"lease": lease["id"], "generation": lease["generation"]}
    assert worker.send_logs(want, entries(2, ["late\n"])).ok()["seq"] == 2
    assert texts(page(net.api, job["id"])) == ["in time\n", "late\n"]
    worker.send_logs(want | {"generation": 2}, entries(3, ["x"])).problem(409)
    stranger = net.link()
    assert stranger.send_logs(want, entries(3, ["x"])).problem(422)["field"] == "lease"
    stranger.send_logs(want | {"lease": "le_" + "0" * 26}, entries(3, ["x"])).problem(404)


def test_a_crash_between_bytes_and_row(bench: Bench) -> None:
    """A tail that no row speaks of is cut by the next append."""
    bench.link.send_logs(bench.lease, entries(1, ["a"])).ok()
    blob = next((bench.net.tesd.directory / "blobs").rglob(f"*{bench.lease['lease'][3:]}*"))
    with blob.open("ab") as file:
        file.write(b'{"seq":2,"half a li')
    assert texts(page(bench.net.api, bench.job["id"])) == ["a"]
    bench.link.send_logs(bench.lease, entries(2, ["b"])).ok()
    assert texts(page(bench.net.api, bench.job["id"])) == ["a", "b"]
    bench.end()


def test_removed_with_the_workload(net: Network) -> None:
    net.worker()
    job = net.run(sim={"run_s": 0.1, "log": ["x"], "outputs": {"r": "y"}})
    net.api.delete(f"/v1/workloads/{job['id']}").ok(204)
    net.api.get(f"/v1/workloads/{job['id']}").problem(404)
    net.api.get(f"/v1/workloads/{job['id']}/logs").problem(404)
    wait_for("its results are gone", lambda: net.tesd.counts()["results"] == 0)
    bill = net.api.get("/v1/bill").ok()
    assert [line["lease_id"] for line in bill.get("lines", [])] in ([], [job["lease_id"]])
    wait_for("it is announced", lambda: net.api.events(job["id"])[-1]["kind"] == "workload.removed")
