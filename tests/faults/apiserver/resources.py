"""Kinds of objects, and what the parts of the cluster ask and write in them."""

from __future__ import annotations

import random
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from typing import Any, Callable, Dict, List, Optional, Tuple

Obj = Dict[str, Any]
Key = Tuple[str, str, str]  # plural, namespace, name
Predicate = Callable[[Obj], bool]


@dataclass(frozen=True)
class Resource:
    """A kind of object and where it lives."""

    plural: str
    kind: str
    group: str = ""
    namespaced: bool = True
    status: bool = False  # has a status that ordinary writes leave alone

    @property
    def api_version(self) -> str:
        """Such as batch/v1."""
        return f"{self.group}/v1" if self.group else "v1"

    @property
    def qualified(self) -> str:
        """The name in messages, such as jobs.batch."""
        return f"{self.plural}.{self.group}" if self.group else self.plural


RESOURCES = {
    resource.plural: resource
    for resource in (
        Resource("jobs", "Job", "batch", status=True),
        Resource("pods", "Pod", status=True),
        Resource("configmaps", "ConfigMap"),
        Resource("secrets", "Secret"),
        Resource("events", "Event"),
        Resource("services", "Service"),
        Resource("serviceaccounts", "ServiceAccount"),
        Resource("namespaces", "Namespace", namespaced=False, status=True),
        Resource("deployments", "Deployment", "apps", status=True),
        Resource("replicasets", "ReplicaSet", "apps", status=True),
    )
}

NOBODY = -1  # the index of a pod whose Job is not Indexed
FOREVER = 1e8


def now(later: float = 0.0) -> str:
    """The present moment, or one some seconds later, as Kubernetes writes it, in whole seconds."""
    moment = datetime.now(timezone.utc) + timedelta(seconds=later)
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


def nano_stamp(stamp: int) -> str:
    """Nanoseconds since the epoch as the kubelet writes them: nine digits, always."""
    seconds, nanos = divmod(stamp, 10**9)
    moment = datetime.fromtimestamp(seconds, timezone.utc)
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{nanos:09d}Z"


def owner_uids(obj: Optional[Obj]) -> List[str]:
    """The UIDs that an object names as its owners."""
    return [
        ref["uid"] for ref in (obj or {"metadata": {}})["metadata"].get("ownerReferences") or ()
    ]


def owner_reference(owner: Obj) -> Obj:
    """The reference that a controller puts into what it creates."""
    return {
        "apiVersion": owner["apiVersion"],
        "kind": owner["kind"],
        "name": owner["metadata"]["name"],
        "uid": owner["metadata"]["uid"],
        "controller": True,
        "blockOwnerDeletion": True,
    }


def key_of(obj: Obj) -> Tuple[str, str]:
    """Namespace and name of an object."""
    return obj["metadata"].get("namespace", ""), obj["metadata"]["name"]


def condition(kind: str, status: str = "True", reason: str = "", message: str = "") -> Obj:
    """An entry for status.conditions."""
    made = {"type": kind, "status": status, "lastProbeTime": now(), "lastTransitionTime": now()}
    return {**made, **({"reason": reason, "message": message} if reason else {})}


def has_condition(obj: Obj, *kinds: str) -> bool:
    """Whether one of these conditions is true."""
    conditions = obj.get("status", {}).get("conditions", ())
    return any(item["type"] in kinds and item["status"] == "True" for item in conditions)


def set_condition(status: Obj, kind: str, value: str, reason: str, message: str) -> None:
    """Set one of status.conditions; an equal one keeps its times."""
    conditions = status.setdefault("conditions", [])
    if not any(item["type"] == kind and item["status"] == value for item in conditions):
        conditions[:] = [item for item in conditions if item["type"] != kind]
        conditions.append(condition(kind, value, reason, message))


def unique(prefix: str) -> str:
    """A name as generateName makes them."""
    return prefix + "".join(random.choice("bcdfghjklmnpqrstvwxz2456789") for _ in range(5))
