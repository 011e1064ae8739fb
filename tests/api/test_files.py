"""Inputs on their way in, results on their way out."""

from __future__ import annotations

import hashlib
import io
import tarfile
import urllib.parse

import pytest

from conftest import Network
from harness import send
from test_receipts import Bench


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def tar(**files: str) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        for name, text in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(text)
            archive.addfile(info, io.BytesIO(text.encode()))
    return out.getvalue()


@pytest.fixture
def bench(net: Network) -> Bench:
    return Bench(net)


def test_an_input_reaches_the_worker(net: Network) -> None:
    data = tar(a="1", b="2" * 100_000)
    made = net.api.post("/v1/inputs", raw=data).ok(201)
    assert (made["sha256"], made["size_bytes"]) == (sha256(data), len(data)) and made["expires_ms"]
    other = net.api.post("/v1/inputs", raw=b"another").ok(201)
    bench = Bench(net, inputs=[{"id": made["id"], "name": "data"}])
    assert bench.lease["inputs"] == [
        {"id": made["id"], "name": "data", "sha256": sha256(data), "size_bytes": len(data)}
    ]
    lease = bench.lease["lease"]
    got = bench.link.input(lease, made["id"])
    assert got.status == 200 and got.body == data and got.headers["etag"] == f'"{sha256(data)}"'
    bench.link.input(lease, other["id"]).problem(404)
    net.link().input(lease, made["id"]).problem(404)
    bench.end()
    bench.link.input(lease, made["id"]).problem(404)


@pytest.mark.settings(limits__inputs_max="10000")
def test_inputs_that_are_refused(net: Network) -> None:
    net.customer.key()
    before = net.tesd.counts()
    assert "empty" in net.api.post("/v1/inputs", raw=b"").problem(422)["detail"]
    net.api.post("/v1/inputs", raw=b"x" * 10_001).problem(413)
    assert net.tesd.counts() == before
    net.api.post("/v1/inputs", raw=b"x" * 10_000).ok(201)
    assert not list((net.tesd.directory / "blobs").rglob("upload-*")), "nothing is left in the spool"


def test_results(bench: Bench) -> None:
    api, job, lease = bench.net.api, bench.job["id"], bench.lease["lease"]
    assert not api.get(f"/v1/workloads/{job}/results").ok()["complete"]
    big = bytes(range(256)) * 4096
    files = {"model.bin": big, "sub dir/ü 😀 #?.txt": b"odd name", "empty": b""}
    for path, data in files.items():
        made = bench.link.put_result(lease, path, data).ok(200)
        assert (made["path"], made["sha256"], made["size_bytes"]) == (path, sha256(data), len(data))
    once = bench.link.put_result(lease, "model.bin", big).ok(200)
    assert bench.link.put_result(lease, "model.bin", big).ok(200)["id"] == once["id"], "the same content twice is one file"
    changed = bench.link.put_result(lease, "empty", b"no more").ok(200)
    assert bench.link.results_done(lease).status == 204
    assert bench.link.results_done(lease).status == 204
    bench.end()
    listed = api.get(f"/v1/workloads/{job}/results").ok()
    assert listed["complete"] and {r["path"] for r in listed["items"]} == set(files)
    for result in listed["items"]:
        data = b"no more" if result["path"] == "empty" else files[result["path"]]
        got = api.get(f"/v1/results/{result['id']}")
        assert got.body == data and sha256(got.body) == result["sha256"] and got.headers["etag"] == f'"{sha256(data)}"'
    assert changed["id"] in {r["id"] for r in listed["items"]}
    # Resuming a download.
    target = f"/v1/results/{once['id']}"
    part = api.get(target, headers={"Range": "bytes=1000-1999"})
    assert part.status == 206 and part.body == big[1000:2000]
    assert part.headers["content-range"] == f"bytes 1000-1999/{len(big)}"
    rest = api.get(target, headers={"Range": f"bytes={len(big) - 10}-", "If-Range": f'"{sha256(big)}"'})
    assert rest.status == 206 and rest.body == big[-10:]
    whole = api.get(target, headers={"Range": "bytes=0-9", "If-Range": '"other"'})
    assert whole.status == 200 and whole.body == big
    api.get(target, headers={"Range": f"bytes={len(big)}-"}).problem(416)
    assert api.get(target, headers={"Range": "bytes=-5"}).body == big[-5:]


TRICKS = [
    "..", "../x", "a/../../x", "/etc/passwd", "//x", "a//b", "./x", "a/.", "a/..", "x" * 513, "a\nb", "a\x1bb", ".",
    "a\\..\\b\x00",
]  # fmt: skip


@pytest.mark.parametrize("path", TRICKS)
def test_paths_that_lead_elsewhere(bench: Bench, path: str) -> None:
    for quoted in (urllib.parse.quote(path), urllib.parse.quote(path, safe="")):
        target = f"/v1/worker/leases/{bench.lease['lease']}/results/{quoted}"
        headers = bench.link.signed("PUT", target, b"x")
        answer = send(bench.net.tesd.url, "PUT", target, headers=headers, body=b"x")
        assert 400 <= answer.status < 500, (target, answer)
        assert answer.json()["code"] and answer.json()["detail"]
    assert bench.net.tesd.counts()["results"] == 0
    bench.end()


@pytest.mark.settings(limits__results_max="10000")
def test_the_limit_of_results(bench: Bench) -> None:
    lease = bench.lease["lease"]
    bench.link.put_result(lease, "a", b"x" * 6000).ok(200)
    problem = bench.link.put_result(lease, "b", b"x" * 4001).problem(413, "too_large")
    assert "limit" in problem["detail"]
    bench.link.put_result(lease, "b", b"x" * 4000).ok(200)
    bench.link.put_result(lease, "a", b"y" * 6000).ok(200)
    bench.link.put_result(lease, "c", b"x" * 10_001).problem(413)
    bench.end()
    assert bench.net.tesd.counts()["results"] == 2
    assert len(list((bench.net.tesd.directory / "blobs").rglob("rs_*"))) == 2, "what was replaced is deleted"


def test_results_of_others(bench: Bench) -> None:
    thief = bench.net.link()
    lease = bench.lease["lease"]
    thief.put_result(lease, "x", b"x").problem(404)
    thief.results_done(lease).problem(404)
    bench.link.put_result("le_" + "0" * 26, "x", b"x").problem(404)
    bench.end()
    bench.link.put_result(lease, "x", b"x").problem(404)


def test_a_body_that_is_not_what_was_signed(bench: Bench) -> None:
    target = f"/v1/worker/leases/{bench.lease['lease']}/results/x"
    headers = bench.link.signed("PUT", target, b"honest")
    send(bench.net.tesd.url, "PUT", target, headers=headers, body=b"forged").problem(401)
    assert bench.net.tesd.counts()["results"] == 0
    bench.end()
