"""The layout of old, a folder where the command is now, is moved over."""

from __future__ import annotations

from pathlib import Path

import pytest

from sandbox import Sandbox, Small, git, snapshot

FUNCTIONS = {
    "plain": """\
k8r() {
    ~/.local/bin/k8r/venv/bin/python ~/.local/bin/k8r/k8r.py "$@"
}
""",
    "with a comment": """\
# k8r: run things on Kubernetes
# (see its README)
k8r() {
    if [ "$1" = x ]; then {
        :
    }; fi
    "$HOME/.local/bin/k8r/k8r.py" "$@"
}
""",
    "function": """\
    function k8r {
        $HOME/.local/bin/k8r/k8r.py "$@"
    }
""",
    "in one line": """k8r() { ~/.local/bin/k8r/k8r.py "$@"; }\n""",
    "brace below": """\
k8r ()
{
    ~/.local/bin/k8r/k8r.py "$@"
}
""",
}
BEFORE = "# mine \u00e4\nalias ll='ls -l'\n\n"
AFTER = "\nother() {\n    :\n}\nexport X=1"


@pytest.fixture
def old(sandbox: Sandbox, small: Small) -> Path:
    """A HOME with the old folder, a checkout with a change in it."""
    folder = sandbox.home / ".local/bin/k8r"
    git(sandbox.home, "clone", "-q", str(small.path), str(folder))
    (folder / "mine.txt").write_text("a change")
    (folder / "venv/bin").mkdir(parents=True)
    return folder


@pytest.mark.parametrize("function", FUNCTIONS.values(), ids=FUNCTIONS)
def test_moved_over(sandbox: Sandbox, small: Small, old: Path, function: str) -> None:
    """The folder is kept elsewhere, the function is gone, and the command works."""
    rc = sandbox.home / ".bashrc"
    rc.write_text(BEFORE + function + AFTER)
    content = snapshot(old)
    done = sandbox.install(small.path)
    assert (done.code, done.err) == (0, "")
    assert sandbox.new_shell("bash", "-ic", "k8r --version; type -t k8r").out == "k8r 1.0\nfile\n"
    (kept,) = sandbox.place.glob("old-layout-*")
    assert snapshot(kept) == content
    assert str(kept) in done.out and str(rc) in done.out
    assert rc.read_text().startswith(BEFORE + AFTER)
    assert (sandbox.home / ".bashrc.k8r-backup").read_text() == BEFORE + function + AFTER

    done = sandbox.install(small.path, "--uninstall")
    assert done.code == 0
    assert str(kept) in done.out
    assert snapshot(kept) == content
    assert rc.read_text() == BEFORE + AFTER
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


@pytest.mark.parametrize(
    "function",
    [
        'k8r() {\n    /opt/k8r/k8r.py "$@"\n}\n',
        "alias k8r='kubectl run'\n",
        "k8r() {\n    ~/.local/bin/k8r/k8r.py\n",
    ],
    ids=["another function", "an alias", "a function without an end"],
)
def test_what_is_not_recognised_stays(sandbox: Sandbox, small: Small, function: str) -> None:
    """With a warning, for it hides the command."""
    rc = sandbox.home / ".bashrc"
    rc.write_text("x=1\n" + function)
    done = sandbox.install(small.path)
    assert done.code == 0
    assert f"{rc}, line 2," in done.err
    assert rc.read_text().startswith("x=1\n" + function)
    assert not list(sandbox.home.glob("*backup*"))


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
    (sandbox.home / ".bashrc").write_text(FUNCTIONS["plain"])
    (small.path / "k8r.py").write_text("raise SystemExit(1)\n")
    git(small.path, "add", "-A")
    git(small.path, "commit", "-q", "-m", "Broken")
    before = snapshot(sandbox.home)
    assert sandbox.install(small.path).code == 1
    assert snapshot(sandbox.home) == before
