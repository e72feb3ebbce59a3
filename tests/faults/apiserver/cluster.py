"""The whole: the simulated cluster, and what tests do with it."""

from __future__ import annotations

import copy
import time
import uuid
from typing import Any, Dict, List, Mapping, Optional, Sequence, Set, Tuple

from .api import Api
from .collector import Collector
from .deployments import DeploymentController
from .jobs import JobController
from .kubelet import Kubelet, with_foreign
from .messages import Answer, Request
from .resources import RESOURCES, Obj, key_of, now, owner_reference, unique
from .routes import Route
from .scheduler import Scheduler
from .scripts import PodScript, Timing
from .server import Server
from .store import Store


class FakeCluster(Server):
    """The cluster that tests hold in their hands; a context manager.

    The scripts given here are played for every pod that `play` says nothing about: the first
    for a first attempt, the next for the next, the last one for all that follow.
    """

    def __init__(
        self,
        *scripts: PodScript,
        timing: Optional[Timing] = None,
        tokens: Optional[Set[str]] = None,
        stamp_partials: bool = False,
    ) -> None:
        super().__init__()
        self.timing = timing or Timing()
        self.tokens = tokens  # the valid bearer tokens; None: nobody has to show one
        self.stamp_partials = stamp_partials  # timestamps in mid-line, as old kubelets do
        self.minor = "37"  # what /version says, such as "28+"
        self.denied: Set[str] = set()  # such as "create jobs" or "get pods/log"
        self.store = Store()
        self.scheduler = Scheduler(self.store, self.crashes)
        self.kubelet = Kubelet(self)
        self.jobs = JobController(self)
        self.deployments = DeploymentController(self)
        self.collector = Collector(self)
        self.api = Api(self)
        self._scripts: Dict[Tuple[Optional[str], Optional[int]], Sequence[PodScript]] = {
            (None, None): scripts or (PodScript(),)
        }

    # life

    def __enter__(self) -> FakeCluster:
        parts = (self.kubelet, self.jobs, self.deployments, self.collector)
        self.store.listeners.extend(part.observe for part in parts)
        with self.store.lock:
            for name in ("default", "kube-system"):
                self.api.store_new(RESOURCES["namespaces"], "", {}, name)
                self.api.store_new(RESOURCES["serviceaccounts"], name, {}, "default")
        self.scheduler.start()
        self.open()
        return self

    def __exit__(self, kind: Any, *_: Any) -> None:
        self.scheduler.stop()
        self.close()
        self.scheduler.join(2.0)
        if kind is None:
            self.check()

    def handle(self, request: Request) -> Answer:
        """Answer as a Kubernetes API server does."""
        return self.api.handle(request)

    # what tests prepare

    def play(
        self, *scripts: PodScript, job: Optional[str] = None, index: Optional[int] = None
    ) -> None:
        """Say what the pods of one Job (or Deployment, or one pod), of one index, or both do.

        One script for each attempt; the last one is repeated.
        """
        self._scripts[job, index] = scripts

    def compact(self) -> None:
        """Forget the history: watches and list pages from before this moment get 410."""
        mark = {"annotations": {"compacted-at": str(self.store.version)}}
        with self.store.lock:
            self.store.amend(
                ("namespaces", "", "kube-system"), lambda it: it["metadata"].update(mark)
            )
            self.store.oldest = self.store.version

    # what tests do as somebody else

    def create(self, plural: str, obj: Obj, namespace: str = "default") -> Obj:
        """Create an object without a recorded request."""
        return self._ask("POST", plural, namespace, "", obj)

    def patch(self, plural: str, name: str, patch: Obj, namespace: str = "default") -> Obj:
        """Merge-patch an object without a recorded request."""
        return self._ask("PATCH", plural, namespace, name, patch)

    def delete(self, plural: str, name: str, namespace: str = "default", **options: Any) -> Obj:
        """Delete an object without a recorded request; Background unless options say else."""
        options.setdefault("propagationPolicy", "Background")
        return self._ask("DELETE", plural, namespace, name, options)

    def evict(
        self, name: str, reason: str = "EvictionByEvictionAPI", namespace: str = "default"
    ) -> None:
        """Delete a pod as the cluster does, which says why."""
        with self.store.lock:
            key = ("pods", namespace, name)
            self.kubelet.disrupt(self.store.objects[key]["metadata"]["uid"], reason)
            self.collector.delete(key)

    def _ask(self, method: str, plural: str, namespace: str, name: str, body: Obj) -> Obj:
        resource = RESOURCES[plural]
        route = Route(resource, namespace if resource.namespaced else "", name, "")
        headers = {"content-type": "application/merge-patch+json"}
        request = Request(0, time.time(), method, "", {}, headers, body)
        answer = self.api.direct(route, request)
        assert isinstance(answer.body, dict)
        return copy.deepcopy(answer.body)

    # what tests look at

    def objects(self, plural: str, namespace: Optional[str] = None) -> List[Obj]:
        """Copies of the objects of a kind, such as "jobs"."""
        with self.store.lock:
            return copy.deepcopy(self.store.select(plural, namespace, lambda obj: True))

    # what the parts of the cluster use

    def script(self, name: str, index: int, attempt: int) -> PodScript:
        """The script for a pod of this controller, this index, this attempt."""
        for key in ((name, index), (name, None), (None, index), (None, None)):
            if key in self._scripts:
                scripts = self._scripts[key]
                return scripts[min(attempt, len(scripts) - 1)]
        raise AssertionError("the last key is always there")

    def make_pod(
        self,
        owner: Obj,
        template: Obj,
        prefix: str,
        annotations: Mapping[str, str],
        script: PodScript,
    ) -> Obj:
        """Create a pod for a controller, its annotations as labels too."""
        given = template.get("metadata") or {}
        meta = {
            "labels": {**(given.get("labels") or {}), **annotations},
            "annotations": {**(given.get("annotations") or {}), **annotations},
            "ownerReferences": [owner_reference(owner)],
            "generateName": prefix,
        }
        pod = {"metadata": meta, "spec": with_foreign(template["spec"], script)}
        return self.api.store_new(RESOURCES["pods"], key_of(owner)[0], pod, unique(prefix))

    def emit(self, about: Obj, reason: str, message: str, kind: str = "Normal") -> None:
        """Store an event."""
        namespace, name = key_of(about)
        meta, moment = about["metadata"], now()
        made = {
            "metadata": {},
            "involvedObject": {
                "kind": about["kind"],
                "apiVersion": about["apiVersion"],
                "namespace": namespace,
                "name": name,
                "uid": meta["uid"],
            },
            "reason": reason,
            "message": message,
            "type": kind,
            "count": 1,
            "firstTimestamp": moment,
            "lastTimestamp": moment,
            "source": {"component": "fake"},
        }
        self.api.store_new(RESOURCES["events"], namespace, made, f"{name}.{uuid.uuid4().hex[:16]}")
