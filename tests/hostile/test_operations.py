"""Every operation of the interface under generated attack, on a tesd built with sanitizers.

    TES_ASAN_BUILD_DIR   where that tesd is; default: build-asan/, or build/ where there is none
    TES_TEST_LONG        if set, 1,000 requests an operation instead of 100
    TES_HOSTILE_SEED     another seed than the one of every day
"""

from __future__ import annotations

import itertools
import os
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from attack import CLOSED, READ, Case, Generator, ident
from hostile_rig import DOC, OPERATIONS, Answer, Target, exchange, sanitized

COUNT = 1000 if os.environ.get("TES_TEST_LONG") else 100
SEED = os.environ.get("TES_HOSTILE_SEED", "1")


@pytest.fixture(scope="module")
def target(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Target]:
    with sanitized(tmp_path_factory.mktemp("hostile")) as made:
        yield made


def body_of(name: str, target: Target) -> dict[str, Any] | None:
    """A body of the right form that the operation refuses for what it says, where there is such a thing."""
    r = random.Random(name)
    now = 1_795_446_606_000
    bodies: dict[str, dict[str, Any]] = {
        "user.login": {"email": "nobody@example.org", "password": "wrong password"},
        "quote.create": {"resources": {"cpu_milli": 1000, "gpus": 64}},
        "workload.create": {
            "image": "debian:12",
            "resources": {"cpu_milli": 1000},
            "max_price_uusd_h": 10**9,
            "inputs": [{"id": ident(r, "in"), "name": "x"}],
        },
        "array.create": {
            "count": 3,
            "spec": {
                "image": "debian:12",
                "resources": {"cpu_milli": 1000},
                "max_price_uusd_h": 10**9,
                "inputs": [{"id": ident(r, "in"), "name": "x"}],
            },
        },
        "key.create": {"name": "x", "scopes": ["nonsense"]},
        "join_token.create": {},
        "worker.join": {"token": "tesjoin_x", "public_key": "ab" * 32, "inventory": target.inventory},
        "worker.session": {
            "worker_id": target.link.worker_id,
            "exchange_key": "ab" * 32,
            "signature": "A" * 86,
            "boot_id": "x",
            "time_ms": now,
        },
        "worker.observe": {"at_ms": now, "boot_id": "another", "receipts": [{"payload": "{}", "signature": "A" * 86}]},
        "worker.logs": {"lease": ident(r, "le"), "generation": 1, "entries": [{"seq": 1, "at_ms": now, "text": "x"}]},
        "worker.intent": {"intent": "open", "leave": False},
    }
    return bodies.get(name)


def judge(case: Case, answers: list[Answer], broken: str) -> str | None:
    """What is wrong with what came back."""
    if broken:
        return broken
    if not answers:
        return None if case.expect == CLOSED or case.then == WAITS else "closed without an answer"
    for n, answer in enumerate(answers):
        if answer.status == 505 and ("version" in case.what or "byte" in case.what or "behind" in case.what):
            continue  # that is what it is for
        if answer.status >= 500:
            return f"{answer.status} {answer.body[:300]!r}"
        if answer.status < 400:
            if case.expect != READ:
                return f"taken: {answer.status} {answer.body[:300]!r}"
            continue
        if not answer.headers.get("content-type", "").startswith("application/problem+json"):
            if case.expect == CLOSED or n > 0 or case.expect == READ:
                continue  # the HTTP library's own words for what it cannot read
            return f"not a problem: {answer.status} {answer.headers} {answer.body[:200]!r}"
        value = answer.json()
        if value.get("status") != answer.status or not value.get("code") or not value.get("detail"):
            return f"incomplete: {value}"
        if answer.status == 422 and case.field and not value.get("field", "").startswith(case.field):
            return f"names {value.get('field')!r} and not {case.field}: {value['detail'][:200]}"
        if len(answer.body) > 4000:
            return "repeats too much of it"
    return None


@pytest.mark.parametrize("op", [pytest.param(op, id=op["operationId"]) for op in OPERATIONS])
def test_operation(target: Target, op: dict[str, Any]) -> None:
    generator = Generator(DOC, op, body_of(op["operationId"], target), target.signer(op), SEED)
    assert (generator.schema is None) == (generator.body is None), "tell what a body of this operation looks like"
    before = target.tesd.counts()
    wrong = []
    for case in itertools.islice(generator.cases(), COUNT):
        answers, broken = exchange(target.port, case.raw, case.then)
        why = judge(case, answers, broken)
        if why:
            wrong.append(f"{case.what}: {why}\n    {case.raw[:300]!r}")
        if not target.alive():
            wrong.append(f"{case.what}: tesd ended\n    {case.raw[:2000]!r}\n{target.tesd.log()[-6000:]}")
            break
    assert not wrong, f"{len(wrong)} of {COUNT} (seed {SEED}):\n" + "\n".join(wrong[:30])
    assert target.tesd.counts() == before, "something was written"
    assert exchange(target.port, b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")[0][0].status == 200
