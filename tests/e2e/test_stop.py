"""`k8r stop`: the command ends, its run and its log stay."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from common import until
from support import ALPINE, IMPOSSIBLE_CPU, Kubectl, read_until

if TYPE_CHECKING:
    from kueue import Kueue
    from tests.conftest import Cli

TRAP = "trap 'echo bye; exit 9' TERM; echo up; while :; do sleep 0.2; done"


def test_a_run_that_is_stopped(run: Cli, kubectl: Kubectl) -> None:
    """It is told to end, is not tried again, keeps its log, and whoever follows sees why."""
    follower = run.start(ALPINE, "--job-name", "going", "--retry", "2", "--", "sh", "-c", TRAP)
    read_until(follower.stdout, b"up")
    stopped = run("stop", "going")
    assert stopped.code == 0 and "going was stopped" in stopped.err, stopped.err
    ended = run.finish(follower)
    assert ended.code == 9 and "going was stopped" in ended.err, ended.err
    assert run("logs", "going").text == "up\nbye\n"
    [row] = json.loads(run("ls", "-o", "json").text)
    assert (row["status"], row["failed"]) == ("Stopped", 1)
    assert len(kubectl.names("pods")) == 1
    again = run("stop", "going", "missing")
    assert again.code == 125 and "has ended already" in again.err and "'missing'" in again.err


def test_indexes_that_have_not_begun(run: Cli, kubectl: Kubectl) -> None:
    """They do not begin, even while a pod that ends late still takes its time."""
    script = "trap 'sleep $((K8R_INDEX * 6)); exit 9' TERM; while :; do sleep 0.2; done"
    words = ("--num", "5", "--parallel", "2", "--job-name", "many")
    assert run("-d", ALPINE, *words, "--", "sh", "-c", script).code == 0
    kubectl("wait", "--for=jsonpath={.status.ready}=2", "job/many", "--timeout=60s")
    stopped = run("stop", "many")
    assert stopped.code == 0 and "many was stopped" in stopped.err, stopped.err
    assert len(kubectl.names("pods")) == 2
    [row] = json.loads(run("ls", "-o", "json").text)
    assert row["status"] == "Stopped"


def test_what_cannot_be_stopped(run: Cli, kubectl: Kubectl) -> None:
    """A Deployment, and a Job that is held back, have nothing that could be kept."""
    assert run("-d", ALPINE, "--job-name", "held", "--", "sleep", "60").code == 0
    kubectl("patch", "job", "held", "-p", '{"spec": {"suspend": true}}')
    ended = run("stop", "held")
    assert ended.code == 125 and "has not begun" in ended.err and "rm -f held" in ended.err
    service = ("--as-deployment", "-d", ALPINE, "--job-name", "service", "--", "sleep", "60")
    assert run(*service).code == 0
    ended = run("stop", "service")
    assert ended.code == 125 and "is a Deployment" in ended.err and "rm -f service" in ended.err


def test_several_runs(run: Cli, kubectl: Kubectl) -> None:
    """All are told to end before one is waited for; another that is not there changes nothing."""
    for name, pause in (("slow", 12), ("quick", 0)):
        script = TRAP.replace("bye", f"bye; sleep {pause}; date +%s")
        assert run("-d", ALPINE, "--job-name", name, "--", "sh", "-c", script).code == 0
        kubectl.running_pod(name)
    ended = run("stop", "missing", "slow", "quick")
    assert ended.code == 125 and "no job 'missing'" in ended.err, ended.err
    assert "slow was stopped" in ended.err and "quick was stopped" in ended.err
    ends = [int(run("logs", name).text.split()[-1]) for name in ("quick", "slow")]
    assert ends == sorted(ends)


def test_a_pod_that_has_no_node(run: Cli, kubectl: Kubectl) -> None:
    """It does not begin any more, and whoever follows its run sees why."""
    words = ("--cpu", IMPOSSIBLE_CPU, "--grace", "100s", "--job-name", "large", ALPINE)
    follower = run.start(*words, "--", "true")
    until(lambda: kubectl.names("pods"), "a pod")
    stopped = run("stop", "large")
    assert stopped.code == 0 and "large was stopped" in stopped.err, stopped.err
    ended = run.finish(follower)
    assert ended.code == 125 and "large was stopped" in ended.err, ended.err
    [row] = json.loads(run("ls", "-o", "json").text)
    assert row["status"] == "Stopped"


def test_a_run_that_a_queue_has_let_in(run: Cli, kubectl: Kubectl, kueue: Kueue) -> None:
    """It ends as any other, and the queue has room for the next one."""
    queue = kueue.queue()
    words = (ALPINE, "--queue", queue, "--job-name")
    follower = run.start(*words, "going", "--", "sh", "-c", TRAP)
    read_until(follower.stdout, b"up")
    later = run.start(*words, "later", "--", "true")
    read_until(later.stderr, b"holds the Job back")
    refused = run("stop", "later")
    assert refused.code == 125 and "later has not begun" in refused.err, refused.err
    stopped = run("stop", "going")
    assert stopped.code == 0 and "going was stopped" in stopped.err, stopped.err
    assert run.finish(follower).code == 9 and run.finish(later).code == 0
    assert run("logs", "going").text == "up\nbye\n"


def test_a_command_that_ends_well(run: Cli, kubectl: Kubectl, workdir: Path) -> None:
    """Its results are here, but it was ended by somebody else, and that is no success."""
    trap = TRAP.replace("exit 9", "echo some >results; exit 0")
    (workdir / "main.sh").write_text(trap)
    follower = run.start("./", "--out", "results", "--job-name", "well", "--", "sh", "main.sh")
    read_until(follower.stdout, b"up")
    stopped = run("stop", "well")
    assert stopped.code == 0 and "well was stopped" in stopped.err, stopped.err
    ended = run.finish(follower)
    assert ended.code == 125 and "well was stopped" in ended.err, ended.err
    assert (workdir / "results").read_text() == "some\n"
    (workdir / "results").unlink()
    assert run("cp", "well").code == 0 and (workdir / "results").exists()
