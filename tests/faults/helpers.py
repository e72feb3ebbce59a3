"""What the tests of k8r against the fake cluster share."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any, Dict, List, Sequence, Tuple

from apiserver import FakeCluster, Match, Obj, Request

CODE = """\
import json, os, sys
constants, path = sys.argv[1], sys.argv[3]
sys.path.insert(0, os.path.dirname(path))
import k8r
for word in constants.split():
    name, value = word.split("=")
    assert hasattr(k8r, name), "k8r.py has no " + name
    setattr(k8r, name, json.loads(value))
sys.argv[:4] = [path]
k8r.script()
"""


def patched(**constants: float) -> List[str]:
    """A prefix for k8r's command line that runs it with other values of its constants."""
    words = " ".join(f"{name}={value}" for name, value in constants.items())
    return [sys.executable, "-c", CODE, words]


def text(count: int, line: str = "line {}") -> bytes:
    """What `numbered` makes a container write."""
    return b"".join(line.format(number).encode() + b"\n" for number in range(1, count + 1))


def by_index(out: bytes) -> Dict[int, bytes]:
    """The output of each index, the prefixes taken off."""
    found: Dict[int, List[bytes]] = {}
    for line in out.splitlines(keepends=True):
        match = re.match(rb"\[(\d+)\] ", line)
        assert match, f"a line without its index: {line!r}"
        found.setdefault(int(match[1]), []).append(line[match.end() :])
    return {index: b"".join(lines) for index, lines in found.items()}


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
    except TimeoutError:
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
