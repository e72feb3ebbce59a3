"""`k8r SOURCE -- COMMAND`: what is printed, what comes back, what is made and removed."""

from __future__ import annotations

import hashlib
import json
import os
import re
import subprocess
import sys
import time
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, List

import pytest

from common import until
from support import ALPINE, GATE, MIB, PYTHON, Kubectl, Object, elapsed, nothing_left, read_until

if TYPE_CHECKING:
    from tests.conftest import Cli

HELLO = """\
import hashlib, os, sys
print("hello", sys.argv[1:])
with open("data.bin", "rb") as file:
    print(hashlib.sha256(file.read()).hexdigest())
print("last line", end="")
sys.stdout.flush()
sys.exit(int(os.environ.get("CODE", "7")))
"""

LINGER = "sleep 2"
"""Put after much output: containerd 1.6 loses what is still in the pipe when a container ends."""


def shell(*lines: str) -> List[str]:
    """A command that runs shell text."""
    return ["--", "sh", "-c", "\n".join(lines)]


@pytest.fixture
def project(workdir: Path) -> Path:
    """A git work tree with a program, 5 MiB of random data and an ignored secret."""
    subprocess.run(["git", "init", "-q", str(workdir)], check=True)
    (workdir / "hello.py").write_text(HELLO)
    (workdir / "data.bin").write_bytes(os.urandom(5 * MIB))
    (workdir / ".gitignore").write_text("secret.txt\n")
    (workdir / "secret.txt").write_text("not for others")
    return workdir


@pytest.mark.parametrize("words, hinted", [(["gone", "x"], True), (["sh", "-c", "gone"], True)])
def test_a_word_that_the_image_lacks(
    run: Cli, project: Path, words: List[str], hinted: bool
) -> None:
    """Exit code 127 names it and the image, and how to set another one."""
    ended = run("./", "--", *words)
    assert ended.code == 127
    hint = f"if it was '{words[0]}' that was not found: the image alpine:latest lacks it"
    assert (hint in ended.err) is hinted and "--base-image NAME" in ended.err
    assert "lacks" not in run("./", "--", "sh", "-c", "exit 3").err


@pytest.mark.case(1)
@pytest.mark.clean
def test_a_run_from_beginning_to_end(run: Cli, kubectl: Kubectl, project: Path) -> None:
    """A program prints in the cluster what it prints here, byte for byte, and its
    exit code comes back; ls, logs and rm find it.
    """
    command = ["python3", "hello.py", "a b", "$X"]
    here = subprocess.run([sys.executable, *command[1:]], cwd=project, stdout=subprocess.PIPE)
    assert here.returncode == 7
    there = run("./", "--", *command)
    assert there.out == here.stdout
    assert there.code == 7
    assert "exit code 7" in there.err

    def listed() -> bool:  # the Job's own counts come some seconds after its container's end
        rows = json.loads(run("ls", "-o", "json").out)
        return [(row["name"], row["failed"]) for row in rows] == [("work", 1)]

    until(listed, "one failed run in ls", 30)
    assert "work" in run("ls").text

    again = run("logs", "work")
    assert (again.code, again.out) == (0, here.stdout)

    second = run("./", *shell("ls -A; echo $K8R_JOB"))
    assert second.code == 0, second.err
    assert second.text.split() == [".gitignore", "data.bin", "hello.py", "work-1"]
    assert sorted(kubectl.names("jobs")) == ["work", "work-1"]

    removed = run("rm", "work", "work-1")
    assert removed.code == 0, removed.err
    nothing_left(kubectl)


def test_all_objects_are_labelled_and_owned(run: Cli, kubectl: Kubectl, project: Path) -> None:
    """Everything made carries k8r's labels and goes away with the Job."""
    assert run("./", "--job-name", "chosen", "--", "false").code == 1
    [job] = kubectl.items("jobs")
    assert job["metadata"]["name"] == "chosen"
    made = kubectl.items("jobs,pods,configmaps")
    made = [item for item in made if item["metadata"]["name"] != "kube-root-ca.crt"]
    kinds = [item["kind"] for item in made]
    assert kinds.count("Pod") == 1 and kinds.count("ConfigMap") >= 5
    expected = {"created-by": "k8r", "k8r-job": "chosen", "k8r-source-type": "directory"}
    for item in made + [{"metadata": job["spec"]["template"]["metadata"], "kind": "Job"}]:
        assert expected.items() <= item["metadata"]["labels"].items(), item["metadata"]
        if item["kind"] != "Job":
            owners = item["metadata"]["ownerReferences"]
            assert [owner["uid"] for owner in owners] == [job["metadata"]["uid"]]


def test_yaml_runs_as_printed(k8r: Cli, run: Cli, kubectl: Kubectl, project: Path) -> None:
    """--show-yaml needs no cluster, and kubectl can create what it prints."""
    shown = k8r("./", "--show-yaml", *shell("cat hello.py"), env={"KUBECONFIG": "/nonexistent"})
    assert shown.code == 0, shown.err
    kubectl("create", "-f", "-", stdin=shown.out)
    until(lambda: kubectl.get("job", "work")["status"].get("succeeded"), "success of the Job")
    assert run("logs", "work").text == HELLO


def test_several_pods(run: Cli, kubectl: Kubectl) -> None:
    """--num gives each pod an index; each line tells whose it is."""
    ended = run(ALPINE, "--num", "5", *shell("echo $K8R_INDEX of $K8R_COUNT in $K8R_JOB"))
    assert ended.code == 0, ended.err
    expected = [f"[{index}] {index} of 5 in alpine" for index in range(5)]
    assert sorted(ended.text.splitlines()) == expected
    assert sorted(run("logs", "alpine").text.splitlines()) == expected
    for follow in ([], ["-f"]):  # of one index there is nothing to tell apart
        assert run("logs", "alpine", "--index", "3", *follow).text == "3 of 5 in alpine\n"


def test_a_limit_on_pods_at_a_time(run: Cli, kubectl: Kubectl) -> None:
    """--parallel bounds how many pods run together."""
    ended = run(ALPINE, "-d", "--num", "3", "--parallel", "1", *shell(GATE))
    assert ended.code == 0, ended.err
    kubectl.running_pod("alpine")
    assert kubectl.get("job", "alpine")["status"]["active"] == 1


@pytest.mark.case(2)
def test_odd_bytes_pass_unchanged(run: Cli, workdir: Path) -> None:
    """NUL, invalid UTF-8, carriage returns, a line of 100 KiB, no newline at the end."""
    odd = b"\0\xff\xfe\r\x1b[0m \xf0\x9f\n\n" + b"x\xc3\xa4" * 34_000 + b"\n\xc3(\ntail \xe2\x82"
    (workdir / "odd").write_bytes(odd)
    ended = run("./", *shell("cat odd", LINGER))
    assert ended.out == odd
    assert run("logs", "work").out == odd


@pytest.mark.case(2)
def test_random_bytes_pass_unchanged(run: Cli, workdir: Path) -> None:
    """A binary stream through the log is the same here."""
    data = os.urandom(300_000).replace(b"\r\n", b"\n")  # container runtimes take CR LF for LF
    (workdir / "data").write_bytes(data)
    ended = run("./", *shell("cat data", LINGER))
    assert hashlib.sha256(ended.out).hexdigest() == hashlib.sha256(data).hexdigest()


def test_many_lines(run: Cli) -> None:
    """20,000 lines at once: none is lost or doubled, and soon they are here."""
    started = time.monotonic()
    ended = run(ALPINE, *shell("seq 1 20000", LINGER))
    assert ended.text == "".join(f"{number}\n" for number in range(1, 20_001))
    assert elapsed(started) < 30


def test_output_arrives_while_it_is_written(run: Cli, kubectl: Kubectl) -> None:
    """A line is here before the container ends; the rest follows."""
    process = run.start(ALPINE, *shell("echo marker", GATE))
    assert read_until(process.stdout, b"\n") == b"marker\n"
    assert process.poll() is None
    kubectl.release(kubectl.running_pod("alpine"), 6)
    ended = run.finish(process)
    assert (ended.code, ended.out) == (6, b"released\n")


def test_a_burst_arrives_as_a_whole(run: Cli, kubectl: Kubectl) -> None:
    """Its last line does not wait for what is written after it."""
    process = run.start(ALPINE, *shell("seq 1 40000", GATE))
    assert read_until(process.stdout, b"\n40000\n", 20).count(b"\n") == 40_000
    kubectl.release(kubectl.running_pod("alpine"), 0)
    assert run.finish(process).out == b"released\n"


def test_detached(run: Cli, kubectl: Kubectl) -> None:
    """-d prints the name alone; logs -f comes back to it, and to its exit code."""
    started = run(ALPINE, "-d", *shell("echo begun", GATE))
    assert (started.code, started.out) == (0, b"alpine\n")
    pod = kubectl.running_pod("alpine")
    process = run.start("logs", "-f", "alpine")
    assert read_until(process.stdout, b"\n") == b"begun\n"
    kubectl.release(pod, 3)
    ended = run.finish(process)
    assert (ended.code, ended.out) == (3, b"released\n")
    late = run("logs", "-f", "alpine")
    assert (late.code, late.out) == (3, b"begun\nreleased\n")


@pytest.mark.parametrize("option", ["-d", "--detach"])
def test_options_before_the_source(run: Cli, kubectl: Kubectl, option: str) -> None:
    """An option of run may stand before SOURCE, as `run` itself need not be said."""
    ended = run(option, "--job-name", "first", ALPINE, "--", "true")
    assert (ended.code, ended.out) == (0, b"first\n"), ended.err


@pytest.mark.clean
@pytest.mark.parametrize("code", [0, 4])
def test_rm_leaves_nothing(run: Cli, kubectl: Kubectl, workdir: Path, code: int) -> None:
    """--rm: the output and the exit code are all that stays."""
    (workdir / "file").write_text("content")
    ended = run("./", "--rm", *shell(f"cat file; exit {code}"))
    assert (ended.code, ended.out) == (code, b"content")
    nothing_left(kubectl)


def test_replace(run: Cli, kubectl: Kubectl) -> None:
    """--replace: the old Job of that name makes way, even while it runs."""
    assert run(ALPINE, "-d", *shell(GATE)).code == 0
    old = kubectl.get("job", "alpine")["metadata"]["uid"]
    ended = run(ALPINE, "--replace", "--", "echo", "new")
    assert (ended.code, ended.out) == (0, b"new\n")
    assert kubectl.names("jobs") == ["alpine"]
    assert kubectl.get("job", "alpine")["metadata"]["uid"] != old


@pytest.mark.case(20)
def test_timeout(run: Cli, kubectl: Kubectl) -> None:
    """--timeout: 124, the reason, and the output up to then."""
    started = time.monotonic()
    ended = run(ALPINE, "--timeout", "8", *shell("echo before", GATE))
    assert ended.code == 124
    assert ended.out == b"before\n"
    assert "DeadlineExceeded" in ended.err
    assert elapsed(started) < 30
    until(
        lambda: not [pod for pod in kubectl.items("pods") if pod["status"]["phase"] == "Running"]
        or None,
        "the end of the pod",
    )


@pytest.mark.case(20)
@pytest.mark.slow
def test_timeout_of_a_program_that_ignores_signals(run: Cli) -> None:
    """The end of a run does not wait for the pod's grace period of 30 seconds, and is
    put down to the deadline, not to k8r's patience.
    """
    started = time.monotonic()
    ended = run(ALPINE, "--timeout", "8", *shell("trap '' TERM; echo before; sleep 100 & wait"))
    assert (ended.code, ended.out) == (124, b"before\n")
    assert "DeadlineExceeded" in ended.err
    assert elapsed(started) < 25


@pytest.mark.case(14)
@pytest.mark.slow
def test_retries_that_all_fail(run: Cli, kubectl: Kubectl) -> None:
    """--retry 2 makes exactly three attempts, and all of them are shown."""
    ended = run(ALPINE, "--retry", "2", *shell("echo $(hostname) fails; exit 5"))
    assert ended.code == 5
    pods = sorted(kubectl.names("pods"))
    assert len(pods) == 3
    assert sorted(ended.text.splitlines()) == [f"{pod} fails" for pod in pods]
    assert sorted(run("logs", "alpine").text.splitlines()) == [f"{pod} fails" for pod in pods]


@pytest.mark.case(14)
@pytest.mark.slow
def test_retry_that_succeeds(run: Cli, kubectl: Kubectl) -> None:
    """Two attempts fail, the third succeeds: 0, and the logs of all three."""
    process = run.start(ALPINE, "--retry", "2", *shell("echo attempt", GATE))
    seen: List[str] = []
    for code in (1, 2, 0):
        read_until(process.stdout, b"attempt\n")
        seen.append(kubectl.running_pod("alpine", but=seen))
        kubectl.release(seen[-1], code)
        if code:
            read_until(process.stdout, b"released\n")
    ended = run.finish(process)
    assert (ended.code, ended.out) == (0, b"released\n")
    assert run("logs", "alpine").text == "attempt\nreleased\n" * 3


def test_failing_indexes(run: Cli, kubectl: Kubectl) -> None:
    """Some of several pods fail: the others finish, the summary names the failed
    ones, and the exit code is that of the lowest.
    """
    script = """case $K8R_INDEX in
    1) exit 9;; 3) exit 4;; *) trap 'exit 143' TERM; sleep 4 & wait; echo finished;; esac"""
    ended = run(ALPINE, "--num", "4", *shell(script))
    assert ended.code == 9
    assert sorted(ended.text.splitlines()) == ["[0] finished", "[2] finished"]
    *_, verdict, hint = ended.err.strip().splitlines()
    assert "2 of 4 succeeded; exit code 9: index 1; exit code 4: index 3" in verdict
    assert hint.startswith("k8r: run what failed again: k8r retry alpine")
    table = ended.err.partition("k8r: these failed:\n")[2].splitlines()
    assert [line.split()[0] for line in table[:3]] == ["INDEX", "1", "3"]
    rows = json.loads(run("ls", "alpine", "-o", "json").text)
    assert [(row["index"], row["exit_code"]) for row in rows] == [(0, 0), (1, 9), (2, 0), (3, 4)]
    assert (
        rows[0]["seconds"] >= 3 and rows[0]["node"] and rows[1]["status"] == "Failed: exit code 9"
    )
    failed = run("ls", "alpine", "--failed", "-o", "name").text.split()
    assert failed == [rows[1]["name"], rows[3]["name"]]
    assert set(failed) < set(kubectl.names("pods"))


def test_startup_script(run: Cli, workdir: Path) -> None:
    """k8s-startup.sh runs before the command, in the directory."""
    (workdir / "k8s-startup.sh").write_text("echo starting; echo prepared > made\n")
    ended = run("./", "--", "cat", "made")
    assert (ended.code, ended.out) == (0, b"starting\nprepared\n")


def test_startup_script_alone(run: Cli, workdir: Path) -> None:
    """A directory with k8s-startup.sh needs no command."""
    (workdir / "k8s-startup.sh").write_text("#!/bin/sh\necho alone\n")
    (workdir / "k8s-startup.sh").chmod(0o755)
    ended = run("./")
    assert (ended.code, ended.out) == (0, b"alone\n")


def test_startup_script_that_fails(run: Cli, workdir: Path) -> None:
    """If k8s-startup.sh fails, the command does not run, and the script is named."""
    (workdir / "k8s-startup.sh").write_text("exit 3\n")
    ended = run("./", "--", "echo", "not reached")
    assert ended.code == 3
    assert "not reached" not in ended.text
    assert "k8s-startup.sh" in ended.text + ended.err


def test_variables(run: Cli) -> None:
    """--env sets a variable, or takes it from here; values arrive as they are."""
    value = "a b 'c' \"d\" $HOME $$ $(date) $(K8R_JOB) \\ ä\nsecond line"
    ended = run(
        *(ALPINE, "--env", f"ODD={value}", "--env", "INHERITED", "--env", "EMPTY="),
        *shell('printf "%s|%s|%s" "$ODD" "$INHERITED" "${EMPTY-unset}"'),
        env={"INHERITED": "$(from) here"},
    )
    assert ended.code == 0, ended.err
    assert ended.text == f"{value}|$(from) here|"


def test_arguments_arrive_as_typed(run: Cli, workdir: Path) -> None:
    """No shell and no Kubernetes expands what stands in an argument."""
    words = ["", "a b", "$HOME", "$(K8R_JOB)", "$$", "*", "'", '"', "\\", "--", "-n", "ä", "x\ny"]
    (workdir / "show.sh").write_text('for word; do printf "<%s>" "$word"; done\n')
    expected = "".join(f"<{word}>" for word in words)
    assert run("./", "--", "sh", "show.sh", *words).text == expected
    script = 'for word; do printf "<%s>" "$word"; done'
    assert run(ALPINE, "--", "sh", "-c", script, "sh", *words).text == expected


@pytest.mark.case(21)
def test_out_of_memory(run: Cli) -> None:
    """A container over its limit: 137, and why."""
    ended = run(PYTHON, "--mem", "32mb", "--", "python3", "-c", "x = b'x' * (300 << 20)")
    assert ended.code == 137
    assert "OOMKilled" in ended.err


def test_resources(run: Cli, kubectl: Kubectl) -> None:
    """--mem and --cpu with a range: the low end is requested, the high end the limit."""
    assert run(ALPINE, "--mem", "16mb-64mb", "--cpu", "50m-1", "--", "true").code == 0
    [container] = kubectl.get("job", "alpine")["spec"]["template"]["spec"]["containers"]
    assert container["resources"] == {
        "requests": {"memory": "16Mi", "cpu": "50m"},
        "limits": {"memory": "64Mi", "cpu": "1"},
    }


@pytest.mark.parametrize("number", [9, 15])
def test_killed_by_a_signal(run: Cli, number: int) -> None:
    """A command that a signal ends: 128 and the signal's number, and no other cause."""
    ended = run(ALPINE, *shell(f"sh -c 'kill -{number} $$; sleep 3'; exit $?"))
    assert ended.code == 128 + number
    assert "OOMKilled" not in ended.err


def test_no_such_program_in_an_image(run: Cli) -> None:
    """A command that the image lacks: not 0, and it is said."""
    ended = run(ALPINE, "--", "no-such-program", timeout=60)
    assert ended.code in (127, 128)
    assert re.search("no-such-program|StartError|not found", ended.err)


def test_no_such_program_in_a_directory(run: Cli, workdir: Path) -> None:
    """The same for a directory: the shell's 127 and its words."""
    (workdir / "file").write_text("")
    ended = run("./", "--", "no-such-program", timeout=60)
    assert ended.code == 127
    assert "no-such-program" in ended.text + ended.err


def test_a_command_in_one_word(run: Cli, workdir: Path) -> None:
    """A command line in one word is not split; k8r says how to write it."""
    (workdir / "file").write_text("")
    ended = run("./", "--", "echo a; echo b")
    assert ended.code == 127
    assert "sh -c" in ended.err


def test_an_image_without_command_keeps_its_entrypoint(run: Cli) -> None:
    """No command: the image runs what it was made to run."""
    ended = run("alpine/git")
    assert ended.code == 0  # its CMD is --help
    assert ended.text.startswith("usage: git")


@pytest.mark.parametrize("folder", ["Mein größtes Projekt", "-odd_%s'\"$", "日本"])
def test_odd_directory_names(run: Cli, kubectl: Kubectl, workdir: Path, folder: str) -> None:
    """Any directory has a name that Kubernetes takes."""
    (workdir / folder).mkdir()
    (workdir / folder / "file").write_text("content")
    ended = run(f"./{folder}", "--", "cat", "file")
    assert (ended.code, ended.out) == (0, b"content"), ended.err
    [name] = kubectl.names("jobs")
    assert re.fullmatch(r"[a-z]([-a-z0-9]*[a-z0-9])?", name)


def test_the_longest_name(run: Cli, kubectl: Kubectl) -> None:
    """63 characters run, and so does the next run under that name."""
    name = "n" * 63
    for _ in range(2):
        assert run(ALPINE, "--job-name", name, "--", "true").code == 0
    assert sorted(kubectl.names("jobs")) == sorted([name, "n" * 61 + "-1"])


def test_runs_at_the_same_time(run: Cli, kubectl: Kubectl, workdir: Path) -> None:
    """Runs of one directory that start together all get names and files of their own."""
    (workdir / "file").write_text("content ")
    processes = [run.start("./", *shell("cat file; echo $K8R_JOB")) for _ in range(4)]
    ends = [run.finish(process) for process in processes]
    assert [ended.code for ended in ends] == [0] * 4, [ended.err for ended in ends]
    names = ["work", "work-1", "work-2", "work-3"]
    assert sorted(ended.text for ended in ends) == [f"content {name}\n" for name in names]
    assert sorted(kubectl.names("jobs")) == names


def test_quiet(run: Cli) -> None:
    """--quiet: nothing on stderr when all went well."""
    ended = run(ALPINE, "--quiet", "--", "echo", "said")
    assert (ended.code, ended.out, ended.err) == (0, b"said\n", "")


def test_logs_options(run: Cli) -> None:
    """logs --tail and --timestamps."""
    assert run(ALPINE, "--", "seq", "1", "30").code == 0
    assert run("logs", "alpine", "--tail", "2").text == "29\n30\n"
    stamped: Object = dict(
        reversed(line.split(" "))
        for line in run("logs", "alpine", "--timestamps").text.split("\n")
        if line
    )
    assert list(stamped) == [str(number) for number in range(1, 31)]
    assert all(re.match(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d", stamp) for stamp in stamped.values())


@pytest.mark.parametrize("code", [0, 3])
def test_logs_of_an_ended_run(run: Cli, kubectl: Kubectl, code: int) -> None:
    """`logs` and `logs -f` tell its end as the run itself has, with the run's own duration."""
    ended = run(ALPINE, "--", "sh", "-c", f"sleep 3; exit {code}")
    [pod] = kubectl.items("pods")
    began = parse_time(kubectl.get("job", "alpine")["status"]["startTime"])
    over = pod["status"]["containerStatuses"][0]["state"]["terminated"]["finishedAt"]
    told = ended.err.splitlines()[-1]
    assert told.endswith(f" after {parse_time(over) - began:.0f}s")
    assert ended.code == code and parse_time(over) - began >= 2
    for args in (("logs", "alpine"), ("logs", "-f", "alpine")):
        again = run(*args)
        assert again.err.splitlines()[-1] == told
        assert again.code == (code if "-f" in args else 0)


def parse_time(stamp: str) -> float:
    """The seconds since the epoch that a timestamp of the API says."""
    return datetime.strptime(stamp + "+0000", "%Y-%m-%dT%H:%M:%SZ%z").timestamp()
