"""What install.sh does where something that it needs is missing."""

from __future__ import annotations

import os
import sys

import pytest

from sandbox import Sandbox, Small, snapshot

PYTHON = os.path.realpath(sys.executable)


@pytest.mark.parametrize("given", ["none", "old"])
def test_no_uv(sandbox: Sandbox, small: Small, given: str) -> None:
    """It is installed into k8r's own folder, with its cache, and goes with it."""
    (sandbox.tools / "uv").unlink()
    if given == "old":
        sandbox.fake("uv", "exit 2\n")
    del sandbox.env["UV_CACHE_DIR"]
    done = sandbox.install(small.path)
    assert (done.code, done.err) == (0, "")
    assert sandbox.version() == "k8r 1.0"
    assert (sandbox.place / "uv/bin/uv").exists()
    assert {path.name for path in sandbox.home.iterdir()} == {".local", ".bashrc", ".profile"}
    small.set("2.0")
    done = sandbox.update()
    assert (done.code, done.err) == (0, "")
    assert "installing it" not in done.out
    assert sandbox.install(small.path, "--uninstall").code == 0
    assert snapshot(sandbox.home) == {}


@pytest.mark.parametrize(
    "script, said",
    [
        (None, "python3 is missing"),
        ("exit 1\n", "python3 is missing"),
        (f'case $2 in *version_info*) exit 1; esac; exec {PYTHON} "$@"\n', "older than 3.8"),
        (f'[ "$2" != venv ] || exit 1; exec {PYTHON} "$@"\n', "venv, pip"),
        (f'[ "$2" != venv ] || set -- -m venv --without-pip "$3"; exec {PYTHON} "$@"\n', "pip"),
    ],
    ids=["no python3", "only a stub of it", "an old one", "no venv", "no pip"],
)
def test_no_uv_and_no_python(
    sandbox: Sandbox, small: Small, script: "str | None", said: str
) -> None:
    """One line says which package is missing; nothing is left behind."""
    (sandbox.tools / "uv").unlink()
    (sandbox.tools / "python3").unlink()
    if script is not None:
        sandbox.fake("python3", script)
    done = sandbox.install(small.path)
    assert done.code == 1
    assert said in done.err and "apt install python3-venv" in done.err
    assert done.err.count("\n") == 1
    assert snapshot(sandbox.home) == {}


def test_no_python_for_uv(sandbox: Sandbox, small: Small) -> None:
    """uv does not download one."""
    (sandbox.tools / "python3").unlink()
    sandbox.env["UV_PYTHON_INSTALL_DIR"] = str(sandbox.cwd)
    done = sandbox.install(small.path)
    assert done.code == 1
    assert "no Python from 3.8 on" in done.err and "apt install" in done.err
    assert snapshot(sandbox.home) == {}


@pytest.mark.parametrize("script", [None, "exit 1\n"], ids=["none", "only a stub of it"])
def test_no_git(sandbox: Sandbox, small: Small, script: "str | None") -> None:
    """A checkout and a repository need it."""
    (sandbox.tools / "git").unlink()
    if script is not None:
        sandbox.fake("git", script)
    for done in (
        sandbox.install(small.path),
        sandbox.piped(K8R_REPO=small.path.as_uri()),
    ):
        assert done.code == 1
        assert "git is missing" in done.err and "apt install git" in done.err
        assert done.err.count("\n") == 1
        assert snapshot(sandbox.home) == {}


def test_pip_fails(sandbox: Sandbox, small: Small) -> None:
    """No index answers: pip's words are seen, and nothing is left behind."""
    (sandbox.tools / "uv").unlink()
    done = sandbox.install(
        small.path, PIP_INDEX_URL="http://127.0.0.1:9/", PIP_RETRIES="0", PIP_FIND_LINKS=""
    )
    assert done.code == 1
    assert "pip could not install uv" in done.err
    assert snapshot(sandbox.home) == {}


def test_no_home(sandbox: Sandbox, small: Small) -> None:
    """It is said, and nothing is made at /."""
    done = sandbox.install(small.path, HOME="")
    assert done.code == 1
    assert "HOME" in done.err
