"""Every command in README.md does what it says there, in its order."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Dict, List, Tuple

import pytest

if TYPE_CHECKING:
    from tests.conftest import Cli

ROOT = Path(__file__).resolve().parents[2]


def blocks(language: str) -> List[str]:
    """The code blocks of README.md in that language."""
    text = (ROOT / "README.md").read_text("utf-8")
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.M | re.S)


def shell(script: str, cwd: Path, env: Dict[str, str]) -> str:
    """Run shell text as a reader would type it; its stdout."""
    done = subprocess.run(
        ["sh", "-ec", script],
        cwd=cwd,
        env=env,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        timeout=250,
    )
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout.decode()


def test_the_blocks_are_found() -> None:
    """The pattern finds README's blocks, so that the tests below test something."""
    assert len(blocks("sh")) >= 6
    assert len(blocks("python")) == 1


def test_installation(tmp_path: Path) -> None:
    """The first block, in a clone and an empty HOME, gives a k8r that starts."""
    clone = tmp_path / "clone"
    clone.mkdir()
    for name in ("k8r.py", "pyproject.toml", "README.md", "CHANGELOG.md", "LICENSE"):
        shutil.copy(ROOT / name, clone)
    (install,) = [block for block in blocks("sh") if "pip install" in block]
    home = tmp_path / "home"
    home.mkdir()
    env = dict(os.environ, HOME=str(home))
    env["PATH"] = os.path.dirname(sys.executable) + os.pathsep + env["PATH"]
    env["PYTHONWARNINGS"] = "ignore"
    shell(install, clone, env)
    out = shell("~/.local/bin/k8r --version", clone, env)
    assert re.fullmatch(r"k8r \d+\.\d+\.\d+\n", out)


@pytest.fixture
def reader(run: Cli, tmp_path: Path) -> Tuple[Path, Dict[str, str]]:
    """A directory `work` and an environment like a reader's, k8r on PATH."""
    work = tmp_path / "readers" / "work"
    work.mkdir(parents=True)
    (work / "train.py").write_text("print('trained')\n")
    command = tmp_path / "bin" / "k8r"
    command.parent.mkdir()
    command.write_text(f'#!/bin/sh\nexec {sys.executable} {ROOT / "k8r.py"} "$@"\n')
    command.chmod(0o755)
    path = f"{command.parent}{os.pathsep}{os.environ['PATH']}"
    return work, dict(run.env, PATH=path, PYTHONPATH=str(ROOT))


def test_the_commands(reader: Tuple[Path, Dict[str, str]]) -> None:
    """All other shell blocks, one after the other in one directory."""
    work, env = reader
    outputs = []
    for block in blocks("sh"):
        if "pip install" not in block:
            outputs.append(shell(block, work, env))
            shell("k8r rm --all -f", work, env)
    everything = "".join(outputs)
    for expected in ("hello\n", "trained\n", "0 of 1\n", "[2] run 2 of 3\n", "DB_PASSWORD"):
        assert expected in everything


def test_the_python_example(reader: Tuple[Path, Dict[str, str]], namespace: str) -> None:
    """The block in Python, in the namespace of the test."""
    work, env = reader
    (example,) = blocks("python")
    script = example.replace('"default"', repr(namespace))
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=work, env=env, stdout=subprocess.PIPE, timeout=100
    )
    assert done.stdout.decode() == "hello\n0 ['work']\n"
