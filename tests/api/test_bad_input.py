"""Whatever an operation is sent, it answers 4xx as a problem that says what is wrong, and writes nothing.

The requests are generated from the description of the interface.
"""

from __future__ import annotations

import contextlib
import copy
import itertools
import json
import re
import subprocess
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from conftest import Network
from harness import GIVE_UP, Response, program, send
from worker import Link, inventory_of, now_ms

DOC = json.loads(subprocess.run([program("tesd"), "openapi"], capture_output=True, check=True).stdout)
SCHEMAS = DOC["components"]["schemas"]
OPERATIONS = [
    {"method": m.upper(), "path": p, **op} for p, methods in DOC["paths"].items() for m, op in methods.items()
]
JSON_OPERATIONS = [op for op in OPERATIONS if "application/json" in op.get("requestBody", {}).get("content", {})]
BODY_MAX = 1 << 20

MALFORMED: list[bytes] = [
    b"",
    b" ",
    b"{",
    b"}",
    b"[1,2",
    b'{"a":1,}',
    b"{'a':1}",
    b"nul",
    b'{"a":1}{"b":2}',
    b'{"a":NaN}',
    b'{"a":Infinity}',
    b'{"a":1e400}',
    b'{"a":01}',
    b'{"a":"\\u0000"}',
    b'{"a":"\\ud800"}',
    b'{"a":"x',
    b'{"a":"\x01"}',
    b'{"a":"\xff\xfe"}',
    b"\xef\xbb\xbf{}",
    b"\x00",
    b"[" * 20_000,
    b'{"a":' * 5_000 + b"1" + b"}" * 5_000,
    b"[" * 33 + b"]" * 33,
    b"[],[]",
]
WRONG_ROOTS: list[Any] = [[], [{}], "x", 0, 1.5, True, None]


def resolve(schema: dict[str, Any]) -> dict[str, Any]:
    return SCHEMAS[schema["$ref"].rsplit("/", 1)[1]] if "$ref" in schema else schema


def valid(name: str, link: Link, token: str) -> dict[str, Any]:
    """A body that would be taken; each bad one differs from it in one place."""
    now = now_ms()
    lease = "le_" + "0" * 26
    bodies: dict[str, dict[str, Any]] = {
        "user.login": {"email": "a@example.org", "password": "long enough"},
        "quote.create": {"resources": {"cpu_milli": 1000}},
        "workload.create": {"image": "debian:12", "resources": {"cpu_milli": 1000}, "max_price_uusd_h": 10**9},
        "array.create": {"count": 2, "spec": {"image": "debian:12", "resources": {"cpu_milli": 1000}, "max_price_uusd_h": 10**9}},
        "key.create": {"name": "x"},
        "join_token.create": {},
        "worker.join": {"token": token, "public_key": "ab" * 32, "inventory": inventory_of()},
        "worker.session": link.session_request(b"\x07" * 32),
        "worker.observe": {"at_ms": now, "boot_id": link.boot_id},
        "worker.logs": {"lease": lease, "generation": 1, "entries": [{"seq": 1, "at_ms": now, "text": "x"}]},
        "worker.intent": {},
    }
    return bodies[name]


# Texts of any kind are taken here: the operation itself judges them.
NO_LIMIT = {"time_ms", "at_ms"}


def bad_values(schema: dict[str, Any]) -> Iterator[Any]:
    """Values that the schema does not allow."""
    schema = resolve(schema)
    kind = schema.get("type")
    if kind == "integer":
        yield from ("x", "", True, [], {}, 1.5, 2**63, -(2**63) - 1, 1e300, "1e3")
        if "minimum" in schema:
            yield schema["minimum"] - 1
        if "maximum" in schema:
            yield schema["maximum"] + 1
    elif kind == "string":
        yield from (1, True, [], {}, 1.5)
        if "enum" in schema:
            yield from ("nonsense", "", schema["enum"][0].upper(), schema["enum"][0] + " ")
        elif "pattern" in schema:
            yield from ("", "x", "wl_", "zz_" + "0" * 26, "wl_" + "I" * 26, "../../etc/passwd", "x" * 300)
        else:
            if "maxLength" in schema:
                yield "x" * (schema["maxLength"] + 1)
                yield "ü" * schema["maxLength"]
            if schema.get("minLength"):
                yield ""
            yield "bell\x07"
    elif kind == "boolean":
        yield from ("true", "x", 1, 0, [], {})
    elif kind == "array":
        yield from ("x", 1, True, {})
        items = resolve(schema["items"])
        sample: Any = "x" if items.get("type") == "string" else {}
        yield [sample] * (schema.get("maxItems", 10_000) + 1)
        if items.get("type") == "string":
            yield from ([1], [None], [[]], ["x" * (items.get("maxLength", 10**5) + 1)])
        else:
            yield from (["x"], [1], [[]], [None])
    elif kind == "object" and "properties" in schema:
        yield from ("x", 1, True, [], [{}])
        yield {"__unknown": 1}
    elif kind == "object":
        yield from ("x", 1, True, [], {"a": 1}, {"a": None}, {"a": []}, {"a": {}})
        yield {f"k{i}": "v" for i in range(schema.get("maxProperties", 1000) + 1)}
        yield {"": "v"}
        yield {"x" * 200: "v"}


Place = tuple[tuple[Any, ...], dict[str, Any]]


def places(schema: dict[str, Any], path: tuple[Any, ...] = (), depth: int = 0) -> Iterator[Place]:
    """Every field of the schema and of what it holds."""
    schema = resolve(schema)
    if depth > 4:
        return
    for name, sub in schema.get("properties", {}).items():
        if resolve(sub).get("readOnly") or sub.get("readOnly"):
            continue
        yield (*path, name), sub
        inner = resolve(sub)
        if inner.get("type") == "array" and "properties" in resolve(inner["items"]):
            yield from places(inner["items"], (*path, name, 0), depth + 1)
        elif "properties" in inner:
            yield from places(inner, (*path, name), depth + 1)


def with_value(body: dict[str, Any], path: tuple[Any, ...], value: Any) -> dict[str, Any] | None:
    """The body with one value changed; None if something on the way cannot be made."""
    made: Any = copy.deepcopy(body)
    at = made
    for step, after in itertools.pairwise(path):
        empty: Any = [] if isinstance(after, int) else {}
        if isinstance(step, int):
            if len(at) <= step:
                at.append(empty)
            at = at[step]
        else:
            if not isinstance(at.get(step), type(empty)):
                at[step] = empty
            at = at[step]
    at[path[-1]] = value
    return made


def is_same(kind: dict[str, Any], value: Any) -> bool:
    """Whether the value is one that the field takes after all."""
    return kind.get("type") == "integer" and isinstance(value, float) and value.is_integer() and abs(value) < 2**53


def cases(op: dict[str, Any], body: dict[str, Any]) -> Iterator[tuple[str, bytes, str | None]]:
    """(what, body, first part of the field that must be named)"""
    schema = op["requestBody"]["content"]["application/json"]["schema"]
    for raw in MALFORMED:
        yield f"malformed {raw[:40]!r}", raw, None
    for root in WRONG_ROOTS:
        yield f"root {root!r}", json.dumps(root).encode(), None
    yield "unknown field", json.dumps(body | {"__unknown": 1}).encode(), "__unknown"
    yield "doubled field", (json.dumps(body)[:-1] + ',"__x":1,"__x":2}').encode(), None
    yield "invalid UTF-8 in a name", json.dumps(body).encode()[:-1] + b',"\xc3\x28":1}', None
    for name in resolve(schema).get("required", []):
        yield f"without {name}", json.dumps({k: v for k, v in body.items() if k != name}).encode(), name
    for path, sub in places(schema):
        for value in bad_values(sub):
            if path[-1] in NO_LIMIT and isinstance(value, str) or is_same(resolve(sub), value):
                continue
            changed = with_value(body, path, value)
            if changed is not None:
                raw = json.dumps(changed).encode()
                # What no JSON number carries is refused before it has a field.
                no_field = isinstance(value, int) and abs(value) >= 2**63 or len(raw) > BODY_MAX
                yield f"{path} = {str(value)[:60]!r}", raw, None if no_field else str(path[0])
        if resolve(sub).get("type") == "string" and "pattern" not in resolve(sub) and "enum" not in resolve(sub):
            changed = with_value(body, path, "@@@")
            if changed is not None:
                yield f"{path} not UTF-8", json.dumps(changed).encode().replace(b"@@@", b"\xed\xa0\x80"), None


class Sender:
    """Sends as the one who may call the operation, so that only the input is wrong."""

    def __init__(self, net: Network, link: Link) -> None:
        self.net, self.link = net, link

    def __call__(self, op: dict[str, Any], target: str, body: bytes | None, headers: dict[str, str] | None = None) -> Response:
        security = op.get("security")
        sent: dict[str, str] = {}
        if security is None:
            sent = self.net.customer.client().auth()
        elif security:
            sent = self.link.signed(op["method"], target, body or b"")
        return send(self.net.tesd.url, op["method"], target, headers=sent | (headers or {}), body=body)


@pytest.fixture(scope="module")
def bad(guarded: Network) -> tuple[Network, Sender]:
    guarded.customer.key()
    return guarded, Sender(guarded, guarded.link())


def judge(what: str, answer: Response, field: str | None, wrong: list[str]) -> None:
    def complain(why: str) -> None:
        wrong.append(f"{what}: {why}: {answer.status} {answer.body[:300]!r}")

    if not 400 <= answer.status < 500:
        complain("not refused")
        return
    if not answer.headers.get("content-type", "").startswith("application/problem+json"):
        complain("not a problem")
        return
    value = answer.json()
    if not value.get("code") or not value.get("detail") or value.get("status") != answer.status:
        complain("code, detail or status is missing")
    if answer.status == 422 and field and not value.get("field", "").startswith(field):
        complain(f"does not name {field}")
    if len(answer.body) > 4000:
        complain("repeats too much of it")


def check(net: Network, run: Callable[[list[str]], int], least: int) -> None:
    before = net.tesd.counts()
    wrong: list[str] = []
    count = run(wrong)
    assert not wrong, f"{len(wrong)} of {count}:\n" + "\n".join(wrong[:40])
    assert net.tesd.counts() == before, "something was written"
    assert count >= least
    assert net.tesd.client().get("/healthz").status == 200


def op_param(ops: list[dict[str, Any]]) -> list[Any]:
    return [pytest.param(op, id=op["operationId"]) for op in ops]


@pytest.mark.parametrize("op", op_param(JSON_OPERATIONS))
def test_json_bodies(bad: tuple[Network, Sender], op: dict[str, Any]) -> None:
    net, sender = bad
    token = net.provider.join_token()
    body = valid(op["operationId"], sender.link, token)

    def run(wrong: list[str]) -> int:
        count = 0
        for what, raw, field in cases(op, body):
            headers = {"Content-Type": "application/json"}
            if len(raw) > BODY_MAX:
                continue  # see below
            answer = sender(op, op["path"], raw, headers)
            if answer.status == 401 and op["operationId"] in ("worker.session", "user.login"):
                field = None
            judge(what, answer, field, wrong)
            count += 1
        for kind in ("text/plain", "application/x-www-form-urlencoded", "", "json", "application/jsonx"):
            answer = sender(op, op["path"], json.dumps(body).encode(), {"Content-Type": kind} if kind else None)
            judge(f"content type {kind!r}", answer, None, wrong)
            if answer.status not in (415, 400):
                wrong.append(f"content type {kind!r}: {answer.status}")
        big = json.dumps(body).encode() + b" " * BODY_MAX
        with contextlib.suppress(*GIVE_UP):  # it may close the connection instead of reading on
            answer = sender(op, op["path"], big, {"Content-Type": "application/json"})
            judge("too large", answer, None, wrong)
            if answer.status != 413:
                wrong.append(f"too large: {answer.status}")
        return count

    check(net, run, 40)


BAD_IDS = [
    "x", "wl_", "wl_" + "0" * 26, "le_" + "0" * 26, "wl_" + "I" * 26, "%00", "%ff%fe", "..", "%2e%2e", "%2e%2e%2f%2e%2e",
    "a" * 2000, "'%20OR%201=1", "%0d%0aX:%20y", "wl_%25", "~", "%7f", "%",
]  # fmt: skip


@pytest.mark.parametrize("op", op_param([op for op in OPERATIONS if "{" in op["path"]]))
def test_ids_in_paths(bad: tuple[Network, Sender], op: dict[str, Any]) -> None:
    net, sender = bad

    def run(wrong: list[str]) -> int:
        for bad_id in BAD_IDS:
            target = re.sub(r"\{\w+\}", lambda _, b=bad_id: b, op["path"])
            body = b"x" if op.get("requestBody") else None
            judge(f"id {bad_id[:40]!r}", sender(op, target, body), None, wrong)
        return len(BAD_IDS)

    check(net, run, 10)


@pytest.mark.parametrize("op", op_param([op for op in OPERATIONS if any(p["in"] == "query" for p in op["parameters"])]))
def test_queries(bad: tuple[Network, Sender], op: dict[str, Any]) -> None:
    net, sender = bad
    job = net.api.submit(name="queried", max_price_uusd_h=1) if "{id}" in op["path"] else None

    def run(wrong: list[str]) -> int:
        path = op["path"].replace("{id}", job["id"] if job else "")
        queries = ["__unknown=1", "=1", "a", "%ff=1", "a=%ff", "limit=%00", "&&&=", "limit=1&limit=2"]
        for p in op["parameters"]:
            if p["in"] != "query":
                continue
            kind = p["schema"]["type"]
            values = {"integer": ["x", "-1", "1.5", str(2**63), "9" * 40, "0x1", "1e3", "%20"], "boolean": ["x", "2", "yes%00"]}
            queries += [f"{p['name']}={v}" for v in values.get(kind, ["%ff", "%00", "x" * 3000, "%07"])]
        for query in queries:
            judge(query[:60], sender(op, f"{path}?{query}", None), None, wrong)
        return len(queries)

    check(net, run, 8)
    if job:
        net.api.stop(job["id"])


def test_paths_and_methods_that_are_not_there(bad: tuple[Network, Sender]) -> None:
    net, _ = bad
    client = net.customer.client()
    for path in ("/", "/v1", "/v2/workloads", "/v1/workloads/", "/v1//workloads", "/../etc/passwd", "/v1/workloads/x/y/z"):
        assert client.get(path).status in (400, 404), path
        assert client.get(path).json()["code"]
    for method in ("PATCH", "PUT", "OPTIONS", "TRACE", "BREW"):
        answer = client.call(method, "/v1/workloads")
        assert 400 <= answer.status < 502, (method, answer)


def test_idempotency_keys_that_are_none(bad: tuple[Network, Sender]) -> None:
    net, _ = bad
    spec = {"image": "debian:12", "resources": {"cpu_milli": 1000}, "max_price_uusd_h": 1}
    before = net.tesd.counts()
    for key in ("", "x" * 129):
        answer = net.api.post("/v1/workloads", spec, headers={"Idempotency-Key": key})
        assert answer.problem(422)["field"] == "Idempotency-Key"
    assert net.tesd.counts() == before


def test_semantic_mistakes_in_a_workload(bad: tuple[Network, Sender]) -> None:
    net, _ = bad
    base = {"image": "debian:12", "resources": {"cpu_milli": 1000}, "max_price_uusd_h": 10**9}
    wrong: list[tuple[dict[str, Any], str]] = [
        ({"image": "Debian:12"}, "image"),
        ({"image": "debian:12@sha256:xyz"}, "image"),
        ({"image": "http://example.org/x"}, "image"),
        ({"name": "No Spaces"}, "name"),
        ({"env": {"1A": "x"}}, "env"),
        ({"env": {"A": "x"}, "secrets": {"A": "y"}}, "secrets"),
        ({"outputs": ["relative"]}, "outputs"),
        ({"outputs": ["/a/../../etc"]}, "outputs"),
        ({"outputs": ["/"]}, "outputs"),
        ({"inputs": [{"id": "in_" + "0" * 26, "name": "x"}]}, "inputs[0].id"),
        ({"inputs": [{"id": "in_" + "0" * 26, "name": "../x"}]}, "inputs[0].name"),
        ({"ready": {"command": []}}, "ready"),
        ({"resources": {"gpus": 0, "gpu_model": "H100"}}, "resources.gpu_model"),
        ({"resources": {"gpus": 0, "vram_mib": 1}}, "resources.vram_mib"),
        ({"quote": "qt_" + "0" * 26}, "max_price_uusd_h"),
    ]
    before = net.tesd.counts()
    for change, field in wrong:
        problem = net.api.post("/v1/workloads", base | change).problem(422, "invalid")
        assert problem["field"].startswith(field), (change, problem)
    assert net.tesd.counts() == before
