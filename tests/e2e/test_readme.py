"""Every command in README.md does what it says there, in its order."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Dict, List, Tuple

import pytest
import yaml
from support import Kubectl

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


def is_installation(block: str) -> bool:
    """Whether a block installs k8r, which happens in a HOME of its own."""
    return "K8R_REPO" in block


def test_the_blocks_are_found() -> None:
    """The pattern finds README's blocks, so that the tests below test something."""
    assert len(blocks("sh")) >= 10
    assert len(blocks("python")) == 1
    assert sum(map(is_installation, blocks("sh"))) == 1


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A git repository with these files, as a reader clones it."""
    path = tmp_path / "repository"
    names = subprocess.run(
        ["git", "-C", str(ROOT), "ls-files", "-z", "-co", "--exclude-standard"],
        check=True,
        stdout=subprocess.PIPE,
    ).stdout.decode()
    for name in filter(None, names.split("\0")):
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, path / name)
    git = ["git", "-C", str(path), "-c", "user.name=x", "-c", "user.email=x"]
    subprocess.run(["git", "init", "-q", str(path)], check=True)
    subprocess.run([*git, "add", "-A"], check=True)
    subprocess.run([*git, "commit", "-q", "-m", "x"], check=True)
    return path


def install(repository: Path, home: Path, block: str) -> Tuple[Dict[str, str], str]:
    """Run a block that installs, in an empty HOME; the environment for it, and its output."""
    home.mkdir()
    env = dict(os.environ, HOME=str(home), K8R_REPO=str(repository), SHELL="/bin/sh")
    env["PATH"] = os.path.dirname(sys.executable) + os.pathsep + env["PATH"]
    env["RUNNER_TEMP"] = env["CI_BUILDS_DIR"] = str(home)
    for name in ("XDG_CONFIG_HOME", "XDG_DATA_HOME", "K8R_HOME", "VIRTUAL_ENV"):
        env.pop(name, None)
    return env, shell(block, home, env)


def test_installation(repository: Path, tmp_path: Path) -> None:
    """The block, in an empty HOME, runs an example with Python alone, and gives a k8r that
    starts and can be removed.
    """
    (block,) = filter(is_installation, blocks("sh"))
    env, out = install(repository, tmp_path / "reader", block)
    assert len(re.findall(r"^\[[0-3]\] ", out, re.M)) >= 4, out
    out = shell("~/.local/bin/k8r --version", tmp_path, env)
    assert re.fullmatch(r"k8r \d+\.\d+\.\d+ \([0-9a-f]+\)\n", out)
    shell("sh k8r/install.sh --uninstall", tmp_path / "reader", env)
    assert not (tmp_path / "home/.local/share/k8r").exists()


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
        if not is_installation(block):
            outputs.append(shell(block, work, env))
            shell("k8r rm --all -f", work, env)
    everything = "".join(outputs)
    for expected in (
        "trained\ntrained\n",
        "train.py\n",
        "0 of 1\n",
        "[2] run 2 of 4\n",
        "[1] rate 0.01\n",
        "42\n",
        "model 1\n",
        "train.py\n3\n",
        "DB_PASSWORD",
        "\ntest\n",
        "cpu          250m",
    ):
        assert expected in everything, expected


def test_the_first_minute(reader: Tuple[Path, Dict[str, str]]) -> None:
    """What the first run shows is what stands below it, but for names, sizes and times."""
    work, env = reader
    command = re.findall(r"^k8r \./ -- python3 .*$", "".join(blocks("sh")), re.M)[0]
    (expected,) = (block for block in blocks("text") if block.startswith("k8r: "))
    shown = shell(f"{command} 2>&1", work, env)
    parts = (r"(?<=namespace )\S+ of \S+", r"\d+ B(?=\))", r"(?<=after )\d+s")
    for part in parts:
        assert re.search(part, expected)
        shown, expected = re.sub(part, "…", shown), re.sub(part, "…", expected)
    assert shown == expected


def test_the_python_example(reader: Tuple[Path, Dict[str, str]], namespace: str) -> None:
    """The block in Python, in the namespace of the test."""
    work, env = reader
    (example,) = blocks("python")
    script = example.replace('"default"', repr(namespace))
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=work, env=env, stdout=subprocess.PIPE, timeout=100
    )
    assert done.stdout.decode() == "hello\n0 ['work']\n"


def test_the_example_with_results(reader: Tuple[Path, Dict[str, str]], tmp_path: Path) -> None:
    """The command in examples/train leaves the results of three runs."""
    work = tmp_path / "train"
    shutil.copytree(ROOT / "examples" / "train", work)
    (command,) = re.findall("`(k8r .*?)`", (work / "README.md").read_text("utf-8"))
    shell(command, work, reader[1])
    models = [json.loads((work / f"results/{i}/model.json").read_text()) for i in range(3)]
    assert [round(model["rate"], 2) for model in models] == [0.01, 0.03, 0.09]
    for index in range(3):
        log = (work / f"results/{index}/loss.csv").read_text().splitlines()
        assert len(log) == 200 and float(log[-1].split(",")[1]) == models[index]["loss"]


def test_the_example_with_a_sweep(reader: Tuple[Path, Dict[str, str]], tmp_path: Path) -> None:
    """The commands in examples/sweep have one of three models fail, and run it again."""
    work = tmp_path / "sweep"
    shutil.copytree(ROOT / "examples" / "sweep", work)
    text = (work / "README.md").read_text("utf-8")
    first, again, rows = re.findall("`(k8r .*?)`", text)
    out = shell(f"{first} && exit 1 || test $? = 137", work, reader[1])
    assert re.findall(r"^\[(.)\] (\d+) MiB", out, re.M) in (
        [("0", "8"), ("1", "16")],
        [("1", "16"), ("0", "8")],
    )
    assert shell(again, work, reader[1]).startswith("256 MiB: slope 2.")
    assert "OOMKilled" in shell(rows, work, reader[1])


def test_the_example_with_nodes(reader: Tuple[Path, Dict[str, str]], tmp_path: Path) -> None:
    """The command in examples/nodes has two pods find each other and agree."""
    work = tmp_path / "nodes"
    shutil.copytree(ROOT / "examples" / "nodes", work)
    (command,) = re.findall("`(k8r .*?)`", (work / "README.md").read_text("utf-8"))
    out = shell(command, work, reader[1])
    text = "[{0}] node {0} of 2, step {1}: the mean is {2}"
    wanted = [text.format(node, step, 5.0 + step) for node in range(2) for step in range(3)]
    assert sorted(out.splitlines()) == wanted


def steps(name: str) -> List[str]:
    """The commands of the example for a CI service."""
    content = yaml.safe_load((ROOT / "examples/ci" / name).read_text("utf-8"))
    jobs = content.get("jobs", content).values()
    listed = [job.get("steps") or [*job["before_script"], *job["script"]] for job in jobs]
    commands = [step if isinstance(step, str) else step.get("run", "") for step in listed[0]]
    return [command for command in commands if "k8r" in command]


@pytest.mark.clean
@pytest.mark.parametrize("name", ["github.yml", "gitlab.yml"])
def test_ci(
    reader: Tuple[Path, Dict[str, str]],
    kubectl: Kubectl,
    repository: Path,
    tmp_path: Path,
    name: str,
) -> None:
    """The commands for GitHub Actions and for GitLab install k8r, run, and leave nothing."""
    work, readers_env = reader
    installation, *runs = steps(name)
    env, _ = install(repository, tmp_path / "reader", installation)
    env["KUBECONFIG"] = readers_env["KUBECONFIG"]
    assert [shell(command, work, env) for command in runs] == ["trained\n"]
