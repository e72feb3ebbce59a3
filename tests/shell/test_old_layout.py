"""The layout of old, a folder where the command is now, makes room for the command."""

from __future__ import annotations

from pathlib import Path

import pytest

from sandbox import Sandbox, Small, git, snapshot

HIDING = {
    "plain": """\
k8r() {
    ~/.local/bin/k8r/venv/bin/python ~/.local/bin/k8r/k8r.py "$@"
}
""",
    "function": """\
    function k8r {
        $HOME/.local/bin/k8r/k8r.py "$@"
    }
""",
    "brace below": """k8r ()\n{\n    ~/.local/bin/k8r/k8r.py "$@"\n}\n""",
    "in one line": """k8r() { ~/.local/bin/k8r/k8r.py "$@"; }\n""",
    "another function": """k8r() {\n    /opt/k8r/k8r.py "$@"\n}\n""",
    "an alias": "alias k8r='kubectl run'\n",
    "without an end": "k8r() {\n    ~/.local/bin/k8r/k8r.py\n",
}
BEFORE = b"# mine \xe4\r\nalias ll='ls -l'\n\n"
AFTER = b"\nother() {\n    :\n}\nexport X=1\n"


@pytest.fixture
def old(sandbox: Sandbox, small: Small) -> Path:
    """A HOME with the old folder, a checkout with a change in it."""
    folder = sandbox.home / ".local/bin/k8r"
    git(sandbox.home, "clone", "-q", str(small.path), str(folder))
    (folder / "mine.txt").write_text("a change")
    (folder / "venv/bin").mkdir(parents=True)
    return folder


@pytest.mark.parametrize("hiding", HIDING.values(), ids=HIDING)
def test_what_hides_the_command(sandbox: Sandbox, small: Small, hiding: str) -> None:
    """It is named with its line, at an installation and at an update, and stays."""
    rc = sandbox.home / ".bashrc"
    rc.write_bytes(BEFORE + hiding.encode() + AFTER)
    for done in (sandbox.install(small.path), sandbox.update()):
        assert done.code == 0
        assert done.err == (
            f"install.sh: note: {rc}, line 4, has a k8r that comes before the command; remove it\n"
        )
    assert rc.read_bytes().startswith(BEFORE + hiding.encode() + AFTER)
    assert sandbox.install(small.path, "--uninstall").code == 0
    assert rc.read_bytes() == BEFORE + hiding.encode() + AFTER
    assert snapshot(sandbox.home).keys() == {".bashrc"}


def test_the_folder(sandbox: Sandbox, small: Small, old: Path) -> None:
    """It is kept elsewhere, with all that is in it, also by a removal, and the command works."""
    content = snapshot(old)
    done = sandbox.install(small.path)
    assert (done.code, done.err) == (0, "")
    assert sandbox.new_shell("bash", "-ic", "k8r --version; type -t k8r").out == "k8r 1.0\nfile\n"
    (kept,) = sandbox.place.glob("old-layout-*")
    assert snapshot(kept) == content
    assert str(kept) in done.out

    done = sandbox.install(small.path, "--uninstall")
    assert done.code == 0
    assert str(kept) in done.out
    assert snapshot(kept) == content
    assert sandbox.install(small.path).code == 0
    assert sandbox.version() == "k8r 1.0"


def test_from_the_old_folder_itself(sandbox: Sandbox, old: Path) -> None:
    """It is a checkout; where it has no remote, updates come from where it is then."""
    git(old, "remote", "remove", "origin")
    done = sandbox.install(old)
    assert (done.code, done.err) == (0, "")
    (kept,) = sandbox.place.glob("old-layout-*")
    assert (sandbox.place / "source").read_text() == f"{kept}\n\n"
    assert sandbox.update().code == 0
    assert sandbox.version() == "k8r 1.0"


def test_a_folder_that_is_something_else(sandbox: Sandbox, small: Small) -> None:
    """Without a k8r.py in it, it is not the old layout."""
    (sandbox.launcher / "mine").mkdir(parents=True)
    before = snapshot(sandbox.home)
    done = sandbox.install(small.path)
    assert done.code == 1
    assert str(sandbox.launcher) in done.err
    assert snapshot(sandbox.home) == before


def test_a_failure_leaves_the_old_layout(sandbox: Sandbox, small: Small, old: Path) -> None:
    """It is moved when the new version has been tried, not before."""
    (sandbox.home / ".bashrc").write_bytes(BEFORE)
    (small.path / "k8r.py").write_text("raise SystemExit(1)\n")
    git(small.path, "add", "-A")
    git(small.path, "commit", "-q", "-m", "Broken")
    before = snapshot(sandbox.home)
    assert sandbox.install(small.path).code == 1
    assert snapshot(sandbox.home) == before
