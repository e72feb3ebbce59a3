"""A load balancer before the real cluster's API server that does to requests what rules say.

It is the fake API server's server with a real one behind it: `outage` and `fault` know requests
by method, path and query. It speaks plain HTTP and needs no credentials, since `kubectl proxy`
behind it has them.
"""

from __future__ import annotations

import http.client
import json
import queue
import socket
import subprocess
import sys
import threading
from pathlib import Path
from typing import Iterator, Optional
from urllib.parse import urlencode

from support import Kubectl

sys.path.append(str(Path(__file__).resolve().parents[1] / "faults"))

from apiserver import Answer, Request, Server  # noqa: E402

TICK = 0.1
HOP_BY_HOP = ("connection", "content-length", "host", "transfer-encoding")


class Balancer(Server):
    """Listens from `open` to `close`; what no rule is about goes to the real API server."""

    def __init__(self, kubectl: Kubectl) -> None:
        super().__init__()
        self._proxy = subprocess.Popen(
            [kubectl.program, "--kubeconfig", kubectl.kubeconfig, "proxy", "--port=0"],
            stdout=subprocess.PIPE,
        )
        assert self._proxy.stdout is not None
        self._port = int(self._proxy.stdout.readline().rpartition(b":")[2])

    def close(self) -> None:
        """End it, and `kubectl proxy`; raises what went wrong in it."""
        super().close()
        self._proxy.terminate()
        self._proxy.communicate()
        self.check()

    def handle(self, request: Request) -> Answer:
        """The real server's answer; a foreign 502 if there is none."""
        upstream = http.client.HTTPConnection("127.0.0.1", self._port)
        try:
            response = self._ask(upstream, request)
            headers = {
                name: value
                for name, value in response.getheaders()
                if name.lower() not in HOP_BY_HOP
            }
            if response.chunked:
                return Answer(response.status, headers=headers, stream=stream(upstream, response))
            raw = response.read()
        except (OSError, http.client.HTTPException):
            upstream.close()
            return Answer(502, headers={"Content-Type": "text/plain"}, raw=b"no answer")
        upstream.close()
        return Answer(response.status, headers=headers, raw=raw)

    @staticmethod
    def _ask(upstream: http.client.HTTPConnection, request: Request) -> http.client.HTTPResponse:
        body = request.body
        if body is not None and not isinstance(body, bytes):
            body = json.dumps(body).encode()
        headers = {name: value for name, value in request.headers.items() if name not in HOP_BY_HOP}
        query = f"?{urlencode(request.query)}" if request.query else ""
        upstream.request(request.method, request.path + query, body, headers)
        return upstream.getresponse()


def stream(
    upstream: http.client.HTTPConnection, response: http.client.HTTPResponse
) -> Iterator[bytes]:
    """The pieces of an answer as they come, and b"" now and then while nothing comes."""
    pieces: queue.Queue[Optional[bytes]] = queue.Queue()

    def read() -> None:
        try:
            while True:
                piece = response.read1(1 << 16)
                pieces.put(piece or None)
                if not piece:
                    return
        except (OSError, ValueError, http.client.HTTPException):
            pieces.put(None)

    sock = upstream.sock
    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    try:
        while True:
            try:
                piece = pieces.get(timeout=TICK)
            except queue.Empty:
                piece = b""
            if piece is None:
                return
            yield piece
    finally:
        if sock is not None:
            try:
                sock.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
        reader.join()
        response.close()
        upstream.close()
