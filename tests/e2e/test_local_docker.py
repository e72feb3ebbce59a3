"""`k8r --local` with an image or a Dockerfile: containers of this machine's docker."""

from __future__ import annotations

import hashlib
import io
import random
import signal
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Dict, Iterator, List

import docker
import pytest

from support import ALPINE, MIB, elapsed, read_until

if TYPE_CHECKING:
    from tests.conftest import Cli

STUBBORN = "trap '' TERM; echo begun; while :; do sleep 1; done"


@pytest.fixture
def client(daemon: Dict[str, str]) -> Iterator[Any]:
    """The daemon, as somebody else sees it."""
    made = docker.DockerClient(base_url=daemon["DOCKER_HOST"])
    yield made
    made.close()


@pytest.fixture
def local(k8r: Cli, daemon: Dict[str, str], client: Any) -> Iterator[Cli]:
    """k8r with docker and without a cluster; no container of its runs is left."""
    k8r.env.update(daemon, KUBECONFIG="/nonexistent", K8R_JOB_NAME=daemon["K8R_PROJECT"])
    yield k8r
    k8r.close()
    assert containers(client, daemon) == []


def containers(client: Any, daemon: Dict[str, str]) -> List[Any]:
    """The containers of the test's runs, whose name is that of its project."""
    wanted = {"label": f"k8r-job={daemon['K8R_PROJECT']}"}
    found: List[Any] = client.containers.list(all=True, filters=wanted)
    return found


def test_an_image(local: Cli, daemon: Dict[str, str]) -> None:
    """Both outputs are shown, and it ends with the command's code."""
    ended = local(ALPINE, "--local", "--", "sh", "-c", "echo out; echo err >&2; cat; exit 4")
    name = daemon["K8R_PROJECT"]
    assert (ended.code, sorted(ended.text.split())) == (4, ["err", "out"])
    first, second = ended.err.splitlines()
    assert first == f"k8r: {name} runs on this machine, in docker"
    assert second.startswith(f"k8r: {name} failed: exit code 4 after ")


def test_standard_input_of_an_image(local: Cli) -> None:
    """With -i it arrives whole, and so does its end; a command may end before that."""
    for size in (0, 8 * MIB):
        data = random.Random(size).randbytes(size)
        ended = local(ALPINE, "--local", "-i", "--", "sh", "-c", "sha256sum; exit 4", stdin=data)
        assert (ended.code, ended.text[:64]) == (4, hashlib.sha256(data).hexdigest()), ended.err
    process = local.start(ALPINE, "--local", "-i", "--", "head", "-c", "2")
    assert process.stdin
    process.stdin.write(b"abc")
    process.stdin.flush()
    assert process.wait(60) == 0, "its input is still open"
    assert process.stdout and process.stdout.read() == b"ab"
    process.stdin.close()


def test_an_image_that_is_not_here(local: Cli, client: Any, daemon: Dict[str, str]) -> None:
    """It is pulled from its registry."""
    project = daemon["K8R_PROJECT"]
    image = f"{daemon['K8R_REGISTRY']}/{project}/pulled:1"
    dockerfile = f"FROM {ALPINE}\nLABEL project={project}\n".encode()
    client.images.build(fileobj=io.BytesIO(dockerfile), tag=image)
    client.images.push(image)
    client.images.remove(image)
    ended = local(image, "--local", "--", "echo", "pulled")
    assert (ended.code, ended.text) == (0, "pulled\n"), ended.err
    assert client.images.get(image)


def test_an_image_that_there_is_not(local: Cli) -> None:
    """It is named, with the registry's words."""
    ended = local("127.0.0.1:1/absent:1", "--local", "--", "true")
    assert (ended.code, ended.out) == (125, b"")
    assert "the image 127.0.0.1:1/absent:1 cannot be pulled: " in ended.err
    assert "refused" in ended.err and "internal error" not in ended.err


def test_no_daemon(local: Cli) -> None:
    """It is named."""
    where = "unix:///nonexistent/docker.sock"
    ended = local(ALPINE, "--local", "--", "true", env={"DOCKER_HOST": where})
    assert ended.code == 125 and where in ended.err


def test_no_such_program(local: Cli) -> None:
    """The same code and reason as in the cluster, and docker's words."""
    ended = local(ALPINE, "--local", "--", "no-such-program")
    assert (ended.code, ended.out) == (128, b"")
    assert "exit code 128 (StartError: " in ended.err and '"no-such-program"' in ended.err


def test_the_command_line(local: Cli, workdir: Path) -> None:
    """As for Kubernetes: a command takes the place of both entrypoint and arguments."""
    text = 'FROM alpine\nENTRYPOINT ["echo", "entrypoint"]\nCMD ["argument"]\n'
    (workdir / "Dockerfile").write_text(text)
    ended = local("Dockerfile", "--local")
    assert (ended.code, ended.text) == (0, "entrypoint argument\n"), ended.err
    assert "pushing" not in ended.err
    ended = local("Dockerfile", "--local", "--", "printf", "<%s>", "a b", "", "$(HOME)")
    assert ended.text == "<a b><><$(HOME)>"


def test_a_build_that_fails(local: Cli, workdir: Path) -> None:
    """Nothing runs."""
    (workdir / "Dockerfile").write_text("FROM alpine\nRUN exit 3\n")
    ended = local("Dockerfile", "--local", "--", "echo", "ran")
    assert (ended.code, ended.out) == (125, b"") and "code: 3" in ended.err


def test_variables(local: Cli, daemon: Dict[str, str]) -> None:
    """k8r's and the user's; this process' own stay here."""
    local.env["HERE"] = "here"
    ended = local(ALPINE, "--local", "--env", "A=$(B) $$", "--", "env")
    found = dict(line.split("=", 1) for line in ended.text.splitlines())
    wanted = {"A": "$(B) $$", "K8R_COUNT": "1", "K8R_INDEX": "0", "PYTHONUNBUFFERED": "1"}
    assert {name: found.get(name) for name in wanted} == wanted
    assert found["K8R_JOB"] == daemon["K8R_PROJECT"] and "HERE" not in found


def test_odd_bytes_pass_unchanged(local: Cli) -> None:
    """docker's own log would replace them."""
    script = r"printf '\000\377\376\r\n\033[0m \303'"
    ended = local(ALPINE, "--local", "--", "sh", "-c", script)
    assert ended.out == b"\x00\xff\xfe\r\n\x1b[0m \xc3"


def test_much_output(local: Cli) -> None:
    """All of it arrives."""
    ended = local(ALPINE, "--local", "--", "head", "-c", "50000000", "/dev/zero")
    assert ended.code == 0 and len(ended.out) == 50_000_000


def test_several(local: Cli) -> None:
    """More at once than a pool of connections holds; each has its index."""
    ended = local(
        ALPINE, "--local", "--num", "12", "--", "sh", "-c", "echo $K8R_INDEX; exit $K8R_INDEX"
    )
    assert sorted(ended.text.splitlines()) == sorted(f"[{i}] {i}" for i in range(12))
    assert ended.code == 1 and "1 of 12 succeeded" in ended.err
    assert len(ended.err.splitlines()) == 2


def test_retries(local: Cli) -> None:
    """Each in a container of its own."""
    script = "[ ! -e /mark ] || exit 9; touch /mark; echo try; exit 5"
    ended = local(ALPINE, "--local", "--retry", "2", "--", "sh", "-c", script)
    assert (ended.code, ended.text) == (5, "try\n" * 3)


def test_out_of_memory(local: Cli) -> None:
    """The limit counts, and is named as the reason."""
    hog = ["tail", "-c", "200000000", "/dev/zero"]
    ended = local(ALPINE, "--local", "--mem", "16Mi-32Mi", "--", *hog)
    assert ended.code == 137 and "exit code 137 (OOMKilled)" in ended.err


def test_more_cpus_than_there_are(local: Cli) -> None:
    """A limit for the cluster's nodes does no harm here."""
    ended = local(ALPINE, "--local", "--cpu", "500m-5000", "--", "echo", "ran")
    assert (ended.code, ended.text) == (0, "ran\n"), ended.err


def test_timeout(local: Cli) -> None:
    """A container that ignores SIGTERM is killed; what it wrote is there."""
    ended = local(ALPINE, "--local", "--timeout", "3", "--", "sh", "-c", STUBBORN)
    assert (ended.code, ended.text) == (124, "begun\n")
    assert "timed out after 3 s (DeadlineExceeded)" in ended.err


@pytest.mark.parametrize(
    "signum, code",
    [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)],
    ids=["INT", "TERM", "HUP"],
)
def test_signals(local: Cli, client: Any, daemon: Dict[str, str], signum: int, code: int) -> None:
    """All containers are gone when k8r ends."""
    process = local.start(ALPINE, "--local", "--num", "2", "--", "sh", "-c", STUBBORN)
    read_until(process.stdout, b"begun\n")
    assert containers(client, daemon)
    process.send_signal(signum)
    ended = local.finish(process, timeout=30)
    assert ended.code == code and "Traceback" not in ended.err
    assert ended.err.splitlines()[-1].endswith(" was stopped, and nothing of it goes on")
    assert containers(client, daemon) == []


def test_a_container_that_heeds_signals(local: Cli) -> None:
    """It is not waited for longer than it takes."""
    script = "trap 'exit 0' TERM; echo begun; while :; do sleep 0.1; done"
    process = local.start(ALPINE, "--local", "--", "sh", "-c", script)
    read_until(process.stdout, b"begun\n")
    struck = time.monotonic()
    process.send_signal(signal.SIGTERM)
    assert local.finish(process, timeout=30).code == 143
    assert elapsed(struck) < 4.5


def test_results(local: Cli, workdir: Path) -> None:
    """What --out names of an image's container is here, whoever wrote it, whatever its end; and
    what is not there is named.
    """
    text = "umask 077; mkdir /o/d; echo $K8R_INDEX > /o/d/i; ln -s d/i /o/l; rm -r '/x y/z'; exit 3"
    words = ("--num", "2", "--out", "/o:here", "--out", "/x y/z", "--", "sh", "-c", text)
    ended = local(ALPINE, "--local", *words)
    assert ended.code == 3 and ended.err.count("there is no /x y/z") == 2, ended.err
    for index in "01":
        assert (workdir / "here" / index / "d/i").read_text() == f"{index}\n"
        assert (workdir / "here" / index / "l").read_text() == f"{index}\n"
    (workdir / "Dockerfile").write_text("FROM alpine\nUSER 1234\n")
    ended = local("Dockerfile", "--local", "--out", "/o", "--", "sh", "-c", "id -u > /o/id")
    assert ended.code == 0 and (workdir / "o/id").read_text() == "1234\n", ended.err
