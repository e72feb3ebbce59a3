"""Deletion, and the garbage collector."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, Optional

from .resources import Key, Obj, key_of, now, owner_uids
from .scheduler import Steps
from .store import Record

if TYPE_CHECKING:
    from .cluster import FakeCluster


class Collector:
    """Deletes objects, and what they own."""

    def __init__(self, cluster: FakeCluster) -> None:
        self.cluster = cluster
        self.store = cluster.store

    def observe(self, record: Record) -> None:
        """Check the dependents of what is gone, and new objects that name an owner."""
        if record.new is None:
            for key in self.store.dependents(record.last["metadata"]["uid"]):
                self._check_later(key)
        elif record.old is None and owner_uids(record.new):
            self._check_later((record.plural, *key_of(record.new)))

    def delete(self, key: Key, policy: str = "Background", grace: Optional[int] = None) -> Obj:
        """Delete an object as a propagation policy says; returns its last shape."""
        obj = self.store.objects[key]
        if policy == "Orphan":
            self._orphan(obj["metadata"]["uid"])
        if policy == "Foreground" and key[0] != "pods":
            marked = self._mark(key, finalizers=["foregroundDeletion"])
            self.cluster.scheduler.spawn(self._foreground(key))
            return marked
        if key[0] == "pods" and grace != 0 and self._runs(obj):
            return self._delete_gracefully(key, obj)
        return self.store.remove(key)

    def _runs(self, pod: Obj) -> bool:
        ended = pod["status"]["phase"] in ("Succeeded", "Failed")
        return bool(pod["spec"].get("nodeName")) and not ended

    def _delete_gracefully(self, key: Key, pod: Obj) -> Obj:
        uid = pod["metadata"]["uid"]
        if "deletionTimestamp" in pod["metadata"]:
            return pod
        self.cluster.scheduler.spawn(self.cluster.kubelet.terminate(uid))
        return self._mark(key, deletionTimestamp=now(30), deletionGracePeriodSeconds=30)

    def _mark(self, key: Key, **more: Any) -> Obj:
        stamp = {"deletionTimestamp": now(), **more}
        return self.store.amend(key, lambda it: it["metadata"].update(stamp))

    def _orphan(self, uid: str) -> None:
        def change(obj: Obj) -> None:
            references = obj["metadata"]["ownerReferences"]
            obj["metadata"]["ownerReferences"] = [ref for ref in references if ref["uid"] != uid]

        for key in self.store.dependents(uid):
            self.store.amend(key, change)

    def _foreground(self, key: Key) -> Steps:
        uid = self.store.objects[key]["metadata"]["uid"]
        while self.store.dependents(uid):
            for dependent in self.store.dependents(uid):
                self.delete(dependent)
            yield self.cluster.timing.collect
        if self.store.by_uid(uid):
            self.store.remove(key)

    def _check_later(self, key: Key) -> None:
        self.cluster.scheduler.call(partial(self._check, key), self.cluster.timing.collect)

    def _check(self, key: Key) -> None:
        """Delete an object none of whose owners exists."""
        uids = owner_uids(self.store.objects.get(key))
        if uids and not any(self.store.by_uid(uid) for uid in uids):
            self.delete(key)
