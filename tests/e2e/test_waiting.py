"""Runs that cannot begin, or that somebody else ends: said in words, and an end."""

from __future__ import annotations

import contextlib
import json
import re
import time
from pathlib import Path
from typing import TYPE_CHECKING, Iterator, List, Tuple

import pytest

from common import hurried, until
from support import ALPINE, GATE, IMPOSSIBLE_CPU, Kubectl, elapsed, nothing_left, read_until

if TYPE_CHECKING:
    from tests.conftest import Cli


@pytest.mark.case(17)
@pytest.mark.clean
def test_no_such_image(run: Cli, kubectl: Kubectl) -> None:
    """An image that cannot be pulled: named, given up after --grace, and removed."""
    ended = run("k8r-test/no-such-image:1", "--grace", "5", "--", "true", timeout=90)
    assert ended.code == 125
    assert "k8r-test/no-such-image:1" in ended.err and "pull" in ended.err
    assert ended.err.strip().splitlines()[-1].startswith("k8r: gave up after 5 s")
    nothing_left(kubectl)


def test_an_image_name_that_no_node_takes(run: Cli, kubectl: Kubectl) -> None:
    """--grace bounds the wait, not more."""
    started = time.monotonic()
    ended = run("127.0.0.1:1/nothing-listens", "--grace", "3", "--", "true", timeout=90)
    assert ended.code == 125
    assert "nothing-listens" in ended.err
    assert elapsed(started) < 30


def test_a_reader_waits_without_an_end(run: Cli, kubectl: Kubectl) -> None:
    """`logs -f` of a run whose image is missing says so and leaves it alone, however long it
    takes (an hour by its clock): the image that somebody gives the pod in the end runs.
    """
    assert (
        run("k8r-test/no-such-image:1", "--job-name", "late", "-d", "--", "echo", "said").code == 0
    )
    process = run.start("logs", "-f", "late", prefix=hurried(600))
    read_until(process.stderr, b"waiting: the image k8r-test/no-such-image:1 cannot be pulled")
    time.sleep(6)
    assert process.poll() is None
    [pod] = kubectl.names("pods")
    kubectl("set", "image", f"pod/{pod}", f"main={ALPINE}")
    ended = run.finish(process)
    assert (ended.code, ended.out) == (0, b"said\n"), ended.err
    assert kubectl.names("jobs") == ["late"]


def wants_configmap(folder: Path) -> List[str]:
    """Options by which a pod needs the ConfigMap `wanted` to start."""
    name = {"configMapKeyRef": {"name": "wanted", "key": "key"}}
    main = {"name": "main", "env": [{"name": "WANTED", "valueFrom": name}]}
    (folder / "patch").write_text(json.dumps({"spec": {"containers": [main]}}))
    return ["--patch", "patch", "--grace", "3"]


@pytest.mark.clean
@pytest.mark.parametrize(
    "more", [("--retry", "2"), ("--num", "2", "--parallel", "1")], ids=" ".join
)
def test_a_later_pod_cannot_start(
    run: Cli, kubectl: Kubectl, workdir: Path, more: Tuple[str, ...]
) -> None:
    """--grace counts for the pods after the first as well."""
    kubectl("create", "configmap", "wanted", "--from-literal=key=value")
    command = ("--", "sh", "-c", "echo begun; " + GATE)
    process = run.start(ALPINE, *wants_configmap(workdir), *more, *command)
    read_until(process.stdout, b"begun\n")
    kubectl("delete", "configmap", "wanted")
    kubectl.release(kubectl.running_pod("alpine"), 5 if "--retry" in more else 0)
    ended = run.finish(process, timeout=90)
    assert ended.code == 125 and b"released\n" in ended.out, ended.err
    assert ended.err.strip().splitlines()[-1].startswith("k8r: gave up after 3 s")
    assert 'configmap "wanted" not found' in ended.err


@pytest.mark.case(19)
def test_no_room(run: Cli, kubectl: Kubectl) -> None:
    """A pod for which no node has room: the scheduler's reason, what was asked for,
    and --timeout ends it with 124.
    """
    ended = run(ALPINE, "--cpu", IMPOSSIBLE_CPU, "--timeout", "5", "--", "true", timeout=60)
    assert ended.code == 124
    assert "no node has enough cpu" in ended.err and "requested: cpu 5000" in ended.err
    assert re.search(r"the largest node: cpu [0-9.]+[;)]", ended.err)
    assert "DeadlineExceeded" in ended.err
    [row] = [line for line in run("ls").text.splitlines() if line.startswith("alpine")]
    assert "DeadlineExceeded" in row


@contextlib.contextmanager
def lonely_node(kubectl: Kubectl) -> Iterator[str]:
    """A node with a label and a taint, which no kubelet cares for; its name."""
    name = f"{kubectl.namespace}-node"
    labels = {"k8r-test-node": name, "nvidia.com/gpu.product": "Tesla-T4"}
    taints = [{"key": "dedicated", "value": "ml", "effect": "NoSchedule"}]
    node = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": name, "labels": labels}}
    kubectl("create", "-f", "-", stdin=json.dumps({**node, "spec": {"taints": taints}}).encode())
    try:
        ready = {"conditions": [{"type": "Ready", "status": "True"}]}
        status = {"status": {**ready, "allocatable": {"cpu": "4", "memory": "4Gi", "pods": "9"}}}
        kubectl("patch", "node", name, "--subresource=status", "-p", json.dumps(status))
        yield name
    finally:
        kubectl("delete", "node", name)
        kubectl("delete", "pods", "--all", "--force", "--grace-period=0")


def test_a_place_that_there_is_not(run: Cli, kubectl: Kubectl) -> None:
    """What nodes have stands beside what is wanted of them; the right words bring it there."""

    def told(*options: str) -> str:
        ended = run(ALPINE, *options, "--timeout", "5", "--rm", "--", "true", timeout=60)
        assert ended.code == 124, ended.err
        [line] = [text for text in ended.err.splitlines() if "waiting: no node can" in text]
        return line

    with lonely_node(kubectl) as node:
        place = ("--node-selector", f"k8r-test-node={node}")
        assert "the taint dedicated=ml:NoSchedule (see --toleration)" in told(*place)
        line = told("--node-selector", "k8r-test-node=other")
        assert "wanted: k8r-test-node=other; nodes have: " in line and f"node={node}" in line
        line = told("--gpu", "H100:1")
        assert "wanted: nvidia.com/gpu.product=H100" in line and "product=Tesla-T4" in line
        options = [*place, "--toleration", "dedicated=ml", "--job-name", "there", "-d"]
        assert run(ALPINE, *options, "--", "true").code == 0

        def probe() -> bool:
            pods = [pod for pod in kubectl.items("pods") if "deletionTimestamp" not in pod]
            return any(pod["spec"].get("nodeName") == node for pod in pods)

        until(probe, f"a pod on {node}")


@pytest.mark.clean
@pytest.mark.parametrize(
    "option, words",
    [
        ("--priority", "no PriorityClass with name none-such was found"),
        ("--service-account", 'serviceaccount "none-such" not found'),
    ],
)
def test_a_name_that_the_cluster_lacks(run: Cli, kubectl: Kubectl, option: str, words: str) -> None:
    """A class or an account that there is not: said, and given up."""
    ended = run(ALPINE, option, "none-such", "--grace", "2", "--", "true", timeout=60)
    assert ended.code == 125, ended.err
    assert re.search(f"gave up after 2 s: the cluster refuses its pod: .*{words}", ended.err)
    nothing_left(kubectl)


def test_ls_says_why_a_pod_waits(run: Cli, kubectl: Kubectl) -> None:
    """The status of a run whose pod waits is the reason."""
    assert run(ALPINE, "-d", "--cpu", IMPOSSIBLE_CPU, "--", "true").code == 0
    until(lambda: "Unschedulable" in run("ls").text, "the reason in ls", 20)
    assert "Pending (no node has enough cpu: " in run("ls", "alpine").text


@pytest.mark.case(18)
@pytest.mark.clean
def test_quota(run: Cli, kubectl: Kubectl) -> None:
    """A quota that forbids pods: the refusal is shown, and the run given up."""
    kubectl("create", "quota", "none", "--hard=pods=0")
    until(lambda: (kubectl.get("quota", "none").get("status") or {}).get("hard"), "the quota")
    ended = run(ALPINE, "--grace", "3", "--", "true", timeout=60)
    assert ended.code == 125
    assert "exceeded quota" in ended.err
    nothing_left(kubectl)


def test_a_quota_in_use(run: Cli, kubectl: Kubectl) -> None:
    """A quota that has room for the pod once another is gone is waited for, longer than --grace."""
    kubectl("create", "quota", "one-pod", "--hard=count/pods=1")
    until(lambda: (kubectl.get("quota", "one-pod").get("status") or {}).get("hard"), "the quota")
    assert run(ALPINE, "--job-name", "first", "-d", "--", "sh", "-c", GATE).code == 0
    kubectl.running_pod("first")
    process = run.start(ALPINE, "--grace", "1", "--", "echo", "said")
    told = read_until(process.stderr, b"limited: count/pods=1")
    assert b"waiting: the cluster refuses its pod: exceeded quota: one-pod" in told
    time.sleep(6)
    assert process.poll() is None and b"Pending" in run("ls").out
    assert run("rm", "-f", "first").code == 0
    ended = run.finish(process)
    assert (ended.code, ended.out) == (0, b"said\n"), ended.err


@pytest.mark.case(18)
@pytest.mark.clean
def test_pod_security(run: Cli, kubectl: Kubectl) -> None:
    """A namespace that refuses the pod: its words are shown, and the run given up."""
    label = "pod-security.kubernetes.io/enforce=restricted"
    kubectl("label", "namespace", kubectl.namespace, label)
    ended = run(ALPINE, "--grace", "3", "--", "true", timeout=60)
    assert ended.code == 125
    assert "PodSecurity" in ended.err and "runAsNonRoot" in ended.err
    nothing_left(kubectl)


def test_suspended_before_it_runs(run: Cli, kubectl: Kubectl) -> None:
    """A Job that a queue holds back: said; k8r waits, longer than --grace."""
    process = run.start(ALPINE, "--cpu", IMPOSSIBLE_CPU, "--grace", "1", "--", "true")
    read_until(process.stderr, b"waiting")
    kubectl("patch", "job", "alpine", "-p", '{"spec": {"suspend": true}}')
    read_until(process.stderr, b"suspended", 20)
    assert process.poll() is None
    assert "Suspended" in run("ls").text


def test_suspended_while_it_runs(run: Cli, kubectl: Kubectl) -> None:
    """Somebody suspends a Job and resumes it: its second pod decides."""
    process = run.start(ALPINE, "--", "sh", "-c", "echo begun; " + GATE)
    read_until(process.stdout, b"begun\n")
    first = kubectl.running_pod("alpine")
    kubectl("patch", "job", "alpine", "-p", '{"spec": {"suspend": true}}')
    until(lambda: not kubectl.names("pods") or None, "the end of the pod")
    kubectl("patch", "job", "alpine", "-p", '{"spec": {"suspend": false}}')
    kubectl.release(kubectl.running_pod("alpine", but=[first]), 0)
    ended = run.finish(process)
    assert ended.code == 0, ended.err
    assert ended.out == b"begun\nreleased\n"


@pytest.mark.case(22)
def test_job_deleted_by_somebody(run: Cli, kubectl: Kubectl) -> None:
    """A Job that vanishes while it runs: k8r ends, and not with 0."""
    process = run.start(ALPINE, "--", "sh", "-c", "echo begun; " + GATE)
    read_until(process.stdout, b"begun\n")
    kubectl("delete", "job", "alpine", "--wait=false")
    ended = run.finish(process, timeout=30)
    assert ended.code not in (0, 2, 124)
    assert "alpine" in ended.err and "deleted" in ended.err
    nothing_left(kubectl, 60)


@pytest.mark.case(22)
def test_pod_deleted_by_somebody(run: Cli, kubectl: Kubectl) -> None:
    """A pod that is deleted without a retry left: k8r ends, and not with 0."""
    process = run.start(ALPINE, "--", "sh", "-c", "echo begun; " + GATE)
    read_until(process.stdout, b"begun\n")
    kubectl("delete", "pod", kubectl.running_pod("alpine"), "--wait=false")
    ended = run.finish(process, timeout=60)
    assert ended.code not in (0, 2, 124)
    assert "alpine" in ended.err


@pytest.mark.case(22)
def test_pod_deleted_with_a_retry_left(run: Cli, kubectl: Kubectl) -> None:
    """The next attempt counts."""
    process = run.start(ALPINE, "--retry", "1", "--", "sh", "-c", "echo begun; " + GATE)
    read_until(process.stdout, b"begun\n")
    first = kubectl.running_pod("alpine")
    kubectl("delete", "pod", first, "--wait=false")
    read_until(process.stdout, b"begun\n")
    kubectl.release(kubectl.running_pod("alpine", but=[first]), 0)
    ended = run.finish(process)
    assert (ended.code, ended.out) == (0, b"released\n"), ended.err
