"""`--nodes`: several pods as one program, which find each other by name and end together."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, List

from common import until
from kueue import Kueue
from support import ALPINE, Kubectl, nothing_left, read_until

if TYPE_CHECKING:
    from tests.conftest import Cli

MEAN = Path(__file__).resolve().parents[2] / "examples" / "nodes" / "mean.py"
OTHERS = "trap 'exit 143' TERM; sleep 300 & wait"


def shell(text: str) -> List[str]:
    """A command that is shell text."""
    return ["--", "sh", "-c", text]


def test_a_rendezvous(run: Cli, kubectl: Kubectl, workdir: Path) -> None:
    """Four nodes meet at the first and agree, again under the same name, and leave nothing."""
    shutil.copy(MEAN, workdir)
    for options in ([], ["--replace", "--rm"]):
        ended = run("./", "--nodes", "4", *options, "--", "python", "mean.py")
        assert ended.code == 0, ended.err
        wanted = [
            f"[{node}] node {node} of 4, step {step}: the mean is {15.0 + step}"
            for node in range(4)
            for step in range(3)
        ]
        assert sorted(ended.text.splitlines()) == wanted
    nothing_left(kubectl)
    until(lambda: not kubectl.names("services") or None, "the end of the Service")


def test_their_names(run: Cli, kubectl: Kubectl) -> None:
    """Each is NAME-I.NAME, in an image without getent, too, and torchrun's defaults are set."""
    seen = "until ping -c 1 $name > /dev/null 2>&1; do sleep 1; done"  # rank 0 alone is waited for
    names = "$(echo $K8R_NODES | tr , ' ')"
    ask = f"ping -c 1 $MASTER_ADDR > /dev/null; for name in {names}; do {seen}; done"
    ended = run(
        ALPINE, "--nodes", "3", *shell(f"set -e; {ask}; env | grep -E '^(PET_|NODE_RANK|NN)'")
    )
    assert ended.code == 0, ended.err
    found = {tuple(line.split(" ", 1)) for line in ended.text.splitlines()}
    for rank in range(3):
        assert {text for label, text in found if label == f"[{rank}]"} == {
            f"NODE_RANK={rank}",
            "NNODES=3",
            f"PET_NODE_RANK={rank}",
            "PET_NNODES=3",
            "PET_MASTER_ADDR=alpine-0.alpine",
            "PET_MASTER_PORT=29500",
        }


def test_the_first_failure_ends_all(run: Cli, kubectl: Kubectl) -> None:
    """A node that is killed takes the others down; its rank, code and reason are the verdict."""
    script = f"[ $NODE_RANK = 2 ] && sleep 1 && exec tail /dev/zero; {OTHERS}"
    ended = run(ALPINE, "--nodes", "4", "--mem", "32Mi", *shell(script), timeout=100)
    assert ended.code == 137, ended.err
    verdict, hint = ended.err.strip().splitlines()[-2:]
    assert "alpine: rank 2 failed first: exit code 137 (OOMKilled)" in verdict
    assert hint.endswith("k8r retry alpine --mem 64Mi")
    until(lambda: len(kubectl.names("pods")) == 1 or None, "the end of the others")
    assert "Failed: exit code 137 (OOMKilled)" in run("ls").text
    assert run("ls", "alpine").text.splitlines()[1].startswith("2  ")


def test_a_node_that_is_evicted(run: Cli, kubectl: Kubectl) -> None:
    """That ends all as well, and is no success."""
    process = run.start(ALPINE, "--nodes", "2", *shell(f"echo begun; {OTHERS}"))
    read_until(process.stdout, b"[1] begun\n")
    [pod] = [name for name in kubectl.names("pods") if name.startswith("alpine-1-")]
    eviction = '{"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": "%s"}}' % pod
    path = f"/api/v1/namespaces/{kubectl.namespace}/pods/{pod}/eviction"
    kubectl("create", "--raw", path, "-f", "-", stdin=eviction.encode())
    ended = run.finish(process)
    assert ended.code == 143, ended.err
    assert "rank 1 failed first: exit code 143 (EvictionByEvictionAPI: " in ended.err


def test_a_queue_admits_all_or_none(run: Cli, kubectl: Kubectl, kueue: Kueue) -> None:
    """Where there is room for two of three, none of them is made."""
    queue = kueue.queue(pods=3)
    kueue.block(queue)
    process = run.start(ALPINE, "--nodes", "3", "--queue", queue, *shell("echo ran"))
    read_until(process.stderr, b"insufficient unused quota")
    assert not [name for name in kubectl.names("pods") if name.startswith("alpine")]
    kueue.unblock()
    ended = run.finish(process)
    assert sorted(ended.text.splitlines()) == [f"[{rank}] ran" for rank in range(3)], ended.err
