"""A new version takes the place of the old one, or leaves it as it was."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Callable

import pytest

from sandbox import Sandbox, Small, commit_all, default_signals, git, need, snapshot


@pytest.fixture
def installed(sandbox: Sandbox, small: Small) -> Sandbox:
    """Version 1.0 of the small program is installed."""
    done = sandbox.install(small.path)
    assert (done.code, done.err) == (0, "")
    return sandbox


def broken_lock(small: Small) -> None:
    """A version whose uv.lock is none."""
    (small.path / "uv.lock").write_text("no lock\n")


def outdated_lock(small: Small) -> None:
    """A version whose uv.lock is not that of its pyproject.toml."""
    file = small.path / "pyproject.toml"
    file.write_text(file.read_text().replace('version = "1.0"', 'version = "2.0"'))


def does_not_start(small: Small) -> None:
    """A version that ends with an error."""
    (small.path / "k8r.py").write_text("raise RuntimeError('no such luck')\n")


def lacks_a_file(small: Small) -> None:
    """A version from before install.sh, which could not be updated any more."""
    (small.path / "install.sh").unlink()


BROKEN = {
    broken_lock: "uv could not install",
    outdated_lock: "uv could not install",
    does_not_start: "no such luck",
    lacks_a_file: "no install.sh",
}


@pytest.mark.parametrize("break_it", BROKEN)
def test_a_broken_version_leaves_the_old_one(
    installed: Sandbox, small: Small, break_it: Callable[[Small], None]
) -> None:
    """Not a byte has changed; what was wrong is said, and a better version comes."""
    before = snapshot(installed.home)
    break_it(small)
    commit_all(small.path)
    done = installed.update()
    assert done.code == 1
    assert BROKEN[break_it] in done.err
    assert snapshot(installed.home) == before
    assert installed.version() == "k8r 1.0"
    small.set("3.0")
    assert installed.update().code == 0
    assert installed.version() == "k8r 3.0"


@pytest.mark.parametrize("break_it", BROKEN)
def test_a_broken_first_version(
    sandbox: Sandbox, small: Small, break_it: Callable[[Small], None]
) -> None:
    """Nothing is left behind."""
    break_it(small)
    commit_all(small.path)
    done = sandbox.piped(K8R_REPO=str(small.path))
    assert done.code == 1
    assert BROKEN[break_it] in done.err
    assert snapshot(sandbox.home) == {}


def test_what_does_not_start_is_named(installed: Sandbox, small: Small) -> None:
    """In one line, with the version that stays."""
    does_not_start(small)
    name = commit_all(small.path)
    done = installed.update()
    assert done.err == (
        f"install.sh: {name} does not start, {installed.current} stays: "
        "RuntimeError: no such luck\n"
    )


def test_up_to_date(installed: Sandbox) -> None:
    """It is said, and nothing is done."""
    before = snapshot(installed.home)
    done = installed.update()
    assert (done.code, done.err) == (0, "")
    assert "up to date" in done.out
    assert snapshot(installed.home) == before


def test_forth_and_back(installed: Sandbox, small: Small) -> None:
    """To a branch, which is remembered, and back; the version before is kept, no more."""
    first = installed.current
    git(small.path, "checkout", "-q", "-b", "next")
    second = small.set("2.0")
    git(small.path, "checkout", "-q", "main")
    assert installed.update().code == 0
    assert installed.version() == "k8r 1.0"
    done = installed.update("next")
    assert (done.code, done.err) == (0, "")
    assert first in done.out and second in done.out
    assert installed.version() == "k8r 2.0"
    assert (installed.place / "source").read_text() == f"{small.path}\nnext\n"

    git(small.path, "checkout", "-q", "next")
    third = small.set("3.0")
    git(small.path, "checkout", "-q", "main")
    assert installed.update().code == 0
    assert installed.version() == "k8r 3.0"
    assert set(os.listdir(installed.place / "versions")) == {second, third}
    assert installed.update("main").code == 0
    assert installed.version() == "k8r 1.0"
    assert set(os.listdir(installed.place / "versions")) == {first, third}


def test_back_to_the_version_before(installed: Sandbox, small: Small) -> None:
    """It is still there, hence not made again."""
    first = installed.place / "versions" / installed.current
    before = first.stat().st_ino
    git(small.path, "branch", "old")
    small.set("2.0")
    assert installed.update().code == 0
    installed.fake("uv", "exit 1\n")
    done = installed.update("old")
    assert (done.code, done.err) == (0, "")
    assert first.stat().st_ino == before
    assert installed.version() == "k8r 1.0"


def test_a_branch_that_does_not_exist(installed: Sandbox) -> None:
    """It is named, and not remembered."""
    before = snapshot(installed.home)
    done = installed.update("nonsense")
    assert done.code == 1
    assert "nonsense" in done.err
    assert snapshot(installed.home) == before


def test_a_source_that_is_gone(installed: Sandbox, small: Small) -> None:
    """The installed version stays."""
    before = snapshot(installed.home)
    shutil.rmtree(small.path)
    done = installed.update()
    assert done.code == 1
    assert str(small.path) in done.err
    assert snapshot(installed.home) == before


def test_an_update_during_a_run(installed: Sandbox, small: Small) -> None:
    """What runs goes on with the version that it began with."""
    process = subprocess.Popen(
        [str(installed.launcher), "wait"],
        env=installed.env,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        universal_newlines=True,
    )
    assert process.stdout and process.stdout.readline() == "ready\n"
    small.set("2.0")
    assert installed.update().code == 0
    assert installed.version() == "k8r 2.0"
    out, _ = process.communicate(timeout=60)
    assert (process.returncode, out) == (0, "# 1.0\n")


def test_update_without_an_installation(sandbox: Sandbox, small: Small) -> None:
    """There is nothing to update."""
    done = sandbox.install(small.path, "--update")
    assert done.code == 1
    assert "no k8r" in done.err
    assert snapshot(sandbox.home) == {}


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_interrupted(installed: Sandbox, small: Small, number: signal.Signals) -> None:
    """A signal half-way leaves the old version, and nothing of the new one."""
    before = snapshot(installed.home)
    small.set("2.0")
    process = stopped_in_sync(installed)
    os.killpg(process.pid, number)
    assert process.wait(60) == 128 + number
    assert snapshot(installed.home) == before


def test_killed(installed: Sandbox, small: Small) -> None:
    """Not even this prevents the next update."""
    small.set("2.0")
    uv = os.readlink(installed.tools / "uv")
    process = stopped_in_sync(installed)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait(60)
    assert installed.version() == "k8r 1.0"
    (installed.tools / "uv").unlink()
    installed.tool("uv", uv)
    done = installed.update()
    assert (done.code, done.err) == (0, "")
    assert installed.version() == "k8r 2.0"
    assert not (installed.place / "lock").exists()


def stopped_in_sync(sandbox: Sandbox) -> "subprocess.Popen[str]":
    """An update that has got as far as `uv sync`, and stays there."""
    sandbox.fake(
        "uv",
        'case "$*" in\n'
        "*--help*) exit 0 ;;\n"
        f"*find*) echo {os.path.realpath(sys.executable)} ;;\n"
        "*) mkdir .venv; echo there; exec sleep 60 ;;\n"
        "esac\n",
    )
    sandbox.tool("sleep", "/bin/sleep")
    process = subprocess.Popen(
        ["sh", str(sandbox.place / "current/install.sh"), "--update"],
        env=sandbox.env,
        stdout=subprocess.PIPE,
        universal_newlines=True,
        start_new_session=True,
        preexec_fn=default_signals,
    )
    assert process.stdout
    with process.stdout:
        assert any(line == "there\n" for line in process.stdout)
    return process


def test_two_at_once(installed: Sandbox, small: Small) -> None:
    """The second one is refused while the first one runs, and not by one that is dead."""
    small.set("2.0")
    (installed.place / "lock").write_text(f"{os.getpid()}\n")
    before = snapshot(installed.home)
    done = installed.update()
    assert done.code == 1
    assert str(os.getpid()) in done.err
    assert snapshot(installed.home) == before
    ended = subprocess.Popen(["true"])
    ended.wait()
    (installed.place / "lock").write_text(f"{ended.pid}\n")
    assert installed.update().code == 0
    assert installed.version() == "k8r 2.0"


@pytest.mark.parametrize("content", ["", "\n", "no number\n", "0\n", "-1\n", "\0\n", "9" * 30])
def test_a_lock_of_nobody(installed: Sandbox, small: Small, content: str) -> None:
    """What names no process, as after a full disk, keeps nobody out."""
    small.set("2.0")
    (installed.place / "lock").write_text(content)
    done = installed.update()
    assert (done.code, done.err) == (0, "")
    assert installed.version() == "k8r 2.0"
    assert not os.path.lexists(installed.place / "lock")


def test_a_lock_of_another_user(installed: Sandbox) -> None:
    """That its process cannot be sent a signal does not mean that it is gone."""
    command = ["sh", str(installed.place / "current/install.sh"), "--update"]
    number = "1"
    other = None
    if os.geteuid() == 0:
        setpriv = need("setpriv")
        other = subprocess.Popen([setpriv, "--reuid=65534", "sleep", "100"])
        number = str(other.pid)
        command[:0] = [setpriv, "--bounding-set=-kill"]
    (installed.place / "lock").write_text(f"{number}\n")
    done = installed.run(*command)
    if other:
        other.kill()
        other.wait()
    assert done.code == 1
    assert f"process {number} is installing k8r" in done.err
    assert (installed.place / "lock").read_text() == f"{number}\n"


def test_many_at_once(installed: Sandbox, small: Small) -> None:
    """One of them does it; the others say so, or find it done; none spoils it."""
    small.set("2.0")
    command = ["sh", str(installed.place / "current/install.sh"), "--update"]
    processes = [
        subprocess.Popen(command, env=installed.env, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        for _ in range(4)
    ]
    ended = [(process.communicate(timeout=120), process.returncode) for process in processes]
    assert any(code == 0 and b"updated to k8r" in out for (out, _), code in ended), ended
    for (out, err), code in ended:
        assert code == 0 or b"is installing k8r in" in err, ended
    assert installed.version() == "k8r 2.0"
    assert not os.path.lexists(installed.place / "lock")


def test_an_installation_that_no_longer_starts(installed: Sandbox, small: Small) -> None:
    """Its Python is gone, say: the same version is made anew, and once more."""
    for _ in range(2):
        (installed.place / "current/.venv/bin/python").unlink()
        assert installed.version() is None
        done = installed.install(small.path)
        assert (done.code, done.err) == (0, "")
        assert installed.version() == "k8r 1.0"
    assert installed.update().code == 0


def test_run_from_the_installed_version(installed: Sandbox, small: Small) -> None:
    """It is no checkout: it installs from the place that it came from."""
    small.set("2.0")
    done = installed.install(installed.place / "current")
    assert (done.code, done.err) == (0, "")
    assert installed.version() == "k8r 2.0"
    assert (installed.place / "source").read_text() == f"{small.path}\n\n"


def test_a_branch_of_a_copy(installed: Sandbox, small: Small) -> None:
    """Files without git have no branches."""
    shutil.rmtree(small.path / ".git")
    done = installed.update("next")
    assert done.code == 1
    assert "no branch next" in done.err


def test_a_tag(installed: Sandbox, small: Small, tmp_path: Path) -> None:
    """It serves as well as a branch."""
    git(small.path, "tag", "v1")
    small.set("2.0")
    assert installed.update().code == 0
    done = installed.update("v1")
    assert (done.code, done.err) == (0, "")
    assert installed.version() == "k8r 1.0"


def test_the_command(sandbox: Sandbox, project: Path, tmp_path: Path) -> None:
    """`k8r update [BRANCH]` of the real program: the version that runs it is replaced, and
    stays where the new one does not start.
    """
    source = tmp_path / "source"
    shutil.copytree(project, source)
    assert sandbox.install(source).code == 0
    first = sandbox.version()
    assert first and first.endswith(f"({sandbox.current})")
    done = sandbox.run(str(sandbox.launcher), "update")
    assert done.code == 0 and "is up to date" in done.out, done.err
    git(source, "checkout", "-q", "-b", "next")
    with open(source / "k8r.py", "a") as file:
        file.write("# more\n")
    newer = commit_all(source)
    done = sandbox.run(str(sandbox.launcher), "update", "next")
    assert done.code == 0 and f"updated to k8r {first.split()[1]} ({newer}) from" in done.out
    assert (sandbox.version() or "").endswith(f"({newer})")
    with open(source / "k8r.py", "a") as file:
        file.write("if __name__ == 'k8r': raise RuntimeError('no such luck')\n")
    commit_all(source)
    done = sandbox.run(str(sandbox.launcher), "update")
    assert done.code == 1 and "no such luck" in done.err
    assert (sandbox.version() or "").endswith(f"({newer})")


def test_the_command_of_a_checkout(sandbox: Sandbox, project: Path) -> None:
    """What install.sh has not installed is not its to update."""
    done = sandbox.run(sys.executable, str(project / "k8r.py"), "update")
    assert done.code == 125
    assert "was not installed by install.sh" in done.err and "git pull" in done.err
