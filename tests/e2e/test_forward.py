"""`k8r forward` and `run --port`: ports of a pod, reached from this machine."""

from __future__ import annotations

import hashlib
import json
import random
import re
import shlex
import shutil
import signal
import socket
import subprocess
import time
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from common import until
from faultproxy import random_faults
from support import ALPINE, PYTHON, Kubectl, read_until
from test_proxy import FEW, FIRST

if TYPE_CHECKING:
    from conftest import StartFaultProxy
    from tests.conftest import Cli

SERVER = "cd /tmp; echo served > file; head -c 3000000 /dev/urandom > big; sha256sum big > sum"
SERVE = f"{SERVER}; exec python3 -u -m http.server 8000"


def fetch(port: int, path: str) -> bytes:
    """What a web server on this machine answers."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(f"http://127.0.0.1:{port}/{path}", timeout=20) as answer:
        content: bytes = answer.read()
        return content


def read_port(process: "subprocess.Popen[bytes]") -> int:
    """The port that k8r says it listens on, once it says so."""
    said = read_until(process.stderr, b" is port ").decode()
    [port] = re.findall(r"http://127.0.0.1:(\d+) is port", said)
    return int(port)


def test_a_port_of_a_run(run: Cli) -> None:
    """--port reaches it while k8r follows, whole and by many at once; a taken one is replaced,
    and each of several is told once it answers.
    """
    script = SERVE.replace("exec", "(sleep 2; python3 -m http.server 9000) & exec")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        local = taken.getsockname()[1]
        words = ("--port", f"{local}:8000", "--port", f"{local}:9000", PYTHON)
        process = run.start(*words, "--", "sh", "-c", script)
        port = read_port(process)
        assert local < port and fetch(read_port(process), "file") == b"served\n"
        wanted = fetch(port, "sum").split()[0].decode()
        with ThreadPoolExecutor(20) as pool:
            found = list(pool.map(lambda _: fetch(port, "big"), range(20)))
        assert {hashlib.sha256(data).hexdigest() for data in found} == {wanted}
        with socket.create_connection(("127.0.0.1", port)) as left:
            left.sendall(b"GET /big")  # and goes
        assert fetch(port, "file") == b"served\n"
        process.send_signal(signal.SIGINT)
        assert run.finish(process).code == 130


def test_the_example_with_a_notebook(run: Cli, tmp_path: Path) -> None:
    """Jupyter is reached, starts a kernel, keeps a notebook, and its end brings that here."""
    shutil.copytree(Path(__file__).parents[2] / "examples" / "notebook", tmp_path / "notebook")
    (command,) = re.findall("`k8r (.*? --port .*?)`", (tmp_path / "notebook/README.md").read_text())
    process = run.start(*shlex.split(command), cwd=tmp_path / "notebook")
    token, *_ = re.findall(rb"127.0.0.1:8888/\?token=(\w+)\s", read_until(process.stdout, b" or "))
    port = read_port(process)
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))

    def ask(method: str, path: str, content: Any = None) -> Any:
        headers = {"Authorization": f"token {token.decode()}", "Content-Type": "application/json"}
        body = None if content is None else json.dumps(content).encode()
        url = f"http://127.0.0.1:{port}/api/{path}"
        request = urllib.request.Request(url, body, headers, method=method)
        with opener.open(request, timeout=30) as answer:
            return json.loads(answer.read() or b"null")

    kernel = ask("POST", "kernels", {"name": "python3"})
    assert [each["id"] for each in ask("GET", "kernels")] == [kernel["id"]]
    notebook = ask("GET", "contents/squares.ipynb")
    notebook["content"]["cells"][0]["source"] = "print('kept')"
    ask("PUT", "contents/squares.ipynb", notebook)
    ask("POST", "shutdown")
    ended = run.finish(process)
    assert ended.code == 0, ended.err
    assert "print('kept')" in (tmp_path / "notebook/saved/squares.ipynb").read_text()


def test_ports_of_a_job(run: Cli, kubectl: Kubectl) -> None:
    """One that nobody listens on ends that connection alone, and the end of the Job ends k8r."""
    script = "while [ ! -e /tmp/go ]; do nc -l -p 9000 -e echo greeting; done; exit 6"
    assert run("-d", ALPINE, "--job-name", "served", "--", "sh", "-c", script).code == 0
    process = run.start("forward", "served", "0:9000", "0:9001")
    assert run.finish(process).code == 2
    process = run.start("forward", "served", "19000:9000", "19001:9001")
    port = read_port(process)
    for _ in range(2):
        with socket.create_connection(("127.0.0.1", 19001)) as refused:
            assert refused.recv(1) == b""

    def ask() -> bool:
        with suppress(OSError), socket.create_connection(("127.0.0.1", port)) as connection:
            return connection.recv(100) == b"greeting\n"
        return False

    until(ask, "an answer")
    kubectl("exec", kubectl.running_pod("served"), "--", "touch", "/tmp/go")
    until(lambda: ask() and False or process.poll() is not None, "the end of k8r")
    ended = run.finish(process)
    assert (
        ended.code == 6 and ended.err.count("port 9001 of the pod cannot be reached: nothing") == 1
    ), ended.err


def test_no_free_port(run: Cli) -> None:
    """It is said, and what to do."""
    assert run("-d", ALPINE, "--job-name", "served", "--", "sleep", "60").code == 0
    with ExitStack() as stack:
        for port in range(65_531, 65_536):
            with suppress(OSError):  # something else has it
                stack.enter_context(socket.create_server(("127.0.0.1", port)))
        ended = run("forward", "served", "65531:80")
    assert ended.code == 125 and "name another: LOCAL:PORT" in ended.err, ended.err


def test_a_pod_that_is_replaced(run: Cli, kubectl: Kubectl) -> None:
    """The next one is found, and what comes meanwhile is refused without a word."""
    script = "trap 'exit 0' TERM; while :; do nc -l -p 9000 -e hostname & wait; done"
    words = (ALPINE, "--as-deployment", "-d", "--job-name", "kept", "--port", "29000:9000")
    ended = run(*words, "--", "sh", "-c", script)
    assert ended.code == 0 and "k8r forward kept" in ended.err, ended.err
    process = run.start("forward", "kept", "29000:9000")
    port, names = read_port(process), set()

    def ask() -> bool:
        with socket.create_connection(("127.0.0.1", port)) as connection:
            names.add(connection.recv(100))
        time.sleep(0.2)
        return len(names - {b""}) == 2

    assert not ask()
    kubectl("delete", "pod", "--wait=false", *kubectl.names("pods"))
    until(ask, "an answer of the next pod")
    process.send_signal(signal.SIGTERM)
    assert run.finish(process).code == 143


SENT = 2_000_000
SEND = f"""
import random, socketserver
class Handler(socketserver.StreamRequestHandler):
    def handle(self):
        self.wfile.write(random.Random(1).randbytes({SENT}))
socketserver.ThreadingTCPServer(("127.0.0.1", 9000), Handler).serve_forever()
"""
"""Sends who connects all of something whose end is the connection's."""


def receive(port: int) -> bytes:
    """What comes by a port until its end. Raises OSError for an end that is none."""
    with socket.create_connection(("127.0.0.1", port), 60) as connection:
        return b"".join(iter(lambda: connection.recv(1 << 16), b""))


def start_sender(run: Cli, kubectl: Kubectl) -> None:
    """A Job named "sends", once it runs."""
    assert run("-d", PYTHON, "--job-name", "sends", "--", "python3", "-c", SEND).code == 0
    kubectl.running_pod("sends")


def test_a_connection_that_breaks(run: Cli, kubectl: Kubectl, faulty: StartFaultProxy) -> None:
    """Its client sees a reset: what looks like the end of it all would be taken for that."""
    start_sender(run, kubectl)
    proxy, env = faulty([])
    process = run.start("forward", "sends", "31000:9000", env=env)
    port = read_port(process)
    assert receive(port) == random.Random(1).randbytes(SENT)
    with socket.create_connection(("127.0.0.1", port), 60) as connection:
        assert connection.recv(1)
        proxy.outage(0.5)
        with pytest.raises(ConnectionResetError):
            while connection.recv(1 << 16):
                pass
    process.send_signal(signal.SIGINT)
    assert run.finish(process).code == 130


@pytest.mark.slow
def test_random_faults(run: Cli, kubectl: Kubectl, faulty: StartFaultProxy) -> None:
    """Through any of them: a connection brings all or is seen to break, and a later one all."""
    start_sender(run, kubectl)
    wanted = random.Random(1).randbytes(SENT)

    def once(seed: int) -> str:
        _, env = faulty(random_faults(seed, rounds=1))
        process = run.start("forward", "sends", f"{32000 + seed * 5}:9000", env=env)
        said = b""
        while not re.search(rb"127.0.0.1:\d+ is port", said):
            assert process.stderr
            line = process.stderr.readline()
            said += line
            if not line:
                assert run.finish(process).code == 125, (seed, said)
                return "lost"
        [port] = re.findall(rb"127.0.0.1:(\d+) is port", said)
        broken = 0
        for _ in range(20):
            try:
                found = receive(int(port))
            except ConnectionResetError:
                broken += 1
                continue
            # Nothing at all is what a port without a pod gives.
            assert found in (b"", wanted), (seed, len(found))
            if found:
                break
        else:
            raise AssertionError(f"seed {seed}: no connection was whole")
        process.send_signal(signal.SIGINT)
        assert run.finish(process).code == 130
        return "broken" if broken else "right"

    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(once, range(FIRST, FIRST + FEW)))
    assert "right" in found or "broken" in found
