"""What k8r says of runs that cannot begin, from objects that a real cluster has given.

tests/e2e/record.py has made the files in recorded/ and says what is in them.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Dict, Tuple

import pytest

import k8r

RECORDED = Path(__file__).with_name("recorded")
MISSING = "the image k8r-test/no-such-image:1 cannot be pulled: "
NOT_FOUND = "docker.io/k8r-test/no-such-image:1: not found"
REFUSED = "the cluster refuses its pod: "
CRASHES = "its command ends again and again: "

# What must be said, part by part, and whether waiting alone will not mend it.
WAITS: Dict[str, Tuple[Tuple[str, ...], bool]] = {
    "unschedulable-cpu": (("cpu",), False),
    "unschedulable-memory": (("memory",), False),
    "unschedulable-gpu": (("nvidia.com/gpu",), False),
    "unschedulable-node-selector": (("selector",), False),
    "unschedulable-taint": (("taint",), False),
    "image-not-found": ((MISSING, NOT_FOUND), True),
    "image-not-found-back-off": ((MISSING, NOT_FOUND), True),
    "registry-refused": (
        ("the image 127.0.0.1:1/x cannot be pulled: ", "127.0.0.1:1/x:latest: not found"),
        True,
    ),
    "invalid-image-name": (("'Not/Valid' is not a valid image name",), True),
    "init-image-not-found": (("cannot be pulled: ", NOT_FOUND), True),
    "missing-configmap-env": (('configmap "none" not found',), True),
    "missing-secret-env": (('secret "none" not found',), True),
    "missing-secret-key": (("couldn't find key k in Secret ", "/some"), True),
    "missing-configmap-volume": (("volume", '"data"', 'configmap "none" not found'), True),
    "missing-secret-volume": (("volume", '"data"', 'secret "none" not found'), True),
    "root-refused": (("runAsNonRoot and image will run as root",), True),
    "quota": (
        (REFUSED, "exceeded quota: none, requested: pods=1, used: pods=0, limited: pods=0"),
        True,
    ),
    "quota-deployment": (
        (REFUSED, "exceeded quota: none, requested: pods=1, used: pods=0, limited: pods=0"),
        True,
    ),
    "quota-wants-limits": (
        (REFUSED, "failed quota: some: must specify limits.memory for: main"),
        True,
    ),
    "pod-security": (
        (REFUSED, 'violates PodSecurity "restricted:latest"', "runAsNonRoot=true"),
        True,
    ),
    "limit-range": (
        (REFUSED, "maximum memory usage per Container is 256Mi, but limit is 1Gi"),
        True,
    ),
    "missing-service-account": ((REFUSED, 'serviceaccount "none" not found'), True),
    "suspended": (("the Job is suspended, a queue may be holding it back",), False),
    "crash-loop": ((CRASHES + "exit code 7",), True),
    "crash-loop-ends-well": ((CRASHES + "exit code 0",), True),
}

# What must be said without a word of the machinery, and what must not.
PLAIN: Dict[str, Tuple[Tuple[str, ...], Tuple[str, ...], bool]] = {
    "missing-claim": (('volume claim "none" does not exist',), ("no node can",), True),
    "unschedulable-node-selector": (("disk=ssd",), (), False),
    "init-runs": (("init container prepare",), ("pulls",), False),
    "init-crashes-deployment": (("init container prepare", "exit code 3"), ("its command",), True),
    "init-image-not-found": (("init container prepare", NOT_FOUND), ("rpc error",), True),
    "no-such-command-deployment": (
        ("cannot be started", '"no-such-command": executable file not found in $PATH'),
        ("again and again", "OCI runtime"),
        True,
    ),
    "no-such-command-deployment-back-off": (
        ("cannot be started", '"no-such-command": executable file not found in $PATH'),
        ("again and again", "OCI runtime"),
        True,
    ),
    "crash-loop-ends-well": (("exit code 0", "a Deployment's command must not end"), (), True),
    "image-not-found": ((MISSING + NOT_FOUND,), ("rpc error",), True),
    "image-not-found-back-off": ((MISSING + NOT_FOUND,), ("rpc error", "Back-off"), True),
    "registry-refused": (("127.0.0.1:1/x:latest: not found",), ("rpc error",), True),
    "image-never-pulled": (("is not present",), ("cannot be pulled",), True),
    "root-refused": (("root", "--restricted"), ("(pod: ",), True),
    "quota": ((REFUSED + "exceeded quota",), ("alpine-",), True),
    "quota-deployment": ((REFUSED + "exceeded quota",), ("alpine-",), True),
    "quota-wants-limits": ((REFUSED, "--mem"), ("alpine-",), True),
    "limit-range": ((REFUSED + "maximum memory usage",), ("alpine-",), True),
    "pod-security": ((REFUSED, "--restricted"), ("alpine-",), True),
    "missing-service-account": ((REFUSED, 'serviceaccount "none" not found'), ("alpine-",), True),
}

# Pods that will not be tried again: what the end of the run says of them.
OUTCOMES = {
    "init-fails": "init container prepare: exit code 3",
    "no-such-command": (
        'exit code 128 (StartError: exec: "no-such-command": ' "executable file not found in $PATH)"
    ),
}


def load(name: str) -> Dict[str, Any]:
    """A recorded situation."""
    found: Dict[str, Any] = json.loads((RECORDED / f"{name}.json").read_text("utf-8"))
    return found


@pytest.mark.parametrize("name", list(WAITS))
def test_a_run_that_waits(name: str) -> None:
    """The reason is said, and whether it is hopeless."""
    recorded, (parts, fatal) = load(name), WAITS[name]
    pod, events = recorded["pod"], recorded["events"]
    assert not pod or k8r.is_idle(pod)
    found = k8r.explain_pod(pod, events) if pod else k8r.explain_root(recorded["root"], events)
    assert found is not None and found.fatal == fatal
    for part in parts:
        assert part in found.text
    assert "\n" not in found.text


@pytest.mark.parametrize("name", list(OUTCOMES))
def test_a_pod_that_is_not_tried_again(name: str) -> None:
    """A Job's pod that could not begin is no pod that waits: its outcome says why."""
    pod = load(name)["pod"]
    assert not k8r.is_idle(pod)
    assert str(k8r.judge_pod(pod)) == OUTCOMES[name]


@pytest.mark.parametrize("name", list(PLAIN))
def test_in_better_words(name: str) -> None:
    """Said in words that need no knowledge of Kubernetes, without names that change each time."""
    recorded, (parts, unwanted, fatal) = load(name), PLAIN[name]
    pod, events = recorded["pod"], recorded["events"]
    found = k8r.explain_pod(pod, events) if pod else k8r.explain_root(recorded["root"], events)
    assert found is not None and found.fatal == fatal
    for part in parts:
        assert part in found.text
    for part in unwanted:
        assert part not in found.text


def test_every_situation_is_judged() -> None:
    """No recorded file is left out."""
    names = {path.stem for path in RECORDED.glob("*.json")}
    assert names == set(WAITS) | set(PLAIN) | set(OUTCOMES)


@pytest.mark.parametrize(
    "said, grace, left",
    [
        ("the image x cannot be pulled: docker.io/library/x:latest: not found", 60, 10),
        ("the image x cannot be pulled: x: not found", 3, 3),
        ("the image x cannot be pulled: manifest unknown: no such tag", 60, 10),
        ("the image x cannot be pulled: x: not found", float("inf"), float("inf")),
        ("the image x cannot be pulled: dial tcp 10.0.0.1:443: i/o timeout", 60, 60),
        ("the image x cannot be pulled: authorization failed", 60, 60),
        ('its container cannot be created (CreateError): secret "x" not found', 60, 60),
        ("", 60, 60),
    ],
)
def test_the_patience_with_images(said: str, grace: float, left: float) -> None:
    """What a registry is certain not to have is not waited for as long as other things."""
    assert k8r.shorten_grace(grace, said) == left
