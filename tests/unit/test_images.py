"""What a Dockerfile is built by, and what the classic builder must not be given."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Dict, List

import pytest

import k8r
from common import usage_error


@pytest.mark.parametrize(
    "text, line, what",
    [
        ("# syntax=docker/dockerfile:1\nFROM a", 1, "syntax"),
        ("FROM a\nRUN <<EOF\nb\nEOF", 2, "a heredoc"),
        ("FROM a\nCOPY --chown=1 <<-'EOF' /b\nEOF", 2, "a heredoc"),
        ("FROM a\nRUN \\\n  --network=none --mount=type=cache,target=/c \\\n b", 4, "--mount"),
        ("from a\ncopy --from=b --link . .", 2, "--link"),
        ("FROM a\nCOPY --chmod=700 a b", 2, "--chmod"),
        ("FROM a\nADD --checksum=sha256:0 a b", 2, "--checksum"),
        ("FROM --platform=$BUILDPLATFORM a", 1, "BUILDPLATFORM"),
        ("FROM a\n\nARG TARGETARCH\n", 3, "TARGETARCH"),
    ],
)
def test_what_needs_buildkit(tmp_path: Path, text: str, line: int, what: str) -> None:
    """It is refused by its line before anything is sent."""
    path = tmp_path / "Dockerfile"
    path.write_text(text)
    error = usage_error(k8r.check_classic_build, str(path), k8r.BuildOptions())
    assert error.message.startswith(f"line {line} of Dockerfile has {what}, which needs BuildKit")


@pytest.mark.parametrize(
    "text",
    [
        "FROM a AS b\nCOPY --from=b --chown=1:1 . .\nADD a b\nHEALTHCHECK --interval=5s CMD a",
        "# escape=\\\n# RUN --mount=type=cache a\nFROM a\nENV MY_TARGETARCH=1\nRUN a --mount b",
        "FROM a\nRUN cat <<< b; echo $((1<<2)); npm ci --network=c \\\n && a --chmod=700",
    ],
)
def test_what_does_not(tmp_path: Path, text: str) -> None:
    """Words of a command are not the builder's."""
    (tmp_path / "Dockerfile").write_text(text)
    (tmp_path / ".dockerignore").write_text("\ufeff# a\n*\n!src\n!a.txt\n")
    k8r.check_classic_build(str(tmp_path / "Dockerfile"), k8r.BuildOptions())


def test_what_else_is_refused(tmp_path: Path) -> None:
    """Secrets, an ignore file that is not read, and patterns that may be read otherwise."""
    path = tmp_path / "Dockerfile"
    path.write_text("FROM a")
    secret = k8r.BuildOptions(secrets=("id=a",))
    assert "--build-secret" in usage_error(k8r.check_classic_build, str(path), secret).message
    for line in ("!", "[a", "a\\", "!**/b\n**/a", "a/*/b/**", "..", "a/../b"):
        (tmp_path / ".dockerignore").write_text(f"b\n{line}\n")
        error = usage_error(k8r.check_classic_build, str(path), k8r.BuildOptions())
        assert f"'{line.splitlines()[-1]}' in .dockerignore" in error.message or "!**" in line
    (tmp_path / "Dockerfile.dockerignore").write_text("")
    error = usage_error(k8r.check_classic_build, str(path), k8r.BuildOptions())
    assert "Dockerfile.dockerignore" in error.message


@pytest.mark.parametrize(
    "builder, files, words",
    [
        ("buildx", {".containerignore": "a"}, ".containerignore is read by podman, not by buildx"),
        ("classic", {"Dockerfile.containerignore": "a"}, "Dockerfile.containerignore is read by"),
        ("podman", {".containerignore": "a"}, ""),
        ("docker", {".containerignore": "!**/a", ".dockerignore": "a\n!b"}, ""),
        ("docker", {".dockerignore": "*\n!**/a\n"}, "'!**/a' in .dockerignore needs buildx"),
        ("buildx", {".dockerignore": "*\n!**/a\n"}, ""),
        (
            "podman",
            {".containerignore": "!a/**", ".dockerignore": "a"},
            "in .containerignore needs",
        ),
        ("podman", {"Dockerfile.dockerignore": "**/a\n!a", ".dockerignore": "!**/a"}, ""),
        ("docker", {}, ""),
    ],
)
def test_an_ignore_file(tmp_path: Path, builder: str, files: Dict[str, str], words: str) -> None:
    """One that the builder does not read, or not as it is meant, is refused."""
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    path = str(tmp_path / "Dockerfile")
    if words:
        assert words in usage_error(k8r.check_ignore_files, builder, path).message
    else:
        k8r.check_ignore_files(builder, path)


def test_what_a_builder_is_given(tmp_path: Path) -> None:
    """A value that is in the environment already, or whose name is a secret's, by that alone."""
    docker = tmp_path / "docker"
    script = 'echo "$*"; echo "$A-$B-$C_TOKEN-$LD_X"; while [ "$1" != --iidfile ]; do shift; done'
    docker.write_text(f'#!/bin/sh\n{script}\necho sha256:1 > "$2"\n')
    docker.chmod(0o755)
    environ = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "A": "1", "B": "2"}
    args = (("A", "1"), ("B", "0"), ("B", "3"), ("C_TOKEN", "4"), ("LD_X", "5"))
    with open(tmp_path / "out", "w+b") as output:
        k8r.run_builder("docker", "/x/Dockerfile", k8r.BuildOptions(args), environ, output)
        output.seek(0)
        words, values = output.read().decode().splitlines()
    given = [word for word in words.split() if word.startswith("--build-arg")]
    assert given == [f"--build-arg={word}" for word in ("A", "B=3", "C_TOKEN", "LD_X=5")]
    assert values == "1-2-4-"


@pytest.fixture
def programs(tmp_path: Path) -> Dict[str, str]:
    """An environment whose PATH has a docker and a podman that say of themselves what files do."""
    for name in ("docker", "podman"):
        script = f'#!/bin/sh\ncd {tmp_path}; cat "$(echo {name} $* | tr " " -)" && exit 0; exit 1\n'
        (tmp_path / name).write_text(script)
        (tmp_path / name).chmod(0o755)
    return {"PATH": f"{tmp_path}:{os.environ['PATH']}"}


def test_the_first_that_can_is_taken(tmp_path: Path, programs: Dict[str, str]) -> None:
    """Docker without a daemon, or without its plugin, cannot; a local run needs docker's store."""
    found = [k8r.find_builder(programs, False)]
    for answer in (
        "podman-version",
        "docker-version",
        "docker-build---help",
        "docker-buildx-version",
    ):
        (tmp_path / answer).touch()
        found.append(k8r.find_builder(programs, False))
        if answer == "podman-version":
            assert k8r.find_builder(programs, True) == "classic"
    assert found == ["classic", "podman", "podman", "docker", "buildx"]


def test_a_builder_that_is_wanted(programs: Dict[str, str]) -> None:
    """It is that or none."""
    wanted = dict(programs, K8R_BUILDER="podman")
    for local, hint in ((False, "try: podman version"), (True, "docker's")):
        with pytest.raises(k8r.K8rError) as caught:
            k8r.find_builder(wanted, local)
        assert "podman" in caught.value.message and hint in caught.value.hint
    assert k8r.find_builder(dict(programs, K8R_BUILDER="classic"), True) == "classic"
    error = usage_error(k8r.find_builder, dict(programs, K8R_BUILDER="kaniko"), False)
    assert "kaniko" in error.message and "nerdctl" in error.hint


@pytest.mark.parametrize(
    "wanted, kinds, told",
    [
        ("linux/arm64", ["amd64", "amd64"], "for linux/arm64, but all nodes are amd64"),
        ("linux/arm/v7", ["arm64", "amd64"], "but all nodes are amd64 or arm64"),
        ("linux/arm64/v8", ["amd64", "arm64"], ""),
        ("linux/s390x,linux/aarch64", ["arm64"], ""),
        ("x86_64", ["amd64"], ""),
        ("linux", ["amd64"], ""),
        ("linux/arm64", [], ""),
        ("linux/arm64", [""], ""),
    ],
)
def test_a_platform_of_no_node(wanted: str, kinds: List[str], told: str) -> None:
    """It is named; nothing is said where the nodes may not be listed."""
    labels = [{"kubernetes.io/arch": kind} if kind else {} for kind in kinds]
    nodes = [{"metadata": {"labels": label}} for label in labels]
    said = k8r.explain_platform(wanted, nodes)
    assert told in said and bool(told) == bool(said)


def test_an_image_for_another_processor() -> None:
    """The kernel's words are explained, if that is what it failed by."""
    said = b"exec /usr/bin/python3: exec format error\n"
    options = k8r.RunOptions("./")
    assert "--platform" in k8r.explain_exit_code(255, options, said)
    assert k8r.explain_exit_code(0, options, said) == "" == k8r.explain_exit_code(1, options, b"")
