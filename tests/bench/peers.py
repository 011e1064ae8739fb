"""The programs that we are measured against, each set up as its own makers advise for speed."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from rig import PeerMissing, end, free_port, run, scratch, wait_for

VENV = Path(os.environ["TES_BENCH_VENV"])
HERE = Path(__file__).resolve().parent


def python_packages(*names: str) -> Path:
    """Python of the benchmark's own environment, with these packages; installed on first use."""
    python = VENV / "bin/python"
    if not python.exists():
        run(sys.executable, "-m", "venv", VENV)
    marks = [VENV / f".has-{name}" for name in names]
    if not all(mark.exists() for mark in marks):
        print(f"  installing {' '.join(names)} into {VENV}", file=sys.stderr)
        try:
            run(python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *names)
        except RuntimeError as error:
            raise PeerMissing(str(error)) from error
        for mark in marks:
            mark.touch()
    return python


# ---- FastAPI ---------------------------------------------------------------------------------------------


@contextlib.contextmanager
def fastapi(database_url: str) -> Iterator[int]:
    """peer_app.py on gunicorn with two uvicorn workers (uvloop, httptools); its port."""
    python_packages("fastapi", "uvicorn", "uvloop", "httptools", "gunicorn", "uvicorn-worker", "asyncpg")
    port = free_port()
    with scratch() as folder, (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [VENV / "bin/gunicorn", "--chdir", HERE, "-k", "uvicorn_worker.UvicornWorker", "-w", "2", "-b", f"127.0.0.1:{port}",
             "--keep-alive", "60", "--log-level", "warning", "peer_app:app"],
            env=os.environ | {"DATABASE_URL": database_url, "PYTHONDONTWRITEBYTECODE": "1"}, stdout=log, stderr=log,
        )  # fmt: skip
        try:
            wait_for("the peer listens", lambda: listens(port), 30)
            time.sleep(1)  # both of its workers
            yield port
        finally:
            end(process)


def listens(port: int) -> bool:
    with socket.socket() as s:
        return s.connect_ex(("127.0.0.1", port)) == 0


# ---- Slurm ------------------------------------------------------------------------------------------------

SLURM_CONF = """\
ClusterName=bench
SlurmctldHost={host}(127.0.0.1)
SlurmUser=root
SlurmdUser=root
AuthType=auth/none
CredType=cred/none
SlurmctldPort={ctld_port}
SlurmdPort={slurmd_port}
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/ctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/ctld.log
SlurmdLogFile={folder}/slurmd.log
ProctrackType=proctrack/pgid
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SchedulerType=sched/backfill
SchedulerParameters=sched_min_interval=0,batch_sched_delay=0,sched_interval=1,default_queue_depth=10000
AccountingStorageType=accounting_storage/none
JobCompType=jobcomp/none
EpilogMsgTime=0
CompleteWait=0
SlurmdParameters=config_overrides
MaxJobCount=1000000
MaxArraySize=1000001
ReturnToService=2
NodeName={host} NodeAddr=127.0.0.1 CPUs={cpus} State=UNKNOWN
PartitionName=main Nodes={host} Default=YES MaxTime=INFINITE State=UP
"""


class Slurm:
    def __init__(self, folder: Path, controller: subprocess.Popen[bytes], node: subprocess.Popen[bytes]) -> None:
        self.controller, self.node = controller, node
        self.env = os.environ | {"SLURM_CONF": str(folder / "slurm.conf")}
        self.script = folder / "job.sh"
        self.script.write_text("#!/bin/sh\ntrue\n")

    def queued(self) -> int:
        return len(run("squeue", "-h", "-r", "-o", "%i", env=self.env).split())

    def array(self, count: int) -> float:
        """Seconds from the submission of an array to the end of its last job."""
        began = time.monotonic()
        run("sbatch", "-o", "/dev/null", f"--array=1-{count}", self.script, env=self.env)
        wait_for("the array has ended", lambda: self.queued() == 0, 600, 0.1)
        return time.monotonic() - began

    def submit_rate(self, count: int) -> float:
        began = time.monotonic()
        for _ in range(count):
            run("sbatch", "-H", "-o", "/dev/null", self.script, env=self.env)
        return count / (time.monotonic() - began)


@contextlib.contextmanager
def slurm(cpus: int) -> Iterator[Slurm]:
    if not shutil.which("slurmctld"):
        raise PeerMissing("slurmctld")
    with scratch() as folder:
        folder.chmod(0o755)
        host = socket.gethostname().split(".")[0]
        (folder / "state").mkdir()
        (folder / "spool").mkdir()
        (folder / "slurm.conf").write_text(
            SLURM_CONF.format(host=host, folder=folder, cpus=cpus, ctld_port=free_port(), slurmd_port=free_port())
        )
        env = os.environ | {"SLURM_CONF": str(folder / "slurm.conf")}
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "env": env}
        controller = subprocess.Popen(["slurmctld", "-D"], **quiet)
        node = subprocess.Popen(["slurmd", "-D"], **quiet)
        try:
            idle = ["sinfo", "-h", "-o", "%T"]
            wait_for(
                "slurm is idle",
                lambda: subprocess.run(idle, capture_output=True, text=True, env=env, check=False).stdout.strip() == "idle",
                60, 0.2,
            )  # fmt: skip
            yield Slurm(folder, controller, node)
        finally:
            end(node)
            end(controller)


# ---- HyperQueue -----------------------------------------------------------------------------------------------

HYPERQUEUE = """\
import sys, time
from hyperqueue import Job, LocalCluster
from hyperqueue.cluster import WorkerConfig
count, cpus = int(sys.argv[1]), int(sys.argv[2])
with LocalCluster() as cluster:
    cluster.start_worker(WorkerConfig(cores=cpus))
    client = cluster.client()
    warm = Job()
    warm.program(["true"])
    client.wait_for_jobs([client.submit(warm)])
    began = time.time()
    job = Job()
    tasks = [job.program(["true"], stdout=None, stderr=None) for _ in range(count)]
    # Waiting looks once a second only: a last task tells when the others had ended.
    job.program(["sh", "-c", "date +%s.%N >ended"], deps=tasks, stdout=None, stderr=None)
    submitted = client.submit(job)
    submit_s = time.time() - began
    client.wait_for_jobs([submitted])
    print(f"seconds={float(open('ended').read()) - began} submit_s={submit_s}")
"""


def hyperqueue(count: int, cpus: int) -> dict[str, float]:
    """Seconds from submission to the end of the last of `count` jobs, and to the end of submission."""
    python = python_packages("hyperqueue")
    with scratch() as folder:
        try:
            out = run(python, "-c", HYPERQUEUE, str(count), str(cpus), cwd=folder)
        except RuntimeError as error:
            raise PeerMissing(str(error)) from error
        return {k: float(v) for k, v in (w.split("=") for w in out.split() if "=" in w)}
