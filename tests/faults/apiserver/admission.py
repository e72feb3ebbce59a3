"""What becomes of an object before it is stored: defaults, patches, refusals."""

from __future__ import annotations

import base64
import json
import re
from typing import Any

from .messages import ApiError
from .resources import Obj, Resource

VALUE_LIMIT = 1024 * 1024


def merge_patch(target: Any, patch: Any) -> Any:
    """RFC 7396."""
    if not isinstance(patch, dict):
        return patch
    merged = dict(target) if isinstance(target, dict) else {}
    for name, value in patch.items():
        if value is None:
            merged.pop(name, None)
        else:
            merged[name] = merge_patch(merged.get(name), value)
    return merged


def check(resource: Resource, obj: Obj) -> None:
    """Refuse what the real server finds invalid, as far as these tests need it."""
    name = obj["metadata"]["name"]
    limit = 63 if resource.plural in ("jobs", "services", "namespaces") else 253
    problem = ""
    if len(name) > limit or not re.fullmatch(r"[a-z0-9]([-a-z0-9.]*[a-z0-9])?", name):
        problem = f"metadata.name: Invalid value: {json.dumps(name)}"
    elif resource.plural in ("configmaps", "secrets") and data_size(resource, obj) > VALUE_LIMIT:
        problem = f"data: Too long: may not be more than {VALUE_LIMIT} bytes"
    elif resource.plural == "jobs":
        policy = obj["spec"].get("template", {}).get("spec", {}).get("restartPolicy")
        if policy not in ("Never", "OnFailure"):
            problem = 'spec.template.spec.restartPolicy: Required value: valid values: "OnFailure"'
        elif obj["spec"].get("podFailurePolicy") and policy != "Never":
            problem = 'spec.template.spec.restartPolicy: Invalid value: only "Never" is supported'
    if problem:
        kind = f"{resource.kind}.{resource.group}" if resource.group else resource.kind
        raise ApiError(422, f'{kind} "{name}" is invalid: {problem}')


def data_size(resource: Resource, obj: Obj) -> int:
    """The bytes that a ConfigMap or Secret holds, keys not counted."""
    encoded = [*(obj.get("binaryData") or {}).values()]
    plain = [*(obj.get("data") or {}).values()]
    if resource.plural == "secrets":
        encoded, plain = plain, []
    sizes = [len(base64.b64decode(value)) for value in encoded]
    return sum(sizes) + sum(len(value.encode("utf-8")) for value in plain)


def fill_defaults(resource: Resource, obj: Obj) -> None:
    """Set what the real server sets when an object is created."""
    if resource.plural == "secrets":
        obj.setdefault("type", "Opaque")
        for name, value in (obj.pop("stringData", None) or {}).items():
            data = base64.b64encode(value.encode("utf-8")).decode("ascii")
            obj.setdefault("data", {})[name] = data
    elif resource.plural == "pods":
        obj["spec"].setdefault("restartPolicy", "Always")
        obj["status"] = {"phase": "Pending", "qosClass": "BestEffort"}
    elif resource.plural in ("deployments", "replicasets"):
        obj["spec"].setdefault("replicas", 1)
        obj["status"] = {}
    elif resource.plural == "jobs":
        fill_job_defaults(obj)


def fill_job_defaults(job: Obj) -> None:
    """The same for a Job, the labels of its pods included."""
    spec, uid, name = job["spec"], job["metadata"]["uid"], job["metadata"]["name"]
    spec.setdefault("parallelism", 1)
    spec.setdefault("completions", spec["parallelism"])
    spec.setdefault("backoffLimit", 6 if spec.get("backoffLimitPerIndex") is None else 2**31 - 1)
    spec.setdefault("completionMode", "NonIndexed")
    spec.setdefault("suspend", False)
    spec["selector"] = {"matchLabels": {"batch.kubernetes.io/controller-uid": uid}}
    meta = spec.setdefault("template", {}).setdefault("metadata", {})
    own = {"batch.kubernetes.io/job-name": name, "batch.kubernetes.io/controller-uid": uid}
    own.update({"job-name": name, "controller-uid": uid})
    meta["labels"] = {**(meta.get("labels") or {}), **own}
    job["status"] = {}
