"""Where the cases run, and what they do there."""

from __future__ import annotations

import contextlib
import http.client
import json
import subprocess
import threading
import time
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List, NamedTuple, Optional, TypeVar

from measuring import K8R, KUBECTL, kubectl

T = TypeVar("T")


class Setting(NamedTuple):
    """How often to measure, a directory and a namespace to do it in, MiB of a long log."""

    runs: int
    scratch: Path
    namespace: str
    log_size: int

    def k8r(self, *args: str) -> List[str]:
        """The command line of k8r in the namespace."""
        return [*K8R, "-n", self.namespace, *args]

    def kubectl(self, *args: str) -> List[str]:
        """The command line of kubectl in the namespace."""
        return [*KUBECTL, "-n", self.namespace, *args]

    def folder(self, name: str) -> Path:
        """A directory that is there, for several cases."""
        path = self.scratch / name
        path.mkdir(exist_ok=True)
        return path

    def remove_jobs(self) -> None:
        """Leave the namespace without Jobs and pods, whoever made them."""
        here = f"namespaces/{self.namespace}"
        paths = [
            f"/apis/batch/v1/{here}/jobs?propagationPolicy=Background",
            f"/api/v1/{here}/pods?gracePeriodSeconds=0",
        ]

        def removed() -> bool:
            # A request for all of a kind; `kubectl delete --all` sends one for each. Of very
            # many it removes what it can within a minute, and fails.
            for path in paths:
                subprocess.run(
                    [*KUBECTL, "delete", "--raw", path],
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,
                )
            return not kubectl("-n", self.namespace, "get", "jobs,pods", "-o", "name")

        self.until(removed, "an empty namespace", 900)

    def until(self, probe: Callable[[], Optional[T]], what: str, timeout: float = 120) -> T:
        """Ask again and again until the answer is true."""
        deadline = time.monotonic() + timeout
        while time.monotonic() < deadline:
            answer = probe()
            if answer:
                return answer
            time.sleep(0.2)
        raise SystemExit(f"not within {timeout:.0f} s: {what}")


class Api:
    """The API server by way of `kubectl proxy`, which knows every way to log in."""

    def __init__(self, port: int) -> None:
        self.port = port
        self._local = threading.local()

    def send(self, method: str, path: str, body: Any = None, kind: str = "json") -> Any:
        """One exchange; an answer that is no success ends the benchmark."""
        connection = getattr(self._local, "connection", None)
        if connection is None:
            connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
            self._local.connection = connection
        headers = {"Content-Type": f"application/{kind}"}
        connection.request(method, path, None if body is None else json.dumps(body), headers)
        answer = connection.getresponse()
        data = answer.read()
        if answer.status >= 300:
            raise SystemExit(f"{method} {path}: {data[:500].decode()}")
        return json.loads(data)

    def watch(self, path: str) -> Iterator[Dict[str, Any]]:
        """The events of a plain watch, as soon as they come, until the server ends it."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port)
        connection.request("GET", path)
        answer = connection.getresponse()
        for text in iter(answer.readline, b""):
            yield json.loads(text)


@contextlib.contextmanager
def api_of() -> Iterator[Api]:
    """An `Api`, for as long as its proxy runs."""
    proxy = subprocess.Popen([*KUBECTL, "proxy", "--port=0"], stdout=subprocess.PIPE, text=True)
    try:
        assert proxy.stdout is not None
        yield Api(int(proxy.stdout.readline().rpartition(":")[2]))
    finally:
        proxy.terminate()
        proxy.wait()
