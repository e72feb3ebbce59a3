"""A real Kueue for these tests: who may use its one process, and queues in a test's namespace."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import subprocess
from pathlib import Path
from typing import Any, Dict, Iterator, List, Optional, Tuple

from support import ALPINE, Kubectl, Object, until

CLUSTER = Path(__file__).resolve().parent.parent / "cluster"
STATE = Path(os.environ.get("K8R_CLUSTER_STATE", "/var/lib/k8r-test-cluster"))
LABEL = "k8r-test-kueue"
"""The label of namespaces whose Jobs go through Kueue."""
GATED = "AdmissionGatedBy=true"
"""The feature gate of Kueue 0.19's default that 0.17 has off."""
QUEUE_LABEL = "kueue.x-k8s.io/queue-name"
FLAVOR = "k8r-test"
QUOTA = {"cpu": "100", "memory": "100Gi", "ephemeral-storage": "100Gi"}
"""More than any test needs: what is short is the number of pods."""


class NoKueue(Exception):
    """Kueue cannot be had here; the reason is for people."""


def script(name: str, *args: str) -> "subprocess.CompletedProcess[bytes]":
    """Run a script of tests/cluster to its end."""
    return subprocess.run(
        [str(CLUSTER / name), *args], stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=240
    )


def start(gates: Tuple[str, ...]) -> None:
    """Have Kueue run with these feature gates; raises NoKueue."""
    done = script("kueue-up", "--built", *gates)
    if done.returncode != 0:
        last = done.stderr.decode("utf-8", "replace").strip().splitlines()[-1:]
        raise NoKueue(" ".join(last))


@contextlib.contextmanager
def process(kubeconfig: str, gates: Tuple[str, ...], alone: bool) -> Iterator[None]:
    """Kueue with these gates for as long as the context lasts; raises NoKueue.

    There is one process for all workers of pytest. Tests that want the same gates use it together;
    one that wants others, or to be alone with it, waits until it has no users, and lets
    nobody begin before itself.
    """
    if Path(kubeconfig) != STATE / "kubeconfig":
        raise NoKueue("it runs beside the cluster of tests/cluster/up alone")
    with open(STATE / "kueue.use", "w") as use:
        with open(STATE / "kueue.turn", "w") as turn:
            fcntl.flock(turn, fcntl.LOCK_EX)
            fcntl.flock(use, fcntl.LOCK_SH)
            if alone or script("kueue-up", "--check", *gates).returncode != 0:
                fcntl.flock(use, fcntl.LOCK_EX)
                start(gates)
            if not alone:
                fcntl.flock(use, fcntl.LOCK_SH)
        try:
            yield
        finally:
            if alone:
                start(gates)


class Kueue:
    """Queues in one namespace, and what Kueue does with its Jobs."""

    def __init__(self, kubectl: Kubectl, gates: Tuple[str, ...]) -> None:
        self._kubectl = kubectl
        self._gates = gates
        self._queues: List[str] = []

    def manage(self, value: str = "named") -> None:
        """Put the namespace under Kueue: Jobs that name a queue, or with "all" every Job."""
        namespace = self._kubectl.namespace
        self._kubectl("label", "--overwrite", "namespace", namespace, f"{LABEL}={value}")

    def leave(self) -> None:
        """Take the namespace away from Kueue."""
        self._kubectl("label", "namespace", self._kubectl.namespace, f"{LABEL}-")

    def queue(self, name: str = "queue", pods: int = 1, **quota: str) -> str:
        """Make a queue that admits so many pods at a time; returns its name.

        Other quotas replace those of `QUOTA`. A queue named "default" is that of all Jobs.
        """
        cluster_queue = f"{self._kubectl.namespace}-{name}"
        resources = {**QUOTA, **quota, "pods": str(pods)}
        flavor = {
            "name": FLAVOR,
            "resources": [{"name": key, "nominalQuota": value} for key, value in resources.items()],
        }
        spec = {
            "namespaceSelector": {},
            "resourceGroups": [{"coveredResources": list(resources), "flavors": [flavor]}],
        }
        self._queues.append(cluster_queue)
        self._apply(
            self._object("ResourceFlavor", FLAVOR),
            {**self._object("ClusterQueue", cluster_queue), "spec": spec},
            {**self._object("LocalQueue", name), "spec": {"clusterQueue": cluster_queue}},
        )
        ready = "-o", 'jsonpath={.status.conditions[?(@.type=="Active")].status}'
        until(
            lambda: self._kubectl("get", "localqueue", name, *ready) == "True",
            f"the queue {name} to be active",
        )
        return name

    def job(self, name: str, queue: Optional[str], command: str, **metadata: Any) -> Object:
        """Make a Job of one pod that runs a shell command; returns it as the API server does."""
        container = {"name": "main", "image": ALPINE, "command": ["sh", "-c", command]}
        pod = {
            "restartPolicy": "Never",
            "terminationGracePeriodSeconds": 1,
            "containers": [container],
        }
        labels = {QUEUE_LABEL: queue} if queue else {}
        made = {
            "apiVersion": "batch/v1",
            "kind": "Job",
            "metadata": {"name": name, "labels": labels, **metadata},
            "spec": {"backoffLimit": 0, "template": {"spec": pod}},
        }
        text = self._kubectl("create", "-f", "-", "-o", "json", stdin=json.dumps(made).encode())
        created: Object = json.loads(text)
        return created

    def block(self, queue: str, name: str = "blocker") -> str:
        """Use up a queue of one pod, until `unblock`; returns the pod's name."""
        self.job(name, queue, "exec sleep 3600")
        return self._kubectl.running_pod(name)

    def unblock(self, name: str = "blocker") -> None:
        """Free what `block` has used; Kueue notices within a few seconds."""
        self._kubectl("delete", "job", name)

    def drain(self, name: str = "queue") -> None:
        """Admit nothing more from a queue, and evict what runs."""
        self._stop_policy(name, "HoldAndDrain")

    def resume(self, name: str = "queue") -> None:
        """Admit again."""
        self._stop_policy(name, "None")

    def workload(self, job: str) -> Object:
        """The Workload of a Job; {} as long as there is none."""
        for workload in self._kubectl.items("workloads.kueue.x-k8s.io"):
            owners = workload["metadata"].get("ownerReferences", [])
            if any(owner["kind"] == "Job" and owner["name"] == job for owner in owners):
                return workload
        return {}

    def condition(self, job: str, kind: str) -> Dict[str, str]:
        """A condition of a Job's Workload, such as QuotaReserved; {} as long as there is none."""
        for condition in self.workload(job).get("status", {}).get("conditions", []):
            if condition["type"] == kind:
                found: Dict[str, str] = condition
                return found
        return {}

    def stop(self) -> None:
        """Stop the process, so that no Job can be made; for a test that is alone with it."""
        done = script("kueue-down")
        assert done.returncode == 0, done.stderr.decode()

    def start(self) -> None:
        """Start it again."""
        start(self._gates)

    def remove(self) -> None:
        """Remove in the background what is not in the namespace itself."""
        if self._queues:
            self._kubectl("delete", "clusterqueue", *self._queues, "--wait=false")

    def _stop_policy(self, name: str, policy: str) -> None:
        patch = json.dumps({"spec": {"stopPolicy": policy}})
        cluster_queue = f"{self._kubectl.namespace}-{name}"
        self._kubectl("patch", "clusterqueue", cluster_queue, "--type=merge", "-p", patch)

    def _apply(self, *objects: Object) -> None:
        text = json.dumps({"apiVersion": "v1", "kind": "List", "items": objects})
        self._kubectl("apply", "--server-side", "-f", "-", stdin=text.encode())

    @staticmethod
    def _object(kind: str, name: str) -> Object:
        metadata = {"name": name}
        return {"apiVersion": "kueue.x-k8s.io/v1beta2", "kind": kind, "metadata": metadata}
