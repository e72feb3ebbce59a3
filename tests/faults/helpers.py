"""What the tests of k8r against the fake cluster share."""

from __future__ import annotations

from pathlib import Path
from typing import Any, List, Sequence, Tuple

from apiserver import FakeCluster, Match, Obj, Request
from common import by_index, patched, tomorrow  # noqa: F401


def text(count: int, line: str = "line {}") -> bytes:
    """What `numbered` makes a container write."""
    return b"".join(line.format(number).encode() + b"\n" for number in range(1, count + 1))


def pods_log(index: int, name: str = "alpine") -> str:
    """A regular expression for the path of the log of an index."""
    return rf"/pods/{name}-{index}-\w+/log$"


OWN = ("jobs", "configmaps", "secrets", "pods")


def left(cluster: FakeCluster) -> List[str]:
    """All that k8r and its Jobs have made and that still exists."""
    return [f"{kind}/{item['metadata']['name']}" for kind in OWN for item in cluster.objects(kind)]


def gone(cluster: FakeCluster) -> bool:
    """Whether nothing is left, once the cluster has cleaned up."""
    try:
        return bool(cluster.wait(lambda: not left(cluster), 3))
    except AssertionError:
        return False


def job(cluster: FakeCluster) -> Obj:
    """The only Job."""
    (found,) = cluster.objects("jobs")
    return found


def asked(cluster: FakeCluster) -> List[Tuple[str, str]]:
    """Method and path of all requests, for messages of failed tests."""
    return [(request.method, request.path) for request in cluster.requests]


def anonymous(cluster: FakeCluster) -> List[Request]:
    """The requests that carried no credentials."""
    return [request for request in cluster.requests if "authorization" not in request.headers]


def foreign_job(name: str = "theirs", policy: str = "Never", **spec: Any) -> Obj:
    """A Job with k8r's labels of another shape than k8r gives its own."""
    labels = {"created-by": "k8r", "k8r-job": name, "k8r-source-type": "container"}
    inits: Sequence[str] = spec.pop("inits", ())
    pod: Obj = {"restartPolicy": policy, "containers": [{"name": "main", "image": "alpine"}]}
    if inits:
        pod["initContainers"] = [{"name": init, "image": "alpine"} for init in inits]
    template = {"metadata": {"labels": labels}, "spec": pod}
    return {"metadata": {"name": name, "labels": labels}, "spec": {"template": template, **spec}}


def resume_when_watched(cluster: FakeCluster, name: str = "theirs") -> None:
    """Let a suspended Job start as soon as k8r watches pods."""
    watch = Match("GET", "/pods$", watch="true")

    def resume(request: Request) -> None:
        if watch.accepts(request):
            cluster.patch("jobs", name, {"spec": {"suspend": False}})

    cluster.hook(resume)


def plugin(folder: Path, script: str) -> Obj:
    """A kubeconfig user whose credentials come from this shell script."""
    path = folder / "plugin"
    path.write_text("#!/bin/sh\n" + script)
    path.chmod(0o755)
    command = {"apiVersion": "client.authentication.k8s.io/v1", "command": str(path)}
    return {"exec": {**command, "interactiveMode": "Never"}}
