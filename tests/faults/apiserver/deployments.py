"""The Deployment controller, and that of ReplicaSets."""

from __future__ import annotations

import copy
import hashlib
import json
from functools import partial
from typing import TYPE_CHECKING

from .resources import NOBODY, RESOURCES, Key, Obj, has_condition, key_of, owner_reference
from .resources import owner_uids, set_condition
from .store import Record

if TYPE_CHECKING:
    from .cluster import FakeCluster


class DeploymentController:
    """Keeps one ReplicaSet per pod template of a Deployment, and its pods."""

    def __init__(self, cluster: FakeCluster) -> None:
        self.cluster = cluster
        self.store = cluster.store

    def observe(self, record: Record) -> None:
        """Look again at what may be affected by a change."""
        call = self.cluster.scheduler.call
        if record.plural == "deployments" and record.new is not None:
            call(partial(self._reconcile_deployment, record.last["metadata"]["uid"]))
        elif record.plural == "replicasets" and record.new is not None:
            call(partial(self._reconcile_set, record.last["metadata"]["uid"]))
        for uid in owner_uids(record.last):
            owner = self.store.by_uid(uid)
            if owner and owner["kind"] == "ReplicaSet" and record.plural == "pods":
                call(partial(self._reconcile_set, uid))
            elif owner and owner["kind"] == "Deployment" and record.plural == "replicasets":
                call(partial(self._reconcile_deployment, uid))

    def _reconcile_deployment(self, uid: str) -> None:
        deployment = self.store.by_uid(uid)
        if deployment is None:
            return
        template = deployment["spec"]["template"]
        digest = hashlib.sha256(json.dumps(template, sort_keys=True).encode()).hexdigest()[:10]
        namespace, name = key_of(deployment)
        current: Key = ("replicasets", namespace, f"{name}-{digest}")
        if current not in self.store.objects:
            self._make_set(deployment, digest, current)
        for key in self.store.dependents(uid):
            if key[0] == "replicasets":
                wanted = deployment["spec"]["replicas"] if key == current else 0
                self.store.amend(key, lambda it: it["spec"].update(replicas=wanted))
        counts = self.store.objects[current]["status"]

        def change(it: Obj) -> None:
            ready, replicas = counts.get("readyReplicas", 0), counts.get("replicas", 0)
            it["status"].update(replicas=replicas, updatedReplicas=replicas, readyReplicas=ready)
            it["status"].update(availableReplicas=ready)
            it["status"]["observedGeneration"] = it["metadata"]["generation"]
            enough = "True" if ready >= it["spec"]["replicas"] else "False"
            set_condition(it["status"], "Available", enough, "MinimumReplicas", "")
            set_condition(it["status"], "Progressing", "True", "NewReplicaSetAvailable", "")

        self.store.amend(("deployments", namespace, name), change)

    def _make_set(self, deployment: Obj, digest: str, key: Key) -> None:
        spec = copy.deepcopy(deployment["spec"])
        labels = {**(spec["template"]["metadata"].get("labels") or {}), "pod-template-hash": digest}
        spec["template"]["metadata"]["labels"] = labels
        meta = {"labels": labels, "ownerReferences": [owner_reference(deployment)]}
        made = {"metadata": meta, "spec": {name: spec[name] for name in ("replicas", "template")}}
        self.cluster.api.store_new(RESOURCES["replicasets"], key[1], {**made, "status": {}}, key[2])

    def _reconcile_set(self, uid: str) -> None:
        owner = self.store.by_uid(uid)
        if owner is None:
            return
        keys = [key for key in self.store.dependents(uid) if key[0] == "pods"]
        pods = [self.store.objects[key] for key in keys]
        alive = [pod for pod in pods if "deletionTimestamp" not in pod["metadata"]]
        wanted = owner["spec"]["replicas"]
        for pod in alive[wanted:]:
            self.cluster.collector.delete(("pods", *key_of(pod)))
        for _ in range(wanted - len(alive)):
            self._start_pod(owner)
        ready = sum(has_condition(pod, "Ready") for pod in alive[:wanted])
        counts = {"replicas": wanted, "readyReplicas": ready, "availableReplicas": ready}
        self.store.amend(self.store.uids[uid], lambda it: it["status"].update(counts))

    def _start_pod(self, owner: Obj) -> None:
        name = owner["metadata"]["name"]
        above = [ref["name"] for ref in owner["metadata"].get("ownerReferences") or ()]
        controller = above[0] if above else name
        script = self.cluster.script(controller, NOBODY, 0)
        pod = self.cluster.make_pod(owner, owner["spec"]["template"], f"{name}-", {}, script)
        self.cluster.kubelet.start(pod, controller, NOBODY, 0)
