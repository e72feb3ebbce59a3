"""`k8r stop`: the command ends, its run and its log stay."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from support import ALPINE, Kubectl, read_until

if TYPE_CHECKING:
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
