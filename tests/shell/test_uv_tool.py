"""The second way to install k8r: `uv tool install` of the repository."""

from __future__ import annotations

from pathlib import Path

import pytest

from sandbox import Sandbox, need, snapshot


@pytest.fixture
def installed(sandbox: Sandbox, project: Path) -> Sandbox:
    """A HOME in which nothing but uv has installed k8r."""
    done = sandbox.run("uv", "tool", "install", "-q", str(project), UV_SYSTEM_CERTS="true")
    assert done.code == 0, done.err
    sandbox.env["PATH"] = f"{sandbox.launcher.parent}:{sandbox.tools}"
    return sandbox


def test_the_command(installed: Sandbox, project: Path) -> None:
    """It tells its version, runs something, and leaves updates to uv."""
    done = installed.run("k8r", "--version")
    assert done.code == 0 and done.out.startswith("k8r "), done.err
    (installed.cwd / "file").write_text("")
    for name in ("tar", "gzip"):
        installed.tool(name, need(name))
    done = installed.run("k8r", "-q", "--local", "./", "--", "sh", "-c", "echo it runs; exit 7")
    assert (done.code, done.out) == (7, "it runs\n"), done.err
    done = installed.run("k8r", "update")
    assert done.code == 125
    assert "was not installed by install.sh" in done.err


@pytest.mark.parametrize("shell", ["bash", "zsh", "dash"])
def test_the_function(installed: Sandbox, shell: str) -> None:
    """What `k8r env` prints works in a shell, without the command on its PATH."""
    text = installed.run("k8r", "env").out
    path = str(installed.tools)
    script = text + "k8r --version; k8r ./ --num 0 -- true 2>/dev/null; echo code $?"
    done = installed.run(need(shell), "-c", script, PATH=path)
    version = installed.run("k8r", "--version").out
    assert done.out == version + "code 2\n", done.err


def test_the_removal(installed: Sandbox, project: Path) -> None:
    """install.sh leaves it alone, and so does its removal."""
    before = snapshot(installed.home)
    done = installed.install(project)
    assert done.code == 1
    assert "not made by this" in done.err
    assert installed.install(project, "--uninstall").code == 0
    assert snapshot(installed.home) == before
    assert installed.run("uv", "tool", "uninstall", "-q", "k8r").code == 0
    assert not installed.launcher.exists()
