"""`k8r DOCKERFILE`: built here, pushed, and run by its digest."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Dict, Tuple

import pytest
import yaml

from support import Kubectl

if TYPE_CHECKING:
    from tests.conftest import Cli, Result

ENTRYPOINT = """\
FROM alpine
ENTRYPOINT ["echo", "from the entrypoint"]
"""

STAGES = """\
FROM alpine AS first
ARG WORD=none
ARG OTHER=none
RUN echo "$WORD $OTHER" > /words
COPY . /source
FROM first AS second
RUN touch /second
"""


@pytest.fixture
def build(run: Cli, daemon: Dict[str, str]) -> Cli:
    """k8r with docker, in the test's namespace."""
    run.env.update(daemon)
    return run


@pytest.fixture
def quiet_build(quiet_run: Cli, daemon: Dict[str, str]) -> Cli:
    """k8r with docker, in the namespace in which nothing is to be made."""
    quiet_run.env.update(daemon)
    return quiet_run


def failed(ended: Result, code: int, *words: str) -> None:
    """Assert that nothing was run, and that the reason was said."""
    assert ended.code == code, ended.err
    assert ended.out == b""
    assert "Traceback" not in ended.err and "internal error" not in ended.err
    last = ended.err.splitlines()[-1]
    assert last.startswith("k8r: ")
    for word in words:
        assert word in ended.err


def test_build_push_run(build: Cli, kubectl: Kubectl, workdir: Path) -> None:
    """The image runs by its digest, with its own entrypoint or the command instead."""
    (workdir / "Dockerfile").write_text(ENTRYPOINT)
    ended = build("Dockerfile")
    assert (ended.code, ended.text) == (0, "from the entrypoint\n"), ended.err

    other = build("./Dockerfile", "--", "echo", "from the command")
    assert (other.code, other.text) == (0, "from the command\n"), other.err

    jobs = {item["metadata"]["name"]: item for item in kubectl.items("jobs")}
    assert sorted(jobs) == ["work", "work-1"]
    name = re.escape("/".join([build.env["K8R_REGISTRY"], build.env["K8R_PROJECT"], "work"]))
    images = set()
    for pod in kubectl.items("pods"):
        [container] = pod["spec"]["containers"]
        images.add(container["image"])
        assert re.fullmatch(name + "@sha256:[0-9a-f]{64}", container["image"])
        digest = container["image"].rpartition("@")[2]
        assert digest in pod["status"]["containerStatuses"][0]["imageID"]
        assert pod["metadata"]["labels"]["k8r-source-type"] == "dockerfile"
    assert len(images) == 1, "equal builds have equal names"


def test_options_of_a_build(build: Cli, workdir: Path) -> None:
    """--build-arg, from here too; --target; .dockerignore."""
    (workdir / "Dockerfile").write_text(STAGES)
    (workdir / ".dockerignore").write_text("ignored*\nDockerfile\n.dockerignore\n")
    for name in ("ignored.txt", "kept.txt"):
        (workdir / name).write_text(name)
    options = ["--build-arg", "WORD=a b", "--build-arg", "OTHER", "--target", "first"]
    script = "cat /words; ls -A /source; ls /second 2>/dev/null || echo no second"
    ended = build("Dockerfile", *options, "--", "sh", "-c", script, env={"OTHER": "here"})
    assert ended.code == 0, ended.err
    assert ended.text.splitlines() == ["a b here", "kept.txt", "no second"]


def test_what_the_classic_builder_cannot(quiet_build: Cli, workdir: Path) -> None:
    """It is refused by its line, and nothing is sent."""
    (workdir / "Dockerfile").write_text("FROM alpine\nRUN <<EOF\necho building\nEOF\n")
    ended = quiet_build("Dockerfile")
    failed(ended, 2, "line 2 of Dockerfile has a heredoc, which needs BuildKit")
    assert "building" not in ended.err
    (workdir / "Dockerfile").write_text("FROM alpine\nRUN echo building\n")
    (workdir / "Dockerfile.dockerignore").write_text("secret\n")
    failed(quiet_build("Dockerfile"), 2, "Dockerfile.dockerignore needs BuildKit")


@pytest.mark.parametrize(
    "path, job", [("x.Dockerfile", "work"), ("Dockerfile.dev", "work"), ("part/Dockerfile", "part")]
)
def test_names_of_dockerfiles(
    build: Cli, kubectl: Kubectl, workdir: Path, path: str, job: str
) -> None:
    """Each of them is one; its own directory is what the build sees."""
    file = workdir / path
    file.parent.mkdir(exist_ok=True)
    file.write_text("FROM alpine\nCOPY beside /beside\nCMD cat /beside\n")
    (file.parent / "beside").write_text("found\n")
    ended = build(path)
    assert (ended.code, ended.text) == (0, "found\n"), ended.err
    assert kubectl.names("jobs") == [job]


@pytest.mark.parametrize(
    "content, words",
    [
        ("FROM alpine\nRUN echo so far && exit 3\n", ("so far", "non-zero code: 3")),
        ("FROM alpine\nCOPY absent /\n", ("absent",)),
        ("FROM absent/absent:1\n", ("absent",)),
        ("NONSENSE alpine\n", ("NONSENSE",)),
        ("", ("Dockerfile",)),
    ],
    ids=["step", "copy", "base", "instruction", "empty"],
)
def test_a_build_that_fails(
    quiet_build: Cli, workdir: Path, content: str, words: Tuple[str, ...]
) -> None:
    """The builder's words are shown, and nothing is made."""
    (workdir / "Dockerfile").write_text(content)
    failed(quiet_build("Dockerfile"), 125, "build", *words)


def test_a_failed_build_is_explained_quietly(quiet_build: Cli, workdir: Path) -> None:
    """With --quiet the reason remains."""
    (workdir / "Dockerfile").write_text("FROM alpine\nRUN exit 3\n")
    failed(quiet_build("Dockerfile", "-q"), 125, "build", "code: 3")


def test_an_unknown_stage(quiet_build: Cli, workdir: Path) -> None:
    """--target that the Dockerfile lacks."""
    (workdir / "Dockerfile").write_text(STAGES)
    failed(quiet_build("Dockerfile", "--target", "third"), 125, "third")


def test_no_daemon(quiet_build: Cli, workdir: Path) -> None:
    """A daemon that is down is named."""
    (workdir / "Dockerfile").write_text(ENTRYPOINT)
    where = "unix:///nonexistent/docker.sock"
    failed(quiet_build("Dockerfile", env={"DOCKER_HOST": where}), 125, "docker", where)


@pytest.mark.case(30)
def test_a_refused_push(quiet_build: Cli, workdir: Path) -> None:
    """A registry that does not answer is named."""
    (workdir / "Dockerfile").write_text(ENTRYPOINT)
    ended = quiet_build("Dockerfile", env={"K8R_REGISTRY": "127.0.0.1:1"})
    failed(ended, 125, "cannot be pushed to 127.0.0.1:1/", "refused", "K8R_REGISTRY")


@pytest.mark.parametrize(
    "env", [{"K8R_PROJECT": "Upper Case"}, {"K8R_REGISTRY": "https://127.0.0.1:5000"}]
)
def test_a_registry_that_is_none(quiet_build: Cli, workdir: Path, env: Dict[str, str]) -> None:
    """Names that no registry can have are told before anything is built."""
    (workdir / "Dockerfile").write_text("FROM alpine\nRUN echo building\n")
    [(name, value)] = env.items()
    ended = quiet_build("Dockerfile", env=env)
    failed(ended, ended.code, name)
    assert ended.code in (2, 125)
    assert "building" not in ended.err


@pytest.mark.parametrize("path", ["Dockerfile", "./Dockerfile", "part/x.Dockerfile"])
def test_no_such_dockerfile(quiet_build: Cli, path: str) -> None:
    """A Dockerfile that does not exist is no image's name."""
    failed(quiet_build(path, "--", "true"), 2, path)


@pytest.mark.parametrize("image", ["Upper/Case", "two words", "alpine:", "alpine:a:b", "a//b"])
def test_an_image_that_is_none(quiet_run: Cli, image: str) -> None:
    """What cannot be an image's name is refused at once."""
    failed(quiet_run(image, "--", "true"), 2, f"'{image}'")


def test_an_image_by_its_digest(k8r: Cli) -> None:
    """NAME@sha256:DIGEST is an image, though USER@HOST:PATH is a git URL."""
    image = "alpine@sha256:" + "0123456789abcdef" * 4
    shown = k8r(image, "--show-yaml", "--", "true")
    assert shown.code == 0, shown.err
    [job] = yaml.safe_load_all(shown.out)
    assert job["metadata"]["labels"]["k8r-source-type"] == "container"
    assert job["metadata"]["name"] == "alpine"
    assert job["spec"]["template"]["spec"]["containers"][0]["image"] == image


def test_a_build_argument_that_is_none(quiet_build: Cli, workdir: Path) -> None:
    """A bad name, and one without a value here."""
    (workdir / "Dockerfile").write_text(ENTRYPOINT)
    failed(quiet_build("Dockerfile", "--build-arg", "A B=2"), 2, "'A B'")
    failed(quiet_build("Dockerfile", "--build-arg", "ABSENT"), 2, "ABSENT")


def test_yaml_of_a_dockerfile(k8r: Cli, workdir: Path) -> None:
    """--show-yaml builds nothing, and needs neither docker nor a cluster."""
    (workdir / "Dockerfile").write_text(ENTRYPOINT)
    dead = {"DOCKER_HOST": "unix:///nonexistent.sock", "KUBECONFIG": "/nonexistent"}
    shown = k8r("Dockerfile", "--show-yaml", "--", "true", env={**dead, "K8R_PROJECT": "p"})
    assert shown.code == 0, shown.err
    [job] = yaml.safe_load_all(shown.out)
    image = job["spec"]["template"]["spec"]["containers"][0]["image"]
    assert image.startswith("gcr.io/p/work")
