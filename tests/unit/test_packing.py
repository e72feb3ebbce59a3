"""Packing: what of a real directory, with a real git, is sent."""

from __future__ import annotations

import base64
import contextlib
import errno
import gzip
import hashlib
import io
import os
import shutil
import socket
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path
from typing import Any, Dict, Iterator, List, NamedTuple, Set

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import k8r

NOBODY = 65534


@pytest.fixture(autouse=True)
def own_git(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A git without the machine's configuration; gives the path of the global one."""
    home = tmp_path / "home"
    home.mkdir()
    config = home / "gitconfig"
    config.write_text("[user]\nname = n\nemail = n@example.org\n[init]\ndefaultBranch = main\n")
    for name in [name for name in os.environ if name.startswith("GIT_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(home))
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(config))
    monkeypatch.setenv("GIT_CONFIG_NOSYSTEM", "1")
    return config


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """An empty directory in no work tree."""
    path = tmp_path / "tree"
    path.mkdir()
    return path


@pytest.fixture
def repo(tree: Path) -> Path:
    """An empty repository."""
    git(tree, "init", "-q")
    return tree


def git(folder: Path, *args: str) -> None:
    """Run git, which must succeed."""
    command = ["git", "-C", str(folder), "-c", "protocol.file.allow=always", *args]
    subprocess.run(command, check=True, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)


def commit(folder: Path) -> None:
    """Commit everything."""
    git(folder, "add", "-A")
    git(folder, "commit", "-qm", "x")


def put(folder: Path, files: Dict[str, str]) -> None:
    """Write files with their directories."""
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def listed(folder: Path) -> List[str]:
    """The paths that are packed."""
    return k8r.list_directory(str(folder)).paths


def notes(folder: Path) -> List[str]:
    """What is said of those that are not."""
    return k8r.list_directory(str(folder)).notes


def packed(folder: Path) -> bytes:
    """The bytes of the archive."""
    with contextlib.closing(k8r.pack_directory(str(folder))) as archive:
        return b"".join(archive.chunk(part) for part in range(archive.chunks))


def members(data: bytes) -> Dict[str, tarfile.TarInfo]:
    """The entries of an archive."""
    with tarfile.open(fileobj=io.BytesIO(data), errors="surrogateescape") as tar:
        return {member.name: member for member in tar}


def contents(data: bytes) -> Dict[str, bytes]:
    """The files of an archive."""
    with tarfile.open(fileobj=io.BytesIO(data), errors="surrogateescape") as tar:
        files = (member for member in tar if member.isfile())
        return {member.name: tar.extractfile(member).read() for member in files}  # type: ignore


# In a work tree


def test_tracked_and_untracked(repo: Path) -> None:
    """Both are sent, .git is not."""
    put(repo, {"a": "1", "d/b": "2"})
    commit(repo)
    put(repo, {"c": "3", "d/e/f": "4"})
    assert listed(repo) == ["a", "c", "d/b", "d/e/f"]


def test_gitignore(repo: Path) -> None:
    """Nested files, negations and directories, as git has them."""
    put(
        repo,
        {
            ".gitignore": "*.log\n!keep.log\nbuild/\n/only-top\n",
            "a.log": "",
            "keep.log": "",
            "build/x": "",
            "only-top": "",
            "d/only-top": "",
            "d/.gitignore": "*.tmp\n!*.log\n",
            "d/b.log": "",
            "d/c.tmp": "",
            "e/c.tmp": "",
        },
    )
    expected = [".gitignore", "d/.gitignore", "d/b.log", "d/only-top", "e/c.tmp", "keep.log"]
    assert listed(repo) == expected


def test_other_places_of_ignore_rules(repo: Path, own_git: Path) -> None:
    """.git/info/exclude and the user's own core.excludesFile count."""
    excludes = own_git.parent / "ignore"
    excludes.write_text("*.global\n")
    with own_git.open("a") as file:
        file.write(f"[core]\nexcludesFile = {excludes}\n")
    (repo / ".git" / "info" / "exclude").write_text("*.info\n")
    put(repo, {"a.global": "", "a.info": "", "a": ""})
    assert listed(repo) == ["a"]


def test_tracked_though_ignored(repo: Path) -> None:
    """What is committed belongs to the project, whatever .gitignore says."""
    put(repo, {"a.log": "1"})
    commit(repo)
    put(repo, {".gitignore": "*.log\n", "b.log": ""})
    assert listed(repo) == [".gitignore", "a.log"]


def test_changed_files_are_sent_as_they_are(repo: Path) -> None:
    """The working tree counts, not the index."""
    put(repo, {"a": "old"})
    commit(repo)
    put(repo, {"a": "new"})
    assert contents(packed(repo)) == {"a": b"new"}


def test_deleted_tracked_file(repo: Path) -> None:
    """A file that is gone here is not sent, and that is no error."""
    put(repo, {"a": "1", "b": "2"})
    commit(repo)
    (repo / "a").unlink()
    assert set(contents(packed(repo))) == {"b"}
    assert notes(repo) == []


def test_deleted_tracked_directory(repo: Path) -> None:
    """Nor is a whole directory."""
    put(repo, {"a/b/c": "1", "a/d": "1", "e": "2"})
    commit(repo)
    shutil.rmtree(repo / "a")
    assert set(contents(packed(repo))) == {"e"}
    assert notes(repo) == []


def test_tracked_directory_became_a_file(repo: Path) -> None:
    """The file is sent; what the index still knows of the directory is gone."""
    put(repo, {"a/b": "1"})
    commit(repo)
    shutil.rmtree(repo / "a")
    put(repo, {"a": "2"})
    assert contents(packed(repo)) == {"a": b"2"}


@pytest.mark.parametrize("inside", [True, False])
def test_tracked_directory_became_a_link(repo: Path, tmp_path: Path, inside: bool) -> None:
    """Nothing is sent through a link: not from elsewhere, and nothing twice."""
    put(repo, {"a/b": "1", "c": "2"})
    commit(repo)
    shutil.rmtree(repo / "a")
    target = repo / "moved" if inside else tmp_path / "elsewhere"
    put(target, {"b": "secret"})
    (repo / "a").symlink_to("moved" if inside else target)
    expected = ["a", "c", "moved/b"] if inside else ["c"]
    assert listed(repo) == expected


def test_file_became_a_directory(repo: Path) -> None:
    """The new directory is sent."""
    put(repo, {"a": "1"})
    commit(repo)
    (repo / "a").unlink()
    put(repo, {"a/b": "2"})
    assert contents(packed(repo)) == {"a/b": b"2"}


def test_merge_conflict(repo: Path) -> None:
    """A file of which the index has three stages is sent once."""
    put(repo, {"a": "1"})
    commit(repo)
    git(repo, "checkout", "-qb", "other")
    put(repo, {"a": "2"})
    commit(repo)
    git(repo, "checkout", "-q", "main")
    put(repo, {"a": "3"})
    commit(repo)
    with pytest.raises(subprocess.CalledProcessError):
        git(repo, "merge", "-q", "other")
    assert listed(repo) == ["a"]
    assert b"<<<<<<<" in contents(packed(repo))["a"]


def test_k8rignore(repo: Path) -> None:
    """It takes tracked and untracked files out, nested and negated like .gitignore."""
    put(
        repo,
        {
            "tracked.bin": "",
            "keep.bin": "",
            "data/big": "",
            "src/a.py": "",
            "src/b.txt": "",
            "src/c.txt": "",
            ".k8rignore": "*.bin\n!keep.bin\n/data/\n",
            "src/.k8rignore": "*.txt\n!c.txt\n",
        },
    )
    commit(repo)
    put(repo, {"untracked.bin": "", "data/new": "", "b.txt": ""})
    assert listed(repo) == [
        ".k8rignore",
        "b.txt",
        "keep.bin",
        "src/.k8rignore",
        "src/a.py",
        "src/c.txt",
    ]


def test_k8rignore_cannot_bring_back(repo: Path) -> None:
    """It comes on top of .gitignore, it does not replace that."""
    put(repo, {".gitignore": "*.key\n", ".k8rignore": "!*.key\n", "a.key": "", "b": ""})
    assert listed(repo) == [".gitignore", ".k8rignore", "b"]


def test_part_of_a_work_tree(repo: Path) -> None:
    """A directory inside of one: only its own files, by the rules of all above."""
    put(
        repo,
        {
            ".gitignore": "*.log\n",
            ".k8rignore": "*.bin\n",
            "top": "",
            "sub/a": "",
            "sub/a.log": "",
            "sub/a.bin": "",
            "sub/deep/b": "",
            "sub/deep/b.log": "",
            "sub/.k8rignore": "/deep/c\n",
            "sub/deep/c": "",
        },
    )
    commit(repo)
    put(repo, {"sub/new": "", "other/x": ""})
    assert listed(repo / "sub") == [".k8rignore", "a", "deep/b", "new"]


def test_linked_work_tree(repo: Path, tmp_path: Path) -> None:
    """`git worktree add` makes directories whose .git is a file."""
    put(repo, {"a": "1", ".gitignore": "*.log\n"})
    commit(repo)
    git(repo, "worktree", "add", "-q", str(tmp_path / "linked"))
    put(tmp_path / "linked", {"b": "", "c.log": ""})
    assert listed(tmp_path / "linked") == [".gitignore", "a", "b"]


def nested(repo: Path, tmp_path: Path, submodule: bool) -> Path:
    """A repository with another one at `vendor`."""
    origin = tmp_path / "origin"
    put(origin, {"lib.py": "1", ".gitignore": "*.pyc\n"})
    git(origin, "init", "-q")
    commit(origin)
    put(repo, {"a": ""})
    commit(repo)
    if submodule:
        git(repo, "submodule", "--quiet", "add", str(origin), "vendor")
    else:
        shutil.copytree(str(origin), str(repo / "vendor"))
    put(repo / "vendor", {"new.py": "", "x.pyc": ""})
    return repo / "vendor"


@pytest.mark.parametrize("submodule", [True, False])
def test_nested_repository(repo: Path, tmp_path: Path, submodule: bool) -> None:
    """Its files are sent, by its own ignore rules, and its .git is not."""
    nested(repo, tmp_path, submodule)
    more = [".gitmodules"] if submodule else []
    expected = [*more, "a", "vendor/.gitignore", "vendor/lib.py", "vendor/new.py"]
    assert listed(repo) == expected
    assert set(contents(packed(repo))) == set(expected)


@pytest.mark.parametrize("submodule", [True, False])
@pytest.mark.parametrize("rule", ["vendor/", "/vendor/*"])
def test_k8rignore_of_a_nested_repository(
    repo: Path, tmp_path: Path, submodule: bool, rule: str
) -> None:
    """The outer .k8rignore can leave a nested repository out."""
    nested(repo, tmp_path, submodule)
    put(repo, {".k8rignore": rule + "\n"})
    assert [path for path in listed(repo) if path.startswith("vendor")] == []


@pytest.mark.parametrize("submodule", [True, False])
@pytest.mark.parametrize("place, rule", [(".k8rignore", "*.py"), ("vendor/.k8rignore", "/*.py")])
def test_k8rignore_in_a_nested_repository(
    repo: Path, tmp_path: Path, submodule: bool, place: str, rule: str
) -> None:
    """And so can its rules for files, in the outer or in the nested one's own."""
    nested(repo, tmp_path, submodule)
    put(repo, {place: rule + "\n"})
    assert [path for path in listed(repo) if path.endswith(".py")] == []
    assert "vendor/.gitignore" in listed(repo)


def test_submodule_that_is_not_there(repo: Path, tmp_path: Path) -> None:
    """A submodule that was not checked out has nothing to send."""
    nested(repo, tmp_path, True)
    commit(repo)
    shutil.rmtree(repo / "vendor")
    (repo / "vendor").mkdir()
    assert listed(repo) == [".gitmodules", "a"]


# A repository's own business

LOCAL_VARIABLES = [
    "GIT_ALTERNATE_OBJECT_DIRECTORIES",
    "GIT_COMMON_DIR",
    "GIT_CONFIG_COUNT",
    "GIT_DEFAULT_HASH",
    "GIT_DIR",
    "GIT_INDEX_FILE",
    "GIT_OBJECT_DIRECTORY",
    "GIT_PREFIX",
    "GIT_WORK_TREE",
]
HOOKS = [
    "pre-commit",
    "commit-msg",
    "post-commit",
    "post-checkout",
    "pre-rebase",
    "post-rewrite",
    "pre-push",
    "post-index-change",
]


def test_variables_of_a_repository() -> None:
    """All that this machine's git calls so are kept from git."""
    told = subprocess.run(
        ["git", "rev-parse", "--local-env-vars"], stdout=subprocess.PIPE, check=True
    )
    names = told.stdout.decode().split()
    assert len(names) > 10
    kept = k8r.drop_repository({**dict.fromkeys(names, "x"), "GIT_SSH": "y", "PATH": "z"})
    assert kept == {"GIT_SSH": "y", "PATH": "z"}


@pytest.mark.parametrize("variable", LOCAL_VARIABLES)
def test_git_of_another_repository(
    repo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    """What ties git to another repository changes neither the listing nor that one."""
    put(repo, {"a": "1", "b.log": "", "c.bin": "", ".gitignore": "*.log\n", ".k8rignore": "*.bin"})
    other = tmp_path / "other"
    git(tmp_path, "init", "-q", "other")
    put(other, {"x": "1"})
    commit(other)
    values = {
        "GIT_CONFIG_COUNT": "many",
        "GIT_DEFAULT_HASH": "sha256",
        "GIT_DIR": str(other / ".git"),
        "GIT_INDEX_FILE": str(other / ".git" / "index"),
        "GIT_WORK_TREE": str(other),
    }
    before = snapshot(other)
    monkeypatch.setenv(variable, values.get(variable, str(other)))
    assert listed(repo) == [".gitignore", ".k8rignore", "a"]
    assert snapshot(other) == before


def snapshot(folder: Path) -> Dict[str, bytes]:
    """The bytes of every file below a directory."""
    return {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


PACK_IN_HOOK = """\
#!{python}
import os, pathlib, sys
sys.path.insert(0, {package!r})
import k8r
read = lambda: {{str(path): path.read_bytes()
                for path in pathlib.Path({tree!r}).rglob("*") if path.is_file()}}
before = read()
k8r.pack_directory({tree!r}).close()
changed = sorted(path for path, data in read().items() if before.get(path) != data)
with open({told!r}, "a") as file:
    file.write(os.path.basename(sys.argv[0]) + " " + " ".join(changed) + "\\n")
"""


@pytest.mark.parametrize("linked", [False, True], ids=["main", "linked"])
def test_in_a_hook(repo: Path, tmp_path: Path, linked: bool) -> None:
    """Packing in any hook of git changes no byte of the repository, and the commit is whole."""
    put(repo, {"pkg/__init__.py": "", "main.py": "print(1)\n", ".k8rignore": "*.log\n"})
    commit(repo)
    work = repo
    if linked:
        work = tmp_path / "linked"
        git(repo, "worktree", "add", "-q", str(work))
    git(tmp_path, "init", "-q", "--bare", "origin")
    told = tmp_path / "told"
    package = str(Path(k8r.__file__).parent)
    text = PACK_IN_HOOK.format(
        python=sys.executable, package=package, tree=str(work), told=str(told)
    )
    for name in HOOKS:
        hook = repo / ".git" / "hooks" / name
        hook.write_text(text)
        hook.chmod(0o755)
    put(work, {"main.py": "print(2)\n"})
    git(work, "commit", "-qam", "two")
    put(work, {"main.py": "print(3)\n", "new.py": ""})
    git(work, "add", "new.py")
    git(work, "commit", "-qm", "three", "main.py")
    git(work, "commit", "-q", "--amend", "-m", "four")
    git(work, "checkout", "-q", "-b", "other")
    git(work, "rebase", "-q", "--no-ff", "HEAD~1")
    git(work, "push", "-q", str(tmp_path / "origin"), "HEAD:refs/heads/x")
    lines = [line.split() for line in told.read_text().splitlines()]
    assert {line[0] for line in lines} == set(HOOKS)
    assert [line for line in lines if line[1:]] == []
    shown = subprocess.run(
        ["git", "-C", str(work), "show", "HEAD:main.py"], stdout=subprocess.PIPE, check=True
    )
    assert shown.stdout == b"print(3)\n"
    config = (repo / ".git" / "config").read_text()
    assert "bare = false" in config


def test_foreign_owner(repo: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A repository that git does not trust is refused in git's words, with its remedy."""
    put(repo, {"logs/keep.log": "", ".gitignore": "*.log\n", ".env": ""})
    commit(repo)
    monkeypatch.setenv("GIT_TEST_ASSUME_DIFFERENT_OWNER", "1")
    for folder in (repo, repo / "logs"):
        with pytest.raises(k8r.K8rError, match="dubious ownership") as caught:
            k8r.pack_directory(str(folder))
        assert caught.value.hint == f"git config --global --add safe.directory {repo}"


BROKEN = {
    "no head": ("HEAD", None),
    "format": ("config", "[core]\nrepositoryformatversion = 1\n[extensions]\nfuture = 1\n"),
    "config": ("config", "[core\n"),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_repository_that_git_cannot_read(repo: Path, kind: str) -> None:
    """A repository that is damaged, or too new for this git, is not taken for none."""
    put(repo, {"d/a": "", ".gitignore": ".env\n", ".env": ""})
    commit(repo)
    name, text = BROKEN[kind]
    (repo / ".git" / name).unlink()
    if text is not None:
        (repo / ".git" / name).write_text(text)
    for folder in (repo, repo / "d"):
        with pytest.raises(k8r.K8rError, match="git refuses to read .*: (fatal|error|warning): "):
            k8r.pack_directory(str(folder))


def test_submodule_that_git_refuses(repo: Path, tmp_path: Path) -> None:
    """So is one inside."""
    inner = nested(repo, tmp_path, False)
    (inner / ".git" / "config").write_text("[core\n")
    with pytest.raises(k8r.K8rError, match="git refuses to read .*vendor"):
        listed(repo)


def test_repository_without_git(repo: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without git nobody knows what a repository ignores."""
    put(repo, {"a": ""})
    monkeypatch.setenv("PATH", "/nonexistent")
    with pytest.raises(k8r.K8rError, match="git is needed to read") as caught:
        listed(repo)
    assert caught.value.hint == "install git"


def test_another_object_format(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A repository of SHA-256, on a machine where that is the default."""
    git(tree, "init", "-q", "--object-format=sha256")
    put(tree, {"a": "", "b.log": "", "c.bin": "", ".gitignore": "*.log\n", ".k8rignore": "*.bin\n"})
    commit(tree)
    for value in ("sha256", "sha1"):
        monkeypatch.setenv("GIT_DEFAULT_HASH", value)
        assert listed(tree) == [".gitignore", ".k8rignore", "a"]


def test_programs_of_a_repository(repo: Path, tmp_path: Path) -> None:
    """What its configuration, or that of one inside of it, would have git run does not run."""
    inner = nested(repo, tmp_path, False)
    put(repo, {".gitattributes": "* filter=x diff=x\n", ".k8rignore": "*.pyc\n"})
    mark = tmp_path / "mark"
    program = tmp_path / "program"
    program.write_text(f'#!/bin/sh\necho "$0 $*" >> {mark}\n')
    program.chmod(0o755)
    for folder in (repo, inner):
        for name in ("post-index-change", "fsmonitor-watchman", "post-checkout"):
            shutil.copy(str(program), str(folder / ".git" / "hooks" / name))
        for key in (
            "core.fsmonitor core.sshCommand core.pager core.askPass core.editor diff.external"
            " filter.x.clean filter.x.smudge filter.x.process diff.x.textconv"
            " credential.helper alias.ls-files gpg.program"
        ).split():
            git(folder, "config", key, str(program))
    packed(repo)
    assert not mark.exists(), mark.read_text()


def test_objects_that_are_elsewhere(repo: Path, tmp_path: Path) -> None:
    """git fetches nothing to list a directory, with whatever program."""
    put(repo, {"a": "", "d/e/f": "", "d/g": ""})
    commit(repo)
    mark = tmp_path / "mark"
    git(repo, "sparse-checkout", "set", "--cone", "--sparse-index", "nothing")
    for key, value in {
        "core.repositoryFormatVersion": "1",
        "extensions.partialClone": "origin",
        "remote.origin.promisor": "true",
        "remote.origin.url": str(tmp_path),
        "remote.origin.uploadpack": f"touch {mark}; false",
    }.items():
        git(repo, "config", key, value)
    for path in (repo / ".git" / "objects").glob("??/*"):
        path.unlink()
    assert listed(repo) == ["a"]
    assert not mark.exists()


@pytest.mark.parametrize(
    "path", ["../secret", "/etc/passwd", "d/../../secret", ".git/config", "d/.GIT/x", "./a"]
)
def test_index_that_leads_out(repo: Path, tmp_path: Path, path: str) -> None:
    """No index can name a file outside of the directory, or one of .git."""
    put(repo, {"a": ""})
    put(tmp_path, {"secret": "x"})
    name = "x" * len(path)
    entry = f"100644 e69de29bb2d1d6434b8b29ae775ad8c2e48c5391\t{name}\n"
    subprocess.run(
        ["git", "-C", str(repo), "update-index", "--index-info"], input=entry.encode(), check=True
    )
    index = repo / ".git" / "index"
    data = index.read_bytes()[:-20].replace(name.encode(), path.encode())
    index.write_bytes(data + hashlib.sha1(data).digest())
    with pytest.raises(k8r.K8rError, match="is not a path inside of"):
        k8r.pack_directory(str(repo))


@pytest.mark.parametrize("swapped", ["d", "d/e", "d/e/f", "z"])
def test_directory_swapped_for_a_link(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, swapped: str
) -> None:
    """A link that takes the place of a directory or a file after the listing is not followed."""
    put(folder, {"d/e/f": "1", "z": "2"})
    put(tmp_path / "private", {"e/f": "secret", "f": "secret"})
    found = k8r.list_directory(str(folder))
    target = tmp_path / "private"
    places = {"d": target, "d/e": target, "d/e/f": target / "f", "z": target / "f"}
    path = folder / swapped
    shutil.move(str(path), str(tmp_path / "moved"))
    path.symlink_to(places[swapped])
    monkeypatch.setattr(k8r, "list_directory", lambda *_: found)
    try:
        data = packed(folder)
    except k8r.UsageError as error:
        assert "was replaced meanwhile" in error.message
    else:
        assert b"secret" not in gzip.decompress(data)


# Outside of a work tree


def test_without_git(tree: Path) -> None:
    """Everything but what is never wanted, wherever that is; empty directories too."""
    put(
        tree,
        {
            "a": "",
            ".hidden": "",
            ".venv/x": "",
            "node_modules/x": "",
            "d/__pycache__/x.pyc": "",
            "d/b.pyc": "",
            "d/node_modules/y": "",
            "venv/z": "",
        },
    )
    (tree / "empty" / "deep").mkdir(parents=True)
    assert listed(tree) == [".hidden", "a", "d/b.pyc", "empty/deep", "venv/z"]
    assert members(packed(tree))["empty/deep"].isdir()


def test_ignore_files_without_git(tree: Path, own_git: Path) -> None:
    """.gitignore and .k8rignore count there as well, with git's own syntax."""
    put(
        tree,
        {
            ".gitignore": "*.log\n!keep.log\nbuild/\n",
            ".k8rignore": "*.bin\n",
            "a.log": "",
            "keep.log": "",
            "build/x": "",
            "d/.gitignore": "/x\n",
            "d/x": "",
            "d/deep/x": "",
            "d/.k8rignore": "y\n",
            "d/y": "",
            "b.bin": "",
        },
    )
    assert listed(tree) == [
        ".gitignore",
        ".k8rignore",
        "d/.gitignore",
        "d/.k8rignore",
        "d/deep/x",
        "keep.log",
    ]
    assert not (tree / ".git").exists(), "the directory is not touched"


def test_git_that_is_missing(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without git a directory is packed, unless an ignore file asks for git."""
    monkeypatch.setenv("PATH", "/nonexistent")
    put(tree, {"a": "", ".venv/b": ""})
    assert listed(tree) == ["a"]
    put(tree, {"d/.gitignore": "x\n"})
    with pytest.raises(k8r.K8rError, match="git is needed to read") as caught:
        k8r.pack_directory(str(tree))
    assert caught.value.hint == "install git"


def test_nothing_to_send(tree: Path) -> None:
    """An empty directory is refused, and so is one where everything is ignored."""
    for files in ({}, {"node_modules/x": "", "__pycache__/x": ""}):
        put(tree, files)
        with pytest.raises(k8r.UsageError, match="there is nothing to send"):
            k8r.pack_directory(str(tree))
    git(tree, "init", "-q")
    put(tree, {".gitignore": "*\n"})
    with pytest.raises(k8r.UsageError, match="there is nothing to send"):
        k8r.pack_directory(str(tree))


# Kinds of files


@pytest.fixture(params=["tree", "repo"])
def folder(request: Any) -> Path:
    """A directory, once in a work tree and once not."""
    path: Path = request.getfixturevalue(request.param)
    return path


@pytest.mark.case(26)
def test_links(folder: Path) -> None:
    """Links inside stay links, even broken ones and loops."""
    put(folder, {"d/file": "1"})
    links = {
        "to-file": "d/file",
        "to-dir": "d",
        "d/up": "../to-file",
        "broken": "gone",
        "loop": "loop",
        "d/self": ".",
        "roundabout": "d/../d/file",
    }
    for name, target in links.items():
        (folder / name).symlink_to(target)
    found = members(packed(folder))
    assert {name: found[name].linkname for name in links} == links
    assert all(found[name].issym() for name in links)
    assert set(found) == {*links, "d/file"}
    assert notes(folder) == []


@pytest.mark.case(26)
@pytest.mark.parametrize("target", ["/etc/passwd", "..", "../x", "d/../../x", "d/../.."])
def test_links_that_lead_out(folder: Path, target: str) -> None:
    """They are left out, and it is said where they lead."""
    put(folder, {"d/file": "1"})
    (folder / "link").symlink_to(target)
    assert listed(folder) == ["d/file"]
    assert notes(folder) == [f"left out link: the link leads out of the directory, to {target}"]


def test_absolute_links_into_the_directory(folder: Path, tmp_path: Path) -> None:
    """They are sent as relative ones, whatever the directory is called in them."""
    put(folder, {"a": "1", "d/e/f": "2"})
    (tmp_path / "alias").symlink_to(folder)
    links = {"x": "a", "d/y": "d/e/f", "d/e/z": "a", "top": "", "d/gone": "d/nothing"}
    for name, target in links.items():
        (folder / name).symlink_to(folder / target)
    (folder / "d" / "alias").symlink_to(tmp_path / "alias" / "a")
    found = members(packed(folder))
    expected = {"x": "a", "d/y": "e/f", "d/e/z": "../../a", "top": ".", "d/gone": "nothing"}
    assert {name: found[name].linkname for name in links} == expected
    assert found["d/alias"].linkname == "../a"
    assert notes(folder) == []


@pytest.mark.parametrize("target", ["{}-other/a", "{}/../a", "{}/d/../../x"])
def test_absolute_links_beside_the_directory(folder: Path, target: str) -> None:
    """A name that only begins like the directory's is not inside of it."""
    put(folder, {"a": "1"})
    (folder / "link").symlink_to(target.format(folder))
    assert listed(folder) == ["a"]
    assert len(notes(folder)) == 1


def test_link_that_leads_up_from_below(folder: Path) -> None:
    """How deep a link lies counts."""
    put(folder, {"d/e/file": "1"})
    (folder / "d" / "e" / "inside").symlink_to("../../x")
    (folder / "d" / "outside").symlink_to("../../x")
    assert listed(folder) == ["d/e/file", "d/e/inside"]
    assert len(notes(folder)) == 1


@pytest.mark.case(26)
def test_special_files(folder: Path) -> None:
    """FIFOs and sockets are named and left out; k8r does not hang on them."""
    put(folder, {"d/a": "1"})
    os.mkfifo(str(folder / "d" / "fifo"))
    with socket.socket(socket.AF_UNIX) as listener, inside(folder / "d"):
        listener.bind("socket")
    assert listed(folder) == ["d/a"]
    assert sorted(notes(folder)) == [
        "left out d/fifo: it is a FIFO",
        "left out d/socket: it is a socket",
    ]
    assert contents(packed(folder)) == {"d/a": b"1"}


@contextlib.contextmanager
def inside(folder: Path) -> Iterator[None]:
    """Work in a directory: the path of a socket must be short."""
    before = os.getcwd()
    os.chdir(str(folder))
    try:
        yield
    finally:
        os.chdir(before)


def test_tracked_file_became_special(repo: Path) -> None:
    """It is named once, though both git and the disk know it."""
    put(repo, {"a": "1", "b": "1"})
    commit(repo)
    (repo / "a").unlink()
    os.mkfifo(str(repo / "a"))
    assert listed(repo) == ["b"]
    assert notes(repo) == ["left out a: it is a FIFO"]


NAMES = [
    b"with space",
    b" lead and trail ",
    "umläut-🚀".encode(),
    "decomposed-u\u0308".encode(),
    b"new\nline",
    b"tab\tquote'\"\\back",
    b"not-utf8-\xff\xfe",
    b"-rf",
    b"--checkpoint-action=exec=x",
    b"*?[a]",
    b"$(x)`y`",
    b"#comment",
    b"!bang",
    b"x" * 250,
    b"d" * 120 + b"/" + b"e" * 120 + b"/" + b"f" * 101,
    "ä".encode() * 125,
]


@pytest.mark.case(27)
def test_names(folder: Path) -> None:
    """Every name that a Linux file can have arrives, byte for byte."""
    for name in NAMES:
        path = os.path.join(os.fsencode(str(folder)), name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "wb") as file:
            file.write(name)
    data = packed(folder)
    found = {os.fsencode(name): text for name, text in contents(data).items()}
    assert found == {name: name for name in NAMES}


def test_names_with_the_machines_own_tar(folder: Path, tmp_path: Path) -> None:
    """tar, as the pod has it, makes the same tree of it."""
    for name in NAMES:
        path = os.path.join(os.fsencode(str(folder)), name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "wb") as file:
            file.write(name)
    target = tmp_path / "unpacked"
    target.mkdir()
    subprocess.run(["tar", "-xzof", "-"], cwd=target, input=packed(folder), check=True)
    for name in NAMES:
        with open(os.path.join(os.fsencode(str(target)), name), "rb") as file:
            assert file.read() == name


def test_names_in_a_refusal() -> None:
    """No name can forge a line or a colour on the terminal."""
    assert k8r.escape_unprintable("a\nb\x1b[31m") == "a\\nb\\x1b[31m"
    assert k8r.escape_unprintable(os.fsdecode(b"\xff")) == "\\xff"
    assert k8r.escape_unprintable("ä 🚀") == "ä 🚀"


@pytest.mark.case(27)
def test_modes(folder: Path) -> None:
    """Of a file's mode only the owner's executable bit is kept."""
    modes = {"a": 0o644, "b": 0o755, "c": 0o600, "d": 0o700, "e": 0o4777, "f": 0o655, "g": 0o444}
    for name, mode in modes.items():
        put(folder, {name: ""})
        (folder / name).chmod(mode)
    found = {name: member.mode for name, member in members(packed(folder)).items()}
    kept = {"a": 0o644, "b": 0o755, "c": 0o644, "d": 0o755, "e": 0o755, "f": 0o644, "g": 0o644}
    assert found == kept


@pytest.mark.case(27)
def test_read_only_directories(folder: Path) -> None:
    """They must not keep tar from filling them, so they have no entry of their own."""
    put(folder, {"d/a": "1"})
    (folder / "d").chmod(0o555)
    try:
        assert set(members(packed(folder))) == {"d/a"}
    finally:
        (folder / "d").chmod(0o755)


# Links and holes


def test_hard_links(folder: Path, tmp_path: Path) -> None:
    """A file of several names is sent once, and is one file again where it arrives."""
    noise = os.urandom(300_000)
    (folder / "b").write_bytes(noise)
    put(folder, {"d/x": "", "other": "1"})
    for name in ("a", "d/c"):
        os.link(str(folder / "b"), str(folder / name))
    os.link(str(folder / "other"), str(tmp_path / "outside"))
    data = packed(folder)
    assert len(data) < 400_000
    found = members(data)
    assert [name for name in found if found[name].islnk()] == ["b", "d/c"]
    for program in (["tar"], ["busybox", "tar"]):
        if not shutil.which(program[0]):
            assert program == ["busybox", "tar"]
            continue
        target = tmp_path / program[0]
        target.mkdir()
        subprocess.run([*program, "-xzof", "-"], cwd=str(target), input=data, check=True)
        assert (target / "d" / "c").read_bytes() == noise
        assert (target / "a").stat().st_nlink == 3


def test_sparse_file(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Holes above the limit are refused, of one file or of many; some may be sent."""
    monkeypatch.setattr(k8r, "ARCHIVE_LIMIT", 1_000_000)
    for name in ("a", "b", "c"):
        with open(str(folder / name), "wb") as file:
            file.truncate(400_000)
    with pytest.raises(
        k8r.UsageError, match="cannot read .*/c: it is sparse, .* all of 390.6 KiB"
    ) as caught:
        k8r.pack_directory(str(folder))
    assert ".k8rignore" in caught.value.hint
    with open(str(folder / "c"), "r+b") as file:
        file.write(b"x" * 400_000)
    found = contents(packed(folder))
    assert found == {"a": b"\0" * 400_000, "b": b"\0" * 400_000, "c": b"x" * 400_000}


def test_holes(folder: Path) -> None:
    """Only what is on no disk is a hole; the file is sent with its zeros."""
    with open(str(folder / "a"), "w+b") as file:
        file.seek(1 << 20)
        file.write(b"x" * (1 << 16))
        file.truncate(1 << 22)
    whole = b"\0" * (1 << 20) + b"x" * (1 << 16)
    assert contents(packed(folder))["a"] == whole.ljust(1 << 22, b"\0")


# Bytes


def test_pointers_of_git_lfs(folder: Path) -> None:
    """Files that wait for `git lfs pull` are said in one line, and sent as they are."""
    pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n"
    put(folder, {"b/model.bin": pointer, "c.bin": pointer, "notes": f"see {pointer}"})
    put(folder, {"long": pointer + "x" * 1000})
    with contextlib.closing(k8r.pack_directory(str(folder))) as archive:
        [said] = archive.notes
    assert said == "2 files, such as b/model.bin, are pointers of git LFS: git lfs pull"
    assert contents(packed(folder))["c.bin"].decode() == pointer
    (folder / "c.bin").unlink()
    (folder / "b/model.bin").unlink()
    with contextlib.closing(k8r.pack_directory(str(folder))) as archive:
        assert archive.notes == []


def test_equal_directories_give_equal_bytes(folder: Path, tmp_path: Path) -> None:
    """Whenever, wherever, by whomever and in whatever order they were made."""
    put(folder, {"b": "1", "a/c": "2", "a.c": "3", "Z": "4", "ä": "5"})
    (folder / "l").symlink_to("b")
    first = packed(folder)
    for path in (folder / "b", folder / "a" / "c"):
        os.utime(str(path), (1, 1))
        path.chmod(0o600)
    assert packed(folder) == first
    copy = tmp_path / "another name"
    copy.mkdir()
    mask = os.umask(0o077)
    try:
        put(copy, {"ä": "5", "Z": "4", "a.c": "3", "a/c": "2", "b": "1"})
    finally:
        os.umask(mask)
    (copy / "l").symlink_to("b")
    assert packed(copy) == first
    (copy / "b").chmod(0o755)
    assert packed(copy) != first


def test_order_and_owners(folder: Path) -> None:
    """Sorted by bytes, owned by root, of 1980, with no time in the gzip header."""
    put(folder, {"b": "1", "a/c": "2", "a.c": "3", "Z": "4"})
    data = packed(folder)
    found = members(data)
    assert list(found) == ["Z", "a.c", "a/c", "b"]
    for member in found.values():
        assert (member.uid, member.gid, member.uname, member.gname) == (0, 0, "", "")
        assert member.mtime == 315_532_800
    assert data[4:8] == b"\0\0\0\0"
    assert data[3] == 0, "no file name"


def test_archive(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its chunks are the archive, each as large as a ConfigMap can hold."""
    monkeypatch.setattr(k8r, "CHUNK_SIZE", 1000)
    (folder / "noise").write_bytes(os.urandom(2500))
    archive = k8r.pack_directory(str(folder))
    with contextlib.closing(archive):
        assert str(archive) == f"1 file, {k8r.format_size(archive.size)}"
        assert archive.chunks == 3
        chunks = [archive.chunk(part) for part in range(3)]
        assert [len(chunk) for chunk in chunks] == [1000, 1000, archive.size - 2000]
        assert archive.chunk(1) == chunks[1]
        assert gzip.decompress(b"".join(chunks))
        assert archive.digest() == hashlib.sha256(b"".join(chunks)).hexdigest()


def test_data_that_is_ignored_is_told(repo: Path) -> None:
    """Of what an ignore file takes out that is said which a command may miss; all is listed."""
    made = "node_modules/x __pycache__/a.pyc d/.cache/y d/z.o build/out .venv/x run.log"
    put(
        repo, dict.fromkeys([*made.split(), "code.py", "d/kept", "d/big.bin", "raw/1", "raw/2"], "")
    )
    put(repo, {f"part{number}.csv": "" for number in range(3)})
    rules = "*.csv\nraw\nnode_modules\n__pycache__\n.cache\n*.o\nbuild\n.venv\n*.log\n"
    put(repo, {".gitignore": rules, ".k8rignore": "d/big.bin\n*.csv\n", "tracked.csv": ""})
    git(repo, "add", "-f", "tracked.csv")
    for folder, rule, data in (
        (repo, ".gitignore", {"raw/": "", "tracked.csv": ".k8rignore"}),
        (repo / "d", ".gitignore", {}),
    ):
        left = k8r.list_directory(str(folder)).left
        assert left.items() >= {key: value or rule for key, value in data.items()}.items()
        assert "d/z.o" in left or "z.o" in left
    with contextlib.closing(k8r.pack_directory(str(repo))) as archive:
        said = str(archive)
    assert said.partition("; ")[2].startswith(
        "6 left out by .gitignore and .k8rignore: d/big.bin, "
    )
    assert said.endswith(", ...") and said.count(", ") == 4
    assert "node_modules" not in said


def test_outside_of_a_work_tree_ignored_data_is_told(folder: Path) -> None:
    """By the .gitignore there, too; without rules nothing is said."""
    put(folder, {"a.csv": "", "b": ""})
    for rules, said in (("", ""), ("*.csv\n", "; 1 left out by .gitignore: a.csv")):
        put(folder, {".gitignore": rules})
        with contextlib.closing(k8r.pack_directory(str(folder))) as archive:
            assert "".join(str(archive).partition(";")[1:]) == said


def test_a_large_directory_names_its_largest(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Three of them, which may not have been meant."""
    monkeypatch.setattr(k8r, "LARGE_ARCHIVE", 3000)
    for number in range(5):
        (folder / f"file{number}").write_bytes(os.urandom(1024 * (number + 1)))
    with contextlib.closing(k8r.pack_directory(str(folder))) as archive:
        [note] = archive.notes
    expected = "the largest files: file4 (5.0 KiB), file3 (4.0 KiB), file2 (3.0 KiB)"
    assert note == f"{k8r.format_size(archive.size)} are sent; {expected}"


@pytest.mark.case(25)
def test_limit(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An archive at the limit is taken; one byte more is refused, with its largest files."""
    for number in range(12):
        (folder / f"file{number:02d}").write_bytes(os.urandom(100 * (number + 1)))
    (folder / "new\nline").write_bytes(os.urandom(5000))
    size = len(packed(folder))
    monkeypatch.setattr(k8r, "ARCHIVE_LIMIT", size)
    assert len(packed(folder)) == size
    monkeypatch.setattr(k8r, "ARCHIVE_LIMIT", size - 1)
    with pytest.raises(k8r.UsageError) as caught:
        k8r.pack_directory(str(folder))
    first, *largest = caught.value.message.split("\n")
    assert "has more than" in first and "its largest files are:" in first
    assert [line.split()[-1] for line in largest] == [
        "new\\nline",
        *(f"file{number:02d}" for number in range(11, 2, -1)),
    ]
    assert "4.9 KiB" in largest[0]
    assert ".k8rignore" in caught.value.hint


@pytest.mark.case(25)
def test_far_above_the_limit(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The refusal comes when the limit is reached, not when everything has been packed."""
    monkeypatch.setattr(k8r, "ARCHIVE_LIMIT", 100_000)
    with open(str(folder / "a"), "wb") as file:
        file.write(os.urandom(3_000_000))
    with open(str(folder / "huge"), "wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(k8r.UsageError, match="1024.0 GiB|1.0 TiB"):
        k8r.pack_directory(str(folder))


@contextlib.contextmanager
def unprivileged() -> Iterator[Path]:
    """A directory to work in as a user who may not read everything."""
    made = Path(tempfile.mkdtemp(prefix="k8r-test-"))
    root = os.geteuid() == 0
    try:
        if root:
            os.chown(str(made), NOBODY, NOBODY)
            os.setegid(NOBODY)
            os.seteuid(NOBODY)
        yield made
    finally:
        if root:
            os.seteuid(0)
            os.setegid(0)
        for top, folders, _ in os.walk(str(made)):
            for name in folders:
                os.chmod(os.path.join(top, name), 0o700)
        shutil.rmtree(str(made))


@pytest.fixture(params=[False, True], ids=["tree", "repo"])
def barred(request: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Such a directory, once in a work tree and once not."""
    with unprivileged() as made:
        for name in ("HOME", "XDG_CONFIG_HOME"):
            monkeypatch.setenv(name, str(made))
        monkeypatch.setenv("GIT_CONFIG_GLOBAL", "/dev/null")
        if request.param:
            git(made, "init", "-q")
        put(made, {"a": "1"})
        yield made


@pytest.mark.case(26)
def test_unreadable_file(barred: Path) -> None:
    """It is named, with what to do; nothing is sent without it."""
    put(barred, {"secret": "x"})
    (barred / "secret").chmod(0)
    with pytest.raises(k8r.UsageError, match="cannot read .*secret: Permission denied") as caught:
        k8r.pack_directory(str(barred))
    assert ".k8rignore" in caught.value.hint
    put(barred, {".k8rignore": "secret\n"})
    assert set(contents(packed(barred))) == {".k8rignore", "a"}


def test_unreadable_directory(barred: Path) -> None:
    """It is not passed over in silence."""
    put(barred, {"sub/secret": "x"})
    (barred / "sub").chmod(0)
    with pytest.raises(k8r.UsageError, match="cannot read .*sub.*: Permission denied"):
        packed(barred)


def test_path_type(tree: Path) -> None:
    """Links to directories are directories; whatever else exists is a file."""
    put(tree, {"file": ""})
    (tree / "link").symlink_to(".")
    (tree / "broken").symlink_to("gone")
    kinds = {
        name: k8r.get_path_type(str(tree / name)) for name in ("", "link", "file", "broken", "x")
    }
    assert kinds == {
        "": "directory",
        "link": "directory",
        "file": "file",
        "broken": "file",
        "x": "",
    }


# Any tree

PARTS = st.text(
    st.characters(blacklist_characters="/\0", blacklist_categories=["Cs"]), min_size=1, max_size=12
) | st.binary(min_size=1, max_size=12).map(
    lambda data: os.fsdecode(data.replace(b"/", b"_").replace(b"\0", b"_"))
)
LEGAL = PARTS.filter(lambda name: name not in (".", "..", ".gitignore", ".k8rignore"))


@settings(max_examples=25)
@given(
    st.dictionaries(
        st.lists(LEGAL, min_size=1, max_size=4).map("/".join),
        st.tuples(st.binary(max_size=2000), st.booleans()),
        min_size=1,
        max_size=12,
    )
)
def test_any_tree_comes_back(files: Dict[str, Any]) -> None:
    """A directory of any files, packed and read back, is that directory."""
    with tempfile.TemporaryDirectory(prefix="k8r-test-") as top:
        made: Dict[str, Any] = {}
        for name, (data, executable) in files.items():
            path = os.path.join(top, name)
            parents: Set[str] = {name[:at] for at, char in enumerate(name) if char == "/"}
            if parents & set(made) or any(other.startswith(name + "/") for other in made):
                continue
            os.makedirs(os.path.dirname(path), exist_ok=True)
            with open(path, "wb") as file:
                file.write(data)
            os.chmod(path, 0o755 if executable else 0o644)
            if not set(name.split("/")) & set(k8r.ALWAYS_IGNORED):
                made[name] = (data, 0o755 if executable else 0o644)
        if made:
            archive = packed(Path(top))
            modes = {name: member.mode for name, member in members(archive).items()}
            read = {name: (data, modes[name]) for name, data in contents(archive).items()}
            assert read == made


class Kept(NamedTuple):
    """A cluster that has ConfigMaps, each with such data."""

    parts: Dict[str, Dict[str, str]]

    def get(self, resource: str, name: str) -> Any:
        """One of them, or None."""
        return {"binaryData": self.parts[name]} if name in self.parts else None


def keep(archive: bytes) -> Kept:
    """An archive in two ConfigMaps."""
    half = len(archive) // 2
    parts = {"a": archive[:half], "b": archive[half:]}
    return Kept(
        {name: {"archive": base64.b64encode(part).decode()} for name, part in parts.items()}
    )


@pytest.fixture
def sent(tmp_path: Path) -> bytes:
    """The archive of a directory with two files."""
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "one").write_bytes(os.urandom(5000))
    (folder / "two").write_text("2")
    with contextlib.closing(k8r.pack_directory(str(folder))) as archive:
        return archive.chunk(0)


def test_an_archive_is_had_again(sent: bytes) -> None:
    """Whole, by its ConfigMaps; if one is gone, not at all."""
    archive = k8r.fetch_archive(keep(sent), ["a", "b"], hashlib.sha256(sent).hexdigest())
    assert archive and archive.chunk(0) == sent and str(archive).startswith("2 files, ")
    archive.close()
    assert k8r.fetch_archive(keep(sent), ["a", "b", "c"], "") is None


@pytest.mark.parametrize("damage", ["short", "bytes", "empty", "key", "base64"])
def test_an_archive_that_is_damaged(sent: bytes, damage: str) -> None:
    """It is said to be that."""
    spoiled = {"short": sent[:-3000], "bytes": sent[:200] + bytes(300) + sent[500:]}
    kept = keep(spoiled.get(damage, b"" if damage == "empty" else sent))
    if damage == "key":
        kept.parts["b"] = {}
    elif damage == "base64":
        kept.parts["b"] = {"archive": "x"}
    with pytest.raises(k8r.K8rError, match="cannot be had: it is damaged"):
        k8r.fetch_archive(kept, ["a", "b"], hashlib.sha256(sent).hexdigest())


def test_an_archive_and_a_full_disk(sent: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    """The system's own word, and what to do."""

    class Full(io.BytesIO):
        """A file on it."""

        def write(self, data: Any) -> int:
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(tempfile, "SpooledTemporaryFile", lambda *args, **options: Full())
    with pytest.raises(k8r.K8rError, match="No space left on device") as told:
        k8r.fetch_archive(keep(sent), ["a", "b"], hashlib.sha256(sent).hexdigest())
    assert "TMPDIR" in told.value.hint


@pytest.mark.parametrize(
    "kind", [tarfile.REGTYPE, tarfile.LNKTYPE, tarfile.SYMTYPE, tarfile.DIRTYPE]
)
@pytest.mark.parametrize("length", [1, 99, 100, 101, 511, 512, 3000])
def test_a_header_is_that_of_tarfile(kind: bytes, length: int) -> None:
    """Names and links of every length, bytes of any encoding, and sizes up to 8 GiB and above.
    Of the devices that a file does not have some versions of tarfile write zeros.
    """
    is_file, is_link = kind == tarfile.REGTYPE, kind in (tarfile.LNKTYPE, tarfile.SYMTYPE)
    name = ("\u00e4\udc80" + "x" * length)[:length]
    for size in (0, 1, 8**11 - 1, 8**11, 8**12) if is_file else (0,):
        info = tarfile.TarInfo(name)
        info.type, info.size, info.mtime = kind, size, k8r.TAR_MTIME
        info.mode, info.linkname = 0o755, name if is_link else ""
        wanted = bytearray(info.tobuf(tarfile.GNU_FORMAT, "utf-8", "surrogateescape"))
        path = name + "/" * (kind == tarfile.DIRTYPE)
        found = bytearray(k8r.build_tar_header(path, kind, 0o755, size, info.linkname))
        assert len(found) == len(wanted)
        for start in range(0, len(found), 512):
            if found[start + 257 : start + 262] == b"ustar":
                for header in (found, wanted):
                    if header[start : start + 13] == b"././@LongLink":
                        header[start + 136 : start + 148] = bytes(12)  # its time, of no meaning
                    header[start + 148 : start + 156] = bytes(8)  # the checksum
                    header[start + 329 : start + 345] = bytes(16)  # the devices
        assert found == wanted
