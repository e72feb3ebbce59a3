"""What a load balancer says while a control plane restarts, and what is not Kubernetes at all."""

from __future__ import annotations

import json
import re
import socket
import threading
from collections import Counter
from typing import TYPE_CHECKING, Any, Callable, Dict

import pytest

from apiserver import Cut, FakeCluster, Line, Match, PodScript, Reset, Respond, Timing, foreign
from apiserver import numbered
from helpers import foreign_job, left, patched, text

if TYPE_CHECKING:
    from tests.conftest import Cli

Serve = Callable[..., FakeCluster]
LOG = Match("GET", "/log$")
PLACES = {
    "everything": Match("GET"),
    "job": Match("GET", "/jobs$"),
    "job's watch": Match("GET", "/jobs$", watch="true"),
    "pods": Match("GET", "/pods$"),
    "pods' watch": Match("GET", "/pods$", watch="true"),
    "log": LOG,
}
ANSWERS: Dict[str, Respond] = {
    "401": Respond(401),
    "429": Respond(429, retry_after=1),
    "500": Respond(500),
    "503": Respond(503),
    "foreign 200": foreign(200),
    "foreign 404": foreign(404),
    "foreign 503": foreign(503),
}
GARBAGE = {
    "null": "null",
    "a list": "[]",
    "a number": "1",
    "an object of something else": '{"error": "down"}',
    "half an object": '{"kind": "JobList", "items": [',
    "nothing": "",
    "HTML": "<html>welcome</html>",
}
REPR = re.compile(r"Traceback|internal error|Error\(|object at 0x|\('|<urllib3|IncompleteRead")


@pytest.mark.parametrize("place", list(PLACES))
@pytest.mark.parametrize("answer", list(ANSWERS))
def test_an_outage_in_mid_run(k8r: Cli, serve: Serve, place: str, answer: str) -> None:
    """It is waited for, longer than a request by itself would be: log and code are whole."""
    cluster = serve(PodScript(numbered(30, delay=0.1), exit_code=3))
    outage = cluster.outage(PLACES[place], ANSWERS[answer], 1.5, after=0.5, begin=LOG)
    process = k8r.start("alpine", "--", "true", prefix=patched(OVERLOAD_RETRIES=1))
    result = k8r.finish(process, timeout=60)
    assert (result.code, result.out) == (3, text(30)), result.err
    assert outage.answered + outage.cut_streams >= 1


@pytest.mark.parametrize("answer", list(ANSWERS))
def test_an_outage_before_the_log_is_opened(k8r: Cli, serve: Serve, answer: str) -> None:
    """The log is asked for until it is there, also of a pod that has ended meanwhile."""
    cluster = serve(PodScript(numbered(5)))
    outage = cluster.outage(LOG, ANSWERS[answer], 1.5, begin=Match("POST", "/jobs$"))
    process = k8r.start("alpine", "--rm", "--", "true", prefix=patched(OVERLOAD_RETRIES=1))
    result = k8r.finish(process, timeout=60)
    assert (result.code, result.out) == (0, text(5)), result.err
    assert outage.answered >= 1


@pytest.mark.parametrize("answer", list(ANSWERS))
def test_an_outage_that_does_not_end(k8r: Cli, serve: Serve, answer: str) -> None:
    """In the end k8r gives up in words, and says how to come back."""
    cluster = serve(PodScript(run=600))
    cluster.outage(Match("GET"), ANSWERS[answer], 600, after=0.3, begin=LOG)
    process = k8r.start("alpine", "--rm", "--", "true", prefix=patched(RETRY_TIME=1.5))
    result = k8r.finish(process, timeout=60)
    assert result.code == 125, result.err
    assert "k8r logs -f alpine" in result.err and not REPR.search(result.err)
    assert len(cluster.objects("jobs")) == 1


@pytest.mark.parametrize("args", [("ls",), ("rm", "x"), ("logs", "-f", "x")])
@pytest.mark.parametrize("answer", list(ANSWERS))
def test_an_outage_before_the_first_answer(k8r: Cli, serve: Serve, answer: str, args: Any) -> None:
    """A command that has had no answer yet does not wait for long."""
    cluster = serve()
    cluster.outage(Match(), ANSWERS[answer], 600)
    process = k8r.start(*args, prefix=patched(OVERLOAD_RETRIES=2))
    result = k8r.finish(process, timeout=60)
    assert result.code == 125 and not REPR.search(result.err), result.err
    # ls asks for its lists at once, and /version only opens connections.
    asked = Counter(request.path for request in cluster.requests if request.path != "/version")
    assert max(asked.values()) <= (2 if answer == "401" else 3)
    if answer in ("foreign 200", "foreign 404"):
        assert f"the server at {cluster.url} is not a Kubernetes API" in result.err
        assert max(asked.values()) == 1


@pytest.mark.parametrize(
    "args", [("ls",), ("rm", "x"), ("logs", "x"), ("secret", "--list"), ("alpine", "--", "true")]
)
@pytest.mark.parametrize("body", list(GARBAGE))
def test_what_is_not_a_kubernetes_api(k8r: Cli, serve: Serve, body: str, args: Any) -> None:
    """It is said to be that, whatever it sends with status 200."""
    cluster = serve()
    kind = "text/html" if body == "HTML" else "application/json"
    cluster.outage(Match(), foreign(200, GARBAGE[body], kind), 600)
    result = k8r(*args, timeout=60)
    assert result.code == 125 and not REPR.search(result.err), result.err
    assert f"the server at {cluster.url} is not a Kubernetes API" in result.err


@pytest.mark.parametrize("place", ["job", "pods"])
@pytest.mark.parametrize("body", list(GARBAGE))
def test_garbage_in_mid_run(k8r: Cli, serve: Serve, body: str, place: str) -> None:
    """Lists and watches that bring it for a while do not end a run, and no pod seems deleted."""
    cluster = serve(PodScript(numbered(20, delay=0.1), exit_code=3))
    kind = "text/html" if body == "HTML" else "application/json"
    answer = foreign(200, GARBAGE[body] + "\n", kind)
    cluster.outage(PLACES[place], answer, 1.0, after=0.5, begin=LOG)
    result = k8r("alpine", "--", "true", timeout=60)
    assert (result.code, result.out) == (3, text(20)), result.err


def error_event(code: int, reason: str) -> str:
    """A watch's event that tells of an error."""
    status = {"kind": "Status", "metadata": {}, "code": code, "reason": reason, "message": reason}
    return json.dumps({"type": "ERROR", "object": status}) + "\n"


EVENTS = {
    "410": error_event(410, "Expired"),
    "500": error_event(500, "InternalError"),
    "403": error_event(403, "Forbidden"),
    "code in words": '{"type": "ERROR", "object": {"code": "many"}}\n',
    "no object": '{"type": "ADDED"}\n',
    "no metadata": '{"type": "ADDED", "object": {}}\n',
    "null": "null\n",
    "not JSON": "upstream connect error\n",
}


@pytest.mark.parametrize("event", list(EVENTS))
def test_events_that_are_none(k8r: Cli, serve: Serve, event: str) -> None:
    """They end a watch; what the list says then counts."""
    cluster = serve(PodScript(numbered(10, delay=0.05), exit_code=3))
    for place in ("job's watch", "pods' watch"):
        answer = foreign(200, EVENTS[event], "application/json")
        cluster.fault(PLACES[place], answer, times=3)
    result = k8r("alpine", "--", "true", timeout=60)
    assert (result.code, result.out) == (3, text(10)), result.err


def test_the_right_to_list_is_taken_away(k8r: Cli, serve: Serve) -> None:
    """A run that may not see its pods any more ends with that in words."""
    cluster = serve(PodScript(run=600))
    event = foreign(200, EVENTS["403"], "application/json")
    cluster.fault(PLACES["pods' watch"], event, times=None)
    cluster.hook(lambda request: cluster.denied.add("list pods") if LOG.accepts(request) else None)
    result = k8r("alpine", "--", "true", timeout=60)
    assert result.code == 125 and not REPR.search(result.err)
    assert "no permission to list pods in namespace default" in result.err


# Logs that are not whole

BREAKS = {
    "errors without end": [Respond(500)],
    "a foreign answer without end": [foreign(404)],
    "the pod is gone": [Respond(404)],
    "it is not there any more": [Respond(400)],
}


@pytest.mark.parametrize("code", [0, 3])
@pytest.mark.parametrize("name", list(BREAKS))
def test_a_log_that_is_not_read_to_its_end(k8r: Cli, serve: Serve, name: str, code: int) -> None:
    """That is said, is not a success, and nothing is removed."""
    cluster = serve(PodScript(numbered(10, delay=0.02), exit_code=code))
    cluster.fault(LOG, Cut("reset", after_lines=5))
    cluster.fault(LOG, BREAKS[name][0], nth=2, times=None)
    process = k8r.start("alpine", "--rm", "--", "true", prefix=patched(RETRY_TIME=1.5))
    result = k8r.finish(process, timeout=60)
    assert result.code == (code or 125), result.err
    assert "a log cannot be read to its end" in result.err
    assert "but its log could not be read to its end; try again: k8r logs alpine" in result.err
    assert text(10).startswith(result.out) and len(left(cluster)) == 2


def test_what_is_to_be_typed_names_the_namespace(k8r: Cli, serve: Serve) -> None:
    """A hint leads to the run that was followed, not to one of that name elsewhere."""
    cluster = serve(PodScript(numbered(10), run=0.2))
    cluster.fault(LOG, Respond(404), times=None)
    result = k8r("alpine", "-n", "default", "--", "true")
    assert result.code == 125
    assert "try again: k8r logs alpine -n default" in result.err


def test_a_log_that_is_never_opened(k8r: Cli, serve: Serve) -> None:
    """The pod has gone before: nothing of its log was seen."""
    cluster = serve(PodScript(numbered(10), run=0.2))
    cluster.fault(LOG, Respond(404), times=None)
    result = k8r("alpine", "--", "true")
    assert result.code == 125 and "could not be read to its end" in result.err


def test_a_log_whose_pod_goes_after_its_end(k8r: Cli, serve: Serve) -> None:
    """The kubelet had ended the answer, and the pod was removed: nothing is missing."""
    cluster = serve(PodScript(numbered(10), run=0.2))
    cluster.fault(LOG, Respond(404), nth=2, times=None)
    result = k8r("alpine", "--", "true")
    assert (result.code, result.out) == (0, text(10)), result.err


MOMENT = 1_700_000_000 * 10**9


def test_a_log_whose_time_goes_back(k8r: Cli, serve: Serve) -> None:
    """It is printed once, and has an end."""
    lines = [Line(f"line {n + 1}", stamp=MOMENT + n * 10**8) for n in range(60)]
    lines += [Line(f"line {n + 1}", stamp=MOMENT + (n - 80) * 10**8) for n in range(60, 100)]
    cluster = serve(PodScript(lines, run=0.3))
    cluster.fault(LOG, Cut("reset", after_lines=80))
    result = k8r("alpine", "--", "true")
    assert (result.code, result.out) == (0, text(100)), result.err
    assert cluster.count("GET", "/log$") <= 4


# How long, and what is said


@pytest.mark.parametrize(
    "wait", ["nan", "inf", "-1", "soon", "Wed, 21 Oct 2099 07:28:00 GMT", "9" * 9]
)
def test_an_odd_retry_after(k8r: Cli, serve: Serve, wait: str) -> None:
    """It is bounded, or not heeded."""
    cluster = serve()
    cluster.fault(Match("GET"), Respond(503, headers={"Retry-After": wait}), times=2)
    process = k8r.start("ls", prefix=patched(LONGEST_PAUSE=0.3))
    result = k8r.finish(process, timeout=20)
    assert result.code == 0 and not REPR.search(result.err), result.err


def test_events_do_not_hold_up_a_run(k8r: Cli, serve: Serve) -> None:
    """Why a pod waits is looked up, and not waited for."""
    cluster = serve(PodScript(numbered(3)), timing=Timing(schedule=4.0))
    cluster.fault(Match("GET", "/events$"), Respond(503), times=None)
    result = k8r("alpine", "--", "true", timeout=60)
    assert (result.code, result.out) == (0, text(3)), result.err
    assert 1 <= cluster.count("GET", "/events$") <= 4


def test_a_cluster_without_kueue_does_not_hold_up_a_run(k8r: Cli, serve: Serve) -> None:
    """The API server's own words for a group that it does not have are not a passing error."""
    cluster = serve(PodScript(numbered(3)))
    missing = foreign(404, "404 page not found\n", "text/plain; charset=utf-8")
    cluster.fault(Match("GET", "/workloads$"), missing, times=None)
    cluster.create("jobs", foreign_job(suspend=True))
    process = k8r.start("logs", "-f", "theirs")
    cluster.wait(lambda: cluster.count("GET", "v1beta1/.*/workloads$") >= 2, 30)
    cluster.patch("jobs", "theirs", {"spec": {"suspend": False}})
    result = k8r.finish(process, timeout=60)
    assert (result.code, result.out) == (0, text(3)), result.err


@pytest.mark.parametrize(
    "action", [Reset(), Cut("truncate", after_bytes=5), Cut("reset", after_bytes=5)]
)
def test_a_broken_connection_in_words(k8r: Cli, serve: Serve, action: Any) -> None:
    """No name of an exception, of whatever layer, is printed."""
    cluster = serve()
    cluster.fault(Match("GET"), action, times=None)
    process = k8r.start("ls", prefix=patched(FIRST_RETRY_TIME=0.3))
    result = k8r.finish(process, timeout=20)
    assert result.code == 125 and len(result.err.splitlines()) == 1
    assert f"cannot reach the cluster at {cluster.url}: " in result.err
    assert not REPR.search(result.err), result.err


@pytest.mark.parametrize("banner", [b"SSH-2.0-OpenSSH_9.6\r\n", b"HTTP/1.1 ok\r\n\r\n", b""])
def test_a_server_that_does_not_speak_http(k8r: Cli, serve: Serve, banner: bytes) -> None:
    """What it says instead is not printed."""
    cluster = serve()
    listener = socket.create_server(("127.0.0.1", 0))

    def answer() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            with connection:
                connection.recv(1 << 16)
                connection.sendall(banner)

    threading.Thread(target=answer, daemon=True).start()
    path = k8r.env["KUBECONFIG"]
    with open(path, encoding="utf-8") as file:
        config = file.read().replace(f":{cluster.port}", f":{listener.getsockname()[1]}")
    with open(path, "w", encoding="utf-8") as file:
        file.write(config)
    process = k8r.start("ls", prefix=patched(FIRST_RETRY_TIME=0.3))
    result = k8r.finish(process, timeout=20)
    listener.close()
    assert result.code == 125 and len(result.err.splitlines()) == 1
    assert "cannot reach the cluster" in result.err and not REPR.search(result.err), result.err


def test_a_job_that_outlives_its_outage_is_removed(k8r: Cli, serve: Serve) -> None:
    """What follows the verdict is part of the run: --rm waits, too."""
    cluster = serve(PodScript(numbered(3), run=0.3))
    cluster.outage(Match("DELETE"), Respond(503), 1.5, begin=Match("DELETE"))
    process = k8r.start("alpine", "--rm", "--", "true", prefix=patched(OVERLOAD_RETRIES=1))
    result = k8r.finish(process, timeout=60)
    assert result.code == 0, result.err
    cluster.wait(lambda: not cluster.objects("jobs"))
