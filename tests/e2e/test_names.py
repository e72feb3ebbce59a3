"""Names in the cluster: that pods find each other by them, and that no other name exists."""

from __future__ import annotations

import json

from typing import TYPE_CHECKING

import pytest

from common import until
from support import ALPINE, GATE, Kubectl, nothing_left, read_until

if TYPE_CHECKING:
    from tests.conftest import Cli

LOOK = (
    "until nslookup ring-0.ring.{namespace}.svc.cluster.local >/tmp/answer; do sleep 0.2; done; "
    "ping -c 1 -W 10 ring-0.ring && ! nslookup k8r-test.invalid"
)


def test_pods_find_each_other(kubectl: Kubectl) -> None:
    """Each pod of an Indexed Job has a name of its own in a headless Service."""
    container = {
        "name": "main",
        "image": ALPINE,
        "command": ["sh", "-c", LOOK.format(namespace=kubectl.namespace)],
    }
    pod = {"subdomain": "ring", "restartPolicy": "Never", "containers": [container]}
    service = {
        "clusterIP": "None",
        "publishNotReadyAddresses": True,
        "selector": {"job-name": "ring"},
    }
    job = {
        "completions": 3,
        "parallelism": 3,
        "completionMode": "Indexed",
        "backoffLimit": 0,
        "template": {"spec": pod},
    }
    metadata = {"name": "ring"}
    items = [
        {"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": service},
        {"apiVersion": "batch/v1", "kind": "Job", "metadata": metadata, "spec": job},
    ]
    text = json.dumps({"apiVersion": "v1", "kind": "List", "items": items})
    kubectl("create", "-f", "-", stdin=text.encode())
    kubectl("wait", "--for=condition=Complete", "job/ring", "--timeout=60s")


@pytest.mark.parametrize("when", ["before k8r follows", "while k8r follows"])
def test_a_pod_whose_labels_others_change(run: Cli, kubectl: Kubectl, when: str) -> None:
    """k8r finds it by what the Job itself finds it by: its log, its end, and what `ls` says."""
    command = ("--", "sh", "-c", "echo begun; " + GATE)
    assert run(ALPINE, "-d", "--job-name", "labelled", *command).code == 0
    pod = kubectl.running_pod("labelled")
    process = run.start("logs", "-f", "labelled")
    if when == "while k8r follows":
        read_until(process.stdout, b"begun\n")
    kubectl("label", "pod", pod, "k8r-job-", "created-by=policy", "--overwrite")
    kubectl.release(pod, 3)
    ended = run.finish(process)
    begun = b"" if when == "while k8r follows" else b"begun\n"
    assert (ended.code, ended.out) == (3, begun + b"released\n"), ended.err

    def probe() -> bool:
        [row] = json.loads(run("ls", "-o", "json").out)
        return bool((row["status"], row["exit_code"]) == ("Failed: exit code 3", 3))

    until(probe, "its end in ls")
    assert run("logs", "labelled").text == "begun\nreleased\n"
    assert run("rm", "labelled").code == 0
    nothing_left(kubectl)
