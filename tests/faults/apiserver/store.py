"""All objects, and the history of their changes."""

from __future__ import annotations

import copy
import threading
from dataclasses import dataclass
from typing import Callable, Dict, List, Optional, Set

from .resources import Key, Obj, Predicate, owner_uids

FIRST_VERSION = 1000


@dataclass(frozen=True)
class Record:
    """One change, as watches tell it."""

    plural: str
    old: Optional[Obj]
    new: Optional[Obj]
    last: Obj  # the object after the change; a deleted one in its last shape


class Store:
    """All objects and the history of their changes. Objects in it are never changed in place."""

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.changed = threading.Condition(self.lock)
        self.objects: Dict[Key, Obj] = {}
        self.uids: Dict[str, Key] = {}
        self.owned: Dict[str, Set[Key]] = {}  # by the owner's UID
        self.history: List[Record] = []
        self.oldest = FIRST_VERSION  # watches from before this get 410
        self.listeners: List[Callable[[Record], None]] = []

    @property
    def version(self) -> int:
        """The resourceVersion of the latest change."""
        return FIRST_VERSION + len(self.history)

    def since(self, version: int) -> List[Record]:
        """The changes after a resourceVersion."""
        return self.history[max(0, version - FIRST_VERSION) :]

    def select(self, plural: str, namespace: Optional[str], accepts: Predicate) -> List[Obj]:
        """The objects of a kind that a predicate accepts, ordered by namespace and name."""
        keys = sorted(k for k in self.objects if k[0] == plural and namespace in (None, k[1]))
        return [self.objects[key] for key in keys if accepts(self.objects[key])]

    def by_uid(self, uid: str) -> Optional[Obj]:
        """The object with a UID."""
        return self.objects.get(self.uids.get(uid, ("", "", "")))

    def dependents(self, uid: str) -> List[Key]:
        """What names a UID as its owner."""
        return sorted(self.owned.get(uid, ()))

    def put(self, key: Key, obj: Obj) -> Obj:
        """Store an object under a new resourceVersion; nothing happens if nothing changed."""
        old = self.objects.get(key)
        if old == obj:
            return obj
        obj = copy.deepcopy(obj)
        obj["metadata"]["resourceVersion"] = str(self.version + 1)
        self.objects[key] = obj
        self.uids[obj["metadata"]["uid"]] = key
        self._index_owners(key, old, obj)
        self._record(Record(key[0], old, obj, obj))
        return obj

    def remove(self, key: Key) -> Obj:
        """Remove an object."""
        old = self.objects.pop(key)
        self.uids.pop(old["metadata"]["uid"])
        self._index_owners(key, old, None)
        last = copy.deepcopy(old)
        last["metadata"]["resourceVersion"] = str(self.version + 1)
        self._record(Record(key[0], old, None, last))
        return last

    def amend(self, key: Key, change: Callable[[Obj], None]) -> Obj:
        """Change a copy of an object and store it."""
        obj = copy.deepcopy(self.objects[key])
        change(obj)
        return self.put(key, obj)

    def _index_owners(self, key: Key, old: Optional[Obj], new: Optional[Obj]) -> None:
        for uid in owner_uids(old):
            self.owned[uid].discard(key)
        for uid in owner_uids(new):
            self.owned.setdefault(uid, set()).add(key)

    def _record(self, record: Record) -> None:
        self.history.append(record)
        self.changed.notify_all()
        for listener in self.listeners:
            listener(record)
