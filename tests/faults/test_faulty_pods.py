"""What pods and Jobs go through, and what k8r says of it."""

from __future__ import annotations

import os
import re
import signal
import threading
import time
from typing import TYPE_CHECKING, Any, Callable, Dict, List, Tuple

import pytest

from apiserver import FakeCluster, Line, Match, PodScript, Request, Respond, Stall, Timing, numbered
from helpers import by_index, foreign_job, gone, job, left, patched, resume_when_watched, text
from helpers import tomorrow

if TYPE_CHECKING:
    from tests.conftest import Cli

Serve = Callable[..., FakeCluster]


SECONDS_APART = Timing(retry=1.1)
"""So that attempts can be told apart by their creationTimestamp, as on a real cluster, which
waits ten seconds for the first retry.
"""


def attempts() -> List[PodScript]:
    """Three attempts that fail in different ways, and one that does not."""
    return [
        PodScript(["attempt 1"], exit_code=1),
        PodScript(["attempt 2"], exit_code=2, reason="OOMKilled"),
        PodScript(["attempt 3"], exit_code=3),
        PodScript(["attempt 4"]),
    ]


@pytest.mark.parametrize("num", [1, 3])
def test_case_14_three_failed_pods_then_success(k8r: Cli, serve: Serve, num: int) -> None:
    """All logs are shown, in their order, and the exit code is 0."""
    serve(*attempts(), timing=SECONDS_APART)
    result = k8r("alpine", "--retry", "3", "--num", str(num), "--", "true")
    expected = b"attempt 1\nattempt 2\nattempt 3\nattempt 4\n"
    found = {0: result.out} if num == 1 else by_index(result.out)
    assert found == {index: expected for index in range(num)}, result.err
    assert result.code == 0, result.err


@pytest.mark.parametrize("retry", [0, 1, 2])
def test_case_14_exactly_so_many_retries(k8r: Cli, serve: Serve, retry: int) -> None:
    """The last attempt's exit code counts when the retries are used up."""
    serve(*attempts(), timing=SECONDS_APART)
    result = k8r("alpine", "--retry", str(retry), "--", "true")
    assert result.out == text(retry + 1, "attempt {}")
    assert result.code == retry + 1, result.err
    assert ("OOMKilled" in result.err) == (retry == 1)


def test_the_lowest_failing_index_gives_the_code(k8r: Cli, serve: Serve) -> None:
    """Indexes fail at different times: all others run on, each failure is named."""
    cluster = serve(PodScript(["fine"]))
    cluster.play(PodScript(["one"], exit_code=21, run=0.5), index=1)
    cluster.play(PodScript(["three"], exit_code=23), index=3)
    result = k8r("alpine", "--num", "5", "--", "true")
    assert result.code == 21, result.err
    found = by_index(result.out)
    assert found == {0: b"fine\n", 1: b"one\n", 2: b"fine\n", 3: b"three\n", 4: b"fine\n"}
    assert "exit code 21: index 1; exit code 23: index 3" in result.err
    assert result.err.count("index 1 has failed: exit code 21") == 1


@pytest.mark.parametrize("first, second", [(3, 1), (1, 3)])
def test_of_several_nodes_the_first_failure_counts(
    k8r: Cli, serve: Serve, first: int, second: int
) -> None:
    """Also of two in one second, which the objects do not tell apart: the watch does."""
    cluster = serve(PodScript(["on"], run=60), timing=Timing(phase=0.5))
    cluster.play(PodScript(["one"], exit_code=20 + first, run=0.1), index=first)
    cluster.play(PodScript(["two"], exit_code=20 + second, run=0.3), index=second)
    result = k8r("alpine", "--nodes", "5", "--", "true")
    assert result.code == 20 + first, result.err
    assert f"rank {first} failed first: exit code {20 + first}" in result.err
    assert set(by_index(result.out)) == set(range(5))


def test_a_group_of_nodes_that_is_half_there(k8r: Cli, serve: Serve) -> None:
    """One that cannot start makes the others' run futile: given up after --grace."""
    cluster = serve(PodScript(["on"], run=600))
    cluster.play(PodScript(waiting="ImagePullBackOff", message="no such image"), index=2)
    result = k8r("alpine", "--nodes", "3", "--grace", "1", "--", "true")
    assert result.code == 125
    assert "gave up after 1 s: the image" in result.err
    assert cluster.objects("jobs") == []


@pytest.mark.parametrize("labels", [{}, {"created-by": "k8r"}, {"k8r-type": "deployment"}])
def test_the_service_of_nodes_is_there_already(
    k8r: Cli, serve: Serve, labels: Dict[str, str]
) -> None:
    """One of an earlier run is replaced, that of somebody else or of a Deployment is not."""
    cluster = serve(PodScript(["ran"]))
    ours = {**labels, "created-by": "k8r"} if labels else labels
    old = cluster.create("services", {"metadata": {"name": "alpine", "labels": ours}})
    result = k8r("alpine", "--nodes", "2", "--", "true")
    [service] = cluster.objects("services")
    assert (service["metadata"]["uid"] == old["metadata"]["uid"]) == (ours != {"created-by": "k8r"})
    if ours == {"created-by": "k8r"}:
        assert (result.code, by_index(result.out)) == (0, {0: b"ran\n", 1: b"ran\n"}), result.err
        assert service["spec"]["clusterIP"] == "None"
    else:
        assert result.code == 125 and "there is a Service alpine" in result.err
        assert cluster.objects("jobs") == []


def test_case_16_an_init_container_fails(k8r: Cli, serve: Serve) -> None:
    """Its log is shown, its exit code is k8r's, and it is named."""
    cluster = serve(PodScript(["never"], init_lines=["no such branch"], init_exit_code=44))
    cluster.create("jobs", foreign_job(inits=["clone"], backoffLimit=0, suspend=True))
    resume_when_watched(cluster)
    result = k8r("logs", "-f", "theirs")
    assert result.code == 44, result.err
    assert "no such branch" in result.text + result.err
    assert "init container clone: exit code 44" in result.err


@pytest.mark.parametrize("reason", ["ImagePullBackOff", "CreateContainerConfigError"])
def test_case_17_a_container_that_cannot_start(k8r: Cli, serve: Serve, reason: str) -> None:
    """The reason is told; after the grace time the run is removed, exit code 125."""
    cluster = serve(PodScript(waiting=reason, message="the kubelet's own words"))
    result = k8r("alpine", "--grace", "2", "--", "true", timeout=30)
    assert result.code == 125 and "the kubelet's own words" in result.err
    assert "waiting: " in result.err and "gave up after 2 s" in result.err
    assert gone(cluster), left(cluster)


def test_case_17_an_image_that_comes_in_time(k8r: Cli, serve: Serve) -> None:
    """A registry that recovers within the grace time costs nothing."""
    serve(PodScript(["hello"], waiting="ErrImagePull", message="registry is busy", hold=3.5))
    result = k8r("alpine", "--grace", "20", "--", "true", timeout=30)
    assert (result.code, result.out) == (0, b"hello\n"), result.err
    assert "registry is busy" in result.err


def test_case_18_pods_are_refused(k8r: Cli, serve: Serve) -> None:
    """FailedCreate is a message on the Job only; it is told, and ends the run."""
    cluster = serve(PodScript(refused='pods "x" is forbidden: exceeded quota'))
    result = k8r("alpine", "--grace", "1", "--", "true", timeout=30)
    assert result.code == 125 and "exceeded quota" in result.err
    assert gone(cluster), left(cluster)


def test_case_19_no_node_takes_the_pod(k8r: Cli, serve: Serve) -> None:
    """The scheduler's reason is told; --timeout ends it with 124."""
    serve(PodScript(unschedulable="0/3 nodes are available: 3 Insufficient cpu"))
    result = k8r("alpine", "--cpu", "500", "--timeout", "4", "--", "true", timeout=30)
    assert result.code == 124, result.err
    assert "3 Insufficient cpu" in result.err and "cpu 500" in result.err
    assert "DeadlineExceeded" in result.err


@pytest.mark.parametrize("num", [1, 2])
def test_case_20_the_deadline_passes(k8r: Cli, serve: Serve, num: int) -> None:
    """The logs so far are kept, exit code 124, DeadlineExceeded is named."""
    serve(PodScript(numbered(5), run=600))
    result = k8r("alpine", "--timeout", "2", "--num", str(num), "--", "true", timeout=30)
    assert result.code == 124 and "DeadlineExceeded" in result.err
    found = {0: result.out} if num == 1 else by_index(result.out)
    assert found == {index: text(5) for index in range(num)}


def test_case_21_out_of_memory(k8r: Cli, serve: Serve) -> None:
    """137, and why."""
    serve(PodScript(numbered(3), exit_code=137, reason="OOMKilled"))
    result = k8r("alpine", "--", "true")
    assert (result.code, result.out) == (137, text(3))
    assert "OOMKilled" in result.err


def test_an_evicted_pod(k8r: Cli, serve: Serve) -> None:
    """The pod's own reason is told where the container has none."""
    serve(PodScript(numbered(3), exit_code=137, pod_reason="Evicted", message="disk pressure"))
    result = k8r("alpine", "--", "true")
    assert (result.code, result.out) == (137, text(3))
    assert "Evicted" in result.err


def test_case_22_somebody_deletes_the_job(k8r: Cli, serve: Serve) -> None:
    """The run ends with 125 and says so; what was written is shown."""
    cluster = serve(PodScript(numbered(3), run=600))

    def delete(request: Request) -> None:
        if request.path.endswith("/log") and cluster.objects("jobs"):
            cluster.delete("jobs", "alpine")

    cluster.hook(delete)
    result = k8r("alpine", "--", "true", timeout=30)
    assert result.code not in (0, 124) and "Traceback" not in result.err
    assert "deleted" in result.err or "failed" in result.err


def test_case_22_somebody_deletes_the_job_while_nobody_watches(k8r: Cli, serve: Serve) -> None:
    """The Job is gone when it is listed for the first time."""
    cluster = serve(PodScript(run=600))

    def delete(request: Request) -> None:
        if Match("GET", "/jobs$").accepts(request) and cluster.objects("jobs"):
            cluster.delete("jobs", "alpine")

    cluster.hook(delete)
    result = k8r("alpine", "--", "true", timeout=30)
    assert result.code == 125 and "deleted" in result.err, result.err


def test_case_22_somebody_deletes_the_pod(k8r: Cli, serve: Serve) -> None:
    """Without retries that is a failure, and what was written is shown."""
    serve(PodScript(numbered(9, delay=0.02), deleted_after=5))
    result = k8r("alpine", "--", "true", timeout=30)
    assert result.code not in (0, 124), result.err
    assert result.out == text(5), result.err


def test_case_22_a_deleted_pod_is_replaced(k8r: Cli, serve: Serve) -> None:
    """With a retry left another pod does the work."""
    serve(PodScript(numbered(9, delay=0.02), deleted_after=5), PodScript(["second"]))
    result = k8r("alpine", "--retry", "1", "--", "true", timeout=30)
    assert (result.code, result.out) == (0, text(5) + b"second\n"), result.err


@pytest.mark.parametrize("code", [0, 3])
def test_case_22_a_time_to_live_of_zero(k8r: Cli, serve: Serve, code: int) -> None:
    """The Job vanishes as it ends: the code is the container's, which was seen."""
    cluster = serve(PodScript(numbered(5, delay=0.05), exit_code=code))
    made = foreign_job(backoffLimit=0, suspend=True, ttlSecondsAfterFinished=0)
    cluster.create("jobs", made)
    resume_when_watched(cluster)
    result = k8r("logs", "-f", "theirs", timeout=30)
    assert (result.code, result.out) == (code, text(5)), result.err
    assert gone(cluster), left(cluster)


@pytest.mark.parametrize("allowed", [True, False])
def test_a_pod_that_a_lost_node_keeps(k8r: Cli, serve: Serve, allowed: bool) -> None:
    """`rm -f` removes a pod that does not end, without waiting for its node; it removes nothing
    of a Job that must not be removed.
    """
    cluster = serve(PodScript(run=600, stuck=True))
    assert k8r("alpine", "-d", "--", "true").code == 0
    cluster.wait(lambda: cluster.objects("pods"))
    cluster.wait(lambda: cluster.objects("pods")[0]["status"]["phase"] == "Running")
    pod = cluster.objects("pods")[0]["metadata"]["name"]
    cluster.delete("pods", pod)
    past = {"metadata": {"deletionTimestamp": "2020-01-01T00:00:00Z"}}
    cluster.patch("pods", pod, past)
    if not allowed:
        refused = Match("DELETE", "/jobs/")
        cluster.fault(refused, Respond(403), times=None)
        cluster.hook(lambda request: time.sleep(0.5 * refused.accepts(request)))
    assert k8r("rm", "-f", "alpine").code == (0 if allowed else 125)
    assert gone(cluster) is allowed, left(cluster)
    assert cluster.count("DELETE", "/pods/") == int(allowed)


def test_a_pod_that_has_time_left(k8r: Cli, serve: Serve) -> None:
    """Whether a pod should have ended is the cluster's to say: k8r's own clock may be wrong."""
    cluster = serve(PodScript(run=600, stuck=True))
    assert k8r("alpine", "-d", "--", "true").code == 0
    cluster.wait(lambda: cluster.objects("pods"))
    cluster.wait(lambda: cluster.objects("pods")[0]["status"]["phase"] == "Running")
    cluster.delete("pods", cluster.objects("pods")[0]["metadata"]["name"])
    result = k8r.finish(k8r.start("rm", "-f", "alpine", prefix=tomorrow()))
    assert result.code == 0, result.err
    assert cluster.count("DELETE", "/pods/") == 0
    assert cluster.objects("pods")


@pytest.mark.parametrize("more, kept", [((), 1), (("--rm",), 0)])
def test_a_cluster_that_knows_no_deadline(
    k8r: Cli, serve: Serve, more: Tuple[str, ...], kept: int
) -> None:
    """k8r itself ends a run that has taken too long, and --rm holds for it, too."""
    cluster = serve(PodScript(run=600))
    options = ("--timeout", "10", *more)
    process = k8r.start("alpine", *options, "--", "true", prefix=patched(DEADLINE_SLACK=-9))
    result = k8r.finish(process, timeout=30)
    assert result.code == 124 and "the cluster does not stop it" in result.err, result.err
    assert ("remove it: k8r rm -f alpine" in result.err) is bool(kept)
    assert gone(cluster) is not bool(kept), left(cluster)


def test_an_end_that_nobody_can_look_up(k8r: Cli, serve: Serve) -> None:
    """While the last list of pods cannot be had, k8r goes on: its time runs out as always."""
    cluster = serve(PodScript(["begun"], run=600))
    pods = Match("GET", "/pods$", watch=None)
    cluster.fault(pods, Respond(503), nth=2, times=None)
    prefix = patched(DEADLINE_SLACK=-55)
    process = k8r.start("alpine", "--timeout", "60", "--", "true", prefix=prefix)
    assert process.stdout is not None and process.stdout.readline() == b"begun\n"
    cluster.delete("jobs", "alpine")
    result = k8r.finish(process, timeout=30)
    assert result.code == 124, result.err
    assert cluster.count("GET", "/pods$") > 3


@pytest.mark.parametrize("answer", [Respond(503), Stall(600)], ids=["503", "silence"])
def test_a_signal_while_an_end_is_looked_up(k8r: Cli, serve: Serve, answer: Any) -> None:
    """It ends k8r at once, as at any other time."""
    cluster = serve(PodScript(["begun"], run=600))
    pods, asked = Match("GET", "/pods$", watch=None), threading.Event()
    cluster.fault(pods, answer, nth=2, times=None)
    process = k8r.start("alpine", "--", "true")
    assert process.stdout is not None and process.stdout.readline() == b"begun\n"
    cluster.hook(lambda request: asked.set() if pods.accepts(request) else None)
    cluster.delete("jobs", "alpine")
    assert asked.wait(10)
    process.send_signal(signal.SIGINT)
    assert k8r.finish(process, timeout=10).code == 130


@pytest.mark.parametrize("num", [60, 150])
def test_many_pods(k8r: Cli, serve: Serve, num: int) -> None:
    """More pods than streams at once: no line is lost, and few requests are made for each."""
    cluster = serve(PodScript([*numbered(5), Line("end", newline=False)], run=0.5))
    cluster.play(PodScript(numbered(5), exit_code=5), index=num - 1)
    result = k8r("alpine", "--num", str(num), "--", "true")
    assert result.code == 5, result.err
    found = by_index(result.out)
    assert found.pop(num - 1) == text(5)
    assert found == {index: text(5) + b"end\n" for index in range(num - 1)}
    per_pod = [len(cluster.matching("GET", rf"/alpine-{index}-\w+/log$")) for index in range(num)]
    assert max(per_pod) <= 3
    assert len(cluster.requests) - sum(per_pod) <= 25


def test_more_logs_than_may_be_followed(k8r: Cli, serve: Serve) -> None:
    """They take turns: each is heard of before any has ended, and nothing is lost."""
    cluster = serve(PodScript(numbered(20, delay=0.25)))
    prefix = patched(STREAMS_AT_ONCE=4, LOG_TURN=0.3)
    process = k8r.start("alpine", "--num", "12", "--", "true", prefix=prefix)
    result = k8r.finish(process)
    assert by_index(result.out) == {index: text(20) for index in range(12)}, result.err
    early = result.out.partition(b"line 20\n")[0]
    assert set(re.findall(rb"^\[(\d+)\]", early, re.M)) == {b"%d" % index for index in range(12)}
    assert result.code == 0 and cluster.count("GET", "/log$") > 24


def test_parallel_bounds_the_pods(k8r: Cli, serve: Serve) -> None:
    """--parallel 2: never more than two at once, all of them in the end."""
    cluster = serve(PodScript(numbered(2), run=0.1))
    most: List[int] = []

    def look(request: Request) -> None:
        pods = cluster.objects("pods")
        most.append(sum(pod["status"]["phase"] in ("Pending", "Running") for pod in pods))

    cluster.hook(look)
    result = k8r("alpine", "--num", "6", "--parallel", "2", "--", "true")
    assert result.code == 0 and len(by_index(result.out)) == 6
    assert 1 <= max(most) <= 2 and job(cluster)["spec"]["parallelism"] == 2


def test_stdout_is_closed_early(k8r: Cli, serve: Serve) -> None:
    """A reader like `head` ends k8r quietly, and the run goes on."""
    cluster = serve(PodScript(numbered(400, delay=0.02)))
    reading, writing = os.pipe()
    process = k8r.start("alpine", "--", "true", stdout=writing)
    os.close(writing)
    with open(reading, "rb") as pipe:
        assert pipe.readline() == b"line 1\n"
    result = k8r.finish(process, timeout=20)
    assert result.code == 141, result.err
    assert "k8r logs -f alpine" in result.err
    assert not re.search("Traceback|Exception|Error", result.err), result.err
    assert job(cluster)["status"].get("active") == 1


def test_stdout_is_closed_before_ls_prints(k8r: Cli, serve: Serve) -> None:
    """The same for a command that prints once."""
    serve()
    assert k8r("alpine", "-d", "--", "true").code == 0
    reading, writing = os.pipe()
    os.close(reading)
    process = k8r.start("ls", stdout=writing)
    os.close(writing)
    result = k8r.finish(process, timeout=20)
    assert (result.code, result.err) == (141, "")
