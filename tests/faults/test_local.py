"""`k8r --local`: a directory or a repository runs on this machine, and leaves nothing there."""

from __future__ import annotations

import os
import re
import runpy
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Dict, Iterator, List

import pytest

from common import by_index, until

if TYPE_CHECKING:
    from tests.conftest import Cli, Result

IMAGES = Path(__file__).resolve().parent.parent / "cluster" / "images.py"
SIGNALS = pytest.mark.parametrize(
    "signum, code",
    [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)],
    ids=["INT", "TERM", "HUP"],
)
NOT_DYING = 'trap "" TERM; echo $$ > "$OUTSIDE/pid"; echo begun; while :; do sleep 1; done'
"""Writes where its process can be found, and goes on for good."""


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    """A directory where a program leaves word for the test."""
    path = tmp_path / "outside"
    path.mkdir()
    return path


@pytest.fixture
def local(k8r: Cli, project: Path, tmp_path: Path, outside: Path) -> Iterator[Cli]:
    """k8r with a directory for temporary files of its own, which is empty in the end, and
    a kubeconfig that does not exist.
    """
    scratch = tmp_path / "temporary ü $HOME 'files'"
    scratch.mkdir()
    k8r.env.update(TMPDIR=str(scratch), KUBECONFIG="/nonexistent", OUTSIDE=str(outside))
    yield k8r
    k8r.close()
    assert os.listdir(scratch) == []


def is_running(pid: int) -> bool:
    """Whether a process lives; one that waits for its parent to notice its end does not."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state != "Z"


def gone(outside: Path) -> None:
    """Assert that no process which left its number is there any more."""
    numbers = [int(path.read_text()) for path in outside.glob("pid*")]
    assert numbers
    until(lambda: not any(map(is_running, numbers)), "the end of all processes", 5)


def sh(cli: Cli, script: str, *options: str) -> Result:
    """Run shell text in the working directory."""
    return cli("./", "--local", *options, "--", "sh", "-c", script)


def last(result: Result) -> str:
    """The last line that k8r has said."""
    return result.err.splitlines()[-1]


# What it does


def test_what_is_told_before_and_after(local: Cli, project: Path) -> None:
    """What it leaves out, what it does not apply, and what may mend a failure."""
    (project / "data.csv").write_text("")
    (project / ".gitignore").write_text("*.csv\n")
    (project / "run.py").write_text("print(5)\nimport nosuch.module\n")
    ended = local("./", "--local", "--mem", "1gb", "--gpu", "1", "--", sys.executable, "run.py")
    assert ended.code == 1
    assert "; 1 left out by .gitignore: data.csv)\n" in ended.err
    assert "k8r: not applied to a local run: --gpu, --mem\n" in ended.err
    assert last(ended).startswith("k8r: to install it first: --setup 'pip install nosuch'")
    ended = local("./", "--show-files")
    assert ended.code == 0 and ended.err == ""
    shown = [line.split() for line in ended.text.splitlines()]
    assert [word for word in shown if "data.csv" in word] == [["-", "data.csv", ".gitignore"]]
    assert shown[1] == ["30", "B", "run.py"]
    quiet = sh(local, "echo 'ModuleNotFoundError: No module named x'")
    assert "--setup" not in quiet.err


def test_as_if_run_in_place(local: Cli, workdir: Path) -> None:
    """The same output, from the same files, but elsewhere; two lines are said about it."""
    (workdir / "sub dir").mkdir()
    (workdir / "sub dir" / "ümläut 'quoted'").write_text("deep\n")
    (workdir / "tool").write_text("#!/bin/sh\necho tool ran with $#\n")
    (workdir / "tool").chmod(0o755)
    script = "find . | sort; cat */*; ./tool 'a b' \"\"; echo to stderr >&2; umask; exit 3"
    wanted = subprocess.run(
        ["sh", "-c", script], cwd=str(workdir), stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    ended = sh(local, script + "; pwd")
    assert (ended.code, ended.out) == (3, wanted.stdout), ended.err
    first, second = ended.err.splitlines()
    assert re.fullmatch(
        r"k8r: work runs on this machine, in /.*/k8r-\w+ \(3 files, \d+ B\)", first
    ), first
    assert re.fullmatch(r"k8r: work failed: exit code 3 after \d+s", second)


def test_quiet(local: Cli) -> None:
    """--quiet leaves the command's own output alone."""
    assert sh(local, "echo said", "-q") == (0, b"said\n", "")


def test_changes_stay_out_of_the_directory(local: Cli, workdir: Path) -> None:
    """What the command writes, deletes or locks is gone with its copy."""
    script = "rm file.txt; mkdir -p a/b; touch a/b/c; ln -s / a/root; chmod 500 a/b; chmod 0 a; pwd"
    ended = sh(local, script)
    assert ended.code == 0, ended.err
    assert ended.text.endswith("/workspace\n") and not ended.text.startswith(str(workdir))
    assert os.listdir(workdir) == ["file.txt"]


@pytest.mark.parametrize(
    "script, code",
    [("exit 0", 0), ("exit 1", 1), ("exit 255", 255), ("kill -9 $$", 137), ("kill $$", 143)],
)
def test_exit_codes(local: Cli, script: str, code: int) -> None:
    """That of the program, or 128 and the signal's number."""
    ended = sh(local, script)
    assert ended.code == code
    assert ("succeeded" if code == 0 else f"failed: exit code {code} after") in last(ended)


def test_programs_that_cannot_run(local: Cli, workdir: Path) -> None:
    """The shell's 127 and 126, and a hint for a command in one word."""
    (workdir / "locked").write_text("")
    assert local("./", "--local", "--", "no-such-program").code == 127
    assert local("./", "--local", "--", "./locked").code == 126
    ended = local("./", "--local", "--", "ls -l")
    assert ended.code == 127 and last(ended).endswith('for shell syntax write: -- sh -c "ls -l"')


def test_variables(local: Cli, workdir: Path) -> None:
    """k8r's own, those of --env-file and --env after them, and this process' own."""
    (workdir / "vars").write_text("A=file\nB=file $(HERE) $$\n")
    names = "K8R_JOB K8R_COUNT K8R_INDEX PYTHONUNBUFFERED HERE A B".split()
    local.env.update(HERE="here", K8R_INDEX="7")
    ended = sh(local, f"for v in {' '.join(names)}; do eval echo $v=\\$$v; done; cat",
               "--env-file", "vars", "--env", "A=option", "--job-name", "mine")  # fmt: skip
    found = dict(line.split("=", 1) for line in ended.text.splitlines())
    assert found == {
        "K8R_JOB": "mine",
        "K8R_COUNT": "1",
        "K8R_INDEX": "0",
        "PYTHONUNBUFFERED": "1",
        "HERE": "here",
        "A": "option",
        "B": "file $(HERE) $$",
    }


def test_arguments_arrive_as_typed(local: Cli) -> None:
    """Argument by argument, whatever is in them."""
    words = ["a b", "", "*", "$HOME", "$(id)", "'\"", "-n", "ü\n"]
    ended = local("./", "--local", "--", "printf", "<%s>", *words)
    assert ended.text == "".join(f"<{word}>" for word in words)


def test_ignored_files_stay_away(local: Cli, workdir: Path) -> None:
    """What would not be sent is not there, and what is left out for its kind is named."""
    (workdir / ".k8rignore").write_text("*.log\n")
    (workdir / "big.log").write_text("")
    (workdir / "away").symlink_to("/etc/passwd")
    ended = sh(local, "ls -A")
    assert ended.text.split() == [".k8rignore", "file.txt"]
    assert "left out away" in ended.err.splitlines()[0]


def test_an_archive_in_parts(local: Cli, large_project: Path) -> None:
    """More than one part arrives whole."""
    ended = sh(local, "cat data.bin")
    assert ended.out == (large_project / "data.bin").read_bytes()


def test_nothing_to_run(local: Cli, workdir: Path) -> None:
    """An empty directory, and one without a command."""
    (workdir / "empty").mkdir()
    ended = local("empty", "--local", "--", "true")
    assert ended.code == 2 and "there is nothing to send" in ended.err
    ended = local("./", "--local")
    assert ended.code == 2 and "there is no command to run" in ended.err


@pytest.mark.parametrize("option", ["--detach", "--as-deployment", "--replace", "--show-yaml"])
def test_options_that_make_no_sense(local: Cli, option: str) -> None:
    """They are refused."""
    ended = sh(local, "echo ran", option)
    assert (ended.code, ended.out) == (2, b"")
    assert ended.err == f"k8r: a local run takes no {option}; leave it out\n"


def test_startup_script(local: Cli, workdir: Path) -> None:
    """It runs before the command, in the same directory, or in its place."""
    (workdir / "k8s-startup.sh").write_text("echo prepared; touch made\n")
    assert sh(local, "ls made").text == "prepared\nmade\n"
    assert local("./", "--local").text == "prepared\n"


def test_startup_script_that_fails(local: Cli, workdir: Path) -> None:
    """The command does not run, and the script is named."""
    (workdir / "k8s-startup.sh").write_text("exit 3\n")
    ended = sh(local, "echo ran")
    assert (ended.code, ended.text) == (3, "k8r: k8s-startup.sh failed with exit code 3\n")


def test_no_cluster_is_asked_for(local: Cli) -> None:
    """Neither a kubeconfig nor its client is looked at."""
    local.env["PYTHONPROFILEIMPORTTIME"] = "1"
    ended = sh(local, "true")
    assert ended.code == 0
    assert "gzip" in ended.err
    assert not re.search(r"\| +(kubernetes|docker|requests|urllib3|yaml)\b", ended.err)


def test_without_a_kubeconfig_it_is_named(k8r: Cli, project: Path) -> None:
    """Who has no cluster is told in one line what there is instead."""
    ended = k8r("./", "--", "true")
    assert ended.code == 125
    assert ended.err.startswith("k8r: there is no kubeconfig; set KUBECONFIG")
    assert "k8r --local" in ended.err and "kind" in ended.err and ended.err.count("\n") == 1
    assert "--local" not in k8r("ls").err


# Output


def test_odd_bytes_pass_unchanged(local: Cli, workdir: Path) -> None:
    """All there are, with and without an index before the line."""
    data = bytes(range(256)) + b"\xff\xfe\0 torn \xc3"
    (workdir / "data").write_bytes(data)
    assert local("./", "--local", "--", "cat", "data").out == data
    lines = local("./", "--local", "--num", "2", "--", "cat", "data").out.split(b"\n")
    assert lines.pop() == b""
    for prefix in (b"[0] ", b"[1] "):
        assert b"\n".join(line[4:] for line in lines if line.startswith(prefix)) == data


def test_output_arrives_while_it_is_written(local: Cli, outside: Path) -> None:
    """Even what is no whole line; the program goes on when the test has seen it."""
    script = 'printf begun; until [ -e "$OUTSIDE/go" ]; do sleep 0.1; done; printf " ended"'
    process = local.start("./", "--local", "--", "sh", "-c", script)
    assert process.stdout and os.read(process.stdout.fileno(), 100) == b"begun"
    (outside / "go").touch()
    assert local.finish(process).out == b" ended"


def test_much_output_in_little_memory(local: Cli) -> None:
    """100 MB pass, also when nobody reads them for a while."""
    process = local.start("./", "--local", "--", "head", "-c", "100000000", "/dev/zero")
    assert process.stdout
    os.read(process.stdout.fileno(), 1)
    status = Path(f"/proc/{process.pid}/status")
    peaks: List[int] = []

    def peak() -> bool:
        peaks.append(int(re.findall(r"VmHWM:\s+(\d+)", status.read_text())[0]))
        return len(peaks) > 20 and peaks[-1] == peaks[-20]

    until(peak, "no more memory", pause=0.05)
    assert peaks[-1] < 100_000
    assert local.finish(process).out.count(b"\0") > 99_900_000


@pytest.mark.parametrize(
    "what", ["sleep 1000", "yes", "timeout 1000 sleep 1000", "setsid sleep 1000"]
)
def test_what_a_command_leaves_behind_ends_with_it(local: Cli, outside: Path, what: str) -> None:
    """As the processes of a container do."""
    ended = sh(local, f'{what} & echo $! > "$OUTSIDE/pid"; echo said')
    assert ended.code == 0 and b"said\n" in ended.out
    gone(outside)


def test_a_daemon_does_not_hold_it_up(local: Cli, outside: Path) -> None:
    """One that has left the session ends with the run, though it keeps the pipe open."""
    ended = sh(local, "setsid sh -c 'echo $$ > \"$OUTSIDE/pid\"; exec sleep 1000' & "
               'until [ -s "$OUTSIDE/pid" ]; do sleep 0.1; done; echo said')  # fmt: skip
    assert (ended.code, ended.out) == (0, b"said\n")
    gone(outside)


# Several


def test_several(local: Cli) -> None:
    """Each has its index and a directory of its own; the lowest that fails has the say."""
    script = 'echo "$K8R_INDEX of $K8R_COUNT"; ls; touch own; exit $(((K8R_INDEX > 1) * K8R_INDEX))'
    ended = sh(local, script, "--num", "4")
    assert by_index(ended.out) == {i: b"%d of 4\nfile.txt\n" % i for i in range(4)}
    assert ended.code == 2
    assert "work: 2 of 4 succeeded; exit code 2: index 2; exit code 3: index 3" in last(ended)


def test_more_than_files_may_be_open(local: Cli) -> None:
    """A shell allows 1,024 by default, here fewer; those that do not fit take their turn."""
    few = ("sh", "-c", 'ulimit -n 80; exec "$@"', "sh")
    process = local.start("./", "--local", "--num", "100", "--", "echo", "said", prefix=few)
    ended = local.finish(process)
    assert ended.code == 0, ended.err
    assert by_index(ended.out) == {index: b"said\n" for index in range(100)}


@pytest.mark.parametrize("options, most", [((), 6), (("--parallel", "2"), 2)])
def test_how_many_at_a_time(local: Cli, outside: Path, options: List[str], most: int) -> None:
    """The first ones wait for each other, so that there are as many as may be; the log of
    beginnings and ends shows that there never were more.
    """
    script = (
        'echo + >> "$OUTSIDE/log"; : > "$OUTSIDE/at-$K8R_INDEX"; '
        f'until [ $K8R_INDEX -ge {most} ] || [ $(ls "$OUTSIDE" | grep -c at-) -ge {most} ]; '
        'do sleep 0.1; done; sleep 0.2; echo - >> "$OUTSIDE/log"'
    )
    assert sh(local, script, "--num", "6", *options).code == 0
    running, peak = 0, 0
    for sign in (outside / "log").read_text().split():
        running += 1 if sign == "+" else -1
        peak = max(peak, running)
    assert (running, peak) == (0, most)


@pytest.mark.parametrize("succeeds, code", [(2, 0), (3, 0), (9, 1)])
def test_retries(local: Cli, outside: Path, succeeds: int, code: int) -> None:
    """As many as were asked for, each in a fresh directory; success ends them."""
    script = (
        'echo x >> "$OUTSIDE/$K8R_INDEX"; [ ! -e mark ] || exit 99; touch mark; '
        f'n=$(wc -l < "$OUTSIDE/$K8R_INDEX"); echo try $n; [ $n -ge {succeeds} ]'
    )
    ended = sh(local, script, "--retry", "2", "--num", "2", "--parallel", "1")
    assert ended.code == code
    tries = b"".join(b"try %d\n" % number for number in range(1, min(succeeds, 3) + 1))
    assert by_index(ended.out) == {0: tries, 1: tries}


# Ends before its time


def test_timeout(local: Cli, outside: Path) -> None:
    """A program that ignores SIGTERM is killed; what it wrote is there."""
    ended = sh(local, NOT_DYING, "--timeout", "2")
    assert (ended.code, ended.out) == (124, b"begun\n")
    assert "work timed out after 2 s (DeadlineExceeded)" in last(ended)
    gone(outside)


def test_timeout_of_a_program_that_tidies_up(local: Cli) -> None:
    """It is given the time to, and what it has to say is printed."""
    script = "trap 'echo tidied; exit 0' TERM; echo begun; while :; do sleep 0.1; done"
    ended = sh(local, script, "--timeout", "2", "--num", "2")
    assert ended.code == 124
    for output in by_index(ended.out).values():
        assert output.startswith(b"begun\n") and output.endswith(b"tidied\n")


def begin(
    local: Cli, outside: Path, script: str, *options: str, count: int = 1
) -> subprocess.Popen[bytes]:
    """Start shell text, and wait until that many processes have left their numbers."""
    process = local.start("./", "--local", *options, "--", "sh", "-c", script)

    def probe() -> bool:
        return len([path for path in outside.glob("pid*") if path.read_text()]) == count

    until(probe, "the start of the program")
    return process


@SIGNALS
def test_signals(local: Cli, outside: Path, signum: int, code: int) -> None:
    """All processes end, those in groups of their own too, and it is said that they did."""
    script = (
        'timeout 1000 sh -c \'echo $$ > "$OUTSIDE/pid-$K8R_INDEX-inner"; trap "" TERM; '
        'sleep 1000; sleep 1000\' & echo $$ > "$OUTSIDE/pid-$K8R_INDEX"; wait'
    )
    process = begin(local, outside, script, "--num", "3", count=6)
    process.send_signal(signum)
    ended = local.finish(process, timeout=30)
    assert ended.code == code
    assert last(ended) == "k8r: work was stopped, and nothing of it goes on"
    assert "Traceback" not in ended.err
    gone(outside)


def test_a_second_signal_is_immediate(local: Cli, outside: Path) -> None:
    """The program is not given its time to end, but it does end."""
    script = (
        """trap ": > '$OUTSIDE/asked'" TERM; echo $$ > "$OUTSIDE/pid"; while :; do sleep 1; done"""
    )
    process = begin(local, outside, script)
    process.send_signal(signal.SIGINT)
    until((outside / "asked").exists, "SIGTERM")
    struck = time.monotonic()
    process.send_signal(signal.SIGINT)
    ended = local.finish(process, timeout=30)
    assert ended.code == 130 and time.monotonic() - struck < 3
    gone(outside)


def test_nobody_reads_any_more(local: Cli, outside: Path) -> None:
    """As in `k8r ... | head -1`: the program ends, too."""
    process = begin(local, outside, 'echo $$ > "$OUTSIDE/pid"; while echo line; do :; done')
    assert process.stdout and process.stdout.readline() == b"line\n"
    process.stdout.close()
    process.stdout = None
    ended = local.finish(process, timeout=30)
    assert ended.code == 141
    assert "Traceback" not in ended.err and "was stopped" in last(ended)
    gone(outside)


# A repository

TOKEN = "very-secret"
REPOSITORIES = """\
set -e
mkdir -p srv inner project
commit() { git add -A; git commit -qm "$1"; }
cd inner; git init -q -b main; echo pinned > inside; commit pinned
pinned=$(git rev-parse HEAD); echo newer > inside; commit newer
git clone -q --bare . ../srv/inner.git
cd ../project; git init -q -b main; echo one > version; commit one; git tag v1
printf 'echo prepared\\n' > k8s-startup.sh; echo two > version
printf '[submodule "inner"]\\n\\tpath = inner\\n\\turl = ../inner.git\\n' > .gitmodules
git add -A; git update-index --add --cacheinfo "160000,$pinned,inner"; git commit -qm two
git clone -q --bare . ../srv/project.git
git rev-parse --short v1
"""


class Served:
    """A git server on loopback."""

    def __init__(self, port: int, commit: str) -> None:
        self.port = port
        self.commit = commit

    def url(self, login: str = "") -> str:
        """The URL of the repository."""
        return f"http://{login}127.0.0.1:{self.port}/project.git"


@pytest.fixture
def served(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Served]:
    """The git server of the test cluster, as a process; its parameter is the login it wants."""
    environ: Dict[str, str] = {"PATH": os.environ["PATH"], "HOME": str(tmp_path)}
    for role in ("AUTHOR", "COMMITTER"):
        environ.update({f"GIT_{role}_NAME": "somebody", f"GIT_{role}_EMAIL": "s@example.com"})
    made = subprocess.run(
        ["sh", "-c", REPOSITORIES], cwd=str(tmp_path), env=environ, stdout=subprocess.PIPE
    )
    with socket.create_server(("127.0.0.1", 0)) as free:
        port: int = free.getsockname()[1]
    program = runpy.run_path(str(IMAGES))["GIT_HTTP_SERVER"]
    words = [sys.executable, "-c", program, str(port), str(tmp_path / "srv"), *request.param]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
    with subprocess.Popen(words, env=environ, **pipes) as server:  # type: ignore[call-overload]

        def answers() -> bool:
            with socket.socket() as probe:
                return probe.connect_ex(("127.0.0.1", port)) == 0

        until(answers, "a git server")
        yield Served(port, made.stdout.decode().strip())
        server.kill()


PUBLIC = pytest.mark.parametrize("served", [()], indirect=True, ids=["public"])
LOGIN = pytest.mark.parametrize("served", [(f"alice:{TOKEN}",)], indirect=True, ids=["login"])


@PUBLIC
def test_a_repository(local: Cli, served: Served) -> None:
    """It is cloned with its submodule, and each index has a clone of its own."""
    script = "cat version inner/inside; git status -s; git rev-list --count HEAD; rm -r .git *"
    ended = local(served.url(), "--local", "--num", "2", "--", "sh", "-c", script)
    assert ended.code == 0, ended.err
    assert by_index(ended.out) == {i: b"prepared\ntwo\npinned\n1\n" for i in range(2)}
    first, second = ended.err.splitlines()
    assert first.startswith("k8r: project runs on this machine, in /")
    assert second.startswith("k8r: project succeeded after ")


@PUBLIC
@pytest.mark.parametrize("by", ["tag", "short commit"])
def test_a_ref(local: Cli, served: Served, by: str) -> None:
    """A name, and a commit that the server does not know by that."""
    ref = {"tag": "v1", "short commit": served.commit}[by]
    ended = local(served.url(), "--local", "--ref", ref, "--", "cat", "version")
    assert (ended.code, ended.out) == (0, b"one\n"), ended.err


@PUBLIC
def test_a_ref_that_is_none(local: Cli, served: Served) -> None:
    """git's own words, and the sentence of a run in the cluster."""
    ended = local(served.url(), "--local", "--ref", "absent", "--", "true")
    assert (ended.code, ended.out) == (128, b"")
    assert "couldn't find remote ref absent" in ended.err
    assert "project failed: init container clone: exit code 128 after" in last(ended)


@PUBLIC
def test_inside_of_a_hook(local: Cli, served: Served, workdir: Path) -> None:
    """The repository that a hook of git is about is left alone."""
    subprocess.run(["git", "init", "-q"], cwd=str(workdir), check=True)
    before = sorted(workdir.rglob("*"))
    local.env.update(GIT_DIR=str(workdir / ".git"), GIT_WORK_TREE=str(workdir))
    assert local(served.url(), "--local", "--", "cat", "version").text == "prepared\ntwo\n"
    assert sorted(workdir.rglob("*")) == before


@LOGIN
def test_a_token_in_the_url(local: Cli, served: Served, tmp_path: Path) -> None:
    """It opens the door; no argument, no file, no variable of the command and no message
    has it. The arguments are those that a git before the real one is given.
    """
    spy, log = tmp_path / "spy", tmp_path / "arguments"
    spy.mkdir()
    (spy / "git").write_text(f'#!/bin/sh\necho "$@" >> {log}\nPATH=$REAL\nexec git "$@"\n')
    (spy / "git").chmod(0o755)
    local.env.update(REAL=local.env["PATH"], PATH=f"{spy}:{local.env['PATH']}")
    script = "cat version inner/inside; cat .git/config; env; grep -r very-secret . ~ && exit 9"
    url = served.url(f"alice:{TOKEN}@")
    ended = local(url, "--local", "--", "sh", "-c", f"{script}; exit 0")
    assert ended.code == 0, ended.err
    assert ended.out.startswith(b"prepared\ntwo\npinned\n")
    assert "fetch" in log.read_text()
    for text in (ended.text, ended.err, log.read_text()):
        assert TOKEN not in text and "Authorization" not in text


@LOGIN
def test_a_login_that_is_missing(local: Cli, served: Served) -> None:
    """Nobody is asked for it."""
    ended = local(served.url(), "--local", "--", "true", timeout=60)
    assert ended.code == 128 and "could not read Username" in ended.err


@SIGNALS
def test_signals_while_cloning(
    local: Cli, outside: Path, tmp_path: Path, signum: int, code: int
) -> None:
    """A git that hangs ends as well."""
    spy = tmp_path / "spy"
    spy.mkdir()
    (spy / "git").write_text('#!/bin/sh\necho $$ > "$OUTSIDE/pid"\nexec sleep 1000\n')
    (spy / "git").chmod(0o755)
    local.env["PATH"] = f"{spy}:{local.env['PATH']}"
    process = local.start("http://127.0.0.1:1/project.git", "--local", "--", "true")
    until(lambda: (outside / "pid").exists(), "the start of git")
    process.send_signal(signum)
    ended = local.finish(process, timeout=30)
    assert ended.code == code and "was stopped" in last(ended)
    gone(outside)
