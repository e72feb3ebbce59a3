"""`--setup`: what is run in the container before the command, by its own shell."""

from __future__ import annotations

import contextlib
import ipaddress
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any, Dict, List, Tuple

import pytest
import yaml

from common import refused
from dockerhost import machine
from support import ALPINE, Kubectl, bound_claim

if TYPE_CHECKING:
    from tests.conftest import Cli

WHEEL = "tool-1-py3-none-any.whl"
SETUP = (
    "export TOLD=yes; cd /; echo out of $# words; echo err >&2; cat; set -- other; printf unended"
)
COMMAND = ("--", "sh", "-c", 'echo "$TOLD $PWD $1"; echo err; exit 4', "sh", "a  b")


def test_output_environment_and_code(run: Cli, workdir: Path) -> None:
    """Its output is not the command's, now or in the log; what it exports stays, and no more."""
    (workdir / "k8s-startup.sh").write_text("echo first; printf begun")
    (workdir / ".k8r.yaml").write_text(f"setup: {SETUP!r}\n")
    ended = run("./", "--job-name", "prepared", *COMMAND)
    expected = "first\nbegunyes /workspace a  b\nerr\n"
    assert (ended.code, ended.text) == (4, expected), ended.err
    assert "k8r: setup:\nout of " in ended.err
    assert set(ended.err.replace("unended", "\n").splitlines()) >= {"out of 5 words", "err"}
    for options in ((), ("-f",)):
        again = run("logs", "prepared", *options)
        assert (again.text, "k8r: setup:\n" in again.err) == (expected, True), again.err
        assert "k8r-setup" not in again.err
    last = run("logs", "prepared", "--tail", "2")
    assert last.text.endswith("yes /workspace a  b\nerr\n") and "k8r-setup" not in last.text


def test_each_pod_has_its_own(run: Cli) -> None:
    """Its lines have the indexes as the command's do; those of an image have no workspace."""
    setup = "echo $K8R_INDEX is set up"
    ended = run(ALPINE, "--num", "3", "--setup", setup, "--", "sh", "-c", "echo $K8R_INDEX runs")
    assert (ended.code, sorted(ended.text.splitlines())) == (
        0,
        [f"[{i}] {i} runs" for i in range(3)],
    )
    assert sorted(line for line in ended.err.splitlines() if line.startswith("[")) == [
        f"[{i}] {i} is set up" for i in range(3)
    ]
    assert ended.err.count("k8r: setup:\n") == 1


def test_a_failure_is_named(run: Cli, workdir: Path) -> None:
    """Whatever the way in which it fails, the command is not run; the code is its own, never 0."""
    (workdir / "file").write_text("")
    run.env["K8R_BASE_IMAGE"] = ALPINE
    for setup, code in (("set -e; sh -c 'exit 7'; true", 7), ("exit 0", 125), ("if", 2)):
        ended = run("./", "--setup", setup, "--", "echo", "not reached")
        assert (ended.code, ended.text) == (code, ""), ended.err
        assert f"k8r: setup failed with exit code {code}\n" in ended.err
    missing = run("./", "--setup", "pip install x", "--", "./tool")
    assert (missing.code, missing.text) == (127, "")
    assert "if it was './tool' or a word of --setup that was not found" in missing.err


def test_the_image_is_that_of_its_first_word(k8r: Cli, workdir: Path) -> None:
    """Where the command's own says nothing."""
    (workdir / "tool").write_text("")
    for command, setup, image in (
        ("./tool", "npm ci", "node:lts-slim"),
        ("python", "npm ci", "python:3-slim"),
        ("./tool", "\n./make it", ALPINE),
    ):
        shown = k8r("./", "--setup", setup, "--show-yaml", "--", command)
        [*_, job] = yaml.safe_load_all(shown.out)
        assert job["spec"]["template"]["spec"]["containers"][0]["image"] == image
    refused(k8r(ALPINE, "--setup", "true", "--show-yaml"), "--setup", "command")


class Index(ThreadingHTTPServer):
    """A package index on this machine with one package, and what has been fetched of it."""

    def __init__(self, host: str, wheel: bytes) -> None:
        self.wheel = wheel
        self.fetched: List[str] = []
        super().__init__((host, 0), IndexHandler)
        threading.Thread(target=self.serve_forever, daemon=True).start()


class IndexHandler(BaseHTTPRequestHandler):
    """Answers as PyPI does: a file of it may be kept."""

    server: Index

    def do_GET(self) -> None:
        """A page of links, or the wheel."""
        self.server.fetched.append(f"{self.command} {self.path}")
        page, name = f'<a href="/{WHEEL}">{WHEEL}</a>'.encode(), self.path.rpartition("/")[2]
        body = self.server.wheel if name == WHEEL else page
        self.send_response(200)
        self.send_header("Content-Type", "application/zip" if name else "text/html")
        self.send_header("Cache-Control", "max-age=365000000, immutable" if name else "no-cache")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    do_HEAD = do_GET

    def log_message(self, *args: object) -> None:
        """Say nothing."""


@pytest.mark.parametrize(
    "words",
    [
        ("--setup", "pip install -r requirements.txt", "--", "python", "main.py"),
        ("--setup", "uv sync", "--", "uv", "run", "main.py"),
    ],
    ids=["pip", "uv"],
)
def test_packages_from_an_index(
    run: Cli, kubectl: Kubectl, cluster: str, workdir: Path, tmp_path: Path, words: Tuple[str, ...]
) -> None:
    """One line installs them; where the cache is on a claim they are fetched once."""
    network = ipaddress.ip_network(machine(cluster)["pods_cidr"])
    backend: Dict[str, Any] = {}
    exec(BACKEND, backend)
    backend["build_wheel"](tmp_path)
    index = Index(str(network[1]), (tmp_path / WHEEL).read_bytes())
    url = f"http://{network[1]}:{index.server_port}/simple/"
    (workdir / "main.py").write_text("import tool; print(tool.WORD)")
    (workdir / "requirements.txt").write_text("tool\n")
    (workdir / "pyproject.toml").write_text(
        '[project]\nname = "app"\nversion = "1"\ndependencies = ["tool"]\n'
        'requires-python = ">=3.8"\n'
    )
    variables = [
        f"PIP_INDEX_URL={url}",
        f"PIP_TRUSTED_HOST={network[1]}",
        f"UV_DEFAULT_INDEX={url}",
    ]
    variables += ["PIP_CACHE_DIR=/cache/pip", "UV_CACHE_DIR=/cache/uv"]
    variables += ["PIP_BREAK_SYSTEM_PACKAGES=1"]  # which the public image does not need
    options = [f"--env={variable}" for variable in variables]
    (tmp_path / "cache").mkdir()
    with contextlib.closing(index.socket), bound_claim(kubectl, "cache", tmp_path / "cache"):
        ended = run("./", "--volume", "cache:/cache", *options, *words)
        assert (ended.code, ended.text) == (0, "installed\n"), ended.err
        assert f"GET /{WHEEL}" in index.fetched
        index.fetched.clear()
        ended = run("./", "--volume", "cache:/cache", *options, *words)
        assert (ended.code, ended.text) == (0, "installed\n"), ended.err
        assert set(index.fetched) == {"GET /simple/tool/"}
        index.shutdown()


def test_a_package_of_ones_own(run: Cli, workdir: Path) -> None:
    """An environment that setup makes and activates is the command's; k8r picks the image."""
    (workdir / "tool").mkdir()
    (workdir / "tool" / "pyproject.toml").write_text(PROJECT)
    (workdir / "tool" / "backend.py").write_text(BACKEND)
    (workdir / "requirements.txt").write_text("./tool\n")
    setup = "python3 -m venv /tmp/v && . /tmp/v/bin/activate && pip install -r requirements.txt"
    ended = run("./", "--setup", setup, "--", "python", "-c", "import tool; print(tool.WORD)")
    assert (ended.code, ended.text) == (0, "installed\n"), ended.err
    assert "Successfully installed tool-1" in ended.err


PROJECT = """\
[project]
name = "tool"
version = "1"
[build-system]
requires = []
build-backend = "backend"
backend-path = ["."]
"""

BACKEND = '''\
"""Builds the wheel of a package with one word, without setuptools."""
import zipfile

METADATA = "Metadata-Version: 2.1\\nName: tool\\nVersion: 1\\n"
WHEEL = "Wheel-Version: 1.0\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n"
NAME = "tool-1-py3-none-any.whl"


def build_wheel(directory, config_settings=None, metadata_directory=None):
    with zipfile.ZipFile(f"{directory}/{NAME}", "w") as wheel:
        wheel.writestr("tool.py", "WORD = 'installed'\\n")
        wheel.writestr("tool-1.dist-info/METADATA", METADATA)
        wheel.writestr("tool-1.dist-info/WHEEL", WHEEL)
        wheel.writestr("tool-1.dist-info/RECORD", "")
    return NAME
'''
