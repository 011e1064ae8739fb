"""Whole jobs with the real container engine, against docker's own command line on the same engine and image."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable, Iterator

from rig import IMAGE, Api, Result, Tesd, job, median, program, run, size, store, tesd, wait_for, worker

LATENCY_GOAL_MS = 40


def first_line_ms(words: list[str], env: dict[str, str]) -> float:
    """From the start of the program to the first line that its container prints."""
    began = time.monotonic()
    process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=env, text=True)
    assert process.stdout
    took = 0.0
    for line in process.stdout:
        if "first line" in line:
            took = time.monotonic() - began
            break
    process.communicate()
    if process.returncode != 0 or not took:
        raise RuntimeError(f"{words[0]} ended with {process.returncode}")
    return took * 1000


def tes_env(server: Tesd, key: str) -> dict[str, str]:
    env = os.environ | {"XDG_CONFIG_HOME": str(server.folder / "config")}
    run(program("tes"), "login", "--url", server.url, "--key", key, env=env)
    return env


def docker(*words: str) -> list[str]:
    return ["docker", "-H", f"unix://{os.environ['TES_ENGINE_SOCKET']}", "run", "--rm", IMAGE, *words]


def run_latency() -> Iterator[Result]:
    command = ["echo", "first line"]
    with store("sqlite") as url, tesd(url) as server:
        key = server.customer()
        server.start()
        with worker(server):
            env = tes_env(server, key)
            ours = [str(program("tes")), "run", "--image", IMAGE, "--cpus", "1", "--memory", "64MiB", "--disk", "64MiB",
                    "--wait", "--", *command]  # fmt: skip
            a, b = [], []
            for i in range(size(20, 3) + 1):
                a.append(first_line_ms(ours, env))
                b.append(first_line_ms(docker(*command), env))
                if i == 0:  # warms both up
                    a.clear()
                    b.clear()
    value, peer = median(a), median(b)
    yield Result("run-latency", value, "ms", f"peer+{LATENCY_GOAL_MS}ms", value <= peer + LATENCY_GOAL_MS, "docker-run", peer,
                 {"above_ms": value - peer, "best_ms": min(a), "peer_best_ms": min(b)})  # fmt: skip


def timed(work: Callable[[], object]) -> float:
    began = time.monotonic()
    work()
    return time.monotonic() - began


def submit_and_wait(server: Tesd, key: str, count: int, spec: dict, timeout_s: float = 600) -> float:
    """As one array, as the peers get theirs: seconds from its submission to when the server has stored the end of the last.
    Like HyperQueue's, the time does not depend on how often somebody looks."""
    api = Api(server.url, key)
    began = time.time()
    array = api.call("POST", "/v1/arrays", {"count": count, "spec": spec})["id"]
    end = wait_for("all jobs have ended", lambda: ended(api.call("GET", f"/v1/arrays/{array}")), timeout_s, 0.25)
    if end["succeeded"] != count:
        raise RuntimeError(f"jobs failed: {end}")
    return end["ended_ms"] / 1000 - began


def ended(array: dict) -> dict | None:
    return array if array.get("ended_ms") else None


def containers_here() -> set[str]:
    out = run("docker", "-H", f"unix://{os.environ['TES_ENGINE_SOCKET']}", "ps", "-aq", "--filter", "label=ai.tes.lease")
    return set(out.split())


def many_containers() -> Iterator[Result]:
    """In turns, each first in every other round: what the machine does besides falls on both."""
    count, rounds = size(20, 4), size(10, 2)
    one = " ".join(docker("true"))
    ours, peers = [], []
    others = containers_here()  # that an earlier worker has left on this engine
    with store("sqlite") as url, tesd(url) as server:
        key = server.customer()
        server.start()
        with worker(server, share__cpus="2"):
            for i in range(rounds + 1):
                for mine in (True, False) if i % 2 else (False, True):
                    if mine:
                        ours.append(submit_and_wait(server, key, count, job(["true"])))
                        wait_for("the last ones are removed, as the loop's are", lambda: containers_here() <= others)
                    else:
                        peers.append(timed(lambda: run("sh", "-c", f"seq {count} | xargs -P 2 -I_ {one}")))
                if i == 0:  # warms both up
                    ours.clear()
                    peers.clear()
    value, peer = median(ours), median(peers)
    yield Result("many-containers", value, "s", "no-slower", value <= peer, "docker-run-loop", peer,
                 {"containers": count, "rounds": rounds, "each_ms": value / count * 1000, "peer_each_ms": peer / count * 1000,
                  "best_each_ms": min(ours) / count * 1000, "peer_best_each_ms": min(peers) / count * 1000})  # fmt: skip
