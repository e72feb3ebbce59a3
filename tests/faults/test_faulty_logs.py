"""No line of a log is lost, doubled or changed, however the connection behaves."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Callable, Dict, List, Union

import pytest

from apiserver import Cut, Delay, FakeCluster, Line, Match, PodScript, Respond, Reset, Split, Stall
from apiserver import numbered
from helpers import by_index, foreign_job, job, patched, pods_log, resume_when_watched, text

if TYPE_CHECKING:
    from tests.conftest import Cli

Serve = Callable[..., FakeCluster]
FOLLOW = Match("GET", "/log$", follow="true")
LOG = Match("GET", "/log$")
MOMENT = 1_700_000_000 * 10**9
SAME_MOMENT = [Line("same", stamp=MOMENT)] * 300 + [
    Line(f"line {number}", stamp=MOMENT) for number in range(700)
]
"""1,000 lines of one nanosecond, many of them equal."""
ODD_LINES: List[Union[str, bytes]] = ["täglich 漢字 🚀", b"\xff\xfe \x00 \xc3\x28\r", b"", b"\r"]
ODD = PodScript([*ODD_LINES, Line(b"last \xe6\xbc", newline=False)], run=0.3)
ODD_BYTES = "täglich 漢字 🚀\n".encode() + b"\xff\xfe \x00 \xc3\x28\r\n\n\r\nlast \xe6\xbc"


@pytest.mark.parametrize("num", [1, 2])
def test_case_1_last_line_without_newline(k8r: Cli, serve: Serve, num: int) -> None:
    """It is printed: as it is for one pod, as a line of its own for several."""
    serve(PodScript(["first", Line("last", delay=0.1, newline=False)]))
    result = k8r("alpine", "--num", str(num), "--", "true")
    assert result.code == 0, result.err
    if num == 1:
        assert result.out == b"first\nlast"
    else:
        assert by_index(result.out) == {0: b"first\nlast\n", 1: b"first\nlast\n"}


@pytest.mark.parametrize("size", [1, 3, 7])
def test_case_2_torn_and_invalid_characters(k8r: Cli, serve: Serve, size: int) -> None:
    """Bytes come out as they went in, in whatever pieces they travel."""
    cluster = serve(ODD)
    cluster.fault(LOG, Split(size), times=None)
    result = k8r("alpine", "--", "true")
    assert (result.code, result.out) == (0, ODD_BYTES), result.err


def test_case_2_torn_characters_of_several_pods(k8r: Cli, serve: Serve) -> None:
    """The same with prefixes: no line is torn by another pod's."""
    cluster = serve(ODD)
    cluster.fault(LOG, Split(1), times=None)
    result = k8r("alpine", "--num", "2", "--", "true")
    assert result.code == 0, result.err
    assert by_index(result.out) == {0: ODD_BYTES + b"\n", 1: ODD_BYTES + b"\n"}


# A stamp is 31 bytes long: positions in it, behind it, in the text, at the newline.
PLACES = [0, 1, 19, 20, 30, 31, 32, 35, 36, 37, 4321, 10_799, 10_800, 10_801, 25_000, 39_000]


@pytest.mark.parametrize("how", ["reset", "truncate", "eof"])
def test_case_3_broken_within_one_second_of_1000_lines(k8r: Cli, serve: Serve, how: str) -> None:
    """The log breaks at another byte for each of 16 pods; nothing is lost or doubled."""
    cluster = serve(PodScript(SAME_MOMENT, run=0.3))
    for index, place in enumerate(PLACES):
        cluster.fault(Match("GET", pods_log(index)), Cut(how, after_bytes=place))
    result = k8r("alpine", "--num", str(len(PLACES)), "--", "true")
    assert result.code == 0, result.err
    expected = b"".join(line.data() for line in SAME_MOMENT)
    found = by_index(result.out)
    assert [place for index, place in enumerate(PLACES) if found[index] != expected] == []


@pytest.mark.parametrize("place", [0, 31, 33, 2020])
def test_case_3_broken_log_of_a_single_pod(k8r: Cli, serve: Serve, place: int) -> None:
    """The same without prefixes, where a begun line is printed at once."""
    cluster = serve(PodScript([*numbered(100), Line("end", newline=False)], run=0.3))
    cluster.fault(FOLLOW, Cut("reset", after_bytes=place))
    result = k8r("alpine", "--", "true")
    assert (result.code, result.out) == (0, text(100) + b"end"), result.err
    assert cluster.count("GET", "/log$") >= 2


def test_case_3_broken_again_and_again(k8r: Cli, serve: Serve) -> None:
    """Each answer breaks a little further on, in mid-line, over a change of seconds."""
    lines = [Line(f"line {n + 1}", stamp=MOMENT + n * 10**7) for n in range(400)]
    cluster = serve(PodScript(lines, run=0.3))
    for nth, place in enumerate([50, 1234, 3900, 3901, 6000], start=1):
        cluster.fault(LOG, Cut("reset" if nth % 2 else "truncate", after_bytes=place), nth=nth)
    result = k8r("alpine", "--", "true")
    assert (result.code, result.out) == (0, text(400)), result.err


def test_case_3_a_slow_writer_is_followed_over_resets(k8r: Cli, serve: Serve) -> None:
    """What is written while no connection stands is not lost."""
    cluster = serve(PodScript(numbered(60, delay=0.02)))
    cluster.fault(FOLLOW, Cut("reset", after_lines=5), times=3)
    result = k8r("alpine", "--", "true")
    assert (result.code, result.out) == (0, text(60)), result.err


def test_case_3_long_lines_and_old_kubelets(k8r: Cli, serve: Serve) -> None:
    """A line of 40,000 bytes is one line, also after a reset in its middle."""
    cluster = serve(PodScript(["x" * 40_000, "end"], run=0.3))
    cluster.fault(FOLLOW, Cut("reset", after_bytes=20_000))
    result = k8r("alpine", "--", "true")
    assert (result.code, result.out) == (0, b"x" * 40_000 + b"\nend\n"), result.err


STALLED = {
    "log": Match("GET", "/log$", follow="true"),
    "pods": Match("GET", "/pods$", watch="true"),
    "job": Match("GET", "/jobs$", watch="true"),
}


@pytest.mark.parametrize("what", sorted(STALLED))
def test_case_4_half_open_connection(k8r: Cli, serve: Serve, what: str) -> None:
    """A connection that has gone silent for good is noticed and replaced."""
    cluster = serve(PodScript(numbered(20, delay=0.02), run=0.2))
    cluster.fault(STALLED[what], Stall(600, after_lines=1), times=1)
    process = k8r.start("alpine", "--", "true", prefix=patched(READ_TIMEOUT=1.5))
    result = k8r.finish(process, timeout=20)
    assert (result.code, result.out) == (0, text(20)), result.err


def test_case_4_a_quiet_container_is_not_a_dead_one(k8r: Cli, serve: Serve) -> None:
    """Silence longer than the read timeout costs requests, but no line and no verdict."""
    cluster = serve(PodScript(["before", Line("after", delay=2.5)], exit_code=3))
    process = k8r.start("alpine", "--", "true", prefix=patched(READ_TIMEOUT=1.0))
    result = k8r.finish(process, timeout=20)
    assert (result.code, result.out) == (3, b"before\nafter\n"), result.err
    assert cluster.count("GET", "/log$") >= 2


@pytest.mark.parametrize("after", [0, 1, 5])
def test_case_5_clean_end_while_the_container_runs(k8r: Cli, serve: Serve, after: int) -> None:
    """The proper end of an answer is not the end of the log."""
    cluster = serve(PodScript(numbered(10, delay=0.03), exit_code=4))
    cluster.fault(FOLLOW, Cut("eof", after_lines=after))
    result = k8r("alpine", "--", "true")
    assert (result.code, result.out) == (4, text(10)), result.err


def test_case_5_the_tail_behind_a_clean_end(k8r: Cli, serve: Serve) -> None:
    """The container ends while its log is cut off: the rest is asked for."""
    cluster = serve(PodScript(numbered(50), exit_code=4))
    cluster.fault(LOG, Cut("eof", after_lines=20))
    result = k8r("alpine", "--", "true")
    assert (result.code, result.out) == (4, text(50)), result.err


@pytest.mark.parametrize("after", [0, 10])
def test_case_5_an_answer_that_ends_early_twice(k8r: Cli, serve: Serve, after: int) -> None:
    """The last look at the log ends properly, too, without all that was there before."""
    cluster = serve(PodScript(numbered(50), exit_code=4))
    cluster.fault(LOG, Cut("eof", after_lines=20))
    cluster.fault(LOG, Cut("eof", after_lines=after), nth=2)
    result = k8r("alpine", "--", "true")
    assert (result.code, result.out) == (4, text(50)), result.err


def test_case_5_an_empty_log(k8r: Cli, serve: Serve) -> None:
    """A command that prints nothing is asked for its output once more, not for ever."""
    cluster = serve(PodScript([]))
    result = k8r("alpine", "--", "true")
    assert (result.code, result.out) == (0, b""), result.err
    assert cluster.count("GET", "/log$") <= 4


TROUBLES: Dict[str, List[Any]] = {
    "reset": [Reset(), Reset()],
    "overloaded": [Respond(429, retry_after=1), Respond(503)],
    "internal": [Respond(500), Respond(504)],
    "slow": [Delay(0.5)],
    "not yet": [Respond(400, "container is waiting to start: ContainerCreating")],
}


@pytest.mark.parametrize("name", sorted(TROUBLES))
def test_a_log_that_does_not_open_at_first(k8r: Cli, serve: Serve, name: str) -> None:
    """The log is asked for again, and is whole in the end."""
    cluster = serve(PodScript(numbered(5), run=0.2))
    for nth, action in enumerate(TROUBLES[name], start=1):
        cluster.fault(LOG, action, nth=nth)
    result = k8r("alpine", "--", "true")
    assert (result.code, result.out) == (0, text(5)), result.err


def test_case_13_the_pod_exits_before_it_is_seen(k8r: Cli, serve: Serve) -> None:
    """The watch begins when all is over: full log, right code."""
    cluster = serve(PodScript(numbered(200), exit_code=9))
    cluster.fault(Match("GET", "/pods$"), Delay(1.0))
    result = k8r("alpine", "--", "true")
    assert (result.code, result.out) == (9, text(200)), result.err


@pytest.mark.parametrize("delay", [0.0, 0.7])
def test_case_15_a_restarted_container_is_shown_once_per_run(
    k8r: Cli, serve: Serve, delay: float
) -> None:
    """With restartPolicy OnFailure each run's log appears, and none twice, also if the
    next run has begun when the end of the first one's log is asked for.
    """
    first = PodScript([Line(f"first {n}", 0.05) for n in range(10)], exit_code=1, run=0.3)
    second = PodScript([Line(f"second {n}", 0.05) for n in range(10)], run=0.3)
    cluster = serve(first, second)
    cluster.fault(LOG, Delay(delay), nth=2)
    cluster.create("jobs", foreign_job(policy="OnFailure", backoffLimit=3, suspend=True))
    resume_when_watched(cluster)
    result = k8r("logs", "-f", "theirs")
    expected = [f"{word} {n}" for word in ("first", "second") for n in range(10)]
    assert result.text.splitlines() == expected, result.err
    assert result.code == 0, result.err


def test_logs_of_a_finished_job_survive_resets(k8r: Cli, serve: Serve) -> None:
    """`k8r logs` is as gapless as following is, whichever way its log breaks."""
    cluster = serve(PodScript(numbered(300)))
    assert k8r("alpine", "-d", "--", "true").code == 0
    cluster.wait(lambda: job(cluster)["status"].get("succeeded"))
    cluster.fault(LOG, Cut("reset", after_bytes=5000), nth=1)
    cluster.fault(LOG, Cut("truncate", after_bytes=9000), nth=2)
    result = k8r("logs", "alpine")
    assert (result.code, result.out) == (0, text(300)), result.err


FAST = [Line(f"{number:06d} {'x' * 100}", stamp=MOMENT + number) for number in range(12_000)]
"""More than 1 MiB of one second."""
FAST_TEXT = b"".join(line.data() for line in FAST)


@pytest.mark.parametrize("command", ["run", "logs"])
def test_the_end_of_a_fast_log_costs_two_lines(k8r: Cli, serve: Serve, command: str) -> None:
    """What has been read of the last second does not come over the network again."""
    cluster = serve(PodScript(FAST, run=0.3))
    if command == "run":
        result = k8r("alpine", "--", "true")
    else:
        assert k8r("alpine", "-d", "--", "true").code == 0
        cluster.wait(lambda: job(cluster)["status"].get("succeeded"))
        result = k8r("logs", "alpine")
    assert result.code == 0, result.err
    assert result.out == FAST_TEXT
    asked_for = [request.query.get("tailLines") for request in cluster.matching("GET", "/log$")]
    assert asked_for[-1] == "2"  # before that a run may have been behind when its pod ended
    assert len(asked_for) == 2 or command == "run"


@pytest.mark.parametrize("trouble", [Respond(500), Reset(), Cut("eof", after_lines=0)])
def test_a_fast_log_that_ends_early(k8r: Cli, serve: Serve, trouble: Any) -> None:
    """The end is asked for, whether that is answered or not, and then the rest."""
    cluster = serve(PodScript(FAST))
    assert k8r("alpine", "-d", "--", "true").code == 0
    cluster.wait(lambda: job(cluster)["status"].get("succeeded"))
    cluster.fault(LOG, Cut("eof", after_lines=11_000))
    cluster.fault(Match("GET", "/log$", tailLines="2"), trouble)
    result = k8r("logs", "alpine")
    assert result.code == 0, result.err
    assert result.out == FAST_TEXT


def test_a_reader_that_is_behind_is_not_cut_off(k8r: Cli, serve: Serve) -> None:
    """The container has ended long before its log has been read, which goes on as it is."""
    cluster = serve(PodScript(FAST[:400], run=0.3))
    cluster.fault(FOLLOW, Split(2048, pause=0.005))
    result = k8r("alpine", "--", "true")
    assert result.code == 0, result.err
    assert result.out == b"".join(line.data() for line in FAST[:400])
    assert cluster.count("GET", "/log$") == 2


def test_logs_of_a_container_that_goes_on_writing(k8r: Cli, serve: Serve) -> None:
    """Without -f there is an end: what was written until k8r asked for it."""
    cluster = serve(PodScript(numbered(2000, delay=0.01)))
    assert k8r("alpine", "-d", "--", "true").code == 0
    cluster.wait(
        lambda: any(pod["status"].get("phase") == "Running" for pod in cluster.objects("pods"))
    )
    result = k8r("logs", "alpine")
    assert result.code == 0, result.err
    assert text(2000).startswith(result.out) and result.out != text(2000)
    assert cluster.count("GET", "/log$") == 2
