#!/usr/bin/env python3
"""Records what a real cluster says of runs that cannot begin, for tests/unit/test_waiting.py.

    K8R_TEST_KUBECONFIG=FILE .venv/bin/python tests/e2e/record.py [NAME...]

makes each situation of `SITUATIONS` (or only those named) in a namespace of its own, waits until
the cluster gives the situation's reason, and writes tests/unit/recorded/NAME.json: the Job or
Deployment, its pod (null if it has none), and the events about the pod, or without one about the
Job, oldest first. The objects are as the server gives them, less their managedFields. The
situation "unschedulable-taint" adds for some seconds a Node that nothing runs on.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Dict, List, NamedTuple, Optional, Tuple

ROOT = Path(__file__).resolve().parents[2]
sys.path.append(str(ROOT / "tests"))

from common import until  # noqa: E402
from conftest import CLUSTER, make_namespace, remove_namespace  # noqa: E402
from support import ALPINE, IMPOSSIBLE_CPU, Kubectl, Object  # noqa: E402

RECORDED = ROOT / "tests" / "unit" / "recorded"
MISSING = "k8r-test/no-such-image:1"
TAINTED = "k8r-record"
SERVICE = ("--as-deployment", ALPINE)


class Situation(NamedTuple):
    """How to bring a situation about, and the `reason` in its objects by which it is known."""

    reason: str
    source: Tuple[str, ...] = (ALPINE,)
    command: Tuple[str, ...] = ("true",)
    patch: Optional[Object] = None
    before: Tuple[str, ...] = ()
    after: Tuple[str, ...] = ()


def main_with(**fields: object) -> Object:
    """A patch of the command's container."""
    return {"spec": {"containers": [{"name": "main", **fields}]}}


def init_with(image: str, *command: str) -> Object:
    """A patch that adds an init container."""
    return {"spec": {"initContainers": [{"name": "prepare", "image": image, "command": command}]}}


def mounting(**source: object) -> Object:
    """A patch that mounts a volume at /data."""
    patch = main_with(volumeMounts=[{"name": "data", "mountPath": "/data"}])
    patch["spec"]["volumes"] = [{"name": "data", **source}]
    return patch


def reading(**source: object) -> Object:
    """A patch that takes the variable WORD from an object."""
    return main_with(env=[{"name": "WORD", "valueFrom": source}])


SITUATIONS: Dict[str, Situation] = {
    "unschedulable-cpu": Situation("Unschedulable", (ALPINE, "--cpu", IMPOSSIBLE_CPU)),
    "unschedulable-memory": Situation("Unschedulable", (ALPINE, "--mem", "90000Gi")),
    "unschedulable-gpu": Situation("Unschedulable", (ALPINE, "--gpu", "1")),
    "unschedulable-node-selector": Situation(
        "Unschedulable", patch={"spec": {"nodeSelector": {"disk": "ssd"}}}
    ),
    "unschedulable-taint": Situation(
        "Unschedulable", patch={"spec": {"nodeSelector": {"kubernetes.io/hostname": TAINTED}}}
    ),
    "image-not-found": Situation("ErrImagePull", (MISSING,)),
    "image-not-found-back-off": Situation("ImagePullBackOff", (MISSING,)),
    "registry-refused": Situation("ErrImagePull", ("127.0.0.1:1/x",)),
    "image-never-pulled": Situation(
        "ErrImageNeverPull", (MISSING,), patch=main_with(imagePullPolicy="Never")
    ),
    "invalid-image-name": Situation("InvalidImageName", patch=main_with(image="Not/Valid")),
    "missing-configmap-env": Situation(
        "CreateContainerConfigError", patch=reading(configMapKeyRef={"name": "none", "key": "k"})
    ),
    "missing-secret-env": Situation(
        "CreateContainerConfigError", patch=reading(secretKeyRef={"name": "none", "key": "k"})
    ),
    "missing-secret-key": Situation(
        "CreateContainerConfigError",
        patch=reading(secretKeyRef={"name": "some", "key": "k"}),
        before=("create", "secret", "generic", "some", "--from-literal=other=1"),
    ),
    "missing-configmap-volume": Situation(
        "FailedMount", patch=mounting(configMap={"name": "none"})
    ),
    "missing-secret-volume": Situation(
        "FailedMount", patch=mounting(secret={"secretName": "none"})
    ),
    "missing-claim": Situation(
        "Unschedulable", patch=mounting(persistentVolumeClaim={"claimName": "none"})
    ),
    "root-refused": Situation(
        "CreateContainerConfigError", patch=main_with(securityContext={"runAsNonRoot": True})
    ),
    "quota": Situation("FailedCreate", before=("create", "quota", "none", "--hard=pods=0")),
    "quota-wants-limits": Situation(
        "FailedCreate", before=("create", "quota", "some", "--hard=limits.memory=1Gi")
    ),
    "quota-deployment": Situation(
        "FailedCreate", SERVICE, before=("create", "quota", "none", "--hard=pods=0")
    ),
    "pod-security": Situation(
        "FailedCreate",
        before=("label", "namespace", "{ns}", "pod-security.kubernetes.io/enforce=restricted"),
    ),
    "limit-range": Situation(
        "FailedCreate", (ALPINE, "--mem", "1Gi"), before=("create", "-f", "{limits}")
    ),
    "missing-service-account": Situation(
        "FailedCreate", patch={"spec": {"serviceAccountName": "none"}}
    ),
    "suspended": Situation(
        "JobSuspended",
        command=("sleep", "600"),
        after=("patch", "job", "alpine", "-p", '{"spec": {"suspend": true}}'),
    ),
    "init-fails": Situation("PodFailed", patch=init_with(ALPINE, "sh", "-c", "exit 3")),
    "init-runs": Situation("Started", patch=init_with(ALPINE, "sleep", "600")),
    "init-image-not-found": Situation("ImagePullBackOff", patch=init_with(MISSING, "true")),
    "init-crashes-deployment": Situation(
        "CrashLoopBackOff", SERVICE, patch=init_with(ALPINE, "sh", "-c", "exit 3")
    ),
    "no-such-command": Situation("StartError", command=("no-such-command",)),
    "no-such-command-deployment": Situation(
        "RunContainerError", SERVICE, command=("no-such-command",)
    ),
    "no-such-command-deployment-back-off": Situation(
        "CrashLoopBackOff", SERVICE, command=("no-such-command",)
    ),
    "crash-loop": Situation("CrashLoopBackOff", SERVICE, command=("sh", "-c", "exit 7")),
    "crash-loop-ends-well": Situation("BackOff", SERVICE),
}

OBJECTS: Dict[str, Object] = {
    "{limits}": {
        "apiVersion": "v1",
        "kind": "LimitRange",
        "metadata": {"name": "small"},
        "spec": {"limits": [{"type": "Container", "max": {"memory": "256Mi"}}]},
    },
    TAINTED: {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": TAINTED, "labels": {"kubernetes.io/hostname": TAINTED}},
        "spec": {"taints": [{"key": "dedicated", "value": "training", "effect": "NoSchedule"}]},
    },
}


def items(kubectl: Kubectl, *arguments: str) -> List[Object]:
    """The objects that `kubectl get` lists."""
    found: List[Object] = json.loads(kubectl("get", *arguments, "-o", "json"))["items"]
    for item in found:
        item["metadata"].pop("managedFields", None)
    return found


def snapshot(kubectl: Kubectl) -> Optional[Object]:
    """The run in a namespace, its pod, and the events about the one that is to be explained."""
    roots = items(kubectl, "jobs,deployments")
    if not roots:
        return None
    pods = [pod for pod in items(kubectl, "pods") if "deletionTimestamp" not in pod["metadata"]]
    pod = pods[0] if pods else None
    uid = (pod or roots[0])["metadata"]["uid"]
    events = items(kubectl, "events", f"--field-selector=involvedObject.uid={uid}")
    events.sort(key=lambda event: str(event.get("lastTimestamp") or ""))
    return {"root": roots[0], "pod": pod, "events": events}


def reached(kubectl: Kubectl, situation: Situation) -> Optional[Object]:
    """The snapshot, once the reason is in it, and for a suspended Job the pod is gone."""
    found = snapshot(kubectl)
    if not found or (found["root"]["spec"].get("suspend") and found["pod"]):
        return None
    # What a container waits for is in the events before it is in the pod.
    of_event = situation.reason in ("FailedMount", "FailedCreate", "Started", "BackOff")
    where = found if of_event or not found["pod"] else found["pod"]
    return found if f'"reason": "{situation.reason}"' in json.dumps(where) else None


def prepare(kubectl: Kubectl, words: Tuple[str, ...]) -> None:
    """Do with kubectl what a situation needs beside its run."""
    if not words:
        return
    content = json.dumps(OBJECTS.get(words[-1])).encode()
    words = tuple("-" if word in OBJECTS else word for word in words)
    kubectl(*(word.replace("{ns}", kubectl.namespace) for word in words), stdin=content)
    if "quota" in words:
        until(lambda: "hard" in items(kubectl, "quota")[0].get("status", {}), "the quota")


def start(kubectl: Kubectl, situation: Situation, folder: Path) -> "subprocess.Popen[bytes]":
    """Start the run with k8r, which waits for a Deployment even with -d."""
    options = ("-n", kubectl.namespace, "--kubeconfig", kubectl.kubeconfig, "-d", "--grace", "1h")
    if situation.patch:
        (folder / "patch.yaml").write_text(json.dumps(situation.patch))
        options += ("--patch", str(folder / "patch.yaml"))
    words = [str(ROOT / "k8r.py"), *situation.source, *options, "--", *situation.command]
    quiet = subprocess.DEVNULL
    return subprocess.Popen([sys.executable, *words], stdin=quiet, stdout=quiet, stderr=quiet)


def record(program: str, kubeconfig: str, name: str) -> None:
    """Bring one situation about, and write what the cluster says of it."""
    situation = SITUATIONS[name]
    kubectl = make_namespace(program, kubeconfig)
    tainted = TAINTED in json.dumps(situation.patch)
    if tainted:
        kubectl("create", "-f", "-", stdin=json.dumps(OBJECTS[TAINTED]).encode())
    try:
        with tempfile.TemporaryDirectory() as folder:
            prepare(kubectl, situation.before)
            with start(kubectl, situation, Path(folder)) as process:
                try:
                    until(lambda: snapshot(kubectl), f"the run of {name}")
                    prepare(kubectl, situation.after)
                    found = until(lambda: reached(kubectl, situation), situation.reason)
                finally:
                    process.terminate()
    finally:
        if tainted:
            kubectl("delete", "node", TAINTED)
        remove_namespace(kubectl)
    (RECORDED / f"{name}.json").write_text(json.dumps(found, indent=1, sort_keys=True) + "\n")


def main() -> None:
    """Record the situations that are named, or all."""
    RECORDED.mkdir(exist_ok=True)
    for name in sys.argv[1:] or SITUATIONS:
        print(name)
        record(str(CLUSTER / "kubectl"), os.environ["K8R_TEST_KUBECONFIG"], name)


if __name__ == "__main__":
    main()
