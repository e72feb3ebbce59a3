"""Containers that others add to pods: whatever they do, the command decides."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Callable, Dict, List, Tuple

import pytest

from apiserver import FakeCluster, Foreign, PodScript, Timing
from helpers import by_index, foreign_job, patched, resume_when_watched

if TYPE_CHECKING:
    from tests.conftest import Cli

Serve = Callable[..., FakeCluster]

KINDS: Dict[str, Dict[str, Any]] = {
    "native": {"name": "mesh", "native": True},
    "before": {"name": "adapter"},
    "after": {"name": "zipkin"},
}
"""Native sidecars, and containers whose statuses come before or after main's."""

FATES: Dict[str, Dict[str, Any]] = {
    "ends with 0": {"linger": 0.1, "stop_code": 0},
    "ends with 143": {"linger": 0.1, "exit_code": 143},
    "fails at once": {"after": 0.0, "exit_code": 7},
    "fails late": {"linger": 0.3, "exit_code": 7},
    "never ends": {},
    "restarts once": {"after": 0.0, "exit_code": 7, "ends": 1, "linger": 0.1, "stop_code": 0},
}

RUNS = [(code, num, retry) for code in (0, 3) for num in (1, 2) for retry in (0, 1)]


def made_pods(cluster: FakeCluster, job: str) -> Dict[str, List[Dict[str, Any]]]:
    """All pods that a Job has ever had, by index, each in its last shape."""
    found: Dict[str, Dict[str, Any]] = {}
    with cluster.store.lock:
        for record in cluster.store.history:
            if record.plural == "pods" and record.last["metadata"]["name"].startswith(job + "-"):
                found[record.last["metadata"]["uid"]] = record.last
    by: Dict[str, List[Dict[str, Any]]] = {}
    for pod in found.values():
        index = pod["metadata"]["annotations"].get("batch.kubernetes.io/job-completion-index", "0")
        by.setdefault(index, []).append(pod)
    return by


def attempts(pods: List[Dict[str, Any]]) -> int:
    """In how many of them the command has come to its end by itself."""
    states = [
        item["state"]
        for pod in pods
        for item in pod["status"].get("containerStatuses", ())
        if item["name"] == "main"
    ]
    return sum(state.get("terminated", {}).get("exitCode") in (0, 3) for state in states)


@pytest.mark.parametrize("fate", list(FATES))
@pytest.mark.parametrize("kind", list(KINDS))
def test_whatever_a_bystander_does(k8r: Cli, serve: Serve, kind: str, fate: str) -> None:
    """The exit code and the attempts are those of the command alone."""
    cluster = serve(timing=Timing(retry=1.1))
    added = Foreign(**KINDS[kind], **FATES[fate])
    running: Dict[str, Tuple[Any, Tuple[int, int, int]]] = {}
    for code, num, retry in RUNS:
        name = f"run{code}{num}{retry}"
        cluster.play(PodScript(["said"], code, run=0.4, foreign=[added]), job=name)
        options = ("--num", str(num), "--retry", str(retry), "--job-name", name)
        process = k8r.start("alpine", *options, "--", "true", prefix=patched(KEPT_FOR=1.0))
        running[name] = process, (code, num, retry)
    for name, (process, (code, num, retry)) in running.items():
        result = k8r.finish(process, timeout=60)
        told = f"{name}: {result.err}"
        assert result.code == code, told
        count = retry + 1 if code else 1
        logs = {0: result.out} if num == 1 else by_index(result.out)
        assert logs == {index: b"said\n" * count for index in range(num)}, told
        counted = [attempts(pods) for pods in made_pods(cluster, name).values()]
        assert counted == [count] * num, told
        fails = fate in ("fails at once", "restarts once") or fate == "fails late" and count > 1
        line = f"the container {added.name}, which k8r has not added, failed: exit code 7"
        if fails and not (kind == "native" and fate == "fails late"):
            assert result.err.count(line) == 1, told
        keeps = f"the command has ended with {code}; the container {added.name}, which k8r has "
        keeps += f"not added, keeps the pod running; k8r rm {name} removes it"
        if fate == "never ends" and kind != "native":
            assert result.err.count(keeps) == 1, told
        if kind == "native":
            assert keeps not in result.err, told
        assert "init container" not in result.err, told


def test_a_success_that_a_bystander_spoils_is_not_repeated(k8r: Cli, serve: Serve) -> None:
    """While another index goes on the Job tries the first again: that pod is ended, the log of
    the success stays, and `ls` knows what the run has said.
    """
    cluster = serve(PodScript(["long"], run=3.0), timing=Timing(retry=0.3, start=0.3))
    adapter = Foreign("adapter", exit_code=7, linger=0.1)
    cluster.play(PodScript(["once"], foreign=[adapter]), index=0)
    result = k8r("alpine", "--num", "2", "--retry", "1", "--", "true", timeout=60)
    assert (result.code, by_index(result.out)) == (0, {0: b"once\n", 1: b"long\n"}), result.err
    assert attempts(made_pods(cluster, "alpine")["0"]) == 1
    assert "the container adapter, which k8r has not added, failed: exit code 7" in result.err
    assert k8r("rm", "alpine").code == 0


def test_a_reader_ends_nothing(k8r: Cli, serve: Serve) -> None:
    """`logs -f` says what keeps the next attempt, and leaves it alone."""
    cluster = serve(PodScript(["said"], exit_code=3, foreign=[Foreign("adapter")]))
    assert k8r("alpine", "-d", "--retry", "1", "--", "true").code == 0
    process = k8r.start("logs", "-f", "alpine", prefix=patched(KEPT_FOR=0.2))
    said = b"the command has ended with 3; the container adapter"
    assert process.stderr is not None and any(said in line for line in process.stderr)
    process.terminate()
    k8r.finish(process, timeout=20)
    assert cluster.count("DELETE") == cluster.count("PATCH") == 0
    (pod,) = cluster.objects("pods")
    assert "deletionTimestamp" not in pod["metadata"]


STOPPED = "EvictionByEvictionAPI: it was evicted"


@pytest.mark.parametrize("reason, words", [("EvictionByEvictionAPI", STOPPED), (None, "deleted:")])
@pytest.mark.parametrize("retry", [0, 1])
@pytest.mark.parametrize("num", [1, 2])
def test_told_to_end_and_ended_with_0(
    k8r: Cli, serve: Serve, reason: str, words: str, retry: int, num: int
) -> None:
    """That is no success; one that ended with 143 the Job runs again, and that attempt counts."""
    cluster, how = serve(), {"run": 60, "deleted_after": 1, "disruption": reason, "grace": 1.5}
    stopped = PodScript(["one"], stop_code=143 if retry else 0, **how)  # type: ignore[arg-type]
    cluster.play(stopped, PodScript(["two"]))
    result = k8r("alpine", "--retry", str(retry), "--num", str(num), "--", "true", timeout=60)
    if retry:
        assert result.code == 0 and result.out.count(b"two\n") == num, result.err
    else:
        assert result.code == 125 and words in result.err, result.err
        assert "its command ended with 0" in result.err


@pytest.mark.parametrize("reason", ["Evicted", "DeadlineExceeded"])
def test_a_pod_that_its_node_ends(k8r: Cli, serve: Serve, reason: str) -> None:
    """The pod has failed, though its command ended with 0."""
    serve(PodScript(["one"], pod_reason=reason))
    result = k8r("alpine", "--", "true")
    assert (result.code, result.out) == (125, b"one\n"), result.err
    assert f"{reason}; its command ended with 0" in result.err


def test_what_a_job_takes_for_a_success(k8r: Cli, serve: Serve) -> None:
    """With a podFailurePolicy an evicted pod that ends with 0 is a success to the Job alone."""
    cluster = serve()
    reason = "PreemptionByScheduler"
    stopped = PodScript(["one"], run=60, deleted_after=1, disruption=reason, grace=1.5, stop_code=0)
    cluster.play(stopped)
    rule = {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]}
    made = foreign_job(backoffLimit=1, suspend=True, podFailurePolicy={"rules": [rule]})
    cluster.create("jobs", made)
    resume_when_watched(cluster)
    result = k8r("logs", "-f", "theirs", timeout=30)
    assert result.code == 125 and "PreemptionByScheduler" in result.err, result.err
    assert cluster.objects("jobs")[0]["status"]["succeeded"] == 1
