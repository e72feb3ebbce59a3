"""`--setup`: what is run in the container before the command, by its own shell."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import yaml

from common import refused
from support import ALPINE

if TYPE_CHECKING:
    from tests.conftest import Cli

SETUP = "export TOLD=yes; cd /; echo out of $# words; echo err >&2; cat; printf unended"
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


def build_wheel(directory, config_settings=None, metadata_directory=None):
    name = "tool-1-py3-none-any.whl"
    with zipfile.ZipFile(f"{directory}/{name}", "w") as wheel:
        wheel.writestr("tool.py", "WORD = 'installed'\\n")
        wheel.writestr("tool-1.dist-info/METADATA", METADATA)
        wheel.writestr("tool-1.dist-info/WHEEL", WHEEL)
        wheel.writestr("tool-1.dist-info/RECORD", "")
    return name
'''
