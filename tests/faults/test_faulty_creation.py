"""A run is created once and whole, or not at all."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Callable, Dict, List

import pytest

from apiserver import Cut, Delay, Down, FakeCluster, Match, PodScript, Request, Reset, Respond
from apiserver import Stall, numbered
from helpers import foreign_job, gone, job, left, patched

if TYPE_CHECKING:
    from tests.conftest import Cli

Serve = Callable[..., FakeCluster]
CREATE = Match("POST", "/jobs$")
UPLOAD = Match("POST", "/configmaps$")
RESUME = Match("PATCH", "/jobs/")
STEPS = {"job": CREATE, "configmap": UPLOAD, "resume": RESUME}
FAULTS: Dict[str, List[Any]] = {
    "case 11, 429": [Respond(429, retry_after=1)],
    "case 11, 503": [Respond(503), Respond(503)],
    "case 11, 500": [Respond(500)],
    "case 12, answer lost": [Reset(applied=True)],
    "case 12, lost twice": [Reset(), Reset(applied=True)],
    "case 12, torn answer": [Cut("truncate", after_bytes=20)],
    "reset": [Reset()],
    "slow": [Delay(0.5)],
}


def sent(cluster: FakeCluster) -> List[Dict[str, Any]]:
    """The metadata of the ConfigMaps that were to be made; they go after a success."""
    return [request.body["metadata"] for request in cluster.matching("POST", "/configmaps$")]


@pytest.mark.case(11)
@pytest.mark.parametrize("step", list(STEPS))
@pytest.mark.parametrize("name", list(FAULTS))
def test_a_step_goes_wrong(
    k8r: Cli, cluster: FakeCluster, large_project: Path, step: str, name: str
) -> None:
    """Whatever meets the request: exactly one Job with three parts, which runs."""
    for nth, action in enumerate(FAULTS[name], start=1):
        cluster.fault(STEPS[step], action, nth=nth)
    result = k8r("./", "--", "true")
    assert (result.code, result.out) == (0, b"line 1\nline 2\nline 3\n"), result.err
    assert "k8r: work runs" in result.err
    assert [item["metadata"]["name"] for item in cluster.objects("jobs")] == ["work"]
    uid = job(cluster)["metadata"]["uid"]
    assert {owner["uid"] for part in sent(cluster) for owner in part["ownerReferences"]} == {uid}
    assert len({part["name"] for part in sent(cluster)}) == 3


LACKS = {
    "27": (["--num", "2"], "Kubernetes 1.29 is needed for several pods, and the cluster has 1.27"),
    "28+": (
        ["--nodes", "2"],
        "Kubernetes 1.29 is needed for several pods, and the cluster has 1.28",
    ),
    "29": (["-i"], "Kubernetes 1.30 is needed for -i, and the cluster has 1.29"),
}


@pytest.mark.parametrize("minor", list(LACKS))
def test_what_an_older_cluster_lacks(k8r: Cli, cluster: FakeCluster, minor: str) -> None:
    """It is said before anything is made."""
    cluster.minor, (options, told) = minor, LACKS[minor]
    result = k8r("alpine", *options, "--", "true")
    assert result.code == 125 and f"k8r: {told}" in result.err, result.err
    assert not cluster.matching("POST", "")


def test_what_commands_need_of_a_cluster(k8r: Cli, cluster: FakeCluster, project: Path) -> None:
    """What needs to tell the end of its input says so before it is begun."""
    cluster.play(PodScript(run=60))
    assert k8r("alpine", "-d", "--", "true").code == 0
    cluster.minor = "29"
    for words in (["exec", "-i", "alpine", "--", "cat"], ["cp", "file.txt", "alpine:/tmp/"]):
        result = k8r(*words)
        assert result.code == 125 and "Kubernetes 1.30 is needed for" in result.err, result.err
    assert not cluster.matching("GET", "/exec")


@pytest.mark.parametrize(
    "minor, options",
    [("29", ["--num", "2"]), ("", ["--num", "2"]), ("27", ["--num", "2", "--as-deployment", "-d"])],
)
def test_an_older_cluster_that_will_do(
    k8r: Cli, cluster: FakeCluster, minor: str, options: List[str]
) -> None:
    """One that has what the options need, or whose version is not a number."""
    cluster.minor = minor
    result = k8r("alpine", *options, "--", "true")
    assert result.code == 0, result.err


def test_nobody_waits_for_a_version_without_need(k8r: Cli, cluster: FakeCluster) -> None:
    """Only options that need a newer cluster have it asked."""
    cluster.fault(Match("GET", "/version$"), Stall(60), times=None)
    assert k8r("alpine", "--", "true").code == 0


def test_a_version_that_may_not_be_asked(k8r: Cli, cluster: FakeCluster) -> None:
    """It counts as new enough."""
    cluster.fault(Match("GET", "/version$"), Respond(403), times=None)
    assert k8r("alpine", "--num", "2", "--", "true").code == 0


FULL = "etcdserver: mvcc: database space exceeded"


@pytest.mark.parametrize("step", list(STEPS))
def test_the_database_is_full(k8r: Cli, cluster: FakeCluster, project: Path, step: str) -> None:
    """What etcd says when its quota is used up; it still deletes, and so does k8r."""
    cluster.fault(STEPS[step], Respond(500, FULL), times=None)
    result = k8r("./", "--", "true", timeout=60)
    assert result.code == 125 and FULL in result.err, result.err
    assert "k8r rm --done -n default makes room" in result.err
    assert gone(cluster), left(cluster)


def test_the_database_is_full_for_a_while(k8r: Cli, cluster: FakeCluster, project: Path) -> None:
    """The run goes on as soon as somebody has made room."""
    cluster.fault(UPLOAD, Respond(500, FULL), times=2)
    result = k8r("./", "--", "true")
    assert (result.code, result.out) == (0, b"line 1\nline 2\nline 3\n"), result.err


@pytest.mark.parametrize("nth", [2, 3])
def test_a_list_that_is_compacted_away(k8r: Cli, cluster: FakeCluster, nth: int) -> None:
    """etcd forgets the moment that a list's pages are of: all of it is asked for again."""
    for number in range(5):
        cluster.create("jobs", foreign_job(f"job-{number}", suspend=True))
    expired = "The provided continue parameter is too old to display a consistent list result."
    cluster.fault(Match("GET", "/jobs$"), Respond(410, expired), nth=nth)
    process = k8r.start("ls", "-o", "name", prefix=patched(LIST_PAGE=2))
    listed = k8r.finish(process)
    assert listed.out.decode().split() == [f"job-{number}" for number in range(5)], listed.err
    assert cluster.count("GET", "/jobs$") == nth + 1


def test_case_12_every_answer_is_lost(k8r: Cli, cluster: FakeCluster, large_project: Path) -> None:
    """The Job's and each ConfigMap's creation take effect, but no first answer arrives."""
    cluster.fault(CREATE, Reset(applied=True))
    cluster.fault(UPLOAD, Reset(applied=True), times=3)
    result = k8r("./", "--", "true")
    assert result.code == 0, result.err
    assert len(cluster.objects("jobs")) == 1 and len({part["name"] for part in sent(cluster)}) == 3


def test_case_12_the_answer_does_not_come_in_time(k8r: Cli, cluster: FakeCluster) -> None:
    """The server has created the Job and says nothing: found again after the read timeout."""
    cluster.fault(CREATE, Stall(600))
    process = k8r.start("alpine", "--", "true", prefix=patched(READ_TIMEOUT=1.0))
    result = k8r.finish(process, timeout=20)
    assert result.code == 0, result.err
    assert [item["metadata"]["name"] for item in cluster.objects("jobs")] == ["alpine"]


@pytest.mark.parametrize("step", list(STEPS))
@pytest.mark.parametrize("status", [429, 503])
def test_case_11_endless_refusal(
    k8r: Cli, cluster: FakeCluster, large_project: Path, step: str, status: int
) -> None:
    """k8r gives up with the server's words, and nothing is left."""
    cluster.fault(STEPS[step], Respond(status, "too busy today"), times=None)
    process = k8r.start("./", "--", "true", prefix=patched(OVERLOAD_RETRIES=2))
    result = k8r.finish(process)
    assert result.code == 125 and "too busy today" in result.err
    assert gone(cluster), left(cluster)


def test_case_11_endless_refusal_takes_a_bounded_time(k8r: Cli, cluster: FakeCluster) -> None:
    """With k8r's own constants that is less than half a minute."""
    cluster.fault(CREATE, Respond(503), times=None)
    result = k8r("alpine", "--", "true", timeout=30)
    assert result.code == 125 and cluster.objects("jobs") == []
    assert 4 <= cluster.count("POST") <= 10


@pytest.mark.parametrize("step", list(STEPS))
def test_a_step_is_refused(k8r: Cli, cluster: FakeCluster, large_project: Path, step: str) -> None:
    """A refusal is told in the server's words, and nothing is left."""
    cluster.fault(STEPS[step], Respond(422, "spec is not to my taste"), times=None)
    result = k8r("./", "--", "true")
    assert result.code == 125 and "spec is not to my taste" in result.err
    assert gone(cluster), left(cluster)
    assert cluster.count("POST", "/jobs$", dryRun=None) == 1


def test_a_conflict_at_resuming_leaves_nothing_behind(
    k8r: Cli, cluster: FakeCluster, project: Path
) -> None:
    """A 409 that is not about a name ends in one running Job, or in none."""
    cluster.fault(RESUME, Respond(409, "the object has been modified"))
    result = k8r("./", "--", "true")
    suspended = [item for item in cluster.objects("jobs") if item["spec"]["suspend"]]
    assert suspended == [], result.err
    assert len(cluster.objects("jobs")) == (1 if result.code == 0 else 0)


def test_the_server_goes_down_during_the_upload(
    k8r: Cli, cluster: FakeCluster, large_project: Path
) -> None:
    """Creation goes on where it was when the server is back."""
    cluster.fault(UPLOAD, Down(2), nth=2)
    result = k8r("./", "--", "true")
    assert result.code == 0, result.err
    assert len(cluster.objects("jobs")) == 1 and len({part["name"] for part in sent(cluster)}) == 3


def test_many_taken_names(k8r: Cli, cluster: FakeCluster, project: Path) -> None:
    """After the first few, those that are taken are asked for at once."""
    for number in range(60):
        cluster.create("jobs", foreign_job("work" if not number else f"work-{number}"))
    before = len(cluster.requests)
    ended = k8r("./", "-d", "--", "true")
    assert (ended.code, ended.text) == (0, "work-60\n"), ended.err
    assert len(cluster.requests) - before < 20


@pytest.mark.parametrize("where", ["job", "pods"])
def test_labels_that_a_policy_changes(k8r: Cli, cluster: FakeCluster, where: str) -> None:
    """What is found by its labels would be lost; that is said, with what removes it."""
    made = {"apiVersion": "batch/v1", "kind": "Job", **foreign_job("alpine")}
    changed = made if where == "job" else made["spec"]["template"]
    changed["metadata"] = {**changed["metadata"], "labels": {"created-by": "policy"}}
    made["metadata"]["uid"] = "a-uid"
    cluster.fault(CREATE, Respond(201, body=made))
    ended = k8r("alpine", "-d", "--", "true")
    assert ended.code == 0
    assert "changed the labels of alpine" in ended.err and "kubectl delete job alpine" in ended.err


def test_taken_names(k8r: Cli, cluster: FakeCluster, project: Path) -> None:
    """-1, -2: decided by the create call's 409, never by looking first."""
    names = [k8r("./", "-d", "--", "true").text.strip() for _ in range(3)]
    assert names == ["work", "work-1", "work-2"]
    assert cluster.count("POST", "/jobs$", dryRun=None) == 1 + 2 + 3
    assert len(cluster.objects("configmaps")) == 3
    before_create = [
        request
        for request in cluster.requests
        if (request.method, request.path[-5:]) == ("GET", "/jobs")
    ]
    assert before_create == []


def test_a_name_that_another_program_has(k8r: Cli, cluster: FakeCluster) -> None:
    """A Job that is not k8r's is left alone."""
    pod = {"restartPolicy": "Never", "containers": [{"name": "c", "image": "alpine"}]}
    made = cluster.create(
        "jobs", {"metadata": {"name": "alpine"}, "spec": {"template": {"spec": pod}}}
    )
    result = k8r("alpine", "--", "true")
    assert result.code == 0 and "alpine-1 runs" in result.err
    assert k8r("rm", "-f", "alpine").code == 125
    (theirs,) = [item for item in cluster.objects("jobs") if item["metadata"]["name"] == "alpine"]
    assert theirs["metadata"]["uid"] == made["metadata"]["uid"]


@pytest.mark.parametrize("action", [Reset(), Reset(applied=True), Respond(503)], ids=repr)
def test_case_24_a_deletion_whose_answer_is_lost(
    k8r: Cli, cluster: FakeCluster, project: Path, action: Any
) -> None:
    """It has succeeded, and k8r says so; nothing is left, and a repeat says that."""
    assert k8r("./", "-d", "--", "true").code == 0
    cluster.fault(Match("DELETE", "/jobs/"), action)
    result = k8r("rm", "-f", "work")
    assert (result.code, result.err) == (0, "k8r: removed work\n")
    assert gone(cluster), left(cluster)
    again = k8r("rm", "-f", "work")
    assert again.code == 125 and "no job 'work'" in again.err


@pytest.mark.parametrize("successor", [False, True])
def test_rm_removes_its_own_job_alone(k8r: Cli, cluster: FakeCluster, successor: bool) -> None:
    """It has vanished when --rm comes to it: neither a Deployment of its name is removed,
    nor the Job that somebody has made in its place.
    """
    assert k8r("alpine", "--as-deployment", "-d", "--", "true").code == 0
    asks = Match(path="/jobs/alpine$")
    vanished = []

    def vanish(request: Request) -> None:
        if asks.accepts(request) and request.method in ("GET", "DELETE") and not vanished:
            vanished.append(request.path)
            cluster.delete("jobs", "alpine")
            if successor:
                cluster.create("jobs", foreign_job("alpine", suspend=True))

    cluster.hook(vanish)
    result = k8r("alpine", "--rm", "--", "true")
    assert vanished and result.code == 0, result.err
    assert [item["metadata"]["name"] for item in cluster.objects("deployments")] == ["alpine"]
    assert len(cluster.objects("jobs")) == successor


def test_rm_leaves_nothing(k8r: Cli, cluster: FakeCluster, large_project: Path) -> None:
    """--rm removes the Job with its pods and ConfigMaps, whatever the exit code."""
    cluster.play(PodScript(numbered(2), exit_code=4))
    cluster.fault(Match("DELETE"), Reset(applied=True))
    result = k8r("./", "--rm", "--", "false")
    assert (result.code, result.out) == (4, b"line 1\nline 2\n"), result.err
    assert gone(cluster), left(cluster)
