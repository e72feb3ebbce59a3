"""`k8r ls` and `k8r rm`: what there is, and its end."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Dict, List, Tuple

import pytest
import yaml

from common import until
from support import ALPINE, GATE, Kubectl, nothing_left, read_until

if TYPE_CHECKING:
    from tests.conftest import Cli

HEADER = "NAME TYPE SOURCE DESIRED RUNNING COMPLETE FAILED STATUS TOOK AGE"


@pytest.fixture
def three(run: Cli, kubectl: Kubectl) -> Cli:
    """A Job that has succeeded, one that has failed, one that runs."""
    for name, script in (("good", "echo said"), ("bad", "exit 1"), ("busy", GATE)):
        assert run(ALPINE, "--job-name", name, "-d", "--", "sh", "-c", script).code == 0

    def probe() -> bool:
        jobs = {item["metadata"]["name"]: item["status"] for item in kubectl.items("jobs")}
        ended = all(jobs[name].get("conditions") for name in ("good", "bad"))
        return bool(ended and jobs["busy"].get("ready"))

    until(probe, "two ended Jobs and one with a ready pod")
    return run


def rows(run: Cli) -> Dict[str, Dict[str, object]]:
    """`ls` as data, by name."""
    listed: List[Dict[str, object]] = json.loads(run("ls", "-o", "json").out)
    return {str(row["name"]): row for row in listed}


def test_formats(three: Cli, kubectl: Kubectl) -> None:
    """A table for people; JSON, YAML and names for programs, all of the same."""
    shown = three("ls")
    assert shown.code == 0 and shown.err == ""
    header, *lines = shown.text.splitlines()
    assert header.split() == HEADER.split()
    cells = {line.split()[0]: line.split()[1:8] for line in lines}
    assert cells == {
        "good": ["job", "container", "1", "0", "1", "0", "Complete"],
        "bad": ["job", "container", "1", "0", "0", "1", "Failed:"],
        "busy": ["job", "container", "1", "1", "0", "0", "Running"],
    }
    assert "Failed: exit code " in shown.text
    data = json.loads(three("ls", "-o", "json").out)
    names = [line.split()[0] for line in lines]
    assert [row["name"] for row in data] == names
    assert yaml.safe_load(three("ls", "-o", "yaml").out) == data
    assert three("ls", "-o", "name").text.split() == names
    other = three("ls", "-n", "kube-system", "-o", "name")
    assert other.code == 0 and not set(other.text.split()) & {"good", "bad", "busy"}


def test_an_empty_namespace(run: Cli, kubectl: Kubectl) -> None:
    """Nothing there: said on stderr, nothing on stdout, no failure."""
    shown = run("ls")
    assert (shown.code, shown.out) == (0, b"")
    assert kubectl.namespace in shown.err
    assert json.loads(run("ls", "-o", "json").out) == []
    assert run("ls", "-o", "name").out == b""
    for option in ("--all", "--done"):
        assert run("rm", option).code == 0


@pytest.mark.parametrize("options", [(), ("-o", "json"), ("-w",)])
def test_no_such_namespace(run: Cli, options: Tuple[str, ...]) -> None:
    """It is no empty one."""
    ended = run("ls", "-n", "k8r-test-nope", *options)
    assert (ended.code, ended.out) == (125, b"")
    assert "there is no namespace k8r-test-nope" in ended.err


def test_watching_a_pod_without_its_image(run: Cli, kubectl: Kubectl) -> None:
    """`ls -w` says Pending from the Job's beginning to its end, never Running."""
    process = run.start("ls", "-w", "-o", "json")
    assert run("k8r-test/no-such-image:1", "--job-name", "stuck", "-d", "--", "true").code == 0

    def probe() -> bool:
        states = [
            status["state"].get("waiting", {}).get("reason")
            for pod in kubectl.items("pods")
            for status in pod["status"].get("containerStatuses", ())
        ]
        return bool({"ErrImagePull", "ImagePullBackOff"} & set(states))

    until(probe, "the kubelet's failure")
    shown = read_until(process.stdout, b'"Pending (')  # by its pod alone: the Job does not change
    while b"ErrImagePull" not in shown and b"ImagePullBackOff" not in shown:
        shown += read_until(process.stdout, b'"Pending (')
        shown += read_until(process.stdout, b"\n")
    kubectl("delete", "job", "stuck", "--wait=false")
    shown += read_until(process.stdout, b'"Deleted"')
    process.terminate()
    statuses = [json.loads(line)["status"] for line in shown.decode().splitlines() if line]
    assert "Running" not in statuses and statuses[-1] == "Deleted"
    assert {"Pending (ErrImagePull)", "Pending (ImagePullBackOff)"} & set(statuses)


def test_what_k8r_has_not_made(run: Cli, kubectl: Kubectl) -> None:
    """Other Jobs are neither listed nor removed nor read, whatever is asked."""
    kubectl("create", "job", "foreign", "--image", ALPINE, "--", "true")
    assert "foreign" not in run("ls").text
    for args in (("rm", "foreign"), ("rm", "-f", "foreign"), ("logs", "foreign")):
        ended = run(*args)
        assert ended.code == 125 and "foreign" in ended.err
    assert run("rm", "--all", "-f").code == 0
    assert run("rm", "--done").code == 0
    assert kubectl.names("jobs") == ["foreign"]
    ended = run(ALPINE, "--job-name", "foreign", "--", "true")
    assert ended.code == 0
    assert sorted(kubectl.names("jobs")) == ["foreign", "foreign-1"]


def test_replace_waits_for_the_old_pods(run: Cli, kubectl: Kubectl) -> None:
    """What replaces a run never runs beside it."""
    slow = "trap 'sleep 4; exit 0' TERM; while :; do sleep 0.1; done"
    assert run(ALPINE, "-d", "--", "sh", "-c", slow).code == 0
    old = kubectl.running_pod("alpine")
    ended = run(ALPINE, "-d", "--replace", "--", "true")
    assert ended.code == 0, ended.err
    assert old not in kubectl.names("pods")
    assert kubectl.names("jobs") == ["alpine"]


def test_replace_spares_what_k8r_has_not_made(run: Cli, kubectl: Kubectl) -> None:
    """--replace removes no Job of somebody else's."""
    kubectl("create", "job", "foreign", "--image", ALPINE, "--", "true")
    uid = kubectl.get("job", "foreign")["metadata"]["uid"]
    run(ALPINE, "--job-name", "foreign", "--replace", "--", "true")
    assert kubectl.get("job", "foreign")["metadata"]["uid"] == uid


@pytest.mark.case(24)
def test_a_running_job_is_spared(three: Cli, kubectl: Kubectl) -> None:
    """rm refuses what runs and says how it is done; -f does it."""
    refused = three("rm", "busy")
    assert refused.code == 125
    assert "busy" in refused.err and "rm -f busy" in refused.err
    assert "busy" in kubectl.names("jobs")
    several = three("rm", "busy", "good")
    assert several.code == 125
    assert sorted(kubectl.names("jobs")) == ["bad", "busy"]
    forced = three("rm", "-f", "busy")
    assert forced.code == 0
    assert kubectl.names("jobs") == ["bad"]


def test_waiting_for_the_end(run: Cli, kubectl: Kubectl) -> None:
    """By --wait rm ends when the pods have, all of which end at the same time; without it says
    how long they may take.
    """
    slow = "trap 'sleep 5; exit 0' TERM; while :; do sleep 0.1; done"
    for name in ("one", "two", "three"):
        assert run(ALPINE, "-d", "--job-name", name, "--", "sh", "-c", slow).code == 0
        kubectl.running_pod(name)
    ended = run("rm", "-f", "three")
    assert ended.code == 0 and "the pods of three have 30 s to end" in ended.err, ended.err
    process = run.start("rm", "-f", "--wait", "one", "two")
    names = ("one", "two")

    def told() -> bool:
        jobs = [kubectl.get("job", name) for name in names]
        return all("deletionTimestamp" in job.get("metadata", ()) for job in jobs)

    until(told, "both being deleted")
    ended = run.finish(process)
    assert ended.code == 0 and ended.err == "k8r: removed one\nk8r: removed two\n", ended.err
    mine = [name for name in kubectl.names("pods") if name.startswith(names)]
    assert mine == kubectl.names("jobs") == []
    assert run(ALPINE, "--job-name", "four", "--", "true").code == 0
    assert run("rm", "-f", "four").err == "k8r: removed four\n"


@pytest.mark.case(24)
def test_done(three: Cli, kubectl: Kubectl) -> None:
    """rm --done removes what has ended, and only that."""
    assert three("rm", "--done").code == 0
    assert kubectl.names("jobs") == ["busy"]
    until(lambda: len(kubectl.names("pods")) == 1, "the end of the other pods", 30)


@pytest.mark.case(24)
def test_all(three: Cli, kubectl: Kubectl) -> None:
    """rm --all spares what runs; with -f nothing is left."""
    refused = three("rm", "--all")
    assert (refused.code, refused.err.count("busy")) == (125, 1)
    assert refused.err.splitlines()[-1].startswith("k8r: not finished: busy; ")
    assert kubectl.names("jobs") == ["busy"]
    assert three("delete", "--all", "--force").code == 0
    nothing_left(kubectl)


@pytest.mark.case(24)
def test_twice(run: Cli, kubectl: Kubectl) -> None:
    """A second rm does no harm and says that there is nothing."""
    assert run(ALPINE, "--", "true").code == 0
    first = run("rm", "-f", "alpine")
    assert first.code == 0 and "alpine" in first.err
    second = run("rm", "-f", "alpine")
    assert second.code == 125 and "alpine" in second.err
    assert "Traceback" not in second.err
    nothing_left(kubectl)


def test_names_that_nothing_has(run: Cli) -> None:
    """Each is complained about, in their order."""
    ended = run("rm", "one", "two", "three")
    assert ended.code == 125
    assert re.findall(r"no job '(\w+)'", ended.err) == ["one", "two", "three"]


def test_a_similar_name_is_suggested(run: Cli, kubectl: Kubectl) -> None:
    """A mistyped name: the one that was meant."""
    assert run(ALPINE, "--job-name", "training", "-d", "--", "true").code == 0
    for args in (("rm", "trainig"), ("logs", "trainig")):
        ended = run(*args)
        assert ended.code == 125 and "did you mean training" in ended.err


def test_counts_of_several_pods(run: Cli, kubectl: Kubectl) -> None:
    """The columns count pods of each kind."""
    script = f"case $K8R_INDEX in 0) exit 0;; 1) exit 1;; *) {GATE};; esac"
    assert run(ALPINE, "-d", "--num", "4", "--", "sh", "-c", script).code == 0

    def probe() -> bool:
        row = rows(run)["alpine"]
        return [row[key] for key in ("desired", "running", "complete", "failed")] == [4, 2, 1, 1]

    until(probe, "two that run, one success, one failure")
