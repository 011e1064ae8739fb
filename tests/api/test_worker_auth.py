"""Who a worker is: joining, sessions, and requests that somebody tampered with."""

from __future__ import annotations

import json
import secrets

import nacl.signing
import pytest

from conftest import Network
from harness import send
from worker import Link, Session, inventory_of, now_ms

OBSERVED = "/v1/worker/observed"


def signed_post(link: Link, value: object, target: str = OBSERVED, **sign: object) -> tuple[dict[str, str], bytes]:
    body = json.dumps(value).encode()
    headers = link.signed("POST", target, body, **sign)  # type: ignore[arg-type]
    return headers | {"Content-Type": "application/json"}, body


def test_join_token_works_once(net: Network) -> None:
    token = net.provider.join_token()
    first, second = Link(net.tesd.url), Link(net.tesd.url)
    assert second.join_answer("tesjoin_" + "A" * 43, inventory_of()).problem(401, "unauthenticated")
    first.join(token, inventory_of())
    before = net.tesd.counts()
    problem = second.join_answer(token, inventory_of()).problem(409)
    assert first.worker_id in problem["detail"]
    again = Link(net.tesd.url, first.signing_key)
    again.join_answer(net.provider.join_token(), inventory_of()).problem(422)
    after = net.tesd.counts()
    assert after["workers"] == before["workers"] == 1


def test_join_token_expires(net: Network) -> None:
    token = net.tesd.admin("join-token", "create", "--org", net.provider.id, "--ttl", "1m")["secret"]
    net.tesd.store.execute("UPDATE join_tokens SET expires_ms = expires_ms - 60000")
    Link(net.tesd.url).join_answer(token, inventory_of()).problem(410)


@pytest.mark.parametrize("value", ["", "00" * 31, "zz" * 32, "00" * 33])
def test_join_with_a_bad_key(net: Network, value: str) -> None:
    link = Link(net.tesd.url)
    body = {"token": net.provider.join_token(), "public_key": value, "inventory": inventory_of()}
    assert link.post("/v1/worker/join", body).problem(422)["field"] == "public_key"


def test_a_device_belongs_to_one_worker(net: Network) -> None:
    from worker import gpus_of

    devices = gpus_of(2)
    net.link(devices=devices)
    answer = Link(net.tesd.url).join_answer(net.provider.join_token(), inventory_of(devices=devices[1:]))
    assert answer.problem(422)["field"] == "inventory.devices"


@pytest.mark.settings(server__production="yes", server__public_url="https://example.org")
def test_production_takes_no_simulated_hardware(net: Network) -> None:
    link = Link(net.tesd.url)
    link.join_answer(net.provider.join_token(), inventory_of()).problem(403, "forbidden")
    link.join(net.provider.join_token(), inventory_of(simulated=False))
    value = link.observation(inventory=inventory_of(simulated=True))
    link.call("POST", OBSERVED, value).problem(403)


def test_session_needs_the_key(net: Network) -> None:
    link = net.link()
    private = secrets.token_bytes(32)
    good = link.session_request(private)
    other = nacl.signing.SigningKey.generate()
    forged = Link(net.tesd.url, other)
    forged.worker_id = link.worker_id
    net_post = link.post
    net_post("/v1/worker/session", forged.session_request(private)).problem(401)
    net_post("/v1/worker/session", good | {"exchange_key": "11" * 32}).problem(401)
    net_post("/v1/worker/session", good | {"signature": "A" * 86}).problem(401)
    net_post("/v1/worker/session", good | {"signature": "x"}).problem(401)
    unknown = "wk_" + "0" * 26
    assert net_post("/v1/worker/session", link.session_request(private, worker_id=unknown)).status in (401, 404)
    late = link.session_request(private, time_ms=now_ms() - 61_000)
    assert net_post("/v1/worker/session", late).problem(422)["field"] == "time_ms"
    early = link.session_request(private, time_ms=now_ms() + 61_000)
    assert net_post("/v1/worker/session", early).problem(422)["field"] == "time_ms"
    for weak in ("00" * 32, "01" + "00" * 31):  # points of small order: anybody would know the key
        assert net_post("/v1/worker/session", link.session_request(private, exchange_key=weak)).problem(422)


def test_requests_that_were_tampered_with(net: Network) -> None:
    link = net.link()
    value = link.observation()
    post = lambda h, b, t=OBSERVED: send(net.tesd.url, "POST", t, headers=h, body=b)  # noqa: E731
    headers, body = signed_post(link, value)
    assert post(headers, body).status == 200
    post(headers, body).problem(409)  # replayed
    headers, body = signed_post(link, value)
    post(headers, body + b" ").problem(401)
    post(headers, body, OBSERVED + "?").problem(401)
    post(headers, body, "/v1/worker/intent").problem(401)
    send(net.tesd.url, "GET", "/v1/worker/desired", headers=headers).problem(401)
    post(headers | {"TES-Nonce": "99"}, body).problem(401)
    post(headers | {"TES-Time": str(now_ms() + 1)}, body).problem(401)
    post(headers | {"TES-MAC": "00" * 32}, body).problem(401)
    for name in ("TES-Session", "TES-Time", "TES-Nonce", "TES-MAC"):
        post({k: v for k, v in headers.items() if k != name}, body).problem(401)
        for bad in ("", "x", "-1", "9" * 40, "0"):
            assert post(headers | {name: bad}, body).status in (400, 401)
    assert post(headers, body).status == 200, "what was refused has not used up its nonce"


@pytest.mark.parametrize("off_ms", [-61_000, 61_000])
def test_a_request_with_another_time(net: Network, off_ms: int) -> None:
    link = net.link()
    headers, body = signed_post(link, link.observation(), time_ms=now_ms() + off_ms)
    problem = send(net.tesd.url, "POST", OBSERVED, headers=headers, body=body).problem(401)
    assert "clock" in problem["detail"]
    headers, body = signed_post(link, link.observation(), time_ms=now_ms() + off_ms * 9 // 10)
    assert send(net.tesd.url, "POST", OBSERVED, headers=headers, body=body).status == 200


def test_the_window_of_nonces(net: Network) -> None:
    link = net.link()

    def with_nonce(nonce: int) -> int:
        headers, body = signed_post(link, link.observation(), nonce=nonce)
        return send(net.tesd.url, "POST", OBSERVED, headers=headers, body=body).status

    assert with_nonce(10_000) == 200
    assert with_nonce(9_000) == 200, "out of order is fine within 4096"
    assert with_nonce(9_000) == 409 and with_nonce(10_000) == 409
    assert with_nonce(10_000 - 4096) == 409
    assert with_nonce(10_000 - 4095) == 200
    assert with_nonce(1 << 40) == 200
    assert with_nonce(10_001) == 409


def test_a_session_of_another_worker_is_worth_nothing(net: Network) -> None:
    one, two = net.link(), net.link()
    assert one.session and two.session
    stolen = Session(one.session.id, two.session.key, 200)
    headers, body = signed_post(two, two.observation(), session=stolen)
    send(net.tesd.url, "POST", OBSERVED, headers=headers, body=body).problem(401)
    # An API key is no session, and a session is no API key.
    api = net.customer.client()
    api.post(OBSERVED, one.observation()).problem(401)
    headers = one.signed("GET", "/v1/workloads")
    send(net.tesd.url, "GET", "/v1/workloads", headers=headers).problem(401)


def test_another_process_with_the_same_key(net: Network) -> None:
    old = net.link()
    new = Link(net.tesd.url, old.signing_key)
    new.worker_id = old.worker_id
    new.observe()
    problem = old.call("POST", OBSERVED, old.observation()).problem(409)
    assert "one machine, one key" in problem["detail"]
    new.observe()


def test_a_worker_that_left(net: Network) -> None:
    link = net.link()
    job = net.api.submit()
    want = link.sync()["leases"][0] if link.sync().get("leases") else None
    while not want:
        leases = link.sync().get("leases")
        want = leases[0] if leases else None
    link.intent(leave=True).problem(409)
    net.api.stop(job["id"])
    link.observe([{"lease": want["lease"], "generation": want["generation"], "state": "gone"}])
    net.api.wait_end(job["id"])
    assert link.intent(leave=True).ok(200)["state"] == "left"
    for answer in (
        link.once("POST", OBSERVED, link.observation()),
        link.once("GET", "/v1/worker/desired"),
        link.once("POST", "/v1/worker/intent", {"intent": "open"}),
    ):
        assert answer.status in (401, 410), answer
        assert answer.json()["code"] in ("unauthenticated", "gone")
    private = secrets.token_bytes(32)
    link.post("/v1/worker/session", link.session_request(private)).problem(410)
    api = net.provider.client()
    assert not api.get("/v1/workers").ok().get("items")
    # Its key may join again, as another worker.
    again = Link(net.tesd.url, link.signing_key)
    assert again.join(net.provider.join_token(), inventory_of()) != link.worker_id
