"""What the user gets wrong, or finds broken: one line that says what and how to mend it."""

from __future__ import annotations

import re
import socket
import time
from pathlib import Path
from typing import TYPE_CHECKING, Iterator, List, Tuple

import pytest

from common import one_line
from support import ALPINE, Kubectl, elapsed, nothing_made

if TYPE_CHECKING:
    from conftest import WriteKubeconfig
    from tests.conftest import Cli, Result

COMMAND = ("--", "true")


def check(ended: Result, code: int, *words: str) -> None:
    """One line: what is wrong (``words`` are patterns), and what to do."""
    line = one_line(ended.err)
    assert ended.code == code, line
    assert ended.out == b""
    for word in words:
        assert re.search(word, line, re.I), f"{word!r} is not in: {line}"
    assert re.fullmatch(r".+?(;|\?) .+", line), f"no hint: {line}"


@pytest.mark.case(30)
@pytest.mark.parametrize(
    "args, words",
    [
        (("./wrok", *COMMAND), ("no directory", r"\./wrok")),
        (("~/wrok", *COMMAND), ("no directory", "~/wrok")),
        (("./file", *COMMAND), ("is a file", "directory")),
        (("Not/An/Image!", *COMMAND), ("image", "directory")),
        (("./empty", *COMMAND), ("nothing to send", "empty")),
        (("./good", "--"), ("command",)),
        (("./good",), ("command", "-- ")),
        ((), ("k8r",)),
        (("./good", "--num", "0", *COMMAND), ("--num", "0")),
        (("./good", "--num", "many", *COMMAND), ("--num", "many")),
        (("./good", "--parallel", "0", *COMMAND), ("--parallel",)),
        (("./good", "--timeout", "soon", *COMMAND), ("--timeout", "soon")),
        (("./good", "--timeout", "0", *COMMAND), ("--timeout",)),
        (("./good", "--retry", "-1", *COMMAND), ("--retry",)),
        (("./good", "--mem", "lots", *COMMAND), ("memory", "lots")),
        (("./good", "--mem", "8gb-2gb", *COMMAND), ("mem", "8gb-2gb|8Gi|2Gi")),
        (("./good", "--cpu", "two", *COMMAND), ("cpu", "two")),
        (("./good", "--cpu", "4-2", *COMMAND), ("cpu", "4")),
        (("./good", "--job-name", "n" * 64, *COMMAND), ("64", "63")),
        (("./good", "--job-name", "Not_A_Name", *COMMAND), ("Not_A_Name", "lower")),
        (("./good", "--job-name", "n" * 62, "--num", "11", *COMMAND), ("62", "60")),
        (("./good", "--env", "1 X=2", *COMMAND), ("1 X",)),
        (("./good", "--env", "NOT_SET_HERE", *COMMAND), ("NOT_SET_HERE", "=VALUE")),
        (("./good", "--base-image", "No Image", *COMMAND), ("No Image",)),
        (("./good", "--tmeout", "3", *COMMAND), ("--tmeout", "--timeout")),
        (("./good", "echo", "hello"), ("echo", "-- ")),
        (("./good", "-d", "-f", *COMMAND), ("detach", "follow")),
        (("./good", "-d", "--rm-secrets", *COMMAND), ("detach", "rm-secrets")),
        (("./good", "--num", "100001", *COMMAND), ("--num", "100000")),
        (("lgos", "name"), ("lgos", "logs")),
        (("ls", *COMMAND), ("ls",)),
        (("logs",), ("NAME",)),
        (("rm",), ("--all",)),
        (("--context", "nowhere", ALPINE, *COMMAND), ("context", "nowhere")),
        (("--kubeconfig", "/nowhere", ALPINE, *COMMAND), ("kubeconfig", "/nowhere")),
    ],
    ids=lambda value: " ".join(value)[:40] if isinstance(value, tuple) else None,
)
def test_wrong_usage(
    quiet_run: Cli, workdir: Path, args: Tuple[str, ...], words: Tuple[str, ...]
) -> None:
    """Exit code 2 and one line; that nothing is made, `quiet_kubectl` sees at its end."""
    (workdir / "good").mkdir()
    (workdir / "good" / "file").write_text("content")
    (workdir / "empty").mkdir()
    (workdir / "file").write_text("content")
    check(quiet_run(*args, timeout=30), 2, *words)


def test_no_kubeconfig(k8r: Cli) -> None:
    """Nothing says where the cluster is."""
    check(k8r(ALPINE, *COMMAND), 125, "no kubeconfig", "KUBECONFIG")
    check(k8r("ls"), 125, "no kubeconfig")


@pytest.mark.parametrize(
    "content", ["", "{", "[]", "just words", "\x00\x01", "clusters: 7", "contexts: [{}]"]
)
def test_broken_kubeconfig(k8r: Cli, workdir: Path, content: str) -> None:
    """The kubeconfig is no such file."""
    (workdir / "config").write_text(content)
    ended = k8r("ls", env={"KUBECONFIG": str(workdir / "config")})
    assert ended.code in (2, 125)
    assert "internal error" not in ended.err
    check(ended, ended.code, "kubeconfig")


def test_missing_kubeconfig(k8r: Cli) -> None:
    """KUBECONFIG names a file that does not exist."""
    check(k8r("ls", env={"KUBECONFIG": "/nowhere/config"}), 125, "/nowhere/config")


@pytest.fixture(params=["closed", "silent", "full"])
def dead_port(request: pytest.FixtureRequest) -> Iterator[int]:
    """A port where nobody listens, one that never answers, one that drops packets."""
    sockets: List[socket.socket] = [socket.create_server(("127.0.0.1", 0), backlog=0)]
    port = sockets[0].getsockname()[1]
    if request.param == "closed":
        sockets.pop().close()
    elif request.param == "full":
        for _ in range(8):
            client = socket.socket()
            client.setblocking(False)
            client.connect_ex(("127.0.0.1", port))
            sockets.append(client)
    yield port
    for sock in sockets:
        sock.close()


@pytest.mark.parametrize("args", [(ALPINE, *COMMAND), ("ls",)], ids=["run", "ls"])
def test_unreachable_server(
    k8r: Cli, write_kubeconfig: WriteKubeconfig, dead_port: int, args: Tuple[str, ...]
) -> None:
    """Said within ten seconds, with the address."""
    server = f"https://127.0.0.1:{dead_port}"
    k8r.env["KUBECONFIG"] = write_kubeconfig("default", cluster={"server": server})
    started = time.monotonic()
    check(k8r(*args), 125, "cannot reach", str(dead_port))
    assert elapsed(started) < 10


def test_unknown_host(k8r: Cli, write_kubeconfig: WriteKubeconfig) -> None:
    """The server's name does not resolve."""
    server = "https://k8r-test.invalid:6443"
    k8r.env["KUBECONFIG"] = write_kubeconfig("default", cluster={"server": server})
    started = time.monotonic()
    check(k8r("ls"), 125, "cannot reach", r"k8r-test\.invalid")
    assert elapsed(started) < 10


def test_wrong_certificate(k8r: Cli, write_kubeconfig: WriteKubeconfig) -> None:
    """A server that is not the one of the kubeconfig is not talked to."""
    changed = {"tls-server-name": "somebody.else"}
    k8r.env["KUBECONFIG"] = write_kubeconfig("default", cluster=changed)
    check(k8r("ls"), 125, "certificate")


def test_invalid_token(k8r: Cli, quiet_kubectl: Kubectl, write_kubeconfig: WriteKubeconfig) -> None:
    """Credentials that the cluster does not accept, or no longer."""
    k8r.env["KUBECONFIG"] = write_kubeconfig(quiet_kubectl.namespace, user={"token": "expired"})
    for args in ((ALPINE, *COMMAND), ("ls",)):
        check(k8r(*args), 125, "credentials", "log in")
    nothing_made(quiet_kubectl)


@pytest.mark.parametrize(
    "args, words",
    [
        ((ALPINE, *COMMAND), ("create", "jobs")),
        (("ls",), ("list", "jobs")),
        (("logs", "name"), ("get", "jobs")),
        (("rm", "name"), ("get|delete", "jobs")),
    ],
    ids=["run", "ls", "logs", "rm"],
)
def test_no_permission(
    k8r: Cli,
    quiet_kubectl: Kubectl,
    write_kubeconfig: WriteKubeconfig,
    args: Tuple[str, ...],
    words: Tuple[str, ...],
) -> None:
    """A user without rights is told which one it takes, in which namespace."""
    token = quiet_kubectl("create", "token", "default").strip()
    k8r.env["KUBECONFIG"] = write_kubeconfig(quiet_kubectl.namespace, user={"token": token})
    check(k8r(*args), 125, "permission", quiet_kubectl.namespace, "administrator", *words)
    nothing_made(quiet_kubectl)


def test_missing_namespace(quiet_run: Cli) -> None:
    """A namespace that does not exist is named."""
    check(quiet_run(ALPINE, "-n", "no-such-namespace", *COMMAND), 125, "no-such-namespace")


@pytest.mark.parametrize(
    "args", [("logs", "nothing"), ("logs", "-f", "nothing"), ("rm", "nothing")]
)
def test_no_such_job(quiet_run: Cli, args: Tuple[str, ...]) -> None:
    """A name that k8r has not made."""
    check(quiet_run(*args), 125, "no job", "nothing")


def test_a_failing_credential_plugin(k8r: Cli, write_kubeconfig: WriteKubeconfig) -> None:
    """k8r stops with the plugin's trouble and never goes on as nobody."""
    plugin = {
        "apiVersion": "client.authentication.k8s.io/v1",
        "command": "no-such-plugin",
        "interactiveMode": "Never",
    }
    k8r.env["KUBECONFIG"] = write_kubeconfig("default", user={"exec": plugin})
    check(k8r("ls"), 125, "no-such-plugin")
