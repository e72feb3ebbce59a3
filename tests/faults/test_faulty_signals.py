"""A signal at any moment: documented exit codes, and never a suspended Job or an orphan."""

from __future__ import annotations

import concurrent.futures
import signal
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Callable, Sequence, Tuple

import pytest

from apiserver import FakeCluster, Match, PodScript, Request, Stall, numbered
from helpers import asked, gone, left, patched

if TYPE_CHECKING:
    import subprocess

    from tests.conftest import Cli, Result

Serve = Callable[..., FakeCluster]
SIGNALS = [signal.SIGINT, signal.SIGTERM, signal.SIGHUP]
SOURCES = {"directory": ("./", "work", 22), "image": ("alpine", "alpine", 14)}
"""The word for k8r, the name of its run, and a number of requests that no run reaches."""
MOMENTS = [(source, nth) for source in SOURCES for nth in range(1, SOURCES[source][2] + 1)]


def interrupted(
    k8r: Cli, cluster: FakeCluster, args: Sequence[str], signum: int, when: Match, lag: float = 0.0
) -> Tuple[Result, bool]:
    """Run k8r and send it a signal at the first such request, before the server carries that
    out, which it does `lag` seconds later. Tells also whether there was such a request.
    """
    started: concurrent.futures.Future[subprocess.Popen[bytes]] = concurrent.futures.Future()
    struck = threading.Event()

    def strike(request: Request) -> None:
        if when.accepts(request) and not struck.is_set():
            struck.set()
            started.result(10).send_signal(signum)
            time.sleep(lag)

    cluster.hook(strike)
    # Nothing that opens connections ahead is to come among these requests.
    started.set_result(k8r.start(*args, prefix=patched(CONNECTIONS_AHEAD=0)))
    result = k8r.finish(started.result(), timeout=60)
    cluster.wait(lambda: cluster.open_connections == 0)  # all that was asked for is done
    return result, struck.is_set()


class Nth(Match):
    """The nth request of all."""

    def __init__(self, nth: int) -> None:
        super().__init__()
        self.nth = nth

    def accepts(self, request: Request) -> bool:
        """Whether it is that one."""
        return request.number == self.nth


def check(cluster: FakeCluster, result: Result, signum: int, name: str) -> None:
    """The exit code is the signal's; the Job runs or has ended and k8r has said so, or nothing
    is left.
    """
    assert result.code == 128 + signum, (result.err, asked(cluster))
    assert "Traceback" not in result.err and "internal error" not in result.err
    if f"{name} succeeded" in result.err:
        assert len(cluster.objects("jobs")) == 1  # its archive was being removed
    elif f"k8r logs -f {name}" in result.err:
        assert f"k8r rm -f {name}" in result.err
        (job,) = cluster.objects("jobs")
        assert not job["spec"]["suspend"]
    else:
        assert gone(cluster), (left(cluster), result.err, asked(cluster))


@pytest.mark.parametrize("source, nth", MOMENTS)
@pytest.mark.parametrize("signum", SIGNALS, ids=lambda value: str(value.name))
def test_case_23_a_signal_at_each_request(
    k8r: Cli, serve: Serve, large_project: Path, source: str, signum: int, nth: int
) -> None:
    """At creating, uploading, resuming, listing, watching and reading logs."""
    cluster = serve(PodScript(numbered(3), run=0.2))
    word, name, beyond = SOURCES[source]
    result, happened = interrupted(k8r, cluster, (word, "--", "true"), signum, Nth(nth))
    if happened:
        check(cluster, result, signum, name)
    else:
        assert result.code == 0, result.err
    assert happened == (nth < beyond) or 6 < nth < beyond, "SOURCES needs other numbers"


@pytest.mark.parametrize("step", ["POST /jobs$", "POST /configmaps$", "PATCH /jobs/"])
def test_case_23_a_request_under_way_takes_effect_late(
    k8r: Cli, serve: Serve, large_project: Path, step: str
) -> None:
    """The server carries out what it was asked for after k8r was told to stop."""
    cluster = serve(PodScript(numbered(3), run=0.2))
    when = Match(*step.split())
    result, _ = interrupted(k8r, cluster, ("./", "--", "true"), signal.SIGINT, when, lag=0.4)
    check(cluster, result, signal.SIGINT, "work")


@pytest.mark.parametrize("first, second", [(signal.SIGINT, signal.SIGINT)])
def test_case_23_a_second_signal_is_immediate(
    k8r: Cli, serve: Serve, first: int, second: int
) -> None:
    """Even while the first one's cleaning up does not get an answer."""
    cluster = serve(PodScript(run=600))
    cluster.fault(Match("GET", "/jobs/"), Stall(600))
    started: concurrent.futures.Future[subprocess.Popen[bytes]] = concurrent.futures.Future()

    def strike(request: Request) -> None:
        if request.method == "POST":
            started.result(10).send_signal(first)
        elif request.path.endswith("/jobs/alpine"):
            started.result(10).send_signal(second)

    cluster.hook(strike)
    began = time.monotonic()
    started.set_result(k8r.start("alpine", "--", "true"))
    result = k8r.finish(started.result(), timeout=20)
    assert result.code in (130, -second) and "Traceback" not in result.err
    assert time.monotonic() - began < 15


def test_case_23_while_a_log_is_followed(k8r: Cli, serve: Serve) -> None:
    """Following ends within a moment, with 130; the Job is left alone."""
    cluster = serve(PodScript(numbered(3), run=600))
    assert k8r("alpine", "-d", "--", "true").code == 0
    process = k8r.start("logs", "-f", "alpine")
    assert process.stdout and process.stdout.readline() == b"line 1\n"
    struck = time.monotonic()
    process.send_signal(signal.SIGINT)
    result = k8r.finish(process, timeout=20)
    assert result.code == 130 and time.monotonic() - struck < 3
    assert "Traceback" not in result.err
    assert "k8r logs -f alpine" in result.err and cluster.objects("jobs")


@pytest.mark.parametrize("what", ["/log$", "/jobs$"])
def test_case_23_while_streams_are_being_opened(k8r: Cli, serve: Serve, what: str) -> None:
    """Requests that get no answer do not hold k8r back, however many they are."""
    cluster = serve(PodScript(run=600))
    stream = (
        Match("GET", what, follow="true") if what == "/log$" else Match("GET", what, watch="true")
    )
    cluster.fault(stream, Stall(600), times=None)
    process = k8r.start("alpine", "--num", "20", "--", "true")
    cluster.wait(lambda: cluster.count("GET", what) >= (20 if what == "/log$" else 2), 20)
    struck = time.monotonic()
    process.send_signal(signal.SIGINT)
    result = k8r.finish(process, timeout=60)
    assert result.code == 130 and time.monotonic() - struck < 5
    assert "k8r logs -f alpine" in result.err
