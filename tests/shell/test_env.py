"""`k8r env` in real shells: the function k8r, and completion at the Tab key."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from sandbox import Sandbox, need
from tests.conftest import COMMAND

pexpect = pytest.importorskip("pexpect")

SHELLS = ["bash", "zsh", "dash"]


@pytest.fixture
def text(project: Path) -> str:
    """What makes the function of a checkout, as README has it."""
    return f'eval "$({sys.executable} {project}/k8r.py env)"'


@pytest.mark.parametrize("shell", SHELLS)
def test_the_function_of_a_checkout(sandbox: Sandbox, text: str, project: Path, shell: str) -> None:
    """The first use makes its environment; it stays in the caller's directory, which
    names the run, and hands on arguments, exit codes and standard input.
    """
    here = sandbox.cwd / "träum süß"
    here.mkdir()
    (here / "file").write_text("content\n")
    for name in ("tar", "gzip"):
        sandbox.tool(name, need(name))
    script = f"""
{text}
cd '{here}'
k8r ./ --show-yaml -- cat 'a  b' | grep -E '^  name: traum-suss$|^ *- a  b$'
k8r ./ --num 0 -- true 2> /dev/null; echo "code $?"
k8r --local ./ -- sh -c 'exit 7' 2> /dev/null; echo "code $?"
printf 'hidden' | k8r secret word - --show-yaml | grep -c word
pwd
"""
    done = sandbox.run(need(shell), "-c", script, UV_SYSTEM_CERTS="true")
    assert done.out.splitlines() == [
        "  name: traum-suss",
        "        - a  b",
        "code 2",
        "code 7",
        "4",
        str(here),
    ], done.err
    assert (project / ".venv/bin/k8r").exists()


@pytest.mark.parametrize("shell", SHELLS)
def test_without_uv(sandbox: Sandbox, tmp_path: Path, shell: str) -> None:
    """Said in one line, with the way out; the shell goes on."""
    for name in ("k8r.py", "uv.lock"):
        (tmp_path / name).write_bytes((Path(__file__).resolve().parents[2] / name).read_bytes())
    (sandbox.tools / "uv").unlink()
    script = f'eval "$({sys.executable} {tmp_path}/k8r.py env)"; k8r ls; echo "code $?"'
    done = sandbox.run(need(shell), "-c", script)
    assert done.out == "code 125\n"
    assert done.err == f"k8r: uv is missing; install it, or run: sh {tmp_path}/install.sh\n"


def interactive(sandbox: Sandbox, shell: str) -> "pexpect.spawn":
    """A shell at a prompt, with the function and its completion."""
    kubeconfig = sandbox.home / "kubeconfig"
    contexts = [{"name": name, "context": {}} for name in ("production", "kind-one", "kind-two")]
    kubeconfig.write_text(json.dumps({"contexts": contexts}))
    options = {"bash": ["--norc", "--noprofile", "-i"], "zsh": ["-f", "-i"]}
    child = pexpect.spawn(
        need(shell),
        options[shell],
        cwd=str(sandbox.cwd),
        env={**sandbox.env, "TERM": "dumb", "KUBECONFIG": str(kubeconfig), "PS1": "$ "},
        timeout=30,
        dimensions=(24, 200),
    )
    child.sendline(f'PS1="rea""dy> "; eval "$({COMMAND} env)"; echo set up')
    child.expect("\nset up")
    child.expect("ready> ")
    return child


@pytest.mark.parametrize("shell", ["bash", "zsh"])
@pytest.mark.parametrize(
    "typed, completed",
    [
        ("k8r lo", "logs"),
        ("k8r --context pro", "production"),
        ("k8r ls --out", "--output"),
        ("k8r ./ --base-i", "--base-image"),
        ("k8r ls -o na", "name"),
        ("k8r ./my", "./my-file"),
        ("k8r ./ -- ./my", "./my-file"),
    ],
)
def test_completion(sandbox: Sandbox, shell: str, typed: str, completed: str) -> None:
    """Subcommands, options, their values, names of contexts; else file names."""
    (sandbox.cwd / "my-file").write_text("")
    child = interactive(sandbox, shell)
    child.send(typed + "\t")
    child.expect_exact(completed)
    child.close(force=True)


@pytest.mark.parametrize("shell", ["bash", "zsh"])
def test_completion_of_nothing(sandbox: Sandbox, shell: str) -> None:
    """Without a cluster the names of Jobs are none, and no error disturbs the prompt."""
    child = interactive(sandbox, shell)
    child.send("k8r logs zz\t")
    with pytest.raises(pexpect.TIMEOUT):
        child.expect("k8r: |Traceback|kubeconfig", timeout=3)
    child.close(force=True)
