"""tesd behind nginx with the configuration that ships, as docs/operations.md says, and `tes` through it."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from harness import GIVE_UP, ROOT, Response, Stream, Tesd, program, send, wait_for
from worker import SimWorker

pytestmark = pytest.mark.skipif(not shutil.which("nginx"), reason="nginx is not installed")


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return int(s.getsockname()[1])


@dataclass
class Front:
    tesd: Tesd
    url: str
    ca: str

    def send(self, method: str, target: str, body: bytes | None = None, **headers: str) -> Response:
        return send(self.url, method, target, body=body, headers=headers, ca=self.ca)

    def tes(self, key: str, *words: str, ca: str | None = None) -> subprocess.CompletedProcess[str]:
        env = os.environ | {"TES_URL": self.url, "TES_KEY": key, "TES_CA_FILE": self.ca if ca is None else ca}
        env["XDG_CONFIG_HOME"] = "/nowhere"
        return subprocess.run([program("tes"), *words], capture_output=True, text=True, env=env, check=False, timeout=60)


@pytest.fixture
def front(tesd_with: Callable[..., Tesd], tmp_path: Path) -> Iterator[Front]:
    cert, key = tmp_path / "fullchain.pem", tmp_path / "privkey.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "1",
         "-subj", "/CN=tes.example.org", "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", key, "-out", cert],
        check=True, capture_output=True,
    )  # fmt: skip
    http, https = free_port(), free_port()
    tesd = tesd_with(server__trust_forwarded="yes", server__public_url=f"https://127.0.0.1:{https}").start()
    text = (ROOT / "deploy/nginx/tesd.conf").read_text()
    for ours, here in (
        ("/etc/ssl/tes", str(tmp_path)),
        ("127.0.0.1:7370", tesd.url.removeprefix("http://")),
        ("listen 80;", f"listen 127.0.0.1:{http};"),
        ("listen 443 ssl", f"listen 127.0.0.1:{https} ssl"),
        ("\tlisten [::]:80;\n", ""),
        ("\tlisten [::]:443 ssl http2;\n", ""),
    ):
        assert ours in text, f"deploy/nginx/tesd.conf no longer has {ours!r}"
        text = text.replace(ours, here)
    (tmp_path / "tesd.nginx").write_text(text)
    temporary = "".join(f"{x}_temp_path {tmp_path}/{x};" for x in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
    (tmp_path / "nginx.conf").write_text(
        f"daemon off; master_process off; pid {tmp_path}/pid; error_log {tmp_path}/error.log;"
        f"events {{}} http {{ access_log off; {temporary} include {tmp_path}/tesd.nginx; }}"
    )
    nginx = subprocess.Popen(["nginx", "-c", tmp_path / "nginx.conf"], stderr=subprocess.PIPE)
    it = Front(tesd, f"https://127.0.0.1:{https}", str(cert))

    def answers() -> bool:
        assert nginx.poll() is None, nginx.stderr and nginx.stderr.read().decode()
        try:
            return it.send("GET", "/healthz").status == 200
        except GIVE_UP:
            return False

    try:
        wait_for("nginx answers", answers)
        yield it
    finally:
        nginx.terminate()
        nginx.wait(20)


def test_through_nginx(front: Front, tmp_path: Path) -> None:
    """A job with files larger than other bodies may be, its output live, by an authority of one's own."""
    provider, customer = front.tesd.org("provider"), front.tesd.org("customer", credit="100")
    worker = SimWorker(front.tesd.url)
    worker.start(provider.join_token())
    key = customer.client().key
    try:
        wait_for("an offer", lambda: customer.client().get("/v1/offers").ok()["items"])
        (tmp_path / "big").write_bytes(os.urandom(3 << 20))
        done = front.tes(key, "run", "--image", "debian:12", "--in", str(tmp_path / "big"), "--wait", "--", "true")
        assert done.returncode == 0, done
        assert "succeeded" in done.stderr
    finally:
        worker.stop()
    assert customer.id in front.tes(key, "whoami").stdout
    done = front.tes(key, "whoami", ca="")
    assert done.returncode == 1 and "--ca-file" in done.stderr, done
    done = front.tes(key, "whoami", ca="/etc/hostname")
    assert done.returncode == 1 and "PEM" in done.stderr, done


def test_streams_are_not_held_back(front: Front) -> None:
    api = front.tesd.org("customer", credit="1").client()
    work = api.submit(max_price_uusd_h=1)
    headers = {"Authorization": f"Bearer {api.key}", "Accept": "text/event-stream"}
    with Stream(front.url, f"/v1/workloads/{work['id']}/logs?follow=true", headers, ca=front.ca) as stream:
        assert stream.status == 200
        first = next(iter(stream))
        assert first.event == "state" and first.json()["state"] == "pending"


def test_what_nginx_refuses_is_a_problem_too(front: Front) -> None:
    big = front.send("POST", "/v1/workloads", b"x" * (2 << 20), **{"Content-Type": "application/json"}).problem(413, "too_large")
    assert str(2 << 20) in big["detail"]
    front.send("GET", "/v1/offers", **{"X-Long": "x" * 20000}).problem(431, "too_large")
    front.send("GET", "/v1/offers?region=" + "x" * 20000).problem(400, "invalid")
    front.send("GET", "/v1/offers", Host="a b").problem(400, "invalid")
    body = b'{"email":"nobody@example.org","password":"not a password"}'
    for _ in range(40):
        answer = front.send("POST", "/v1/login", body, **{"Content-Type": "application/json"})
        if answer.status == 429:
            break
    answer.problem(429, "rate")
    assert "retry-after" in answer.headers
    front.send("GET", "/v1/offers/nothing").problem(404, "not_found")  # tesd's own
    front.tesd.kill()
    front.send("GET", "/v1/offers").problem(503, "unavailable")
    front.tesd.start()
