"""Two customers at the same time, on real containers."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

from harness import wait_for
from stage import Cli, Stage, small


def test_the_last_gpu(stage: Stage) -> None:
    """One gets it, the other an explanation, and then the GPU."""
    worker = stage.worker({"gpu.simulated": "1x NVIDIA-Sim 24576", "price.gpu_hour": "1.00"})
    racers = [stage.tesd.org(f"racer-{i}", credit="100") for i in range(2)]
    clis = [Cli(stage.tesd.url, org.key(), stage.directory / f"racer-{i}") for i, org in enumerate(racers)]
    script = "trap 'exit 0' TERM; echo got it; while :; do sleep 0.1; done"
    with ThreadPoolExecutor(2) as pool:
        jobs = list(pool.map(lambda cli: cli.ok("run", *small("--gpus", "1", "--max-price", "5"), "--", "sh", "-c", script).strip(), clis))

    def running() -> list[int]:
        return [i for i in range(2) if clis[i].json("show", jobs[i])["state"] == "running"]

    (winner,) = wait_for("one of them runs", running, 40)
    loser = 1 - winner
    assert clis[loser].json("show", jobs[loser])["state"] == "pending"
    said = clis[loser].ok("explain", jobs[loser])
    assert "0 free of 1" in said and "wait until leases end" in said, said
    clis[winner].ok("stop", jobs[winner])
    wait_for("the other gets it", lambda: running() == [loser], 40)
    clis[loser].ok("stop", jobs[loser])
    apis = [org.client() for org in racers]
    leases = []
    for api, job in zip(apis, jobs, strict=True):
        assert api.wait_end(job, timeout_s=40)["attempts"] == 1
        leases.append(api.lease(job))
    assert len({tuple(lease["devices"]) for lease in leases}) == 1, "there is but one"
    (first,), (second,) = (stage.watch.of(leases[i]["id"], "start") for i in (winner, loser))
    (end,) = stage.watch.of(leases[winner]["id"], "die")
    assert first.at_s < end.at_s <= second.at_s
    wait_for("nothing is left in the engine", lambda: not worker.containers())
