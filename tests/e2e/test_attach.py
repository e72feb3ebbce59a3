"""`run -i` and `-t`: standard input and a terminal for the command of a run."""

from __future__ import annotations

import hashlib
import random
import re
import termios
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Tuple

import pytest

from common import until
from faultproxy import UP, Fault, random_faults
from support import ALPINE, GATE, MIB, Kubectl, nothing_left, read_until
from test_proxy import FIRST, SEEDS
from test_terminal import on_terminal

pexpect = pytest.importorskip("pexpect")

if TYPE_CHECKING:
    from conftest import StartFaultProxy
    from tests.conftest import Cli

SUM = ("sh", "-c", "sha256sum; exit 7")


def test_standard_input_of_any_size(run: Cli, kubectl: Kubectl) -> None:
    """It arrives whole, and so does its end; the output and the exit code are the command's."""
    for size in (0, 1, 32769, 64 * MIB):
        data = random.Random(size).randbytes(size)
        ended = run("-i", "--rm", ALPINE, "--", *SUM, stdin=data)
        assert (ended.code, ended.text[:64]) == (7, hashlib.sha256(data).hexdigest()), ended.err
    both_ways = run("-i", "--rm", ALPINE, "--", "cat", stdin=b"a\xff\0\nb")
    assert (both_ways.code, both_ways.out) == (0, b"a\xff\0\nb")
    nothing_left(kubectl, 90)


@pytest.mark.parametrize("where", [(), ("--local",)], ids=["cluster", "local"])
def test_only_the_command_reads_it(run: Cli, workdir: Path, where: Tuple[str, ...]) -> None:
    """And not the startup script before it."""
    (workdir / "k8s-startup.sh").write_text("cat; echo started\n")
    ended = run("./", "-i", *where, "--", "cat", stdin=b"for the command")
    assert (ended.code, ended.text) == (0, "started\nfor the command"), ended.err


def test_a_command_that_reads_the_rest(run: Cli) -> None:
    """Its exit code counts, and is that of no lost connection."""
    script = "head -c 5; cat > /dev/null; exit 6"
    for _ in range(3):
        ended = run("-i", "--rm", ALPINE, "--", "sh", "-c", script, stdin=b"x" * (8 * MIB))
        assert (ended.code, ended.text) == (6, "x" * 5), ended.err
        assert "without reading" not in ended.err


@pytest.mark.parametrize(
    "script, code",
    [("head -c 5; exit 4", 4), ("exit 0", 0), ("sleep 3; exit 4", 4), ("sleep 3; head -c 5", 0)],
)
def test_a_command_that_ends_before_its_input(run: Cli, script: str, code: int) -> None:
    """Its exit code counts, unless the node is so busy that the connection breaks off first:
    whether the command has seen a false end of its input, nobody knows then.
    """
    found = [
        run("-i", "--rm", ALPINE, "--", "sh", "-c", script, stdin=b"x" * (8 * MIB))
        for _ in range(4)
    ]
    codes = [ended.code for ended in found]
    assert set(codes) <= {code, 125} and code in codes, found
    for ended in found:
        assert ended.text == "x" * 5 * ("head" in script), ended
        # After some seconds it is all on its way, and k8r knows no more of it.
        assert "sleep" in script or re.search("without reading all|connection", ended.err), ended


def test_input_that_nobody_sends(run: Cli) -> None:
    """It is said how, once; not where there is none."""
    ended = run(ALPINE, "--", "wc", "-c", stdin=b"word")
    assert (ended.code, ended.text) == (0, "0\n")
    assert ended.err.count("k8r -i") == 1, ended.err
    assert "k8r -i" not in run(ALPINE, "--", "true", stdin=b"").err


def test_a_terminal(run: Cli) -> None:
    """A program has its size from the start, and its keys; all of its output is shown."""
    child = on_terminal(run, "-it", ALPINE, "--", "sh", "-c", "stty size; tty; exec sh")
    before = termios.tcgetattr(child.child_fd)
    child.expect("24 200\r\n/dev/pts/0\r\n")
    child.expect("# ")
    child.sendline("echo beg$((1))n; sleep 100; echo slept$((1))")
    child.expect("beg1n")
    time.sleep(0.5)  # until the shell has begun to sleep
    child.sendcontrol("c")
    child.sendline("echo $((6 * 7)); exit 9")
    assert child.expect([r"\n42", "slept1"]) == 0
    child.expect("failed: exit code 9")
    child.expect(pexpect.EOF)
    assert termios.tcgetattr(child.child_fd)[:4] == before[:4]
    child.close()
    assert child.exitstatus == 9


def test_a_terminal_that_goes_away(run: Cli, kubectl: Kubectl) -> None:
    """k8r ends with it, and by --rm so does the run."""
    child = on_terminal(run, "-it", "--rm", ALPINE, "--", "sh")
    child.expect("# ")
    child.close(force=False)
    until(lambda: not child.isalive(), "the end of k8r")
    nothing_left(kubectl, 90)


def test_what_a_startup_script_says_on_a_terminal(run: Cli, workdir: Path) -> None:
    """It is seen, although the terminal is attached only when the container runs."""
    (workdir / "k8s-startup.sh").write_text("echo begun\n")
    child = on_terminal(run, "-t", "./", "--", "sh", "-c", "echo ended")
    child.expect("begun\r\nended\r\n")
    child.expect(pexpect.EOF)
    child.close()
    assert child.exitstatus == 0


def test_a_terminal_whose_connection_breaks(run: Cli, faulty: StartFaultProxy) -> None:
    """It is attached again while the program lives."""
    proxy, env = faulty([])
    child = on_terminal(run, "-t", ALPINE, "--", "sh", env=env)
    child.expect("# ")
    proxy.outage(0.5)
    until(
        lambda: child.sendline("echo $((6 * 7))")
        and not child.expect([r"\n42", pexpect.TIMEOUT], 1),
        "an answer of the shell",
    )
    child.sendline("exit 3")
    child.expect(pexpect.EOF)
    child.close()
    assert child.exitstatus == 3


@pytest.mark.parametrize(
    "words, said",
    [
        (("-t",), "-t needs a terminal"),
        (("-i", "--num", "2"), "-i and -t are for one pod"),
        (("-i", "-d"), "--detach takes no --stdin"),
        (("-i", "--as-deployment"), "--stdin takes no --as-deployment"),
        (("-t", "--retry", "1"), "--tty takes no --retry"),
    ],
)
def test_what_cannot_be(run: Cli, kubectl: Kubectl, words: Tuple[str, ...], said: str) -> None:
    """It is said before anything is made."""
    ended = run(*words, ALPINE, "--", "true")
    assert ended.code == 2 and said in ended.err, ended.err
    assert not kubectl.names("jobs")


def test_input_whose_connection_breaks(run: Cli, faulty: StartFaultProxy) -> None:
    """It is 125 and said, although the command went on to a success with what it had."""
    proxy, env = faulty([Fault("reset", UP, after=1_000_000)] * 9)
    script = "sleep 1; wc -c; exit 0"
    ended = run("-i", ALPINE, "--", "sh", "-c", script, stdin=b"x" * 8 * MIB, env=env)
    assert ended.code == 125 and "before the end of the command's input" in ended.err, ended
    assert int(ended.text) < 8 * MIB


def test_a_connection_that_breaks_after_the_input(
    run: Cli, kubectl: Kubectl, faulty: StartFaultProxy
) -> None:
    """Once the command has had all of it, a broken connection takes nothing from it."""
    proxy, env = faulty([])
    script = f"cat; echo all; {GATE}"
    process = run.start("-i", ALPINE, "--", "sh", "-c", script, env=env)
    assert process.stdin
    process.stdin.write(b"some ")
    process.stdin.close()
    process.stdin = None
    assert read_until(process.stdout, b"all\n") == b"some all\n"
    time.sleep(2)  # for the word of it that comes from the container's runtime
    proxy.outage(0.5)
    kubectl.release(kubectl.running_pod("alpine"), 3)
    ended = run.finish(process)
    assert (ended.code, ended.text) == (3, "released\n"), ended.err


@pytest.mark.slow
def test_random_faults(run: Cli, faulty: StartFaultProxy) -> None:
    """Through any of them: the right result or 125, and an end."""

    def once(seed: int) -> str:
        dice = random.Random(seed)
        data = dice.randbytes(dice.choice([10, 100_000, 3_000_000]))
        _, env = faulty(random_faults(seed))
        wanted = hashlib.sha256(data).hexdigest()
        ended = run("-i", ALPINE, "--job-name", f"s{seed}", "--", *SUM, stdin=data, env=env)
        right = ended.code == 7 and ended.text[:64] == wanted
        assert right or ended.code == 125, (seed, ended)
        return "right" if right else "lost"

    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(once, range(FIRST, FIRST + SEEDS)))
    assert "right" in found
