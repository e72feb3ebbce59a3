"""--patch: that k8r merges as kubectl does."""

from __future__ import annotations

from typing import Any, Dict

import pytest

import k8r
from oracle import Oracle

MAIN = {
    "name": "main",
    "image": "x",
    "env": [{"name": "A", "value": "1"}],
    "ports": [{"containerPort": 80}],
    "volumeMounts": [{"name": "workspace", "mountPath": "/workspace"}],
}
TEMPLATE = {
    "metadata": {"labels": {"a": "b"}, "annotations": {"c": "d"}},
    "spec": {
        "containers": [MAIN],
        "volumes": [{"name": "workspace", "emptyDir": {}}],
        "imagePullSecrets": [{"name": "pull"}],
    },
}


def main(**fields: Any) -> Dict[str, Any]:
    """A patch of the container."""
    return {"spec": {"containers": [{"name": "main", **fields}]}}


PATCHES: Dict[str, Any] = {
    "nothing": {},
    "labels": {"metadata": {"labels": {"a": None, "e": "f"}}},
    "two mounts of one volume": main(
        volumeMounts=[
            {"name": "workspace", "mountPath": "/a", "subPath": "a"},
            {"name": "workspace", "mountPath": "/b"},
        ]
    ),
    "another volume in its place": main(
        volumeMounts=[{"name": "other", "mountPath": "/workspace"}],
    ),
    "a device": main(volumeDevices=[{"name": "disk", "devicePath": "/dev/a"}]),
    "a port": main(ports=[{"containerPort": 80, "name": "web"}, {"containerPort": 81}]),
    "a variable": main(env=[{"name": "A", "value": "2"}, {"name": "B", "value": "3"}]),
    "no variable": main(env=[{"name": "A", "$patch": "delete"}]),
    "other variables": main(env=[{"$patch": "replace"}, {"name": "B", "value": "3"}]),
    "no variables": main(env=None),
    "arguments": main(args=["a", "b"]),
    "a sidecar": {"spec": {"initContainers": [{"name": "s", "restartPolicy": "Always"}]}},
    "hosts": {"spec": {"hostAliases": [{"ip": "10.0.0.1", "hostnames": ["a"]}]}},
    "tolerations": {"spec": {"tolerations": [{"key": "a", "operator": "Exists"}]}},
    "spread": {
        "spec": {"topologySpreadConstraints": [{"topologyKey": "zone", "maxSkew": 1}]},
    },
    "secrets": {"spec": {"imagePullSecrets": [{"name": "other"}]}},
    "a volume": {"spec": {"volumes": [{"name": "workspace", "emptyDir": {"medium": "Memory"}}]}},
    "resources": main(resources={"limits": {"cpu": "1"}}),
    "a part that is replaced": {"metadata": {"labels": {"$patch": "replace", "x": "y"}}},
    "a part that goes": {"metadata": {"annotations": {"$patch": "delete"}}},
}


def arrange(value: Any, field: str = "") -> Any:
    """The same with merged lists in one order, for the original puts new elements first."""
    if isinstance(value, dict):
        return {key: arrange(item, key) for key, item in value.items()}
    if field in k8r.MERGE_KEYS:
        key = k8r.MERGE_KEYS[field][0]
        return sorted((arrange(item) for item in value), key=lambda item: str(item[key]))
    return value


@pytest.mark.parametrize("patch", PATCHES.values(), ids=PATCHES)
def test_a_patch(oracle: Oracle, patch: Any) -> None:
    """Objects by key, lists by element, and what `$patch` says."""
    answer = oracle.patch(TEMPLATE, patch)
    assert arrange(k8r.merge(TEMPLATE, patch)) == arrange(answer["result"])
