"""How often a command is tried, counted on the node, where no lost log can spoil the count."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Iterator, List

import pytest

from support import ALPINE, Kubectl, Object

if TYPE_CHECKING:
    from tests.conftest import Cli

ATTEMPT = """
trap 'exit 143' TERM
echo begin >>/count/log
[ "$(grep -c begin /count/log)" -lt 3 ] || { sleep 15 & wait $!; }
echo end >>/count/log
exit 1
"""
"""An attempt that fails, the third after some time; and ends at once when it is told to, as most
programs do.
"""


class Counter:
    """A folder of one node, which attempts write to and a pod of its own reads."""

    def __init__(self, kubectl: Kubectl) -> None:
        self._kubectl = kubectl
        self._node = kubectl.names("nodes")[0]
        self._folder = kubectl.namespace
        kubectl("create", "-f", "-", stdin=json.dumps(self._reader()).encode())
        kubectl.running_pod("reader")

    def patch(self, restart_policy: str) -> Object:
        """A patch that gives the command the folder, and its pod that policy."""
        mount = {"name": "count", "mountPath": "/count"}
        source = {"path": f"/tmp/{self._folder}", "type": "DirectoryOrCreate"}
        return {
            "spec": {
                "nodeName": self._node,
                "restartPolicy": restart_policy,
                "containers": [{"name": "main", "volumeMounts": [mount]}],
                "volumes": [{"name": "count", "hostPath": source}],
            }
        }

    def lines(self) -> List[str]:
        """What the attempts have written."""
        return self._exec("cat", f"/node/{self._folder}/log").split()

    def remove(self) -> None:
        """Leave nothing on the node."""
        self._exec("rm", "-r", f"/node/{self._folder}")

    def _exec(self, *args: str) -> str:
        return self._kubectl("exec", "reader", "--", *args)

    def _reader(self) -> Object:
        mounts = [{"name": "node", "mountPath": "/node"}]
        stay = ["sh", "-c", "trap exit TERM; while :; do sleep 1; done"]
        container = {"name": "main", "image": ALPINE, "command": stay, "volumeMounts": mounts}
        return {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": "reader", "labels": {"job-name": "reader"}},
            "spec": {
                "nodeName": self._node,
                "containers": [container],
                "volumes": [{"name": "node", "hostPath": {"path": "/tmp"}}],
            },
        }


@pytest.fixture
def counter(kubectl: Kubectl) -> Iterator[Counter]:
    """Counts attempts of this test."""
    made = Counter(kubectl)
    yield made
    made.remove()


@pytest.mark.case(14)
@pytest.mark.slow
@pytest.mark.parametrize("retries", [0, 2])
def test_exactly_so_many_retries(run: Cli, kubectl: Kubectl, retries: int) -> None:
    """--retry N: the first attempt and N more, each from its beginning to its end."""
    script = "echo begin; sleep 1; echo end; exit 1"
    ended = run(ALPINE, "--retry", str(retries), "--", "sh", "-c", script)
    assert ended.code == 1
    assert sorted(ended.text.split()) == ["begin"] * (retries + 1) + ["end"] * (retries + 1)
    assert len(kubectl.names("pods")) == retries + 1


@pytest.mark.case(14)
@pytest.mark.slow
@pytest.mark.parametrize("policy, code", [("Never", 1), ("OnFailure", 143)])
def test_why_the_restart_policy_is_never(
    run: Cli, counter: Counter, workdir: Path, policy: str, code: int
) -> None:
    """With OnFailure the kubelet itself tries again, and the Job controller ends the pod once
    it sees that the last retry has begun, since it takes its number for that of the failures.
    """
    (workdir / "patch").write_text(json.dumps(counter.patch(policy)))
    ended = run(ALPINE, "--retry", "2", "--patch", "patch", "--", "sh", "-c", ATTEMPT)
    lines = counter.lines()
    if policy == "Never":
        assert lines == ["begin", "end"] * 3, ended.err
    else:
        assert len(lines) >= 5 and lines[-1] == "begin", ended.err
    assert ended.code == code
