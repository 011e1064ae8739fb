"""Runs measurements by name; see scripts/bench."""

from __future__ import annotations

import sys
import traceback

import containers
import http_load
import scheduling
import standing

MEASUREMENTS = {
    "run-latency": containers.run_latency,
    "read-workload": http_load.read_workload,
    "submit": http_load.submit,
    "place-durable": scheduling.place_durable,
    "placement": scheduling.placement,
    "many-jobs": scheduling.many_jobs,
    "many-containers": containers.many_containers,
    "ledger": scheduling.ledger,
    "heartbeats": standing.heartbeats,
    "idle": standing.idle,
    "start": standing.start,
}


def main(names: list[str]) -> int:
    unknown = [name for name in names if name not in MEASUREMENTS]
    if unknown:
        print(f"bench: there is no measurement {', '.join(unknown)}; there are {', '.join(MEASUREMENTS)}", file=sys.stderr)
        return 2
    failed = 0
    for name in names or MEASUREMENTS:
        try:
            for result in MEASUREMENTS[name]():
                result.print()
        except Exception:  # one that fails does not keep the others from running
            failed += 1
            print(f"bench {name} failed", flush=True)
            traceback.print_exc()
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
