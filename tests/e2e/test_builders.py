"""Each construct of a Dockerfile with each builder: what comes of it is right, or an error."""

from __future__ import annotations

import os
import platform
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
    """A Dockerfile, what is in /out of its image, and the builders that must succeed."""

    text: str
    out: str
    builders: Tuple[str, ...] = ALL_BUT_CLASSIC
    files: Dict[str, str] = {}
    options: Tuple[str, ...] = ()


CONSTRUCTS = {
    "run-heredoc": Construct("FROM alpine\nRUN <<EOF\necho a > /out\nEOF\n", "a\n", ()),
    "copy-heredoc": Construct("FROM alpine\nCOPY <<EOF /out\na\nEOF\n", "a\n", ()),
    "link": Construct("FROM alpine\nCOPY --link file /out\n", "a\n", (), {"file": "a\n"}),
    "syntax": Construct(
        "# syntax=docker/dockerfile:1\nFROM alpine\nRUN echo a > /out\n", "a\n", ()
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
        "FROM alpine AS a\nARG WORD=x\nRUN echo $WORD > /out\nFROM a AS b\nRUN echo b > /out\n",
        "y z\n",
        BUILDERS,
        options=("--build-arg", "WORD=y z", "--target", "a", "--platform", f"linux/{ARCH}"),
    ),
    "own-ignore-file": Construct(
        KEPT,
        "./file\n",
        files={"file": "", "secret": "", "Dockerfile.dockerignore": "secret\nDocker*\n"},
    ),
    "ignore-file": Construct(
        KEPT,
        "./d/file\n",
        BUILDERS,
        {"d/file": "", "d/secret": "", "secret": "", ".dockerignore": "*\n!d\nd/sec*\n"},
    ),
    "deep-ignore-file": Construct(  # Debian's docker and podman read `**` otherwise
        KEPT,
        "./d/e/file\n",
        ("buildx",),
        files={"d/e/file": "", "d/secret": "", ".dockerignore": "*\n!**/file\n"},
    ),
}


@pytest.fixture(scope="session")
def tools(cluster: str) -> Path:
    """The folder of buildx and podman."""
    made = subprocess.run([str(TOOL)], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    if made.returncode:
        no_docker(made.stderr.decode())
    return Path(made.stdout.decode().strip())


@pytest.fixture(params=BUILDERS)
def builder(request: pytest.FixtureRequest, tools: Path, run: Cli, daemon: Dict[str, str]) -> str:
    """The name of a builder, which k8r is to use."""
    name = str(request.param)
    path = f"{tools}/bin:/usr/bin:{os.environ['PATH']}"  # Debian's docker
    run.env.update(daemon, PATH=path, DOCKER_CONFIG=str(tools / "config"), K8R_BUILDER=name)
    return name


@pytest.mark.parametrize("name", CONSTRUCTS)
def test_a_construct(run: Cli, builder: str, workdir: Path, name: str) -> None:
    """It is in the image as it is meant, or the builder fails, or k8r refuses it."""
    case = CONSTRUCTS[name]
    for path, content in {"Dockerfile": case.text, **case.files}.items():
        (workdir / path).parent.mkdir(parents=True, exist_ok=True)
        (workdir / path).write_text(content)
    environ = {"K8R_TOKEN": "value-two"}
    ended = run("Dockerfile", "-v", *case.options, "--", "cat", "/out", env=environ)
    assert f"k8r: the image is built by {builder}\n" in ended.err
    if builder in case.builders:
        assert (ended.code, ended.text) == (0, case.out), ended.err
    elif builder == "classic" and name != "skipped":
        assert ended.code == 2 and "needs BuildKit" in ended.err, ended.err
    elif name != "deep-ignore-file":
        assert (ended.code, ended.text) in ((0, case.out), (125, "")), ended.err
    assert "secret" not in ended.text
    assert "value-" not in ended.err


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
