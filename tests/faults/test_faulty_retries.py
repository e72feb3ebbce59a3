"""`retry`: what the cluster has kept of a run is used whole, or the refusal says why."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import TYPE_CHECKING, Callable, Dict

import pytest

from apiserver import FakeCluster, Match, Obj, PodScript, Reset, Respond
from test_faulty_signals import Nth, interrupted

if TYPE_CHECKING:
    from tests.conftest import Cli

Serve = Callable[..., FakeCluster]
REQUESTS = range(1, 25, 3)


@pytest.fixture
def swept(k8r: Cli, serve: Serve, project: Path) -> FakeCluster:
    """A cluster with a run of three lines, all of which have failed."""
    cluster = serve(PodScript(["tried"], exit_code=3))
    (project / "lines").write_text("a\nb\nc\n")
    assert k8r("./", "--each", "lines", "--job-name", "sweep", "--", "true").code == 3
    return cluster


def edit(cluster: FakeCluster, change: Callable[[Obj], None]) -> None:
    """Make all ConfigMaps anew, as somebody else could."""
    for item in cluster.objects("configmaps"):
        cluster.delete("configmaps", item["metadata"]["name"])
        change(item)
        kept = {key: item["metadata"].get(key) for key in ("name", "labels", "annotations")}
        cluster.create("configmaps", {**item, "metadata": kept})


DAMAGES: Dict[str, Callable[[Obj], None]] = {
    "nothing": lambda item: item.update(binaryData=None, data=None),
    "no lines": lambda item: item.update(data=None),
    "other bytes": lambda item: item.update(binaryData={"archive": "AAAA"}, data={"rows": "AAAA"}),
}


@pytest.mark.parametrize("damage", list(DAMAGES))
def test_what_was_kept_is_damaged(k8r: Cli, swept: FakeCluster, damage: str) -> None:
    """Neither the archive nor the lines are guessed at."""
    edit(swept, DAMAGES[damage])
    result = k8r("retry", "sweep")
    assert result.code == 125 and "anew" in result.err, result.err
    assert k8r("ls", "sweep").code == 0  # without lines, if need be
    assert "internal error" not in result.err and len(swept.objects("jobs")) == 1


@pytest.mark.parametrize("text", ["{", "[]", '{"resources": 1}', '{"rows": 7}', '{"num": "x"}'])
def test_a_damaged_note(k8r: Cli, swept: FakeCluster, text: str) -> None:
    """Anybody who may change Jobs may have written it."""
    swept.patch("jobs", "sweep", {"metadata": {"annotations": {"k8r-options": text}}})
    result = k8r("retry", "sweep")
    assert "internal error" not in result.err, result.err


def test_what_is_gone(k8r: Cli, swept: FakeCluster, project: Path) -> None:
    """Without lines nothing is run; without an archive the directory is, as long as it exists."""
    for item in swept.objects("configmaps"):
        if "each" not in item["metadata"]["name"]:
            swept.delete("configmaps", item["metadata"]["name"])
    (project / "file.txt").write_text("other\n")
    result = k8r("retry", "sweep")
    assert result.code == 3 and "has changed since the run before" in result.err, result.err
    for item in swept.objects("configmaps"):
        swept.delete("configmaps", item["metadata"]["name"])
    result = k8r("retry", "sweep")
    assert (result.code, "the lines of sweep are gone" in result.err) == (125, True), result.err


@pytest.mark.parametrize("path", ["/configmaps/", "/jobs/sweep$", "/pods$"])
def test_what_may_not_be_read(k8r: Cli, swept: FakeCluster, path: str) -> None:
    """The verb and the resource are named, and nothing is made."""
    words = 'x is forbidden: User "dev" cannot read resource "x" in API group "" in the namespace'
    swept.fault(Match("GET", path), Respond(403, f'{words} "default"'), times=9)
    result = k8r("retry", "sweep")
    assert result.code == 125 and "you have no permission to read x " in result.err, result.err
    assert len(swept.objects("jobs")) == 1


def test_a_name_that_is_taken_meanwhile(k8r: Cli, swept: FakeCluster) -> None:
    """The next one is taken, and the numbers stay those of the first run."""
    for name in ("sweep-retry", "sweep-retry-1"):
        result = k8r("retry", "sweep", "--index", "2,0")
        assert (result.code, f"k8r: {name} runs" in result.err) == (3, True), result.err
        assert sorted(result.out.splitlines()) == [b"[0] tried", b"[2] tried"]


@pytest.mark.parametrize("nth", REQUESTS)
def test_a_connection_that_is_lost(k8r: Cli, swept: FakeCluster, nth: int) -> None:
    """Whichever request it is: three pods, once."""
    swept.fault(Nth(len(swept.requests) + nth), Reset(applied=bool(nth % 2)))
    result = k8r("retry", "sweep")
    assert result.code == 3, result.err
    assert sorted(result.out.splitlines()) == [b"[%d] tried" % index for index in range(3)]
    assert len(swept.objects("jobs")) == 2


@pytest.mark.parametrize("nth", REQUESTS)
def test_case_23_a_signal(k8r: Cli, swept: FakeCluster, nth: int) -> None:
    """There is a whole Job, which goes on or has ended, or nothing."""
    when = Nth(len(swept.requests) + nth)
    result, _ = interrupted(k8r, swept, ("retry", "sweep"), signal.SIGINT, when)
    jobs = [item for item in swept.objects("jobs") if item["metadata"]["name"] != "sweep"]
    assert result.code in (130, 3) and "Traceback" not in result.err, result.err
    assert not any(item["spec"]["suspend"] for item in jobs), result.err
    assert ("sweep-retry" in result.err) == bool(jobs), result.err


def test_while_it_runs(k8r: Cli, serve: Serve) -> None:
    """The way to end it can be pasted: it has the namespace."""
    serve(PodScript(run=600))
    assert k8r("-d", "alpine", "--", "true").code == 0
    result = k8r("-n", "default", "retry", "alpine")
    assert result.code == 2 and "end it: k8r stop alpine -n default" in result.err, result.err


def test_all_are_removed_after_one_list(k8r: Cli, swept: FakeCluster) -> None:
    """`rm --all` asks once which Jobs there are."""
    before = swept.count("GET", "/jobs$")
    assert k8r("rm", "--all").code == 0 and not swept.objects("jobs")
    assert swept.count("GET", "/jobs$") == before + 1
