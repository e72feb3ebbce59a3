"""Watches end, break and expire; the verdict stays right."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Callable, Dict

import pytest

from apiserver import Cut, Down, FakeCluster, Gone, Match, PodScript, Request, Reset, Respond
from apiserver import Stall, Timing, numbered
from helpers import foreign_job, patched, text

if TYPE_CHECKING:
    from tests.conftest import Cli

Serve = Callable[..., FakeCluster]
WATCHES = {
    "job": Match("GET", "/jobs$", watch="true"),
    "pods": Match("GET", "/pods$", watch="true"),
}
FAULTS: Dict[str, Any] = {
    "case 6, 410 event at once": Gone(),
    "case 6, 410 event later": Gone(after_lines=1),
    "case 6, HTTP 410": Respond(410),
    "case 7, no events": Cut("eof", after_bytes=0),
    "case 7, ends after an event": Cut("eof", after_lines=1),
    "reset after an event": Cut("reset", after_lines=1),
    "torn event": Cut("truncate", after_bytes=700),
    "HTTP 500": Respond(500),
    "HTTP 429": Respond(429, retry_after=0),
    "reset at once": Reset(),
}


@pytest.mark.parametrize("name", list(FAULTS))
def test_a_watch_goes_wrong(k8r: Cli, serve: Serve, name: str) -> None:
    """Both watches meet the same fault twice: the list is asked for again, the result is right."""
    cluster = serve(PodScript(numbered(20, delay=0.02), exit_code=3))
    for watch in WATCHES.values():
        cluster.fault(watch, FAULTS[name], times=2)
    result = k8r("alpine", "--", "true")
    assert (result.code, result.out) == (3, text(20)), result.err


def test_case_6_history_is_compacted_in_the_middle(k8r: Cli, serve: Serve) -> None:
    """The server forgets the resourceVersion of a list before its watch begins."""
    cluster = serve(PodScript(numbered(10, delay=0.02), exit_code=5))

    def compact(request: Request) -> None:
        if request.query.get("watch") and request.number < 12:
            cluster.compact()

    cluster.hook(compact)
    result = k8r("alpine", "--num", "2", "--", "true")
    assert result.code == 5, result.err


def test_case_7_watches_that_never_tell_anything(k8r: Cli, serve: Serve) -> None:
    """Lists alone are enough for the verdict and for the whole log."""
    cluster = serve(PodScript(numbered(10, delay=0.02), exit_code=6))
    for watch in WATCHES.values():
        cluster.fault(watch, Cut("eof", after_bytes=0), times=None)
    result = k8r("alpine", "--", "true")
    assert (result.code, result.out) == (6, text(10)), result.err
    assert cluster.count("GET", "") < 60


@pytest.mark.parametrize("code", [0, 3])
def test_the_pods_watch_lags_behind_the_job(k8r: Cli, serve: Serve, code: int) -> None:
    """The Job is seen to end while the pods' watch is silent: the log is whole all the
    same, and the exit code is the container's.
    """
    cluster = serve(PodScript(numbered(20), exit_code=code))
    cluster.fault(WATCHES["pods"], Stall(600, after_lines=1))
    result = k8r("alpine", "--", "true", timeout=60)
    assert (result.code, result.out) == (code, text(20)), result.err


@pytest.mark.parametrize("seen", range(1, 7))
def test_the_last_attempt_is_not_seen(k8r: Cli, serve: Serve, seen: int) -> None:
    """The Job is about to fail, and the pods' watch has not told of the last attempt: its
    output and its exit code count all the same.
    """
    attempts = [PodScript(["first"], exit_code=5), PodScript(["second"], exit_code=7)]
    cluster = serve(*attempts, timing=Timing(retry=1.1, condition=1.0))
    cluster.fault(WATCHES["pods"], Stall(600, after_lines=seen))
    result = k8r("alpine", "--retry", "1", "--", "true", timeout=60)
    assert (result.code, result.out) == (7, b"first\nsecond\n"), result.err


@pytest.mark.parametrize("seconds", [1, 8])
def test_case_8_the_server_is_down_in_mid_run(k8r: Cli, serve: Serve, seconds: float) -> None:
    """The run goes on in the cluster; k8r comes back to all of it."""
    cluster = serve(PodScript(numbered(40, delay=0.1), exit_code=3))
    cluster.fault(Match("GET", "/log$"), Down(seconds))
    result = k8r("alpine", "--", "true")
    assert (result.code, result.out) == (3, text(40)), result.err


def test_case_8_the_server_does_not_come_back(k8r: Cli, serve: Serve) -> None:
    """In the end k8r gives up, and says how to come back to what may still run."""
    cluster = serve(PodScript(run=600))
    cluster.fault(Match("GET", "/log$"), Down(600))
    process = k8r.start("alpine", "--", "true", prefix=patched(RETRY_TIME=2.0))
    result = k8r.finish(process, timeout=30)
    assert result.code == 125, result.err
    assert "cannot reach the cluster" in result.err
    assert "k8r logs -f alpine" in result.err and "Traceback" not in result.err


@pytest.mark.parametrize("args", [("alpine", "--", "true"), ("ls",), ("logs", "x"), ("rm", "x")])
def test_a_server_that_was_never_there(k8r: Cli, serve: Serve, args: Any) -> None:
    """A wrong address is told within seconds."""
    cluster = serve()
    cluster.down(600)
    result = k8r(*args, timeout=15)
    assert result.code == 125, result.err
    assert f"cannot reach the cluster at {cluster.url}" in result.err
    assert len(result.err.splitlines()) == 1


def test_a_page_of_a_list_expires(k8r: Cli, serve: Serve) -> None:
    """`ls` begins again without pages when the snapshot of the first one is gone."""
    cluster = serve(PodScript(run=600))
    for number in range(3):
        assert k8r("alpine", "-d", "--", "true").code == 0

    def expire(request: Request) -> None:
        if request.query.get("continue"):
            cluster.compact()

    cluster.hook(expire)
    process = k8r.start("ls", "-o", "name", prefix=patched(LIST_PAGE=2))
    result = k8r.finish(process)
    assert result.text.split() == ["alpine", "alpine-1", "alpine-2"], result.err


@pytest.mark.parametrize("num", [1, 12])
def test_what_a_run_asks_for(k8r: Cli, serve: Serve, num: int) -> None:
    """One list and one watch of the Job and of its pods, which a selector keeps to these, and
    two requests for each log: a busy namespace costs a run nothing, and many pods little.
    """
    cluster = serve(PodScript(numbered(3), run=0.3))
    for other in range(5):
        cluster.create("jobs", foreign_job(f"other-{other}"))
    result = k8r("alpine", "--num", str(num), "--", "true")
    assert result.code == 0, result.err
    mine = [request for request in cluster.requests if request.user_agent.startswith("k8r/")]
    logs = [request for request in mine if request.path.endswith("/log")]
    assert len(logs) <= 2 * num
    rest = [(request.method, request.path.rpartition("/")[2], request.query) for request in mine]
    # /version opens connections before they are needed.
    rest = [row for row in rest if row[1] not in ("log", "version")]
    narrowed = {"secrets": "labelSelector", "pods": "labelSelector", "jobs": "fieldSelector"}
    assert all(narrowed[what] in query for method, what, query in rest if method == "GET")
    kinds = [(method, what, "watch" in query) for method, what, query in rest]
    assert kinds[:2] == [("GET", "secrets", False), ("POST", "jobs", False)]
    assert sorted(kinds[2:6]) == [
        ("GET", what, watch) for what in ("jobs", "pods") for watch in (False, True)
    ]
    # Once the Job itself has ended, its pods are listed once more.
    assert kinds[6:] in ([], [("GET", "pods", False)])
