"""The stream of desired leases, sessions beside each other, and intents: what docs/protocol.md promises of them."""

from __future__ import annotations

import secrets

from conftest import Network
from harness import wait_for
from test_receipts import Bench
from worker import Link


def test_sync_then_changes_then_resume(net: Network) -> None:
    link = net.link()
    with link.desired() as stream:
        first = stream.take(1)[0]
        assert first.event == "sync" and first.json() | {"leases": []} == {"rev": int(first.id), "leases": []}
        job = net.api.submit()
        made = stream.take(1)[0]
    lease = made.json()
    assert made.event == "lease" and lease["desired"] == "run" and lease["workload"] == job["id"]
    assert int(made.id) == lease["rev"] > int(first.id)
    assert lease["image"] == "docker.io/library/debian:12" and lease["resources"]["cpu_milli"] == 1000
    link.observe([{"lease": lease["lease"], "generation": 1, "state": "running"}])
    net.api.stop(job["id"])
    with link.desired(made.id) as stream:
        changed = stream.take(1)[0]
    assert changed.event == "lease" and changed.json()["desired"] == "stop", "only what has changed since"
    assert not changed.json().get("command") and "secrets" not in changed.json() or changed.json()["secrets"] == {}
    for nonsense in ("x", "", "-1", "1.5"):
        with link.desired(nonsense) as stream:
            assert stream.take(1)[0].event == "sync"
    with link.desired(first.id) as stream:
        assert stream.take(1)[0].json()["desired"] == "stop", "the newest state, once"
    link.observe([{"lease": lease["lease"], "generation": 1, "state": "exited", "exit_code": 143}])
    net.api.wait_end(job["id"])
    with link.desired(changed.id) as stream:
        assert stream.take(1)[0].json()["desired"] == "none"
    assert not link.sync().get("leases")


def test_resume_over_a_restart_of_the_server(net: Network) -> None:
    link = net.link()
    bench_rev = link.sync()["rev"]
    job = net.api.submit()
    wait_for("it is placed", lambda: net.api.leases(job["id"]))
    net.tesd.kill()
    net.tesd.start()
    with link.desired(str(bench_rev)) as stream:
        assert stream.take(1)[0].json()["workload"] == job["id"]
    net.api.stop(job["id"])
    lease = net.api.lease(job["id"])
    link.observe([{"lease": lease["id"], "generation": 1, "state": "gone"}])
    net.api.wait_end(job["id"])


def test_each_worker_hears_only_its_own(net: Network) -> None:
    bench = Bench(net)
    other = net.link()
    assert not other.sync().get("leases")
    bench.end()


def test_the_fifth_session_ends_the_first(net: Network) -> None:
    link = net.link()
    first = link.session
    for _ in range(4):
        link.open()
    newest = link.session
    link.session = first
    assert link.once("POST", "/v1/worker/observed", link.observation()).status == 401
    link.session = newest
    assert link.once("POST", "/v1/worker/observed", link.observation()).status == 200


def test_a_copied_session_request_opens_nothing(net: Network) -> None:
    link = net.link()
    request = link.session_request(secrets.token_bytes(32))
    link.post("/v1/worker/session", request).ok(200)
    assert link.post("/v1/worker/session", request).problem(422)["field"] == "exchange_key"


def test_an_owners_command_beside_the_process(net: Network) -> None:
    bench = Bench(net, retries=0)
    owner = Link(net.tesd.url, bench.link.signing_key)
    owner.worker_id, owner.boot_id = bench.link.worker_id, ""
    assert owner.intent("paused").ok(200)["intent"] == "paused"
    bench.observe("running")
    owner.call("POST", "/v1/worker/observed", owner.observation(boot_id="other")).problem(409)
    bench.observe("running")
    assert owner.intent("draining").ok(200)["intent"] == "draining"
    wait_for("its lease is to stop", lambda: bench.link.sync()["leases"][0]["desired"] == "stop")
    bench.observe("exited", exit_code=143)
    assert bench.net.api.wait_end(bench.job["id"])["reason"] == "drained_by_provider"


def test_a_machine_that_offers_less_than_is_leased(net: Network) -> None:
    """The owner takes capacity away while it is leased: what runs goes on, and nothing new fits."""
    worker = net.worker()
    want = {"cpu_milli": 6000, "memory_mib": 64, "disk_mib": 64}
    job = net.api.submit(sim={"run_s": None}, resources=want, max_price_uusd_h=10**11)
    net.api.wait(job["id"], "running")
    worker.set_inventory(offered_cpu_milli=4000)
    api = net.provider.client()
    wait_for("the server knows", lambda: api.get(f"/v1/workers/{worker.worker_id}").ok()["cpu_milli"] == 4000)
    waiting = net.api.submit(sim={})
    explain = wait_for("explain knows", lambda: (e := net.api.get(f"/v1/workloads/{waiting['id']}/explain").ok())["offers"] and e)
    assert explain["matching"] == 0
    assert net.api.show(job["id"])["state"] == "running"
    net.api.stop(job["id"])
    assert net.api.wait_end(waiting["id"])["state"] == "succeeded"
    worker.set_inventory(problem="the engine does not answer")
    wait_for("it offers nothing", lambda: net.tesd.client().get("/v1/offers?cpu_milli=100").ok()["total"] == 0)
