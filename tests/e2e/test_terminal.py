"""k8r on a terminal: colours, and Ctrl-C as it is typed."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Dict, List, Optional, Tuple

import pytest

from common import until
from support import ALPINE, GATE, Kubectl, read_until

pexpect = pytest.importorskip("pexpect")

if TYPE_CHECKING:
    from tests.conftest import Cli

K8R = str(Path(__file__).resolve().parents[2] / "k8r.py")
ECHO = (ALPINE, "--num", "2", "--", "sh", "-c", "echo of $K8R_INDEX")


def on_terminal(run: Cli, *args: str, env: Optional[Dict[str, str]] = None) -> "pexpect.spawn":
    """Start k8r with a terminal for everything."""
    return pexpect.spawn(
        sys.executable,
        [K8R, *args],
        cwd=str(run.cwd),
        env={**run.env, "TERM": "xterm", **(env or {})},
        timeout=60,
        dimensions=(24, 200),
    )


def output(child: "pexpect.spawn") -> bytes:
    """All that it prints until its end."""
    child.expect(pexpect.EOF)
    child.close()
    text: bytes = child.before
    return text


@pytest.mark.parametrize(
    "args, env, colored",
    [
        ((), {}, True),
        ((), {"NO_COLOR": "1"}, False),
        (("--color", "never"), {}, False),
        (("--color", "always"), {"NO_COLOR": "1"}, True),
    ],
    ids=["auto", "NO_COLOR", "never", "always"],
)
def test_colours_on_a_terminal(
    run: Cli, args: Tuple[str, ...], env: Dict[str, str], colored: bool
) -> None:
    """Prefixes are coloured on a terminal, unless told not to."""
    child = on_terminal(run, *args, *ECHO, env=env)
    shown = output(child)
    assert child.exitstatus == 0, shown
    for index in (b"0", b"1"):
        assert b"of " + index in shown
        assert (b"[" + index + b"] of " + index in shown) is not colored
    assert (b"m[0] \x1b[0m" in shown) is colored


@pytest.mark.parametrize("choice", ["auto", "always", "never"])
def test_colours_in_a_pipe(run: Cli, choice: str) -> None:
    """In a pipe there are none, unless asked for."""
    ended = run("--color", choice, *ECHO)
    assert ended.code == 0
    assert (b"\x1b[" in ended.out) is (choice == "always")


def test_one_pod_is_printed_as_it_is(run: Cli) -> None:
    """Without a prefix there is nothing to colour: the bytes are the program's own."""
    child = on_terminal(run, ALPINE, "--quiet", "--", "printf", r"\033[31mred\033[0m\n")
    assert b"\x1b[31mred\x1b[0m\r\n" in output(child)
    assert child.exitstatus == 0


def test_ctrl_c_as_typed(run: Cli, kubectl: Kubectl) -> None:
    """Ctrl-C on the terminal: 130, and how to come back."""
    child = on_terminal(run, ALPINE, "--", "sh", "-c", "echo begun; " + GATE)
    child.expect_exact("begun")
    child.sendintr()
    shown = output(child).decode()
    assert child.exitstatus == 130, shown
    assert "logs -f alpine" in shown and "rm -f alpine" in shown
    assert "Traceback" not in shown
    follower = run.start("logs", "-f", "alpine")
    read_until(follower.stdout, b"begun\n")
    kubectl.release(kubectl.running_pod("alpine"), 4)
    assert run.finish(follower).code == 4


def test_the_status_line(run: Cli) -> None:
    """It tells of the pod, makes way for the output, and is gone at the end."""
    child = on_terminal(run, ALPINE, "--", "sh", "-c", "sleep 2; echo done with it; exit 3")
    child.expect("k8r: alpine: (no pod yet|1 pending)")
    child.expect("k8r: alpine: 1 running, [0-9]+s")
    child.expect_exact("\r\x1b[Jdone with it\r\n")
    rest = output(child)
    assert child.exitstatus == 3
    assert rest.rpartition(b"\x1b[J")[2].startswith(b"k8r: alpine failed: exit code 3")


def test_no_status_line_in_a_pipe(run: Cli) -> None:
    """Only whole lines, and no control characters."""
    ended = run(ALPINE, "--", "sleep", "2")
    assert ended.code == 0
    assert "\x1b" not in ended.err and "\r" not in ended.err
    assert [line.split()[1] for line in ended.err.splitlines()] == ["alpine", "alpine"], ended.err


def test_a_file_that_is_sent_has_a_bar(run: Cli, kubectl: Kubectl) -> None:
    """Where that takes more than a second, with its size and pace."""
    assert run(ALPINE, "-d", "--", "sleep", "600").code == 0
    until(lambda: run("exec", "alpine", "--", "true").code == 0, "a running pod")
    with open(run.cwd / "large", "wb") as file:
        file.truncate(400 << 20)
    child = on_terminal(run, "cp", "large", "alpine:/tmp/")
    child.expect(rb"sending \[#*\.*\] +\d+% [0-9.]+ MiB, [0-9.]+ MiB/s")
    output(child)
    assert child.exitstatus == 0
    size = run("exec", "alpine", "--", "sh", "-c", "wc -c < /tmp/large")
    assert size.text.strip() == str(400 << 20)
    assert run("rm", "-f", "alpine").code == 0


def test_names_for_the_shell(run: Cli) -> None:
    """Jobs and namespaces of the cluster complete a command line."""
    assert run(ALPINE, "-d", "--job-name", "first", "--", "true").code == 0
    assert run(ALPINE, "-d", "--job-name", "second", "--", "true").code == 0
    assert run("__complete", "logs", "f").text == "first\n"
    assert run("__complete", "rm", "first", "").text == "first\nsecond\n"
    assert "kube-system\n" in run("__complete", "-n", "kube-").text
    (run.cwd / ".k8r.yaml").write_text("namespace: default\n")
    assert run("__complete", "logs", "f").text == ""
    (run.cwd / ".k8r.yaml").unlink()
    assert run("__complete", "logs", "f", env={"K8R_NAMESPACE": "default"}).text == ""


def test_indexes_and_files_for_the_shell(run: Cli, kubectl: Kubectl) -> None:
    """The pods of a run complete --index, its files PATH of `cp`, as bash or zsh splits words;
    a name that a shell would take for more than that is left out.
    """
    script = "mkdir -p data/more && touch data/mine.csv 'data/m$(id)' && echo made && sleep 600"
    assert run(ALPINE, "-d", "--num", "2", "--", "sh", "-c", script).code == 0
    until(lambda: run("logs", "alpine").text.count("made") == 2, "both to run")

    def complete(*words: str) -> List[str]:  # a loaded machine may need more than the Tab key has
        return until(lambda: run("__complete", *words).text.splitlines(), " ".join(words))

    assert complete("logs", "alpine", "--index", "") == ["0", "1"]
    assert complete("cp", "alpine:x", "--index", "") == ["0", "1"]
    assert complete("cp", "alpine:data/m") == ["alpine:data/mine.csv", "alpine:data/more/"]
    assert complete("cp", "alpine", ":", "data/m") == ["data/mine.csv", "data/more/"]
    assert "data/" in complete("cp", "./", "alpine", ":")
    assert run("rm", "-f", "alpine").code == 0
