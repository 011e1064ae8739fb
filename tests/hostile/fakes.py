"""A server and a container engine that are none: they say what a test tells them to."""

from __future__ import annotations

import contextlib
import json
import os
import socketserver
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

IMAGE = "sha256:" + "1" * 64

# What a handler gives: bytes that go out as they are, or status, type and body.
Reply = bytes | tuple[int, str, bytes]
Handler = Callable[["Request"], Reply]


@dataclass
class Request:
    method: str
    path: str
    query: str
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)


def js(value: Any, status: int = 200) -> Reply:
    return status, "application/json", json.dumps(value).encode()


@dataclass
class Fake:
    """Serves `handler` on TCP, or on a socket of the file system."""

    handler: Handler
    unix: Path | None = None
    seen: list[Request] = field(default_factory=list)
    port: int = 0

    def __enter__(self) -> Fake:
        fake = self

        class Connection(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = False

            def one(self) -> None:
                path, _, query = self.path.partition("?")
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                request = Request(self.command, path, query, {k.lower(): v for k, v in self.headers.items()}, body)
                fake.seen.append(request)
                with contextlib.suppress(OSError):
                    reply = fake.handler(request)
                    if isinstance(reply, bytes):
                        self.close_connection = True
                        self.wfile.write(reply)
                        return
                    status, kind, content = reply
                    self.send_response(status)
                    self.send_header("Content-Type", kind)
                    self.send_header("Content-Length", str(len(content)))
                    self.end_headers()
                    self.wfile.write(content)

            do_GET = do_POST = do_PUT = do_DELETE = do_HEAD = one

            def log_message(self, *unused: object) -> None:
                pass

            def address_string(self) -> str:
                return "somebody"

        class Tcp(socketserver.ThreadingTCPServer):
            allow_reuse_address = daemon_threads = True
            request_queue_size = 128

        class Unix(socketserver.ThreadingUnixStreamServer):
            daemon_threads = True
            request_queue_size = 128

        self.server = Unix(str(self.unix), Connection) if self.unix else Tcp(("127.0.0.1", 0), Connection)
        if not self.unix:
            self.port = self.server.server_address[1]
        threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        return self

    def __exit__(self, *unused: object) -> None:
        self.server.shutdown()
        self.server.server_close()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"


def engine_reply(request: Request) -> Reply:
    """An engine that has every image, no container, and makes none."""
    path = request.path
    if path.startswith("/v1."):
        path = path[path.index("/", 1) :]
    if path == "/version":
        return js({"ApiVersion": "1.41", "MinAPIVersion": "1.12", "Version": "20.10.24"})
    if path == "/info":
        return js({
            "KernelVersion": os.uname().release, "DockerRootDir": "/", "Driver": "overlay2", "PidsLimit": True, "MemoryLimit": True,
            "SwapLimit": True, "CpuCfsQuota": True, "SecurityOptions": ["name=seccomp,profile=default"], "NCPU": 2,
        })  # fmt: skip
    if path == "/containers/json":
        return js([])
    if path.startswith("/images/"):
        return js({"Id": IMAGE, "RepoDigests": ["debian@" + IMAGE]})
    if path == "/events":
        import time

        time.sleep(1)
        return 200, "application/json", b""
    if path == "/containers/create":
        return js({"message": "this engine makes nothing"}, 400)
    return js({"message": "no such thing"}, 404)
