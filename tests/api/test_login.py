"""Logging in costs the server an argon2 run: nobody buys more of them than their budget, and nobody is locked out by a stranger."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from harness import Response, Tesd, wait_for

PASSWORD = "correct horse"


def login(tesd: Tesd, address: str, email: str, password: str = "wrong horse") -> Response:
    """From an address of one's own, as nginx would say it."""
    return tesd.client().post(
        "/v1/login", {"email": email, "password": password}, headers={"X-Forwarded-For": f"203.0.113.99, {address}"}
    )


@pytest.fixture
def ann(tesd: Tesd) -> str:
    tesd.admin("org", "create", "customer")
    tesd.admin("user", "create", "ann@example.org", "--org", "customer", "--password-stdin", stdin=f"{PASSWORD}\n")
    return "ann@example.org"


@pytest.mark.settings(server__trust_forwarded="true")
def test_other_emails_buy_no_more_tries(tesd: Tesd, ann: str) -> None:
    answers = [login(tesd, "192.0.2.1", f"{i}@example.org") for i in range(30)]
    assert [a.status for a in answers[:20]] == [401] * 20
    for answer in answers[-5:]:
        assert "address" in answer.problem(429, "rate")["detail"]
        assert 1 <= int(answer.headers["retry-after"]) <= 6
    assert login(tesd, "192.0.2.1", ann, PASSWORD).status == 429, "the right password costs an argon2 run, too"
    # The same network under another of its addresses, and a stranger.
    assert [login(tesd, f"2001:db8::{i:x}", ann).status for i in range(1, 13)] == [401] * 10 + [429] * 2
    login(tesd, "2001:db8:0:1::1", ann, PASSWORD).ok()
    login(tesd, "192.0.2.2", ann, PASSWORD).ok()
    # Not for long: as soon as Retry-After says.
    wait_for("the address has a try again", lambda: login(tesd, "192.0.2.1", ann, PASSWORD).status == 200)


@pytest.mark.settings(server__trust_forwarded="true")
def test_a_crowd_is_told_to_come_again(tesd: Tesd, ann: str) -> None:
    """From as many addresses as one likes: few are looked at at a time, the rest need not wait for their answer."""
    with ThreadPoolExecutor(40) as pool:
        answers = list(pool.map(lambda i: login(tesd, f"192.0.2.{i}", ann, PASSWORD), range(1, 81)))
    assert {a.status for a in answers} <= {200, 429}
    assert any(a.status == 200 for a in answers)
    for answer in answers:
        if answer.status == 429:
            answer.problem(429, "rate")
            assert answer.headers["retry-after"] == "1"
    wait_for("it is quiet again", lambda: login(tesd, "192.0.2.200", ann, PASSWORD).status == 200)
