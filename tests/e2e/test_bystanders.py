"""Pods that hold containers of others, and pods that the cluster ends: whose word counts."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, List

import pytest

from support import ALPINE, GATE, Kubectl, Object, read_until

if TYPE_CHECKING:
    from tests.conftest import Cli

STAY = "while :; do sleep 0.2; done"
CRASH_ONCE = "[ -f /once/done ] || { touch /once/done; sleep 2; exit 1; }; "


def sidecar(script: str, native: bool = True, name: str = "proxy") -> Object:
    """A patch that adds a container to the pod."""
    added = {"name": name, "image": ALPINE, "command": ["sh", "-c", script]}
    added["volumeMounts"] = [{"name": "once", "mountPath": "/once"}]
    spec: Object = {
        "terminationGracePeriodSeconds": 2,
        "volumes": [{"name": "once", "emptyDir": {}}],
    }
    if native:
        return {"spec": {**spec, "initContainers": [{**added, "restartPolicy": "Always"}]}}
    return {"spec": {**spec, "containers": [added]}}


def write_patch(folder: Path, patch: Object) -> List[str]:
    """Options that apply a patch."""
    (folder / "patch").write_text(json.dumps(patch))
    return ["--patch", "patch"]


@pytest.mark.parametrize("code", [0, 3])
@pytest.mark.parametrize(
    "script",
    [f"trap 'exit 143' TERM; {STAY}", "sleep 3600", CRASH_ONCE + f"trap 'exit 0' TERM; {STAY}"],
    ids=["ends with 143", "is killed", "restarts once"],
)
def test_a_native_sidecar(
    run: Cli, kubectl: Kubectl, workdir: Path, script: str, code: int
) -> None:
    """However it ends, the command's own end counts."""
    options = write_patch(workdir, sidecar(script))
    ended = run(ALPINE, *options, "--", "sh", "-c", f"sleep 4; echo said; exit {code}")
    assert (ended.code, ended.out) == (code, b"said\n"), ended.err
    assert ("the container proxy, which k8r has not added, failed" in ended.err) == (
        script.startswith(CRASH_ONCE)
    )
    assert "init container" not in ended.err


@pytest.mark.parametrize("name", ["adapter", "vector"])
def test_a_container_that_stays(run: Cli, kubectl: Kubectl, workdir: Path, name: str) -> None:
    """The run ends with its command, and says what goes on; `rm` takes it for ended."""
    options = write_patch(workdir, sidecar(f"trap 'exit 0' TERM; {STAY}", False, name))
    ended = run(ALPINE, *options, "--retry", "1", "--", "sh", "-c", "exit 0")
    assert ended.code == 0, ended.err
    assert f"the container {name}, which k8r has not added, keeps the pod running" in ended.err
    [row] = json.loads(run("ls", "-o", "json").text)
    assert row["status"] == "Complete"
    assert run("rm", "alpine").code == 0


@pytest.mark.slow
def test_a_container_that_stays_does_not_keep_the_next_attempt(
    run: Cli, kubectl: Kubectl, workdir: Path
) -> None:
    """A pod that lasts only by it makes way."""
    options = write_patch(workdir, sidecar(f"trap 'exit 0' TERM; {STAY}", False))
    ended = run(ALPINE, *options, "--retry", "1", "--", "sh", "-c", "echo tried; exit 3")
    assert (ended.code, ended.out) == (3, b"tried\ntried\n"), ended.err


def test_a_container_that_fails_after_a_success(run: Cli, kubectl: Kubectl, workdir: Path) -> None:
    """The Job has failed, but does not try again what has succeeded."""
    options = write_patch(workdir, sidecar("sleep 4; exit 7", False))
    ended = run(ALPINE, *options, "--retry", "2", "--", "sh", "-c", "sleep 1; echo once")
    assert (ended.code, ended.out) == (0, b"once\n"), ended.err
    kubectl("wait", "job/alpine", "--for=condition=Failed", "--timeout=60s")
    assert len(kubectl.names("pods")) == 1
    [row] = json.loads(run("ls", "-o", "json").text)
    assert row["status"] == "Complete"


OBEYING = "trap 'sleep 2; exit 0' TERM; echo begun; " + STAY


def evict(kubectl: Kubectl, pod: str) -> None:
    """Evict a pod as `kubectl drain` does."""
    body = {"apiVersion": "policy/v1", "kind": "Eviction"}
    body["metadata"] = {"name": pod, "namespace": kubectl.namespace}  # type: ignore[assignment]
    path = f"/api/v1/namespaces/{kubectl.namespace}/pods/{pod}/eviction"
    kubectl("create", "--raw", path, "-f", "-", stdin=json.dumps(body).encode())


def delete(kubectl: Kubectl, pod: str) -> None:
    """Delete a pod by hand."""
    kubectl("delete", "pod", pod, "--wait=false")


@pytest.mark.parametrize(
    "stop, words",
    [(evict, "EvictionByEvictionAPI: it was evicted"), (delete, "deleted: it was told to end")],
)
@pytest.mark.parametrize("retry", [0, 1])
def test_told_to_end_and_ended_with_0(
    run: Cli, kubectl: Kubectl, stop: object, words: str, retry: int
) -> None:
    """A command that obeys has not succeeded. What the Job runs again counts."""
    process = run.start(ALPINE, "--retry", str(retry), "--", "sh", "-c", OBEYING)
    read_until(process.stdout, b"begun\n")
    first = kubectl.running_pod("alpine")
    assert callable(stop)
    stop(kubectl, first)
    if retry and "podFailurePolicy" not in kubectl.get("job", "alpine")["spec"]:
        read_until(process.stdout, b"begun\n")
        second = kubectl.running_pod("alpine", but=[first])
        kubectl("exec", second, "--", "kill", "1")
        ended = run.finish(process, timeout=90)
        assert ended.code == 0, ended.err
    else:
        ended = run.finish(process, timeout=90)
        assert ended.code == 125, ended.err
        assert words in ended.err and "its command ended with 0" in ended.err


def test_an_eviction_costs_no_retry(run: Cli, kubectl: Kubectl) -> None:
    """What the eviction ends is run again, and a failure of that, too, by the one --retry."""
    process = run.start(ALPINE, "--retry", "1", "--", "sh", "-c", "echo begun; " + GATE)
    read_until(process.stdout, b"begun\n")
    pods = [kubectl.running_pod("alpine")]
    evict(kubectl, pods[0])
    for code in (3, 0):
        read_until(process.stdout, b"begun\n")
        pods.append(kubectl.running_pod("alpine", but=pods))
        kubectl.release(pods[-1], code)
    ended = run.finish(process, timeout=90)
    assert ended.code == 0, ended.err


def test_an_eviction_without_a_retry(run: Cli, kubectl: Kubectl) -> None:
    """The command's own code, and what has ended it."""
    process = run.start(ALPINE, "--", "sh", "-c", "echo begun; " + GATE)
    read_until(process.stdout, b"begun\n")
    evict(kubectl, kubectl.running_pod("alpine"))
    ended = run.finish(process, timeout=90)
    assert ended.code == 143, ended.err
    assert "EvictionByEvictionAPI: it was evicted" in ended.err


def test_a_deadline_of_the_pod(run: Cli, kubectl: Kubectl, workdir: Path) -> None:
    """It is not the run's --timeout, and no success either."""
    options = write_patch(workdir, {"spec": {"activeDeadlineSeconds": 3}})
    ended = run(ALPINE, *options, "--", "sh", "-c", OBEYING, timeout=90)
    assert (ended.code, ended.out) == (125, b"begun\n"), ended.err
    assert "DeadlineExceeded; its command ended with 0" in ended.err
