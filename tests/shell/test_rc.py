"""What install.sh does to the user's rc files: one line, and not a byte of theirs is lost."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from sandbox import Sandbox, Small, need, snapshot

BLOCK = b"""\
# >>> k8r >>>
# From k8r's install.sh; --uninstall takes it out.
case ":$PATH:" in
*:"$HOME/.local/bin":*) ;;
*) export PATH="$HOME/.local/bin":"$PATH" ;;
esac
# <<< k8r <<<
"""
"""What version 0.1.0 put into an rc file, after a newline if there was one."""

LINE = b'[ ! -r "$HOME/.local/share/k8r/env" ] || . "$HOME/.local/share/k8r/env" # k8r\n'
MINE = b"# mine \xff\xe4\r\nalias ll='ls -l'\nx='\0'\n"


@pytest.fixture
def installed(sandbox: Sandbox, small: Small) -> Sandbox:
    """k8r is installed, and the .bashrc has its line after the user's."""
    (sandbox.home / ".bashrc").write_bytes(MINE)
    (sandbox.home / ".profile").write_bytes(b". ~/.bashrc\n")
    done = sandbox.install(small.path)
    assert (done.code, done.err) == (0, "")
    assert (sandbox.home / ".bashrc").read_bytes() == MINE + LINE
    return sandbox


@pytest.mark.parametrize("given", ["missing", "full"])
def test_no_room_for_temporary_files(
    installed: Sandbox, small: Small, tmp_path: Path, given: str
) -> None:
    """TMPDIR is of no importance."""
    place = tmp_path / "tmp"
    command = ["sh", str(small.path / "install.sh"), "--uninstall"]
    if given == "full":
        if os.geteuid() != 0:
            pytest.skip("a full file system is made by root")
        place.mkdir()
        script = """
            mount -t tmpfs -o size=4k tmpfs "$1"
            cat /dev/zero >"$1/ballast" 2>/dev/null || :
            shift; exec "$@"
        """
        command = [need("unshare"), "-m", "/bin/sh", "-c", script, "-", str(place), *command]
        installed.tool("mount", need("mount"))
    done = installed.run(*command, TMPDIR=str(place))
    assert (done.code, done.err) == (0, "")
    assert snapshot(installed.home).keys() == {".bashrc", ".profile"}
    assert (installed.home / ".bashrc").read_bytes() == MINE


def test_a_full_disk(installed: Sandbox, small: Small) -> None:
    """Nothing can be written: the rc file stays, is named, and starts a shell all the same."""
    rc = installed.home / ".bashrc"
    rc.write_bytes(MINE * 200 + LINE)
    before = rc.read_bytes()
    script = 'ulimit -f 1; exec "$@"'
    uninstall = ["sh", str(small.path / "install.sh"), "--uninstall"]
    done = installed.run("sh", "-c", script, "-", *uninstall)
    assert done.code == 1
    assert f"cannot write {rc} (" in done.err
    assert rc.read_bytes() == before
    assert snapshot(installed.home).keys() == {".bashrc", ".profile"}
    assert installed.new_shell("bash", "-c", f". {rc}").err.count("env") == 0


def test_a_directory_that_is_read_only(installed: Sandbox, small: Small) -> None:
    """Nothing can be put beside the rc file: it stays, and is named."""
    rc = installed.home / ".bashrc"
    real = installed.home / "dotfiles"
    real.mkdir()
    rc.rename(real / "bashrc")
    rc.symlink_to("dotfiles/bashrc")
    real.chmod(0o555)
    done = installed.read_only(real, "sh", str(small.path / "install.sh"), "--uninstall")
    real.chmod(0o755)
    assert done.code == 1
    assert f"cannot write {rc} (" in done.err
    assert rc.read_bytes() == MINE + LINE
    assert not installed.place.exists()


def test_through_a_link(installed: Sandbox, small: Small) -> None:
    """The link stays a link; its target has the mode that it had, and the owner."""
    rc, real = installed.home / ".bashrc", installed.home / "dotfiles/bashrc"
    real.parent.mkdir()
    rc.rename(real)
    rc.symlink_to("dotfiles/bashrc")
    real.chmod(0o640)
    if os.geteuid() == 0:
        os.chown(real, 1234, 4321)
    status = real.stat()
    assert installed.install(small.path, "--uninstall").code == 0
    assert os.readlink(rc) == "dotfiles/bashrc"
    assert real.read_bytes() == MINE
    now = real.stat()
    assert (now.st_mode, now.st_uid, now.st_gid) == (status.st_mode, status.st_uid, status.st_gid)
    assert os.listdir(real.parent) == ["bashrc"]


CONTENTS = {
    "usual": b"x=1\n",
    "no final newline": b"x=1",
    "empty lines": b"\n\nx=1\n\n\n",
    "CRLF": b"x=1\r\ny=2\r\n",
    "CRLF without an end": b"x=1\r\ny=2\r",
    "NUL": b"x\0y\n\0",
    "Latin-1": b"# \xe4\xff\n",
    "separators": "# \x0b\x0c\x1c\x85\u2028 end".encode(),
    "empty": b"",
    "made": None,
}


@pytest.mark.parametrize("content", CONTENTS.values(), ids=CONTENTS)
@pytest.mark.parametrize("first", ["the line", "the block"])
def test_bytes(sandbox: Sandbox, small: Small, content: "bytes | None", first: str) -> None:
    """Whatever is in it comes back, also by way of the block of old."""
    rc = sandbox.home / ".bashrc"
    (sandbox.home / ".profile").write_bytes(b". ~/.bashrc\n")
    if content is not None:
        rc.write_bytes(content)
    before = snapshot(sandbox.home)
    if first == "the block":
        rc.write_bytes(BLOCK if content is None else content + b"\n" + BLOCK)
    assert sandbox.install(small.path).code == 0
    if content and content.endswith(b"\n"):
        assert rc.read_bytes() == content + LINE
    assert rc.read_bytes().startswith(content or b"")
    assert rc.read_bytes().count(LINE[:-1]) == 1 and b">>>" not in rc.read_bytes()
    assert sandbox.install(small.path, "--uninstall").code == 0
    assert snapshot(sandbox.home) == before


AROUND = {
    "lines after it": (b"x=1\n" + LINE + b"y=2", b"x=1\ny=2"),
    "two of them": (LINE + b"x=1\n" + LINE, b"x=1\n"),
    "without an end": (b"x=1\n" + LINE[:-1], b"x=1\n"),
    "a line that only begins so": (b"x=1\n" + LINE[:-1] + b" y\n",) * 2,
    "a block amid lines": (b"x=1\n" + BLOCK + b"y=2\n", b"x=1\ny=2\n"),
    "a block without an end": (
        b"x=1\n# >>> k8r >>>\ny=2\n\n" + BLOCK,
        b"x=1\n# >>> k8r >>>\ny=2\n",
    ),
    "a block with a line of the user": (BLOCK.replace(b"esac", b"esac\ny=2"),) * 2,
    "an end alone": (b"# <<< k8r <<<\ny=2\n",) * 2,
    "completion": (b'x=1\neval "$(k8r env)"\ny=2', b"x=1\ny=2"),
    "other completion": (b'if :; then\n  eval "$(k8r env)"\nfi\n',) * 2,
}


@pytest.mark.parametrize("given, left", AROUND.values(), ids=AROUND)
def test_what_is_removed(installed: Sandbox, small: Small, given: bytes, left: bytes) -> None:
    """The line, the block and the line for completion, each in its exact form."""
    (installed.home / ".bashrc").write_bytes(given)
    done = installed.install(small.path, "--uninstall")
    assert done.code == 0
    assert (installed.home / ".bashrc").read_bytes() == left
    noted = b"# >>> k8r" in left or b"k8r env" in left
    assert (f"{installed.home}/.bashrc, line" in done.err) == noted


def test_completion_of_another_k8r(installed: Sandbox, small: Small) -> None:
    """Its line stays, since it works."""
    rc = installed.home / ".bashrc"
    rc.write_bytes(b'eval "$(k8r env)"\n' + LINE)
    installed.fake("k8r", "")
    assert installed.install(small.path, "--uninstall").code == 0
    assert rc.read_bytes() == b'eval "$(k8r env)"\n'


@pytest.mark.parametrize("how", ["install", "update"])
def test_a_block_becomes_a_line(installed: Sandbox, small: Small, how: str) -> None:
    """Also where PATH has the command, as it has in each new shell."""
    rc = installed.home / ".bashrc"
    rc.write_bytes(b"x=1\n\n" + BLOCK + b"y=2\n")
    (installed.place / "env").unlink()
    path = f"{installed.tools}:{installed.launcher.parent}"
    run = installed.update if how == "update" else installed.install
    done = run(*([] if how == "update" else [small.path]), PATH=path)
    assert (done.code, done.err) == (0, "")
    assert rc.read_bytes() == b"x=1\ny=2\n" + LINE
    assert installed.new_shell("bash", "-ic", "k8r --version").out == "k8r 1.0\n"


def test_no_rc_file_is_touched(sandbox: Sandbox, small: Small) -> None:
    """K8R_NO_MODIFY_PATH=1: what to write where is said, and a removal keeps to it."""
    rc = sandbox.home / ".bashrc"
    rc.write_bytes(b"x=1\n\n" + BLOCK)
    before = rc.stat().st_ino, rc.read_bytes()
    sandbox.env["K8R_NO_MODIFY_PATH"] = "1"
    done = sandbox.install(small.path)
    assert (done.code, done.err) == (0, "")
    (command,) = re.findall(r"put this into an rc file of your shell: (.*)\n", done.out)
    found = sandbox.run("sh", "-c", f"{command}; k8r --version")
    assert found.out == "k8r 1.0\n"
    assert sandbox.update().code == 0
    assert sandbox.install(small.path, "--uninstall").code == 0
    assert (rc.stat().st_ino, rc.read_bytes()) == before
    assert snapshot(sandbox.home).keys() == {".bashrc"}


@pytest.mark.parametrize("shell", ["dash", "bash", "zsh"])
def test_what_to_type(sandbox: Sandbox, small: Small, shell: str) -> None:
    """The command is not on PATH yet; what is said puts it there, once."""
    sandbox.env["SHELL"] = need(shell)
    done = sandbox.install(small.path)
    (command,) = re.findall(r"open a new terminal, or type: (.*)\n", done.out)
    found = sandbox.run(need(shell), "-c", f'{command}; {command}; k8r --version; echo "$PATH"')
    assert found.out == f"k8r 1.0\n{sandbox.launcher.parent}:{sandbox.tools}\n"
    again = sandbox.install(small.path, PATH=f"{sandbox.tools}:{sandbox.launcher.parent}")
    assert "terminal" not in again.out


def test_without_any_python(installed: Sandbox, small: Small) -> None:
    """The rest goes; the line, which does nothing any more, is left with a note."""
    (installed.place / "current/.venv/bin/python").unlink()
    (installed.tools / "python3").unlink()
    done = installed.install(small.path, "--uninstall")
    assert done.code == 1
    assert "python3" in done.err
    assert not installed.place.exists()
    assert (installed.home / ".bashrc").read_bytes() == MINE + LINE
