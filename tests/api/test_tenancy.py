"""Organisations see nothing of each other; roles and scopes stand for every row of the table of operations."""

from __future__ import annotations

import json
import re
import subprocess
import threading
from typing import Any

import pytest

from conftest import Network
from harness import Client, Response, in_parallel, program, wait_for

SCOPES = ["workloads:read", "workloads:write", "billing:read", "workers:read", "workers:write", "org:read", "org:write"]
ROLES = ["viewer", "developer", "admin", "owner"]


def operations() -> list[dict[str, Any]]:
    """Every row of the table, as `tesd openapi` shows it."""
    doc = json.loads(subprocess.run([program("tesd"), "openapi"], capture_output=True, check=True).stdout)
    rows = []
    for path, methods in doc["paths"].items():
        for method, op in methods.items():
            security = op.get("security")
            kind = "key" if security is None else "worker" if security else "public"
            body = list(op.get("requestBody", {}).get("content", {}))
            role = op.get("x-role")
            rows.append(
                {"name": op["operationId"], "method": method.upper(), "path": path, "kind": kind, "role": role, "body": body}
            )
    return rows


OPERATIONS = operations()


def attempt(client: Client, op: dict[str, Any], ids: dict[str, str] | None = None) -> Response:
    """Calls the operation with a body that says nothing; path parameters from `ids`, else made up."""
    path = re.sub(r"\{(\w+)\}", lambda m: (ids or {}).get(m.group(1), "wl_" + "0" * 26), op["path"])
    if op["body"] == ["application/json"]:
        return client.call(op["method"], path, {})
    if op["body"]:
        return client.call(op["method"], path, raw=b"")
    return client.call(op["method"], path)


def names(kind: str) -> list[Any]:
    return [pytest.param(op, id=op["name"]) for op in OPERATIONS if op["kind"] == kind]


@pytest.fixture
def ids(net: Network) -> dict[str, Any]:
    """One of everything that the customer and the provider have."""
    worker = net.worker()
    api = net.api
    quote = api.post("/v1/quotes", {"resources": {"cpu_milli": 1000}}).ok(200)
    blob = api.post("/v1/inputs", raw=b"not quite a tar archive").ok(201)
    job = api.submit(
        name="mine",
        sim={"run_s": 0.2, "log": ["secret\n"], "outputs": {"out.txt": "secret"}},
        outputs=["/out.txt"],
        inputs=[{"id": blob["id"], "name": "data"}],
        secrets={"TOKEN": "hunter2"},
    )
    api.wait_end(job["id"])
    key = api.post("/v1/keys", {"name": "second", "role": "viewer"}).ok(201)
    result = api.get(f"/v1/workloads/{job['id']}/results").ok()["items"][0]["id"]
    return {
        "worker": worker.worker_id,
        "quote": quote["id"],
        "input": blob["id"],
        "workload": job["id"],
        "lease": api.lease(job["id"])["id"],
        "key": key["id"],
        "result": result,
    }


def test_another_organisation_sees_nothing(net: Network, ids: dict[str, Any]) -> None:
    stranger = net.tesd.org("stranger", credit="1000").client()
    every = [v for v in ids.values()] + ["mine", ids["workload"][:12]]
    for op in OPERATIONS:
        if op["kind"] != "key" or "{id}" not in op["path"]:
            continue
        before = net.tesd.counts()
        for ident in every:
            answer = attempt(stranger, op, {"id": ident})
            answer.problem(404, "not_found")
            assert "secret" not in answer.body.decode() and "hunter2" not in answer.body.decode()
        after = net.tesd.counts()
        assert {k: v for k, v in after.items() if k != "events"} == {k: v for k, v in before.items() if k != "events"}, op
    for path in ("workloads?all=true", "events", "bill", "transfers", "keys", "workers", "members"):
        value = stranger.get(f"/v1/{path}").ok()
        text = json.dumps(value)
        assert not any(v in text for v in ids.values()), (path, text)
    for field, value in (("quote", ids["quote"]), ("inputs", [{"id": ids["input"], "name": "x"}])):
        spec = {"image": "debian:12", "resources": {"cpu_milli": 1000}, field: value}
        problem = stranger.post("/v1/workloads", spec | ({} if field == "quote" else {"max_price_uusd_h": 10**9})).problem(422)
        assert problem["field"].startswith(field)
    assert not stranger.events(ids["workload"])


def test_its_owner_sees_it(net: Network, ids: dict[str, Any]) -> None:
    api, provider = net.api, net.provider.client()
    for path in ("", "/explain", "/leases", "/logs", "/results", "/bill"):
        api.get(f"/v1/workloads/{ids['workload']}{path}").ok(200)
    assert api.show("mine")["id"] == api.show(ids["workload"][:20])["id"] == ids["workload"]
    api.get(f"/v1/quotes/{ids['quote']}").ok(200)
    assert api.get(f"/v1/results/{ids['result']}").body == b"secret"
    provider.get(f"/v1/workers/{ids['worker']}").ok(200)
    # The provider is a stranger to the customer's workload, although it ran there.
    provider.get(f"/v1/workloads/{ids['workload']}").problem(404)
    api.get(f"/v1/workers/{ids['worker']}").problem(404)


def test_secrets_are_never_shown(net: Network, ids: dict[str, Any]) -> None:
    api = net.api
    everything = [
        api.get(f"/v1/workloads/{ids['workload']}").body,
        api.get("/v1/workloads?all=true").body,
        api.get("/v1/events?limit=1000").body,
        api.get("/v1/keys").body,
        net.tesd.log().encode(),
    ]
    for text in everything:
        assert b"hunter2" not in text
        for role in net.customer.keys:
            assert net.customer.keys[role].encode() not in text
    for table in net.tesd.store.tables():
        rows = str(net.tesd.store.query(f"SELECT * FROM {table}"))
        assert "hunter2" not in rows and net.customer.key().split("_", 2)[2] not in rows, table


@pytest.mark.parametrize("op", names("key"))
def test_without_a_key(guarded: Network, op: dict[str, Any]) -> None:
    client = guarded.tesd.client()
    attempt(client, op).problem(401, "unauthenticated")
    made_up = "tes_" + "0" * 26 + "_" + "A" * 43
    for header in ("Bearer", "Bearer x", "Basic eDp5", f"Bearer {made_up}", "bearer " + guarded.customer.key()):
        sent = client.call(
            op["method"],
            re.sub(r"\{\w+\}", "x", op["path"]),
            {} if op["body"] == ["application/json"] else None,
            headers={"Authorization": header},
        )
        sent.problem(401)


@pytest.mark.parametrize("op", names("worker"))
def test_worker_operations_need_a_session(guarded: Network, op: dict[str, Any]) -> None:
    attempt(guarded.tesd.client(), op).problem(401)
    attempt(guarded.customer.client(), op).problem(401)


@pytest.mark.parametrize("op", names("key"))
def test_roles(guarded: Network, op: dict[str, Any]) -> None:
    """Below the row's role 403; from it on anything but 401 and 403."""
    for role in ROLES:
        answer = attempt(guarded.customer.client(role), op)
        if ROLES.index(role) < ROLES.index(op["role"]):
            assert op["role"] in answer.problem(403, "forbidden")["detail"]
        else:
            assert answer.status not in (401, 403), (role, answer)


@pytest.mark.parametrize("op", names("key"))
def test_scopes(guarded: Network, op: dict[str, Any]) -> None:
    """A key with every scope but the one that the row names is refused, and one with nothing but that one is not."""
    needed = set()
    for scope in SCOPES:
        client = guarded.tesd.client(scoped_key(guarded, [scope]))
        answer = attempt(client, op)
        if answer.status == 403:
            found = re.search(r"needs the scope (\S+),", answer.json()["detail"])
            assert found and found.group(1) != scope, answer
            needed.add(found.group(1))
        else:
            assert answer.status != 401
    if op["name"] == "user.whoami":
        assert not needed
        return
    assert len(needed) == 1, needed
    scope = needed.pop()
    assert attempt(guarded.tesd.client(scoped_key(guarded, [scope])), op).status not in (401, 403)
    others = [s for s in SCOPES if s != scope]
    attempt(guarded.tesd.client(scoped_key(guarded, others)), op).problem(403, "forbidden")


def scoped_key(net: Network, scopes: list[str]) -> str:
    name = ",".join(scopes)
    if name not in net.customer.keys:
        made = net.customer.client().post("/v1/keys", {"name": "scoped", "role": "owner", "scopes": scopes}).ok(201)
        net.customer.keys[name] = made["secret"]
    return net.customer.keys[name]


def test_nobody_gives_what_they_do_not_have(net: Network) -> None:
    admin = net.customer.client("admin")
    assert admin.post("/v1/keys", {"name": "x", "role": "owner"}).problem(422)["field"] == "role"
    narrow = net.tesd.client(scoped_key(net, ["org:write"]))
    problem = narrow.post("/v1/keys", {"name": "x", "scopes": ["billing:read"]}).problem(422)
    assert problem["field"] == "scopes"
    made = narrow.post("/v1/keys", {"name": "x"}).ok(201)
    assert made["scopes"] == ["org:write"]
    assert admin.post("/v1/keys", {"name": "x", "scopes": ["everything"]}).problem(422)["field"].startswith("scopes")


def test_a_revoked_and_an_expired_key(net: Network) -> None:
    api = net.api
    made = api.post("/v1/keys", {"name": "short", "expires_s": 1}).ok(201)
    client = net.tesd.client(made["secret"])
    client.get("/v1/whoami").ok(200)
    wait_for("it has expired", lambda: client.get("/v1/whoami").status == 401)
    for used in (True, False):
        revoked = api.post("/v1/keys", {"name": "gone"}).ok(201)
        client = net.tesd.client(revoked["secret"])
        if used:
            client.get("/v1/whoami").ok(200)
        api.delete(f"/v1/keys/{revoked['id']}").ok(204)
        client.get("/v1/whoami").problem(401)
        client.post("/v1/inputs", raw=b"x").problem(401)
        api.delete(f"/v1/keys/{revoked['id']}").problem(404)


def test_a_key_in_constant_use_ends_with_its_revocation(net: Network) -> None:
    """What is kept of keys in memory never outlives the answer to the revocation."""
    for _ in range(10):
        made = net.api.post("/v1/keys", {"name": "busy"}).ok(201)
        revoked = threading.Event()

        def work(i: int, made: dict[str, Any] = made, revoked: threading.Event = revoked) -> None:
            client = net.tesd.client(made["secret"])
            if i == 0:
                client.get("/v1/whoami").ok(200)
                net.api.delete(f"/v1/keys/{made['id']}").ok(204)
                revoked.set()
            ended, after = False, 0
            while after < 5:
                late = revoked.is_set()
                status = client.get("/v1/whoami").status
                assert status == 401 if late or ended else status in (200, 401)
                ended = status == 401
                after += late

        in_parallel(4, work)


def test_what_another_process_revokes_counts_within_a_second(net: Network) -> None:
    made = net.api.post("/v1/keys", {"name": "elsewhere"}).ok(201)
    client = net.tesd.client(made["secret"])
    client.get("/v1/whoami").ok(200)
    net.tesd.store.execute(f"UPDATE api_keys SET revoked_ms = 1 WHERE id = '{made['id']}'")
    wait_for("the key has ended", lambda: client.get("/v1/whoami").status == 401)
    client.get("/v1/whoami").problem(401)


def test_the_hour_of_a_keys_last_use(net: Network) -> None:
    """Written by what serves the request, an upload's as well."""
    first = net.api.post("/v1/keys", {"name": "reads"}).ok(201)
    second = net.api.post("/v1/keys", {"name": "uploads"}).ok(201)
    net.tesd.client(first["secret"]).get("/v1/whoami").ok(200)
    net.tesd.client(second["secret"]).post("/v1/inputs", raw=b"x").ok(201)
    keys = {key["id"]: key for key in net.api.get("/v1/keys").ok()["items"]}
    assert keys[first["id"]]["used_ms"] and keys[second["id"]]["used_ms"]


def test_login(net: Network) -> None:
    net.tesd.admin(
        "user", "create", "ann@example.org", "--org", "customer", "--role", "developer", "--password-stdin",
        stdin="correct horse\n",
    )  # fmt: skip
    nobody = net.tesd.client()
    key = nobody.post("/v1/login", {"email": "ann@example.org", "password": "correct horse"}).ok()
    me = net.tesd.client(key["secret"]).get("/v1/whoami").ok()
    assert (me["email"], me["role"], me["org_name"]) == ("ann@example.org", "developer", "customer")
    for value in ({"password": "wrong horse"}, {"email": "bob@example.org"}):
        nobody.post("/v1/login", {"email": "ann@example.org", "password": "correct horse"} | value).problem(401)
    org = nobody.post("/v1/login", {"email": "ann@example.org", "password": "correct horse", "org": "provider"})
    assert org.problem(422)["field"] == "org"
    for _ in range(10):
        nobody.post("/v1/login", {"email": "ann@example.org", "password": "x"})
    nobody.post("/v1/login", {"email": "ann@example.org", "password": "x"}).problem(429, "rate")
    # What a member's key may do sinks with the member.
    client = net.tesd.client(key["secret"])
    net.tesd.store.execute("UPDATE memberships SET role = 'viewer'")
    wait_for("the role has sunk", lambda: client.get("/v1/whoami").ok()["role"] == "viewer")
    net.tesd.store.execute("DELETE FROM memberships")
    wait_for("the key has ended", lambda: client.get("/v1/whoami").status == 401)
