"""install.sh puts k8r into a home, and takes it out again without a trace."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from sandbox import FILES, ROOT, TOOLS, Sandbox, Small, git, need, snapshot

SHELLS = ("dash", "bash", "zsh")
NEW_SHELL = {"dash": ("dash", "-lc"), "bash": ("bash", "-ic"), "zsh": ("zsh", "-ic")}


def test_busybox(sandbox: Sandbox, small: Small) -> None:
    """Its shell and its tools, such as small systems have, do as well."""
    busybox = need("busybox")
    for name in TOOLS:
        (sandbox.tools / name).unlink()
        sandbox.tool(name, busybox)
    done = sandbox.install(small.path)
    assert (done.code, done.err) == (0, "")
    small.set("2.0")
    assert sandbox.update().code == 0
    assert sandbox.version() == "k8r 2.0"
    done = sandbox.install(small.path, "--uninstall")
    assert (done.code, done.err) == (0, "")
    assert snapshot(sandbox.home) == {}


@pytest.mark.parametrize("shell", SHELLS)
def test_from_a_checkout(sandbox: Sandbox, project: Path, shell: str) -> None:
    """The real thing, under each shell: there, found by a new shell, gone."""
    sandbox.env["SHELL"] = path = need(shell)
    before = snapshot(sandbox.home)
    done = sandbox.install(project, shell=path)
    assert (done.code, done.err) == (0, "")
    assert str(sandbox.launcher) in done.out
    version = sandbox.version()
    assert version and version.startswith("k8r ")
    new = sandbox.new_shell(*NEW_SHELL[shell], "k8r --version")
    assert (new.code, new.out.strip()) == (0, version), new.err
    assert sandbox.new_shell(*NEW_SHELL[shell], "k8r --help").code == 0
    nothing_but_the_needful(sandbox.place)

    installed = snapshot(sandbox.home)
    done = sandbox.install(project, shell=path)
    assert (done.code, done.err) == (0, "")
    assert snapshot(sandbox.home) == installed

    done = sandbox.install(project, "--uninstall", shell=path)
    assert (done.code, done.err) == (0, "")
    assert snapshot(sandbox.home) == before
    assert sandbox.install(project, "--uninstall", shell=path).code == 0
    assert snapshot(sandbox.home) == before


def nothing_but_the_needful(place: Path) -> None:
    """No development tools; and all of it compiled, so that the first start is fast."""
    packages = {path.name for path in place.glob("current/.venv/lib/*/site-packages/*")}
    assert "yaml" in packages
    assert not packages & {"pytest", "black", "mypy"}
    assert list(place.glob("current/.venv/lib/*/site-packages/yaml/__pycache__/*"))
    assert list(place.glob("current/__pycache__/k8r.*"))


def test_from_a_copy_without_git(sandbox: Sandbox, small: Small, tmp_path: Path) -> None:
    """What matters is copied, once; a change makes another version."""
    copy = tmp_path / "copy"
    copy.mkdir()
    for name in FILES:
        if (small.path / name).exists():
            shutil.copy(small.path / name, copy)
    (copy / "notes.txt").write_text("mine")
    done = sandbox.install(copy)
    assert (done.code, done.err) == (0, "")
    assert sandbox.version() == "k8r 1.0"
    assert not (sandbox.place / "current/notes.txt").exists()
    installed = snapshot(sandbox.home)
    assert sandbox.install(copy).code == 0
    assert snapshot(sandbox.home) == installed
    (copy / "k8r.py").write_text((copy / "k8r.py").read_text().replace("1.0", "1.1"))
    assert sandbox.update().code == 0
    assert sandbox.version() == "k8r 1.1"


def test_a_copy_inside_another_repository(sandbox: Sandbox, small: Small, tmp_path: Path) -> None:
    """Somebody else's repository around the files is none of their business."""
    git(tmp_path, "init", "-q", "outer")
    copy = tmp_path / "outer" / "k8r"
    shutil.copytree(small.path, copy, ignore=shutil.ignore_patterns(".git"))
    done = sandbox.install(copy)
    assert (done.code, done.err) == (0, "")
    assert sandbox.current.startswith("files-")


def test_uncommitted_changes_are_not_installed(sandbox: Sandbox, small: Small) -> None:
    """It is the commit that is installed, and this is said."""
    (small.path / "k8r.py").write_text("broken")
    done = sandbox.install(small.path)
    assert done.code == 0
    assert "uncommitted changes" in done.err
    assert sandbox.version() == "k8r 1.0"


def test_from_a_linked_work_tree(sandbox: Sandbox, small: Small, tmp_path: Path) -> None:
    """A work tree of `git worktree` is a checkout too, and its own commit counts."""
    git(small.path, "worktree", "add", "-q", "-b", "other", str(tmp_path / "linked"))
    small.set("2.0")
    assert sandbox.install(tmp_path / "linked").code == 0
    assert sandbox.version() == "k8r 1.0"


def test_a_repository_without_a_commit(sandbox: Sandbox, tmp_path: Path) -> None:
    """There is nothing to install, and nothing is left behind."""
    git(tmp_path, "init", "-q", "empty")
    for name in FILES:
        shutil.copy(ROOT / name, tmp_path / "empty")
    before = snapshot(sandbox.home)
    done = sandbox.install(tmp_path / "empty")
    assert done.code == 1
    assert "no commit" in done.err
    assert snapshot(sandbox.home) == before


@pytest.mark.parametrize("shell", SHELLS)
def test_piped(sandbox: Sandbox, small: Small, shell: str) -> None:
    """From K8R_REPO; the directory where this happens is not looked at."""
    (sandbox.cwd / "k8r.py").write_text("raise SystemExit('the wrong one')\n")
    (sandbox.cwd / "pyproject.toml").write_text("")
    before = snapshot(sandbox.home)
    done = sandbox.piped(shell=need(shell), K8R_REPO=small.path.as_uri())
    assert (done.code, done.err) == (0, "")
    assert sandbox.version() == "k8r 1.0"
    assert (sandbox.place / "source").read_text() == small.path.as_uri() + "\n\n"
    assert sandbox.piped("--uninstall", shell=need(shell)).code == 0
    assert snapshot(sandbox.home) == before


def test_piped_with_a_relative_path(sandbox: Sandbox, small: Small) -> None:
    """It is remembered as an absolute one, so that it need not be named again."""
    sandbox.cwd = small.path.parent
    done = sandbox.piped(K8R_REPO=small.path.name)
    assert (done.code, done.err) == (0, "")
    assert (sandbox.place / "source").read_text() == f"{small.path}\n\n"
    assert sandbox.piped().code == 0


def test_piped_with_a_branch(sandbox: Sandbox, small: Small) -> None:
    """K8R_BRANCH is what is installed and remembered."""
    git(small.path, "checkout", "-q", "-b", "next")
    small.set("2.0")
    git(small.path, "checkout", "-q", "main")
    done = sandbox.piped(K8R_REPO=str(small.path), K8R_BRANCH="next")
    assert (done.code, done.err) == (0, "")
    assert sandbox.version() == "k8r 2.0"
    assert (sandbox.place / "source").read_text() == f"{small.path}\nnext\n"


def test_piped_without_a_repository(sandbox: Sandbox) -> None:
    """One line says what to set."""
    done = sandbox.piped()
    assert (done.code, done.out) == (1, "")
    assert "K8R_REPO" in done.err and done.err.count("\n") == 1
    assert snapshot(sandbox.home) == {}


def test_a_download_cut_short_does_nothing(sandbox: Sandbox, small: Small) -> None:
    """At each line before the last one."""
    lines = (ROOT / "install.sh").read_bytes().splitlines(keepends=True)
    assert lines[-1] == b'main "$@"\n'
    sandbox.env["K8R_REPO"] = str(small.path)
    for count in range(len(lines)):
        done = sandbox.run("sh", "-s", stdin=b"".join(lines[:count]))
        assert done.out == "", count
    assert snapshot(sandbox.home) == {}


def test_origin_is_where_updates_come_from(sandbox: Sandbox, small: Small, tmp_path: Path) -> None:
    """And the branch is the one that the checkout follows."""
    git(small.path, "checkout", "-q", "-b", "next")
    git(tmp_path, "clone", "-q", "-b", "next", small.path.as_uri(), "clone")
    assert sandbox.install(tmp_path / "clone").code == 0
    source = sandbox.place / "source"
    assert source.read_text() == f"{small.path.as_uri()}\nnext\n"
    assert source.stat().st_mode & 0o077 == 0
    git(tmp_path / "clone", "remote", "set-url", "origin", "../small")
    assert sandbox.install(tmp_path / "clone").code == 0
    assert source.read_text() == f"{small.path}\nnext\n"


RC_FILES = {
    "usual": b"alias ll='ls -l'\n",
    "no final newline": b"alias ll='ls -l'",
    "empty": b"",
    "only a newline": b"\n",
    "odd bytes": b"# \xff\xe4\n\n\nx=1\r\n# end",
}


@pytest.mark.parametrize("content", RC_FILES.values(), ids=RC_FILES)
def test_an_rc_file_comes_back_as_it_was(sandbox: Sandbox, small: Small, content: bytes) -> None:
    """One line, however often it is installed; then the same bytes, in the same file."""
    real = sandbox.home / "dotfiles"
    real.write_bytes(content)
    real.chmod(0o640)
    (sandbox.home / ".bashrc").symlink_to("dotfiles")
    (sandbox.home / ".profile").write_bytes(b". ~/.bashrc\n")
    before = snapshot(sandbox.home)
    for _ in range(2):
        assert sandbox.install(small.path).code == 0
        assert real.read_bytes().startswith(content)
        assert real.read_bytes().count(b"/k8r/env") == 2  # in one line
    assert sandbox.new_shell("bash", "-ic", "k8r --version").out == "k8r 1.0\n"
    assert sandbox.install(small.path, "--uninstall").code == 0
    assert snapshot(sandbox.home) == before


def test_lines_after_the_line_stay(sandbox: Sandbox, small: Small) -> None:
    """What was written after the line was there is not of its kind."""
    assert sandbox.install(small.path).code == 0
    with (sandbox.home / ".bashrc").open("a") as file:
        file.write("mine=1")
    assert sandbox.install(small.path, "--uninstall").code == 0
    assert snapshot(sandbox.home).keys() == {".bashrc"}
    assert (sandbox.home / ".bashrc").read_text() == "mine=1"


def test_no_rc_file_is_touched_where_path_has_it(sandbox: Sandbox, small: Small) -> None:
    """The directory is on PATH already."""
    path = f"{sandbox.tools}:{sandbox.launcher.parent}"
    assert sandbox.install(small.path, PATH=path).code == 0
    assert {path.name for path in sandbox.home.iterdir()} == {".local"}


@pytest.mark.parametrize(
    "given, touched",
    [
        ({}, {".bashrc", ".profile"}),
        ({".profile": ". ~/.bashrc\n"}, {".bashrc"}),
        ({".profile": "x=1\n"}, {".bashrc", ".profile"}),
        ({".bash_profile": "x=1\n", ".profile": "x=1\n"}, {".bashrc", ".bash_profile"}),
        ({".bash_login": "source ~/.bashrc\n", ".profile": "x=1\n"}, {".bashrc"}),
    ],
)
def test_the_files_that_bash_reads(
    sandbox: Sandbox, small: Small, given: "dict[str, str]", touched: "set[str]"
) -> None:
    """A login shell finds k8r as well as another, by no more files than that takes."""
    for name, content in given.items():
        (sandbox.home / name).write_text(content)
    assert sandbox.install(small.path).code == 0
    found = {path.name for path in sandbox.home.iterdir() if path.is_file()}
    assert {name for name in found if "/k8r/env" in (sandbox.home / name).read_text()} == touched
    for flags in ("-ic", "-lic"):
        assert sandbox.new_shell("bash", flags, "k8r --version").out == "k8r 1.0\n", flags
    path = sandbox.new_shell("bash", "-lic", 'echo "$PATH"').out
    assert path.count(str(sandbox.launcher.parent)) == 1


def test_zdotdir(sandbox: Sandbox, small: Small) -> None:
    """zsh's files may be elsewhere; the removal finds them, without being told."""
    zsh = need("zsh")
    dotfiles = sandbox.home / "zsh files"
    dotfiles.mkdir()
    before = snapshot(sandbox.home)
    sandbox.env.update(SHELL=zsh, ZDOTDIR=str(dotfiles))
    assert sandbox.install(small.path).code == 0
    assert not (sandbox.home / ".zshrc").exists()
    assert sandbox.new_shell("zsh", "-ic", "k8r --version").out == "k8r 1.0\n"
    del sandbox.env["ZDOTDIR"]
    assert sandbox.install(small.path, "--uninstall").code == 0
    assert snapshot(sandbox.home) == before


def test_another_shell(sandbox: Sandbox, small: Small) -> None:
    """.profile it is, with a note that this may not do."""
    done = sandbox.install(small.path, SHELL="/usr/bin/fish")
    assert done.code == 0
    assert "fish may not read" in done.err
    assert "/k8r/env" in (sandbox.home / ".profile").read_text()


def test_a_read_only_rc_file(sandbox: Sandbox, small: Small) -> None:
    """It is installed nevertheless, and the rest is left to the user."""
    rc = sandbox.home / ".bashrc"
    rc.write_text("x=1\n")
    rc.chmod(0o444)
    (sandbox.home / ".profile").write_text(". ~/.bashrc\n")
    done = sandbox.read_only(rc, "sh", str(small.path / "install.sh"))
    assert done.code == 0, done.err
    assert f"cannot write {rc}" in done.err
    assert rc.read_text() == "x=1\n"
    assert sandbox.version() == "k8r 1.0"


@pytest.mark.parametrize("shell", SHELLS)
def test_odd_names(sandbox: Sandbox, small: Small, tmp_path: Path, shell: str) -> None:
    """Spaces, umlauts and quotes in HOME, in the checkout and in K8R_BIN."""
    sandbox.env["SHELL"] = path = need(shell)
    sandbox.home = sandbox.home.rename(tmp_path / 'Jörg\'s "home" $x')
    checkout = small.path.rename(tmp_path / "my checkoüt")
    sandbox.env["HOME"] = str(sandbox.home)
    before = snapshot(sandbox.home)
    bin_dir = sandbox.home / "it's `mine` $y"
    for env in ({}, {"K8R_BIN": str(bin_dir)}):
        done = sandbox.install(checkout, shell=path, **env)
        assert (done.code, done.err) == (0, "")
        assert sandbox.new_shell(*NEW_SHELL[shell], "k8r --version").out == "k8r 1.0\n"
        assert sandbox.update().code == 0
        assert sandbox.install(checkout, "--uninstall", shell=path).code == 0
        assert snapshot(sandbox.home) == before


def test_other_places(sandbox: Sandbox, small: Small) -> None:
    """K8R_HOME and K8R_BIN; an installed version knows them by itself."""
    (sandbox.home / "bin").mkdir()
    (sandbox.home / "opt").mkdir()
    before = snapshot(sandbox.home)
    sandbox.cwd = sandbox.home
    assert sandbox.install(small.path, K8R_HOME="opt/k8r", K8R_BIN="bin").code == 0
    assert sandbox.new_shell("bash", "-ic", "k8r --version").out == "k8r 1.0\n"
    installed = sandbox.home / "opt/k8r/current"
    small.set("2.0")
    assert sandbox.install(installed, "--update").code == 0
    assert sandbox.run(str(sandbox.home / "bin/k8r"), "--version").out == "k8r 2.0\n"
    assert sandbox.install(installed, "--uninstall").code == 0
    assert snapshot(sandbox.home) == before


def test_moved_to_another_bin(sandbox: Sandbox, small: Small) -> None:
    """The env file follows; the line in the rc file stays as it is."""
    assert sandbox.install(small.path).code == 0
    rc = (sandbox.home / ".bashrc").read_text()
    assert sandbox.install(small.path, K8R_BIN=str(sandbox.home / "bin")).code == 0
    assert (sandbox.home / ".bashrc").read_text() == rc
    assert sandbox.new_shell("bash", "-ic", "k8r --version").out == "k8r 1.0\n"
    assert not sandbox.launcher.is_symlink()
    assert sandbox.install(small.path, "--uninstall").code == 0
    assert snapshot(sandbox.home) == {}


def test_a_command_of_somebody_else(sandbox: Sandbox, small: Small) -> None:
    """It is not replaced, and not removed."""
    sandbox.launcher.parent.mkdir(parents=True)
    sandbox.launcher.write_text("#!/bin/sh\n")
    before = snapshot(sandbox.home)
    done = sandbox.install(small.path)
    assert done.code == 1
    assert "K8R_BIN" in done.err
    assert sandbox.install(small.path, "--uninstall").code == 0
    assert snapshot(sandbox.home) == before


def test_a_folder_of_somebody_else(sandbox: Sandbox, small: Small) -> None:
    """K8R_HOME that is something else already is left alone."""
    (sandbox.home / "versions").mkdir()
    (sandbox.home / "versions/mine").write_text("x")
    before = snapshot(sandbox.home)
    sandbox.env["K8R_HOME"] = str(sandbox.home)
    done = sandbox.install(small.path)
    assert done.code == 1
    assert "K8R_HOME" in done.err
    assert sandbox.install(small.path, "--uninstall").code == 0
    assert snapshot(sandbox.home) == before


def test_help_and_wrong_usage(sandbox: Sandbox) -> None:
    """Nothing happens, and what is wrong is named."""
    done = sandbox.install(ROOT, "--help")
    assert done.code == 0
    assert all(word in done.out for word in ("--update", "--uninstall", "K8R_HOME", "K8R_BIN"))
    for args in (("--nonsense",), ("--update", "--nonsense"), ("nonsense",), ("--uninstall", "x")):
        done = sandbox.install(ROOT, *args)
        assert (done.code, done.out) == (2, ""), args
        assert args[-1] in done.err
    assert snapshot(sandbox.home) == {}


def test_in_a_git_hook(sandbox: Sandbox, small: Small, tmp_path: Path) -> None:
    """What git sets for a hook of one repository does not lead to that repository."""
    git(tmp_path, "init", "-q", "other")
    hook = tmp_path / "other/.git/hooks/post-commit"
    hook.parent.mkdir(exist_ok=True)
    hook.write_text(f"#!/bin/sh\nGIT_DEFAULT_HASH=sha256 sh {small.path}/install.sh\n")
    hook.chmod(0o755)
    commit = ("commit", "-q", "--allow-empty", "-m", "A state")
    done = sandbox.run(
        *("git", "-c", "user.name=k8r", "-c", "user.email=k8r@localhost"),
        *("-C", str(tmp_path / "other"), "-c", "core.worktree=/nonexistent", *commit),
    )
    assert "installed k8r 1.0" in done.out + done.err
    assert sandbox.version() == "k8r 1.0"


@pytest.mark.parametrize("name", git(ROOT, "rev-parse", "--local-env-vars").split())
def test_git_variables(sandbox: Sandbox, small: Small, name: str) -> None:
    """Each of those that belong to one repository is without effect."""
    done = sandbox.install(small.path, **{name: "/nonexistent"})
    assert (done.code, done.err) == (0, "")


def test_git_starts_no_program(sandbox: Sandbox, small: Small, tmp_path: Path) -> None:
    """No hook, no monitor of the file system, be they the user's or the repository's."""
    mark = tmp_path / "started"
    hooks = tmp_path / "hooks"
    hooks.mkdir()
    (sandbox.home / ".gitconfig").write_text(f"[core]\n  hooksPath = {hooks}\n")
    for name in ("post-checkout", "reference-transaction", "monitor"):
        (hooks / name).write_text(f"#!/bin/sh\necho {name} >> {mark}\n")
        (hooks / name).chmod(0o755)
    git(small.path, "config", "core.fsmonitor", str(hooks / "monitor"))
    done = sandbox.install(small.path)
    assert (done.code, done.err) == (0, "")
    assert not mark.exists()


@pytest.mark.parametrize("where", ["K8R_REPO", "origin"])
def test_a_token_is_not_printed(sandbox: Sandbox, small: Small, tmp_path: Path, where: str) -> None:
    """A URL's user and password are in no message, git's own included."""
    url = "http://user:s3cr@et/x@127.0.0.1:9/k8r.git"
    if where == "origin":
        assert sandbox.install(small.path).code == 0
        git(small.path, "remote", "add", "origin", url)
        assert sandbox.install(small.path).code == 0
        done = sandbox.update()
    else:
        done = sandbox.piped(K8R_REPO=url, K8R_BRANCH="next")
    assert done.code == 1
    assert "127.0.0.1:9/k8r.git" in done.err
    assert "s3cr" not in done.out + done.err and "user" not in done.out + done.err


def test_the_end_of_what_is_old() -> None:
    """When k8r has this version, install.sh need not know the oldest layout any more."""
    text = (ROOT / "install.sh").read_text()
    (until,) = re.findall(r"^old_layout_until=([0-9.]+)$", text, re.M)
    (version,) = re.findall(r'^__version__ = "([0-9.]+)"$', (ROOT / "k8r.py").read_text(), re.M)
    assert [int(part) for part in version.split(".")] < [int(part) for part in until.split(".")]


def test_an_activated_environment(sandbox: Sandbox, small: Small, tmp_path: Path) -> None:
    """The environment that is active stays as it is, and k8r does not depend on it."""
    subprocess.run([sandbox.tools / "python3", "-m", "venv", "--without-pip", tmp_path / "venv"])
    before = snapshot(tmp_path / "venv")
    path = f"{tmp_path}/venv/bin:{sandbox.tools}"
    done = sandbox.install(small.path, VIRTUAL_ENV=str(tmp_path / "venv"), PATH=path)
    assert (done.code, done.err) == (0, "")
    assert snapshot(tmp_path / "venv") == before
    shutil.rmtree(tmp_path / "venv")
    assert sandbox.version() == "k8r 1.0"
