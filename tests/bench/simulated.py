"""Nodes and pods simulated by kwok: they cost the API server time, but there are no containers."""

from __future__ import annotations

import contextlib
import socket
import subprocess
import threading
import time
from pathlib import Path
from typing import Any, Dict, Iterator, List, Optional

from measuring import built, kubectl
from setting import Api, Setting

MARK = "k8r-bench"
"""The label and taint of simulated nodes."""
STAYS = "k8r-bench-stays"
"""The label of pods that are not to end."""
PATCH = f"""\
spec:
  nodeSelector: {{{MARK}: simulated}}
  tolerations: [{{key: {MARK}, operator: Exists}}]
"""
"""What brings a run's pods to simulated nodes."""
PODS_PER_NODE = 500
PORT = 10247
LOG_LINES = 20

CONFIG = f"""\
kind: KwokConfiguration
apiVersion: config.kwok.x-k8s.io/v1alpha1
options:
  cidr: 10.0.0.0/8
  manageAllNodes: false
  manageNodesWithLabelSelector: {MARK}=simulated
  nodeLeaseDurationSeconds: 40
  nodeLeaseParallelism: 4
  nodePlayStageParallelism: 4
  podPlayStageParallelism: 16
  serverAddress: 127.0.0.1:{PORT}
  enableDebuggingHandlers: true
---
kind: ClusterLogs
apiVersion: kwok.x-k8s.io/v1alpha1
metadata: {{name: all}}
spec: {{logs: [{{logsFile: "%(log)s", follow: true}}]}}
---
kind: Stage
apiVersion: kwok.x-k8s.io/v1alpha1
metadata: {{name: node-ready}}
spec:
  resourceRef: {{apiGroup: v1, kind: Node}}
  selector:
    matchExpressions:
    - key: '.status.conditions.[] | select( .type == "Ready" ) | .status'
      operator: NotIn
      values: ["True"]
  next:
    statusTemplate: |
      {{{{ $now := Now }}}}
      conditions:
      - type: Ready
        status: "True"
        reason: Simulated
        lastHeartbeatTime: {{{{ $now | Quote }}}}
        lastTransitionTime: {{{{ $now | Quote }}}}
---
kind: Stage
apiVersion: kwok.x-k8s.io/v1alpha1
metadata: {{name: pod-delete}}
spec:
  resourceRef: {{apiGroup: v1, kind: Pod}}
  selector:
    matchExpressions:
    - {{key: .metadata.deletionTimestamp, operator: Exists}}
  next: {{delete: true}}
---
kind: Stage
apiVersion: kwok.x-k8s.io/v1alpha1
metadata: {{name: pod-run}}
spec:
  resourceRef: {{apiGroup: v1, kind: Pod}}
  selector:
    matchExpressions:
    - {{key: .metadata.deletionTimestamp, operator: DoesNotExist}}
    - {{key: .status.podIP, operator: DoesNotExist}}
  next:
    statusTemplate: |
      {{{{ $now := Now }}}}
      phase: Running
      podIP: 10.9.8.7
      startTime: {{{{ $now | Quote }}}}
      conditions:
      - {{type: Ready, status: "True", lastTransitionTime: {{{{ $now | Quote }}}}}}
      containerStatuses:
      {{{{ range .spec.containers }}}}
      - name: {{{{ .name | Quote }}}}
        image: {{{{ .image | Quote }}}}
        ready: true
        restartCount: 0
        state: {{running: {{startedAt: {{{{ $now | Quote }}}}}}}}
      {{{{ end }}}}
---
kind: Stage
apiVersion: kwok.x-k8s.io/v1alpha1
metadata: {{name: pod-end}}
spec:
  resourceRef: {{apiGroup: v1, kind: Pod}}
  selector:
    matchExpressions:
    - {{key: .metadata.deletionTimestamp, operator: DoesNotExist}}
    - {{key: '.metadata.labels["{STAYS}"]', operator: DoesNotExist}}
    - {{key: .status.phase, operator: In, values: [Running]}}
  delay: {{durationMilliseconds: 5000, jitterDurationMilliseconds: 15000}}
  next:
    statusTemplate: |
      {{{{ $now := Now }}}}
      phase: Succeeded
      containerStatuses:
      {{{{ range .spec.containers }}}}
      - name: {{{{ .name | Quote }}}}
        image: {{{{ .image | Quote }}}}
        ready: false
        restartCount: 0
        state:
          terminated:
            exitCode: 0
            reason: Completed
            startedAt: {{{{ $now | Quote }}}}
            finishedAt: {{{{ $now | Quote }}}}
      {{{{ end }}}}
"""

ACCESS = """\
apiVersion: v1
kind: Config
current-context: bench
clusters: [{name: bench, cluster: {server: "%s"}}]
contexts: [{name: bench, context: {cluster: bench, user: ""}}]
"""


def log_lines() -> List[str]:
    """What each simulated container has written."""
    return [f"line {number} of {LOG_LINES}" for number in range(LOG_LINES)]


def write_log(path: Path) -> None:
    """The log of all simulated containers, in the format of the container runtimes."""
    stamps = (f"2026-01-01T00:00:{number:02}.000000000Z" for number in range(LOG_LINES))
    lines = (f"{stamp} stdout F {text}\n" for stamp, text in zip(stamps, log_lines()))
    path.write_text("".join(lines))


def node(number: int) -> Dict[str, Any]:
    """A simulated node. The API server finds its kubelet by the
    first kind of address that it prefers; all of them are kwok's.
    """
    taint = {"key": MARK, "value": "simulated", "effect": "NoSchedule"}
    capacity = {"cpu": "1000", "memory": "1Ti", "pods": str(PODS_PER_NODE)}
    addresses = [
        {"type": "Hostname", "address": "localhost"},
        {"type": "InternalIP", "address": "127.0.0.1"},
    ]
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": f"{MARK}-{number}", "labels": {MARK: "simulated"}},
        "spec": {"taints": [taint]},
        "status": {
            "addresses": addresses,
            "allocatable": capacity,
            "capacity": capacity,
            "daemonEndpoints": {"kubeletEndpoint": {"Port": PORT}},
        },
    }


class NoBookmarks(threading.Thread):
    """Passes on what kwok asks for, but for the bookmarks of its watches: with an etcd before
    3.5 the API server refuses such a watch from resourceVersion 0, and kwok has no other.
    """

    def __init__(self, port: int) -> None:
        super().__init__(daemon=True)
        self._port = port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"

    def run(self) -> None:
        """Take connections until closed."""
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                server = socket.create_connection(("127.0.0.1", self._port))
                for pair in ((client, server), (server, client)):
                    threading.Thread(target=self._pump, args=pair, daemon=True).start()

    @staticmethod
    def _pump(source: socket.socket, target: socket.socket) -> None:
        with contextlib.suppress(OSError):
            for data in iter(lambda: source.recv(1 << 16), b""):
                # A request's line is its own write, and so comes in one piece.
                target.sendall(data.replace(b"allowWatchBookmarks=true", b""))
            target.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        """Take no more."""
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()


@contextlib.contextmanager
def simulated_nodes(setting: Setting, api: Api, count: int) -> Iterator[None]:
    """So many nodes, for as long as they are needed; kwok and they are removed in any case."""
    log, config = setting.scratch / "kwok.log", setting.scratch / "kwok.yaml"
    access = setting.scratch / "kwok.kubeconfig"
    write_log(log)
    config.write_text(CONFIG % {"log": log})
    process: Optional["subprocess.Popen[bytes]"] = None
    bookmarks = NoBookmarks(api.port)
    bookmarks.start()
    access.write_text(ACCESS % bookmarks.url)
    try:
        for number in range(count):
            api.send("POST", "/api/v1/nodes", node(number))
        with open(setting.scratch / "kwok.err", "wb") as err:
            words = ["--config", str(config), "--kubeconfig", str(access)]
            process = subprocess.Popen(
                [str(built("kwok", "sigs.k8s.io/kwok/cmd/kwok")), *words], stdout=err, stderr=err
            )
        time.sleep(1)
        if process.poll() is not None:
            raise SystemExit((setting.scratch / "kwok.err").read_text()[-2000:])
        yield
    finally:
        setting.remove_jobs()  # first, since it is kwok that lets the pods go
        kubectl("delete", "nodes", "-l", f"{MARK}=simulated", "--wait=true")
        if process:
            process.terminate()
            process.wait()
        bookmarks.close()
