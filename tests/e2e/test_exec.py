"""`k8r exec`: commands in a run's containers, through pipes and on a terminal."""

from __future__ import annotations

import hashlib
import os
import random
import signal
import sys
import termios
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Iterator, Tuple

import pytest

from common import until
from faultproxy import DOWN, Fault, random_faults
from support import ALPINE, GATE, MIB, Kubectl
from test_proxy import FIRST, SEEDS
from test_terminal import on_terminal

pexpect = pytest.importorskip("pexpect")

if TYPE_CHECKING:
    from conftest import StartFaultProxy
    from tests.conftest import Cli

SUM = ("sh", "-c", "sha256sum; exit 7")
MOVED = 64 * MIB


@pytest.fixture
def job(run: Cli, kubectl: Kubectl) -> Iterator[str]:
    """A Job that runs; its name."""
    assert run("-d", ALPINE, "--job-name", "open", "--", "sh", "-c", GATE).code == 0
    kubectl.running_pod("open")
    yield "open"


def test_what_a_command_writes_and_how_it_ends(run: Cli, job: str) -> None:
    """Both outputs arrive byte for byte, and arguments as they were typed."""
    script = r"printf 'a\377\n'; printf 'b\376\n' >&2; exit 42"
    process = run.start("exec", job, "--", "sh", "-c", script)
    out, err = process.communicate(b"", 60)
    assert (process.returncode, out, err) == (42, b"a\xff\n", b"b\xfe\n")
    words = ["", "a b", "$HOME", "*", "täglich", "'", '"', "-n", "\n"]
    printed = run("exec", job, "--", "printf", "<%s>", *words)
    assert (printed.code, printed.text) == (0, "".join(f"<{word}>" for word in words))
    assert run("exec", job, "--", "sh", "-c", "kill -9 $$").code == 137


def test_standard_input_of_any_size(run: Cli, job: str) -> None:
    """With -i it arrives whole, and so does its end; without it is left alone."""
    for size in (0, 1, 32767, 32768, 32769, MOVED):
        data = random.Random(size).randbytes(size)
        ended = run("exec", "-i", job, "--", *SUM, stdin=data)
        assert (ended.code, ended.text[:64]) == (7, hashlib.sha256(data).hexdigest()), ended.err
    data = random.Random(1).randbytes(MOVED)
    both_ways = run("exec", "-i", job, "--", "cat", stdin=data)
    assert both_ways.code == 0 and both_ways.out == data
    assert run("exec", job, "--", "wc", "-c", stdin=b"not read").text.strip() == "0"
    script = b"echo from a shell; exit 3\n"
    assert run("exec", "-i", job, stdin=script)[:2] == (3, b"from a shell\n")


def test_input_that_is_not_read(run: Cli, job: str) -> None:
    """A command that ends early ends k8r, too; what it would have read is lost."""
    assert run("exec", "-i", job, "--", "sh", "-c", "exit 5", stdin=b"x" * 60_000).code == 5
    # Of much input little is sent at first, and the end is told unless the node is very busy.
    words = ("exec", "-i", job, "--", "sh", "-c", "head -c 5 >&2; exit 4")
    limit = ["timeout", "-s", "INT", "15"]
    found = [run.finish(run.start(*words, prefix=limit), b"x" * (3 * MIB)) for _ in range(3)]
    assert {ended.code for ended in found} <= {4, 124, 125} and (4, "x" * 5) in [
        (ended.code, ended.err[:5]) for ended in found
    ]
    assert all("without reading all" in ended.err for ended in found if ended.code == 4), found
    # Later there is more unread than a pipe holds, and some runtimes never tell of the end:
    # then k8r says what it sees.
    process = run.start("exec", "-i", job, "--", "sh", "-c", "sleep 1; exit 5")
    assert process.stdin and process.stderr
    process.stdin.write(b"x" * 200_000)
    process.stdin.close()
    said = process.stderr.readline()
    if b"nothing comes from the command" in said:
        process.send_signal(signal.SIGINT)
    process.stdin = None
    assert run.finish(process).code == (130 if said else 5), said


@pytest.mark.parametrize("descriptor", [0, 1, 2])
def test_a_closed_descriptor(run: Cli, job: str, descriptor: int) -> None:
    """It is as /dev/null."""
    words = ("exec", "-i", job, "--", "sh", "-c", "echo out; echo err >&2; wc -c >&2; exit 5")
    closed = f"import os, sys; os.close({descriptor}); os.execv(sys.executable, sys.argv[1:])"
    process = run.start(*words, prefix=[sys.executable, "-c", closed])
    ended = run.finish(process)
    expected = [b"out\n" * (descriptor != 1), "err\n0\n" * (descriptor != 2)]
    assert ended.code == 5 and [ended.out, ended.err] == expected, ended


def test_large_output(run: Cli, job: str) -> None:
    """It comes whole."""
    script = f"head -c {MOVED} /dev/urandom >/tmp/f; sha256sum </tmp/f >&2; cat /tmp/f"
    ended = run("exec", job, "--", "sh", "-c", script)
    assert (len(ended.out), ended.err[:64]) == (MOVED, hashlib.sha256(ended.out).hexdigest())


def test_commands_that_do_not_start(run: Cli, job: str) -> None:
    """They are named, with the exit code of a shell."""
    absent = run("exec", job, "--", "absent")
    assert absent.code == 127 and '"absent": executable file not found' in absent.err, absent.err
    refused = run("exec", job, "--", "/etc/passwd")
    assert refused.code == 126 and "permission denied" in refused.err, refused.err


@pytest.mark.parametrize(
    "words, code, said",
    [
        (("absent",), 125, "k8r has no job 'absent'"),
        (("open", "--index", "3"), 125, "open has no pod with index 3 that runs"),
        (("open", "-t", "--", "true"), 2, "-t needs a terminal"),
    ],
)
def test_what_cannot_be(run: Cli, job: str, words: Tuple[str, ...], code: int, said: str) -> None:
    """Each is said in a line."""
    ended = run("exec", *words)
    assert ended.code == code and said in ended.err, ended.err
    assert ended.err.count("\n") == 1


def test_one_of_several_pods(run: Cli, kubectl: Kubectl) -> None:
    """The first that runs, which is said, or the one with an index; of an ended run none."""
    started = run("-d", ALPINE, "--job-name", "many", "--num", "2", "--", "sh", "-c", GATE)
    assert started.code == 0
    pods = [kubectl.running_pod("many")]
    pods.append(kubectl.running_pod("many", pods))
    asked = ("sh", "-c", "echo $K8R_INDEX")
    first = run("exec", "many", "--", *asked)
    assert (first.text, "2 pods run; this is 0" in first.err) == ("0\n", True), first.err
    second = run("exec", "many", "--index", "1", "--", *asked)
    assert (second.text, second.err) == ("1\n", "")
    for pod in pods:
        kubectl.release(pod)
    assert run("logs", "-f", "many").code == 0
    ended = run("exec", "many", "--", "true")
    assert ended.code == 125 and "k8r logs many" in ended.err, ended.err


def test_a_container_that_ends_meanwhile(run: Cli, kubectl: Kubectl, job: str) -> None:
    """Its end is the command's; what was killed is no success."""
    process = run.start("exec", job, "--", "sh", "-c", "echo begun; sleep 60")
    assert process.stdout and process.stdout.readline() == b"begun\n"
    kubectl.release(kubectl.running_pod(job))
    ended = run.finish(process)
    assert ended.code in (125, 137), ended


def test_what_an_ended_run_has_left(run: Cli, kubectl: Kubectl) -> None:
    """While its results are held they can be looked at, and it is said that the command is over."""
    script = "head -c 6000000 /dev/urandom > /out/big; echo left > /out/file; exit 3"
    words = ("--job-name", "left", "--out", "/out", "--hold", "5m")
    assert run("-d", ALPINE, *words, "--", "sh", "-c", script).code == 0
    seen = "{.items[*].status.containerStatuses[?(@.name=='main')].state.terminated.exitCode}"
    until(lambda: kubectl("get", "pods", "-o", f"jsonpath={seen}") == "3", "its end")
    looked = run("exec", "left", "--", "cat", "/out/file")
    assert (looked.code, looked.text) == (0, "left\n"), looked.err
    assert "the command has ended" in looked.err


def test_a_shell_on_a_terminal(run: Cli, job: str) -> None:
    """It has the terminal's size and keys; the terminal is as before at the end."""
    child = on_terminal(run, "exec", job)
    before = termios.tcgetattr(child.child_fd)
    child.expect("# ")
    child.sendline("stty size")
    child.expect("24 200")
    child.setwinsize(40, 120)
    child.expect_exact("# ")
    until(lambda: child.sendline("stty size") and not child.expect(["40 120", "24 200"]), "resize")
    # What prints is what gets the signal: between two commands that would be the shell alone.
    waiting = "sh -c 'echo beg$((1))n; exec sleep 100'"
    child.sendline(f"{waiting}; echo slept$((1))")
    child.expect("beg1n")
    child.sendcontrol("c")
    child.sendline("echo $((6 * 7))")
    assert child.expect([r"\n42", "slept1"]) == 0
    for key, said in (("z", "Stopped"), ("\\", "Quit")):
        child.sendline(waiting)
        child.expect("beg1n")
        child.sendcontrol(key)
        child.expect(said)
    assert termios.tcgetattr(child.child_fd) != before
    child.sendline("exit 8")  # once more, since it has a stopped job
    child.sendline("exit 8")
    child.expect(pexpect.EOF)
    assert termios.tcgetattr(child.child_fd)[:4] == before[:4]
    child.close()
    assert child.exitstatus == 8


def test_a_terminal_is_restored_after_a_signal(run: Cli, job: str) -> None:
    """As after a command that ends."""
    child = on_terminal(run, "exec", job)
    before = termios.tcgetattr(child.child_fd)
    child.expect("# ")
    child.kill(15)
    child.expect(pexpect.EOF)
    assert termios.tcgetattr(child.child_fd)[:4] == before[:4]
    child.close()
    assert child.exitstatus == 143


def test_a_terminal_that_goes_away(run: Cli, job: str) -> None:
    """k8r ends with it."""
    child = on_terminal(run, "exec", job)
    child.expect("# ")
    pid = child.pid
    child.close(force=False)
    until(lambda: not os.path.exists(f"/proc/{pid}") or not child.isalive(), "the end of k8r")


def test_a_connection_that_breaks(run: Cli, job: str, faulty: StartFaultProxy) -> None:
    """It is 125 and said, however it breaks, although the command went on to a success."""
    for cut in ("fin", "reset", "lost"):
        # The first is for all before the command, whose own connection that becomes.
        proxy, env = faulty([Fault(cut, DOWN, after=60_000)])
        ended = run("exec", job, "--", "sh", "-c", "head -c 1000000 /dev/urandom", env=env)
        assert ended.code == 125 and "lost" in ended.err, (cut, ended.err)
        assert len(ended.out) < 1_000_000


def test_silence_is_a_lost_connection(run: Cli, job: str, faulty: StartFaultProxy) -> None:
    """A connection over which nothing comes is given up; the pings keep a quiet one alive."""
    hasty = (
        "import sys; del sys.argv[1:3]; import k8r; k8r.PING_EVERY = 0.5; "
        "k8r.SILENCE_LIMIT = 2.0; k8r.run_and_exit()"
    )
    prefix = [sys.executable, "-c", hasty]
    alive = run.start("exec", job, "--", "sh", "-c", "sleep 6; exit 9", prefix=prefix)
    assert run.finish(alive).code == 9
    _, env = faulty([Fault("stall", DOWN, after=60_000)])
    script = "head -c 1000000 /dev/urandom"
    process = run.start("exec", job, "--", "sh", "-c", script, env=env, prefix=prefix)
    ended = run.finish(process)
    assert ended.code == 125 and "silence for 2 s" in ended.err, ended.err


@pytest.mark.slow
def test_random_faults(run: Cli, job: str, faulty: StartFaultProxy) -> None:
    """Through any of them: the right result or 125, and an end."""

    def once(seed: int) -> str:
        dice = random.Random(seed)
        data = dice.randbytes(dice.choice([10, 100_000, 3_000_000]))
        _, env = faulty(random_faults(seed))
        wanted = hashlib.sha256(data).hexdigest()
        ended = run("exec", "-i", job, "--", *SUM, stdin=data, env=env)
        right = ended.code == 7 and ended.text[:64] == wanted
        assert right or ended.code == 125, (seed, ended)
        return "right" if right else "lost"

    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(once, range(FIRST, FIRST + SEEDS)))
    assert {"right", "lost"} == set(found) or SEEDS < 10
