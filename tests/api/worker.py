"""A worker written from docs/protocol.md alone, without containers: what the workload's command asks for is simulated.

`Link` speaks the protocol, one call a method, and lets a test send what no honest worker would.  `SimWorker` is a worker
as the document wants it: it keeps to the desired leases, reports, meters, sends logs and results, pauses and fences itself.
A simulated container does what the JSON text after "sim" in its command says, see `Script`.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import hmac
import itertools
import json
import secrets
import threading
import time
import urllib.parse
from dataclasses import dataclass, field, fields
from typing import Any

import nacl.bindings
import nacl.signing

from harness import GIVE_UP, Event, Response, Stream, send


def base64url(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def now_ms() -> int:
    return time.time_ns() // 1_000_000


def inventory_of(**changes: Any) -> dict[str, Any]:
    """A machine of 8 threads and 16 GiB; one thread and one GPU cost about a dollar a second, so that seconds show."""
    value: dict[str, Any] = {
        "hostname": "sim",
        "os": "Debian GNU/Linux 12",
        "arch": "x86_64",
        "cpu_model": "Simulated CPU",
        "engine": "simulated",
        "version": "0.0.0",
        "cpu_threads": 8,
        "memory_mib": 16384,
        "disk_mib": 1 << 20,
        "offered_cpu_milli": 8000,
        "offered_memory_mib": 16384,
        "offered_disk_mib": 1 << 20,
        "price_gpu_uusd_h": 3_700_000_001,
        "price_cpu_uusd_h": 3_612_345_679,
        "price_gib_uusd_h": 0,
        "region": "test",
        "available": True,
        "simulated": True,
        "devices": [],
    }
    value.update(changes)
    return value


def gpus_of(count: int, model: str = "Simulated GPU", vram_mib: int = 24576) -> list[dict[str, Any]]:
    return [
        {"index": i, "uuid": f"GPU-{secrets.token_hex(16)}", "model": model, "vram_mib": vram_mib, "simulated": True}
        for i in range(count)
    ]


# ---- the protocol -----------------------------------------------------------------------------------


@dataclass
class Session:
    id: str
    key: bytes
    heartbeat_ms: int
    nonces: itertools.count[int] = field(default_factory=lambda: itertools.count(1))


class Link:
    """Speaks the worker protocol with one key."""

    def __init__(self, url: str, signing_key: nacl.signing.SigningKey | None = None) -> None:
        self.url = url
        self.signing_key = signing_key or nacl.signing.SigningKey.generate()
        self.worker_id = ""
        self.boot_id = secrets.token_hex(8)
        self.session: Session | None = None
        self.lock = threading.Lock()

    @property
    def public_key(self) -> str:
        return self.signing_key.verify_key.encode().hex()

    def post(self, path: str, value: Any) -> Response:
        body = json.dumps(value).encode()
        return send(self.url, "POST", path, headers={"Content-Type": "application/json"}, body=body)

    def join_answer(self, token: str, inventory: dict[str, Any], name: str | None = None) -> Response:
        value = {"token": token, "public_key": self.public_key, "inventory": inventory}
        return self.post("/v1/worker/join", value | ({"name": name} if name else {}))

    def join(self, token: str, inventory: dict[str, Any], name: str | None = None) -> str:
        self.worker_id = self.join_answer(token, inventory, name).ok(201)["worker_id"]
        return self.worker_id

    def session_request(self, private: bytes, **changes: Any) -> dict[str, Any]:
        value: dict[str, Any] = {
            "worker_id": self.worker_id,
            "exchange_key": nacl.bindings.crypto_scalarmult_base(private).hex(),
            "boot_id": self.boot_id,
            "version": "tests/api",
            "time_ms": now_ms(),
        }
        value.update(changes)
        text = f"tes-session-1\n{value['worker_id']}\n{value['time_ms']}\n{value['exchange_key']}\n{value.get('boot_id', '')}"
        value.setdefault("signature", base64url(self.signing_key.sign(text.encode()).signature))
        return value

    def open(self) -> Session:
        private = secrets.token_bytes(32)
        mine = nacl.bindings.crypto_scalarmult_base(private)
        answer = self.post("/v1/worker/session", self.session_request(private)).ok(200)
        theirs = bytes.fromhex(answer["exchange_key"])
        point = nacl.bindings.crypto_scalarmult(private, theirs)
        key = hashlib.blake2b(point + mine + theirs, digest_size=32).digest()
        self.session = Session(answer["id"], key, answer["heartbeat_ms"])
        return self.session

    def signed(
        self,
        method: str,
        target: str,
        body: bytes = b"",
        *,
        session: Session | None = None,
        time_ms: int | None = None,
        nonce: int | None = None,
    ) -> dict[str, str]:
        """The headers that prove who sends this request."""
        s = session or self.session
        assert s, "open a session first"
        with self.lock:
            nonce = next(s.nonces) if nonce is None else nonce
        time_ms = now_ms() if time_ms is None else time_ms
        digest = hashlib.sha256(body).hexdigest()
        text = f"tes-request-1\n{s.id}\n{method}\n{target}\n{time_ms}\n{nonce}\n{digest}"
        mac = hmac.new(s.key, text.encode(), hashlib.sha256).hexdigest()
        return {"TES-Session": s.id, "TES-Time": str(time_ms), "TES-Nonce": str(nonce), "TES-MAC": mac}

    def once(self, method: str, target: str, value: Any = None, *, raw: bytes | None = None) -> Response:
        body = raw if raw is not None else json.dumps(value).encode() if value is not None else b""
        headers = self.signed(method, target, body)
        if value is not None:
            headers["Content-Type"] = "application/json"
        return send(self.url, method, target, headers=headers, body=body if body or method != "GET" else None)

    def call(self, method: str, target: str, value: Any = None, *, raw: bytes | None = None) -> Response:
        """A signed request; with a new session if the old one is not known any more."""
        if not self.session:
            self.open()
        answer = self.once(method, target, value, raw=raw)
        if answer.status == 401:
            self.open()
            answer = self.once(method, target, value, raw=raw)
        return answer

    # ---- what can be called

    def desired(self, last_event_id: str | None = None, timeout_s: float = 30) -> Stream:
        if not self.session:
            self.open()
        target = "/v1/worker/desired"

        def stream() -> Stream:
            headers = self.signed("GET", target)
            if last_event_id is not None:
                headers["Last-Event-ID"] = last_event_id
            return Stream(self.url, target, headers, timeout_s)

        answer = stream()
        if answer.status == 401:
            answer.close()
            self.open()
            answer = stream()
        return answer

    def sync(self) -> dict[str, Any]:
        """The whole desired set, as it is now."""
        with self.desired() as stream:
            assert stream.status == 200, stream.answer.read()
            first = stream.take(1)[0]
            assert first.event == "sync", first
            return first.json()

    def observation(self, leases: list[dict[str, Any]] | None = None, **more: Any) -> dict[str, Any]:
        value = {"at_ms": now_ms(), "boot_id": self.boot_id, "leases": leases or [], "receipts": []}
        return value | more

    def observe(self, leases: list[dict[str, Any]] | None = None, **more: Any) -> dict[str, Any]:
        return self.call("POST", "/v1/worker/observed", self.observation(leases, **more)).ok(200)

    def sign_usage(self, payload: str) -> dict[str, str]:
        signature = self.signing_key.sign(b"tes-usage-1\n" + payload.encode()).signature
        return {"payload": payload, "signature": base64url(signature)}

    def receipt(self, lease: dict[str, Any], seq: int, delivered_ms: int, **changes: Any) -> dict[str, str]:
        usage: dict[str, Any] = {
            "lease": lease["lease"],
            "worker": self.worker_id,
            "generation": lease["generation"],
            "seq": seq,
            "delivered_ms": delivered_ms,
            "gpus": len(lease.get("devices", [])),
            "cpu_milli": lease["resources"]["cpu_milli"],
            "memory_mib": lease["resources"]["memory_mib"],
            "at_ms": now_ms(),
            "final": False,
        }
        usage.update(changes)
        return self.sign_usage(json.dumps(usage))

    def send_logs(self, lease: dict[str, Any], entries: list[dict[str, Any]]) -> Response:
        value = {"lease": lease["lease"], "generation": lease["generation"], "entries": entries}
        return self.call("POST", "/v1/worker/logs", value)

    def put_result(self, lease_id: str, path: str, content: bytes) -> Response:
        return self.call("PUT", f"/v1/worker/leases/{lease_id}/results/{urllib.parse.quote(path)}", raw=content)

    def results_done(self, lease_id: str) -> Response:
        return self.call("POST", f"/v1/worker/leases/{lease_id}/results-done")

    def input(self, lease_id: str, input_id: str) -> Response:
        return self.call("GET", f"/v1/worker/leases/{lease_id}/inputs/{input_id}")

    def intent(self, intent: str = "open", leave: bool = False) -> Response:
        return self.call("POST", "/v1/worker/intent", {"intent": intent, "leave": leave})


# ---- a whole worker ---------------------------------------------------------------------------------


@dataclass
class Script:
    """What a simulated container does.  None for run_s: until it is stopped."""

    run_s: float | None = 0.0
    exit: int = 0
    reason: str = ""  # with which it exits: out_of_memory, disk_limit_exceeded
    prepare_s: float = 0.0
    fail: str = ""  # before it runs: image_pull_failed, input_failed, create_failed, refused_by_worker
    text: str = ""
    ignore: bool = False  # the worker acts as if it had not heard of the lease
    never_ready: bool = False  # started, and stays unready
    lose_after_s: float | None = None  # then it is gone from the engine
    log: list[str] = field(default_factory=list)
    late_log: list[str] = field(default_factory=list)  # sent after the end was reported
    outputs: dict[str, str] = field(default_factory=dict)

    @staticmethod
    def of(command: list[str], changes: dict[str, Any]) -> Script:
        value = json.loads(command[1]) if len(command) > 1 and command[0] == "sim" else {}
        known = {f.name for f in fields(Script)}
        return Script(**{k: v for k, v in (value | changes).items() if k in known})


class Container:
    """One lease on the machine."""

    def __init__(self, desired: dict[str, Any], changes: dict[str, Any]) -> None:
        self.desired = desired
        self.script = Script.of(desired.get("command", []), changes)
        self.state = "accepted"
        self.reason = ""
        self.text = ""
        self.exit_code = -1
        self.made = time.monotonic()
        self.since: float | None = None  # running since, if it is not paused
        self.before_ms = 0  # what it ran before that
        self.seq = 0
        self.receipt: dict[str, str] | None = None
        self.receipt_final = False
        self.logs: list[dict[str, Any]] = []
        self.log_seq = 0
        self.reported = False  # the server has heard of its end
        self.log(self.script.log)

    def delivered_ms(self) -> int:
        running = int((time.monotonic() - self.since) * 1000) if self.since is not None else 0
        return self.before_ms + running

    def log(self, lines: list[str]) -> None:
        for line in lines:
            self.log_seq += 1
            self.logs.append({"seq": self.log_seq, "at_ms": now_ms(), "stream": "stdout", "text": line})

    def ended(self) -> bool:
        return self.state in ("exited", "failed", "gone")

    def freeze(self) -> None:
        if self.since is not None:
            self.before_ms = self.delivered_ms()
            self.since = None

    def end(self, state: str, exit_code: int = -1, reason: str = "", text: str = "") -> None:
        self.freeze()
        self.state, self.exit_code, self.reason, self.text = state, exit_code, reason, text

    def step(self) -> None:
        """Moves on by what time and the server want."""
        want = self.desired["desired"]
        if self.ended():
            return
        if want in ("stop", "none"):
            self.end("exited" if self.state in ("running", "paused") else "gone", 143 if self.state != "accepted" else -1)
            return
        if self.script.fail:
            self.end("failed", reason=self.script.fail, text=self.script.text)
            return
        if self.state in ("accepted", "preparing"):
            if self.state == "accepted" and self.script.prepare_s == 0 and not self.script.never_ready:
                pass
            else:
                self.state = "preparing"
            waited = time.monotonic() - self.made
            if self.script.never_ready or waited < self.script.prepare_s:
                return
            self.state, self.since = "running", time.monotonic()
        self.end_by_itself()
        self.pause_or_go_on(want)

    def pause_or_go_on(self, want: str) -> None:
        paid = self.delivered_ms() < self.desired.get("funded_ms", 1 << 53)
        if self.state == "running" and (want == "pause" or not paid):
            self.freeze()
            self.state = "paused"
        elif self.state == "paused" and want == "run" and paid:
            self.state, self.since = "running", time.monotonic()

    def end_by_itself(self) -> None:
        if self.state != "running":
            return
        ran_s = self.delivered_ms() / 1000
        limit = self.desired.get("max_duration_ms", 0)
        if self.script.lose_after_s is not None and ran_s >= self.script.lose_after_s:
            self.end("gone")
        elif self.script.run_s is not None and ran_s >= self.script.run_s:
            self.end("exited", self.script.exit, self.script.reason, self.script.text)
        elif limit and ran_s * 1000 >= limit:
            self.end("exited", 143, "max_duration_exceeded")

    def observation(self) -> dict[str, Any]:
        value: dict[str, Any] = {
            "lease": self.desired["lease"],
            "generation": self.desired["generation"],
            "state": self.state,
            "delivered_ms": self.delivered_ms(),
        }
        if self.state == "preparing":
            value |= {"phase": "pulling image", "progress_done": 1, "progress_total": 2, "started": self.script.never_ready}
        if self.state in ("running", "paused", "exited"):
            image = self.desired["image"].split("@")[0] if self.desired.get("image") else ""
            if image:
                value["image_digest"] = image + "@sha256:" + hashlib.sha256(image.encode()).hexdigest()
        if self.state == "exited":
            value["exit_code"] = self.exit_code
        if self.reason:
            value["reason"] = self.reason
        if self.text:
            value["text"] = self.text
        return value


class SimWorker(Link):
    """A worker in two threads: one hears what is desired, the other converges and reports."""

    def __init__(self, url: str, signing_key: nacl.signing.SigningKey | None = None, **inventory: Any) -> None:
        super().__init__(url, signing_key)
        self.inventory = inventory_of(**inventory)
        self.script: dict[str, Any] = {}  # wins over what the workloads ask for
        self.containers: dict[str, Container] = {}
        self.desired_rev = 0
        self.synced = False
        self.problems: list[str] = []
        self.failures: list[str] = []  # answers that an honest worker should not get
        self.observations = 0
        self.cut = threading.Event()  # no network
        self.stopping = threading.Event()
        self.kicked = threading.Event()
        self.state_lock = threading.RLock()
        self.heard = time.monotonic()
        self.inventory_number = 1  # counts its changes
        self.inventory_known = 0  # the one that the server has
        self.stream: Stream | None = None
        self.threads: list[threading.Thread] = []

    # ---- for tests

    def start(self, token: str | None = None, name: str | None = None) -> SimWorker:
        if token:
            self.join(token, self.inventory, name)
        self.stopping.clear()
        self.threads = [threading.Thread(target=t, daemon=True) for t in (self.hear_loop, self.report_loop)]
        for t in self.threads:
            t.start()
        return self

    def stop(self) -> None:
        """The process ends; containers go with it here."""
        self.stopping.set()
        self.kicked.set()
        if self.stream:
            self.stream.close()
        for t in self.threads:
            t.join(10)
            assert not t.is_alive(), "a thread of the worker does not end"
        self.threads = []

    def silence(self) -> None:
        """Cuts the network; the worker itself goes on."""
        self.cut.set()
        if self.stream:
            self.stream.close()

    def speak(self) -> None:
        self.cut.clear()
        self.kicked.set()

    def restart(self) -> None:
        """A new process; its containers live on."""
        self.stop()
        self.boot_id = secrets.token_hex(8)
        self.session = None
        self.inventory_known = 0
        self.start()

    def container(self, lease_id: str) -> Container | None:
        with self.state_lock:
            return self.containers.get(lease_id)

    def set_inventory(self, **changes: Any) -> None:
        self.inventory = self.inventory | changes
        self.inventory_number += 1
        self.kicked.set()

    # ---- hearing

    def take_desired(self, want: dict[str, Any]) -> None:
        script = Script.of(want.get("command", []), self.script)
        known = self.containers.get(want["lease"])
        if known:
            if want["generation"] == known.desired["generation"]:
                # What is to be stopped comes without its command: only what is wanted and paid for changes.
                changes = {k: want[k] for k in ("desired", "rev", "funded_ms", "grace_ms") if k in want}
                known.desired = known.desired | changes
            if known.desired["desired"] == "none" and known.ended():
                del self.containers[want["lease"]]
        elif want["desired"] in ("run", "pause") and not script.ignore:
            self.containers[want["lease"]] = Container(want, self.script)
        elif want["desired"] == "stop" and not script.ignore:
            container = Container(want, self.script)
            container.end("gone")
            self.containers[want["lease"]] = container

    def take_event(self, event: Event) -> None:
        value = event.json()
        with self.state_lock:
            if event.event == "sync":
                wanted = {lease["lease"] for lease in value["leases"]} if value.get("leases") else set()
                for ident in list(self.containers):
                    if ident not in wanted:
                        del self.containers[ident]
                for lease in value.get("leases", []):
                    self.take_desired(lease)
                self.desired_rev = value["rev"]
                self.synced = True
            elif event.event == "lease":
                self.take_desired(value)
                self.desired_rev = max(self.desired_rev, value["rev"])
        self.kicked.set()

    def hear_loop(self) -> None:
        while not self.stopping.is_set():
            if self.cut.is_set():
                self.stopping.wait(0.05)
                continue
            try:
                self.stream = self.desired(str(self.desired_rev) if self.synced else None, timeout_s=20)
                # stop() and silence() may have closed the one before.
                if self.stream.status != 200 or self.stopping.is_set() or self.cut.is_set():
                    self.stopping.wait(0.1)
                    continue
                for event in self.stream:
                    if self.cut.is_set() or self.stopping.is_set():
                        break
                    self.take_event(event)
            except (*GIVE_UP, AssertionError):
                self.stopping.wait(0.1)
            finally:
                if self.stream:
                    self.stream.close()

    # ---- reporting

    def fence(self) -> None:
        """Too long without the server: what runs ends, because by now it may run elsewhere."""
        silent_ms = (time.monotonic() - self.heard) * 1000
        with self.state_lock:
            for c in self.containers.values():
                if not c.ended() and silent_ms > c.desired.get("grace_ms", 1 << 53):
                    c.end("failed", reason="worker_lost", text="the worker was cut off for longer than its grace time")

    def make_receipt(self, c: Container) -> None:
        if c.receipt_final or not c.delivered_ms():
            return
        c.seq += 1
        c.receipt_final = c.ended()
        c.receipt = self.receipt(c.desired, c.seq, c.delivered_ms(), final=c.receipt_final)

    def deliver(self, c: Container) -> bool:
        """Logs, and at the end results, before the end itself is reported."""
        if c.logs and not self.deliver_logs(c):
            return False
        if c.state != "exited" or c.reported:
            return True
        for path, text in c.script.outputs.items():
            answer = self.put_result(c.desired["lease"], path, text.encode())
            if answer.status == 413:
                continue
            if answer.status != 200:
                self.failures.append(f"result: {answer.status} {answer.body!r}")
                return answer.status < 500
        return self.results_done(c.desired["lease"]).status == 204

    def deliver_logs(self, c: Container) -> bool:
        batch = c.logs[:1000]
        answer = self.send_logs(c.desired, batch)
        if answer.status != 200:
            self.failures.append(f"logs: {answer.status} {answer.body!r}")
            return answer.status < 500
        ack = answer.json()
        c.logs = [] if ack.get("cut") else [e for e in c.logs if e["seq"] > ack["seq"]]
        return True

    def report(self) -> None:
        with self.state_lock:
            containers = [c for c in self.containers.values()]
            for c in containers:
                c.step()
        ready = [c for c in containers if self.deliver(c)]
        with self.state_lock:
            known = [c for c in containers if c.desired["lease"] in self.containers]
            for c in known:
                self.make_receipt(c)
            value = self.observation(
                [c.observation() for c in known if c in ready or not c.ended()],
                desired_rev=self.desired_rev,
                receipts=[c.receipt for c in known if c.receipt],
            )
        number = self.inventory_number
        if self.inventory_known != number:
            value["inventory"] = self.inventory
        answer = self.call("POST", "/v1/worker/observed", value)
        if answer.status != 200:
            self.failures.append(f"observed: {answer.status} {answer.body!r}")
            return
        self.heard = time.monotonic()
        self.observations += 1
        self.inventory_known = number
        self.problems += answer.json().get("problems", [])
        with self.state_lock:
            for c in known:
                if c.ended() and c in ready and not c.reported:
                    c.reported = True
                    c.log(c.script.late_log)

    def report_loop(self) -> None:
        while not self.stopping.is_set():
            beat = self.session.heartbeat_ms / 1000 if self.session else 0.2
            self.kicked.wait(self.next_change_s(min(beat, 1.0)))
            self.kicked.clear()
            self.fence()
            if self.cut.is_set() or self.stopping.is_set():
                self.step_offline()
                continue
            try:
                self.report()
            except (*GIVE_UP, AssertionError) as error:
                self.failures.append(repr(error))
                self.stopping.wait(0.1)

    def step_offline(self) -> None:
        with self.state_lock:
            for c in self.containers.values():
                c.step()
        self.stopping.wait(0.05)

    def next_change_s(self, beat_s: float) -> float:
        """Wakes when the first container ends by itself, so that short jobs end on time."""
        with self.state_lock, contextlib.suppress(ValueError):
            left = [
                c.script.run_s - c.delivered_ms() / 1000
                for c in self.containers.values()
                if c.state == "running" and c.script.run_s is not None
            ]
            return max(min(left + [beat_s]), 0.01)
        return beat_s
