"""Names in the cluster: that pods find each other by them, and that no other name exists."""

from __future__ import annotations

import json

from support import ALPINE, Kubectl

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
