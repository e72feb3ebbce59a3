"""What the tests against a real cluster share: kubectl, polling, a proxy, running processes."""

from __future__ import annotations

import contextlib
import json
import os
import select
import socket
import subprocess
import threading
import time
from pathlib import Path
from typing import IO, Any, Callable, Dict, Iterable, Iterator, List, Optional, Set

from common import until

Object = Dict[str, Any]

MIB = 1 << 20
ALPINE = "alpine:latest"
PYTHON = "python:3-slim"
IMPOSSIBLE_CPU = "5000"
"""More CPUs than any node has."""

GATE = (
    "trap 'exit 143' TERM; "
    "until [ -s /tmp/code ]; do sleep 0.1; done; echo released; exit $(cat /tmp/code)"
)
"""Shell text that runs until `release` tells it how to end."""


class Kubectl:
    """kubectl in one namespace: what the cluster holds, as somebody else sees it."""

    def __init__(self, program: str, kubeconfig: str, namespace: str) -> None:
        self.program = program
        self.kubeconfig = kubeconfig
        self.namespace = namespace
        self.initial: Set[str] = set()

    def __call__(self, *args: str, stdin: bytes = b"", check: bool = True) -> str:
        """Run it to the end; returns its stdout."""
        done = subprocess.run(
            [self.program, "--namespace", self.namespace, *args],
            env={**os.environ, "KUBECONFIG": self.kubeconfig},
            input=stdin,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            timeout=120,
        )
        if check and done.returncode != 0:
            raise AssertionError(f"kubectl {' '.join(args)}: {done.stderr.decode()}")
        return done.stdout.decode()

    def items(self, kinds: str) -> List[Object]:
        """All objects of some kinds."""
        found: List[Object] = json.loads(self("get", kinds, "-o", "json"))["items"]
        return found

    def names(self, kinds: str) -> List[str]:
        """The names of all objects of some kinds."""
        return [item["metadata"]["name"] for item in self.items(kinds)]

    def get(self, kind: str, name: str) -> Object:
        """One object; {} if there is none of that name."""
        text = self("get", kind, name, "-o", "json", "--ignore-not-found")
        found: Object = json.loads(text or "{}")
        return found

    def leftovers(self) -> List[str]:
        """Everything that was not in the namespace from the start."""
        kinds = "jobs,pods,configmaps,secrets,deployments"
        listed = self("get", kinds, "-o", "name").split()
        return [name for name in listed if name not in self.initial]

    def running_pod(self, job: str, but: Iterable[str] = ()) -> str:
        """Wait for a pod of a Job whose container runs; returns its name."""

        def probe() -> Optional[str]:
            for pod in self.items("pods"):
                metadata = pod["metadata"]
                if metadata["labels"].get("job-name") != job or metadata["name"] in but:
                    continue
                if pod["status"]["phase"] == "Running" and "deletionTimestamp" not in metadata:
                    return str(metadata["name"])
            return None

        return until(probe, f"a running pod of {job}")

    def release(self, pod: str, code: int = 0) -> None:
        """Let a container that waits at `GATE` end."""
        self("exec", pod, "--", "sh", "-c", f"echo {code} >/tmp/code")


def nothing_left(kubectl: Kubectl, timeout: float = 30) -> None:
    """Assert that all that k8r has made is gone, soon."""
    until(lambda: not kubectl.leftovers() or None, "an empty namespace", timeout)


def nothing_made(kubectl: Kubectl) -> None:
    """Assert that k8r has made nothing at all."""
    assert kubectl.leftovers() == []


def read_until(stream: Optional[IO[bytes]], marker: bytes, timeout: float = 60) -> bytes:
    """Read a running process' output up to a marker; returns all that was read."""
    assert stream is not None
    deadline = time.monotonic() + timeout
    data = b""
    while marker not in data:
        ready, _, _ = select.select([stream], [], [], max(deadline - time.monotonic(), 0))
        assert ready, f"no {marker!r} within {timeout:.0f} s; there was {data[-2000:]!r}"
        piece = os.read(stream.fileno(), 1 << 16)
        assert piece, f"the output ended without {marker!r}; there was {data[-2000:]!r}"
        data += piece
    return data


def elapsed(started: float) -> float:
    """Seconds since a time on the monotonic clock."""
    return time.monotonic() - started


class Proxy:
    """A TCP proxy before the API server, to stop k8r at a known place.

    Each connection may send ``allowance`` bytes; what is more is held until the
    proxy is closed. After `freeze` everything is held.
    """

    def __init__(self, host: str, port: int, allowance: int) -> None:
        self._upstream = (host, port)
        self._allowance = allowance
        self._frozen = threading.Event()
        self._closed = threading.Event()
        self.held = threading.Event()
        self._sockets: List[socket.socket] = []
        self._threads: List[threading.Thread] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._listener.settimeout(0.2)
        self.port: int = self._listener.getsockname()[1]
        self._start(self._accept)

    def freeze(self) -> None:
        """Let nothing pass any more; `held` is set as soon as something wanted to."""
        self._frozen.set()

    def close(self) -> None:
        """End all connections and threads."""
        self._closed.set()
        for thread in self._threads[:1]:
            thread.join()
        for sock in self._sockets:
            try:
                sock.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
        for thread in self._threads:
            thread.join()
        for sock in [self._listener, *self._sockets]:
            sock.close()

    def _start(self, target: Callable[..., None], *args: Any) -> None:
        thread = threading.Thread(target=target, args=args, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while not self._closed.is_set():
            try:
                client, _ = self._listener.accept()
            except socket.timeout:
                continue
            client.settimeout(None)
            server = socket.create_connection(self._upstream)
            self._sockets += [client, server]
            self._start(self._pump, client, server, self._allowance)
            self._start(self._pump, server, client, None)

    def _pump(self, source: socket.socket, target: socket.socket, allowance: Optional[int]) -> None:
        sent = 0
        try:
            while True:
                data = source.recv(1 << 16)
                if not data:
                    break
                if allowance is not None:
                    sent += len(data)
                    if self._frozen.is_set():
                        self.held.set()
                    if self._frozen.is_set() or sent > allowance:
                        self._closed.wait()
                        break
                target.sendall(data)
            target.shutdown(socket.SHUT_WR)
        except OSError:
            pass


@contextlib.contextmanager
def bound_claim(kubectl: Kubectl, claim: str, path: Path) -> Iterator[None]:
    """A PersistentVolumeClaim of that name for a directory of this machine."""
    common = {"accessModes": ["ReadWriteOnce"], "storageClassName": ""}
    size, name = {"storage": "1Mi"}, kubectl.namespace
    volume = {**common, "capacity": size, "hostPath": {"path": str(path)}}
    wanted = {**common, "resources": {"requests": size}, "volumeName": name}
    try:
        for kind, called, spec in (
            ("PersistentVolume", name, volume),
            ("PersistentVolumeClaim", claim, wanted),
        ):
            made = {"apiVersion": "v1", "kind": kind, "metadata": {"name": called}, "spec": spec}
            kubectl("create", "-f", "-", stdin=json.dumps(made).encode())
        yield
    finally:
        kubectl("delete", "persistentvolume", name, "--wait=false")
