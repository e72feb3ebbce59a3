"""The load balancer of these tests breaks what it is told to, and passes the rest on."""

from __future__ import annotations

import http.client
import json
from typing import TYPE_CHECKING, Any, Dict, Iterator, Tuple

import pytest

from balancer import Balancer
from common import patched
from support import ALPINE, Kubectl

from apiserver import Match, Respond, foreign

if TYPE_CHECKING:
    from tests.conftest import Cli


@pytest.fixture
def connection(balancer: Balancer) -> Iterator[http.client.HTTPConnection]:
    """A keep-alive connection to it."""
    made = http.client.HTTPConnection("127.0.0.1", balancer.port, timeout=30)
    yield made
    made.close()


def ask(connection: http.client.HTTPConnection, path: str) -> Tuple[int, Any]:
    """Status and body of a GET."""
    connection.request("GET", path)
    response = connection.getresponse()
    body = response.read()
    found = (response.getheader("Content-Type") or "").startswith("application/json")
    return response.status, json.loads(body) if found else body


def test_all_of_a_run_passes(
    run: Cli, balancer: Balancer, balanced: Dict[str, str], kubectl: Kubectl
) -> None:
    """Creation, watches, log and deletion."""
    script = "for n in 1 2 3; do echo $n; sleep 0.3; done; exit 3"
    ended = run(ALPINE, "--rm", "--", "sh", "-c", script, env=balanced)
    assert (ended.code, ended.out) == (3, b"1\n2\n3\n"), ended.err
    assert balancer.count("POST", "/jobs$") == 1 and balancer.count("GET", "/log$") >= 1
    assert balancer.count("DELETE", "/jobs/") == 1
    assert kubectl.names("jobs") == []


def test_an_outage(
    balancer: Balancer, connection: http.client.HTTPConnection, namespace: str
) -> None:
    """Answers in its own words, cuts the streams that match, and spares the rest."""
    maps = f"/api/v1/namespaces/{namespace}/configmaps"
    status, found = ask(connection, maps)
    assert (status, found["kind"]) == (200, "ConfigMapList")
    version = found["metadata"]["resourceVersion"]
    streams = []
    for path in (maps, maps.replace("configmaps", "secrets")):
        watcher = http.client.HTTPConnection("127.0.0.1", balancer.port, timeout=30)
        watcher.request("GET", f"{path}?watch=true&timeoutSeconds=3&resourceVersion={version}")
        streams.append((watcher, watcher.getresponse()))
    outage = balancer.outage(Match("GET", "/configmaps$"), Respond(503), 600)
    with pytest.raises(ConnectionResetError):
        streams[0][1].read()
    streams[1][1].read()
    for watcher, response in streams:
        response.close()
        watcher.close()
    assert ask(connection, maps)[1]["reason"] == "ServiceUnavailable"
    assert (outage.answered, outage.cut_streams) == (1, 1)
    balancer.outages[:] = [balancer.outage(Match("GET", "/configmaps$"), foreign(404), 600)]
    assert ask(connection, maps) == (404, foreign(404).raw)
    balancer.outages.clear()
    assert ask(connection, maps)[0] == 200


TRICKLE = "for n in $(seq 1 40); do echo line $n; sleep 1; done; exit 3"
TRICKLED = "".join(f"line {n}\n" for n in range(1, 41)).encode()
LOG = Match("GET", "/log$")


@pytest.mark.parametrize(
    "match, answer, seconds",
    [
        (Match(), Respond(503), 30),
        (Match(), foreign(404), 12),
        (LOG, Respond(500), 20),
        (Match("GET", "/(jobs|pods)$"), foreign(200), 12),
    ],
    ids=["503 for all", "a foreign 404 for all", "500 for the log", "HTML for lists"],
)
def test_an_outage_in_mid_run(
    run: Cli, balancer: Balancer, balanced: Dict[str, str], match: Match, answer: Any, seconds: int
) -> None:
    """A control plane restarts behind it: the run goes on, its log and its code are whole."""
    outage = balancer.outage(match, answer, seconds, after=3, begin=LOG)
    ended = run(ALPINE, "--", "sh", "-c", TRICKLE, env=balanced, timeout=180)
    assert (ended.code, ended.out) == (3, TRICKLED), ended.err
    assert outage.answered >= 1 and outage.cut_streams >= 1


def test_an_outage_at_the_end_of_a_run(
    run: Cli, balancer: Balancer, balanced: Dict[str, str], kubectl: Kubectl
) -> None:
    """The command ends meanwhile: the rest of its log is had after that, and all is removed."""
    balancer.outage(Match(), Respond(503), 20, after=2, begin=LOG)
    script = "for n in 1 2 3 4 5 6; do echo $n; sleep 1; done"
    ended = run(ALPINE, "--rm", "--", "sh", "-c", script, env=balanced, timeout=180)
    assert (ended.code, ended.out) == (0, b"1\n2\n3\n4\n5\n6\n"), ended.err
    assert kubectl.names("jobs") == []


def test_streams_that_are_cut_again_and_again(
    run: Cli, balancer: Balancer, balanced: Dict[str, str]
) -> None:
    """Each comes back to the place at which it was."""
    outages = [
        balancer.outage(Match("GET", path), Respond(503), 0.3, after=after, begin=LOG, cut=cut)
        for path in ("/log$", "/pods$", "/jobs$")
        for after, cut in ((1, "reset"), (3, "eof"), (5, "truncate"), (7, "reset"))
    ]
    script = "for n in $(seq 1 100); do echo line $n; sleep 0.1; done; exit 3"
    ended = run(ALPINE, "--", "sh", "-c", script, env=balanced, timeout=180)
    expected = "".join(f"line {n}\n" for n in range(1, 101)).encode()
    assert (ended.code, ended.out) == (3, expected), ended.err
    assert sum(outage.cut_streams for outage in outages) >= 6


def test_a_log_that_stays_unreadable(
    run: Cli, balancer: Balancer, balanced: Dict[str, str], kubectl: Kubectl
) -> None:
    """A success without its log is not one, and leaves all there is."""
    balancer.outage(LOG, Respond(500), 600, after=2, begin=LOG)
    script = "for n in 1 2 3 4 5; do echo $n; sleep 1; done"
    prefix = patched(RETRY_TIME=5.0)
    process = run.start(ALPINE, "--rm", "--", "sh", "-c", script, env=balanced, prefix=prefix)
    ended = run.finish(process, timeout=180)
    assert ended.code == 125 and "its log could not be read to its end" in ended.err
    assert len(kubectl.names("jobs")) == 1
