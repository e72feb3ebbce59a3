"""Packing: what of a real directory, with a real git, is sent."""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import io
import os
import shutil
import socket
import subprocess
import tarfile
import tempfile
from pathlib import Path
from typing import Any, Dict, Iterator, List, Set

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
    for files in ({}, {".git/config": "", "__pycache__/x": ""}):
        put(tree, files)
        with pytest.raises(k8r.UsageError, match="there is nothing to send"):
            k8r.pack_directory(str(tree))
    shutil.rmtree(tree / ".git")
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


def test_absolute_link_into_the_directory(folder: Path) -> None:
    """Its target is elsewhere in the container, so it is left out, too."""
    put(folder, {"a": "1"})
    (folder / "link").symlink_to(folder / "a")
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


# Bytes


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
        assert archive.files == 1
        assert archive.chunks == 3
        chunks = [archive.chunk(part) for part in range(3)]
        assert [len(chunk) for chunk in chunks] == [1000, 1000, archive.size - 2000]
        assert archive.chunk(1) == chunks[1]
        assert gzip.decompress(b"".join(chunks))
        assert archive.digest() == hashlib.sha256(b"".join(chunks)).hexdigest()


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
