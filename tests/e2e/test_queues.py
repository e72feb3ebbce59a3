"""Runs in clusters where Kueue decides when a Job starts, and for how long."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import TYPE_CHECKING, List

import pytest

from common import patched, until
from kueue import GATED, Kueue
from support import ALPINE, GATE, MIB, Kubectl, read_until

if TYPE_CHECKING:
    from tests.conftest import Cli

FULL = b"insufficient unused quota"


def pods_of(kubectl: Kubectl, name: str) -> List[str]:
    """The pods that a Job has, or has had and not lost yet."""
    return [pod for pod in kubectl.names("pods") if pod.startswith(name + "-")]


def made_pods(kubectl: Kubectl, name: str) -> int:
    """How many pods the Job's controller has made in all."""
    events = kubectl.items("events")
    made = [event for event in events if event["reason"] == "SuccessfulCreate"]
    return sum(event["involvedObject"]["name"] == name for event in made)


@pytest.mark.parametrize("source", ["./", ALPINE])
def test_a_free_queue(run: Cli, kubectl: Kubectl, kueue: Kueue, workdir: Path, source: str) -> None:
    """It is Kueue that starts the Job, with all of its parts there."""
    (workdir / "file").write_text("content\n")
    queue, name = kueue.queue(), "work" if source == "./" else "alpine"
    ended = run(source, "--queue", queue, "--", "echo", "ran")
    assert (ended.code, ended.out) == (0, b"ran\n"), ended.err
    assert kueue.condition(name, "Admitted")["status"] == "True"


def test_a_queue_that_the_namespace_gives(
    run: Cli, kubectl: Kubectl, kueue: Kueue, workdir: Path
) -> None:
    """A queue named "default" takes Jobs that name none; k8r starts none beside it."""
    (workdir / "file").write_text("content\n")
    kueue.block(kueue.queue("default"))
    process = run.start("./", "--", "echo", "ran")
    read_until(process.stderr, FULL)
    assert pods_of(kubectl, "work") == []
    kueue.unblock()
    ended = run.finish(process)
    assert (ended.code, ended.out) == (0, b"ran\n"), ended.err
    assert made_pods(kubectl, "work") == 1


def test_a_full_queue(run: Cli, kubectl: Kubectl, kueue: Kueue, workdir: Path) -> None:
    """It waits, in the words of the Workload, and no pod is made to be killed."""
    (workdir / "file").write_text("content\n")
    queue = kueue.queue()
    kueue.block(queue)
    process = run.start("./", "--queue", queue, "--", "echo", "ran")
    seen = read_until(process.stderr, FULL)
    assert f"the queue {queue} holds the Job back".encode() in seen
    assert pods_of(kubectl, "work") == []
    kueue.unblock()
    ended = run.finish(process)
    assert (ended.code, ended.out) == (0, b"ran\n"), ended.err
    assert made_pods(kubectl, "work") == 1


def test_the_time_in_a_queue_is_free(run: Cli, kubectl: Kubectl, kueue: Kueue) -> None:
    """--timeout counts from the Job's start."""
    queue = kueue.queue()
    kueue.block(queue)
    limit = ("--timeout", "5s")
    prefix = patched(DEADLINE_SLACK=0)
    process = run.start(ALPINE, "--queue", queue, *limit, "--", "echo", "ran", prefix=prefix)
    begun = time.monotonic()
    read_until(process.stderr, FULL)
    until(lambda: time.monotonic() > begun + 7, "more time than the limit")
    assert process.poll() is None
    kueue.unblock()
    ended = run.finish(process)
    assert (ended.code, ended.out) == (0, b"ran\n"), ended.err


@pytest.mark.parametrize(
    "gates", [pytest.param(True, marks=pytest.mark.gates(GATED)), False], ids=["gated", "plain"]
)
def test_a_large_archive(
    run: Cli, kubectl: Kubectl, kueue: Kueue, workdir: Path, gates: bool
) -> None:
    """The Job is not admitted before its 38 MiB are there, if Kueue knows the gate."""
    (workdir / "large").write_bytes(os.urandom(38 * MIB))
    ended = run("./", "--queue", kueue.queue(), "--", "wc", "-c", "large", timeout=180)
    assert (ended.code, ended.text) == (0, f"{38 * MIB} large\n"), ended.err
    events = kubectl.items("events")
    missing = [event["message"] for event in events if event["reason"] == "FailedMount"]
    assert not gates or not [message for message in missing if "not found" in message]
    annotations = kubectl.get("job", "work")["metadata"]["annotations"]
    assert not [key for key in annotations if "admission-gated-by" in key]


def test_an_eviction(run: Cli, kubectl: Kubectl, kueue: Kueue) -> None:
    """A run that the queue takes its place from says so, and is k8r's until its end."""
    queue = kueue.queue()
    process = run.start(ALPINE, "--queue", queue, "--", "sh", "-c", "echo begun; " + GATE)
    read_until(process.stdout, b"begun\n")
    first = kubectl.running_pod("alpine")
    kueue.drain(queue)
    read_until(process.stderr, f"the queue {queue} holds the Job back".encode())
    kueue.resume(queue)
    kubectl.release(kubectl.running_pod("alpine", but=[first]), 5)
    ended = run.finish(process)
    assert ended.code == 5, ended.err
    assert ended.out.endswith(b"released\n")


@pytest.mark.clean
def test_more_pods_than_the_quota(run: Cli, kubectl: Kubectl, kueue: Kueue) -> None:
    """It would wait for ever: why is said, and --rm removes it."""
    queue = kueue.queue()
    process = run.start(ALPINE, "--num", "2", "--rm", "--queue", queue, "--", "true")
    read_until(process.stderr, b"maximum capacity (1)")
    assert pods_of(kubectl, "alpine") == []
    process.send_signal(signal.SIGINT)
    assert run.finish(process).code == 130


@pytest.mark.parametrize("source", ["./", ALPINE])
def test_every_job_is_managed(
    run: Cli, kubectl: Kubectl, kueue: Kueue, workdir: Path, source: str
) -> None:
    """With manageJobsWithoutQueueName a run without a queue waits, and k8r does not start it."""
    (workdir / "file").write_text("content\n")
    kueue.manage("all")
    name = "work" if source == "./" else "alpine"
    process = run.start(source, "--", "true")
    read_until(process.stderr, b"waiting: ")
    assert kubectl.get("job", name)["spec"]["suspend"] is True
    assert made_pods(kubectl, name) == 0
    process.send_signal(signal.SIGINT)
    assert run.finish(process).code == 130


@pytest.mark.clean
@pytest.mark.alone
def test_kueue_is_down(run: Cli, kubectl: Kubectl, kueue: Kueue) -> None:
    """That no Job can be made without it is said in words."""
    queue = kueue.queue()
    kueue.stop()
    ended = run(ALPINE, "--queue", queue, "--", "true", timeout=120)
    assert ended.code == 125, ended.err
    assert "webhook mjob.kb.io" in ended.err and "Traceback" not in ended.err
