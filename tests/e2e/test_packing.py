"""What arrives of a directory: files, modes, links, names, in every kind of container."""

from __future__ import annotations

import base64
import hashlib
import io
import os
import re
import socket
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import TYPE_CHECKING, Dict, Tuple

import pytest
import yaml

from common import until
from support import ALPINE, MIB, PYTHON, Kubectl, nothing_made

if TYPE_CHECKING:
    from tests.conftest import Cli

MEASURE = """\
import resource, subprocess, sys
code = subprocess.call(sys.argv[2:])
with open(sys.argv[1], "w") as file:
    file.write(str(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss))
sys.exit(code)
"""
"""Run a command and note its peak memory in KiB; from a small process, since a
child's peak counts from what its parent had.
"""

Tree = Dict[str, Tuple[str, bool, str]]


def make_tree(top: Path) -> Tree:
    """Make all sorts of files. Returns their kind, whether executable, and content."""
    files = {
        "plain": (0o644, b"content\n"),
        "program": (0o755, b"#!/bin/sh\n"),
        "private": (0o600, b"private"),
        "empty": (0o644, b""),
        ".hidden": (0o644, b"hidden"),
        "binary": (0o644, bytes(range(256)) * 40),
        "a b'c\"d$e\\f*": (0o644, b"odd"),
        "-rf": (0o644, b"looks like an option"),
        "umläut-日本-🙂": (0o644, b"unicode"),
        "x" * 250: (0o644, b"long"),
        "/".join(["d" * 100] * 4) + "/deep": (0o644, b"deep"),
        "closed/inside": (0o444, b"in a directory without w"),
        "closed/program": (0o555, b"executable"),
    }
    expected: Tree = {}
    for name, (mode, content) in files.items():
        path = top / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        path.chmod(mode)
        digest = hashlib.sha256(content).hexdigest()
        expected[name] = ("file", bool(mode & 0o100), digest)
    links = {"link": "plain", "dangling": "nowhere", "loop": "loop", "todir": "closed"}
    for name, target in links.items():
        (top / name).symlink_to(target)
        expected[name] = ("link", False, target)
    (top / "nothing").mkdir()
    expected["nothing"] = ("directory", True, "")
    (top / "closed").chmod(0o555)
    return expected


def read_tree(data: bytes) -> Tree:
    """What a tar archive holds; of directories only the empty ones."""
    found: Tree = {}
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        members = {re.sub(r"^\./?", "", member.name): member for member in tar}
        for name, member in members.items():
            if member.issym():
                found[name] = ("link", False, member.linkname)
            elif member.isdir():
                if name and not any(other.startswith(name + "/") for other in members):
                    found[name] = ("directory", True, "")
            else:
                file = tar.extractfile(member)
                assert file is not None, name
                digest = hashlib.sha256(file.read()).hexdigest()
                found[name] = ("file", bool(member.mode & 0o100), digest)
    return found


@pytest.mark.case(27)
@pytest.mark.parametrize("options", [(), ("--restricted",)], ids=["root", "restricted"])
@pytest.mark.parametrize("image", [ALPINE, PYTHON])
def test_a_tree_arrives_as_it_is(
    run: Cli, workdir: Path, image: str, options: Tuple[str, ...]
) -> None:
    """Names, links, contents and executable bits, with busybox' tar and GNU's, as
    root and not.
    """
    expected = make_tree(workdir)
    command = ("--", "sh", "-c", "tar -cf - . | base64; sleep 1")
    ended = run("./", "--base-image", image, *options, *command)
    assert ended.code == 0, ended.err
    assert read_tree(base64.b64decode(ended.out)) == expected


def test_the_container_can_write(run: Cli, workdir: Path) -> None:
    """A user without rights owns what was unpacked, and may write beside it."""
    (workdir / "sub").mkdir()
    (workdir / "sub" / "file").write_text("old")
    (workdir / "sub" / "file").chmod(0o444)
    (workdir / "sub").chmod(0o555)
    script = "id -u; rm -f sub/file && echo new > sub/file && echo more > other && cat sub/file"
    ended = run("./", "--restricted", "--", "sh", "-c", script)
    assert ended.code == 0, ended.text
    uid, content = ended.text.split()
    assert uid != "0" and content == "new"


@pytest.mark.case(28)
def test_restricted_namespace(run: Cli, kubectl: Kubectl, workdir: Path) -> None:
    """--restricted meets the Pod Security Standard of that name, as enforced."""
    label = "pod-security.kubernetes.io/enforce=restricted"
    kubectl("label", "namespace", kubectl.namespace, label)
    (workdir / "file").write_text("content")
    ended = run("./", "--restricted", "--num", "2", "--", "cat", "file")
    assert ended.code == 0, ended.err
    assert sorted(ended.text.splitlines()) == ["[0] content", "[1] content"]
    assert run(ALPINE, "--restricted", "--", "true").code == 0


@pytest.mark.case(28)
def test_read_only_root(run: Cli, kubectl: Kubectl, workdir: Path) -> None:
    """Nothing but the workspace is written to."""
    (workdir / "file").write_text("content")
    shown = run("./", "--show-yaml", "--restricted", "--", "cat", "file")
    objects = list(yaml.safe_load_all(shown.text))
    [job] = [item for item in objects if item["kind"] == "Job"]
    for container in job["spec"]["template"]["spec"]["containers"]:
        container["securityContext"]["readOnlyRootFilesystem"] = True
    kubectl("create", "-f", "-", stdin=yaml.safe_dump_all(objects).encode())
    until(lambda: kubectl.get("job", "work")["status"].get("succeeded"), "success of the Job")
    assert run("logs", "work").text == "content"


@pytest.mark.case(26)
@pytest.mark.parametrize("work_tree", [False, True], ids=["plain", "git"])
def test_special_files_are_named_and_left_out(
    run: Cli, workdir: Path, monkeypatch: pytest.MonkeyPatch, work_tree: bool
) -> None:
    """A FIFO, a socket and a link out of the directory: said, skipped, never waited for."""
    if work_tree:
        subprocess.run(["git", "init", "-q", str(workdir)], check=True)
    (workdir / "file").write_text("content")
    os.mkfifo(workdir / "fifo")
    (workdir / "outward").symlink_to("/etc/hostname")
    monkeypatch.chdir(workdir)  # a socket's path has no room for a long directory
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind("socket")
    ended = run("./", "--", "ls", timeout=60)
    assert (ended.code, ended.out) == (0, b"file\n")
    for name in ("fifo", "socket", "outward"):
        assert re.search(rf"\b{name}\b", ended.err)


@pytest.mark.case(26)
def test_unreadable_file(run: Cli, kubectl: Kubectl, workdir: Path) -> None:
    """A file that vanishes or cannot be read is named, and nothing is made."""
    (workdir / "file").write_text("content")
    (workdir / "secret").write_text("content")
    (workdir / "secret").chmod(0)
    powers = "-dac_override,-dac_read_search"  # what lets root read every file
    unable = ["setpriv", f"--bounding-set={powers}", f"--inh-caps={powers}"]
    prefix = unable if os.access(workdir / "secret", os.R_OK) else []
    ended = run.finish(run.start("./", "--", "ls", prefix=prefix))
    assert ended.code == 2 and "secret" in ended.err
    nothing_made(kubectl)


@pytest.mark.case(25)
@pytest.mark.slow
def test_a_large_directory(run: Cli, kubectl: Kubectl, workdir: Path, tmp_path: Path) -> None:
    """60 MiB of random data arrive, and k8r does not hold them in memory."""
    digest = hashlib.sha256()
    with open(workdir / "large", "wb") as file:
        for _ in range(60):
            block = os.urandom(MIB)
            file.write(block)
            digest.update(block)
    peak = tmp_path / "peak"
    process = run.start(
        *("./", "--rm", "--", "sha256sum", "large"),
        prefix=(sys.executable, "-c", MEASURE, str(peak)),
    )
    ended = run.finish(process, timeout=180)
    assert ended.code == 0, ended.err
    assert ended.text.split() == [digest.hexdigest(), "large"]
    assert int(peak.read_text()) < 200 * 1024


@pytest.mark.case(25)
def test_a_directory_that_is_too_large(run: Cli, kubectl: Kubectl, workdir: Path) -> None:
    """Over the limit: refused here, with the ten largest files, and nothing is made."""
    for number in range(12):
        content = os.urandom(5 * MIB + 400_000 + number * 10_000)
        (workdir / f"file{number:02d}").write_bytes(content)
    ended = run("./", "--", "true")
    assert ended.code == 2
    named = re.findall(r"file\d\d", ended.err)
    assert named == [f"file{number:02d}" for number in range(11, 1, -1)]
    assert "64" in ended.err and ".k8rignore" in ended.err
    nothing_made(kubectl)


def test_ignored_files_stay_here(run: Cli, workdir: Path) -> None:
    """.k8rignore, and what is never wanted, in a directory without git."""
    for name in (
        "kept",
        "data/big.bin",
        ".venv/x",
        "node_modules/x",
        "a/__pycache__/x",
        "lib/.git/x",
    ):
        (workdir / name).parent.mkdir(parents=True, exist_ok=True)
        (workdir / name).write_text("")
    (workdir / ".k8rignore").write_text("*.bin\n")
    ended = run("./", "--", "find", ".", "-type", "f")
    assert sorted(ended.text.split()) == ["./.k8rignore", "./kept"]
