"""The load balancer of these tests breaks what it is told to, and passes the rest on."""

from __future__ import annotations

import http.client
import json
from typing import TYPE_CHECKING, Any, Dict, Iterator, Tuple

import pytest

from balancer import Balancer
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
