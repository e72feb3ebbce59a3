"""Round trips: what does not depend on an answer is asked beside it."""

from __future__ import annotations

import os
import shutil
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any, Callable, Dict, List, Tuple

import pytest

from apiserver import FakeCluster, Match, PodScript, Request, numbered
from helpers import foreign_job, patched

if TYPE_CHECKING:
    from tests.conftest import Cli

Serve = Callable[..., FakeCluster]
SECRETS, CONNECTION = Match("GET", "/secrets$"), Match("GET", "/version$")
JOB = Match("GET", "/jobs/alpine$")
LISTS = [Match("GET", f"/{what}$", watch=None) for what in ("jobs", "deployments", "pods")]


class Meeting:
    """Holds back each of some requests until all of them have come."""

    def __init__(self, cluster: FakeCluster, wanted: List[Match]) -> None:
        self._missing = list(wanted)
        self._lock = threading.Lock()
        self._complete = threading.Event()
        self.held = True  # whether all that were held back have met the others
        cluster.hook(self._await_others)

    def _await_others(self, request: Request) -> None:
        with self._lock:
            found = next((match for match in self._missing if match.accepts(request)), None)
            if found is None:
                return
            self._missing.remove(found)
            if not self._missing:
                self._complete.set()
        self.held &= self._complete.wait(10)

    def check(self) -> None:
        """Fail if one was answered before another had come."""
        assert self.held and not self._missing, [match.path.pattern for match in self._missing]


STEPS: Dict[str, Tuple[List[str], List[Match]]] = {
    "ls": (["ls"], LISTS),
    "a run's connections": (["alpine", "--", "true"], [SECRETS, *[CONNECTION] * 4]),
    "logs -f": (["logs", "-f", "alpine"], [JOB, *[CONNECTION] * 4]),
    "rm -f": (["rm", "-f", "alpine"], [JOB, CONNECTION]),
}


@pytest.mark.parametrize("name", list(STEPS))
def test_what_is_asked_side_by_side(k8r: Cli, serve: Serve, name: str) -> None:
    """None of these requests waits for the answer of another."""
    cluster = serve(PodScript(numbered(3)))
    assert k8r("alpine", "--", "true").code == 0
    command, wanted = STEPS[name]
    meeting = Meeting(cluster, wanted)
    result = k8r(*command)
    assert result.code == 0, result.err
    meeting.check()


def test_secrets_while_a_directory_is_packed(
    k8r: Cli, serve: Serve, project: Path, tmp_path: Path
) -> None:
    """Their list may take as long as packing does, in which git is started."""
    cluster, git = serve(PodScript()), shutil.which("git")
    tools, started = tmp_path / "tools", tmp_path / "started"
    tools.mkdir()
    (tools / "git").write_text(f'#!/bin/sh\n: > {started}\nexec {git} "$@"\n')
    (tools / "git").chmod(0o755)
    began: List[bool] = []

    def hold(request: Request) -> None:
        if SECRETS.accepts(request):
            began.append(False)
            began[0] = cluster.wait(started.exists)

    cluster.hook(hold)
    path = f"{tools}{os.pathsep}{k8r.env['PATH']}"
    result = k8r("./", "--", "true", cwd=project, env={"PATH": path})
    assert result.code == 0, result.err
    assert began == [True]


PODS: Dict[str, Any] = {
    "few": ({}, 1),
    "many": ({"FEW": 1}, 2),
    "known too early": ({"STALE_AFTER": 0}, 2),
}


@pytest.mark.parametrize("name", list(PODS))
def test_pods_for_ls(k8r: Cli, serve: Serve, name: str) -> None:
    """Those that were asked for beside the Jobs, or else those of some Jobs, later."""
    constants, lists = PODS[name]
    cluster = serve(PodScript(waiting="ErrImagePull"))
    for job in ("one", "two"):
        cluster.create("jobs", foreign_job(job))
    cluster.wait(lambda: len(cluster.objects("pods")) == 2)
    process = k8r.start("ls", prefix=patched(**constants))
    result = k8r.finish(process)
    assert result.out.count(b"Pending (") == 2, result.out
    assert cluster.count("GET", "/pods$", watch=None) == lists
