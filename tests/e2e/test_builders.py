"""Each construct of a Dockerfile with each builder: what comes of it is right, or an error."""

from __future__ import annotations

import os
import platform
import struct
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Dict, NamedTuple, Tuple

import pytest

from dockerhost import no_docker

if TYPE_CHECKING:
    from tests.conftest import Cli

TOOL = Path(__file__).parent.parent / "cluster" / "builders"
BUILDERS = ("buildx", "docker", "podman", "classic")
ALL_BUT_CLASSIC = ("buildx", "docker", "podman")
ARCH = {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine(), platform.machine())
KEPT = "FROM alpine\nCOPY . /c\nRUN cd /c && find . -type f | sort > /out\n"


class Construct(NamedTuple):
    """A Dockerfile, what is in /out of its image, and the builders that must succeed; of the
    others, those that k8r does not give it to, and how it says that.
    """

    text: str
    out: str
    builders: Tuple[str, ...] = ALL_BUT_CLASSIC
    files: Dict[str, str] = {}
    options: Tuple[str, ...] = ()
    refused: Tuple[str, ...] = ("classic",)
    words: str = "needs BuildKit"
    name: str = "Dockerfile"


CONSTRUCTS = {
    "run-heredoc": Construct("FROM alpine\nRUN <<EOF\necho a > /out\nEOF\n", "a\n", ()),
    "copy-heredoc": Construct("FROM alpine\nCOPY <<EOF /out\na\nEOF\n", "a\n", ()),
    "link": Construct("FROM alpine\nCOPY --link file /out\n", "a\n", (), {"file": "a\n"}),
    "syntax": Construct(
        "# syntax=docker/dockerfile:1\nFROM alpine\nRUN <<EOF\necho a > /out\nEOF\n"
        "COPY <<EOF /b\nb\nEOF\nCOPY --link file /c\nRUN cat /b /c >> /out\n",
        "a\nb\nc\n",
        ("buildx", "docker"),
        {"file": "c\n"},
    ),
    "cache": Construct(
        "FROM alpine\nRUN --mount=type=cache,target=/c echo a > /c/x && cp /c/x /out\n", "a\n"
    ),
    "chmod": Construct(
        "FROM alpine\nCOPY --chmod=750 file /\nRUN stat -c %a /file > /out\n",
        "750\n",
        files={"file": ""},
    ),
    "targetarch": Construct(
        "FROM alpine\nARG TARGETARCH\nRUN echo $TARGETARCH > /out\n", f"{ARCH}\n"
    ),
    "buildplatform": Construct(
        "FROM --platform=$BUILDPLATFORM alpine\nRUN echo a > /out\n", "a\n", ("buildx", "docker")
    ),
    "skipped": Construct(
        "FROM alpine AS no\nRUN exit 3\nFROM alpine\nRUN echo a > /out\n",
        "a\n",
        ("buildx", "docker"),
        refused=(),
    ),
    "secret": Construct(
        "FROM alpine\nRUN --mount=type=secret,id=a cat /run/secrets/a | wc -c > /out\n"
        "RUN --mount=type=secret,id=b cat /run/secrets/b | wc -c >> /out\n"
        "RUN ls -A /run/secrets 2> /dev/null >> /out || :\n",
        "7\n9\n",
        options=("--build-secret", "id=a,src=token", "--build-secret", "id=b,env=K8R_TOKEN"),
        files={"token": "value-1", "Dockerfile.dockerignore": "*"},
    ),
    "options": Construct(
        "FROM alpine AS a\nARG WORD=x\nARG K8R_TOKEN\nARG API_KEY\n"
        "RUN echo $WORD ${#K8R_TOKEN} ${#API_KEY} > /out\nFROM a AS b\nRUN echo b > /out\n",
        "y z 9 7\n",
        BUILDERS,
        options=("--build-arg", "WORD=y z", "--target", "a", "--platform", f"linux/{ARCH}")
        + ("--build-arg", "K8R_TOKEN", "--build-arg", "API_KEY=value-1"),
    ),
    "own-ignore-file": Construct(
        KEPT,
        "./file\n",
        files={"file": "", "secret": "", "Dockerfile.dockerignore": "secret\nDocker*\n"},
    ),
    "named-ignore-file": Construct(  # which counts alone
        KEPT,
        "./file\n",
        files={
            "file": "",
            "secret": "",
            ".dockerignore": "file",
            "a.Dockerfile.dockerignore": "secret\n.d*\na.D*\n",
        },
        name="a.Dockerfile",
    ),
    "podman-ignore-file": Construct(
        KEPT,
        "./file\n",
        ("podman",),
        files={"file": "", "secret": "", ".containerignore": "secret\n.cont*\nDocker*\n"},
        refused=("buildx", "docker", "classic"),
        words=".containerignore is read by podman, not by ",
    ),
    "ignore-file": Construct(
        KEPT,
        "./d/file\n",
        BUILDERS,
        {"d/file": "", "d/secret": "", "secret": "", ".dockerignore": "*\n!d\nd/sec*\n"},
    ),
    "deep-ignore-file": Construct(  # of which Debian's docker and podman make nothing
        KEPT,
        "./d/e/file\n",
        ("buildx",),
        files={"d/e/file": "", "d/secret": "", ".dockerignore": "*\n!**/file\n"},
        refused=("docker", "podman", "classic"),
        words="'!**/file' in .dockerignore needs ",
    ),
}


@pytest.fixture(scope="session")
def tools(cluster: str) -> Path:
    """The folder of buildx and podman."""
    made = subprocess.run([str(TOOL)], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    if made.returncode:
        no_docker(made.stderr.decode())
    return Path(made.stdout.decode().strip())


@pytest.fixture
def seen(tools: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with docker and podman, and a file of the words that they have been given."""
    made = tmp_path_factory.mktemp("bin")
    for real in ("/usr/bin/docker", f"{tools}/bin/podman"):  # Debian's docker
        program = made / os.path.basename(real)
        program.write_text(f'#!/bin/sh\necho "$0" "$@" >> {made}/words\nexec {real} "$@"\n')
        program.chmod(0o755)
    return made / "words"


@pytest.fixture(params=BUILDERS)
def builder(
    request: pytest.FixtureRequest, tools: Path, run: Cli, daemon: Dict[str, str], seen: Path
) -> str:
    """The name of a builder, which k8r is to use."""
    name = str(request.param)
    path = f"{seen.parent}:{os.environ['PATH']}"
    run.env.update(daemon, PATH=path, DOCKER_CONFIG=str(tools / "config"), K8R_BUILDER=name)
    return name


@pytest.mark.parametrize("name", CONSTRUCTS)
def test_a_construct(run: Cli, builder: str, workdir: Path, seen: Path, name: str) -> None:
    """It is in the image as it is meant, or the builder fails, or k8r refuses it. No file that is
    to stay out is in the image, and no secret in the words of a program.
    """
    case = CONSTRUCTS[name]
    for path, content in {case.name: case.text, **case.files}.items():
        (workdir / path).parent.mkdir(parents=True, exist_ok=True)
        (workdir / path).write_text(content)
    environ = {"K8R_TOKEN": "value-two"}
    ended = run(case.name, "-v", *case.options, "--", "cat", "/out", env=environ)
    assert f"k8r: the image is built by {builder}\n" in ended.err
    if builder in case.builders:
        assert (ended.code, ended.text) == (0, case.out), ended.err
    elif builder in case.refused:
        assert ended.code == 2 and case.words in ended.err, ended.err
    else:
        assert (ended.code, ended.text) in ((0, case.out), (125, "")), ended.err
    assert "secret" not in ended.text
    words = seen.read_text() if builder != "classic" else "--file"
    assert "value-" not in ended.err + words and (builder in case.refused or "--file" in words)


@pytest.mark.parametrize("builder", ["buildx"], indirect=True)
def test_another_kind_of_processor(run: Cli, builder: str, workdir: Path) -> None:
    """That no node has such a one is said before the build; what comes of it is explained."""
    other, machine = ("arm64", 183) if ARCH == "amd64" else ("amd64", 62)
    program = struct.pack("<4s12BHHI", b"\x7fELF", 2, 1, 1, *[0] * 9, 2, machine, 1)
    (workdir / "program").write_bytes(program.ljust(128, b"\0"))
    (workdir / "program").chmod(0o755)
    (workdir / "Dockerfile").write_text('FROM scratch\nCOPY program /\nCMD ["/program"]\n')
    ended = run("Dockerfile", "--platform", f"linux/{other}")
    told = f"k8r: the image will be for linux/{other}, but all nodes are {ARCH}\n"
    assert ended.code and told in ended.err and ended.err.index(told) < ended.err.index("pushing")
    assert "exec format error" in ended.text and "for which --platform builds" in ended.err
    assert "all nodes" not in run("Dockerfile", "--platform", f"linux/{ARCH}").err


def test_a_step_that_fails(run: Cli, builder: str, workdir: Path) -> None:
    """The builder's own words are shown, with --quiet as well, and nothing runs."""
    (workdir / "Dockerfile").write_text("FROM alpine\nRUN echo so far && exit 3\n")
    for options in ((), ("-q",)):
        ended = run("Dockerfile", *options, "--", "echo", "ran")
        assert (ended.code, ended.text) == (125, "") and "Traceback" not in ended.err
        assert "k8r: the build of Dockerfile failed" in ended.err and "so far" in ended.err


def test_the_registry_is_named(run: Cli, builder: str, workdir: Path) -> None:
    """That does not take the image."""
    (workdir / "Dockerfile").write_text("FROM alpine\n")
    ended = run("Dockerfile", "--", "true", env={"K8R_REGISTRY": "127.0.0.1:1"})
    assert ended.code == 125 and "127.0.0.1:1/" in ended.err and "refused" in ended.err
